//! The plan of a run: its inputs cut into units, and by what name its results are known.
//!
//! It stands in the work folder, so that a process that joins needs nothing else. Units depend on
//! the inputs alone. Not here: who does which unit.

use crate::input::sample::{self, Admission};
use crate::input::{self, Input, Range};
use crate::remote::{self, Access, Stamp, is_remote};
use crate::{Error, Recipe};
use quipu_documents::VERSION;
use quipu_store::{Cancel, Progress};
use serde::{Deserialize, Serialize};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Name of the plan in the work folder.
pub(super) const NAME: &str = "plan.json";
/// What in the work folder depends on the user's command: the plan, and the last stages.
const AFTER_PIPE: [&str; 4] = [NAME, ASIDE, super::write::STAGE, super::FINISH];
/// Bytes of each end of an input that tell whether it is the same.
const END: u64 = 64 << 10;
/// Where a plan stands while it is found out whether somebody works on its run.
const ASIDE: &str = ".plan.json.before";
/// Files that are no input of which is told what they are.
const PASSED_OVER: usize = 3;
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
    /// The same without the user's command, which acts at the end.
    pub before_pipe: String,
    pub recipe: Recipe,
    pub inputs: Vec<Input>,
    /// The inputs as they were named.
    pub names: String,
    /// Files among them that are no input.
    pub unrecognised: u64,
    /// The first of them, with what they are.
    pub passed_over: Vec<String>,
    pub admission: Admission,
    pub units: Vec<Unit>,
    /// What tells a run in a bucket from every other, also of the same plan; none in a folder.
    #[serde(default)]
    pub run: String,
}

