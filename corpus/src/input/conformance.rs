//! What is in genuine and hand-damaged crawls, file by file, as an independent reader finds it.
//!
//! The figures are those of warcio 1.8.1 with the rules of `super::page` applied to its records.
//! Where it gives up or is more lenient they were counted by hand, and the line says what of.

use super::*;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// File, pages by body or by the rule that refuses them, records that are none, damaged pieces.
const SAMPLES: &[(&str, &str, &str, u64)] = &[
    // Three blocks were blanked behind their lengths of 680; the others are whole.
    ("aut/badexample.arc.gz", "text 1", "text/dns 1 warcinfo 1", 3),
    (
        "aut/example.arc.gz",
        "html 105 http-status 47 not-html 75 text 34",
        "text/dns 38 warcinfo 1",
        0,
    ),
    ("aut/example.docs.warc.gz", "not-html 9", "request 9 warcinfo 3", 0),
    (
        "aut/example.warc.gz",
        "html 105 http-status 47 not-html 75 text 34",
        "metadata 261 request 261 text/dns 38 warcinfo 1",
        0,
    ),
    ("aut/issue-493.warc", "html 4 http-status 1 not-html 5", "request 15 revisit 5 warcinfo 2", 0),
    ("aut/issue-514.warc", "html 1 http-status 1 text 2", "metadata 1 request 2 warcinfo 1", 0),
    ("commoncrawl-whirlwind/whirlwind.warc", "html 1", "metadata 1 request 1 warcinfo 1", 0),
    ("commoncrawl-whirlwind/whirlwind.warc.gz", "html 1", "metadata 1 request 1 warcinfo 1", 0),
    ("commoncrawl-whirlwind/whirlwind.warc.wat", "", "metadata 1 warcinfo 1", 0),
    ("commoncrawl-whirlwind/whirlwind.warc.wat.gz", "", "metadata 1 warcinfo 1", 0),
    ("commoncrawl-whirlwind/whirlwind.warc.wet", "text 1", "warcinfo 1", 0),
    ("commoncrawl-whirlwind/whirlwind.warc.wet.gz", "text 1", "warcinfo 1", 0),
    ("resiliparse/block-sized-records.warc.gz", "", "unknown 3", 0),
    // Its one member is cut off; warcio returns the record as far as it goes.
    ("resiliparse/clipped.warc.gz", "", "", 1),
    ("resiliparse/clueweb-quirk.warc.gz", "html 29", "warcinfo 1", 0),
    ("resiliparse/warcfile.warc.gz", "html 16", "metadata 16 request 17 warcinfo 1", 0),
    // Lengths -1, -1, 1, abc: the second is passed over in looking for a sound one; the block of
    // the third is a line end, and no response.
    ("warcio/bad.arc", "", "response without HTTP 1", 2),
    // All records in one member, which warcio refuses; counted in the inflated file.
    ("warcio/example-bad-non-chunked.warc.gz", "html 1", "request 2 revisit 1 warcinfo 2", 0),
    // Likewise.
    ("warcio/example-bad.warc.gz.bad", "html 1 http-status 1", "request 2 revisit 1 warcinfo 1", 0),
    ("warcio/example-digest.warc", "", "request 4", 0),
    ("warcio/example-iana.org-chunked.warc", "html 1", "request 1 warcinfo 1", 0),
    ("warcio/example-resource.warc.gz", "html 1", "warcinfo 2", 0),
    ("warcio/example-space-in-target-uri.warc.gz", "", "image/png 1 warcinfo 1", 0),
    // The length says 1591, and 1579 bytes are there.
    ("warcio/example-space-in-url.arc", "", "warcinfo 1", 1),
    // The length of the response is two bytes too small, as is its gzip body by its own header.
    ("warcio/example-trunc.warc", "", "request 1 warcinfo 2", 1),
    (
        "warcio/example-wget-bad-target-uri.warc.gz",
        "html 1 text 2",
        "metadata 1 request 1 warcinfo 1",
        0,
    ),
    // Members end within records; counted in the inflated file. The record holds 1270 bytes of a
    // page that has 1271 by its own header.
    ("warcio/example-wrong-chunks.warc.gz", "truncated 1", "request 1", 0),
    ("warcio/example.arc", "html 1", "warcinfo 1", 0),
    ("warcio/example.arc.gz", "html 1", "warcinfo 1", 0),
    ("warcio/example.warc", "html 1", "request 2 revisit 1 warcinfo 2", 0),
    ("warcio/example.warc.gz", "html 1", "request 2 revisit 1 warcinfo 2", 0),
    ("warcio/post-test.warc.gz", "not-html 3", "request 3", 0),
];

fn shown(counts: &BTreeMap<String, u64>) -> String {
    counts.iter().map(|(name, n)| format!("{name} {n}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn samples_hold_what_an_independent_reader_finds() {
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared"));
    let shared = std::env::var_os("QUIPU_SHARED").map_or(beside, PathBuf::from);
    if !shared.is_dir() {
        eprintln!("SKIPPED: samples_hold_what_an_independent_reader_finds: shared data absent");
        return;
    }
    let mut wrong = Vec::new();
    for (name, pages, others, damaged) in SAMPLES {
        let path = shared.join("data/warc-samples").join(name);
        let (mut read, mut skipped, mut damage) = (BTreeMap::new(), BTreeMap::new(), 0);
        let input = Input { kind: kind::Kind::Warc, ..Input::named(path, String::new()) };
        for found in open(&input, Range::WHOLE, &Access::usual()).unwrap() {
            match found.unwrap() {
                Found::Page(page) => {
                    let kind = match page.body {
                        Body::Html(..) => "html",
                        Body::Text(_) => "text",
                        Body::Refused(rule, _) => rule,
                        _ => "other",
                    };
                    *read.entry(kind.to_owned()).or_default() += 1;
                }
                Found::Skipped(kind) => *skipped.entry(kind).or_default() += 1,
                Found::Damaged(..) => damage += 1,
            }
        }
        let found = (shown(&read), shown(&skipped), damage);
        if found != (pages.to_string(), others.to_string(), *damaged) {
            wrong.push(format!("{name}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "found\n{}", wrong.join("\n"));
}
