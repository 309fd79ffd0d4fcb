//! Preference optimisation as an objective of the trainer's loop: pairs as tokens with their
//! masks, log-probabilities of the frozen model (the result of fine-tuning) cached before the
//! first step, both answers of a pair in one micro-batch. The arithmetic stands in [`crate::dpo`].
//!
//! A sample of the recipe is a pair here, in a row of at most `sequence_length` tokens that holds
//! both answers, each with its own copy of the prompt as a document; rows are not filled up.

use crate::Error;
use crate::dialogue::Preference;
use crate::dpo::{self, Answer, Loss, Weights};
use crate::order::Order;
use quipu_mesh::placement::Sum;
use quipu_mesh::{Axis, Mesh, Use};
use quipu_model::{Config, Model, Weighted};
use quipu_tokens::chat::{Chat, Message};
use quipu_tokens::{Packed, Tokenizer};
use quipu_train::metrics::Validation;
use quipu_train::objective::{Batch, Objective, Outcome, log_probs, shares};
use quipu_train::{Error as TrainError, Recipe};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// An answer with its prompt, as a document.
#[derive(Clone, Debug, Default, PartialEq)]
struct Side {
    row: Packed,
    /// Whether each target counts in the preference term: of the answer, and not form.
    preference: Vec<bool>,
    /// Whether it counts in the likelihood term: of the answer, its end included.
    likelihood: Vec<bool>,
}

/// Sums of log-probabilities under the frozen model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// Of the chosen answer's counted tokens, nats.
    pub chosen: f64,
    /// Of the rejected one's.
    pub rejected: f64,
}

/// Encoded pairs.
#[derive(Debug)]
pub struct Pairs {
    sides: Vec<[Side; 2]>,
    /// Pairs left out because both answers have the same counted tokens.
    pub same: usize,
    /// Pairs left out because they do not fit into a row.
    pub too_long: usize,
    identity: String,
}

impl Pairs {
    /// Encodes pairs; a row has room for `length` tokens.
    ///
    /// # Errors
    /// [`Error::Tokens`] where the tokenizer has no chat format, [`Error::Nothing`] where no pair
    /// is left.
    pub fn new(
        tokenizer: &Tokenizer,
        preferences: &[Preference],
        length: usize,
    ) -> Result<Self, Error> {
        let chat = Chat::new(tokenizer)?;
        let (mut sides, mut same, mut too_long) = (Vec::new(), 0, 0);
        for preference in preferences {
            let prompt = chat.prompt(&preference.messages)?.len();
            let [chosen, rejected] = preference.sides();
            let (chosen, rejected) =
                (side(&chat, &chosen, prompt)?, side(&chat, &rejected, prompt)?);
            if chosen.counted() == rejected.counted() {
                same += 1;
            } else if chosen.row.tokens.len() + rejected.row.tokens.len() > length {
                too_long += 1;
            } else {
                sides.push([chosen, rejected]);
            }
        }
        if sides.is_empty() {
            return Err(nothing(preferences.len(), same, too_long, length));
        }
        let identity = identity(&sides);
        Ok(Self { sides, same, too_long, identity })
    }

