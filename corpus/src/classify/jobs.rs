//! What a command does with classifiers: train from files, calibrate anew, score documents.
//!
//! Plain options in, counts out; whoever reads flags calls these. Not here: the scores within a
//! curation, where a [`Scorer`] is asked page by page.

use super::fasttext::Scratch;
use super::measure::{self, Measured};
use super::{Calibration, Classifier, Error, Example, Options, Scorer, Scoring};
use super::{linear, read_examples, train};
use quipu_documents::Reader;
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
pub fn train_files(training: &Training) -> Result<Measured, Error> {
    let mut examples = Vec::new();
    for (path, label) in &training.inputs {
        examples.extend(read_examples(path, label.as_deref())?);
    }
    let measured = measure::cross_validate(&examples, &training.options)?;
    train(&examples, &training.options)?.save(&training.out)?;
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

/// Documents read and scored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Documents read.
    pub documents: u64,
    /// Of them with a score.
    pub scored: u64,
}

/// Scores the documents of a file or folder into a score file (JSON Lines), one after another.
pub fn score_documents(scoring: &Scoring, documents: &Path, out: &Path) -> Result<Applied, Error> {
    if out.extension().is_none_or(|e| e != "jsonl") {
        let found = out.display().to_string();
        return Err(Error::Option { key: "out", found, expected: "a name that ends in .jsonl" });
    }
    let scorer = Scorer::open(scoring)?;
    let mut applied = Applied::default();
    let mut scratch = Scratch::default();
    let mut failed = None;
    let written = quipu_store::atomic::write(out, |file| {
        let reader = Reader::open(documents).map_err(|e| stop(&mut failed, e))?;
        for document in reader {
            let document = document.map_err(|e| stop(&mut failed, e))?;
            applied.documents += 1;
            let Some((name, score)) = scorer.score(&document.text, &mut scratch) else { continue };
            applied.scored += 1;
            let id = document.id.to_string();
            let row = serde_json::json!({"id": id, "name": name, "score": score});
            serde_json::to_writer(&mut *file, &row)?;
            file.write_all(b"\n")?;
        }
        Ok(())
    });
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(written.map(|()| applied)?),
    }
}

/// Ends a write with an error of reading, which is told instead of the write's own.
fn stop(
    failed: &mut Option<quipu_documents::Error>,
    error: quipu_documents::Error,
) -> std::io::Error {
    *failed = Some(error);
    std::io::Error::other("the documents could not be read")
}