/// A piece of an input that one worker reads.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Unit {
    pub input: usize,
    /// Small inputs of one kind and name that follow one another are read together, each as a whole;
    /// else 1.
    pub inputs: usize,
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
        access: &Access,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Plan, Error> {
        let (inputs, skipped) = input::expand(paths, access)?;
        let admission = match recipe.sample {
            Some(budget) => {
                sample::admission(&inputs, budget, recipe.piece_bytes, progress, access, cancel)?
            }
            None => sample::ALL,
        };
        let waits = inputs.iter().any(|input| is_remote(&input.path));
        let sizes = remote::for_each(&inputs, waits, |input| input.bytes(access))?;
        let bytes = unit_bytes(sizes.iter().sum());
        let ranges = remote::for_each(&inputs, waits, |input| input.ranges(bytes, access))?;
        let mut units: Vec<Unit> = Vec::new();
        for (number, ranges) in ranges.into_iter().enumerate() {
            let size = sizes[number] / ranges.len() as u64;
            let unit = |range| Unit { input: number, inputs: 1, range, bytes: size };
            match (units.last_mut(), ranges.len()) {
                (Some(last), 1) if alike(&inputs, last, number) && last.bytes + size <= bytes => {
                    last.inputs += 1;
                    last.bytes += size;
                }
                (_, 1) => units.push(unit(Range::WHOLE)),
                _ => units.extend(ranges.into_iter().map(unit)),
            }
        }
        let skipped: Vec<_> = skipped.into_iter().filter(|file| !file.is_hidden()).collect();
        let depended = depended(recipe, &inputs, bytes)?;
        Ok(Plan {
            stage: stage_hash(recipe, &depended),
            before_pipe: stage_hash(&Recipe { pipe: None, ..recipe.clone() }, &depended),
            recipe: recipe.clone(),
            inputs,
            names: joined(paths),
            unrecognised: skipped.len() as u64,
            passed_over: skipped
                .iter()
                .take(PASSED_OVER)
                .map(|file| format!("{}: {}", file.path.display(), file.reason))
                .collect(),
            admission,
            units,
            run: String::new(),
        })
    }

    /// The plan of a run of the same inputs and recipe that was stopped here, where some of the
    /// inputs lie elsewhere: what is there is not listed and measured again, since reading finds
    /// out what has changed.
    pub fn begun(work: &Path, paths: &[PathBuf], recipe: &Recipe, access: &Access) -> Option<Plan> {
        let plan = Plan::read(work).ok()?;
        let elsewhere = plan.inputs.iter().any(|input| is_remote(&input.path));
        if !elsewhere || plan.names != joined(paths) || plan.recipe != *recipe {
            return None;
        }
        (plan.stage_here(access).ok()? == plan.stage).then_some(plan)
    }

    /// What its stage is called of the inputs and files as they are on this machine.
    fn stage_here(&self, access: &Access) -> Result<String, Error> {
        let sizes: Result<Vec<u64>, Error> =
            self.inputs.iter().map(|input| input.bytes(access)).collect();
        let bytes = unit_bytes(sizes?.iter().sum());
        Ok(stage_hash(&self.recipe, &depended(&self.recipe, &self.inputs, bytes)?))
    }

    /// Refuses a plan of inputs, of files that the recipe names, or of a program that are others on
    /// this machine: what it would add would be of those.
    pub fn check_here(&self, access: &Access) -> Result<(), Error> {
        let (found, expected) = (self.stage_here(access)?, self.stage.clone());
        match found == expected {
            true => Ok(()),
            false => Err(Error::OtherHere { inputs: self.names.clone(), found, expected }),
        }
    }

    /// What the inputs that lie elsewhere were: URL, bytes and `ETag` of each file.
    pub fn elsewhere(&self) -> Vec<serde_json::Value> {
        let places = self.inputs.iter().flat_map(Input::places);
        let told = |(path, stamp): (PathBuf, Option<&Stamp>)| {
            let Stamp { bytes, etag, modified } = stamp?;
            let modified = modified.map(|time| quipu_documents::format_date(time * 1000));
            let url = path.to_string_lossy().into_owned();
            Some(serde_json::json!({
                "url": url, "bytes": bytes, "etag": etag, "modified": modified,
            }))
        };
        places.filter_map(told).collect()
    }

    /// Puts the plan into the work folder, forgetting work of another one there, but for what the
    /// two have in common: all that comes before the user's command.
    pub fn install(&self, work: &Path, progress: &dyn Progress) -> Result<(), Error> {
        if !is_ours(work)? {
            return Err(Error::Foreign { path: work.to_owned() });
        }
        let (plan, aside) = (work.join(NAME), work.join(ASIDE));
        let moved = |from: &Path, to: &Path| match std::fs::rename(from, to) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(from)(e)),
            _ => Ok(()),
        };
        if !plan.exists() {
            // Whoever put it aside was killed.
            moved(&aside, &plan)?;
        }
        let before = Plan::read(work).ok();
        if before.as_ref().is_some_and(|plan| plan.stage == self.stage) {
            // Processes that work along may have files that are not yet under their names.
            if !quipu_store::crew::is_worked_on(work)? {
                quipu_store::atomic::sweep(work)?;
            }
            if quipu_store::crew::has_results(work)? {
                progress.note("goes on with what was done of this run before");
            }
            return Ok(());
        }
        // Without its plan nobody takes a task of that run any more; who has one ends it first.
        moved(&plan, &aside)?;
        if quipu_store::crew::is_worked_on(work)? {
            moved(&aside, &plan)?;
            let what = "a run of other inputs or of another recipe, on which others work".into();
            return Err(Error::Taken { place: work.to_owned(), what });
        }
        let shared = before.as_ref().is_some_and(|plan| plan.before_pipe == self.before_pipe);
        if !shared && quipu_store::crew::has_results(work)? {
            let same = |plan: &Plan| plan.recipe == self.recipe && plan.names == self.names;
            let changed = match before.as_ref().is_some_and(same) {
                true => {
                    "its inputs, the files that its recipe names, or the program have changed since"
                }
                false => "it was one of other inputs, of another recipe or of another version",
            };
            let out = work.parent().unwrap_or(work).display();
            progress.note(&format!("what was done of a run in {out} is begun anew: {changed}"));
        }
        for entry in std::fs::read_dir(work).map_err(Error::io(work))? {
            let path = entry.map_err(Error::io(work))?.path();
            let stays = |name: &str| match name {
                quipu_store::lock::NAME => true,
                name => shared && !AFTER_PIPE.contains(&name),
            };
            if path.file_name().and_then(|n| n.to_str()).is_some_and(stays) {
                continue;
            }
            super::remove(&path).map_err(Error::io(&path))?;
        }
        Ok(quipu_store::atomic::write_bytes(&work.join(NAME), &self.bytes()?)?)
    }

    /// As it stands in a work folder.
    pub fn bytes(&self) -> Result<Vec<u8>, Error> {
        serde_json::to_vec(self).map_err(|e| unreadable(Path::new(NAME), &e))
    }

    /// The plan in a work folder.
    pub fn read(work: &Path) -> Result<Plan, Error> {
        let path = work.join(NAME);
        let bytes = std::fs::read(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => {
                Error::NoRun { path: work.parent().unwrap_or(work).to_owned() }
            }
            _ => Error::Io { path: path.clone(), source },
        })?;
        serde_json::from_slice(&bytes).map_err(|e| unreadable(&path, &e))
    }
}

