//! The run as a whole: small crawls built here, bad input, resumption, and the real crawl.
//!
//! Not the rules one by one; those have their tests beside them.

use super::*;
use crate::recipe::Part;
use quipu_documents::{Document, Id, Reader, read_fates};
use quipu_store::progress;
use std::collections::HashSet;
use std::io::Write;

const TOPICS: [&str; 12] = [
    "harbour", "library", "orchard", "railway", "mountain", "kitchen", "theatre", "river",
    "school", "garden", "market", "bridge",
];

/// Prose that no rule removes and no two numbers share.
pub(super) fn prose(number: usize) -> String {
    let topic = TOPICS[number % TOPICS.len()];
    let year = 1800 + number;
    format!(
        "The {topic} of the old town was built in {year} by people who had come from the north. In \
         the winter of that year it stood empty, and nobody could say to whom it belonged.\n\
         When the spring came, {number} families moved into the houses beside it and began \
         to repair what the storms had broken. They wrote to the mayor about it, and after \
         {number} weeks the mayor answered that the {topic} was theirs."
    )
}

pub(super) fn html(number: usize, extra: &str) -> String {
    let topic = TOPICS[number % TOPICS.len()];
    let paragraphs = prose(number).replace('\n', "</p>\n<p>");
    format!(
        "<!doctype html><html lang=en><head><title>Page {number}</title></head><body><nav><a \
         href=/>Home</a> <a href=/about>About</a></nav><main><h1>Of the {topic}</h1>\
         <p>{paragraphs}</p>{extra}</main></body></html>"
    )
}

