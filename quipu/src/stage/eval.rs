//! Stage `eval`: examinations beside chance and the untrained model, the same prompts at three
//! stages, how much of each sample is copied. The measures are `eval`'s; here is what is measured,
//! and in `sentences` how it is said.

use super::train::BASE;
use super::tune::{FINAL, SFT};
use super::{Context, Outcome, base_validation, config_of, device, facts, sentences};
use crate::error::Error;
use quipu_eval::exam::{self, ClassResult, Graded, Question};
use quipu_eval::prompts::{self, Answer, Prompt};
use quipu_eval::verbatim;
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
/// Prompts that a report shows.
const SHOWN: usize = 10;
/// Tokens of an answer that is shown.
const SHOWN_TOKENS: usize = 64;

/// A prompt that the report shows with the answers of all three models.
struct Shown {
    prompt: Prompt,
    /// what makes an answer right, where a machine can tell
    accept: Vec<String>,
    /// the class of an examined question
    class: String,
}

/// Measures the run's models.
pub fn run(context: &Context) -> Result<Outcome, Error> {
    let tokens = Tokens::open(&context.run.path("tokens"))?;
    let tokenizer = &*tokens.tokenizer;
    let mut train = facts(context, "train")?;
    train["validation"] = base_validation(context, &["anneal", "extend", "train"]);
    let mut found = Map::new();
    let questions = questions(context, tokenizer)?;
    let exam = examination(context, tokenizer, &questions)?;
    let questions = questions.asked;
    let prompts = with_room(prompts(context)?, tokenizer, context.recipe.last_shape().positions)?;
    held_out(context, tokenizer, &prompts, &mut found)?;
    let shown = shown(prompts, &questions);
    let answers = three_stages(context, tokenizer, &shown)?;
    let completions: Vec<String> = completions(&train);
    copied(&tokens, &shown, &answers, &completions, &mut found);
    found.insert("chat".into(), conversation(context, tokenizer, &shown)?);
    let ratio = against_five_gram(&train);
    found.insert("verdict".into(), json!(sentences::verdict(ratio, &exam)));
    found.insert("honesty".into(), json!(sentences::honesty(context, &exam)));
    found.insert("classes".into(), exam["classes"].clone());
    found.insert("examples".into(), exam["examples"].clone());
    let line = sentences::line(ratio, &exam, &found);
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
    let config = config_of(&context.recipe, &context.recipe.last_shape(), vocabulary)?;
    let mut model = Model::new(device, Mesh::one(), config, capacity)?;
    model.init(context.recipe.train.seed)?;
    Ok(model)
}

/// An examination as it can be held.
#[derive(Default)]
struct Questions {
    asked: Vec<Question>,
    /// all classes, in the order in which they first occur
    classes: Vec<Class>,
}

/// A class of questions with the numbers of those that are not asked.
#[derive(Default)]
struct Class {
    name: String,
    /// their prompt leaves no room for an answer in the model's context
    too_long: usize,
    /// right would be a program, which is not run
    programs: usize,
}

/// The world's examination; none for other input.
fn questions(context: &Context, tokenizer: &Tokenizer) -> Result<Questions, Error> {
    let path = context.run.path("world").join("exam.jsonl");
    if !context.inputs.is_empty() || !path.is_file() {
        return Ok(Questions::default());
    }
    sorted_out(exam::read(&path)?, tokenizer, context.recipe.last_shape().positions)
}

/// Accuracy by class of the final and of an untrained model, with some answers.
fn examination(
    context: &Context,
    tokenizer: &Tokenizer,
    questions: &Questions,
) -> Result<Value, Error> {
    let Questions { asked: questions, classes } = questions;
    if classes.is_empty() {
        return Ok(json!({"classes": [], "examples": []}));
    }
    let graded = examine(context, open(&context.run.path(FINAL))?, tokenizer, questions)?;
    let blank = untrained(context, tokenizer.vocabulary())?;
    let chance = exam::results(&examine(context, blank, tokenizer, questions)?);
    let stated = statements(&context.run.path("world").join("facts.jsonl"))?;
    let results = exam::results(&graded);
    let class = |(r, blank): (&ClassResult, &ClassResult)| {
        json!({
            "questions": r.accuracy.of, "right": r.accuracy.count,
            "accuracy": r.accuracy.value, "low": r.accuracy.low, "high": r.accuracy.high,
            "held_out_forms": r.held_out_forms, "declined": r.declined, "constant_answer": r.constant,
            "constant": r.chance.value, "untrained": blank.accuracy.value,
            "statements": stated.get(&r.class),
        })
    };
    let row = |of: &Class| {
        let measured = results.iter().zip(&chance).find(|(r, _)| r.class == of.name);
        let mut row = measured.map_or_else(|| json!({"questions": 0}), class);
        row["class"] = json!(of.name);
        row["too_long"] = json!(of.too_long);
        row["programs"] = json!(of.programs);
        row
    };
    let classes: Vec<Value> = classes.iter().map(row).collect();
    Ok(json!({"classes": classes, "examples": examples(&graded)}))
}

