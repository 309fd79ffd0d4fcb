//! How long a stage took over all processes that worked on it: what earlier ones spent lies in a
//! hidden file of the run's folder. A killed process leaves no time; that it was there is counted.
//! Nothing that is computed depends on it.

use crate::error::Error;
use quipu_store::atomic;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Instant;

const FILE: &str = ".seconds.json";

/// The time of a stage that has begun in this process.
pub struct Spent {
    path: PathBuf,
    stage: String,
    /// seconds of earlier processes that were stopped in this stage
    before: f64,
    /// earlier processes that ended without leaving their time
    killed: u64,
    start: Instant,
}

impl Spent {
    /// Begins a stage, or goes on with it; until [`Spent::stopped`] this process counts as killed.
    pub fn begin(run: &Path, stage: &str) -> Result<Self, Error> {
        let path = run.join(FILE);
        // A file that is missing or damaged only means that no time is known.
        let left = std::fs::read(&path).unwrap_or_default();
        let left: Value = serde_json::from_slice(&left).unwrap_or_default();
        let left = if left["stage"] == stage { left } else { Value::Null };
        let before = left["seconds"].as_f64().unwrap_or(0.0);
        let killed = left["killed"].as_u64().unwrap_or(0);
        let spent = Self { path, stage: stage.into(), before, killed, start: Instant::now() };
        spent.leave(before, killed + 1)?;
        Ok(spent)
    }

    /// Leaves the time so far to the process that goes on.
    pub fn stopped(&self) -> Result<(), Error> {
        self.leave(self.seconds(), self.killed)
    }

    /// Seconds of all processes whose time is known, this one's included.
    pub fn seconds(&self) -> f64 {
        self.before + self.start.elapsed().as_secs_f64()
    }

    /// Processes whose time is not known.
    pub fn killed(&self) -> u64 {
        self.killed
    }

    fn leave(&self, seconds: f64, killed: u64) -> Result<(), Error> {
        let left = json!({"stage": self.stage, "seconds": seconds, "killed": killed});
        Ok(atomic::write_bytes(&self.path, format!("{left}\n").as_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stopped_processes_add_up_and_killed_ones_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Spent::begin(dir.path(), "train").unwrap();
        first.before = 100.0;
        first.stopped().unwrap();
        let second = Spent::begin(dir.path(), "train").unwrap();
        assert!(second.seconds() >= 100.0 && second.killed() == 0);
        drop(second);
        let third = Spent::begin(dir.path(), "train").unwrap();
        assert!(third.seconds() >= 100.0 && third.killed() == 1);
        let other = Spent::begin(dir.path(), "tune").unwrap();
        assert!(other.seconds() < 100.0 && other.killed() == 0);
    }
}
