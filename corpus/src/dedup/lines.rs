//! Line deduplication in the manner of ccNet (paper §3.1.1, level 3): in each bucket of documents a
//! line that more than six of them contain goes, with all its occurrences.
//!
//! So a line in six documents stays and one in seven goes; that it stands ten times in one document
//! counts once. Normalised as ccNet does: trimmed, lower case, digits as `0`, no punctuation, no
//! control characters; but a sentence keeps its digits and signs, since two sentences with different numbers
//! say different things, where a label (`12 comments`, `Page 3`) has them from a counter. A bucket
//! is a language, in parts where it has more than 30 million documents.
//!
//! Exempt, because they recur without a template having written them: blank lines; lines without a
//! letter (a brace, a rule, a figure), which normalisation would make equal to every other; lines
//! of code; rows of tables, whose heads recur with every table of their kind and without which the
//! figures mean nothing; the page's own title, where its text begins with it (two pages on a bell
//! are both called Bell); and texts that are no web pages (plain text, Markdown), whose lines are
//! their writers' own. Not here: reading the text.

use crate::classes::{self, ALPHA, NUMBER, SPACE};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Name of the rule, as it stands in fates.
pub const RULE: &str = "line-duplicate";

/// Hash of a line in a bucket's language; `None` for an exempt line.
pub fn line_hash(line: &str, language: u64, exempt: bool) -> Option<u64> {
    let line = line.trim();
    if exempt || line.is_empty() || line.as_bytes().contains(&b'\t') {
        return None;
    }
    let keeps = is_sentence(line);
    let mut normal = Vec::with_capacity(line.len() + 8);
    let wordy = normalise(line, keeps, &mut normal);
    wordy.then(|| xxh3_64_with_seed(&normal, language))
}

/// What becomes of each ASCII byte: itself or its lower case, 0 for one that is dropped.
const ASCII: [[u8; 128]; 2] = {
    let mut table = [[0; 128]; 2];
    let mut c = 0u8;
    while c < 128 {
        let sentence =
            c.is_ascii_digit() || matches!(c, b'+' | b'-' | b'*' | b'/' | b'<'..=b'>' | b'%');
        let other = if c.is_ascii_digit() { b'0' } else { 0 };
        let letter = if c.is_ascii_alphabetic() { c.to_ascii_lowercase() } else { 0 };
        table[0][c as usize] = letter | other;
        table[1][c as usize] = if sentence { c } else { letter };
        c += 1;
    }
    table
};

/// Appends the normal form of a line; whether there is a letter in it.
fn normalise(line: &str, keeps: bool, normal: &mut Vec<u8>) -> bool {
    let (mut wordy, mut space) = (false, false);
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let run = rest.bytes().position(|byte| byte >= 0x80).unwrap_or(rest.len());
        let (ascii, other) = rest.split_at(run);
        rest = if run > 0 {
            wordy |= normalise_ascii(ascii.as_bytes(), keeps, &mut space, normal);
            other
        } else {
            wordy |= normalise_wide(first, keeps, &mut space, normal);
            &rest[first.len_utf8()..]
        };
    }
    wordy
}

/// Appends what becomes of a run of ASCII, behind the space that is due; whether there is a letter
/// in it. Without branches, since where words end cannot be predicted.
fn normalise_ascii(run: &[u8], keeps: bool, space: &mut bool, normal: &mut Vec<u8>) -> bool {
    let table = &ASCII[usize::from(keeps)];
    let start = normal.len();
    normal.resize(start + run.len() + 1, 0);
    let out = &mut normal[start..];
    let (mut length, mut wordy, mut due) = (0, false, *space);
    for byte in run {
        let kept = table[usize::from(byte & 0x7f)];
        out[length] = b' ';
        length += usize::from(due & (kept != 0));
        out[length] = kept;
        length += usize::from(kept != 0);
        due = (due & (kept == 0)) | matches!(byte, b' ' | b'\t'..=b'\r');
        wordy |= kept.is_ascii_alphabetic();
    }
    normal.truncate(start + length);
    *space = due;
    wordy
}

/// Appends what becomes of a character that is not ASCII, behind the space that is due; whether it
/// is a letter.
fn normalise_wide(c: char, keeps: bool, space: &mut bool, normal: &mut Vec<u8>) -> bool {
    let class = classes::class(c);
    let (number, letter) = (class & NUMBER != 0, class & ALPHA != 0 && class & NUMBER == 0);
    if class & SPACE != 0 {
        *space = true;
    }
    if class & SPACE != 0 || !(number || letter) && is_punctuation(c) {
        return false;
    }
    if std::mem::take(space) {
        normal.push(b' ');
    }
    let mut utf8 = [0; 4];
    let mut push = |c: char| normal.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes());
    match classes::lower(c) {
        _ if number => push(if keeps { c } else { '0' }),
        Some(one) if letter => push(one),
        None if letter => c.to_lowercase().for_each(push),
        _ => push(c),
    }
    letter
}

