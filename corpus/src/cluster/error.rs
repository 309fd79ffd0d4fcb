//! What stops a plan, a predicate or a service of the cluster, each with what to do about it.
//!
//! Files and a request to stop are the crate's own error; see [`crate::Error`].

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why something of feature `cluster` ended without its result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address that is none.
    #[error(
        "{given:?} is no address of a cluster: {reason}; write HOST:PORT, such as {example} (a run \
         also takes `local` and `standalone`)"
    )]
    Address {
        /// What was given.
        given: String,
        /// What is wrong with it.
        reason: String,
        /// One that would be right.
        example: &'static str,
    },
    /// Nobody answers at the scheduler's address.
    #[error(
        "no scheduler answers at {address} ({source}); start one with \
         `quipu curate scheduler --bind {address}`"
    )]
    NoScheduler {
        /// Its address.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The scheduler has nobody to give work to.
    #[error(
        "the scheduler at {address} has had no executor for {waited:?} (it says: {answer}); start \
         one with `quipu curate executor --scheduler {address} --work FOLDER`, then run the same \
         command again to go on"
    )]
    NoExecutor {
        /// Its address.
        address: String,
        /// How long it was asked.
        waited: Duration,
        /// Its last answer.
        answer: String,
    },
    /// A plan failed as often as it may.
    #[error(
        "stage {stage} failed {attempts} times, at last with: {reason}; {hint}. What is finished \
         stays: run the same command again to go on"
    )]
    Plan {
        /// Name of the stage.
        stage: String,
        /// How often it was tried.
        attempts: usize,
        /// The last reason.
        reason: String,
        /// What to look at.
        hint: &'static str,
    },
    /// A session could not be made.
    #[error("cannot make a session of DataFusion: {reason}")]
    Session {
        /// What it said.
        reason: String,
    },
    /// Parquet that was written here a moment ago, or that somebody else wrote, cannot be used.
    #[error("{path}: {reason}")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A predicate that is none, or asks for a column that is not there.
    #[error("{}", pointed(predicate, *position, reason))]
    Predicate {
        /// The predicate as given.
        predicate: String,
        /// Where in it, in characters from 0, as far as known.
        position: Option<usize>,
        /// What is wrong and what to change.
        reason: String,
    },
    /// A scheduler or executor could not start or ended with an error.
    #[error("{what} at {address}: {reason}")]
    Service {
        /// `scheduler` or `executor`.
        what: &'static str,
        /// Where it listens, or the scheduler it was to serve.
        address: String,
        /// What it said, and what to change.
        reason: String,
    },
}

impl Error {
    /// A mistake of a session.
    pub(super) fn session(error: impl std::fmt::Display) -> Error {
        Error::Session { reason: error.to_string() }
    }

    /// A mistake of a Parquet file.
    pub(super) fn parquet<E: std::fmt::Display>(path: &Path) -> impl FnOnce(E) -> Error + '_ {
        move |error| Error::Parquet { path: path.to_owned(), reason: error.to_string() }
    }
}

/// The predicate with a mark below the place that is wrong.
fn pointed(predicate: &str, position: Option<usize>, reason: &str) -> String {
    match position {
        Some(at) if !predicate.contains('\n') => {
            let blank = " ".repeat(at);
            format!("--where, character {}: {reason}\n  {predicate}\n  {blank}^", at + 1)
        }
        _ => format!("--where {predicate:?}: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_stands_below_the_place() {
        let error = Error::Predicate {
            predicate: "größe > 1".into(),
            position: Some(6),
            reason: "unknown".into(),
        };
        let expected = "--where, character 7: unknown\n  größe > 1\n        ^";
        assert_eq!(error.to_string(), expected);
    }
}
