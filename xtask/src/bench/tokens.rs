//! From documents to what training reads: `cargo xtask bench tokens`. In each round the program takes
//! both ways three times, one after the other: Parquet to token shards, and bare encoding by the crate
//! `tokenizers` of the same texts in memory, on one core; the ratio of a round is the median of its
//! three. With it come the training of the vocabulary and the loader. Writes
//! `bench/<date>-<machine>-tokens/`. Not here: Python's tokenizers (`peers` compares their ids).

use super::ledger::{Asked, Ledger, Shelf};
use super::{measure, number, spread};
use crate::run::{self, Error};
use serde_json::{Value, json};
use std::path::Path;

/// Least of our rate as a share of bare encoding's, and of the loader's tokens a second in millions.
const RATIO: f64 = 0.7;
const LOADER: f64 = 40.0;
/// What is encoded, of the shared folder: the texts on which the peers were measured.
const TEXTS: [&str; 2] = ["data/text-novels", "data/text-multilingual"];

/// Runs the command; falling short of what is asked is no failure.
pub fn run(flags: &[&str]) -> Result<bool, Error> {
    run::known(flags, &[], &["--rounds"])?;
    let rounds: usize = run::value(flags, "--rounds")?.unwrap_or("7").parse()?;
    let root = run::root();
    let shared = run::shared(&root)
        .ok_or("nothing to measure on: ../shared is absent (QUIPU_SHARED names another place)")?;
    let quipu = run::build_quipu(&root)?;
    let mut found = Ledger::default();
    let mut results = Vec::new();
    for round in 1..=rounds.max(1) {
        let result = round_of(&quipu, &shared)?;
        found.raw(round, "quipu, bare tokenizers", result.clone());
        results.push(result);
    }
    figures(&results, &mut found)?;
    let command = format!("cargo xtask bench tokens --rounds {rounds}");
    let about = json!({"command": command, "commit": run::commit(&root)});
    let shelf = Shelf::new(&root, "tokens", None)?;
    shelf.put("tokens", "documents to what training reads", about, found)?;
    println!("written to {}", shelf.dir().display());
    Ok(true)
}

fn round_of(quipu: &Path, shared: &Path) -> Result<Value, Error> {
    let texts = TEXTS.map(|name| shared.join(name).to_string_lossy().into_owned());
    measure(quipu, &["tokens", "--passes", "3", &texts[0], &texts[1]])
}

/// The median of what the passes of a round say under a name.
fn of_passes(result: &Value, name: &str) -> Result<f64, Error> {
    let passes = result["passes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let all: Vec<f64> = passes.iter().map(|p| number(p, name)).collect::<Result<_, _>>()?;
    number(&spread(&all), "median")
}

fn figures(results: &[Value], found: &mut Ledger) -> Result<(), Error> {
    let each = |of: &dyn Fn(&Value) -> Result<f64, Error>| -> Result<Vec<f64>, Error> {
        results.iter().map(of).collect()
    };
    let passes = |name: &str| each(&|result| of_passes(result, name));
    let what = "Parquet to token shards, MB/s of text on one core";
    found.figure(what, "quipu", &passes("mb_per_s")?, Asked::Nothing);
    let what = "encoding of the same texts in memory, MB/s on one core";
    found.figure(what, "tokenizers", &passes("bare_mb_per_s")?, Asked::Nothing);
    found.figure(
        "the first as a share of the second",
        "quipu",
        &passes("ratio")?,
        Asked::AtLeast(RATIO),
    );
    let loader = each(&|result| {
        let all = result["loader_tokens_per_s"].as_array().map(Vec::as_slice).unwrap_or_default();
        let all: Vec<f64> = all.iter().filter_map(Value::as_f64).collect();
        Ok(number(&spread(&all), "median")? / 1e6)
    })?;
    let what = "loader, million tokens/s on one core from warm pages";
    found.figure(what, "quipu", &loader, Asked::AtLeast(LOADER));
    let training = |name: &'static str| each(&|result| number(&result["training"], name));
    let megabytes = results.first().map_or(Ok(0.0), |r| number(r, "bytes"))? / 1e6;
    let what = format!("a vocabulary of 32,000 from {megabytes:.1} MB, s on one core");
    found.figure(&what, "quipu", &training("seconds")?, Asked::Nothing);
    let what = "its peak memory beside the texts, MiB";
    found.figure(what, "quipu", &training("peak_mib_above_texts")?, Asked::Nothing);
    found.note(
        "By processor time of the one thread; ratios within a pass. Bare encoding is the crate \
         `tokenizers` at the version of Cargo.lock in the same process, by the call that allocates \
         nothing (`encode_into`), ids dropped. Parquet to shards is all of `prepare` with a given \
         tokenizer: choosing validation, comparing it with training, encoding, checksums, writing.",
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_the_median_of_its_passes() {
        let passes: Vec<Value> = [0.9, 0.5, 0.7].map(|ratio| json!({"ratio": ratio})).into();
        let result = json!({"passes": passes});
        assert_eq!(of_passes(&result, "ratio").unwrap(), 0.7);
        assert!(of_passes(&result, "rate").is_err());
        assert!(of_passes(&json!({}), "ratio").is_err());
    }
}
