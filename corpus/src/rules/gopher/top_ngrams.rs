//! `gopher-top-ngrams`: the most frequent 2-gram, 3-gram, 4-gram has at most 0.20, 0.18, 0.16 of the
//! characters.
//!
//! Formula: occurrences times its letters with blanks between its words, over the characters of the
//! text. It must occur twice; of equally frequent ones the longest counts.

use crate::rules::grams::{each_gram, with_table};
use crate::rules::{Judge, PROSE, Rule, Set, View};

const MOST: [(usize, f32); 3] = [(2, 0.20), (3, 0.18), (4, 0.16)];

pub(in crate::rules) const RULE: Rule = Rule {
    name: "gopher-top-ngrams",
    set: Set::Gopher,
    reason: "Gopher removes documents that say the same two to four words all the time.",
    limit: || format!("share of the most frequent sequence above {}", super::by_length(&MOST)),
    routes: PROSE,
    check,
};

fn check(view: &View, judge: &Judge) -> Option<f32> {
    let chars = view.text.chars().count().max(1) as f32;
    let share = |n| top(view, n) as f32 / chars;
    MOST.iter()
        .map(|(n, most)| (share(*n), judge.most(*most)))
        .find(|(s, most)| s > most)
        .map(|(s, _)| s)
}

/// Characters in the occurrences of the most frequent sequence of `n` words.
fn top(view: &View, n: usize) -> u32 {
    with_table(view.words.len(), |table| {
        let mut most = (1, 0);
        each_gram(view.words.iter().map(|w| w.hash), n, |at, gram| {
            let count = table.count(gram);
            *count += 1;
            if *count > 1 && *count >= most.0 {
                let letters = view.words[at..at + n].iter().map(|w| u32::from(w.chars));
                most = most.max((*count, letters.sum::<u32>() + n as u32 - 1));
            }
        });
        most.0 * most.1
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::{PROSE_SAMPLE, check};

    #[test]
    fn pair() {
        check(&RULE, "Copper kettles here. Copper kettles there. Nobody has copper kettles.", true);
        check(&RULE, PROSE_SAMPLE, false);
        check(&RULE, "Two words", false);
    }

    #[test]
    fn of_equally_frequent_ones_the_longest_counts() {
        let view = View::of("a b c a b c longer ones longer ones", "en", 1);
        assert_eq!(top(&view, 2), 2 * 11);
    }
}
