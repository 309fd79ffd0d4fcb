//! The HTTP response inside a record: status, headers, transfer and content encodings undone.
//!
//! Crawlers disagree on whether stored bodies are still chunked or compressed when the headers say
//! so; the body itself decides. Not here: what the body's characters are.

use std::io::Read;

/// Bytes of a body after decompression; a page beyond it is refused.
pub const MAX_BODY: usize = 16 << 20;
/// Bytes of the headers.
const MAX_HEAD: usize = 256 << 10;

/// A response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// `Content-Type`, as it stands.
    pub content_type: Option<String>,
    /// The body, decoded.
    pub body: Vec<u8>,
    /// Whether the body ended before its encoding said so.
    pub cut: bool,
}

/// Why a block is not a page.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refused {
    /// No status line.
    #[error("not an HTTP response: begins with {0:?}")]
    NotHttp(String),
    /// A content encoding that is not read here.
    #[error("content encoding {0:?}; gzip, deflate and zstd are read")]
    Encoding(String),
    /// The body does not decompress at all.
    #[error("{0} body does not decompress")]
    Damaged(&'static str),
    /// Larger than [`MAX_BODY`].
    #[error("page is larger than {MAX_BODY} bytes")]
    TooLarge,
}

/// Reads a response from the block of a record.
pub fn parse(block: Vec<u8>) -> Result<Response, Refused> {
    if !block.starts_with(b"HTTP/") {
        let start = String::from_utf8_lossy(&block[..block.len().min(24)]).into_owned();
        return Err(Refused::NotHttp(start));
    }
    let end = head_length(&block);
    let head = String::from_utf8_lossy(&block[..end]).into_owned();
    let mut lines = head.lines();
    let status_line = lines.next().unwrap_or_default();
    let status = status_line.split_ascii_whitespace().nth(1).and_then(|s| s.parse().ok());
    let (mut content_type, mut coding, mut chunked) = (None, String::new(), false);
    let mut length = None;
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match name.trim().to_ascii_lowercase().as_str() {
            "content-type" => content_type = Some(value.to_owned()),
            "content-encoding" => coding = value.to_ascii_lowercase(),
            "content-length" => length = value.parse::<usize>().ok(),
            "transfer-encoding" => chunked = value.to_ascii_lowercase().contains("chunked"),
            _ => {}
        }
    }
    let mut body = block;
    body.drain(..end);
    let mut cut = false;
    if chunked && let Some((whole, ended)) = dechunk(&body) {
        body = whole;
        cut |= !ended;
    } else {
        // A crawler that stores pages decoded leaves a length that is smaller, never a larger one.
        cut |= length.is_some_and(|length| body.len() < length);
    }
    for coding in coding.split(',').map(str::trim).rev() {
        let (decoded, ended) = decode(body, coding)?;
        body = decoded;
        cut |= !ended;
    }
    if body.len() > MAX_BODY {
        return Err(Refused::TooLarge);
    }
    Ok(Response { status: status.unwrap_or(0), content_type, body, cut })
}

/// Length of status line and headers with the blank line behind them.
fn head_length(block: &[u8]) -> usize {
    let head = &block[..block.len().min(MAX_HEAD)];
    let mut line = 0;
    for (i, byte) in head.iter().enumerate() {
        if *byte == b'\n' {
            if head[line..i].trim_ascii().is_empty() {
                return i + 1;
            }
            line = i + 1;
        }
    }
    head.len()
}

/// A chunked body put together, and whether it ended properly; `None` where it is not chunked.
fn dechunk(body: &[u8]) -> Option<(Vec<u8>, bool)> {
    let mut out = Vec::with_capacity(body.len());
    let mut rest = body;
    while !rest.is_empty() {
        let line = rest[..rest.len().min(300)].iter().position(|b| *b == b'\n');
        let size = line.and_then(|end| chunk_size(&rest[..end]));
        let (Some(end), Some(size)) = (line, size) else {
            // The first chunk decides whether this is chunked at all.
            return if out.is_empty() { None } else { Some((out, false)) };
        };
        if size == 0 {
            return Some((out, true));
        }
        rest = &rest[end + 1..];
        out.extend_from_slice(&rest[..size.min(rest.len())]);
        rest = rest.get(size..).unwrap_or_default();
        rest = rest.strip_prefix(b"\r").unwrap_or(rest);
        rest = rest.strip_prefix(b"\n").unwrap_or(rest);
    }
    Some((out, false))
}

fn chunk_size(line: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(line).ok()?;
    let digits = text.split(';').next()?.trim();
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    usize::from_str_radix(digits, 16).ok()
}

