//! Part `memory`: generated text of 1 GB and of 20 GB through every shuffle within 1 GiB, with the
//! rules off, since they would remove what is generated. What 15 trillion tokens would need is
//! computed from these rates and from that of extraction; it is arithmetic, not a measurement. Takes
//! an hour and 45 GB of disk.

use super::corpus::Setting;
use super::ledger::{Asked, Ledger, short};
use super::pipeline::curate;
use super::spent::{self, Spent};
use super::{measure, number};
use crate::run::{self, Error};
use serde_json::{Value, json};
use std::process::Command;

const MEMORY: u64 = 1 << 30;
const MB: u64 = 1_000_000;
/// Most resident bytes, share of the rate at the small size, lines and documents that are asked for.
const PEAK_GIB: f64 = 1.5;
const RATIO: f64 = 0.8;
const LINES: f64 = 250e6;
const DOCUMENTS: f64 = 4e6;
/// Bytes of disk for each byte of the larger text: the text, packed, is 0.45 of it, the work files
/// were 1.6 of it at 100 MB.
const DISK: f64 = 2.2;
/// The paper's tokens, and bytes of text a token, as a tokenizer of 128,000 entries has on English.
const TOKENS: f64 = 15e12;
const BYTES_A_TOKEN: f64 = 4.5;

/// Runs the part.
pub fn run(setting: &Setting, found: &mut Ledger) -> Result<(), Error> {
    let [little, much] =
        if setting.small { [20_000_000, 100_000_000] } else { [1 << 30, 20 << 30] };
    let (room, needed) = (spent::room(&setting.work)? as f64, DISK * much as f64);
    if room < needed {
        found.note(format!(
            "Not measured: {:.0} GB of disk are needed below target/, {:.0} GB are free.",
            needed / 1e9,
            room / 1e9
        ));
        return Ok(());
    }
    let first = through(setting, little, found)?;
    let second = through(setting, much, found)?;
    let ratio = second.rate() / first.rate();
    let what = format!("rate at {}, as a share of that at {}", size(much), size(little));
    found.figure(&what, "quipu", &[ratio], Asked::AtLeast(RATIO));
    let of_small = |mark| if setting.small { Asked::Nothing } else { Asked::AtLeast(mark) };
    found.figure("lines", "quipu", &[second.lines], of_small(LINES));
    found.figure("documents", "quipu", &[second.documents], of_small(DOCUMENTS));
    found.note(format!(
        "--memory {MEMORY} bytes, {} workers, rules off; peak resident memory of the process.",
        setting.workers
    ));
    large(setting, &second, found)
}

fn size(bytes: u64) -> String {
    match bytes / MB {
        few @ ..1000 => format!("{few} MB"),
        many => format!("{} GB", many / 1000),
    }
}

/// A text that went through.
struct Run {
    bytes: f64,
    lines: f64,
    documents: f64,
    spent: Spent,
}

impl Run {
    /// Bytes of text a second.
    fn rate(&self) -> f64 {
        self.bytes / self.spent.seconds
    }
}

fn through(setting: &Setting, bytes: u64, found: &mut Ledger) -> Result<Run, Error> {
    let scratch = setting.scratch("memory")?;
    let texts = scratch.path("texts");
    let generator = setting.needed("generate_texts")?;
    let said = run::output(Command::new(generator).arg(&texts).arg(bytes.to_string()))?;
    // `N bytes of text, N lines, N documents`
    let numbers: Vec<f64> = said.split([' ', ',']).filter_map(|w| w.trim().parse().ok()).collect();
    let [bytes_made, lines, documents] = numbers[..] else {
        return Err(format!("generate_texts said {said:?}").into());
    };
    let out = scratch.path("out");
    let memory = MEMORY.to_string();
    let more = ["--memory", memory.as_str(), "--no-rules"];
    let (spent, summary) = curate(setting, &out, &[texts], &more)?;
    let run = Run { bytes: bytes_made, lines, documents, spent };
    let (gib, label) = (run.spent.resident as f64 / f64::from(1 << 30), size(bytes));
    println!("  {label}: {:.0} s, {} of {documents} kept", run.spent.seconds, summary["kept"]);
    found.raw(
        1,
        &label,
        json!({
            "bytes": bytes_made, "lines": lines, "documents": documents, "kept": summary["kept"],
            "seconds": run.spent.seconds, "processor_s": run.spent.processor,
            "resident": run.spent.resident, "disk": run.spent.disk,
        }),
    );
    found.figure(&format!("peak, GiB, {label}"), "quipu", &[gib], Asked::Below(PEAK_GIB));
    found.figure(&format!("MB/s, {label}"), "quipu", &[run.rate() / 1e6], Asked::Nothing);
    let disk = run.spent.disk as f64 / bytes_made;
    let what = format!("bytes of disk a byte of text, {label}");
    found.figure(&what, "quipu", &[disk], Asked::Nothing);
    Ok(run)
}

/// What the paper's amount would need, from the rates measured here.
fn large(setting: &Setting, run: &Run, found: &mut Ledger) -> Result<(), Error> {
    let pages = setting.shared.join("data/html-gold/html");
    let result = measure(&setting.quipu, &["extract", &pages.to_string_lossy()])?;
    let extraction = extraction_seconds(&result)?;
    let bytes = TOKENS * BYTES_A_TOKEN;
    let hours = |seconds_a_byte: f64| bytes * seconds_a_byte / 3600.0;
    let (shuffles, pages) = (hours(run.spent.processor / run.bytes), hours(extraction));
    let terabytes = bytes * run.spent.disk as f64 / run.bytes / 1e12;
    let amount = "15 trillion tokens of text";
    let computed = "quipu, computed";
    let what = format!("core-hours from text to documents, {amount}");
    found.figure(&what, computed, &[shuffles], Asked::Nothing);
    found.figure(
        &format!("core-hours of extraction, {amount}"),
        computed,
        &[pages],
        Asked::Nothing,
    );
    found.figure(
        &format!("TB of disk at its peak, {amount}"),
        computed,
        &[terabytes],
        Asked::Nothing,
    );
    found.note(format!(
        "Computed for {} TB of text that come in ({BYTES_A_TOKEN} bytes a token): linear in the \
         text, as the shuffles are up to a logarithm; reading text without rules, and extraction at \
         the rate of html-gold's pages. A crawl that yields so much after curation is larger by \
         what curation removes.",
        short(bytes / 1e12)
    ));
    Ok(())
}

/// Processor seconds of extraction for each byte of text that it yields.
fn extraction_seconds(result: &Value) -> Result<f64, Error> {
    let seconds = number(result, "pages")? / number(result, "pages_per_s")?;
    Ok(seconds / number(result, "text_bytes")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_rates() {
        assert_eq!((size(20_000 * MB).as_str(), size(20 * MB).as_str()), ("20 GB", "20 MB"));
        let result = json!({"pages": 100, "pages_per_s": 1000.0, "text_bytes": 1_000_000});
        assert!((extraction_seconds(&result).unwrap() - 1e-7).abs() < 1e-12);
    }
}
