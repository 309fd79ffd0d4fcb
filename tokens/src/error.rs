//! What can go wrong between text and tokens: every variant carries what was found and what to
//! change. Not here: errors of durable files as such, which are `quipu_store::Error`.

use std::path::PathBuf;

/// An error of the tokenizer, the chat format, the shards or the loader.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read, or a durable write failed.
    #[error(transparent)]
    Store(#[from] quipu_store::Error),
    /// Documents could not be read.
    #[cfg(feature = "prepare")]
    #[error(transparent)]
    Documents(#[from] quipu_documents::Error),
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
    /// A `tokenizer.json` that is no tokenizer this program can run.
    #[error("{path}: not a tokenizer quipu can use: {reason}")]
    TokenizerFile {
        /// The file, or a name for a text that came without one.
        path: String,
        /// What was found and what was expected.
        reason: String,
    },
    /// A tiktoken ranks file that cannot be read.
    #[error("{path}: not tiktoken ranks: line {line}: {reason}")]
    Ranks {
        /// The file, or a name for a text that came without one.
        path: String,
        /// The line, counted from one.
        line: usize,
        /// What was found and what was expected.
        reason: String,
    },
    /// A vocabulary that cannot be built.
    #[error("vocabulary of {asked}: {reason}")]
    Vocabulary {
        /// Tokens that were asked for.
        asked: usize,
        /// Why it cannot be.
        reason: String,
    },
    /// The encoder refused a text.
    #[error("the encoder refused a text of {bytes} bytes: {reason}")]
    Encode {
        /// Length of the text.
        bytes: usize,
        /// What the encoder said.
        reason: String,
    },
    /// A special token that the tokenizer lacks.
    #[error("the tokenizer has no special token {name}; the chat format needs it")]
    NoSpecial {
        /// The token's text.
        name: String,
    },
    /// A token shard that is not one, or is damaged.
    #[error("{path}: damaged token shard: {reason}; delete the tokens folder and prepare it again")]
    Shard {
        /// The shard.
        path: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },
    /// A token folder or mix that cannot feed a training run.
    #[error("{reason}")]
    Loader {
        /// What was found and what to change.
        reason: String,
    },
    /// Documents that cannot be prepared.
    #[error("cannot prepare tokens: {reason}")]
    Prepare {
        /// What was found and what to change.
        reason: String,
    },
}
