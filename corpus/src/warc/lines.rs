//! Lines and blocks of a crawl, each with the place where it begins.
//!
//! What is at hand may come from several members, but a member that begins a record is not joined
//! to what stands before it: the reader stops there until it asks for the next record, so that a
//! record with a wrong length costs itself and not the one behind it. Not here: what a record is.

use super::MAX_HEADER;
use super::inflate::Inflated;
use super::start::{FIRST, begins_record};
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read};

/// Where something begins in a file: the same wherever reading began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Offset of the member; in a file that is not compressed, of the thing itself.
    pub member: u64,
    /// Inflated bytes of the member before it; 0 in a file that is not compressed.
    pub inside: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.inside {
            0 => write!(f, "{}", self.member),
            inside => write!(f, "{}+{inside}", self.member),
        }
    }
}

/// Where bytes that are read next come from, to go back to them.
pub(super) struct Mark(VecDeque<(Place, u64)>);

/// Bytes taken from the stream at a time.
const STEP: usize = 64 << 10;

/// Lines and blocks of a stream.
pub(super) struct Lines<R: Read> {
    stream: Inflated<R>,
    buffer: Vec<u8>,
    from: usize,
    /// Where the bytes at hand come from: a place and how many from there on.
    pieces: VecDeque<(Place, u64)>,
    /// The first bytes of a member that begins a record, not yet let in.
    gated: Option<(Place, Vec<u8>)>,
    /// The member whose bytes came last.
    last: Option<u64>,
    /// Inflated bytes of it that came.
    inside: u64,
    arc: bool,
    /// What looking ahead met, for whoever reads on to here.
    failed: Option<io::Error>,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(stream: Inflated<R>, arc: bool) -> Lines<R> {
        let (buffer, pieces) = (Vec::new(), VecDeque::new());
        let (gated, last, failed) = (None, None, None);
        Lines { stream, buffer, from: 0, pieces, gated, last, inside: 0, arc, failed }
    }

    /// Where the next byte is; `None` at the end, or in front of a record.
    pub(super) fn place(&mut self) -> io::Result<Option<Place>> {
        if self.at_hand().is_empty() {
            self.fill()?;
        }
        Ok(self.pieces.front().map(|piece| piece.0))
    }

    /// Whether the file is compressed.
    pub(super) fn is_packed(&self) -> bool {
        self.stream.is_packed()
    }

    /// The member that is being inflated.
    pub(super) fn member(&self) -> u64 {
        self.stream.member()
    }

    /// From now on lines of ARC begin records.
    pub(super) fn expect_arc(&mut self) {
        self.arc = true;
    }

    /// Lets in the member that begins a record; `false` where none waits.
    pub(super) fn pass(&mut self) -> bool {
        let Some((place, bytes)) = self.gated.take() else { return false };
        self.take_in(place, &bytes);
        true
    }

    fn take_in(&mut self, place: Place, bytes: &[u8]) {
        self.pieces.push_back((place, bytes.len() as u64));
        self.buffer.extend_from_slice(bytes);
    }

    /// More bytes behind those at hand; `false` at the end, or in front of a record.
    fn fill(&mut self) -> io::Result<bool> {
        if let Some(e) = self.failed.take() {
            return Err(e);
        }
        if self.gated.is_some() {
            return Ok(false);
        }
        if self.from > 0 {
            self.buffer.drain(..self.from);
            self.from = 0;
        }
        let mut bytes = vec![0; STEP];
        let mut have = self.stream.read(&mut bytes)?;
        if have == 0 {
            return Ok(false);
        }
        let member = self.stream.member();
        let first = self.last != Some(member);
        if first {
            (self.last, self.inside) = (Some(member), 0);
        }
        if first && self.stream.is_packed() {
            while have < FIRST {
                match self.stream.more(&mut bytes[have..])? {
                    0 => break,
                    n => have += n,
                }
            }
        }
        bytes.truncate(have);
        let place = match self.stream.is_packed() {
            true => Place { member, inside: self.inside },
            false => Place { member: member + self.inside, inside: 0 },
        };
        self.inside += have as u64;
        if first && self.stream.is_packed() && begins_record(&bytes, self.arc) {
            self.gated = Some((place, bytes));
            return Ok(false);
        }
        self.take_in(place, &bytes);
        Ok(true)
    }

