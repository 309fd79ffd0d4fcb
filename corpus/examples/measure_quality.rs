//! Measures the quality classifier: `measure_quality LABELS.jsonl` (JSON Lines with `text` and
//! `label`). Cross-validated accuracy and area under the curve beside those of the length of the
//! text, with intervals of 95 %, a line a figure, as `cargo xtask bench corpus quality` reads them.

use quipu_corpus::classify::{Figure, Options, cross_validate, read_examples};
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: measure_quality LABELS.jsonl")?;
    let examples = read_examples(Path::new(&path), None)?;
    let measured = cross_validate(&examples, &Options::default())?;
    println!("documents: {}", measured.examples);
    print("accuracy", &measured.accuracy);
    println!("share of the most frequent label: {:.4}", measured.most_frequent);
    // With two labels the second says the same as the first, turned around.
    let skipped = if measured.auc.len() == 2 { 1 } else { 0 };
    let figures = measured.auc.iter().zip(&measured.length_auc).zip(&measured.gain);
    for (((label, auc), (_, length)), (_, gain)) in figures.skip(skipped) {
        print(&format!("AUC of `{label}`"), auc);
        print(&format!("AUC of `{label}` by its length alone"), length);
        print(&format!("AUC above that of the length, `{label}`"), gain);
        println!("AUC above that of the length, lower end, `{label}`: {:.4}", gain.interval.start);
    }
    let (before, after) = measured.brier;
    println!("Brier score before calibration: {before:.4}\nBrier score after it: {after:.4}");
    Ok(())
}

fn print(what: &str, figure: &Figure) {
    let Figure { value, interval } = figure;
    println!("{what}: {value:.4} ({:.4} to {:.4})", interval.start, interval.end);
}
