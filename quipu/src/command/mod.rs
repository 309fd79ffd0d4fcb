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
mod simulate;
mod speedrun;
mod verify;

use crate::cli::{self, AboutTraining, Begun, Bench, Cli, Command, Global, RunCommand, Train};
use crate::error::Error;
use crate::recipe::Recipe;
use crate::stage;
use crate::terminal::Terminal;
use quipu_mesh::World;
use quipu_mesh::process::Patience;
use quipu_mesh::schedule::{Kind, Shape};
use quipu_store::{Cancel, Progress, checksum, progress};
use std::sync::Arc;
use std::time::Duration;

/// What a command works with besides its own flags.
pub struct Setting {
    /// where results go
    pub terminal: Terminal,
    /// where bars and lines go
    pub progress: Arc<dyn Progress>,
    /// the request to stop
    pub cancel: Cancel,
    /// where the ranks of a run live
    pub world: World,
}

/// How long the ranks of a command wait for each other that divides its work over them, seconds.
fn divided(cli: &Cli) -> Option<u64> {
    let told = match &cli.command {
        Command::Speedrun(told) | Command::Tune(told) | Command::Eval(told) => told,
        Command::Train(train) if train.about.is_none() => &train.told,
        Command::Chat { .. } => return Some(LATE_ANSWER),
        Command::Verify { .. } | Command::Bench { what: Bench::Train(_) } => {
            return Some(cli::LATE_AFTER);
        }
        _ => return None,
    };
    Some(told.late_after).filter(|_| !cli.global.dry_run)
}

/// Seconds that ranks wait for one that is to help with an answer.
const LATE_ANSWER: u64 = 60;

/// The processes among which this one runs the command: where a launcher started several, they meet,
/// and are all the same program.
pub fn world(cli: &Cli) -> Result<World, Error> {
    let Some(late_after) = divided(cli) else { return Ok(World::Threads) };
    let world = World::enter(Patience::new(Duration::from_secs(late_after)))?;
    if world.ranks().is_some() {
        let program = std::env::current_exe().and_then(std::fs::read)?;
        let version = env!("CARGO_PKG_VERSION");
        world.same("build", &format!("{version} {}", checksum::xxh3_bytes(&program)))?;
    }
    Ok(world)
}

/// Runs the command of the command line.
pub fn run(mut cli: Cli, cancel: &Cancel, world: World) -> Result<(), Error> {
    let file = match &cli.command {
        Command::Train(Train { about: Some(AboutTraining::Simulate { file, .. }), .. })
        | Command::Train(Train { file, .. }) => file.clone(),
        _ => None,
    };
    cli.global.recipe = file.or(cli.global.recipe);
    let global = &cli.global;
    let mute = !world.leads();
    let terminal = Terminal { json: global.json, quiet: global.quiet, mute };
    let progress = progress::standard(global.quiet || mute);
    let setting = Setting { terminal, progress, cancel: cancel.clone(), world };
    let runs = matches!(
        cli.command,
        Command::Speedrun(_)
            | Command::Curate(_)
            | Command::Train(Train { about: None, .. })
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
        Command::Train(Train { about: Some(about), .. }) => {
            about_training(global, about, &terminal)
        }
        Command::Train(Train { told, .. }) => speedrun::up_to(global, told, "anneal", &setting),
        Command::Tune(told) => speedrun::up_to(global, told, "tune", &setting),
        Command::Eval(told) => speedrun::up_to(global, told, "eval", &setting),
        Command::Chat { from, prompt, stage, max_tokens, temperature, mesh } => {
            let seed = global.seed.unwrap_or(0);
            let ask = chat::Ask { prompt, stage, max_tokens, temperature, seed, mesh };
            chat::run(&from, &ask, &setting)
        }
        Command::Run { what: RunCommand::Compare(told) } => compare::run(&told, &setting),
        Command::Run { what: RunCommand::Probe(told) } => probe::run(&told, &setting),
        Command::Report { run } => speedrun::report(&run, &setting),
        Command::Export { from, to, stage } => export::run(&from, &to, stage, &terminal),
        Command::Verify { model, case, device, dtype, mesh } => {
            verify::run(&model, &case, (device, dtype.into(), &mesh), &setting)
        }
        Command::Bench { what } => bench::run(what, &setting),
        Command::Doctor => doctor::run(&terminal),
    }
}

/// What is said of training without a run.
fn about_training(global: &Global, about: AboutTraining, to: &Terminal) -> Result<(), Error> {
    match about {
        AboutTraining::Schedule { pp, v, micro_batches, n, zero_bubble, svg } => {
            let kind = if zero_bubble { Kind::ZeroBubble } else { Kind::OneForwardOneBackward };
            let shape = Shape { ranks: pp, chunks: v, micro_batches, contiguous: n, kind };
            schedule::run(shape, svg.as_deref(), to)
        }
        AboutTraining::Simulate { mesh, machine, .. } => {
            let mut recipe = recipe(global)?;
            recipe.divide(mesh.as_deref())?;
            simulate::run(&recipe, &machine, to)
        }
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
