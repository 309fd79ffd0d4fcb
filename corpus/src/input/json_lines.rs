//! JSON Lines, plain or compressed: one object a line with its text under a known name.
//!
//! The names are those of FineWeb, C4, Dolma, RedPajama and of lists of pages; keys that are none
//! of ours pass through in `extra`, as the columns of Parquet files do. A compressed file is read
//! from member to member (frame to frame), so that one of many members is cut as a crawl is; one of
//! a single member is one piece. A line that does not parse or has no text is counted as damaged
//! with its place. Not here: dialogues, which are no pages.

use super::{Body, Found, Input, Page, Range, Stream};
use crate::Error;
use crate::remote::{Access, Source};
use crate::warc::{self, Form, Inflated};
use quipu_documents::{Document, Id, LANGUAGE_NAMES, given_id, parse_date, to_extra};
use serde_json::{Map, Value};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::PathBuf;

/// Bytes of a line; a longer one is damaged.
const MAX_LINE: u64 = 64 << 20;
/// Inflated bytes that are taken at a time, counted from the beginning of a member.
const STEP: usize = 64 << 10;

/// Opens the lines of a range of the file. Of one that is not compressed, those that begin there; of
/// a compressed one, those from the first line end behind the first start of a member there up to
/// the first line end behind the first start behind it.
pub(super) fn open(input: &Input, range: Range, access: &Access) -> Result<Stream, Error> {
    let path = input.path.clone();
    let mut file = input.file(access, range.to)?;
    if input.packed {
        file.seek(SeekFrom::Start(range.from)).map_err(Error::io(&path))?;
        return Ok(pages(path, input.called(), Packed::new(file, range)));
    }
    // A line begins behind a line end, which may be the last byte before the range.
    let before = range.from.min(1);
    file.seek(SeekFrom::Start(range.from - before)).map_err(Error::io(&path))?;
    let reader = BufReader::with_capacity(256 << 10, file);
    let mut lines = Plain { reader, offset: range.from - before, to: range.to };
    if before > 0 {
        lines.pass().map_err(Error::io(&path))?;
    }
    Ok(pages(path, input.called(), lines))
}

/// Whether compressed lines have a start of a member in this range of their file: one probe tells
/// whether a file is worth cutting, since who makes members makes them of one size.
pub(super) fn has_start(input: &Input, range: Range, access: &Access) -> Result<bool, Error> {
    let mut file = input.file(access, range.to)?;
    file.seek(SeekFrom::Start(range.from)).map_err(Error::io(&input.path))?;
    let mut inflated = Inflated::range(file, range.from, range.to, FORM);
    match inflated.read(&mut [0]) {
        Ok(read) => Ok(read > 0),
        Err(e) if warc::is_damage(&e) => Ok(true),
        Err(e) => Err(Error::io(&input.path)(e)),
    }
}

/// What compressed lines are, as far as has to be known to enter them.
const FORM: Form = Form { arc: false, lines: true, packed: true, dictionary: None };

/// Lines with the names of their places, in order; damage is an error behind which reading goes on.
trait Lines: Send + 'static {
    fn next(&mut self) -> io::Result<Option<Line>>;
    /// Where damage that was met last lies.
    fn damaged(&self) -> String;
}

/// A line, cut at [`MAX_LINE`] bytes, and where it begins.
struct Line {
    place: String,
    bytes: Vec<u8>,
}

fn pages(path: PathBuf, called: String, mut lines: impl Lines) -> Stream {
    Box::new(std::iter::from_fn(move || {
        let place = |place: &str| format!("{}@{place}", path.display());
        match lines.next() {
            Ok(None) => None,
            Ok(Some(line)) if line.bytes.trim_ascii().is_empty() => {
                Some(Ok(Found::Skipped("blank line".into())))
            }
            Ok(Some(line)) => Some(Ok(match parse(&line.bytes, &line.place) {
                Ok(page) => {
                    let position = format!("{called}#{}", page.position);
                    Found::Page(Page { position, ..page })
                }
                Err(reason) => Found::Damaged(place(&line.place), reason),
            })),
            Err(e) if warc::is_damage(&e) => {
                Some(Ok(Found::Damaged(place(&lines.damaged()), e.to_string())))
            }
            Err(e) => Some(Err(Error::io(&path)(e))),
        }
    }))
}

/// Lines of a file that is not compressed.
struct Plain {
    reader: BufReader<Source>,
    offset: u64,
    to: u64,
}

