//! Logits, loss and gradients of packed rows. What the loss is a mean of: every token that has a
//! next one in its document.

use crate::case::Case;
use crate::measure::{Group, Row, Scale, row};
use crate::{Bench, Error};
use quipu_mesh::Mesh;
use quipu_model::Model;
use std::path::Path;

pub(crate) fn rows(dir: &Path, case: &Case, bench: &Bench) -> Result<Vec<Row>, Error> {
    let (device, scale) = (&bench.device, bench.scale());
    let batch = case.documents()?;
    let capacity = bench.training(batch.tokens.len());
    let mut model = Model::open(dir, device.clone(), Mesh::one(), capacity)?;
    let weights = batch.mean_loss_weights();
    model.forward(0, &batch.view())?;
    let mut rows = Vec::new();
    if case.has("logits") {
        let logits = device.read_f64(&model.logits(0)?)?;
        rows.push(row(scale, "logits", &logits, &case.floats("logits")?));
    }
    let log_probs = model.log_probs(0)?;
    if case.has("loss") {
        let loss: f64 = log_probs.iter().zip(&weights).map(|(p, w)| p * w).sum();
        rows.push(row(scale, "loss", &[loss], &case.floats("loss")?));
    }
    if case.names_after("grad.").next().is_some() {
        model.backward(0, &weights)?;
        rows.push(gradients(&model, case, scale)?);
    }
    Ok(rows)
}

/// Every gradient the case has against the model's.
pub(crate) fn gradients(model: &Model, case: &Case, scale: Scale) -> Result<Row, Error> {
    let mut group = Group::new(scale, "grad");
    for name in case.names_after("grad.") {
        let Some(entry) = model.table().by_name(name) else {
            return Err(case.wrong(format!("grad.{name}"), "a parameter of the model"));
        };
        let found = model.device().read_f64(&model.gradient(entry)?)?;
        group = group.compare(name, &found, &case.floats(&format!("grad.{name}"))?);
    }
    Ok(group.row())
}
