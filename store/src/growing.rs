//! A file that grows: bytes are appended at its end, and a resume cuts it back to where its last
//! whole record ends. What a record is, its owner knows. Not for files that are there whole or not
//! at all (see [`crate::atomic`]).

use crate::{Error, atomic, atomic::Counted};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// An open file, at its end.
pub struct Growing {
    path: PathBuf,
    out: Counted,
}

impl Growing {
    /// Opens or creates a file, keeping its first `kept` bytes; what is cut off is gone for good
    /// when this returns.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn open(path: &Path, kept: u64) -> Result<Self, Error> {
        let created = !path.exists();
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(|e| Error::io("open", path, e))?;
        if created {
            atomic::sync_parent(path)?;
        }
        let length = file.metadata().map_err(|e| Error::io("read", path, e))?.len();
        if kept < length {
            file.set_len(kept)
                .and_then(|()| file.sync_all())
                .map_err(|e| Error::io("repair", path, e))?;
        }
        Ok(Self { path: path.to_path_buf(), out: Counted(file) })
    }

    /// Appends `bytes`. They are durable after [`Growing::sync`].
    ///
    /// # Errors
    /// When the disk is full or the system refuses.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes).map_err(|e| Error::io("write", &self.path, e))
    }

    /// Makes all appended bytes durable.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn sync(&mut self) -> Result<(), Error> {
        self.out.0.sync_data().map_err(|e| Error::io("sync", &self.path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_stays_and_the_rest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let check = |kept: u64, more: &str, expected: &str| {
            let mut file = Growing::open(&path, kept).unwrap();
            file.append(more.as_bytes()).unwrap();
            file.sync().unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
        };
        check(0, "abcdef", "abcdef");
        check(4, "xy", "abcdxy");
        check(u64::MAX, "z", "abcdxyz");
        check(0, "", "");
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = Growing::open(Path::new("nowhere/f"), 0).err().unwrap().to_string();
        assert!(error.contains("nowhere/f"), "{error}");
    }
}
