//! Pass 1: pages to candidates, unit by unit.
//!
//! A worker reads its unit's range of the input and processes page after page; what it writes is
//! durable before the unit counts as done.

use super::write::FILE_BYTES;
use super::{Job, rows};
use crate::Error;
use crate::classify::{Lookup, Runs as Scores};
use crate::domains::Counts;
use crate::input::{Found, Page};
use crate::page::{self, Candidate, Outcome};
use crate::shuffle::{Runs, Sorter};
use crate::summary::DAMAGED;
use quipu_documents::{DocumentsFile, Fate, FatesFile, Id};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::Ordering;

/// The stage, and the folder of its work files.
pub(super) const STAGE: &str = "extract";
/// Bits of a document's number that are its place in its unit.
const PLACE_BITS: u32 = 32;

/// What a unit holds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Facts {
    /// Input number; the first of inputs of one name.
    pub input: usize,
    /// Pages.
    pub pages: u64,
    /// Bytes of all pages.
    pub bytes: u64,
    /// Bytes of the input that were read for them.
    pub read: u64,
    /// Records that are no pages, by kind.
    pub skipped: BTreeMap<String, u64>,
    /// Damaged pieces.
    pub damaged: u64,
    /// The first damaged pieces in words.
    pub damage: Vec<String>,
    /// Pages that became candidates.
    pub candidates: u64,
    /// The candidates in pieces that fill an output file each, the last maybe not.
    pub pieces: Vec<Piece>,
    /// Candidates by language.
    pub languages: BTreeMap<String, u64>,
    /// Words of the candidates that no rule removes, by language.
    pub words: BTreeMap<String, u64>,
    /// Scores of score files that documents were given.
    pub joined: u64,
    /// Runs of visits and of counts by domain that were written.
    pub visits: usize,
    pub domains: usize,
}

/// Candidates of a unit that stand one behind the other.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Piece {
    /// How many.
    pub candidates: u64,
    /// Bytes of their text.
    pub bytes: u64,
}

/// The number of page `place` of a unit, by which rows name it.
pub(super) fn number(unit: usize, place: usize) -> u64 {
    (unit as u64) << PLACE_BITS | place as u64
}

/// Unit and place of a numbered page.
pub(super) fn place(number: u64) -> (usize, u64) {
    ((number >> PLACE_BITS) as usize, number & ((1 << PLACE_BITS) - 1))
}

/// The numbers of all pages of a unit.
pub(super) fn numbers(unit: usize) -> (u64, u64) {
    (number(unit, 0), number(unit, (1 << PLACE_BITS) - 1))
}

impl Job<'_> {
    /// Hears of a result that was found, of so many bytes.
    pub(super) fn found_before(&self, bytes: u64) {
        self.found.store(true, Ordering::Relaxed);
        self.progress.resume(bytes);
    }

    /// Where a unit's work file stands, or will.
    fn work_file(&self, unit: usize, end: &str) -> PathBuf {
        self.crew.stage(STAGE).join(format!("{unit:06}.{end}"))
    }

    /// The work file of a finished unit, fetched if another machine wrote it.
    pub(super) fn extracted(&self, unit: usize, end: &str) -> Result<PathBuf, Error> {
        let path = self.work_file(unit, end);
        self.crew.bring(std::slice::from_ref(&path))?;
        Ok(path)
    }
}

/// Runs the pass; returns the facts of all units, in order.
pub(super) fn pass(job: &Job) -> Result<Vec<Facts>, Error> {
    let total = job.plan.units.iter().map(|unit| unit.bytes).sum();
    job.progress.begin_bytes(STAGE, total);
    let done = |facts: &Facts, before: bool| match before {
        true => job.found_before(facts.read),
        false => {
            job.progress.count(facts.pages, "pages");
            job.progress.advance(facts.read);
        }
    };
    let facts = job.crew.run(STAGE, job.plan.units.len(), |unit| extract(job, unit), done)?;
    job.progress.finish("");
    Ok(facts)
}

/// A unit in the making: all of it but counts and visits is written as it is made, since a unit may
/// be a file of any size that cannot be entered but at its beginning.
struct Made<'a> {
    facts: Facts,
    unit: usize,
    fates: FatesFile,
    documents: DocumentsFile,
    rows: rows::Files,
    visits: Sorter<4>,
    domains: BTreeMap<u64, Counts>,
    /// Of score files.
    scores: Option<Lookup<'a>>,
}

fn extract(job: &Job, unit: usize) -> Result<Facts, Error> {
    let plan = &job.plan;
    let of = plan.units[unit];
    let limit = plan.admission.limit;
    let mut made = Made::begin(job, unit)?;
    for input in &plan.inputs[of.input..of.input + of.inputs] {
        let stream = input.open_range(of.range, plan.recipe.piece_bytes, limit, &job.access);
        // Before an error, which may be that of a reader that was asked to stop.
        job.cancel.check()?;
        for found in stream? {
            job.cancel.check()?;
            match found? {
                Found::Page(page) if page.key() > limit => {}
                Found::Page(page) => made.page(page, &input.name, job)?,
                Found::Skipped(kind) => *made.facts.skipped.entry(kind).or_default() += 1,
                Found::Damaged(place, reason) => made.damaged(place, reason)?,
            }
        }
    }
    made.finish(job)
}

