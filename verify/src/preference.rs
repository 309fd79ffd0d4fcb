//! Preference optimisation: log-probabilities under policy and reference, the loss of the tuner's
//! own arithmetic, and its gradients. β 0.1, likelihood 0.2 a token, mean over the pairs.

use crate::case::Case;
use crate::measure::{Row, row};
use crate::plain;
use crate::{Bench, Error};
use quipu_mesh::Mesh;
use quipu_model::{Capacity, Model, Packed};
use quipu_tune::dpo::{self, Answer, Weights};
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

fn log_probs(model: &mut Model, slot: usize, side: &Side) -> Result<Vec<f64>, Error> {
    model.forward(slot, &side.rows.view())?;
    Ok(model.log_probs(slot)?)
}

pub(crate) fn rows(dir: &Path, case: &Case, bench: &Bench) -> Result<Vec<Row>, Error> {
    let (device, scale) = (&bench.device, bench.scale());
    let sides = [Side::read(case, "chosen")?, Side::read(case, "rejected")?];
    if sides[0].pairs() != sides[1].pairs() {
        return Err(case.wrong("more answers on one side".into(), "pairs"));
    }
    let tokens = sides.iter().map(|side| side.counts.len()).max().unwrap_or(0);
    let open = |dir: &Path, capacity| Model::open(dir, device.clone(), Mesh::one(), capacity);
    let mut frozen = open(&case.folder().join("reference"), bench.frozen(tokens))?;
    let reference = [
        sides[0].sums(&log_probs(&mut frozen, 0, &sides[0])?),
        sides[1].sums(&log_probs(&mut frozen, 0, &sides[1])?),
    ];
    let capacity = Capacity { slots: 2, ..bench.training(tokens) };
    let mut policy = open(dir, capacity)?;
    let found = [log_probs(&mut policy, 0, &sides[0])?, log_probs(&mut policy, 1, &sides[1])?];
    let sums = [sides[0].sums(&found[0]), sides[1].sums(&found[1])];
    let (mut preference, mut nll, mut total) = (Vec::new(), Vec::new(), 0.0);
    let mut weights = [Vec::new(), Vec::new()];
    let pairs = sides[0].pairs();
    for (pair, (&chosen, &rejected)) in reference[0].iter().zip(&reference[1]).enumerate() {
        let frozen = [chosen, rejected];
        let answer = |side: usize| sides[side].of(&found[side], pair, frozen[side]);
        let (loss, chosen, rejected) =
            dpo::loss_and_weights(answer(0), answer(1), pairs, Weights::default());
        preference.push(loss.preference);
        nll.push(loss.nll);
        total += loss.total / pairs as f64;
        weights[0].extend(chosen);
        weights[1].extend(rejected);
    }
    policy.backward(0, &weights[0])?;
    policy.backward(1, &weights[1])?;
    let [reference_chosen, reference_rejected] = reference;
    let [policy_chosen, policy_rejected] = sums;
    let mut rows = Vec::new();
    for (name, found) in [
        ("policy_chosen_logprob", policy_chosen),
        ("policy_rejected_logprob", policy_rejected),
        ("reference_chosen_logprob", reference_chosen),
        ("reference_rejected_logprob", reference_rejected),
        ("preference_loss", preference),
        ("nll", nll),
        ("loss", vec![total]),
    ] {
        if case.has(name) {
            rows.push(row(scale, name, &found, &case.floats(name)?));
        }
    }
    if case.names_after("grad.").next().is_some() {
        rows.push(plain::gradients(&policy, case, scale)?);
    }
    Ok(rows)
}
