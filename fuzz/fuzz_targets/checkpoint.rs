//! Any bytes as what a rank says of its part of a checkpoint, and as a manifest.
//!
//! What is run is in crate model (`src/attacks.rs`), whose stable tests replay the seeds. Not here: a
//! judgement of what was read.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = quipu_model::attacks::checkpoint(bytes);
});
