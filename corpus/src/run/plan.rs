//! The plan of a run: its inputs cut into units, and by what name its results are known.
//!
//! It stands in the work folder, so that a process that joins needs nothing else. Units depend on
//! the inputs alone. Not here: who does which unit.

use crate::input::sample::{self, Admission};
use crate::input::{self, Input, Range};
use crate::{Error, Recipe};
use quipu_documents::VERSION;
use quipu_store::{Cancel, Progress};
use serde::{Deserialize, Serialize};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Name of the plan in the work folder.
const NAME: &str = "plan.json";
/// Bytes of each end of an input that tell whether it is the same.
const END: u64 = 64 << 10;
/// Bytes of input of a unit: at most, at least, and the number of units that small inputs are cut
/// into, so that several workers have something to do.
const MOST: u64 = 8 << 20;
const LEAST: u64 = 1 << 20;
const UNITS: u64 = 64;

/// What is to be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    /// Hash of all that results depend on.
    pub stage: String,
    pub recipe: Recipe,
    pub inputs: Vec<Input>,
    /// The inputs as they were named.
    pub names: String,
    /// Files among them that are no input.
    pub unrecognised: u64,
    pub admission: Admission,
    pub units: Vec<Unit>,
}

/// A piece of an input that one worker reads.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Unit {
    pub input: usize,
    pub range: Range,
    /// Its share of the input's bytes, by which progress is told.
    pub bytes: u64,
}

/// Bytes of a unit of inputs that have so many in all.
pub(crate) fn unit_bytes(inputs: u64) -> u64 {
    (inputs / UNITS).clamp(LEAST, MOST)
}

impl Plan {
    /// Looks at the inputs and cuts them.
    pub fn of(
        paths: &[PathBuf],
        recipe: &Recipe,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Plan, Error> {
        let (inputs, skipped) = input::expand(paths)?;
        let names: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
        let admission = match recipe.sample {
            Some(budget) => {
                sample::admission(&inputs, budget, recipe.piece_bytes, progress, cancel)?
            }
            None => sample::ALL,
        };
        let mut sizes = Vec::new();
        for input in &inputs {
            sizes.push(input.bytes()?);
        }
        let bytes = unit_bytes(sizes.iter().sum());
        let mut units = Vec::new();
        for (number, input) in inputs.iter().enumerate() {
            let ranges = input.ranges(bytes)?;
            let bytes = sizes[number] / ranges.len() as u64;
            units.extend(ranges.into_iter().map(|range| Unit { input: number, range, bytes }));
        }
        Ok(Plan {
            stage: stage_hash(&inputs, recipe, bytes)?,
            recipe: recipe.clone(),
            inputs,
            names: names.join(", "),
            unrecognised: skipped.len() as u64,
            admission,
            units,
        })
    }

    /// Puts the plan into the work folder, forgetting work of another one there.
    pub fn install(&self, work: &Path) -> Result<(), Error> {
        if Plan::read(work).is_ok_and(|plan| plan.stage == self.stage) {
            quipu_store::atomic::sweep(work)?;
            return Ok(());
        }
        for entry in std::fs::read_dir(work).map_err(Error::io(work))? {
            let path = entry.map_err(Error::io(work))?.path();
            if path.file_name().is_some_and(|n| n == quipu_store::lock::NAME) {
                continue;
            }
            let removed = match path.is_dir() {
                true => std::fs::remove_dir_all(&path),
                false => std::fs::remove_file(&path),
            };
            removed.map_err(Error::io(&path))?;
        }
        let path = work.join(NAME);
        let bytes = serde_json::to_vec(self).map_err(|e| unreadable(&path, &e))?;
        Ok(quipu_store::atomic::write_bytes(&path, &bytes)?)
    }

    /// The plan in a work folder.
    pub fn read(work: &Path) -> Result<Plan, Error> {
        let path = work.join(NAME);
        let bytes = std::fs::read(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::NoRun { path: work.to_owned() },
            _ => Error::Io { path: path.clone(), source },
        })?;
        serde_json::from_slice(&bytes).map_err(|e| unreadable(&path, &e))
    }
}

fn unreadable(path: &Path, error: &serde_json::Error) -> Error {
    Error::Line {
        path: path.to_owned(),
        line: error.line(),
        reason: format!("no plan of this version: {error}"),
    }
}

/// What the results depend on: recipe, inputs with sizes and both their ends, version. Not times
/// of change: an input that is written anew with the same bytes gives the same run.
fn stage_hash(inputs: &[Input], recipe: &Recipe, unit: u64) -> Result<String, Error> {
    let mut key = format!("{} {VERSION} {unit} ", env!("CARGO_PKG_VERSION"));
    key += &serde_json::to_string(recipe).unwrap_or_default();
    for path in recipe.files().into_iter().filter(|path| path.is_file()) {
        key += &format!("\n{} {}", path.display(), quipu_store::checksum::xxh3_file(path)?);
    }
    for input in inputs {
        let size = std::fs::metadata(&input.path).map_or(0, |data| data.len());
        let ends = ends(&input.path).unwrap_or_default();
        let (path, kind, files) = (input.path.display(), input.kind, input.files.join("\n"));
        key += &format!("\n{path} {kind} {size} {ends} {files}");
    }
    Ok(quipu_store::checksum::xxh3_bytes(key.as_bytes()))
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
