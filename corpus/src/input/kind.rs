//! What a file is, by its content.
//!
//! Compressed files are recognised by what is inside. Names count only where content cannot tell:
//! Markdown from text. Not here: folders.

use crate::{Error, remote, warc};
use std::fmt;
use std::io::Read;
use std::path::Path;

/// Bytes that are looked at.
const START: usize = 4096;

/// Kinds of files that hold pages.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum Kind {
    /// A WARC or ARC crawl.
    Warc,
    /// HTML pages: one file, or a folder as a crawl.
    Html,
    /// Plain text.
    Text,
    /// Text with Markdown markers.
    Markdown,
    /// One JSON object a line.
    JsonLines,
    /// Parquet with a text column, or a documents folder of ours.
    Parquet,
}

impl Kind {
    /// The name in messages and reports.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Warc => "WARC",
            Kind::Html => "HTML",
            Kind::Text => "text",
            Kind::Markdown => "Markdown",
            Kind::JsonLines => "JSON Lines",
            Kind::Parquet => "Parquet",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recognised {
    /// Its kind.
    pub kind: Kind,
    /// Whether it is compressed as a whole, or member by member.
    pub packed: bool,
}

/// The kind of a file here, or `Ok(Err(what it looks like instead))`.
///
/// # Errors
/// A file that cannot be read.
pub fn recognise(path: &Path) -> Result<Result<Kind, String>, Error> {
    let file = std::fs::File::open(path).map_err(Error::io(path))?;
    Ok(recognise_from(file, path)?.map(|found| found.kind))
}

/// What bytes of this name are, or `Ok(Err(what they look like instead))`.
pub(super) fn recognise_from(
    file: impl Read,
    path: &Path,
) -> Result<Result<Recognised, String>, Error> {
    let mut start = Vec::new();
    let mut head = [0; 8];
    let mut raw = std::io::BufReader::new(file);
    let taken = read_some(&mut raw, &mut head).map_err(Error::io(path))?;
    if head.starts_with(b"PAR1") {
        return Ok(Ok(Recognised { kind: Kind::Parquet, packed: false }));
    }
    let packed = warc::is_packed(&head[..taken]);
    let stream = warc::Inflated::new(head[..taken].chain(raw));
    let read = stream.take(START as u64).read_to_end(&mut start);
    match read {
        Err(e) if !warc::is_damage(&e) => return Err(Error::io(path)(e)),
        Err(e) if start.is_empty() => return Ok(Err(format!("compressed, and damaged: {e}"))),
        _ => {}
    }
    let found = recognise_bytes(&start, path);
    Ok(match found {
        Ok(kind) => Ok(Recognised { kind, packed }),
        Err(what) if packed => Err(format!("compressed {what}")),
        Err(what) => Err(what),
    })
}

fn read_some(reader: &mut impl Read, out: &mut [u8]) -> std::io::Result<usize> {
    let mut have = 0;
    while have < out.len() {
        match reader.read(&mut out[have..])? {
            0 => break,
            n => have += n,
        }
    }
    Ok(have)
}

/// Whether a name claims to be a crawl, so that other content deserves an error of its own.
pub fn claims_warc(path: &Path) -> bool {
    let name = remote::file_name(path).to_lowercase();
    [".warc", ".arc"].iter().any(|e| {
        name.ends_with(e)
            || name.ends_with(&format!("{e}.gz"))
            || name.ends_with(&format!("{e}.zst"))
    })
}

/// First bytes, as far as they can be shown.
pub(crate) fn shown(start: &[u8]) -> String {
    let start = &start[..start.len().min(32)];
    if start.is_empty() {
        "nothing".into()
    } else {
        format!("{:?}", String::from_utf8_lossy(start))
    }
}

fn recognise_bytes(start: &[u8], path: &Path) -> Result<Kind, String> {
    if warc::is_warc(start) {
        return Ok(Kind::Warc);
    }
    let trimmed = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    if trimmed.is_empty() {
        return Err("an empty file".into());
    }
    if trimmed[0] == b'{' {
        return json_kind(trimmed);
    }
    if trimmed[0] == b'[' && trimmed[1..].trim_ascii_start().starts_with(b"{") {
        return Err("a JSON array, but not one object a line (`jq -c '.[]'` makes them)".into());
    }
    let name = remote::file_name(path).to_lowercase();
    let bare = name.trim_end_matches(".gz").trim_end_matches(".zst");
    let named = |ends: &[&str]| ends.iter().any(|e| bare.ends_with(e));
    let control = |b: &&u8| **b < 9 || (14..27).contains(*b);
    let controls = trimmed.iter().filter(control).count();
    let wide = start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff]);
    if !wide && controls * 50 > trimmed.len() {
        return Err(format!("binary data, {}", shown(start)));
    }
    if looks_like_html(trimmed) || (named(&[".html", ".htm", ".xhtml"]) && trimmed.contains(&b'<'))
    {
        return Ok(Kind::Html);
    }
    if named(&[".md", ".markdown", ".mdx"]) || looks_like_markdown(trimmed) {
        return Ok(Kind::Markdown);
    }
    let textual = ["", ".txt", ".text", ".rst", ".tex", ".org", ".adoc"];
    let extension = Path::new(bare).extension().map(|e| format!(".{}", e.to_string_lossy()));
    let extension = extension.unwrap_or_default();
    let known = ["css", "js", "py", "rs", "c", "h", "xml", "svg", "csv", "tsv", "toml", "yaml"];
    if !textual.contains(&extension.as_str()) && known.contains(&extension.trim_start_matches('.'))
    {
        return Err(format!("{extension} file, no prose expected"));
    }
    Ok(Kind::Text)
}

