//! Preference optimisation: log-probabilities under policy and reference, the loss of the tuner's
//! own arithmetic, and its gradients. β 0.1, likelihood 0.2 a token, mean over the pairs.

use crate::case::Case;
use crate::measure::{Row, row};
use crate::plain;
use crate::{Bench, Error};
use quipu_mesh::Axis;
use quipu_model::{MicroBatch, Model, Packed, Weighted};
use quipu_train::objective::log_probs;
use quipu_tune::dpo::{self, Answer, Loss, Weights};
use std::path::Path;

/// One side of all pairs: rows of tokens, and which predictions count.
struct Side {
    rows: Packed,
    width: usize,
    /// Entry t says whether token t + 1 counts.
    counts: Vec<bool>,
}

impl Side {
    fn read(case: &Case, side: &str) -> Result<Side, Error> {
        let rows = case.rows(&format!("{side}_ids"))?;
        let name = format!("{side}_mask");
        let (mask, width) = (case.floats(&name)?, rows[0].len());
        if mask.len() != rows.len() * width {
            return Err(case.wrong(format!("{name} of {} numbers", mask.len()), "as many as ids"));
        }
        let next = |t: usize| !(t + 1).is_multiple_of(width) && mask[t + 1] != 0.0;
        let counts = (0..mask.len()).map(next).collect();
        Ok(Side { rows: Packed::of(rows.iter().map(Vec::as_slice)), width, counts })
    }

    fn pairs(&self) -> usize {
        self.counts.len() / self.width
    }

    /// The sum of counted log-probabilities of each pair.
    fn sums(&self, log_probs: &[f64]) -> Vec<f64> {
        let both = log_probs.chunks(self.width).zip(self.counts.chunks(self.width));
        both.map(|(log_probs, counts)| dpo::masked_sum(log_probs, counts)).collect()
    }

    fn of<'a>(&'a self, log_probs: &'a [f64], pair: usize, reference: f64) -> Answer<'a> {
        let span = pair * self.width..(pair + 1) * self.width;
        let counts = &self.counts[span.clone()];
        Answer { logps: &log_probs[span], preference: counts, likelihood: counts, reference }
    }
}

/// The log-probabilities of both sides, on the ranks that are first along the data axis; the others
/// have nothing to do.
fn of_both(model: &mut Model, sides: &[Side; 2]) -> Result<Vec<Vec<f64>>, Error> {
    Ok(log_probs(model, &own(model.mesh().at(Axis::Dp), sides))?)
}

fn own(replica: usize, sides: &[Side; 2]) -> Vec<MicroBatch<'_>> {
    let views = sides.iter().map(|side| side.rows.view());
    views.filter(|_| replica == 0).collect()
}

pub(crate) fn rows(dir: &Path, case: &Case, bench: &Bench) -> Result<Vec<Row>, Error> {
    let sides = [Side::read(case, "chosen")?, Side::read(case, "rejected")?];
    if sides[0].pairs() != sides[1].pairs() {
        return Err(case.wrong("more answers on one side".into(), "pairs"));
    }
    let tokens = sides.iter().map(|side| side.counts.len()).max().unwrap_or(0);
    let mut frozen = bench.open(&case.folder().join("reference"), bench.frozen(tokens))?;
    let reference = of_both(&mut frozen, &sides)?;
    let mut policy = bench.learner(dir, bench.training(tokens, sides.len())?)?;
    let found = of_both(&mut policy.model, &sides)?;
    let judged = judge(&sides, &reference, &found);
    let batches = own(bench.mesh.at(Axis::Dp), &sides).into_iter().zip(&judged.weights);
    let batches = batches.map(|(batch, weights)| Weighted { batch, weights });
    policy.model.learn(&batches.collect::<Vec<_>>())?;
    policy.model.reduced()?;
    let mut rows = Vec::new();
    for (name, found) in judged.numbers {
        if case.has(name) {
            rows.push(row(bench.scale(), name, &found, &case.floats(name)?));
        }
    }
    if case.names_after("grad.").next().is_some() {
        rows.push(plain::gradients(&policy, case, bench.scale())?);
    }
    Ok(rows)
}

/// What follows from the log-probabilities of both models.
#[derive(Default)]
struct Judged {
    /// What the case may have, by its key.
    numbers: Vec<(&'static str, Vec<f64>)>,
    /// Of each side, those of its tokens.
    weights: [Vec<f64>; 2],
}

/// Nothing on ranks without any.
fn judge(sides: &[Side; 2], reference: &[Vec<f64>], found: &[Vec<f64>]) -> Judged {
    let ([reference_chosen, reference_rejected], [chosen, rejected]) = (reference, found) else {
        return Judged::default();
    };
    let sums = |chosen: &[f64], rejected: &[f64]| [sides[0].sums(chosen), sides[1].sums(rejected)];
    let reference = sums(reference_chosen, reference_rejected);
    let pairs = sides[0].pairs();
    let (mut losses, mut weights) = (Vec::<Loss>::new(), [Vec::new(), Vec::new()]);
    for (pair, (&frozen_chosen, &frozen_rejected)) in
        reference[0].iter().zip(&reference[1]).enumerate()
    {
        let (loss, of_chosen, of_rejected) = dpo::loss_and_weights(
            sides[0].of(chosen, pair, frozen_chosen),
            sides[1].of(rejected, pair, frozen_rejected),
            pairs,
            Weights::default(),
        );
        losses.push(loss);
        weights[0].extend(of_chosen);
        weights[1].extend(of_rejected);
    }
    let total = losses.iter().map(|loss| loss.total / pairs as f64).sum();
    let [policy_chosen, policy_rejected] = sums(chosen, rejected);
    let [reference_chosen, reference_rejected] = reference;
    let numbers = vec![
        ("policy_chosen_logprob", policy_chosen),
        ("policy_rejected_logprob", policy_rejected),
        ("reference_chosen_logprob", reference_chosen),
        ("reference_rejected_logprob", reference_rejected),
        ("preference_loss", losses.iter().map(|loss| loss.preference).collect()),
        ("nll", losses.iter().map(|loss| loss.nll).collect()),
        ("loss", vec![total]),
    ];
    Judged { numbers, weights }
}