impl Plain {
    /// Passes over the rest of a line.
    fn pass(&mut self) -> io::Result<()> {
        loop {
            let buffer = self.reader.fill_buf()?;
            let end = memchr::memchr(b'\n', buffer).map(|at| at + 1);
            let step = end.unwrap_or(buffer.len());
            self.reader.consume(step);
            self.offset += step as u64;
            if end.is_some() || step == 0 {
                return Ok(());
            }
        }
    }
}

impl Lines for Plain {
    fn next(&mut self) -> io::Result<Option<Line>> {
        if self.offset >= self.to {
            return Ok(None);
        }
        let (mut bytes, place) = (Vec::new(), self.offset.to_string());
        let read = self.reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes)?;
        self.offset += read as u64;
        if bytes.len() as u64 >= MAX_LINE && !bytes.ends_with(b"\n") {
            self.pass()?;
        }
        Ok((read > 0).then_some(Line { place, bytes }))
    }

    fn damaged(&self) -> String {
        self.offset.to_string()
    }
}

/// Lines of a compressed file, which go on from member to member.
struct Packed {
    stream: Inflated<Source>,
    buffer: Vec<u8>,
    from: usize,
    /// Where the next byte at hand is: its member, and inflated bytes of that before it.
    member: u64,
    inside: u64,
    /// Whether it is another reader's.
    beyond: bool,
    /// Whether the rest of a line is to be passed over, which is another reader's.
    enters: bool,
    done: bool,
}

impl Packed {
    fn new(file: Source, range: Range) -> Packed {
        let stream = Inflated::range(file, range.from, range.to, FORM).reading_on();
        let (buffer, member, enters) = (Vec::new(), range.from, range.from > 0);
        let (from, inside, beyond, done) = (0, 0, false, false);
        Packed { stream, buffer, from, member, inside, beyond, enters, done }
    }

    /// The next [`STEP`] bytes of a member, fewer at its end; `false` at the end of all. Damage costs
    /// such a step, however much of it came before: that depends on how the file was buffered.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.resize(STEP, 0);
        self.from = STEP;
        let mut have = self.stream.read(&mut self.buffer)?;
        while 0 < have && have < STEP {
            match self.stream.more(&mut self.buffer[have..])? {
                0 => break,
                more => have += more,
            }
        }
        self.buffer.truncate(have);
        self.from = 0;
        if self.stream.member() != self.member {
            (self.member, self.inside) = (self.stream.member(), 0);
        }
        self.beyond = self.stream.is_beyond();
        Ok(have > 0)
    }

    /// The rest of a line, of which at most [`MAX_LINE`] bytes are kept, and whether it is the last
    /// before another reader's; `None` at the end.
    fn rest(&mut self) -> io::Result<Option<(Line, bool)>> {
        let (mut line, mut found) = (Line { place: String::new(), bytes: Vec::new() }, false);
        loop {
            if self.from >= self.buffer.len() && !self.fill()? {
                return Ok(found.then_some((line, true)));
            }
            if !found {
                (found, line.place) = (true, self.place());
            }
            let rest = &self.buffer[self.from..];
            let end = memchr::memchr(b'\n', rest).map(|at| at + 1);
            let step = end.unwrap_or(rest.len());
            let room = (MAX_LINE as usize).saturating_sub(line.bytes.len());
            line.bytes.extend_from_slice(&rest[..step.min(room)]);
            self.from += step;
            self.inside += step as u64;
            if end.is_some() {
                return Ok(Some((line, self.beyond)));
            }
        }
    }

    /// The first member's places are offsets, as if the file were one stream.
    fn place(&self) -> String {
        match self.member {
            0 => self.inside.to_string(),
            member => format!("{member}+{}", self.inside),
        }
    }
}

impl Lines for Packed {
    fn next(&mut self) -> io::Result<Option<Line>> {
        while !self.done {
            let (line, last) = match self.rest() {
                Ok(Some(found)) => found,
                Ok(None) => break,
                // Before the first line end, damage is the reader's before.
                Err(e) if self.enters && warc::is_damage(&e) => continue,
                Err(e) => return Err(e),
            };
            self.done = last;
            if !std::mem::take(&mut self.enters) {
                return Ok(Some(line));
            }
        }
        self.done = true;
        Ok(None)
    }

    fn damaged(&self) -> String {
        match self.stream.member() {
            member if member == self.member => self.place(),
            member => member.to_string(),
        }
    }
}

