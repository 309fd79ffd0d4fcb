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
}

/// Host memory that the calls of a rank hold.
#[derive(Debug, Default)]
pub(crate) struct Held {
    now: AtomicU64,
    most: AtomicU64,
}

impl Held {
    /// A call holds so many bytes until [`Held::free`].
    pub(crate) fn hold(&self, bytes: usize) {
        let now = self.now.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        self.most.fetch_max(now, Ordering::Relaxed);
    }

    pub(crate) fn free(&self, bytes: usize) {
        self.now.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    /// For a moment.
    pub(crate) fn pass(&self, bytes: usize) {
        self.hold(bytes);
        self.free(bytes);
    }

    /// The most that was held at once.
    pub(crate) fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }
}

impl Meter {
    pub(crate) fn add(&self, sent: usize) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.sent.fetch_add(sent as u64, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Traffic {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic { calls: read(&self.calls), sent: read(&self.sent) }
    }
}
