//! Parquet files and documents folders as pages: rows, cut at row groups, or at the files of a
//! folder.
//!
//! A row's position is its number in its file, so that it does not depend on where reading began.
//! Not here: columns and their names, which crate `documents` knows.

use super::{Body, Found, Input, Page, Range, Stream};
use crate::Error;
use crate::remote::Access;
use quipu_documents::{Reader, Source, files, row_groups, row_groups_of, verify};
use std::sync::Arc;

/// Bytes of each unit: of a file's row groups, or of a folder's files.
pub(super) fn sizes(input: &Input, access: &Access) -> Result<Vec<u64>, Error> {
    let path = &input.path;
    if let Some(source) = elsewhere(input, access)? {
        return Ok(row_groups_of(path, source)?);
    }
    if !path.is_dir() {
        return Ok(row_groups(path)?);
    }
    let size = |file: &std::path::PathBuf| std::fs::metadata(file).map(|data| data.len());
    files(path)?.iter().map(|file| size(file).map_err(Error::io(file))).collect()
}

/// A file that lies elsewhere.
fn elsewhere(input: &Input, access: &Access) -> Result<Option<Arc<dyn Source>>, Error> {
    let Some(stamp) = input.stamps.first() else { return Ok(None) };
    Ok(Some(Arc::new(access.positioned(&input.path, stamp)?)))
}

/// Opens a range. A folder of ours that is opened as a whole is verified first; for ranges that is
/// done when it is cut.
pub(super) fn open(input: &Input, range: Range, access: &Access) -> Result<Stream, Error> {
    let path = &input.path;
    if let Some(source) = elsewhere(input, access)? {
        let reader = Reader::open_groups_of(path, source, range.from, range.to)?;
        return Ok(Box::new(pages(reader, &input.called())));
    }
    if !path.is_dir() {
        let reader = Reader::open_groups(path, range.from, range.to)?;
        return Ok(Box::new(pages(reader, &input.called())));
    }
    if range == Range::WHOLE {
        verify(path)?;
    }
    let bound = |n: u64, count: usize| usize::try_from(n).unwrap_or(usize::MAX).min(count);
    let files = files(path)?;
    let (from, to) = (bound(range.from, files.len()), bound(range.to, files.len()));
    let files: Vec<_> = files[from..to].to_vec();
    Ok(Box::new(files.into_iter().flat_map(|file| -> Stream {
        let name = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        match Reader::open_groups(&file, 0, u64::MAX) {
            Ok(reader) => Box::new(pages(reader, &name)),
            Err(e) => Box::new(std::iter::once(Err(e.into()))),
        }
    })))
}

/// The pages of a file; `called` stands before the numbers of its rows.
fn pages(
    reader: Reader,
    called: &str,
) -> impl Iterator<Item = Result<Found, Error>> + Send + use<> {
    let (mut reader, called) = (reader.called(called), called.to_owned());
    std::iter::from_fn(move || {
        let row = reader.row();
        let document = match reader.next()? {
            Ok(document) => document,
            Err(quipu_documents::Error::Row { path, row, reason }) => {
                let place = format!("{}#{row}", path.display());
                return Some(Ok(Found::Damaged(place, reason.to_owned())));
            }
            Err(e) => return Some(Err(e.into())),
        };
        let (url, date) = (document.url.clone(), document.date);
        let (position, name) = (format!("{called}#{row}"), document.known_as().to_string());
        let body = Body::Document(Box::new(document));
        Some(Ok(Found::Page(Page { position, name, url, date, body })))
    })
}
