//! What a checkpoint of a run holds: master weights and both moments by logical name, in the pieces
//! that each rank owns, and beside them what is needed to go on: step, position of the data,
//! random state, recipe. Not the form on disk, which is the model's ([`quipu_model::checkpoint`]).
//!
//! Random numbers are drawn from counters and samples are a pure function of their index, so that
//! the state of both is the step.

use crate::optimizer::{Optimizer, State};
use crate::spikes::Guard;
use crate::step::Place;
use crate::{Error, Job, Learner, Recipe};
use quipu_math::{DType, Device};
use quipu_model::Entry;
use quipu_model::checkpoint::{Part, Reader, Writer};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::ops::Range;
use std::path::Path;

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps behind it.
    pub step: u64,
    /// Target tokens seen.
    pub tokens: u64,
    /// Steps among them that changed nothing.
    #[serde(default)]
    pub skipped: u64,
    /// Batches that the run passed over when it went back.
    #[serde(default)]
    pub passed_over: u64,
    /// Updates that the moments had seen before the run began.
    #[serde(default)]
    pub earlier: u64,
    /// Whether its gate ended it.
    #[serde(default)]
    pub passed: bool,
}

impl Progress {
    /// Where that is for the next step.
    #[must_use]
    pub fn place(&self) -> Place {
        let Self { step, skipped, passed_over, earlier, .. } = *self;
        Place { step, updates: earlier + step - skipped, batch: step + passed_over }
    }
}

/// What stands beside the tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// How far the run is.
    pub progress: Progress,
    /// Global index of the next sample.
    pub next_sample: u64,
    /// What the next step is judged by.
    #[serde(default)]
    pub guard: Guard,
    /// Seed and counter of the random numbers.
    pub random: (u64, u64),
    /// The recipe, resolved.
    pub recipe: Recipe,
    /// The model's configuration.
    pub config: Value,
    /// What the run learns from.
    pub objective: String,
    /// What the bits depend on: device and instruction set.
    pub arithmetic: String,
    /// The ranks.
    pub mesh: String,
    /// The steps whose mean it is; none where it is a state of the run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub averaged: Vec<u64>,
}

impl Facts {
    /// The facts of a job at some point.
    #[must_use]
    pub fn new(job: &Job<'_>, device: &dyn Device, progress: Progress, guard: Guard) -> Self {
        let config = job.config.to_json();
        Self {
            progress,
            next_sample: job.recipe.portion(progress.place().batch).first_sample,
            guard,
            random: (job.recipe.seed, progress.step),
            recipe: job.recipe.clone(),
            config: serde_json::from_str(&config).unwrap_or(Value::String(config)),
            objective: job.objective.identity(),
            arithmetic: device.arithmetic(),
            mesh: job.parallel.to_string(),
            averaged: Vec::new(),
        }
    }

    /// Holds `self`, the run as it is now, against what the checkpoint at `path` says. What changes
    /// the numbers of the run is refused; what changes their last bits is returned as a sentence.
    ///
    /// # Errors
    /// [`Error::OtherRun`] with the first difference.
    pub fn compare(&self, written: &Facts, path: &Path) -> Result<Option<String>, Error> {
        let other = |what, found: String, expected: String| {
            Err(Error::OtherRun { path: path.to_owned(), what, found, expected })
        };
        if let Some((found, expected)) = difference(&written.recipe, &self.recipe) {
            return other("recipe", found, expected);
        }
        if written.config != self.config {
            let show = |config: &Value| config.to_string();
            return other("model", show(&written.config), show(&self.config));
        }
        if written.objective != self.objective {
            return other("data", written.objective.clone(), self.objective.clone());
        }
        if (&written.arithmetic, &written.mesh) == (&self.arithmetic, &self.mesh) {
            return Ok(None);
        }
        Ok(Some(format!(
            "the checkpoint was written on {} ({}), this run goes on with {} ({}): last bits may \
             differ from those of an uninterrupted run",
            written.arithmetic, written.mesh, self.arithmetic, self.mesh
        )))
    }
}

/// The first key in which two recipes differ, as `key = value` of each; what is recomputed may
/// change, and how often checkpoints are written and how many are kept, but for a run that may go
/// back to one.
fn difference(written: &Recipe, now: &Recipe) -> Option<(String, String)> {
    let mut written = written.clone();
    if now.spikes.is_none() {
        written.checkpoint_every = now.checkpoint_every;
    }
    written.keep_checkpoints = now.keep_checkpoints;
    // the numbers are the same
    written.recompute = now.recompute;
    let keys = |recipe: &Recipe| match serde_json::to_value(recipe) {
        Ok(Value::Object(map)) => map,
        _ => serde_json::Map::new(),
    };
    let (written, now) = (keys(&written), keys(now));
    let differs = written.iter().find(|(key, value)| now.get(*key) != Some(value));
    differs.map(|(key, value)| {
        let found = now.get(key).cloned().unwrap_or(Value::Null);
        (format!("{key} = {value}"), format!("{key} = {found}"))
    })
}

/// What of a parameter this rank keeps: in the flat range, and within the parameter.
fn part(entry: &Entry, optimizer: &Optimizer) -> Option<(Range<usize>, Range<usize>)> {
    let (_, own) = optimizer.division().own(entry)?;
    Some((own.clone(), own.start - entry.offset..own.end - entry.offset))
}

/// The parameters of which this rank writes what it keeps: of copies on several ranks one is written.
fn written(learner: &Learner) -> impl Iterator<Item = &Entry> {
    let (entries, writes) = (learner.model.table().entries(), learner.optimizer.writes());
    entries.iter().filter(move |entry| entry.counted && writes)
}

/// What of a parameter's tensor is on this rank.
pub(crate) fn place(entry: &Entry) -> Part {
    Part { first: entry.first, rows: entry.rows, cols: entry.cols }
}

