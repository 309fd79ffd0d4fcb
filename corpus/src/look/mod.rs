//! What is there, before anything runs.
pub mod checkpoint;
