//! What a step takes of the data: which samples, how long they are, how many pass through the model
//! at once, and what lies before them. Batches and sequences that grow with the tokens seen (paper,
//! section 3.4.1: 4M tokens of 4,096, 8M of 8,192 after 252M, 16M after 2.87T) are a table, since
//! the figures that are printed for it contradict each other (trap D4). Not the order of the data,
//! which is the loader's, and not the learning rate, which counts steps and knows no batch.
//!
//! Batches are numbered from 0, and batch n is the same for ever: a pure function of the recipe. A
//! step takes the batch of its own number, but for a run that went back and passes over some
//! ([`crate::spikes`]). A level begins with the first batch that has its `after_tokens` behind it,
//! so that no batch is cut.

use crate::Recipe;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// From when on batches and sequences have other sizes. Every entry says all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Level {
    /// Tokens after which it holds.
    pub after_tokens: u64,
    /// As [`Recipe::sequence_length`].
    pub sequence_length: usize,
    /// As [`Recipe::batch_tokens`].
    pub batch_tokens: usize,
    /// As [`Recipe::micro_batch_tokens`].
    pub micro_batch_tokens: usize,
}

/// The part of the data that is one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portion {
    /// Its number, from 0.
    pub batch: u64,
    /// Global index of its first sample.
    pub first_sample: u64,
    /// Tokens of all batches before it.
    pub tokens_before: u64,
    /// Its sizes, and the tokens from which on they hold.
    pub level: Level,
}

impl Portion {
    /// Samples of the batch over all ranks.
    #[must_use]
    pub fn samples(&self) -> u64 {
        (self.level.batch_tokens / self.level.sequence_length.max(1)) as u64
    }

    /// Their global indices.
    #[must_use]
    pub fn indices(&self) -> Range<u64> {
        self.first_sample..self.first_sample + self.samples()
    }

    /// Samples that pass through the model at once.
    #[must_use]
    pub fn micro_samples(&self) -> u64 {
        (self.level.micro_batch_tokens / self.level.sequence_length.max(1)) as u64
    }

    /// The batch that is `n` further on, of the same sizes.
    fn further(self, n: u64) -> Self {
        Self {
            batch: self.batch + n,
            first_sample: self.first_sample + n * self.samples(),
            tokens_before: self.tokens_before + n * self.level.batch_tokens as u64,
            ..self
        }
    }

    /// How many batches of these sizes it takes until `tokens` lie before one.
    fn until(&self, tokens: u64) -> u64 {
        let batch = self.level.batch_tokens.max(1) as u64;
        tokens.saturating_sub(self.tokens_before).div_ceil(batch)
    }
}

impl Recipe {
    /// The sizes before the first entry of `ramp`.
    #[must_use]
    pub fn first_level(&self) -> Level {
        Level {
            after_tokens: 0,
            sequence_length: self.sequence_length,
            batch_tokens: self.batch_tokens,
            micro_batch_tokens: self.micro_batch_tokens,
        }
    }

    /// The first batch of each level that has one, ascending; the first is batch 0.
    #[must_use]
    pub fn levels(&self) -> Vec<Portion> {
        let level = self.first_level();
        let mut firsts = vec![Portion { batch: 0, first_sample: 0, tokens_before: 0, level }];
        for level in &self.ramp {
            let last = firsts[firsts.len() - 1];
            let first = last.further(last.until(level.after_tokens));
            if first.batch == last.batch {
                firsts.pop();
            }
            firsts.push(Portion { level: *level, ..first });
        }
        firsts
    }

    /// What batch number `batch` is.
    #[must_use]
    pub fn portion(&self, batch: u64) -> Portion {
        let levels = self.levels();
        let after = levels.partition_point(|first| first.batch <= batch);
        let first = levels[after.max(1) - 1];
        first.further(batch - first.batch)
    }

    /// The first batch with at least `tokens` before it.
    #[must_use]
    pub fn batch_after(&self, tokens: u64) -> Portion {
        let levels = self.levels();
        let after = levels.partition_point(|first| first.tokens_before <= tokens);
        let first = levels[after.max(1) - 1];
        self.portion(first.batch + first.until(tokens))
    }

    /// Tokens of the longest sequence.
    #[must_use]
    pub fn longest_sequence(&self) -> usize {
        let lengths = self.ramp.iter().map(|level| level.sequence_length);
        lengths.fold(self.sequence_length, usize::max)
    }

