//! `repeated-ngrams`: coverage of a text by word sequences that it repeats.
//!
//! Source: Gopher (Rae et al. 2021) as the paper uses it (§3.1.1): it catches long lines of
//! repeated content that no line deduplication sees. Formula: share of a text's letters in
//! 5-grams (7, 10) that stood before in it; share of letters in the one most frequent 2-gram (3,
//! 4). Thresholds: 0.30, 0.28, 0.25 and Gopher's 0.20, 0.18, 0.16, from 40 words on. Gopher's 0.15,
//! 0.13 and 0.10 for the longer ones took, of a real crawl, 14 good pages in 18 below 0.30 (an
//! instruction explained for each option, threads that quote), and no good one above. A 5-gram
//! has to be repeated within the text, not in the corpus.

use super::grams::{covered, most_frequent};
use super::{Judge, Rule, Set, TEXT, View, gopher};

const DUPLICATED: [(usize, f32); 3] = [(5, 0.30), (7, 0.28), (10, 0.25)];
const TOP: [(usize, f32); 3] = [(2, 0.20), (3, 0.18), (4, 0.16)];
const MIN_WORDS: usize = 40;

pub(super) const RULE: Rule = Rule {
    name: "repeated-ngrams",
    set: Set::Llama3,
    reason: "Text stuffed with the same phrases teaches a model to repeat itself.",
    limit: || {
        format!(
            "share of letters in repeated sequences above {}, or in the most frequent one above {}; \
             from {MIN_WORDS} words on",
            gopher::by_length(&DUPLICATED),
            gopher::by_length(&TOP),
        )
    },
    routes: TEXT,
    check,
};

fn check(view: &View, judge: &Judge) -> Option<f32> {
    let words = &view.words;
    if words.len() < MIN_WORDS {
        return None;
    }
    let total = view.word_chars().max(1) as f32;
    // Single letters of unspaced scripts make a gram of a fifth of the information.
    let scale = if view.unspaced > 0.5 { 2 } else { 1 };
    // What is covered by long sequences is covered by short ones: once these stay below a
    // threshold, so do the longer.
    let mut bound = 1.0f32;
    for (n, most) in DUPLICATED.map(|(n, most)| (n, judge.most(most))) {
        if bound <= most {
            continue;
        }
        bound = covered(words, n * scale) as f32 / total;
        if bound > most {
            return Some(bound);
        }
    }
    // A longer sequence has at most the letters of two of the shortest at a time.
    let mut bound = f32::MAX;
    for (n, most) in TOP.map(|(n, most)| (n, judge.most(most))) {
        if bound <= most {
            continue;
        }
        let share = most_frequent(words, n * scale) as f32 / total;
        if share > most {
            return Some(share);
        }
        bound = bound.min(share * 2.0);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::tests;
    use super::*;

    #[test]
    fn pair() {
        let head = ["buy cheap", "best price for", "discount"];
        let spam: Vec<String> =
            (0..30).map(|n| format!("{} copper kettles online now", head[n % 3])).collect();
        tests::check(&RULE, &spam.join(" "), true);
        let named: String = tests::PROSE_SAMPLE
            .split(". ")
            .map(|s| format!("Anna Marlow of Dunmere said so. {s}. "))
            .collect();
        tests::check(&RULE, &named, false);
    }
}
