//! `quipu speedrun`: all stages in one folder, then the report and what to do next.

use super::{Setting, plan as needs, recipe_from};
use crate::cli::{Global, Input, Trained};
use crate::error::Error;
use crate::extension::AtCap;
use crate::recipe::Recipe;
use crate::report::spoken;
use crate::run_folder::RunFolder;
use crate::stage::{self, Context, STAGES};
use crate::watched::Watched;
use quipu_corpus::{Languages, Sample};
use quipu_mesh::World;
use quipu_store::fault;
use serde_json::json;
use std::path::{Path, PathBuf};

/// What is read of other input when nobody says how much: the recipe's training does not need more.
const SAMPLE: Sample = Sample { bytes: Some(100_000_000), documents: None };

/// Runs what is not finished of a whole run.
pub fn run(global: &Global, told: Trained, setting: &Setting) -> Result<(), Error> {
    let Trained { input, metrics, allow_cap, begun, mesh, check: checks, .. } = told;
    let mut recipe = recipe_from(global, &begun)?;
    recipe.divide(mesh.as_deref())?;
    for_input(&mut recipe, global, &input);
    let Input { input: inputs, dialogues, .. } = input;
    check(&inputs, dialogues.as_deref())?;
    let dir = folder(global, &recipe);
    if global.dry_run {
        return plan(&dir, &recipe, &inputs, None, setting);
    }
    check_mesh(&recipe, &setting.world)?;
    check_memory(&dir, &recipe, &inputs, None)?;
    let watched = watched(metrics.as_deref(), &dir, &recipe, setting)?;
    let context = open(&dir, recipe, inputs, dialogues, setting)?;
    let context = Context { watched, allow_cap, checks, ..context };
    stage::run(&context, None)?;
    if !setting.world.leads() {
        return Ok(());
    }
    let mut report = stage::report::run(&context)?;
    spoken::close(&context.run, &report, &setting.terminal);
    report["bytes_written"] = json!(fault::bytes_written());
    setting.terminal.result(&report);
    Ok(())
}

/// A mistyped path, and dialogues that are none, are told before anything is written.
pub fn check(inputs: &[PathBuf], dialogues: Option<&Path>) -> Result<(), Error> {
    let dialogues_missing = dialogues.filter(|path| !path.exists());
    match quipu_corpus::input::missing(inputs).or(dialogues_missing) {
        Some(path) => Err(Error::data(format!("input {} does not exist", path.display()))),
        None => Ok(dialogues.map(quipu_tune::read_dialogues).transpose().map(drop)?),
    }
}

/// A mesh of other ranks than there are processes is told before the first stage begins.
fn check_mesh(recipe: &Recipe, world: &World) -> Result<(), Error> {
    stage::device::held(&stage::device::parallel(recipe)?, world)
}

/// How much of other input than the world is read; the rest is [`own_words`].
fn for_input(recipe: &mut Recipe, global: &Global, input: &Input) {
    if input.sample.is_some() {
        recipe.corpus.sample = input.sample;
    }
    if !input.input.is_empty() {
        recipe.corpus.sample = recipe.corpus.sample.or(Some(SAMPLE));
        own_words(recipe, global);
        recipe.leave_world();
        if global.recipe.is_none() {
            // Shares of the recipe in the program are those of the world's pages; what other texts
            // teach of a longer context is shown, and no reason to end.
            for stage in &mut recipe.extend {
                stage.gate.at_cap = AtCap::GoOn;
                stage.train.mix.clear();
            }
            recipe.anneal.iter_mut().for_each(|anneal| anneal.mix.clear());
        }
    }
}

