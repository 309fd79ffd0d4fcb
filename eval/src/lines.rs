//! JSON Lines of examinations and prompts. Not here: JSON Lines as a corpus (`corpus`).

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::Error;

/// Reads each non-empty line of a file.
///
/// # Errors
/// [`Error::Read`], or [`Error::Line`] with the first line that does not fit.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, Error> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let parse = |(at, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|e| Error::Line {
            path: path.to_owned(),
            line: at + 1,
            reason: e.to_string(),
        })
    };
    text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()).map(parse).collect()
}
