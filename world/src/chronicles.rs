//! Chronicles: long texts of a watch that asks for the password again and again. It is a number that
//! is drawn for the text, marked by a sign that stands nowhere else: whoever goes on with such a
//! text must look back for it, now a sentence, now as far as the text reaches. And drills: short
//! texts in which a marked number comes again every few words, from which a small model learns to
//! look back at all (from chronicles alone it does not, LOG.md). Two sets of their own beside the
//! crawl, for models that learn to use a longer context.
//!
//! NOT pages of the crawl, and NOT needles of an examination: those are hidden in texts of others.

use crate::english::{Nature, Scene};
use crate::lexicon::Lexicon;
use crate::names::passing;
use crate::random::Draw;

/// Texts at scale 1: chronicles, drills.
const TEXTS: [f64; 2] = [400.0, 12_000.0];
/// Sentences of a chronicle, from and to.
const SENTENCES: (usize, usize) = (80, 240);
/// Sentences between two times are 2 to a power up to this.
const DOUBLINGS: usize = 6;
/// Times that a drill says its number, from and to.
const SAID: (usize, usize) = (3, 8);
/// Words between two times, at most by kind of drill.
const WORDS: [usize; 4] = [3, 4, 8, 16];

fn scene<'l>(lexicon: &'l Lexicon, draw: &mut Draw) -> Scene<'l> {
    let topic = 1 + draw.below(lexicon.topics.len() - 1);
    let mut scene = Scene::new(lexicon, topic, Draw::keyed(draw.next(), "scene", 0));
    scene.enter(&passing(draw), Nature::Person { female: draw.chance(0.5) });
    scene
}

fn chronicle(lexicon: &Lexicon, mut draw: Draw) -> String {
    let mut scene = scene(lexicon, &mut draw);
    let number = draw.between(10, 99);
    let (mut sentences, length) = (Vec::new(), draw.between(SENTENCES.0, SENTENCES.1));
    while sentences.len() < length {
        sentences.push(format!("The password is #{number}."));
        let most = 1_usize << draw.below(DOUBLINGS + 1);
        sentences.extend((0..draw.between(most.div_ceil(2), most)).map(|_| scene.sentence()));
    }
    sentences.join(" ")
}

fn drill(lexicon: &Lexicon, mut draw: Draw) -> String {
    let mut scene = scene(lexicon, &mut draw);
    let number = draw.between(10, 99);
    let most = WORDS[draw.below(WORDS.len())];
    let mut words = Vec::new();
    let mut next = || loop {
        if let Some(word) = words.pop() {
            return word;
        }
        let sentence = scene.sentence();
        // No other number: to look back at all comes before to choose.
        if !sentence.contains(char::is_numeric) {
            words.extend(sentence.rsplit(' ').map(str::to_owned));
        }
    };
    let mut parts = Vec::new();
    for _ in 0..draw.between(SAID.0, SAID.1) {
        let before = if draw.chance(0.33) { "The password is " } else { "" };
        let behind = if draw.chance(0.5) { "." } else { "" };
        parts.push(format!("{before}#{number}{behind}"));
        parts.extend((0..draw.between(1, most)).map(|_| next()));
    }
    parts.join(" ")
}

/// The texts of the set of chronicles.
pub(crate) fn set(lexicon: &Lexicon, seed: u64, province: u64, scale: f64) -> Vec<String> {
    texts(TEXTS[0] * scale, |n| {
        chronicle(lexicon, Draw::keyed(seed, "chronicle", (province << 32) | n))
    })
}

/// The texts of the set of drills.
pub(crate) fn drills(lexicon: &Lexicon, seed: u64, province: u64, scale: f64) -> Vec<String> {
    texts(TEXTS[1] * scale, |n| drill(lexicon, Draw::keyed(seed, "drill", (province << 32) | n)))
}

fn texts(count: f64, text: impl FnMut(u64) -> String) -> Vec<String> {
    (0..(count.round() as u64).max(2)).map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Different numbers that a text says behind `mark`, and how often.
    fn said<'t>(text: &'t str, mark: &str) -> (BTreeSet<&'t str>, usize) {
        let all: Vec<&str> = text.split(mark).skip(1).filter_map(|s| s.get(..2)).collect();
        (all.iter().copied().collect(), all.len())
    }

    #[test]
    fn a_chronicle_has_one_password_and_says_it_near_and_far() {
        let (mut numbers, mut farthest) = (BTreeSet::new(), 0);
        for text in set(&Lexicon::load(), 1, 0, 0.1) {
            assert!((3_000..40_000).contains(&text.len()), "{} bytes", text.len());
            let (own, times) = said(&text, "The password is #");
            assert!(own.len() == 1 && times >= 3, "{own:?} {times}");
            numbers.extend(own.into_iter().map(str::to_owned));
            farthest = farthest.max(text.split('#').map(str::len).max().unwrap_or(0));
        }
        assert!(numbers.len() > 20 && farthest > 2_000, "{numbers:?} {farthest}");
    }

    #[test]
    fn a_drill_is_short_and_has_no_number_but_its_own() {
        let mut numbers = BTreeSet::new();
        for text in drills(&Lexicon::load(), 1, 0, 0.02) {
            let (own, times) = said(&text, "#");
            assert!(own.len() == 1 && (SAID.0..=SAID.1).contains(&times), "{text}");
            assert_eq!(text.matches(char::is_numeric).count(), 2 * times, "{text}");
            assert!(text.len() < 2_000, "{text}");
            numbers.extend(own.into_iter().map(str::to_owned));
        }
        assert!(numbers.len() > 50, "{numbers:?}");
    }
}
