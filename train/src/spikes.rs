//! Steps whose loss or gradient norm leaps: they are skipped, and where they come in heaps the run
//! goes back to a checkpoint and passes over the batches since (the paper had few spikes and no
//! policy, section 3.4.1; going back and skipping some hundred batches is PaLM's, section 5.1 of its
//! paper). Not numbers that are none: those stop a run before anything is judged ([`crate::Error`]).
//!
//! What a leap is. Of the last `window` steps that were accepted, the median m and the spread s of a
//! figure are known: s is 1.4826 times the median distance from m, which is the deviation of a normal
//! distribution, and at least a hundredth of m, so that a calm figure may still move. A figure leaps
//! where it is above m + `threshold` · s; after a skipped step it must come below m + `release` · s
//! to be accepted again, so that a run does not flicker at the border. Falls are no leaps. Before
//! there are `window` accepted steps, nothing leaps; and where the data change (a level of the ramp,
//! a phase of the mix) the figures are forgotten, since what was usual is so no more.
//!
//! A skipped step counts as a step of the schedule, not as an update of the optimizer. Going back
//! must not depend on when somebody stopped the run, so that it goes to the last checkpoint that the
//! recipe asks for (or to that of step 0), whatever others there are. From there it takes the
//! batches that follow the leaps: with the same batches again it would come to the same weights,
//! since the skipped ones changed none. The state of all this is a few numbers in the checkpoint, and
//! a run that is killed after it went back comes to the same place again.

use crate::recipe::refuse;
use crate::{Error, Recipe};
use quipu_store::journal::Journal;
use quipu_tokens::Piece;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};

/// When a step is skipped, and when the run goes back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spikes {
    /// Accepted steps over which median and spread are taken.
    pub window: usize,
    /// Spreads above the median from which on a step is skipped.
    pub threshold: f64,
    /// Spreads above the median below which a step is accepted after a skipped one.
    pub release: f64,
    /// Skipped steps that send the run back,
    pub skips: usize,
    /// if they are among so many steps.
    pub within: u64,
    /// How often the run goes back at most, before it stops.
    pub returns: u64,
}

impl Default for Spikes {
    /// Guessed: no run of this program was long enough to measure them.
    fn default() -> Self {
        Self { window: 128, threshold: 10.0, release: 5.0, skips: 5, within: 20, returns: 3 }
    }
}

impl Spikes {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let Self { window, threshold, release, skips, within, .. } = *self;
        if window < 8 {
            let expected = "a median and a spread need at least 8 steps";
            return refuse("spikes.window", window, expected, "use 128");
        }
        if !(threshold > 0.0 && threshold.is_finite()) {
            let expected = "it must be above 0 and finite";
            return refuse("spikes.threshold", threshold, expected, "use 10");
        }
        if !(release > 0.0 && release <= threshold) {
            let expected = format!("it must be above 0 and at most threshold = {threshold}");
            return refuse("spikes.release", release, expected, "use half the threshold");
        }
        if skips == 0 {
            let expected = "the run goes back after at least 1 skipped step";
            return refuse("spikes.skips", skips, expected, "use 5");
        }
        match within < skips as u64 {
            true => refuse(
                "spikes.within",
                within,
                format!("skips = {skips} steps do not fit into it"),
                "use four times as many",
            ),
            false => Ok(()),
        }
    }
}

/// A figure that leapt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spike {
    /// `loss` or `gradient norm`.
    pub what: String,
    /// Its value.
    pub value: f64,
    /// Its median over the window.
    pub median: f64,
    /// What it would have had to stay below.
    pub limit: f64,
}

/// What must be known to judge the next step: it stands in every checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Guard {
    /// Losses of the last accepted steps.
    losses: VecDeque<f64>,
    /// Their gradient norms.
    norms: VecDeque<f64>,
    /// The first sample of the stage of the course that all these are of.
    stage: u64,
    /// Whether the last step was skipped.
    high: bool,
    /// The last steps that were skipped.
    skipped: Vec<u64>,
    /// How often the run went back.
    pub returns: u64,
    /// Lines of the record.
    pub lines: usize,
}

impl Guard {
    /// Forgets what was usual if the data are of another stage from now on.
    pub fn enter(&mut self, stage: u64) {
        if self.stage != stage {
            let (returns, lines) = (self.returns, self.lines);
            *self = Self { stage, returns, lines, ..Self::default() };
        }
    }

