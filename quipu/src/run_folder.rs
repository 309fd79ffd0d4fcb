//! A run is a folder: its recipe as resolved, the stages' folders, metrics, reports. One process
//! at a time works in it. Not the stages: they own what is in their folders.

use crate::error::{Error, Kind};
use crate::recipe::Recipe;
use quipu_store::lock::RunLock;
use quipu_store::units::Units;
use quipu_store::{atomic, checksum};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Version of the folder's layout.
const VERSION: u64 = 1;
const MARK: &str = "run.json";
const RECIPE: &str = "recipe.toml";

/// An open run folder.
pub struct RunFolder {
    dir: PathBuf,
    /// none where another process of the run owns the folder
    own: Option<Own>,
}

/// What the one process has that writes in the folder: its stages, and the lock until dropped.
struct Own {
    units: Units,
    _lock: RunLock,
}

impl RunFolder {
    /// Creates the folder for a recipe and its inputs, or opens it to go on with the same.
    pub fn open(
        dir: &Path,
        recipe: &Recipe,
        inputs: &[PathBuf],
        dialogues: Option<&Path>,
    ) -> Result<Self, Error> {
        let inputs = &json!({"inputs": inputs, "dialogues": dialogues});
        check_is_run_or_empty(dir)?;
        atomic::create_dir(dir)?;
        let lock = RunLock::acquire(dir)?;
        atomic::sweep(dir)?;
        let resolved = recipe.to_toml();
        // a run may go on over other ranks than it began with
        let any = Recipe { mesh: String::new(), ..recipe.clone() }.to_toml();
        let hash = checksum::xxh3_bytes(format!("{any}\n{inputs}").as_bytes());
        match read_mark(dir)? {
            Some(mark) => check_same(dir, &mark, recipe, inputs, &hash)?,
            None => {
                atomic::write_bytes(&dir.join(RECIPE), resolved.as_bytes())?;
                let mark = json!({
                    "format": "quipu.run", "version": VERSION, "hash": hash, "inputs": inputs,
                    "program": env!("CARGO_PKG_VERSION"),
                });
                let text = format!("{mark:#}\n");
                atomic::write_bytes(&dir.join(MARK), text.as_bytes())?;
            }
        }
        let units = Units::open(dir, &hash)?;
        Ok(Self { dir: dir.to_path_buf(), own: Some(Own { units, _lock: lock }) })
    }

    /// The folder that another process of the same run has opened: this one reads there, and writes
    /// what is its part.
    pub fn follow(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf(), own: None }
    }

    /// Opens an existing run without locking it, for commands that only read; returns its recipe.
    pub fn read(dir: &Path) -> Result<Recipe, Error> {
        let missing =
            || Error::data(format!("{} is no run folder: it has no {MARK}", dir.display()));
        read_mark(dir)?.ok_or_else(missing)?;
        Recipe::load(&dir.join(RECIPE))
    }

    /// Whether `dir` is a run's folder.
    pub fn exists(dir: &Path) -> bool {
        dir.join(MARK).is_file()
    }

    /// The inputs and the dialogues that a run was started with; none for the world.
    pub fn inputs(dir: &Path) -> Result<(Vec<PathBuf>, Option<PathBuf>), Error> {
        let mark = read_mark(dir)?.unwrap_or_default();
        let inputs = mark["inputs"]["inputs"].as_array().cloned().unwrap_or_default();
        let path = |v: &Value| v.as_str().map(PathBuf::from);
        let inputs = inputs.iter().filter_map(path).collect();
        Ok((inputs, path(&mark["inputs"]["dialogues"])))
    }

    /// The path of something in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What a finished stage left to say; nothing is known of them to who only follows.
    pub fn facts(&self, stage: &str) -> Option<Value> {
        self.own.as_ref()?.units.facts(stage)
    }

    /// Marks a stage as finished.
    pub fn commit(&self, stage: &str, facts: Value) -> Result<(), Error> {
        match &self.own {
            Some(own) => Ok(own.units.commit(stage, facts)?),
            None => Err(Error::data(format!("stage {stage} is another process's to finish"))),
        }
    }
}

