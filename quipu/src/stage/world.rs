//! Stage `world`: draws the simulated world that the crawl, the examination and the dialogues come
//! from. Skipped when there is other input.

use super::{Context, Outcome};
use crate::error::Error;
use crate::terminal::{Terminal, thousands};
use quipu_store::{Cancel, Progress, atomic};
use quipu_world::{Size, Summary};
use serde_json::json;
use std::path::Path;

/// Writes the world into the run's folder.
pub fn run(context: &Context) -> Result<Outcome, Error> {
    if !context.inputs.is_empty() {
        let line = "not needed: there is other input".to_owned();
        return Ok(Outcome { line, facts: json!(null) });
    }
    let dir = context.run.path("world");
    let size = Size::new(context.recipe.world.size)?;
    let summary = write(&dir, size, context.recipe.seed, &*context.progress, &context.cancel)?;
    Ok(Outcome { line: line(&summary), facts: json!(summary) })
}

/// `quipu world DIR`: writes a world for use with any pipeline.
pub fn command(
    dir: &Path,
    size: f64,
    seed: u64,
    terminal: &Terminal,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<(), Error> {
    let summary = write(dir, Size::new(size)?, seed, progress, cancel)?;
    terminal.say(&format!("{}: {}", dir.display(), line(&summary)));
    terminal.result(&json!(summary));
    Ok(())
}

fn write(
    dir: &Path,
    size: Size,
    seed: u64,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Summary, Error> {
    atomic::create_dir(dir)?;
    Ok(quipu_world::write(dir, &size, seed, progress, cancel)?)
}

fn line(summary: &Summary) -> String {
    let n = |count: usize| thousands(count as u64);
    format!(
        "{} pages ({} of them good), {} facts, {} questions, {} dialogues, {} preference pairs",
        n(summary.pages),
        n(summary.kept),
        n(summary.facts),
        n(summary.questions),
        n(summary.dialogues),
        n(summary.preferences)
    )
}
