//! Who watches a run: the one place where progress leaves this crate. The program prints, draws
//! and generates behind it; nothing comes back that could change a number of the run.

use crate::metrics::Record;
use quipu_model::Model;
use std::path::Path;

/// An error of whoever is outside this crate.
pub type Outside = Box<dyn std::error::Error + Send + Sync>;

/// What is known when a run begins.
#[derive(Clone, Debug)]
pub struct Started {
    /// Steps that a checkpoint brought; 0 for a new run.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Tokens of one step over all ranks.
    pub batch_tokens: usize,
    /// Parameters of the model.
    pub parameters: usize,
    /// Floating-point operations of one token: see [`crate::bench::flop_per_token`].
    pub flop_per_token: f64,
    /// Ranks.
    pub ranks: usize,
}

/// Callbacks of one run; all on rank 0, in order.
pub trait Watch: Sync {
    /// What the machine can do at most, FLOP/s, where it was measured: each step's share of it
    /// then stands among its metrics. Asked once, after [`Watch::started`].
    fn ceiling(&self) -> Option<f64> {
        None
    }

    /// The model stands, training begins.
    fn started(&self, started: &Started) {
        let _ = started;
    }

    /// A step is done and in `metrics.jsonl`.
    fn step(&self, record: &Record) {
        let _ = record;
    }

    /// A share of the steps at which samples are due; asked on rank 0, and on all ranks where the
    /// model is divided over them or fully sharded, which then generate together. What is returned goes
    /// into `metrics.jsonl` under `samples`, so it must depend on the weights alone.
    ///
    /// # Errors
    /// Whatever stops the run.
    fn samples(
        &self,
        share: f64,
        step: u64,
        model: &mut Model,
    ) -> Result<Option<serde_json::Value>, Outside> {
        let _ = (share, step, model);
        Ok(None)
    }

    /// A checkpoint is whole on disk.
    fn checkpoint(&self, step: u64, path: &Path) {
        let _ = (step, path);
    }

    /// A sentence worth saying once.
    fn note(&self, line: &str) {
        let _ = line;
    }
}

/// Nobody watches.
pub struct Nobody;

impl Watch for Nobody {}
