//! A linear classifier over the features of a text: training and application.
//!
//! Softmax regression with weight decay, by stochastic descent over examples in an order counted
//! from the seed; one thread, so that the same examples give the same bytes everywhere on one
//! instruction set. fastText's classifier without its hidden layer, which two to some dozen labels
//! do not need. Not here: its form at rest ([`super::sealed`]), how good it is
//! ([`super::measure`]).

use super::calibrate::Calibration;
use super::features::{self, Features, Look, SHAPE};
use super::{Error, Example};
use serde::{Deserialize, Serialize};

/// How a classifier is trained. The defaults are those of the measurements in LOG.md.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Buckets of hashed words, as a power of two: 10 to 24.
    pub bucket_bits: u32,
    /// Longest run of words that is a feature, 1 to 5.
    pub word_grams: usize,
    /// Words of a text that are read.
    pub most_words: usize,
    /// Weight of the shape of a text beside its words; 0 leaves it out.
    pub shape: f32,
    /// Passes over the examples.
    pub epochs: usize,
    /// Rate of the first step; it falls to zero in a line.
    pub rate: f32,
    /// Weight decay: strength of the prior that words say nothing, in examples.
    pub decay: f32,
    /// Parts of the examples of which each is held back once, to calibrate and to measure; 2 to 20.
    pub folds: usize,
    /// Seed of all orders.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            bucket_bits: 16,
            word_grams: 2,
            most_words: 4000,
            shape: 0.2,
            epochs: 30,
            rate: 1.0,
            decay: 1.0,
            folds: 5,
            seed: 1,
        }
    }
}

impl Options {
    pub(super) fn validate(&self) -> Result<(), Error> {
        let refuse = |key, found: String, expected| Err(Error::Option { key, found, expected });
        if !(10..=24).contains(&self.bucket_bits) {
            return refuse("bucket_bits", self.bucket_bits.to_string(), "10 to 24");
        }
        if !(1..=5).contains(&self.word_grams) {
            return refuse("word_grams", self.word_grams.to_string(), "1 to 5");
        }
        if !(2..=20).contains(&self.folds) {
            return refuse("folds", self.folds.to_string(), "2 to 20");
        }
        if self.epochs == 0 || self.most_words == 0 {
            return refuse("epochs, most_words", "0".into(), "1 or more");
        }
        let numbers = [("shape", self.shape), ("rate", self.rate), ("decay", self.decay)];
        for (key, number) in numbers {
            if !(number.is_finite() && number >= 0.0) {
                return refuse(key, number.to_string(), "a number from 0 on");
            }
        }
        Ok(())
    }

    fn look(&self) -> Look {
        Look { buckets: 1 << self.bucket_bits, grams: self.word_grams, words: self.most_words }
    }
}

/// A trained classifier.
#[derive(Clone, Debug, PartialEq)]
pub struct Classifier {
    pub(super) options: Options,
    /// Sorted.
    pub(super) labels: Vec<String>,
    /// Examples of each label that it saw.
    pub(super) counts: Vec<u64>,
    /// By bucket, then by label.
    pub(super) words: Vec<f32>,
    /// By number of the shape, then by label; the last row is the constant.
    pub(super) shape: Vec<f32>,
    /// Mean and spread of each number of the shape.
    pub(super) scale: Vec<(f32, f32)>,
    pub(super) calibration: Calibration,
}

/// An example that was read once.
pub(super) struct Read {
    pub features: Features,
    pub label: usize,
}

/// A counted random number.
pub(super) fn draw(seed: u64, stream: u64, index: u64) -> u64 {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&stream.to_le_bytes());
    bytes[16..].copy_from_slice(&index.to_le_bytes());
    xxhash_rust::xxh3::xxh3_64(&bytes)
}

/// The labels of examples, sorted, each once; at least two, each with two examples or more.
pub(super) fn labels(examples: &[Example]) -> Result<Vec<String>, Error> {
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    examples.iter().for_each(|e| *counts.entry(&e.label).or_default() += 1);
    if counts.len() < 2 || counts.len() > 4096 || counts.values().any(|n| *n < 2) {
        let shown: Vec<String> = counts.iter().take(8).map(|(l, n)| format!("{l}: {n}")).collect();
        return Err(Error::Examples { found: shown.join(", ") });
    }
    Ok(counts.into_keys().map(str::to_owned).collect())
}

pub(super) fn read(examples: &[Example], labels: &[String], options: &Options) -> Vec<Read> {
    let look = options.look();
    let read = |example: &Example| Read {
        features: features::of(&example.text, look),
        label: labels.binary_search(&example.label).unwrap_or(0),
    };
    examples.iter().map(read).collect()
}

/// Examples between two looks at who watches.
const LOOK: usize = 1024;

/// Who watches a training: hears how many examples were learned from, and may stop it.
pub(super) type Watch<'a> = &'a dyn Fn(u64) -> Result<(), Error>;

