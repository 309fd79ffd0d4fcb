//! Stage `eval`: examinations beside chance and the untrained model, loss beside n-gram models of
//! the same tokens, the same prompts at three stages, how much of an answer is copied. The measures
//! are `eval`'s; here is what is measured and how it is said in a sentence.

use super::train::{BASE, config};
use super::tune::{FINAL, SFT};
use super::{Context, Outcome, device, facts};
use crate::error::Error;
use crate::terminal::thousands;
use quipu_eval::exam::{self, ClassResult, Graded, Question};
use quipu_eval::prompts::{self, Answer, Prompt};
use quipu_eval::{ngram, verbatim};
use quipu_infer::{Engine, Sampling, Settings, replies};
use quipu_mesh::Mesh;
use quipu_model::{Capacity, Model};
use quipu_tokens::{Message, Role, Tokenizer, Tokens};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Rows that pass through the model at once, over all sequences.
const ROWS: usize = 256;
/// Sequences at once.
const BATCH: usize = 32;
/// Tokens of an answer in an examination; a fact needs fewer.
const EXAM_TOKENS: usize = 32;
/// Tokens of a call of a tool: JSON is rare in small vocabularies.
const CALL_TOKENS: usize = 64;
/// Tokens of an answer to a held-out prompt.
const ANSWER_TOKENS: usize = 256;

/// Measures the run's models.
pub fn run(context: &Context) -> Result<Outcome, Error> {
    let tokens = Tokens::open(&context.run.path("tokens"))?;
    let tokenizer = &*tokens.tokenizer;
    let mut found = Map::new();
    let baselines = ngram::baselines(&tokens, &context.cancel)?;
    let level =
        |s: &ngram::Score| json!({"bits_per_byte": s.bits_per_byte(), "nats_per_token": s.loss()});
    found.insert(
        "baselines".into(),
        json!({"unigram": level(&baselines.unigram), "five_gram": level(&baselines.five_gram)}),
    );
    let exam = examination(context, tokenizer)?;
    let shown = held_out(context, tokenizer, &tokens, &mut found)?;
    found.insert("chat".into(), conversation(context, tokenizer, &shown)?);
    let ratio = against_five_gram(context, baselines.five_gram.bits_per_byte())?;
    found.insert("verdict".into(), json!(verdict(ratio, &exam)));
    found.insert("honesty".into(), json!(honesty(context)));
    found.insert("classes".into(), exam["classes"].clone());
    found.insert("examples".into(), exam["examples"].clone());
    let line = line(ratio, &exam, &found);
    context.progress.finish("");
    Ok(Outcome { line, facts: Value::Object(found) })
}

fn open(path: &Path) -> Result<Model, Error> {
    let device = device::whole();
    let capacity = Capacity::generating(&*device, ROWS);
    Ok(Model::open(path, device, Mesh::one(), capacity)?)
}

/// A model of the same shape that has learned nothing.
fn untrained(context: &Context, vocabulary: usize) -> Result<Model, Error> {
    let device = device::whole();
    let capacity = Capacity::generating(&*device, ROWS);
    let config = config(&context.recipe, vocabulary)?;
    let mut model = Model::new(device, Mesh::one(), config, capacity)?;
    model.init(context.recipe.train.seed)?;
    Ok(model)
}

/// Accuracy by class of the final and of an untrained model, with some answers.
fn examination(context: &Context, tokenizer: &Tokenizer) -> Result<Value, Error> {
    let path = context.run.path("world").join("exam.jsonl");
    if !context.inputs.is_empty() || !path.is_file() {
        return Ok(json!({"classes": [], "examples": []}));
    }
    let questions = fitting(exam::read(&path)?, tokenizer, context.recipe.model.positions)?;
    let graded = examine(context, open(&context.run.path(FINAL))?, tokenizer, &questions)?;
    let blank = untrained(context, tokenizer.vocabulary())?;
    let chance = exam::results(&examine(context, blank, tokenizer, &questions)?);
    let stated = statements(&context.run.path("world").join("facts.jsonl"))?;
    let results = exam::results(&graded);
    let class = |(r, blank): (&ClassResult, &ClassResult)| {
        json!({
            "class": r.class, "questions": r.accuracy.of, "right": r.accuracy.count,
            "accuracy": r.accuracy.value, "low": r.accuracy.low, "high": r.accuracy.high,
            "held_out_forms": r.held_out_forms, "constant_answer": r.constant,
            "constant": r.chance.value, "untrained": blank.accuracy.value,
            "statements": stated.get(&r.class),
        })
    };
    let classes: Vec<Value> = results.iter().zip(&chance).map(class).collect();
    Ok(json!({"classes": classes, "examples": examples(&graded)}))
}

