//! Pass 3: documents without their frequent lines, and fates, in numbered files.
//!
//! Units share a file until it has some 64 MiB of text. A document that is too short once its
//! frequent lines are gone is removed by the rule `too-short` in the stage `short`.

use super::Job;
use super::decide::{Decision, Decisions};
use super::extract::Facts;
use crate::page::{EXCERPT, excerpt, rule_name, without_frequent};
use crate::rules::{TOO_SHORT, View};
use crate::summary::{EXCERPT_BYTES, EXCERPTS, Excerpt, Step};
use crate::{Error, dedup::lines};
use quipu_documents::{Document, Fate, Id, Reader, Writer, read_fates};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Bytes of text after which a file is full.
const FILE_BYTES: u64 = 64 << 20;
/// Samples of kept documents a file hands to the summary.
const KEPT_SAMPLES: usize = 8;

/// What one output file holds, committed with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Output {
    pub kept: u64,
    pub kept_bytes: u64,
    pub kept_words: u64,
    pub steps: Vec<Step>,
    pub lines: BTreeMap<String, u64>,
    pub line_samples: Vec<Excerpt>,
    pub languages: BTreeMap<String, u64>,
    pub routes: BTreeMap<String, u64>,
    pub samples: Vec<Excerpt>,
}

/// The documents and fates of one unit.
#[derive(Default)]
struct Part {
    documents: Vec<Document>,
    words: u64,
    fates: Vec<(Fate, String)>,
}

/// Runs the pass; returns what each file holds.
pub(super) fn pass(
    job: &Job,
    units: &[Facts],
    decisions: &Decisions,
    writer: &Writer,
) -> Result<Vec<Output>, Error> {
    let files = files(units);
    job.progress.begin("write", units.len() as u64);
    let mut outputs = Vec::new();
    for (number, range) in files.into_iter().enumerate() {
        job.cancel.check()?;
        let name = format!("w{number:05}");
        let done = job.units.facts(&name).and_then(|facts| serde_json::from_value(facts).ok());
        let output = match done {
            Some(output) => output,
            None => {
                let parts: Vec<Part> = range
                    .clone()
                    .into_par_iter()
                    .map(|unit| part(job, unit, decisions))
                    .collect::<Result<_, _>>()?;
                let output = write(number, parts, writer)?;
                job.units.commit(&name, serde_json::to_value(&output).unwrap_or_default())?;
                output
            }
        };
        job.progress.advance(range.len() as u64);
        outputs.push(output);
    }
    job.progress.finish("");
    Ok(outputs)
}

/// Ranges of units that share a file.
fn files(units: &[Facts]) -> Vec<std::ops::Range<usize>> {
    let (mut out, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (n, unit) in units.iter().enumerate() {
        bytes += unit.text_bytes;
        if bytes >= FILE_BYTES || n + 1 == units.len() {
            out.push(start..n + 1);
            (start, bytes) = (n + 1, 0);
        }
    }
    out
}

fn part(job: &Job, unit: usize, all: &Decisions) -> Result<Part, Error> {
    let mut part = Part::default();
    for fate in read_fates(&job.work_file(unit, "fates.parquet"))? {
        part.fates.push((fate, String::new()));
    }
    let documents = Reader::open(&job.work_file(unit, "parquet"))?;
    for (n, document) in (all.starts[unit]..all.starts[unit + 1]).zip(documents) {
        let document = document?;
        match all.decisions[n] {
            Decision::Stays => keep(job, document, all, &mut part),
            Decision::OtherVisit(other) => {
                let kept = Id(all.rows[other as usize].id);
                part.remove(document, "url", "url-duplicate", 1.0, format!("kept {kept}"));
            }
            Decision::SameText(other) => {
                let kept = Id(all.rows[other as usize].id);
                part.remove(
                    document,
                    "document",
                    "document-duplicate",
                    1.0,
                    format!("kept {kept}"),
                );
            }
            Decision::Rule(verdict) => {
                let detail = excerpt(&document.text, EXCERPT);
                let (rule, value) = (rule_name(verdict.rule), f64::from(verdict.value));
                part.remove(document, "rules", rule, value, detail);
            }
        }
    }
    Ok(part)
}

impl Part {
    fn remove(&mut self, document: Document, stage: &str, rule: &str, value: f64, detail: String) {
        let sample = excerpt(&document.text, EXCERPT_BYTES);
        let (id, url) = (document.id, document.url);
        let (stage, rule) = (stage.to_owned(), rule.to_owned());
        self.fates.push((Fate { id, url, stage, rule, value, line: None, detail }, sample));
    }
}

/// Keeps a document without its frequent lines, if enough is left.
fn keep(job: &Job, mut document: Document, all: &Decisions, part: &mut Part) {
    let bucket = lines::bucket(document.id.0, all.buckets);
    let (text, lines) = without_frequent(&document, &all.frequent, bucket);
    let removed = lines.len();
    for (number, line) in lines {
        let (stage, rule) = ("lines".to_owned(), "line-duplicate".to_owned());
        let (id, url, line_number) = (document.id, document.url.clone(), Some(number as i32));
        let detail = excerpt(line, EXCERPT);
        let fate = Fate { id, url, stage, rule, value: 0.0, line: line_number, detail };
        part.fates.push((fate, line.to_owned()));
    }
    if removed > 0 {
        let words = View::of(&text, &document.language, 0).words.len();
        if words < job.recipe.min_words as usize {
            let detail = format!("{removed} lines removed before");
            part.remove(document, "short", TOO_SHORT, words as f64, detail);
            return;
        }
        document.headings.retain(|heading| text.lines().any(|l| l.trim() == heading));
        document.text = text;
        document.scores.push(("removed-lines".into(), removed as f32));
        document.scores.iter_mut().filter(|s| s.0 == "words").for_each(|s| s.1 = words as f32);
    }
    let words = document.scores.iter().find(|s| s.0 == "words").map_or(0.0, |s| s.1);
    part.words += words as u64;
    part.documents.push(document);
}

fn write(number: usize, parts: Vec<Part>, writer: &Writer) -> Result<Output, Error> {
    let mut output = Output::default();
    let (mut documents, mut fates) = (Vec::new(), Vec::new());
    for part in parts {
        output.kept_words += part.words;
        documents.extend(part.documents);
        fates.extend(part.fates);
    }
    for document in &documents {
        output.kept += 1;
        output.kept_bytes += document.text.len() as u64;
        *output.languages.entry(document.language.clone()).or_default() += 1;
        *output.routes.entry(document.route.name().to_owned()).or_default() += 1;
    }
    let mut by_hash: Vec<&Document> = documents.iter().collect();
    by_hash.sort_by_key(|d| d.id);
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
        if step.samples.len() < EXCERPTS {
            let text = if text.is_empty() { &fate.detail } else { text };
            step.samples.push(sample(fate.id, &fate.url, fate.value, text));
        }
    }
    output.steps = steps.into_values().collect();
    let fates: Vec<Fate> = fates.into_iter().map(|(fate, _)| fate).collect();
    writer.write(number, &documents, &fates)?;
    Ok(output)
}

fn sample(id: Id, url: &str, value: f64, text: &str) -> Excerpt {
    Excerpt { id: id.to_string(), url: url.to_owned(), value, text: excerpt(text, EXCERPT_BYTES) }
}