/// Trains on examples of which `used` says yes.
pub(super) fn fit(
    examples: &[Read],
    labels: &[String],
    options: &Options,
    used: impl Fn(usize) -> bool,
    watch: Watch,
) -> Result<Classifier, Error> {
    let chosen: Vec<usize> = (0..examples.len()).filter(|n| used(*n)).collect();
    let mut counts = vec![0; labels.len()];
    chosen.iter().for_each(|n| counts[examples[*n].label] += 1);
    let mut model = Classifier {
        options: options.clone(),
        labels: labels.to_vec(),
        counts,
        words: vec![0.0; (1 << options.bucket_bits) * labels.len()],
        shape: vec![0.0; (SHAPE + 1) * labels.len()],
        scale: scale(examples, &chosen),
        calibration: Calibration::none(labels.len()),
    };
    let steps = (chosen.len() * options.epochs) as f32;
    // All weights stand for themselves times this, so that decay touches none of them.
    let mut factor = 1f32;
    let mut step = 0f32;
    for epoch in 0..options.epochs as u64 {
        let mut order = chosen.clone();
        order.sort_by_key(|n| draw(options.seed, epoch, *n as u64));
        for some in order.chunks(LOOK) {
            for n in some {
                let rate = options.rate * (1.0 - step / steps);
                model.learn(&examples[*n], rate, &mut factor, chosen.len() as f32);
                step += 1.0;
            }
            watch(some.len() as u64)?;
        }
    }
    model.words.iter_mut().for_each(|w| *w *= factor);
    let constant = SHAPE * labels.len();
    model.shape[..constant].iter_mut().for_each(|w| *w *= factor);
    Ok(model)
}

/// Mean and spread of each number of the shape over examples.
fn scale(examples: &[Read], chosen: &[usize]) -> Vec<(f32, f32)> {
    let of = |number: usize| {
        let values = chosen.iter().map(|n| f64::from(examples[*n].features.shape[number]));
        let (mut sum, mut squares) = (0f64, 0f64);
        values.for_each(|v| {
            sum += v;
            squares += v * v;
        });
        let count = chosen.len().max(1) as f64;
        let mean = sum / count;
        let spread = (squares / count - mean * mean).max(0.0).sqrt();
        (mean as f32, if spread > 1e-6 { spread as f32 } else { 1.0 })
    };
    (0..SHAPE).map(of).collect()
}

impl Classifier {
    /// The labels, sorted; scores come in this order.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Examples of each label that it learned from.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// A calibrated probability for each label.
    pub fn scores(&self, text: &str) -> Vec<f32> {
        let features = features::of(text, self.options.look());
        self.calibration.apply(&self.probabilities(&features))
    }

    /// The probabilities that training saw.
    pub(super) fn probabilities(&self, features: &Features) -> Vec<f32> {
        let mut out = self.products(features, 1.0);
        softmax(&mut out);
        out
    }

    fn shape_of(&self, features: &Features) -> [f32; SHAPE] {
        let mut numbers = features.shape;
        for (number, (mean, spread)) in numbers.iter_mut().zip(&self.scale) {
            // Far from every example there is no more to be said than at the edge.
            *number = ((*number - mean) / spread).clamp(-4.0, 4.0) * self.options.shape;
        }
        numbers
    }

    fn products(&self, features: &Features, factor: f32) -> Vec<f32> {
        let count = self.labels.len();
        let mut out = vec![0f32; count];
        let mut add = |row: &[f32], by: f32| {
            out.iter_mut().zip(row).for_each(|(out, weight)| *out += weight * by);
        };
        for (bucket, weight) in &features.grams {
            let start = *bucket as usize * count;
            add(&self.words[start..start + count], weight * factor);
        }
        for (row, number) in self.shape.chunks(count).zip(self.shape_of(features)) {
            add(row, number * factor);
        }
        add(&self.shape[SHAPE * count..], 1.0);
        out
    }

    /// One step down the loss of one example.
    fn learn(&mut self, example: &Read, rate: f32, factor: &mut f32, examples: f32) {
        let count = self.labels.len();
        let mut errors = self.products(&example.features, *factor);
        softmax(&mut errors);
        errors[example.label] -= 1.0;
        *factor *= 1.0 - (rate * self.options.decay / examples).min(0.5);
        let step = rate / *factor;
        for (bucket, weight) in &example.features.grams {
            let row = &mut self.words[*bucket as usize * count..][..count];
            row.iter_mut().zip(&errors).for_each(|(w, e)| *w -= step * weight * e);
        }
        let numbers = self.shape_of(&example.features);
        for (row, number) in self.shape.chunks_mut(count).zip(numbers) {
            row.iter_mut().zip(&errors).for_each(|(w, e)| *w -= step * number * e);
        }
        let constant = &mut self.shape[SHAPE * count..];
        constant.iter_mut().zip(&errors).for_each(|(w, e)| *w -= rate * 0.1 * e);
        if *factor < 1e-6 {
            self.words.iter_mut().for_each(|w| *w *= *factor);
            self.shape[..SHAPE * count].iter_mut().for_each(|w| *w *= *factor);
            *factor = 1.0;
        }
    }
}

fn softmax(numbers: &mut [f32]) {
    let top = numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    numbers.iter_mut().for_each(|n| *n = (*n - top).exp());
    let sum: f32 = numbers.iter().sum();
    numbers.iter_mut().for_each(|n| *n /= sum);
}
