//! When a stage has reached what it is for: whoever can measure that (a needle found in a long text,
//! a loss recovered; paper, section 3.4.2: context is extended in steps, each until both are so) is
//! asked between steps, and the stage ends where the answer is yes. The recipe's steps are then the
//! most that it takes. Not a measure: this crate does not generate.
//!
//! An answer depends on the weights alone, so that a run that was stopped ends where an
//! uninterrupted one does.

use crate::watch::Outside;
use quipu_model::Model;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Who says when a stage may end.
pub trait Gate: Sync {
    /// Whether it is to be asked with so many steps behind; after the last step it always is.
    fn is_due(&self, step: u64) -> bool;

    /// Measures the model.
    ///
    /// # Errors
    /// Whatever stops the run.
    fn ask(&self, step: u64, model: &mut Model) -> Result<Verdict, Outside>;
}

/// What a gate found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether the stage has reached what it is for.
    pub passed: bool,
    /// What was measured.
    pub found: Value,
}
