//! JSON Lines, plain or compressed: one object a line with its text under a known name.
//!
//! A line that does not parse or has no text is counted as damaged with its number. Not here:
//! dialogues, which are no pages.

use super::{Body, Found, Page, Stream};
use crate::{Error, warc};
use quipu_documents::{Document, Id, parse_date};
use serde_json::{Map, Value};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Bytes of a line; a longer one is damaged.
const MAX_LINE: u64 = 64 << 20;

pub(super) fn open(path: &Path) -> Result<Stream, Error> {
    let file = std::fs::File::open(path).map_err(Error::io(path))?;
    let mut reader = BufReader::with_capacity(256 << 10, warc::Inflated::new(file));
    let path = path.to_owned();
    let mut number = 0usize;
    let mut ended = false;
    Ok(Box::new(std::iter::from_fn(move || {
        if ended {
            return None;
        }
        number += 1;
        let place = format!("{}, line {number}", path.display());
        match line(&mut reader) {
            Ok(None) => None,
            Ok(Some(bytes)) if bytes.trim_ascii().is_empty() => {
                Some(Ok(Found::Skipped("blank line".into())))
            }
            Ok(Some(bytes)) => Some(Ok(match parse(&bytes, number) {
                Ok(page) => Found::Page(page),
                Err(reason) => Found::Damaged(place, reason),
            })),
            Err(e) => {
                ended = true;
                let damage = warc::is_damage(&e);
                let found = Found::Damaged(place, e.to_string());
                Some(if damage { Ok(found) } else { Err(Error::io(&path)(e)) })
            }
        }
    })))
}

fn line(reader: &mut impl BufRead) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    if reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes)? == 0 {
        return Ok(None);
    }
    // What is beyond the limit is passed over, so that the next line begins at its beginning.
    while bytes.len() as u64 >= MAX_LINE && !bytes.ends_with(b"\n") {
        let buffer = reader.fill_buf()?;
        let end = buffer.iter().position(|b| *b == b'\n');
        let step = end.map_or(buffer.len(), |e| e + 1);
        if step == 0 {
            break;
        }
        reader.consume(step);
        if end.is_some() {
            break;
        }
    }
    Ok(Some(bytes))
}

fn text<'a>(object: &'a Map<String, Value>, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|n| object.get(*n)?.as_str())
}

fn parse(bytes: &[u8], number: usize) -> Result<Page, String> {
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
        _ => number.to_string(),
    };
    let document = Document {
        id: Id::default(),
        title: meta(&["title"]).unwrap_or_default().to_owned(),
        text: body.to_owned(),
        ..Document::default()
    };
    let position = format!("{number}");
    Ok(Page { position, name, url, date, body: Body::Document(Box::new(document)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &[u8], expected: &[&str]) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.jsonl");
        std::fs::write(&path, text).unwrap();
        let found: Vec<String> = open(&path)
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
                "x.jsonl, line 3 no text",
                "x.jsonl, line 4 EOF",
                "5 http://m/ two",
            ],
        );
        let packed = zstd::encode_all(&b"{\"text\":\"one\"}\n"[..], 1).unwrap();
        check(&packed, &["1  one"]);
        check(b"{\"text\":\"\xff\"}\n{\"text\":\"b\"}\n", &["x.jsonl, line 1", "2  b"]);
    }
}
