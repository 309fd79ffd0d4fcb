//! A case file and what its keys mean: rows of tokens as packed documents. It computes nothing.

use crate::Error;
use quipu_model::Packed;
use quipu_model::tensor_file::TensorFile;
use std::path::{Path, PathBuf};

/// An open case.
pub(crate) struct Case {
    file: TensorFile,
}

impl Case {
    pub(crate) fn open(path: &Path) -> Result<Case, Error> {
        Ok(Case { file: TensorFile::open(path)? })
    }

    /// The folder the case lies in.
    pub(crate) fn folder(&self) -> PathBuf {
        self.file.path().parent().unwrap_or(Path::new(".")).into()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.file.has(name)
    }

    pub(crate) fn floats(&self, name: &str) -> Result<Vec<f64>, Error> {
        Ok(self.file.floats(name)?)
    }

    pub(crate) fn tokens(&self, name: &str) -> Result<Vec<u32>, Error> {
        Ok(self.file.tokens(name)?)
    }

    pub(crate) fn shape(&self, name: &str) -> Result<&[usize], Error> {
        Ok(self.file.shape(name)?)
    }

    /// Names that begin with `prefix`, without it.
    pub(crate) fn names_after<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.file.names().filter_map(move |name| name.strip_prefix(prefix))
    }

    /// The first few names, for errors.
    pub(crate) fn some_names(&self) -> String {
        let names: Vec<&str> = self.file.names().take(8).collect();
        if names.is_empty() { "none".into() } else { names.join(", ") }
    }

    pub(crate) fn wrong(&self, found: String, expected: &str) -> Error {
        Error::Case { path: self.file.path().into(), found, expected: expected.into() }
    }

    /// Tokens of shape [rows, width] as rows.
    pub(crate) fn rows(&self, name: &str) -> Result<Vec<Vec<u32>>, Error> {
        let tokens = self.tokens(name)?;
        match *self.shape(name)? {
            [rows, width] if rows > 0 && width > 0 => {
                Ok(tokens.chunks(width).map(Vec::from).collect())
            }
            ref other => Err(self.wrong(format!("{name} of shape {other:?}"), "[rows, tokens]")),
        }
    }

    /// The documents of `input_ids`: its rows, or the pieces that `lengths` cuts its one row into.
    pub(crate) fn documents(&self) -> Result<Packed, Error> {
        let rows = self.rows("input_ids")?;
        if !self.has("lengths") {
            return Ok(Packed::of(rows.iter().map(Vec::as_slice)));
        }
        let lengths = self.tokens("lengths")?;
        let row = rows.concat();
        let sum: u64 = lengths.iter().map(|n| u64::from(*n)).sum();
        if sum != row.len() as u64 {
            return Err(
                self.wrong(format!("lengths that add up to {sum}"), &format!("{}", row.len()))
            );
        }
        let mut rest = row.as_slice();
        let cut = |n: &u32| {
            let (document, after) = rest.split_at(*n as usize);
            rest = after;
            document
        };
        Ok(Packed::of(lengths.iter().map(cut)))
    }
}
