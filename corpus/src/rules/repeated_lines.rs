//! `repeated-lines`: texts that say the same lines over and over.
//!
//! Source: Gopher (Rae et al. 2021), which asks for shares of lines (0.30) and of their characters
//! (0.20). Formula: share of the lines' characters that stand in lines that stood before in the same
//! text. Threshold: Gopher's 0.20, from 6 lines on; lines without a letter or digit do not count.
//! Lines are not counted each as one: of three threads and listings that Gopher's 0.30 took from a real
//! crawl, 3 to 8 % of the characters were repeated (names of members, "Reply", prices).

use super::grams::with_table;
use super::{Judge, Rule, Set, TEXT, View};
use xxhash_rust::xxh3::xxh3_64;

const MAX_CHARS: f32 = 0.20;
const MIN_LINES: usize = 6;

pub(super) const RULE: Rule = Rule {
    name: "repeated-lines",
    set: Set::Llama3,
    reason: "A text that repeats its lines was made by a broken template or for a search engine.",
    limit: || {
        format!(
            "above {MAX_CHARS} of the characters stand in lines that stood before; from {MIN_LINES} \
             lines on"
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
    let (mut bytes, mut repeated) = (0, 0);
    with_table(lines, |seen| {
        for line in worded().map(|l| view.line(l)) {
            bytes += line.len();
            let count = seen.count(xxh3_64(line.as_bytes()));
            if *count > 0 {
                repeated += line.len();
            }
            *count = 1;
        }
    });
    let share = repeated as f32 / bytes as f32;
    (share > judge.most(MAX_CHARS)).then_some(share)
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
        let thread = tests::PROSE_SAMPLE.split(". ").map(|s| format!("Reply\nMaria\n{s}.\n"));
        tests::check(&RULE, &thread.collect::<String>(), false);
    }
}
