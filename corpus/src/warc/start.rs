//! Where a compressed crawl can be entered in the middle: starts of members that hold records; and
//! compressed lines likewise, at members that hold text.
//!
//! A member's magic number may also stand inside a member: in a stored block, for instance where
//! a page was itself a compressed crawl. But a stored block of gzip ends after 64 KiB, one of zstd
//! after 128 KiB, and the header of the next breaks what stands in it. So a place is a start if
//! members that begin records follow each other from there without a gap or an error for
//! [`CHAIN`] bytes, or to the end of the file. What is a start depends on the bytes behind it
//! alone: the reader of a range finds its first start by that, and the reader of the range before
//! stops at the same one. A start in front of damage is none; the range before reads on over it.

use super::arc;
use flate2::bufread::GzDecoder;
use std::io::{self, Read};
use std::sync::Arc;
use zstd::dict::DecoderDictionary;
use zstd::stream::read::Decoder;

/// Bytes of members that must follow each other: twice the longest stored block, so that what is
/// cut by one has room to fail.
pub(super) const CHAIN: usize = 256 << 10;
/// Bytes that may be inflated in finding that out; what inflates to more is not entered.
const MOST: usize = 16 << 20;
/// Inflated bytes by which a record is recognised.
pub(super) const FIRST: usize = 4096;
/// First bytes of a gzip member with the only method there is.
pub(super) const GZIP: [u8; 3] = [0x1f, 0x8b, 8];
/// First bytes of a zstd frame.
pub(super) const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What has to be known of a crawl to read it from the middle.
#[derive(Clone, Default)]
pub struct Form {
    /// Whether its records are ARC's.
    pub arc: bool,
    /// Whether it holds lines of text and no records.
    pub lines: bool,
    /// Whether it is compressed.
    pub packed: bool,
    /// The dictionary of its zstd frames.
    pub dictionary: Option<Arc<DecoderDictionary<'static>>>,
}

/// Whether inflated bytes begin a record.
pub(super) fn begins_record(bytes: &[u8], arc: bool) -> bool {
    let text = bytes[..bytes.len().min(FIRST)].trim_ascii_start();
    if text.starts_with(b"WARC/") {
        return true;
    }
    let Some(end) = text.iter().position(|b| *b == b'\n') else { return false };
    let line = text[..end].trim_ascii();
    arc && arc::begins(line) && arc::parse(line).is_ok()
}

/// Whether inflated bytes begin what a file of this form holds.
fn begins(bytes: &[u8], form: &Form) -> bool {
    match form.lines {
        true => bytes.iter().all(|b| *b >= b' ' || matches!(b, b'\t' | b'\n' | b'\r')),
        false => begins_record(bytes, form.arc),
    }
}

/// Whether bytes begin a gzip member or zstd frame, as far as five bytes can tell: the three high
/// bits of a gzip member's flags are reserved and zero.
pub(super) fn begins_member(bytes: &[u8]) -> bool {
    (bytes.len() > 3 && bytes.starts_with(&GZIP) && bytes[3] & 0xe0 == 0)
        || bytes.starts_with(&ZSTD)
}

/// Length of a zstd frame that holds no data but somebody's own (a dictionary), with its header.
pub(super) fn skippable(bytes: &[u8]) -> Option<u64> {
    let header: &[u8; 8] = bytes.first_chunk()?;
    let magic = header[0] & 0xf0 == 0x50 && header[1..4] == [0x2a, 0x4d, 0x18];
    let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    magic.then_some(8 + u64::from(length))
}

/// Bytes of a dictionary.
pub(super) const MAX_DICTIONARY: u64 = 16 << 20;
/// First bytes of the frame with which a `.warc.zst` begins where its frames need a dictionary
/// (the Archive Team's form, which `warc-zstd` of the IIPC describes).
const DICTIONARY: [u8; 4] = [0x5d, 0x2a, 0x4d, 0x18];

/// The dictionary in the first frame of a file; it may be compressed itself.
pub(super) fn dictionary(frame: &[u8]) -> Option<Arc<DecoderDictionary<'static>>> {
    let content = frame.strip_prefix(&DICTIONARY)?.get(4..)?;
    if !content.starts_with(&ZSTD) {
        return Some(Arc::new(DecoderDictionary::copy(content)));
    }
    let mut bytes = Vec::new();
    let read = Decoder::with_buffer(content)
        .and_then(|inflated| inflated.single_frame().take(MAX_DICTIONARY).read_to_end(&mut bytes));
    read.ok().map(|_| Arc::new(DecoderDictionary::copy(&bytes)))
}

/// What a member is, as far as some bytes hold it.
enum Member {
    /// Whole, of so many bytes.
    Whole(usize),
    /// Sound to the end of the bytes, and not yet over.
    Open,
    /// Damaged, or not the beginning of a record.
    Bad,
}

