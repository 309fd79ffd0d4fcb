//! `cargo xtask mutants`: whether the tests would notice. Each patch in `xtask/mutants` is a mistake
//! that training in several dimensions invites, some of them one that another system had; it is
//! planted in a scratch copy, and the test that its header names has to fail there. Not part of
//! `xtask test`: each mistake is a build.
//!
//! A header has lines `what: …`, `test: …` (what comes after `cargo test`) and, where somebody had
//! it, `like: …`.

use crate::run::{self, Error};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// A planted mistake.
struct Mutant {
    name: String,
    path: PathBuf,
    what: String,
    test: String,
}

/// What became of one.
enum Fate {
    Caught(String),
    Survived,
    /// It does not apply, or does not compile: the patch is wrong, not the code.
    Unfit(String),
}

impl Mutant {
    fn read(path: PathBuf) -> Result<Self, Error> {
        let text = std::fs::read_to_string(&path)?;
        let line = |key: &str| {
            let found = text.lines().take_while(|line| !line.starts_with("diff "));
            let found = found.filter_map(|line| line.strip_prefix(key)).next();
            found.map(|rest| rest.trim().to_owned())
        };
        let missing = |key: &str| format!("{}: no line '{key} …'", path.display());
        let what = line("what:").ok_or_else(|| missing("what:"))?;
        let test = line("test:").ok_or_else(|| missing("test:"))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, path, what, test })
    }
}

/// Runs the command; true when every mistake was noticed.
pub fn run(flags: &[&str]) -> Result<bool, Error> {
    let root = run::root();
    let mut mutants = Vec::new();
    for entry in std::fs::read_dir(root.join("xtask/mutants"))? {
        mutants.push(Mutant::read(entry?.path())?);
    }
    mutants.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(unknown) = flags.iter().find(|flag| !mutants.iter().any(|m| m.name == **flag)) {
        return Err(format!("no mutant is called {unknown:?}; see xtask/mutants").into());
    }
    mutants.retain(|mutant| flags.is_empty() || flags.contains(&&*mutant.name));
    let copy = copy(&root)?;
    let tests: BTreeSet<&str> = mutants.iter().map(|mutant| &*mutant.test).collect();
    for test in tests {
        println!("== as it is: cargo test {test}");
        if !cargo(&copy, test, &[])?.0 {
            return Err(format!("cargo test {test} fails without any mistake").into());
        }
    }
    let (mut missed, all) = (0, mutants.len());
    for (i, mutant) in mutants.iter().enumerate() {
        let start = Instant::now();
        let fate = fate(&copy, mutant)?;
        let (word, said) = match fate {
            Fate::Caught(line) => ("caught", line),
            Fate::Survived => ("SURVIVED", mutant.test.clone()),
            Fate::Unfit(why) => ("UNFIT", why),
        };
        missed += usize::from(word != "caught");
        let (name, seconds) = (&mutant.name, start.elapsed().as_secs());
        println!("{:2}/{all} {word:8} {name} ({seconds} s): {}\n      {said}", i + 1, mutant.what);
    }
    println!("{} of {all} mistakes were noticed", all - missed);
    std::fs::remove_dir_all(&copy)?;
    Ok(missed == 0)
}

/// A copy of the tracked files as they are, outside of the repository.
fn copy(root: &Path) -> Result<PathBuf, Error> {
    let copy = std::env::temp_dir().join(format!("quipu-mutants-{}", std::process::id()));
    let list = run::output(
        Command::new("git").args(["ls-files", "-co", "--exclude-standard"]).current_dir(root),
    )?;
    for name in list.lines().filter(|name| root.join(name).is_file()) {
        let to = copy.join(name);
        std::fs::create_dir_all(to.parent().unwrap_or(&copy))?;
        std::fs::copy(root.join(name), to)?;
    }
    Ok(copy)
}

fn fate(copy: &Path, mutant: &Mutant) -> Result<Fate, Error> {
    let apply = |back: &[&str]| {
        let mut command = Command::new("git");
        run::output(command.arg("apply").args(back).arg(&mutant.path).current_dir(copy))
    };
    if let Err(error) = apply(&[]) {
        return Ok(Fate::Unfit(error.to_string()));
    }
    let fate = match cargo(copy, &mutant.test, &["--no-run"])? {
        (false, said) => Fate::Unfit(first(&said, "error")),
        (true, _) => match cargo(copy, &mutant.test, &[])? {
            (true, _) => Fate::Survived,
            (false, said) => Fate::Caught(message(&said)),
        },
    };
    apply(&["--reverse"])?;
    Ok(fate)
}

/// Whether `cargo test` succeeds in the copy, and what it says.
fn cargo(copy: &Path, test: &str, more: &[&str]) -> Result<(bool, String), Error> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| run::root().join("target"), PathBuf::from);
    let said = copy.join("said.txt");
    let out = std::fs::File::create(&said)?;
    // a mistake may be one that waits for ever
    let (cargo, mut command) = (run::cargo(copy), Command::new("timeout"));
    for (name, value) in cargo.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.args(["--kill-after=10", LONGEST]).arg(cargo.get_program());
    command.args(["test", "--locked"]).args(test.split(' ')).args(more).current_dir(copy);
    command.env("CARGO_TARGET_DIR", target.join("mutants")).stdin(Stdio::null());
    let status = command.stderr(out.try_clone()?).stdout(out).status()?;
    Ok((status.success(), String::from_utf8_lossy(&std::fs::read(&said)?).into_owned()))
}

/// Seconds that a build or a test may take.
const LONGEST: &str = "1800";

fn first(said: &str, start: &str) -> String {
    said.lines().find(|line| line.starts_with(start)).unwrap_or("it failed").to_owned()
}

/// What the first test said that failed.
fn message(said: &str) -> String {
    let mut lines = said.lines().skip_while(|line| !line.contains("panicked at")).skip(1);
    lines.next().map_or_else(|| first(said, "test "), |line| line.chars().take(160).collect())
}
