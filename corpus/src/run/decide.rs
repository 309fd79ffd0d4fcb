//! Pass 2: which candidates stay, and which lines are frequent.
//!
//! Order: newest visit of each URL, the verdicts of the rules, one of equal documents, then lines,
//! which are counted over what is left; so junk does not make a line frequent. Where lines went,
//! equal documents are looked for once more: two mirrors that differ in what their sites put
//! around a text are one. The three levels of
//! deduplication are in the paper's order; that the rules act between does not change what is kept,
//! since equal texts have equal verdicts, but each removal has its true reason. Everything is held
//! as rows; of texts only those of one unit are, of which lines went.

use super::Job;
use super::extract::Facts;
use crate::dedup::{Row, exact, lines, url};
use crate::page::{Verdict, without_frequent};
use crate::{Error, rows};
use quipu_documents::Reader;
use rayon::prelude::*;
use std::collections::HashSet;

/// What is to become of a candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Decision {
    /// It stays, unless its lines go.
    Stays,
    /// Another visit of its URL is newer: that of row number …
    OtherVisit(u32),
    /// Another document has the same text: row number …
    SameText(u32),
    /// A rule removes it.
    Rule(Verdict),
}

/// Decisions about all candidates, in order.
pub(super) struct Decisions {
    pub rows: Vec<Row>,
    pub decisions: Vec<Decision>,
    /// Number of the first row of each unit, and of the end.
    pub starts: Vec<usize>,
    pub frequent: HashSet<u64>,
    pub buckets: u64,
}

/// Runs the pass.
pub(super) fn pass(job: &Job, units: &[Facts]) -> Result<Decisions, Error> {
    job.progress.begin("deduplicate", 0);
    let (mut rows, mut verdicts, mut starts) = (Vec::new(), Vec::new(), vec![0]);
    let mut hashes = 0u64;
    for number in 0..units.len() {
        job.cancel.check()?;
        rows::read(&job.work_file(number, "rows"), |kept| {
            hashes += kept.lines.len() as u64;
            rows.push(kept.row);
            verdicts.push(kept.verdict);
        })?;
        starts.push(rows.len());
    }
    let mut decisions = vec![Decision::Stays; rows.len()];
    let mut alive = vec![true; rows.len()];
    let visits = url::duplicates(&rows, &alive);
    apply(&mut decisions, &mut alive, &visits, Decision::OtherVisit);
    for (n, verdict) in verdicts.iter().enumerate() {
        if let (true, Some(verdict)) = (alive[n], verdict) {
            decisions[n] = Decision::Rule(*verdict);
            alive[n] = false;
        }
    }
    let same = exact::duplicates(&rows, &alive);
    apply(&mut decisions, &mut alive, &same, Decision::SameText);
    let left = alive.iter().filter(|a| **a).count() as u64;
    let buckets = left.div_ceil(job.recipe.bucket).max(1);
    let frequent = lines::frequent(hashes, job.recipe.memory, job.recipe.line_limit, |take| {
        let mut n = 0;
        for number in 0..units.len() {
            job.cancel.check()?;
            rows::read(&job.work_file(number, "rows"), |kept| {
                if alive[n] {
                    let bucket = lines::bucket(kept.row.id, buckets);
                    kept.lines.iter().for_each(|h| take(lines::in_bucket(*h, bucket)));
                }
                n += 1;
            })?;
        }
        Ok::<(), Error>(())
    })?;
    let mut all = Decisions { rows, decisions, starts, frequent, buckets };
    again(job, &mut all, alive)?;
    job.progress.finish("");
    Ok(all)
}

/// One of the documents that are equal without their frequent lines.
fn again(job: &Job, all: &mut Decisions, mut alive: Vec<bool>) -> Result<(), Error> {
    if all.frequent.is_empty() {
        return Ok(());
    }
    let units = all.starts.len() - 1;
    let changed: Vec<Vec<(usize, u64)>> = (0..units)
        .into_par_iter()
        .map(|unit| changed(job, unit, all, &alive))
        .collect::<Result<_, _>>()?;
    for (row, text) in changed.into_iter().flatten() {
        all.rows[row].text = text;
    }
    let same = exact::duplicates(&all.rows, &alive);
    apply(&mut all.decisions, &mut alive, &same, Decision::SameText);
    Ok(())
}

/// Rows of a unit that lose lines, with the hashes of what is left of their texts.
fn changed(
    job: &Job,
    unit: usize,
    all: &Decisions,
    alive: &[bool],
) -> Result<Vec<(usize, u64)>, Error> {
    job.cancel.check()?;
    let (mut out, mut loses, mut n) = (Vec::new(), Vec::new(), all.starts[unit]);
    rows::read(&job.work_file(unit, "rows"), |kept| {
        let bucket = lines::bucket(kept.row.id, all.buckets);
        let hit = |h: &u64| all.frequent.contains(&lines::in_bucket(*h, bucket));
        loses.push(alive[n] && kept.lines.iter().any(hit));
        n += 1;
    })?;
    if !loses.contains(&true) {
        return Ok(out);
    }
    let documents = Reader::open(&job.work_file(unit, "parquet"))?;
    for ((number, document), loses) in documents.enumerate().zip(loses) {
        let document = document?;
        if loses {
            let bucket = lines::bucket(document.id.0, all.buckets);
            let (text, _) = without_frequent(&document, &all.frequent, bucket);
            out.push((all.starts[unit] + number, exact::text_hash(&text)));
        }
    }
    Ok(out)
}

fn apply(
    decisions: &mut [Decision],
    alive: &mut [bool],
    instead: &[Option<u32>],
    why: fn(u32) -> Decision,
) {
    for (n, other) in instead.iter().enumerate() {
        if let Some(other) = other {
            decisions[n] = why(*other);
            alive[n] = false;
        }
    }
}
