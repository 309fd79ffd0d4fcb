//! `divergence`: how far a document's words are from those of the corpus in its language.
//!
//! Source: the paper drops documents with excessive numbers of outlier tokens by the
//! Kullback-Leibler divergence of token distributions (§3.1.1). Direction: KL(document ‖ corpus), as
//! it grows with every word that the document has and the corpus has not; the other direction is
//! infinite for every text that lacks some word of the corpus. The corpus is a table of hashed words
//! with counts, of fixed size, so that tables of workers add up to the same whatever the order.
//! Smoothing: the mass of words never seen is that of the words seen once (Good 1953), and all slots
//! share it. The document's own words are taken out of the table before it is
//! held against it, or a small corpus would excuse everything. Length correction: KL of a sample of
//! n words of the corpus itself is not 0 but several nats for short ones; that expectation is
//! computed from the table for a grid of lengths, and taken off. Blind spot: words in any order have
//! the same distribution; a salad of frequent words passes. Not here: when the tables are made and
//! applied; the engine counts in one stage and judges in a later one.

use super::grams::with_table;
use super::{Told, View};

/// Name of the rule, as it stands in fates.
pub const NAME: &str = "divergence";
/// What is told of it.
pub const TOLD: Told = Told {
    name: NAME,
    reason: "Words that the rest of the corpus does not have are keys, codes or noise.",
    limit,
};
/// Slots of a table of counts.
pub const SLOTS: usize = 1 << 17;
/// A document goes above so many nats over what a sample of its length has.
pub const MAX_EXCESS: f32 = 3.0;
/// Fewest words of a document that is judged.
pub const MIN_WORDS: usize = 50;
/// Fewest words of a table that can judge: below it there is no telling rare from strange.
pub const MIN_CORPUS: u64 = 200_000;
const MAGIC: &[u8; 8] = b"quipuW01";

/// What is measured, and from where on a document goes.
fn limit() -> String {
    format!(
        "above {MAX_EXCESS} nats of divergence from the words of its language in the corpus, beyond \
         what a text of its length has; from {MIN_WORDS} words and {MIN_CORPUS} of the language on"
    )
}

/// Words of a language with their counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    words: u64,
    counts: Vec<u64>,
}

impl Default for Reference {
    fn default() -> Reference {
        Reference { words: 0, counts: vec![0; SLOTS] }
    }
}

/// Where a word's count stands. Other bits of the hash than tables of n-grams use.
fn slot(hash: u64) -> usize {
    (hash >> 20) as usize % SLOTS
}

impl Reference {
    /// Adds the words of a document.
    pub fn count(&mut self, view: &View) {
        self.words += view.words.len() as u64;
        view.words.iter().for_each(|word| self.counts[slot(word.hash)] += 1);
    }

    /// Adds another table of the same language.
    pub fn merge(&mut self, other: &Reference) {
        self.words += other.words;
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, theirs)| *mine += theirs);
    }

    /// Words counted so far.
    pub fn words(&self) -> u64 {
        self.words
    }

    /// The table as bytes, always of the same size: little-endian counts behind a mark.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAGIC.len() + SLOTS * 8);
        out.extend_from_slice(MAGIC);
        self.counts.iter().for_each(|count| out.extend_from_slice(&count.to_le_bytes()));
        out
    }

    /// Reads the bytes of a table; the error says what is wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<Reference, String> {
        let counts = bytes.strip_prefix(MAGIC).ok_or("not a table of words of this version")?;
        if counts.len() != SLOTS * 8 {
            return Err(format!("{} bytes of counts, expected {}", counts.len(), SLOTS * 8));
        }
        let (eights, _) = counts.as_chunks::<8>();
        let counts: Vec<u64> = eights.iter().map(|c| u64::from_le_bytes(*c)).collect();
        let words = counts.iter().try_fold(0u64, |sum, count| sum.checked_add(*count));
        Ok(Reference { words: words.ok_or("counts whose sum passes 64 bits")?, counts })
    }

    /// The table made ready for judging.
    pub fn distribution(self) -> Distribution {
        let once = self.counts.iter().filter(|c| **c == 1).count() as f64;
        let mut distribution = Distribution {
            words: self.words as f64,
            counts: self.counts,
            unseen: once.max(1.0),
            expected: Vec::new(),
        };
        distribution.expect();
        distribution
    }
}

/// What the words of a language are like.
#[derive(Clone, Debug)]
pub struct Distribution {
    counts: Vec<u64>,
    words: f64,
    /// Weight of what was never seen: the number of slots that were seen once.
    unseen: f64,
    /// Expected divergence of samples of 2^n words, from n = 0 on.
    expected: Vec<f64>,
}

/// Samples of up to 2^20 words; longer ones have next to no divergence.
const LENGTHS: i32 = 20;

impl Distribution {
    /// Probability of a slot that has `count` of the `words` of the table.
    fn probability(&self, count: f64, words: f64) -> f64 {
        (count + self.unseen / SLOTS as f64) / (words + self.unseen)
    }

