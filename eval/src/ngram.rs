//! The n-gram baselines: interpolated modified Kneser-Ney (Chen and Goodman 1998, section 3) over
//! the tokens that a model was trained on, measured on the same validation tokens in bits per byte.
//! What a language model is worth shows against these. Not here: text; they read token shards.
//!
//! Counts are sorted arrays, not hash maps: an n-gram is packed into one word of 128 bits (so at
//! most 5 tokens of 24 bits), sorted, and counted by runs. Memory is about 60 bytes a distinct
//! n-gram of the highest order; the result depends on nothing but the tokens.

use quipu_store::Cancel;
use quipu_tokens::shard::Shard;
use serde::{Deserialize, Serialize};

use crate::Error;

/// Bits of a token in a packed n-gram; 0 is no token, so ids are stored plus one.
const BITS: u32 = 24;
/// Longest n-gram that can be packed.
pub const LONGEST: usize = 5;

/// A model of n-grams.
#[derive(Debug)]
pub struct NGram {
    order: usize,
    vocabulary: usize,
    begin: u32,
    end: u32,
    /// by order, from 1
    levels: Vec<Level>,
}

/// The n-grams of one order.
#[derive(Debug, Default)]
struct Level {
    /// packed n-grams, ascending, and their counts: of places for the highest order and for those
    /// that open a document, of different tokens before them for the others
    grams: Vec<u128>,
    counts: Vec<u32>,
    /// packed contexts (all but the last token), ascending
    contexts: Vec<u128>,
    /// for each context: sum of counts, and the share that goes to the lower order
    sums: Vec<(f64, f64)>,
    discounts: [f64; 3],
}

/// What a model needs for a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Bits for all targets.
    pub bits: f64,
    /// Targets: every token and the end of every document.
    pub targets: u64,
    /// Bytes of text behind them.
    pub bytes: u64,
}

impl Score {
    /// Bits per byte of text.
    #[must_use]
    pub fn bits_per_byte(&self) -> f64 {
        self.bits / (self.bytes.max(1)) as f64
    }

    /// Nats per target: the loss as training prints it.
    #[must_use]
    pub fn loss(&self) -> f64 {
        self.bits * std::f64::consts::LN_2 / (self.targets.max(1)) as f64
    }
}

/// The baselines of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Baselines {
    /// One token at a time.
    pub unigram: Score,
    /// Interpolated modified Kneser-Ney of order 5.
    pub five_gram: Score,
}

/// Trains unigram and 5-gram on the training shards and measures both on the validation shards.
///
/// # Errors
/// [`Error::Baseline`] for no tokens or a vocabulary above 2^24 - 2; [`Error::Cancelled`].
pub fn baselines(tokens: &quipu_tokens::Tokens, cancel: &Cancel) -> Result<Baselines, Error> {
    let begin = tokens.tokenizer.required(quipu_tokens::special::BEGIN_OF_TEXT)?;
    let end = tokens.tokenizer.required(quipu_tokens::special::END_OF_TEXT)?;
    let vocabulary = tokens.tokenizer.vocabulary();
    let score = |order: usize| -> Result<Score, Error> {
        let texts = tokens.train.iter().flat_map(documents);
        let model = NGram::train(texts, order, vocabulary, (begin, end), cancel)?;
        let mut score = model.score(tokens.validation.iter().flat_map(documents));
        let entries =
            tokens.validation.iter().flat_map(|s| (0..s.documents()).map(|i| s.document(i)));
        score.bytes = entries.map(|e| e.bytes).sum();
        cancel.check()?;
        Ok(score)
    };
    Ok(Baselines { unigram: score(1)?, five_gram: score(LONGEST)? })
}

/// The documents of a shard as tokens.
fn documents(shard: &Shard) -> impl Iterator<Item = Vec<u32>> + '_ {
    (0..shard.documents()).map(|i| {
        let entry = shard.document(i);
        let mut tokens = Vec::with_capacity(entry.tokens as usize);
        shard.read(entry.start..entry.start + entry.tokens, &mut tokens);
        tokens
    })
}

