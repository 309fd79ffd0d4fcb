//! Classifiers of documents: quality, kind of text, fields of knowledge.
//!
//! [`train`] learns from examples with labels ("would Wikipedia refer to this?", §3.1.2 of the
//! paper: positives against negatives), [`cross_validate`] says how good that is beside the length
//! of the text, [`Scorer`] applies what was trained here or a fastText model of the user's
//! ([`fasttext`]), [`Shares`] thins out what is too frequent, and [`Runs`] joins scores that somebody
//! else computed. Not here: transformers, which hand their scores over as files.

mod calibrate;
mod category;
mod examples;
pub mod fasttext;
mod features;
pub mod jobs;
mod join;
mod linear;
mod measure;
mod scorer;
mod sealed;

pub use calibrate::Calibration;
pub use category::{Shares, Thinning};
pub use examples::{Example, read_examples};
pub use join::{Lookup, Runs};
pub use linear::{Classifier, Options};
pub use measure::{Figure, Measured, cross_validate};
pub use scorer::{Scorer, Scoring};

use std::path::{Path, PathBuf};

/// What stops a classifier.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be opened, read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file that should hold a model.
    #[error("{path}: no usable classifier: {reason}")]
    Model {
        /// The file.
        path: PathBuf,
        /// What was found and expected.
        reason: String,
    },
    /// A line of examples.
    #[error("{path}, line {line}: {reason}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Number from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// An option that cannot be.
    #[error("classifier: {key}: found {found}, expected {expected}")]
    Option {
        /// Name of the option.
        key: &'static str,
        /// Value found.
        found: String,
        /// What is possible.
        expected: &'static str,
    },
    /// Examples from which nothing can be learned.
    #[error(
        "classifier: examples by label: [{found}]; expected 2 to 4,096 labels with at least 2 \
         examples each"
    )]
    Examples {
        /// Labels with their numbers.
        found: String,
    },
    /// A label that a classifier does not have.
    #[error("classifier: no label `{found}`; it has {labels}")]
    Label {
        /// The label asked for.
        found: String,
        /// Those that it has.
        labels: String,
    },
    /// Somebody asked to stop.
    #[error(transparent)]
    Cancelled(#[from] quipu_store::Cancelled),
    /// Documents, or a score file.
    #[error(transparent)]
    Documents(#[from] quipu_documents::Error),
    /// The durable layer refused.
    #[error(transparent)]
    Store(#[from] quipu_store::Error),
}

impl Error {
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
        move |source| Error::Io { path: path.to_owned(), source }
    }
}

/// Trains on all examples; probabilities are calibrated on examples held back, fold by fold.
pub fn train(examples: &[Example], options: &Options) -> Result<Classifier, Error> {
    Ok(train_watched(examples, options, &|_| Ok(()))?.0)
}

/// As [`train`] and [`cross_validate`] at once: the folds held back both calibrate and measure.
fn train_watched(
    examples: &[Example],
    options: &Options,
    watch: linear::Watch,
) -> Result<(Classifier, Measured), Error> {
    options.validate()?;
    let labels = linear::labels(examples)?;
    let read = linear::read(examples, &labels, options);
    let held = measure::hold_out(&read, &labels, options, watch)?;
    let mut model = linear::fit(&read, &labels, options, |_| true, watch)?;
    model.calibration = Calibration::fit(&held.probabilities, &held.truths, labels.len());
    let measured = measure::summary(&held, &labels, examples, options);
    Ok((model, measured))
}

#[cfg(test)]
mod tests;
