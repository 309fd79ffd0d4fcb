//! The training step against PyTorch: `cargo xtask bench train`. In each round every program runs
//! once, one after the other, at each size; a ratio is taken within a round. Prints what must be
//! reached beside what was; writes `bench/<date>-<machine>-train/`: README.md, raw.jsonl.

use super::{measure, number, spread};
use crate::peers::{Python, STEP_PEER};
use crate::run::{self, Error};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// A size of the step: name, and what differs from the model that both sides have as it stands, as
/// flags that both know.
type Size = (&'static str, &'static str);

/// All of a larger model but its rows.
macro_rules! larger {
    ($rows:literal) => {
        concat!("--dim 512 --layers 8 --heads 8 --kv-heads 4 --ffn 1536 --vocab 8192 ", $rows)
    };
}

const SIZES: [Size; 3] = [
    ("12.6M", ""),
    ("512 wide, 512 long", larger!("--seq 512 --batch 4")),
    ("512 wide, 2,048 long", larger!("--seq 2048 --batch 1")),
];

/// A figure that must be reached.
struct Mark {
    what: String,
    /// The least, or where `most` the most.
    asked: f64,
    most: bool,
    /// Of the rounds.
    found: Vec<f64>,
}

impl Mark {
    fn met(&self) -> bool {
        let median = spread(&self.found)["median"].as_f64().unwrap_or(f64::NAN);
        if self.most { median <= self.asked } else { median >= self.asked }
    }
}

/// Runs the command.
pub fn run(flags: &[&str]) -> Result<bool, Error> {
    run::known(flags, &[], &["--rounds", "--python", "--steps"])?;
    let rounds: usize = run::value(flags, "--rounds")?.unwrap_or("7").parse()?;
    let steps = run::value(flags, "--steps")?.unwrap_or("20");
    let root = run::root();
    let bench = Bench {
        quipu: run::build_quipu(&root)?,
        script: run::shared(&root).map(|dir| dir.join(STEP_PEER)),
        python: Python::find(flags)?,
        steps: steps.to_owned(),
    };
    if let Some(missing) = bench.python.lacks(&["torch"]) {
        return Err(format!("the peer of the training step does not run: {missing}").into());
    }
    let mut raw = Vec::new();
    for round in 1..=rounds {
        for (name, size) in SIZES {
            bench.round(round, name, size, &mut raw)?;
        }
    }
    let kernels = measure(&bench.quipu, &["kernels", "--dtype", "bf16"])?;
    raw.push(json!({"what": "kernels", "who": "quipu", "result": kernels}));
    write(&root, rounds, &raw, &marks(&raw, &kernels)?)
}

struct Bench {
    quipu: PathBuf,
    script: Option<PathBuf>,
    python: Python,
    steps: String,
}

impl Bench {
    /// One round at one size. The peers whose ratios are asked for only at the first size run there.
    fn round(
        &self,
        round: usize,
        name: &str,
        size: &str,
        raw: &mut Vec<Value>,
    ) -> Result<(), Error> {
        let mut note = |who: &str, result: Value| {
            let rate = result["tokens_per_s"].as_f64().unwrap_or(f64::NAN);
            println!("round {round}, {name}: {who} {rate:.0} tokens/s");
            raw.push(json!({"round": round, "what": name, "who": who, "result": result}));
        };
        let all = size.is_empty();
        note("quipu bf16", self.ours("bf16", size)?);
        note("compile-bf16", self.theirs("compile-bf16", size)?);
        if all {
            note("eager-bf16", self.theirs("eager-bf16", size)?);
            note("quipu f32", self.ours("f32", size)?);
            note("eager", self.theirs("eager", size)?);
        }
        Ok(())
    }

    fn ours(&self, dtype: &str, size: &str) -> Result<Value, Error> {
        let mut arguments = vec!["train", "--dtype", dtype, "--steps", &self.steps];
        arguments.extend(size.split_whitespace());
        measure(&self.quipu, &arguments)
    }

    fn theirs(&self, mode: &str, size: &str) -> Result<Value, Error> {
        let script = self.script.as_ref().ok_or("no ../shared with the peer's script")?;
        let mut command = self.python.command();
        command.arg(script).arg(mode).args(["--steps", &self.steps]).args(size.split_whitespace());
        super::last_object(&run::output(&mut command)?, mode)
    }
}