fn json_kind(start: &[u8]) -> Result<Kind, String> {
    let line = start.split(|b| *b == b'\n').next().unwrap_or_default();
    let whole = start.contains(&b'\n') || start.len() < START - 8;
    let object = serde_json::from_slice::<serde_json::Value>(line).is_ok_and(|v| v.is_object());
    // A line longer than what is looked at is believed if it begins like an object with a key.
    let long = !whole && start[1..].trim_ascii_start().starts_with(b"\"");
    if object || long { Ok(Kind::JsonLines) } else { Err("JSON, but not one object a line".into()) }
}

fn looks_like_html(start: &[u8]) -> bool {
    let lower = start[..start.len().min(2048)].to_ascii_lowercase();
    if lower.first() != Some(&b'<') {
        return false;
    }
    let tags: [&[u8]; 8] =
        [b"<!doctype html", b"<html", b"<head", b"<body", b"<title", b"<meta", b"<div", b"<p>"];
    tags.iter().any(|tag| lower.windows(tag.len()).any(|w| w == *tag))
}

/// Front matter, or headings with `#` and links: enough to be Markdown whatever the name.
fn looks_like_markdown(start: &[u8]) -> bool {
    let text = String::from_utf8_lossy(start);
    if text.starts_with("---\n") && text[4..].contains("\n---\n") {
        return true;
    }
    let headings = text.lines().filter(|l| l.starts_with("# ") || l.starts_with("## ")).count();
    headings >= 2 && text.contains("](")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn check(name: &str, bytes: &[u8], expected: Result<Kind, &str>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        match (recognise(&path).unwrap(), expected) {
            (Ok(found), Ok(kind)) => assert_eq!(found, kind, "{name}"),
            (Err(found), Err(part)) => assert!(found.contains(part), "{found}"),
            (found, expected) => panic!("{name}: {found:?}, expected {expected:?}"),
        }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn content_decides() {
        check("a.txt", b"WARC/1.0\r\n", Ok(Kind::Warc));
        check("a", &gzip(b"WARC/1.0\r\n"), Ok(Kind::Warc));
        check("a", &zstd::encode_all(&b"WARC/1.0\r\n"[..], 1).unwrap(), Ok(Kind::Warc));
        check("a", b"filedesc://x 0.0.0.0 20080430204825 text/plain 3\n", Ok(Kind::Warc));
        check("a", b"\xef\xbb\xbf\n<!DOCTYPE HTML>", Ok(Kind::Html));
        check("a.gz", &gzip(b"<html lang=en>"), Ok(Kind::Html));
        check("a", b"{\"text\": \"x\"}\n{\"text\": \"y\"}\n", Ok(Kind::JsonLines));
        check("a", b"PAR1....", Ok(Kind::Parquet));
        check("a.md", b"text", Ok(Kind::Markdown));
        check("a.txt", b"It was a dark and stormy night.", Ok(Kind::Text));
    }

    #[test]
    fn what_holds_no_text_says_what_it_is() {
        check("a.txt", b"", Err("empty"));
        check("a.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01", Err("binary"));
        check("a.json", b"{\n  \"a\": 1\n}", Err("JSON"));
        check("a.json", b"[\n {\"text\": \"x\"}]", Err("jq"));
        check("a.css", b"body { color: red }", Err(".css"));
        check("a.gz", &gzip(b"x")[..8], Err("damaged"));
    }
}
