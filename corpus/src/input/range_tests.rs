//! Whatever an input is cut into, its ranges together are the whole: every kind, genuine crawls,
//! crawls damaged on purpose.

use super::*;
use crate::input::{Body, Found, expand};
use std::io::Write;
use std::path::{Path, PathBuf};

/// All that is read of an item, in words.
fn told(found: Found) -> String {
    match found {
        Found::Page(page) => {
            let body = match &page.body {
                Body::Document(document) => document.text.clone().into_bytes(),
                Body::Html(bytes, _) | Body::Text(bytes) | Body::Markdown(bytes) => bytes.clone(),
                Body::Refused(rule, detail) => format!("{rule} {detail}").into_bytes(),
            };
            let body = xxhash_rust::xxh3::xxh3_64(&body);
            format!("{} {} {} {:?} {body:x}", page.position, page.name, page.url, page.date)
        }
        Found::Skipped(kind) => kind,
        Found::Damaged(place, reason) => format!("{place} {reason}"),
    }
}

fn read(input: &Input, range: Range) -> Vec<String> {
    let stream = input.open_range(range, 10_000, u64::MAX, &Access::usual()).unwrap();
    stream.map(|found| told(found.unwrap())).collect()
}

/// Cuts an input in many ways; returns what is in it.
fn check(path: &Path) -> Vec<String> {
    let (inputs, _) = expand(&[path.to_owned()], &Access::usual()).unwrap();
    let mut all = Vec::new();
    for input in &inputs {
        let whole = read(input, Range::WHOLE);
        let size = input.bytes(&Access::usual()).unwrap();
        let least = 1 + size / 60;
        for bytes in [u64::MAX, size / 2, size / 3 + 1, size / 7 + 13, size / 23 + 1, least] {
            let ranges = input.ranges(bytes.max(1), &Access::usual()).unwrap();
            assert_eq!(ranges[0].from, 0);
            assert!(ranges.windows(2).all(|pair| pair[0].to == pair[1].from), "{ranges:?}");
            let parts: Vec<String> = ranges.iter().flat_map(|range| read(input, *range)).collect();
            let unlike = parts.iter().zip(&whole).position(|(part, whole)| part != whole);
            let at = unlike.unwrap_or(parts.len().min(whole.len()));
            let (part, of) = (parts.get(at), whole.get(at));
            assert!(parts == whole, "{} by {bytes}: {at}: {part:?} / {of:?}", path.display());
        }
        all.extend(whole);
    }
    all
}

fn check_bytes(name: &str, bytes: &[u8]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    check(&path)
}

fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Numbers from a seed.
fn draws(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below.max(1)
    }
}

/// A record of `bytes` bytes of a text that does not become small.
fn record(n: usize, bytes: usize) -> Vec<u8> {
    let mut draw = draws(n as u64);
    let text: String = (0..bytes).map(|_| char::from(33 + draw(89) as u8)).collect();
    // Every third has no id, so that its position is where it stands.
    let id = if n.is_multiple_of(3) { "".into() } else { format!("WARC-Record-ID: <urn:{n}>\r\n") };
    format!(
        "WARC/1.0\r\nWARC-Type: resource\r\n{id}Content-Type: text/plain\r\n\
         Content-Length: {bytes}\r\n\r\n{text}\r\n\r\n"
    )
    .into_bytes()
}

/// Records of sizes from tiny to larger than what a start is verified by.
fn records() -> Vec<Vec<u8>> {
    let mut draw = draws(5);
    (0..60).map(|n| record(n, [30, 300, 9_000, 40_000, 400_000][draw(5)])).collect()
}

#[test]
fn packed_and_plain_crawls() {
    for each in [
        records().iter().map(|r| gzip(r, 6)).collect::<Vec<_>>(),
        records().iter().map(|r| zstd::encode_all(&r[..], 3).unwrap()).collect(),
        records(),
        vec![gzip(&records().concat(), 6)],
        records().concat().chunks(50_000).map(|part| gzip(part, 1)).collect(),
        records().chunks(3).map(|three| gzip(&three.concat(), 6)).collect(),
    ] {
        let found = check_bytes("x.warc", &each.concat());
        assert_eq!(found.len(), 60);
    }
}

