//! Any bytes through the reader `classifier`.
//!
//! What is run is in crate corpus (`src/attacks.rs`), where the stable tests replay the seeds. Not
//! here: a judgement of what was read.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    quipu_corpus::attacks::classifier(bytes);
});
