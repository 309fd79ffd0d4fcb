//! What can go wrong while measuring.

use std::path::PathBuf;

/// An error of an examination, a baseline or a search.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine failed.
    #[error(transparent)]
    Infer(#[from] quipu_infer::Error),
    /// The tokenizer or the shards failed.
    #[error(transparent)]
    Tokens(#[from] quipu_tokens::Error),
    /// Ctrl-C.
    #[error("cancelled")]
    Cancelled(#[from] quipu_store::Cancelled),
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line that is no question or prompt.
    #[error("{path}: line {line}: {reason}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from one.
        line: usize,
        /// What was found and what was expected.
        reason: String,
    },
    /// A baseline that cannot be made.
    #[error("{reason}")]
    Baseline {
        /// What was found and what to change.
        reason: String,
    },
}
