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

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Hash of a line in a bucket's language; `None` for an exempt line.
pub fn line_hash(line: &str, language: u64, exempt: bool) -> Option<u64> {
    let line = line.trim();
    if exempt || line.contains('\t') {
        return None;
    }
    let counts = is_sentence(line);
    let mut normal = String::with_capacity(line.len());
    let mut wordy = false;
    let mut space = false;
    for c in line.chars() {
        if c.is_numeric() {
            normal.push(if counts { c } else { '0' });
        } else if counts && "+-*/<>=%".contains(c) {
            normal.push(c);
        } else if c.is_alphabetic() {
            wordy = true;
            normal.extend(c.to_lowercase());
        } else if c.is_whitespace() {
            space = true;
            continue;
        } else if !is_punctuation(c) {
            normal.push(c);
        } else {
            continue;
        }
        if space {
            let last = normal.pop();
            normal.push(' ');
            normal.extend(last);
            space = false;
        }
    }
    wordy.then(|| xxh3_64_with_seed(normal.as_bytes(), language))
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
