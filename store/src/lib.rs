//! What is durable: atomic files, manifests with checksums, the run lock, resumable work units;
//! and what every long job is handed: progress and cancellation.
//!
//! This crate does not know what it stores: no format but its own manifest, no text, no tensors.
//! The rules (temporary name, sync, rename, manifest last) are the usual ones of databases; that
//! they hold is tested by killing the process after a drawn number of written bytes ([`fault`]).

pub mod atomic;
pub mod cancel;
pub mod checksum;
pub mod crew;
mod error;
pub mod fault;
pub mod growing;
pub mod journal;
pub mod lock;
pub mod manifest;
pub mod progress;
pub mod share;
pub mod units;

pub use cancel::{Cancel, Cancelled};
pub use error::Error;
pub use progress::Progress;
pub use share::Share;
