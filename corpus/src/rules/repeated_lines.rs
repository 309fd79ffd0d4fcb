//! `repeated-lines`: texts that say the same lines over and over.
//!
//! Source: Gopher (Rae et al. 2021), duplicate line fraction 0.30 and duplicate line characters
//! 0.20. Formula: share of lines (and of their characters) that stood before in the same text.
//! Thresholds: as Gopher, from 6 lines on; lines without a letter or digit do not count.

use super::{Rule, TEXT, View};
use std::collections::HashSet;

const MAX_LINES: f32 = 0.30;
const MAX_CHARS: f32 = 0.20;
const MIN_LINES: usize = 6;

pub(super) const RULE: Rule = Rule {
    name: "repeated-lines",
    reason: "A text that repeats its lines was made by a broken template or for a search engine.",
    routes: TEXT,
    check,
};

fn check(view: &View) -> Option<f32> {
    let mut seen = HashSet::new();
    let (mut lines, mut repeated, mut bytes, mut repeated_bytes) = (0, 0, 0, 0);
    for line in view.lines.iter().filter(|l| l.chars().any(char::is_alphanumeric)) {
        lines += 1;
        bytes += line.len();
        if !seen.insert(*line) {
            repeated += 1;
            repeated_bytes += line.len();
        }
    }
    if lines < MIN_LINES {
        return None;
    }
    let by_lines = repeated as f32 / lines as f32;
    let by_bytes = repeated_bytes as f32 / bytes as f32;
    (by_lines > MAX_LINES || by_bytes > MAX_CHARS).then_some(by_lines.max(by_bytes))
}

#[cfg(test)]
mod tests {
    use super::super::tests;
    use super::*;

    #[test]
    fn pair() {
        let broken = "The kettle is blue.\nThe pan is made of copper.\n".repeat(6);
        tests::check(&RULE, &broken, true);
        let verse =
            |n: usize| format!("The {n} boats go out.\nThe {n} boats come home.\nOh, the sea!\n");
        let song: String = (1..6).map(verse).chain([tests::PROSE_SAMPLE.to_owned()]).collect();
        tests::check(&RULE, &song, false);
    }
}
