//! What can go wrong with documents at rest, each with its file and operands.
//!
//! Not here: why a document was removed; that is a [`crate::Fate`].

use std::path::{Path, PathBuf};

/// An error of reading or writing documents or fates.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be opened, read or listed.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file is not the Parquet it should be.
    #[error("{path}: not readable as Parquet: {reason}; the file is damaged or of another kind")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the Parquet reader said.
        reason: String,
    },
    /// A file could not be written.
    #[error("{path}: not written: {source}; is there room on the disk, and may this user write?")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the Parquet writer or the operating system said.
        source: std::io::Error,
    },
    /// A column is absent or of another type than the schema says.
    #[error(
        "{path}: column `{column}`: expected {expected}, found {found}; \
         name the text column `text`, or convert the file"
    )]
    Column {
        /// The file.
        path: PathBuf,
        /// Name of the column.
        column: String,
        /// Type that was expected.
        expected: String,
        /// Type or columns that were found.
        found: String,
    },
    /// One row of a file is no document; reading goes on behind it.
    #[error("{path}#{row}: {reason}")]
    Row {
        /// The file.
        path: PathBuf,
        /// Number of the row in its file, from 0.
        row: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The durable layer refused: checksum, format, version, full disk.
    #[error(transparent)]
    Store(#[from] quipu_store::Error),
    /// Nothing to read in a folder.
    #[error("{path}: no documents: expected *.parquet files, found none")]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// One line of a JSON Lines file of fates does not parse.
    #[error("{path}, line {line}: {reason}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Line number from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
        move |source| Error::Io { path: path.to_owned(), source }
    }

    pub(crate) fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
        move |source| Error::Write { path: path.to_owned(), source }
    }

    pub(crate) fn parquet<E: std::fmt::Display>(path: &Path) -> impl FnOnce(E) -> Error + '_ {
        move |e| Error::Parquet { path: path.to_owned(), reason: e.to_string() }
    }
}
