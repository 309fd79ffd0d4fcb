//! Resumable work units: a stage cuts its work into named units, commits each when its output is
//! durable, and after a kill does only those that are missing. Not a scheduler.
//!
//! The stage's hash (of its inputs and settings) stands in the first line: units of another hash
//! are forgotten, since their outputs are of other inputs.

use crate::{Error, journal::Journal};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The name of the journal of units in a stage's folder.
pub const NAME: &str = "units.jsonl";

/// The finished units of one stage.
pub struct Units {
    state: Mutex<State>,
}

struct State {
    journal: Journal,
    done: BTreeMap<String, Value>,
}

impl Units {
    /// Opens the units of the stage in `dir` (an existing folder), forgetting those of another
    /// `stage_hash`.
    ///
    /// # Errors
    /// When the journal cannot be read or written.
    pub fn open(dir: &Path, stage_hash: &str) -> Result<Self, Error> {
        let path = dir.join(NAME);
        let (mut journal, mut lines) = Journal::open(&path)?;
        let same = lines.first().and_then(|l| l["stage"].as_str()) == Some(stage_hash);
        if !same {
            drop(journal);
            (journal, _) = Journal::open_at(&path, 0)?;
            journal.append(&json!({"stage": stage_hash}))?;
            journal.sync()?;
            lines.clear();
        }
        let mut done = BTreeMap::new();
        for mut line in lines.into_iter().skip(1) {
            if let Some(unit) = line["unit"].as_str().map(str::to_owned) {
                done.insert(unit, line["facts"].take());
            }
        }
        Ok(Self { state: Mutex::new(State { journal, done }) })
    }

    /// Whether `unit` was committed, now or before a kill.
    #[must_use]
    pub fn is_done(&self, unit: &str) -> bool {
        self.state().done.contains_key(unit)
    }

    /// What was committed with `unit`.
    #[must_use]
    pub fn facts(&self, unit: &str) -> Option<Value> {
        self.state().done.get(unit).cloned()
    }

    /// All committed units with their facts, in the order of their names.
    #[must_use]
    pub fn done(&self) -> Vec<(String, Value)> {
        self.state().done.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    /// Commits `unit`, whose outputs are durable. Durable itself when this returns.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn commit(&self, unit: &str, facts: Value) -> Result<(), Error> {
        let mut state = self.state();
        state.journal.append(&json!({"unit": unit, "facts": facts}))?;
        state.journal.sync()?;
        state.done.insert(unit.to_owned(), facts);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic between append and insert leaves the file ahead of the map, which is harmless.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_survive_reopening_and_belong_to_their_hash() {
        let dir = tempfile::tempdir().unwrap();
        let units = Units::open(dir.path(), "h1").unwrap();
        units.commit("part-7", json!({"rows": 3})).unwrap();
        units.commit("part-2", json!(null)).unwrap();
        drop(units);
        let units = Units::open(dir.path(), "h1").unwrap();
        assert!(units.is_done("part-2") && !units.is_done("part-1"));
        assert_eq!(units.facts("part-7"), Some(json!({"rows": 3})));
        assert_eq!(units.done().len(), 2);
        drop(units);
        let units = Units::open(dir.path(), "h2").unwrap();
        assert!(units.done().is_empty());
        drop(units);
        assert!(!Units::open(dir.path(), "h1").unwrap().is_done("part-2"));
    }
}
