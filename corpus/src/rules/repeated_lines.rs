//! `repeated-lines`: texts that say the same lines over and over.
//!
//! Source: Gopher (Rae et al. 2021), duplicate line fraction 0.30 and duplicate line characters
//! 0.20. Formula: share of lines (and of their characters) that stood before in the same text.
//! Thresholds: as Gopher, from 6 lines on; lines without a letter or digit do not count.

use super::grams::with_table;
use super::{Judge, Rule, Set, TEXT, View};
use xxhash_rust::xxh3::xxh3_64;

const MAX_LINES: f32 = 0.30;
const MAX_CHARS: f32 = 0.20;
const MIN_LINES: usize = 6;

pub(super) const RULE: Rule = Rule {
    name: "repeated-lines",
    set: Set::Llama3,
    reason: "A text that repeats its lines was made by a broken template or for a search engine.",
    limit: || {
        format!(
            "above {MAX_LINES} of the lines, or {MAX_CHARS} of their characters, stood before; from \
             {MIN_LINES} lines on"
        )
    },
    routes: TEXT,
    check,
};

fn check(view: &View, judge: &Judge) -> Option<f32> {
    let worded = || view.lines.iter().filter(|l| !l.words().is_empty());
    let lines = worded().count();
    if lines < MIN_LINES {
        return None;
    }
    let (mut repeated, mut bytes, mut repeated_bytes) = (0, 0, 0);
    with_table(lines, |seen| {
        for line in worded().map(|l| view.line(l)) {
            bytes += line.len();
            let count = seen.count(xxh3_64(line.as_bytes()));
            if *count > 0 {
                repeated += 1;
                repeated_bytes += line.len();
            }
            *count = 1;
        }
    });
    let by_lines = repeated as f32 / lines as f32;
    let by_bytes = repeated_bytes as f32 / bytes as f32;
    let repeats = by_lines > judge.most(MAX_LINES) || by_bytes > judge.most(MAX_CHARS);
    repeats.then_some(by_lines.max(by_bytes))
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