    /// What leaps in `step`, if anything does; what does not is remembered.
    pub fn judge(&mut self, rules: &Spikes, step: u64, (loss, norm): (f64, f64)) -> Option<Spike> {
        let reach = if self.high { rules.release } else { rules.threshold };
        let leap = |what: &str, value: f64, usual: &VecDeque<f64>| {
            let (median, spread) = usual_of(usual);
            let limit = median + reach * spread;
            let leaps = usual.len() >= rules.window && value > limit;
            leaps.then(|| Spike { what: what.to_owned(), value, median, limit })
        };
        let found = leap("loss", loss, &self.losses);
        let found = found.or_else(|| leap("gradient norm", norm, &self.norms));
        self.high = found.is_some();
        if found.is_some() {
            self.skipped.retain(|skipped| skipped + rules.within > step);
            self.skipped.push(step);
            return found;
        }
        for (usual, value) in [(&mut self.losses, loss), (&mut self.norms, norm)] {
            usual.push_back(value);
            if usual.len() > rules.window {
                usual.pop_front();
            }
        }
        None
    }

    /// The first of the steps that were skipped lately: what stood before it is what a run goes back
    /// to, since nothing was learned from it on.
    #[must_use]
    pub fn first_skipped(&self) -> Option<u64> {
        self.skipped.iter().min().copied()
    }

    /// Whether so many steps were skipped that the run must go back.
    #[must_use]
    pub fn goes_back(&self, rules: &Spikes) -> bool {
        self.high && self.skipped.len() >= rules.skips
    }

    /// The guard of a run that went back to a checkpoint with the guard `then`.
    #[must_use]
    pub fn gone_back(self, then: Self) -> Self {
        let (returns, lines) = (self.returns + 1, self.lines);
        Self { returns, lines, skipped: Vec::new(), high: false, ..then }
    }
}

/// Median and spread; a window of an even number has the upper of its two middles.
fn usual_of(window: &VecDeque<f64>) -> (f64, f64) {
    let middle = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(0.0)
    };
    let median = middle(window.iter().copied().collect());
    let distance = middle(window.iter().map(|value| (value - median).abs()).collect());
    (median, (1.4826 * distance).max(0.01 * median.abs()))
}

/// A line of `skipped.jsonl`: a batch from which nothing was learned, with what stands in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The step, counted from 1, at which the batch was skipped or the run went back.
    pub step: u64,
    /// The batch.
    pub batch: u64,
    /// Why it was skipped; nothing where it was passed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spike: Option<Spike>,
    /// The step to which the run went back, if it did and passed over the batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_to: Option<u64>,
    /// Global index of its first sample.
    pub first_sample: u64,
    /// Global index of its last sample.
    pub last_sample: u64,
    /// The documents in it.
    pub documents: Vec<Part>,
}

/// A part of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The document's id, 32 hexadecimal digits.
    pub id: String,
    /// How many of its tokens lie before the part, the opening one included.
    pub offset: u64,
    /// Tokens of the part.
    pub tokens: u32,
}

impl Line {
    /// The line of a batch with those pieces.
    #[must_use]
    pub fn new(recipe: &Recipe, step: u64, batch: u64, pieces: &[Piece]) -> Self {
        let portion = recipe.portion(batch);
        let part = |piece: &Piece| Part {
            id: format!("{:032x}", piece.document),
            offset: piece.offset,
            tokens: piece.length,
        };
        Self {
            step,
            batch,
            spike: None,
            back_to: None,
            first_sample: portion.first_sample,
            last_sample: portion.first_sample + portion.samples().max(1) - 1,
            documents: pieces.iter().map(part).collect(),
        }
    }
}

/// The record of what was skipped: JSON Lines in the run's folder.
pub struct Skipped {
    journal: Journal,
    path: PathBuf,
}

impl Skipped {
    /// Opens the record of a run that wrote so many lines: later ones are cut off.
    ///
    /// # Errors
    /// [`Error::Store`], also where it has fewer lines.
    pub fn open(path: &Path, lines: usize) -> Result<Self, Error> {
        let (journal, _) = Journal::open_at(path, lines)?;
        Ok(Self { journal, path: path.to_owned() })
    }

