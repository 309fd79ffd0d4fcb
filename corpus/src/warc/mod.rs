//! WARC and ARC files as records: WARC/0.17 to 1.1, ARC 1 and 2, compressed by member or not.
//!
//! A damaged member, a wrong length or a broken header costs its record: it is returned as damage,
//! and reading goes on at the next record. Memory is one record, of which at most
//! [`MAX_BLOCK`] bytes are kept. Facts of the formats: ISO 28500 and the Internet Archive's ARC
//! description. Not here: what a response says ([`http`]).

mod arc;
pub mod http;
mod inflate;

pub use inflate::{Inflated, is_damage, is_packed};

use std::io::{self, Read};

/// Bytes of a record's header, and of one line of it.
const MAX_HEADER: usize = 64 << 10;
/// Bytes of a record's content that are kept; the rest is skipped, and the record says so.
pub const MAX_BLOCK: usize = 24 << 20;

/// One record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// `response`, `resource`, `conversion`, …, in lower case.
    pub kind: String,
    /// `WARC-Record-ID` without its brackets; for ARC, empty.
    pub id: String,
    /// Target URI, trimmed, without brackets.
    pub url: String,
    /// `WARC-Date` as it stands.
    pub date: String,
    /// Media type of the block.
    pub content_type: String,
    /// `WARC-Truncated`, where given: the crawler cut the page.
    pub truncated: Option<String>,
    /// The block, at most [`MAX_BLOCK`] bytes of it.
    pub block: Vec<u8>,
    /// Its length in the file.
    pub length: u64,
    /// Offset of its member in the file.
    pub offset: u64,
}

/// A piece of the file that is no record.
#[derive(Clone, Debug, PartialEq)]
pub struct Damage {
    /// Offset of the member.
    pub offset: u64,
    /// What is wrong.
    pub reason: String,
}

/// What is read from a crawl.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A record.
    Record(Box<Record>),
    /// A damaged piece, skipped.
    Damage(Damage),
}

/// Why a record could not be read.
enum Fault {
    /// The data is damaged; `true` when that was found in inflating, so that the stream now stands
    /// behind the damaged member, `false` when the text of the record is at fault.
    Damage(String, bool),
    /// The operating system refused.
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(e: io::Error) -> Fault {
        if is_damage(&e) { Fault::Damage(e.to_string(), true) } else { Fault::Io(e) }
    }
}

fn broken(reason: impl Into<String>) -> Fault {
    Fault::Damage(reason.into(), false)
}

/// Whether these first (decompressed) bytes are those of a WARC or ARC file.
pub fn is_warc(start: &[u8]) -> bool {
    let text = start.trim_ascii_start();
    text.starts_with(b"WARC/") || text.starts_with(b"filedesc:")
}

/// The records of a WARC or ARC file.
pub struct Records<R: Read> {
    lines: Lines<R>,
    arc: bool,
    lost: bool,
    done: bool,
}

impl<R: Read> Records<R> {
    /// Reads from a file that may be compressed.
    pub fn new(reader: R) -> Records<R> {
        Records { lines: Lines::new(reader), arc: false, lost: false, done: false }
    }

    /// The next record; `Ok(None)` at the end. Blank lines before it are skipped.
    fn record(&mut self) -> Result<Option<Record>, Fault> {
        loop {
            let Some(line) = self.lines.line()? else { return Ok(None) };
            let first = line.trim_ascii();
            if first.starts_with(b"WARC/") {
                self.lost = false;
                return self.warc().map(Some);
            }
            if arc::begins(first) && (self.arc || first.starts_with(b"filedesc:")) {
                self.arc = true;
                match arc::parse(first) {
                    Ok(header) => {
                        self.lost = false;
                        return self.block(header).map(Some);
                    }
                    Err(_) if self.lost => continue,
                    Err(reason) => return Err(broken(reason)),
                }
            }
            if !first.is_empty() && !self.lost {
                let shown = String::from_utf8_lossy(&first[..first.len().min(40)]).into_owned();
                return Err(broken(format!("expected a record, found {shown:?}")));
            }
        }
    }

    fn warc(&mut self) -> Result<Record, Fault> {
        let mut record = Record { offset: self.lines.offset(), ..Record::default() };
        let mut length = None;
        let mut bytes = 0;
        loop {
            let Some(line) = self.lines.line()? else { return Err(broken("header is cut off")) };
            bytes += line.len();
            if bytes > MAX_HEADER {
                return Err(broken(format!("header is longer than {MAX_HEADER} bytes")));
            }
            let line = String::from_utf8_lossy(line.trim_ascii()).into_owned();
            if line.is_empty() {
                break;
            }
            let Some((name, value)) = line.split_once(':') else { continue };
            set(&mut record, &mut length, name.trim(), value.trim());
        }
        record.length = match length {
            Some(Ok(n)) => n,
            Some(Err(found)) => return Err(broken(format!("Content-Length is {found:?}"))),
            None => return Err(broken("no Content-Length")),
        };
        self.block(record)
    }

