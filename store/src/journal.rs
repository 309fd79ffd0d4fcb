//! A file of JSON lines that grows: each line is there whole or, after a kill, cut; a cut last
//! line is dropped on opening. For metrics and finished work units. Not for bulk data.

use crate::Error;
use crate::growing::Growing;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// An open journal, at its end.
pub struct Journal {
    out: Growing,
}

impl Journal {
    /// Opens or creates a journal; returns it with the lines it holds. A cut last line is removed
    /// from the file.
    ///
    /// # Errors
    /// When the system refuses, or a line before the last is not JSON (the file is damaged).
    pub fn open(path: &Path) -> Result<(Self, Vec<Value>), Error> {
        let (lines, kept) = parse(path, usize::MAX)?;
        Ok((Self { out: Growing::open(path, kept)? }, lines))
    }

    /// Opens a journal keeping only its first `lines` lines: what a resume from a checkpoint that
    /// was written after that many lines needs.
    ///
    /// # Errors
    /// As [`Journal::open`]; and when the journal has fewer lines.
    pub fn open_at(path: &Path, lines: usize) -> Result<(Self, Vec<Value>), Error> {
        let (values, kept) = parse(path, lines)?;
        if values.len() < lines {
            let reason = format!("it has {} lines where {lines} were written", values.len());
            return Err(Error::Malformed { path: path.to_path_buf(), reason });
        }
        Ok((Self { out: Growing::open(path, kept)? }, values))
    }

    /// Appends one line. It is durable after [`Journal::sync`].
    ///
    /// # Errors
    /// When the disk is full or the system refuses.
    pub fn append(&mut self, line: &Value) -> Result<(), Error> {
        self.out.append(format!("{line}\n").as_bytes())
    }

    /// Makes all appended lines durable.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn sync(&mut self) -> Result<(), Error> {
        self.out.sync()
    }
}

/// Reads a journal without opening it for writing; a missing one is empty.
///
/// # Errors
/// When it cannot be read, or a line before the last is not JSON.
pub fn read(path: &Path) -> Result<Vec<Value>, Error> {
    Ok(parse(path, usize::MAX)?.0)
}

/// The first `most` lines, and how many bytes they take.
fn parse(path: &Path, most: usize) -> Result<(Vec<Value>, u64), Error> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
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
    Ok((values, kept as u64))
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