    /// Fills in what samples of the table itself would have: their mean of p ln p, with the count of
    /// each word drawn from a binomial distribution, plus the entropy of the table.
    fn expect(&mut self) {
        let mut counts = self.counts.clone();
        counts.sort_unstable();
        let groups: Vec<(f64, f64)> = counts
            .chunk_by(|a, b| a == b)
            .map(|g| (self.probability(g[0] as f64, self.words), g.len() as f64))
            .collect();
        let entropy: f64 = groups.iter().map(|(q, slots)| -slots * q * q.ln()).sum();
        self.expected = (0..=LENGTHS)
            .map(|power| {
                let n = f64::from(power).exp2();
                entropy + groups.iter().map(|(q, slots)| slots * p_log_p(*q, n)).sum::<f64>()
            })
            .collect();
    }

    /// Expected divergence of a sample of so many words.
    fn expected(&self, words: usize) -> f64 {
        let power = (words.max(1) as f64).log2().min(f64::from(LENGTHS) - 0.001);
        let (below, part) = (power as usize, power.fract());
        self.expected[below] * (1.0 - part) + self.expected[below + 1] * part
    }

    /// Nats by which a document's words are further from the corpus than a sample of as many words
    /// of it would be; `None` for a document or a table that is too small to tell. `counted` says
    /// whether the document is among those that the table was made of.
    pub fn divergence(&self, view: &View, counted: bool) -> Option<f32> {
        let n = view.words.len();
        if n < MIN_WORDS || (self.words as u64) < MIN_CORPUS {
            return None;
        }
        let own = if counted { 1.0 } else { 0.0 };
        let words = (self.words - own * n as f64).max(0.0);
        let mut sum = 0.0;
        with_table(n, |table| {
            let slots = || view.words.iter().map(|w| slot(w.hash));
            // Slots are small numbers: spread them for the table, which looks at high bits.
            let key = |slot: usize| (slot as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            slots().for_each(|slot| *table.count(key(slot)) += 1);
            for slot in slots() {
                let count = f64::from(std::mem::take(table.count(key(slot))));
                if count > 0.0 {
                    let rest = (self.counts[slot] as f64 - own * count).max(0.0);
                    let p = count / n as f64;
                    sum += p * (p / self.probability(rest, words)).ln();
                }
            }
        });
        Some((sum - self.expected(n)) as f32)
    }
}

/// Mean of p ln p, where p is how often a word of probability `q` comes in a sample of `n`, over `n`.
fn p_log_p(q: f64, n: f64) -> f64 {
    let mean = n * q;
    if mean > 400.0 {
        // Second order of the expansion around the mean.
        return q * q.ln() + 0.5 * (1.0 - q) / n;
    }
    let last = (mean + 12.0 * mean.sqrt() + 20.0).min(n) as u32;
    let mut weight = (n * (-q).ln_1p()).exp();
    let mut sum = 0.0;
    for k in 1..=last {
        weight *= (n - f64::from(k) + 1.0) / f64::from(k) * q / (1.0 - q);
        let p = f64::from(k) / n;
        sum += weight * p * p.ln();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::word_hash;

    fn shared() -> String {
        let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared");
        std::env::var("QUIPU_SHARED").unwrap_or_else(|_| beside.to_owned())
    }

    /// A random number below a number.
    fn draw(state: &mut u64, most: usize) -> usize {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (*state >> 33) as usize % most
    }

    /// Words by a law like that of real ones: the n-th as often as 1 / n.
    fn zipf(state: &mut u64, vocabulary: usize) -> String {
        let log = (vocabulary as f64).ln() * draw(state, 1 << 20) as f64 / f64::from(1 << 20);
        format!("w{}", log.exp() as usize)
    }

    fn sample(seed: u64, words: usize) -> String {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (0..words).map(|_| zipf(&mut state, 30_000)).collect::<Vec<_>>().join(" ")
    }

    fn zipf_distribution() -> Distribution {
        let mut reference = Reference::default();
        reference.count(&View::of(&sample(1, 2_000_000), "en", 1));
        reference.distribution()
    }

    #[test]
    fn a_sample_of_the_corpus_has_no_excess_at_any_length() {
        let corpus = zipf_distribution();
        for words in [60, 200, 1000, 5000, 40_000] {
            let texts = 1 + 20_000 / words as u64;
            let found = (0..texts).map(|seed| {
                let text = sample(seed + 99, words);
                corpus.divergence(&View::of(&text, "en", 1), false).unwrap()
            });
            let mean = found.sum::<f32>() / texts as f32;
            assert!(mean.abs() < 0.05, "{words} words: {mean}");
            assert!(corpus.expected(words) > 0.1, "without correction it would be inflated");
        }
    }

    #[test]
    fn tables_add_up_and_survive_bytes() {
        let (a, b) = (sample(5, 3000), sample(6, 2000));
        let count = |texts: &[&str]| {
            let mut reference = Reference::default();
            texts.iter().for_each(|t| reference.count(&View::of(t, "en", 1)));
            reference
        };
        let whole = count(&[&a, &b]);
        let mut merged = count(&[&b]);
        merged.merge(&count(&[&a]));
        assert_eq!(merged, whole);
        assert_eq!(whole.words(), 5000);
        let bytes = whole.encode();
        assert_eq!(Reference::decode(&bytes).unwrap(), whole);
        for bad in [&bytes[..bytes.len() - 1], &bytes[1..], b"", &[255; 8 + SLOTS * 8]] {
            assert!(Reference::decode(bad).is_err());
        }
        let mut full = MAGIC.to_vec();
        full.resize(8 + SLOTS * 8, 255);
        assert!(Reference::decode(&full).unwrap_err().contains("64 bits"));
    }

    #[test]
    fn what_is_too_small_is_not_judged() {
        let short = View::of("a few words", "en", 1);
        assert_eq!(zipf_distribution().divergence(&short, false), None);
        let text = sample(7, 1000);
        let view = View::of(&text, "en", 1);
        let mut reference = Reference::default();
        reference.count(&view);
        assert_eq!(reference.distribution().divergence(&view, true), None);
    }

    #[test]
    fn a_documents_own_words_do_not_excuse_it() {
        let mut reference = Reference::default();
        reference.count(&View::of(&sample(1, 300_000), "en", 1));
        let strange = (0..400).map(|n| format!("x{n}")).collect::<Vec<_>>().join(" ").repeat(3);
        let view = View::of(&strange, "en", 1);
        let without = reference.clone().distribution().divergence(&view, false).unwrap();
        reference.count(&view);
        let with = reference.distribution().divergence(&view, true).unwrap();
        assert!((with - without).abs() < 0.2, "{with} {without}");
        assert!(with > MAX_EXCESS, "{with}");
    }

    /// Pieces of a text of about so many words, at ends of paragraphs.
    fn pieces(text: &str, words: usize) -> Vec<String> {
        let mut out = vec![String::new()];
        for paragraph in text.split('\n') {
            if out.last().is_some_and(|p| p.split_whitespace().count() >= words) {
                out.push(String::new());
            }
            if let Some(last) = out.last_mut() {
                last.push_str(paragraph);
                last.push('\n');
            }
        }
        out.retain(|p| p.split_whitespace().count() >= words / 2);
        out
    }

    fn novels() -> Option<Vec<String>> {
        let folder = std::fs::read_dir(format!("{}/data/text-novels", shared())).ok()?;
        let mut paths: Vec<_> = folder.flatten().map(|f| f.path()).collect();
        paths.retain(|p| p.extension().is_some_and(|e| e == "txt"));
        paths.sort();
        Some(paths.iter().map(|p| std::fs::read_to_string(p).unwrap_or_default()).collect())
    }

    #[test]
    fn real_prose_stays_and_key_words_logs_and_salads_go() {
        let Some(novels) = novels() else {
            eprintln!("SKIPPED: real_prose_stays_…: shared data absent");
            return;
        };
        let mut reference = Reference::default();
        novels.iter().for_each(|n| reference.count(&View::of(n, "en", 1)));
        let corpus = reference.distribution();
        let judge = |text: &str, counted| corpus.divergence(&View::of(text, "en", 1), counted);
        for words in [60, 200, 1000, 4000] {
            let texts = novels.iter().flat_map(|n| pieces(n, words));
            let mut found: Vec<f32> = texts.filter_map(|p| judge(&p, true)).collect();
            found.sort_by(f32::total_cmp);
            let at = |share: f64| found[((found.len() - 1) as f64 * share) as usize];
            println!(
                "{words} words, {} pieces: median {:.2}, 99 % {:.2}, 99.9 % {:.2}, most {:.2}",
                found.len(),
                at(0.5),
                at(0.99),
                at(0.999),
                at(1.0)
            );
            assert!(at(0.999) < MAX_EXCESS, "{words}");
        }
        let mut vocabulary: Vec<&str> = novels[0].split_whitespace().collect();
        vocabulary.sort_unstable();
        vocabulary.dedup();
        let mut state = 3;
        let salad: Vec<&str> =
            (0..300).map(|_| vocabulary[draw(&mut state, vocabulary.len())]).collect();
        let log: Vec<String> =
            (0..60).map(|n| format!("12:00:{n} WARN db.pool retry id={:08x}", n * 7919)).collect();
        let spam = "buy cheap copper kettle pan discount shipping online store best price sale \
            coupon kettles pans cookware steel ";
        for (name, text) in
            [("salad", salad.join(" ")), ("log", log.join("\n")), ("spam", spam.repeat(12))]
        {
            let found = judge(&text, false).unwrap();
            println!("{name}: {found:.2}");
            assert!(found > MAX_EXCESS, "{name}: {found}");
        }
    }

    #[test]
    fn slots_are_spread() {
        let mut counts = vec![0u32; 64];
        (0..6400).for_each(|n| counts[slot(word_hash(&format!("word{n}"))) / (SLOTS / 64)] += 1);
        assert!(counts.iter().all(|c| (50..160).contains(c)), "{counts:?}");
    }
}
