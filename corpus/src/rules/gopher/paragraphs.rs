//! `gopher-paragraphs`: paragraphs that stood before are at most 0.30 of all, and have at most 0.20
//! of the characters. A paragraph ends at a blank line.

use super::duplicates;
use crate::rules::{Judge, PROSE, Rule, Set, View};

const MAX_COUNT: f32 = 0.30;
const MAX_CHARS: f32 = 0.20;

pub(in crate::rules) const RULE: Rule = Rule {
    name: "gopher-paragraphs",
    set: Set::Gopher,
    reason: "Gopher removes documents that repeat their paragraphs.",
    routes: PROSE,
    check,
};

fn check(view: &View, _: &Judge) -> Option<f32> {
    let paragraphs = view.text.split("\n\n").map(|p| p.trim_matches('\n'));
    let (count, chars, all) = duplicates(paragraphs.filter(|p| !p.is_empty()));
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
        check(&RULE, "One.\n\n\nTwo.\n\nOne.\n\nTwo.", true);
        check(&RULE, &format!("Page 1\n\n{PROSE_SAMPLE}\n\nPage 1"), false);
        check(&RULE, "", false);
    }
}
