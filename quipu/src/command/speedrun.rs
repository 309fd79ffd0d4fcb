//! `quipu speedrun`: all stages in one folder, then the report and what to do next.

use super::{Setting, recipe};
use crate::cli::Global;
use crate::error::Error;
use crate::recipe::Recipe;
use crate::run_folder::RunFolder;
use crate::stage::{self, Context, STAGES};
use quipu_store::fault;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Runs what is not finished of a whole run.
pub fn run(
    global: &Global,
    inputs: Vec<PathBuf>,
    dialogues: Option<PathBuf>,
    setting: &Setting,
) -> Result<(), Error> {
    let recipe = recipe(global)?;
    for path in inputs.iter().chain(&dialogues).filter(|p| !p.exists()) {
        if path.to_str() != Some("rust-docs") {
            return Err(Error::data(format!("input {} does not exist", path.display())));
        }
    }
    let dir = folder(global, &recipe);
    if global.dry_run {
        return plan(&dir, &recipe, &inputs, setting);
    }
    let identity = match (inputs.is_empty(), &dialogues) {
        (true, None) => Value::Null,
        _ => json!({"inputs": inputs, "dialogues": dialogues}),
    };
    let context = Context {
        run: RunFolder::open(&dir, &recipe, &identity)?,
        recipe,
        inputs,
        dialogues,
        progress: setting.progress.clone(),
        cancel: setting.cancel.clone(),
        terminal: setting.terminal,
        command: std::env::args().collect::<Vec<_>>().join(" "),
    };
    stage::run(&context, "report")?;
    let mut report = stage::report::run(&context)?;
    close(&context);
    report["bytes_written"] = json!(fault::bytes_written());
    setting.terminal.result(&report);
    Ok(())
}

/// The folder of a run: as asked, else by the recipe's name.
pub fn folder(global: &Global, recipe: &Recipe) -> PathBuf {
    global.run_dir.clone().unwrap_or_else(|| PathBuf::from("runs").join(&recipe.name))
}

/// What would be done.
fn plan(
    dir: &std::path::Path,
    recipe: &Recipe,
    inputs: &[PathBuf],
    setting: &Setting,
) -> Result<(), Error> {
    let terminal = setting.terminal;
    let done = quipu_store::journal::read(&dir.join(quipu_store::units::NAME))?;
    let is_done = |name: &str| done.iter().any(|line| line["unit"] == name);
    let mut stages = Vec::new();
    terminal.say(&format!("in {}:", dir.display()));
    for (name, _) in STAGES {
        let state = if is_done(name) { "done" } else { "to do" };
        terminal.say(&format!("{name:7} {state}"));
        stages.push(json!({"stage": name, "state": state}));
    }
    let tokens = recipe.train.total_tokens();
    terminal.say(&format!("trains on {tokens} tokens in {} steps", recipe.train.steps));
    terminal.result(&json!({
        "run_dir": dir, "inputs": inputs, "stages": stages, "recipe": recipe,
        "train_tokens": tokens,
    }));
    Ok(())
}

fn close(context: &Context) {
    let dir = context.run.dir().display();
    for line in [format!("report  {dir}/report.html"), "next".into(), format!("  quipu chat {dir}")]
    {
        context.terminal.say(&line);
    }
}
