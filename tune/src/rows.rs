//! Rows of one length packed from dialogues, with a document mask and loss on answers alone (paper,
//! section 4.1.3). Not the chat format, which `tokens` owns, and no cropping: a dialogue that does
//! not fit into a row is left out and counted.
//!
//! What the paper leaves open and is chosen here: all answers of a dialogue carry loss, the token
//! that ends the turn included (without it a model never learns to stop: trap D18 is that these
//! tokens were never seen in pre-training, so their embeddings must not be frozen either); rows
//! are packed best fit once, and read in another order each epoch.

use crate::Error;
use crate::dialogue::Dialogue;
use crate::order::Order;
use quipu_tokens::chat::Chat;
use quipu_tokens::{Packed, Tokenizer};
use quipu_train::Samples;
use quipu_train::watch::Outside;

/// Packed dialogues.
#[derive(Debug)]
pub struct Rows {
    rows: Vec<Packed>,
    order: Order,
    /// Dialogues in the rows.
    pub dialogues: usize,
    /// Dialogues left out because they are longer than a row.
    pub too_long: usize,
    /// Targets that carry loss, over all rows.
    pub targets: u64,
    identity: String,
}

/// Rows that are open for more dialogues at the same time.
const OPEN: usize = 64;

impl Rows {
    /// Encodes and packs dialogues into rows of `length` tokens.
    ///
    /// # Errors
    /// [`Error::Tokens`] where the tokenizer has no chat format, [`Error::Nothing`] where no
    /// dialogue fits.
    pub fn new(
        tokenizer: &Tokenizer,
        dialogues: &[Dialogue],
        length: usize,
        seed: u64,
    ) -> Result<Self, Error> {
        let chat = Chat::new(tokenizer)?;
        let filler = chat.dialogue(&[])?.ids[0];
        let mut encoded = Vec::with_capacity(dialogues.len());
        for dialogue in dialogues {
            encoded.push(chat.dialogue(&dialogue.messages)?);
        }
        let (mut rows, mut open): (Vec<Packed>, Vec<Packed>) = (Vec::new(), Vec::new());
        let (mut taken, mut too_long, mut targets) = (0, 0, 0);
        for at in Order::shuffled(encoded.len(), seed, u64::MAX) {
            let dialogue = &encoded[at as usize];
            let tokens = dialogue.len().saturating_sub(1);
            if tokens > length || tokens == 0 {
                too_long += usize::from(tokens > length);
                continue;
            }
            let room = |row: &Packed| length - row.tokens.len();
            let best = (0..open.len())
                .filter(|i| room(&open[*i]) >= tokens)
                .min_by_key(|i| room(&open[*i]));
            let row = best.unwrap_or_else(|| {
                open.push(Packed::default());
                open.len() - 1
            });
            push(&mut open[row], &dialogue.ids, &dialogue.answer);
            (taken, targets) = (taken + 1, targets + answers(&dialogue.answer));
            if open.len() > OPEN {
                let fullest = (0..open.len()).min_by_key(|i| room(&open[*i])).unwrap_or(0);
                rows.push(open.remove(fullest));
            }
        }
        rows.extend(open);
        for row in &mut rows {
            row.pad(length, filler, filler);
        }
        if rows.is_empty() {
            return Err(Error::Nothing {
                found: format!("none of {} dialogues fits into {length} tokens", dialogues.len()),
                change: "use a longer sequence_length, or shorter dialogues",
            });
        }
        let identity = identity(&rows, seed);
        let order = Order::new(rows.len(), seed);
        Ok(Self { rows, order, dialogues: taken, too_long, targets, identity })
    }

    /// Number of rows: samples of an epoch.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.rows.len() as u64
    }

    /// Never: there is at least one row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

fn answers(mask: &[bool]) -> u64 {
    mask.iter().skip(1).filter(|m| **m).count() as u64
}

/// Appends a dialogue as a document of its own; its last token is a target only.
fn push(row: &mut Packed, ids: &[u32], answer: &[bool]) {
    let start = row.tokens.len() as u32;
    for t in 0..ids.len() - 1 {
        row.tokens.push(ids[t]);
        row.targets.push(ids[t + 1]);
        row.positions.push(t as u32);
        row.starts.push(start);
        row.weights.push(if answer[t + 1] { 1.0 } else { 0.0 });
    }
}

fn identity(rows: &[Packed], seed: u64) -> String {
    let mut bytes = seed.to_le_bytes().to_vec();
    for row in rows {
        bytes.extend(row.tokens.iter().flat_map(|id| id.to_le_bytes()));
        bytes.extend(row.weights.iter().map(|w| *w as u8));
    }
    format!("dialogues {}", quipu_store::checksum::xxh3_bytes(&bytes))
}

impl Samples for Rows {
    fn sample(&self, index: u64) -> Result<Packed, Outside> {
        Ok(self.rows[self.order.at(index)].clone())
    }

    fn identity(&self) -> String {
        self.identity.clone()
    }
}
