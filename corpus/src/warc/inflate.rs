//! Bytes of a file, whatever it is compressed with, member by member.
//!
//! A crawl is one gzip member (or zstd frame) a record, so that a damaged member costs one record:
//! its error is returned once, then reading goes on at the next member, found by its magic number.
//! It is looked for from the damaged member's second byte on, not from where the decoder stopped:
//! behind a cut the decoder takes the beginning of the next member for more of its own. Memory is
//! a window of the bytes read last. Not here: what the bytes mean.

use super::start::{self, CHAIN, Form, GZIP, ZSTD, begins_member, zstd_decoder};
use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, Read};

/// Bytes read from the file at a time.
const BUFFER: usize = 128 << 10;
/// Bytes of a member that are kept until it has ended, so that all of it can be searched.
const KEEP: u64 = 4 << 20;
/// Bytes kept behind the place of reading in a longer one: more than a decoder takes in, behind a
/// cut, before what it reads makes no sense to it (a stored block or two).
const BACK: u64 = 256 << 10;
/// Bytes that may be gone back over, besides [`SHARE`]: a file made of false beginnings costs a
/// few readings of it, not one a beginning.
const FREE: u64 = 8 << 20;
/// Bytes that may be gone back over for each byte since members last followed each other for
/// [`CHAIN`] bytes; counted from there, so that it is the same where reading began at a start.
const SHARE: u64 = 4;

/// Inflated bytes of a member from which it is asked whether it is a bomb: it is one if it became
/// [`RATIO`] times what it was. Neither a page nor a whole crawl of pages does.
const BOMB: u64 = 64 << 20;
/// See [`BOMB`].
const RATIO: u64 = 200;

/// Whether bytes begin a gzip member or zstd frame.
pub fn is_packed(start: &[u8]) -> bool {
    start.starts_with(&GZIP) || start.starts_with(&ZSTD) || start::skippable(start).is_some()
}

/// A buffered reader that can look ahead and knows its offset.
struct Raw<R> {
    inner: R,
    buffer: Vec<u8>,
    from: usize,
    offset: u64,
    /// Bytes gone back over since `sound`.
    again: u64,
    /// Where members last followed each other for long enough.
    sound: u64,
    /// Where the member begins that is being read.
    member: u64,
}

impl<R: Read> Raw<R> {
    /// Goes back to `offset`, or over what is kept of a long member, within what may be read again.
    /// How far does not depend on how the file was buffered.
    fn go_back(&mut self, offset: u64) {
        let all = self.offset.saturating_sub(offset);
        let step = if all > KEEP { BACK } else { all }.min(self.from as u64);
        if self.again + step <= FREE + SHARE * (self.offset - self.sound) {
            self.again += step;
            self.from -= step as usize;
            self.offset -= step;
        }
    }

    /// Bytes behind the place of reading that are still needed.
    fn kept(&self) -> usize {
        let all = self.offset.saturating_sub(self.member);
        if all > KEEP { BACK as usize } else { all.max(BACK) as usize }
    }

    /// A whole frame of that length, or nothing where it is too long to be a dictionary or cut.
    fn peek_frame(&mut self, length: u64) -> io::Result<&[u8]> {
        let wanted = if length > start::MAX_DICTIONARY { 0 } else { length as usize };
        let bytes = self.peek(wanted)?;
        Ok(bytes.get(..wanted).unwrap_or_default())
    }

    /// Passes over bytes without keeping them all.
    fn pass(&mut self, mut count: u64) -> io::Result<()> {
        while count > 0 {
            let step = (self.peek(1)?.len() as u64).min(count);
            if step == 0 {
                return Ok(());
            }
            self.consume(step as usize);
            count -= step;
        }
        Ok(())
    }

    /// At least `wanted` bytes, unless the file ends before.
    fn peek(&mut self, wanted: usize) -> io::Result<&[u8]> {
        while self.buffer.len() - self.from < wanted {
            // Not at every reading: what is kept is moved by it.
            let kept = self.kept();
            if self.from >= kept + BUFFER {
                self.buffer.drain(..self.from - kept);
                self.from = kept;
            }
            let have = self.buffer.len();
            self.buffer.resize(have + BUFFER, 0);
            let got = loop {
                match self.inner.read(&mut self.buffer[have..]) {
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    result => break result,
                }
            };
            self.buffer.truncate(have + *got.as_ref().unwrap_or(&0));
            if got? == 0 {
                break;
            }
        }
        Ok(&self.buffer[self.from..])
    }
}

impl<R: Read> Read for Raw<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.peek(1)?.read(out)?;
        self.consume(n);
        Ok(n)
    }
}

impl<R: Read> BufRead for Raw<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.peek(1)
    }

    fn consume(&mut self, n: usize) {
        self.from += n;
        self.offset += n as u64;
    }
}

