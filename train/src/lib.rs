//! Pre-training (paper, section 3.4): the recipe, the optimizer, the step, the loop with its
//! checkpoints and its recovery.
//!
//! This crate does not know generation, dialogues, benchmarks or HTTP: who watches a run hands in
//! a [`Watch`], who learns from something else than packed documents an [`Objective`].

pub mod average;
pub mod bench;
pub mod checkpoint;
pub mod compare;
mod error;
pub mod events;
pub mod export;
pub mod folder;
pub mod gate;
pub mod groups;
pub mod metrics;
pub mod mix;
pub mod objective;
pub mod optimizer;
pub mod parallel;
pub mod plan;
pub mod ramp;
pub mod recipe;
mod run;
mod saver;
pub mod schedule;
pub mod simulate;
pub mod spikes;
pub mod step;
pub mod watch;

pub use error::Error;
pub use gate::{Gate, Verdict};
pub use objective::{Held, NextToken, Objective, Samples};
pub use optimizer::Optimizer;
pub use parallel::Parallel;
pub use plan::Plan;
pub use recipe::Recipe;
pub use run::{Job, Report, Start, run};
pub use schedule::{Curve, Schedule};
pub use step::Learner;
pub use watch::Watch;
