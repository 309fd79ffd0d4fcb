//! The training step against PyTorch, and extraction alone: `cargo xtask bench`. Writes
//! `bench/<date>-<machine>/`: README.md, raw.jsonl, summary.json.

use super::{measure, spread};
use crate::peers::{Python, STEP_PEER};
use crate::run::{self, Error};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;

/// Runs the command.
pub fn run(flags: &[&str]) -> Result<bool, Error> {
    run::known(flags, &[], &["--rounds", "--python"])?;
    let rounds: usize = run::value(flags, "--rounds")?.unwrap_or("5").parse()?;
    let root = run::root();
    let quipu = run::build_quipu(&root)?;
    let python = Python::find(flags)?;
    let mut raw = Vec::new();
    let mut summary = Vec::new();
    let step = train_step(&root, &quipu, &python, rounds, &mut raw)?;
    summary.push(("training step, f32, against torch eager f32", step));
    if let Some(pages) = extraction(&root, &quipu, rounds, &mut raw)? {
        summary.push(("main-text extraction, one core", pages));
    }
    write(&root, rounds, &raw, &summary)
}

/// Rounds of (ours, torch eager f32); the ratio per round where torch is there.
pub fn train_step(
    root: &Path,
    quipu: &Path,
    python: &Python,
    rounds: usize,
    raw: &mut Vec<Value>,
) -> Result<Value, Error> {
    let script = run::shared(root).map(|dir| dir.join(STEP_PEER));
    let missing = python.lacks(&["torch"]);
    if let Some(missing) = &missing {
        println!("the peer of the training step does not run: {missing}");
    }
    let (mut ours, mut ratios) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let mine = measure(quipu, &["train"])?;
        raw.push(json!({"round": round, "what": "train", "who": "quipu", "result": mine}));
        let rate = mine["tokens_per_s"].as_f64().ok_or("quipu bench train has no tokens_per_s")?;
        ours.push(rate);
        let (Some(script), None) = (&script, &missing) else { continue };
        let said = run::output(python.command().arg(script).arg("eager"))?;
        let theirs: Value = serde_json::from_str(said.lines().last().unwrap_or_default())?;
        raw.push(json!({"round": round, "what": "train", "who": "torch", "result": theirs}));
        // The peer gives its rate as a number or as an object with a median.
        let rate_of = &theirs["tokens_per_s"];
        let theirs = rate_of.as_f64().or(rate_of["median"].as_f64());
        let theirs = theirs.ok_or_else(|| format!("no rate in {said}"))?;
        println!("round {round}: quipu {rate:.0}, torch {theirs:.0} tokens/s");
        ratios.push(rate / theirs);
    }
    Ok(json!({"tokens_per_s": spread(&ours), "ratio_to_torch_eager": spread(&ratios)}))
}

fn extraction(
    root: &Path,
    quipu: &Path,
    rounds: usize,
    raw: &mut Vec<Value>,
) -> Result<Option<Value>, Error> {
    let Some(dir) = run::shared(root).map(|d| d.join("data/html-gold/html")) else {
        println!("no pages to extract: ../shared is absent");
        return Ok(None);
    };
    let mut rates = Vec::new();
    for round in 1..=rounds {
        let mine = measure(quipu, &["extract", &dir.to_string_lossy()])?;
        rates.push(mine["pages_per_s"].as_f64().ok_or("quipu bench extract has no pages_per_s")?);
        raw.push(json!({"round": round, "what": "extract", "who": "quipu", "result": mine}));
    }
    Ok(Some(json!({"pages_per_s": spread(&rates)})))
}

fn write(
    root: &Path,
    rounds: usize,
    raw: &[Value],
    summary: &[(&str, Value)],
) -> Result<bool, Error> {
    let (date, machine, commit) = (run::today(), run::machine(), run::commit(root));
    let dir = root.join(format!("bench/{date}-{machine}"));
    std::fs::create_dir_all(&dir)?;
    let mut text = format!(
        "# {date}, {machine}\n\nCommit {commit}; `cargo xtask bench --rounds {rounds}`; \
         raw results in `raw.jsonl`.\n\n| what | figure | median | least | most |\n\
         | --- | --- | --- | --- | --- |\n"
    );
    for (what, figures) in summary {
        for (name, s) in figures.as_object().into_iter().flatten().filter(|(_, s)| !s.is_null()) {
            let n = |key: &str| s[key].as_f64().unwrap_or(f64::NAN);
            let (median, least, most) = (n("median"), n("least"), n("most"));
            writeln!(text, "| {what} | {name} | {median:.3} | {least:.3} | {most:.3} |")?;
        }
    }
    let lines: String = raw.iter().map(|r| format!("{r}\n")).collect();
    let summary: serde_json::Map<String, Value> =
        summary.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    std::fs::write(dir.join("README.md"), &text)?;
    std::fs::write(dir.join("raw.jsonl"), lines)?;
    std::fs::write(dir.join("summary.json"), serde_json::to_string_pretty(&summary)? + "\n")?;
    println!("{text}\nwritten to {}", dir.display());
    Ok(true)
}
