//! Fault injection: once the process has durably written a given number of bytes, it kills itself as
//! `kill -9` would, or its disk is full. Not for use outside tests; without the variables it costs
//! one atomic add.
//!
//! `QUIPU_KILL_AFTER_BYTES=N` draws the moment; the write that passes N is cut at byte N, so that
//! the moment can lie inside a file. After `QUIPU_FULL_AFTER_BYTES=N` every write is refused as a
//! full disk refuses it, for machines on which a test may not mount a small one.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The variable that arms the fault.
pub const VARIABLE: &str = "QUIPU_KILL_AFTER_BYTES";

/// The variable that fills the disk.
pub const FULL: &str = "QUIPU_FULL_AFTER_BYTES";

static WRITTEN: AtomicU64 = AtomicU64::new(0);

fn number(variable: &str) -> u64 {
    std::env::var(variable).ok().and_then(|v| v.parse().ok()).unwrap_or(u64::MAX)
}

fn limit() -> u64 {
    static LIMIT: OnceLock<u64> = OnceLock::new();
    *LIMIT.get_or_init(|| number(VARIABLE))
}

/// Whether the disk counts as full after what was admitted so far.
pub(crate) fn is_full() -> bool {
    static ROOM: OnceLock<u64> = OnceLock::new();
    bytes_written() > *ROOM.get_or_init(|| number(FULL))
}

/// Bytes that this process has handed to durable files so far. Tests draw their moments from it.
#[must_use]
pub fn bytes_written() -> u64 {
    WRITTEN.load(Ordering::Relaxed)
}

/// Counts `length` bytes about to be written. Returns how many of them may still be written; less
/// than `length` means: write these, then call [`die`].
pub(crate) fn admit(length: usize) -> usize {
    let before = WRITTEN.fetch_add(length as u64, Ordering::Relaxed);
    let left = limit().saturating_sub(before);
    usize::try_from(left).map_or(length, |left| left.min(length))
}

/// Ends the process without unwinding, flushing or removing anything.
#[allow(unsafe_code)]
pub(crate) fn die() -> ! {
    // SAFETY: kill and getpid take no pointers; the signal cannot be caught, so nothing of this
    // process runs afterwards. The loop covers the moment until the signal is delivered.
    unsafe {
        libc::kill(libc::getpid(), libc::SIGKILL);
    }
    loop {
        std::thread::yield_now();
    }
}
