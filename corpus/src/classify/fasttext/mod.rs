//! Reads models of fastText (`.bin`, `.ftz`; versions 11 and 12) and asks them for labels.
//!
//! The classifier of the paper (§3.1.2) and of every public pipeline: the mean of the rows of a
//! text's words and n-grams, times a matrix of labels (Joulin et al., "Bag of Tricks for Efficient
//! Text Classification", 2016). The user brings the file: lid.176, GlotLID, a quality model. Not
//! the crate `fasttext` 0.8: it takes hierarchical softmax of quantised models (lid.176.ftz) for a
//! plain one, leaves the mark of the line's end out of word n-grams, and allocates what a damaged
//! header says. A file is read once and used where it lies; it is never believed. Not here:
//! training, which has its own form (`super::linear`); unsupervised models.

mod cursor;
mod dictionary;
mod matrix;
mod output;

use super::Error;
use cursor::Cursor;
pub(super) use dictionary::LABEL;
use dictionary::{Dictionary, Grams};
use matrix::Matrix;
use output::Output;
use std::path::Path;

const MAGIC: i32 = 793_712_314;
const SUPERVISED: i32 = 3;

/// A model as it stands in its file.
pub struct Model {
    file: Vec<u8>,
    dictionary: Dictionary,
    input: Matrix,
    output: Matrix,
    loss: Output,
}

/// The memory of one caller, so that reading a text allocates nothing.
#[derive(Default)]
pub struct Scratch {
    rows: Vec<u32>,
    mean: Vec<f32>,
}

impl Model {
    /// Reads a file; the error says what in it is not as expected.
    pub fn open(path: &Path) -> Result<Model, Error> {
        let file = std::fs::read(path).map_err(Error::io(path))?;
        let refused = |reason| Error::Model { path: path.to_owned(), reason };
        Model::parse(file).map_err(refused)
    }

    /// Whether a file begins as these models do.
    pub fn is_one(first_bytes: &[u8]) -> bool {
        first_bytes.starts_with(&MAGIC.to_le_bytes())
    }

    /// Takes the bytes of a model.
    pub fn parse(file: Vec<u8>) -> Result<Model, String> {
        let mut cursor = Cursor::new(&file);
        let magic = cursor.i32("the magic number")?;
        if magic != MAGIC {
            return Err(format!("not a fastText model: it begins with {magic}, not {MAGIC}"));
        }
        let version = cursor.i32("the version")?;
        if version != 11 && version != 12 {
            return Err(format!("fastText format version {version}, expected 11 or 12"));
        }
        let (width, loss, grams) = arguments(&mut cursor, version)?;
        let dictionary = Dictionary::read(&mut cursor, &file, grams)?;
        let quantised = cursor.flag("whether the input is quantised")?;
        if dictionary.is_pruned() && !quantised {
            return Err("n-grams were removed, but the matrix is not quantised".to_owned());
        }
        let input = Matrix::read(&mut cursor, quantised)?;
        let whole = cursor.flag("whether the output is quantised")?;
        let output = Matrix::read(&mut cursor, quantised && whole)?;
        if cursor.left() > 0 {
            return Err(format!("{} bytes after the last matrix", cursor.left()));
        }
        let rows = dictionary.rows()?;
        let labels = dictionary.labels.len();
        shaped("input", &input, rows, width)?;
        shaped("output", &output, labels, width)?;
        if labels == 0 {
            return Err("a model without labels".to_owned());
        }
        let loss = match loss {
            1 => Output::Tree(output::tree(&dictionary.counts)?),
            2 | 4 => Output::Alone,
            3 => Output::Softmax,
            other => {
                return Err(format!(
                    "loss {other}, expected 1 (hs), 2 (ns), 3 (softmax) or 4 (ova)"
                ));
            }
        };
        Ok(Model { file, dictionary, input, output, loss })
    }

    /// The labels, without their prefix, by number.
    pub fn labels(&self) -> &[String] {
        &self.dictionary.labels
    }

    /// The `most` likeliest labels of a text, by number, with their probabilities; none for a text
    /// without words.
    pub fn predict(&self, text: &str, most: usize, scratch: &mut Scratch) -> Vec<(usize, f32)> {
        let Scratch { rows, mean } = scratch;
        self.dictionary.rows_of(&self.file, text, rows);
        if rows.is_empty() {
            return Vec::new();
        }
        mean.clear();
        mean.resize(self.input.shape().1, 0.0);
        for row in rows.iter() {
            self.input.add(&self.file, *row as usize, mean);
        }
        let share = 1.0 / rows.len() as f32;
        mean.iter_mut().for_each(|number| *number *= share);
        self.loss.best(&self.output, &self.file, mean, self.labels().len(), most)
    }
}

/// Columns, loss, and what reading a text depends on.
fn arguments(cursor: &mut Cursor, version: i32) -> Result<(usize, i32, Grams), String> {
    let width = cursor.count32("the dimension")?;
    for what in ["the window", "the epochs", "the least count", "the negatives"] {
        cursor.i32(what)?;
    }
    let word_grams = cursor.count32("the word n-grams")?;
    let loss = cursor.i32("the loss")?;
    let model = cursor.i32("the kind of model")?;
    if model != SUPERVISED {
        return Err(format!(
            "a model of kind {model} (word vectors), expected {SUPERVISED} (supervised)"
        ));
    }
    let buckets = cursor.count32("the buckets")?;
    let shortest = cursor.count32("the shortest subword")?;
    let longest = cursor.count32("the longest subword")?;
    cursor.i32("the update rate")?;
    cursor.i64("the sampling threshold")?;
    // Version 11 wrote a length of subwords that its classifiers did not use.
    let longest = if version == 11 { 0 } else { longest };
    Ok((width, loss, Grams { word_grams, buckets, shortest, longest }))
}

fn shaped(name: &str, matrix: &Matrix, rows: usize, columns: usize) -> Result<(), String> {
    let found = matrix.shape();
    if found.0 >= rows && found.1 == columns {
        return Ok(());
    }
    Err(format!("the {name} matrix is {} x {}, expected {rows} x {columns}", found.0, found.1))
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::two_words;