/// Names under which corpora keep things, in order of preference; `a.b` is `b` within `a`.
const TEXT: &[&str] = &["text", "content", "raw_content", "body", "document"];
const URL: &[&str] = &[
    "url",
    "uri",
    "source_url",
    "link",
    "metadata.url",
    "meta.url",
    "metadata.WARC-Target-URI",
    "warc_headers.warc-target-uri",
];
const DATE: &[&str] = &[
    "date",
    "timestamp",
    "created",
    "date_download",
    "crawl_date",
    "metadata.date",
    "metadata.timestamp",
    "meta.timestamp",
    "meta.date",
    "warc_headers.warc-date",
];
const TITLE: &[&str] = &["title", "metadata.title", "meta.title"];

/// The first of these that is there as text, and its name.
fn find<'v, 'n>(object: &'v Map<String, Value>, names: &[&'n str]) -> Option<(&'n str, &'v str)> {
    names.iter().find_map(|name| {
        let value = match name.split_once('.') {
            Some((outer, inner)) => object.get(outer)?.as_object()?.get(inner)?,
            None => object.get(*name)?,
        };
        Some((*name, value.as_str()?))
    })
}

/// Takes the first of these that is there as text; what stands within something stays there too.
fn take(object: &mut Map<String, Value>, names: &[&str]) -> Option<String> {
    let (name, text) = find(object, names).map(|(name, text)| (name, text.to_owned()))?;
    object.shift_remove(name);
    Some(text)
}

fn take_date(object: &mut Map<String, Value>) -> Option<i64> {
    let number = |n: &&&str| object.get(**n).is_some_and(Value::is_number);
    let (name, text) = match find(object, DATE) {
        Some((name, text)) => (name, text.to_owned()),
        None => DATE.iter().find(number).map(|name| (*name, object[*name].to_string()))?,
    };
    // What is no date that we read passes through as it is.
    let date = parse_date(&text)?;
    object.shift_remove(name);
    Some(date)
}