    fn consume(&mut self, count: usize) {
        self.from += count;
        let mut left = count as u64;
        while let Some((place, length)) = self.pieces.front_mut() {
            if left < *length {
                *length -= left;
                match self.stream.is_packed() {
                    true => place.inside += left,
                    false => place.member += left,
                }
                return;
            }
            left -= *length;
            self.pieces.pop_front();
        }
    }

    fn at_hand(&self) -> &[u8] {
        &self.buffer[self.from..]
    }

    /// One line with its end, cut at [`MAX_HEADER`] bytes; `None` at the end, or in front of a
    /// record.
    pub(super) fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            let bytes = self.at_hand();
            let end = memchr::memchr(b'\n', &bytes[searched..]).map(|i| searched + i + 1);
            searched = bytes.len();
            let end = end.or((searched >= MAX_HEADER).then_some(searched));
            if let Some(end) = end {
                let line = bytes[..end].to_vec();
                self.consume(end);
                return Ok(Some(line));
            }
            if !self.fill()? {
                let rest = self.at_hand().to_vec();
                self.consume(rest.len());
                return Ok((!rest.is_empty()).then_some(rest));
            }
        }
    }

    /// The next `wanted` bytes, fewer at the end or in front of a record. Memory grows with what
    /// is there: the length is a claim of the file.
    pub(super) fn bytes(&mut self, wanted: usize) -> io::Result<Vec<u8>> {
        let mut block = Vec::with_capacity(wanted.min(STEP));
        while block.len() < wanted {
            if self.at_hand().is_empty() && !self.fill()? {
                break;
            }
            let step = self.at_hand().len().min(wanted - block.len());
            block.extend_from_slice(&self.at_hand()[..step]);
            self.consume(step);
        }
        Ok(block)
    }

    /// Passes over `count` bytes; returns how many there were.
    pub(super) fn skip(&mut self, count: u64) -> io::Result<u64> {
        let mut passed = 0;
        while passed < count {
            if self.at_hand().is_empty() && !self.fill()? {
                break;
            }
            let step = (self.at_hand().len() as u64).min(count - passed);
            self.consume(step as usize);
            passed += step;
        }
        Ok(passed)
    }

    /// At least `wanted` bytes without taking them, unless there are fewer up to the end, a record
    /// or damage, which is reported when it is read.
    pub(super) fn peek(&mut self, wanted: usize) -> &[u8] {
        while self.at_hand().len() < wanted {
            match self.fill() {
                Ok(true) => {}
                Ok(false) => break,
                Err(e) => {
                    self.failed = Some(e);
                    break;
                }
            }
        }
        self.at_hand()
    }

    /// Remembers where the reader stands.
    pub(super) fn mark(&self) -> Mark {
        Mark(self.pieces.clone())
    }

    /// Goes back to `bytes`, the end of a block that was read last; `mark` was made `before` bytes
    /// in front of them. Places are those of the first piece, which holds for a file that is not
    /// compressed and within a member; in others they may be those of an earlier member.
    pub(super) fn go_back(&mut self, bytes: &[u8], before: usize, mark: Mark) {
        let place = mark.0.front().map_or_else(Place::default, |piece| piece.0);
        let place = match self.stream.is_packed() {
            true => Place { inside: place.inside + before as u64, ..place },
            false => Place { member: place.member + before as u64, ..place },
        };
        let mut buffer = bytes.to_vec();
        buffer.extend_from_slice(self.at_hand());
        (self.buffer, self.from) = (buffer, 0);
        self.pieces.push_front((place, bytes.len() as u64));
    }

    /// Drops what is left of a damaged member.
    pub(super) fn forget(&mut self) {
        self.buffer.clear();
        self.pieces.clear();
        self.from = 0;
    }
}
