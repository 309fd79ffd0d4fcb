//! What the fuzzers run, so that stable tests replay their corpora and every known attack through
//! the very same functions. Each takes any bytes and may only return.
//!
//! Not here: what should be read from sound bytes; that is tested beside each reader.

use crate::classify::{Classifier, fasttext};
use crate::decontaminate::{Index, Items};
use crate::domains::{Addresses, DomainList};
use crate::input::{Body, Page, json_lines};
use crate::judges::Judges;
use crate::page::process;
use crate::rules::{DirtyWords, LINE_RULES, RULES, View};
use crate::shuffle::Run;
use crate::shuffle::run::reseal;
use crate::warc::Records;
use crate::{Error, Recipe, dedup, domains, encoding, html, language, personal};
use quipu_documents::{
    Reader, Scores, document_at, find_documents, find_fates, read_fates, row_groups,
};
use std::path::Path;
use std::sync::LazyLock;

/// Words that models are asked about: known and unknown ones, other scripts, no word at all.
const ASKED: [&str; 3] = ["boat sea\nBoot unknown", "\u{3053}\u{308c} \u{e9}t\u{e9}", " "];

/// Bytes as a crawl.
pub fn warc(bytes: &[u8]) {
    for item in Records::new(bytes) {
        drop(item);
    }
}

/// Bytes as HTML.
pub fn html(bytes: &[u8]) {
    html::extract(&String::from_utf8_lossy(bytes), Some("http://a.example/"));
}

/// Bytes as a page of HTML, through all that is done to a page by itself.
pub fn page(bytes: &[u8]) {
    processed(Body::Html(bytes.to_vec(), None));
}

/// Bytes as a file of text and of Markdown, through all that is done to a page by itself; then
/// every rule, also those that would not have been reached.
pub fn text(bytes: &[u8]) {
    processed(Body::Text(bytes.to_vec()));
    processed(Body::Markdown(bytes.to_vec()));
    let text = String::from_utf8_lossy(bytes);
    for language in ["en", language::identify(&text).language] {
        let view = View::of(&text, language, 1);
        RULES.iter().for_each(|rule| _ = (rule.check)(&view, &JUDGES.rules));
        LINE_RULES.iter().for_each(|rule| drop((rule.find)(&view)));
    }
}

static RECIPE: LazyLock<Recipe> =
    LazyLock::new(|| Recipe { mask: personal::Kind::ALL.to_vec(), ..Recipe::default() });
static JUDGES: LazyLock<Judges> =
    LazyLock::new(|| Judges::of(&RECIPE).expect("this recipe names no files"));

fn processed(body: Body) {
    let url = "http://a.example/".to_owned();
    process(Page { url, body, ..Page::default() }, "attack", &RECIPE, &JUDGES);
}

/// Bytes as a text of unknown encoding; the first line is the header that speaks of it.
pub fn encoding(bytes: &[u8]) {
    let end = bytes.iter().position(|b| *b == b'\n').unwrap_or(0);
    let header = String::from_utf8_lossy(&bytes[..end]).into_owned();
    encoding::decode(&bytes[end..], Some(&header));
    encoding::decode(bytes, None);
}

/// Bytes as lines of JSON.
pub fn json_lines(bytes: &[u8]) {
    for line in bytes.split(|b| *b == b'\n') {
        drop(json_lines::parse(line, "0"));
    }
}

/// Bytes as addresses, one a line.
pub fn addresses(bytes: &[u8]) {
    let lists = Addresses::default();
    for line in String::from_utf8_lossy(bytes).lines() {
        let url = dedup::url::canonical(line);
        domains::domain(&url);
        lists.judge(&url);
    }
}

/// Bytes as what a user's lists may be: domains, words, evaluation items.
pub fn lists(bytes: &[u8]) {
    drop(DomainList::read(bytes));
    let text = String::from_utf8_lossy(bytes);
    let view = View::of(&text, "en", 1);
    if let Ok(words) = DirtyWords::with_lists([("en", &*text)]) {
        words.count(&view);
    }
    let kinds = [Items::json, Items::csv, Items::text];
    for read in kinds {
        let mut items = Items::default();
        if read(&mut items, "items", &text).is_ok() {
            Index::new(items).matches(&view);
        }
    }
}

/// Bytes as a model of fastText's.
pub fn fasttext(bytes: &[u8]) {
    if let Ok(model) = fasttext::Model::parse(bytes.to_vec()) {
        let mut scratch = fasttext::Scratch::default();
        for text in ASKED {
            model.predict(text, 2, &mut scratch);
        }
    }
}

/// Bytes as a classifier of ours: as they stand, and as one who can compute a checksum makes them.
pub fn classifier(bytes: &[u8]) {
    let mut sealed = bytes.to_vec();
    if let Some((rest, sum)) = sealed.split_last_chunk_mut::<8>() {
        *sum = xxhash_rust::xxh3::xxh3_64(rest).to_le_bytes();
    }
    for bytes in [bytes, &sealed] {
        if let Ok(model) = Classifier::decode(bytes) {
            ASKED.iter().for_each(|text| drop(model.scores(text)));
        }
    }
}

