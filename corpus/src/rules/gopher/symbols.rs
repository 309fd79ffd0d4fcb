//! `gopher-symbols`: hash signs to words, and ellipses to words, each at most 0.1.

use crate::rules::{Judge, PROSE, Rule, Set, View};

const MAX: f32 = 0.1;

pub(in crate::rules) const RULE: Rule = Rule {
    name: "gopher-symbols",
    set: Set::Gopher,
    reason: "Gopher removes documents with a hash sign or an ellipsis to every tenth word.",
    limit: || format!("hash signs or ellipses a word above {MAX}"),
    routes: PROSE,
    check,
};

fn check(view: &View, judge: &Judge) -> Option<f32> {
    let most = view.counts.hashes.max(view.counts.ellipses);
    let ratio = most as f32 / view.words.len().max(1) as f32;
    (ratio > judge.most(MAX)).then_some(ratio)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::check;

    #[test]
    fn pair() {
        check(&RULE, "#a #b c d e f g h i j k l m n o p q r s", true);
        check(&RULE, "one #tag and then... nine more words of an ordinary text follow", false);
        check(&RULE, "one… two... three four five", true);
    }
}
