//! `gopher-lines`: lines that stood before are at most 0.30 of all, and have at most 0.20 of the
//! characters.

use super::duplicates;
use crate::rules::{Judge, PROSE, Rule, Set, View};

const MAX_COUNT: f32 = 0.30;
const MAX_CHARS: f32 = 0.20;

pub(in crate::rules) const RULE: Rule = Rule {
    name: "gopher-lines",
    set: Set::Gopher,
    reason: "Gopher removes documents that repeat their lines.",
    routes: PROSE,
    check,
};

fn check(view: &View, _: &Judge) -> Option<f32> {
    let (count, chars, all) = duplicates(view.lines.iter().map(|l| view.line(l)));
    if count == 0 {
        return None;
    }
    let by_count = count as f32 / all as f32;
    let by_chars = chars as f32 / view.text.chars().count() as f32;
    (by_count > MAX_COUNT || by_chars > MAX_CHARS).then_some(by_count.max(by_chars))
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