    /// Tokens of the largest micro-batch: what memory is planned for.
    #[must_use]
    pub fn largest_micro_batch(&self) -> usize {
        let sizes = self.ramp.iter().map(|level| level.micro_batch_tokens);
        sizes.fold(self.micro_batch_tokens, usize::max)
    }

    /// Tokens of the whole run.
    #[must_use]
    pub fn total_tokens(&self) -> u64 {
        self.portion(self.steps).tokens_before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: u64 = 1 << 20;

    fn level(after_tokens: u64, sequence_length: usize, batch_tokens: u64) -> Level {
        let batch_tokens = batch_tokens as usize;
        Level { after_tokens, sequence_length, batch_tokens, micro_batch_tokens: sequence_length }
    }

    fn paper() -> Recipe {
        let ramp = vec![level(252_000_000, 8_192, 8 * M), level(2_870_000_000_000, 8_192, 16 * M)];
        Recipe {
            sequence_length: 4_096,
            batch_tokens: 4 << 20,
            micro_batch_tokens: 4_096,
            steps: 1_200_000,
            ramp,
            ..Recipe::default()
        }
    }

    #[track_caller]
    fn check(recipe: &Recipe, batch: u64, samples: u64, first_sample: u64, tokens_before: u64) {
        let found = recipe.portion(batch);
        assert_eq!(
            (found.batch, found.samples(), found.first_sample, found.tokens_before),
            (batch, samples, first_sample, tokens_before)
        );
        assert_eq!(recipe.batch_after(tokens_before).batch, batch);
        if batch > 0 {
            assert_eq!(recipe.batch_after(tokens_before - 1).batch, batch);
        }
    }

    /// Section 10.1 of the fact sheet: 60 + 342,101 + 758,767 steps are about 15.6T tokens. (Its
    /// first count is rounded: 252M tokens are 60.08 batches, so that 61 begin before them.)
    #[test]
    fn the_ramp_of_405b() {
        let recipe = paper();
        check(&recipe, 0, 1_024, 0, 0);
        check(&recipe, 60, 1_024, 60 * 1_024, 240 * M);
        check(&recipe, 61, 1_024, 61 * 1_024, 244 * M);
        let second = 61 + (2_870_000_000_000 - 244 * M).div_ceil(8 * M);
        assert_eq!(second - 61, 342_101);
        check(&recipe, second - 1, 1_024, (second - 1) * 1_024, 244 * M + 342_100 * 8 * M);
        check(&recipe, second, 2_048, second * 1_024, 244 * M + 342_101 * 8 * M);
        let total = recipe.portion(61 + 342_101 + 758_767).tokens_before;
        assert!((total as f64 / 15.6e12 - 1.0).abs() < 1e-4, "{total}");
        assert_eq!((recipe.longest_sequence(), recipe.largest_micro_batch()), (8_192, 8_192));
    }

    #[test]
    fn batches_join_without_a_gap() {
        let ramp = vec![level(100, 16, 64), level(300, 8, 32), level(301, 4, 128)];
        let small = (8, 24, 8);
        let recipe = Recipe {
            sequence_length: small.0,
            batch_tokens: small.1,
            micro_batch_tokens: small.2,
            ramp,
            ..Recipe::default()
        };
        let (mut sample, mut tokens) = (0, 0);
        for batch in 0..40 {
            let portion = recipe.portion(batch);
            assert_eq!((portion.first_sample, portion.tokens_before), (sample, tokens));
            assert!(portion.level.after_tokens <= tokens);
            sample += portion.samples();
            tokens += portion.level.batch_tokens as u64;
            check(&recipe, batch, portion.samples(), portion.first_sample, portion.tokens_before);
        }
        // 312 tokens lie before the first batch after 300: the level after 301 begins there too.
        assert_eq!(recipe.levels().iter().map(|l| l.batch).collect::<Vec<_>>(), [0, 5, 8]);
    }

    #[test]
    fn without_a_ramp_it_is_a_product() {
        let recipe = Recipe::default();
        check(&recipe, 7, 32, 7 * 32, 7 * 8_192);
        assert_eq!(recipe.total_tokens(), 1_000 * 8_192);
    }
}
