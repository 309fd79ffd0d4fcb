//! What is there, before anything runs: kinds by content, counts, what will be skipped, three
//! documents as they would be read, and what it would take.
//!
//! Every record is counted, but only some pages, chosen by hash, are extracted; the rest is
//! estimated from them. Nothing is written. Not here: deduplication, which needs all pages.

pub mod checkpoint;

use crate::input::{Found, Input, Kind, Page, Range, Skipped, expand};
use crate::judges::Judges;
use crate::page::{self, Outcome};
use crate::remote::Access;
use crate::summary::EXCERPT_BYTES;
use crate::{Error, Recipe};
use checkpoint::Checkpoint;
use quipu_documents::Document;
use quipu_store::progress::thousands;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Instant;

/// Pages that are extracted.
const LOOKED: usize = 96;
/// Documents that are shown.
const SHOWN: usize = 3;
/// Records of an input that are counted; a larger input is said to have at least those.
const COUNTED: u64 = 200_000;
/// Bytes of a token of English in Llama 3's tokenizer, roughly.
const ASCII_A_TOKEN: f64 = 4.4;
/// Characters of a token of other scripts.
const OTHER_A_TOKEN: f64 = 1.6;
/// Bytes of input of a unit of work.
const UNIT: u64 = 64 << 20;
/// Memory of a run beside its tables: two units of pages and one output file in all their forms.
const BASE_MEMORY: u64 = 384 << 20;
/// Memory of a page in the tables of deduplication.
const PAGE_MEMORY: u64 = 64;

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Look {
    /// By path and kind.
    pub inputs: Vec<Seen>,
    /// Files that will be skipped, by reason, with one of them.
    pub skipped: BTreeMap<String, (u64, PathBuf)>,
    /// Checkpoint folders.
    pub checkpoints: Vec<Checkpoint>,
    /// Pages in all.
    pub pages: u64,
    /// Whether counting stopped early, so that there are more.
    pub more: bool,
    /// Pages that were extracted for the estimates.
    pub looked: u64,
    /// Of these, how many each rule would remove.
    pub removed: BTreeMap<String, u64>,
    /// Of these, languages.
    pub languages: BTreeMap<String, u64>,
    /// Estimated bytes of text that would be kept, before deduplication.
    pub text_bytes: u64,
    /// Estimated tokens of it.
    pub tokens: u64,
    /// Estimated seconds of curation on this machine.
    pub seconds: f64,
    /// Estimated peak of memory in bytes.
    pub memory: u64,
    /// Documents as they would be read: title, URL, beginning.
    pub documents: Vec<Shown>,
}

/// One input.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Seen {
    /// What was named.
    pub path: PathBuf,
    /// Kind by content.
    pub kind: String,
    /// Files.
    pub files: u64,
    /// Pages in them.
    pub pages: u64,
    /// Units of work that they are cut into.
    pub units: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Records that are no pages, by kind.
    pub skipped: BTreeMap<String, u64>,
    /// Damaged pieces.
    pub damaged: u64,
    /// Where the first of them is, and what is wrong with it.
    pub damage: Option<String>,
}

/// The beginning of a document.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Shown {
    /// Title.
    pub title: String,
    /// URL or place.
    pub url: String,
    /// Language, as identified.
    pub language: String,
    /// Beginning of the text.
    pub text: String,
}

/// Looks at inputs as [`crate::run`] would read them.
///
/// # Errors
/// A path that is missing or of no known kind, with what it looks like.
pub fn look(paths: &[PathBuf], recipe: &Recipe, access: &Access) -> Result<Look, Error> {
    let mut look = Look::default();
    let mut chosen = Chosen::default();
    let mut reading = 0.0;
    for path in paths {
        if checkpoint::is_checkpoint(path) {
            look.checkpoints.push(checkpoint::describe(path)?);
            continue;
        }
        let (inputs, skipped) = expand(std::slice::from_ref(path), access)?;
        for Skipped { path, reason } in skipped {
            look.skipped.entry(reason).or_insert((0, path)).0 += 1;
        }
        let mut seen: BTreeMap<Kind, Seen> = BTreeMap::new();
        for input in &inputs {
            let one = seen.entry(input.kind).or_default();
            (one.path, one.kind) = (path.clone(), input.kind.name().to_owned());
            let start = Instant::now();
            look.more |= count(input, recipe, one, &mut chosen, access)?;
            reading += start.elapsed().as_secs_f64();
        }
        look.inputs.extend(seen.into_values());
    }
    look.pages = look.inputs.iter().map(|s| s.pages).sum();
    let start = Instant::now();
    let documents = extract(&mut look, chosen, recipe, &Judges::of(recipe)?);
    let share = look.pages as f64 / look.looked.max(1) as f64;
    // Writing takes about a third of what extraction takes, and reading is done once more.
    look.seconds = reading + start.elapsed().as_secs_f64() * share * 1.35;
    let ascii: usize = documents.iter().map(|d| d.text.bytes().filter(u8::is_ascii).count()).sum();
    let other = documents.iter().flat_map(|d| d.text.chars()).filter(|c| !c.is_ascii()).count();
    let bytes: usize = documents.iter().map(|d| d.text.len()).sum();
    look.text_bytes = (bytes as f64 * share) as u64;
    let tokens = ascii as f64 / ASCII_A_TOKEN + other as f64 / OTHER_A_TOKEN;
    look.tokens = (tokens * share) as u64;
    let lines = look.text_bytes / 40 * 8;
    look.memory =
        BASE_MEMORY + look.pages * PAGE_MEMORY + lines.min(crate::Options::default().memory);
    look.documents = documents.iter().take(SHOWN).map(shown).collect();
    Ok(look)
}