/// What can be asked of a model with so many positions, and what cannot, counted.
fn sorted_out(
    questions: Vec<Question>,
    tokenizer: &Tokenizer,
    positions: usize,
) -> Result<Questions, Error> {
    let chat = quipu_tokens::Chat::new(tokenizer)?;
    let mut out = Questions::default();
    for question in questions {
        let known = out.classes.iter().position(|c| c.name == question.class);
        let at = known.unwrap_or(out.classes.len());
        if known.is_none() {
            out.classes.push(Class { name: question.class.clone(), ..Class::default() });
        }
        if !question.can_be_asked() {
            out.classes[at].programs += 1;
        } else if chat.prompt(&question.dialogue())?.len() + answer_tokens(&question) > positions {
            out.classes[at].too_long += 1;
        } else {
            out.asked.push(question);
        }
    }
    Ok(out)
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

/// The held-out prompts of the world, or of the documents that were kept.
fn prompts(context: &Context) -> Result<Vec<Prompt>, Error> {
    let folder = if context.inputs.is_empty() { "world" } else { "dialogues" };
    let path = context.run.path(folder).join("prompts.jsonl");
    if path.is_file() { Ok(prompts::read(&path)?) } else { Ok(Vec::new()) }
}

/// Prompts that leave room for at least a word of an answer in the model's context: of documents
/// that somebody brings, a heading or a sentence may be longer than a small model's.
fn with_room(
    prompts: Vec<Prompt>,
    tokenizer: &Tokenizer,
    positions: usize,
) -> Result<Vec<Prompt>, Error> {
    let chat = quipu_tokens::Chat::new(tokenizer)?;
    let mut kept = Vec::new();
    for prompt in prompts {
        if chat.prompt(&prompt.messages)?.len() < positions {
            kept.push(prompt);
        }
    }
    Ok(kept)
}

/// Whether the final model ends its answers by itself, and how long they are.
fn held_out(
    context: &Context,
    tokenizer: &Tokenizer,
    all: &[Prompt],
    found: &mut Map<String, Value>,
) -> Result<(), Error> {
    if all.is_empty() {
        return Ok(());
    }
    context.progress.begin("prompts", 0);
    let stop = || context.cancel.is_requested();
    let mut model = open(&context.run.path(FINAL))?;
    let mut engine = Engine::new(&mut model, BATCH);
    let (_, endings, statistics) =
        prompts::answer(&mut engine, tokenizer, all, ANSWER_TOKENS, &stop)?;
    context.cancel.check()?;
    found.insert("endings".into(), json!(endings));
    found.insert("tokens_per_s".into(), json!(statistics.tokens_per_second()));
    Ok(())
}

/// Ten prompts, chosen before any answer is known: the first question of each class of the
/// examination, then held-out prompts, those first that are marked to be shown.
fn shown(prompts: Vec<Prompt>, questions: &[Question]) -> Vec<Shown> {
    let mut classes: Vec<&str> = Vec::new();
    let mut shown = Vec::new();
    for question in questions.iter().filter(|q| q.context.is_none()) {
        if shown.len() < SHOWN / 2 && !classes.contains(&question.class.as_str()) {
            classes.push(&question.class);
            let prompt = Prompt {
                messages: question.dialogue(),
                reference: question.accept.join(" or "),
                show: true,
            };
            let (accept, class) = (question.accept.clone(), question.class.clone());
            shown.push(Shown { prompt, accept, class });
        }
    }
    let (marked, others): (Vec<Prompt>, Vec<Prompt>) = prompts.into_iter().partition(|p| p.show);
    let open = |prompt| Shown { prompt, accept: Vec::new(), class: String::new() };
    let room = SHOWN - shown.len();
    shown.extend(marked.into_iter().chain(others).take(room).map(open));
    shown
}

/// The answers of the base, the fine-tuned and the final model, in that order.
fn three_stages(
    context: &Context,
    tokenizer: &Tokenizer,
    shown: &[Shown],
) -> Result<[Vec<Answer>; 3], Error> {
    let asked: Vec<Prompt> = shown.iter().map(|s| s.prompt.clone()).collect();
    let stop = || context.cancel.is_requested();
    let of = |stage: &str| -> Result<Vec<Answer>, Error> {
        let mut model = open(&context.run.path(stage))?;
        let mut engine = Engine::new(&mut model, BATCH);
        Ok(prompts::answer(&mut engine, tokenizer, &asked, SHOWN_TOKENS, &stop)?.0)
    };
    let answers = [of(BASE)?, of(SFT)?, of(FINAL)?];
    context.cancel.check()?;
    Ok(answers)
}

/// What the model said to its prompts while it learned.
fn completions(train: &Value) -> Vec<String> {
    let samples = train["samples"].as_array().into_iter().flatten();
    samples.map(|s| s["text"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Every shown sample with its longest span that stands verbatim in the training text.
fn copied(
    tokens: &Tokens,
    shown: &[Shown],
    answers: &[Vec<Answer>; 3],
    completions: &[String],
    found: &mut Map<String, Value>,
) {
    let answered = answers.iter().flatten().map(|a| a.text.as_str());
    let texts: Vec<&str> = answered.chain(completions.iter().map(String::as_str)).collect();
    let spans = verbatim::longest_spans(&texts, verbatim::training_texts(tokens));
    let count = shown.len();
    let row = |(i, one): (usize, &Shown)| {
        let asked = one.prompt.messages.last().map_or("", |m| m.content.as_str());
        let said = |stage: usize| {
            let answer = &answers[stage][i];
            let right = (!one.accept.is_empty()).then(|| match one.class.as_str() {
                "arithmetic" => exam::is_result(&answer.text, asked, &one.accept),
                _ => exam::is_right(&answer.text, &one.accept),
            });
            json!({
                "text": answer.text, "ended": answer.ended, "right": right,
                "verbatim": spans[stage * count + i],
            })
        };
        json!({
            "prompt": asked, "class": one.class, "reference": one.prompt.reference,
            "base": said(0), "sft": said(1), "final": said(2),
        })
    };
    found.insert("answers".into(), shown.iter().enumerate().map(row).collect());
    found.insert("completions_verbatim".into(), json!(spans[3 * count..]));
}

/// Three turns with the final model.
fn conversation(context: &Context, tokenizer: &Tokenizer, shown: &[Shown]) -> Result<Value, Error> {
    let mut model = open(&context.run.path(FINAL))?;
    let mut engine = Engine::new(&mut model, 1);
    // Three answers and their questions fit into the context.
    let max_new = SHOWN_TOKENS.min(context.recipe.last_shape().positions / 6);
    let settings = Settings { max_new, sampling: Sampling::greedy() };
    let mut turns: Vec<Message> = Vec::new();
    let first = shown.iter().filter(|s| s.class.is_empty()).map(|s| &s.prompt);
    for prompt in first.filter(|p| p.messages.len() == 1).take(3) {
        turns.extend(prompt.messages.iter().cloned());
        let room = quipu_tokens::Chat::new(tokenizer)?.prompt(&turns)?.len();
        if room + settings.max_new > context.recipe.last_shape().positions {
            turns.pop();
            break;
        }
        let dialogue = std::slice::from_ref(&turns);
        let (mut said, _) = replies(&mut engine, tokenizer, dialogue, settings, &|| false)?;
        turns.push(Message::new(Role::Assistant, said.remove(0).text));
    }
    Ok(json!(turns))
}

/// Validation bits per byte of the model over those of the 5-gram model; none where the two were
/// not measured on equally many targets, that is, on other text.
fn against_five_gram(train: &Value) -> Option<f64> {
    let (own, five) = (&train["validation"], &train["baselines"]["five_gram"]);
    let same = own["tokens"].as_u64()? == five["targets"].as_u64()?;
    let ratio = own["bits_per_byte"].as_f64()? / five["bits_per_byte"].as_f64()?;
    same.then_some(ratio)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_of_other_text_are_not_compared() {
        let train = |tokens: u64| {
            json!({
                "validation": {"bits_per_byte": 1.5, "tokens": tokens},
                "baselines": {"five_gram": {"bits_per_byte": 2.0, "targets": 90}},
            })
        };
        assert_eq!(against_five_gram(&train(90)), Some(0.75));
        assert_eq!(against_five_gram(&train(89)), None);
        assert_eq!(against_five_gram(&json!({})), None);
    }
}
