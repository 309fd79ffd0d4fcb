//! A file of JSON lines that grows: each line is there whole or, after a kill, cut; a cut last
//! line is dropped on opening. For metrics and finished work units. Not for bulk data.

use crate::{Error, atomic, atomic::Counted};
use serde_json::Value;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// An open journal, at its end.
pub struct Journal {
    path: PathBuf,
    out: Counted,
}

impl Journal {
    /// Opens or creates a journal; returns it with the lines it holds. A cut last line is removed
    /// from the file.
    ///
    /// # Errors
    /// When the system refuses, or a line before the last is not JSON (the file is damaged).
    pub fn open(path: &Path) -> Result<(Self, Vec<Value>), Error> {
        let lines = repair(path, usize::MAX)?;
        let created = !path.exists();
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(|e| Error::io("open", path, e))?;
        if created {
            atomic::sync_parent(path)?;
        }
        Ok((Self { path: path.to_path_buf(), out: Counted(file) }, lines))
    }

    /// Opens a journal keeping only its first `lines` lines: what a resume from a checkpoint that
    /// was written after that many lines needs.
    ///
    /// # Errors
    /// As [`Journal::open`]; and when the journal has fewer lines.
    pub fn open_at(path: &Path, lines: usize) -> Result<(Self, Vec<Value>), Error> {
        let kept = repair(path, lines)?;
        if kept.len() < lines {
            let reason = format!("it has {} lines where {lines} were written", kept.len());
            return Err(Error::Malformed { path: path.to_path_buf(), reason });
        }
        Self::open(path)
    }

    /// Appends one line. It is durable after [`Journal::sync`].
    ///
    /// # Errors
    /// When the disk is full or the system refuses.
    pub fn append(&mut self, line: &Value) -> Result<(), Error> {
        let text = format!("{line}\n");
        self.out.write_all(text.as_bytes()).map_err(|e| Error::io("write", &self.path, e))
    }

    /// Makes all appended lines durable.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn sync(&mut self) -> Result<(), Error> {
        self.out.0.sync_data().map_err(|e| Error::io("sync", &self.path, e))
    }
}

/// Reads a journal without opening it for writing; a missing one is empty.
///
/// # Errors
/// When it cannot be read, or a line before the last is not JSON.
pub fn read(path: &Path) -> Result<Vec<Value>, Error> {
    Ok(parse(path, usize::MAX)?.0)
}

fn parse(path: &Path, most: usize) -> Result<(Vec<Value>, usize, usize), Error> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), 0, 0)),
        Err(e) => return Err(Error::io("read", path, e)),
    };
    let (mut values, mut kept) = (Vec::new(), 0);
    while let Some(length) = bytes[kept..].iter().position(|b| *b == b'\n') {
        if values.len() == most {
            break;
        }
        let value = serde_json::from_slice(&bytes[kept..kept + length]).map_err(|e| {
            let reason = format!("line {} is not JSON: {e}", values.len() + 1);
            Error::Malformed { path: path.to_path_buf(), reason }
        })?;
        values.push(value);
        kept += length + 1;
    }
    Ok((values, kept, bytes.len()))
}

fn repair(path: &Path, most: usize) -> Result<Vec<Value>, Error> {
    let (values, kept, length) = parse(path, most)?;
    if kept < length {
        OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|file| file.set_len(kept as u64).and_then(|()| file.sync_all()))
            .map_err(|e| Error::io("repair", path, e))?;
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_cut_line_is_dropped_and_the_rest_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let (mut journal, lines) = Journal::open(&path).unwrap();
        assert!(lines.is_empty());
        journal.append(&json!({"step": 1, "loss": 2.5})).unwrap();
        journal.append(&json!({"step": 2})).unwrap();
        journal.sync().unwrap();
        drop(journal);
        let whole = fs::read(&path).unwrap();
        for cut in 0..=whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let expected = whole[..cut].iter().filter(|b| **b == b'\n').count();
            assert_eq!(read(&path).unwrap().len(), expected);
            let (mut journal, lines) = Journal::open(&path).unwrap();
            assert_eq!(lines.len(), expected);
            journal.append(&json!({"step": 9})).unwrap();
            drop(journal);
            assert_eq!(read(&path).unwrap().len(), expected + 1);
        }
    }

    #[test]
    fn a_resume_goes_back_to_the_checkpoints_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m");
        fs::write(&path, "1\n2\n3\n4").unwrap();
        let (journal, lines) = Journal::open_at(&path, 2).unwrap();
        drop(journal);
        assert_eq!((lines.len(), fs::read_to_string(&path).unwrap().as_str()), (2, "1\n2\n"));
        assert!(Journal::open_at(&path, 3).is_err());
    }

    #[test]
    fn damage_before_the_end_is_an_error_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m");
        fs::write(&path, "1\n{x\n3\n").unwrap();
        let error = Journal::open(&path).err().unwrap().to_string();
        assert!(error.contains("line 2"), "{error}");
    }
}
