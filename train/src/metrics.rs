//! `metrics.jsonl`: one line a step, appended as the run goes and cut back to the checkpoint when
//! a run resumes, so that a killed run ends with the file of an uninterrupted one. Not a live
//! display, and not what TensorBoard reads: those are the events beside it, made of the same records.
//!
//! What may differ between two runs of the same recipe (time, speed, memory) stands under the key
//! `machine`, so that the rest can be compared byte for byte: [`comparable`].

use crate::events::{self, Events};
use crate::{Error, Verdict};
use quipu_store::journal::{self, Journal};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Loss on text that is never trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Mean over target tokens, nats.
    pub loss: f64,
    /// The same per byte of text, bits: comparable between tokenizers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits_per_byte: Option<f64>,
    /// Target tokens.
    pub tokens: u64,
}

/// What belongs to the machine and the hour, not to the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Seconds of this step, validation and checkpoint not included.
    pub seconds: f64,
    /// Tokens that went through the model, per second of this step.
    pub tokens_per_s: f64,
    /// Floating-point operations of that as a share of what the machine can do, where whoever
    /// watches the run has measured it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_of_ceiling: Option<f64>,
    /// Highest resident memory of the process so far, MiB.
    pub memory_mib: f64,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Step, counted from 1.
    pub step: u64,
    /// Mean over the step's target tokens, before the update, nats.
    pub loss: f64,
    /// Global norm of the gradient, before clipping.
    pub grad_norm: f64,
    /// Learning rate of the update.
    pub lr: f64,
    /// Target tokens seen so far.
    pub tokens: u64,
    /// Further figures of the objective, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub more: BTreeMap<String, f64>,
    /// Loss on held-out text, at the steps that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<Validation>,
    /// What whoever watches the run adds at its milestones (completed prompts).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<Value>,
    /// What a gate found, where one was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Verdict>,
    /// Time, speed and memory.
    pub machine: Machine,
}

/// The open file, and the events beside it.
pub struct Log {
    journal: Journal,
    events: Events,
    path: PathBuf,
}

impl Log {
    /// Opens `path` for a run that has `steps` behind it: later lines are cut off.
    ///
    /// # Errors
    /// [`Error::Metrics`] where the kept lines are not the steps 1 to `steps`.
    pub fn open(path: &Path, steps: u64) -> Result<Self, Error> {
        let (journal, lines) = Journal::open_at(path, steps as usize)?;
        let mut behind = Vec::with_capacity(lines.len());
        for (i, line) in lines.into_iter().enumerate() {
            let found = record(path, i, line)?;
            if found.step != i as u64 + 1 {
                let what = format!("step {} instead of {}", found.step, i + 1);
                return Err(Error::Metrics { path: path.to_owned(), line: i + 1, what });
            }
            behind.push(found);
        }
        let events = Events::open(&path.with_file_name(events::NAME), &behind)?;
        Ok(Self { journal, events, path: path.to_owned() })
    }

    /// Appends a line.
    ///
    /// # Errors
    /// [`Error::Store`], also where the disk is full.
    pub fn append(&mut self, record: &Record) -> Result<(), Error> {
        let value = serde_json::to_value(record)
            .map_err(|e| Error::io(&self.path)(std::io::Error::other(e)))?;
        self.journal.append(&value)?;
        self.events.append(record)
    }

    /// Brings what was appended to the disk: called before a checkpoint that relies on it.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn sync(&mut self) -> Result<(), Error> {
        self.journal.sync()?;
        self.events.sync()
    }
}

fn record(path: &Path, index: usize, line: Value) -> Result<Record, Error> {
    serde_json::from_value(line).map_err(|e| Error::Metrics {
        path: path.to_owned(),
        line: index + 1,
        what: format!("no record of a step: {e}"),
    })
}

/// Reads a whole file; a torn last line is left out.
///
/// # Errors
/// [`Error::Metrics`] with the line, [`Error::Store`].
pub fn read(path: &Path) -> Result<Vec<Record>, Error> {
    let lines = journal::read(path)?.into_iter().enumerate();
    lines.map(|(i, line)| record(path, i, line)).collect()
}

/// The text of a metrics file without the key `machine`: equal for equal runs, byte for byte.
///
/// # Errors
/// As [`read`].
pub fn comparable(path: &Path) -> Result<String, Error> {
    let mut text = String::new();
    for record in read(path)? {
        let mut value =
            serde_json::to_value(record).map_err(|e| Error::io(path)(std::io::Error::other(e)))?;
        if let Some(map) = value.as_object_mut() {
            map.shift_remove("machine");
        }
        text.push_str(&value.to_string());
        text.push('\n');
    }
    Ok(text)
}

/// Highest resident memory of this process so far, MiB; 0 where the system does not say.
#[must_use]
pub fn peak_memory_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(step: u64, seconds: f64) -> Record {
        Record {
            step,
            loss: 1.0 / (step as f64 + 2.0),
            grad_norm: 0.1,
            lr: 1e-3,
            tokens: step * 100,
            more: BTreeMap::new(),
            validation: (step == 2).then_some(Validation {
                loss: 0.5,
                bits_per_byte: Some(1.5),
                tokens: 7,
            }),
            samples: None,
            gate: None,
            machine: Machine { seconds, ..Machine::default() },
        }
    }

    fn write(path: &Path, from: u64, to: u64, seconds: f64) {
        let mut log = Log::open(path, from).unwrap();
        for step in from + 1..=to {
            log.append(&sample(step, seconds)).unwrap();
        }
        log.sync().unwrap();
    }

    #[test]
    fn a_resumed_file_equals_the_uninterrupted_one() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            dir.path().join(name).join("metrics.jsonl")
        };
        let (whole, parts) = (place("whole"), place("parts"));
        write(&whole, 0, 5, 1.0);
        write(&parts, 0, 4, 2.0);
        let mut torn = std::fs::read(&parts).unwrap();
        torn.extend(b"{\"step\":5,\"lo");
        std::fs::write(&parts, torn).unwrap();
        write(&parts, 2, 5, 3.0);
        assert_eq!(comparable(&whole).unwrap(), comparable(&parts).unwrap());
        let [a, b] = [&whole, &parts].map(|path| path.with_file_name(events::NAME));
        assert_eq!(events::comparable(&a).unwrap(), events::comparable(&b).unwrap());
        assert_eq!(read(&parts).unwrap()[1].validation.as_ref().unwrap().tokens, 7);
        assert_ne!(std::fs::read(&whole).unwrap(), std::fs::read(&parts).unwrap());
    }

    /// Flipped and cut bytes: an error or a cut file, never a panic.
    #[test]
    fn mutations_never_panic() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        write(&path, 0, 4, 1.0);
        let valid = std::fs::read(&path).unwrap();
        let mut state = 1u64;
        for _ in 0..300 {
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as usize
            };
            let mut bytes = valid.clone();
            let at = next() % bytes.len();
            bytes[at] ^= 1 << (next() % 8);
            bytes.truncate(1 + next() % bytes.len());
            std::fs::write(&path, &bytes).unwrap();
            let _ = (read(&path), Log::open(&path, 2));
        }
    }

    #[test]
    fn a_file_that_does_not_reach_the_checkpoint_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        write(&path, 0, 2, 1.0);
        let error = Log::open(&path, 3).err().unwrap().to_string();
        assert!(error.contains("2 lines where 3"), "{error}");
        std::fs::write(&path, "{}\n").unwrap();
        let error = Log::open(&path, 1).err().unwrap().to_string();
        assert!(error.contains("line 1") && error.contains("no record"), "{error}");
    }
}