    /// Number of pairs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sides.len()
    }

    /// Never: there is at least one pair.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sides.is_empty()
    }

    /// What distinguishes these pairs from others.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The log-probabilities of all pairs under `model`, which is not changed: a model with room
    /// for a row.
    ///
    /// # Errors
    /// What the model reports.
    pub fn reference(&self, model: &mut Model) -> Result<Vec<Reference>, Error> {
        let mut found = Vec::with_capacity(self.len());
        for sides in &self.sides {
            let batch = batch(&[sides]);
            model.forward(0, &batch.view()).map_err(TrainError::from)?;
            let logps = model.log_probs(0).map_err(TrainError::from)?;
            let (of_chosen, of_rejected) = logps.split_at(sides[0].preference.len());
            found.push(Reference {
                chosen: dpo::masked_sum(of_chosen, &sides[0].preference),
                rejected: dpo::masked_sum(of_rejected, &sides[1].preference),
            });
        }
        Ok(found)
    }

    /// As [`Pairs::reference`], kept in the file `cache` so that a resumed run does not compute it
    /// again. `frozen` names the frozen model; a file of other pairs or another model is replaced.
    ///
    /// # Errors
    /// Those of `model`, of the store, and what the model reports.
    pub fn cached_reference(
        &self,
        cache: &Path,
        frozen: &str,
        model: impl FnOnce() -> Result<Model, Error>,
    ) -> Result<Vec<Reference>, Error> {
        let key = format!("{} {frozen}", self.identity);
        let kept = std::fs::read(cache).ok();
        let kept = kept.and_then(|bytes| serde_json::from_slice::<Cache>(&bytes).ok());
        if let Some(kept) = kept.filter(|kept| kept.key == key && kept.pairs.len() == self.len()) {
            return Ok(kept.pairs);
        }
        let pairs = self.reference(&mut model()?)?;
        let new = Cache { key, pairs };
        quipu_store::atomic::write(cache, |out| Ok(serde_json::to_writer(out, &new)?))
            .map_err(TrainError::from)?;
        Ok(new.pairs)
    }
}

#[derive(Serialize, Deserialize)]
struct Cache {
    key: String,
    pairs: Vec<Reference>,
}

impl Side {
    /// The tokens that count in the preference term.
    fn counted(&self) -> Vec<u32> {
        let targets = self.row.targets.iter().zip(&self.preference);
        targets.filter(|(_, counts)| **counts).map(|(id, _)| *id).collect()
    }
}

/// Encodes a dialogue whose last message is an answer that begins at token `prompt`.
fn side(chat: &Chat<'_>, messages: &[Message], prompt: usize) -> Result<Side, Error> {
    let dialogue = chat.dialogue(messages)?;
    let mut side = Side::default();
    for t in 0..dialogue.len() - 1 {
        side.row.tokens.push(dialogue.ids[t]);
        side.row.targets.push(dialogue.ids[t + 1]);
        side.row.positions.push(t as u32);
        side.row.starts.push(0);
        side.row.weights.push(0.0);
        let answers = t + 1 >= prompt && dialogue.answer[t + 1];
        side.preference.push(answers && !dialogue.format[t + 1]);
        side.likelihood.push(answers);
    }
    Ok(side)
}

fn identity(sides: &[[Side; 2]]) -> String {
    let mut bytes = Vec::new();
    for side in sides.iter().flatten() {
        bytes.extend(side.row.tokens.iter().flat_map(|id| id.to_le_bytes()));
        bytes.extend(side.preference.iter().map(|counts| u8::from(*counts)));
        bytes.push(2);
    }
    format!("preferences {}", quipu_store::checksum::xxh3_bytes(&bytes))
}

/// Pairs one after the other, chosen before rejected.
fn batch(pairs: &[&[Side; 2]]) -> Batch {
    let mut batch = Batch::default();
    pairs.iter().flat_map(|pair| pair.iter()).for_each(|side| batch.push(&side.row));
    batch
}

/// Why no pair is left, and what would change that.
fn nothing(all: usize, same: usize, too_long: usize, length: usize) -> Error {
    if all == 0 {
        let found = "there are no preference pairs".into();
        return Error::Nothing { found, change: "bring some, or more documents to make them of" };
    }
    let change = match too_long {
        0 => "use pairs whose answers differ",
        _ => "use a longer sequence_length, or shorter pairs",
    };
    let found = format!(
        "of {all} pairs, {same} are equal but for their form, {too_long} do not fit into \
         {length} tokens"
    );
    Error::Nothing { found, change }
}

/// The objective of one round.
pub struct Dpo<'a> {
    pairs: &'a Pairs,
    reference: &'a [Reference],
    weights: Weights,
    order: Order,
    /// Pairs held out from the end of `pairs`.
    held: usize,
}

