//! `quipu export`: a model as a Hugging Face checkpoint: of a run, or of such a checkpoint again. What
//! is copied is checked first, and never in memory as a whole.

use crate::cli::Stage;
use crate::error::Error;
use crate::run_folder::RunFolder;
use crate::terminal::{Terminal, thousands};
use quipu_model::huggingface;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Writes the model of `from` to `to`.
pub fn run(from: &Path, to: &Path, stage: Stage, terminal: &Terminal) -> Result<(), Error> {
    let from = model_folder(from, stage)?;
    check_target(to)?;
    let parameters = huggingface::copy(&from, to)?.parameters();
    huggingface::copy_companions(&from, to)?;
    let count = thousands(parameters as u64);
    terminal.say(&format!("{count} parameters from {} in {}", from.display(), to.display()));
    terminal.result(&json!({"from": from, "to": to, "parameters": parameters}));
    Ok(())
}

/// Nothing that stands in a folder, a run or somebody's checkpoint, is written over.
pub fn check_target(to: &Path) -> Result<(), Error> {
    let holds = if RunFolder::exists(to) {
        "is a run's folder".to_owned()
    } else if to.is_dir() {
        let Some(first) = std::fs::read_dir(to)?.next() else { return Ok(()) };
        format!("holds {} already", first?.file_name().display())
    } else if to.exists() {
        "is a file".to_owned()
    } else {
        return Ok(());
    };
    let change = "name a new or an empty folder to export to";
    Err(Error::usage(format!("{} {holds}; {change}", to.display())))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_new_or_an_empty_folder_is_a_target() {
        let dir = tempfile::tempdir().unwrap();
        assert!(check_target(dir.path()).is_ok());
        assert!(check_target(&dir.path().join("new")).is_ok());
        let refuse = |to: &Path, word: &str| {
            let error = check_target(to).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("new or an empty folder"), "{error}");
        };
        std::fs::write(dir.path().join("config.json"), "{}").unwrap();
        refuse(dir.path(), "holds config.json");
        refuse(&dir.path().join("config.json"), "is a file");
        std::fs::write(dir.path().join("run.json"), "{}").unwrap();
        refuse(dir.path(), "a run's folder");
    }
}
