//! `cargo xtask peers`: what can only be checked with a Python peer beside us: the training step
//! against PyTorch, an exported checkpoint in `transformers`, the extraction score by the scorer
//! that is not ours, curated documents in other programs, ids by tiktoken. Says what is missing instead of failing
//! over it; nothing else needs Python.

use crate::bench;
use crate::run::{self, Error};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The peer's training step, in the shared folder.
pub const STEP_PEER: &str = "tools/torch_train_step.py";

/// A Python interpreter.
#[derive(Clone)]
pub struct Python(PathBuf);

impl Python {
    /// `--python PATH`, else `python3` of the search path.
    pub fn find(flags: &[&str]) -> Result<Self, Error> {
        Ok(Self(run::value(flags, "--python")?.unwrap_or("python3").into()))
    }

    /// A command of this interpreter.
    pub fn command(&self) -> Command {
        Command::new(&self.0)
    }

    /// The first of `modules` that cannot be imported, as a sentence.
    pub fn lacks(&self, modules: &[&str]) -> Option<String> {
        modules.iter().find_map(|module| {
            let mut command = self.command();
            let out = command.args(["-c", &format!("import {module}")]).output();
            match out {
                Err(e) => {
                    Some(format!("{} does not start ({e}); try --python PATH", self.0.display()))
                }
                Ok(out) if !out.status.success() => Some(format!(
                    "{} lacks {module}; install it there or point --python PATH elsewhere",
                    self.0.display()
                )),
                Ok(_) => None,
            }
        })
    }
}

/// Runs the command; false when a peer ran and disagreed.
pub fn run(flags: &[&str]) -> Result<bool, Error> {
    run::known(flags, &[], &["--python", "--rounds"])?;
    let rounds: usize = run::value(flags, "--rounds")?.unwrap_or("3").parse()?;
    let root = run::root();
    let quipu = run::build_quipu(&root)?;
    let python = Python::find(flags)?;
    let Some(shared) = run::shared(&root) else {
        println!("nothing to compare with: ../shared is absent (QUIPU_SHARED names another place)");
        return Ok(true);
    };
    let checks: [(&str, Result<bool, Error>); 6] = [
        ("ids of tiktoken", ids(&root, &python, &shared)),
        ("extraction score", extraction(&quipu, &python, &shared)),
        ("curated documents in DuckDB, pyarrow and datatrove", curated(&quipu, &python, &shared)),
        ("export in transformers", export(&quipu, &python, &shared)),
        ("first loss of continued pre-training", continued(&root, &quipu, &python)),
        ("training step", step(&root, &quipu, &python, rounds)),
    ];
    let mut agreed = true;
    for (name, check) in checks {
        match check {
            Ok(true) => println!("{name}: passed"),
            Ok(false) => println!("{name}: FAILED"),
            Err(ref error) => println!("{name}: {error}"),
        }
        agreed &= check.is_ok_and(|passed| passed);
    }
    Ok(agreed)
}

fn extraction(quipu: &Path, python: &Python, shared: &Path) -> Result<bool, Error> {
    let gold = shared.join("data/html-gold");
    let dir = temporary("extracted")?;
    let extracted = dir.join("pages.jsonl");
    let lines = run::output(Command::new(quipu).arg("extract").arg(gold.join("html")))?;
    std::fs::write(&extracted, lines)?;
    let scorer = shared.join("tools/score_extraction.py");
    let said = run::output(python.command().arg(scorer).arg(&gold).arg(&extracted))?;
    std::fs::remove_dir_all(dir)?;
    print!("{said}");
    let overall = said.lines().find_map(|l| l.strip_prefix("overall")).unwrap_or_default();
    let overall: f64 = overall.trim().parse().map_err(|_| "the scorer printed no overall score")?;
    Ok(overall >= 0.80)
}

/// Opens what `quipu curate` wrote as it is in each program that is there; all must see the same
/// documents, and as many as the run says.
fn curated(quipu: &Path, python: &Python, shared: &Path) -> Result<bool, Error> {
    let dir = temporary("curated")?;
    let mut command = Command::new(quipu);
    command.args(["curate", "--quiet", "--run-dir"]).arg(dir.join("run"));
    run::output(command.arg("--input").arg(shared.join("data/crawl.warc.gz")))?;
    let corpus = dir.join("run/corpus");
    let kept = bench::summary_of(&corpus)?["kept"].clone();
    let (mut agreed, mut first): (_, Option<Value>) = (true, None);
    for program in ["duckdb", "pyarrow", "datatrove"] {
        if let Some(missing) = python.lacks(&[program]) {
            println!("{program} did not read: {missing}");
            agreed = false;
            continue;
        }
        let script = xtask_peer("read_curated.py");
        let said = run::output(python.command().arg(script).arg(program).arg(&corpus))?;
        let seen = bench::last_object(&said, program)?;
        println!("  {program}: {seen}");
        let first = first.get_or_insert_with(|| seen.clone());
        let same = ["documents", "characters", "ids"].iter().all(|key| seen[key] == first[key]);
        agreed &= same && seen["documents"] == kept;
    }
    std::fs::remove_dir_all(dir)?;
    Ok(agreed)
}

