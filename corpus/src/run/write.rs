//! Pass 3: documents without their frequent lines, and fates, in numbered files.
//!
//! Units share a file until it has some 32 MiB of text. A document that is too short once its
//! frequent lines are gone is removed by the rule `too-short` in the stage `short`.

use super::Job;
use super::decide::{Decided, Decision, Decisions};
use super::extract::{Facts, Piece};
use crate::dedup::lines;
use crate::domains;
use crate::figures::{self, Cluster, Figures};
use crate::page::{
    EXCERPT, REMOVED_LINES, excerpt, low, rule_name, settle_headings, without_frequent,
};
use crate::rules::{self, NearMiss, RULES, TOO_SHORT, View, divergence};
use crate::summary::{EXCERPT_BYTES, EXCERPTS, Excerpt, Source, Step};
use crate::{Error, Recipe, pipe};
use quipu_documents::{Document, Fate, Id, Reader, Writer, document_at, read_fates};
use quipu_store::manifest::File;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// The stage.
pub(super) const STAGE: &str = "write";
/// Bytes of text after which a file is full.
pub(super) const FILE_BYTES: u64 = 32 << 20;
/// Documents of a file, the first by hash, that the rules are asked about once more: enough for
/// near misses, and of a full file some twentieth.
const NEAR_ASKED: usize = 512;
/// Samples of kept documents a file hands to the summary.
const KEPT_SAMPLES: usize = 8;

/// What one output file holds, committed with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Output {
    /// Bytes of text that were read for it.
    pub read: u64,
    pub kept: u64,
    pub kept_bytes: u64,
    pub kept_words: u64,
    pub steps: Vec<Step>,
    pub lines: BTreeMap<String, u64>,
    pub line_samples: Vec<Excerpt>,
    pub languages: BTreeMap<String, u64>,
    pub routes: BTreeMap<String, u64>,
    pub samples: Vec<Excerpt>,
    pub sources: BTreeMap<String, Source>,
    /// Kept documents without a score that the recipe asks for, by its name.
    pub unscored: BTreeMap<String, u64>,
    pub figures: Figures,
    /// What the manifest says of its two files.
    pub files: [File; 2],
}

/// Documents and fates of the units that share a file.
#[derive(Default)]
struct Part {
    sources: BTreeMap<String, Source>,
    documents: Vec<Document>,
    fates: Vec<(Fate, String)>,
    /// Near copies that were removed, with the page number of the copy kept.
    copies: Vec<(u64, Excerpt)>,
}

/// Runs the pass; returns what each file holds.
pub(super) fn pass(
    job: &Job,
    units: &[Facts],
    decisions: &Decisions,
) -> Result<Vec<Output>, Error> {
    let files = files(units);
    // Of a unit that fills several files, so that it is not read anew for each.
    let last: Mutex<Option<(usize, Arc<Decided>)>> = Mutex::default();
    let bytes = files.iter().flatten().map(|span| span.bytes).sum();
    job.progress.begin_bytes(STAGE, bytes);
    let writer = Writer::resumed(job.out);
    let task = |number: usize| -> Result<Output, Error> {
        let mut whole = Part::default();
        for span in &files[number] {
            job.cancel.check()?;
            let decided = match units[span.unit].pieces.len() {
                0 | 1 => Arc::new(decisions.of(job, span.unit)?),
                _ => kept_decided(job, span.unit, decisions, &last)?,
            };
            part(job, span, decisions, &decided, &mut whole)?;
        }
        if let Some(command) = &job.plan.recipe.pipe {
            let piped = pipe::through(command, std::mem::take(&mut whole.documents), job.cancel)?;
            whole.documents = piped.kept;
            for document in piped.dropped {
                whole.remove(document, "pipe", "pipe", 0.0, "not in the answer, or no text".into());
            }
        }
        let read = files[number].iter().map(|span| span.bytes).sum();
        let unscored = unscored(&job.plan.recipe, &whole.documents);
        Ok(Output { read, unscored, ..write(job, number, whole, &writer)? })
    };
    let done = |output: &Output, before: bool| match before {
        true => job.found_before(output.read),
        false => {
            job.progress.count(output.kept, "documents");
            job.progress.advance(output.read);
        }
    };
    let outputs = job.crew.run(STAGE, files.len(), task, done)?;
    job.progress.finish("");
    Ok(outputs)
}

