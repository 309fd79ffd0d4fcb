//! Records of crawls built here, of genuine files, and of mutations of both.
//!
//! Not what responses say; that is tested beside `http`.

use super::*;
use std::io::Write;
use std::path::PathBuf;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn record(n: usize, block: &str) -> Vec<u8> {
    let (length, id) = (block.len(), format!("<urn:uuid:{n}>"));
    format!(
        "WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: {id}\r\nWARC-Target-URI: \
         http://a.example/{n}\r\nContent-Length: {length}\r\n\r\n{block}\r\n\r\n"
    )
    .into_bytes()
}

/// Records read and damaged pieces counted.
fn count(bytes: &[u8]) -> (usize, usize) {
    let mut counts = (0, 0);
    for item in Records::new(bytes) {
        match item.unwrap() {
            Item::Record(_) => counts.0 += 1,
            Item::Damage(_) => counts.1 += 1,
        }
    }
    counts
}

fn check(parts: &[Vec<u8>], records: usize, damaged: usize) {
    assert_eq!(count(&parts.concat()), (records, damaged));
}

#[test]
fn plain_and_packed_records() {
    check(&[], 0, 0);
    check(&[record(1, "one"), record(2, "")], 2, 0);
    check(&[gzip(&record(1, "one")), gzip(&record(2, "two"))], 2, 0);
    check(&[gzip(&[record(1, "one"), record(2, "two")].concat())], 2, 0);
    let frame = zstd::encode_all(&record(1, "one")[..], 1).unwrap();
    check(&[frame.clone(), frame], 2, 0);
}

#[test]
fn damage_costs_its_record_alone() {
    let mut bad = gzip(&record(2, "two"));
    bad[10] = 0xff;
    check(&[gzip(&record(1, "one")), bad.clone(), gzip(&record(3, "three"))], 2, 1);
    let no_length = b"WARC/1.0\r\nWARC-Type: response\r\n\r\nabc\r\n\r\n".to_vec();
    check(&[record(1, "one"), no_length.clone(), record(3, "three")], 2, 1);
    check(&[no_length, b"WARC/1.0\r\nContent-Length: 12x\r\n\r\n".to_vec()], 0, 2);
    check(&[record(1, "one"), b"garbage\r\n".to_vec(), record(3, "three")], 2, 1);
}

#[test]
fn a_wrong_length_costs_its_record_alone() {
    let lie = |block: &str, length: usize| {
        let text = String::from_utf8(record(2, block)).unwrap();
        let true_one = format!("Content-Length: {}", block.len());
        text.replace(&true_one, &format!("Content-Length: {length}")).into_bytes()
    };
    let block = "a line\r\nand another";
    for length in [0, 5, 18, 24, 60, 400, 5000, 20 << 20] {
        let parts = [record(1, "one"), lie(block, length), record(3, "three"), record(4, "four")];
        let bytes = parts.concat();
        let items: Vec<Item> = Records::new(&bytes[..]).map(Result::unwrap).collect();
        let ids: Vec<&str> = items
            .iter()
            .map(|item| match item {
                Item::Record(record) => record.id.trim_start_matches("urn:uuid:"),
                Item::Damage(_) => "damage",
            })
            .collect();
        assert_eq!(ids, ["1", "damage", "3", "4"], "{length}: {items:?}");
        let packed: Vec<Vec<u8>> = parts.iter().map(|part| gzip(part)).collect();
        check(&packed, 3, 1);
    }
    // Two record ends behind it are white space, and one less is none.
    check(&[lie(block, 19), record(3, "three")], 2, 0);
    check(&[lie(block, 23), record(3, "three")], 2, 0);
}

#[test]
fn a_cut_file_loses_its_last_record_alone() {
    let whole = [gzip(&record(1, "one")), gzip(&record(2, "two"))].concat();
    check(&[whole[..whole.len() - 12].to_vec()], 1, 1);
    let plain = [record(1, "one"), record(2, "two")].concat();
    check(&[plain[..plain.len() - 6].to_vec()], 1, 1);
}

