//! Part `world`: the default world, whose truth is known page by page. Precision and recall of every
//! rule, and main text against the truth of the pages that stay: ours, trafilatura's, and
//! datatrove's (its reader and its extractor as it has them by default). Not here: what the truth
//! says (crate `world`).

use super::corpus::Setting;
use super::extraction::scores;
use super::ledger::{Asked, Ledger};
use super::{last_object, number};
use crate::run::{self, Error};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// What is asked of our main text.
const TEXT: f64 = 0.99;
/// The peers, and what each imports.
const PEERS: [(&str, &[&str]); 2] = [
    ("trafilatura", &["trafilatura", "warcio"]),
    ("datatrove", &["datatrove", "warcio", "trafilatura", "lxml_html_clean"]),
];

/// Runs the part.
pub fn run(setting: &Setting, found: &mut Ledger) -> Result<(), Error> {
    let scratch = setting.scratch("world")?;
    let dir = scratch.path("run");
    let mut command = Command::new(&setting.quipu);
    command.args(["curate", "--quiet", "--json", "--run-dir"]).arg(&dir);
    let facts = last_object(&run::output(&mut command)?, "quipu curate")?;
    rules(&facts, found)?;
    let world = dir.join("world");
    let (gold, crawl) = (scratch.path("gold"), world.join("crawl.warc.gz"));
    std::fs::create_dir_all(&gold)?;
    let truth = std::fs::read_to_string(world.join("truth.jsonl"))?;
    std::fs::write(gold.join("gold.jsonl"), gold_of(&truth)?)?;
    let ours = scratch.path("quipu.jsonl");
    let said = run::output(Command::new(&setting.quipu).arg("extract").arg(&crawl))?;
    std::fs::write(&ours, said)?;
    main_text(setting, &gold, &ours, "quipu", found)?;
    for (peer, modules) in PEERS {
        if let Some(missing) = setting.python.lacks(modules) {
            found.note(format!("{peer} was not measured: {missing}."));
            continue;
        }
        let out = scratch.path(&format!("{peer}.jsonl"));
        let mut command = setting.peer("extract_crawl.py");
        match run::output(command.arg(peer).arg(&crawl).arg(&out)) {
            Ok(said) => found.raw(1, peer, last_object(&said, peer)?),
            Err(error) => {
                found.note(format!("{peer} was not measured: {error}"));
                continue;
            }
        }
        main_text(setting, &gold, &out, peer, found)?;
    }
    found.note(
        "Main text: the pages that stay, by the scorer of html-gold: 4-word shingles, and words as \
         a multiset by page.",
    );
    Ok(())
}

/// Precision and recall of every rule that had something to remove or removed something.
fn rules(facts: &Value, found: &mut Ledger) -> Result<(), Error> {
    let scores = facts["scores"].as_array().ok_or("quipu curate said no scores of its rules")?;
    found.raw(1, "quipu", json!(scores));
    for score in scores {
        let rule = score["rule"].as_str().unwrap_or_default();
        let (right, removed) = (number(score, "right")?, number(score, "removed")?);
        let expected = number(score, "expected")?;
        let share = |of: f64| if of > 0.0 { vec![right / of] } else { Vec::new() };
        let precision = format!("precision of {rule} ({removed} removed)");
        found.figure(&precision, "quipu", &share(removed), Asked::Nothing);
        let recall = format!("recall of {rule} ({expected} expected)");
        found.figure(&recall, "quipu", &share(expected), Asked::Nothing);
    }
    Ok(())
}

/// The pages that stay as a gold for the scorer, each under both of its measures.
fn gold_of(truth: &str) -> Result<String, Error> {
    let mut gold = String::new();
    for line in truth.lines() {
        let page: Value = serde_json::from_str(line)?;
        if page["expect"] != "keep" {
            continue;
        }
        let id = page["record_id"].as_str().ok_or("a page of the truth has no record_id")?;
        let id = id.trim_matches(['<', '>']).trim_start_matches("urn:uuid:");
        for set in ["articles", "wcxb"] {
            let line = json!({"id": id, "set": set, "type": page["kind"], "main": page["text"]});
            gold += &format!("{line}\n");
        }
    }
    Ok(gold)
}

fn main_text(
    setting: &Setting,
    gold: &Path,
    extracted: &Path,
    who: &str,
    found: &mut Ledger,
) -> Result<(), Error> {
    for (measure, score) in scores(setting, gold, extracted)? {
        let what = match measure.as_str() {
            "articles" => "main text, F1 of shingles",
            "wcxb" => "main text, F1 of words",
            _ => continue,
        };
        let asked = if who == "quipu" { Asked::AtLeast(TEXT) } else { Asked::Nothing };
        found.figure(what, who, &[score], asked);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_truth_as_gold() {
        let truth = r#"{"record_id":"<urn:uuid:a-b>","kind":"forum","expect":"keep","text":"Hello."}
{"record_id":"<urn:uuid:c>","kind":"forum","expect":"drop","text":"Away."}"#;
        let gold = gold_of(truth).unwrap();
        assert_eq!(gold.lines().count(), 2);
        let first: Value = serde_json::from_str(gold.lines().next().unwrap()).unwrap();
        assert_eq!(first["id"], "a-b");
        assert_eq!(
            (first["set"].as_str(), first["main"].as_str()),
            (Some("articles"), Some("Hello."))
        );
        assert!(gold_of(r#"{"expect":"keep"}"#).is_err());
    }
}
