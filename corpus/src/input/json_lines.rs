//! JSON Lines, plain or compressed: one object a line with its text under a known name.
//!
//! A line that does not parse or has no text is counted as damaged with its offset. Not here:
//! dialogues, which are no pages.

use super::{Body, Found, Page, Range, Stream};
use crate::Error;
use crate::warc::{self, Inflated};
use quipu_documents::{Document, Id, parse_date};
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

fn text<'a>(object: &'a Map<String, Value>, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|n| object.get(*n)?.as_str())
}

fn parse(bytes: &[u8], offset: u64) -> Result<Page, String> {
    let value: Value = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let object = value.as_object().ok_or("not a JSON object")?;
    let Some(body) = text(object, &["text", "content", "raw_content", "body", "document"]) else {
        let keys: Vec<&str> = object.keys().map(String::as_str).take(8).collect();
        return Err(format!("no text: expected a key `text`, found {keys:?}"));
    };
    let metadata = object.get("metadata").and_then(Value::as_object);
    let meta = |names: &[&str]| text(object, names).or_else(|| text(metadata?, names));
    let url = meta(&["url", "uri", "source_url", "link"]).unwrap_or_default().to_owned();
    let date = meta(&["date", "timestamp", "created"]).and_then(parse_date);
    let given = ["id", "record_id"].iter().find_map(|n| object.get(*n));
    let name = match given {
        Some(Value::String(id)) => id.clone(),
        Some(Value::Number(id)) => id.to_string(),
        _ => offset.to_string(),
    };
    let document = Document {
        id: Id::default(),
        title: meta(&["title"]).unwrap_or_default().to_owned(),
        text: body.to_owned(),
        ..Document::default()
    };
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
}
