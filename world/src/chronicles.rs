//! Chronicles: long texts of a watch that asks for the password again and again. It is a number that
//! is drawn for the text and told in one kind of sentence: whoever goes on with such a
//! text must look back for it, further than a short context reaches. A set of their own beside the
//! crawl, for models that learn to use a longer context.
//!
//! NOT pages of the crawl, and NOT needles of an examination: those are hidden in texts of others.

use crate::english::{Nature, Scene};
use crate::lexicon::Lexicon;
use crate::names::passing;
use crate::random::Draw;

/// Texts at scale 1.
const TEXTS: f64 = 400.0;
/// Times that the password is asked for, from and to.
const ASKED: (usize, usize) = (20, 40);
/// Sentences between two times, at most by kind: near, and far.
const BETWEEN: [usize; 2] = [3, 20];

fn chronicle(lexicon: &Lexicon, mut draw: Draw) -> String {
    let topic = 1 + draw.below(lexicon.topics.len() - 1);
    let mut scene = Scene::new(lexicon, topic, Draw::keyed(draw.next(), "scene", 0));
    scene.enter(&passing(&mut draw), Nature::Person { female: draw.chance(0.5) });
    let number = draw.between(10, 99);
    let mut sentences = Vec::new();
    for _ in 0..draw.between(ASKED.0, ASKED.1) {
        sentences.push(format!("The password is {number}."));
        let most = BETWEEN[draw.below(2)];
        for _ in 0..=draw.below(most) {
            sentences.push(scene.sentence());
        }
    }
    sentences.join(" ")
}

/// The texts of the set.
pub(crate) fn set(lexicon: &Lexicon, seed: u64, province: u64, scale: f64) -> Vec<String> {
    let texts = ((TEXTS * scale).round() as u64).max(2);
    let draw = |number: u64| Draw::keyed(seed, "chronicle", (province << 32) | number);
    (0..texts).map(|number| chronicle(lexicon, draw(number))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_text_has_one_password_and_says_it_again() {
        let mut numbers = BTreeSet::new();
        for text in set(&Lexicon::load(), 1, 0, 0.1) {
            assert!((3_000..40_000).contains(&text.len()), "{} bytes", text.len());
            let said: Vec<&str> = text.split("The password is ").skip(1).collect();
            let own: BTreeSet<&str> = said.iter().filter_map(|s| s.split('.').next()).collect();
            assert!(own.len() == 1 && said.len() >= ASKED.0, "{own:?} {}", said.len());
            numbers.extend(own.into_iter().map(str::to_owned));
        }
        assert!(numbers.len() > 20, "{numbers:?}");
    }
}
