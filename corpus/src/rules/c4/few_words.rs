//! `c4-few-words`: lines of fewer than 5 words go.

use crate::rules::{Line, LineRule, PROSE, Set, View};

pub(in crate::rules) const RULE: LineRule = LineRule {
    name: "c4-few-words",
    set: Set::C4,
    reason: "C4 keeps lines of five words or more: shorter ones are headings and buttons.",
    limit: || format!("fewer than {MIN_WORDS} words"),
    routes: PROSE,
    find,
};

const MIN_WORDS: usize = 5;

/// Words of a line: by blanks, as C4 has it, or single letters in scripts without blanks.
fn words(view: &View, line: &Line) -> usize {
    let segmented = || if view.unspaced > 0.2 { line.words().len() } else { 0 };
    view.line(line).split_whitespace().take(MIN_WORDS).count().max(segmented())
}

/// Whether the rule lets a line stay.
pub(super) fn stays(view: &View, line: &Line) -> bool {
    words(view, line) >= MIN_WORDS
}

fn find(view: &View) -> Vec<(usize, f32)> {
    let lines = view.lines.iter().map(|l| words(view, l)).enumerate();
    lines.filter(|(_, words)| *words < MIN_WORDS).map(|(at, words)| (at, words as f32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::check_lines;

    #[test]
    fn pair() {
        check_lines(&RULE, "These are four words.\nAnd these are five words.", &[0]);
        check_lines(&RULE, "これは日本語の文です。\nはい。", &[1]);
    }
}
