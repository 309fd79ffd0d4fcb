//! Stage `extend`: the context grows, step by step (paper, section 3.4.2). Each step trains on
//! longer sequences with other rotary frequencies until its gate lets it end: short texts are
//! predicted as well as before it began, within what chance does to such a comparison, and needles
//! are found at every length. Else it ends when its steps are spent, which is said, and ends the run
//! unless that is allowed. The trainer asks the gate; here is what it measures.

use super::pretrain::{self, Pretraining, speed};
use super::{Context, Outcome, device, report, sets, train};
use crate::error::{Error, Kind};
use crate::extension::{AtCap, Extension, Gate as Asked};
use crate::terminal::thousands;
use quipu_eval::Share;
use quipu_eval::needle::{self, Cell, Hay};
use quipu_infer::Engine;
use quipu_mesh::{Group, Use};
use quipu_model::{Capacity, Model};
use quipu_store::{Cancel, Cancelled, atomic, checksum};
use quipu_tokens::{Sequential, Tokenizer, Tokens};
use quipu_train::objective::{loss_of, micro_batch};
use quipu_train::recipe::Dtype;
use quipu_train::watch::Outside;
use quipu_train::{Gate, Start, Verdict, export};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows of prompts that pass through a model at once that only measures.
const ROWS: usize = 256;
/// Needles that are looked for at once.
const BATCH: usize = 16;
/// The 97.5 % quantile of the standard normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// Lets the context grow, or goes on with it.
pub fn run(context: &Context) -> Result<Outcome, Error> {
    let stages = &context.recipe.extend;
    if stages.is_empty() {
        return Ok(Outcome { line: "not in the recipe".into(), facts: json!(null) });
    }
    let tokens = sets::tokens(context)?;
    let mut found = Vec::new();
    for (i, stage) in stages.iter().enumerate() {
        found.push(one(context, &tokens, i, stage)?);
    }
    if context.recipe.anneal.is_none() {
        let last = pretrain::last_checkpoint(&last_dir(context))?;
        pretrain::leave_base(context, &tokens, &last)?;
    }
    context.progress.finish("");
    let last = found.last().cloned().unwrap_or_default();
    let lines: Vec<String> = found.iter().map(line).collect();
    let mut facts = json!({"stages": found, "validation": last["validation"]});
    for key in ["tokens_per_s", "share_of_ceiling", "dtype"] {
        facts[key] = last[key].clone();
    }
    let line = format!("{} · {}", lines.join(" · "), speed(&facts));
    Ok(Outcome { line, facts })
}

/// The folder of the last stage before annealing.
pub fn last_dir(context: &Context) -> PathBuf {
    dir(context, context.recipe.extend.len())
}

/// The folder of stage `number`, from 1; 0 is the first pre-training.
fn dir(context: &Context, number: usize) -> PathBuf {
    match number {
        0 => context.run.dir().to_owned(),
        n => context.run.path(&format!("extend-{n}")),
    }
}

/// One step of growth: what was measured before it and at its end, and how it went.
fn one(context: &Context, tokens: &Tokens, i: usize, stage: &Extension) -> Result<Value, Error> {
    let start = pretrain::last_checkpoint(&dir(context, i))?;
    let shape = context.recipe.shape(i + 1);
    let probe = Probe::new(context, tokens, &stage.gate)?;
    let before = || before(context, &probe, (i, stage.train.dtype), &start);
    let before = context.world.first(before)?;
    let gate = Ends { probe: &probe, before: &before, asked: &stage.gate };
    let stage = Pretraining {
        label: "extend",
        dir: dir(context, i + 1),
        recipe: &stage.train,
        shape: shape.clone(),
        start: Start::Checkpoint(&start),
        gate: Some(&gate),
        beside: train::baselines(context, tokens)?,
    };
    let (report, mut facts) = pretrain::run(context, tokens, &stage)?;
    facts["positions"] = json!(shape.positions);
    facts["rope_theta"] = json!(shape.rope_theta);
    facts["rope_scaling"] = json!(shape.rope_scaling);
    facts["passed"] = json!(report.passed);
    facts["before"] = json!({"cells": before.cells, "short_loss": before.loss()});
    facts["asked"] = json!(gate.asked);
    Ok(facts)
}