/// How many documents lack each score that the recipe asks for.
fn unscored(recipe: &Recipe, documents: &[Document]) -> BTreeMap<String, u64> {
    let lacks = |name: &String, document: &&Document| document.scores.iter().all(|s| s.0 != *name);
    let count = |name: &String| documents.iter().filter(|d| lacks(name, d)).count() as u64;
    let counted = recipe.least.keys().map(|name| (name.clone(), count(name)));
    counted.filter(|(_, count)| *count > 0).collect()
}

/// Candidates of a unit that go into one file, by place.
struct Span {
    unit: usize,
    places: Range<u64>,
    /// of text
    bytes: u64,
}

/// What shares a file.
fn files(units: &[Facts]) -> Vec<Vec<Span>> {
    let (mut files, mut spans, mut bytes) = (Vec::new(), Vec::new(), 0);
    for (unit, facts) in units.iter().enumerate() {
        // One without candidates has fates.
        let nothing = [Piece::default()];
        let pieces = if facts.pieces.is_empty() { &nothing } else { facts.pieces.as_slice() };
        let mut from = 0;
        for piece in pieces {
            let places = from..from + piece.candidates;
            from = places.end;
            bytes += piece.bytes;
            spans.push(Span { unit, places, bytes: piece.bytes });
            if bytes >= FILE_BYTES {
                files.push(std::mem::take(&mut spans));
                bytes = 0;
            }
        }
    }
    if !spans.is_empty() {
        files.push(spans);
    }
    files
}

/// What was decided of a unit, from where the file before left it, if it was of the same.
fn kept_decided(
    job: &Job,
    unit: usize,
    all: &Decisions,
    last: &Mutex<Option<(usize, Arc<Decided>)>>,
) -> Result<Arc<Decided>, Error> {
    let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, decided)) = last.as_ref().filter(|(known, _)| *known == unit) {
        return Ok(decided.clone());
    }
    // Before it is read: two are not held.
    *last = None;
    let decided = Arc::new(all.of(job, unit)?);
    *last = Some((unit, decided.clone()));
    Ok(decided)
}

/// Adds what became of some candidates, and with the first of a unit of what else was read in it.
fn part(
    job: &Job,
    span: &Span,
    all: &Decisions,
    decided: &Decided,
    part: &mut Part,
) -> Result<(), Error> {
    let (unit, places) = (span.unit, &span.places);
    let fates = match places.start {
        0 => read_fates(&job.extracted(unit, "fates.parquet")?)?,
        _ => Vec::new(),
    };
    for fate in fates {
        // A line that a rule removed is shown as it stood.
        let shown = fate.line.map_or(String::new(), |_| fate.detail.clone());
        part.fates.push((fate, shown));
    }
    let mut documents = Reader::open_at(&job.extracted(unit, "parquet")?, places.start)?;
    while documents.row() < places.end {
        let row = documents.row();
        let Some(document) = documents.next() else { break };
        let document = document?;
        if row < places.start {
            continue;
        }
        let place = row as usize;
        part.count(&document.source, decided.decisions[place]);
        match decided.decisions[place] {
            Decision::Stays => {
                let lines = decided.lines.get(&row);
                keep(job, document, lines, all.bucket(&decided.rows[place]), part);
            }
            Decision::OtherVisit(other) => {
                let kept = format!("kept {}", job.id(other)?);
                part.remove(document, "url", rules::URL_COPY, 1.0, kept);
            }
            Decision::Domain(verdict) => {
                let domain = domains::domain(&document.url).unwrap_or_default().to_owned();
                part.remove(document, "domain", verdict.rule, verdict.value, domain);
            }
            Decision::Far(distance) => {
                let detail = excerpt(&document.text, EXCERPT);
                part.remove(document, "words", divergence::NAME, f64::from(distance), detail);
            }
            Decision::Near { compared, kept, similarity } => {
                let copy = sample(document.id, &document.url, similarity, &document.text);
                part.copies.push((kept, copy));
                let mut detail = format!("kept {}", job.id(kept)?);
                if compared != kept {
                    let through = job.id(compared)?;
                    detail += &format!(", equal to {through} without repeated lines");
                }
                part.remove(document, "document", rules::COPY, similarity, detail);
            }
            Decision::Same(other) => {
                let kept = format!("kept {}, equal without repeated lines", job.id(other)?);
                part.remove(document, "document", rules::COPY, 1.0, kept);
            }
            Decision::Rule(verdict) => {
                let detail = match low(&document.scores, &job.plan.recipe) {
                    Some((score, reason)) if reason == verdict => score.to_owned(),
                    _ => excerpt(&document.text, EXCERPT),
                };
                let (rule, value) = (rule_name(verdict.rule), f64::from(verdict.value));
                part.remove(document, "rules", rule, value, detail);
            }
        }
    }
    Ok(())
}

