//! What is there, before anything runs: kinds by content, counts, what will be skipped, three
//! documents as they would be read, and what it would take.
//!
//! [`look()`] counts every record, [`glance`] those of some units (`draw`); of either only some
//! pages, chosen by hash, are extracted; the rest is estimated from them. Nothing is written. Not
//! here: deduplication, which needs all pages.

pub mod checkpoint;
mod draw;

use crate::input::{Found, Input, Kind, Page, Range, Skipped, expand};
use crate::judges::Judges;
use crate::page::{self, Outcome};
use crate::remote::Access;
use crate::run::unit_bytes;
use crate::summary::EXCERPT_BYTES;
use crate::{Error, Recipe};
use checkpoint::Checkpoint;
use draw::Draw;
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
    /// Where only some units were read: how they stand for all.
    pub part: Option<Part>,
    /// Bytes of input of a unit of work.
    pub unit: u64,
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
    /// Of these, bytes of inputs of which only some units were read.
    #[serde(skip)]
    drawn: u64,
    /// Records that are no pages, by kind.
    pub skipped: BTreeMap<String, u64>,
    /// Damaged pieces.
    pub damaged: u64,
    /// Where the first of them is, and what is wrong with it.
    pub damage: Option<String>,
}

/// How the units that were read stand for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Part {
    /// Units that were read.
    pub units: u64,
    /// Units that there are.
    pub of: u64,
    /// Standard error of the number of pages that is estimated from them, as a share of it.
    pub error: f64,
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
    looked(paths, recipe, usize::MAX, access)
}

/// As [`look()`], but where there are many units it reads only some, spread over all inputs.
///
/// # Errors
/// As [`look()`].
pub fn glance(paths: &[PathBuf], recipe: &Recipe, access: &Access) -> Result<Look, Error> {
    looked(paths, recipe, draw::ENOUGH, access)
}

/// Reads about `most` units, or everything where there are no more.
fn looked(paths: &[PathBuf], recipe: &Recipe, most: usize, access: &Access) -> Result<Look, Error> {
    let mut look = Look::default();
    let mut named: Vec<(&PathBuf, Input)> = Vec::new();
    for path in paths {
        if checkpoint::is_checkpoint(path) {
            look.checkpoints.push(checkpoint::describe(path)?);
            continue;
        }
        let (inputs, skipped) = expand(std::slice::from_ref(path), access)?;
        for Skipped { path, reason } in skipped {
            look.skipped.entry(reason).or_insert((0, path)).0 += 1;
        }
        named.extend(inputs.into_iter().map(|input| (path, input)));
    }
    let sizes =
        named.iter().map(|(_, input)| input.bytes(access)).collect::<Result<Vec<u64>, _>>()?;
    look.unit = unit_bytes(sizes.iter().sum());
    let ranges = named.iter().map(|(_, input)| input.ranges(look.unit, access));
    let ranges = ranges.collect::<Result<Vec<Vec<Range>>, _>>()?;
    let mut draw = Draw::new(ranges.iter().map(Vec::len).sum(), most);
    let mut chosen = Chosen::default();
    let mut seen: BTreeMap<(&PathBuf, Kind), Seen> = BTreeMap::new();
    let mut reading = 0.0;
    for (((path, input), ranges), bytes) in named.iter().zip(&ranges).zip(sizes) {
        let one = seen.entry((path, input.kind)).or_default();
        (one.path, one.kind) = (path.to_path_buf(), input.kind.name().to_owned());
        one.units += ranges.len() as u64;
        one.files += input.files.len().max(1) as u64;
        one.bytes += bytes;
        if draw.is_all() || !input.files.is_empty() {
            let start = Instant::now();
            let (pages, more) = count(input, Range::WHOLE, recipe, one, &mut chosen, access)?;
            reading += start.elapsed().as_secs_f64();
            one.pages += pages;
            look.more |= more;
            continue;
        }
        draw.input(input.kind, ranges.len(), bytes);
        one.drawn += bytes;
        for range in ranges {
            if !draw.takes(input.kind) {
                continue;
            }
            let start = Instant::now();
            let (pages, more) = count(input, *range, recipe, one, &mut chosen, access)?;
            draw.read(input.kind, pages, start.elapsed().as_secs_f64());
            look.more |= more;
        }
    }
    reading += draw.seconds();
    look.part = draw.part();
    for ((_, kind), mut one) in seen {
        one.pages += draw.pages(kind, one.drawn);
        look.inputs.push(one);
    }
    look.pages = look.inputs.iter().map(|s| s.pages).sum();
    estimated(&mut look, chosen, recipe, reading)?;
    Ok(look)
}

