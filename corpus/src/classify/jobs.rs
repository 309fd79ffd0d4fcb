//! What a command does with classifiers: train from files, calibrate anew, score documents.
//!
//! Plain options in, counts out; whoever reads flags calls these. Not here: the scores within a
//! curation, where a [`Scorer`] is asked page by page.

use super::fasttext::Scratch;
use super::measure::{self, Measured};
use super::{Calibration, Classifier, Error, Example, Options, Scorer, Scoring};
use super::{linear, read_examples, train_watched};
use quipu_documents::{Document, Reader};
use quipu_store::{Cancel, Progress};
use rayon::prelude::*;
use std::path::{Path, PathBuf};

/// Files of examples and where the classifier goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Training {
    /// Files, each with the label of all its texts, or none where every line has its own.
    pub inputs: Vec<(PathBuf, Option<String>)>,
    /// The classifier.
    pub out: PathBuf,
    /// How it is trained.
    pub options: Options,
}

/// Measures by cross-validation, trains on everything, calibrates, and saves.
///
/// # Errors
/// Examples that cannot be read, or are of one label only; options that cannot be; a full disk; a
/// request to stop, which leaves nothing.
pub fn train_files(
    training: &Training,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Measured, Error> {
    let examples = read_all(&training.inputs)?;
    // Each fold is trained without a part of as many as there are folds, then all are one more.
    let passes = training.options.epochs.saturating_mul(training.options.folds);
    progress.begin("training on examples", (examples.len().saturating_mul(passes)) as u64);
    let watch = |examples: u64| {
        progress.advance(examples);
        Ok(cancel.check()?)
    };
    let trained = train_watched(&examples, &training.options, &watch);
    progress.finish("");
    let (model, measured) = trained?;
    model.save(&training.out)?;
    Ok(measured)
}

/// Mean squared distance of probabilities from the truth, before and after calibrating.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recalibrated {
    /// With the calibration that the classifier had.
    pub before: f64,
    /// With the new one, on the examples that it was fitted to.
    pub after: f64,
}

/// Fits the probabilities of a classifier to examples that it has not learned from.
pub fn calibrate(model: &mut Classifier, examples: &[Example]) -> Result<Recalibrated, Error> {
    let mut truths = Vec::with_capacity(examples.len());
    for example in examples {
        let number = model.labels.binary_search(&example.label).map_err(|_| Error::Label {
            found: example.label.clone(),
            labels: model.labels.join(", "),
        })?;
        truths.push(number);
    }
    if truths.is_empty() {
        return Err(Error::Examples { found: String::new() });
    }
    let read = linear::read(examples, &model.labels, &model.options);
    let raw: Vec<Vec<f32>> = read.iter().map(|e| model.probabilities(&e.features)).collect();
    let brier = |calibration: &Calibration| {
        let applied: Vec<Vec<f32>> = raw.iter().map(|p| calibration.apply(p)).collect();
        measure::brier(&applied, &truths)
    };
    let before = brier(&model.calibration);
    model.calibration = Calibration::fit(&raw, &truths, model.labels.len());
    Ok(Recalibrated { before, after: brier(&model.calibration) })
}

/// Calibrates the classifier of a file anew into another file.
///
/// # Errors
/// A file that is no classifier of ours; examples that cannot be read, or of a label that it does
/// not have; a full disk.
pub fn calibrate_file(
    model: &Path,
    inputs: &[(PathBuf, Option<String>)],
    out: &Path,
) -> Result<Recalibrated, Error> {
    let mut classifier = Classifier::open(model)?;
    let fitted = calibrate(&mut classifier, &read_all(inputs)?)?;
    classifier.save(out)?;
    Ok(fitted)
}

fn read_all(inputs: &[(PathBuf, Option<String>)]) -> Result<Vec<Example>, Error> {
    let mut examples = Vec::new();
    for (path, label) in inputs {
        examples.extend(read_examples(path, label.as_deref())?);
    }
    Ok(examples)
}

/// Documents read and scored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Documents read.
    pub documents: u64,
    /// Of them with a score.
    pub scored: u64,
}

/// Documents that are scored at a time, by all cores.
const BATCH: usize = 512;

/// Scores the documents of a file or folder into a score file (JSON Lines), in their order.
///
/// # Errors
/// A model or documents that cannot be read; a full disk; a request to stop, which leaves nothing.
pub fn score_documents(
    scoring: &Scoring,
    documents: &Path,
    out: &Path,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Applied, Error> {
    if out.extension().is_none_or(|e| e != "jsonl") {
        let found = out.display().to_string();
        return Err(Error::Option { key: "out", found, expected: "a name that ends in .jsonl" });
    }
    let scorer = Scorer::open(scoring)?;
    let mut reader = Reader::open(documents)?;
    let mut applied = Applied::default();
    let mut failed = None;
    progress.begin_bytes("scoring text", 0);
    let written = quipu_store::atomic::write(out, |file| {
        loop {
            let next = cancel.check().map_err(Error::from).and_then(|()| {
                Ok(reader.by_ref().take(BATCH).collect::<Result<Vec<Document>, _>>()?)
            });
            let batch = match next {
                Ok(batch) if batch.is_empty() => return Ok(()),
                Ok(batch) => batch,
                Err(error) => {
                    // Told instead of the write's own error, which only ends it.
                    failed = Some(error);
                    return Err(std::io::Error::other("the documents could not be read"));
                }
            };
            let score = |scratch: &mut Scratch, document: &Document| {
                Some((document.known_as(), scorer.score(&document.text, scratch)?))
            };
            let scores: Vec<_> = batch.par_iter().map_init(Scratch::default, score).collect();
            for (id, (name, score)) in scores.into_iter().flatten() {
                applied.scored += 1;
                let row = serde_json::json!({"id": id.to_string(), "name": name, "score": score});
                serde_json::to_writer(&mut *file, &row)?;
                file.write_all(b"\n")?;
            }
            applied.documents += batch.len() as u64;
            progress.count(batch.len() as u64, "documents");
            progress.advance(batch.iter().map(|d| d.text.len() as u64).sum());
        }
    });
    progress.finish("");
    match failed {
        Some(error) => Err(error),
        None => Ok(written.map(|()| applied)?),
    }
}