/// No language of what somebody brings goes, and its own words are completed, unless the user says
/// otherwise. The recipe in the program asks for English and completes words of its world; who
/// brings pages in German does not expect them to vanish.
pub fn own_words(recipe: &mut Recipe, global: &Global) {
    let said = |key: &str| {
        global.recipe.is_some() || global.set.iter().any(|set| set.trim_start().starts_with(key))
    };
    if !said("corpus.languages") {
        recipe.corpus.languages = Languages::All;
    }
    if !said("train.sample_prompts") {
        recipe.train.sample_prompts = Vec::new();
    }
}

/// `quipu train`, `tune`, …: the stages of a run up to one of them. A run that stands goes on with
/// its own recipe and inputs, unless others are named.
pub fn up_to(global: &Global, told: Trained, last: &str, setting: &Setting) -> Result<(), Error> {
    let Trained { mut input, metrics, allow_cap, begun, mesh, check: checks, .. } = told;
    let named = input.sample.is_some()
        || global.recipe.is_some()
        || !global.set.is_empty()
        || global.seed.is_some()
        || begun.from.is_some();
    let mut asked = recipe_from(global, &begun)?;
    let dir = folder(global, &asked);
    let stands = RunFolder::exists(&dir);
    if stands && input.input.is_empty() && input.dialogues.is_none() {
        (input.input, input.dialogues) = RunFolder::inputs(&dir)?;
    }
    for_input(&mut asked, global, &input);
    let mut recipe = if stands && !named { RunFolder::read(&dir)? } else { asked };
    recipe.divide(mesh.as_deref())?;
    let Input { input: inputs, dialogues, .. } = input;
    check(&inputs, dialogues.as_deref())?;
    if global.dry_run {
        return plan(&dir, &recipe, &inputs, Some(last), setting);
    }
    check_mesh(&recipe, &setting.world)?;
    check_memory(&dir, &recipe, &inputs, Some(last))?;
    let watched = watched(metrics.as_deref(), &dir, &recipe, setting)?;
    let context = open(&dir, recipe, inputs, dialogues, setting)?;
    let context = Context { watched, allow_cap, checks, ..context };
    stage::run(&context, Some(last))?;
    if !setting.world.leads() {
        return Ok(());
    }
    let mut facts = stage::facts(&context, last)?;
    if last == "anneal" {
        // All that pre-training left.
        let (extend, anneal) = (stage::facts(&context, "extend")?, facts);
        facts = stage::facts(&context, "train")?;
        (facts["extend"], facts["anneal"]) = (extend, anneal);
    }
    setting.terminal.result(&facts);
    Ok(())
}

/// `quipu report RUN`: both files anew, and what the run said.
pub fn report(dir: &Path, setting: &Setting) -> Result<(), Error> {
    let recipe = RunFolder::read(dir)?;
    let (inputs, dialogues) = RunFolder::inputs(dir)?;
    let context = open(dir, recipe, inputs, dialogues, setting)?;
    let report = stage::report::run(&context)?;
    spoken::stages(&report, &setting.terminal);
    spoken::close(&context.run, &report, &setting.terminal);
    setting.terminal.result(&report);
    Ok(())
}

/// Listens for who asks about the run, before anything is written or computed: an address that
/// cannot be had is not to be found out an hour later.
fn watched(
    address: Option<&str>,
    dir: &Path,
    recipe: &Recipe,
    setting: &Setting,
) -> Result<Option<Watched>, Error> {
    let Some(address) = address.filter(|_| setting.world.leads()) else { return Ok(None) };
    let watched = Watched::open(address, dir, &recipe.name)?;
    watched.announce(address, &setting.terminal);
    Ok(Some(watched))
}

pub fn open(
    dir: &Path,
    recipe: Recipe,
    inputs: Vec<PathBuf>,
    dialogues: Option<PathBuf>,
    setting: &Setting,
) -> Result<Context, Error> {
    Ok(Context {
        run: folder_of(dir, (&recipe, &inputs, dialogues.as_deref()), &setting.world)?,
        recipe,
        inputs,
        dialogues,
        progress: setting.progress.clone(),
        cancel: setting.cancel.clone(),
        terminal: setting.terminal,
        watched: None,
        allow_cap: false,
        checks: false,
        world: setting.world.clone(),
    })
}