/// Questions whose prompt leaves room for an answer in the model's context.
fn fitting(
    questions: Vec<Question>,
    tokenizer: &Tokenizer,
    positions: usize,
) -> Result<Vec<Question>, Error> {
    let chat = quipu_tokens::Chat::new(tokenizer)?;
    let mut kept = Vec::new();
    for question in questions {
        if chat.prompt(&question.dialogue())?.len() + answer_tokens(&question) <= positions {
            kept.push(question);
        }
    }
    Ok(kept)
}

/// Most tokens of an answer.
fn answer_tokens(question: &Question) -> usize {
    if question.asks_for_call() { CALL_TOKENS } else { EXAM_TOKENS }
}

fn examine(
    context: &Context,
    mut model: Model,
    tokenizer: &Tokenizer,
    questions: &[Question],
) -> Result<Vec<Graded>, Error> {
    context.progress.begin("eval", questions.len() as u64);
    let mut engine = Engine::new(&mut model, BATCH);
    let mut graded = Vec::new();
    let alike = questions.chunk_by(|a, b| a.asks_for_call() == b.asks_for_call());
    for part in alike.flat_map(|part| part.chunks(8 * BATCH)) {
        let stop = || context.cancel.is_requested();
        let most = answer_tokens(&part[0]);
        graded.extend(exam::examine(&mut engine, tokenizer, part, most, &stop)?);
        context.cancel.check()?;
        context.progress.advance(part.len() as u64);
    }
    Ok(graded)
}

/// Mean number of statements of the facts of a class.
fn statements(path: &Path) -> Result<BTreeMap<String, f64>, Error> {
    let mut sums: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for fact in quipu_store::journal::read(path)? {
        let (Some(class), Some(n)) = (fact["class"].as_str(), fact["statements"].as_f64()) else {
            continue;
        };
        let sum = sums.entry(class.to_owned()).or_default();
        *sum = (sum.0 + n, sum.1 + 1.0);
    }
    Ok(sums.into_iter().map(|(class, (sum, n))| (class, sum / n)).collect())
}

/// Two right and two wrong answers of each class.
fn examples(graded: &[Graded]) -> Vec<&Graded> {
    let mut seen: BTreeMap<(String, bool), usize> = BTreeMap::new();
    let few = |g: &&Graded| {
        let count = seen.entry((g.class.clone(), g.right)).or_default();
        *count += 1;
        *count <= 2
    };
    graded.iter().filter(few).collect()
}

/// Held-out prompts: how answers end, and some of them at three stages.
fn held_out(
    context: &Context,
    tokenizer: &Tokenizer,
    tokens: &Tokens,
    found: &mut Map<String, Value>,
) -> Result<Vec<Prompt>, Error> {
    let folder = if context.inputs.is_empty() { "world" } else { "dialogues" };
    let path = context.run.path(folder).join("prompts.jsonl");
    let mut all = if path.is_file() { prompts::read(&path)? } else { Vec::new() };
    if all.iter().all(|p| !p.show) {
        all.iter_mut().take(10).for_each(|p| p.show = true);
    }
    if all.is_empty() {
        return Ok(all);
    }
    let stop = || context.cancel.is_requested();
    let mut model = open(&context.run.path(FINAL))?;
    let mut engine = Engine::new(&mut model, BATCH);
    let (last, endings, statistics) =
        prompts::answer(&mut engine, tokenizer, &all, ANSWER_TOKENS, &stop)?;
    context.cancel.check()?;
    found.insert("endings".into(), json!(endings));
    found.insert("tokens_per_s".into(), json!(statistics.tokens_per_second()));
    let (shown, last): (Vec<Prompt>, Vec<Answer>) =
        all.into_iter().zip(last).filter(|(p, _)| p.show).unzip();
    let mut at = Vec::new();
    for stage in [BASE, SFT] {
        let mut model = open(&context.run.path(stage))?;
        let mut engine = Engine::new(&mut model, BATCH);
        at.push(prompts::answer(&mut engine, tokenizer, &shown, EXAM_TOKENS * 2, &stop)?.0);
    }
    let texts: Vec<&str> = last.iter().map(|a| a.text.as_str()).collect();
    let spans = verbatim::longest_spans(&texts, verbatim::training_texts(tokens));
    let row = |i: usize| {
        let asked = shown[i].messages.last().map_or("", |m| m.content.as_str());
        json!({
            "prompt": asked, "base": at[0][i].text, "sft": at[1][i].text, "final": texts[i],
            "reference": shown[i].reference, "ended": last[i].ended, "verbatim": spans[i],
        })
    };
    found.insert("answers".into(), (0..shown.len()).map(row).collect());
    Ok(shown)
}

