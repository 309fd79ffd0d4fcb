//! Post-training (paper, section 4): dialogues, fine-tuning on answers, preference optimisation.
//!
//! This crate does not know HTTP. It shares the trainer's step, optimizer and checkpoints; what
//! is its own is what is learned from.

pub mod dialogue;
pub mod dpo;
mod error;
pub mod from_documents;
pub mod order;
pub mod preference;
pub mod rows;
mod sentences;
pub mod stage;

pub use dialogue::{Dialogue, Preference, read_dialogues, read_preferences};
pub use error::Error;
pub use preference::{Dpo, Pairs, Reference};
pub use rows::Rows;
pub use stage::{Stage, Tuned};