#[test]
fn a_record_cut_in_the_middle_of_a_file_is_lost_alone() {
    let long =
        |n: usize| -> String { (0..4000).map(|i| format!("{} ", i * i % (97 + n))).collect() };
    let all: Vec<Vec<u8>> = (0..5).map(|n| gzip(&record(n, &long(n)))).collect();
    let ids = |members: &[Vec<u8>]| -> Vec<String> {
        let bytes = members.concat();
        let items = Records::new(&bytes[..]).map(Result::unwrap);
        items
            .map(|item| match item {
                Item::Record(record) => record.id.replace("urn:uuid:", ""),
                Item::Damage(_) => "damage".into(),
            })
            .collect()
    };
    for eighths in 2..7 {
        let cut = |n: usize| all[n][..all[n].len() * eighths / 8].to_vec();
        let found = ids(&[all[0].clone(), cut(1), all[2].clone(), all[3].clone()]);
        assert_eq!(found, ["0", "damage", "2", "3"]);
        let found = ids(&[all[0].clone(), cut(1), cut(2), all[3].clone(), all[4].clone()]);
        assert_eq!(found, ["0", "damage", "damage", "3", "4"]);
        let mut block = all[2].clone();
        block[10] = 0xff; // an impossible block type
        let found = ids(&[all[0].clone(), cut(1), block, all[3].clone()]);
        assert_eq!(found, ["0", "damage", "damage", "3"]);
    }
}

#[test]
fn a_false_beginning_in_a_damaged_member_gives_no_record() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    let inner =
        ["x".repeat(500).as_bytes(), &gzip(b"a packed page\n"), b"\x1f\x8b\x08\0x"].concat();
    encoder.write_all(&record(1, "")).unwrap();
    encoder.write_all(&inner.repeat(40)).unwrap();
    let outer = encoder.finish().unwrap();
    let parts = [gzip(&record(0, "one")), outer[..outer.len() - 30].to_vec(), gzip(&record(2, ""))];
    let bytes = parts.concat();
    let items: Vec<Item> = Records::new(&bytes[..]).map(Result::unwrap).collect();
    let mut ids = items.iter().filter_map(|item| match item {
        Item::Record(record) => Some(record.id.as_str()),
        Item::Damage(_) => None,
    });
    assert_eq!(ids.next_back(), Some("urn:uuid:2"));
    assert!(items.iter().all(|i| !matches!(i, Item::Record(r) if !r.id.starts_with("urn:uuid:"))));
}

#[test]
fn claims_of_the_file_are_not_believed() {
    let huge = b"WARC/1.0\r\nContent-Length: 18446744073709551615\r\n\r\nabc".to_vec();
    check(&[huge], 0, 1);
    let endless = [b"WARC/1.0\r\n".to_vec(), vec![b'a'; 3 << 20]].concat();
    check(&[endless, b"\r\n\r\n".to_vec(), record(1, "one")], 1, 1);
}

