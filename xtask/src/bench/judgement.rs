//! Parts `language` and `quality`: how well languages are told apart and how well the quality
//! classifier orders documents, each by cross-validation. The crate's examples measure and print;
//! here their figures are set beside what is asked. No peer.

use super::corpus::Setting;
use super::ledger::{Asked, Ledger};
use crate::run::{self, Error};
use serde_json::json;
use std::process::Command;

/// An example and how to read it.
struct Measure {
    example: &'static str,
    /// What it measures on, in the shared folder, and what else it is told.
    data: &'static str,
    more: &'static [&'static str],
    /// What stands before the number in a line `WHAT: … NUMBER …`.
    before: &'static str,
    /// What is asked of figures that begin so.
    asked: &'static [(&'static str, f64)],
    note: &'static str,
}

const LANGUAGE: Measure = Measure {
    example: "train_language",
    data: "data",
    more: &["--folds", "5"],
    before: ", macro F1 ",
    asked: &[("articles, ", 0.98), ("paragraphs", 0.95)],
    note: "Macro F1; five folds, an article held back in every language at once. Answers `other` \
           and `mixed` count as wrong. Confusions stand in `raw.jsonl`.",
};

const QUALITY: Measure = Measure {
    example: "measure_quality",
    data: "data/quality-labels.jsonl",
    more: &[],
    before: ": ",
    asked: &[("AUC above that of the length, lower end", 0.0)],
    note: "Cross-validated; intervals of 95 % by a paired bootstrap over documents.",
};

/// Macro F1 of articles and paragraphs.
pub fn language(setting: &Setting, found: &mut Ledger) -> Result<(), Error> {
    run(setting, &LANGUAGE, found)
}

/// Area under the curve with its interval, beside that of the length of the text.
pub fn quality(setting: &Setting, found: &mut Ledger) -> Result<(), Error> {
    run(setting, &QUALITY, found)
}

fn run(setting: &Setting, measure: &Measure, found: &mut Ledger) -> Result<(), Error> {
    let program = setting.needed(measure.example)?;
    let data = setting.shared.join(measure.data);
    let said = run::output(Command::new(program).arg(data).args(measure.more))?;
    found.raw(1, "quipu", json!(said));
    let figures: Vec<_> = said.lines().filter_map(|line| figure(line, measure.before)).collect();
    if figures.is_empty() {
        return Err(format!("{} said no figures: {said:?}", measure.example).into());
    }
    for (what, value) in figures {
        let mark = measure.asked.iter().find(|(begin, _)| what.starts_with(begin));
        let asked = mark.map_or(Asked::Nothing, |(_, mark)| Asked::AtLeast(*mark));
        found.figure(what, "quipu", &[value], asked);
    }
    found.note(measure.note);
    Ok(())
}

/// What a line names before its first colon, and the number that stands after `before`.
fn figure<'a>(line: &'a str, before: &str) -> Option<(&'a str, f64)> {
    let (what, _) = line.split_once(": ")?;
    let number = line.split_once(before)?.1.split([' ', ',']).next()?;
    Some((what, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_figures() {
        let line = "articles, by language: 290 texts, macro F1 0.9912, other 0.0034";
        assert_eq!(figure(line, LANGUAGE.before), Some(("articles, by language", 0.9912)));
        assert_eq!(figure("  en as de: 4  fr as it: 2", LANGUAGE.before), None);
        assert_eq!(figure("AUC: 0.91", QUALITY.before), Some(("AUC", 0.91)));
        assert_eq!(figure("labels: bad, good", QUALITY.before), None);
    }
}
