//! Documents whose words are far from those of the corpus in their language.
//!
//! Two stages: the words of what is left are counted by language, then each document is held
//! against the counts of the others ([`crate::rules::divergence`]). Counting is spread over a fixed
//! number of tasks, each of which takes every so-manieth unit, so that their tables stay few; of a
//! language with more words than a distribution needs, only documents chosen by hash are counted.
//! Routes other than prose have words of their own and are neither counted nor judged.

use super::Job;
use super::decide::{Decisions, Pass, each_unit};
use super::extract::{Facts, number};
use crate::Error;
use crate::language::{MIXED, OTHER};
use crate::rules::View;
use crate::rules::divergence::{Distribution, MAX_EXCESS, MIN_CORPUS, Reference};
use crate::shuffle::Runs;
use quipu_documents::{Document, Id, Reader, Route};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use xxhash_rust::xxh3::xxh3_64;

/// Tasks that count.
const TASKS: usize = 32;
/// Words of a language from which on documents are chosen by hash.
const ENOUGH: u64 = 200_000_000;

/// The two stages.
pub(super) const COUNT: Pass = Pass { name: "words", share: 4 };
pub(super) const FAR: Pass = Pass { name: "far", share: 4 };

/// Runs both stages; rows `[page, bits of its distance]` of the documents that go.
pub(super) fn pass(job: &Job, units: &[Facts], all: &Decisions) -> Result<Runs, Error> {
    let sampled = sampled(units);
    let tables = count(job, units, all, &sampled)?;
    each_unit(job, &FAR, units, |unit| {
        let mut out = job.sorter::<2>(FAR.name, unit);
        each_document(job, unit, all, |place, document| {
            let Some(distribution) = tables.get(&document.language) else { return Ok(()) };
            let view = View::of(&document.text, &document.language, 0);
            let counted = counts(&sampled, document);
            match distribution.divergence(&view, counted) {
                Some(far) if far > MAX_EXCESS => {
                    out.push([number(unit, place), u64::from(far.to_bits())])
                }
                _ => Ok(()),
            }
        })?;
        out.finish()
    })
}

/// Of how many documents of each language one is counted; languages with too few words are left
/// out.
fn sampled(units: &[Facts]) -> BTreeMap<String, u64> {
    let mut words: BTreeMap<&String, u64> = BTreeMap::new();
    for (language, count) in units.iter().flat_map(|unit| &unit.words) {
        *words.entry(language).or_default() += count;
    }
    // What is several languages has no words that are its own.
    let one = |language: &str| language != OTHER && language != MIXED;
    let enough =
        words.into_iter().filter(|(language, words)| *words >= MIN_CORPUS && one(language));
    enough.map(|(language, words)| (language.clone(), words.div_ceil(ENOUGH).max(1))).collect()
}

/// Whether a document is among those that are counted.
fn counts(sampled: &BTreeMap<String, u64>, document: &Document) -> bool {
    let Id(id) = document.id;
    sampled.get(&document.language).is_some_and(|of| ((id >> 64) as u64).is_multiple_of(*of))
}

/// The distributions of the languages that have enough words.
fn count(
    job: &Job,
    units: &[Facts],
    all: &Decisions,
    sampled: &BTreeMap<String, u64>,
) -> Result<BTreeMap<String, Distribution>, Error> {
    let tasks = TASKS.min(units.len());
    let file = |task: usize, language: &str| {
        // What others call a language may be no name of a file.
        let hash = xxh3_64(language.as_bytes());
        job.crew.stage(COUNT.name).join(format!("{task:06}-{hash:016x}.words"))
    };
    let work = |task: usize| {
        let mut tables: BTreeMap<String, Reference> = BTreeMap::new();
        for unit in (task..units.len()).step_by(tasks) {
            each_document(job, unit, all, |_, document| {
                if counts(sampled, document) {
                    let view = View::of(&document.text, &document.language, 0);
                    tables.entry(document.language.clone()).or_default().count(&view);
                }
                Ok(())
            })?;
        }
        for (language, table) in &tables {
            let bytes = zstd::bulk::compress(&table.encode(), 1).map_err(Error::io(job.out))?;
            quipu_store::atomic::write_bytes(&file(task, language), &bytes)?;
        }
        Ok::<_, Error>(Counted {
            units: (task..units.len()).step_by(tasks).len() as u64,
            languages: tables.into_keys().collect(),
        })
    };
    let done = |counted: &Counted, before: bool| job.progressed(&COUNT, counted.units, before);
    let written = job.crew.run(COUNT.name, tasks, work, done)?;
    let made = written
        .iter()
        .enumerate()
        .flat_map(|(task, counted)| counted.languages.iter().map(move |language| (task, language)));
    let paths: Vec<PathBuf> = made.map(|(task, language)| file(task, language)).collect();
    job.crew.bring(&paths)?;
    let mut merged: BTreeMap<String, Reference> = BTreeMap::new();
    for (task, counted) in written.iter().enumerate() {
        for language in &counted.languages {
            let path = file(task, language);
            let bytes = std::fs::File::open(&path).and_then(zstd::decode_all);
            let table = Reference::decode(&bytes.map_err(Error::io(&path))?);
            let broken = |reason| Error::Line { path: path.clone(), line: 1, reason };
            merged.entry(language.clone()).or_default().merge(&table.map_err(broken)?);
        }
    }
    Ok(merged.into_iter().map(|(language, table)| (language, table.distribution())).collect())
}

/// What a task counted.
#[derive(Serialize, Deserialize)]
struct Counted {
    units: u64,
    languages: Vec<String>,
}

/// Calls `each` with the prose documents of a unit that are left.
fn each_document(
    job: &Job,
    unit: usize,
    all: &Decisions,
    mut each: impl FnMut(usize, &Document) -> Result<(), Error>,
) -> Result<(), Error> {
    job.cancel.check()?;
    let decided = all.of(job, unit)?;
    let mut staying = decided.staying().map(|(place, _)| place).peekable();
    if staying.peek().is_none() {
        return Ok(());
    }
    for (place, document) in Reader::open(&job.extracted(unit, "parquet")?)?.enumerate() {
        let document = document?;
        if staying.next_if_eq(&place).is_some() && document.route == Route::Prose {
            each(place, &document)?;
        }
    }
    Ok(())
}
