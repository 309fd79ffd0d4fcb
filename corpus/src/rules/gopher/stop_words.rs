//! `gopher-stop-words`: at least two of the words the, be, to, of, and, that, have, with.
//!
//! Asked of English only.

use crate::rules::lexicon::Lexicon;
use crate::rules::{Judge, PROSE, Rule, Set, View};
use std::sync::LazyLock;

const LEAST: f32 = 2.0;

static WORDS: LazyLock<Lexicon> = LazyLock::new(|| {
    let all = "the be to of and that have with".split(' ').zip(0..);
    Lexicon::new(&all.map(|(w, n)| (crate::rules::word_hash(w), n)).collect::<Vec<_>>())
});

pub(in crate::rules) const RULE: Rule = Rule {
    name: "gopher-stop-words",
    set: Set::Gopher,
    reason: "Gopher asks for two different stop words: a text without them is no English.",
    limit: || format!("fewer than {LEAST} different stop words"),
    routes: PROSE,
    check,
};

fn check(view: &View, judge: &Judge) -> Option<f32> {
    if view.language != "en" {
        return None;
    }
    let least = judge.least(LEAST).ceil() as u32;
    let mut seen = 0u8;
    for word in &view.words {
        seen |= WORDS.get(word.hash).map_or(0, |number| 1 << number);
        if seen.count_ones() >= least {
            return None;
        }
    }
    Some(seen.count_ones() as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::{check, check_in};

    #[test]
    fn pair() {
        check(&RULE, "The the the boats", true);
        check(&RULE, "The boats of old", false);
        check_in(&RULE, "de", "Die Boote kamen zurück", false);
    }
}
