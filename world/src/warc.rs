//! Writes WARC 1.1 records, each a gzip member of its own; damages some on purpose.
//!
//! NOT a reader (that is `corpus`). ISO 28500:2017.

use crate::markup::Reply;
use crate::random::Draw;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{self, Write};

/// Record ids are made from what the record is, so that the same world has the same ids.
pub(crate) fn record_id(seed: u64, purpose: &str, index: u64) -> String {
    let mut draw = Draw::keyed(seed, purpose, index);
    let (a, b) = (draw.next(), draw.next());
    format!(
        "urn:uuid:{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xfff,
        b >> 52,
        b & 0xffff_ffff_ffff
    )
}

/// What a record says about itself.
#[derive(Debug)]
pub(crate) struct Header<'a> {
    pub(crate) kind: &'a str,
    pub(crate) id: &'a str,
    pub(crate) url: Option<&'a str>,
    pub(crate) date: &'a str,
    pub(crate) content_type: &'a str,
}

/// One record as a gzip member.
pub(crate) fn member(header: &Header<'_>, payload: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = GzEncoder::new(Vec::with_capacity(payload.len() / 3), Compression::new(5));
    write!(out, "WARC/1.1\r\nWARC-Type: {}\r\n", header.kind)?;
    write!(out, "WARC-Record-ID: <{}>\r\n", header.id)?;
    if let Some(url) = header.url {
        write!(out, "WARC-Target-URI: {url}\r\n")?;
    }
    write!(out, "WARC-Date: {}\r\nContent-Type: {}\r\n", header.date, header.content_type)?;
    write!(out, "Content-Length: {}\r\n\r\n", payload.len())?;
    out.write_all(payload)?;
    out.write_all(b"\r\n\r\n")?;
    out.finish()
}

/// The HTTP message of a reply.
pub(crate) fn http(reply: &Reply) -> Vec<u8> {
    let reason = match reply.status {
        200 => "OK",
        403 => "Forbidden",
        404 => "Not Found",
        _ => "Error",
    };
    let mut out = format!("HTTP/1.1 {} {reason}\r\nServer: plain/1.0\r\n", reply.status);
    if let Some(kind) = reply.content_type {
        out.push_str(&format!("Content-Type: {kind}\r\n"));
    }
    out.push_str(&format!("Content-Length: {}\r\n\r\n", reply.body.len()));
    let mut bytes = out.into_bytes();
    bytes.extend(&reply.body);
    bytes
}

/// Damages a member: flips bytes in its middle, or cuts it off.
pub(crate) fn damage(mut member: Vec<u8>, draw: &mut Draw) -> Vec<u8> {
    let half = member.len() / 2;
    if draw.chance(0.5) {
        member.truncate(half);
    } else {
        for byte in member.iter_mut().skip(half).take(24) {
            *byte ^= 0x5a;
        }
    }
    member
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_member_holds_one_record_of_the_declared_length() {
        let id = record_id(1, "page", 2);
        let header = Header {
            kind: "response",
            id: &id,
            url: Some("http://a.example/"),
            date: "2024-01-01T00:00:00Z",
            content_type: "application/http; msgtype=response",
        };
        let reply = Reply { status: 200, content_type: Some("text/html"), body: b"<p>x".to_vec() };
        let payload = http(&reply);
        let bytes = member(&header, &payload).unwrap();
        let mut text = String::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
        assert!(
            text.contains(&format!("Content-Length: {}\r\n\r\nHTTP/1.1 200 OK", payload.len()))
        );
        assert!(text.ends_with("<p>x\r\n\r\n"));
        let broken = damage(bytes.clone(), &mut Draw::keyed(1, "damage", 0));
        assert_ne!(bytes, broken);
        assert_eq!(id.len(), "urn:uuid:".len() + 36);
    }
}
