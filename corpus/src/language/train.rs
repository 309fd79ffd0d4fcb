//! Makes the identifier's weights from texts of known language.
//!
//! Articles in 29 languages, and for some forty more what the Universal Declaration of Human Rights
//! has; each tenth paragraph is kept back to measure. The same texts give the same bytes. Run:
//! `cargo run --release -p quipu-corpus --example train_language -- ../shared/data`.

use super::grams::{self, BUCKETS};
use super::model::{LETTERS, Language, Model, STEP, each_step};
use crate::Error;
use crate::input::markdown;
use std::collections::BTreeMap;
use std::path::Path;

/// Languages of which only the Declaration is at hand and that a crawl is likely to hold.
const FURTHER: [&str; 44] = [
    "af", "az", "bs", "ca", "cs", "cy", "eo", "et", "eu", "fi", "gu", "hy", "is", "ka", "kk", "km",
    "kn", "ku", "ky", "la", "lb", "lg", "lt", "lv", "mi", "ml", "mr", "oc", "om", "pa", "rm", "rn",
    "sk", "sl", "so", "sr", "sv", "ti", "tk", "tl", "tt", "ur", "vi", "yo",
];
/// Entries of a bucket that are kept.
const MOST_ENTRIES: usize = 255;
/// Frequency below which a gram says nothing.
const FLOOR: f64 = 4e-6;

/// What training measured on the paragraphs that it kept back.
#[derive(Debug, Default)]
pub struct Measured {
    /// Macro F1 over the languages that have articles, by paragraph.
    pub macro_f1: f64,
    /// The same by article (those kept back in a second training).
    pub paragraphs: usize,
    /// Share of paragraphs called `other`.
    pub unknown: f64,
    /// Confusions, most frequent first.
    pub confused: Vec<(String, String, usize)>,
}

type Texts = BTreeMap<String, Vec<String>>;

/// Trains on a folder that holds `text-multilingual` and `html-udhr`; returns the weights and what
/// was measured.
pub fn train(data: &Path) -> Result<(Vec<u8>, Measured), Error> {
    let mut texts = articles(&data.join("text-multilingual"))?;
    let main: Vec<String> = texts.keys().cloned().collect();
    declaration(&data.join("html-udhr"), &mut texts)?;
    let (taught, kept) = split(&texts);
    let measured = measure(&fit(&taught, &kept), &main, &kept);
    let model = fit(&texts, &kept);
    let bytes = model.encode().map_err(Error::io(data))?;
    Ok((bytes, measured))
}

fn sorted(dir: &Path) -> Result<Vec<std::path::PathBuf>, Error> {
    let entries = std::fs::read_dir(dir).map_err(Error::io(dir))?;
    let paths: Result<Vec<_>, _> = entries.map(|e| e.map(|e| e.path())).collect();
    let mut paths = paths.map_err(Error::io(dir))?;
    paths.sort();
    Ok(paths)
}

fn articles(dir: &Path) -> Result<Texts, Error> {
    let mut texts = Texts::new();
    for folder in sorted(dir)?.iter().filter(|p| p.is_dir()) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for file in sorted(folder)? {
            let text = std::fs::read_to_string(&file).map_err(Error::io(&file))?;
            let plain = markdown::strip(&text).text;
            texts.entry(name.clone()).or_default().extend(paragraphs(&plain));
        }
    }
    Ok(texts)
}

fn paragraphs(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().map(str::trim).filter(|l| l.chars().count() >= 40).map(str::to_owned)
}

fn declaration(dir: &Path, texts: &mut Texts) -> Result<(), Error> {
    for file in sorted(dir)?.iter().filter(|p| p.extension().is_some_and(|e| e == "html")) {
        let html = std::fs::read_to_string(file).map_err(Error::io(file))?;
        let tag =
            html.split("lang=\"").nth(1).and_then(|t| t.split('"').next()).unwrap_or_default();
        let primary = tag.split('-').next().unwrap_or_default();
        let known = primary == tag && texts.contains_key(tag);
        if !known && !FURTHER.contains(&primary) {
            continue;
        }
        let plain: String =
            html.split('<').filter_map(|p| p.split_once('>')).map(|p| p.1).collect();
        let lines = plain.lines().map(str::trim).filter(|l| l.chars().count() >= 40);
        texts.entry(primary.to_owned()).or_default().extend(lines.map(str::to_owned));
    }
    Ok(())
}