/// Ranks that we trained, read by tiktoken: the same ids of every text.
fn ids(root: &Path, python: &Python, shared: &Path) -> Result<bool, Error> {
    if let Some(missing) = python.lacks(&["tiktoken"]) {
        return Err(missing.into());
    }
    let dir = temporary("ids")?;
    let name = "tiktoken_ids";
    let program = run::build(root, &["--package", "quipu-tokens", "--example", name], name)?;
    let texts = ["text-multilingual", "text-novels", "math-openlogic"];
    let texts = texts.map(|name| shared.join("data").join(name));
    run::output(Command::new(program).arg(&dir).args(texts).arg(root.join("tokens/src")))?;
    let script = xtask_peer("tiktoken_ids.py");
    let seen = bench::last_object(&run::output(python.command().arg(script).arg(&dir))?, name)?;
    std::fs::remove_dir_all(dir)?;
    println!("  tiktoken: {seen}");
    Ok(seen["different"] == 0 && seen["ids"].as_u64().is_some_and(|ids| ids > 1_000_000))
}

/// A script of this crate that runs a peer.
fn xtask_peer(name: &str) -> PathBuf {
    run::root().join("xtask/peers").join(name)
}

fn export(quipu: &Path, python: &Python, shared: &Path) -> Result<bool, Error> {
    if let Some(missing) = python.lacks(&["torch", "transformers", "safetensors"]) {
        return Err(missing.into());
    }
    let script = xtask_peer("compare_export.py");
    let (mut agreed, exports) = (true, temporary("export")?);
    for name in ["gqa", "mha-tied", "rope-scaled", "rope-scaled-new-spelling"] {
        let dir = exports.join(name);
        let case = dir.with_extension("safetensors");
        let from = shared.join("golden").join(name);
        run::output(Command::new(quipu).arg("export").arg(&from).arg(&dir))?;
        print!("{}", run::output(python.command().arg(&script).arg(&dir).arg(&case))?);
        let mut verify = Command::new(quipu);
        agreed &= run::lines(verify.arg("verify").arg(&dir).arg(&case), |l| println!("  {l}"))?;
    }
    std::fs::remove_dir_all(exports)?;
    Ok(agreed)
}

/// The loss of step 1 of a run that goes on with a checkpoint, before any update, against that of
/// `transformers` on the same text.
fn continued(root: &Path, quipu: &Path, python: &Python) -> Result<bool, Error> {
    if let Some(missing) = python.lacks(&["torch", "transformers"]) {
        return Err(missing.into());
    }
    let dir = temporary("continued")?;
    let texts = dir.join("texts");
    std::fs::create_dir(&texts)?;
    // Two texts of the same words in another order: as many tokens each. One of them is set apart.
    let words = include_str!("peers.rs").split(|c: char| !c.is_ascii_alphabetic());
    let words: Vec<&str> = words.filter(|word| word.len() > 2).take(50).collect();
    let backwards: Vec<&str> = words.iter().skip(1).rev().copied().collect();
    std::fs::write(texts.join("a.txt"), words.join(" "))?;
    std::fs::write(texts.join("b.txt"), format!("{} {}", words[0], backwards.join(" ")))?;
    let base = dir.join("first/models/base");
    let train = || {
        let mut command = Command::new(quipu);
        command.arg("train").current_dir(&dir);
        command
    };
    let recipe = root.join("recipes/tiny.toml");
    run::output(train().arg("--recipe").arg(recipe).args(["--run-dir", "first", "--json"]))?;
    let said =
        run::output(python.command().arg(xtask_peer("first_loss.py")).args([&base, &texts]))?;
    let theirs = bench::last_object(&said, "transformers")?;
    let length = theirs["a.txt"]["tokens"].as_u64().ok_or("no tokens of a.txt")? + 1;
    let sizes = ["sequence_length", "batch_tokens", "micro_batch_tokens"];
    let mut command = train();
    command.args([
        "--from",
        "first/models/base",
        "--input",
        "texts",
        "--run-dir",
        "more",
        "--json",
    ]);
    command.args(["--set", "corpus.only=[\"addresses\"]", "--set", "train.steps=1"]);
    command.args(["--set", "train.warm_up=0"]);
    for size in sizes {
        command.args(["--set", &format!("train.{size}={length}")]);
    }
    run::output(&mut command)?;
    let metrics = std::fs::read_to_string(dir.join("more/metrics.jsonl"))?;
    let first: Value = serde_json::from_str(metrics.lines().next().ok_or("no step was done")?)?;
    let ours = first["loss"].as_f64().ok_or("the first step has no loss")?;
    let losses = ["a.txt", "b.txt"].map(|name| theirs[name]["loss"].as_f64().unwrap_or(f64::NAN));
    let apart = losses.map(|loss| (loss - ours).abs()).into_iter().fold(f64::INFINITY, f64::min);
    println!("  loss of step 1: {ours}, by transformers {losses:?}: {apart:.2e} apart");
    std::fs::remove_dir_all(dir)?;
    Ok(apart <= 1e-5)
}

fn step(root: &Path, quipu: &Path, python: &Python, rounds: usize) -> Result<bool, Error> {
    if let Some(missing) = python.lacks(&["torch"]) {
        return Err(missing.into());
    }
    let ratio = bench::training::f32_step(root, quipu, python, rounds)?;
    println!("f32 step ÷ torch eager f32, tokens/s: {ratio}");
    Ok(ratio["median"].as_f64().is_some_and(|ratio| ratio >= 1.0))
}

/// A fresh folder of this process.
fn temporary(name: &str) -> Result<PathBuf, Error> {
    let dir = std::env::temp_dir().join(format!("quipu-peers-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}
