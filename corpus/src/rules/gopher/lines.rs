//! `gopher-lines`: lines that stood before are at most 0.30 of all, and have at most 0.20 of the
//! characters.

use super::repeated;
use crate::rules::{Judge, PROSE, Rule, Set, View};

pub(in crate::rules) const RULE: Rule = Rule {
    name: "gopher-lines",
    set: Set::Gopher,
    reason: "Gopher removes documents that repeat their lines.",
    limit: super::limit,
    routes: PROSE,
    check,
};

fn check(view: &View, judge: &Judge) -> Option<f32> {
    repeated(view, judge, view.lines.iter().map(|l| view.line(l)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::{PROSE_SAMPLE, check};

    #[test]
    fn pair() {
        check(&RULE, "One.\nTwo.\nOne.\nThree.\nOne.", true);
        check(&RULE, &format!("* * *\n{PROSE_SAMPLE}\n* * *\nThe end.\nOf it."), false);
    }
}
