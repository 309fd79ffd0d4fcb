//! `c4-lorem-ipsum`: documents with the phrase "lorem ipsum" go.

use super::has_phrase;
use crate::rules::{Judge, PROSE, Rule, Set, View};

pub(in crate::rules) const RULE: Rule = Rule {
    name: "c4-lorem-ipsum",
    set: Set::C4,
    reason: "C4 drops documents with placeholder text: nobody has written them yet.",
    limit: || "the phrase stands in the text".into(),
    routes: PROSE,
    check,
};

fn check(view: &View, _: &Judge) -> Option<f32> {
    has_phrase(view.text, "lorem ipsum").then_some(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::check;

    #[test]
    fn pair() {
        check(&RULE, "Welcome. Lorem Ipsum dolor sit amet.", true);
        check(&RULE, "Verba, non lorem.", false);
    }
}