/// What the gate measures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Measured {
    cells: Vec<Cell>,
    /// Of each row of held-out short text, the sum of its losses and its targets.
    rows: Vec<(f64, f64)>,
}

impl Measured {
    /// Nats a token of short text.
    fn loss(&self) -> f64 {
        let sum = |of: fn(&(f64, f64)) -> f64| self.rows.iter().map(of).sum::<f64>();
        sum(|row| row.0) / sum(|row| row.1).max(1.0)
    }

    /// How much more a token of short text costs than `before`, and half the width of the 95 %
    /// interval of that: rows are compared in pairs.
    fn more_than(&self, before: &Self) -> (f64, f64) {
        let pairs = self.rows.iter().zip(&before.rows);
        let differences: Vec<f64> = pairs.map(|(now, then)| now.0 - then.0).collect();
        let n = differences.len() as f64;
        let tokens = self.rows.iter().map(|row| row.1).sum::<f64>().max(1.0);
        let mean = differences.iter().sum::<f64>() / n.max(1.0);
        let spread = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>();
        let deviation = (spread / (n - 1.0).max(1.0)).sqrt();
        (mean * n / tokens, Z * deviation * n.sqrt() / tokens)
    }
}

/// What is needed to measure a model.
struct Probe<'a> {
    tokenizer: &'a Tokenizer,
    hay: Hay,
    held: Sequential,
    /// tokens of a row of short text
    length: usize,
    gate: &'a Asked,
    cancel: &'a Cancel,
}

impl<'a> Probe<'a> {
    fn new(context: &'a Context, tokens: &'a Tokens, gate: &'a Asked) -> Result<Self, Error> {
        let (tokenizer, length) = (&*tokens.tokenizer, context.recipe.train.sequence_length);
        Ok(Self {
            tokenizer,
            hay: Hay::of(&tokens.validation, tokenizer)?,
            held: Sequential::new(tokenizer, tokens.validation.clone(), length)?,
            length,
            gate,
            cancel: &context.cancel,
        })
    }

    fn measure(&self, model: &mut Model) -> Result<Measured, Outside> {
        let rows = self.rows(model)?;
        Ok(Measured { cells: self.needles(model)?, rows })
    }

    fn stops(&self, model: &Model) -> Stops<'_> {
        let together = model.computes_together().then(|| model.mesh().group(Use::World).clone());
        Stops { cancel: self.cancel, together }
    }

    fn needles(&self, model: &mut Model) -> Result<Vec<Cell>, Outside> {
        let stops = self.stops(model);
        let mut engine = Engine::new(model, BATCH);
        let (grid, stop) = (self.gate.grid(), || stops.so());
        Ok(needle::search(&mut engine, self.tokenizer, &self.hay, &grid, &stop)?)
    }

    fn rows(&self, model: &mut Model) -> Result<Vec<(f64, f64)>, Outside> {
        let (mut rows, stops) = (Vec::new(), self.stops(model));
        for row in 0..self.held.rows() {
            if stops.so() {
                return Err(Cancelled.into());
            }
            let batch = micro_batch(&self.held, row..row + 1, self.length)?;
            rows.push((loss_of(model, &batch)?, batch.total()));
        }
        Ok(rows)
    }
}

/// Whether to stop: ranks that measure together do at the same place, whoever heard the request first.
struct Stops<'a> {
    cancel: &'a Cancel,
    together: Option<Arc<Group>>,
}

impl Stops<'_> {
    fn so(&self) -> bool {
        let here = self.cancel.is_requested();
        // where the others are gone there is nothing to go on with
        self.together.as_ref().map_or(here, |ranks| ranks.any(here).unwrap_or(true))
    }
}

