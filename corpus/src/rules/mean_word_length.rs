//! `mean-word-length`: encoded data, keys without spaces, single letters.
//!
//! Source: Gopher (Rae et al. 2021): mean word length from 3 to 10 characters. Formula: letters and
//! digits over words. Thresholds: 2.5 to 10; 14 where the script is not Latin, Cyrillic or Greek
//! (Tamil and Malayalam words are long); none for scripts without spaces.

use super::{Judge, Rule, Set, TEXT, View};

const MIN: f32 = 2.5;
const MAX: f32 = 10.0;
const MAX_OTHER: f32 = 14.0;

pub(super) const RULE: Rule = Rule {
    name: "mean-word-length",
    set: Set::Llama3,
    reason: "Words of one letter or of thirty are keys, tables or encoded data, not language.",
    limit: || format!("characters a word, outside {MIN} to {MAX}, in other scripts {MAX_OTHER}"),
    routes: TEXT,
    check,
};

fn check(view: &View, judge: &Judge) -> Option<f32> {
    if view.words.is_empty() || view.unspaced > 0.2 {
        return None;
    }
    let mean = view.word_chars() as f32 / view.words.len() as f32;
    let (least, most) = (judge.least(MIN), judge.most(MAX));
    if (least..=most).contains(&mean) {
        return None;
    }
    let western = |c: &char| (*c as u32) < 0x530;
    let letters = view.text.chars().filter(|c| c.is_alphabetic()).take(400);
    let (all, few) = letters.fold((0, 0), |(a, f), c| (a + 1, f + usize::from(western(&c))));
    let most = if few * 2 >= all { most } else { judge.most(MAX_OTHER) };
    (mean < least || mean > most).then_some(mean)
}

#[cfg(test)]
mod tests {
    use super::super::tests;
    use super::*;

    #[test]
    fn pair() {
        tests::check(&RULE, &"a 4 b c 9 x k 2 ".repeat(20), true);
        tests::check(&RULE, &"9f86d081884c7d659a2feaa0c55ad015 ".repeat(20), true);
        let learned = "Constitutional historians characterised administrative responsibilities \
            differently, and the courts of the province followed them for a time.";
        tests::check(&RULE, learned, false);
        tests::check(&RULE, "これは日本語の文章です。", false);
    }
}
