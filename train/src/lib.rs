//! Pre-training (paper, section 3.4): the recipe, the optimizer, the step, the loop with its
//! checkpoints and its recovery.
//!
//! This crate does not know generation, dialogues, benchmarks or HTTP: who watches a run hands in
//! a `Watch`, who trains on something else than packed documents an `Objective`.

mod error;
pub mod metrics;
pub mod recipe;
pub mod schedule;

pub use error::Error;
pub use recipe::Recipe;
pub use schedule::Schedule;