fn response(url: &str, date: &str, id: &str, body: &str) -> Vec<u8> {
    let block = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{body}");
    let record = format!(
        "WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <{id}>\r\nWARC-Date: {date}\r\n\
         WARC-Target-URI: {url}\r\nContent-Type: application/http; msgtype=response\r\n\
         Content-Length: {}\r\n\r\n{block}\r\n\r\n",
        block.len()
    );
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
    encoder.write_all(record.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn page(number: usize, extra: &str) -> Vec<u8> {
    let (url, id) = (format!("http://a.example/{number}"), format!("urn:uuid:{number}"));
    response(&url, "2024-01-01T00:00:00Z", &id, &html(number, extra))
}

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn with(name: &str, bytes: &[u8]) -> Place {
        let place = Place { dir: tempfile::tempdir().unwrap() };
        place.write(name, bytes);
        place
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn run(&self, name: &str, recipe: &Recipe) -> Result<Summary, Error> {
        let out = self.dir.path().join("out");
        let silent = progress::silent();
        let options = Options::default();
        run(&[self.dir.path().join(name)], recipe, &out, &options, silent.as_ref(), &Cancel::new())
    }

    fn run_with(&self, name: &str, options: &Options) -> Result<Summary, Error> {
        let (out, recipe) = (self.dir.path().join("out"), Recipe::default());
        let silent = progress::silent();
        run(&[self.dir.path().join(name)], &recipe, &out, options, silent.as_ref(), &Cancel::new())
    }

    fn documents(&self) -> Vec<quipu_documents::Document> {
        Reader::open(&self.dir.path().join("out")).unwrap().map(Result::unwrap).collect()
    }

    fn fates(&self) -> Vec<(String, String)> {
        let path = self.dir.path().join("out/fates-00000.parquet");
        read_fates(&path).unwrap().into_iter().map(|f| (f.rule, f.url)).collect()
    }
}

/// Runs over a crawl and compares how many pages each rule removed.
fn check(records: &[Vec<u8>], kept: u64, removed: &[(&str, u64)]) -> Place {
    let place = Place::with("crawl.warc.gz", &records.concat());
    let summary = place.run("crawl.warc.gz", &Recipe::default()).unwrap();
    let found: Vec<(&str, u64)> =
        summary.steps.iter().map(|s| (s.rule.as_str(), s.documents)).collect();
    assert_eq!((summary.kept, found.as_slice()), (kept, removed), "{}", summary.line());
    assert_eq!(place.documents().len() as u64, kept);
    place
}

#[test]
fn a_crawl_becomes_documents_and_fates() {
    let newer = response(
        "https://www.a.example/1?utm_source=x",
        "2025-01-01T00:00:00Z",
        "urn:n",
        &html(1, "<p>A newer visit.</p>"),
    );
    let mirror =
        response("http://mirror.example/copy/3", "2023-01-01T00:00:00Z", "urn:m", &html(3, ""));
    let short = response(
        "http://a.example/s",
        "2024-01-01T00:00:00Z",
        "urn:s",
        "<html><body><p>Soon.</p></body></html>",
    );
    let records = [page(1, ""), page(2, ""), newer, page(3, ""), mirror, short];
    let place =
        check(&records, 3, &[("url-duplicate", 1), ("too-short", 1), ("document-duplicate", 1)]);
    let documents = place.documents();
    assert!(documents[1].text.contains("A newer visit."), "{}", documents[1].text);
    assert_eq!(documents[0].language, "en");
    assert!(!documents[0].text.contains("About"), "{}", documents[0].text);
    let fates = place.fates();
    assert!(fates.contains(&("document-duplicate".into(), "https://mirror.example/copy/3".into())));
    assert!(!place.dir.path().join("out/work").exists());
}

#[test]
fn a_line_in_seven_documents_goes_with_all_its_occurrences() {
    let line = "<p>Subscribe to our letter of the week, it costs nothing at all.</p>";
    let shares = |n: usize| -> Vec<Vec<u8>> {
        (0..12).map(|number| page(number, if number < n { line } else { "" })).collect()
    };
    for (documents, goes) in [(6, false), (7, true)] {
        let place = check(&shares(documents), 12, &[]);
        let with = place.documents().iter().filter(|d| d.text.contains("Subscribe")).count();
        assert_eq!(with, if goes { 0 } else { documents });
        let fates = place.fates().iter().filter(|f| f.0 == "line-duplicate").count();
        assert_eq!(fates, if goes { documents } else { 0 });
    }
}

#[test]
fn mirrors_are_one_document_once_the_lines_of_their_sites_went() {
    let line = "<p>Subscribe to our letter of the week, it costs nothing at all.</p>";
    let mut records: Vec<Vec<u8>> = (0..8).map(|number| page(number, line)).collect();
    let mirror = |n: usize, extra: &str| {
        let (url, id) = (format!("http://mirror.example/copy/{n}"), format!("urn:m{n}"));
        response(&url, "2023-01-01T00:00:00Z", &id, &html(n, extra))
    };
    records.push(mirror(3, ""));
    records.push(mirror(
        4,
        "<p>The printed edition of 1899 has one more paragraph, which tells at length of the \
         stones that were carried down to the shore, of the two brothers who carried them, and of \
         what their grandchildren still say about it when the evenings get long.</p>",
    ));
    let place = check(&records, 9, &[("document-duplicate", 1)]);
    assert!(
        place
            .fates()
            .contains(&("document-duplicate".into(), "https://mirror.example/copy/3".into()))
    );
}

/// A near copy goes for a page that itself goes later, as equal to a mirror once the lines of its
/// site went: what is named is the mirror.
#[test]
fn a_fate_names_the_copy_that_is_kept_at_last() {
    let lines = "<p>The house was founded by two sisters and is still open to all who come.</p>\
        <p>Whoever would like to help us can write a letter to the keeper of the keys.</p>\
        <p>Every morning at eight the doors are opened, and at nine in the evening closed.</p>\
        <p>Our thanks go to the gardeners, who asked for nothing when the roof was torn off.</p>";
    let other = "<p>A glass of milk stood on the table, next to it a loaf that nobody had cut. \
        The miller looked at both and thought of his daughter, who had left for the city without \
        a word; then he put on his coat and went out to see whether the wheel was still turning.</p>";
    let body = |text: &str| html(3, lines).replace(&prose(3).replace('\n', "</p>\n<p>"), text);
    let first = crate::rules::tests::PROSE_SAMPLE.replace("\n\n", "</p><p>");
    let at = |host: &str, date: &str, body: String| {
        response(&format!("http://{host}/3"), date, &format!("urn:{host}"), &body)
    };
    let changed = html(3, lines).replace("the mayor answered", "she answered them");
    let records = [
        at("one.example", "2024-01-01T00:00:00Z", body(&first)),
        at("two.example", "2024-01-01T00:00:00Z", body(other)),
        at("site.example", "2024-01-01T00:00:00Z", html(3, lines)),
        at("mirror.example", "2025-01-01T00:00:00Z", html(3, "")),
        at("copy.example", "2023-01-01T00:00:00Z", changed),
    ];
    let place = Place::with("crawl.warc.gz", &records.concat());
    let recipe = Recipe { line_limit: 2, ..Recipe::default() };
    let summary = place.run("crawl.warc.gz", &recipe).unwrap();
    assert_eq!(summary.kept, 3, "{}", summary.line());
    let fates = read_fates(&place.dir.path().join("out/fates-00000.parquet")).unwrap();
    let fate = |url: &str| {
        let of = |f: &&quipu_documents::Fate| f.rule == "document-duplicate" && f.url.contains(url);
        fates.iter().find(of).unwrap()
    };
    let documents = place.documents();
    let mirror = documents.iter().find(|d| d.url.contains("mirror.example")).unwrap().id;
    let (site, near) = (fate("site.example"), fate("copy.example"));
    assert_eq!(site.detail, format!("kept {mirror}, equal without repeated lines"));
    let expected = format!("kept {mirror}, equal to {} without repeated lines", site.id);
    assert_eq!(near.detail, expected);
    assert!(near.value < 1.0 && near.value >= Recipe::default().near.threshold, "{}", near.value);
    let told = explain(&place.dir.path().join("out"), "http://copy.example/3").unwrap();
    let why = &told.visits[0].stages.iter().find(|s| s.name == "document").unwrap().why;
    for part in [&site.id.to_string(), "the copy kept", "https://mirror.example/3"] {
        assert!(why.contains(part), "{why}");
    }
    assert!(!why.contains("removed later"), "{why}");
}

#[test]
fn damaged_members_cost_themselves_and_are_counted() {
    let mut bad = page(2, "");
    bad[10] = 0xff; // an impossible block type
    let cut = page(4, "");
    let records = [page(1, ""), bad, page(3, ""), cut[..cut.len() - 20].to_vec()];
    let place = check(&records, 2, &[("damaged-record", 2)]);
    let manifest = read_summary(&place.dir.path().join("out")).unwrap();
    assert_eq!(manifest.inputs[0].damaged, 2);
}

/// Every file of a folder with its bytes, in the order of names.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect();
    all.sort();
    all
}

/// Pages with visits, copies, repeated lines and damage among them.
fn busy_crawl() -> Vec<u8> {
    let mut records: Vec<Vec<u8>> = (0..600).map(|n| page(n, "")).collect();
    let line = "<p>Subscribe to our letter of the week, it costs nothing at all.</p>";
    for n in 0..120 {
        let (url, id) = (format!("http://mirror.example/copy/{n}"), format!("urn:m{n}"));
        records.push(response(&url, "2023-01-01T00:00:00Z", &id, &html(n * 3, line)));
        let (url, id) = (format!("http://a.example/{n}?utm_source=x"), format!("urn:v{n}"));
        records.push(response(&url, "2023-06-01T00:00:00Z", &id, &html(n, "")));
    }
    records[77][10] = 0xff;
    records.concat()
}

#[test]
fn results_do_not_depend_on_workers_or_on_where_a_run_was_stopped() {
    let crawl = busy_crawl();
    let whole = Place::with("crawl.warc.gz", &crawl);
    whole
        .run_with("crawl.warc.gz", &Options { workers: 1, memory: 1 << 30, ..Options::default() })
        .unwrap();
    let expected = files(&whole.dir.path().join("out"));
    assert_eq!(expected.len(), 3, "documents, fates, manifest");
    for (workers, memory) in [(2, 1 << 30), (7, 1 << 20)] {
        let place = Place::with("unused", b"");
        let (out, silent) = (place.dir.path().join("out"), progress::silent());
        let (input, options) = (
            whole.dir.path().join("crawl.warc.gz"),
            Options { workers, memory, ..Options::default() },
        );
        run(&[input], &Recipe::default(), &out, &options, silent.as_ref(), &Cancel::new()).unwrap();
        assert!(files(&out) == expected, "{workers} workers");
    }
    for pages in [0, 40, 500] {
        let place = Place::with("unused", b"");
        let out = place.dir.path().join("out");
        let cancel = Cancel::new();
        let progress = StopAfter { cancel: cancel.clone(), calls: pages.into() };
        let input = [whole.dir.path().join("crawl.warc.gz")];
        let (recipe, three) =
            (Recipe::default(), Options { workers: 3, memory: 1 << 22, ..Options::default() });
        let stopped = run(&input, &recipe, &out, &three, &progress, &cancel);
        if let Err(error) = stopped {
            assert!(matches!(error, Error::Cancelled(_)), "{error}");
            assert!(!out.join("manifest.json").exists());
        }
        let silent = progress::silent();
        run(&input, &recipe, &out, &three, silent.as_ref(), &Cancel::new()).unwrap();
        assert!(files(&out) == expected, "stopped after {pages}");
    }
}

#[test]
fn two_that_work_on_one_folder_make_what_one_makes() {
    let whole = Place::with("crawl.warc.gz", &busy_crawl());
    let input = [whole.dir.path().join("crawl.warc.gz")];
    let (recipe, options) =
        (Recipe::default(), Options { workers: 1, memory: 1 << 24, ..Options::default() });
    whole.run_with("crawl.warc.gz", &options).unwrap();
    let out = whole.dir.path().join("shared");
    let silent = progress::silent();
    assert!(matches!(
        join(&out, &options, silent.as_ref(), &Cancel::new()),
        Err(Error::NoRun { .. })
    ));
    std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            run(&input, &recipe, &out, &options, silent.as_ref(), &Cancel::new()).unwrap()
        });
        let second = scope.spawn(|| {
            // The plan stands there a moment after the run began.
            loop {
                match join(&out, &options, silent.as_ref(), &Cancel::new()) {
                    Err(Error::NoRun { .. }) => std::thread::yield_now(),
                    done => break done.unwrap(),
                }
            }
        });
        let same = |summary: Summary| Summary { made: Made::Partly, ..summary };
        assert_eq!(same(first.join().unwrap()), same(second.join().unwrap()));
    });
    assert!(files(&out) == files(&whole.dir.path().join("out")));
}