/// Ends as a sentence does and has two words of more than a letter.
fn is_sentence(line: &str) -> bool {
    let bare = line.trim_end_matches(['"', '\'', '”', '’', '»', ')']);
    let ends = ['.', '!', '?', '…', '。', '！', '？', '।', '؟', '۔'];
    let wordy = |w: &&str| w.chars().filter(|c| c.is_alphabetic()).take(2).count() == 2;
    bare.ends_with(ends) && line.split_whitespace().filter(wordy).take(2).count() == 2
}

fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation()
        || c.is_control()
        || matches!(c, '\u{a1}'..='\u{bf}' | '\u{2000}'..='\u{206f}' | '\u{3000}'..='\u{303f}')
        || matches!(c, '\u{ff00}'..='\u{ff0f}' | '\u{ff1a}'..='\u{ff20}' | '\u{2190}'..='\u{25ff}')
}

/// The seed by which the lines of a language are told from those of others.
pub fn language_seed(language: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(language.as_bytes())
}

/// Which of `buckets` parts of its language a document belongs to: by its identity, so that neither
/// order nor number of workers matters.
pub fn bucket(id: u128, buckets: u64) -> u64 {
    ((id >> 64) as u64) % buckets.max(1)
}

/// The hash of a line within a part of its language.
pub fn in_bucket(hash: u64, bucket: u64) -> u64 {
    hash ^ bucket.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(a: &str, b: &str, same: bool) {
        let hash = |line| line_hash(line, 1, false);
        assert_eq!(hash(a) == hash(b), same, "{a} / {b}");
    }

    #[test]
    fn normalised_as_ccnet_does() {
        check("  Copyright 2019, A. ", "copyright 2024 a", true);
        check("Page 1", "Page 12", false);
        check("Posted 3 May 2019", "Posted 5 May 2024", true);
        check("What is 2 * 3?", "What is 7 * 4?", false);
        check("What is 8 * 6?", "What is 8 + 6?", false);
        check("He was born in 1870.", "He was born in 1912.", false);
        check("Chapter 3.", "Chapter 4.", true);
        check("a b", "ab", false);
        check("a  b", "a b", true);
        check("Über uns »", "über uns", true);
    }

    /// The normal form, character by character, as the head of this file says it.
    fn by_characters(line: &str, keeps: bool) -> (bool, String) {
        let (mut normal, mut wordy, mut space) = (String::new(), false, false);
        for c in line.chars() {
            let letter = c.is_alphabetic() && !c.is_numeric();
            let kept: String = match c {
                _ if c.is_numeric() => String::from(if keeps { c } else { '0' }),
                '+' | '-' | '*' | '/' | '<' | '>' | '=' | '%' if keeps => String::from(c),
                _ if letter => c.to_lowercase().collect(),
                _ if c.is_whitespace() || is_punctuation(c) => String::new(),
                _ => String::from(c),
            };
            if !kept.is_empty() && std::mem::take(&mut space) {
                normal.push(' ');
            }
            normal.push_str(&kept);
            wordy |= letter;
            space |= c.is_whitespace();
        }
        (wordy, normal)
    }

    #[test]
    fn tables_say_what_the_rule_says() {
        // Every character by itself, and what stands between others.
        let each = (0..=0x2_ffff).filter_map(char::from_u32).map(|c| format!("x {c} {c}y"));
        let lines = ["Page 1 of 20!", "2 * 3 = 6.", " a  b\u{b}c ", "(1+2)/3", "  ", "---", "Ⅷ ²"];
        for line in lines.map(str::to_owned).into_iter().chain(each) {
            for keeps in [false, true] {
                let mut normal = Vec::new();
                let wordy = normalise(&line, keeps, &mut normal);
                let found = (wordy, String::from_utf8(normal).unwrap());
                assert_eq!(found, by_characters(&line, keeps), "{line:?}");
            }
        }
    }

    #[test]
    fn exempt_lines_have_no_hash() {
        for line in ["", "  ", "}", "---", "• · •", "1,234", "Goods\tCrowns"] {
            assert_eq!(line_hash(line, 1, false), None, "{line}");
        }
        assert_eq!(line_hash("let x = 1;", 1, true), None);
        assert_ne!(line_hash("a", 1, false), line_hash("a", 2, false), "another language");
    }

    #[test]
    fn parts_of_a_language_count_apart() {
        assert_eq!(bucket(u128::MAX, 1), 0);
        assert_ne!(in_bucket(5, 0), in_bucket(5, 1));
        assert_eq!(in_bucket(5, 0), 5);
    }
}