enum State<R: Read> {
    /// In the middle of a file: the first start is to be looked for.
    Enter(Raw<R>),
    /// Between members.
    Between(Raw<R>),
    Gzip(Box<GzDecoder<Raw<R>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, Raw<R>>>),
    Plain(Raw<R>),
    /// Behind the beginning of a damaged member: the next one is to be looked for.
    Lost(Raw<R>),
    Done,
}

/// The decompressed bytes of a file, or of a range of it. An error that [`is_damage`] means one
/// damaged member: the next read goes on behind it. Any other error is the operating system's and
/// ends the reading.
pub struct Inflated<R: Read> {
    // In front of `form`, since a decoder must not outlive its dictionary.
    state: State<R>,
    form: Form,
    member: u64,
    /// The first start from here on is where another reader begins.
    until: u64,
    /// Where the members began that followed each other up to here.
    run: u64,
    /// Where the last damage was found: bytes before it belong to a member that is counted.
    counted: u64,
    /// Bytes that came from the member that is being read.
    given: u64,
    /// Whether to read on from where another reader begins.
    on: bool,
    /// Whether that was passed.
    beyond: bool,
}

/// Whether an error of [`Inflated`] is damage in the data, behind which reading can go on.
pub fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof | Other)
        && error.raw_os_error().is_none()
}

impl<R: Read> Inflated<R> {
    /// Wraps a reader; what it is compressed with is read from its first bytes.
    pub fn new(inner: R) -> Inflated<R> {
        Inflated::range(inner, 0, u64::MAX, Form::default())
    }

    /// Wraps a reader that stands at byte `from` of a file of this form: members from the first
    /// start there up to the first start at or behind `until`. A file that is not compressed is
    /// read from `from` on; where that ends, who knows its records decides.
    pub(crate) fn range(inner: R, from: u64, until: u64, form: Form) -> Inflated<R> {
        let raw = Raw {
            inner,
            buffer: Vec::new(),
            from: 0,
            offset: from,
            again: 0,
            sound: from,
            member: from,
        };
        let state = match form.packed && from > 0 {
            true => State::Enter(raw),
            false => State::Between(raw),
        };
        let (counted, given, on, beyond) = (0, 0, false, false);
        Inflated { state, form, member: from, until, run: from, counted, given, on, beyond }
    }

    /// Reads on behind the end of the range: where that is passed, [`Inflated::is_beyond`] says.
    pub(crate) fn reading_on(self) -> Inflated<R> {
        Inflated { on: true, ..self }
    }

    /// Whether the member that is being read is another reader's.
    pub(crate) fn is_beyond(&self) -> bool {
        self.beyond
    }

    /// Offset in the file of the member that is being read (of the first byte that is read, in a
    /// file that is not compressed).
    pub fn member(&self) -> u64 {
        self.member
    }

    /// What has been learnt of the file so far.
    pub(crate) fn form(&self) -> &Form {
        &self.form
    }

    /// Whether a compressed member was met.
    pub(super) fn is_packed(&self) -> bool {
        self.form.packed
    }

    /// Goes to the first start before `until`; at none, there is nothing to read.
    fn enter(&mut self, mut raw: Raw<R>) -> io::Result<()> {
        while find_member(&mut raw)? && raw.offset < self.until {
            if is_start(&mut raw, &self.form)? {
                (raw.sound, self.run) = (raw.offset, raw.offset);
                self.state = State::Between(raw);
                return Ok(());
            }
            raw.consume(1);
        }
        Ok(())
    }

