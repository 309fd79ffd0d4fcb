//! Any bytes on the socket over which the processes of a run know of each other.
//!
//! What is run is in crate mesh (`src/process/rendezvous.rs`), where the stable tests replay the
//! seeds. Not here: a judgement of what was read.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    quipu_mesh::process::understood(bytes);
});
