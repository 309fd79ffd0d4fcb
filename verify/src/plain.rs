//! Logits, loss and gradients of packed rows. What the loss is a mean of: every token that has a
//! next one in its document.

use crate::case::Case;
use crate::measure::{Group, Row, Scale, row};
use crate::whole::{self, first_replica};
use crate::{Bench, Error};
use quipu_model::Weighted;
use quipu_train::Learner;
use quipu_train::objective::log_probs;
use std::path::Path;

pub(crate) fn rows(dir: &Path, case: &Case, bench: &Bench) -> Result<Vec<Row>, Error> {
    let scale = bench.scale();
    let batch = case.documents()?;
    let capacity = bench.training(batch.tokens.len(), 1)?;
    let mut learner = bench.learner(dir, capacity)?;
    let weights = batch.mean_loss_weights();
    let own = first_replica(&bench.mesh, &batch.view());
    let mut rows = Vec::new();
    if case.has("logits") {
        let logits = whole::logits(&mut learner.model, &batch.view())?;
        rows.push(row(scale, "logits", &logits, &case.floats("logits")?));
    }
    let log_probs = log_probs(&mut learner.model, &own)?.concat();
    if case.has("loss") {
        let loss: f64 = log_probs.iter().zip(&weights).map(|(p, w)| p * w).sum();
        rows.push(row(scale, "loss", &[loss], &case.floats("loss")?));
    }
    if case.names_after("grad.").next().is_some() {
        let weighted = own.iter().map(|batch| Weighted { batch: *batch, weights: &weights });
        learner.model.learn(&weighted.collect::<Vec<_>>())?;
        learner.model.reduced()?;
        rows.push(gradients(&learner, case, scale)?);
    }
    Ok(rows)
}

/// Every gradient the case has against the model's, which were reduced.
pub(crate) fn gradients(learner: &Learner, case: &Case, scale: Scale) -> Result<Row, Error> {
    let found = whole::tensors(learner, &learner.model.own_gradients()?)?;
    let mut group = Group::new(scale, "grad");
    for name in case.names_after("grad.") {
        let Some(found) = found.get(name) else {
            return Err(case.wrong(format!("grad.{name}"), "a parameter of the model"));
        };
        group = group.compare(name, found, &case.floats(&format!("grad.{name}"))?);
    }
    Ok(group.row())
}