    /// Opens the next member; on damage the state is left at [`State::Lost`].
    fn open(&mut self, mut raw: Raw<R>) -> io::Result<()> {
        let ends = self.form.packed && raw.offset >= self.until && !self.beyond;
        let bytes = raw.peek(8)?;
        let padding = bytes.iter().take(4).all(|b| *b == 0);
        let (gzip, zstd) = (bytes.starts_with(&GZIP), bytes.starts_with(&ZSTD));
        let skippable = start::skippable(bytes);
        let over = bytes.is_empty();
        if over {
            return Ok(());
        }
        if ends && is_start(&mut raw, &self.form)? {
            if !self.on {
                return Ok(());
            }
            self.beyond = true;
        }
        (self.member, self.given) = (raw.offset, 0);
        raw.member = raw.offset;
        self.form.packed |= gzip || zstd || skippable.is_some();
        if gzip {
            self.state = State::Gzip(Box::new(GzDecoder::new(raw)));
        } else if zstd {
            let decoder = zstd_decoder(raw, self.form.dictionary.as_deref())?;
            self.state = State::Zstd(Box::new(decoder));
        } else if let Some(length) = skippable {
            if raw.offset == 0 {
                self.form.dictionary = start::dictionary(raw.peek_frame(length)?);
            }
            raw.pass(length)?;
            self.state = State::Between(raw);
        } else if !self.form.packed {
            self.state = State::Plain(raw);
        } else {
            let counted = raw.offset < self.counted;
            self.run = raw.offset;
            self.state = State::Lost(raw);
            // Padding of zeros between or behind members is harmless; anything else is damage.
            if !padding && !counted {
                let reason = "bytes between members that are neither gzip nor zstd";
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
        }
        Ok(())
    }

    /// Leaves a member that was read to its end.
    fn close(&mut self, mut raw: Raw<R>) {
        self.counted = 0;
        if raw.offset - self.run > CHAIN as u64 {
            (raw.again, raw.sound) = (0, raw.offset);
        }
        self.state = State::Between(raw);
    }

    /// Leaves a member whose decoder failed.
    fn lose(&mut self, mut raw: Raw<R>) {
        self.counted = self.counted.max(raw.offset);
        raw.go_back(self.member + 1);
        self.state = State::Lost(raw);
    }

    /// Bytes of the member that is open; 0 at its end, or where none is.
    fn inflate(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Gzip(mut decoder) => match decoder.read(out) {
                Ok(0) => self.close(decoder.into_inner()),
                Ok(n) if self.is_bomb(n, decoder.get_ref()) => {
                    return Err(self.leave(decoder.into_inner()));
                }
                Ok(n) => {
                    self.state = State::Gzip(decoder);
                    return Ok(n);
                }
                Err(e) => {
                    self.lose(decoder.into_inner());
                    return Err(e);
                }
            },
            State::Zstd(mut decoder) => match decoder.read(out) {
                Ok(0) => self.close(decoder.finish()),
                Ok(n) if self.is_bomb(n, decoder.get_ref()) => {
                    return Err(self.leave(decoder.finish()));
                }
                Ok(n) => {
                    self.state = State::Zstd(decoder);
                    return Ok(n);
                }
                Err(e) => {
                    self.lose(decoder.finish());
                    return Err(e);
                }
            },
            other => self.state = other,
        }
        Ok(0)
    }

    /// Of lines none is one: a line that is too long costs itself only, and what follows is read.
    fn is_bomb(&mut self, read: usize, raw: &Raw<R>) -> bool {
        self.given += read as u64;
        !self.form.lines && self.given > BOMB && self.given / RATIO > raw.offset - self.member
    }

    /// Leaves a bomb where it is, and looks for the next member from there.
    fn leave(&mut self, raw: Raw<R>) -> io::Error {
        let (given, from) = (self.given >> 20, raw.offset - self.member);
        self.counted = self.counted.max(raw.offset);
        self.state = State::Lost(raw);
        let reason = format!("{from} bytes inflate to more than {given} MiB: a bomb, not a page");
        io::Error::new(io::ErrorKind::InvalidData, reason)
    }

    /// Further bytes of the member from which the last came; 0 at its end.
    pub(crate) fn more(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() { Ok(0) } else { self.inflate(out) }
    }
}

/// Whether a reader stands at a start.
fn is_start<R: Read>(raw: &mut Raw<R>, form: &Form) -> io::Result<bool> {
    let window = raw.peek(CHAIN + 1)?;
    Ok(start::is_start(&window[..window.len().min(CHAIN)], window.len() <= CHAIN, form))
}

/// Moves to the next magic number; `false` at the end of the file.
fn find_member<R: Read>(raw: &mut Raw<R>) -> io::Result<bool> {
    loop {
        let bytes = raw.peek(5)?;
        if bytes.len() < 5 {
            return Ok(false);
        }
        match memchr::memchr2_iter(GZIP[0], ZSTD[0], &bytes[..bytes.len() - 4])
            .find(|at| begins_member(&bytes[*at..]))
        {
            Some(at) => {
                raw.consume(at);
                return Ok(true);
            }
            None => {
                let seen = bytes.len() - 4;
                raw.consume(seen);
            }
        }
    }
}

