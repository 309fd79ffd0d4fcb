//! The errors of this crate. Each carries what was found, what was expected and what to do.
//! Not a catch-all: a crate above wraps these in its own error.

use std::io;
use std::path::{Path, PathBuf};

/// Why something durable could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused an operation on a file.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// what was tried, as a verb: "read", "write", "create"
        action: &'static str,
        /// the file or folder
        path: PathBuf,
        /// what the system said
        source: io::Error,
    },
    /// The file system has no room left; nothing was left under the final name.
    #[error("no room left to write {path} ({source}); free some space and run the command again")]
    Full {
        /// the file that was being written
        path: PathBuf,
        /// what the system said
        source: io::Error,
    },
    /// A file is not what its manifest says.
    #[error("{path} is damaged: {what} is {found}, its manifest says {expected}")]
    Damaged {
        /// the damaged file
        path: PathBuf,
        /// which property: "size", "checksum"
        what: &'static str,
        /// the property as found
        found: String,
        /// the property as written down
        expected: String,
    },
    /// A manifest or journal cannot be understood.
    #[error("{path} cannot be read: {reason}")]
    Malformed {
        /// the file
        path: PathBuf,
        /// what is wrong with it
        reason: String,
    },
    /// A folder holds another format, or another version of it.
    #[error(
        "{path} holds {found} but this program reads {expected}; \
         use the program that wrote it, or write the folder anew"
    )]
    Version {
        /// the manifest
        path: PathBuf,
        /// format and version as found
        found: String,
        /// format and version that were asked for
        expected: String,
    },
    /// What workers share is gone.
    #[error("{place} is no longer what it was: the run is over, or another was begun in its place")]
    Ended {
        /// the object by which the run is known
        place: String,
    },
    /// A folder is in use.
    #[error("{dir} is in use by process {holder}; wait for it, or choose another folder")]
    Locked {
        /// the locked folder
        dir: PathBuf,
        /// the process id of the holder, or "unknown"
        holder: String,
    },
}

impl Error {
    /// Wraps an [`io::Error`], telling a full disk from everything else.
    #[must_use]
    pub fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        let full = matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        );
        if full { Self::Full { path, source } } else { Self::Io { action, path, source } }
    }

    /// Whether the machine is at fault (no room, in use), not the data.
    #[must_use]
    pub fn is_resource(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Locked { .. })
    }
}
