//! `too-short`: pages with next to nothing on them (under construction, login, redirects).
//!
//! Source: every pipeline has it; Gopher (Rae et al. 2021) asks for 50 words, which drops short
//! entries of encyclopedias, so the recipe's `min_words` is 25 by default. Formula: words.

use super::{EVERY, Judge, Rule, Set, View};

/// Name of the rule; it acts again after line deduplication.
pub const NAME: &str = "too-short";

pub(super) const RULE: Rule = Rule {
    name: NAME,
    set: Set::Llama3,
    reason: "A page of a few words teaches nothing but its own template.",
    // What the recipe says takes its place where there is one ([`Recipe::limit`]).
    limit: || "fewer words than the recipe's `min_words`".into(),
    routes: EVERY,
    check,
};

fn check(view: &View, judge: &Judge) -> Option<f32> {
    let words = view.words.len() as f32;
    (words < judge.least(view.min_words as f32)).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::super::tests;
    use super::*;

    #[test]
    fn pair() {
        tests::check(&RULE, "Page under construction. Please come back later.", true);
        tests::check(&RULE, "", true);
        tests::check(
            &RULE,
            "The barn owl hunts at night. It hears a mouse under the snow, and it flies without a \
             sound. A pair breeds in towers and barns and raises four to seven young.",
            false,
        );
    }
}
