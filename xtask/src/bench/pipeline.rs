//! Part `pipeline`: a crawl to final Parquet with every rule on, against datatrove on the same files
//! with as many workers, as `tools/peers/datatrove_run.py` runs it (reader, trafilatura, three
//! filters, JSON Lines). Ours does more in its time: it also identifies languages and removes copies
//! at three levels; datatrove's copies are a second run, timed apart.

use super::corpus::{Scratch, Setting};
use super::ledger::{Asked, Ledger};
use super::spent::{self, Spent};
use super::{number, summary_of};
use crate::run::{self, Error};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

/// How many times the documents of datatrove a second.
const TIMES: f64 = 20.0;
/// What datatrove and the maker of its input import.
const MODULES: [&str; 5] = ["datatrove", "warcio", "trafilatura", "spacy", "lxml_html_clean"];
/// Visits of the shared crawl in the input.
const COPIES: usize = 5;

/// Curates `inputs` into the fresh folder `out`, watched, and says what was done there.
pub fn curate(
    setting: &Setting,
    out: &Path,
    inputs: &[PathBuf],
    more: &[&str],
) -> Result<(Spent, Value), Error> {
    let mut command = Command::new(setting.needed("curate")?);
    command.arg(out).args(["--workers", &setting.workers.to_string()]).args(more).args(inputs);
    let spent = spent::watch(&mut command, Some(out))?;
    Ok((spent, summary_of(out)?))
}

/// Runs the part.
pub fn run(setting: &Setting, found: &mut Ledger) -> Result<(), Error> {
    let scratch = setting.scratch("pipeline")?;
    let (missing, crawl) = (setting.python.lacks(&MODULES), scratch.path("crawl"));
    let inputs = input(setting, &crawl, missing.is_none())?;
    match &missing {
        Some(missing) => found.note(format!("datatrove was not measured: {missing}.")),
        None => found.note(format!(
            "Input: the shared crawl {} times, under other URLs and with other words. Both with {} \
             workers. datatrove: reader, trafilatura, Gopher's and C4's rules, JSON Lines; ours \
             also languages, copies at three levels and lines.",
            copies(setting),
            setting.workers
        )),
    }
    let (mut ours, mut theirs) = (Runs::default(), Runs::default());
    let mut ratios = Vec::new();
    for round in 1..=setting.rounds {
        let out = scratch.path("out");
        let (spent, summary) = curate(setting, &out, &inputs, &[])?;
        std::fs::remove_dir_all(&out)?;
        let pages = number(&summary, "pages")?;
        found.raw(
            round,
            "quipu",
            json!({
                "pages": pages, "kept": summary["kept"], "seconds": spent.seconds,
                "processor_s": spent.processor, "resident": spent.resident,
            }),
        );
        ours.push(pages, spent.seconds, spent.processor, spent.resident as f64);
        if missing.is_none() {
            let whole = round == 1 && !setting.small;
            let peer = datatrove(setting, &scratch, &crawl, whole)?;
            found.raw(round, "datatrove", json!(peer.said));
            let stage = peer.stage("filter")?;
            theirs.push(pages, stage.seconds, stage.processor, stage.resident);
            ratios.push(stage.seconds / spent.seconds);
            println!(
                "  round {round}: quipu {:.1} s, datatrove {:.1} s",
                spent.seconds, stage.seconds
            );
            if whole {
                copies_of(&peer, pages, found)?;
            }
        }
    }
    ours.into_figures("quipu", found);
    theirs.into_figures("datatrove", found);
    found.figure("times the documents/s of datatrove", "quipu", &ratios, Asked::AtLeast(TIMES));
    Ok(())
}

fn copies(setting: &Setting) -> usize {
    if setting.small { 1 } else { COPIES }
}

