//! Looks for a few documents or fates among many: only the columns that decide are read of all
//! rows, the others of the rows that were found. Memory is one batch and what is found. Files of ours
//! only. Not here: an index; a file is read through.

use crate::{Document, Error, Fate, schema};
use std::path::Path;

/// The documents of one Parquet file that `wanted` admits by identity (as printed) and URL.
///
/// # Errors
/// A file that cannot be read.
pub fn find_documents(
    path: &Path,
    mut wanted: impl FnMut(&str, &str) -> bool,
) -> Result<Vec<Document>, Error> {
    let rows = schema::rows_where(path, ["id", "url"], |[id, url]| wanted(id, url))?;
    let mut found = Vec::with_capacity(rows.len());
    if rows.is_empty() {
        return Ok(found);
    }
    for batch in schema::batches_of(path, &rows)? {
        for document in schema::documents_from_batch(path, "", &batch?, 0)? {
            found.push(document?);
        }
    }
    Ok(found)
}

/// The fates of one Parquet file that `wanted` admits by identity (as printed), URL and detail.
///
/// # Errors
/// A file that cannot be read.
pub fn find_fates(
    path: &Path,
    mut wanted: impl FnMut(&str, &str, &str) -> bool,
) -> Result<Vec<Fate>, Error> {
    let columns = ["id", "url", "detail"];
    let rows = schema::rows_where(path, columns, |[id, url, detail]| wanted(id, url, detail))?;
    let mut found = Vec::with_capacity(rows.len());
    if rows.is_empty() {
        return Ok(found);
    }
    for batch in schema::batches_of(path, &rows)? {
        found.extend(schema::fates_from_batch(path, &batch?)?);
    }
    Ok(found)
}

/// The document in row number `row` of a Parquet file, if there are so many.
///
/// # Errors
/// A file that cannot be read.
pub fn document_at(path: &Path, row: usize) -> Result<Option<Document>, Error> {
    if row >= schema::count(path)? {
        return Ok(None);
    }
    for batch in schema::batches_of(path, &[row])? {
        let found = schema::documents_from_batch(path, "", &batch?, row as u64)?;
        if let Some(document) = found.into_iter().next() {
            return document.map(Some);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Id, write_fates, write_file};

    #[test]
    fn rows_are_found_wherever_they_stand() {
        let dir = tempfile::tempdir().unwrap();
        let (file, fates) = (dir.path().join("d.parquet"), dir.path().join("f.parquet"));
        let document = |n: u128| Document {
            id: Id(n),
            url: format!("u{n}"),
            text: format!("text {n}"),
            ..Document::default()
        };
        let rows: Vec<Document> = (0..9_000).map(document).collect();
        write_file(&file, &rows).unwrap();
        for wanted in [vec![0], vec![8_999], vec![255, 256, 8_191, 8_192], Vec::new()] {
            let urls: Vec<String> = wanted.iter().map(|n| format!("u{n}")).collect();
            let found = find_documents(&file, |_, url| urls.iter().any(|u| u == url)).unwrap();
            let expected: Vec<Document> = wanted.iter().map(|n| document(*n)).collect();
            assert_eq!(found, expected);
        }
        assert_eq!(document_at(&file, 8_500).unwrap(), Some(document(8_500)));
        assert_eq!(document_at(&file, 9_000).unwrap(), None);
        let fate = |n: u128| Fate { id: Id(n), detail: format!("d{n}"), ..Fate::default() };
        write_fates(&fates, &(0..600).map(fate).collect::<Vec<_>>()).unwrap();
        let (id, mut seen) = (Id(300).to_string(), 0);
        let found = find_fates(&fates, |own, _, detail| {
            seen += 1;
            own == id || detail == "d7"
        });
        assert_eq!((found.unwrap(), seen), (vec![fate(7), fate(300)], 600));
    }

    /// The Parquet reader panics on some of these, and would not end on some if it had to skip rows.
    #[test]
    fn damaged_bytes_are_an_error_or_other_rows() {
        let dir = tempfile::tempdir().unwrap();
        let (file, fates) = (dir.path().join("d.parquet"), dir.path().join("f.parquet"));
        let row = |n: u128| Document { id: Id(n), url: format!("u{n}"), ..Document::default() };
        write_file(&file, &[row(1), row(2), row(3)]).unwrap();
        write_fates(&fates, &[Fate { id: Id(4), detail: "d".into(), ..Fate::default() }]).unwrap();
        let mut refused = 0;
        for path in [&file, &fates] {
            let whole = std::fs::read(path).unwrap();
            for at in 0..whole.len() {
                let mut bytes = whole.clone();
                bytes[at] = !bytes[at];
                std::fs::write(path, bytes).unwrap();
                let found = if path == &file {
                    refused += usize::from(document_at(path, 1).is_err());
                    let _ = find_documents(path, |id, _| id.ends_with('2'));
                    find_documents(path, |_, _| true).map(drop)
                } else {
                    find_fates(path, |_, _, _| true).map(drop)
                };
                refused += usize::from(found.is_err());
            }
        }
        assert!(refused > 100, "{refused}");
    }

    #[test]
    fn a_file_without_the_columns_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("d.parquet");
        write_file(&file, &[Document::default()]).unwrap();
        let message = find_fates(&file, |_, _, _| true).unwrap_err().to_string();
        assert!(message.contains("d.parquet") && message.contains("`detail`"), "{message}");
    }
}
