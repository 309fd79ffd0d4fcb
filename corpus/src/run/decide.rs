//! Pass 2: which candidates stay, and which lines are frequent.
//!
//! Order: newest visit of each URL, the verdicts of the rules, one of equal documents, then lines,
//! which are counted over what is left; so junk does not make a line frequent. The three levels of
//! deduplication are in the paper's order; that the rules act between does not change what is kept,
//! since equal texts have equal verdicts, but each removal has its true reason. Everything is held
//! as rows, never as text.

use super::Job;
use super::extract::Facts;
use crate::dedup::{Row, exact, lines, url};
use crate::page::Verdict;
use crate::{Error, rows};
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
    job.progress.finish("");
    Ok(Decisions { rows, decisions, starts, frequent, buckets })
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
