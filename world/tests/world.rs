//! The written world held against what it promises: same bytes from the same seed, a truth for each
//! page, statements as intended, examination and dialogues apart, a text that does not repeat
//! itself.

#![allow(clippy::unwrap_used)]

use flate2::bufread::GzDecoder;
use quipu_store::{cancel::Cancel, manifest::Manifest, progress};
use quipu_world::{Class, FORMAT, Size, Summary, VERSION, tongues, write};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::Read;
use std::path::Path;
use std::sync::OnceLock;

struct World {
    dir: tempfile::TempDir,
    summary: Summary,
    truth: Vec<Value>,
}

fn written(size: &str, seed: u64) -> World {
    let dir = tempfile::tempdir().unwrap();
    let size: Size = size.parse().unwrap();
    let summary = write(dir.path(), &size, seed, &*progress::silent(), &Cancel::new()).unwrap();
    let truth = lines(dir.path(), "truth.jsonl");
    World { dir, summary, truth }
}

/// The default world, made once for all tests.
fn default_world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| written("1", 1))
}

fn lines(dir: &Path, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(dir.join(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text<'a>(line: &'a Value, key: &str) -> &'a str {
    line[key].as_str().unwrap_or_default()
}

impl World {
    fn lines(&self, name: &str) -> Vec<Value> {
        lines(self.dir.path(), name)
    }

    fn kept(&self) -> impl Iterator<Item = &Value> {
        self.truth.iter().filter(|page| text(page, "expect") == "keep")
    }

    fn raw(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap()
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let (a, b, c) = (written("0.03", 5), written("0.03", 5), written("0.03", 6));
    let manifest = Manifest::read_verified(a.dir.path(), FORMAT, VERSION).unwrap();
    for file in &manifest.files {
        let read = |w: &World| std::fs::read(w.dir.path().join(&file.name)).unwrap();
        assert!(read(&a) == read(&b), "{} differs", file.name);
        assert!(read(&a) != read(&c), "{} does not depend on the seed", file.name);
    }
    assert_eq!(a.summary, b.summary);
}

#[test]
fn the_default_world_has_its_counts() {
    let world = default_world();
    assert!((5_900..6_500).contains(&world.summary.pages), "{:?}", world.summary);
    assert!((3_200..3_600).contains(&world.summary.kept), "{:?}", world.summary);
    assert!((6_000_000..8_000_000).contains(&world.summary.kept_bytes), "{:?}", world.summary);
    let hosts: HashSet<&str> =
        world.truth.iter().filter_map(|p| text(p, "url").split('/').nth(2)).collect();
    assert!(hosts.len() >= 30, "{} sites", hosts.len());
    let languages: HashSet<&str> = world.kept().map(|p| text(p, "language")).collect();
    assert!(languages.len() >= 4, "{languages:?}");
    assert_eq!(world.lines("prompts.jsonl").len(), 200);
    let shown = world.lines("prompts.jsonl").iter().filter(|p| p["show"] == true).count();
    assert_eq!(shown, 10);
    assert!((500..700).contains(&world.lines("preferences.jsonl").len()));
    assert!((2_000..3_100).contains(&world.lines("dialogues.jsonl").len()));
}

#[test]
fn every_rule_has_pages_to_drop_and_pages_to_keep() {
    let world = default_world();
    let mut pairs: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for page in &world.truth {
        if page["rule"].is_string() {
            pairs.entry(text(page, "rule")).or_default().0 += 1;
        }
        if page["looks_like"].is_string() {
            assert_eq!(text(page, "expect"), "keep");
            pairs.entry(text(page, "looks_like")).or_default().1 += 1;
        }
    }
    for rule in [
        "url-duplicate",
        "document-duplicate",
        "menu-only",
        "too-short",
        "repeated-lines",
        "repeated-ngrams",
        "symbol-ratio",
        "mean-word-length",
        "adult-words",
        "gibberish",
        "log-dump",
        "truncated",
        "not-html",
        "http-status",
    ] {
        let (drop, keep) = pairs.get(rule).copied().unwrap_or_default();
        assert!(drop > 0 && keep > 0, "{rule}: {drop} to drop, {keep} to keep");
    }
    assert!(world.kept().filter(|p| p["boilerplate"].is_string()).count() > 100);
    assert!(world.kept().filter(|p| p["boilerplate"].is_null()).count() > 100);
}

/// Record ids of the responses that can be read, going from gzip member to gzip member.
fn responses(bytes: &[u8]) -> HashSet<String> {
    let mut found = HashSet::new();
    let mut at = 0;
    while at < bytes.len() {
        let mut record = String::new();
        let mut decoder = GzDecoder::new(&bytes[at..]);
        let mut raw = Vec::new();
        if decoder.read_to_end(&mut raw).is_ok() {
            at += bytes[at..].len() - decoder.into_inner().len();
            record.push_str(&String::from_utf8_lossy(&raw));
        } else {
            let next = bytes[at + 1..].windows(3).position(|w| w == [0x1f, 0x8b, 8]);
            at = next.map_or(bytes.len(), |n| at + 1 + n);
        }
        if record.starts_with("WARC/1.1\r\nWARC-Type: response") {
            let id = record.split("WARC-Record-ID: <").nth(1).unwrap();
            found.insert(id.split('>').next().unwrap().to_owned());
        }
    }
    found
}

#[test]
fn each_response_has_a_truth_and_only_damaged_ones_cannot_be_read() {
    let world = written("0.05", 3);
    let bytes = std::fs::read(world.dir.path().join("crawl.warc.gz")).unwrap();
    let readable = responses(&bytes);
    let known: HashSet<&str> = world.truth.iter().map(|p| text(p, "record_id")).collect();
    assert_eq!(known.len(), world.truth.len());
    assert!(readable.iter().all(|id| known.contains(id.as_str())));
    let damaged = |p: &&Value| text(p, "rule") == "damaged-record";
    for page in &world.truth {
        let id = text(page, "record_id");
        assert_eq!(readable.contains(id), !damaged(&page), "{page}");
    }
}

#[test]
fn facts_are_stated_as_often_as_their_class_says() {
    let world = default_world();
    let facts = world.lines("facts.jsonl");
    for class in Class::ALL {
        let counts: Vec<f64> = facts
            .iter()
            .filter(|f| text(f, "class") == class.name())
            .map(|f| f["statements"].as_f64().unwrap())
            .collect();
        let mean = counts.iter().sum::<f64>() / counts.len() as f64;
        let want = class.statements() as f64;
        assert!(counts.len() >= 200, "{class:?}: {} facts", counts.len());
        assert!((mean - want).abs() <= 0.05 * want, "{class:?}: {mean}, not {want}");
    }
    // The counts are those of pages that state the value after or before the subject's name.
    let texts: HashMap<&str, String> = world
        .kept()
        .flat_map(|p| {
            let ids = p["facts"].as_array().unwrap();
            ids.iter().map(move |id| (id.as_str().unwrap(), text(p, "text").to_lowercase()))
        })
        .collect();
    for fact in &facts {
        if let Some(page) = texts.get(text(fact, "id")) {
            let (subject, object) = (text(fact, "subject"), text(fact, "object"));
            assert!(page.contains(&subject.to_lowercase()), "{fact}");
            assert!(page.contains(&object.to_lowercase()), "{fact}");
        }
    }
}

#[test]
fn what_is_never_stated_is_nowhere_in_the_crawl() {
    let world = default_world();
    let truth = world.raw("truth.jsonl");
    for fact in world.lines("facts.jsonl").iter().filter(|f| text(f, "class") == "never") {
        assert!(!truth.contains(text(fact, "subject")), "{fact}");
    }
}

#[test]
fn examined_facts_and_held_out_forms_occur_in_no_dialogue() {
    let world = default_world();
    let facts = world.lines("facts.jsonl");
    let exam = world.lines("exam.jsonl");
    let talk = ["dialogues.jsonl", "preferences.jsonl", "prompts.jsonl"].map(|f| world.raw(f));
    for fact in facts.iter().filter(|f| f["examined"] == true) {
        let subject = text(fact, "subject");
        assert!(talk.iter().all(|t| !t.contains(subject)), "{subject} is talked about");
    }
    let pages: String = world.kept().map(|p| text(p, "text")).collect();
    let (mut held_out, mut asked) = (0, 0);
    for question in exam.iter().filter(|q| text(q, "kind") == "fact") {
        let wording = text(question, "question");
        assert!(talk.iter().all(|t| !t.contains(wording)), "{wording} is asked in dialogues");
        asked += 1;
        if question["held_out_form"] == true {
            held_out += 1;
            let subject = facts.iter().find(|f| f["id"] == question["fact"]).unwrap();
            let (head, tail) = wording.split_once(text(subject, "subject")).unwrap();
            for line in talk[0].lines() {
                let there =
                    line.contains(&format!("\"{head}")) && line.contains(&format!("{tail}\""));
                assert!(!there || head.len().min(tail.len()) < 3 && !line.contains(tail), "{line}");
            }
        }
        assert!(asked % 20 != 0 || !pages.contains(wording), "{wording} stands on a page");
    }
    let share = f64::from(held_out) / f64::from(asked);
    assert!((0.2..0.3).contains(&share), "{share} in held-out forms");
}

#[test]
fn every_kind_of_question_is_examined_and_tools_are_called() {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    let mut sums = BTreeSet::new();
    for question in default_world().lines("exam.jsonl") {
        if text(&question, "kind") == "arithmetic" {
            assert!(sums.insert(text(&question, "question").to_owned()), "twice: {question}");
        }
        *kinds.entry(text(&question, "kind").to_owned()).or_default() += 1;
        if text(&question, "kind") == "tool" {
            let call: Value =
                serde_json::from_str(question["accept"][0].as_str().unwrap()).unwrap();
            let name = call["name"].as_str().unwrap();
            assert!(text(&question, "context").contains(&format!("\"{name}\"")), "{question}");
            assert!(call["parameters"].is_object(), "{question}");
        }
    }
    let known = ["arithmetic", "fact", "needle", "program", "tool", "two-hop"];
    assert!(kinds.keys().map(String::as_str).eq(known), "{kinds:?}");
    assert!(kinds.values().all(|n| *n >= 40), "{kinds:?}");
}

#[test]
fn prompts_are_in_neither_dialogues_nor_preferences() {
    let world = default_world();
    let talk = ["dialogues.jsonl", "preferences.jsonl"].map(|f| world.raw(f));
    for prompt in world.lines("prompts.jsonl") {
        let question = serde_json::to_string(text(&prompt["messages"][0], "content")).unwrap();
        assert!(talk.iter().all(|t| !t.contains(&question)), "{question}");
    }
}

#[test]
fn the_text_does_not_compress_sixfold() {
    let pages: String =
        default_world().kept().map(|p| text(p, "text").to_owned() + "\n\n").collect();
    let packed = zstd::bulk::compress(pages.as_bytes(), 19).unwrap();
    let ratio = pages.len() as f64 / packed.len() as f64;
    assert!(ratio <= 6.0, "{ratio}");
}

#[test]
fn copies_near_copies_and_older_visits_name_their_originals() {
    let world = default_world();
    let by_url: HashMap<&str, &Value> = world.kept().map(|p| (text(p, "url"), p)).collect();
    let spans = |page: &Value| -> HashSet<Vec<String>> {
        let words: Vec<String> = text(page, "text").split_whitespace().map(str::to_owned).collect();
        words.windows(50).map(<[String]>::to_vec).collect()
    };
    for page in world.truth.iter().filter(|p| p["duplicate_of"].is_string()) {
        let original = by_url[text(page, "duplicate_of")];
        match text(page, "how") {
            "mirror" => assert_eq!(text(page, "text"), text(original, "text")),
            "near" => assert!(spans(page).is_disjoint(&spans(original)), "{}", page["url"]),
            _ => assert!(text(page, "date") < text(original, "date")),
        }
    }
}

#[test]
fn languages_are_told_apart_by_their_letters() {
    let samples: Vec<String> = (0..3).map(|i| tongues::sample(i, 4_000).unwrap()).collect();
    let profile = |t: &str| -> HashMap<char, f64> {
        let letters: Vec<char> = t.chars().filter(|c| c.is_alphabetic()).collect();
        let mut counts = HashMap::new();
        for c in &letters {
            *counts.entry(*c).or_insert(0.0) += 1.0 / letters.len() as f64;
        }
        counts
    };
    let profiles: Vec<_> = samples.iter().map(|s| profile(s)).collect();
    for page in default_world().kept() {
        let Some(language) = tongues::CODES.iter().position(|c| *c == text(page, "language"))
        else {
            continue;
        };
        let own = profile(text(page, "text"));
        let overlap = |i: usize| -> f64 {
            own.iter().map(|(c, share)| share.min(*profiles[i].get(c).unwrap_or(&0.0))).sum()
        };
        let best = (0..3).max_by(|a, b| overlap(*a).total_cmp(&overlap(*b)));
        assert_eq!(best, Some(language), "{}", page["url"]);
    }
}

#[test]
fn impossible_sizes_are_refused_and_a_stopped_world_leaves_nothing() {
    for size in ["0", "-1", "nan", "much", "1e9"] {
        let error = size.parse::<Size>().unwrap_err().to_string();
        assert!(
            error.contains(size.to_lowercase().trim_end_matches("e9")) || size == "nan",
            "{error}"
        );
    }
    let dir = tempfile::tempdir().unwrap();
    let cancel = Cancel::new();
    cancel.request();
    let size: Size = "0.02".parse().unwrap();
    assert!(write(dir.path(), &size, 1, &*progress::silent(), &cancel).is_err());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_larger_world_has_more_provinces_with_names_of_their_own() {
    let world = written("1.05", 2);
    assert!(world.summary.pages > 6_200, "{:?}", world.summary);
    let facts = world.lines("facts.jsonl");
    let ids: HashSet<&str> = facts.iter().map(|f| text(f, "id")).collect();
    assert_eq!(ids.len(), facts.len());
}
