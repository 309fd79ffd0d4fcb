//! `quipu run compare`: the metrics of several runs as a table, the differences of their losses with
//! intervals, and a page with their curves. It reads what lies there, also of a run that goes on
//! meanwhile, and writes nothing but the page. How differences are measured is `train`'s.

use super::Setting;
use crate::cli::Against;
use crate::error::Error;
use crate::report;
use crate::terminal::{Terminal, thousands};
use quipu_store::atomic;
use quipu_train::compare::{self, By, LEAST_PAIRS, Mean, Pair};
use quipu_train::metrics::{self, Record};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The file that a run's curves are in.
const METRICS: &str = "metrics.jsonl";

/// Points of a curve on the page: as many as a screen has room for.
const POINTS: usize = 240;

/// One of the runs.
struct Run {
    /// as it was named
    name: String,
    records: Vec<Record>,
    /// what its texts and vocabulary are, where they lie beside it
    tokens: Option<Value>,
}

/// Compares the runs of `told`, each with the first.
pub fn run(told: &Against, setting: &Setting) -> Result<(), Error> {
    let runs = open(&told.runs)?;
    let (base, others) = runs.split_first().expect("clap lets no fewer than two runs through");
    let by = told.by.map_or_else(|| suited(base, others), By::from);
    let held = others.iter().map(|run| against(base, run, by)).collect::<Result<Vec<_>, _>>()?;
    let found = json!({
        "format": "quipu.comparison",
        "version": 1,
        "runs": runs.iter().map(figures).collect::<Vec<_>>(),
        "against": base.name,
        "differences": held,
    });
    if let Some(path) = &told.out {
        atomic::write_bytes(path, report::compared(&found).as_bytes())?;
    }
    say(&found, &setting.terminal);
    if let Some(path) = &told.out {
        setting.terminal.say(&format!("page {}", path.display()));
    }
    setting.terminal.result(&found);
    Ok(())
}

/// By steps where those saw as many tokens in all runs: their curves have one axis.
fn suited(base: &Run, others: &[Run]) -> By {
    let steps = |run: &Run| compare::suited(&base.records, &run.records) == By::Step;
    if others.iter().all(steps) { By::Step } else { By::Tokens }
}

fn open(paths: &[PathBuf]) -> Result<Vec<Run>, Error> {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut runs = Vec::new();
    for path in paths {
        let file = metrics_of(path)?;
        if files.contains(&file) {
            let what = "is named twice: a run is no different from itself; name another";
            return Err(Error::usage(format!("{} {what}", path.display())));
        }
        let records = metrics::read(&file)?;
        if records.is_empty() {
            return Err(Error::data(format!(
                "{} has no step yet; wait for the first one, or name another run",
                file.display()
            )));
        }
        let tokens = tokens_of(&file);
        files.push(file);
        let name = path.to_string_lossy().trim_end_matches('/').to_owned();
        runs.push(Run { name, records, tokens });
    }
    Ok(runs)
}

/// The metrics of what was named: a run's folder, one of a stage below it, or the file itself.
fn metrics_of(path: &Path) -> Result<PathBuf, Error> {
    let shown = path.display();
    let Ok(found) = path.canonicalize() else {
        return Err(Error::data(format!(
            "there is no run {shown}; name a run's folder, or one of a stage below it, such as \
             runs/speedrun/sft"
        )));
    };
    let file = if found.is_dir() { found.join(METRICS) } else { found };
    if file.is_file() {
        return Ok(file);
    }
    Err(Error::data(format!(
        "{shown} holds no {METRICS}: it is no run's folder, or nothing was trained there yet \
         (`quipu train` would); stages that tune have theirs below it, in sft and dpo"
    )))
}

/// Names and checksums of the token shards and the tokenizer of a run, of which a stage has a folder.
fn tokens_of(metrics: &Path) -> Option<Value> {
    metrics.ancestors().skip(1).take(2).find_map(|folder| {
        let text = std::fs::read(folder.join("tokens").join(quipu_store::manifest::NAME)).ok()?;
        let mut manifest: Value = serde_json::from_slice(&text).ok()?;
        manifest.get_mut("files").map(Value::take)
    })
}

impl From<crate::cli::Equal> for By {
    fn from(equal: crate::cli::Equal) -> Self {
        match equal {
            crate::cli::Equal::Steps => Self::Step,
            crate::cli::Equal::Tokens => Self::Tokens,
        }
    }
}