/// The f32 step against torch eager, for [`crate::peers`]: the ratio, one a round.
pub fn f32_step(root: &Path, quipu: &Path, python: &Python, rounds: usize) -> Result<Value, Error> {
    let script = run::shared(root).map(|dir| dir.join(STEP_PEER));
    let (quipu, python) = (quipu.to_owned(), python.clone());
    let bench = Bench { quipu, script, python, steps: "10".into() };
    let mut ratios = Vec::new();
    for _ in 0..rounds {
        let (ours, theirs) = (bench.ours("f32", "")?, bench.theirs("eager", "")?);
        ratios.push(number(&ours, "tokens_per_s")? / number(&theirs, "tokens_per_s")?);
    }
    Ok(spread(&ratios))
}

/// What a program gave at a size, a number a round.
fn series(raw: &[Value], what: &str, who: &str, key: &str) -> Result<Vec<f64>, Error> {
    let of = raw.iter().filter(|row| row["what"] == what && row["who"] == who);
    of.map(|row| number(&row["result"], key)).collect()
}

fn marks(raw: &[Value], kernels: &Value) -> Result<Vec<Mark>, Error> {
    let mut marks = Vec::new();
    let first = SIZES[0].0;
    let ratio = |what: &str, ours: &str, theirs: &str, key: &str| -> Result<Vec<f64>, Error> {
        let (a, b) = (series(raw, what, ours, key)?, series(raw, what, theirs, key)?);
        Ok(a.iter().zip(b).map(|(a, b)| a / b).collect())
    };
    let mut mark = |what: String, asked: f64, most: bool, found: Vec<f64>| {
        marks.push(Mark { what, asked, most, found });
    };
    let share = series(raw, first, "quipu bf16", "share_of_ceiling")?;
    mark("bf16 step, share of the ceiling".into(), 0.80, false, share);
    for (ours, theirs, asked) in [
        ("quipu bf16", "compile-bf16", 1.5),
        ("quipu bf16", "eager-bf16", 1.8),
        ("quipu bf16", "eager", 2.9),
        ("quipu f32", "eager", 1.3),
    ] {
        let found = ratio(first, ours, theirs, "tokens_per_s")?;
        mark(format!("{ours} ÷ torch {theirs}, tokens/s"), asked, false, found);
    }
    for (name, _) in &SIZES[1..] {
        let found = ratio(name, "quipu bf16", "compile-bf16", "tokens_per_s")?;
        mark(format!("quipu bf16 ÷ torch compile-bf16, {name}"), 1.4, false, found);
        let share = series(raw, name, "quipu bf16", "share_of_ceiling")?;
        mark(format!("its share of the ceiling, {name}"), 0.82, false, share);
    }
    let found = ratio(first, "quipu bf16", "compile-bf16", "peak_rss_mib")?;
    mark("peak memory ÷ torch compile-bf16".into(), 0.6, true, found);
    for op in kernels["ops"].as_array().into_iter().flatten() {
        let name = op["op"].as_str().unwrap_or_default();
        if name.starts_with("Matmul") {
            let found = vec![number(op, "share_of_ceiling")?];
            mark(format!("{name}, share of the ceiling"), 0.92, false, found);
        }
    }
    Ok(marks)
}

fn write(root: &Path, rounds: usize, raw: &[Value], marks: &[Mark]) -> Result<bool, Error> {
    let (date, machine, commit) = (run::today(), run::machine(), run::commit(root));
    let dir = root.join(format!("bench/{date}-{machine}-train"));
    std::fs::create_dir_all(&dir)?;
    let mut text = format!(
        "# The training step, {date}, {machine}\n\nCommit {commit}; `cargo xtask bench train --rounds {rounds}`; \
         raw results in `raw.jsonl`. A row on a ratio is also met where the step has 0.82 of the ceiling.\n\n\
         | what | asked | median | least | most | |\n| --- | --- | --- | --- | --- | --- |\n"
    );
    for mark in marks {
        let found = spread(&mark.found);
        let n = |key: &str| found[key].as_f64().unwrap_or(f64::NAN);
        let (what, sign) = (&mark.what, if mark.most { "≤" } else { "≥" });
        let verdict = if mark.met() { "met" } else { "**not met**" };
        writeln!(
            text,
            "| {what} | {sign} {} | {:.3} | {:.3} | {:.3} | {verdict} |",
            mark.asked,
            n("median"),
            n("least"),
            n("most")
        )?;
    }
    let lines: String = raw.iter().map(|r| format!("{r}\n")).collect();
    std::fs::write(dir.join("README.md"), &text)?;
    std::fs::write(dir.join("raw.jsonl"), lines)?;
    println!("{text}\nwritten to {}", dir.display());
    Ok(true)
}
