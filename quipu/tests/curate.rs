//! `quipu curate` as a command of its own, through the program as a user runs it: flags and recipe,
//! what it refuses, two processes on one folder, and the fate of single documents.

#![allow(clippy::unwrap_used)]

mod program;

use program::{quipu, run};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A text of its own for each number.
fn text(n: usize) -> String {
    let word = |k: usize| {
        let all = [
            "harbour", "river", "market", "winter", "garden", "letter", "bridge", "window",
            "stone", "forest", "summer", "village", "captain", "teacher", "mountain", "island",
        ];
        all[(n * 7 + k * (n % 5 + 3) + k * k) % all.len()]
    };
    let sentence = |s: usize| {
        let (a, b, c) = (word(3 * s), word(3 * s + 1), word(3 * s + 2));
        let year = n * 31 + s;
        match s {
            0 => format!("In the year {year} the {a} of our {b} was sold to a man with a {c}."),
            1 => format!("Nobody had seen such a {a} before {year}, when the {b} met their {c}."),
            2 => format!("A {a} stood there for {year} days, and from every {b} one saw the {c}."),
            3 => {
                format!("They counted {year} steps to the {a}; it was a {b} that led to this {c}.")
            }
            4 => format!("Because of the {a}, which cost {year} crowns, her {b} became a {c}."),
            5 => format!("My father wrote {year} pages about a {a} and some about {b} and {c}."),
            6 => format!(
                "It is said that {year} people lived by the {a} until that {b} or {c} fell."
            ),
            _ => format!("At last, after {year} nights, the {a} came back with no {b} but a {c}."),
        }
    };
    (0..8).map(sentence).collect::<Vec<_>>().join(" ")
}

/// A crawl as JSON Lines: texts, a near copy of each tenth, two visits of a page, a short one, and
/// a line that all have.
fn pages(count: usize) -> String {
    let mut lines = String::new();
    let mut add = |url: String, date: &str, text: String| {
        let text = format!("{text}\n\nSubscribe to the letter of this house\n");
        lines += &json!({"url": url, "date": date, "text": text}).to_string();
        lines.push('\n');
    };
    for n in 0..count {
        add(format!("https://a{}.example/{n}", n % 3), "2024-05-01T00:00:00Z", text(n));
        if n % 10 == 0 {
            let copy = format!("{} It is told again.", text(n));
            add(format!("https://copy.example/{n}"), "2023-05-01T00:00:00Z", copy);
        }
    }
    add("https://a0.example/0/?utm_source=x".into(), "2022-01-01T00:00:00Z", text(0));
    add("https://a1.example/short".into(), "2024-01-01T00:00:00Z", "Coming soon.".into());
    lines
}

/// What all Parquet files of a folder hold, by name.
fn outputs(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let named = entries.map(|e| (e.file_name().to_string_lossy().into_owned(), e.path()));
    let files: BTreeMap<String, Vec<u8>> = named
        .filter(|(name, _)| name.ends_with(".parquet"))
        .map(|(name, path)| (name, fs::read(path).unwrap()))
        .collect();
    assert!(!files.is_empty());
    files
}

fn said(dir: &Path, arguments: &[&str]) -> String {
    let (code, out, errors) = run(dir, arguments);
    assert_eq!(code, Some(0), "{arguments:?}\n{errors}");
    out
}

fn crawl(count: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("pages.jsonl"), pages(count)).unwrap();
    dir
}

#[test]
fn flags_and_recipe_come_to_the_same() {
    let dir = crawl(60);
    let flags = ["curate", "--input", "pages.jsonl", "--out", "flags", "--workers", "1"];
    let out = said(dir.path(), &[&flags[..], &["--memory", "64MiB"]].concat());
    assert!(
        out.contains("68 pages → 60 kept") && out.contains("report  flags/report.html"),
        "{out}"
    );
    let recipe = "input = [\"pages.jsonl\"]\nout = \"recipe\"\n[corpus]\nmin_words = 25\n";
    fs::write(dir.path().join("curate.toml"), recipe).unwrap();
    let out = said(dir.path(), &["curate", "curate.toml", "--workers", "3", "--json", "--quiet"]);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&report["format"], &report["corpus"]["kept"]),
        (&json!("quipu.curation"), &json!(60))
    );
    assert_eq!(outputs(&dir.path().join("flags")), outputs(&dir.path().join("recipe")));
    assert!(!dir.path().join("recipe/work").exists());
    let html = fs::read_to_string(dir.path().join("recipe/report.html")).unwrap();
    for inside in ["copy.example", "Subscribe to the letter", ">from 0.7<", "too-short"] {
        assert!(html.contains(inside), "{inside}");
    }
    // Once more is no work; another recipe does not overwrite what stands there.
    let again = said(dir.path(), &["curate", "curate.toml"]);
    assert!(again.contains("done before"), "{again}");
    let other = ["curate", "curate.toml", "--set", "corpus.near.threshold=0.9"];
    let (code, _, errors) = run(dir.path(), &other);
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("corpus.near.threshold was 0.7 and is 0.9"), "{errors}");
    let out = said(dir.path(), &[&other[..], &["--out", "strict"]].concat());
    assert!(out.contains("68 pages → "), "{out}");
}