/// Whether `window` begins with a start; `ends` says that the file ends with it.
pub(super) fn is_start(window: &[u8], ends: bool, form: &Form) -> bool {
    let (mut rest, mut budget) = (window, MOST);
    if !begins_member(rest) {
        return false;
    }
    loop {
        if let Some(length) = skippable(rest) {
            match rest.get(usize::try_from(length).unwrap_or(usize::MAX)..) {
                Some(behind) => rest = behind,
                None => return !ends,
            }
            continue;
        }
        if rest.len() < 5 {
            return rest.is_empty() || !ends || rest.iter().all(|b| *b == 0);
        }
        if rest.iter().all(|b| *b == 0) {
            return ends; // padding
        }
        if !begins_member(rest) {
            return false;
        }
        match member(rest, form, &mut budget) {
            Member::Whole(length) => rest = &rest[length..],
            Member::Open => return !ends,
            Member::Bad => return false,
        }
    }
}

fn member(bytes: &[u8], form: &Form, budget: &mut usize) -> Member {
    if bytes.starts_with(&GZIP) {
        let mut decoder = GzDecoder::new(bytes);
        return match sound(&mut decoder, form, budget) {
            Some(true) => Member::Whole(bytes.len() - decoder.into_inner().len()),
            Some(false) => Member::Open,
            None => Member::Bad,
        };
    }
    let Ok(mut decoder) = zstd_decoder(bytes, form.dictionary.as_deref()) else {
        return Member::Bad;
    };
    match sound(&mut decoder, form, budget) {
        Some(true) => Member::Whole(bytes.len() - decoder.finish().len()),
        Some(false) => Member::Open,
        None => Member::Bad,
    }
}

/// A decoder of one frame. It must not outlive the dictionary.
pub(super) fn zstd_decoder<R: io::BufRead>(
    reader: R,
    dictionary: Option<&DecoderDictionary<'static>>,
) -> io::Result<Decoder<'static, R>> {
    let decoder = match dictionary {
        Some(dictionary) => Decoder::with_prepared_dictionary(reader, dictionary)?,
        None => Decoder::with_buffer(reader)?,
    };
    Ok(decoder.single_frame())
}

/// Whether a member that begins a record, or text, is sound: to its end (`true`) or as far as it is
/// there.
fn sound(decoder: &mut impl Read, form: &Form, budget: &mut usize) -> Option<bool> {
    let (mut buffer, mut have, mut seen) = ([0; 32 << 10], 0, false);
    loop {
        // The first bytes are collected until a record can be recognised.
        let from = if seen { 0 } else { have };
        let read = decoder.read(&mut buffer[from..]);
        if let Ok(n) = read
            && n > 0
        {
            *budget = budget.checked_sub(n)?;
            have += n;
            if seen || have < FIRST {
                continue;
            }
        }
        if !seen && !begins(&buffer[..have.min(buffer.len())], form) {
            let cut = read.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::UnexpectedEof);
            return if cut && have < FIRST { Some(false) } else { None };
        }
        seen = true;
        match read {
            Ok(0) => return Some(true),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Some(false),
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
        let level = flate2::Compression::new(level);
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// A text that does not become small.
    fn noise(bytes: usize) -> String {
        let mut state = bytes as u64;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(33 + (state >> 33) as u8 % 89)
        };
        (0..bytes).map(|_| draw()).collect()
    }

    fn record(bytes: usize) -> Vec<u8> {
        format!("WARC/1.0\r\nContent-Length: {bytes}\r\n\r\n{}\r\n\r\n", noise(bytes)).into_bytes()
    }

    fn check(file: &[u8], expected: bool) {
        let window = &file[..file.len().min(CHAIN)];
        assert_eq!(is_start(window, file.len() <= CHAIN, &Form::default()), expected);
    }

    #[test]
    fn members_in_a_row_are_starts_to_the_end_or_for_long_enough() {
        let one = gzip(&record(20_000), 6);
        check(&one, true);
        check(&one[..one.len() - 1], false);
        check(&one.repeat(40), true);
        check(&[one.repeat(3), vec![0; 512]].concat(), true);
        check(&[one.repeat(3), b"garbage".to_vec()].concat(), false);
        check(&gzip(&record(2 << 20), 6), true);
        check(&gzip(b"no record", 6), false);
        check(&zstd::encode_all(&record(20_000)[..], 1).unwrap().repeat(3), true);
    }

    #[test]
    fn a_crawl_stored_in_a_member_is_no_start() {
        for (inner, bytes) in [(500, 3 << 20), (20_000, 1 << 20), (100_000, 1 << 20)] {
            let inner = gzip(&record(inner), 6);
            let mut whole = b"WARC/1.0\r\nContent-Length: 1\r\n\r\n".to_vec();
            whole.extend(inner.repeat(bytes / inner.len()));
            for outer in
                [gzip(&whole, 0), gzip(&whole, 6), zstd::encode_all(&whole[..], 1).unwrap()]
            {
                let found = |at: &usize| {
                    let end = (at + CHAIN).min(outer.len());
                    is_start(&outer[*at..end], end == outer.len(), &Form::default())
                };
                let starts: Vec<usize> = (0..outer.len())
                    .filter(|at| begins_member(&outer[*at..]) && found(at))
                    .collect();
                assert_eq!(starts, [0]);
            }
        }
    }
}
