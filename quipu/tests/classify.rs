//! `quipu classify` as a user runs it: train, calibrate, score, and scores joined by a curation.

#![allow(clippy::unwrap_used)]

mod program;

use program::{content, run};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

fn ok(dir: &Path, arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--json", "--quiet"]).collect();
    let (code, out, errors) = run(dir, &arguments);
    assert_eq!(code, Some(0), "{arguments:?}\n{errors}");
    serde_json::from_str(&out).unwrap()
}

fn text(word: &str, n: usize) -> String {
    let other = ["evening", "morning", "winter", "summer"][n % 4];
    format!("In the {other} of the year {n} they spoke of the {word} and of who owned it.")
}

/// Texts of two kinds, a file each, and documents that are some of both.
fn room() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, word) in [("sea.txt", "harbour"), ("land.txt", "orchard")] {
        let lines: Vec<String> = (0..60).map(|n| text(word, n)).collect();
        fs::write(dir.path().join(name), lines.join("\n")).unwrap();
    }
    let page = |n: usize| {
        let word = ["harbour", "orchard"][n % 2];
        json!({"text": text(word, n + 100), "url": format!("http://{word}.example/{n}")})
    };
    let pages: Vec<String> = (0..8).map(|n| page(n).to_string()).collect();
    fs::write(dir.path().join("pages.jsonl"), pages.join("\n")).unwrap();
    dir
}

#[test]
fn trained_calibrated_scored_and_joined() {
    let room = room();
    let dir = room.path();
    let examples = ["--examples", "sea.txt=sea", "land.txt=land"];
    let train = [&["classify", "train", "--out", "topic.classifier"][..], &examples].concat();
    let measured = ok(dir, &train);
    assert_eq!(measured["examples"], 120);
    assert!(measured["auc"]["sea"]["value"].as_f64().unwrap() > 0.95, "{measured}");
    let calibrate = ["classify", "calibrate", "topic.classifier", "--out", "again.classifier"];
    // A fifth of the land is called sea here: what is sure must become less so.
    let fewer = fs::read_to_string(dir.join("land.txt")).unwrap();
    let fewer: Vec<&str> = fewer.lines().step_by(5).collect();
    fs::write(dir.join("flooded.txt"), fewer.join("\n")).unwrap();
    let fitted = ok(dir, &[&calibrate[..], &examples, &["flooded.txt=sea"]].concat());
    let squares = ["before", "after"].map(|key| fitted[key].as_f64().unwrap());
    assert!(squares[1] < squares[0], "{fitted}");
    let curate = ["curate", "--input", "pages.jsonl", "--only", "languages"];
    let first = ok(dir, &[&curate[..], &["--out", "all"]].concat());
    assert_eq!(first["corpus"]["kept"], 8, "{first}");
    let score = ["classify", "score", "again.classifier", "--input", "all", "--label", "sea"];
    let scored = ok(dir, &[&score[..], &["--name", "sea", "--out", "sea.jsonl"]].concat());
    assert_eq!(scored, json!({"documents": 8, "scored": 8}));
    let least = ["--set", "corpus.scores=[\"sea.jsonl\"]", "--set", "corpus.least.sea=0.5"];
    let chosen = ok(dir, &[&curate[..], &least, &["--out", "some"]].concat());
    assert_eq!(chosen["corpus"]["kept"], 4, "{chosen}");
}

#[test]
fn what_cannot_be_is_said() {
    let room = room();
    let dir = room.path();
    let before = content(dir);
    let check = |arguments: &[&str], code: i32, part: &str| {
        let (found, out, errors) = run(dir, arguments);
        assert!(errors.contains(part), "{errors}");
        assert_eq!((found, out.as_str()), (Some(code), ""), "{errors}");
        assert_eq!(content(dir), before);
    };
    let train = ["classify", "train", "--out", "x.classifier", "--examples"];
    check(&[&train[..], &["sea.txt=sea"]].concat(), 3, "at least 2");
    check(&[&train[..], &["sea.txt"]].concat(), 3, "sea.txt, line 1");
    check(&[&train[..], &["none.txt=a"]].concat(), 3, "none.txt");
    let both = ["sea.txt=a", "land.txt=b", "--word-grams", "9"];
    check(&[&train[..], &both].concat(), 2, "word_grams: found 9");
    let score = ["classify", "score", "sea.txt", "--input", "all", "--out"];
    check(&[&score[..], &["x.jsonl"]].concat(), 3, "sea.txt: no usable classifier");
    check(&[&score[..], &["x.txt"]].concat(), 2, "ends in .jsonl");
    let calibrate = ["classify", "calibrate", "pages.jsonl", "--out", "x"];
    check(&[&calibrate[..], &["--examples", "sea.txt=a"]].concat(), 3, "pages.jsonl");
}