/// What was measured before stage `i`, with the model as it was made for then but for its
/// positions: measured once, before training.
fn before(
    context: &Context,
    probe: &Probe,
    (i, dtype): (usize, Dtype),
    start: &Path,
) -> Result<Measured, Error> {
    let dir = dir(context, i + 1);
    let path = dir.join("before.json");
    if path.is_file() {
        let damaged = |what: String| {
            Error::data(format!(
                "{} is damaged: {what}; delete it, and it is measured again",
                path.display()
            ))
        };
        let kept: Kept =
            serde_json::from_slice(&std::fs::read(&path)?).map_err(|e| damaged(e.to_string()))?;
        return match sum(&kept.measured) == kept.xxh3 {
            true => Ok(kept.measured),
            false => Err(damaged("its checksum is another".into())),
        };
    }
    context.progress.begin("needles before", 0);
    let mut model = measurable(probe, dtype, start)?;
    let measured = probe.measure(&mut model).map_err(|e| Error::of(&*e))?;
    atomic::create_dir(&dir)?;
    let kept = Kept { xxh3: sum(&measured), measured };
    atomic::write_bytes(&path, format!("{}\n", json!(kept)).as_bytes())?;
    context.progress.finish("");
    Ok(kept.measured)
}

/// What was measured, as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// of the rest as JSON
    xxh3: String,
    measured: Measured,
}

fn sum(measured: &Measured) -> String {
    checksum::xxh3_bytes(json!(measured).to_string().as_bytes())
}

/// A checkpoint's model, with room for the longest text that is looked through.
fn measurable(probe: &Probe, dtype: Dtype, checkpoint: &Path) -> Result<Model, Error> {
    let device = device::whole();
    let capacity = Capacity {
        generated: ROWS,
        positions: probe.gate.lengths.iter().copied().max(),
        precision: dtype.precision(&*device),
        ..Capacity::frozen(&*device, probe.length)
    };
    Ok(export::load(checkpoint, device, Some(capacity))?)
}

/// Needles of the last stage's gate that the model of a later `checkpoint` finds; none where the
/// context does not grow.
pub fn needles_after(
    context: &Context,
    tokens: &Tokens,
    dtype: Dtype,
    checkpoint: &Path,
) -> Result<Option<Vec<Cell>>, Error> {
    let Some(stage) = context.recipe.extend.last() else {
        return Ok(None);
    };
    let probe = Probe::new(context, tokens, &stage.gate)?;
    context.progress.begin("needles after", 0);
    let cells = probe.needles(&mut measurable(&probe, dtype, checkpoint)?);
    context.progress.finish("");
    cells.map(Some).map_err(|e| Error::of(&*e))
}

/// The gate of a stage.
struct Ends<'a> {
    probe: &'a Probe<'a>,
    before: &'a Measured,
    asked: &'a Asked,
}

impl Gate for Ends<'_> {
    fn is_due(&self, step: u64) -> bool {
        step.is_multiple_of(self.asked.every)
    }

    fn ask(&self, _: u64, model: &mut Model) -> Result<Verdict, Outside> {
        let now = self.probe.measure(model)?;
        let (more, noise) = now.more_than(self.before);
        let recovered = more <= noise;
        let found = needle::by_length(&now.cells);
        let all = found.iter().all(|(_, share)| share.value >= self.asked.recall);
        let found = json!({
            "cells": now.cells, "short_loss": now.loss(), "short_loss_more": more,
            "short_loss_noise": noise, "recovered": recovered, "found": all,
        });
        Ok(Verdict { passed: recovered && all, found })
    }
}

/// `context 1,024 after 300 steps, 307,200 tokens: needles 3–12 % → 97–100 %, …`.
fn line(facts: &Value) -> String {
    let count = |value: &Value| thousands(value.as_u64().unwrap_or(0));
    let now = &facts["gate"]["found"];
    let loss = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let passed = if facts["passed"] == true { "" } else { " · its gate was NOT passed" };
    format!(
        "context {} after {} steps, {} tokens: needles found {} → {}, loss of short texts {:.3} → \
         {:.3}{passed}",
        count(&facts["positions"]),
        count(&facts["steps"]),
        count(&facts["tokens"]),
        span(&facts["before"]["cells"]),
        span(&now["cells"]),
        loss(&facts["before"]["short_loss"]),
        loss(&now["short_loss"]),
    )
}

fn lengths(cells: &Value) -> Vec<(usize, Share)> {
    let cells: Vec<Cell> = serde_json::from_value(cells.clone()).unwrap_or_default();
    needle::by_length(&cells)
}

