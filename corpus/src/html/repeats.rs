//! Text that stands on a page more than once: the whole article again in a hidden box of metadata,
//! a box for small screens. A block is a repeat if nearly all its runs of four words stand in two
//! shorter blocks or more, so of a long block and the paragraphs it is made of the paragraphs stay.
//! Not here: a paragraph that stands twice (an author's refrain, as in lists of recipes), repeats
//! between pages (the deduplication's work), listings and table rows.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Shorter blocks are never repeats: headings, "Yes." and names may stand twice.
const LEAST_WORDS: usize = 20;
/// Words of a run.
pub(super) const RUN: usize = 4;
/// Share of runs that must stand elsewhere. Below 1, as the runs across the ends of paragraphs
/// are missing where a long block repeats several.
const MOST: f32 = 0.75;

/// Hashes are their own hash.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.is_empty(), "only numbers are hashed");
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// Which of the texts repeat others. Linear in their length, but for sorting them by length.
pub fn of_texts<'t>(texts: impl Iterator<Item = &'t str>) -> Vec<bool> {
    let words: Vec<Vec<u64>> = texts.map(words_of).collect();
    let mut order: Vec<usize> = (0..words.len()).collect();
    order.sort_by_key(|&i| words[i].len());
    let mut seen: HashMap<u64, u32, BuildHasherDefault<Same>> = HashMap::default();
    let mut repeats = vec![false; words.len()];
    for i in order {
        let runs = || words[i].windows(RUN).map(run_of);
        if words[i].len() >= LEAST_WORDS {
            let count = (words[i].len() + 1 - RUN) as f32;
            let mut owners: Vec<u32> = runs().filter_map(|run| seen.get(&run).copied()).collect();
            owners.sort_unstable();
            let most = owners.chunk_by(|a, b| a == b).map(<[u32]>::len).max().unwrap_or(0);
            repeats[i] = owners.len() as f32 >= MOST * count && (most as f32) < MOST * count;
        }
        if !repeats[i] {
            for run in runs() {
                seen.entry(run).or_insert(i as u32);
            }
        }
    }
    repeats
}

/// Hashes of the words of a text.
pub(super) fn words_of(text: &str) -> Vec<u64> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty());
    words.map(|w| xxh3_64_with_seed(w.as_bytes(), 0)).collect()
}

/// The hash of a run of words.
pub(super) fn run_of(words: &[u64]) -> u64 {
    words
        .iter()
        .fold(0, |run, word| (run.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "The mill stood on the river for three hundred years, and every family in the \
        valley brought its grain there, whatever the weather was.";
    const B: &str = "When the railway came, the miller sold his stones to a museum; the wheel, \
        which nobody wanted, still turns when the water is high enough.";

    #[test]
    fn a_block_made_of_others_is_a_repeat() {
        let whole = format!("{A} {B}");
        assert_eq!(of_texts([whole.as_str(), A, B].into_iter()), [true, false, false]);
    }

    #[test]
    fn short_lines_and_other_texts_are_not() {
        assert_eq!(of_texts(["Yes, it is.", "Yes, it is."].into_iter()), [false, false]);
        assert_eq!(of_texts([A, B, A].into_iter()), [false, false, false]);
        assert_eq!(of_texts(std::iter::empty()), [false; 0]);
    }
}