/// A folder with other things in it is not to be written into by a mistyped `--run-dir`.
fn check_is_run_or_empty(dir: &Path) -> Result<(), Error> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        if dir.exists() {
            return Err(Error::usage(format!("--run-dir {} is not a folder", dir.display())));
        }
        return Ok(());
    };
    let ours = |name: &str| name.starts_with('.') || name == MARK || name == RECIPE;
    let mut others = entries
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|n| !ours(n));
    if dir.join(MARK).is_file() {
        return Ok(());
    }
    match others.next() {
        None => Ok(()),
        Some(other) => Err(Error::usage(format!(
            "--run-dir {} holds {other} and is no run folder; name an empty or a new folder",
            dir.display()
        ))),
    }
}

fn read_mark(dir: &Path) -> Result<Option<Value>, Error> {
    let path = dir.join(MARK);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::data(format!("cannot read {}: {e}", path.display()))),
    };
    let mark: Value = serde_json::from_str(&text)
        .map_err(|e| Error::data(format!("{} is damaged: {e}", path.display())))?;
    if mark["format"] != "quipu.run" || mark["version"] != VERSION {
        return Err(Error::data(format!(
            "{} holds {} version {} but this program reads quipu.run version {VERSION}; \
             use the program that wrote it, or another --run-dir",
            dir.display(),
            mark["format"],
            mark["version"]
        )));
    }
    Ok(Some(mark))
}

/// Going on is only sound with what the run was started with.
fn check_same(
    dir: &Path,
    mark: &Value,
    recipe: &Recipe,
    inputs: &Value,
    hash: &str,
) -> Result<(), Error> {
    if mark["hash"] == *hash {
        return Ok(());
    }
    // Other input changes keys of the recipe, which nobody asked for: the input is the reason.
    let difference = if mark["inputs"] == *inputs {
        // the mesh may be another one
        let started = Recipe { mesh: recipe.mesh.clone(), ..Recipe::load(&dir.join(RECIPE))? };
        match recipe.first_difference(&started) {
            Some((key, now, then)) => format!("{key} was {then} and is {now} now"),
            None => "its hash is another, of the same recipe and inputs".into(),
        }
    } else {
        format!("its inputs were {} and are {inputs} now", mark["inputs"])
    };
    Err(Error::new(
        Kind::Usage,
        format!(
            "{} is a run of something else: {difference}; name another --run-dir, or delete it",
            dir.display()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(dir: &Path, recipe: &Recipe, code: u8, expected: &str) {
        let error = RunFolder::open(dir, recipe, &[], None).err().unwrap();
        assert_eq!(error.kind().code(), code, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }

    #[test]
    fn a_run_goes_on_with_the_same_recipe_only() {
        let dir = tempfile::tempdir().unwrap();
        let recipe = Recipe::resolve(None, &[]).unwrap();
        let run = RunFolder::open(dir.path(), &recipe, &[], None).unwrap();
        run.commit("world", json!(1)).unwrap();
        check(dir.path(), &recipe, 4, "in use by process");
        drop(run);
        let run = RunFolder::open(dir.path(), &recipe, &[], None).unwrap();
        assert!(run.facts("world").is_some());
        drop(run);
        let mut other = recipe.clone();
        other.train.steps += 1;
        check(dir.path(), &other, 2, "train.steps");
        other.mesh = "tp=2".into();
        check(dir.path(), &other, 2, "train.steps");
        let error = RunFolder::open(dir.path(), &other, &["x".into()], None).err().unwrap();
        assert!(error.to_string().contains("inputs"), "{error}");
    }

    #[test]
    fn other_versions_damage_and_other_folders_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let recipe = Recipe::resolve(None, &[]).unwrap();
        std::fs::write(dir.path().join("thesis.tex"), "x").unwrap();
        check(dir.path(), &recipe, 2, "thesis.tex");
        std::fs::write(dir.path().join(MARK), "{\"format\": \"quipu.run\", \"version\": 7}")
            .unwrap();
        check(dir.path(), &recipe, 3, "version 7");
        std::fs::write(dir.path().join(MARK), "{").unwrap();
        check(dir.path(), &recipe, 3, "damaged");
        check(&dir.path().join("thesis.tex"), &recipe, 2, "not a folder");
    }
}
