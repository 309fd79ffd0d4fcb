//! `cargo xtask bench corpus [PART…]`: all that curation must reach, part by part, beside its peers.
//! Writes `bench/<date>-<machine>-corpus/`. A part that lacks its peer or its data says so and
//! measures the rest; a part that fails does not keep the others from running. Not here: how a part
//! measures (a file each).

use super::ledger::{Ledger, Shelf};
use super::{extraction, judgement, memory, near, pipeline, text, world};
use crate::peers::Python;
use crate::run::{self, Error};
use serde_json::json;
use std::path::PathBuf;
use std::process::Command;

/// A part of the measurement.
struct Part {
    name: &'static str,
    title: &'static str,
    /// Whether it runs when no part is named; the others need `--full`.
    always: bool,
    run: fn(&Setting, &mut Ledger) -> Result<(), Error>,
}

const PARTS: &[Part] = &[
    Part {
        name: "extraction",
        title: "main text of pages, and pages a second of one core",
        always: true,
        run: extraction::run,
    },
    Part {
        name: "pipeline",
        title: "a crawl to final Parquet, all rules on",
        always: true,
        run: pipeline::run,
    },
    Part {
        name: "text",
        title: "megabytes of text a second of one core, by part",
        always: true,
        run: text::run,
    },
    Part { name: "near", title: "near copies against brute force", always: true, run: near::run },
    Part {
        name: "language",
        title: "language identification on articles not trained on",
        always: true,
        run: judgement::language,
    },
    Part {
        name: "quality",
        title: "the quality classifier by cross-validation",
        always: true,
        run: judgement::quality,
    },
    Part {
        name: "world",
        title: "the simulated world's truth: every rule, and main text",
        always: true,
        run: world::run,
    },
    Part {
        name: "memory",
        title: "20 GB of text in 1 GiB, and what 15 trillion tokens would need",
        always: false,
        run: memory::run,
    },
];

/// What every part measures with.
pub struct Setting {
    /// the workspace
    pub root: PathBuf,
    /// the data beside it
    pub shared: PathBuf,
    /// the program
    pub quipu: PathBuf,
    /// the interpreter that has the peers
    pub python: Python,
    /// interleaved rounds
    pub rounds: usize,
    /// workers of ours and of a peer in one comparison
    pub workers: usize,
    /// small amounts, to see that it works
    pub small: bool,
    /// whether extractors written in Rust are built and measured as well
    pub rust_peers: bool,
    /// where work files go
    pub work: PathBuf,
}

impl Setting {
    /// A fresh folder for a part's work files, which vanishes with the value.
    pub fn scratch(&self, name: &str) -> Result<Scratch, Error> {
        let dir = self.work.join(name);
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        std::fs::create_dir_all(&dir)?;
        Ok(Scratch(dir))
    }

    /// A command of a peer script of this repository.
    pub fn peer(&self, script: &str) -> Command {
        let mut command = self.python.command();
        command.arg(self.root.join("xtask/peers").join(script));
        command
    }

    /// A command of a script of the shared folder.
    pub fn tool(&self, script: &str) -> Command {
        let mut command = self.python.command();
        command.arg(self.shared.join("tools").join(script));
        command
    }

    /// An example of the crate `corpus`, built; `None` where it has no such example.
    pub fn example(&self, name: &str) -> Result<Option<PathBuf>, Error> {
        if !self.root.join(format!("corpus/examples/{name}.rs")).exists() {
            return Ok(None);
        }
        run::build(&self.root, &["--package", "quipu-corpus", "--example", name], name).map(Some)
    }

    /// As [`Setting::example`], where there is no way without it.
    pub fn needed(&self, name: &str) -> Result<PathBuf, Error> {
        self.example(name)?.ok_or_else(|| format!("corpus/examples lacks {name}.rs").into())
    }
}

/// A folder of work files.
pub struct Scratch(PathBuf);

impl Scratch {
    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left of it is replaced by the next run of the part.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs the command; false when a part failed (not when it falls short of what is asked).
pub fn run(arguments: &[&str]) -> Result<bool, Error> {
    let named = arguments.iter().take_while(|a| !a.starts_with("--")).count();
    let (names, flags) = arguments.split_at(named);
    run::known(flags, &["--full", "--small", "--rust-peers"], &["--rounds", "--python"])?;
    let parts = chosen(names, flags.contains(&"--full"))?;
    let rounds: usize = run::value(flags, "--rounds")?.unwrap_or("5").parse()?;
    let root = run::root();
    let shared = run::shared(&root)
        .ok_or("nothing to measure on: ../shared is absent (QUIPU_SHARED names another place)")?;
    let work = root.join("target/bench-corpus");
    std::fs::create_dir_all(&work)?;
    let setting = Setting {
        quipu: run::build_quipu(&root)?,
        python: Python::find(flags)?,
        rounds: rounds.max(1),
        workers: std::thread::available_parallelism().map_or(1, usize::from).min(2),
        small: flags.contains(&"--small"),
        rust_peers: flags.contains(&"--rust-peers"),
        shared,
        work,
        root,
    };
    measure(&setting, &parts)
}

/// The parts that are named, or those that always run.
fn chosen(names: &[&str], full: bool) -> Result<Vec<&'static Part>, Error> {
    if names.is_empty() {
        return Ok(PARTS.iter().filter(|part| part.always || full).collect());
    }
    let find = |name: &&str| {
        PARTS.iter().find(|part| part.name == *name).ok_or_else(|| {
            let all: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
            format!("no part {name:?}; there are {}", all.join(", ")).into()
        })
    };
    names.iter().map(find).collect()
}

fn measure(setting: &Setting, parts: &[&Part]) -> Result<bool, Error> {
    // Small amounts say nothing about the machine: they do not go to bench/.
    let scratch = setting.small.then(|| setting.work.join("small"));
    let shelf = Shelf::new(&setting.root, "corpus", scratch.as_deref())?;
    let mut passed = true;
    for part in parts {
        println!("== {}: {}", part.name, part.title);
        let mut found = Ledger::default();
        if let Err(error) = (part.run)(setting, &mut found) {
            found.note(format!("FAILED: {error}"));
            passed = false;
        }
        let small = if setting.small { " --small" } else { "" };
        let command =
            format!("cargo xtask bench corpus {}{small} --rounds {}", part.name, setting.rounds);
        let about = json!({"command": command, "commit": run::commit(&setting.root)});
        shelf.put(part.name, part.title, about, found)?;
    }
    println!("written to {}", shelf.dir().display());
    Ok(passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_chosen_by_name() {
        let names = |named: &[&str], full| -> Vec<&str> {
            chosen(named, full).unwrap().iter().map(|p| p.name).collect()
        };
        assert_eq!(names(&["near", "text"], false), ["near", "text"]);
        assert_eq!(names(&["memory"], false), ["memory"]);
        assert!(!names(&[], false).contains(&"memory"));
        assert_eq!(names(&[], true).len(), PARTS.len());
        let error = chosen(&["nears"], false).err().unwrap().to_string();
        assert!(error.contains("nears") && error.contains("near, language"), "{error}");
    }
}