impl Part {
    /// Counts what deduplication of documents saw of a source.
    fn count(&mut self, source: &str, decision: Decision) {
        if matches!(decision, Decision::Domain(_) | Decision::Rule(_) | Decision::Far(_)) {
            return;
        }
        let source = self.sources.entry(source.to_owned()).or_default();
        source.documents += 1;
        source.removed += u64::from(decision != Decision::Stays);
    }

    fn remove(&mut self, document: Document, stage: &str, rule: &str, value: f64, detail: String) {
        let sample = excerpt(&document.text, EXCERPT_BYTES);
        let (id, url) = (document.id, document.url);
        let (stage, rule) = (stage.to_owned(), rule.to_owned());
        self.fates.push((Fate { id, url, stage, rule, value, line: None, detail }, sample));
    }
}

/// Keeps a document without its frequent lines, if enough is left.
fn keep(
    job: &Job,
    mut document: Document,
    frequent: Option<&HashSet<u64>>,
    bucket: u64,
    part: &mut Part,
) {
    let min_words = job.plan.recipe.min_words;
    let (text, lines) = match frequent {
        Some(frequent) => without_frequent(&document, frequent, bucket),
        None => (String::new(), Vec::new()),
    };
    let removed = lines.len();
    for (number, line) in lines {
        let (stage, rule) = ("lines".to_owned(), lines::RULE.to_owned());
        let (id, url, line_number) = (document.id, document.url.clone(), Some(number as i32));
        let detail = excerpt(line, EXCERPT);
        let fate = Fate { id, url, stage, rule, value: 0.0, line: line_number, detail };
        part.fates.push((fate, line.to_owned()));
    }
    if removed > 0 {
        let words = View::of(&text, &document.language, 0).words.len();
        let short = words < min_words as usize && job.plan.recipe.asks(TOO_SHORT);
        if short || text.trim().is_empty() {
            let detail = format!("{removed} lines removed before");
            part.remove(document, "short", TOO_SHORT, words as f64, detail);
            return;
        }
        document.text = text;
        settle_headings(&mut document);
        document.scores.retain(|(name, _)| name != REMOVED_LINES);
        document.scores.push((REMOVED_LINES.into(), removed as f32));
        document.scores.iter_mut().filter(|s| s.0 == "words").for_each(|s| s.1 = words as f32);
    }
    part.documents.push(document);
}

