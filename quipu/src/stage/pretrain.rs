//! What the stages of pre-training share: the first one, those in which the context grows, and
//! annealing. Each is a run of the trainer in a folder of its own that begins where the one before
//! it ended; the last of them leaves the base model. The loop is `train`'s.

use super::screen::Screen;
use super::train::{BASE, token_bytes};
use super::{Context, device, sets};
use crate::error::Error;
use crate::origin::REPLAY;
use crate::recipe::Shape;
use quipu_eval::ngram::Baselines;
use quipu_store::{Cancelled, atomic};
use quipu_tokens::{Loader, Sequential, Tokens};
use quipu_train::mix::Phase;
use quipu_train::objective::{Held, NextToken};
use quipu_train::{Gate, Job, Recipe, Report, Start, export, folder, metrics};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// One run of the trainer.
pub struct Pretraining<'a> {
    /// what the screen calls it
    pub label: &'static str,
    /// its folder
    pub dir: PathBuf,
    /// what it does
    pub recipe: &'a Recipe,
    /// the model's shape in it
    pub shape: Shape,
    /// where it begins
    pub start: Start<'a>,
    /// what may end it
    pub gate: Option<&'a dyn Gate>,
    /// what its losses are shown beside
    pub beside: Baselines,
}

/// Trains, or goes on with it; figures for the report.
pub fn run(
    context: &Context,
    tokens: &Tokens,
    stage: &Pretraining,
) -> Result<(Report, Value), Error> {
    let recipe = &with_mix(context, tokens, stage.recipe);
    let tokenizer = &*tokens.tokenizer;
    let loader = Loader::new(tokenizer, tokens.train.clone(), &recipe.course(), recipe.seed)?;
    // Losses of all stages are over the same rows, so that they can be held against each other.
    let length = context.recipe.train.sequence_length;
    let held = Sequential::new(tokenizer, tokens.validation.clone(), length)?;
    let bytes = token_bytes(tokenizer);
    let objective = NextToken {
        samples: &loader,
        validation: Some(Held { samples: &held, count: held.rows(), length }),
        token_bytes: Some(&bytes),
    };
    let parallel = device::checked(context)?;
    let leads = context.world.leads();
    let ceiling = || if leads { device::ceiling(device::cores(), recipe.dtype) } else { f64::NAN };
    let before = ceiling();
    let prompts = recipe.sample_prompts.clone();
    let screen = Screen::new(context, stage.label, prompts, tokens.tokenizer.clone());
    let screen = screen.beside(stage.beside).against(before);
    atomic::create_dir(&stage.dir)?;
    let job = Job {
        dir: &stage.dir,
        recipe,
        config: &super::config_of(&context.recipe, &stage.shape, tokenizer.vocabulary())?,
        start: stage.start,
        parallel: &parallel,
        device: &device::of_ranks(&parallel),
        objective: &objective,
        gate: stage.gate,
        watch: &screen,
        cancel: &context.cancel,
    };
    let report = quipu_train::run(&job)?;
    let ceiling = before.max(ceiling());
    if !report.finished {
        return Err(Cancelled.into());
    }
    if !leads {
        // what is said of it, the first process says
        return Ok((report, json!({})));
    }
    let mut facts = facts(&job.metrics(), &screen, ceiling)?;
    facts["dtype"] = json!(recipe.dtype);
    if let Some(averaged) = &report.averaged {
        // What is exported is what is spoken of.
        facts["validation_of_last"] = facts["validation"].take();
        facts["validation"] = json!(averaged);
    }
    Ok((report, facts))
}

/// A mix of a later stage that names what the documents have not is told before the first begins.
pub fn check_mixes(context: &Context, tokens: &Tokens) -> Result<(), Error> {
    for (table, recipe) in context.recipe.pretrained() {
        let course = with_mix(context, tokens, recipe).course();
        let made = Loader::new(&tokens.tokenizer, tokens.train.clone(), &course, 0);
        made.map_err(|e| Error::usage(format!("[{table}]: {e}")))?;
    }
    Ok(())
}

