//! Runs held against each other by their metrics: what each reached, and how much the losses of two
//! differ where both had done as much. Not whether that matters, and not how it is shown.
//!
//! Losses of single steps scatter by their batches. Two runs that saw the same batches scatter
//! alike, so their differences, pair by pair, scatter far less than the losses do. What is left is
//! correlated from step to step, and an interval that takes the pairs for independent is too narrow
//! by a factor. So the pairs are put into blocks of consecutive ones, which are lengthened until
//! the means of neighbouring blocks are no longer correlated; of those the interval is made, by
//! Student's distribution (batch means: A. M. Law, J. S. Carson, "A sequential procedure for
//! determining the length of a steady-state simulation", 1979).

use crate::metrics::{Record, Validation};
use std::collections::BTreeMap;

/// What makes points of two runs equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The number of the step.
    Step,
    /// The tokens seen: for runs with batches of different sizes.
    Tokens,
}

/// What two runs had where both had done as much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// The step, or the tokens seen.
    pub at: f64,
    /// Loss of the run that others are held against.
    pub base: f64,
    /// Loss of the other.
    pub other: f64,
}

impl Pair {
    /// How much more loss the other has.
    #[must_use]
    pub fn difference(&self) -> f64 {
        self.other - self.base
    }
}

/// What a run reached.
#[derive(Clone, Debug, PartialEq)]
pub struct Reached {
    /// Steps done.
    pub steps: u64,
    /// Target tokens seen.
    pub tokens: u64,
    /// Mean loss of the last tenth of its steps: a single one scatters.
    pub loss: f64,
    /// The last loss on held-out text.
    pub validation: Option<Validation>,
    /// Tokens a second over all steps.
    pub tokens_per_s: f64,
    /// The share of what the machine could do, over the steps that have it.
    pub share_of_ceiling: Option<f64>,
}

/// What the run with these metrics reached; nothing where there are none.
#[must_use]
pub fn reached(records: &[Record]) -> Option<Reached> {
    let last = records.last()?;
    let tail = &records[records.len() - records.len().div_ceil(10)..];
    // Over time, so that a slow step counts as long as it took.
    let of_time = |value: &dyn Fn(&Record) -> Option<f64>| {
        let known = records.iter().filter_map(|r| Some((r.machine.seconds, value(r)?)));
        let (seconds, sum) = known.fold((0.0, 0.0), |(s, v), (t, x)| (s + t, v + t * x));
        (seconds > 0.0).then(|| sum / seconds)
    };
    Some(Reached {
        steps: last.step,
        tokens: last.tokens,
        loss: average(&tail.iter().map(|r| r.loss).collect::<Vec<_>>()),
        validation: records.iter().rev().find_map(|r| r.validation.clone()),
        tokens_per_s: of_time(&|r| Some(r.machine.tokens_per_s)).unwrap_or(0.0),
        share_of_ceiling: of_time(&|r| r.machine.share_of_ceiling),
    })
}

/// By how much the tokens at equal steps may differ for steps to count as equal: documents end
/// otherwise in other data, and what they end with is no target.
const SAME_TOKENS: f64 = 0.01;

/// By what two runs are best held against each other: by steps where those saw as many tokens.
#[must_use]
pub fn suited(base: &[Record], other: &[Record]) -> By {
    let tokens: BTreeMap<u64, u64> = base.iter().map(|r| (r.step, r.tokens)).collect();
    let same = |r: &Record| {
        let Some(of_base) = tokens.get(&r.step) else { return true };
        let (a, b) = (*of_base as f64, r.tokens as f64);
        (a - b).abs() <= SAME_TOKENS * a.max(b)
    };
    if other.iter().all(same) { By::Step } else { By::Tokens }
}

/// The points that both runs have; none where they have none in common.
#[must_use]
pub fn pairs(base: &[Record], other: &[Record], by: By) -> Vec<Pair> {
    match by {
        By::Step => {
            let losses: BTreeMap<u64, f64> = base.iter().map(|r| (r.step, r.loss)).collect();
            let pair = |r: &Record| {
                let base = *losses.get(&r.step)?;
                Some(Pair { at: r.step as f64, base, other: r.loss })
            };
            other.iter().filter_map(pair).collect()
        }
        By::Tokens => at_equal_tokens(&spans(base), &spans(other)),
    }
}

