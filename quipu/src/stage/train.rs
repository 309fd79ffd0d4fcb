//! Stage `train`: token shards → base model. Puts recipe, shards, device and screen together; the
//! loop is `train`'s.

use super::device;
use super::screen::Screen;
use super::{Context, Outcome};
use crate::error::Error;
use crate::recipe::Recipe;
use crate::terminal::thousands;
use quipu_model::{Config, Sizes};
use quipu_store::atomic;
use quipu_tokens::loader::{Mix, Stage};
use quipu_tokens::{Loader, Sequential, Tokenizer, Tokens};
use quipu_train::objective::NextToken;
use quipu_train::{Job, Start, export, metrics};
use serde_json::{Value, json};
use std::path::Path;

/// The folder of the base model, in Hugging Face's form.
pub const BASE: &str = "models/base";

/// Trains the base model, or goes on with it.
pub fn run(context: &Context) -> Result<Outcome, Error> {
    let recipe = &context.recipe;
    let tokens = Tokens::open(&context.run.path("tokens"))?;
    let tokenizer = &*tokens.tokenizer;
    let all = [Stage { from: 0, mix: Mix::Natural }];
    let length = recipe.train.sequence_length;
    let loader = Loader::new(tokenizer, tokens.train.clone(), &all, recipe.seed, length)?;
    let held = Sequential::new(tokenizer, tokens.validation.clone(), length)?;
    let bytes = token_bytes(tokenizer);
    let objective = NextToken {
        samples: &loader,
        validation: Some((&held, held.rows())),
        token_bytes: Some(&bytes),
    };
    let axes = device::axes(recipe)?;
    let mut pretraining = recipe.train.clone();
    if pretraining.sample_prompts.is_empty() && !context.inputs.is_empty() {
        pretraining.sample_prompts.extend(first_words(&tokens));
    }
    let prompts = pretraining.sample_prompts.clone();
    let screen = Screen::new(context, "train", prompts, tokens.tokenizer.clone());
    let job = Job {
        dir: context.run.dir(),
        recipe: &pretraining,
        config: &config(recipe, tokenizer.vocabulary())?,
        start: Start::Random,
        axes,
        device: &device::of_ranks(axes),
        objective: &objective,
        watch: &screen,
        cancel: &context.cancel,
    };
    let report = quipu_train::run(&job)?;
    if !report.finished {
        context.cancel.check()?;
    }
    let (whole, base) = (device::whole(), context.run.path(BASE));
    if let Some(parent) = base.parent() {
        atomic::create_dir(parent)?;
    }
    export::of_checkpoint(&report.checkpoint, &base, whole, tokenizer, false)?;
    context.progress.finish("");
    let facts = facts(&job.metrics(), &screen)?;
    Ok(Outcome { line: line(&facts), facts })
}

/// Words of a prompt that is taken from the documents.
const PROMPT_WORDS: usize = 4;
/// Tokens in which those are looked for.
const PROMPT_TOKENS: u64 = 64;

/// The first words of the first document that is kept for validation: what the model is shown to
/// complete, where the recipe has no prompts of its own.
fn first_words(tokens: &Tokens) -> Option<String> {
    let shard = tokens.validation.iter().find(|s| s.documents() > 0)?;
    let entry = shard.document(0);
    let mut ids = Vec::new();
    shard.read(entry.start..entry.start + entry.tokens.min(PROMPT_TOKENS), &mut ids);
    let text = tokens.tokenizer.decode(&ids);
    let words: Vec<&str> = text.split_whitespace().take(PROMPT_WORDS).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// The model of a recipe with a vocabulary of that size.
pub fn config(recipe: &Recipe, vocabulary: usize) -> Result<Config, Error> {
    let shape = &recipe.model;
    let mut config = Config::new(Sizes {
        vocab_size: vocabulary,
        hidden_size: shape.hidden_size,
        intermediate_size: shape.ffn_size,
        layers: shape.layers,
        heads: shape.heads,
        kv_heads: shape.kv_heads,
        max_positions: shape.positions,
        tied: shape.tied,
    })?;
    config.rope_theta = shape.rope_theta;
    Ok(config)
}

/// Bytes of text behind each token; a special token stands for none.
pub fn token_bytes(tokenizer: &Tokenizer) -> Vec<u32> {
    (0..tokenizer.vocabulary() as u32).map(|id| tokenizer.bytes(id).len() as u32).collect()
}

/// What the report needs, from `metrics.jsonl`: the curve in at most some hundred points.
pub fn facts(path: &Path, screen: &Screen) -> Result<Value, Error> {
    let records = metrics::read(path)?;
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
    Ok(json!({
        "steps": last.map(|r| r.step),
        "tokens": last.map(|r| r.tokens),
        "loss": last.map(|r| r.loss),
        "validation": validation,
        "curve": curve,
        "samples": samples,
        "parameters": screen.parameters(),
        "tokens_per_s": screen.rate(),
        "share_of_ceiling": Value::Null,
    }))
}

fn line(facts: &Value) -> String {
    let count = |key: &str| thousands(facts[key].as_u64().unwrap_or(0));
    let mut line = format!(
        "{} parameters, {} steps, {} tokens · loss {:.3}",
        count("parameters"),
        count("steps"),
        count("tokens"),
        facts["loss"].as_f64().unwrap_or(f64::NAN)
    );
    if let Some(loss) = facts["validation"]["loss"].as_f64() {
        line += &format!(" · validation {loss:.3}");
    }
    if let Some(bits) = facts["validation"]["bits_per_byte"].as_f64() {
        line += &format!(" ({bits:.3} bits a byte)");
    }
    line
}
