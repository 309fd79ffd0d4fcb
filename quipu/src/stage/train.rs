//! Stage `train`: token shards → base model. Puts recipe, shards, device and screen together; the
//! loop is `train`'s.

use super::device;
use super::screen::Screen;
use super::{Context, Outcome};
use crate::error::Error;
use crate::recipe::Recipe;
use crate::terminal::thousands;
use quipu_eval::ngram::{self, Baselines};
use quipu_model::{Config, RopeScaling, Sizes};
use quipu_store::atomic;
use quipu_tokens::{Loader, Sequential, Tokenizer, Tokens};
use quipu_train::objective::NextToken;
use quipu_train::{Job, Start, export, metrics};
use serde_json::{Value, json};
use std::path::Path;

/// The folder of the base model, in Hugging Face's form.
pub const BASE: &str = "models/base";

/// The n-gram models' scores on the validation tokens.
const BASELINES: &str = "baselines.json";

/// Trains the base model, or goes on with it.
pub fn run(context: &Context) -> Result<Outcome, Error> {
    let recipe = &context.recipe;
    let tokens = Tokens::open(&context.run.path("tokens"))?;
    let beside = baselines(context, &tokens)?;
    let tokenizer = &*tokens.tokenizer;
    let course = recipe.train.course();
    let loader = Loader::new(tokenizer, tokens.train.clone(), &course, recipe.seed)?;
    let length = recipe.train.sequence_length;
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
    let ceiling = || device::ceiling(device::cores(), recipe.train.dtype);
    let before = ceiling();
    let screen = Screen::new(context, "train", prompts, tokens.tokenizer.clone());
    let screen = screen.beside(beside).against(before);
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
    let ceiling = before.max(ceiling());
    if !report.finished {
        context.cancel.check()?;
    }
    let (whole, base) = (device::whole(), context.run.path(BASE));
    if let Some(parent) = base.parent() {
        atomic::create_dir(parent)?;
    }
    export::of_checkpoint(&report.checkpoint, &base, whole, tokenizer, false)?;
    context.progress.finish("");
    let mut facts = facts(&job.metrics(), &screen, ceiling)?;
    facts["dtype"] = json!(pretraining.dtype);
    facts["baselines"] = levels(&beside);
    if let Some(averaged) = &report.averaged {
        // What is exported is what is spoken of.
        facts["validation_of_last"] = facts["validation"].take();
        facts["validation"] = json!(averaged);
    }
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

/// What n-gram models of the training tokens need for the validation tokens: counted once a run,
/// before training, so that every loss can be held against them.
fn baselines(context: &Context, tokens: &Tokens) -> Result<Baselines, Error> {
    let path = context.run.path(BASELINES);
    if path.is_file() {
        let damaged = |e| Error::data(format!("{} is damaged: {e}; delete it", path.display()));
        return serde_json::from_slice(&std::fs::read(&path)?).map_err(damaged);
    }
    context.progress.begin("n-grams", 0);
    let found = ngram::baselines(tokens, &context.cancel)?;
    let text = format!("{:#}\n", json!(found));
    atomic::write_bytes(&path, text.as_bytes())?;
    context.progress.finish("");
    let (five, one) = (found.five_gram, found.unigram);
    context.progress.note(&format!(
        "baselines of the same tokens, nats a token: 5-gram {:.3} · unigram {:.3}",
        five.loss(),
        one.loss()
    ));
    Ok(found)
}

fn levels(baselines: &Baselines) -> Value {
    let level = |s: &ngram::Score| {
        let (bits, nats) = (s.bits_per_byte(), s.loss());
        json!({"bits_per_byte": bits, "nats_per_token": nats, "targets": s.targets})
    };
    json!({"unigram": level(&baselines.unigram), "five_gram": level(&baselines.five_gram)})
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
    if let Some(scaling) = shape.rope_scaling {
        config.rope_scaling = RopeScaling::Llama3 {
            factor: scaling.factor,
            low_freq_factor: scaling.low_freq_factor,
            high_freq_factor: scaling.high_freq_factor,
            original_max_position_embeddings: scaling.original_max_position_embeddings,
        };
    }
    config.validate()?;
    Ok(config)
}

/// Bytes of text behind each token; a special token stands for none.
pub fn token_bytes(tokenizer: &Tokenizer) -> Vec<u32> {
    (0..tokenizer.vocabulary() as u32).map(|id| tokenizer.bytes(id).len() as u32).collect()
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
    Ok(json!({
        "steps": last.map(|r| r.step),
        "tokens": last.map(|r| r.tokens),
        "loss": last.map(|r| r.loss),
        "validation": validation,
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

fn line(facts: &Value) -> String {
    let count = |key: &str| thousands(facts[key].as_u64().unwrap_or(0));
    let mut line = format!(
        "{} parameters, {} steps, {} tokens",
        count("parameters"),
        count("steps"),
        count("tokens")
    );
    let (own, beside) = (&facts["validation"], &facts["baselines"]);
    if let Some(loss) = own["loss"].as_f64() {
        let of = |name: &str| beside[name]["nats_per_token"].as_f64().unwrap_or(f64::NAN);
        let (five, one) = (of("five_gram"), of("unigram"));
        line += &format!(" · validation loss {loss:.3} (5-gram {five:.3}, unigram {one:.3})");
    }
    if let Some(bits) = own["bits_per_byte"].as_f64() {
        let five = beside["five_gram"]["bits_per_byte"].as_f64().unwrap_or(f64::NAN);
        line += &format!(" · {bits:.3} bits a byte (5-gram {five:.3})");
    }
    line + " · " + &speed(facts)
}

/// `8,123 tokens/s, 71 % of the f32 ceiling`.
pub fn speed(facts: &Value) -> String {
    format!(
        "{} tokens/s, {:.0} % of the {}",
        thousands(facts["tokens_per_s"].as_f64().unwrap_or(0.0) as u64),
        100.0 * facts["share_of_ceiling"].as_f64().unwrap_or(0.0),
        ceiling(facts)
    )
}

/// `f32 ceiling`, or that of what was trained in.
pub fn ceiling(facts: &Value) -> String {
    match facts["dtype"].as_str() {
        Some(dtype) => format!("{dtype} ceiling"),
        None => "ceiling".into(),
    }
}