fn name(state: State, entry: &Entry) -> String {
    format!("{}.{}", state.name(), entry.name)
}

/// What of a copy goes where: a piece of a tensor.
pub(crate) struct Piece {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    part: Part,
    within: Range<usize>,
    /// In the copy.
    bytes: Range<usize>,
}

/// Copies what a rank saves into host memory, of which as much is kept as it takes.
///
/// # Errors
/// What the device reports.
pub(crate) fn copy(learner: &Learner, into: &mut Vec<u8>) -> Result<Vec<Piece>, Error> {
    let optimizer = &learner.optimizer;
    into.resize(copied_bytes(learner), 0);
    let (mut pieces, mut at) = (Vec::new(), 0);
    for state in State::ALL {
        for entry in written(learner) {
            let Some((flat, within)) = part(entry, optimizer) else { continue };
            let (name, dtype) = (name(state, entry), optimizer.dtype());
            let bytes = at..at + flat.len() * dtype.size();
            at = bytes.end;
            optimizer.read_into(state, flat, &mut into[bytes.clone()])?;
            let (shape, part) = (entry.shape.clone(), place(entry));
            pieces.push(Piece { name, dtype, shape, part, within, bytes });
        }
    }
    Ok(pieces)
}

/// Bytes of host memory that a rank's copy takes.
pub(crate) fn copied_bytes(learner: &Learner) -> usize {
    let optimizer = &learner.optimizer;
    let elements = written(learner).filter_map(|entry| part(entry, optimizer));
    let elements: usize = elements.map(|(flat, _)| flat.len()).sum();
    State::ALL.len() * elements * optimizer.dtype().size()
}

/// Writes a rank's part of a checkpoint in `folder`.
///
/// # Errors
/// A full disk and what else the file system reports.
pub(crate) fn write(
    folder: &Path,
    rank: usize,
    pieces: &[Piece],
    copy: &[u8],
) -> Result<(), Error> {
    let mut writer = Writer::create(folder, rank)?;
    for Piece { name, dtype, shape, part, within, bytes } in pieces {
        writer.put_part(name, *dtype, (shape, part), within.clone(), &copy[bytes.clone()])?;
    }
    Ok(writer.finish()?)
}

/// Makes a checkpoint of what all ranks have written in `folder`.
///
/// # Errors
/// A rank's part that is not there; what the file system reports.
pub(crate) fn seal(folder: &Path, facts: &Facts, ranks: usize) -> Result<(), Error> {
    let value = serde_json::to_value(facts).map_err(|e| Error::Checkpoint {
        path: folder.to_owned(),
        what: format!("its facts cannot be written: {e}"),
    })?;
    Ok(quipu_model::checkpoint::seal(folder, ranks, value)?)
}

/// Reads the facts of a checkpoint without its tensors, which are not looked at.
///
/// # Errors
/// [`Error::Model`] where an index is damaged, a file cut off, or the version another,
/// [`Error::Checkpoint`] where it is no checkpoint of a run.
pub fn facts(path: &Path) -> Result<Facts, Error> {
    facts_of(&Reader::open(path)?, path)
}

fn facts_of(reader: &Reader, path: &Path) -> Result<Facts, Error> {
    serde_json::from_value(reader.facts().clone()).map_err(|e| Error::Checkpoint {
        path: path.to_owned(),
        what: format!("it is no checkpoint of a training run: {e}"),
    })
}

/// Opens a checkpoint and reads its facts: to be compared before [`restore`] is called.
///
/// # Errors
/// As [`facts`].
pub fn open(path: &Path) -> Result<(Reader, Facts), Error> {
    let reader = Reader::open(path)?;
    let facts = facts_of(&reader, path)?;
    Ok((reader, facts))
}

/// Puts weights and moments of a checkpoint into `learner`, whatever ranks wrote it.
///
/// # Errors
/// [`Error::Checkpoint`] with a tensor that is missing or of another shape; a damaged piece.
pub fn restore(reader: &Reader, path: &Path, learner: &Learner) -> Result<(), Error> {
    let (optimizer, table) = (&learner.optimizer, learner.model.table());
    for state in State::ALL {
        for entry in table.entries() {
            let name = name(state, entry);
            let info = reader.info(&name)?;
            if info.shape != entry.shape || info.dtype != optimizer.dtype() {
                let (found, kind) = (&info.shape, info.dtype);
                let (expected, dtype) = (&entry.shape, optimizer.dtype());
                return Err(Error::Checkpoint {
                    path: path.to_owned(),
                    what: format!("{name} is {kind} {found:?}; expected {dtype} {expected:?}"),
                });
            }
            let Some((flat, within)) = part(entry, optimizer) else { continue };
            optimizer.write(state, flat, &reader.read_part(&name, &place(entry), within)?)?;
        }
    }
    optimizer.publish(&learner.model)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spikes::Spikes;

    #[test]
    fn recipes_may_differ_only_in_how_they_are_kept() {
        let written = Recipe::default();
        let kept = Recipe { checkpoint_every: 7, keep_checkpoints: 9, ..Recipe::default() };
        assert_eq!(difference(&written, &kept), None);
        let faster = Recipe { peak_lr: 0.5, ..Recipe::default() };
        let (found, expected) = difference(&written, &faster).unwrap();
        assert_eq!((&*found, &*expected), ("peak_lr = 0.003", "peak_lr = 0.5"));
        let goes_back = Recipe { spikes: Some(Spikes::default()), ..Recipe::default() };
        let kept = Recipe { checkpoint_every: 7, ..goes_back.clone() };
        assert_eq!(difference(&goes_back, &kept).unwrap().1, "checkpoint_every = 7");
    }
}