impl NGram {
    /// Counts documents. `marks` are the tokens that open and close a document; `vocabulary` is the
    /// number of tokens among which the lowest order spreads what is left.
    ///
    /// # Errors
    /// [`Error::Baseline`] for an order that is not 1 to 5, no tokens or too large a vocabulary;
    /// [`Error::Cancelled`].
    pub fn train(
        documents: impl Iterator<Item = Vec<u32>>,
        order: usize,
        vocabulary: usize,
        marks: (u32, u32),
        cancel: &Cancel,
    ) -> Result<Self, Error> {
        let refuse = |reason: String| Err(Error::Baseline { reason });
        if !(1..=LONGEST).contains(&order) {
            return refuse(format!("n-grams of order {order}; expected 1 to {LONGEST}"));
        }
        if vocabulary >= (1 << BITS) - 1 {
            return refuse(format!(
                "a vocabulary of {vocabulary}; n-grams pack ids of {BITS} bits"
            ));
        }
        // Full n-grams, and by order those that open a document, which nothing can precede.
        let mut full: Vec<u128> = Vec::new();
        let mut opening: Vec<Vec<u128>> = vec![Vec::new(); order + 1];
        for tokens in documents {
            let mut gram = u128::from(marks.0 + 1);
            for (at, token) in tokens.iter().chain([&marks.1]).enumerate() {
                gram = gram << BITS | u128::from(token + 1);
                if at + 2 > order || order == 1 {
                    full.push(gram & mask(order));
                } else {
                    opening[at + 2].push(gram);
                }
            }
        }
        // A full n-gram that opens a document is full all the same.
        full.append(&mut opening[order]);
        if full.is_empty() {
            return refuse("no tokens to count".to_owned());
        }
        let mut levels = vec![runs(full)];
        for n in (1..order).rev() {
            cancel.check()?;
            let mut next: Vec<u128> = levels[0].0.iter().map(|gram| gram & mask(n)).collect();
            next.append(&mut opening[n]);
            levels.insert(0, runs(next));
        }
        let levels = levels.into_iter().map(|(grams, counts)| Level::new(grams, counts)).collect();
        Ok(Self { order, vocabulary, begin: marks.0, end: marks.1, levels })
    }

    /// The probability of a token after others (the last ones count).
    #[must_use]
    pub fn probability(&self, context: &[u32], token: u32) -> f64 {
        let mut probability = 1.0 / self.vocabulary as f64;
        let mut gram = 0_u128;
        // The context backwards: each order adds one token in front.
        for n in 1..=self.order.min(context.len() + 1) {
            if n > 1 {
                let before = context[context.len() + 1 - n];
                gram |= u128::from(before + 1) << (BITS * (n as u32 - 2));
            }
            let Some(next) = self.levels[n - 1].refine(gram, token, probability) else { break };
            probability = next;
        }
        probability
    }

    /// Bits that documents need; `bytes` is left to the caller.
    #[must_use]
    pub fn score(&self, documents: impl Iterator<Item = Vec<u32>>) -> Score {
        let mut score = Score::default();
        let mut row = Vec::new();
        for tokens in documents {
            row.clear();
            row.push(self.begin);
            row.extend_from_slice(&tokens);
            row.push(self.end);
            for at in 1..row.len() {
                let from = (at + 1).saturating_sub(self.order);
                score.bits -= self.probability(&row[from..at], row[at]).log2();
                score.targets += 1;
            }
        }
        score
    }
}

impl Level {
    fn new(grams: Vec<u128>, counts: Vec<u32>) -> Self {
        let discounts = discounts(&counts);
        let mut level = Self { grams, counts, contexts: Vec::new(), sums: Vec::new(), discounts };
        let mut from = 0;
        while from < level.grams.len() {
            let context = level.grams[from] >> BITS;
            let same = level.grams[from..].partition_point(|g| g >> BITS == context);
            let counts = &level.counts[from..from + same];
            let sum: f64 = counts.iter().map(|c| f64::from(*c)).sum();
            let taken: f64 = counts.iter().map(|c| level.discount(*c)).sum();
            level.contexts.push(context);
            level.sums.push((sum, taken / sum));
            from += same;
        }
        level
    }

    /// What is taken from a count.
    fn discount(&self, count: u32) -> f64 {
        match count {
            0 => 0.0,
            1 | 2 => self.discounts[count as usize - 1],
            _ => self.discounts[2],
        }
    }

