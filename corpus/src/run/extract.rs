//! Pass 1: pages to candidates, unit by unit.
//!
//! One thread reads (inflating is serial in a compressed file), all threads process, one thread
//! writes; at most two units wait between them. A unit that was committed before is read over and
//! not processed again.

use super::Job;
use crate::input::{Found, Input, Page, Range};
use crate::page::{self, Candidate, Outcome};
use crate::summary::DAMAGED;
use crate::{Error, rows};
use quipu_documents::{Fate, Id, write_fates, write_file};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc;

/// Pages of a unit.
const UNIT_PAGES: usize = 256;
/// Bytes of pages after which a unit is full.
const UNIT_BYTES: u64 = 16 << 20;

/// What a unit holds, committed with it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Facts {
    /// Pages by input number.
    pub pages: BTreeMap<usize, u64>,
    /// Bytes of all pages.
    pub bytes: u64,
    /// Records that are no pages, by input number and kind.
    pub skipped: BTreeMap<usize, BTreeMap<String, u64>>,
    /// Damaged pieces by input number.
    pub damaged: BTreeMap<usize, u64>,
    /// The first damaged pieces in words.
    pub damage: Vec<String>,
    /// Pages that became candidates.
    pub candidates: u64,
    /// Bytes of their text.
    pub text_bytes: u64,
}

/// A unit before it is processed.
#[derive(Default)]
struct Batch {
    number: usize,
    pages: Vec<(usize, Page)>,
    fates: Vec<Fate>,
    facts: Facts,
}

/// A processed unit on its way to disk.
struct Processed {
    number: usize,
    candidates: Vec<Candidate>,
    fates: Vec<Fate>,
    facts: Facts,
}

/// Names of a unit and of its work files.
pub(super) fn unit_name(number: usize) -> String {
    format!("u{number:06}")
}

impl Job<'_> {
    pub(super) fn work_file(&self, number: usize, end: &str) -> PathBuf {
        self.work.join(format!("{}.{end}", unit_name(number)))
    }
}

/// Runs the pass; returns the facts of all units, in order.
pub(super) fn pass(job: &Job, inputs: &[Input]) -> Result<Vec<Facts>, Error> {
    let total = job.admission.pages - job.admission.left_out;
    job.progress.begin("extract", total);
    let facts = std::thread::scope(|scope| {
        let (to_process, batches) = mpsc::sync_channel::<Result<Batch, Error>>(1);
        let (to_write, processed) = mpsc::sync_channel::<Processed>(1);
        scope.spawn(move || read(job, inputs, &to_process));
        let written = scope.spawn(move || write(job, processed));
        let mut all = Vec::new();
        let work = || -> Result<(), Error> {
            for batch in batches {
                job.cancel.check()?;
                let batch = batch?;
                let name = unit_name(batch.number);
                job.progress.advance(batch.facts.pages.values().sum());
                if let Some(facts) = job.units.facts(&name)
                    && let Ok(facts) = serde_json::from_value(facts)
                {
                    all.push(facts);
                    continue;
                }
                let done = process(job, inputs, batch);
                all.push(done.facts.clone());
                if to_write.send(done).is_err() {
                    break; // the writer failed; its error is returned below
                }
            }
            Ok(())
        };
        let worked = work();
        drop(to_write);
        let wrote = written.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        worked.and(wrote).map(|()| all)
    })?;
    job.progress.finish("");
    Ok(facts)
}

fn read(job: &Job, inputs: &[Input], out: &mpsc::SyncSender<Result<Batch, Error>>) {
    let mut batch = Batch::default();
    let mut number = 0;
    for (n, input) in inputs.iter().enumerate() {
        let (piece, limit) = (job.recipe.piece_bytes, job.admission.limit);
        let stream = match input.open_range(Range::WHOLE, piece, limit) {
            Ok(stream) => stream,
            Err(e) => return drop(out.send(Err(e))),
        };
        for found in stream {
            match found {
                Ok(found) => batch.take(n, found, job.admission.limit),
                Err(e) => return drop(out.send(Err(e))),
            }
            if batch.is_full() {
                let full = std::mem::take(&mut batch);
                if out.send(Ok(Batch { number, ..full })).is_err() {
                    return;
                }
                number += 1;
            }
        }
    }
    if !batch.is_empty() {
        drop(out.send(Ok(Batch { number, ..batch })));
    }
}

impl Batch {
    fn is_full(&self) -> bool {
        self.pages.len() >= UNIT_PAGES
            || self.facts.bytes >= UNIT_BYTES
            || self.fates.len() >= UNIT_PAGES
    }

    fn is_empty(&self) -> bool {
        self.pages.is_empty() && self.fates.is_empty() && self.facts.skipped.is_empty()
    }

    fn take(&mut self, input: usize, found: Found, limit: u64) {
        match found {
            Found::Page(page) if page.key() > limit => {}
            Found::Page(page) => {
                *self.facts.pages.entry(input).or_default() += 1;
                self.facts.bytes += page.bytes();
                self.pages.push((input, page));
            }
            Found::Skipped(kind) => {
                *self.facts.skipped.entry(input).or_default().entry(kind).or_default() += 1;
            }
            Found::Damaged(place, reason) => {
                *self.facts.damaged.entry(input).or_default() += 1;
                if self.facts.damage.len() < 4 {
                    self.facts.damage.push(format!("{place}: {reason}"));
                }
                let (stage, rule) = ("read".to_owned(), DAMAGED.to_owned());
                let id = Id::of(&place, None, "");
                let fate = Fate { id, url: place, stage, rule, detail: reason, ..Fate::default() };
                self.fates.push(fate);
            }
        }
    }
}

fn process(job: &Job, inputs: &[Input], batch: Batch) -> Processed {
    let Batch { number, pages, mut fates, mut facts } = batch;
    let outcomes: Vec<Outcome> = pages
        .into_par_iter()
        .map(|(input, page)| page::process(page, &inputs[input].name, job.recipe))
        .collect();
    let mut candidates = Vec::with_capacity(outcomes.len());
    for outcome in outcomes {
        match outcome {
            Outcome::Candidate(candidate) => candidates.push(*candidate),
            Outcome::Removed(fate) => fates.push(*fate),
        }
    }
    facts.candidates = candidates.len() as u64;
    facts.text_bytes = candidates.iter().map(|c| c.document.text.len() as u64).sum();
    Processed { number, candidates, fates, facts }
}

fn write(job: &Job, processed: mpsc::Receiver<Processed>) -> Result<(), Error> {
    for Processed { number, candidates, fates, facts } in processed {
        rows::write(&job.work_file(number, "rows"), &candidates)?;
        write_fates(&job.work_file(number, "fates.parquet"), &fates)?;
        let documents: Vec<_> = candidates.into_iter().map(|c| c.document).collect();
        write_file(&job.work_file(number, "parquet"), &documents)?;
        let facts = serde_json::to_value(&facts).unwrap_or_default();
        job.units.commit(&unit_name(number), facts)?;
    }
    Ok(())
}