    /// Reads the block of a record whose header is read.
    fn block(&mut self, mut record: Record) -> Result<Record, Fault> {
        record.offset = self.lines.offset();
        let kept = record.length.min(MAX_BLOCK as u64);
        record.block = self.lines.bytes(kept as usize)?;
        let rest = record.length - record.block.len() as u64;
        if (record.block.len() as u64) < kept {
            let (found, expected) = (record.block.len(), record.length);
            return Err(broken(format!("block is cut off: {found} of {expected} bytes")));
        }
        if self.lines.skip(rest)? < rest {
            return Err(broken(format!("block is cut off: expected {} bytes", record.length)));
        }
        Ok(record)
    }
}

fn set(record: &mut Record, length: &mut Option<Result<u64, String>>, name: &str, value: &str) {
    let bare = value.trim_start_matches('<').trim_end_matches('>').trim();
    match name.to_ascii_lowercase().as_str() {
        "warc-type" => record.kind = value.to_ascii_lowercase(),
        "warc-record-id" => record.id = bare.to_owned(),
        "warc-target-uri" => record.url = bare.to_owned(),
        "warc-date" => record.date = value.to_owned(),
        "content-type" => record.content_type = value.to_ascii_lowercase(),
        "content-length" => *length = Some(value.parse().map_err(|_| value.to_owned())),
        "warc-truncated" => record.truncated = Some(value.to_owned()),
        _ => {}
    }
}

impl<R: Read> Iterator for Records<R> {
    type Item = io::Result<Item>;

    fn next(&mut self) -> Option<io::Result<Item>> {
        if self.done {
            return None;
        }
        match self.record() {
            Ok(Some(record)) => Some(Ok(Item::Record(Box::new(record)))),
            Ok(None) => {
                self.done = true;
                None
            }
            Err(Fault::Io(e)) => {
                self.done = true;
                Some(Err(e))
            }
            Err(Fault::Damage(reason, behind)) => {
                let offset = self.lines.offset();
                if behind {
                    self.lines.forget();
                }
                self.lost = true;
                Some(Ok(Item::Damage(Damage { offset, reason })))
            }
        }
    }
}

/// Lines and blocks of a stream.
struct Lines<R: Read> {
    stream: Inflated<R>,
    buffer: Vec<u8>,
    from: usize,
    member: u64,
}

/// Bytes taken from the stream at a time.
const STEP: usize = 64 << 10;

impl<R: Read> Lines<R> {
    fn new(reader: R) -> Lines<R> {
        Lines { stream: Inflated::new(reader), buffer: Vec::new(), from: 0, member: 0 }
    }

    /// Offset of the member from which the last bytes came.
    fn offset(&self) -> u64 {
        self.member
    }

    /// More bytes behind those at hand; `false` at the end.
    fn fill(&mut self) -> io::Result<bool> {
        if self.from > 0 {
            self.buffer.drain(..self.from);
            self.from = 0;
        }
        let have = self.buffer.len();
        self.buffer.resize(have + STEP, 0);
        let got = self.stream.read(&mut self.buffer[have..]);
        self.buffer.truncate(have + *got.as_ref().unwrap_or(&0));
        if have == 0 {
            self.member = self.stream.member();
        }
        got.map(|n| n > 0)
    }

    /// One line with its end, cut at [`MAX_HEADER`] bytes; `None` at the end.
    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            let bytes = &self.buffer[self.from..];
            let end = bytes[searched..].iter().position(|b| *b == b'\n').map(|i| searched + i + 1);
            searched = bytes.len();
            let end = end.or((searched >= MAX_HEADER).then_some(searched));
            if let Some(end) = end {
                let line = bytes[..end].to_vec();
                self.from += end;
                return Ok(Some(line));
            }
            if !self.fill()? {
                let rest = self.buffer[self.from..].to_vec();
                self.from = self.buffer.len();
                return Ok((!rest.is_empty()).then_some(rest));
            }
        }
    }

    /// The next `wanted` bytes, fewer at the end.
    fn bytes(&mut self, wanted: usize) -> io::Result<Vec<u8>> {
        let at_hand = (self.buffer.len() - self.from).min(wanted);
        let mut block = self.buffer[self.from..self.from + at_hand].to_vec();
        self.from += at_hand;
        while block.len() < wanted {
            // Grow by steps: the length is a claim of the file, not yet memory to be had.
            let have = block.len();
            block.resize(have + STEP.min(wanted - have), 0);
            let got = self.stream.read(&mut block[have..]);
            block.truncate(have + *got.as_ref().unwrap_or(&0));
            if got? == 0 {
                break;
            }
        }
        Ok(block)
    }

    /// Passes over `count` bytes; returns how many there were.
    fn skip(&mut self, count: u64) -> io::Result<u64> {
        let mut passed = 0;
        while passed < count {
            if self.from == self.buffer.len() && !self.fill()? {
                break;
            }
            let step = ((self.buffer.len() - self.from) as u64).min(count - passed);
            self.from += step as usize;
            passed += step;
        }
        Ok(passed)
    }

    /// Drops what is left of a damaged member.
    fn forget(&mut self) {
        self.buffer.clear();
        self.from = 0;
    }
}

#[cfg(test)]
mod tests;
