//! Inputs cut into ranges that can be read alone: the units of work of a run.
//!
//! A cut depends on the input and the size asked for, on nothing else, and what is read from all
//! ranges in order is what is read from the whole, each page with the same position. Compressed
//! crawls are cut at any byte (the reader finds the first start of a member, `warc::start`); lines
//! likewise, compressed or not; crawls that are not compressed at records, which are sought by
//! reading, since nothing else tells a record from a page that shows one. Compressed lines in which
//! no member begins where the second range would, and texts, are one range.

use super::{Input, Kind, Stream, crawl, folder, json_lines, parquet, text};
use crate::Error;
use crate::remote::Access;
use serde::{Deserialize, Serialize};

/// A part of an input that is read alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Range {
    /// First byte, file of a folder or row group.
    pub from: u64,
    /// The one behind the last.
    pub to: u64,
}

impl Range {
    /// All there is.
    pub const WHOLE: Range = Range { from: 0, to: u64::MAX };
}

/// Ranges of about `bytes` each over things of these sizes.
pub(super) fn group(sizes: impl Iterator<Item = u64>, bytes: u64) -> Vec<Range> {
    let (mut ranges, mut from, mut have, mut count) = (Vec::new(), 0, 0u64, 0);
    for size in sizes {
        if count > from && have.saturating_add(size / 2) > bytes {
            ranges.push(Range { from, to: count });
            (from, have) = (count, 0);
        }
        have = have.saturating_add(size);
        count += 1;
    }
    ranges.push(Range { from, to: count.max(1) });
    ranges
}

/// Ranges of `bytes` each over so many bytes; a short rest goes with the last.
fn even(size: u64, bytes: u64) -> Vec<Range> {
    let count = (size / bytes.max(1)).max(1);
    let at = |n: u64| if n == count { size } else { n * bytes };
    (0..count).map(|n| Range { from: at(n), to: at(n + 1) }).collect()
}

impl Input {
    /// Bytes of the input as it lies there.
    ///
    /// # Errors
    /// A file that is gone.
    pub fn bytes(&self, access: &Access) -> Result<u64, Error> {
        if self.files.is_empty() && self.path.is_dir() {
            return Ok(parquet::sizes(self, access)?.iter().sum());
        }
        Ok(self.sizes()?.iter().sum())
    }

    /// The input in ranges of about `bytes` bytes each, in order. At least one; one may hold
    /// nothing, where a page is longer than a range.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn ranges(&self, bytes: u64, access: &Access) -> Result<Vec<Range>, Error> {
        let size = || self.bytes(access);
        match self.kind {
            Kind::Html if !self.files.is_empty() => Ok(group(self.sizes()?.into_iter(), bytes)),
            Kind::Warc if self.packed => Ok(even(size()?, bytes)),
            Kind::Warc => crawl::cut(self, size()?, bytes, access),
            Kind::JsonLines => {
                let ranges = even(size()?, bytes);
                let cut = match ranges.get(1) {
                    Some(second) if self.packed => json_lines::has_start(self, *second, access)?,
                    _ => true,
                };
                Ok(if cut { ranges } else { vec![Range { from: 0, to: size()? }] })
            }
            Kind::Parquet => {
                quipu_documents::verify(&self.path)?;
                Ok(group(parquet::sizes(self, access)?.into_iter(), bytes))
            }
            Kind::Html | Kind::Text | Kind::Markdown => Ok(vec![Range { from: 0, to: size()? }]),
        }
    }

    /// Opens one of the ranges that [`Input::ranges`] returned. `piece_bytes`: plain text is split
    /// into pieces of about this size. `limit`: files of a folder with a larger key are not even
    /// read; other pages are for the caller to leave out, by their key.
    ///
    /// # Errors
    /// A file that cannot be opened, or is not what it was recognised as.
    pub(crate) fn open_range(
        &self,
        range: Range,
        piece_bytes: usize,
        limit: u64,
        access: &Access,
    ) -> Result<Stream, Error> {
        match self.kind {
            Kind::Warc => crawl::open(self, range, access),
            Kind::Html => folder::open_html(self, range, limit, access),
            Kind::Text => text::open(self, piece_bytes, false, access),
            Kind::Markdown => text::open(self, piece_bytes, true, access),
            Kind::JsonLines => json_lines::open(self, range, access),
            Kind::Parquet => parquet::open(self, range, access),
        }
    }

    /// Opens the whole input.
    ///
    /// # Errors
    /// A file that cannot be opened, or is not what it was recognised as.
    pub fn open(&self, piece_bytes: usize, access: &Access) -> Result<Stream, Error> {
        self.open_range(Range::WHOLE, piece_bytes, u64::MAX, access)
    }
}

#[cfg(test)]
#[path = "range_tests.rs"]
mod tests;
