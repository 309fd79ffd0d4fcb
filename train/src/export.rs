//! The result of a run as a Hugging Face folder: configuration, weights, tokenizer, so that other
//! tools open it. Not our own checkpoint, which holds the optimizer too.

use crate::Error;
use quipu_model::Model;
use quipu_tokens::{Tokenizer, special};
use std::path::Path;

/// Writes `model` with its tokenizer to `dir`. The configuration names the tokens that begin and
/// end a text; `chat` adds the end of a turn to those that end a generation.
///
/// # Errors
/// What model, tokenizer and disk report.
pub fn write(
    dir: &Path,
    model: &mut Model,
    tokenizer: &Tokenizer,
    chat: bool,
) -> Result<(), Error> {
    let begin = tokenizer.required(special::BEGIN_OF_TEXT)?;
    let end = tokenizer.required(special::END_OF_TEXT)?;
    let ends: Vec<u32> = if chat { tokenizer.stop_ids() } else { vec![end] };
    model.config_mut().keep("bos_token_id", begin.into())?;
    model.config_mut().keep("eos_token_id", ends.into())?;
    model.save(dir)?;
    Ok(tokenizer.save_folder(dir)?)
}
