//! `adult-words`: pages that advertise pornography.
//!
//! Source: the paper's "dirty word" counts (§3.1.1, after Raffel et al. 2020). Ours is a density,
//! so that a page about medicine, law or art that has such words stays. Formula: words of the list,
//! those that also occur elsewhere counted a half, over all words. Threshold: above 0.02, and at
//! least 3. The list is our own, of whole words, English; other languages need theirs.

use super::{EVERY, Rule, View};

const MAX_SHARE: f32 = 0.02;
const MIN_COUNT: f32 = 3.0;

/// Words of advertisement, hardly used elsewhere.
const PLAIN: &[&str] = &[
    "anal",
    "blowjob",
    "boobs",
    "bukkake",
    "camgirl",
    "camgirls",
    "cock",
    "cocks",
    "creampie",
    "cum",
    "cumshot",
    "dildo",
    "dildos",
    "erotic",
    "erotica",
    "escort",
    "escorts",
    "fetish",
    "fuck",
    "fucked",
    "fucking",
    "gangbang",
    "handjob",
    "hardcore",
    "hentai",
    "horny",
    "lingerie",
    "masturbation",
    "milf",
    "milfs",
    "nude",
    "nudes",
    "orgasm",
    "orgy",
    "porn",
    "porno",
    "pornography",
    "pussy",
    "sexy",
    "shemale",
    "slut",
    "sluts",
    "strip",
    "stripper",
    "striptease",
    "swinger",
    "swingers",
    "threesome",
    "tits",
    "topless",
    "webcam",
    "webcams",
    "whore",
    "xxx",
];
/// Words that are as common in other texts.
const HALF: &[&str] = &[
    "adult",
    "amateur",
    "babe",
    "babes",
    "breasts",
    "busty",
    "dating",
    "explicit",
    "kinky",
    "naked",
    "seduce",
    "sensual",
    "sex",
    "sexual",
    "teen",
    "teens",
    "uncensored",
];

pub(super) const RULE: Rule = Rule {
    name: "adult-words",
    reason: "Advertisement for pornography is no text that anybody wants from a model.",
    routes: EVERY,
    check,
};

fn check(view: &View) -> Option<f32> {
    let mut count = 0.0;
    let mut lower = String::new();
    for word in &view.words {
        if word.chars < 3 || word.chars > 12 {
            continue;
        }
        lower.clear();
        lower.extend(view.word(word).chars().map(|c| c.to_ascii_lowercase()));
        if PLAIN.binary_search(&lower.as_str()).is_ok() {
            count += 1.0;
        } else if HALF.binary_search(&lower.as_str()).is_ok() {
            count += 0.5;
        }
    }
    let share = count / view.words.len().max(1) as f32;
    (count >= MIN_COUNT && share > MAX_SHARE).then_some(share)
}

#[cfg(test)]
mod tests {
    use super::super::tests;
    use super::*;

    #[test]
    fn lists_are_sorted() {
        assert!(PLAIN.is_sorted() && HALF.is_sorted());
    }

    #[test]
    fn pair() {
        let advert = "Hot nude webcam girls, hardcore xxx porn and sexy amateur escort tonight. ";
        tests::check(&RULE, &advert.repeat(3), true);
        let medicine = "The doctor spoke about breast cancer and sexual health in a lecture for \
            teens and adults; questions on sex and dating were welcome. ";
        tests::check(&RULE, &format!("{medicine}{}", tests::PROSE_SAMPLE), false);
    }
}
