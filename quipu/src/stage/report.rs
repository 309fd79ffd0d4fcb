//! Stage `report`: what the stages left, as `report.json` and `report.html`. Measures nothing; it
//! is made anew whenever the command is run, since it costs nothing.

use super::{Context, STAGES};
use crate::command::doctor;
use crate::error::Error;
use crate::recipe::Recipe;
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
    let units = &context.run;
    let facts = |name: &str| units.facts(name).map_or(Value::Null, |mut f| f["facts"].take());
    let mut stages = Vec::new();
    for (name, _) in STAGES {
        let Some(mut stage) = units.facts(name) else { continue };
        stages.push(json!({
            "name": name, "line": stage["line"], "seconds": stage["seconds"],
            "killed": stage["killed"], "peak_mib": stage["peak_mib"],
            "share_of_ceiling": stage["facts"]["share_of_ceiling"].take(),
            "tokens_per_s": stage["facts"]["tokens_per_s"].take(),
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
        "command": command(context),
        "inputs": if context.inputs.is_empty() { json!("the simulated world") } else { json!(context.inputs) },
        "verdict": eval["verdict"].take(),
        "honesty": eval["honesty"].take(),
        "corpus": facts("corpus"),
        "tokens": facts("tokens"),
        "train": train(facts("train"), &mut eval),
        "extend": facts("extend"),
        "anneal": facts("anneal"),
        "seconds": stages.iter().filter_map(|s| s["seconds"].as_f64()).sum::<f64>(),
        "peak_mib": stages.iter().filter_map(|s| s["peak_mib"].as_f64()).fold(0.0, f64::max),
        "dialogues": tune["dialogues"].take(),
        "tune": tune,
        "stages": stages,
        "answers": eval["answers"].take(),
        "chat": eval["chat"].take(),
        "eval": eval,
        "machine": doctor::facts(),
        "hashes": hashes(context)?,
        "next": next(context),
    }))
}

/// Each completion with what of it stands in the training text, which `eval` finds.
fn train(mut train: Value, eval: &mut Value) -> Value {
    let mut spans = eval["completions_verbatim"].take();
    for (i, sample) in train["samples"].as_array_mut().into_iter().flatten().enumerate() {
        // A run that stopped before `eval` has completions but no spans.
        sample["verbatim"] = spans.get_mut(i).map_or(Value::Null, Value::take);
    }
    train
}

/// How this program was started, so that a command that is printed works as it stands.
pub fn program() -> String {
    let by_cargo = std::env::var("CARGO_PKG_NAME").is_ok_and(|name| name == "quipu");
    let first = std::env::args().next().unwrap_or_else(|| "quipu".into());
    if by_cargo { "cargo run --release --".into() } else { quoted(&first) }
}

/// A word as a shell reads it back.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// The command that makes this run again, in its own folder: by what differs from the recipe in
/// the program, or by the run's recipe where that is much.
fn command(context: &Context) -> String {
    const MOST: usize = 8;
    let dir = context.run.dir().to_string_lossy();
    let tuned = context.run.path(super::tune::FINAL).is_dir();
    let mut words = vec![if tuned { "speedrun" } else { "train" }.to_owned()];
    if context.allow_cap {
        words.push("--allow-cap".into());
    }
    let sets = context.recipe.as_sets();
    let same = |recipe: Recipe| recipe == context.recipe;
    if sets.len() <= MOST && Recipe::resolve(None, &sets).is_ok_and(same) {
        words.extend(sets.into_iter().flat_map(|set| ["--set".to_owned(), set]));
    } else {
        words
            .extend(["--recipe".to_owned(), context.run.path("recipe.toml").display().to_string()]);
    }
    if !context.inputs.is_empty() {
        words.push("--input".into());
        words.extend(context.inputs.iter().map(|path| path.display().to_string()));
    }
    if let Some(path) = &context.dialogues {
        words.extend(["--dialogues".to_owned(), path.display().to_string()]);
    }
    words.extend(["--run-dir".to_owned(), format!("{dir}-again")]);
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("{} {}", program(), words.join(" "))
}

/// What to do with a run: four things with one that is finished, three with one that has a base
/// model so far.
fn next(context: &Context) -> Value {
    let (program, dir) = (program(), context.run.dir().to_string_lossy());
    let (run, export) = (quoted(&dir), quoted(&format!("{dir}-export")));
    let prompts = context.recipe.train.sample_prompts.first();
    let prompt = quoted(prompts.map_or("The", String::as_str));
    let docs = doctor::rust_docs().is_ok() && context.inputs.is_empty();
    let other = if docs {
        let command = "speedrun --input rust-docs --run-dir runs/rust-docs".to_owned();
        (command, "on pages that people wrote")
    } else {
        let first = context.inputs.first().map(|path| path.display().to_string());
        let crawl = context.run.path("world").join("crawl.warc.gz").display().to_string();
        (format!("look {}", quoted(&first.unwrap_or(crawl))), "what an input holds, before a run")
    };
    let base = format!("chat {run} --stage base --prompt {prompt}");
    let transformers = "a checkpoint for transformers";
    let all = match context.run.path(super::tune::FINAL).is_dir() {
        true => vec![
            (format!("chat {run}"), "talk with it"),
            (base, "before it was tuned"),
            (format!("export {run} {export}"), transformers),
            other,
        ],
        false if context.run.path(super::train::BASE).is_dir() => vec![
            (base, "what it completes"),
            (format!("tune --run-dir {run}"), "teach it to answer"),
            (format!("export {run} {export} --stage base"), transformers),
        ],
        false => vec![(format!("train --run-dir {run}"), "go on with it")],
    };
    let said = |(command, why)| json!({"command": format!("{program} {command}"), "why": why});
    all.into_iter().map(said).collect()
}

/// The checksum of each manifest of the run, which seals what its folder holds, and of the weights
/// of each model.
fn hashes(context: &Context) -> Result<Map<String, Value>, Error> {
    let mut found = Map::new();
    let root = context.run.dir();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for file in [quipu_store::manifest::NAME, "model.safetensors"] {
            let path = folder.join(file);
            if path.is_file() {
                let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
                found.insert(name, json!(checksum::xxh3_file(&path)?));
            }
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

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_shell_reads_words_back() {
        assert_eq!(quoted("runs/a-b_c.1"), "runs/a-b_c.1");
        assert_eq!(quoted("corpus.languages=[\"en\"]"), "'corpus.languages=[\"en\"]'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }
}
