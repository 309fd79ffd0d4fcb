//! Optimizer steps: the trainer's own step on the case's fixed batches. The schedule and the
//! optimizer's constants are those that `shared/golden/generate.py` states for `adamw`.

use crate::case::Case;
use crate::measure::{Group, Row, Scale, row};
use crate::whole;
use crate::{Bench, Error};
use quipu_mesh::placement::Sum;
use quipu_mesh::{Axis, Mesh, Use};
use quipu_model::{Config, Model, Packed, Weighted};
use quipu_train::metrics::Validation;
use quipu_train::objective::Outcome;
use quipu_train::{Error as TrainError, Learner, Objective, Recipe};
use std::collections::BTreeMap;
use std::path::Path;

/// One given batch a step, all rows of equal weight; data-parallel ranks share its rows.
struct Given {
    /// Of each step, its rows.
    steps: Vec<Vec<Vec<u32>>>,
}

/// Rows of tokens as a micro-batch.
fn packed(rows: &[Vec<u32>]) -> Packed {
    Packed::of(rows.iter().map(Vec::as_slice))
}

impl Objective for Given {
    fn accumulate(
        &self,
        model: &mut Model,
        mesh: &Mesh,
        _recipe: &Recipe,
        step: u64,
    ) -> Result<Outcome, TrainError> {
        let rows = &self.steps[step as usize];
        let (ranks, rank) = (mesh.axes().size(Axis::Dp), mesh.at(Axis::Dp));
        let own = packed(&rows[rank * rows.len() / ranks..(rank + 1) * rows.len() / ranks]);
        let tokens = packed(rows).target_count();
        let share = own.target_count() as f64 / tokens.max(1) as f64;
        let weights: Vec<f64> = own.mean_loss_weights().iter().map(|w| w * share).collect();
        let batch = Weighted { batch: own.view(), weights: &weights };
        let some = !own.tokens.is_empty();
        let log_probs = model.learn(if some { std::slice::from_ref(&batch) } else { &[] })?;
        let loss = log_probs.iter().flatten().zip(&weights).map(|(p, w)| p * w).sum();
        let loss = mesh.sum(Use::Losses, &[Sum::of_this_rank(loss)])?[0].value();
        Ok(Outcome { loss, tokens: tokens as u64, ..Outcome::default() })
    }

    fn validate(
        &self,
        _model: &mut Model,
        _mesh: &Mesh,
        _recipe: &Recipe,
    ) -> Result<Option<Validation>, TrainError> {
        Ok(None)
    }

    fn identity(&self) -> String {
        "the batches of a case".into()
    }
}

pub(crate) fn rows(dir: &Path, case: &Case, bench: &Bench) -> Result<Vec<Row>, Error> {
    let (device, scale) = (&bench.device, bench.scale());
    let (given, width) = batches(case)?;
    let tokens = given.steps[0].len() * width;
    let (config, mesh) = (Config::load(dir)?, bench.mesh.clone());
    let capacity = bench.training(tokens, 1)?;
    let model = Model::staged(device.clone(), mesh, config, capacity, &bench.pipeline)?;
    let recipe = Recipe {
        sequence_length: width,
        batch_tokens: tokens,
        micro_batch_tokens: tokens,
        steps: given.steps.len() as u64,
        peak_lr: 3e-3,
        floor_lr: 3e-4,
        warm_up: 8,
        clip: 1.0,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        decay: 0.1,
        ..Recipe::default()
    };
    let mut learner = Learner::new(model, &recipe)?;
    start(&mut learner, case)?;
    let (mut losses, mut norms, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for behind in 0..recipe.steps {
        let step = learner.step(&given, &recipe, behind)?;
        losses.push(step.outcome.loss);
        norms.push(step.norm);
        rates.push(step.rate);
    }
    let mut rows = Vec::new();
    for (name, found) in [("losses", losses), ("grad_norms", norms), ("lrs", rates)] {
        if case.has(name) {
            rows.push(row(scale, name, &found, &case.floats(name)?));
        }
    }
    if case.names_after("final.").next().is_some() {
        rows.push(last(&learner, case, scale)?);
    }
    Ok(rows)
}

/// `batches` [steps, rows, tokens] as packed batches, and the tokens of a row.
fn batches(case: &Case) -> Result<(Given, usize), Error> {
    let tokens = case.tokens("batches")?;
    let [steps, rows, width] = *case.shape("batches")? else {
        let found = format!("batches of shape {:?}", case.shape("batches")?);
        return Err(case.wrong(found, "[steps, rows, tokens]"));
    };
    if steps == 0 || rows == 0 || width < 2 {
        return Err(case.wrong(format!("batches of {steps} × {rows} × {width}"), "some tokens"));
    }
    let step = |batch: &[u32]| batch.chunks(width).map(<[u32]>::to_vec).collect();
    Ok((Given { steps: tokens.chunks(rows * width).map(step).collect() }, width))
}

/// Sets the weights to `start.*`.
fn start(learner: &mut Learner, case: &Case) -> Result<(), Error> {
    let names = learner.model.table().entries().iter().map(|entry| entry.name.clone());
    let values = names.map(|name| Ok((name.clone(), case.floats(&format!("start.{name}"))?)));
    let values = values.collect::<Result<BTreeMap<_, _>, Error>>()?;
    Ok(learner.each_parameter(|model, entry, out| {
        let (whole, cols) = (&values[&entry.name], entry.whole_cols());
        let rows = entry.first.0..entry.first.0 + entry.rows;
        let own = rows.flat_map(|row| {
            let start = row * cols + entry.first.1;
            whole[start..start + entry.cols].iter().copied()
        });
        Ok(model.device().write_floats(out, &own.collect::<Vec<f64>>())?)
    })?)
}

fn last(learner: &Learner, case: &Case, scale: Scale) -> Result<Row, Error> {
    let mut group = Group::new(scale, "final");
    for (name, found) in whole::tensors(learner, &learner.model.own_weights()?)? {
        group = group.compare(&name, &found, &case.floats(&format!("final.{name}"))?);
    }
    Ok(group.row())
}