/// A step by the tokens that it learned from: those from `from` to `to`, with this mean loss.
#[derive(Clone, Copy)]
struct Span {
    from: f64,
    to: f64,
    loss: f64,
}

fn spans(records: &[Record]) -> Vec<Span> {
    let before = |i: usize| match i.checked_sub(1) {
        Some(i) => Some(records[i].tokens),
        None => (records[0].step == 1).then_some(0),
    };
    let span = |(i, r): (usize, &Record)| {
        let (from, to, loss) = (before(i)? as f64, r.tokens as f64, r.loss);
        (to > from).then_some(Span { from, to, loss })
    };
    records.iter().enumerate().filter_map(span).collect()
}

/// One pair for each step of the run with the longer steps: its loss, and the mean loss of the
/// other's steps (and parts of them) that saw the same stretch of tokens.
fn at_equal_tokens(base: &[Span], other: &[Span]) -> Vec<Pair> {
    let (Some(a), Some(b)) = (base.first(), other.first()) else { return Vec::new() };
    let (Some(c), Some(d)) = (base.last(), other.last()) else { return Vec::new() };
    let (from, to) = (a.from.max(b.from), c.to.min(d.to));
    let inside = |spans: &[Span]| -> Vec<Span> {
        spans.iter().copied().filter(|s| s.from >= from && s.to <= to).collect()
    };
    let (of_base, of_other) = (inside(base), inside(other));
    let grid = if of_base.len() <= of_other.len() { of_base } else { of_other };
    let (mut base, mut other) = (Means::over(base), Means::over(other));
    let pair = |s: &Span| Some(Pair { at: s.to, base: base.of(s)?, other: other.of(s)? });
    grid.iter().filter_map(pair).collect()
}

/// Mean losses over stretches that come in order.
struct Means<'a> {
    spans: &'a [Span],
}

impl<'a> Means<'a> {
    fn over(spans: &'a [Span]) -> Self {
        Self { spans }
    }

    fn of(&mut self, stretch: &Span) -> Option<f64> {
        while self.spans.first().is_some_and(|s| s.to <= stretch.from) {
            self.spans = &self.spans[1..];
        }
        let (mut tokens, mut sum) = (0.0, 0.0);
        for span in self.spans.iter().take_while(|s| s.from < stretch.to) {
            let share = span.to.min(stretch.to) - span.from.max(stretch.from);
            tokens += share;
            sum += share * span.loss;
        }
        (tokens > 0.0).then(|| sum / tokens)
    }
}

/// The mean of differences, and how far it can be trusted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// The ends of its 95 % interval; none of fewer than [`LEAST_PAIRS`].
    pub interval: Option<(f64, f64)>,
    /// Pairs.
    pub pairs: usize,
    /// Blocks that the interval is made of.
    pub blocks: usize,
    /// Pairs of a block.
    pub length: usize,
    /// Whether the means of neighbouring blocks are correlated though there are as few of them as
    /// may be: the differences drift, and the interval is too narrow.
    pub drifts: bool,
}

/// Pairs of which an interval is made, at least.
pub const LEAST_PAIRS: usize = 8;

/// Blocks that are not made fewer: the spread of fewer means is hardly known. 10 to 30 are usual.
const LEAST_BLOCKS: usize = 16;

/// Correlation of neighbouring blocks above which they are made longer: at 0.1 an interval is a
/// tenth too narrow.
const CORRELATED: f64 = 0.1;