/// The files that both read: one a worker, or the shared crawl alone without the peer.
fn input(setting: &Setting, crawl: &Path, peer: bool) -> Result<Vec<PathBuf>, Error> {
    let source = setting.shared.join("data/crawl.warc.gz");
    if !peer {
        return Ok(vec![source]);
    }
    let (files, copies) = (setting.workers.to_string(), copies(setting).to_string());
    let mut command = setting.tool("peers/make_warc.py");
    let said = run::output(command.arg(source).arg(crawl).args([files, copies]))?;
    println!("  {}", said.trim());
    Ok(vec![crawl.to_path_buf()])
}

/// Figures of the rounds of one side.
#[derive(Default)]
struct Runs {
    rates: Vec<f64>,
    processor: Vec<f64>,
    mebibytes: Vec<f64>,
}

impl Runs {
    fn push(&mut self, pages: f64, seconds: f64, processor: f64, bytes: f64) {
        self.rates.push(pages / seconds);
        self.processor.push(pages / processor.max(1e-9));
        self.mebibytes.push(bytes / f64::from(1 << 20));
    }

    fn into_figures(self, who: &str, found: &mut Ledger) {
        found.figure("documents/s", who, &self.rates, Asked::Nothing);
        let what = "documents a processor second";
        found.figure(what, who, &self.processor, Asked::Nothing);
        found.figure("peak memory, MiB", who, &self.mebibytes, Asked::Nothing);
    }
}

/// What a run of datatrove said.
struct Peer {
    said: String,
}

/// One of its stages.
#[derive(Debug, PartialEq)]
struct Stage {
    seconds: f64,
    processor: f64,
    resident: f64,
}

impl Peer {
    /// A stage by its line `## NAME: wall X s, CPU Y s, peak RSS of the tree Z MB`.
    fn stage(&self, name: &str) -> Result<Stage, Error> {
        let begin = format!("## {name}: wall ");
        let line = self.said.lines().find_map(|l| l.strip_prefix(begin.as_str()));
        let line =
            line.ok_or_else(|| format!("datatrove said nothing of {name}: {}", self.said))?;
        let numbers: Vec<f64> = line.split_whitespace().filter_map(|w| w.parse().ok()).collect();
        match numbers[..] {
            [seconds, processor, megabytes, ..] => {
                Ok(Stage { seconds, processor, resident: megabytes * 1e6 })
            }
            _ => Err(format!("three numbers were expected in {line:?}").into()),
        }
    }
}

fn datatrove(
    setting: &Setting,
    scratch: &Scratch,
    crawl: &Path,
    whole: bool,
) -> Result<Peer, Error> {
    let work = scratch.path("datatrove");
    let mut command = setting.tool("peers/datatrove_run.py");
    command.arg(crawl).arg(&work).arg(setting.workers.to_string());
    if !whole {
        command.arg("--filter-only");
    }
    let said = run::output(&mut command)?;
    std::fs::remove_dir_all(&work)?;
    Ok(Peer { said })
}

/// Its removal of copies, four stages over the extracted texts; with the filters in sum what it
/// would need for what ours does.
fn copies_of(peer: &Peer, pages: f64, found: &mut Ledger) -> Result<(), Error> {
    let mut seconds = 0.0;
    for name in ["mh1-signature", "mh2-buckets", "mh3-cluster", "mh4-filter"] {
        seconds += peer.stage(name)?.seconds;
    }
    let what = "documents/s of MinHash alone, one run";
    found.figure(what, "datatrove", &[pages / seconds], Asked::Nothing);
    let whole = pages / (seconds + peer.stage("filter")?.seconds);
    let what = "documents/s of filters and MinHash, one run";
    found.figure(what, "datatrove", &[whole], Asked::Nothing);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_datatrove_says() {
        let said = "\n## filter: wall 74.2 s, CPU 130.1 s, peak RSS of the tree 650 MB\n  name 1\n";
        let peer = Peer { said: said.into() };
        let expected = Stage { seconds: 74.2, processor: 130.1, resident: 650e6 };
        assert_eq!(peer.stage("filter").unwrap(), expected);
        assert!(peer.stage("mh1").unwrap_err().to_string().contains("mh1"));
    }
}
