//! `c4-javascript`: lines with the word JavaScript go.

use super::{has_one, lines_with};
use crate::rules::{LineRule, PROSE, Set, View};

pub(in crate::rules) const RULE: LineRule = LineRule {
    name: "c4-javascript",
    set: Set::C4,
    reason: "C4 drops lines that mention JavaScript: they ask for it to be enabled.",
    limit: || "the word stands in the line".into(),
    routes: PROSE,
    find,
};

const PHRASES: [&str; 1] = ["javascript"];

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
        check_lines(&RULE, "Java, script and coffee.\nPlease enable JavaScript.", &[1]);
    }
}