impl<'a> Dpo<'a> {
    /// One round over `pairs`, but for the last `held` of them, which only measure.
    ///
    /// # Errors
    /// [`Error::Nothing`] where no pair is left to learn from or the reference is of other pairs.
    pub fn new(
        pairs: &'a Pairs,
        reference: &'a [Reference],
        weights: Weights,
        held: usize,
        seed: u64,
    ) -> Result<Self, Error> {
        if reference.len() != pairs.len() || held >= pairs.len() {
            let (all, known) = (pairs.len(), reference.len());
            return Err(Error::Nothing {
                found: format!("{all} pairs, {known} of them with a reference, {held} held out"),
                change: "hold out fewer pairs",
            });
        }
        let order = Order::new(pairs.len() - held, seed);
        Ok(Self { pairs, reference, weights, order, held })
    }

    /// Losses of some pairs from the log-probabilities of their micro-batch, and the weight of
    /// each of its tokens in the gradient.
    fn losses(&self, which: &[usize], logps: &[f64], count: usize) -> (Vec<Loss>, Vec<f64>) {
        let (mut losses, mut all) = (Vec::new(), Vec::new());
        let mut rest = logps;
        for &at in which {
            let sides = &self.pairs.sides[at];
            let (chosen, tail) = rest.split_at(sides[0].preference.len());
            let (rejected, tail) = tail.split_at(sides[1].preference.len());
            rest = tail;
            let sums = [self.reference[at].chosen, self.reference[at].rejected];
            let answer = |side: usize, logps| Answer {
                logps,
                preference: &sides[side].preference,
                likelihood: &sides[side].likelihood,
                reference: sums[side],
            };
            let (loss, of_chosen, of_rejected) =
                dpo::loss_and_weights(answer(0, chosen), answer(1, rejected), count, self.weights);
            losses.push(loss);
            all.extend(of_chosen);
            all.extend(of_rejected);
        }
        (losses, all)
    }

    fn batch_of(&self, which: &[usize]) -> Batch {
        let pairs: Vec<_> = which.iter().map(|at| &self.pairs.sides[*at]).collect();
        batch(&pairs)
    }
}

/// Sums over pairs of loss, preference term, likelihood term, margin and right order.
fn sums(losses: &[Loss]) -> [f64; 5] {
    let add = |of: &dyn Fn(&Loss) -> f64| losses.iter().map(of).sum::<f64>();
    [
        add(&|l| l.total),
        add(&|l| l.preference),
        add(&|l| l.nll),
        add(&|l| l.margin),
        add(&|l| f64::from(u8::from(l.margin > 0.0))),
    ]
}

/// What is added up over the pairs of a step.
#[derive(Default)]
struct Total {
    sums: [f64; 5],
    tokens: usize,
    processed: usize,
}

impl Total {
    fn add(&mut self, losses: &[Loss], weights: &[f64]) {
        self.tokens += weights.iter().filter(|w| **w != 0.0).count();
        self.processed += weights.len();
        for (sum, part) in self.sums.iter_mut().zip(sums(losses)) {
            *sum += part;
        }
    }
}

impl Dpo<'_> {
    /// Micro-batch after micro-batch: forward, what a pair's losses make of it, backward.
    fn one_by_one(
        &self,
        model: &mut Model,
        which: &[Vec<usize>],
        count: usize,
    ) -> Result<Total, TrainError> {
        let mut total = Total::default();
        for which in which {
            model.forward(0, &self.batch_of(which).view())?;
            let logps = model.log_probs(0)?;
            let (losses, weights) = self.losses(which, &logps, count);
            model.backward(0, &weights)?;
            total.add(&losses, &weights);
        }
        Ok(total)
    }

    /// A pair's loss is no sum over tokens, and the rows of a pair may lie on several ranks, or end on
    /// another one: all are measured, and then learned with weights that every rank knows. One forward
    /// more for it.
    fn measured_first(
        &self,
        model: &mut Model,
        which: &[Vec<usize>],
        count: usize,
    ) -> Result<Total, TrainError> {
        let batches: Vec<_> = which.iter().map(|which| self.batch_of(which)).collect();
        let views: Vec<_> = batches.iter().map(|batch| batch.view()).collect();
        let logps = log_probs(model, &views)?;
        let (mut all, mut total) = (Vec::with_capacity(which.len()), Total::default());
        for (which, logps) in which.iter().zip(&logps) {
            let (losses, weights) = self.losses(which, logps, count);
            total.add(&losses, &weights);
            all.push(weights);
        }
        let pairs = views.into_iter().zip(&all);
        let weighted: Vec<_> = pairs.map(|(batch, weights)| Weighted { batch, weights }).collect();
        model.learn(&weighted)?;
        Ok(total)
    }
}

