//! The run: inputs to documents and fates, in four passes that can each be resumed.
//!
//! 1. `extract`: pages in units of a fixed size to text, verdicts and hashes (work files);
//! 2. `decide`: URL and document deduplication over rows, the frequent lines, and documents that
//!    are equal without them;
//! 3. `write`: documents without those lines, and fates, in numbered files;
//! 4. the summary, and the manifest, last.
//!
//! A unit's content depends on the inputs alone, so results do not depend on the number of threads
//! or on where a run was killed. Memory: two units of pages, 48 bytes a page, the table of line
//! hashes within the recipe's budget, one output file. Not here: what happens to one page.

mod decide;
mod extract;
mod funnel;
mod truth;
mod write;

use crate::input::{self, Input, sample};
use crate::{Error, Recipe, Summary};
use quipu_documents::{FORMAT, VERSION, Writer};
use quipu_store::manifest::Manifest;
use quipu_store::units::Units;
use quipu_store::{Cancel, Progress};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes of each end of an input that tell whether it is the same.
const END: u64 = 64 << 10;

/// The folder of work files below the output.
const WORK: &str = "work";

/// Curates `inputs` into the folder `out`, and returns what was done. A run that is finished there
/// with the same inputs and recipe is not repeated; one that was stopped goes on.
///
/// # Errors
/// Inputs that are missing or of no known kind; no pages; no documents left; a full disk.
pub fn run(
    inputs: &[PathBuf],
    recipe: &Recipe,
    out: &Path,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Summary, Error> {
    recipe.validate()?;
    let (found, skipped) = input::expand(inputs)?;
    let names = names(inputs);
    let stage = stage_hash(&found, recipe);
    if let Some(summary) = finished(out, &stage) {
        return Ok(summary);
    }
    let work = out.join(WORK);
    quipu_store::atomic::create_dir(&work)?;
    let _lock = quipu_store::lock::RunLock::acquire(&work)?;
    let units = Units::open(&work, &stage)?;
    let admission = match recipe.sample {
        Some(budget) => sample::admission(&found, budget, recipe.piece_bytes, progress, cancel)?,
        None => sample::ALL,
    };
    let job = Job { recipe, work: &work, units: &units, progress, cancel, admission };
    let extracted = extract::pass(&job, &found)?;
    let mut summary = funnel::begin(&found, &extracted, admission.left_out);
    summary.unrecognised = skipped.len() as u64;
    if summary.pages == 0 {
        return Err(Error::EmptyCrawl { inputs: names, reason: funnel::why_empty(&summary) });
    }
    let decisions = decide::pass(&job, &extracted)?;
    let writer = Writer::new(out)?;
    let files = write::pass(&job, &extracted, &decisions, &writer)?;
    funnel::finish(&mut summary, &files);
    if summary.kept == 0 {
        remove_files(out)?;
        let (pages, funnel) = (summary.pages, funnel::reasons(&summary));
        return Err(Error::NothingLeft { inputs: names, pages, funnel });
    }
    if let Some(path) = &recipe.truth {
        let (scores, unseen) = truth::score(path, &recipe.languages, out, files.len())?;
        summary.scores = scores;
        summary.unseen = (summary.not_sampled == 0).then_some(unseen);
    }
    let facts = serde_json::json!({ "stage": stage, "summary": summary });
    writer.finish(files.len(), facts)?;
    drop(_lock);
    std::fs::remove_dir_all(&work).map_err(Error::io(&work))?;
    Ok(summary)
}

/// What every pass needs.
struct Job<'a> {
    recipe: &'a Recipe,
    work: &'a Path,
    units: &'a Units,
    progress: &'a dyn Progress,
    cancel: &'a Cancel,
    admission: sample::Admission,
}

fn names(inputs: &[PathBuf]) -> String {
    let names: Vec<String> = inputs.iter().map(|p| p.display().to_string()).collect();
    names.join(", ")
}

/// What the results depend on: recipe, inputs with sizes and both their ends, version. Not times
/// of change: an input that is written anew with the same bytes gives the same run.
fn stage_hash(inputs: &[Input], recipe: &Recipe) -> String {
    let mut key = format!("{} {VERSION} ", env!("CARGO_PKG_VERSION"));
    key += &serde_json::to_string(recipe).unwrap_or_default();
    for input in inputs {
        let size = std::fs::metadata(&input.path).map_or(0, |data| data.len());
        let ends = ends(&input.path).unwrap_or_default();
        let (path, kind, files) = (input.path.display(), input.kind, input.files.join("\n"));
        key += &format!("\n{path} {kind} {size} {ends} {files}");
    }
    quipu_store::checksum::xxh3_bytes(key.as_bytes())
}

/// Checksum of the first and the last [`END`] bytes of a file; a terabyte is not read for it.
fn ends(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut bytes = Vec::new();
    file.by_ref().take(END).read_to_end(&mut bytes)?;
    file.seek(SeekFrom::Start(file.metadata()?.len().saturating_sub(END)))?;
    file.take(END).read_to_end(&mut bytes)?;
    Ok(quipu_store::checksum::xxh3_bytes(&bytes))
}

/// The summary of a finished run of the same inputs and recipe.
fn finished(out: &Path, stage: &str) -> Option<Summary> {
    let manifest = Manifest::read_verified(out, FORMAT, VERSION).ok()?;
    let same = manifest.facts.get("stage")?.as_str() == Some(stage);
    same.then(|| serde_json::from_value(manifest.facts.get("summary")?.clone()).ok())?
}

/// The summary of a finished run in `out`, whatever it was made from.
///
/// # Errors
/// No manifest of ours there, or one without a summary.
pub fn read_summary(out: &Path) -> Result<Summary, Error> {
    let manifest = Manifest::read(out, FORMAT, VERSION)?;
    let value = manifest.facts.get("summary").cloned().unwrap_or_default();
    serde_json::from_value(value).map_err(|e| Error::Line {
        path: out.join(quipu_store::manifest::NAME),
        line: 1,
        reason: format!("no summary of a run of curation: {e}"),
    })
}

/// Removes output files of a run that keeps nothing.
fn remove_files(out: &Path) -> Result<(), Error> {
    for entry in std::fs::read_dir(out).map_err(Error::io(out))? {
        let path = entry.map_err(Error::io(out))?.path();
        if path.extension().is_some_and(|e| e == "parquet") {
            std::fs::remove_file(&path).map_err(Error::io(&path))?;
        }
    }
    let work = out.join(WORK);
    std::fs::remove_dir_all(&work).map_err(Error::io(&work))
}

#[cfg(test)]
mod tests;