impl<'a> Made<'a> {
    fn begin(job: &'a Job, unit: usize) -> Result<Made<'a>, Error> {
        let of = job.plan.units[unit];
        let file = |end: &str| job.work_file(unit, end);
        Ok(Made {
            facts: Facts { input: of.input, read: of.bytes, ..Facts::default() },
            unit,
            fates: FatesFile::create(&file("fates.parquet"))?,
            documents: DocumentsFile::create(&file("parquet"))?,
            rows: rows::Files::create(file, job.plan.recipe.near.bands)?,
            visits: Sorter::new(&file("visits"), u64::MAX),
            domains: BTreeMap::new(),
            scores: job.scores.as_ref().map(Scores::lookup).transpose()?,
        })
    }

    fn page(&mut self, page: Page, source: &str, job: &Job) -> Result<(), Error> {
        self.facts.pages += 1;
        self.facts.bytes += page.bytes();
        match page::process(page, source, &job.plan.recipe, &job.judges) {
            Outcome::Candidate(mut candidate) => {
                self.score(&mut candidate, job)?;
                self.candidate(*candidate)
            }
            Outcome::Removed(fate) => Ok(self.fates.push(*fate)?),
        }
    }

    /// Adds the scores of score files, before anything is compared: no copy goes for a document that a
    /// score removes. Files name it by our identity or by that of others; the former stands where
    /// both are there.
    fn score(&mut self, candidate: &mut Candidate, job: &Job) -> Result<(), Error> {
        let (Some(lookup), Some(scores)) = (&mut self.scores, &job.scores) else { return Ok(()) };
        let (id, known) = (candidate.document.id, candidate.document.known_as());
        let mut found = lookup.scores(id)?;
        if known != id {
            let ours: HashSet<usize> = found.iter().map(|(name, _)| *name).collect();
            let others = lookup.scores(known)?;
            found.extend(others.into_iter().filter(|(name, _)| !ours.contains(name)));
        }
        let named = found.into_iter().map(|(name, score)| (scores.names()[name].as_str(), score));
        self.facts.joined += candidate.score(named, &job.plan.recipe);
        Ok(())
    }

    fn candidate(&mut self, candidate: Candidate) -> Result<(), Error> {
        let (document, bytes) = (&candidate.document, candidate.document.text.len() as u64);
        *self.facts.languages.entry(document.language.clone()).or_default() += 1;
        if candidate.verdict.is_none() {
            let words = self.facts.words.entry(document.language.clone()).or_default();
            *words += candidate.words;
        }
        self.domain(&candidate);
        // What has no address is no visit to one.
        if candidate.row.url != 0 {
            let [a, b] = candidate.row.visit_rank();
            let place = self.facts.candidates as usize;
            self.visits.push([candidate.row.url, a, b, number(self.unit, place)])?;
        }
        self.rows.push(&candidate)?;
        self.facts.candidates += 1;
        if self.facts.pieces.last().is_none_or(|piece| piece.bytes >= FILE_BYTES) {
            self.facts.pieces.push(Piece::default());
        }
        if let Some(piece) = self.facts.pieces.last_mut() {
            piece.candidates += 1;
            piece.bytes += bytes;
        }
        for fate in candidate.fates {
            self.fates.push(fate)?;
        }
        Ok(self.documents.push(candidate.document)?)
    }

    /// Counts what a domain as a whole is judged by.
    fn domain(&mut self, candidate: &Candidate) {
        if candidate.row.domain != 0 {
            let counts = self.domains.entry(candidate.row.domain).or_default();
            let page::Traits { personal, adult, harm } = candidate.traits;
            counts.add(personal, adult, harm);
        }
    }

    fn damaged(&mut self, place: String, reason: String) -> Result<(), Error> {
        self.facts.damaged += 1;
        if self.facts.damage.len() < 4 {
            self.facts.damage.push(format!("{place}: {reason}"));
        }
        let (stage, rule) = ("read".to_owned(), DAMAGED.to_owned());
        let id = Id::of(&place, None, "");
        let fate = Fate { id, url: place, stage, rule, detail: reason, ..Fate::default() };
        Ok(self.fates.push(fate)?)
    }

    fn finish(mut self, job: &Job) -> Result<Facts, Error> {
        self.facts.visits = self.visits.finish()?.paths.len();
        let mut domains = Sorter::<4>::new(&job.work_file(self.unit, "domains"), u64::MAX);
        for (domain, counts) in &self.domains {
            let [pages, traits] = packed(counts);
            domains.push([*domain, self.unit as u64, pages, traits])?;
        }
        self.facts.domains = domains.finish()?.paths.len();
        self.rows.finish()?;
        self.fates.finish()?;
        self.documents.finish()?;
        Ok(self.facts)
    }
}

/// Counts by domain in two words that add up as they are: each count has half a word, and no domain
/// has four billion pages.
fn packed(counts: &Counts) -> [u64; 2] {
    [counts.documents << 32 | counts.harm, counts.personal << 32 | counts.adult]
}

/// What [`packed`] words stand for, also when they were added up.
pub(super) fn unpacked([pages, traits]: [u64; 2]) -> Counts {
    let low = |word: u64| word & 0xffff_ffff;
    Counts { documents: pages >> 32, harm: low(pages), personal: traits >> 32, adult: low(traits) }
}

/// The visits of all pages: rows `[URL, rank, rank, number]`.
pub(super) fn visits(job: &Job, facts: &[Facts]) -> Runs {
    runs(job, "visits", facts.iter().map(|facts| facts.visits))
}

/// What all domains are judged by: rows `[domain, unit, counts, counts]`.
pub(super) fn domains(job: &Job, facts: &[Facts]) -> Runs {
    runs(job, "domains", facts.iter().map(|facts| facts.domains))
}

fn runs(job: &Job, end: &str, counts: impl Iterator<Item = usize>) -> Runs {
    let paths = counts.enumerate().flat_map(|(unit, count)| {
        (0..count).map(move |run| job.work_file(unit, &format!("{end}-{run}.run")))
    });
    Runs { width: 4, paths: paths.collect() }
}
