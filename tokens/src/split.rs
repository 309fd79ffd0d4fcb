//! Cuts text into pre-tokens by Llama 3's split pattern, inside which byte pairs are merged and
//! across which they never are (paper sheet, section 4; trap D19: the pattern looks ahead, which
//! plain regex engines refuse). The automaton is the encoder's own, so that training and encoding
//! cut alike; a regex engine with look-ahead is the oracle in tests.

use tokenizers::pipeline::{PreTokenizer, PreTokenizerScratch, Span};
use tokenizers::pre_tokenizers::split::Split;
use tokenizers::tokenizer::SplitDelimiterBehavior;

use crate::Error;

/// Llama 3's split pattern.
pub const LLAMA3_PATTERN: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
/// GPT-2's split pattern, which `ByteLevel` with `use_regex` stands for.
pub(crate) const GPT2_PATTERN: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Texts longer than this are cut before they are split (at a line's end where there is one), so
/// that offsets of 32 bits always do. Only training cuts here; encoding takes a text whole.
const PIECE: usize = 1 << 24;

/// A splitter with its working memory.
pub struct Splitter {
    split: Split,
    scratch: PreTokenizerScratch,
    spans: Vec<Span>,
}

impl std::fmt::Debug for Splitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Splitter").field("split", &self.split).finish_non_exhaustive()
    }
}

impl Splitter {
    /// A splitter by Llama 3's pattern.
    ///
    /// # Errors
    /// Never, unless the encoder stops knowing the pattern.
    pub fn llama3() -> Result<Self, Error> {
        Self::new(LLAMA3_PATTERN)
    }

    /// A splitter by one of the known patterns.
    ///
    /// # Errors
    /// [`Error::TokenizerFile`] for a pattern the encoder has no automaton for.
    pub(crate) fn new(pattern: &str) -> Result<Self, Error> {
        Ok(Self {
            split: native(pattern)?,
            scratch: PreTokenizerScratch::default(),
            spans: Vec::new(),
        })
    }

    /// Calls `each` with every pre-token of `text`, in order; together they are the text.
    ///
    /// # Errors
    /// [`Error::Encode`] when the automaton refuses the text.
    pub fn split<'t>(&mut self, text: &'t str, mut each: impl FnMut(&'t str)) -> Result<(), Error> {
        let mut rest = text;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(cut(rest, PIECE));
            self.spans.clear();
            self.split
                .pre_tokenize(piece, &mut self.scratch, &mut self.spans)
                .map_err(|e| Error::Encode { bytes: piece.len(), reason: e.to_string() })?;
            for span in &self.spans {
                each(&piece[span.range()]);
            }
            rest = after;
        }
        Ok(())
    }
}

/// The encoder's automaton for a pattern.
pub(crate) fn native(pattern: &str) -> Result<Split, Error> {
    let refuse = |reason: String| Error::TokenizerFile { path: "split pattern".into(), reason };
    let split = Split::native(
        tokenizers::pre_tokenizers::split::SplitPattern::Regex(pattern.to_owned()),
        SplitDelimiterBehavior::Isolated,
        false,
    )
    .map_err(|e| refuse(e.to_string()))?;
    if split.grammar().is_none() {
        return Err(refuse(format!(
            "the split pattern {pattern:?} is none of those known (GPT-2, Llama 3, o200k, tekken)"
        )));
    }
    Ok(split)
}

/// Where to cut a text of more than `limit` bytes: after the last line's end before the limit.
fn cut(text: &str, limit: usize) -> usize {
    if text.len() <= limit {
        return text.len();
    }
    let mut end = limit;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].rfind('\n').map_or(end, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> Vec<&str> {
        let mut out = Vec::new();
        Splitter::llama3().unwrap().split(text, |p| out.push(p)).unwrap();
        out
    }

    #[track_caller]
    fn check(text: &str) {
        let oracle = fancy_regex::Regex::new(LLAMA3_PATTERN).unwrap();
        let expected: Vec<&str> = oracle.find_iter(text).map(|m| m.unwrap().as_str()).collect();
        assert_eq!(pieces(text), expected, "{text:?}");
    }

    #[test]
    fn known_cuts() {
        assert_eq!(pieces("Hello, world"), ["Hello", ",", " world"]);
        assert_eq!(pieces("it's 12345 a  b"), ["it", "'s", " ", "123", "45", " a", " ", " b"]);
        assert_eq!(pieces("x\n\n  y"), ["x", "\n\n", " ", " y"]);
        assert_eq!(pieces(""), Vec::<&str>::new());
    }

    #[test]
    fn agrees_with_a_regex_engine() {
        for text in [
            "don't DON'T I'll we've 'tis",
            "tabs\t\tand  spaces   \n \n\r\n end ",
            "naïve café Ελληνικά 漢字かな 123٤٥٦ ½ Ⅷ",
            "a\u{301}b \u{200d}👩‍👩‍👧 ...!!! \u{a0}x\u{2003}y",
            "fn main() { let x = 1_000; } // ok\n\t}",
            "   ",
            "\n",
            "'",
            "1'2''3",
        ] {
            check(text);
        }
    }

    proptest::proptest! {
        #[test]
        fn agrees_on_random_text(text in "[a-zA-Z0-9 '\\t\\n\\r.,;!é漢\u{301}\u{a0}٣½]{0,60}") {
            check(&text);
        }
    }

    #[test]
    fn unknown_patterns_are_refused_by_name() {
        let error = native("[aeiou]+").unwrap_err().to_string();
        assert!(error.contains("[aeiou]+"), "{error}");
    }

    #[test]
    fn long_texts_are_cut_at_lines() {
        assert_eq!(cut("ab\ncd", 4), 3);
        assert_eq!(cut("abcdef", 4), 4);
        assert_eq!(cut("aé", 2), 1);
    }
}