#[test]
fn a_block_beyond_the_limit_is_kept_in_part() {
    let bytes = gzip(&record(1, &"x".repeat(MAX_BLOCK + 100)));
    let Some(Ok(Item::Record(found))) = Records::new(&bytes[..]).next() else { panic!() };
    assert_eq!((found.block.len(), found.length), (MAX_BLOCK, MAX_BLOCK as u64 + 100));
    let two = [bytes, gzip(&record(2, "two"))].concat();
    assert_eq!(count(&two), (2, 0));
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

/// Each sample with records, responses, damaged pieces.
const SAMPLES: &[(&str, usize, usize, usize)] = &[
    ("aut/badexample.arc.gz", 3, 2, 3),
    ("aut/example.arc.gz", 300, 299, 0),
    ("aut/example.docs.warc.gz", 21, 9, 0),
    ("aut/example.warc.gz", 822, 299, 0),
    ("aut/issue-493.warc", 32, 10, 0),
    ("aut/issue-514.warc", 8, 2, 0),
    ("commoncrawl-whirlwind/whirlwind.warc", 4, 1, 0),
    ("commoncrawl-whirlwind/whirlwind.warc.gz", 4, 1, 0),
    ("commoncrawl-whirlwind/whirlwind.warc.wat", 2, 0, 0),
    ("commoncrawl-whirlwind/whirlwind.warc.wat.gz", 2, 0, 0),
    ("commoncrawl-whirlwind/whirlwind.warc.wet", 2, 0, 0),
    ("commoncrawl-whirlwind/whirlwind.warc.wet.gz", 2, 0, 0),
    ("resiliparse/block-sized-records.warc.gz", 3, 0, 0),
    ("resiliparse/clipped.warc.gz", 0, 0, 1),
    ("resiliparse/clueweb-quirk.warc.gz", 30, 29, 0),
    ("resiliparse/warcfile.warc.gz", 50, 16, 0),
    ("warcio/bad.arc", 1, 1, 2),
    ("warcio/example-bad-non-chunked.warc.gz", 6, 1, 0),
    ("warcio/example-bad.warc.gz.bad", 6, 2, 0),
    ("warcio/example-digest.warc", 4, 0, 0),
    ("warcio/example-iana.org-chunked.warc", 3, 1, 0),
    ("warcio/example-resource.warc.gz", 3, 0, 0),
    ("warcio/example-space-in-target-uri.warc.gz", 2, 0, 0),
    ("warcio/example-space-in-url.arc", 1, 0, 1),
    ("warcio/example-trunc.warc", 3, 0, 1),
    ("warcio/example-wget-bad-target-uri.warc.gz", 6, 1, 0),
    ("warcio/example-wrong-chunks.warc.gz", 2, 1, 0),
    ("warcio/example.arc", 2, 1, 0),
    ("warcio/example.arc.gz", 2, 1, 0),
    ("warcio/example.warc", 6, 1, 0),
    ("warcio/example.warc.gz", 6, 1, 0),
    ("warcio/post-test.warc.gz", 6, 3, 0),
];

#[test]
fn genuine_and_hand_damaged_files() {
    let Some(shared) = shared("genuine_and_hand_damaged_files") else { return };
    let mut wrong = Vec::new();
    for (name, records, responses, damaged) in SAMPLES {
        let file = std::fs::File::open(shared.join("data/warc-samples").join(name)).unwrap();
        let mut found = (0, 0, 0);
        for item in Records::new(file) {
            match item.unwrap() {
                Item::Record(r) => {
                    found.0 += 1;
                    found.1 += usize::from(r.kind == "response");
                }
                Item::Damage(_) => found.2 += 1,
            }
        }
        if found != (*records, *responses, *damaged) {
            wrong.push(format!("(\"{name}\", {}, {}, {}),", found.0, found.1, found.2));
        }
    }
    assert!(wrong.is_empty(), "found\n{}", wrong.join("\n"));
}

/// Seeded flips and cuts over valid files: records or damage, never a panic, never a hang.
#[test]
fn mutated_files_never_panic() {
    let plain: Vec<u8> = (0..8).flat_map(|n| record(n, &"block ".repeat(n * 7))).collect();
    let packed: Vec<u8> = (0..8).flat_map(|n| gzip(&record(n, &"block ".repeat(n * 7)))).collect();
    let arc = b"filedesc://x.arc 0.0.0.0 20080430204825 text/plain 3\nabc\n\
        http://a.example/ 1.2.3.4 20080430204825 text/html 5\nhello\n"
        .to_vec();
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    let mut state = 7u64;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below.max(1)
    };
    for valid in [plain, packed, arc, zstd] {
        for _ in 0..1500 {
            let mut bytes = valid.clone();
            for _ in 0..1 + draw(5) {
                let at = draw(bytes.len());
                bytes[at] ^= 1 << draw(8);
            }
            if draw(4) == 0 {
                bytes.truncate(draw(valid.len()));
            }
            let (records, damaged) = count(&bytes);
            assert!(records <= 10 && damaged <= 60, "{records} {damaged}");
        }
    }
}

/// Lines that each claim to be a record of 16 MB: read again so often, and no more.
#[test]
fn records_that_all_claim_too_much_cost_a_bounded_part_of_their_file_again() {
    let one = b"WARC/1.0\r\nContent-Length: 16000001\r\n\r\nxxxxxxx\n";
    let bytes = one.repeat(40_000);
    let mut records = Records::new(&bytes[..]);
    let damaged = records.by_ref().filter(|item| matches!(item, Ok(Item::Damage(_)))).count();
    assert!(damaged > 10, "{damaged}");
    let (again, taken) = (records.again, records.taken);
    assert!(again <= FREE + SHARE * (taken - again), "{again} of {taken}");
    assert!(taken - again <= bytes.len() as u64);
}
