//! Parts `language` and `quality`: how well languages are told apart and how well the quality
//! classifier orders documents, each on what it was not trained on. The crate's examples measure and
//! print; here their figures are set beside what is asked. No peer.

use super::corpus::Setting;
use super::ledger::{Asked, Ledger};
use crate::run::{self, Error};
use serde_json::json;
use std::process::Command;

/// An example, its data in the shared folder, and what is asked of figures whose name holds a word.
struct Measure {
    example: &'static str,
    data: &'static [&'static str],
    asked: &'static [(&'static str, f64)],
}

const LANGUAGE: Measure = Measure {
    example: "measure_language",
    data: &["data/text-multilingual"],
    asked: &[("macro F1 of articles", 0.98), ("macro F1 of paragraphs", 0.95)],
};

const QUALITY: Measure =
    Measure { example: "measure_quality", data: &["data/quality-labels.jsonl"], asked: &[] };

/// Macro F1 of articles and paragraphs by cross-validation.
pub fn language(setting: &Setting, found: &mut Ledger) -> Result<(), Error> {
    run(setting, &LANGUAGE, found)
}

/// Area under the curve with its interval, beside the length of the text.
pub fn quality(setting: &Setting, found: &mut Ledger) -> Result<(), Error> {
    run(setting, &QUALITY, found)
}

fn run(setting: &Setting, measure: &Measure, found: &mut Ledger) -> Result<(), Error> {
    let program = setting.needed(measure.example)?;
    let data = measure.data.iter().map(|path| setting.shared.join(path));
    let said = run::output(Command::new(program).args(data))?;
    found.raw(1, "quipu", json!(said));
    let figures: Vec<(&str, f64)> = said.lines().filter_map(figure).collect();
    if figures.is_empty() {
        return Err(format!("{} said no figures: {said:?}", measure.example).into());
    }
    for (what, value) in figures {
        let mark = measure.asked.iter().find(|(word, _)| what.contains(word));
        let asked = mark.map_or(Asked::Nothing, |(_, mark)| Asked::AtLeast(*mark));
        found.figure(what, "quipu", &[value], asked);
    }
    Ok(())
}

/// A line `WHAT: NUMBER`, and whatever follows the number.
fn figure(line: &str) -> Option<(&str, f64)> {
    let (what, rest) = line.split_once(": ")?;
    Some((what, rest.split_whitespace().next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_figures() {
        assert_eq!(
            figure("macro F1 of articles: 0.991 (29)"),
            Some(("macro F1 of articles", 0.991))
        );
        assert_eq!(figure("languages: en de"), None);
        assert_eq!(figure("a line"), None);
    }
}
