//! Stage `tune`: base model → fine-tuned on dialogues → one round of preference training. With
//! other input than the world, dialogues come from a file or are made of the kept documents.

use super::screen::Screen;
use super::train::{BASE, facts, token_bytes, write_model};
use super::{Context, Outcome, device};
use crate::error::Error;
use crate::terminal::thousands;
use quipu_mesh::Mesh;
use quipu_model::{Capacity, Config, Model};
use quipu_store::atomic;
use quipu_tokens::{Tokenizer, Tokens};
use quipu_train::{Job, NextToken, Objective, Recipe, Start};
use quipu_tune::from_documents::{Limits, make};
use quipu_tune::{Dialogue, Dpo, Pairs, Preference, Rows, dialogue, read_dialogues};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The folder of the fine-tuned model.
pub const SFT: &str = "models/sft";
/// The folder of the final model.
pub const FINAL: &str = "models/final";

/// What the model is tuned on.
struct Lessons {
    dialogues: Vec<Dialogue>,
    preferences: Vec<Preference>,
    /// where they come from, for the report
    origin: String,
}

/// Tunes the base model in both steps.
pub fn run(context: &Context) -> Result<Outcome, Error> {
    let lessons = lessons(context)?;
    let tokens = Tokens::open(&context.run.path("tokens"))?;
    let tokenizer = &tokens.tokenizer;
    let sft = fine_tune(context, tokenizer, &lessons)?;
    let dpo = prefer(context, tokenizer, &lessons)?;
    context.progress.finish("");
    let line = format!(
        "{} dialogues ({}) · loss {:.3} · {} pairs · chosen preferred in {:.0} % of them",
        thousands(lessons.dialogues.len() as u64),
        lessons.origin,
        sft["loss"].as_f64().unwrap_or(f64::NAN),
        thousands(lessons.preferences.len() as u64),
        100.0 * dpo["accuracy"].as_f64().unwrap_or(f64::NAN),
    );
    Ok(Outcome { line, facts: json!({"dialogues": lessons.origin, "sft": sft, "dpo": dpo}) })
}

fn lessons(context: &Context) -> Result<Lessons, Error> {
    let world = context.run.path("world");
    if let Some(path) = &context.dialogues {
        let dialogues = read_dialogues(path)?;
        let made = made(context)?;
        let origin = format!("from {}", path.display());
        return Ok(Lessons { dialogues, preferences: made.preferences, origin });
    }
    if context.inputs.is_empty() {
        return Ok(Lessons {
            dialogues: read_dialogues(&world.join("dialogues.jsonl"))?,
            preferences: quipu_tune::read_preferences(&world.join("preferences.jsonl"))?,
            origin: "from the world".into(),
        });
    }
    let made = made(context)?;
    let origin = "made of the kept documents".into();
    Ok(Lessons { dialogues: made.dialogues, preferences: made.preferences, origin })
}

/// Dialogues made of the kept documents; written beside the run so that they can be read.
fn made(context: &Context) -> Result<quipu_tune::from_documents::Made, Error> {
    let corpus = context.run.path("corpus");
    let documents = quipu_documents::Reader::open(&corpus)?
        .collect::<Result<Vec<_>, quipu_documents::Error>>()?;
    let made = make(&documents, context.recipe.seed, Limits::default());
    let dir = context.run.path("dialogues");
    atomic::create_dir(&dir)?;
    dialogue::write(&dir.join("dialogues.jsonl"), &made.dialogues)?;
    dialogue::write(&dir.join("preferences.jsonl"), &made.preferences)?;
    dialogue::write(&dir.join("prompts.jsonl"), &made.prompts)?;
    Ok(made)
}

/// One training run from the weights in `from`, whose result is written to `out`.
struct Step<'a> {
    label: &'static str,
    recipe: &'a Recipe,
    from: &'static str,
    out: &'static str,
}

impl Step<'_> {
    fn run(
        &self,
        context: &Context,
        tokenizer: &Arc<Tokenizer>,
        objective: &dyn Objective,
    ) -> Result<Value, Error> {
        let dir = context.run.path(self.label);
        atomic::create_dir(&dir)?;
        let from = context.run.path(self.from);
        let axes = device::axes(&context.recipe)?;
        let screen = Screen::new(context, self.label, tokenizer.clone());
        let job = Job {
            dir: &dir,
            recipe: self.recipe,
            config: &Config::load(&from)?,
            start: Start::From(&from),
            axes,
            device: &device::of_ranks(axes),
            objective,
            watch: &screen,
            cancel: &context.cancel,
        };
        let report = quipu_train::run(&job)?;
        if !report.finished {
            context.cancel.check()?;
        }
        let out = context.run.path(self.out);
        write_model(&report.checkpoint, job.config, tokenizer, &out, true)?;
        facts(&job.metrics(), &screen)
    }
}

fn fine_tune(
    context: &Context,
    tokenizer: &Arc<Tokenizer>,
    lessons: &Lessons,
) -> Result<Value, Error> {
    let recipe = &context.recipe.sft;
    let rows = Rows::new(tokenizer, &lessons.dialogues, recipe.sequence_length, recipe.seed)?;
    let bytes = token_bytes(tokenizer);
    let objective = NextToken { samples: &rows, validation: None, token_bytes: Some(&bytes) };
    let step = Step { label: "sft", recipe, from: BASE, out: SFT };
    let mut facts = step.run(context, tokenizer, &objective)?;
    facts["too_long"] = json!(rows.too_long);
    Ok(facts)
}

fn prefer(
    context: &Context,
    tokenizer: &Arc<Tokenizer>,
    lessons: &Lessons,
) -> Result<Value, Error> {
    let recipe = &context.recipe.dpo;
    let pairs = Pairs::new(tokenizer, &lessons.preferences, recipe.sequence_length)?;
    let frozen = context.run.path(SFT);
    let cache = context.run.path("dpo").join("reference.json");
    atomic::create_dir(&context.run.path("dpo"))?;
    let name = fingerprint(&frozen)?;
    let reference = pairs.cached_reference(&cache, &name, || {
        let device = device::whole();
        let capacity = Capacity::frozen(&*device, recipe.sequence_length);
        Model::open(&frozen, device, Mesh::one(), capacity)
            .map_err(|e| quipu_train::Error::from(e).into())
    })?;
    let held = pairs.len() / 10;
    let weights = context.recipe.preference;
    let objective = Dpo::new(&pairs, &reference, weights, held, recipe.seed)?;
    let step = Step { label: "dpo", recipe, from: SFT, out: FINAL };
    let mut facts = step.run(context, tokenizer, &objective)?;
    let records = quipu_train::metrics::read(&context.run.path("dpo").join("metrics.jsonl"))?;
    let tail = &records[records.len() - records.len().min(5)..];
    let sum: f64 = tail.iter().filter_map(|r| r.more.get("accuracy")).sum();
    facts["accuracy"] = json!(sum / tail.len().max(1) as f64);
    facts["pairs"] = json!(pairs.len());
    Ok(facts)
}

/// What distinguishes one folder of weights from another.
fn fingerprint(dir: &Path) -> Result<String, Error> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir)?.filter_map(|e| e.ok().map(|e| e.path())).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "safetensors"));
    files.sort();
    let sums = files.iter().map(|f| quipu_store::checksum::xxh3_file(f));
    Ok(sums.collect::<Result<Vec<_>, _>>()?.join(" "))
}
