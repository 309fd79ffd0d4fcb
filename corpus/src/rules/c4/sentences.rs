//! `c4-sentences`: documents of fewer than 3 sentences go, of the lines that the line
//! rules of the set leave.

use super::{few_words, javascript, long_word, policy, terminal_mark};
use crate::rules::{Judge, PROSE, Rule, Set, View};

pub(in crate::rules) const RULE: Rule = Rule {
    name: "c4-sentences",
    set: Set::C4,
    reason: "C4 keeps documents of three sentences or more: less is no text.",
    limit: || format!("fewer than {MIN} sentences"),
    routes: PROSE,
    check,
};

const MIN: usize = 3;

fn check(view: &View, judge: &Judge) -> Option<f32> {
    let acts = |name: &str| judge.has_line_rule(name);
    let needs_mark = acts(terminal_mark::RULE.name);
    let least = judge.least(MIN as f32).ceil() as usize;
    let mut count = 0;
    for line in &view.lines {
        let text = view.line(line);
        let stays = few_words::stays(view, line)
            && (!needs_mark || terminal_mark::stays(text))
            && long_word::stays(text)
            && javascript::stays(text)
            && policy::stays(text);
        count += if stays { sentences(text) } else { 0 };
        if count >= least {
            return None;
        }
    }
    Some(count as f32)
}

/// Sentences of a line: they end with a mark before white space, a closing sign or the end, unless a
/// small letter follows; what stands after the last mark is one too.
fn sentences(line: &str) -> usize {
    let marks = ['.', '!', '?', '…', '。', '！', '？', '।', '؟', '۔'];
    let closing = |c: char| matches!(c, '"' | '\'' | '”' | '’' | ')' | ']' | '»');
    let (mut count, mut rest) = (0, line.trim());
    while let Some(at) = rest.find(marks) {
        let after = rest[at..].trim_start_matches(marks);
        let wide = rest[at..].starts_with(['。', '！', '？']);
        let next = after.trim_start_matches(closing);
        let parted = wide || next.is_empty() || next.starts_with(char::is_whitespace);
        let abbreviated = rest[..at].chars().rev().take_while(|c| c.is_alphabetic()).count() == 1;
        let goes_on = next.trim_start().starts_with(char::is_lowercase);
        count += usize::from(parted && !goes_on && (!abbreviated || next.is_empty()));
        rest = after;
    }
    count + usize::from(rest.chars().any(char::is_alphanumeric))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::{PROSE_SAMPLE, check};
    use crate::rules::{DirtyWords, Judge};

    #[test]
    fn pair() {
        check(&RULE, "It was late and nobody came. They all had gone to bed.\nHome", true);
        check(&RULE, &format!("{PROSE_SAMPLE} The coach was late."), false);
    }

    #[test]
    fn only_lines_that_stay_count() {
        let text =
            "One of them was here before\nTwo of them were here before\nThree of them were here";
        let view = View::of(text, "en", 1);
        let judge = |without: &[String]| Judge::new(&[Set::C4], without, DirtyWords::default());
        assert_eq!((RULE.check)(&view, &judge(&[])), Some(0.0));
        assert_eq!((RULE.check)(&view, &judge(&["c4-terminal-mark".into()])), None);
    }

    #[test]
    fn ends_of_sentences() {
        for (line, expected) in [
            ("One. Two! Three? Four", 4),
            ("He said: \"No.\" Then he left...", 2),
            ("J. R. Smith paid 3.50, e.g. for bread.", 1),
            ("一つ。二つ！", 2),
            ("", 0),
            ("...", 1),
        ] {
            assert_eq!(sentences(line), expected, "{line}");
        }
    }
}