fn shown(document: &Document) -> Shown {
    Shown {
        title: document.title.clone(),
        url: document.url.clone(),
        language: document.language.clone(),
        text: page::excerpt(&document.text, EXCERPT_BYTES),
    }
}

/// The pages with the smallest keys.
#[derive(Default)]
struct Chosen {
    pages: BTreeMap<(u64, u64), (Page, String)>,
    count: u64,
}

impl Chosen {
    fn offer(&mut self, page: Page, source: &str) {
        self.count += 1;
        let key = (page.key(), self.count);
        let largest = self.pages.last_key_value().map(|(key, _)| *key);
        if self.pages.len() < LOOKED || largest.is_some_and(|largest| key < largest) {
            self.pages.insert(key, (page, source.to_owned()));
            if self.pages.len() > LOOKED {
                self.pages.pop_last();
            }
        }
    }
}

/// Counts one input; `true` when it has more than are counted.
fn count(
    input: &Input,
    recipe: &Recipe,
    seen: &mut Seen,
    chosen: &mut Chosen,
    access: &Access,
) -> Result<bool, Error> {
    seen.units += input.ranges(UNIT, access)?.len() as u64;
    let mut limit = u64::MAX;
    if input.files.is_empty() {
        seen.files += 1;
        seen.bytes += if input.path.is_dir() { 0 } else { input.bytes(access)? };
    } else {
        seen.bytes += input.bytes(access)?;
        let key = |file: &String| xxhash_rust::xxh3::xxh3_64(file.as_bytes());
        let mut keys: Vec<u64> = input.files.iter().map(key).collect();
        keys.sort_unstable();
        limit = keys.get(LOOKED - 1).copied().unwrap_or(u64::MAX);
        seen.files += input.files.len() as u64;
        seen.pages += input.files.len() as u64;
    }
    let stream = input.open_range(Range::WHOLE, recipe.piece_bytes, limit, access)?;
    for (number, found) in stream.enumerate() {
        if number as u64 == COUNTED {
            return Ok(true);
        }
        match found? {
            Found::Page(page) => {
                seen.pages += u64::from(input.files.is_empty());
                chosen.offer(page, &input.name);
            }
            Found::Skipped(kind) => *seen.skipped.entry(kind).or_default() += 1,
            Found::Damaged(place, reason) => {
                seen.damaged += 1;
                seen.damage.get_or_insert_with(|| format!("{place}: {reason}"));
            }
        }
    }
    Ok(false)
}

/// Extracts the chosen pages; returns those that would be kept.
fn extract(look: &mut Look, chosen: Chosen, recipe: &Recipe, judges: &Judges) -> Vec<Document> {
    let pages: Vec<(Page, String)> = chosen.pages.into_values().collect();
    look.looked = pages.len() as u64;
    let outcomes: Vec<Outcome> = pages
        .into_par_iter()
        .map(|(page, source)| page::process(page, &source, recipe, judges))
        .collect();
    let mut documents = Vec::new();
    for outcome in outcomes {
        let rule = match outcome {
            Outcome::Removed(fate) => fate.rule,
            Outcome::Candidate(candidate) => match candidate.verdict {
                Some(verdict) => page::rule_name(verdict.rule).to_owned(),
                None => {
                    let language = candidate.document.language.clone();
                    *look.languages.entry(language).or_default() += 1;
                    documents.push(candidate.document);
                    continue;
                }
            },
        };
        *look.removed.entry(rule).or_default() += 1;
    }
    documents
}

fn list(counts: &BTreeMap<String, u64>) -> String {
    let mut sorted: Vec<(&String, &u64)> = counts.iter().collect();
    sorted.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let parts: Vec<String> =
        sorted.iter().take(8).map(|(name, n)| format!("{name} {}", thousands(**n))).collect();
    parts.join(" · ")
}