/// A body without one content encoding, and whether it ended properly.
fn decode(body: Vec<u8>, coding: &str) -> Result<(Vec<u8>, bool), Refused> {
    match coding {
        "" | "identity" | "none" | "utf-8" => Ok((body, true)),
        "gzip" | "x-gzip" if !body.starts_with(&[0x1f, 0x8b]) => Ok((body, true)),
        "gzip" | "x-gzip" => inflate(flate2::read::MultiGzDecoder::new(&body[..]), "gzip"),
        "deflate" => {
            // Both forms are in use, with and without the zlib header; neither has a magic number.
            let zlib = inflate(flate2::read::ZlibDecoder::new(&body[..]), "deflate");
            let raw = || inflate(flate2::read::DeflateDecoder::new(&body[..]), "deflate");
            match zlib.or_else(|e| if e == Refused::TooLarge { Err(e) } else { raw() }) {
                Err(Refused::Damaged(_)) => Ok((body, true)),
                other => other,
            }
        }
        "zstd" if !body.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) => Ok((body, true)),
        "zstd" => match zstd::stream::read::Decoder::new(&body[..]) {
            Ok(decoder) => inflate(decoder, "zstd"),
            Err(_) => Err(Refused::Damaged("zstd")),
        },
        // Crawlers mostly store such pages decoded; text says so by being text.
        _ if looks_like_text(&body) => Ok((body, true)),
        other => Err(Refused::Encoding(other.to_owned())),
    }
}

fn looks_like_text(body: &[u8]) -> bool {
    let start = &body[..body.len().min(256)];
    start.trim_ascii_start().starts_with(b"<")
}

fn inflate(reader: impl Read, name: &'static str) -> Result<(Vec<u8>, bool), Refused> {
    let mut out = Vec::new();
    let result = reader.take(MAX_BODY as u64 + 1).read_to_end(&mut out);
    if out.len() > MAX_BODY {
        return Err(Refused::TooLarge);
    }
    match result {
        Ok(_) => Ok((out, true)),
        Err(_) if out.is_empty() => Err(Refused::Damaged(name)),
        Err(_) => Ok((out, false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn check(headers: &str, body: &[u8], expected: Result<(&str, bool), Refused>) {
        let block = [format!("HTTP/1.1 200 OK\r\n{headers}\r\n").as_bytes(), body].concat();
        let found = parse(block);
        let found = found.as_ref().map(|r| (String::from_utf8_lossy(&r.body).into_owned(), r.cut));
        let expected = expected.map(|(text, cut)| (text.to_owned(), cut));
        assert_eq!(found.map_err(Clone::clone), expected, "{headers}");
    }

    #[test]
    fn encodings_are_undone_where_the_body_has_them() {
        let chunked = "Transfer-Encoding: chunked\r\n";
        check("", b"<p>x", Ok(("<p>x", false)));
        check("Content-Length: 4\r\n", b"<p>x", Ok(("<p>x", false)));
        check("Content-Length: 5\r\n", b"<p>x", Ok(("<p>x", true)));
        check("Content-Length: 3\r\n", b"<p>x", Ok(("<p>x", false)));
        check(chunked, b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", Ok(("abcde", false)));
        check(chunked, b"<p>not chunked", Ok(("<p>not chunked", false)));
        check(chunked, b"5\r\nabc", Ok(("abc", true)));
        check("Content-Encoding: gzip\r\n", &gzip(b"abc"), Ok(("abc", false)));
        check("content-encoding: gzip\r\n", b"<p>already", Ok(("<p>already", false)));
        let both = [b"17\r\n".as_slice(), &gzip(b"abc"), b"\r\n0\r\n\r\n"].concat();
        assert_eq!(gzip(b"abc").len(), 0x17);
        check(&format!("{chunked}Content-Encoding: gzip\r\n"), &both, Ok(("abc", false)));
        check("Content-Encoding: br\r\n", b"<html>", Ok(("<html>", false)));
        let brotli = Refused::Encoding("br".into());
        check("Content-Encoding: br\r\n", b"\x0b\x02", Err(brotli));
        check("Content-Encoding: gzip\r\n", b"\x1f\x8b", Err(Refused::Damaged("gzip")));
    }

    #[test]
    fn a_bomb_is_refused_without_being_unpacked() {
        let bomb = gzip(&vec![b' '; MAX_BODY * 3]);
        assert!(bomb.len() < MAX_BODY / 100);
        check("Content-Encoding: gzip\r\n", &bomb, Err(Refused::TooLarge));
    }

    #[test]
    fn what_is_not_http_says_how_it_begins() {
        assert_eq!(parse(b"<html>".to_vec()), Err(Refused::NotHttp("<html>".into())));
        assert_eq!(parse(b"HTTP/1.1".to_vec()).unwrap().status, 0);
    }
}
