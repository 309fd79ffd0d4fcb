//! `c4-policy`: lines about terms, privacy and cookies go.

use super::{has_one, lines_with};
use crate::rules::{LineRule, PROSE, Set, View};

pub(in crate::rules) const RULE: LineRule = LineRule {
    name: "c4-policy",
    set: Set::C4,
    reason: "C4 drops lines of legal boilerplate, which stand on every page of a site.",
    limit: || format!("one of {} phrases stands in the line", PHRASES.len()),
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
    !has_one(line, &PHRASES)
}

fn find(view: &View) -> Vec<(usize, f32)> {
    lines_with(view, &PHRASES)
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