/// The run's folder: the first process makes or opens it, for it is one process that writes there.
fn folder_of(
    dir: &Path,
    (recipe, inputs, dialogues): (&Recipe, &[PathBuf], Option<&Path>),
    world: &World,
) -> Result<RunFolder, Error> {
    // all of it, so that processes with other flags are found before one of them is at work
    let rest = json!({"inputs": inputs, "dialogues": dialogues, "folder": dir});
    world.same("run", &format!("{}\n{rest:#}", recipe.to_toml()))?;
    world.first(|| match world.leads() {
        true => RunFolder::open(dir, recipe, inputs, dialogues),
        false => Ok(RunFolder::follow(dir)),
    })
}

/// The folder of a run: as asked, else by the recipe's name.
pub fn folder(global: &Global, recipe: &Recipe) -> PathBuf {
    global.run_dir.clone().unwrap_or_else(|| PathBuf::from("runs").join(&recipe.name))
}

/// Whether a run up to a stage gets as far as training.
fn trains(last: Option<&str>) -> bool {
    reaches("train", last)
}

/// Whether it gets as far as fine-tuning.
fn tunes(last: Option<&str>) -> bool {
    reaches("tune", last)
}

fn reaches(stage: &str, last: Option<&str>) -> bool {
    let place = |stage: &str| STAGES.iter().position(|(name, _)| *name == stage);
    last.is_none_or(|last| place(last) >= place(stage))
}

/// Stages that a run's folder has behind it.
fn done(dir: &Path) -> Result<Vec<String>, Error> {
    let lines = quipu_store::journal::read(&dir.join(quipu_store::units::NAME))?;
    Ok(lines.iter().filter_map(|line| line["unit"].as_str().map(str::to_owned)).collect())
}

/// Too little memory for training is said before the first stage, not hours later.
fn check_memory(
    dir: &Path,
    recipe: &Recipe,
    inputs: &[PathBuf],
    last: Option<&str>,
) -> Result<(), Error> {
    if !trains(last) || done(dir)?.iter().any(|stage| stage == "train") {
        return Ok(());
    }
    needs::check(recipe, !inputs.is_empty(), tunes(last))
}

/// What would be done, up to a stage.
fn plan(
    dir: &Path,
    recipe: &Recipe,
    inputs: &[PathBuf],
    last: Option<&str>,
    setting: &Setting,
) -> Result<(), Error> {
    let terminal = setting.terminal;
    let done = done(dir)?;
    let is_done = |name: &str| done.iter().any(|stage| stage == name);
    if trains(last) && stage::device::parallel(recipe)?.axes.world() > 1 {
        terminal.comment("going through a step of each training, all its micro-batches");
    }
    let planned =
        trains(last).then(|| needs::of(recipe, !inputs.is_empty(), tunes(last))).transpose()?;
    let mut stages = Vec::new();
    terminal.say(&format!("in {}:", dir.display()));
    for (name, _) in STAGES {
        let left_out = match *name {
            "extend" => recipe.extend.is_empty(),
            "anneal" => recipe.anneal.is_none(),
            _ => false,
        };
        let state = match (is_done(name), left_out) {
            (true, _) => "done",
            (false, true) => "not in the recipe",
            (false, false) => "to do",
        };
        terminal.say(&format!("  {name:7} {state}"));
        stages.push(json!({"stage": name, "state": state}));
        if last == Some(*name) {
            break;
        }
    }
    let mut result = json!({
        "run_dir": dir, "inputs": inputs, "stages": stages, "recipe": recipe,
        "train_tokens": recipe.train.total_tokens(),
    });
    if let Some(planned) = planned {
        result["plan"] = needs::say(recipe, &planned, &terminal);
    }
    terminal.result(&result);
    Ok(())
}
