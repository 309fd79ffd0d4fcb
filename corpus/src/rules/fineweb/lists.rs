//! `fineweb-lists`: at most 0.3 line ends to a word.
//!
//! Ends of lines that are not blank: our texts have a blank line between paragraphs where those that
//! FineWeb judged have none.

use crate::rules::{Judge, PROSE, Rule, Set, View};

const MAX: f32 = 0.3;

pub(in crate::rules) const RULE: Rule = Rule {
    name: "fineweb-lists",
    set: Set::Fineweb,
    reason: "FineWeb removes documents with a line end after every third word: lists.",
    limit: || format!("line ends a word above {MAX}"),
    routes: PROSE,
    check,
};

fn check(view: &View, judge: &Judge) -> Option<f32> {
    let ends = view.lines.len().saturating_sub(1);
    let ratio = ends as f32 / view.words.len().max(1) as f32;
    (ratio > judge.most(MAX)).then_some(ratio)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::check;

    #[test]
    fn pair() {
        check(&RULE, "one\ntwo\nthree four", true);
        check(&RULE, "one two three\n\nfour five six seven\n\neight nine", false);
    }
}
