//! What curation does to the world whose truth is known: each rule removes the pages that it is
//! there for and keeps the ones that only look like them; nothing but what the truth says goes.
//! And other forms of input come to the same documents. Through the program, as a user runs it.

#![allow(clippy::unwrap_used)]

mod program;

use program::{run, tiny};
use quipu_documents::{Document, Reader, read_fates};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;

fn curate(dir: &Path, name: &str, more: &[&str]) -> Value {
    let recipe = tiny();
    let fixed = ["curate", "--recipe", &recipe, "--run-dir", name, "--json", "--quiet"];
    let arguments: Vec<&str> = fixed.into_iter().chain(more.iter().copied()).collect();
    let (code, out, errors) = run(dir, &arguments);
    assert_eq!(code, Some(0), "{errors}");
    serde_json::from_str(&out).unwrap()
}

fn documents(run: &Path) -> Vec<Document> {
    Reader::open(&run.join("corpus")).unwrap().map(Result::unwrap).collect()
}

/// The URL as curation writes it, as far as the world's URLs need it.
fn plain(url: &str) -> String {
    let bare = url.trim_start_matches("https://").trim_start_matches("http://");
    bare.trim_start_matches("www.").trim_end_matches('/').to_owned()
}

#[test]
fn each_rule_drops_its_pages_and_keeps_what_looks_like_them() {
    let dir = tempfile::tempdir().unwrap();
    let summary = curate(dir.path(), "run", &["--set", "world.size=0.5"]);
    assert_eq!(summary["unseen"], 0, "every page of the truth is kept or has a fate");
    let mut scored = BTreeMap::new();
    for s in summary["scores"].as_array().unwrap() {
        let n = |key: &str| s[key].as_f64().unwrap();
        let (rule, expected) = (s["rule"].as_str().unwrap(), n("expected"));
        scored.insert(rule.to_owned(), expected);
        // A page that another rule removed first is gone all the same.
        let (kept, gone) = (n("wrongly_kept"), n("wrongly_removed"));
        assert!(expected > 0.0 && n("right") > 0.0 && kept <= 0.1 * expected, "{s}");
        assert!(gone <= 0.05 * n("removed"), "{s}");
    }
    assert!(scored.len() >= 17, "{scored:?}");
    let run = dir.path().join("run");
    let fates = read_fates(&run.join("corpus/fates-00000.parquet")).unwrap();
    let gone: HashSet<(String, String)> = fates
        .iter()
        .filter(|f| f.line.is_none())
        .map(|f| (f.rule.clone(), plain(&f.url)))
        .collect();
    let mut alike: BTreeMap<String, usize> = BTreeMap::new();
    for line in fs::read_to_string(run.join("world/truth.jsonl")).unwrap().lines() {
        let page: Value = serde_json::from_str(line).unwrap();
        let Some(rule) = page["looks_like"].as_str() else { continue };
        let url = plain(page["url"].as_str().unwrap());
        assert!(!gone.contains(&(rule.to_owned(), url)), "{rule} removed {}", page["url"]);
        *alike.entry(rule.to_owned()).or_default() += 1;
    }
    assert!(alike.len() >= 14, "{alike:?}");
}

const PROSE: [&str; 3] = [
    "The harbour of the old town was built by people who had come from the north. In the winter \
     of that year it stood empty, and nobody could say to whom it belonged.",
    "A library is a house in which books are kept for those who want to read them. The oldest one \
     of the country stands beside the river, and its cellar is flooded every spring.",
    "Das alte Haus am Fluss wurde von Leuten gebaut, die aus dem Norden gekommen waren. Im Winter \
     stand es leer, und niemand konnte sagen, wem es gehörte oder wer darin gewohnt hatte.",
];

#[test]
fn json_lines_and_parquet_are_input_too_and_keep_their_languages() {
    let dir = tempfile::tempdir().unwrap();
    let lines: String = PROSE
        .iter()
        .enumerate()
        .map(|(n, text)| {
            json!({"text": text, "url": format!("http://a.example/{n}")}).to_string() + "\n"
        })
        .collect();
    fs::write(dir.path().join("pages.jsonl"), lines).unwrap();
    let all = ["--set", "corpus.languages=\"all\"", "--set", "corpus.min_words=20"];
    let with = |input: &'static str| -> Vec<&str> { [&["--input", input], &all[..]].concat() };
    let summary = curate(dir.path(), "lines", &with("pages.jsonl"));
    assert_eq!(
        (&summary["kept"], &summary["inputs"][0]["kind"]),
        (&json!(3), &json!("JSON Lines"))
    );
    let first = documents(&dir.path().join("lines"));
    let texts: Vec<&str> = first.iter().map(|d| d.text.as_str()).collect();
    assert_eq!(texts, PROSE);
    let parquet = "lines/corpus/documents-00000.parquet";
    let summary = curate(dir.path(), "parquet", &with(parquet));
    assert_eq!((&summary["kept"], &summary["inputs"][0]["kind"]), (&json!(3), &json!("Parquet")));
    let again = documents(&dir.path().join("parquet"));
    let told = |d: &Document| (d.text.clone(), d.url.clone(), d.language.clone());
    assert!(again.iter().map(told).eq(first.iter().map(told)));
    assert!(first.iter().any(|d| d.language == "de"));
}

#[test]
fn other_input_keeps_its_languages_unless_somebody_says_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    for (n, text) in PROSE.iter().enumerate() {
        fs::write(dir.path().join(format!("{n}.txt")), text).unwrap();
    }
    let inputs = ["curate", "--input", "0.txt", "1.txt", "2.txt", "--json", "--quiet"];
    for (name, set, kept) in [("all", None, 3), ("en", Some("corpus.languages=[\"en\"]"), 2)] {
        let mut arguments: Vec<&str> = inputs.into_iter().chain(["--run-dir", name]).collect();
        arguments.extend(set.iter().flat_map(|set| ["--set", set]));
        let (code, out, errors) = run(dir.path(), &arguments);
        assert_eq!(code, Some(0), "{errors}");
        let summary: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(summary["kept"], kept, "{out}");
        // The run goes on with what it was started with.
        let (code, _, errors) = run(dir.path(), &["curate", "--run-dir", name, "--quiet"]);
        assert_eq!(code, Some(0), "{errors}");
    }
}