/// Bytes as a Parquet file of documents, and of fates.
///
/// # Errors
/// When the file that they are put into cannot be written.
pub fn documents(bytes: &[u8]) -> std::io::Result<()> {
    in_file(bytes, "parquet", |path| {
        drop((row_groups(path), document_at(path, 1)));
        // After an error the rest of a file is skipped; more rows than bytes are a claim.
        let rows = Reader::open(path).map(|reader| reader.take(bytes.len() + 1));
        let read = rows.and_then(|rows| rows.collect::<Result<Vec<_>, _>>());
        if read.is_ok_and(|rows| rows.len() <= bytes.len()) {
            drop((find_documents(path, |_, _| true), find_fates(path, |_, _, _| true)));
            drop(read_fates(path));
        }
    })
}

/// Bytes as a file of scores: Parquet, and lines of JSON.
///
/// # Errors
/// When the file that they are put into cannot be written.
pub fn scores(bytes: &[u8]) -> std::io::Result<()> {
    for kind in ["parquet", "jsonl"] {
        in_file(bytes, kind, |path| {
            if let Ok(scores) = Scores::open(path) {
                drop(scores.take(bytes.len() + 1).collect::<Result<Vec<_>, _>>());
            }
        })?;
    }
    Ok(())
}

/// Bytes as a run of sorted rows: as they stand, and with a seal that fits.
///
/// # Errors
/// When the file that they are put into cannot be written.
pub fn runs(bytes: &[u8]) -> std::io::Result<()> {
    fn rows<const W: usize>(path: &Path) -> Result<(), Error> {
        let run = Run::open(path, W)?;
        let mut rows = Vec::<[u64; W]>::new();
        for block in 0..run.keys().count() {
            run.read(block, &mut rows)?;
        }
        Ok(())
    }
    let mut sealed = bytes.to_vec();
    reseal(&mut sealed);
    for bytes in [bytes, &sealed] {
        in_file(bytes, "run", |path| drop((rows::<2>(path), rows::<3>(path), rows::<4>(path))))?;
    }
    Ok(())
}

/// Hands a file with these bytes to a reader of files.
fn in_file(bytes: &[u8], kind: &str, read: impl FnOnce(&Path)) -> std::io::Result<()> {
    let (process, thread) = (std::process::id(), std::thread::current().id());
    let path = std::env::temp_dir().join(format!("quipu-attack-{process}-{thread:?}.{kind}"));
    std::fs::write(&path, bytes)?;
    read(&path);
    std::fs::remove_file(&path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    enum Target {
        Bytes(fn(&[u8])),
        File(fn(&[u8]) -> std::io::Result<()>),
    }
    use Target::{Bytes, File};

    /// By the names of the fuzz targets and of the folders of their seeds.
    const TARGETS: [(&str, Target); 13] = [
        ("addresses", Bytes(addresses)),
        ("classifier", Bytes(classifier)),
        ("documents", File(documents)),
        ("encoding", Bytes(encoding)),
        ("fasttext", Bytes(fasttext)),
        ("html", Bytes(html)),
        ("json_lines", Bytes(json_lines)),
        ("lists", Bytes(lists)),
        ("page", Bytes(page)),
        ("runs", File(runs)),
        ("scores", File(scores)),
        ("text", Bytes(text)),
        ("warc", Bytes(warc)),
    ];

    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    #[test]
    fn seeds_and_attacks_do_no_harm() {
        let fuzz = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz"));
        let attacks = files(&fuzz.join("attacks"));
        assert!(attacks.len() >= 12, "{attacks:?}");
        for (target, run) in TARGETS {
            let seeds = files(&fuzz.join("corpus").join(target));
            assert!(seeds.len() >= 2, "{target}: {seeds:?}");
            // An attack on one reader is an input of all others too.
            for file in seeds.iter().chain(&attacks) {
                let bytes = std::fs::read(file).unwrap();
                match run {
                    Bytes(run) => run(&bytes),
                    File(run) => run(&bytes).unwrap(),
                }
            }
        }
    }

    #[test]
    fn every_target_is_replayed() {
        let fuzz = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/fuzz_targets"));
        let stem = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
        let found: Vec<String> = files(&fuzz).iter().map(stem).collect();
        // in crate model, `attacks.rs`, and of crate mesh the third, `process/tests.rs`
        let elsewhere = ["checkpoint", "config", "rendezvous", "tensors"];
        let here: Vec<&String> =
            found.iter().filter(|name| !elsewhere.contains(&name.as_str())).collect();
        assert_eq!(here, TARGETS.map(|(name, _)| name));
    }
}
