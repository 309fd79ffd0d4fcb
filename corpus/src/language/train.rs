//! Makes the identifier's weights from texts of known language.
//!
//! A gram weighs in a language what its frequency there is above a floor, in logarithms. The same
//! texts give the same bytes. Run:
//! `cargo run --release -p quipu-corpus --example train_language -- ../shared/data`. Not here: how
//! good it is ([`super::evaluate`]).

use super::grams::{self, BUCKETS};
use super::model::{LETTERS, Language, Model, STEP, Tally, each_step};
use super::rows::Rows;
use super::texts::{Corpus, Texts};
use crate::Error;
use std::path::Path;

/// Frequency below which a gram says nothing.
const FLOOR: f64 = 4e-6;
/// Of so many paragraphs one is kept back to measure what texts of a language usually reach.
const KEPT: usize = 10;

/// The weights that the texts in a folder give; it holds `text-multilingual` and `html-udhr`.
pub fn train(data: &Path) -> Result<Vec<u8>, Error> {
    let corpus = Corpus::read(data)?;
    learn(&corpus.taught(|_| false)).encode().map_err(Error::io(data))
}

/// Learns from all texts what the doors are by learning from nine of ten.
pub(super) fn learn(texts: &Texts) -> Model {
    let (taught, kept) = split(texts);
    let mut measured = fit(&taught);
    usual(&mut measured, &kept);
    Model { languages: measured.languages, ..fit(texts) }
}

/// Paragraphs to learn from, and those kept back.
fn split(texts: &Texts) -> (Texts, Texts) {
    let part = |kept: bool| {
        let of = |list: &Vec<String>| -> Vec<String> {
            let chosen = list.iter().enumerate().filter(|(n, _)| (n % KEPT == KEPT - 1) == kept);
            chosen.map(|(_, text)| text.clone()).collect()
        };
        texts.iter().map(|(name, list)| (name.clone(), of(list))).collect()
    };
    (part(false), part(true))
}

fn fit(texts: &Texts) -> Model {
    let mut rows = Rows::zero();
    for (number, list) in texts.values().enumerate() {
        let mut counts = vec![0u32; BUCKETS];
        let mut total = 0u64;
        for text in list {
            grams::each(text, |bucket, _| {
                counts[usize::from(bucket)] += 1;
                total += 1;
            });
        }
        for (bucket, count) in counts.iter().enumerate().filter(|(_, c)| **c > 0) {
            // One sighting is believed less than its frequency says.
            let frequency = (f64::from(*count) - 0.4) / total as f64;
            let weight = ((frequency / FLOOR).ln() / f64::from(STEP)).round().clamp(0.0, 255.0);
            *rows.weight(bucket, number) = weight as u8;
        }
    }
    let unknown = |name: &String| Language { name: name.clone(), usual: 0.0, spread: 1.0 };
    let languages = texts.keys().map(unknown).collect();
    Model { languages, rows, bigrams: bigrams(texts) }
}

/// What texts of each language reach, measured on the paragraphs kept back.
fn usual(model: &mut Model, kept: &Texts) {
    for (number, name) in kept.keys().enumerate() {
        let means: Vec<f32> = kept[name]
            .iter()
            .filter_map(|text| {
                let mut tally = Tally::new();
                model.count(text, &mut tally);
                model.vote(&tally)
            })
            .filter(|vote| vote.language == number)
            .map(|vote| vote.mean)
            .collect();
        if means.is_empty() {
            continue;
        }
        let mean = means.iter().sum::<f32>() / means.len() as f32;
        let squares = means.iter().map(|m| (m - mean) * (m - mean)).sum::<f32>();
        model.languages[number].usual = mean;
        model.languages[number].spread = (squares / means.len() as f32).sqrt();
    }
}

/// Surprise of letters after letters, over all languages of Latin script alike.
fn bigrams(texts: &Texts) -> Vec<u8> {
    let mut counts = vec![0.5f64; LETTERS * LETTERS];
    for list in texts.values() {
        let mut own = vec![0f64; LETTERS * LETTERS];
        let mut total = 0f64;
        for text in list {
            each_step(text, |from, to| {
                own[from * LETTERS + to] += 1.0;
                total += 1.0;
            });
        }
        if total > 10_000.0 {
            counts.iter_mut().zip(&own).for_each(|(c, o)| *c += o / total * 100_000.0);
        }
    }
    let rows: Vec<f64> = counts.chunks(LETTERS).map(|row| row.iter().sum()).collect();
    let steps = |(n, count): (usize, &f64)| {
        let surprise = -(count / rows[n / LETTERS]).ln();
        (surprise / f64::from(STEP)).round().clamp(0.0, 255.0) as u8
    };
    counts.iter().enumerate().map(steps).collect()
}
