//! Part `extraction`: main text against gold by a scorer that is not ours, and pages a second of one
//! core, charset decoding included and inflating excluded, by processor time. Peers: resiliparse and
//! trafilatura on the same pages in every round; extractors written in Rust where they are asked
//! for. The extractor was tuned on these pages: its score on them is in-sample, and each half by
//! weights of the other half stands beside it.

use super::corpus::{Scratch, Setting};
use super::ledger::{Asked, Ledger};
use super::{last_object, measure, number};
use crate::run::{self, Error};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The peers in Python, and what has to be installed for each.
const PEERS: [(&str, &str); 2] =
    [("resiliparse", "resiliparse.extract.html2text"), ("trafilatura", "trafilatura")];
/// What is asked of our scores: articles, wcxb, segments, overall.
const MARKS: [(&str, f64); 4] =
    [("articles", 0.97), ("wcxb", 0.815), ("segments", 0.93), ("overall", 0.905)];
/// How many times the pages of resiliparse a second.
const TIMES: f64 = 2.0;
/// Extractors of `tools/peers/extract_rs` that are measured.
const RUST: [&str; 3] = ["rs-trafilatura", "trafilatura-fallback", "dom_smoothie-formatted"];

/// Runs the part.
pub fn run(setting: &Setting, found: &mut Ledger) -> Result<(), Error> {
    let gold = setting.shared.join("data/html-gold");
    let scratch = setting.scratch("extraction")?;
    let ours = scratch.path("quipu.jsonl");
    let lines = run::output(Command::new(&setting.quipu).arg("extract").arg(gold.join("html")))?;
    std::fs::write(&ours, lines)?;
    let scores = scores(setting, &gold, &ours)?;
    for (name, mark) in MARKS {
        let score = scores.iter().find(|(n, _)| n == name).map(|(_, score)| *score);
        let what = format!("{name} of html-gold, in-sample");
        found.figure(&what, "quipu", score.as_slice(), Asked::AtLeast(mark));
    }
    rates(setting, &gold, &scratch, found)?;
    held_out(setting, &gold, found)?;
    if setting.rust_peers {
        rust(setting, &gold, &scratch, found)?;
    }
    Ok(())
}

/// Scores of extracted text by the scorer of the shared folder: (set, score), the mean last.
pub fn scores(
    setting: &Setting,
    gold: &Path,
    extracted: &Path,
) -> Result<Vec<(String, f64)>, Error> {
    let said = run::output(setting.tool("score_extraction.py").arg(gold).arg(extracted))?;
    let scores = read_scores(&said);
    if scores.is_empty() { Err(format!("the scorer said {said:?}").into()) } else { Ok(scores) }
}

fn read_scores(said: &str) -> Vec<(String, f64)> {
    let score = |line: &str| {
        let (name, rest) = line.split_once(' ')?;
        let rest = if name == "overall" { rest } else { rest.split_once("F1 ")?.1 };
        Some((name.to_owned(), rest.split_whitespace().next()?.parse().ok()?))
    };
    said.lines().filter_map(score).collect()
}

fn rates(
    setting: &Setting,
    gold: &Path,
    scratch: &Scratch,
    found: &mut Ledger,
) -> Result<(), Error> {
    let html = gold.join("html");
    let mut peers = Vec::new();
    for (peer, module) in PEERS {
        match setting.python.lacks(&[module]) {
            Some(missing) => found.note(format!("{peer} was not measured: {missing}.")),
            None => peers.push((peer, scratch.path(&format!("{peer}.jsonl")), Vec::new())),
        }
    }
    let mut ours = Vec::new();
    let mut ratios: Vec<Vec<f64>> = vec![Vec::new(); peers.len()];
    for round in 1..=setting.rounds {
        let result = measure(&setting.quipu, &["extract", &html.to_string_lossy()])?;
        let rate = number(&result, "pages_per_s")?;
        found.raw(round, "quipu", result);
        ours.push(rate);
        for ((peer, out, theirs), ratios) in peers.iter_mut().zip(&mut ratios) {
            let mut command = setting.peer("extract_pages.py");
            let said = run::output(command.arg(*peer).arg(&html).arg(&*out))?;
            let result = last_object(&said, peer)?;
            let their_rate = number(&result, "pages_per_s")?;
            println!("  round {round}: quipu {rate:.0}, {peer} {their_rate:.0} pages/s");
            found.raw(round, peer, result);
            theirs.push(their_rate);
            ratios.push(rate / their_rate);
        }
    }
    let what = "pages/s of one core, decoding included";
    found.figure(what, "quipu", &ours, Asked::Nothing);
    for ((peer, out, theirs), ratios) in peers.iter().zip(&ratios) {
        found.figure(what, peer, theirs, Asked::Nothing);
        let asked = match *peer {
            "resiliparse" => Asked::AtLeast(TIMES),
            _ => Asked::Nothing,
        };
        found.figure(&format!("times the pages/s of {peer}"), "quipu", ratios, asked);
        for (name, score) in scores(setting, gold, out)? {
            found.figure(&format!("{name} of html-gold"), peer, &[score], Asked::Nothing);
        }
    }
    Ok(())
}

