//! `fineweb-repeated-chars`: lines that stood before have at most 0.01 of the characters.

use crate::rules::gopher::duplicates;
use crate::rules::{Judge, PROSE, Rule, Set, View};

const MAX: f32 = 0.01;

pub(in crate::rules) const RULE: Rule = Rule {
    name: "fineweb-repeated-chars",
    set: Set::Fineweb,
    reason: "FineWeb removes documents that repeat their lines, be it a hundredth of them.",
    limit: || format!("above {MAX} of the characters stand in lines that stood before"),
    routes: PROSE,
    check,
};

fn check(view: &View, judge: &Judge) -> Option<f32> {
    let (_, chars, _) = duplicates(view.lines.iter().map(|l| view.line(l)));
    if chars == 0 {
        return None;
    }
    let breaks = memchr::memchr_iter(b'\n', view.text.as_bytes()).count();
    let share = chars as f32 / (view.text.chars().count() - breaks) as f32;
    (share > judge.most(MAX)).then_some(share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::{PROSE_SAMPLE, check};

    #[test]
    fn pair() {
        check(&RULE, &format!("Chapter one\n{PROSE_SAMPLE}\nChapter one"), true);
        check(&RULE, &format!("***\n{PROSE_SAMPLE}\n***"), false);
    }
}