/// Asks to stop once so many tasks were done.
struct StopAfter {
    cancel: Cancel,
    calls: std::sync::atomic::AtomicI64,
}

impl Progress for StopAfter {
    fn begin(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {
        use std::sync::atomic::Ordering;
        if self.calls.fetch_sub(1, Ordering::Relaxed) <= 0 {
            self.cancel.request();
        }
    }
    fn note(&self, _: &str) {}
    fn finish(&self, _: &str) {}
}

fn refused(name: &str, bytes: &[u8], recipe: &Recipe, parts: &[&str]) {
    let place = Place::with(name, bytes);
    let message = place.run(name, recipe).unwrap_err().to_string();
    for part in parts {
        assert!(message.contains(part), "{message} lacks {part}");
    }
    let out = place.dir.path().join("out");
    let left = std::fs::read_dir(&out)
        .map_or(0, |entries| entries.flatten().filter(|e| e.file_name() != "work").count());
    assert_eq!(left, 0, "nothing stands under a final name");
}

#[test]
fn bad_input_is_refused_with_file_and_reason() {
    let recipe = Recipe::default();
    refused("x.warc.gz", b"no crawl at all", &recipe, &["x.warc.gz", "not a WARC"]);
    refused("x.warc.gz", &page(1, "")[..60], &recipe, &["x.warc.gz"]);
    let info = b"WARC/1.0\r\nWARC-Type: warcinfo\r\nContent-Length: 3\r\n\r\nabc\r\n\r\n";
    refused("x.warc", info, &recipe, &["x.warc", "no pages found", "warcinfo"]);
    let languages = crate::Languages::Only(vec!["fi".into()]);
    let finnish = Recipe { languages, ..Recipe::default() };
    refused("x.warc", &page(1, ""), &finnish, &["zero documents left of 1", "language 1"]);
    let deep = format!("<html><body>{}deep</body></html>", "<div><p>".repeat(100_000));
    let deep = response("http://a.example/", "", "urn:d", &deep);
    refused("deep.warc.gz", &deep, &recipe, &["zero documents left of 1"]);
    let large = format!("<html><body><p>{}</body></html>", "word ".repeat(10 << 20));
    let large = response("http://a.example/", "", "urn:l", &large);
    refused("large.warc.gz", &large, &recipe, &["zero documents left", "page-too-large 1"]);
    refused("x.bin", b"\0\x01\x02\x03\x04\x05\x06\x07", &recipe, &["x.bin", "binary"]);
    let zero = Recipe { line_limit: 0, ..Recipe::default() };
    refused("x.warc", &page(1, ""), &zero, &["corpus.line_limit"]);
    let nothing = Recipe { only: vec![Part::Dedup, Part::Decontaminate], ..Recipe::default() };
    refused("x.warc", &page(1, ""), &nothing, &["corpus.only", "decontaminate", "evaluations"]);
}

/// Whatever an input or a recipe names, its content counts, also where it is a folder.
#[test]
fn a_run_whose_inputs_or_evaluations_changed_is_another() {
    let place = Place::with("in/1.html", html(1, "").as_bytes());
    place.write("evaluations/a.jsonl", b"{\"question\": \"Who wrote it?\", \"answer\": \"x\"}\n");
    let recipe =
        Recipe { evaluations: vec![place.dir.path().join("evaluations")], ..Recipe::default() };
    let made = |expected: Made| {
        let summary = place.run("in", &recipe).unwrap();
        assert_eq!(summary.made, expected);
        summary
    };
    made(Made::Whole);
    made(Made::Before);
    place.write("in/1.html", html(2, "").as_bytes());
    made(Made::Whole);
    made(Made::Before);
    place.write("evaluations/b.jsonl", b"{\"question\": \"Who read it?\", \"answer\": \"y\"}\n");
    made(Made::Whole);
    assert_eq!(made(Made::Before).kept, 1);
}

/// A run that was stopped and whose inputs have changed since is begun anew, and says so.
#[test]
fn an_unfinished_run_of_what_has_changed_is_begun_anew_aloud() {
    let place = Place::with("in/1.html", html(1, "").as_bytes());
    let (inputs, out) = ([place.dir.path().join("in")], place.dir.path().join("out"));
    let said = || {
        let log = place.dir.path().join("log");
        let lines = progress::lines(
            Box::new(std::fs::File::create(&log).unwrap()),
            std::time::Duration::from_secs(60),
        );
        let stopped = Recipe { pipe: Some("false".into()), ..Recipe::default() };
        run(&inputs, &stopped, &out, &Options::default(), &*lines, &Cancel::new()).unwrap_err();
        std::fs::read_to_string(&log).unwrap()
    };
    let anew = "is begun anew: its inputs, the files that its recipe names";
    assert!(!said().contains("anew"));
    assert!(!said().contains("anew"), "what was done before stands");
    place.write("in/1.html", html(2, "").as_bytes());
    assert!(said().contains(anew));
}

/// What fails before anything is done is not in the way of the next try, nor of what was there.
#[test]
fn a_start_that_fails_is_not_in_the_way() {
    let place = Place::with("in/1.html", html(1, "").as_bytes());
    let (file, out) = (place.dir.path().join("q.jsonl"), place.dir.path().join("out"));
    let scores = Recipe { scores: vec![file], ..Recipe::default() };
    let is_refused = || {
        place.write("q.jsonl", b"this is no score\n");
        let message = place.run("in", &scores).unwrap_err().to_string();
        assert!(message.contains("q.jsonl, line 1"), "{message}");
        assert!(!out.join(WORK).exists(), "nothing was begun");
    };
    is_refused();
    assert_eq!(place.run("in", &Recipe::default()).unwrap().kept, 1);
    place.write("q.jsonl", b"");
    assert_eq!(place.run("in", &scores).unwrap().made, Made::Whole);
    is_refused();
    assert_eq!(read_summary(&out).unwrap().kept, 1, "what was there is there");
    place.write("q.jsonl", b"");
    assert_eq!(place.run("in", &scores).unwrap().made, Made::Before);
}

/// Documents of others: two of one identity are two, a name for no address is none, texts without
/// words are not one text, and short ones stay where nobody asked for their length.
#[test]
fn documents_of_others_are_not_taken_for_one() {
    let others =
        |text: &str, more: &str| format!("{{\"text\": \"{text}\", \"url\": \"n/a\"{more}}}\n");
    let lines = [
        others("The first of the texts here.", ", \"id\": \"0\""),
        others("Another one says other things.", ", \"id\": \"0\""),
        others("!!! ??? !!!", ""),
        others("--> <== ==", ""),
    ];
    let place = Place::with("a.jsonl", lines.concat().as_bytes());
    let recipe = Recipe { only: vec![Part::Dedup], pipe: Some("cat".into()), ..Recipe::default() };
    let summary = place.run("a.jsonl", &recipe).unwrap();
    assert_eq!(summary.kept, 4, "{}", summary.line());
    let ids: HashSet<Id> = place.documents().iter().map(|document| document.id).collect();
    assert_eq!(ids.len(), 4);
    let scores = "{\"id\": \"0\", \"name\": \"q\", \"score\": 0.5}\n\
                  {\"id\": \"nobody\", \"name\": \"q\", \"score\": 0.5}\n";
    place.write("q.jsonl", scores.as_bytes());
    let scores = vec![place.dir.path().join("q.jsonl")];
    let summary = place.run("a.jsonl", &Recipe { scores, ..recipe }).unwrap();
    assert_eq!((summary.score_files.read, summary.score_files.joined), (2, 2));
    let scored = |d: &&Document| d.scores.contains(&("q".to_owned(), 0.5));
    assert_eq!(place.documents().iter().filter(scored).count(), 2, "both that are called so");
}

/// What others say of a language, in whichever form: theirs where ours was not asked for, and beside
/// ours where it was.
#[test]
fn the_language_that_others_say_stands_or_is_kept() {
    let line = serde_json::json!({"text": prose(1), "lang": "de", "language_score": 0.5});
    let place = Place::with("a.jsonl", line.to_string().as_bytes());
    let said = |recipe: &Recipe| {
        place.run("a.jsonl", recipe).unwrap();
        let document = place.documents().remove(0);
        (document.language, document.language_score, document.extra)
    };
    let only = Recipe { only: vec![Part::Dedup], ..Recipe::default() };
    assert_eq!(said(&only), ("de".into(), 0.5, String::new()));
    let (language, score, extra) = said(&Recipe::default());
    assert!(language == "en" && score > 0.5, "{language} {score}");
    assert_eq!(extra, "{\"language\":\"de\",\"language_score\":0.5}");
}

/// What another process works on is not taken away from under it.
#[test]
fn a_run_on_which_others_work_is_not_replaced() {
    let place = Place::with("crawl.warc.gz", &[page(1, ""), page(2, "")].concat());
    let stop = Recipe { pipe: Some("false".into()), ..Recipe::default() };
    assert!(place.run("crawl.warc.gz", &stop).is_err());
    let work = place.dir.path().join("out/work");
    let crew = Crew::new(&work, 1, &Cancel::new()).unwrap().while_stands(&work.join(NAME));
    let other = Recipe { min_words: 30, ..Recipe::default() };
    let task = |_: usize| -> Result<bool, Error> {
        Ok(matches!(place.run("crawl.warc.gz", &other), Err(Error::Taken { .. })))
    };
    assert_eq!(crew.run("held", 1, task, |_, _| ()).unwrap(), [true]);
    assert_eq!(place.run("crawl.warc.gz", &other).unwrap().kept, 2);
    let late = crew.run("held", 1, task, |_, _| ());
    assert!(late.is_err(), "and who comes late does nothing");
}

#[test]
fn a_finished_run_is_not_repeated_and_another_recipe_is() {
    let place = Place::with("crawl.warc.gz", &[page(1, ""), page(2, "")].concat());
    let first = place.run("crawl.warc.gz", &Recipe::default()).unwrap();
    let file = place.dir.path().join("out/documents-00000.parquet");
    let time = std::fs::metadata(&file).unwrap().modified().unwrap();
    assert_eq!(first.made, Made::Whole);
    let first = Summary { made: Made::Before, ..first };
    assert_eq!(place.run("crawl.warc.gz", &Recipe::default()).unwrap(), first);
    assert_eq!(std::fs::metadata(&file).unwrap().modified().unwrap(), time);
    let more = Recipe { min_words: 1000, ..Recipe::default() };
    assert!(matches!(place.run("crawl.warc.gz", &more), Err(Error::NothingLeft { .. })));
}

#[test]
fn a_sample_is_drawn_by_hash_and_reported() {
    let records: Vec<Vec<u8>> = (0..40).map(|n| page(n, "")).collect();
    let place = Place::with("crawl.warc.gz", &records.concat());
    let sample = Some(crate::Sample { bytes: None, documents: Some(10) });
    let summary = place.run("crawl.warc.gz", &Recipe { sample, ..Recipe::default() }).unwrap();
    assert_eq!((summary.pages, summary.not_sampled, summary.kept), (10, 30, 10));
}

#[test]
fn precision_and_recall_against_a_truth() {
    let short = response(
        "http://a.example/s",
        "2024-01-01T00:00:00Z",
        "urn:s",
        "<html><body><p>Soon.</p></body></html>",
    );
    let place = Place::with("crawl.warc.gz", &[page(1, ""), page(2, ""), short].concat());
    let truth = place.dir.path().join("truth.jsonl");
    let line = |id: &str, url: &str, rest: &str| {
        format!(
            "{{\"record_id\":\"{id}\",\"url\":\"{url}\",\"date\":\"2024-01-01T00:00:00Z\",\
             {rest}}}\n"
        )
    };
    let lines = [
        line("urn:uuid:1", "http://a.example/1", "\"expect\":\"keep\""),
        line("urn:uuid:2", "http://a.example/2", "\"expect\":\"drop\",\"rule\":\"gibberish\""),
        line("urn:s", "http://a.example/s", "\"expect\":\"drop\",\"rule\":\"too-short\""),
    ];
    let lost = line("urn:l", "http://a.example/l", "\"expect\":\"keep\"");
    let recipe = Recipe { truth: Some(truth.clone()), ..Recipe::default() };
    std::fs::write(&truth, lines.concat() + &lost).unwrap();
    assert_eq!(place.run("crawl.warc.gz", &recipe).unwrap().unseen, Some(1));
    std::fs::remove_dir_all(place.dir.path().join("out")).unwrap();
    std::fs::write(&truth, lines.concat()).unwrap();
    let summary = place.run("crawl.warc.gz", &recipe).unwrap();
    let of = |rule: &str| summary.scores.iter().find(|s| s.rule == rule).unwrap();
    assert_eq!((of("too-short").precision(), of("too-short").recall()), (1.0, 1.0));
    assert_eq!((of("gibberish").recall(), of("gibberish").wrongly_kept), (0.0, 1));
    assert_eq!(summary.unseen, Some(0));
}

/// The 379 real pages, whatever their encodings.
#[test]
fn the_real_crawl_has_379_pages() {
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared"));
    let shared = std::env::var_os("QUIPU_SHARED").map_or(beside, PathBuf::from);
    if !shared.is_dir() {
        eprintln!("SKIPPED: the_real_crawl_has_379_pages: shared data absent");
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let inputs = [shared.join("data/crawl.warc.gz")];
    let silent = progress::silent();
    let summary = run(
        &inputs,
        &Recipe::default(),
        out.path(),
        &Options::default(),
        silent.as_ref(),
        &Cancel::new(),
    )
    .unwrap();
    assert_eq!(summary.pages, 379);
    let removed: u64 = summary.steps.iter().map(|s| s.documents).sum();
    assert_eq!(summary.kept + removed, 379, "every page is kept or has a fate");
}

#[test]
fn lines_of_plain_texts_are_their_writers_own() {
    let dir = tempfile::tempdir().unwrap();
    let books = dir.path().join("books");
    std::fs::create_dir(&books).unwrap();
    for n in 0..8 {
        let text = format!("{}\n\"Yes,\" said the old man.\n", prose(n));
        std::fs::write(books.join(format!("{n}.txt")), text).unwrap();
    }
    let (out, silent) = (dir.path().join("out"), progress::silent());
    let summary = run(
        &[books],
        &Recipe::default(),
        &out,
        &Options::default(),
        silent.as_ref(),
        &Cancel::new(),
    )
    .unwrap();
    assert_eq!((summary.kept, summary.lines.len()), (8, 0));
}

/// What the fifth of the pages below has more than the others.
const PASSAGE: &str = "Whoever finds the seven silver keys that the keeper of the tower lost on his \
    way to the fair may write to anna.berg@harbour-museum.org or bring them back by hand.";

/// Curates twelve pages by a changed recipe; the summary, and what stands in the folder.
fn curated(change: impl FnOnce(&Path, &mut Recipe)) -> (Summary, Place) {
    let extra = format!("<p>{PASSAGE}</p>");
    let records: Vec<Vec<u8>> =
        (0..12).map(|n| page(n, if n == 5 { &extra } else { "" })).collect();
    let place = Place::with("crawl.warc.gz", &records.concat());
    let mut recipe = Recipe::default();
    change(place.dir.path(), &mut recipe);
    let summary = place.run("crawl.warc.gz", &recipe).unwrap();
    (summary, place)
}

fn check_removed(
    change: impl FnOnce(&Path, &mut Recipe),
    stage: &str,
    rule: &str,
    documents: u64,
) -> Place {
    let (summary, place) = curated(change);
    let steps: Vec<(&str, &str, u64)> =
        summary.steps.iter().map(|s| (s.stage.as_str(), s.rule.as_str(), s.documents)).collect();
    assert_eq!(steps, [(stage, rule, documents)]);
    assert_eq!(summary.kept, 12 - documents);
    place
}

#[test]
fn documents_that_contain_an_evaluation_item_go() {
    let add = |dir: &Path, recipe: &mut Recipe| {
        let line = serde_json::json!({ "question": PASSAGE, "answer": "nobody" });
        std::fs::write(dir.join("exam.jsonl"), format!("{line}\n")).unwrap();
        recipe.evaluations = vec![dir.join("exam.jsonl")];
    };
    let place = check_removed(add, "contamination", "evaluation-item", 1);
    assert_eq!(place.fates(), [("evaluation-item".into(), "https://a.example/5".into())]);
}

#[test]
fn addresses_on_a_list_go_before_they_are_read() {
    let (_, place) = curated(|_, _| ());
    let list = place.dir.path().join("list.txt");
    std::fs::write(&list, "a.example\n").unwrap();
    let mut recipe = Recipe::default();
    recipe.addresses.block = vec![list];
    std::fs::remove_dir_all(place.dir.path().join("out")).unwrap();
    let message = place.run("crawl.warc.gz", &recipe).unwrap_err().to_string();
    assert!(message.contains("zero documents left of 12") && message.contains("domain-list 12"));
}

#[test]
fn personal_data_is_counted_and_masked_by_choice() {
    let (_, place) = curated(|_, _| ());
    let found = |place: &Place| {
        let documents = place.documents();
        let marked: Vec<_> =
            documents.iter().filter(|d| d.scores.iter().any(|s| s.0 == "personal-data")).collect();
        assert_eq!(marked.len(), 1);
        marked[0].text.clone()
    };
    assert!(found(&place).contains("anna.berg@harbour-museum.org"));
    let (_, place) = curated(|_, recipe| recipe.mask = vec![crate::personal::Kind::Email]);
    let text = found(&place);
    assert!(!text.contains("anna.berg") && text.contains("<email>"), "{text}");
}

#[test]
fn a_domain_goes_for_the_harm_that_its_documents_are_scored_with() {
    let document = |site: &str, n: usize, harm: f32| quipu_documents::Document {
        url: format!("http://{site}.example/{n}"),
        text: prose(n),
        scores: vec![(crate::domains::HARM.to_owned(), harm)],
        ..Default::default()
    };
    // A clear case, a mild one, and one of which too little is known.
    let sites = [("worst", 12, 0.9), ("mild", 12, 0.4), ("new", 3, 0.9)];
    let documents: Vec<_> = sites
        .iter()
        .flat_map(|(site, count, harm)| (0..*count).map(move |n| document(site, n, *harm)))
        .collect();
    let place = Place::with("none", b"");
    quipu_documents::write_file(&place.dir.path().join("scored.parquet"), &documents).unwrap();
    let only = vec![crate::Part::Addresses];
    let summary = place.run("scored.parquet", &Recipe { only, ..Recipe::default() }).unwrap();
    let steps: Vec<(&str, u64)> =
        summary.steps.iter().map(|s| (s.rule.as_str(), s.documents)).collect();
    assert_eq!((summary.kept, steps.as_slice()), (15, &[("domain-harm", 12)][..]));
}

#[test]
fn scores_of_a_file_are_joined_by_id_and_the_lowest_go() {
    let (_, place) = curated(|_, _| ());
    let ids: Vec<quipu_documents::Id> = place.documents().iter().map(|d| d.id).collect();
    let score = |n: usize, id: &quipu_documents::Id| quipu_documents::Score {
        id: *id,
        name: "quality".into(),
        score: n as f32 / 10.0,
    };
    let scores: Vec<_> = ids.iter().enumerate().map(|(n, id)| score(n, id)).collect();
    let add = |dir: &Path, recipe: &mut Recipe| {
        let file = dir.join("scores.parquet");
        quipu_documents::write_scores(&file, &scores).unwrap();
        recipe.scores = vec![file];
        recipe.least = [("quality".to_owned(), 0.25)].into();
    };
    let place = check_removed(add, "rules", "low-score", 3);
    let documents = place.documents();
    assert!(documents.iter().all(|d| d.scores.iter().any(|s| s.0 == "quality" && s.1 >= 0.25)));
}

/// Scores come before anything is compared: the copy of a document that a score removes stays, and a
/// score takes the place of an earlier one of its name.
#[test]
fn no_copy_goes_for_a_document_that_a_score_removes() {
    let document = |n: u128, text: String| quipu_documents::Document {
        id: Id(n),
        url: format!("https://a.example/{n}"),
        text,
        scores: vec![("quality".to_owned(), 0.1)],
        ..Default::default()
    };
    let documents = [document(1, prose(1)), document(2, prose(1)), document(3, prose(2))];
    let place = Place::with("none", b"");
    quipu_documents::write_file(&place.dir.path().join("a.parquet"), &documents).unwrap();
    let score = |n: u128, score: f32| format!("{{\"id\": \"{}\", \"quality\": {score}}}\n", Id(n));
    let given = [score(1, 0.2), score(2, 0.9), score(3, 0.9)].concat();
    place.write("q.jsonl", given.as_bytes());
    let recipe = Recipe {
        only: vec![Part::Dedup],
        scores: vec![place.dir.path().join("q.jsonl")],
        least: [("quality".to_owned(), 0.5)].into(),
        ..Recipe::default()
    };
    let summary = place.run("a.parquet", &recipe).unwrap();
    let kept: HashSet<Id> = place.documents().iter().map(|document| document.id).collect();
    assert_eq!(kept, [Id(2), Id(3)].into(), "{}", summary.line());
    assert_eq!((summary.score_files.joined, summary.unscored.len()), (3, 0));
    let fates = read_fates(&place.dir.path().join("out/fates-00000.parquet")).unwrap();
    let told: Vec<_> = fates.iter().map(|f| (f.id, f.stage.as_str(), f.detail.as_str())).collect();
    assert_eq!(told, [(Id(1), "rules", "quality")]);
}

#[test]
fn a_score_that_nobody_has_removes_nothing_and_is_counted() {
    let (summary, place) = curated(|_, recipe| recipe.least = [("qualty".to_owned(), 0.5)].into());
    assert_eq!(summary.unscored, [("qualty".to_owned(), summary.kept)].into());
    assert!(summary.line().contains("without the score `qualty`"), "{}", summary.line());
    // What is measured here is a score like any other.
    let words = |d: &quipu_documents::Document| {
        d.scores.iter().find(|s| s.0 == "words").map_or(0.0, |s| s.1)
    };
    let most = place.documents().iter().map(words).fold(0.0, f32::max);
    let (fewer, _) = curated(|_, recipe| recipe.least = [("words".to_owned(), most)].into());
    assert_eq!((fewer.kept, fewer.unscored.len()), (1, 0), "{}", fewer.line());
}

#[test]
fn documents_without_an_address_are_not_visits_to_one() {
    let line = |n: usize| format!("{}\n", serde_json::json!({"text": prose(n)}));
    let place = Place::with("bare.jsonl", (0..12).map(line).collect::<String>().as_bytes());
    let summary = place.run("bare.jsonl", &Recipe::default()).unwrap();
    assert_eq!((summary.kept, summary.steps.len()), (12, 0), "{}", summary.line());
}

#[test]
fn files_that_no_run_wrote_are_not_removed() {
    let place = Place::with("crawl.warc.gz", &page(1, ""));
    let work = place.dir.path().join("out/work");
    std::fs::create_dir_all(&work).unwrap();
    std::fs::write(work.join("thesis.tex"), "x").unwrap();
    let error = place.run("crawl.warc.gz", &Recipe::default()).unwrap_err().to_string();
    assert!(error.contains("no run of curation wrote"), "{error}");
    assert!(work.join("thesis.tex").exists());
}

#[test]
fn a_command_that_is_mended_finds_what_came_before_it_done() {
    let place = Place::with("crawl.warc.gz", &page(1, ""));
    let with = |pipe: &str| Recipe { pipe: Some(pipe.into()), ..Recipe::default() };
    assert!(place.run("crawl.warc.gz", &with("false")).is_err());
    let done = place.dir.path().join("out/work/extract/000000.done");
    let mark = |path: &Path| std::os::unix::fs::MetadataExt::ino(&path.metadata().unwrap());
    let before = mark(&done);
    assert!(place.run("crawl.warc.gz", &with("cat >&2; false")).is_err());
    assert_eq!(mark(&done), before, "it was extracted again");
    assert_eq!(place.run("crawl.warc.gz", &with("cat")).unwrap().kept, 1);
}

#[test]
fn a_command_drops_documents_at_the_end() {
    let add = |_: &Path, recipe: &mut Recipe| recipe.pipe = Some("sed 1,2d".into());
    check_removed(add, "pipe", "pipe", 2);
}

#[test]
fn documents_of_others_are_only_deduplicated_when_that_is_asked() {
    let short = "{\"url\":\"http://a.example/s\",\"text\":\"Coming soon.\"}\n";
    let lines: String = (0..4)
        .map(|n| {
            let text = prose(n % 3);
            let line = serde_json::json!({"url": format!("http://b.example/{n}"), "text": text});
            format!("{line}\n")
        })
        .chain([short.to_owned()])
        .collect();
    let place = Place::with("others.jsonl", lines.as_bytes());
    let only = vec![crate::Part::Dedup];
    let summary = place.run("others.jsonl", &Recipe { only, ..Recipe::default() }).unwrap();
    let steps: Vec<(&str, u64)> =
        summary.steps.iter().map(|s| (s.rule.as_str(), s.documents)).collect();
    assert_eq!((summary.kept, steps.as_slice()), (4, &[("document-duplicate", 1)][..]));
}

#[test]
fn a_list_that_is_none_is_refused_before_anything_is_read() {
    let place = Place::with("crawl.warc.gz", &page(1, ""));
    let list = place.dir.path().join("words.bin");
    std::fs::write(&list, "one two\tthree\n").unwrap();
    let bad = |change: fn(&mut Recipe, PathBuf), key: &str| {
        let mut recipe = Recipe::default();
        change(&mut recipe, list.clone());
        let message = place.run("crawl.warc.gz", &recipe).unwrap_err().to_string();
        assert!(message.contains(key), "{message}");
        assert!(!place.dir.path().join("out/manifest.json").exists());
    };
    bad(|r, list| r.dirty_words = [("en".to_owned(), list)].into(), "dirty_words");
    bad(|r, list| r.addresses.block = vec![list], "addresses");
    bad(|r, list| r.language_model = Some(list), "words.bin");
    bad(|r, list| r.scores = vec![list], "words.bin");
    bad(|r, _| r.without = vec!["no-such-rule".into()], "corpus.without");
    let only = |tag: &str| crate::Languages::Only(vec!["de".into(), tag.into()]);
    let mut unknown = Recipe { languages: only("xx"), ..Recipe::default() };
    let refused = unknown.validate().unwrap_err().to_string();
    assert!(refused.contains("corpus.languages: found \"xx\""), "{refused}");
    unknown.languages = only("other");
    unknown.validate().unwrap();
}
