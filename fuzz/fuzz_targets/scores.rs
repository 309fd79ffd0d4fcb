//! Any bytes through the reader `scores`.
//!
//! What is run is in crate corpus (`src/attacks.rs`), where the stable tests replay the seeds. Not
//! here: a judgement of what was read.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(
    // The Parquet reader's own panics are caught where it is called (documents/src/schema.rs), and
    // the fuzzer's hook would end the process at them; those that are not caught end it still.
    init: quipu_documents::hush_guarded_panics(),
    |bytes: &[u8]| {
        drop(quipu_corpus::attacks::scores(bytes));
    }
);
