//! `c4-long-word`: lines with a word of more than 1,000 characters go.

use crate::rules::{LineRule, PROSE, Set, View};

pub(in crate::rules) const RULE: LineRule = LineRule {
    name: "c4-long-word",
    set: Set::C4,
    reason: "C4 drops lines with endless words: encoded data and broken markup.",
    limit: || format!("a word of more than {MAX_CHARS} characters"),
    routes: PROSE,
    find,
};

const MAX_CHARS: usize = 1000;

/// Whether the rule lets a line stay.
pub(super) fn stays(line: &str) -> bool {
    line.len() <= MAX_CHARS
        || line.split_whitespace().all(|w| w.len() <= MAX_CHARS || w.chars().count() <= MAX_CHARS)
}

fn find(view: &View) -> Vec<(usize, f32)> {
    let lines = view.lines.iter().map(|l| view.line(l)).enumerate();
    lines.filter(|(_, line)| !stays(line)).map(|(at, line)| (at, line.len() as f32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::check_lines;

    #[test]
    fn pair() {
        let long = "x".repeat(1001);
        check_lines(&RULE, &format!("A line.\n{long}\n{}", &long[1..]), &[1]);
    }
}