/// The recipe with a mix, where it has none and there are sets beside the input: the input's sources
/// as they are among themselves, and its share of what is replayed.
fn with_mix(context: &Context, tokens: &Tokens, recipe: &Recipe) -> Recipe {
    if !recipe.mix.is_empty() || !sets::are_any(context) {
        return recipe.clone();
    }
    let sources = quipu_tokens::sources(&tokens.train);
    let is_own = |name: &str| !sets::is_set(context, name);
    let own: u64 = sources.iter().filter(|(name, _)| is_own(name)).map(|(_, pairs)| pairs).sum();
    let replayed = context.recipe.from.as_ref().filter(|_| sources.contains_key(REPLAY));
    let replayed = replayed.map_or(0.0, |origin| origin.replay_share);
    let share = |(name, pairs): (&String, &u64)| match is_own(name) {
        true => Some((name.clone(), (1.0 - replayed) * *pairs as f64 / own.max(1) as f64)),
        false => (name == REPLAY).then(|| (name.clone(), replayed)),
    };
    let shares = sources.iter().filter_map(share).collect();
    Recipe { mix: vec![Phase { after_tokens: 0, shares }], ..recipe.clone() }
}

/// The newest checkpoint of a run of the trainer: where the next stage begins.
pub fn last_checkpoint(dir: &Path) -> Result<PathBuf, Error> {
    let checkpoints = dir.join("checkpoints");
    match folder::steps(&checkpoints)?.last() {
        Some(step) => Ok(folder::path(&checkpoints, *step)),
        None => Err(Error::data(format!("{} holds no checkpoint", checkpoints.display()))),
    }
}

/// Leaves the base model that a checkpoint holds.
pub fn leave_base(context: &Context, tokens: &Tokens, checkpoint: &Path) -> Result<(), Error> {
    let (whole, base) = (device::whole(), context.run.path(BASE));
    if let Some(parent) = base.parent() {
        atomic::create_dir(parent)?;
    }
    context.world.alone(|| {
        Ok::<_, Error>(export::of_checkpoint(checkpoint, &base, whole, &tokens.tokenizer, false)?)
    })?;
    Ok(())
}

/// What the report needs, from `metrics.jsonl`: the curve in at most some hundred points; speed
/// over all steps, those of earlier processes too, and its share of `ceiling` (FLOP/s).
pub fn facts(path: &Path, screen: &Screen, ceiling: f64) -> Result<Value, Error> {
    let records = metrics::read(path)?;
    let seconds: f64 = records.iter().map(|r| r.machine.seconds).sum();
    let processed: f64 = records.iter().map(|r| r.machine.seconds * r.machine.tokens_per_s).sum();
    let rate = processed / seconds.max(1e-9);
    let flops = rate * screen.flop_per_token();
    let every = records.len().div_ceil(200).max(1);
    let mut curve = Vec::new();
    let mut samples = Vec::new();
    for (i, r) in records.iter().enumerate() {
        if i % every == 0 || r.validation.is_some() || i + 1 == records.len() {
            curve.push(json!({
                "step": r.step, "tokens": r.tokens, "loss": r.loss,
                "validation": r.validation.as_ref().map(|v| v.loss),
            }));
        }
        samples.extend(r.samples.iter().filter_map(Value::as_array).flatten().cloned());
    }
    let last = records.last();
    let validation = records.iter().rev().find_map(|r| r.validation.clone());
    let gate = records.iter().rev().find_map(|r| r.gate.clone());
    Ok(json!({
        "steps": last.map(|r| r.step),
        "tokens": last.map(|r| r.tokens),
        "loss": last.map(|r| r.loss),
        "validation": validation,
        "gate": gate,
        "curve": curve,
        "samples": samples,
        "parameters": screen.parameters(),
        "step_seconds": seconds,
        "tokens_per_s": rate,
        "flop_per_s": flops,
        "ceiling_flop_per_s": ceiling,
        "share_of_ceiling": flops / ceiling,
    }))
}

/// `8,123 tokens/s, 71 % of the f32 ceiling`.
pub fn speed(facts: &Value) -> String {
    format!(
        "{} tokens/s, {:.0} % of the {}",
        crate::terminal::thousands(facts["tokens_per_s"].as_f64().unwrap_or(0.0) as u64),
        100.0 * facts["share_of_ceiling"].as_f64().unwrap_or(0.0),
        super::train::ceiling(facts)
    )
}