/// The mean of differences in their order, with its interval; nothing of none.
#[must_use]
pub fn mean(differences: &[f64]) -> Option<Mean> {
    if differences.is_empty() {
        return None;
    }
    let (mut blocks, mut length) = (differences.to_vec(), 1);
    while blocks.len() >= 2 * LEAST_BLOCKS && correlation(&blocks) > CORRELATED {
        // One that finds no other is the first: what a run ends with counts more.
        let odd = blocks.len() % 2;
        blocks = blocks[odd..].chunks_exact(2).map(average).collect();
        length *= 2;
    }
    let (pairs, count) = (differences.len(), blocks.len() as f64);
    let mean = average(differences);
    let half = student(count - 1.0) * (variance(&blocks) / count).sqrt();
    Some(Mean {
        mean,
        interval: (pairs >= LEAST_PAIRS).then_some((mean - half, mean + half)),
        pairs,
        blocks: blocks.len(),
        length,
        drifts: pairs >= LEAST_PAIRS && correlation(&blocks) > 2.0 / count.sqrt(),
    })
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn variance(values: &[f64]) -> f64 {
    let mean = average(values);
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    squares / (values.len() as f64 - 1.0).max(1.0)
}

/// Correlation of each value with the next.
fn correlation(values: &[f64]) -> f64 {
    let mean = average(values);
    let products: f64 = values.windows(2).map(|w| (w[0] - mean) * (w[1] - mean)).sum();
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    if squares > 0.0 { products / squares } else { 0.0 }
}

/// The 97.5 % quantile of Student's distribution, for 7 degrees of freedom and more to three
/// digits: the expansion in their reciprocal (Abramowitz and Stegun, 26.7.5).
fn student(freedom: f64) -> f64 {
    let z: f64 = 1.959_963_985;
    let terms = [
        z,
        (z.powi(3) + z) / 4.0,
        (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0,
        (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0,
    ];
    terms.iter().rev().fold(0.0, |sum, term| sum / freedom.max(1.0) + term)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Machine;

    fn record(step: u64, tokens: u64, loss: f64) -> Record {
        Record {
            step,
            loss,
            grad_norm: 0.1,
            lr: 1e-3,
            tokens,
            more: BTreeMap::new(),
            validation: None,
            samples: None,
            gate: None,
            machine: Machine::default(),
        }
    }

    /// Steps of `batch` tokens, with a loss that is a function of the tokens before each.
    fn run(steps: u64, batch: u64, loss: impl Fn(f64) -> f64) -> Vec<Record> {
        (1..=steps).map(|s| record(s, s * batch, loss(((s - 1) * batch) as f64))).collect()
    }

    /// Normal deviates, nearly: sums of twelve uniform ones.
    fn normal(state: &mut u64) -> f64 {
        let mut uniform = || {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            (*state >> 11) as f64 / (1u64 << 53) as f64
        };
        (0..12).map(|_| uniform()).sum::<f64>() - 6.0
    }

    /// In how many of 300 series with this correlation of neighbours the interval holds the true
    /// mean, which is 0; and in how many one that takes them for independent does.
    fn coverage(length: usize, rho: f64) -> (f64, f64) {
        let (mut state, mut held, mut naive) = (1, 0, 0);
        for _ in 0..300 {
            let mut last = normal(&mut state) / (1.0 - rho * rho).sqrt();
            let series: Vec<f64> = (0..length)
                .map(|_| {
                    last = rho * last + normal(&mut state);
                    last
                })
                .collect();
            let found = mean(&series).unwrap();
            let (low, high) = found.interval.unwrap();
            held += u32::from(low <= 0.0 && 0.0 <= high);
            let half = 1.96 * (variance(&series) / length as f64).sqrt();
            naive += u32::from(found.mean.abs() <= half);
        }
        (f64::from(held) / 300.0, f64::from(naive) / 300.0)
    }

    #[test]
    fn the_interval_holds_the_mean_of_correlated_series_as_often_as_it_says() {
        for (length, rho) in [(4000, 0.0), (4000, 0.5), (4000, 0.9), (400, 0.5), (20, 0.0)] {
            let (held, naive) = coverage(length, rho);
            assert!((0.90..=0.99).contains(&held), "{length} {rho}: {held}");
            assert!(rho == 0.0 || naive < held - 0.1, "{length} {rho}: {naive}");
        }
    }

    #[test]
    fn what_drifts_is_said_to() {
        let drift: Vec<f64> = (0..1000).map(f64::from).collect();
        assert!(mean(&drift).unwrap().drifts);
        let mut state = 3;
        let still: Vec<f64> = (0..1000).map(|_| normal(&mut state)).collect();
        let found = mean(&still).unwrap();
        assert!(!found.drifts && found.blocks * found.length <= 1000, "{found:?}");
    }

    #[test]
    fn few_and_equal_differences_have_what_they_can_have() {
        assert_eq!(mean(&[]), None);
        let found = mean(&[0.5]).unwrap();
        assert_eq!((found.mean, found.interval, found.drifts), (0.5, None, false));
        let found = mean(&[0.0; 100]).unwrap();
        assert_eq!((found.interval, found.drifts), (Some((0.0, 0.0)), false));
    }

    #[test]
    fn quantiles_are_students() {
        for (freedom, expected) in [(7.0, 2.365), (15.0, 2.131), (30.0, 2.042), (1e9, 1.960)] {
            assert!((student(freedom) - expected).abs() < 2e-3, "{freedom} {}", student(freedom));
        }
    }

    #[test]
    fn equal_batches_are_compared_by_steps() {
        let (base, other) = (run(10, 100, |t| 5.0 - t / 1000.0), run(7, 100, |t| 5.5 - t / 1000.0));
        assert_eq!(suited(&base, &other), By::Step);
        let found = pairs(&base, &other, By::Step);
        assert_eq!((found.len(), found[6].at), (7, 7.0));
        assert!(found.iter().all(|p| (p.difference() - 0.5).abs() < 1e-12));
        // Steps that are not there have no pair.
        assert!(pairs(&base[5..], &other[..5], By::Step).is_empty());
        assert!(pairs(&[], &other, By::Step).is_empty());
    }

    #[test]
    fn other_batches_are_compared_by_tokens() {
        // Losses linear in the tokens: a mean over a stretch is the loss at its middle.
        let level = |offset: f64, batch: f64| move |t: f64| offset - (t + batch / 2.0) / 1000.0;
        let (base, other) = (run(100, 30, level(5.0, 30.0)), run(20, 100, level(5.25, 100.0)));
        assert_eq!(suited(&base, &other), By::Tokens);
        for (a, b, sign) in [(&base, &other, 1.0), (&other, &base, -1.0)] {
            let found = pairs(a, b, By::Tokens);
            assert_eq!((found.len(), found[0].at, found[19].at), (20, 100.0, 2000.0));
            // A part of a step has the mean of all of it: at most half a step off, in both ways.
            let difference = mean(&found.iter().map(Pair::difference).collect::<Vec<_>>());
            assert!((difference.unwrap().mean - sign * 0.25).abs() < 1e-3, "{difference:?}");
        }
        assert!(pairs(&base[..3], &other[5..], By::Tokens).is_empty());
        assert!(pairs(&[], &[], By::Tokens).is_empty());
        // Tokens that go back are no run's, and no endless loop either.
        let odd = [record(1, 100, 1.0), record(2, 50, 1.0), record(3, 50, 1.0)];
        assert!(pairs(&base, &odd, By::Tokens).len() <= 3);
    }

    #[test]
    fn what_a_run_reached_is_over_time_and_over_its_end() {
        let mut records = run(20, 100, |t| 5.0 - t / 1000.0);
        for (i, r) in records.iter_mut().enumerate() {
            let (seconds, share) = if i == 0 { (3.0, None) } else { (1.0, Some(0.5)) };
            r.machine = Machine {
                seconds,
                tokens_per_s: 100.0 / seconds,
                share_of_ceiling: share,
                ..Machine::default()
            };
        }
        let found = reached(&records).unwrap();
        assert_eq!((found.steps, found.tokens), (20, 2000));
        assert!((found.loss - (3.2 + 3.1) / 2.0).abs() < 1e-12, "{found:?}");
        assert!((found.tokens_per_s - 2000.0 / 22.0).abs() < 1e-9, "{found:?}");
        assert_eq!((found.share_of_ceiling, found.validation), (Some(0.5), None));
        assert_eq!(reached(&[]), None);
    }
}
