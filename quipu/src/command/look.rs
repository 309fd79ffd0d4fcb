//! `quipu look`: what inputs hold, before anything runs. Not the reading itself, nor how it is said:
//! both are `corpus`'s.

use crate::error::Error;
use crate::terminal::Terminal;
use quipu_corpus::look::look;
use quipu_corpus::remote::Access;
use serde_json::json;
use std::path::PathBuf;

/// Prints what is there.
pub fn run(
    inputs: &[PathBuf],
    recipe: &quipu_corpus::Recipe,
    terminal: &Terminal,
) -> Result<(), Error> {
    let found = look(inputs, recipe, &Access::usual())?;
    terminal.say(found.to_string().trim_end());
    terminal.result(&json!(found));
    Ok(())
}
