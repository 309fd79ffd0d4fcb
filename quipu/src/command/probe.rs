//! `quipu run probe`: what a set of data is worth (paper, section 3.1.3): a model that is half
//! trained is annealed on it and, as a control, without it; both take the examination. Cheaper than
//! scaling laws for every set. The trainer is `train`'s, the measures are `eval`'s.

use super::{Setting, speedrun};
use crate::cli::Trial;
use crate::error::Error;
use crate::run_folder::RunFolder;
use crate::stage::pretrain::{self, Pretraining};
use crate::stage::{Context, device, sets, train};
use crate::terminal::thousands;
use quipu_eval::Share;
use quipu_eval::exam::{self, ClassResult, Question};
use quipu_infer::Engine;
use quipu_model::Capacity;
use quipu_store::atomic;
use quipu_tokens::Tokens;
use quipu_train::mix::Phase;
use quipu_train::{Curve, Recipe, Start, checkpoint, export, folder};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The source of the set, as a mix names it.
const SET: &str = "set-on-trial";
/// Questions of each class that are shown with their answers.
const SHOTS: usize = 4;
/// Tokens of an answer.
const ANSWER: usize = 24;
/// Rows of prompts that pass through the model at once, and sequences.
const ROWS: usize = 256;
const BATCH: usize = 32;

/// Anneals twice and compares.
pub fn run(told: &Trial, setting: &Setting) -> Result<(), Error> {
    if !(told.share > 0.0 && told.share < 1.0) {
        return Err(Error::usage(format!("--share {}: it lies between 0 and 1", told.share)));
    }
    let recipe = RunFolder::read(&told.run)?;
    let (inputs, dialogues) = RunFolder::inputs(&told.run)?;
    let context = speedrun::open(&told.run, recipe, inputs, dialogues, setting)?;
    let questions = questions(told, &context)?;
    let start = start(told, &context)?;
    let out = told.out.clone().unwrap_or_else(|| context.run.path("probes").join(name(told)));
    let tokens = tokens(told, &context, &out)?;
    let base = annealing(told, &context, &start)?;
    let mut runs = Vec::new();
    for (name, share) in [("control", 0.0), ("with the set", told.share)] {
        let recipe = Recipe { mix: vec![mix(&context, &tokens, share)], ..base.clone() };
        let dir = out.join(if share > 0.0 { "with" } else { "control" });
        let found = one(&context, &tokens, (&start, &dir), &recipe, &questions)?;
        runs.push(json!({"name": name, "share": share, "found": found}));
    }
    let verdicts = verdicts(&runs);
    let found = json!({
        "set": told.data, "checkpoint": start, "steps": base.steps, "rate": base.peak_lr,
        "tokens": base.total_tokens(), "runs": runs, "verdicts": verdicts,
    });
    atomic::write_bytes(&out.join("probe.json"), format!("{found:#}\n").as_bytes())?;
    context.progress.finish("");
    say(&found, setting);
    setting.terminal.say(&format!("written to {}", out.join("probe.json").display()));
    setting.terminal.result(&found);
    Ok(())
}

/// The set's name, from its first path.
fn name(told: &Trial) -> String {
    let first = told.data.first().and_then(|path| path.file_stem());
    first.map_or_else(|| "set".into(), |name| name.to_string_lossy().into_owned())
}

/// Those that can be asked of a model that completes text.
fn questions(told: &Trial, context: &Context) -> Result<Vec<Question>, Error> {
    let world = context.run.path("world/exam.jsonl");
    let path = told.exam.clone().unwrap_or(world);
    if !path.is_file() {
        let path = path.display();
        return Err(Error::usage(format!(
            "{path} does not exist; name questions with --exam FILE"
        )));
    }
    let all = exam::read(&path)?;
    let mut classes: Vec<&str> = all.iter().map(|q| q.class.as_str()).collect();
    classes.dedup();
    if let Some(unknown) = told.class.iter().find(|name| !classes.contains(&name.as_str())) {
        let known = classes.join(", ");
        return Err(Error::usage(format!("--class {unknown}: the questions are of {known}")));
    }
    let wanted = |q: &Question| {
        let named = told.class.is_empty() || told.class.contains(&q.class);
        named && q.can_be_asked() && q.context.is_none()
    };
    Ok(all.into_iter().filter(wanted).collect())
}

/// The checkpoint at which both begin.
fn start(told: &Trial, context: &Context) -> Result<PathBuf, Error> {
    let Some(step) = told.at else { return pretrain::last_checkpoint(context.run.dir()) };
    let dir = context.run.path("checkpoints");
    let steps = folder::steps(&dir)?;
    if steps.contains(&step) {
        return Ok(folder::path(&dir, step));
    }
    Err(Error::usage(format!(
        "--at {step}: there are checkpoints after steps {steps:?}; a run keeps more with \
         train.keep_checkpoints"
    )))
}

/// The run's tokens, with those of the set behind them, which is taken as it is.
fn tokens(told: &Trial, context: &Context, out: &Path) -> Result<Tokens, Error> {
    let set = sets::make(context, SET, &told.data, out)?;
    sets::tokens_with(context, &[set])
}

