//! A file elsewhere as `Read + Seek`, by range requests: in order a block ahead of the reader, or
//! at any offset over the blocks that were used last.
//!
//! Blocks grow from a small first one, which tells what a file is, to [`BLOCK`]; the next is asked
//! for when the reader comes to a second one in a row. Memory is two blocks a reader. A file of up
//! to [`SMALL`] bytes is fetched at once. Not here: the requests ([`super::client`]).

use super::Access;
use super::client::{Object, Pending};
use bytes::Bytes;
use quipu_documents::Source;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Bytes of the first block: what a file is can be told from them.
const HEAD: u64 = 16 << 10;
/// Bytes of a block when reading goes on.
const BLOCK: u64 = 4 << 20;
/// Bytes of a block behind the expected end of reading: what is read there is the end of a record.
const BEHIND: u64 = 512 << 10;
/// Blocks grow by this.
const GROWTH: u64 = 16;
/// Bytes up to which a file is fetched at once.
const SMALL: u64 = 1 << 20;
/// Bytes of a block where columns are read side by side, and how many of them are kept.
const SIDE: u64 = 1 << 20;
/// See [`SIDE`]; more than a schema of ours has columns.
const KEPT: usize = 24;

/// A file elsewhere, read in order.
pub(crate) struct Stream {
    access: Access,
    object: Object,
    /// Where reading is expected to end.
    until: u64,
    at: u64,
    /// The block at hand, and where it begins.
    block: (u64, Bytes),
    /// The block that is on its way.
    next: Option<(Range<u64>, Pending<Bytes>)>,
    /// Bytes of the block that was asked for last.
    step: u64,
}

impl Stream {
    pub(super) fn new(access: Access, object: Object, until: u64) -> Stream {
        let block = (0, Bytes::new());
        Stream { access, object, until, at: 0, block, next: None, step: 0 }
    }

    fn size(&self) -> u64 {
        self.object.stamp.bytes
    }

    /// The block that is to be asked for from an offset on.
    fn range(&mut self, from: u64) -> Range<u64> {
        let size = self.size();
        if size <= SMALL {
            return 0..size;
        }
        self.step = match self.step {
            0 if from > 0 => HEAD * GROWTH,
            0 => HEAD,
            step => (step * GROWTH).min(BLOCK),
        };
        let length = match self.until {
            until if until > from => self.step.min((until - from).max(HEAD)),
            _ => self.step.min(BEHIND),
        };
        from..(from + length).min(size)
    }

    /// Puts the block at hand in which the reader stands.
    fn load(&mut self) -> io::Result<()> {
        let waiting = self.next.take().filter(|(range, _)| range.contains(&self.at));
        // Who enters a file in the middle means to read on.
        let entered = self.at > 0 && self.step == 0;
        let in_a_row = entered || waiting.is_some() || (self.at > 0 && self.at == self.end());
        let (range, bytes) = match waiting {
            Some((range, pending)) => (range, self.access.wait(pending)?),
            None => {
                let first = self.at == 0 && self.step == 0;
                let range = self.range(self.at);
                (range.clone(), self.ask(range, first)?)
            }
        };
        self.block = (range.start, bytes);
        if in_a_row && range.end < self.size() && range.end < self.until {
            let range = self.range(range.end);
            let pending = self.access.client()?.fetch(&self.object, range.clone());
            self.next = Some((range, pending));
        }
        Ok(())
    }

    fn ask(&self, range: Range<u64>, first: bool) -> io::Result<Bytes> {
        let (place, stamp) = (&self.object.place, &self.object.stamp);
        if first && let Some(bytes) = self.access.head(place, stamp) {
            return Ok(bytes);
        }
        let bytes = self.access.wait(self.access.client()?.fetch(&self.object, range))?;
        if first && bytes.len() as u64 <= HEAD {
            self.access.remember(place, stamp, &bytes);
        }
        Ok(bytes)
    }

    /// Where the block at hand ends.
    fn end(&self) -> u64 {
        self.block.0 + self.block.1.len() as u64
    }
}

impl Read for Stream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.size() || out.is_empty() {
            return Ok(0);
        }
        if self.at < self.block.0 || self.at >= self.end() {
            self.load()?;
        }
        let rest = &self.block.1[(self.at - self.block.0) as usize..];
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Stream {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        let before = || io::Error::new(io::ErrorKind::InvalidInput, "before the beginning");
        self.at = at.ok_or_else(before)?;
        Ok(self.at)
    }
}

/// A file elsewhere, read at any offset: columns of Parquet, which lie side by side.
pub(crate) struct Positioned {
    access: Access,
    object: Object,
    /// Numbers and bytes of the blocks that were used last, the latest behind.
    blocks: Mutex<Vec<(u64, Bytes)>>,
}

impl Positioned {
    pub(super) fn new(access: Access, object: Object) -> Positioned {
        Positioned { access, object, blocks: Mutex::default() }
    }

    fn block(&self, number: u64) -> io::Result<Bytes> {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = blocks.iter().position(|(of, _)| *of == number) {
            let found = blocks.remove(at);
            blocks.push(found.clone());
            return Ok(found.1);
        }
        let from = number * SIDE;
        let range = from..(from + SIDE).min(self.object.stamp.bytes);
        let bytes = self.access.wait(self.access.client()?.fetch(&self.object, range))?;
        if blocks.len() >= KEPT {
            blocks.remove(0);
        }
        blocks.push((number, bytes.clone()));
        Ok(bytes)
    }
}

impl Source for Positioned {
    fn length(&self) -> u64 {
        self.object.stamp.bytes
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        if offset >= self.object.stamp.bytes || out.is_empty() {
            return Ok(0);
        }
        let block = self.block(offset / SIDE)?;
        let rest = &block[(offset % SIDE) as usize..];
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}
