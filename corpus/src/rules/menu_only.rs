//! `menu-only`: pages that are lists of links or labels, without a sentence.
//!
//! Source: the short-line and terminal-punctuation rules of C4 (Raffel et al. 2020) and FineWeb.
//! Formula: share of words that stand in sentence-like lines, that is lines that end like a
//! sentence, or have at least 12 words. Threshold: below 0.15, or below 0.5 where only one line in
//! ten is sentence-like (a list with a notice below it), in texts of at least 5 lines.

use super::{Judge, PROSE, Rule, Set, View};
use crate::classes::{self, SPACE};

const MIN_SHARE: f32 = 0.15;
const MIN_SHARE_OF_LIST: f32 = 0.5;
const SENTENCES_OF_LIST: f32 = 0.1;
const MIN_LINES: usize = 5;
const LONG_LINE: usize = 12;

pub(super) const RULE: Rule = Rule {
    name: "menu-only",
    set: Set::Llama3,
    reason: "A list of links names things and says nothing about them.",
    limit: || {
        format!(
            "below {MIN_SHARE} of the words stand in sentences, or below {MIN_SHARE_OF_LIST} where \
             {SENTENCES_OF_LIST} of the lines or fewer are sentences; from {MIN_LINES} lines on"
        )
    },
    routes: PROSE,
    check,
};

fn check(view: &View, judge: &Judge) -> Option<f32> {
    if view.lines.len() < MIN_LINES {
        return None;
    }
    let (mut sentences, mut all, mut ended_lines) = (0, 0, 0);
    for line in &view.lines {
        let line = view.line(line);
        let words = count_words(line);
        all += words;
        let ended = line.trim_end_matches(['"', '”', '’', '\'', ')', '»', ']']);
        let ends =
            ended.ends_with(['.', '!', '?', '…', '。', '！', '？', '।', '॥', '؟', '۔', ':', ';']);
        if (ends && words >= 4) || words >= LONG_LINE {
            sentences += words;
            ended_lines += 1;
        }
    }
    let share = sentences as f32 / all.max(1) as f32;
    let lines = ended_lines as f32 / view.lines.len() as f32;
    let least = if lines <= SENTENCES_OF_LIST { MIN_SHARE_OF_LIST } else { MIN_SHARE };
    (share < judge.least(least)).then_some(share)
}

/// Words by spaces; a run of an unspaced script counts by its length.
fn count_words(line: &str) -> usize {
    if line.is_ascii() {
        let (blank, bytes) = (|b: &u8| *b <= b' ', line.as_bytes());
        let next = bytes.iter().skip(1);
        let starts = bytes.iter().zip(next).filter(|(one, two)| blank(one) && !blank(two)).count();
        return starts + usize::from(bytes.first().is_some_and(|b| !blank(b)));
    }
    let (mut words, mut wide, mut inside) = (0, 0, false);
    for c in line.chars() {
        let space = classes::class(c) & SPACE != 0;
        if space {
            (words, wide) = (words + wide / 2, 0);
        }
        words += usize::from(!space && !inside);
        wide += usize::from(matches!(c, '\u{0e00}'..='\u{0eff}' | '\u{3040}'..='\u{9fff}'));
        inside = !space;
    }
    words + wide / 2
}

#[cfg(test)]
mod tests {
    use super::super::tests;
    use super::*;

    #[test]
    fn words_by_spaces_and_length() {
        let check = |line: &str, expected: usize| assert_eq!(count_words(line), expected, "{line}");
        check("", 0);
        check(" two  words\t", 2);
        check("\u{a0}“two”\u{3000}words ", 2);
        check("één", 1);
        check("日本語の文章 and 日本 日", 1 + 3 + 1 + 1 + 1 + 1);
        check("ไทย", 1 + 1);
    }

    #[test]
    fn pair() {
        let menu = "Home\nProducts\nAbout us\nBlue kettles\nCopper pans\nContact\nImprint\nPrivacy";
        tests::check(&RULE, menu, true);
        let recipe =
            format!("{}\n\nWhat you need\nFlour\nMilk\nSalt\nTwo eggs", tests::PROSE_SAMPLE);
        tests::check(&RULE, &recipe, false);
        tests::check(
            &RULE,
            "一つの文です。\n二つ目の文です。\n三つ目の文です。\n四つ目。\n五つ目の文。",
            false,
        );
    }
}
