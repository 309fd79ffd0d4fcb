//! Post-training (paper, section 4): dialogues, fine-tuning on answers, preference optimisation.
//!
//! This crate does not know HTTP. It shares the trainer's step, optimizer and checkpoints; what
//! is its own is what is learned from.

pub mod dpo;
