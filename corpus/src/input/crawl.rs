//! The pages of a WARC or ARC file.
//!
//! A page is a `response`, a `resource` or a `conversion` (text that somebody extracted before). A
//! response of another status than 200 or without text in it has a fate (`http-status`,
//! `not-html`); every other record is counted by its kind. Not here: the format.

use super::range::Range;
use super::{Body, Found, Input, Page, Stream};
use crate::remote::Access;
use crate::warc::http::{self, Refused};
use crate::warc::{Form, Inflated, Item, MAX_BLOCK, Record, Records, is_damage};
use crate::{Error, input::kind};
use quipu_documents::parse_date;
use std::io::{Read, Seek, SeekFrom};

/// What is read of a file to see what it is.
const HEAD: u64 = 64;

/// What has to be known of a crawl to read a range of it; an error where the file is none.
fn form(input: &Input, access: &Access) -> Result<Form, Error> {
    let path = &input.path;
    let mut start = Vec::new();
    let mut inflated = Inflated::new(input.file(access, HEAD)?);
    match inflated.by_ref().take(HEAD).read_to_end(&mut start) {
        Ok(_) if !crate::warc::is_warc(&start) => {
            Err(Error::NotWarc { path: path.to_owned(), found: kind::shown(&start) })
        }
        Err(e) if !is_damage(&e) => Err(Error::io(path)(e)),
        _ => {
            let arc = start.trim_ascii_start().starts_with(b"filedesc:");
            Ok(Form { arc, ..inflated.form().clone() })
        }
    }
}

/// Ranges of a crawl that is not compressed, each from one record to another.
pub(super) fn cut(
    input: &Input,
    size: u64,
    bytes: u64,
    access: &Access,
) -> Result<Vec<Range>, Error> {
    let (mut ranges, mut from) = (Vec::new(), 0);
    if size > bytes {
        let file = input.file(access, u64::MAX)?;
        for item in Records::range(file, 0, u64::MAX, form(input, access)?) {
            let Item::Record(record) = item.map_err(Error::io(&input.path))? else { continue };
            let place = record.place.member;
            // The first record at or behind the next multiple of the size.
            if place / bytes.max(1) > from / bytes.max(1) {
                ranges.push(Range { from, to: place });
                from = place;
            }
        }
    }
    ranges.push(Range { from, to: size });
    Ok(ranges)
}

/// Opens a range of a crawl; an error where the file is none.
pub(super) fn open(input: &Input, range: Range, access: &Access) -> Result<Stream, Error> {
    let form = form(input, access)?;
    let path = input.path.clone();
    let mut file = input.file(access, range.to)?;
    file.seek(SeekFrom::Start(range.from)).map_err(Error::io(&path))?;
    let records = Records::range(file, range.from, range.to, form);
    Ok(Box::new(records.map(move |item| match item.map_err(Error::io(&path))? {
        Item::Record(record) => Ok(page(*record)),
        Item::Damage(damage) => {
            Ok(Found::Damaged(format!("{}@{}", path.display(), damage.place), damage.reason))
        }
    })))
}

fn page(record: Record) -> Found {
    let http =
        record.content_type.contains("application/http") || record.block.starts_with(b"HTTP/");
    match record.kind.as_str() {
        "response" | "resource" | "conversion" => {}
        other => return Found::Skipped(other.to_owned()),
    }
    let position = match record.id.as_str() {
        "" => format!("record@{}", record.place),
        id => id.to_owned(),
    };
    let name = position.trim_start_matches("urn:uuid:").to_owned();
    let page = |body| {
        let (url, date) = (record.url.clone(), parse_date(&record.date));
        Found::Page(Page { position: position.clone(), name: name.clone(), url, date, body })
    };
    if record.length > MAX_BLOCK as u64 {
        return page(Body::Refused("page-too-large", format!("{} bytes", record.length)));
    }
    if let Some(reason) = record.truncated.as_ref().filter(|_| !http) {
        return page(Body::Refused("truncated", reason.clone()));
    }
    if !http {
        let media = record.content_type.clone();
        return match body(record.block, Some(media)) {
            Ok(body) => page(body),
            Err(kind) => Found::Skipped(kind),
        };
    }
    match http::parse(record.block) {
        Ok(response) if response.status != 200 => {
            page(Body::Refused("http-status", response.status.to_string()))
        }
        Ok(response) => match body(response.body, response.content_type) {
            Err(kind) => page(Body::Refused("not-html", kind)),
            Ok(_) if response.cut => {
                page(Body::Refused("truncated", "body ends before its encoding says".into()))
            }
            Ok(_) if record.truncated.is_some() => {
                page(Body::Refused("truncated", record.truncated.clone().unwrap_or_default()))
            }
            Ok(body) => page(body),
        },
        Err(e @ Refused::TooLarge) => page(Body::Refused("page-too-large", e.to_string())),
        Err(Refused::NotHttp(_)) => Found::Skipped("response without HTTP".into()),
        Err(e) => page(Body::Refused("unreadable", e.to_string())),
    }
}

/// What a body is by its media type, or by its first bytes where there is none; `Err` names what
/// is no text.
fn body(bytes: Vec<u8>, media: Option<String>) -> Result<Body, String> {
    let kind = media.as_deref().unwrap_or_default().to_ascii_lowercase();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_owned();
    let start = bytes[..bytes.len().min(512)].trim_ascii_start();
    let markup = start.starts_with(b"<") || start.starts_with(b"\xef\xbb\xbf<");
    match kind.as_str() {
        "text/html" | "application/xhtml+xml" => Ok(Body::Html(bytes, media)),
        "" | "application/octet-stream" | "application/xml" | "text/xml" if markup => {
            Ok(Body::Html(bytes, media))
        }
        "text/plain" if markup => Ok(Body::Html(bytes, media)),
        "text/plain" => Ok(Body::Text(bytes)),
        "text/markdown" => Ok(Body::Markdown(bytes)),
        "" => Err("no media type".into()),
        other => Err(other.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: &str, media: &str, block: &[u8], expected: &str) {
        let (kind, content_type) = (kind.to_owned(), media.to_owned());
        let (block, length) = (block.to_vec(), block.len() as u64);
        let record = Record { kind, content_type, block, length, ..Record::default() };
        let found = match page(record) {
            Found::Page(page) => match page.body {
                Body::Html(..) => "html".to_owned(),
                Body::Text(_) => "text".into(),
                Body::Refused(rule, _) => rule.into(),
                other => format!("{other:?}"),
            },
            Found::Skipped(kind) => kind,
            other => format!("{other:?}"),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_a_page() {
        let ok = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>";
        check("response", "application/http; msgtype=response", ok, "html");
        check("request", "application/http", b"GET /", "request");
        let gone = b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n\r\n<p>";
        check("response", "application/http", gone, "http-status");
        let image = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\nxx";
        check("response", "application/http", image, "not-html");
        check("resource", "text/html", b"<p>", "html");
        check("conversion", "text/plain", b"words", "text");
        check("response", "text/dns", b"1.2.3.4", "text/dns");
        let bad = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08";
        check("response", "application/http", bad, "unreadable");
        let cut =
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n\
            9\r\n<p>";
        check("response", "application/http", cut, "truncated");
    }
}

#[cfg(test)]
#[path = "conformance.rs"]
mod conformance;