/// The page of one line.
pub(crate) fn parse(bytes: &[u8], place: &str) -> Result<Page, String> {
    if bytes.len() as u64 >= MAX_LINE {
        return Err(format!("a line of {MAX_LINE} bytes or more"));
    }
    // Some writers put a mark of UTF-8 before the first line.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let value: Value = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let Value::Object(mut object) = value else { return Err("not a JSON object".into()) };
    let Some(text) = take(&mut object, TEXT) else {
        let keys: Vec<&str> = object.keys().map(String::as_str).take(8).collect();
        let found = match TEXT.iter().find(|name| object.contains_key(**name)) {
            Some(name) => format!("`{name}` that is no text"),
            None => format!("{keys:?}"),
        };
        return Err(format!("no text: expected a key `text`, found {found}"));
    };
    let url = take(&mut object, URL).unwrap_or_default();
    let date = take_date(&mut object);
    let given = given_id(&object);
    // An identity of others tells nobody that two lines are two documents: theirs is where they stand.
    let ours = given.as_deref().filter(|id| Id::is_ours(id));
    let id = ours.map_or(Id::default(), Id::parse);
    if ours.is_some() {
        object.shift_remove("id");
    }
    let title = take(&mut object, TITLE).unwrap_or_default();
    let name = given.unwrap_or_else(|| place.to_owned());
    let language = take(&mut object, LANGUAGE_NAMES).unwrap_or_default();
    let score = object.get("language_score").and_then(Value::as_f64);
    let is_score = |score: &f64| !language.is_empty() && (0.0..=1.0).contains(score);
    let language_score = match score.filter(is_score) {
        Some(score) => {
            object.shift_remove("language_score");
            score as f32
        }
        None => 0.0,
    };
    let extra = to_extra(&object);
    let document =
        Document { id, title, text, language, language_score, extra, ..Document::default() };
    let position = format!("line@{place}");
    Ok(Page { position, name, url, date, body: Body::Document(Box::new(document)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use std::io::Write;

    fn check(text: &[u8], expected: &[&str]) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.jsonl");
        std::fs::write(&path, text).unwrap();
        let packed = warc::is_packed(text);
        let input = Input { kind: Kind::JsonLines, packed, ..Input::named(path, String::new()) };
        let found: Vec<String> = open(&input, Range::WHOLE, &Access::usual())
            .unwrap()
            .map(|found| match found.unwrap() {
                Found::Page(page) => match page.body {
                    Body::Document(d) => format!("{} {} {}", page.name, page.url, d.text),
                    other => format!("{other:?}"),
                },
                Found::Skipped(kind) => kind,
                Found::Damaged(place, reason) => {
                    format!("{} {reason}", place.rsplit('/').next().unwrap())
                }
            })
            .collect();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found} / {expected}");
        }
    }

    #[test]
    fn lines_and_their_faults() {
        let text =
            b"{\"id\":\"a\",\"text\":\"one\",\"url\":\"http://u/\"}\n\n{\"x\":1}\n{\"text\"\n\
            {\"content\":\"two\",\"metadata\":{\"url\":\"http://m/\"}}";
        check(
            text,
            &[
                "a http://u/ one",
                "blank line",
                "x.jsonl@43 no text",
                "x.jsonl@51 EOF",
                "59 http://m/ two",
            ],
        );
        let packed = zstd::encode_all(&b"{\"text\":\"one\"}\n"[..], 1).unwrap();
        check(&packed, &["0  one"]);
        check(b"{\"text\":\"\xff\"}\n{\"text\":\"b\"}\n", &["x.jsonl@0", "13  b"]);
    }

    /// What compresses like a bomb is lines all the same.
    #[test]
    fn lines_that_compress_well_are_all_read() {
        let line = format!("{{\"text\":\"{}\"}}\n", "a".repeat(1 << 20));
        let mut packed = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        (0..80).for_each(|_| packed.write_all(line.as_bytes()).unwrap());
        packed.write_all(b"{\"text\":\"last\"}\n").unwrap();
        let packed = packed.finish().unwrap();
        assert!(packed.len() * 500 < 80 << 20, "{}", packed.len());
        let expected: Vec<String> = (0..81).map(|n| format!("{}  ", n * line.len())).collect();
        check(&packed, &expected.iter().map(String::as_str).collect::<Vec<_>>());
    }

    fn check_page(line: &str, url: &str, date: Option<&str>, extra: &str) {
        let page = parse(line.as_bytes(), "0").unwrap();
        let Body::Document(document) = page.body else { panic!() };
        let date = date.map(|d| parse_date(d).unwrap());
        assert_eq!((page.url.as_str(), page.date, document.extra.as_str()), (url, date, extra));
        assert_eq!(document.text, "t", "{line}");
    }

    #[test]
    fn keys_of_known_corpora() {
        check_page(
            r#"{"text":"t","timestamp":"2019-04-25T12:57:54Z","url":"http://c4/"}"#,
            "http://c4/",
            Some("2019-04-25T12:57:54Z"),
            "",
        );
        check_page(
            concat!(
                r#"{"text":"t","id":"<urn:uuid:1>","dump":"CC-MAIN-2013-20","url":"http://fw/","#,
                r#""date":"2013-05-18T05:48:54Z","token_count":3}"#,
            ),
            "http://fw/",
            Some("2013-05-18T05:48:54Z"),
            r#"{"id":"<urn:uuid:1>","dump":"CC-MAIN-2013-20","token_count":3}"#,
        );
        check_page(
            concat!(
                r#"{"id":"a","text":"t","added":"x","created":"2019-04-20T13:01:55.000Z","#,
                r#""metadata":{"url":"http://dolma/","n":1}}"#,
            ),
            "http://dolma/",
            Some("2019-04-20T13:01:55Z"),
            r#"{"id":"a","added":"x","metadata":{"url":"http://dolma/","n":1}}"#,
        );
        check_page(
            r#"{"text":"t","meta":{"timestamp":"2022-01-01T00:00:00","url":"http://rp1/"}}"#,
            "http://rp1/",
            Some("2022-01-01T00:00:00Z"),
            r#"{"meta":{"timestamp":"2022-01-01T00:00:00","url":"http://rp1/"}}"#,
        );
        check_page(
            r#"{"raw_content":"t","url":"http://rp2/","date_download":"2023-02-06T12:55:00Z"}"#,
            "http://rp2/",
            Some("2023-02-06T12:55:00Z"),
            "",
        );
        check_page(r#"{"content":"t","date":"last year"}"#, "", None, r#"{"date":"last year"}"#);
        check_page(r#"{"text":"t","timestamp":1209588505}"#, "", Some("2008-04-30T20:48:25Z"), "");
        check_page(r#"{"text":"t","url":["a"]}"#, "", None, r#"{"url":["a"]}"#);
    }
}
