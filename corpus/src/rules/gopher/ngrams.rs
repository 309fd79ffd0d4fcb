//! `gopher-ngrams`: sequences of 5 (6, 7, 8, 9, 10) words that stood before have at most 0.15 (0.14,
//! 0.13, 0.12, 0.11, 0.10) of the characters.
//!
//! A word in several such sequences counts once, as in the paper; datatrove goes on behind a
//! repetition and so misses those that begin within it. What long sequences cover, short ones cover
//! too: most texts are done after the first look.

use crate::rules::grams::covered;
use crate::rules::{Judge, PROSE, Rule, Set, View};

const MOST: [(usize, f32); 6] = [(5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10)];

pub(in crate::rules) const RULE: Rule = Rule {
    name: "gopher-ngrams",
    set: Set::Gopher,
    reason: "Gopher removes documents made of phrases that they repeat.",
    limit: || {
        format!("share of characters in repeated sequences above {}", super::by_length(&MOST))
    },
    routes: PROSE,
    check,
};

fn check(view: &View, judge: &Judge) -> Option<f32> {
    let chars = view.text.chars().count().max(1) as f32;
    let mut bound = f32::MAX;
    for (n, most) in MOST.map(|(n, most)| (n, judge.most(most))) {
        if bound <= most {
            continue;
        }
        bound = covered(&view.words, n) as f32 / chars;
        if bound > most {
            return Some(bound);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::{PROSE_SAMPLE, check};

    #[test]
    fn pair() {
        check(&RULE, &format!("{PROSE_SAMPLE} {}", &PROSE_SAMPLE[..200]), true);
        check(&RULE, &format!("{PROSE_SAMPLE} {}", &PROSE_SAMPLE[..60]), false);
        check(&RULE, PROSE_SAMPLE, false);
    }
}
