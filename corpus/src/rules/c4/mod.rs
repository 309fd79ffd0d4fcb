//! The rules of C4 (Raffel et al. 2020, §2.2), as published; off by default.
//!
//! Numbers as in the last version of the paper and in its code: lines of at least 5 words, documents
//! of at least 3 sentences. The first versions of the paper have 3 and 5, and so has datatrove. The
//! line ends of other scripts count as ends too, or the set would delete every Hindi text. Citation
//! marks (`[1]`) are not taken out of lines. FineWeb uses the set without `c4-terminal-mark`.

pub mod bad_words;
pub mod curly_bracket;
pub mod few_words;
pub mod javascript;
pub mod long_word;
pub mod lorem_ipsum;
pub mod policy;
pub mod sentences;
pub mod terminal_mark;

use super::View;

/// The lines of a text that have one of `phrases`, each measured as 1.
fn lines_with(view: &View, phrases: &[&str]) -> Vec<(usize, f32)> {
    let lines = view.lines.iter().map(|l| view.line(l)).enumerate();
    lines.filter(|(_, line)| has_one(line, phrases)).map(|(at, _)| (at, 1.0)).collect()
}

/// Whether a text has one of `phrases`.
fn has_one(text: &str, phrases: &[&str]) -> bool {
    phrases.iter().any(|phrase| has_phrase(text, phrase))
}

/// Whether a text has `phrase` (lower-case ASCII) in whatever case.
fn has_phrase(text: &str, phrase: &str) -> bool {
    let (bytes, phrase) = (text.as_bytes(), phrase.as_bytes());
    let Some(first) = phrase.first() else { return true };
    memchr::memchr2_iter(*first, first.to_ascii_uppercase(), bytes).any(|at| {
        bytes.get(at..at + phrase.len()).is_some_and(|found| found.eq_ignore_ascii_case(phrase))
    })
}

#[cfg(test)]
mod tests {
    use super::has_phrase;

    #[test]
    fn phrases_in_whatever_case() {
        assert!(has_phrase("Our Privacy POLICY says", "privacy policy"));
        assert!(has_phrase("xjavascript", "javascript"));
        assert!(!has_phrase("privacy polic", "privacy policy"));
        assert!(!has_phrase("", "a") && has_phrase("", ""));
    }
}