#[test]
fn a_dry_run_says_much_and_writes_nothing() {
    let dir = crawl(60);
    let out = said(dir.path(), &["curate", "--input", "pages.jsonl", "--out", "x", "--dry-run"]);
    for inside in ["JSON Lines", "68 pages", "too-short", "0.70 → 98", "of work files"] {
        assert!(out.contains(inside), "{inside}\n{out}");
    }
    assert!(!dir.path().join("x").exists());
}

/// Refused with status 2, and with words that say what to do.
fn check(dir: &Path, arguments: &[&str], expected: &str) {
    let (code, out, errors) = run(dir, &[&["curate"], arguments].concat());
    assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}\n{errors}");
    // Errors at a place in a recipe are broken into lines.
    let words = |t: &str| t.split(|c: char| !c.is_alphanumeric()).collect::<Vec<_>>().concat();
    assert!(words(&errors).contains(&words(expected)), "{arguments:?}: {errors}");
}

#[test]
fn what_does_not_go_together_is_refused_with_what_to_do() {
    let dir = crawl(1);
    let path = dir.path();
    let to = ["--input", "pages.jsonl", "--out", "x"];
    let with = |more: &[&'static str]| [&to[..], more].concat();
    check(path, &["--out", "x"], "nothing to curate: give --input PATH");
    check(
        path,
        &["--input", "pages.jsonl", "--workers", "2"],
        "--workers, --memory and --scratch go with --out",
    );
    check(path, &with(&["--workers", "0"]), "1 is the least");
    check(path, &with(&["--memory", "512"]), "512MiB or 512GiB");
    check(path, &with(&["--memory", "1MB"]), "the least is 16MiB");
    check(path, &with(&["--run-dir", "y"]), "name the folder as --out");
    check(path, &with(&["--recipe", "y.toml"]), "quipu curate recipes/curate.toml");
    check(path, &with(&["--seed", "1"]), "curation draws nothing");
    check(path, &with(&["--join", "y"]), "cannot be used with");
    check(path, &["--join", "y", "--dry-run"], "--dry-run does not go with --join");
    check(path, &["--join", "y", "--set", "corpus.line_limit=1"], "--set does not go with --join");
    check(path, &with(&["--set", "corpus.near.treshold=1"]), "did you mean `threshold`");
    check(path, &with(&["--set", "corpus.near.threshold=7"]), "at most 1");
    check(path, &["--input", "pages.jsonl", "--out", "."], "holds pages.jsonl");
    fs::write(path.join("bad.toml"), "input = [\"pages.jsonl\"]\n[corpus]\nline_limt = 3\n")
        .unwrap();
    check(path, &["bad.toml"], "did you mean `line_limit`");
    check(path, &["bad.toml"], "3 line_limt = 3");
    fs::write(path.join("bare.toml"), "input = [\"pages.jsonl\"]\n").unwrap();
    check(path, &["bare.toml"], "no folder to write: give --out FOLDER, or `out = …` in bare.toml");
    let (code, _, errors) = run(path, &["curate", "--join", "nowhere"]);
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("no run of curation is here"), "{errors}");
    let (code, _, errors) = run(path, &["curate", "--input", "none.warc", "--out", "x"]);
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("none.warc") && !path.join("x").exists(), "{errors}");
}

#[test]
fn two_processes_write_what_one_writes() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("pages")).unwrap();
    let all = pages(3_000);
    for (n, part) in all.lines().collect::<Vec<_>>().chunks(200).enumerate() {
        fs::write(dir.path().join(format!("pages/{n:02}.jsonl")), part.join("\n")).unwrap();
    }
    let to = |out: &'static str, workers: &'static str| {
        ["curate", "--input", "pages", "--out", out, "--workers", workers, "--quiet"]
    };
    said(dir.path(), &to("one", "2"));
    let begin = to("two", "1");
    let mut first = quipu(dir.path(), &begin).stdout(Stdio::null()).spawn().unwrap();
    let plan = dir.path().join("two/work/plan.json");
    let start = Instant::now();
    while !plan.exists() && start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let (code, out, errors) = run(dir.path(), &["curate", "--join", "two", "--workers", "2"]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(out.contains("kept"), "{out}");
    assert!(program::wait(&mut first).success());
    assert_eq!(outputs(&dir.path().join("one")), outputs(&dir.path().join("two")));
    assert!(!dir.path().join("two/work").exists(), "no work file is left");
}

