//! `c4-policy`: lines about terms, privacy and cookies go.

use super::has_phrase;
use crate::rules::{LineRule, PROSE, Set, View};

pub(in crate::rules) const RULE: LineRule = LineRule {
    name: "c4-policy",
    set: Set::C4,
    reason: "C4 drops lines of legal boilerplate, which stand on every page of a site.",
    routes: PROSE,
    find,
};

const PHRASES: [&str; 6] = [
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
];

/// Whether the rule lets a line stay.
pub(super) fn stays(line: &str) -> bool {
    !PHRASES.iter().any(|phrase| has_phrase(line, phrase))
}

fn find(view: &View) -> Vec<(usize, f32)> {
    let lines = view.lines.iter().map(|l| view.line(l)).enumerate();
    lines.filter(|(_, line)| !stays(line)).map(|(at, _)| (at, 1.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::check_lines;

    #[test]
    fn pair() {
        check_lines(&RULE, "This site Uses Cookies.\nShe baked cookies.\nPrivacy Policy", &[0, 2]);
    }
}