/// Whether a work folder is one of ours: it has a plan, or nothing yet.
pub(super) fn is_ours(work: &Path) -> Result<bool, Error> {
    if work.join(NAME).is_file() || work.join(ASIDE).is_file() {
        return Ok(true);
    }
    let mut entries = std::fs::read_dir(work).map_err(Error::io(work))?.flatten();
    // The lock, and files that are not there yet under their names.
    Ok(entries.all(|e| {
        e.file_name() == quipu_store::lock::NAME
            || e.file_name().as_encoded_bytes().starts_with(b".")
    }))
}

/// Whether a whole input may be read with the unit before it: it reads whole inputs as well, and they
/// are counted under one name.
fn alike(inputs: &[Input], last: &Unit, number: usize) -> bool {
    let (before, next) = (&inputs[last.input], &inputs[number]);
    let whole = last.range == Range::WHOLE;
    whole && (&before.name, before.kind) == (&next.name, next.kind)
}

/// The inputs as they were named, in one line.
fn joined(paths: &[PathBuf]) -> String {
    paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn unreadable(path: &Path, error: &serde_json::Error) -> Error {
    Error::Line {
        path: path.to_owned(),
        line: error.line(),
        reason: format!("no plan of this version: {error}"),
    }
}

/// What the results depend on: version, recipe, and what [`depended`] says.
fn stage_hash(recipe: &Recipe, depended: &str) -> String {
    let mut key = format!("{} {VERSION} ", env!("CARGO_PKG_VERSION"));
    key += &serde_json::to_string(recipe).unwrap_or_default();
    quipu_store::checksum::xxh3_bytes((key + depended).as_bytes())
}

/// The files that the recipe names, the units' size, and the inputs with their sizes and both
/// their ends. Not times of change: an input that is written anew with the same bytes gives the
/// same run. Of inputs that lie elsewhere, what the server calls their version.
fn depended(recipe: &Recipe, inputs: &[Input], unit: u64) -> Result<String, Error> {
    let mut key = String::new();
    for path in recipe.files()?.iter().filter(|path| path.is_file()) {
        key += &format!("\n{} {}", path.display(), quipu_store::checksum::xxh3_file(path)?);
    }
    key += &format!("\n{unit}");
    for input in inputs {
        if !input.stamps.is_empty() {
            let stamps = serde_json::to_string(&input.stamps).unwrap_or_default();
            let (path, kind, files) = (input.path.display(), input.kind, input.files.join("\n"));
            key += &format!("\n{path} {kind} {stamps} {files}");
            continue;
        }
        for (path, _) in input.places() {
            let (state, path) = (state(&path), path.display());
            key += &format!("\n{path} {} {state}", input.kind);
        }
    }
    Ok(key)
}

/// Bytes and both ends of a file; of a folder of documents, of its manifest, which has the checksums
/// of all of it. One that cannot be read is met again where it is.
fn state(path: &Path) -> String {
    let manifest = path.join(quipu_store::manifest::NAME);
    let path = if path.is_dir() { &manifest } else { path };
    let size = std::fs::metadata(path).map_or(0, |data| data.len());
    format!("{size} {}", ends(path).unwrap_or_default())
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