/// What a run reached, and its curve.
fn figures(run: &Run) -> Value {
    let reached = compare::reached(&run.records);
    let part = |records: &[Record]| {
        let mean = |value: fn(&Record) -> f64| {
            records.iter().map(value).sum::<f64>() / records.len() as f64
        };
        let last = records.last();
        json!({
            "step": last.map(|r| r.step),
            "tokens": last.map(|r| r.tokens),
            "loss": mean(|r| r.loss),
            "gradient_norm": mean(|r| r.grad_norm),
            "validation": records.iter().rev().find_map(|r| Some(r.validation.as_ref()?.loss)),
        })
    };
    let curve: Vec<Value> = parts(&run.records).map(part).collect();
    let validation = reached.as_ref().and_then(|r| r.validation.as_ref());
    json!({
        "run": run.name,
        "steps": reached.as_ref().map(|r| r.steps),
        "tokens": reached.as_ref().map(|r| r.tokens),
        "loss": reached.as_ref().map(|r| r.loss),
        "validation": validation.map(|v| v.loss),
        "bits_per_byte": validation.and_then(|v| v.bits_per_byte),
        "tokens_per_s": reached.as_ref().map(|r| r.tokens_per_s),
        "share_of_ceiling": reached.as_ref().and_then(|r| r.share_of_ceiling),
        "curve": curve,
    })
}

/// A sequence in at most as many parts as a curve has points.
fn parts<T>(all: &[T]) -> impl Iterator<Item = &[T]> {
    all.chunks(all.len().div_ceil(POINTS).max(1))
}

/// The last part of what two runs have in common, where it shows how they end.
const LAST: f64 = 0.2;

/// How much one run differs from the one that it is held against.
fn against(base: &Run, run: &Run, by: By) -> Result<Value, Error> {
    let pairs = compare::pairs(&base.records, &run.records, by);
    let (Some(first), Some(last)) = (pairs.first(), pairs.last()) else {
        let ends = |run: &Run| {
            let of = |r: Option<&Record>| r.map_or((0, 0), |r| (r.step, r.tokens));
            let ((a, s), (b, t)) = (of(run.records.first()), of(run.records.last()));
            format!("{} has steps {a} to {b}, up to {s} to {t} tokens", run.name)
        };
        let what = if by == By::Step { "step" } else { "stretch of tokens" };
        return Err(Error::data(format!(
            "no {what} is in both: {}; {}; name runs that overlap, or try the other --by",
            ends(base),
            ends(run)
        )));
    };
    let (from, to) = (first.at, last.at);
    let late = pairs.partition_point(|p| p.at < to - LAST * (to - from));
    let window = |name: &str, pairs: &[Pair]| {
        let differences: Vec<f64> = pairs.iter().map(Pair::difference).collect();
        compare::mean(&differences).map(|mean| shown(name, &mean))
    };
    let windows = [window("all of it", &pairs), window("the last fifth", &pairs[late..])];
    let point = |pairs: &[Pair]| {
        let mean = pairs.iter().map(Pair::difference).sum::<f64>() / pairs.len() as f64;
        json!({"at": pairs.last().map(|p| p.at), "difference": mean})
    };
    Ok(json!({
        "run": run.name,
        "against": base.name,
        "other_tokens": base.tokens.is_some() && run.tokens.is_some() && base.tokens != run.tokens,
        "by": if by == By::Step { "steps" } else { "tokens" },
        "from": from,
        "to": to,
        "windows": windows.into_iter().flatten().collect::<Vec<_>>(),
        "curve": parts(&pairs).map(point).collect::<Vec<_>>(),
    }))
}

fn shown(name: &str, mean: &Mean) -> Value {
    json!({
        "of": name,
        "mean": mean.mean,
        "low": mean.interval.map(|i| i.0),
        "high": mean.interval.map(|i| i.1),
        "pairs": mean.pairs,
        "blocks": mean.blocks,
        "block_pairs": mean.length,
        "drifts": mean.drifts,
    })
}

/// What an interval is made of, or why there is none, in words.
pub fn made(window: &Value) -> String {
    let count = |key: &str| thousands(window[key].as_u64().unwrap_or(0));
    if window["low"].is_null() {
        return format!(
            "{} pairs, of which no interval is made below {LEAST_PAIRS}",
            count("pairs")
        );
    }
    let made = match window["block_pairs"].as_u64() {
        Some(1) => format!("{} pairs", count("pairs")),
        _ => format!("{} blocks of {} pairs", count("blocks"), count("block_pairs")),
    };
    let drifts = if window["drifts"] == true { "; drifts, so that it is too narrow" } else { "" };
    made + drifts
}

