//! The result of a run as a Hugging Face folder: configuration, weights, tokenizer, so that other
//! tools open it. Made from a checkpoint, so that it can be made at any time, and again.

use crate::optimizer::State;
use crate::{Error, checkpoint};
use quipu_math::Device;
use quipu_mesh::Mesh;
use quipu_model::checkpoint::Reader;
use quipu_model::{Capacity, Config, Model};
use quipu_tokens::{Tokenizer, special};
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Writes the model of a checkpoint with its tokenizer to the folder `dir`.
///
/// # Errors
/// A damaged checkpoint; those of [`write()`].
pub fn of_checkpoint(
    checkpoint: &Path,
    dir: &Path,
    device: Arc<dyn Device>,
    tokenizer: &Tokenizer,
    chat: bool,
) -> Result<(), Error> {
    write(dir, &mut load(checkpoint, device, None)?, tokenizer, chat)
}

/// Writes a model with its tokenizer to the folder `dir`, which is there whole or not at all. The
/// configuration names the tokens that begin and end a text; `chat` adds the end of a turn to
/// those that end a generation.
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
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let temporary = dir.with_file_name(format!(".unfinished-{name}"));
    for old in [&temporary, dir].into_iter().filter(|path| path.exists()) {
        fs::remove_dir_all(old).map_err(Error::io(old))?;
    }
    let written = model.save(&temporary).map_err(Error::from);
    let written = written.and_then(|()| Ok(tokenizer.save_folder(&temporary)?));
    let written = written.and_then(|()| Ok(quipu_model::huggingface::seal(&temporary)?));
    if let Err(error) = written {
        // The error that stopped the writing is the one to tell.
        let _ = fs::remove_dir_all(&temporary);
        return Err(error);
    }
    fs::rename(&temporary, dir).map_err(Error::io(dir))
}

/// The model of a run's checkpoint, made for `capacity` (none: only to be read).
///
/// # Errors
/// A damaged checkpoint, or one of another element type; what model and device report.
pub fn load(
    path: &Path,
    device: Arc<dyn Device>,
    capacity: Option<Capacity>,
) -> Result<Model, Error> {
    let (reader, facts) = checkpoint::open(path)?;
    let config = Config::parse(&facts.config.to_string())?;
    let capacity = capacity.unwrap_or_else(|| Capacity::generating(&*device, 1));
    let model = Model::new(device, Mesh::one(), config, capacity)?;
    fill(&model, &reader, path)?;
    Ok(model)
}

/// Puts the weights of a checkpoint into a model.
///
/// # Errors
/// As [`load`].
pub fn fill(model: &Model, reader: &Reader, path: &Path) -> Result<(), Error> {
    for entry in model.table().entries() {
        let name = format!("{}.{}", State::Master.name(), entry.name);
        let info = reader.info(&name)?;
        let kept = model.precision().sums;
        if info.shape != entry.shape || info.dtype != kept {
            let (found, kind) = (&info.shape, info.dtype);
            let (expected, dtype) = (&entry.shape, kept);
            return Err(Error::Checkpoint {
                path: path.to_owned(),
                what: format!("{name} is {kind} {found:?}; expected {dtype} {expected:?}"),
            });
        }
        let x = model.device().matrix(kept, entry.rows, entry.cols)?;
        let bytes = reader.read_part(&name, &checkpoint::place(entry), 0..entry.elements())?;
        model.device().write(quipu_math::Queue::MAIN, &x, &bytes)?;
        model.set(entry, &x)?;
    }
    Ok(())
}
