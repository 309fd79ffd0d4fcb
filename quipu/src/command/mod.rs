//! What each command does, a file each where it is more than a call. Not the stages of a run.

mod bench;
pub mod chat;
mod classify;
mod cluster;
pub mod compare;
mod curate;
pub mod doctor;
mod export;
mod extract;
mod look;
mod plan;
mod probe;
mod schedule;
mod speedrun;
mod verify;

use crate::cli::{Begun, Cli, Command, Global, RunCommand, Train};
use crate::error::Error;
use crate::recipe::Recipe;
use crate::stage;
use crate::terminal::Terminal;
use quipu_store::{Cancel, Progress, progress};
use std::sync::Arc;

/// What a command works with besides its own flags.
pub struct Setting {
    /// where results go
    pub terminal: Terminal,
    /// where bars and lines go
    pub progress: Arc<dyn Progress>,
    /// the request to stop
    pub cancel: Cancel,
}

/// Runs the command of the command line.
pub fn run(cli: Cli, cancel: &Cancel) -> Result<(), Error> {
    let global = &cli.global;
    let terminal = Terminal { json: global.json, quiet: global.quiet };
    let progress = progress::standard(global.quiet);
    let setting = Setting { terminal, progress, cancel: cancel.clone() };
    let runs = matches!(
        cli.command,
        Command::Speedrun(_)
            | Command::Curate(_)
            | Command::Train(_)
            | Command::Tune(_)
            | Command::Eval(_)
    );
    if global.dry_run && !runs {
        let these = "speedrun, curate, train, tune and eval";
        return Err(Error::usage(format!("--dry-run goes with {these} only")));
    }
    match cli.command {
        Command::Speedrun(told) => speedrun::run(global, told, &setting),
        Command::World { dir, size } => {
            let seed = recipe(global)?.seed;
            stage::world::command(&dir, size, seed, &terminal, &*setting.progress, cancel)
        }
        Command::Look { input } => {
            let mut recipe = recipe(global)?;
            speedrun::own_words(&mut recipe, global);
            look::run(&input, &recipe.corpus, &terminal)
        }
        Command::Extract { input } => extract::run(&input),
        Command::Curate(told) => curate::run(global, *told, &setting),
        Command::Classify { what } => classify::run(what, &setting),
        Command::Train(Train { about: Some(about), .. }) => schedule::run(about, &terminal),
        Command::Train(Train { told, .. }) => speedrun::up_to(global, told, "anneal", &setting),
        Command::Tune(told) => speedrun::up_to(global, told, "tune", &setting),
        Command::Eval(told) => speedrun::up_to(global, told, "eval", &setting),
        Command::Chat { from, prompt, stage, max_tokens, temperature } => {
            let seed = global.seed.unwrap_or(0);
            let ask = chat::Ask { prompt, stage, max_tokens, temperature, seed };
            chat::run(&from, &ask, &setting)
        }
        Command::Run { what: RunCommand::Compare(told) } => compare::run(&told, &setting),
        Command::Run { what: RunCommand::Probe(told) } => probe::run(&told, &setting),
        Command::Report { run } => speedrun::report(&run, &setting),
        Command::Export { from, to, stage } => export::run(&from, &to, stage, &terminal),
        Command::Verify { model, case, device, dtype } => {
            verify::run(&model, &case, (device, dtype.into()), &terminal)
        }
        Command::Bench { what } => bench::run(what, &terminal),
        Command::Doctor => doctor::run(&terminal),
    }
}

/// The recipe that the global flags ask for.
pub fn recipe(global: &Global) -> Result<Recipe, Error> {
    recipe_from(global, &Begun::default())
}

/// The same, of a run that begins as it is told.
pub fn recipe_from(global: &Global, begun: &Begun) -> Result<Recipe, Error> {
    let mut sets = begun.as_sets();
    sets.extend(global.set.iter().cloned());
    sets.extend(global.seed.map(|seed| format!("seed={seed}")));
    Recipe::resolve(global.recipe.as_deref(), &sets)
}
