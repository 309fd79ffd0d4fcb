//! MinHash (Broder 1997): a signature of a text's word sequences, in bands, by which near copies
//! find each other (paper §3.1.1, level 2). Only candidates: what is removed is decided by the true
//! similarity of the two sets ([`super::near`]).
//!
//! A shingle is five words in a row (all words, of a shorter text), hashed to 32 bits with the
//! language as seed, so that each language has its own copies, as the paper has it. In scripts
//! without spaces a word is a letter ([`crate::rules::View`]). A signature is the least value of
//! the set under `bands × rows` random maps of 32-bit numbers; a band is the hash of `rows` of
//! them. Two texts of similarity s share a band with probability `1 - (1 - s^rows)^bands`
//! ([`Bands::curve`]): more bands find more, more rows find less.

use crate::rules::View;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Words of a shingle.
pub const SHINGLE: usize = 5;
/// Lanes that are computed at a time: those of the widest vectors.
const LANES: usize = 16;
/// Most maps: what keeps a signature in registers and stack.
pub const MOST: usize = 512;

/// How signatures are cut into bands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bands {
    /// Bands: more find more.
    pub bands: usize,
    /// Values of a band: more find less.
    pub rows: usize,
}

impl Default for Bands {
    /// 115 values: of pairs of similarity 0.7 98.5 % are candidates, of 0.85 all but 2 in a million.
    fn default() -> Bands {
        Bands { bands: 23, rows: 5 }
    }
}

impl Bands {
    /// The probability that two texts of this similarity share a band.
    pub fn curve(&self, similarity: f64) -> f64 {
        1.0 - (1.0 - similarity.powi(self.rows as i32)).powi(self.bands as i32)
    }

