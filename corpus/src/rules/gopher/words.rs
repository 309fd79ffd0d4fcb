//! `gopher-words`: from 50 to 100,000 words.

use crate::rules::{Judge, PROSE, Rule, Set, View};

const MIN: f32 = 50.0;
const MAX: f32 = 100_000.0;

pub(in crate::rules) const RULE: Rule = Rule {
    name: "gopher-words",
    set: Set::Gopher,
    reason: "Gopher keeps documents of 50 to 100,000 words: shorter ones are fragments.",
    limit: || format!("words, outside {MIN} to {MAX}"),
    routes: PROSE,
    check,
};

fn check(view: &View, judge: &Judge) -> Option<f32> {
    let words = view.words.len() as f32;
    (!(judge.least(MIN)..=judge.most(MAX)).contains(&words)).then_some(words)
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
