//! The stages of a run, each a function in a file of its own: world → corpus → tokens → train →
//! tune → eval → report. Here is only how they are run: a finished one is skipped, a killed one
//! goes on, each says one line.

mod corpus;
pub mod device;
mod eval;
pub mod report;
pub mod screen;
mod sentences;
mod spent;
mod tokens;
pub mod train;
mod tune;
pub mod world;

use crate::error::{Error, Kind};
use crate::recipe::Recipe;
use crate::run_folder::RunFolder;
use crate::terminal::{Terminal, peak_memory_mib};
use crate::watched::Watched;
use quipu_store::{Cancel, Progress};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;

/// What every stage is given.
pub struct Context {
    /// the run's folder, locked
    pub run: RunFolder,
    /// the resolved recipe
    pub recipe: Recipe,
    /// what is read instead of the world; empty: the world
    pub inputs: Vec<PathBuf>,
    /// dialogues that the user brings instead of made ones
    pub dialogues: Option<PathBuf>,
    /// where bars and lines of progress go
    pub progress: Arc<dyn Progress>,
    /// the request to stop
    pub cancel: Cancel,
    /// where results go
    pub terminal: Terminal,
    /// who is asked about the run over the network, with `--metrics`
    pub watched: Option<Watched>,
}

/// What a stage leaves.
pub struct Outcome {
    /// its result in one line
    pub line: String,
    /// figures for the report
    pub facts: Value,
}

/// A stage: its name and what it does.
pub type Stage = (&'static str, fn(&Context) -> Result<Outcome, Error>);

/// The stages of a whole run, in order.
pub const STAGES: &[Stage] = &[
    ("world", world::run),
    ("corpus", corpus::run),
    ("tokens", tokens::run),
    ("train", train::run),
    ("tune", tune::run),
    ("eval", eval::run),
];

/// A recipe's model, with as large a vocabulary as its tokenizer may have.
pub fn config(recipe: &Recipe) -> Result<quipu_model::Config, Error> {
    train::config(recipe, recipe.tokens.vocabulary)
}

/// The parameters of a recipe's model.
pub fn parameters(recipe: &Recipe) -> Result<quipu_model::Table, Error> {
    Ok(quipu_model::Table::new(&config(recipe)?))
}

/// Runs the stages that are not finished, up to and including `last`.
pub fn run(context: &Context, last: Option<&str>) -> Result<(), Error> {
    for (name, stage) in STAGES {
        let done = context.run.stages().facts(name);
        match done {
            Some(facts) => {
                context.terminal.comment(&format!("{} (done before)", line(name, &facts)));
            }
            None => {
                context.cancel.check()?;
                let facts = run_one(context, name, *stage)?;
                context.terminal.comment(&line(name, &facts));
            }
        }
        if last == Some(*name) {
            break;
        }
    }
    Ok(())
}

fn run_one(
    context: &Context,
    name: &str,
    stage: fn(&Context) -> Result<Outcome, Error>,
) -> Result<Value, Error> {
    let spent = spent::Spent::begin(context.run.dir(), name)?;
    let outcome = stage(context).map_err(|error| {
        context.progress.finish("");
        // What the stage failed with is what matters, not that its time is lost.
        let _ = spent.stopped();
        error.context(name)
    })?;
    let facts = json!({
        "line": outcome.line,
        "seconds": spent.seconds(),
        "killed": spent.killed(),
        "peak_mib": peak_memory_mib(),
        "facts": outcome.facts,
    });
    context.run.stages().commit(name, facts.clone())?;
    Ok(facts)
}

/// What a stage left, in a line.
pub fn line(name: &str, facts: &Value) -> String {
    let line = facts["line"].as_str().unwrap_or_default();
    format!("{name:7} {line} · {}", time(facts))
}

/// How long a stage took: at least, where a killed process left no time.
pub fn time(stage: &Value) -> String {
    let time = quipu_store::progress::duration(stage["seconds"].as_f64().unwrap_or(0.0));
    let killed = stage["killed"].as_u64().is_some_and(|n| n > 0);
    if killed { format!("at least {time}") } else { time }
}

/// The facts of a stage that must have run before.
pub fn facts(context: &Context, name: &str) -> Result<Value, Error> {
    let missing = || Error::new(Kind::Data, format!("stage {name} has not run in this folder"));
    Ok(context.run.stages().facts(name).ok_or_else(missing)?["facts"].take())
}
