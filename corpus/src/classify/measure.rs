//! How good a classifier is on examples that it did not see, beside what their length alone says.
//!
//! Each fold is scored by a classifier of the other folds. Intervals are percentiles of a paired
//! bootstrap over documents, whose draws are counted from the seed. A classifier that does not
//! beat the length baseline has learned that long pages are good, which needs no classifier.

use super::calibrate::Calibration;
use super::linear::{self, Options, draw};
use super::{Error, Example};
use std::ops::Range;

/// Resamples of the bootstrap.
const RESAMPLES: u64 = 1000;
/// Streams of counted numbers; epochs have those from 0 on.
const FOLDS: u64 = 1 << 32;
const BOOTSTRAP: u64 = 1 << 33;

/// A figure with the interval in which 95 of 100 resamples lie.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// As measured.
    pub value: f64,
    /// 95 % interval.
    pub interval: Range<f64>,
}

/// What cross-validation found.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Examples.
    pub examples: usize,
    /// Share of examples whose likeliest label is theirs.
    pub accuracy: Figure,
    /// Share of the most frequent label: accuracy without looking.
    pub most_frequent: f64,
    /// For each label: how often an example of it scores above one of another.
    pub auc: Vec<(String, Figure)>,
    /// The same of the length of the text alone, the better of longer and shorter.
    pub length_auc: Vec<(String, Figure)>,
    /// By how much the first is above the second.
    pub gain: Vec<(String, Figure)>,
    /// Mean squared distance of probabilities from the truth, before and after calibration (which
    /// is fitted to the folds that the example is not in).
    pub brier: (f64, f64),
}

/// Probabilities of the examples held back, in the order of the examples, and their folds.
pub(super) struct HeldOut {
    pub probabilities: Vec<Vec<f32>>,
    pub truths: Vec<usize>,
    pub folds: Vec<usize>,
}

/// Folds with the same share of each label: each label's examples are dealt in counted order.
fn folds(truths: &[usize], labels: usize, options: &Options) -> Vec<usize> {
    let mut folds = vec![0; truths.len()];
    for label in 0..labels {
        let mut own: Vec<usize> = (0..truths.len()).filter(|n| truths[*n] == label).collect();
        own.sort_by_key(|n| draw(options.seed, FOLDS, *n as u64));
        own.iter().enumerate().for_each(|(place, n)| folds[*n] = place % options.folds);
    }
    folds
}

/// Trains once for each fold on all others, and says what that makes of the fold.
pub(super) fn hold_out(
    examples: &[linear::Read],
    labels: &[String],
    options: &Options,
    watch: linear::Watch,
) -> Result<HeldOut, Error> {
    let truths: Vec<usize> = examples.iter().map(|e| e.label).collect();
    let folds = folds(&truths, labels.len(), options);
    let mut probabilities = vec![Vec::new(); examples.len()];
    for fold in 0..options.folds {
        let model = linear::fit(examples, labels, options, |n| folds[n] != fold, watch)?;
        for n in (0..examples.len()).filter(|n| folds[*n] == fold) {
            probabilities[n] = model.probabilities(&examples[n].features);
        }
    }
    Ok(HeldOut { probabilities, truths, folds })
}

/// Measures a way of training by cross-validation.
pub fn cross_validate(examples: &[Example], options: &Options) -> Result<Measured, Error> {
    options.validate()?;
    let labels = linear::labels(examples)?;
    let read = linear::read(examples, &labels, options);
    let held = hold_out(&read, &labels, options, &|_| Ok(()))?;
    Ok(summary(&held, &labels, examples, options))
}

/// What the folds that were held back say.
pub(super) fn summary(
    held: &HeldOut,
    labels: &[String],
    examples: &[Example],
    options: &Options,
) -> Measured {
    let lengths: Vec<f64> = examples.iter().map(|e| e.text.chars().count() as f64).collect();
    let truths = &held.truths;
    let right = |n: &usize| likeliest(&held.probabilities[*n]) == truths[*n];
    let share =
        |rows: &[usize]| rows.iter().filter(|n| right(n)).count() as f64 / rows.len().max(1) as f64;
    let (mut auc, mut length_auc, mut gain) = (Vec::new(), Vec::new(), Vec::new());
    for (label, name) in labels.iter().enumerate() {
        let scores: Vec<f64> = held.probabilities.iter().map(|p| f64::from(p[label])).collect();
        let all: Vec<usize> = (0..truths.len()).collect();
        let sign = if area(&lengths, truths, label, &all) < 0.5 { -1.0 } else { 1.0 };
        let signed: Vec<f64> = lengths.iter().map(|l| l * sign).collect();
        let by_score = |rows: &[usize]| area(&scores, truths, label, rows);
        let by_length = |rows: &[usize]| area(&signed, truths, label, rows);
        auc.push((name.clone(), figure(truths.len(), options.seed, by_score)));
        length_auc.push((name.clone(), figure(truths.len(), options.seed, by_length)));
        let gained = |rows: &[usize]| by_score(rows) - by_length(rows);
        gain.push((name.clone(), figure(truths.len(), options.seed, gained)));
    }
    let counts = (0..labels.len()).map(|l| truths.iter().filter(|t| **t == l).count());
    Measured {
        examples: truths.len(),
        accuracy: figure(truths.len(), options.seed, share),
        most_frequent: counts.max().unwrap_or(0) as f64 / truths.len().max(1) as f64,
        auc,
        length_auc,
        gain,
        brier: (brier(&held.probabilities, truths), brier(&calibrated(held, labels.len()), truths)),
    }
}

