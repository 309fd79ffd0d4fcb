//! Applies a classifier, ours or fastText's, to texts.
//!
//! What it says of a document goes among its scores: `NAME` for the probability of one label
//! (quality), or `NAME/LABEL` for the likeliest label (fields of knowledge). Not here: what is done
//! with documents of low scores, which a recipe says.

use super::fasttext::{Model, Scratch};
use super::measure::likeliest;
use super::{Classifier, Error};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Which classifier, under which name, and what of it is written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scoring {
    /// The model: one that [`super::train`] made, or fastText's `.bin` or `.ftz`.
    pub model: PathBuf,
    /// Name of the score.
    pub name: String,
    /// The label whose probability is the score; without it the likeliest label is named.
    pub label: Option<String>,
}

enum Inner {
    Own(Box<Classifier>),
    Given(Box<Model>),
}

/// A classifier that is ready.
pub struct Scorer {
    inner: Inner,
    name: String,
    /// Number of the label that is asked for.
    label: Option<usize>,
}

impl Scorer {
    /// Reads the model, whichever kind its first bytes say it is.
    pub fn open(scoring: &Scoring) -> Result<Scorer, Error> {
        let path = &scoring.model;
        let mut first = Vec::new();
        let file = std::fs::File::open(path).map_err(Error::io(path))?;
        file.take(8).read_to_end(&mut first).map_err(Error::io(path))?;
        let inner = if Classifier::is_one(&first) {
            Inner::Own(Box::new(Classifier::open(path)?))
        } else if Model::is_one(&first) {
            Inner::Given(Box::new(Model::open(path)?))
        } else {
            return Err(unknown(path, &first));
        };
        let labels = match &inner {
            Inner::Own(own) => own.labels(),
            Inner::Given(given) => given.labels(),
        };
        let label = match &scoring.label {
            None => None,
            Some(name) => Some(labels.iter().position(|l| l == name).ok_or_else(|| {
                let shown: Vec<&str> = labels.iter().take(12).map(String::as_str).collect();
                Error::Label { found: name.clone(), labels: shown.join(", ") }
            })?),
        };
        Ok(Scorer { inner, name: scoring.name.clone(), label })
    }

    /// The score of a text with its name; none for a text in which nothing can be read.
    pub fn score(&self, text: &str, scratch: &mut Scratch) -> Option<(String, f32)> {
        match (&self.inner, self.label) {
            (Inner::Own(own), Some(label)) => Some((self.name.clone(), own.scores(text)[label])),
            (Inner::Own(own), None) => {
                let scores = own.scores(text);
                let best = likeliest(&scores);
                Some((format!("{}/{}", self.name, own.labels()[best]), scores[best]))
            }
            (Inner::Given(given), Some(label)) => {
                let found = given.predict(text, given.labels().len(), scratch);
                let score = found.into_iter().find(|(number, _)| *number == label)?.1;
                Some((self.name.clone(), score))
            }
            (Inner::Given(given), None) => {
                let (best, score) = *given.predict(text, 1, scratch).first()?;
                Some((format!("{}/{}", self.name, given.labels()[best]), score))
            }
        }
    }
}

fn unknown(path: &Path, first: &[u8]) -> Error {
    let shown = first.escape_ascii();
    Error::Model {
        path: path.to_owned(),
        reason: format!(
            "begins with `{shown}`, expected `quipuC01` (from `train`) or a fastText .bin or .ftz"
        ),
    }
}