impl<R: Read> Read for Inflated<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            match std::mem::replace(&mut self.state, State::Done) {
                State::Done => return Ok(0),
                State::Enter(raw) => self.enter(raw)?,
                State::Between(raw) => self.open(raw)?,
                State::Lost(mut raw) => {
                    // A damaged member must not be found again at its own first byte.
                    if raw.offset == self.member {
                        raw.peek(1)?;
                        raw.consume(1);
                    }
                    if find_member(&mut raw)? {
                        self.run = raw.offset;
                        self.state = State::Between(raw);
                    }
                }
                State::Plain(mut raw) => {
                    let n = raw.read(out)?;
                    self.state = State::Plain(raw);
                    return Ok(n);
                }
                open => {
                    self.state = open;
                    match self.inflate(out)? {
                        0 => {}
                        n => return Ok(n),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    /// Everything that can be read, and the number of damaged members.
    fn check(bytes: &[u8], text: &str, damaged: usize) {
        let mut inflated = Inflated::new(bytes);
        let (mut all, mut errors) = (Vec::new(), 0);
        loop {
            let mut part = [0; 1000];
            match inflated.read(&mut part) {
                Ok(0) => break,
                Ok(n) => all.extend_from_slice(&part[..n]),
                Err(_) => errors += 1,
            }
        }
        assert_eq!((String::from_utf8_lossy(&all).as_ref(), errors), (text, damaged));
    }

    #[test]
    fn members_follow_each_other() {
        let two = [gzip("one "), gzip("two")].concat();
        check(&two, "one two", 0);
        check(&[two.clone(), vec![0; 512]].concat(), "one two", 0);
        let frames = [zstd::encode_all(&b"a"[..], 1).unwrap(), gzip("b")].concat();
        check(&frames, "ab", 0);
        check(b"plain", "plain", 0);
        check(b"", "", 0);
    }

    #[test]
    fn a_damaged_member_costs_itself() {
        let noise: String = (0..5000u32).map(|i| char::from(33 + (i * i % 89) as u8)).collect();
        let mut bad = gzip(&noise);
        bad[10] = 0xff; // an impossible block type
        check(&[gzip("one "), bad, gzip("two")].concat(), "one two", 1);
        check(&[gzip("one "), b"garbage".to_vec(), gzip("two")].concat(), "one two", 1);
    }

    #[test]
    fn a_file_of_false_beginnings_is_read_a_few_times() {
        // Each beginning opens a stored block that takes in the rest and more of them.
        let one = [&GZIP[..], &[0; 7], &[0, 0x00, 0x80, 0xff, 0x7f]].concat();
        let bytes = one.repeat((2 << 20) / one.len());
        let mut inflated = Inflated::new(&bytes[..]);
        let (mut part, mut given) = (vec![0; 4000], 0);
        loop {
            match inflated.read(&mut part) {
                Ok(0) => break,
                Ok(n) => given += n,
                Err(_) => {}
            }
        }
        let most = (SHARE as usize + 1) * bytes.len() + FREE as usize;
        assert!(given <= most, "{given} bytes of {}", bytes.len());
    }

    #[test]
    fn a_bomb_costs_itself_and_little_time() {
        let zeros = vec![b' '; 40 << 20];
        for bomb in
            [gzip(&" ".repeat(90 << 20)), zstd::encode_all(&zeros.repeat(3)[..], 1).unwrap()]
        {
            let bytes = [gzip("one "), bomb, gzip("two")].concat();
            let mut inflated = Inflated::new(&bytes[..]);
            let (mut part, mut given, mut bombs) = (vec![0; 1 << 16], Vec::new(), 0);
            loop {
                match inflated.read(&mut part) {
                    Ok(0) => break,
                    Ok(n) => given.extend(part[..n].iter().filter(|b| **b != b' ')),
                    Err(e) => bombs += u32::from(e.to_string().contains("a bomb")),
                }
            }
            assert_eq!((given.as_slice(), bombs), (&b"onetwo"[..], 1));
        }
    }

    #[test]
    fn frames_with_a_dictionary() {
        // Any bytes serve as a dictionary.
        let dictionary = b"Content-Type: text/html; charset=utf-8\r\nWARC/1.0 ".repeat(9);
        let pack = |text: &[u8]| {
            let mut encoder =
                zstd::stream::Encoder::with_dictionary(Vec::new(), 3, &dictionary).unwrap();
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        };
        let frame = |content: &[u8], magic: u32| {
            let length = (content.len() as u32).to_le_bytes();
            [&magic.to_le_bytes()[..], &length, content].concat()
        };
        let body = [pack(b"WARC/1.0 one "), pack(b"two")].concat();
        let packed = zstd::encode_all(&dictionary[..], 3).unwrap();
        for content in [&dictionary, &packed] {
            check(&[frame(content, 0x184d_2a5d), body.clone()].concat(), "WARC/1.0 one two", 0);
        }
        let other = frame(b"somebody's own", 0x184d_2a50);
        check(&[zstd::encode_all(&b"a"[..], 1).unwrap(), other, gzip("b")].concat(), "ab", 0);
        check(&frame(&dictionary, 0x184d_2a5d)[..100], "", 0);
    }

    #[test]
    fn a_truncated_member_is_damage() {
        let whole = gzip("something that is long enough to be cut");
        let mut inflated = Inflated::new(&whole[..whole.len() - 9]);
        let error = inflated.read_to_end(&mut Vec::new()).unwrap_err();
        assert!(is_damage(&error), "{error:?}");
    }
}
