//! Part `text`: megabytes of text a second of one core, as `quipu bench text` measures it, on
//! ordinary English (novels) and on the main text of the shared crawl. No peer: what datatrove needs
//! for its rules stands in the part `pipeline`.

use super::corpus::Setting;
use super::ledger::{Asked, Ledger};
use super::{measure, number};
use crate::run::{self, Error};
use std::path::Path;
use std::process::Command;

/// What is asked of a part that is named so, in MB/s; of parts of which nothing is asked, nothing.
const MARKS: [(&str, f64); 3] = [
    ("rules, signatures, line hashes", 50.0),
    ("language identification", 5.0),
    ("classifier", 5.0),
];
/// Fewest values of a signature for the first of them.
const VALUES: f64 = 112.0;

/// Runs the part.
pub fn run(setting: &Setting, found: &mut Ledger) -> Result<(), Error> {
    let scratch = setting.scratch("text")?;
    let crawl = scratch.path("crawl.jsonl");
    let mut command = Command::new(&setting.quipu);
    let extracted = command.arg("extract").arg(setting.shared.join("data/crawl.warc.gz"));
    std::fs::write(&crawl, run::output(extracted)?)?;
    let novels = setting.shared.join("data/text-novels");
    let inputs: [(&str, &Path); 2] = [("novels", &novels), ("text of the crawl", &crawl)];
    for (name, input) in inputs {
        measured(setting, name, input, found)?;
    }
    found.note(
        "By processor time, each round the median of five passes. `rules, signatures, line hashes` \
         is all of it from the text on: segmentation, every rule, shingles, signature, line hashes. \
         A classifier reads the first 4,000 words of a text.",
    );
    Ok(())
}

fn measured(setting: &Setting, name: &str, input: &Path, found: &mut Ledger) -> Result<(), Error> {
    let passes = if setting.small { "1" } else { "5" };
    let mut rates: Vec<(String, Vec<f64>)> = Vec::new();
    for round in 1..=setting.rounds {
        let arguments = ["text", "--passes", passes, &input.to_string_lossy()];
        let result = measure(&setting.quipu, &arguments)?;
        let values = number(&result, "values")?;
        if values < VALUES {
            return Err(format!("{values} values a signature, {VALUES} are asked for").into());
        }
        for part in result["parts"].as_array().into_iter().flatten() {
            let what = part["part"].as_str().unwrap_or_default();
            let rate = number(part, "mb_per_s")?;
            match rates.iter_mut().find(|(known, _)| known == what) {
                Some((_, rates)) => rates.push(rate),
                None => rates.push((what.to_owned(), vec![rate])),
            }
        }
        found.raw(round, &format!("quipu, {name}"), result);
    }
    for (what, rates) in rates {
        let mark = MARKS.iter().find(|(part, _)| *part == what);
        let asked = mark.map_or(Asked::Nothing, |(_, mark)| Asked::AtLeast(*mark));
        found.figure(&format!("{what}, MB/s, {name}"), "quipu", &rates, asked);
    }
    Ok(())
}