/// Number of the largest; the first of equals.
pub(super) fn likeliest(probabilities: &[f32]) -> usize {
    let order =
        |a: &usize, b: &usize| probabilities[*a].total_cmp(&probabilities[*b]).then(b.cmp(a));
    (0..probabilities.len()).max_by(order).unwrap_or(0)
}

/// Each fold calibrated by the others.
fn calibrated(held: &HeldOut, labels: usize) -> Vec<Vec<f32>> {
    let count = held.folds.iter().max().map_or(0, |f| f + 1);
    let curve = |fold: usize| {
        let others: Vec<usize> =
            (0..held.truths.len()).filter(|n| held.folds[*n] != fold).collect();
        let probabilities: Vec<Vec<f32>> =
            others.iter().map(|n| held.probabilities[*n].clone()).collect();
        let truths: Vec<usize> = others.iter().map(|n| held.truths[*n]).collect();
        Calibration::fit(&probabilities, &truths, labels)
    };
    let curves: Vec<Calibration> = (0..count).map(curve).collect();
    let rows = held.probabilities.iter().zip(&held.folds);
    rows.map(|(p, fold)| curves[*fold].apply(p)).collect()
}

pub(super) fn brier(probabilities: &[Vec<f32>], truths: &[usize]) -> f64 {
    let of = |(p, truth): (&Vec<f32>, &usize)| -> f64 {
        let distance = |(label, p): (usize, &f32)| {
            (f64::from(*p) - f64::from(u8::from(label == *truth))).powi(2)
        };
        p.iter().enumerate().map(distance).sum()
    };
    let sum: f64 = probabilities.iter().zip(truths).map(of).sum();
    sum / truths.len().max(1) as f64
}

fn figure(count: usize, seed: u64, of: impl Fn(&[usize]) -> f64) -> Figure {
    let all: Vec<usize> = (0..count).collect();
    let mut values: Vec<f64> = (0..RESAMPLES)
        .map(|resample| {
            let rows: Vec<usize> = (0..count as u64)
                .map(|n| (draw(seed, BOOTSTRAP + resample, n) % count as u64) as usize)
                .collect();
            of(&rows)
        })
        .filter(|value| value.is_finite())
        .collect();
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = (share * values.len() as f64) as usize;
        values.get(place.min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    };
    Figure { value: of(&all), interval: at(0.025)..at(0.975) }
}

/// Area under the curve of one label against the others: the share of pairs in the right order,
/// half of those that are equal.
fn area(scores: &[f64], truths: &[usize], label: usize, rows: &[usize]) -> f64 {
    let mut order: Vec<usize> = rows.to_vec();
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    let (mut below, mut sum, mut own) = (0f64, 0f64, 0f64);
    for equal in order.chunk_by(|a, b| scores[*a] == scores[*b]) {
        let mine = equal.iter().filter(|n| truths[**n] == label).count() as f64;
        let others = equal.len() as f64 - mine;
        sum += mine * (below + others / 2.0);
        below += others;
        own += mine;
    }
    sum / (own * below)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(scores: &[f64], truths: &[usize], expected: f64) {
        let rows: Vec<usize> = (0..truths.len()).collect();
        let found = area(scores, truths, 1, &rows);
        assert!((found - expected).abs() < 1e-12, "{found}");
    }

    #[test]
    fn areas_by_hand() {
        check(&[1.0, 2.0, 3.0, 4.0], &[0, 0, 1, 1], 1.0);
        check(&[1.0, 2.0, 3.0, 4.0], &[1, 1, 0, 0], 0.0);
        check(&[1.0, 1.0, 1.0, 1.0], &[1, 0, 0, 1], 0.5);
        check(&[1.0, 2.0, 3.0], &[0, 1, 0], 0.5);
    }

    #[test]
    fn folds_share_each_label_out() {
        let truths: Vec<usize> = (0..50).map(|n| usize::from(n % 5 == 0)).collect();
        let folds = folds(&truths, 2, &Options::default());
        for fold in 0..5 {
            let own = (0..50).filter(|n| folds[*n] == fold && truths[*n] == 1).count();
            assert_eq!(own, 2);
        }
    }

    #[test]
    fn an_interval_holds_its_value_and_shrinks() {
        let width = |count: usize| {
            let of = |rows: &[usize]| {
                rows.iter().filter(|n| **n % 2 == 0).count() as f64 / rows.len() as f64
            };
            let figure = figure(count, 3, of);
            assert!(figure.interval.contains(&figure.value), "{figure:?}");
            figure.interval.end - figure.interval.start
        };
        assert!(width(1000) < width(100) / 2.0);
    }
}
