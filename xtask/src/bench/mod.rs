//! `cargo xtask bench`: the program and its peers side by side, interleaved in rounds, so that a
//! busy machine slows both. What it compares is a ratio per round; the median and the range are
//! reported, never the best. One file a subject: [`training`] is the training step, [`tokens`] what
//! lies between documents and it, [`corpus`] all that curation must reach. Not here: correctness (`test`, `peers`).

pub mod corpus;
mod extraction;
mod judgement;
mod ledger;
mod memory;
mod near;
mod pipeline;
mod spent;
mod text;
mod tokens;
pub mod training;
mod world;

use crate::run::{self, Error};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// Runs the command.
pub fn run(flags: &[&str]) -> Result<bool, Error> {
    match flags.first() {
        Some(&"corpus") => corpus::run(&flags[1..]),
        Some(&"tokens") => tokens::run(&flags[1..]),
        Some(&"train") => training::run(&flags[1..]),
        other => {
            let other = other.unwrap_or(&"");
            Err(format!("bench {other}: expected train, tokens or corpus").into())
        }
    }
}

/// The median and the range of some numbers, as JSON.
pub fn spread(values: &[f64]) -> Value {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let median = match sorted.len() {
        0 => return Value::Null,
        n if n % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    };
    json!({"median": median, "least": sorted[0], "most": sorted[sorted.len() - 1]})
}

/// The program's own measurement `quipu bench WHAT --json`, one JSON object.
pub fn measure(quipu: &Path, arguments: &[&str]) -> Result<Value, Error> {
    let said = run::output(Command::new(quipu).arg("bench").args(arguments).arg("--json"))?;
    last_object(&said, "quipu bench")
}

/// The JSON object on the last line of what `who` said.
pub fn last_object(said: &str, who: &str) -> Result<Value, Error> {
    let last = said.lines().last().unwrap_or_default();
    Ok(serde_json::from_str(last).map_err(|e| format!("{who} said {last:?}: {e}"))?)
}

/// The summary that a finished run leaves in its manifest.
pub fn summary_of(out: &Path) -> Result<Value, Error> {
    let path = out.join("manifest.json");
    let text = std::fs::read_to_string(&path)
        .map_err(|e| format!("no finished run in {}: {e}", out.display()))?;
    let manifest: Value = serde_json::from_str(&text)?;
    match &manifest["facts"]["summary"] {
        Value::Null => Err(format!("{} has no summary of a run", path.display()).into()),
        summary => Ok(summary.clone()),
    }
}

/// A number of a result, by its name.
fn number(result: &Value, name: &str) -> Result<f64, Error> {
    result[name].as_f64().ok_or_else(|| format!("no number {name:?} in {result}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(spread(&[3.0, 1.0, 2.0])["median"], 2.0);
        assert_eq!(spread(&[4.0, 1.0])["median"], 2.5);
        assert!(spread(&[]).is_null());
    }

    #[test]
    fn the_last_line_is_the_result() {
        let result = last_object("a line\n{\"rate\": 3.5}\n", "it").unwrap();
        assert_eq!(number(&result, "rate").unwrap(), 3.5);
        assert!(number(&result, "pages").unwrap_err().to_string().contains("pages"));
        assert!(last_object("a line", "it").unwrap_err().to_string().contains("it said"));
    }
}