/// Nine paragraphs of ten to learn from, and the tenth.
fn split(texts: &Texts) -> (Texts, Texts) {
    let part = |kept: bool| {
        let of = |list: &Vec<String>| -> Vec<String> {
            let chosen = list.iter().enumerate().filter(|(n, _)| (n % 10 == 9) == kept);
            chosen.map(|(_, text)| text.clone()).collect()
        };
        texts.iter().map(|(name, list)| (name.clone(), of(list))).collect()
    };
    (part(false), part(true))
}

fn fit(texts: &Texts, kept: &Texts) -> Model {
    let mut by_bucket: Vec<Vec<(u8, u8)>> = vec![Vec::new(); BUCKETS];
    for (number, list) in texts.values().enumerate() {
        let mut counts = vec![0u32; BUCKETS];
        let mut total = 0u64;
        for text in list {
            grams::each(text, |bucket, _| {
                counts[bucket] += 1;
                total += 1;
            });
        }
        for (bucket, count) in counts.iter().enumerate().filter(|(_, c)| **c > 0) {
            // One sighting is believed less than its frequency says.
            let frequency = (f64::from(*count) - 0.4) / total as f64;
            let weight = ((frequency / FLOOR).ln() / f64::from(STEP)).round().clamp(0.0, 255.0);
            if weight > 0.0 {
                by_bucket[bucket].push((number as u8, weight as u8));
            }
        }
    }
    let (mut starts, mut entries) = (vec![0], Vec::new());
    for mut list in by_bucket {
        list.truncate(MOST_ENTRIES);
        entries.extend(list);
        starts.push(entries.len() as u32);
    }
    let unknown = |name: &String| Language { name: name.clone(), usual: 0.0, spread: 1.0 };
    let languages = texts.keys().map(unknown).collect();
    let mut model = Model { languages, starts, entries, bigrams: bigrams(texts) };
    usual(&mut model, kept);
    model
}

/// What texts of each language reach, measured on the paragraphs kept back.
fn usual(model: &mut Model, kept: &Texts) {
    for (number, name) in kept.keys().enumerate() {
        let means: Vec<f32> = kept[name]
            .iter()
            .filter_map(|text| model.vote(text))
            .filter(|(best, _, _)| *best == number)
            .map(|(_, _, mean)| mean)
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

fn measure(model: &Model, main: &[String], kept: &Texts) -> Measured {
    let mut out = Measured::default();
    let mut confusions: BTreeMap<(String, String), usize> = BTreeMap::new();
    let (mut right, mut given, mut unknown) =
        (BTreeMap::<String, f64>::new(), BTreeMap::<String, f64>::new(), 0);
    for name in main {
        for text in &kept[name] {
            let found = match model.guess_name(text) {
                Some(found) => found,
                None => {
                    unknown += 1;
                    "other".to_owned()
                }
            };
            out.paragraphs += 1;
            *given.entry(found.clone()).or_default() += 1.0;
            if found == *name {
                *right.entry(found).or_default() += 1.0;
            } else {
                *confusions.entry((name.clone(), found)).or_default() += 1;
            }
        }
    }
    let of = |map: &BTreeMap<String, f64>, name: &String| map.get(name).copied().unwrap_or(0.0);
    let f1 = |name: &String| 2.0 * of(&right, name) / (of(&given, name) + kept[name].len() as f64);
    out.macro_f1 = main.iter().map(f1).sum::<f64>() / main.len() as f64;
    out.unknown = f64::from(unknown) / out.paragraphs as f64;
    out.confused = confusions.into_iter().map(|((a, b), n)| (a, b, n)).collect();
    out.confused.sort_by_key(|(_, _, n)| std::cmp::Reverse(*n));
    out
}

impl Model {
    fn guess_name(&self, text: &str) -> Option<String> {
        self.near(text).ok().map(|(number, _)| self.languages[number].name.clone())
    }
}
