//! Precision and recall of every rule, where the truth about the pages is given.
//!
//! A `truth.jsonl` has a line a page: `record_id`, `url`, `date`, `expect` (`keep` or `drop`) and
//! for the latter `rule`; further `language`, and `boilerplate`, a line that its site repeats in the
//! main part. A page in a language that the recipe does not want should go by `language`, be it to be
//! kept or a copy of another.
//! What was kept and removed is read back from the output, so that the score is of what is there.

use crate::dedup::lines::RULE as LINES;
use crate::language::OTHER;
use crate::page::id_of;
use crate::summary::DAMAGED;
use crate::{Error, Languages, RuleScore};
use quipu_documents::{FileKind, Id, Reader, parse_date, read_fates};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::BufRead;
use std::path::Path;

#[derive(Deserialize)]
struct Line {
    record_id: String,
    url: String,
    #[serde(default)]
    date: String,
    expect: String,
    #[serde(default)]
    rule: Option<String>,
    #[serde(default)]
    language: Option<String>,
    #[serde(default)]
    boilerplate: Option<String>,
}

/// What should become of a page.
struct Truth {
    rule: Option<String>,
    boilerplate: Option<String>,
}

/// Rules that the truth of a page depends on: its language, and being a copy.
const LANGUAGE: &str = "language";
const DUPLICATE: &str = "document-duplicate";

fn read(path: &Path, languages: &Languages) -> Result<HashMap<Id, Truth>, Error> {
    let file = std::fs::File::open(path).map_err(Error::io(path))?;
    let mut truths = HashMap::new();
    for (number, line) in std::io::BufReader::new(file).lines().enumerate() {
        let line = line.map_err(Error::io(path))?;
        let fail = |e: serde_json::Error| Error::Line {
            path: path.to_owned(),
            line: number + 1,
            reason: format!("not a line of truth: {e}"),
        };
        let line: Line = serde_json::from_str(&line).map_err(fail)?;
        let id = id_of(&line.url, parse_date(&line.date), &line.record_id);
        let wanted = |l: &String| languages.keeps(l) || languages.keeps(OTHER);
        let wanted = line.language.as_ref().is_none_or(wanted);
        let rule = match (line.expect == "drop", line.rule) {
            // Languages act before copies are looked for.
            (true, Some(rule)) if rule == DUPLICATE && !wanted => Some(LANGUAGE.to_owned()),
            (true, rule) => Some(rule.unwrap_or_else(|| "unnamed".into())),
            (false, _) => (!wanted).then(|| LANGUAGE.to_owned()),
        };
        truths.insert(id, Truth { rule, boilerplate: line.boilerplate });
    }
    Ok(truths)
}

/// Scores the output in `out` of `files` files, and the number of pages that are not in it at all.
/// A damaged record is not one of them: it has no identity that could be read.
pub(super) fn score(
    path: &Path,
    languages: &Languages,
    out: &Path,
    files: usize,
) -> Result<(Vec<RuleScore>, u64), Error> {
    let truths = read(path, languages)?;
    let mut seen: HashSet<Id> = HashSet::new();
    let mut scores: BTreeMap<String, RuleScore> = BTreeMap::new();
    for truth in truths.values() {
        if let Some(rule) = &truth.rule {
            entry(&mut scores, rule).expected += 1;
        }
    }
    for number in 0..files {
        let file = |kind: FileKind| out.join(kind.name(number));
        for document in Reader::open(&file(FileKind::Documents))? {
            let document = document?;
            let Some(truth) = truths.get(&document.id) else { continue };
            seen.insert(document.id);
            if let Some(line) = &truth.boilerplate
                && document.text.lines().any(|l| l == line)
            {
                let score = entry(&mut scores, LINES);
                (score.expected, score.wrongly_kept) = (score.expected + 1, score.wrongly_kept + 1);
            }
            if let Some(rule) = &truth.rule {
                entry(&mut scores, rule).wrongly_kept += 1;
            }
        }
        for fate in read_fates(&file(FileKind::Fates))? {
            let truth = truths.get(&fate.id);
            let score = entry(&mut scores, &fate.rule);
            if fate.line.is_some() {
                score.removed += 1;
                if truth.is_some_and(|t| t.boilerplate.as_deref() == Some(fate.detail.as_str())) {
                    (score.right, score.expected) = (score.right + 1, score.expected + 1);
                } else {
                    score.wrongly_removed += 1;
                }
                continue;
            }
            seen.insert(fate.id);
            score.removed += 1;
            match truth.map(|t| t.rule.as_deref()) {
                Some(Some(rule)) if rule == fate.rule => score.right += 1,
                Some(None) => score.wrongly_removed += 1,
                _ => {}
            }
        }
    }
    let absent = truths.iter().filter(|(id, _)| !seen.contains(id)).map(|(_, truth)| truth);
    let (unread, unseen): (Vec<&Truth>, Vec<&Truth>) =
        absent.partition(|t| t.rule.as_deref() == Some(DAMAGED));
    if !unread.is_empty() {
        let score = entry(&mut scores, DAMAGED);
        score.right += unread.len() as u64;
        score.removed = score.removed.max(score.right);
    }
    Ok((scores.into_values().collect(), unseen.len() as u64))
}

fn entry<'a>(scores: &'a mut BTreeMap<String, RuleScore>, rule: &str) -> &'a mut RuleScore {
    let made = || RuleScore { rule: rule.to_owned(), ..RuleScore::default() };
    scores.entry(rule.to_owned()).or_insert_with(made)
}
