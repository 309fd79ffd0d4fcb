//! `symbol-ratio`: hash tags, ellipses and ornaments instead of sentences.
//!
//! Source: Gopher (Rae et al. 2021): `#` and ellipsis to words at most 0.1; ours counts further
//! every character that is neither letter, digit, space nor ordinary punctuation. Formulas: `#` and
//! ellipses over words above 0.1; symbols over characters that are not spaces above 0.12.

use super::{Judge, PROSE, Rule, Set, View};

const MAX_MARKS: f32 = 0.1;
const MAX_SYMBOLS: f32 = 0.12;

pub(super) const RULE: Rule = Rule {
    name: "symbol-ratio",
    set: Set::Llama3,
    reason: "Where ornaments take the place of sentences there is no prose to learn from.",
    limit: || {
        format!(
            "hash signs and ellipses a word above {MAX_MARKS}, or symbols above {MAX_SYMBOLS} of the \
             characters"
        )
    },
    routes: PROSE,
    check,
};

fn check(view: &View, judge: &Judge) -> Option<f32> {
    let counts = &view.counts;
    let marks = (counts.hashes + counts.ellipses) as f32 / view.words.len().max(1) as f32;
    let share = counts.symbols as f32 / counts.visible.max(1) as f32;
    if marks > judge.most(MAX_MARKS) {
        return Some(marks);
    }
    (share > judge.most(MAX_SYMBOLS)).then_some(share)
}

#[cfg(test)]
mod tests {
    use super::super::tests;
    use super::*;

    #[test]
    fn pair() {
        tests::check(&RULE, &"#kettle #### pan … #copper *** blue ~~ ## # … ###\n".repeat(9), true);
        tests::check(
            &RULE,
            "It's #1 (again): prices rose 5 %, he said – and then, after all of \
            that, the market simply ... fell; nobody on the floor could say why it had."
                .repeat(3)
                .as_str(),
            false,
        );
    }
}
