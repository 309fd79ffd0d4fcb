//! One micro-batch: packed rows of tokens, with document borders as numbers beside them.
//! Batch rows are document borders too, so nothing here has a batch dimension. It is not where
//! documents come from, and it does not shift targets: whoever packs does.

use crate::Error;
use crate::config::Config;

/// Borrowed host numbers of one micro-batch; all four lists have one number a token.
#[derive(Clone, Copy, Debug)]
pub struct MicroBatch<'a> {
    /// Token ids.
    pub tokens: &'a [u32],
    /// The token each row predicts; any valid id where its weight is zero.
    pub targets: &'a [u32],
    /// Offset of each token in its document: the rotary position.
    pub positions: &'a [u32],
    /// First row that each row may see: where its document begins in this micro-batch.
    pub starts: &'a [u32],
}

impl MicroBatch<'_> {
    /// Checks lengths and ranges.
    ///
    /// # Errors
    /// The first number that does not fit, and where it stands.
    pub fn validate(
        &self,
        config: &Config,
        capacity: usize,
        positions: usize,
    ) -> Result<(), Error> {
        let n = self.tokens.len();
        if n == 0 || n > capacity {
            return Err(Error::Call {
                what: "number of tokens in the micro-batch",
                found: n.to_string(),
                expected: format!("1 to {capacity}, the capacity the model was made with"),
            });
        }
        let lists = [
            ("tokens", self.tokens, config.vocab_size),
            ("targets", self.targets, config.vocab_size),
            ("positions", self.positions, positions),
            ("starts", self.starts, n),
        ];
        for (what, list, limit) in lists {
            if list.len() != n {
                let (found, expected) =
                    (format!("{} long", list.len()), format!("{n} long, as tokens"));
                return Err(Error::Call { what, found, expected });
            }
            if let Some(row) = list.iter().position(|x| *x as usize >= limit) {
                let found = format!("{} at row {row}", list[row]);
                return Err(Error::Call { what, found, expected: format!("less than {limit}") });
            }
        }
        match (0..n).find(|row| self.starts[*row] as usize > *row) {
            None => Ok(()),
            Some(row) => Err(Error::Call {
                what: "starts",
                found: format!("{} at row {row}", self.starts[row]),
                expected: "at most its own row".into(),
            }),
        }
    }
}

/// Owned numbers of a micro-batch, with ways to build them from documents.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    /// As [`MicroBatch::tokens`].
    pub tokens: Vec<u32>,
    /// As [`MicroBatch::targets`].
    pub targets: Vec<u32>,
    /// As [`MicroBatch::positions`].
    pub positions: Vec<u32>,
    /// As [`MicroBatch::starts`].
    pub starts: Vec<u32>,
    /// 1 where the row has a target inside its document, else 0.
    pub has_target: Vec<bool>,
}

impl Packed {
    /// Appends a document; each token predicts the next one, the last predicts nothing.
    pub fn push(&mut self, document: &[u32]) {
        let start = self.tokens.len() as u32;
        for (i, token) in document.iter().enumerate() {
            self.tokens.push(*token);
            self.targets.push(document.get(i + 1).copied().unwrap_or(0));
            self.positions.push(i as u32);
            self.starts.push(start);
            self.has_target.push(i + 1 < document.len());
        }
    }

    /// The micro-batch of these documents.
    pub fn of<'d>(documents: impl IntoIterator<Item = &'d [u32]>) -> Packed {
        let mut packed = Packed::default();
        documents.into_iter().for_each(|document| packed.push(document));
        packed
    }

    /// Borrows it.
    pub fn view(&self) -> MicroBatch<'_> {
        MicroBatch {
            tokens: &self.tokens,
            targets: &self.targets,
            positions: &self.positions,
            starts: &self.starts,
        }
    }

    /// Rows that have a target.
    pub fn target_count(&self) -> usize {
        self.has_target.iter().filter(|has| **has).count()
    }

    /// The weights that make the objective minus the mean loss over the rows with a target:
    /// −1/N each, so that `backward` accumulates the gradients of the mean loss.
    pub fn mean_loss_weights(&self) -> Vec<f64> {
        let each = -1.0 / self.target_count().max(1) as f64;
        self.has_target.iter().map(|has| if *has { each } else { 0.0 }).collect()
    }
}