/// The columns of the table of runs, numbers all but the first; what is not known is a dash.
pub fn columns(run: &Value) -> [String; 8] {
    let known = |key: &str, say: &dyn Fn(f64) -> String| {
        run[key].as_f64().filter(|v| v.is_finite()).map_or_else(|| "–".into(), say)
    };
    let (whole, nats) = (|v: f64| thousands(v as u64), |v: f64| format!("{v:.4}"));
    [
        run["run"].as_str().unwrap_or_default().to_owned(),
        known("steps", &whole),
        known("tokens", &whole),
        known("loss", &nats),
        known("validation", &nats),
        known("bits_per_byte", &nats),
        known("tokens_per_s", &whole),
        known("share_of_ceiling", &|v| format!("{:.0} %", 100.0 * v)),
    ]
}

/// Names of those columns.
pub const COLUMNS: [&str; 8] =
    ["run", "steps", "tokens", "loss", "validation", "bits a byte", "tokens/s", "of the ceiling"];

/// What is said where losses are of different things.
pub const OTHER_TOKENS: &str = "their texts or vocabularies differ: nats a token are not of the same \
                                things; bits a byte are, where validation is of the same texts";

fn say(found: &Value, terminal: &Terminal) {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    rows.extend(list(&found["runs"]).iter().map(columns));
    for line in aligned(&rows) {
        terminal.say(&line);
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for one in list(&found["differences"]) {
        let (run, base, by) = (text(&one["run"]), text(&found["against"]), text(&one["by"]));
        terminal.say(&format!("\nloss of {run} less that of {base} at equal {by}, nats a token"));
        if one["other_tokens"] == true {
            terminal.say(&format!("  {OTHER_TOKENS}"));
        }
        for window in list(&one["windows"]) {
            let number = |key: &str| window[key].as_f64().unwrap_or(f64::NAN);
            let of = text(&window["of"]);
            let made = made(&window);
            let line = match window["low"].is_null() {
                true => format!("  {of:15} {:+.5}  {made}", number("mean")),
                false => format!(
                    "  {of:15} {:+.5}  95 %: {:+.5} to {:+.5}  ({made})",
                    number("mean"),
                    number("low"),
                    number("high")
                ),
            };
            terminal.say(&line);
        }
    }
}

/// Rows with their columns under each other: the first to the left, numbers to the right.
fn aligned(rows: &[[String; 8]]) -> Vec<String> {
    let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..8).map(width).collect();
    let line = |row: &[String; 8]| {
        let cell = |(i, cell): (usize, &String)| match i {
            0 => format!("{cell:w$}", w = widths[0]),
            i => format!("  {cell:>w$}", w = widths[i]),
        };
        row.iter().enumerate().map(cell).collect::<String>()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other_and_what_is_not_known_is_a_dash() {
        let run = json!({"run": "runs/ä", "steps": 4000, "loss": 2.03125, "bits_per_byte": null,
            "share_of_ceiling": 0.617});
        let lines = aligned(&[COLUMNS.map(str::to_owned), columns(&run)]);
        assert_eq!(lines[0].chars().count(), lines[1].chars().count());
        for part in ["runs/ä", " 4,000", " 2.0312", " 62 %", " – "] {
            assert!(lines[1].contains(part), "{lines:?}");
        }
    }

    #[test]
    fn an_interval_says_what_it_is_made_of() {
        let mean = Mean {
            mean: 0.5,
            interval: Some((0.25, 0.75)),
            pairs: 4000,
            blocks: 125,
            length: 32,
            drifts: false,
        };
        assert_eq!(made(&shown("all", &mean)), "125 blocks of 32 pairs");
        let single = Mean { pairs: 4000, blocks: 4000, length: 1, ..mean };
        assert_eq!(made(&shown("all", &single)), "4,000 pairs");
        let drifts = Mean { drifts: true, ..mean };
        assert!(made(&shown("all", &drifts)).contains("too narrow"));
        let few = Mean { interval: None, pairs: 3, ..mean };
        assert!(made(&shown("all", &few)).contains("3 pairs, of which no interval"));
    }
}
