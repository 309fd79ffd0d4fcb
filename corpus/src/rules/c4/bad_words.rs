//! `c4-bad-words`: documents with any word of the list of dirty words go.

use crate::rules::{Judge, PROSE, Rule, Set, View};

pub(in crate::rules) const RULE: Rule = Rule {
    name: "c4-bad-words",
    set: Set::C4,
    reason: "C4 drops every document that has a word of the list, whatever it is about.",
    limit: || "one word of the list".into(),
    routes: PROSE,
    check,
};

/// Weight from which a word counts: those that also occur elsewhere have less.
const MIN: f32 = 1.0;

fn check(view: &View, judge: &Judge) -> Option<f32> {
    let (sum, count) = judge.dirty.count(view);
    (sum >= MIN).then_some(count as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::check;

    #[test]
    fn pair() {
        check(&RULE, "A lecture on pornography and the law.", true);
        check(&RULE, "A lecture on art and the naked truth.", false);
    }
}
