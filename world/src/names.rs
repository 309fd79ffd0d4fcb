//! Proper names made of syllables, never two alike and, as long as they last, no two that begin
//! alike.
//!
//! NOT a list of real names: a name is an opening, a vowel, a middle and an ending, so that no
//! person or firm outside the simulation is meant.

use crate::random::Draw;
use std::collections::HashSet;

const ONSETS: &[&str] = &[
    "b", "br", "d", "dr", "f", "fl", "g", "gl", "gr", "h", "j", "k", "kl", "kr", "l", "m", "n",
    "p", "pl", "r", "s", "sk", "sm", "st", "t", "th", "tr", "v", "w", "y", "z", "sh",
];
const VOWELS: &[&str] = &["a", "e", "i", "o", "u", "ai", "au", "ei", "oa"];
const MIDDLES: &[&str] = &[
    "b", "d", "g", "k", "l", "ld", "lm", "lv", "m", "mb", "n", "nd", "nk", "r", "rd", "rg", "rk",
    "rm", "rn", "rv", "s", "sk", "st", "t", "v", "z", "rl", "nt", "sp", "dd", "ll", "ss",
];
const ENDINGS: &[&str] = &[
    "a", "an", "ar", "el", "en", "er", "et", "i", "ia", "il", "in", "ir", "is", "o", "on", "or",
    "us", "um", "une", "ow", "eth", "ak", "esh", "ine", "y",
];

/// Gives out names; remembers which openings are taken.
#[derive(Debug)]
pub(crate) struct Namer {
    draw: Draw,
    used: HashSet<String>,
    openings: HashSet<String>,
}

impl Namer {
    pub(crate) fn new(draw: Draw) -> Self {
        Self { draw, used: HashSet::new(), openings: HashSet::new() }
    }

    fn candidate(draw: &mut Draw) -> String {
        let mut name = String::new();
        name.push_str(draw.pick(ONSETS));
        name.push_str(draw.pick(VOWELS));
        name.push_str(draw.pick(MIDDLES));
        name.push_str(draw.pick(ENDINGS));
        name
    }

    /// A new name in lower case; its first four letters are no other's as long as that can be had.
    pub(crate) fn word(&mut self) -> String {
        for attempt in 0_u32.. {
            let mut name = Self::candidate(&mut self.draw);
            if attempt > 400 {
                name.push_str(self.draw.pick(MIDDLES));
                name.push_str(self.draw.pick(ENDINGS));
            }
            let opening: String = name.chars().take(4).collect();
            if self.used.contains(&name) || (attempt < 200 && self.openings.contains(&opening)) {
                continue;
            }
            self.openings.insert(opening);
            self.used.insert(name.clone());
            return name;
        }
        unreachable!("attempts are unbounded")
    }

    /// A new name with a capital.
    pub(crate) fn proper(&mut self) -> String {
        capital(&self.word())
    }
}

/// A passing name: not unique, for extras of one page.
pub(crate) fn passing(draw: &mut Draw) -> String {
    capital(&Namer::candidate(draw))
}

/// The text with its first letter as a capital.
pub(crate) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().collect::<String>() + letters.as_str(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_names_differ_in_their_first_four_letters() {
        let mut namer = Namer::new(Draw::keyed(1, "names", 0));
        let names: Vec<String> = (0..1000).map(|_| namer.proper()).collect();
        let openings: HashSet<String> = names.iter().map(|n| n.chars().take(4).collect()).collect();
        assert_eq!(openings.len(), names.len());
    }
}
