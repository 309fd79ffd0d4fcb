//! What can go wrong in post-training. Errors of other crates are wrapped, never retold.

use std::path::PathBuf;

/// Errors of the post-training crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A line of a dialogues or preferences file that is none.
    #[error("{path}, line {line}: {what}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// What was found and what was expected.
        what: String,
    },
    /// A file without a single usable line.
    #[error("{path}: no {what} in it; expected JSON Lines like {example}")]
    Empty {
        /// The file.
        path: PathBuf,
        /// "dialogues" or "preference pairs".
        what: &'static str,
        /// One line as it should be.
        example: &'static str,
    },
    /// Data of which nothing is left to learn from.
    #[error("nothing to learn: {found}; {change}")]
    Nothing {
        /// What was there and why it went.
        found: String,
        /// What to change.
        change: &'static str,
    },
    /// Input and output.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// From the trainer.
    #[error(transparent)]
    Train(#[from] quipu_train::Error),
    /// Another process of the run.
    #[error(transparent)]
    Mesh(#[from] quipu_mesh::Error),
    /// From the tokenizer or the chat format.
    #[error(transparent)]
    Tokens(#[from] quipu_tokens::Error),
}
