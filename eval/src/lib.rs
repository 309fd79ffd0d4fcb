//! Measuring: examinations with intervals beside chance, how answers end, n-gram baselines, and how
//! much of a sample stands in the training text. Everything here is deterministic. Not here:
//! training, HTTP, programs that would have to be run.

mod error;
pub mod exam;
mod interval;
mod lines;
pub mod needle;
pub mod ngram;
pub mod prompts;
pub mod verbatim;

pub use error::Error;
pub use interval::Share;