/// What a run over these inputs would make and take, from the pages that were chosen; `reading`:
/// seconds that reading everything takes.
fn estimated(look: &mut Look, chosen: Chosen, recipe: &Recipe, reading: f64) -> Result<(), Error> {
    let start = Instant::now();
    let documents = extract(look, chosen, recipe, &Judges::of(recipe)?);
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
    Ok(())
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

/// Counts a range of an input: its pages, and whether it has more than are counted.
fn count(
    input: &Input,
    range: Range,
    recipe: &Recipe,
    seen: &mut Seen,
    chosen: &mut Chosen,
    access: &Access,
) -> Result<(u64, bool), Error> {
    let (mut pages, mut limit) = (0, u64::MAX);
    if !input.files.is_empty() {
        // As many pages as files; those with the smallest keys are enough to look at.
        let key = |file: &String| xxhash_rust::xxh3::xxh3_64(file.as_bytes());
        let mut keys: Vec<u64> = input.files.iter().map(key).collect();
        keys.sort_unstable();
        limit = keys.get(LOOKED - 1).copied().unwrap_or(u64::MAX);
        pages = keys.len() as u64;
    }
    let stream = input.open_range(range, recipe.piece_bytes, limit, access)?;
    for (number, found) in stream.enumerate() {
        if number as u64 == COUNTED {
            return Ok((pages, true));
        }
        match found? {
            Found::Page(page) => {
                pages += u64::from(input.files.is_empty());
                chosen.offer(page, &input.name);
            }
            Found::Skipped(kind) => *seen.skipped.entry(kind).or_default() += 1,
            Found::Damaged(place, reason) => {
                seen.damaged += 1;
                seen.damage.get_or_insert_with(|| format!("{place}: {reason}"));
            }
        }
    }
    Ok((pages, false))
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

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (read, of, error) = (thousands(self.units), thousands(self.of), 100.0 * self.error);
        write!(
            f,
            "read {read} of {of} units; of the others numbers are estimated from these, pages with a \
             standard error of {error:.1} %, and neither damage nor skipped records are known"
        )
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
        if let Some(part) = self.part {
            writeln!(f, "{part}")?;
        }
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
            spoken_bytes(self.unit)
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

    /// Eight units of lines, of which four are read.
    #[test]
    fn a_glance_reads_some_units_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let text = crate::rules::tests::PROSE_SAMPLE.repeat(16);
        let line = serde_json::json!({ "text": text }).to_string() + "\n";
        let lines = (8 << 20) / line.len() + 1;
        std::fs::write(dir.path().join("a.jsonl"), line.repeat(lines)).unwrap();
        let (paths, recipe) = ([dir.path().to_owned()], Recipe::default());
        let all = look(&paths, &recipe, &Access::usual()).unwrap();
        assert_eq!((all.pages, all.part, all.inputs[0].units), (lines as u64, None, 8));
        assert_eq!(
            glance(&paths, &recipe, &Access::usual()).unwrap().pages,
            all.pages,
            "no more than are read"
        );
        let some = looked(&paths, &recipe, 4, &Access::usual()).unwrap();
        let part = some.part.unwrap();
        assert_eq!((part.units, part.of), (4, 8));
        // A line more or less stands in a unit.
        assert!(part.error > 0.0 && part.error < 0.02, "{part:?}");
        assert!((some.pages as f64 / lines as f64 - 1.0).abs() < 0.02, "{} {lines}", some.pages);
        assert!(some.to_string().contains("read 4 of 8 units"), "{some}");
        assert!(!all.to_string().contains("of 8 units"), "{all}");
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