impl Objective for Dpo<'_> {
    fn accumulate(
        &self,
        model: &mut Model,
        mesh: &Mesh,
        recipe: &Recipe,
        step: u64,
    ) -> Result<Outcome, TrainError> {
        let count = recipe.portion(step).samples() as usize;
        let shares = shares(recipe, mesh, step).into_iter();
        let which = shares.map(|share| share.map(|index| self.order.at(index)).collect());
        let which: Vec<Vec<usize>> = which.collect();
        // with full sharding ranks go through as many micro-batches, whoever has fewer
        let alone = mesh.group(Use::LogProbs).is_one() && !mesh.is_fully_sharded();
        let total = match alone {
            true => self.one_by_one(model, &which, count)?,
            false => self.measured_first(model, &which, count)?,
        };
        // ranks that divide a model have measured the same
        let counts = mesh.at(Axis::Cp) == 0 && mesh.at(Axis::Pp) == 0;
        let Total { sums, tokens, processed } = if counts { total } else { Total::default() };
        let mut local: Vec<_> = sums.iter().map(|x| Sum::of_this_rank(*x)).collect();
        local.extend([tokens, processed].map(|count| Sum::of_this_rank(count as f64)));
        let all = mesh.sum(Use::Losses, &local)?;
        let mean = |i: usize| all[i].value() / count as f64;
        let names = ["preference", "nll", "margin", "accuracy"];
        let more = names.iter().enumerate().map(|(i, n)| ((*n).to_owned(), mean(i + 1)));
        let more: BTreeMap<_, _> = more.collect();
        let (tokens, processed) = (all[5].value() as u64, all[6].value() as u64);
        Ok(Outcome { loss: mean(0), tokens, processed, more })
    }

    /// The loss of the held-out pairs; every rank computes all of them, for they are few.
    fn validate(
        &self,
        model: &mut Model,
        _mesh: &Mesh,
        recipe: &Recipe,
    ) -> Result<Option<Validation>, TrainError> {
        let all = self.pairs.len();
        let held = self.held.min(recipe.validation_samples as usize);
        let (mut loss, mut tokens) = (0.0, 0);
        for at in all - held..all {
            let batch = self.batch_of(&[at]);
            let logps = log_probs(model, &[batch.view()])?.concat();
            let (losses, weights) = self.losses(&[at], &logps, 1);
            loss += losses[0].total;
            tokens += weights.iter().filter(|w| **w != 0.0).count() as u64;
        }
        let mean = loss / held.max(1) as f64;
        Ok((held > 0).then_some(Validation { loss: mean, bits_per_byte: None, tokens }))
    }

    fn identity(&self) -> String {
        let bits = |r: &Reference| [r.chosen.to_le_bytes(), r.rejected.to_le_bytes()].concat();
        let bytes: Vec<u8> = self.reference.iter().flat_map(bits).collect();
        let frozen = quipu_store::checksum::xxh3_bytes(&bytes);
        let Weights { beta, likelihood } = self.weights;
        format!("{} reference {frozen} β {beta} α {likelihood}", self.pairs.identity)
    }

    fn check(&self, _recipe: &Recipe, config: &Config) -> Result<(), TrainError> {
        let longest = self.pairs.sides.iter().flatten().map(|s| s.row.tokens.len()).max();
        quipu_train::objective::check_length(longest.unwrap_or(0), config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_no_pair_is_left_is_what_is_true() {
        let said = |all, same, too_long| nothing(all, same, too_long, 256).to_string();
        let none = said(0, 0, 0);
        assert!(none.contains("no preference pairs") && !none.contains("sequence_length"));
        let same = said(3, 3, 0);
        assert!(same.contains("answers differ") && !same.contains("sequence_length"), "{same}");
        assert!(said(3, 1, 2).contains("longer sequence_length"));
    }
}