/// Three turns with the final model.
fn conversation(
    context: &Context,
    tokenizer: &Tokenizer,
    prompts: &[Prompt],
) -> Result<Value, Error> {
    let mut model = open(&context.run.path(FINAL))?;
    let mut engine = Engine::new(&mut model, 1);
    let settings = Settings { max_new: EXAM_TOKENS * 2, sampling: Sampling::greedy() };
    let mut turns: Vec<Message> = Vec::new();
    for prompt in prompts.iter().filter(|p| p.messages.len() == 1).take(3) {
        turns.extend(prompt.messages.iter().cloned());
        let room = quipu_tokens::Chat::new(tokenizer)?.prompt(&turns)?.len();
        if room + settings.max_new > context.recipe.model.positions {
            turns.pop();
            break;
        }
        let dialogue = std::slice::from_ref(&turns);
        let (mut said, _) = replies(&mut engine, tokenizer, dialogue, settings, &|| false)?;
        turns.push(Message::new(Role::Assistant, said.remove(0).text));
    }
    Ok(json!(turns))
}

/// Validation bits per byte of the model over those of the 5-gram model.
fn against_five_gram(context: &Context, five_gram: f64) -> Result<Option<f64>, Error> {
    let bits = facts(context, "train")?["validation"]["bits_per_byte"].as_f64();
    Ok(bits.map(|bits| bits / five_gram))
}

fn percent(value: &Value) -> String {
    format!("{:.0} %", 100.0 * value.as_f64().unwrap_or(0.0))
}

fn verdict(ratio: Option<f64>, exam: &Value) -> String {
    let mut out = match ratio {
        Some(r) if r < 1.0 => {
            format!(
                "It predicts unseen text {:.0} % better than a 5-gram model.",
                100.0 * (1.0 - r)
            )
        }
        Some(r) => {
            format!("It predicts unseen text {:.0} % worse than a 5-gram model.", 100.0 * (r - 1.0))
        }
        None => "Its loss on unseen text was not measured.".into(),
    };
    let classes = exam["classes"].as_array().cloned().unwrap_or_default();
    for c in classes.iter().filter(|c| c["statements"].is_number()) {
        out += &format!(
            " Of facts stated {} ({:.0} times each) it knows {} (95 %: {} to {}; the best \
             constant answer {}).",
            c["class"].as_str().unwrap_or_default(),
            c["statements"].as_f64().unwrap_or(0.0),
            percent(&c["accuracy"]),
            percent(&c["low"]),
            percent(&c["high"]),
            percent(&c["constant"])
        );
    }
    out
}

fn honesty(context: &Context) -> String {
    let kept = facts(context, "corpus").ok().and_then(|f| f["kept"].as_u64()).unwrap_or(0);
    let of = if context.inputs.is_empty() { "of a made-up world" } else { "of your input" };
    format!(
        "This model has read {} pages {of} and nothing else: what they state often it may know, \
         everything else it makes up in the same tone.",
        thousands(kept)
    )
}

fn line(ratio: Option<f64>, exam: &Value, found: &Map<String, Value>) -> String {
    let mut parts = Vec::new();
    if let Some(ratio) = ratio {
        parts.push(format!("bits a byte {:.0} % of a 5-gram model's", 100.0 * ratio));
    }
    for c in exam["classes"].as_array().into_iter().flatten() {
        let class = c["class"].as_str().unwrap_or_default();
        parts.push(format!("{class} {}", percent(&c["accuracy"])));
    }
    if let Some(endings) = found.get("endings") {
        let mean = endings["mean_tokens"].as_f64().unwrap_or(0.0);
        let ended = percent(&endings["ended"]["value"]);
        parts.push(format!("{ended} of answers end by themselves, {mean:.0} tokens on average"));
    }
    parts.join(" · ")
}