#[test]
fn a_crawl_within_a_crawl() {
    let inner: Vec<u8> = (0..200).flat_map(|n| gzip(&record(n, 5_000), 6)).collect();
    let header = format!(
        "WARC/1.0\r\nWARC-Type: resource\r\nWARC-Record-ID: <urn:outer>\r\nContent-Type: \
         application/warc\r\nContent-Length: {}\r\n\r\n",
        inner.len()
    );
    let outer = [header.as_bytes(), &inner, b"\r\n\r\n"].concat();
    let around = |n: usize| gzip(&record(n, 9_000), 6);
    for level in [0, 6] {
        let members = [around(1), gzip(&outer, level), around(2), around(3)];
        assert_eq!(check_bytes("x.warc.gz", &members.concat()).len(), 4);
    }
    let plain: Vec<u8> = (0..50).flat_map(|n| record(n, 4_000)).collect();
    let header = header.replace(&inner.len().to_string(), &plain.len().to_string());
    let outer = [header.as_bytes(), &plain, b"\r\n\r\n"].concat();
    let file = [record(1, 900), outer, record(2, 40_000)].concat();
    assert_eq!(check_bytes("x.warc", &file).len(), 3);
}

#[test]
fn damage_at_every_cut() {
    for seed in 0..6 {
        let mut draw = draws(seed);
        let packed = seed % 3 < 2;
        let mut file = Vec::new();
        for one in records() {
            let mut member = if packed { gzip(&one, 6) } else { one };
            let at = draw(member.len());
            match draw(5) {
                0 => member[at] ^= 1 << draw(8),
                1 => member.truncate(at),
                2 => member.extend(b"\r\ngarbage\r\n"),
                _ => {}
            }
            file.extend(member);
        }
        // The first record tells what the file is.
        let first = if packed { gzip(&record(1, 50), 6) } else { record(1, 50) };
        check_bytes("x.warc", &[first, file].concat());
    }
}

#[test]
fn wrong_lengths_do_not_reach_into_the_next_member() {
    let longer = |n| {
        let text = String::from_utf8(record(n, 30_000)).unwrap();
        gzip(text.replace("Length: 30000", "Length: 90000").as_bytes(), 6)
    };
    let members: Vec<Vec<u8>> =
        (0..40).map(|n| if n % 5 == 4 { longer(n) } else { gzip(&record(n, 30_000), 6) }).collect();
    let found = check_bytes("x.warc.gz", &members.concat());
    assert_eq!(found.iter().filter(|f| f.contains("cut off")).count(), 8);
    assert_eq!(found.len(), 40);
}

#[test]
fn lines_folders_and_rows() {
    let mut draw = draws(1);
    let lines: Vec<String> = (0..300)
        .map(|n| match draw(9) {
            0 => "\n".into(),
            1 => "{\"text\": \n".into(),
            _ => format!("{{\"text\": \"{}\", \"n\": {n}}}\n", "é".repeat(draw(700))),
        })
        .collect();
    let text = format!("{{\"text\": \"first\"}}\n{}{{\"text\": \"no end\"}}", lines.concat());
    assert_eq!(check_bytes("x.jsonl", text.as_bytes()).len(), 302);
    assert_eq!(check_bytes("x.jsonl.gz", &gzip(text.as_bytes(), 6)).len(), 302);

    let dir = tempfile::tempdir().unwrap();
    for n in 0..70 {
        let text = format!("<html><p>{}", "x".repeat(draw(3000)));
        std::fs::write(dir.path().join(format!("{n}.html")), text).unwrap();
    }
    std::fs::write(dir.path().join("y.txt"), "words").unwrap();
    assert_eq!(check(dir.path()).len(), 71);

    let dir = tempfile::tempdir().unwrap();
    let row = |n: usize| quipu_documents::Document {
        text: format!("{n} {}", "x".repeat(n % 50)),
        ..Default::default()
    };
    let writer = quipu_documents::Writer::new(dir.path()).unwrap();
    let rows: Vec<_> = (0..20_000).map(row).collect();
    let units = [&rows[..], &rows[..10]].into_iter().enumerate();
    let files = units.map(|(unit, rows)| writer.write(unit, rows, &[]).unwrap()).collect();
    writer.finish(files, serde_json::Value::Null).unwrap();
    assert_eq!(check(dir.path()).len(), 20_010);
    let file = dir.path().join("documents-00000.parquet");
    let (inputs, _) = expand(std::slice::from_ref(&file), &Access::usual()).unwrap();
    assert_eq!(inputs[0].ranges(1, &Access::usual()).unwrap().len(), 3);
    assert_eq!(check(&file).len(), 20_000);
}

