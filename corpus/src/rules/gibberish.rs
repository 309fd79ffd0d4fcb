//! `gibberish`: random letters, keys, and machine identifiers in the form of text.
//!
//! Source: our own; perplexity filters (ccNet, Wenzek et al. 2020) in their cheapest form.
//! Formulas: mean surprise of a letter after a letter, by a table over all Latin-script languages
//! of the identifier's training; share of words that mix letters and digits. Thresholds: surprise
//! above 3.7 nats a letter (articles in 29 languages have 2.6 to 3.1, random letters 4.1 and
//! more), or above 0.35 of words mixed, from 20 words on. Texts of other scripts are not judged, nor
//! are letters of a text whose function words say what language it is in: above 0.15 of its words.

use super::stop_words;
use super::{Judge, Rule, Set, TEXT, View};
use crate::language;

const MAX_SURPRISE: f32 = 3.7;
const MAX_MIXED: f32 = 0.35;
const MIN_WORDS: usize = 20;
const MAX_FUNCTION: f32 = 0.15;

pub(super) const RULE: Rule = Rule {
    name: "gibberish",
    set: Set::Llama3,
    reason: "Random letters have no structure; a model can only memorise them.",
    limit: || {
        format!(
            "above {MAX_SURPRISE} nats a letter, or above {MAX_MIXED} of the words mix letters and \
             digits; from {MIN_WORDS} words on"
        )
    },
    routes: TEXT,
    check,
};

fn check(view: &View, judge: &Judge) -> Option<f32> {
    if view.words.len() < MIN_WORDS {
        return None;
    }
    let mixed = view.words.iter().filter(|w| w.digits && w.letters && is_mixed(view.word(w)));
    let mixed = mixed.count();
    let share = mixed as f32 / view.words.len() as f32;
    if share > judge.most(MAX_MIXED) {
        return Some(share);
    }
    if stop_words::share(view).is_some_and(|(share, _)| share > MAX_FUNCTION) {
        return None;
    }
    language::surprise(view.text).filter(|s| *s > judge.most(MAX_SURPRISE))
}

/// Letters and digits in one word, but for forms such as `2nd`, `x2` and `1950s`.
fn is_mixed(word: &str) -> bool {
    let bytes = word.as_bytes();
    let changes = bytes.windows(2).filter(|w| {
        let digit = |b: &u8| b.is_ascii_digit();
        digit(&w[0]) != digit(&w[1]) && w.iter().all(u8::is_ascii_alphanumeric)
    });
    let digits = bytes.iter().filter(|b| b.is_ascii_digit()).count();
    digits > 0 && bytes.len() > digits && (changes.count() > 1 || bytes.len() > 6)
}

#[cfg(test)]
mod tests {
    use super::super::tests;
    use super::*;

    fn noise(letters: &[u8]) -> String {
        let mut state = 9u64;
        let mut text = String::new();
        for n in 0..900 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            text.push(char::from(letters[(state >> 33) as usize % letters.len()]));
            if n % 7 == 3 {
                text.push(' ');
            }
        }
        text
    }

    #[test]
    fn pair() {
        tests::check(&RULE, &noise(b"abcdefghijklmnopqrstuvwxyz0123456789"), true);
        tests::check(&RULE, &noise(b"abcdefghijklmnopqrstuvwxyz"), true);
        let names = "Present were Ulm Karvald, Sibba Thorn, Greta Vos, Ilmar Osk, Petrun Hald, \
            Mira Dunn, and Tovik Rasmel; the 2nd meeting of the 1990s began at 9pm in room B12.";
        tests::check(&RULE, names, false);
        tests::check(
            &RULE,
            "Szczęście sprzyja śmiałym, a pszczoły brzęczą w gąszczu krzewów \
            nad strumieniem, gdzie wczesnym świtem przychodzą zające i sarny z pobliskich łąk.",
            false,
        );
    }
}
