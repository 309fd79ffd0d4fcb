//! `fineweb-line-ends`: at least 0.12 of the lines end with punctuation.

use crate::rules::{Judge, PROSE, Rule, Set, View};

const MIN: f32 = 0.12;
/// As FineWeb's first code has it, and the same of other scripts.
const ENDS: [char; 16] =
    ['.', '\'', '"', '!', '?', '”', '’', '»', '。', '！', '？', '।', '॥', '؟', '۔', '…'];

pub(in crate::rules) const RULE: Rule = Rule {
    name: "fineweb-line-ends",
    set: Set::Fineweb,
    reason: "FineWeb removes documents whose lines hardly ever end as sentences do.",
    limit: || format!("below {MIN} of the lines end with punctuation"),
    routes: PROSE,
    check,
};

fn check(view: &View, judge: &Judge) -> Option<f32> {
    let ended = view.lines.iter().filter(|l| view.line(l).ends_with(ENDS)).count();
    let share = ended as f32 / view.lines.len().max(1) as f32;
    (share < judge.least(MIN)).then_some(share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::check;

    #[test]
    fn pair() {
        check(&RULE, &format!("{}The end.", "Home\n".repeat(9)), true);
        check(&RULE, &format!("{}The end.", "Home\n".repeat(7)), false);
    }
}