/// What the weights of one half of the pages reach on the other: the trainer says it.
fn held_out(setting: &Setting, gold: &Path, found: &mut Ledger) -> Result<(), Error> {
    if setting.small {
        found.note("The halves were not trained: --small.");
        return Ok(());
    }
    let trainer = setting.needed("train_extractor")?;
    let said = run::output(Command::new(trainer).arg(gold))?;
    found.raw(1, "quipu, held out", json!(said));
    let mut any = false;
    for (label, scores) in said.lines().filter_map(read_held_out) {
        any = true;
        for (name, score) in scores {
            found.figure(&format!("{name}: {label}"), "quipu", &[score], Asked::Nothing);
        }
    }
    if !any {
        found.note("The trainer said no scores in the form `LABEL: overall X; articles X …`.");
    }
    Ok(())
}

/// A line `LABEL: overall 0.894; articles 0.931 wcxb 0.822 (…) segments 0.930`.
fn read_held_out(line: &str) -> Option<(&str, Vec<(String, f64)>)> {
    let (label, rest) = line.split_once(": overall ")?;
    let rest = format!("overall {rest}");
    let words: Vec<&str> = rest.split([' ', ';']).filter(|w| !w.is_empty()).collect();
    let score = |name: &str| {
        let at = words.iter().position(|w| *w == name)?;
        words.get(at + 1)?.parse().ok().map(|score| (name.to_owned(), score))
    };
    let scores: Vec<_> = MARKS.iter().filter_map(|(name, _)| score(name)).collect();
    (!scores.is_empty()).then_some((label, scores))
}

/// The extractors written in Rust: built from the shared folder, where a registry is at hand.
fn rust(
    setting: &Setting,
    gold: &Path,
    scratch: &Scratch,
    found: &mut Ledger,
) -> Result<(), Error> {
    let program = match build_rust(setting) {
        Ok(program) => program,
        Err(error) => {
            found.note(format!("The extractors written in Rust do not build: {error}"));
            return Ok(());
        }
    };
    let out = scratch.path("rust");
    let said = run::output(Command::new(program).arg(gold).arg(&out).args(RUST))?;
    found.raw(1, "extractors in Rust", json!(said));
    for name in RUST {
        let line = said.lines().find(|l| l.split_whitespace().next() == Some(name));
        let rate = line.and_then(|l| l.split_whitespace().nth(1)?.parse::<f64>().ok());
        let what = "pages/s of one core, decoding excluded, one pass";
        found.figure(what, name, rate.as_slice(), Asked::Nothing);
        for (set, score) in scores(setting, gold, &out.join(format!("{name}.jsonl")))? {
            found.figure(&format!("{set} of html-gold"), name, &[score], Asked::Nothing);
        }
    }
    Ok(())
}

/// Copies the sources, which may be read-only, and builds them as a workspace of their own.
fn build_rust(setting: &Setting) -> Result<PathBuf, Error> {
    let (from, to) =
        (setting.shared.join("tools/peers/extract_rs"), setting.work.join("extract_rs"));
    std::fs::create_dir_all(to.join("src"))?;
    std::fs::write(to.join("src/main.rs"), std::fs::read(from.join("src/main.rs"))?)?;
    let manifest = std::fs::read_to_string(from.join("Cargo.toml"))?;
    std::fs::write(to.join("Cargo.toml"), manifest + "\n[workspace]\n")?;
    let mut command = run::cargo(&to);
    command.env("CARGO_TARGET_DIR", to.join("target")).env("RUSTFLAGS", "-C target-cpu=native");
    run::output(command.args(["build", "--release"]))?;
    Ok(to.join("target/release/extract_rs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_scorer_says() {
        let said = "articles  precision 0.948  recall 0.952  F1 0.950  (181 pages, 0 empty)\n\
                    wcxb      F1 0.752  (100 pages, 1 empty)  article 0.9\n\
                    overall   0.873\n";
        let expected = [("articles", 0.950), ("wcxb", 0.752), ("overall", 0.873)];
        let expected = expected.map(|(name, score)| (name.to_owned(), score));
        assert_eq!(read_scores(said), expected);
        assert!(read_scores("nothing of the kind").is_empty());
    }

    #[test]
    fn what_the_trainer_says() {
        let line = "half 0, not trained on: overall 0.8940; articles 0.931 wcxb 0.822 (article \
                    0.900 forum 0.700) segments 0.930";
        let (label, scores) = read_held_out(line).unwrap();
        assert_eq!(label, "half 0, not trained on");
        let found: Vec<f64> = scores.iter().map(|(_, score)| *score).collect();
        assert_eq!(found, [0.931, 0.822, 0.930, 0.894]);
        assert!(read_held_out("379 pages, 60 features").is_none());
    }
}
