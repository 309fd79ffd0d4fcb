//! Stage `report`: what the stages left, as `report.json` and `report.html`. Measures nothing; it
//! is made anew whenever the command is run, since it costs nothing.

use super::{Context, STAGES};
use crate::command::doctor;
use crate::error::Error;
use crate::report;
use quipu_store::{atomic, checksum};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Writes both files and returns what stands in `report.json`.
pub fn run(context: &Context) -> Result<Value, Error> {
    let report = build(context)?;
    let text = format!("{report:#}\n");
    atomic::write_bytes(&context.run.path("report.json"), text.as_bytes())?;
    let page = report::page(&report);
    atomic::write_bytes(&context.run.path("report.html"), page.as_bytes())?;
    Ok(report)
}

fn build(context: &Context) -> Result<Value, Error> {
    let recipe = &context.recipe;
    let units = context.run.stages();
    let facts = |name: &str| units.facts(name).map_or(Value::Null, |mut f| f["facts"].take());
    let mut stages = Vec::new();
    for (name, _) in STAGES {
        let Some(mut stage) = units.facts(name) else { continue };
        let share = stage["facts"]["share_of_ceiling"].take();
        stages.push(json!({
            "name": name, "line": stage["line"], "seconds": stage["seconds"],
            "peak_mib": stage["peak_mib"], "share_of_ceiling": share,
        }));
    }
    let mut tune = facts("tune");
    let mut eval = facts("eval");
    Ok(json!({
        "format": "quipu.report",
        "version": 1,
        "program": env!("CARGO_PKG_VERSION"),
        "recipe": recipe,
        "recipe_toml": recipe.to_toml(),
        "command": context.command,
        "inputs": if context.inputs.is_empty() { json!("the simulated world") } else { json!(context.inputs) },
        "verdict": eval["verdict"].take(),
        "honesty": eval["honesty"].take(),
        "stages": stages,
        "corpus": facts("corpus"),
        "tokens": facts("tokens"),
        "train": train(facts("train"), &mut eval),
        "dialogues": tune["dialogues"].take(),
        "tune": tune,
        "answers": eval["answers"].take(),
        "chat": eval["chat"].take(),
        "eval": eval,
        "machine": doctor::facts(),
        "hashes": hashes(context)?,
    }))
}

/// The training curve with the baselines of the same tokens, which `eval` computes.
fn train(mut train: Value, eval: &mut Value) -> Value {
    let baselines = eval["baselines"].take();
    if train.is_object() {
        train["baselines"] = baselines;
    }
    train
}

/// The checksum of each manifest of the run: they seal what the folders hold.
fn hashes(context: &Context) -> Result<Map<String, Value>, Error> {
    let mut found = Map::new();
    let root = context.run.dir();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let manifest = folder.join(quipu_store::manifest::NAME);
        if manifest.is_file() {
            let name = folder.strip_prefix(root).unwrap_or(&folder).to_string_lossy().into_owned();
            found.insert(name, json!(checksum::xxh3_file(&manifest)?));
        }
        folders.extend(subfolders(&folder)?);
    }
    found.sort_keys();
    Ok(found)
}

fn subfolders(folder: &Path) -> Result<Vec<std::path::PathBuf>, Error> {
    let entries = std::fs::read_dir(folder)?;
    let paths = entries.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>()?;
    Ok(paths.into_iter().filter(|p| p.is_dir()).collect())
}