    /// The bands of a set of shingles; none of an empty set.
    pub fn of(&self, shingles: &[u32], language: u64) -> Vec<u64> {
        if shingles.is_empty() {
            return Vec::new();
        }
        let mut least = [u32::MAX; MOST];
        let values = self.bands * self.rows;
        signature(shingles, &mut least[..values.next_multiple_of(LANES)]);
        let band = |(number, values): (usize, &[u32])| {
            let mut bytes = [0; 4 * MOST];
            for (place, value) in bytes.chunks_exact_mut(4).zip(values) {
                place.copy_from_slice(&value.to_le_bytes());
            }
            let seed = language ^ (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            xxh3_64_with_seed(&bytes[..4 * values.len()], seed)
        };
        least[..values].chunks_exact(self.rows).enumerate().map(band).collect()
    }
}

/// The shingles of a text, sorted, each once.
pub fn shingles(view: &View, language: u64) -> Vec<u32> {
    let words = &view.words;
    // A polynomial in the word hashes, whose window moves in two products.
    const BASE: u64 = 0x9e37_79b9_7f4a_7c15;
    let oldest = BASE.wrapping_pow(SHINGLE as u32 - 1);
    let finish = |h: u64| {
        let h = (h ^ language) ^ (h >> 32);
        let h = h.wrapping_mul(0xd6e8_feb8_6659_fd93);
        ((h ^ (h >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93) >> 32) as u32
    };
    let mut out = Vec::with_capacity(words.len());
    let mut hash = 0u64;
    for (n, word) in words.iter().enumerate() {
        if n >= SHINGLE {
            hash = hash.wrapping_sub(words[n - SHINGLE].hash.wrapping_mul(oldest));
        }
        hash = hash.wrapping_mul(BASE).wrapping_add(word.hash);
        if n + 1 >= SHINGLE {
            out.push(finish(hash));
        }
    }
    if out.is_empty() && !words.is_empty() {
        out.push(finish(hash));
    }
    sort(&mut out);
    out.dedup();
    out
}

/// Length from which sorting by digits is quicker than by comparison.
const DIGITS_FROM: usize = 1 << 10;

/// Sorts; by digits of eleven bits where there are many.
fn sort(values: &mut Vec<u32>) {
    if values.len() < DIGITS_FROM {
        values.sort_unstable();
        return;
    }
    let mut other = vec![0; values.len()];
    for shift in [0, 11, 22] {
        let digit = |v: u32| (v >> shift) as usize & 0x7ff;
        let mut places = [0u32; 1 << 11];
        values.iter().for_each(|v| places[digit(*v)] += 1);
        let mut sum = 0;
        for place in &mut places {
            (*place, sum) = (sum, sum + *place);
        }
        for value in values.iter() {
            let place = &mut places[digit(*value)];
            other[*place as usize] = *value;
            *place += 1;
        }
        std::mem::swap(values, &mut other);
    }
}

/// The maps: odd factors and summands, counted numbers mixed once.
const fn maps() -> [[u32; MOST]; 2] {
    let mut maps = [[0; MOST]; 2];
    let mut n = 0;
    while n < MOST {
        let mut x = (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
        maps[0][n] = x as u32 | 1;
        maps[1][n] = (x >> 32) as u32;
        n += 1;
    }
    maps
}

static MAPS: [[u32; MOST]; 2] = maps();

/// The least values of `shingles` under the first `out.len()` maps; a multiple of [`LANES`].
#[allow(unsafe_code)]
fn signature(shingles: &[u32], out: &mut [u32]) {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has what the function was compiled for.
            return unsafe { signature_avx512(shingles, out) };
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: as above.
            return unsafe { signature_avx2(shingles, out) };
        }
    }
    portable(shingles, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn signature_avx512(shingles: &[u32], out: &mut [u32]) {
    portable(shingles, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn signature_avx2(shingles: &[u32], out: &mut [u32]) {
    portable(shingles, out);
}

/// The one form of the code, inlined into each of the above.
#[inline(always)]
fn portable(shingles: &[u32], out: &mut [u32]) {
    for (block, out) in out.chunks_exact_mut(LANES).enumerate() {
        let from = block * LANES;
        let factor: [u32; LANES] = std::array::from_fn(|n| MAPS[0][from + n]);
        let summand: [u32; LANES] = std::array::from_fn(|n| MAPS[1][from + n]);
        let mut least = [u32::MAX; LANES];
        for shingle in shingles {
            for n in 0..LANES {
                let value = (shingle ^ summand[n]).wrapping_mul(factor[n]);
                least[n] = least[n].min(value ^ (value >> 15));
            }
        }
        out.copy_from_slice(&least);
    }
}

/// Share of the two sets' union that both have; 1 for two empty ones. Both are sorted.
pub fn jaccard(a: &[u32], b: &[u32]) -> f64 {
    let (mut i, mut j, mut both) = (0, 0, 0usize);
    while i < a.len() && j < b.len() {
        // Without branches: the comparisons of two random sets cannot be predicted.
        let (x, y) = (a[i], b[j]);
        both += usize::from(x == y);
        i += usize::from(x <= y);
        j += usize::from(y <= x);
    }
    let union = a.len() + b.len() - both;
    if union == 0 { 1.0 } else { both as f64 / union as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn of(text: &str) -> Vec<u32> {
        shingles(&View::of(text, "en", 0), 1)
    }

    #[test]
    fn shingles_are_a_set_of_word_sequences() {
        assert_eq!(of("").len(), 0);
        assert_eq!(of("one two").len(), 1);
        assert_eq!(of("a b c d e").len(), 1);
        assert_eq!(of("a b c d e f").len(), 2);
        assert_eq!(of("x a b c d e y a b c d e").len(), 7, "one stands twice");
        assert_eq!(of("A b, c. D e"), of("a B c d E!"));
        assert_ne!(of("a b c d e"), of("b a c d e"), "order counts");
        assert_ne!(of("ab c d e f"), of("a bc d e f"));
        let other = shingles(&View::of("a b c d e", "de", 0), 2);
        assert_ne!(of("a b c d e"), other, "languages have their own");
        assert_eq!(of("日本語の文章").len(), 2);
    }

    #[test]
    fn long_texts_are_sorted_as_short_ones() {
        let words: Vec<String> = (0..5_000).map(|n| format!("w{}", n * 7 % 4_999)).collect();
        let long = of(&words.join(" "));
        assert!(long.is_sorted() && long.len() > 4_900);
        let mut sorted = long.clone();
        sorted.reverse();
        sort(&mut sorted);
        assert_eq!(sorted, long);
    }

    fn drawn(n: u64) -> u32 {
        xxhash_rust::xxh3::xxh3_64(&n.to_le_bytes()) as u32
    }

    /// Pairs of sets of a known similarity share bands as often as the curve says.
    fn check_curve(similarity: f64) {
        let (bands, trials, size) = (Bands::default(), 3_000u64, 300u64);
        let both = (2.0 * size as f64 * similarity / (1.0 + similarity)).round() as u64;
        let mut shared = 0;
        for trial in 0..trials {
            let set = |side: u64| -> Vec<u32> {
                let own = (both..size).map(|n| drawn(trial << 20 | side << 16 | n));
                let mut all: Vec<u32> =
                    (0..both).map(|n| drawn(trial << 20 | n)).chain(own).collect();
                all.sort_unstable();
                all
            };
            let (a, b) = (set(1), set(2));
            let exact = jaccard(&a, &b);
            assert!((exact - similarity).abs() < 0.005, "{exact} for {similarity}");
            let (a, b) = (bands.of(&a, 0), bands.of(&b, 0));
            shared += usize::from(a.iter().zip(&b).any(|(a, b)| a == b));
        }
        let (found, expected) = (shared as f64 / trials as f64, bands.curve(similarity));
        // four standard deviations
        let room = 4.0 * (expected * (1.0 - expected) / trials as f64).sqrt() + 0.002;
        assert!((found - expected).abs() < room, "{similarity}: {found} for {expected}");
    }

    #[test]
    fn candidates_follow_the_curve() {
        [0.3, 0.4, 0.5, 0.6, 0.7].into_iter().for_each(check_curve);
        assert!(Bands::default().curve(0.7) > 0.985 && Bands::default().curve(0.85) > 0.999_99);
    }

    #[test]
    fn every_form_of_the_code_gives_the_same_values() {
        let set: Vec<u32> = (0..1_000).map(drawn).collect();
        let (mut a, mut b) = ([0; 112], [0; 112]);
        signature(&set, &mut a);
        portable(&set, &mut b);
        assert_eq!(a, b);
    }

    #[test]
    fn similarity_is_that_of_the_sets() {
        let lists: Vec<Vec<u32>> = vec![vec![], vec![1], vec![1, 2, 3], vec![2, 3, 9, 12]];
        for a in &lists {
            for b in &lists {
                let (x, y): (HashSet<_>, HashSet<_>) = (a.iter().collect(), b.iter().collect());
                let union = x.union(&y).count();
                let expected = x.intersection(&y).count() as f64 / union.max(1) as f64;
                let expected = if union == 0 { 1.0 } else { expected };
                assert_eq!(jaccard(a, b), expected);
            }
        }
    }
}
