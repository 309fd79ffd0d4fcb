//! `gopher-paragraphs`: paragraphs that stood before are at most 0.30 of all, and have at most 0.20
//! of the characters. A paragraph ends at a blank line.

use super::repeated;
use crate::rules::{Judge, PROSE, Rule, Set, View};

pub(in crate::rules) const RULE: Rule = Rule {
    name: "gopher-paragraphs",
    set: Set::Gopher,
    reason: "Gopher removes documents that repeat their paragraphs.",
    limit: super::limit,
    routes: PROSE,
    check,
};

fn check(view: &View, judge: &Judge) -> Option<f32> {
    let paragraphs = view.text.split("\n\n").map(|p| p.trim_matches('\n'));
    repeated(view, judge, paragraphs.filter(|p| !p.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::{PROSE_SAMPLE, check};

    #[test]
    fn pair() {
        check(&RULE, "One.\n\n\nTwo.\n\nOne.\n\nTwo.", true);
        check(&RULE, &format!("Page 1\n\n{PROSE_SAMPLE}\n\nPage 1"), false);
        check(&RULE, "", false);
    }
}
