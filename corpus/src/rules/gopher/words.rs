//! `gopher-words`: from 50 to 100,000 words.

use crate::rules::{Judge, PROSE, Rule, Set, View};

pub(in crate::rules) const RULE: Rule = Rule {
    name: "gopher-words",
    set: Set::Gopher,
    reason: "Gopher keeps documents of 50 to 100,000 words: shorter ones are fragments.",
    routes: PROSE,
    check,
};

fn check(view: &View, judge: &Judge) -> Option<f32> {
    let words = view.words.len() as f32;
    (!(judge.least(50.0)..=judge.most(100_000.0)).contains(&words)).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::check;

    #[test]
    fn pair() {
        check(&RULE, &"word ".repeat(49), true);
        check(&RULE, &"word ".repeat(50), false);
        check(&RULE, &"w ".repeat(100_001), true);
    }
}
