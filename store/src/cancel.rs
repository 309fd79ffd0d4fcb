//! A flag that asks a long job to stop: asked once, it stops at the next safe point (after its
//! checkpoint); asked twice, the program aborts. The signal handler is the program's, not ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// The job stopped because it was asked to; what it had committed stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stopped on request; run the same command again to go on")]
pub struct Cancelled;

/// A shared request to stop. Clones are the same request.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicU8>);

impl Cancel {
    /// A request that nobody has made yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks to stop; returns how often that was asked by now (at most 255).
    pub fn request(&self) -> u8 {
        let raise = |n: u8| Some(n.saturating_add(1));
        let update = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, raise);
        update.unwrap_or_else(|n| n).saturating_add(1)
    }

    /// Whether stopping was asked for.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// Returns early from a job with `?`.
    ///
    /// # Errors
    /// [`Cancelled`] when stopping was asked for.
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.is_requested() { Err(Cancelled) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_the_request() {
        let cancel = Cancel::new();
        let other = cancel.clone();
        assert_eq!(cancel.check(), Ok(()));
        assert_eq!(other.request(), 1);
        assert_eq!(cancel.request(), 2);
        assert_eq!(cancel.check(), Err(Cancelled));
    }
}