    /// This order's probability from the lower one's; `None` for a context that never occurred.
    fn refine(&self, context: u128, token: u32, lower: f64) -> Option<f64> {
        let at = self.contexts.binary_search(&context).ok()?;
        let (sum, left) = self.sums[at];
        let gram = context << BITS | u128::from(token + 1);
        let count = self.grams.binary_search(&gram).map_or(0, |at| self.counts[at]);
        Some((f64::from(count) - self.discount(count)) / sum + left * lower)
    }
}

fn mask(tokens: usize) -> u128 {
    (1 << (BITS * tokens as u32)) - 1
}

/// Sorts and counts equal ones.
fn runs(mut grams: Vec<u128>) -> (Vec<u128>, Vec<u32>) {
    grams.sort_unstable();
    let mut counts: Vec<u32> = Vec::new();
    let mut last = None;
    grams.retain(|gram| {
        let fresh = last != Some(*gram);
        if fresh {
            counts.push(1);
        } else if let Some(count) = counts.last_mut() {
            *count = count.saturating_add(1);
        }
        last = Some(*gram);
        fresh
    });
    grams.shrink_to_fit();
    (grams, counts)
}

/// Discounts for counts of one, two, and three or more, from how many n-grams have each count; the
/// usual ½, 1, 1½ where there are too few to tell.
fn discounts(counts: &[u32]) -> [f64; 3] {
    let mut of = [0_f64; 5];
    for &count in counts.iter().filter(|c| **c < 5) {
        of[count as usize] += 1.0;
    }
    if of[1..].contains(&0.0) {
        return [0.5, 1.0, 1.5];
    }
    let y = of[1] / (of[1] + 2.0 * of[2]);
    std::array::from_fn(|i| {
        let k = i as f64 + 1.0;
        (k - (k + 1.0) * y * of[i + 2] / of[i + 1]).clamp(0.0, k)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    const MARKS: (u32, u32) = (8, 9);

    fn train(documents: &[Vec<u32>], order: usize) -> NGram {
        NGram::train(documents.iter().cloned(), order, 10, MARKS, &Cancel::new()).unwrap()
    }

    /// Two documents "1 2" and "1 3", order 2, by hand. Bigrams: (8,1) twice, (1,2), (1,3), (2,9),
    /// (3,9) once; no count is 3 or 4, so discounts are ½, 1, 1½. Unigrams count what may precede:
    /// 1 after {8}, 2 after {1}, 3 after {1}, 9 after {2, 3}: 1, 1, 1, 2, in all 5.
    #[test]
    fn a_case_by_hand() {
        let model = train(&[vec![1, 2], vec![1, 3]], 2);
        let left = (0.5 * 3.0 + 1.0) / 5.0;
        let unigram = |count: f64, discount: f64| (count - discount) / 5.0 + left / 10.0;
        let check = |context: &[u32], token: u32, expected: f64| {
            let got = model.probability(context, token);
            assert!((got - expected).abs() < 1e-15, "{context:?} {token}: {got} {expected}");
        };
        check(&[], 1, unigram(1.0, 0.5));
        check(&[], 9, unigram(2.0, 1.0));
        check(&[], 7, left / 10.0);
        check(&[1], 2, (1.0 - 0.5) / 2.0 + (0.5 * 2.0 / 2.0) * unigram(1.0, 0.5));
        check(&[8], 1, (2.0 - 1.0) / 2.0 + (1.0 / 2.0) * unigram(1.0, 0.5));
        check(&[1], 9, (0.5 * 2.0 / 2.0) * unigram(2.0, 1.0));
        // A context that never occurred leaves the lower order as it is.
        check(&[7], 2, unigram(1.0, 0.5));
        let score = model.score([vec![1, 2]].into_iter());
        assert_eq!(score.targets, 3);
        let bits = -(model.probability(&[8], 1).log2()
            + model.probability(&[1], 2).log2()
            + model.probability(&[2], 9).log2());
        assert!((score.bits - bits).abs() < 1e-12);
    }

    #[test]
    fn discounts_from_counts_of_counts() {
        // Four ones, two twos, one three, one four: Y = 4/8.
        let got = discounts(&[1, 1, 1, 1, 2, 2, 3, 4, 9]);
        let expected = [1.0 - 2.0 * 0.5 * 2.0 / 4.0, 2.0 - 3.0 * 0.5 * 0.5, 3.0 - 4.0 * 0.5];
        assert_eq!(got, expected);
        assert_eq!(discounts(&[1, 1, 2]), [0.5, 1.0, 1.5]);
    }

    fn text(seed: u64, documents: usize) -> Vec<Vec<u32>> {
        let mut state = seed;
        let mut draw = move |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % n
        };
        (0..documents)
            .map(|_| (0..draw(9)).map(|_| (draw(8) * draw(8) / 8) as u32).collect())
            .collect()
    }

    /// The definition, written down with maps and no packing.
    fn naive(documents: &[Vec<u32>], order: usize, context: &[u32], token: u32) -> f64 {
        let rows: Vec<Vec<u32>> = documents
            .iter()
            .map(|d| [MARKS.0].iter().chain(d).chain([&MARKS.1]).copied().collect())
            .collect();
        let mut p = 0.1;
        for n in 1..=order.min(context.len() + 1) {
            let mut counts: BTreeMap<&[u32], u32> = BTreeMap::new();
            let mut before: BTreeSet<(&[u32], u32)> = BTreeSet::new();
            for row in &rows {
                for at in (0..row.len()).filter(|at| at + n <= row.len() && at + n > 1) {
                    let gram = &row[at..at + n];
                    if n == order || at == 0 || before.insert((gram, row[at - 1])) {
                        *counts.entry(gram).or_default() += 1;
                    }
                }
            }
            let all: Vec<u32> = counts.values().copied().collect();
            let d = discounts(&all);
            let taken = |c: u32| if c == 0 { 0.0 } else { d[(c as usize).min(3) - 1] };
            let history = &context[context.len() + 1 - n..];
            let here: Vec<(&&[u32], &u32)> =
                counts.iter().filter(|(g, _)| &g[..n - 1] == history).collect();
            if here.is_empty() {
                break;
            }
            let sum: f64 = here.iter().map(|(_, c)| f64::from(**c)).sum();
            let left: f64 = here.iter().map(|(_, c)| taken(**c)).sum::<f64>() / sum;
            let count = here.iter().find(|(g, _)| g[n - 1] == token).map_or(0, |(_, c)| **c);
            p = (f64::from(count) - taken(count)) / sum + left * p;
        }
        p
    }

    #[test]
    fn agrees_with_the_definition_and_sums_to_one() {
        for order in 1..=LONGEST {
            let documents = text(order as u64, 60);
            let model = train(&documents, order);
            for context in
                [vec![], vec![1], vec![8], vec![8, 1], vec![0, 1, 2], vec![8, 0, 0, 1], vec![3; 4]]
            {
                let context = &context[context.len().saturating_sub(order - 1)..];
                let all: Vec<f64> = (0..10).map(|t| model.probability(context, t)).collect();
                let sum: f64 = all.iter().sum();
                assert!((sum - 1.0).abs() < 1e-12, "order {order} {context:?}: {sum}");
                for (token, p) in (0..).zip(all) {
                    let expected = naive(&documents, order, context, token);
                    assert!((p - expected).abs() < 1e-12, "order {order} {context:?} {token}");
                }
            }
        }
    }

    #[test]
    fn longer_contexts_help_where_there_is_structure() {
        let documents: Vec<Vec<u32>> =
            (0..200).map(|i| (0..20).map(|t| (i + t) % 7).collect()).collect();
        let bits = |order| train(&documents, order).score(documents.iter().cloned()).bits;
        assert!(bits(2) < 0.4 * bits(1));
    }

    #[test]
    fn impossible_orders_are_refused() {
        let error = |documents: Vec<Vec<u32>>, order, vocabulary| {
            let result =
                NGram::train(documents.into_iter(), order, vocabulary, MARKS, &Cancel::new());
            result.unwrap_err().to_string()
        };
        assert!(error(vec![vec![1]], 6, 10).contains("order 6"));
        assert!(error(vec![vec![1]], 2, 1 << 24).contains("16777216"));
        assert!(error(vec![], 2, 10).contains("no tokens"));
    }
}