/// `1 page`, `2 pages`.
fn counted(count: u64, what: &str) -> String {
    format!("{} {what}{}", thousands(count), if count == 1 { "" } else { "s" })
}

/// Bytes in the unit that a person would say them in.
pub(crate) fn spoken_bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (files, pages) = (counted(self.files, "file"), counted(self.pages, "page"));
        let (path, kind, bytes) = (self.path.display(), &self.kind, spoken_bytes(self.bytes));
        writeln!(f, "{path}: {kind}, {files}, {bytes}, {pages}")?;
        if !self.skipped.is_empty() {
            writeln!(f, "  records that are no pages: {}", list(&self.skipped))?;
        }
        if let Some(damage) = &self.damage {
            let count = thousands(self.damaged);
            writeln!(f, "  damaged, will be skipped: {count}, the first at {damage}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for checkpoint in &self.checkpoints {
            write!(f, "{checkpoint}")?;
        }
        for seen in &self.inputs {
            write!(f, "{seen}")?;
        }
        for (reason, (count, path)) in &self.skipped {
            let files = counted(*count, "file");
            writeln!(f, "skipped: {files} ({reason}), such as {}", path.display())?;
        }
        if self.pages == 0 {
            return match self.checkpoints.is_empty() {
                true => writeln!(f, "no pages: there is nothing to curate"),
                false => Ok(()),
            };
        }
        self.estimates(f)?;
        for Shown { title, url, language, text } in &self.documents {
            let more = if text.len() >= EXCERPT_BYTES - 4 { " …" } else { "" };
            writeln!(f, "\n── {title} · {language} · {url}\n{}{more}", text.trim_end())?;
        }
        Ok(())
    }
}

impl Look {
    fn estimates(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = if self.more { "at least " } else { "" };
        let (pages, tokens) = (counted(self.pages, "page"), counted(self.tokens, "token"));
        let bytes = spoken_bytes(self.text_bytes);
        writeln!(f, "in all {more}{pages}; about {bytes} of text, {tokens}")?;
        let time = quipu_store::progress::duration(self.seconds);
        let mib = self.memory >> 20;
        let units = counted(self.inputs.iter().map(|seen| seen.units).sum(), "unit");
        writeln!(
            f,
            "curation takes about {time} here, in {units} of at most about {}, and at most about \
             {mib} MiB of memory",
            spoken_bytes(UNIT)
        )?;
        let looked = counted(self.looked, "page");
        match self.removed.is_empty() {
            true => writeln!(f, "of {looked} looked at none would be removed")?,
            false => {
                writeln!(f, "of {looked} looked at would be removed: {}", list(&self.removed))?
            }
        }
        if self.languages.is_empty() {
            return Ok(());
        }
        writeln!(f, "languages of the others: {}", list(&self.languages))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], kinds: &[(&str, u64)], skipped: usize) -> Look {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let look = look(&[dir.path().to_owned()], &Recipe::default(), &Access::usual()).unwrap();
        let found: Vec<(&str, u64)> =
            look.inputs.iter().map(|s| (s.kind.as_str(), s.pages)).collect();
        assert_eq!((found.as_slice(), look.skipped.len()), (kinds, skipped));
        look
    }

    #[test]
    fn a_folder_is_counted_shown_and_estimated() {
        let prose = crate::rules::tests::PROSE_SAMPLE;
        let line = serde_json::json!({ "text": prose }).to_string();
        let look = check(
            &[
                ("a.txt", prose),
                ("b.md", &format!("# Title\n\n{prose}")),
                ("c.jsonl", &format!("{line}\n{line}\nbroken\n")),
                ("d.png", "\u{1}\u{2}\u{3}\u{4}"),
                ("e.html", "<html><body><p>Soon.</p></body></html>"),
            ],
            &[("HTML", 1), ("text", 1), ("Markdown", 1), ("JSON Lines", 2)],
            1,
        );
        assert_eq!((look.looked, look.documents.len()), (5, 3));
        assert_eq!(look.removed.get("too-short"), Some(&1));
        assert!(look.tokens > 300 && look.tokens < 900, "{}", look.tokens);
        let text = look.to_string();
        assert!(text.contains("JSON Lines, 1 file,") && text.contains("damaged"), "{text}");
        assert!(text.contains("in 4 units of"), "{text}");
        assert!(text.contains("c.jsonl") && text.contains("in all 5 pages"), "{text}");
    }

    #[test]
    fn where_there_is_nothing_it_says_so() {
        let look = check(&[], &[], 0);
        assert_eq!(look.to_string(), "no pages: there is nothing to curate\n");
    }

    #[test]
    fn a_missing_path_is_an_error() {
        let message =
            look(&["/no/such/place".into()], &Recipe::default(), &Access::usual()).unwrap_err();
        assert!(message.to_string().contains("/no/such/place"));
    }
}