    /// Appends a line.
    ///
    /// # Errors
    /// [`Error::Store`], also where the disk is full.
    pub fn append(&mut self, line: &Line) -> Result<(), Error> {
        let value = serde_json::to_value(line)
            .map_err(|e| Error::io(&self.path)(std::io::Error::other(e)))?;
        Ok(self.journal.append(&value)?)
    }

    /// Brings what was appended to the disk.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn sync(&mut self) -> Result<(), Error> {
        Ok(self.journal.sync()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Spikes =
        Spikes { window: 8, threshold: 10.0, release: 2.0, skips: 3, within: 5, returns: 1 };

    /// A guard that has seen `losses`, and which of them leapt.
    fn seen(losses: &[f64]) -> (Guard, Vec<usize>) {
        let mut guard = Guard::default();
        let leaps = |(i, loss): (usize, &f64)| {
            guard.judge(&RULES, i as u64 + 1, (*loss, 1.0)).is_some().then_some(i)
        };
        let leapt = losses.iter().enumerate().filter_map(leaps).collect();
        (guard, leapt)
    }

    /// Eight steps with median 3 and spread 1.4826 · 0.1, then others.
    #[track_caller]
    fn check(more: &[f64], leapt: &[usize]) -> Guard {
        let mut losses = vec![2.8, 2.9, 2.9, 3.0, 3.0, 3.1, 3.1, 3.2];
        losses.extend(more);
        let (guard, found) = seen(&losses);
        assert_eq!(found, leapt);
        guard
    }

    #[test]
    fn only_what_is_far_above_the_usual_leaps() {
        check(&[4.4], &[]);
        check(&[4.6], &[8]);
        check(&[0.1, 3.0], &[]);
        assert!(seen(&[1.0, 1.0, 1.0, 1.0, 50.0]).1.is_empty(), "no window yet");
        // A calm figure has a hundredth of itself as its spread.
        assert_eq!(seen(&[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.09, 1.11]).1, [9]);
    }

    #[test]
    fn after_a_leap_it_must_come_closer_to_be_accepted() {
        check(&[4.6, 3.5, 3.5, 3.2, 3.5], &[8, 9, 10]);
    }

    #[test]
    fn skips_that_are_close_send_the_run_back() {
        assert!(!check(&[9.0, 9.0], &[8, 9]).goes_back(&RULES));
        assert!(check(&[9.0, 9.0, 9.0], &[8, 9, 10]).goes_back(&RULES));
        assert!(!check(&[9.0, 9.0, 3.0, 3.0, 3.0, 9.0], &[8, 9, 13]).goes_back(&RULES));
        let guard = check(&[9.0, 9.0, 9.0], &[8, 9, 10]);
        let then = check(&[], &[]);
        let back = guard.gone_back(then.clone());
        assert_eq!((back.returns, back.losses == then.losses), (1, true));
        assert!(!back.goes_back(&RULES));
    }

    #[test]
    fn the_norm_leaps_too_and_other_data_begin_anew() {
        let mut guard = check(&[], &[]);
        let spike = guard.judge(&RULES, 9, (3.0, 7.0)).unwrap();
        assert_eq!((&*spike.what, spike.value, spike.median), ("gradient norm", 7.0, 1.0));
        guard.enter(0);
        assert!(guard.judge(&RULES, 10, (30.0, 7.0)).is_some());
        guard.enter(64);
        assert_eq!(guard.judge(&RULES, 11, (30.0, 7.0)), None);
    }

    #[test]
    fn rules_that_cannot_be_are_refused_by_name() {
        let check = |rules: Spikes, key: &str| match rules.check() {
            Err(Error::Recipe { key: found, .. }) => assert_eq!(found, key),
            other => panic!("expected a refusal of {key}, found {other:?}"),
        };
        Spikes::default().check().unwrap();
        check(Spikes { window: 7, ..RULES }, "spikes.window");
        check(Spikes { threshold: f64::NAN, ..RULES }, "spikes.threshold");
        check(Spikes { release: 11.0, ..RULES }, "spikes.release");
        check(Spikes { release: 0.0, ..RULES }, "spikes.release");
        check(Spikes { skips: 0, ..RULES }, "spikes.skips");
        check(Spikes { within: 2, ..RULES }, "spikes.within");
    }
}