/// Least and most recall over the lengths.
pub fn span(cells: &Value) -> String {
    let shares: Vec<f64> = lengths(cells).iter().map(|(_, share)| 100.0 * share.value).collect();
    let (least, most) = (
        shares.iter().copied().fold(f64::INFINITY, f64::min),
        shares.iter().copied().fold(0.0, f64::max),
    );
    match format!("{least:.0}") == format!("{most:.0}") {
        true => format!("{most:.0} %"),
        false => format!("{least:.0}–{most:.0} %"),
    }
}

/// Ends a run whose context has not grown as asked, unless that is allowed: the report then says
/// so, and so does the error.
pub fn check(context: &Context) -> Result<(), Error> {
    let facts = super::facts(context, "extend")?;
    let stages = facts["stages"].as_array().into_iter().flatten();
    for (stage, (i, recipe)) in stages.zip(context.recipe.extend.iter().enumerate()) {
        let allowed = context.allow_cap || recipe.gate.at_cap == AtCap::GoOn;
        if stage["passed"] != false || allowed {
            continue;
        }
        report::run(context)?;
        let steps = thousands(recipe.train.steps);
        return Err(Error::new(
            Kind::Check,
            format!(
                "extend: stage {} ended when its {steps} steps were spent, without having passed \
                 its gate: {}; see {}; --allow-cap goes on with the model as it is, more steps \
                 need a new run",
                i + 1,
                missing(stage, recipe),
                context.run.path("report.html").display()
            ),
        ));
    }
    Ok(())
}

/// What a gate was not satisfied with.
fn missing(facts: &Value, stage: &Extension) -> String {
    let (found, asked) = (&facts["gate"]["found"], stage.gate.recall);
    let mut parts = Vec::new();
    for (length, share) in lengths(&found["cells"]) {
        if share.value < asked {
            let (value, asked) = (100.0 * share.value, 100.0 * asked);
            parts.push(format!("{value:.0} % of needles found at {length}, {asked:.0} % asked"));
        }
    }
    if found["recovered"] == false {
        let of = |key: &str| found[key].as_f64().unwrap_or(f64::NAN);
        let (more, noise) = (of("short_loss_more"), of("short_loss_noise"));
        parts.push(format!("short texts cost {more:.4} nats a token more (chance: {noise:.4})"));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(losses: &[f64]) -> Measured {
        Measured { cells: Vec::new(), rows: losses.iter().map(|loss| (*loss, 10.0)).collect() }
    }

    #[test]
    fn losses_are_compared_row_by_row() {
        let before = measured(&[20.0, 30.0, 40.0, 50.0]);
        assert!((before.loss() - 3.5).abs() < 1e-12);
        // Each row a tenth of a nat dearer: much less than rows differ, and no chance.
        let (more, noise) = measured(&[20.1, 30.1, 40.1, 50.1]).more_than(&before);
        assert!((more - 0.01).abs() < 1e-9 && noise < 1e-9, "{more} {noise}");
        // Dearer on the whole, but in one row only.
        let (more, noise) = measured(&[20.4, 30.0, 40.0, 50.0]).more_than(&before);
        assert!((more - 0.01).abs() < 1e-9 && noise > more, "{more} {noise}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let tiny = concat!(env!("CARGO_MANIFEST_DIR"), "/../recipes/tiny.toml");
        let recipe = crate::recipe::Recipe::resolve(Some(tiny.as_ref()), &[]).unwrap();
        let cell = |length, count| Cell { length, depth: 0.0, recall: Share::new(count, 10) };
        let facts = json!({
            "positions": 1024, "steps": 300, "tokens": 307_200, "passed": false,
            "before": {"cells": [cell(512, 0), cell(1024, 0)], "short_loss": 2.0},
            "gate": {"passed": false, "found": {
                "cells": [cell(512, 10), cell(1024, 5)], "short_loss": 2.1, "recovered": false,
                "short_loss_more": 0.1, "short_loss_noise": 0.01,
            }},
        });
        let said = missing(&facts, &recipe.extend[0]);
        for part in ["50 % of needles found at 1024", "0.1000 nats a token more (chance: 0.0100)"] {
            assert!(said.contains(part), "{said}");
        }
        let said = line(&facts);
        for part in ["context 1,024 after 300 steps", "0 % → 50–100 %", "2.000 → 2.100", "NOT"]
        {
            assert!(said.contains(part), "{said}");
        }
    }
}
