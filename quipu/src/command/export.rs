//! `quipu export`: a model as a Hugging Face checkpoint: of a run, or of such a checkpoint again.

use crate::cli::Stage;
use crate::error::Error;
use crate::run_folder::RunFolder;
use crate::stage::device;
use crate::terminal::{Terminal, thousands};
use quipu_mesh::Mesh;
use quipu_model::{Capacity, Model};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Files beside the weights that belong to a checkpoint and are not ours to change.
const BESIDE: [&str; 5] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
];

/// Writes the model of `from` to `to`.
pub fn run(from: &Path, to: &Path, stage: Stage, terminal: &Terminal) -> Result<(), Error> {
    let from = model_folder(from, stage)?;
    if from == to {
        return Err(Error::usage("a checkpoint cannot be exported onto itself"));
    }
    let device = device::whole();
    let capacity = Capacity::generating(&*device, 1);
    let model = Model::open(&from, device, Mesh::one(), capacity)?;
    model.save(to)?;
    for name in BESIDE {
        let path = from.join(name);
        if path.is_file() {
            quipu_store::atomic::write_bytes(&to.join(name), &std::fs::read(&path)?)?;
        }
    }
    let parameters = model.table().parameters();
    let count = thousands(parameters as u64);
    terminal.say(&format!("{count} parameters from {} in {}", from.display(), to.display()));
    terminal.result(&json!({"from": from, "to": to, "parameters": parameters}));
    Ok(())
}

/// The checkpoint folder that a run's folder or a checkpoint folder means.
pub fn model_folder(from: &Path, stage: Stage) -> Result<PathBuf, Error> {
    if !from.exists() {
        return Err(Error::data(format!("{} does not exist", from.display())));
    }
    if !RunFolder::exists(from) {
        if from.join("config.json").is_file() {
            return Ok(from.to_path_buf());
        }
        let found = from.display();
        let lacks = "it has neither run.json nor config.json";
        return Err(Error::data(format!("{found} is no run's folder and no checkpoint: {lacks}")));
    }
    let name = match stage {
        Stage::Base => "base",
        Stage::Sft => "sft",
        Stage::Final => "final",
    };
    let path = from.join("models").join(name);
    if path.join("config.json").is_file() {
        return Ok(path);
    }
    let run = from.display();
    Err(Error::data(format!("{run} has no {name} model yet: run `quipu tune --run-dir {run}`")))
}
