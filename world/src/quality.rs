//! Whether a page that is meant to be good is one: long enough, and no more repetitive than a page
//! that somebody wrote.
//!
//! NOT the program's curation: this knows no thresholds but its own, which leave room below those
//! that are usual (Gopher's, Rae et al. 2021).

use std::collections::HashSet;

/// Fewest words of a good page.
const MIN_WORDS: usize = 45;
/// Most of a text's letters in sequences of so many words that stood before in it.
const REPEATED: [(usize, f64); 3] = [(5, 0.13), (7, 0.10), (10, 0.07)];

/// Share of the letters in sequences of `n` words that stood before; of each word hash and letters.
fn repeated(words: &[(u64, usize)], n: usize) -> f64 {
    let mut seen = HashSet::new();
    let (mut sum, mut until) = (0, 0);
    for (at, gram) in words.windows(n).enumerate() {
        let hash = gram.iter().fold(0_u64, |h, (word, _)| {
            (h.rotate_left(7) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        });
        if !seen.insert(hash) {
            let from = at.max(until);
            sum += words[from..at + n].iter().map(|(_, letters)| letters).sum::<usize>();
            until = at + n;
        }
    }
    let all: usize = words.iter().map(|(_, letters)| letters).sum();
    sum as f64 / all.max(1) as f64
}

/// Whether a text may stand on a good page.
pub(crate) fn is_sound(text: &str) -> bool {
    let lower = text.to_lowercase();
    let words: Vec<(u64, usize)> = lower
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(|word| (xxhash_rust::xxh3::xxh3_64(word.as_bytes()), word.len()))
        .collect();
    words.len() >= MIN_WORDS && REPEATED.iter().all(|&(n, most)| repeated(&words, n) <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_repetitive_texts_are_not_sound() {
        let words: Vec<String> = (0..80).map(|i| format!("word{i}")).collect();
        assert!(is_sound(&words.join(" ")));
        assert!(!is_sound(&words[..20].join(" ")));
        let twice = format!("{} {}", words[..40].join(" "), words[..40].join(" "));
        assert!(!is_sound(&twice));
    }
}