fn write(job: &Job, number: usize, part: Part, writer: &Writer) -> Result<Output, Error> {
    let Part { sources, documents, fates, copies } = part;
    let mut figures = figures_of(job, &documents, &fates, copies)?;
    let mut by_hash: Vec<&Document> = documents.iter().collect();
    by_hash.sort_by_key(|d| d.id);
    near_misses(job, &by_hash[..by_hash.len().min(NEAR_ASKED)], &mut figures);
    let mut output = Output { sources, figures, ..Output::default() };
    for document in &documents {
        output.kept += 1;
        let words = document.scores.iter().find(|s| s.0 == "words").map_or(0.0, |s| s.1);
        output.kept_words += words as u64;
        output.kept_bytes += document.text.len() as u64;
        *output.languages.entry(document.language.clone()).or_default() += 1;
        *output.routes.entry(document.route.name().to_owned()).or_default() += 1;
    }
    let kept = by_hash.iter().take(KEPT_SAMPLES);
    output.samples = kept.map(|d| sample(d.id, &d.url, 0.0, &d.text)).collect();
    let mut steps: BTreeMap<(usize, String), Step> = BTreeMap::new();
    for (fate, text) in &fates {
        if fate.line.is_some() {
            *output.lines.entry(fate.rule.clone()).or_default() += 1;
            if output.line_samples.len() < EXCERPTS {
                output.line_samples.push(sample(fate.id, &fate.url, fate.value, text));
            }
            continue;
        }
        let order = super::funnel::STAGES.iter().position(|s| *s == fate.stage).unwrap_or(99);
        let step = steps.entry((order, fate.rule.clone())).or_default();
        (step.stage, step.rule) = (fate.stage.clone(), fate.rule.clone());
        step.documents += 1;
        let text = if text.is_empty() { &fate.detail } else { text };
        let last = step.samples.last().map(|s| s.id.as_str());
        if step.samples.len() < EXCERPTS || last.is_some_and(|l| fate.id.to_string().as_str() < l) {
            step.samples.push(sample(fate.id, &fate.url, fate.value, text));
            step.samples.sort_by(|a, b| a.id.cmp(&b.id));
            step.samples.truncate(EXCERPTS);
        }
    }
    output.steps = steps.into_values().collect();
    let fates: Vec<Fate> = fates.into_iter().map(|(fate, _)| fate).collect();
    output.files = writer.write(number, &documents, &fates)?;
    output.files.iter().try_for_each(|file| job.crew.publish(&job.out.join(&file.name)))?;
    Ok(output)
}

/// The rules that these documents nearly broke.
fn near_misses(job: &Job, documents: &[&Document], figures: &mut Figures) {
    for document in documents {
        let view = View::of(&document.text, &document.language, job.plan.recipe.min_words);
        for NearMiss { rule, value, margin } in job.judges.strict.near(&view, document.route) {
            let value = f64::from(value);
            let shown = sample(document.id, &document.url, value, &document.text);
            figures.near(RULES[rule].name, margin, shown);
        }
    }
}

/// What the report draws of one file.
fn figures_of(
    job: &Job,
    documents: &[Document],
    fates: &[(Fate, String)],
    copies: Vec<(u64, Excerpt)>,
) -> Result<Figures, Error> {
    let mut figures = Figures::default();
    for document in documents {
        figures.kept(document);
    }
    for (fate, text) in fates {
        match fate.line {
            Some(_) => figures.line(excerpt(text.trim(), EXCERPT).as_str()),
            None => figures.removed(&fate.rule, &fate.url, fate.value),
        }
    }
    copies.iter().for_each(|(_, copy)| figures.similarity.add(copy.value));
    let [largest, doubtful] = figures::chosen(copies);
    let with_kept = |(number, cluster): (u64, Cluster)| {
        let kept = page_of(job, number)?;
        let kept = sample(kept.id, &kept.url, 0.0, &kept.text);
        Ok(Cluster { kept, ..cluster })
    };
    figures.largest = largest.into_iter().map(with_kept).collect::<Result<_, Error>>()?;
    figures.doubtful = doubtful.into_iter().map(with_kept).collect::<Result<_, Error>>()?;
    figures.bound();
    Ok(figures)
}

/// A numbered page as it was extracted; for the few that are shown.
fn page_of(job: &Job, number: u64) -> Result<Document, Error> {
    let (unit, place) = super::extract::place(number);
    let path = job.extracted(unit, "parquet")?;
    let reason = || format!("page {place} is missing; remove the folder `work` and run again");
    let missing = || Error::Line { path: path.clone(), line: 1, reason: reason() };
    document_at(&path, place as usize)?.ok_or_else(missing)
}

fn sample(id: Id, url: &str, value: f64, text: &str) -> Excerpt {
    Excerpt { id: id.to_string(), url: url.to_owned(), value, text: excerpt(text, EXCERPT_BYTES) }
}