#[test]
fn the_fate_of_a_document_is_told_rule_by_rule() {
    let dir = crawl(60);
    said(dir.path(), &["curate", "--input", "pages.jsonl", "--out", "x", "--quiet"]);
    let explain = |query: &str| said(dir.path(), &["curate", "explain", "x", query]);
    let kept = explain("http://www.a1.example/10#top");
    for inside in [
        "· kept",
        "too-short               passed       goes: below 25 words",
        "gibberish               passed       goes: above 3.7 nats a letter",
        "contamination not asked",
        "1 of its lines removed: more than 6 documents",
        "Subscribe to the letter",
        "kept instead of",
        "https://copy.example/10",
        "It begins".to_lowercase().as_str(),
    ] {
        assert!(kept.contains(inside), "{inside}\n{kept}");
    }
    let copy = explain("copy.example/10");
    assert!(
        copy.contains("document      REMOVED") && copy.contains("(limit 0.7) to the copy kept")
    );
    assert!(
        copy.contains("https://a1.example/10") && copy.contains("short         not reached"),
        "{copy}"
    );
    let short = explain("https://a1.example/short");
    assert!(short.contains("too-short measured") && short.contains("Coming soon"), "{short}");
    assert!(short.contains("too-short               REMOVED      goes: below 25 words"), "{short}");
    assert!(short.contains("gibberish               not reached"), "{short}");
    let visits = explain("https://a0.example/0");
    assert!(visits.contains("2 documents") && visits.contains("another visit of this URL is kept"));
    let out = said(dir.path(), &["curate", "explain", "x", "https://a1.example/10", "--json"]);
    let found: Value = serde_json::from_str(&out).unwrap();
    let id = found["visits"][0]["id"].as_str().unwrap();
    assert_eq!(found["visits"][0]["kept"], true);
    assert!(explain(id).contains("https://a1.example/10"));
    let (code, _, errors) = run(dir.path(), &["curate", "explain", "x", "https://a1.example/1O"]);
    assert_eq!(code, Some(3));
    assert!(
        errors.contains("not here; the nearest are") && errors.contains("a1.example"),
        "{errors}"
    );
    let (code, _, errors) = run(dir.path(), &["curate", "explain", "nowhere", "x"]);
    assert_eq!(code, Some(3), "{errors}");
}

#[test]
fn an_unfinished_run_is_told_in_words() {
    let dir = crawl(60);
    let begin = ["curate", "--input", "pages.jsonl", "--out", "x", "--workers", "1", "--quiet"];
    // Killed after the first unit: where that is, is found by trying.
    let done = dir.path().join("x/work/extract/000000.done");
    for bytes in (20_000..1_000_000).step_by(8_000) {
        let mut run = quipu(dir.path(), &begin);
        let killed = run.env("QUIPU_KILL_AFTER_BYTES", bytes.to_string()).output().unwrap();
        assert!(!killed.status.success(), "finished within {bytes} bytes");
        if done.exists() {
            break;
        }
        fs::remove_dir_all(dir.path().join("x")).unwrap();
    }
    let told = said(dir.path(), &["curate", "explain", "x", "https://a1.example/10"]);
    assert!(told.contains("has not finished") && told.contains("not decided"), "{told}");
    let short = said(dir.path(), &["curate", "explain", "x", "https://a1.example/short"]);
    assert!(short.contains("too-short measured"), "{short}");
    said(dir.path(), &begin);
    assert!(
        !said(dir.path(), &["curate", "explain", "x", "https://a1.example/10"])
            .contains("not finished")
    );
}

/// What would be lost or read twice without a word is said before anything is done.
#[test]
fn a_place_that_would_lose_or_repeat_something_is_refused() {
    let room = tempfile::tempdir().unwrap();
    let dir = room.path();
    fs::create_dir_all(dir.join("in/sub")).unwrap();
    let prose = "The harbour of the old town was built by people who had come from the north. In \
                 the winter of that year it stood empty, and nobody could say to whom it belonged.";
    fs::write(dir.join("in/a.txt"), prose).unwrap();
    fs::write(dir.join("in/sub/b.csv"), "a,b\n1,2\n").unwrap();
    let curate = |more: &[&str]| {
        let arguments = [&["curate", "--input", "in"], more].concat();
        run(dir, &arguments)
    };
    let (code, _, errors) = curate(&["--out", "in/out"]);
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("lies within the input"), "{errors}");
    let (code, _, errors) = curate(&["--out", "out", "--pipe", "exit 3"]);
    assert_eq!(code, Some(3), "{errors}");
    let (code, _, errors) = curate(&["--out", "out", "--set", "corpus.line_limit=9"]);
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("corpus.line_limit was 6 and is 9 now"), "{errors}");
    let (code, said, errors) = curate(&["--out", "out"]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(said.contains("1 file passed over as no input"), "{said}");
    assert!(said.contains("in/sub/b.csv: .csv file"), "{said}");
    fs::write(dir.join("in/a.txt"), prose.replace("harbour", "library")).unwrap();
    let (code, said, errors) = curate(&["--out", "out"]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(said.contains("curated anew"), "{said}");
}
