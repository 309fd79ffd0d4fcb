//! `c4-terminal-mark`: lines that do not end with a terminal mark go.

use crate::rules::{LineRule, PROSE, Set, View};

pub(in crate::rules) const RULE: LineRule = LineRule {
    name: "c4-terminal-mark",
    set: Set::C4,
    reason: "C4 keeps lines that end as sentences do: what else there is are menus and labels.",
    limit: || "the line ends without a mark".into(),
    routes: PROSE,
    find,
};

/// Point, question mark, exclamation mark and closing quotation mark, of all scripts.
const ENDS: [char; 13] = ['.', '?', '!', '"', '”', '。', '！', '？', '।', '॥', '؟', '۔', '»'];

/// Whether the rule lets a line stay.
pub(super) fn stays(line: &str) -> bool {
    line.ends_with(ENDS) && !line.ends_with("...")
}

fn find(view: &View) -> Vec<(usize, f32)> {
    let lines = view.lines.iter().map(|l| view.line(l)).enumerate();
    lines.filter(|(_, line)| !stays(line)).map(|(at, _)| (at, 0.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::check_lines;

    #[test]
    fn pair() {
        check_lines(
            &RULE,
            "Home\nIt was late.\n\"Was it?\"\nRead on...\nएक वाक्य।\nA list:",
            &[0, 3, 5],
        );
    }
}
