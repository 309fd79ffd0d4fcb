//! WARC and ARC files as records: WARC/0.17 to 1.1, ARC 1 and 2, compressed by member or not.
//!
//! A damaged member, a wrong length or a broken header costs its record: it is returned as damage,
//! and reading goes on at the next record. Memory is one record, of which at most
//! [`MAX_BLOCK`] bytes are kept. Facts of the formats: ISO 28500 and the Internet Archive's ARC
//! description. Not here: what a response says ([`http`]).

mod arc;
pub mod http;
mod inflate;
mod lines;
mod start;

pub use inflate::{Inflated, is_damage, is_packed};
pub use lines::Place;
pub use start::Form;

use lines::Lines;
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
    /// Where it begins in the file.
    pub place: Place,
}

/// A piece of the file that is no record.
#[derive(Clone, Debug, PartialEq)]
pub struct Damage {
    /// Where it begins: the member that does not inflate, or the record that is wrong.
    pub place: Place,
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

/// The records of a WARC or ARC file, or of a range of it.
pub struct Records<R: Read> {
    lines: Lines<R>,
    arc: bool,
    lost: bool,
    done: bool,
    /// A record that begins here or behind is another reader's.
    until: u64,
    /// Where the record that is being read begins.
    place: Place,
    /// The member whose damage is counted.
    counted: Option<u64>,
    /// Bytes of blocks that were read, and how many of them were read again.
    taken: u64,
    again: u64,
}

/// Bytes of blocks that may be read again for the records within them, besides [`SHARE`] times what is
/// read for the first time: lines that each claim to be a record of megabytes would have all of the
/// file read for each.
const FREE: u64 = 8 * MAX_BLOCK as u64;
const SHARE: u64 = 4;

impl<R: Read> Records<R> {
    /// Reads from a file that may be compressed.
    pub fn new(reader: R) -> Records<R> {
        Records::range(reader, 0, u64::MAX, Form::default())
    }

    /// Reads the records of a file of this form that begin from `from` on, where `reader` stands,
    /// up to `until`. In a compressed file records belong to the range in which the last start of
    /// a member before them lies; in one that is not, `from` and `until` are where records begin.
    pub fn range(reader: R, from: u64, until: u64, form: Form) -> Records<R> {
        let (arc, place) = (form.arc, Place::default());
        let lines = Lines::new(Inflated::range(reader, from, until, form), arc);
        let (lost, done, counted, taken, again) = (false, false, None, 0, 0);
        Records { lines, arc, lost, done, until, place, counted, taken, again }
    }

    /// The next record; `Ok(None)` at the end. Blank lines before it are skipped.
    fn record(&mut self) -> Result<Option<Record>, Fault> {
        loop {
            let Some(place) = self.lines.place()? else {
                if self.lines.pass() {
                    continue;
                }
                return Ok(None);
            };
            let Some(line) = self.lines.line()? else { continue };
            let first = line.trim_ascii();
            let warc = first.starts_with(b"WARC/");
            let arc = arc::begins(first) && (self.arc || first.starts_with(b"filedesc:"));
            if (warc || arc) && !self.lines.is_packed() && place.member >= self.until {
                return Ok(None);
            }
            self.place = place;
            if warc {
                self.lost = false;
                return self.warc().map(Some);
            }
            if arc {
                self.arc = true;
                self.lines.expect_arc();
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
        let mut record = Record::default();
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
        record.place = self.place;
        let kept = record.length.min(MAX_BLOCK as u64);
        let mark = self.lines.mark();
        record.block = self.lines.bytes(kept as usize)?;
        let found = record.block.len() as u64;
        self.taken += found;
        if found < kept {
            self.look_inside(&record.block, mark);
            let expected = record.length;
            return Err(broken(format!("block is cut off: {found} of {expected} bytes")));
        }
        let rest = record.length - found;
        if self.lines.skip(rest)? < rest {
            return Err(broken(format!("block is cut off: expected {} bytes", record.length)));
        }
        if !self.ends_here() {
            if rest == 0 {
                self.look_inside(&record.block, mark);
            }
            let reason = "at the end of the block stands neither a line end nor a record: \
                          expected that by its Content-Length of";
            return Err(broken(format!("{reason} {}", record.length)));
        }
        Ok(record)
    }

    /// Whether a record can end where the reader stands: before a line end, a record, the end.
    fn ends_here(&mut self) -> bool {
        let next = self.lines.peek(5);
        let blank = next.first().is_none_or(|b| matches!(b, b'\n' | b'\r'));
        blank || next.starts_with(b"WARC/")
    }

    /// Behind a length that is too large, goes back to the first record within the block, unless too
    /// much was read again before.
    fn look_inside(&mut self, block: &[u8], mark: lines::Mark) {
        if self.again + block.len() as u64 > FREE + SHARE * (self.taken - self.again) {
            return;
        }
        // The record may begin within the block and go on behind it.
        let mut seen = block.to_vec();
        seen.extend_from_slice(self.lines.peek(start::FIRST));
        let lines = memchr::memchr_iter(b'\n', block).map(|end| end + 1);
        let lines = lines.filter(|at| *at < block.len());
        let begins = |at: &usize| start::begins_record(&seen[*at..], self.arc);
        // Of a record, not of blank lines before it.
        let record = lines.filter(|at| !matches!(block.get(*at), Some(b'\r' | b'\n'))).find(begins);
        if let Some(at) = record {
            self.lines.go_back(&block[at..], at, mark);
            self.again += (block.len() - at) as u64;
        }
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
        // The rest of the block stands in `continuation` records, which are not put together.
        "warc-segment-number" => record.truncated = Some("segmented".into()),
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
                let place = match behind {
                    true => Place { member: self.lines.member(), inside: 0 },
                    false => self.place,
                };
                if behind {
                    self.lines.forget();
                }
                self.lost = true;
                let packed = self.lines.is_packed();
                // A record at fault and the member it stands in are one damage.
                if packed && self.counted.replace(place.member) == Some(place.member) && behind {
                    return self.next();
                }
                Some(Ok(Item::Damage(Damage { place, reason })))
            }
        }
    }
}

#[cfg(test)]
mod tests;
