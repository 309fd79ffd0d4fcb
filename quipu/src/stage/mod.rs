//! The stages of a run, each a function in a file of its own: world → corpus → tokens → train →
//! extend → anneal → tune → eval → report. Here is only how they are run: a finished one is skipped, a killed one
//! goes on, each says one line.

mod anneal;
mod corpus;
pub mod device;
mod eval;
pub mod extend;
pub mod pretrain;
pub mod report;
pub mod screen;
mod sentences;
pub mod sets;
mod spent;
mod tokens;
pub mod train;
mod tune;
pub mod world;

use crate::error::{Error, Kind};
use crate::recipe::{Recipe, Shape};
use crate::run_folder::RunFolder;
use crate::terminal::{Terminal, peak_memory_mib};
use crate::watched::Watched;
use quipu_mesh::World;
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
    /// whether the run goes on where a stage ended without having passed its gate
    pub allow_cap: bool,
    /// whether ranks compare what they hold the same of
    pub checks: bool,
    /// where the ranks live
    pub world: World,
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
    ("extend", extend::run),
    ("anneal", anneal::run),
    ("tune", tune::run),
    ("eval", eval::run),
];

/// Those of them that all processes of a run do together; the others the first one does alone.
const TOGETHER: [&str; 4] = ["train", "extend", "anneal", "tune"];

/// The model of a run while it has that shape: the recipe's, or somebody's whose context grew.
pub fn config_of(
    recipe: &Recipe,
    shape: &Shape,
    vocabulary: usize,
) -> Result<quipu_model::Config, Error> {
    let own = train::config(shape, vocabulary)?;
    let Some(origin) = &recipe.from else { return Ok(own) };
    let mut config = origin.config()?;
    config.max_positions = own.max_positions;
    config.rope_theta = own.rope_theta;
    config.rope_scaling = own.rope_scaling;
    Ok(config)
}

/// A recipe's model, with as large a vocabulary as its tokenizer may have.
pub fn config(recipe: &Recipe) -> Result<quipu_model::Config, Error> {
    config_of(recipe, &recipe.model, recipe.tokens.vocabulary)
}

/// The parameters of a recipe's model.
pub fn parameters(recipe: &Recipe) -> Result<quipu_model::Table, Error> {
    Ok(quipu_model::Table::new(&config(recipe)?))
}

/// Runs the stages that are not finished, up to and including `last`.
pub fn run(context: &Context, last: Option<&str>) -> Result<(), Error> {
    for (name, stage) in STAGES {
        let done = context.run.facts(name);
        match context.world.told(done.is_some())? {
            true => {
                let facts = done.unwrap_or_default();
                context.terminal.comment(&format!("{} (done before)", line(name, &facts)));
            }
            false if TOGETHER.contains(name) && !context.world.leads() => {
                stage(context).map_err(|error| error.context(name))?;
            }
            false => {
                let one = || {
                    context.cancel.check()?;
                    let facts = run_one(context, name, *stage)?;
                    context.terminal.comment(&line(name, &facts));
                    Ok::<_, Error>(())
                };
                match TOGETHER.contains(name) {
                    true => one()?,
                    false => context.world.alone(one).map(drop)?,
                }
            }
        }
        if *name == "extend" {
            context.world.alone(|| extend::check(context))?;
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
    context.run.commit(name, facts.clone())?;
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

/// What the last of some stages that measured it found on the held-out text.
pub fn base_validation(context: &Context, stages: &[&str]) -> Value {
    let of = |name: &&str| facts(context, name).ok().map(|mut f| f["validation"].take());
    stages.iter().filter_map(of).find(Value::is_object).unwrap_or(Value::Null)
}

/// The facts of a stage that must have run before.
pub fn facts(context: &Context, name: &str) -> Result<Value, Error> {
    let missing = || Error::new(Kind::Data, format!("stage {name} has not run in this folder"));
    Ok(context.run.facts(name).ok_or_else(missing)?["facts"].take())
}