/// Lines of many lengths, some that are no object.
fn lines(count: usize) -> Vec<u8> {
    let mut draw = draws(3);
    let mut text = b"{\"text\": \"first\"}\n".to_vec();
    for n in 0..count {
        match draw(9) {
            0 => text.push(b'\n'),
            1 => text.extend(b"{\"text\": \n"),
            _ => {
                let length = [5, 300, 9_000, 90_000][draw(4)];
                let noise: String =
                    (0..length).map(|_| char::from(b'a' + draw(26) as u8)).collect();
                text.extend(format!("{{\"text\": \"{noise}\", \"n\": {n}}}\n").bytes());
            }
        }
    }
    text
}

#[test]
fn packed_lines_are_cut_where_members_begin() {
    let text = lines(200);
    let ends: Vec<usize> = memchr::memchr_iter(b'\n', &text).map(|at| at + 1).collect();
    // Members of a line each, of several, and cut in the middle of lines.
    let by_line: Vec<&[u8]> =
        std::iter::once(&0).chain(&ends).zip(&ends).map(|(from, to)| &text[*from..*to]).collect();
    for zstd in [false, true] {
        let large: Vec<&[u8]> = text.chunks(700_000).collect();
        for parts in [by_line.clone(), text.chunks(30_000).collect(), large] {
            let pack = |part: &&[u8]| match zstd {
                true => zstd::encode_all(*part, 3).unwrap(),
                false => gzip(part, 6),
            };
            let file: Vec<u8> = parts.iter().flat_map(pack).collect();
            assert_eq!(check_bytes("x.jsonl", &file).len(), 201);
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let count = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let input = &expand(&[path], &Access::usual()).unwrap().0[0];
        input.ranges(200_000, &Access::usual()).unwrap().len()
    };
    let many: Vec<u8> = by_line.iter().flat_map(|part| gzip(part, 6)).collect();
    assert!(count("many.jsonl.gz", &many) > 5);
    assert_eq!(count("one.jsonl.gz", &gzip(&text, 6)), 1);
}

#[test]
fn damage_in_packed_lines() {
    let text = lines(200);
    for seed in 0..8 {
        let mut draw = draws(seed);
        let mut file = gzip(b"{\"text\": \"first\"}\n", 6);
        for part in text.chunks(20_000) {
            let mut member =
                if seed % 2 == 0 { gzip(part, 6) } else { zstd::encode_all(part, 3).unwrap() };
            let at = draw(member.len());
            match draw(100) {
                0 => member[at] ^= 1 << draw(8),
                1 => member.truncate(at),
                2 => member.extend(b"garbage\n"),
                _ => {}
            }
            file.extend(member);
        }
        check_bytes("x.jsonl", &file);
    }
}

fn shared(test: &str) -> Option<PathBuf> {
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared"));
    let path = std::env::var_os("QUIPU_SHARED").map_or(beside, PathBuf::from);
    if !path.is_dir() {
        eprintln!("SKIPPED: {test}: shared data absent");
        return None;
    }
    Some(path)
}

#[test]
fn genuine_crawls() {
    let Some(shared) = shared("genuine_crawls") else { return };
    check(&shared.join("data/crawl.warc.gz"));
    let mut files = 0;
    for folder in std::fs::read_dir(shared.join("data/warc-samples")).unwrap() {
        let folder = folder.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if crate::input::kind::recognise(&path).unwrap() == Ok(Kind::Warc) {
                check(&path);
                files += 1;
            }
        }
    }
    assert!(files >= 30, "{files}");
}