/// What both are trained with, but for the mix.
fn annealing(told: &Trial, context: &Context, start: &Path) -> Result<Recipe, Error> {
    let run = &context.recipe.train;
    let behind = checkpoint::facts(start)?.progress.step;
    let level = run.portion(behind).level;
    let steps = told.steps.unwrap_or((run.steps / 4).max(1));
    let rate = told.rate.unwrap_or_else(|| run.schedule().rate(behind));
    let recipe = Recipe {
        sequence_length: level.sequence_length,
        batch_tokens: level.batch_tokens,
        micro_batch_tokens: level.micro_batch_tokens,
        ramp: Vec::new(),
        max_epochs: BTreeMap::new(),
        steps,
        schedule: Curve::Linear,
        peak_lr: rate,
        floor_lr: 0.0,
        warm_up: 0,
        checkpoint_every: steps,
        keep_checkpoints: 1,
        evaluate_every: 0,
        sample_prompts: Vec::new(),
        spikes: None,
        average: None,
        ..run.clone()
    };
    recipe.check()?;
    Ok(recipe)
}

/// The mix that the run ended with, with the set as a part of it.
fn mix(context: &Context, tokens: &Tokens, share: f64) -> Phase {
    let mut shares: BTreeMap<String, f64> = match context.recipe.train.mix.last() {
        Some(phase) => phase.shares.clone(),
        None => {
            let all = quipu_tokens::sources(&tokens.train).into_iter();
            all.filter(|(name, _)| name != SET && !sets::is_set(context, name))
                .map(|(name, n)| (name, n as f64))
                .collect()
        }
    };
    let sum: f64 = shares.values().sum();
    shares.values_mut().for_each(|of| *of *= (1.0 - share) / sum);
    if share > 0.0 {
        shares.insert(SET.into(), share);
    }
    Phase { after_tokens: 0, shares }
}

/// One annealing and its examination.
fn one(
    context: &Context,
    tokens: &Tokens,
    (start, dir): (&Path, &Path),
    recipe: &Recipe,
    questions: &[Question],
) -> Result<Value, Error> {
    let stage = Pretraining {
        label: "probe",
        dir: dir.to_owned(),
        recipe,
        shape: context.recipe.model.clone(),
        start: Start::Checkpoint(start),
        gate: None,
        beside: train::baselines(context, tokens)?,
    };
    let (report, facts) = pretrain::run(context, tokens, &stage)?;
    let device = device::whole();
    let capacity = Capacity::generating(&*device, ROWS);
    let mut model = export::load(&report.checkpoint, device, Some(capacity))?;
    let mut engine = Engine::new(&mut model, BATCH);
    let stop = || context.cancel.is_requested();
    let mut graded = Vec::new();
    for class in questions.chunk_by(|a, b| a.class == b.class) {
        let halves = class.split_at(SHOTS.min(class.len()));
        graded.extend(exam::complete(&mut engine, &tokens.tokenizer, halves, ANSWER, &stop)?);
        context.cancel.check()?;
    }
    let results = exam::results(&graded);
    let examples: Vec<_> = graded.iter().take(6).collect();
    Ok(json!({"validation": facts["validation"], "classes": results, "examples": examples}))
}

fn classes(run: &Value) -> Vec<ClassResult> {
    serde_json::from_value(run["found"]["classes"].clone()).unwrap_or_default()
}

/// Of each class, what the set does to it.
fn verdicts(runs: &[Value]) -> Vec<Value> {
    let [control, with] = [0, 1].map(|i| runs.get(i).map(classes).unwrap_or_default());
    let one = |(before, after): (&ClassResult, &ClassResult)| {
        let (a, b) = (&before.accuracy, &after.accuracy);
        let says = if b.above(a) {
            "helps: the intervals lie apart"
        } else if a.above(b) {
            "harms: the intervals lie apart"
        } else {
            "no difference that is sure"
        };
        json!({"class": before.class, "control": a, "with": b, "verdict": says})
    };
    control.iter().zip(&with).map(one).collect()
}

fn say(found: &Value, setting: &Setting) {
    let loss = |i: usize| found["runs"][i]["found"]["validation"]["loss"].as_f64();
    let (control, with) = (loss(0).unwrap_or(f64::NAN), loss(1).unwrap_or(f64::NAN));
    let tokens = thousands(found["tokens"].as_u64().unwrap_or(0));
    setting.terminal.say(&format!(
        "annealed over {tokens} tokens: validation loss {control:.3} without the set, {with:.3} \
         with it"
    ));
    for verdict in found["verdicts"].as_array().into_iter().flatten() {
        let share = |key: &str| -> Share {
            serde_json::from_value(verdict[key].clone()).unwrap_or_default()
        };
        setting.terminal.say(&format!(
            "{:12} {} → {}: {}",
            verdict["class"].as_str().unwrap_or_default(),
            share("control"),
            share("with"),
            verdict["verdict"].as_str().unwrap_or_default()
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_sure_only_where_intervals_lie_apart() {
        let run = |right: usize| {
            let accuracy = Share::new(right, 100);
            let class = ClassResult {
                class: "sums".into(),
                accuracy,
                held_out_forms: Share::default(),
                declined: Share::default(),
                constant: String::new(),
                chance: Share::default(),
            };
            json!({"found": {"classes": [class]}})
        };
        let check = |control, with, expected: &str| {
            let found = verdicts(&[run(control), run(with)]);
            assert!(found[0]["verdict"].as_str().unwrap().starts_with(expected), "{found:?}");
        };
        check(2, 40, "helps");
        check(40, 2, "harms");
        check(10, 14, "no difference");
    }
}
