//! The rules of Gopher (Rae et al. 2021, appendix A.1, table A1), as published; off by default.
//!
//! Words are those of our segmentation, lines those that are not blank. Where datatrove departs from
//! the paper we follow the paper: it counts punctuation marks as words in the shares of symbols and
//! of alphabetic words, looks for stop words with their capitals, and takes a text's one 2-gram
//! that never recurs for its most frequent. Where the paper leaves a denominator open (characters
//! of the text, white space included) we follow datatrove. Rules about English words do not judge
//! other languages.

pub mod alphabetic;
pub mod bullets;
pub mod ellipses;
pub mod lines;
pub mod mean_word_length;
pub mod ngrams;
pub mod paragraphs;
pub mod stop_words;
pub mod symbols;
pub mod top_ngrams;
pub mod words;

use super::grams::with_table;
use super::{Judge, View};
use xxhash_rust::xxh3::xxh3_64;

/// Of lines or paragraphs, the share that may have stood before, and that of the text's characters.
const MAX_COUNT: f32 = 0.30;
const MAX_CHARS: f32 = 0.20;

/// What [`repeated`] asks.
fn limit() -> String {
    format!("above {MAX_COUNT} of all stood before, or above {MAX_CHARS} of the characters")
}

/// `0.15 (5 words), 0.14 (6)`: the most for sequences of so many words.
pub(super) fn by_length(most: &[(usize, f32)]) -> String {
    let parts = most.iter().map(|(n, share)| format!("{share} ({n} words)"));
    parts.collect::<Vec<_>>().join(", ")
}

/// The larger of the two shares of the `pieces` of a text that stood before, where one is too large.
fn repeated<'t>(
    view: &View,
    judge: &Judge,
    pieces: impl Iterator<Item = &'t str> + Clone,
) -> Option<f32> {
    let (count, chars, all) = duplicates(pieces);
    if count == 0 {
        return None;
    }
    let by_count = count as f32 / all as f32;
    let by_chars = chars as f32 / view.text.chars().count() as f32;
    let repeats = by_count > judge.most(MAX_COUNT) || by_chars > judge.most(MAX_CHARS);
    repeats.then_some(by_count.max(by_chars))
}

/// Of `pieces` those that stood before: how many, their characters, and how many pieces there are.
pub(super) fn duplicates<'t>(
    pieces: impl Iterator<Item = &'t str> + Clone,
) -> (usize, usize, usize) {
    let all = pieces.clone().count();
    with_table(all, |seen| {
        let (mut count, mut chars) = (0, 0);
        for piece in pieces {
            let before = seen.count(xxh3_64(piece.as_bytes()));
            if *before > 0 {
                count += 1;
                chars += piece.chars().count();
            }
            *before = 1;
        }
        (count, chars, all)
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn pieces_that_stood_before() {
        assert_eq!(super::duplicates(["a", "bé", "bé", "a", "bé"].into_iter()), (3, 5, 5));
        assert_eq!(super::duplicates(std::iter::empty()), (0, 0, 0));
    }
}
