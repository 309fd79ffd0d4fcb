//! Stage `train`: token shards → the first pre-training, from random weights, beside n-gram models
//! of the same tokens. Later stages go on from what it leaves; what they share is in `pretrain`.

use super::pretrain::{self, Pretraining, speed};
use super::{Context, Outcome, sets};
use crate::error::Error;
use crate::recipe::Shape;
use crate::terminal::thousands;
use quipu_eval::ngram::{self, Baselines};
use quipu_model::{Config, RopeScaling, Sizes};
use quipu_store::atomic;
use quipu_tokens::{Tokenizer, Tokens};
use quipu_train::Start;
use serde_json::{Value, json};

/// The folder of the base model, in Hugging Face's form.
pub const BASE: &str = "models/base";

/// The n-gram models' scores on the validation tokens.
const BASELINES: &str = "baselines.json";

/// Trains from random weights, or goes on with it. Where no stage of pre-training follows, what it
/// leaves is the base model.
pub fn run(context: &Context) -> Result<Outcome, Error> {
    let recipe = &context.recipe;
    let tokens = sets::tokens(context)?;
    pretrain::check_mixes(context, &tokens)?;
    let beside = baselines(context, &tokens)?;
    let mut pretraining = recipe.train.clone();
    if pretraining.sample_prompts.is_empty() && !context.inputs.is_empty() {
        pretraining.sample_prompts.extend(first_words(&tokens));
    }
    let stage = Pretraining {
        label: "train",
        dir: context.run.dir().to_owned(),
        recipe: &pretraining,
        shape: recipe.model.clone(),
        start: match &recipe.from {
            Some(origin) => Start::From(&origin.model),
            None => Start::Random,
        },
        gate: None,
        beside,
    };
    let (report, mut facts) = pretrain::run(context, &tokens, &stage)?;
    if recipe.extend.is_empty() && recipe.anneal.is_none() {
        pretrain::leave_base(context, &tokens, &report.checkpoint)?;
    }
    context.progress.finish("");
    facts["baselines"] = levels(&beside);
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
pub fn baselines(context: &Context, tokens: &Tokens) -> Result<Baselines, Error> {
    context.world.first(|| counted(context, tokens))
}

fn counted(context: &Context, tokens: &Tokens) -> Result<Baselines, Error> {
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

/// The model of a shape with a vocabulary of that size.
pub fn config(shape: &Shape, vocabulary: usize) -> Result<Config, Error> {
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

/// `f32 ceiling`, or that of what was trained in.
pub fn ceiling(facts: &Value) -> String {
    match facts["dtype"].as_str() {
        Some(dtype) => format!("{dtype} ceiling"),
        None => "ceiling".into(),
    }
}
