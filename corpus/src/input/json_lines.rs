//! JSON Lines, plain or compressed: one object a line with its text under a known name.
//!
//! The names are those of FineWeb, C4, Dolma, RedPajama and of lists of pages; keys that are none
//! of ours pass through in `extra`, as the columns of Parquet files do.
//! A line that does not parse or has no text is counted as damaged with its offset. Not here:
//! dialogues, which are no pages.

use super::{Body, Found, Page, Range, Stream};
use crate::Error;
use crate::warc::{self, Inflated};
use quipu_documents::{Document, Id, parse_date, to_extra};
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// Bytes of a line; a longer one is damaged.
const MAX_LINE: u64 = 64 << 20;

/// Opens the lines that begin in a range of the file; of a compressed one, all.
pub(super) fn open(path: &Path, range: Range) -> Result<Stream, Error> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let to = if super::range::is_packed(path)? { u64::MAX } else { range.to };
    // A line begins behind a line end, which may be the last byte before the range.
    let before = range.from.min(1);
    file.seek(SeekFrom::Start(range.from - before)).map_err(Error::io(path))?;
    // Only the first bytes of the file tell what it is compressed with.
    let bytes: Box<dyn Read + Send> =
        if before > 0 { Box::new(file) } else { Box::new(Inflated::new(file)) };
    let reader = BufReader::with_capacity(256 << 10, bytes);
    let mut lines = Lines { reader, offset: range.from - before };
    if before > 0 {
        lines.pass().map_err(Error::io(path))?;
    }
    let path = path.to_owned();
    let mut ended = false;
    Ok(Box::new(std::iter::from_fn(move || {
        let offset = lines.offset;
        if ended || offset >= to {
            return None;
        }
        let place = || format!("{}@{offset}", path.display());
        match lines.next() {
            Ok(None) => None,
            Ok(Some(bytes)) if bytes.trim_ascii().is_empty() => {
                Some(Ok(Found::Skipped("blank line".into())))
            }
            Ok(Some(bytes)) => Some(Ok(match parse(&bytes, offset) {
                Ok(page) => Found::Page(page),
                Err(reason) => Found::Damaged(place(), reason),
            })),
            Err(e) => {
                ended = true;
                let damage = warc::is_damage(&e);
                let found = Found::Damaged(place(), e.to_string());
                Some(if damage { Ok(found) } else { Err(Error::io(&path)(e)) })
            }
        }
    })))
}

/// Lines with their offsets.
struct Lines {
    reader: BufReader<Box<dyn Read + Send>>,
    offset: u64,
}

impl Lines {
    /// The next line, cut at [`MAX_LINE`] bytes; what is beyond is passed over.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        let read = self.reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes)?;
        self.offset += read as u64;
        if bytes.len() as u64 >= MAX_LINE && !bytes.ends_with(b"\n") {
            self.pass()?;
        }
        Ok((read > 0).then_some(bytes))
    }

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
const ID: &[&str] = &["id", "doc_id", "record_id", "warc_record_id"];

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
pub(crate) fn parse(bytes: &[u8], offset: u64) -> Result<Page, String> {
    if bytes.len() as u64 >= MAX_LINE {
        return Err(format!("a line of {MAX_LINE} bytes or more"));
    }
    let value: Value = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let Value::Object(mut object) = value else { return Err("not a JSON object".into()) };
    let Some(text) = take(&mut object, TEXT) else {
        let keys: Vec<&str> = object.keys().map(String::as_str).take(8).collect();
        return Err(format!("no text: expected a key `text`, found {keys:?}"));
    };
    let url = take(&mut object, URL).unwrap_or_default();
    let date = take_date(&mut object);
    let given = ID.iter().find_map(|name| match object.get(*name)? {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    });
    let id = given.as_deref().map_or(Id::default(), Id::parse);
    if given.as_deref().is_some_and(Id::is_ours) {
        object.shift_remove("id");
    }
    let title = take(&mut object, TITLE).unwrap_or_default();
    let name = given.unwrap_or_else(|| offset.to_string());
    let extra = to_extra(&object);
    let document = Document { id, title, text, extra, ..Document::default() };
    let position = format!("line@{offset}");
    Ok(Page { position, name, url, date, body: Body::Document(Box::new(document)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &[u8], expected: &[&str]) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.jsonl");
        std::fs::write(&path, text).unwrap();
        let found: Vec<String> = open(&path, Range::WHOLE)
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

    fn check_page(line: &str, url: &str, date: Option<&str>, extra: &str) {
        let page = parse(line.as_bytes(), 0).unwrap();
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
