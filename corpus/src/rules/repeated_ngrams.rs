//! `repeated-ngrams`: coverage of a text by word sequences that it repeats.
//!
//! Source: Gopher (Rae et al. 2021) as the paper uses it (§3.1.1): it catches long lines of
//! repeated content that no line deduplication sees. Formula: share of a text's letters in
//! 5-grams (7, 10) that stood before in it; share of letters in the one most frequent 2-gram (3,
//! 4). Thresholds: Gopher's 0.15, 0.13, 0.10 and 0.20, 0.18, 0.16, from 40 words on. A 5-gram has
//! to be repeated within the text, not in the corpus.

use super::{Rule, TEXT, View};
use std::collections::HashMap;

const DUPLICATED: [(usize, f32); 3] = [(5, 0.15), (7, 0.13), (10, 0.10)];
const TOP: [(usize, f32); 3] = [(2, 0.20), (3, 0.18), (4, 0.16)];
const MIN_WORDS: usize = 40;

pub(super) const RULE: Rule = Rule {
    name: "repeated-ngrams",
    reason: "Text stuffed with the same phrases teaches a model to repeat itself.",
    routes: TEXT,
    check,
};

fn gram(hashes: &[u64]) -> u64 {
    hashes.iter().fold(0, |h, w| (h.rotate_left(5) ^ w).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn check(view: &View) -> Option<f32> {
    if view.words.len() < MIN_WORDS {
        return None;
    }
    let hashes: Vec<u64> = view.words.iter().map(|w| w.hash).collect();
    let letters: Vec<u32> = view.words.iter().map(|w| u32::from(w.chars)).collect();
    let total = letters.iter().sum::<u32>().max(1) as f32;
    // Single letters of unspaced scripts make a gram of a fifth of the information.
    let scale = if view.unspaced > 0.5 { 2 } else { 1 };
    let share = |n: usize, most: f32, measure: fn(&[u64], &[u32], usize) -> u32| {
        let share = measure(&hashes, &letters, n * scale) as f32 / total;
        (share > most).then_some(share)
    };
    let mut duplicated = DUPLICATED.iter().filter_map(|(n, most)| share(*n, *most, covered));
    let mut top = TOP.iter().filter_map(|(n, most)| share(*n, *most, most_frequent));
    duplicated.next().or_else(|| top.next())
}

/// Letters of the words that stand in an n-gram which stood before.
fn covered(hashes: &[u64], letters: &[u32], n: usize) -> u32 {
    let mut seen: HashMap<u64, (), Plain> = HashMap::with_capacity_and_hasher(hashes.len(), Plain);
    let (mut sum, mut until) = (0, 0);
    for (at, window) in hashes.windows(n).enumerate() {
        if seen.insert(gram(window), ()).is_some() {
            let from = at.max(until);
            sum += letters[from..at + n].iter().sum::<u32>();
            until = at + n;
        }
    }
    sum
}

/// Letters in all occurrences of the n-gram that covers most of the text.
fn most_frequent(hashes: &[u64], letters: &[u32], n: usize) -> u32 {
    let mut counts: HashMap<u64, (u32, u32), Plain> =
        HashMap::with_capacity_and_hasher(hashes.len(), Plain);
    for (at, window) in hashes.windows(n).enumerate() {
        let (count, sum) = counts.entry(gram(window)).or_default();
        *count += 1;
        *sum += letters[at..at + n].iter().sum::<u32>();
    }
    counts.values().filter(|(count, _)| *count > 2).map(|(_, sum)| *sum).max().unwrap_or(0)
}

/// Keys are hashes already.
#[derive(Clone, Default)]
struct Plain;

impl std::hash::BuildHasher for Plain {
    type Hasher = PlainHasher;
    fn build_hasher(&self) -> PlainHasher {
        PlainHasher(0)
    }
}

struct PlainHasher(u64);

impl std::hash::Hasher for PlainHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxhash_rust::xxh3::xxh3_64(bytes);
    }
    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests;
    use super::*;

    #[test]
    fn pair() {
        let head = ["buy cheap", "best price for", "discount"];
        let spam: Vec<String> =
            (0..30).map(|n| format!("{} copper kettles online now", head[n % 3])).collect();
        tests::check(&RULE, &spam.join(" "), true);
        let named: String = tests::PROSE_SAMPLE
            .split(". ")
            .map(|s| format!("Anna Marlow of Dunmere said so. {s}. "))
            .collect();
        tests::check(&RULE, &named, false);
    }

    #[test]
    fn coverage_counts_each_word_once() {
        let hashes = [1, 2, 3, 1, 2, 3, 1, 2, 3];
        assert_eq!(covered(&hashes, &[1; 9], 2), 6);
        assert_eq!(most_frequent(&hashes, &[1; 9], 2), 6);
    }
}
