//! Optimizer steps: the trainer's own step on the case's fixed batches. The schedule and the
//! optimizer's constants are those that `shared/golden/generate.py` states for `adamw`.

use crate::case::Case;
use crate::measure::{Group, Row, Scale, row};
use crate::{Bench, Error};
use quipu_mesh::Mesh;
use quipu_model::{Config, Model, Packed};
use quipu_train::metrics::Validation;
use quipu_train::objective::Outcome;
use quipu_train::{Error as TrainError, Learner, Objective, Recipe};
use std::collections::BTreeMap;
use std::path::Path;

/// One given batch a step, all rows of equal weight.
struct Given {
    steps: Vec<Packed>,
}

impl Objective for Given {
    fn accumulate(
        &self,
        model: &mut Model,
        _mesh: &Mesh,
        _recipe: &Recipe,
        step: u64,
    ) -> Result<Outcome, TrainError> {
        let batch = &self.steps[step as usize];
        let weights = batch.mean_loss_weights();
        let log_probs = model.forward_backward(0, &batch.view(), &weights)?;
        let loss = log_probs.iter().zip(&weights).map(|(p, w)| p * w).sum();
        let tokens = batch.target_count() as u64;
        Ok(Outcome { loss, tokens, ..Outcome::default() })
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
    let tokens = given.steps[0].tokens.len();
    let capacity = bench.training(tokens);
    let model = Model::new(device.clone(), Mesh::one(), Config::load(dir)?, capacity)?;
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
        rows.push(last(&learner.model, case, scale)?);
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
    let step = |batch: &[u32]| Packed::of(batch.chunks(width));
    Ok((Given { steps: tokens.chunks(rows * width).map(step).collect() }, width))
}

/// Sets the weights to `start.*`.
fn start(learner: &mut Learner, case: &Case) -> Result<(), Error> {
    let names = learner.model.table().entries().iter().map(|entry| entry.name.clone());
    let values = names.map(|name| Ok((name.clone(), case.floats(&format!("start.{name}"))?)));
    let values = values.collect::<Result<BTreeMap<_, _>, Error>>()?;
    Ok(learner.each_parameter(|model, entry, out| {
        Ok(model.device().write_floats(out, &values[&entry.name])?)
    })?)
}

fn last(model: &Model, case: &Case, scale: Scale) -> Result<Row, Error> {
    let mut group = Group::new(scale, "final");
    for entry in model.table().entries() {
        let name = format!("final.{}", entry.name);
        let found = model.device().read_f64(&model.weight(entry)?)?;
        group = group.compare(&entry.name, &found, &case.floats(&name)?);
    }
    Ok(group.row())
}
