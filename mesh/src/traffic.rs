//! What a group has moved: calls and bytes, counted where they are handed to the transport.
//! Not time, and not what a network would make of it.

use std::sync::atomic::{AtomicU64, Ordering};

/// What one rank has sent in one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Collectives, and letters sent or received.
    pub calls: u64,
    /// Bytes that left this rank for another: of a gather its piece once for each other member, of
    /// a reduction the others' pieces once each.
    pub sent: u64,
}

impl std::ops::Add for Traffic {
    type Output = Traffic;
    fn add(self, other: Traffic) -> Traffic {
        Traffic { calls: self.calls + other.calls, sent: self.sent + other.sent }
    }
}

impl std::ops::Sub for Traffic {
    type Output = Traffic;
    fn sub(self, other: Traffic) -> Traffic {
        Traffic { calls: self.calls - other.calls, sent: self.sent - other.sent }
    }
}

/// The counters of a group.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    calls: AtomicU64,
    sent: AtomicU64,
    held: AtomicU64,
}

impl Meter {
    pub(crate) fn add(&self, sent: usize) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.sent.fetch_add(sent as u64, Ordering::Relaxed);
    }

    /// A call holds so many bytes of host memory until it is over.
    pub(crate) fn hold(&self, bytes: usize) {
        self.held.fetch_max(bytes as u64, Ordering::Relaxed);
    }

    /// The most that a call has held.
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    pub(crate) fn read(&self) -> Traffic {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic { calls: read(&self.calls), sent: read(&self.sent) }
    }
}
