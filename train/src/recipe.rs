//! What a training run does, as data: the part of a recipe that this crate reads.
//! Not the model's shape, nor the data's place. The paper leaves out betas, epsilon, decay and
//! clipping of the large runs (trap D9), so they stand here with the values of LLaMA 1.

use crate::Error;
use crate::schedule::Schedule;
use quipu_math::{DType, Device};
use quipu_model::{Precision, working_dtype};
use serde::{Deserialize, Serialize};

/// In what numbers a model is trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// Everything in f32.
    #[default]
    F32,
    /// Weights and activations in bf16; master weights, sums and the optimizer in f32.
    Bf16,
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Dtype::F32 => "f32",
            Dtype::Bf16 => "bf16",
        })
    }
}

impl Dtype {
    /// Element types by role; on the reference device everything is f64.
    #[must_use]
    pub fn precision(self, device: &dyn Device) -> Precision {
        match (working_dtype(device), self) {
            (DType::F32, Dtype::Bf16) => Precision::MIXED,
            (own, _) => Precision::whole(own),
        }
    }
}

/// One stage of training. Everything that decides its numbers is here, nothing is read from the
/// machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// Seed of the initial weights and of the order of the data.
    pub seed: u64,
    /// In what numbers it is computed.
    pub dtype: Dtype,
    /// Tokens of one sample.
    pub sequence_length: usize,
    /// Tokens of one step over all ranks: a multiple of `sequence_length`.
    pub batch_tokens: usize,
    /// Tokens that pass through the model at once on a rank; gradients of the rest are added up.
    pub micro_batch_tokens: usize,
    /// Optimizer steps.
    pub steps: u64,
    /// Highest learning rate.
    pub peak_lr: f64,
    /// Learning rate at the last step.
    pub floor_lr: f64,
    /// Steps of linear warm-up.
    pub warm_up: u64,
    /// Largest global norm of the gradient; a larger one is scaled down to it.
    pub clip: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, on matrices (embedding included), not on norms and biases.
    pub decay: f64,
    /// Steps between checkpoints; the last step always writes one.
    pub checkpoint_every: u64,
    /// Checkpoints kept.
    pub keep_checkpoints: usize,
    /// Steps between validations; the last step always has one. 0: only the last.
    pub evaluate_every: u64,
    /// Samples of a validation, at most; the last one uses all.
    pub validation_samples: u64,
    /// Prompts that are completed while the model learns.
    pub sample_prompts: Vec<String>,
    /// When they are completed, as shares of the steps.
    pub sample_at: Vec<f64>,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            seed: 1,
            dtype: Dtype::F32,
            sequence_length: 256,
            batch_tokens: 8_192,
            micro_batch_tokens: 2_048,
            steps: 1_000,
            peak_lr: 3e-3,
            floor_lr: 3e-4,
            warm_up: 50,
            clip: 1.0,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            decay: 0.1,
            checkpoint_every: 200,
            keep_checkpoints: 2,
            evaluate_every: 100,
            validation_samples: 128,
            sample_prompts: Vec::new(),
            sample_at: vec![0.01, 0.1, 1.0],
        }
    }
}

fn refuse<T>(
    key: &'static str,
    found: impl ToString,
    expected: impl Into<String>,
    change: impl Into<String>,
) -> Result<T, Error> {
    let (expected, change) = (expected.into(), change.into());
    Err(Error::Recipe { key, found: found.to_string(), expected, change })
}

impl Recipe {
    /// The schedule of the learning rate.
    pub fn schedule(&self) -> Schedule {
        Schedule {
            peak: self.peak_lr,
            floor: self.floor_lr,
            warm_up: self.warm_up,
            steps: self.steps,
        }
    }

    /// Samples of one step over all ranks.
    pub fn step_samples(&self) -> u64 {
        (self.batch_tokens / self.sequence_length.max(1)) as u64
    }

    /// Samples that pass through the model at once.
    pub fn micro_samples(&self) -> u64 {
        (self.micro_batch_tokens / self.sequence_length.max(1)) as u64
    }

    /// Tokens of the whole run.
    pub fn total_tokens(&self) -> u64 {
        self.steps * self.batch_tokens as u64
    }

    /// Steps after which the sample prompts are completed, ascending, none twice.
    pub fn sample_steps(&self) -> Vec<(f64, u64)> {
        let step = |share: f64| ((share * self.steps as f64).round() as u64).max(1);
        let mut steps: Vec<_> = self.sample_at.iter().map(|&s| (s, step(s))).collect();
        steps.sort_by(|a, b| a.0.total_cmp(&b.0));
        steps.dedup_by_key(|(_, step)| *step);
        steps
    }

    /// Refuses what no run on `ranks` data-parallel ranks can use.
    ///
    /// # Errors
    /// [`Error::Recipe`] names the key, its value, the condition and the change.
    pub fn check(&self, ranks: usize) -> Result<(), Error> {
        self.check_sizes(ranks.max(1))?;
        self.check_optimizer()?;
        if self.checkpoint_every == 0 || self.keep_checkpoints == 0 {
            return refuse(
                if self.keep_checkpoints == 0 { "keep_checkpoints" } else { "checkpoint_every" },
                0,
                "it must be at least 1",
                "a run always ends in a checkpoint; a large `checkpoint_every` writes only that",
            );
        }
        match self.sample_at.iter().find(|s| !(0.0..=1.0).contains(*s)) {
            Some(share) => refuse(
                "sample_at",
                share,
                "it holds shares of the steps, from 0 to 1",
                "write 0.1 for a tenth of the steps",
            ),
            None => Ok(()),
        }
    }

    fn check_sizes(&self, ranks: usize) -> Result<(), Error> {
        let (length, batch) = (self.sequence_length, self.batch_tokens);
        if length < 2 {
            return refuse("sequence_length", length, "it must be at least 2", "use 256");
        }
        if self.steps == 0 {
            return refuse("steps", 0, "a run needs a step", "use at least 1");
        }
        if batch == 0 || !batch.is_multiple_of(length * ranks) {
            let unit = length * ranks;
            return refuse(
                "batch_tokens",
                batch,
                format!("it must be a multiple of sequence_length × ranks = {length} × {ranks}"),
                format!("use {}", batch.next_multiple_of(unit).max(unit)),
            );
        }
        let micro = self.micro_batch_tokens;
        if micro == 0 || !micro.is_multiple_of(length) || !(batch / ranks).is_multiple_of(micro) {
            return refuse(
                "micro_batch_tokens",
                micro,
                format!(
                    "it must be a multiple of sequence_length = {length} that divides a rank's \
                     {} tokens of a step",
                    batch / ranks
                ),
                format!("use {length}, or {}", batch / ranks),
            );
        }
        Ok(())
    }

    fn check_optimizer(&self) -> Result<(), Error> {
        let positive = |key, value: f64| match value > 0.0 && value.is_finite() {
            true => Ok(()),
            false => refuse(key, value, "it must be above 0 and finite", "see recipes/"),
        };
        positive("peak_lr", self.peak_lr)?;
        positive("clip", self.clip)?;
        positive("eps", self.eps)?;
        if !(self.floor_lr >= 0.0 && self.floor_lr <= self.peak_lr) {
            let expected = format!("it must lie between 0 and peak_lr = {}", self.peak_lr);
            return refuse("floor_lr", self.floor_lr, expected, "use a tenth of the peak");
        }
        if self.warm_up > self.steps {
            let expected = format!("it must not exceed steps = {}", self.steps);
            return refuse("warm_up", self.warm_up, expected, "use a twentieth of the steps");
        }
        for (key, value) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&value) {
                return refuse(key, value, "it must lie in [0, 1)", "use 0.9 and 0.95");
            }
        }
        match self.decay >= 0.0 && self.decay.is_finite() {
            true => Ok(()),
            false => refuse("decay", self.decay, "it must be at least 0", "use 0.1"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(change: impl FnOnce(&mut Recipe), ranks: usize, key: &str) {
        let mut recipe = Recipe::default();
        change(&mut recipe);
        match recipe.check(ranks) {
            Err(Error::Recipe { key: found, .. }) => assert_eq!(found, key),
            other => panic!("expected a refusal of {key}, found {other:?}"),
        }
    }

    #[test]
    fn the_default_stands() {
        for ranks in [1, 2, 4] {
            Recipe::default().check(ranks).unwrap();
        }
    }

    #[test]
    fn impossible_values_are_refused_by_name() {
        check(|r| r.batch_tokens = 1_000, 1, "batch_tokens");
        check(|r| r.batch_tokens = 256, 2, "batch_tokens");
        check(|r| r.micro_batch_tokens = 3 * 256, 1, "micro_batch_tokens");
        check(|r| r.micro_batch_tokens = 0, 1, "micro_batch_tokens");
        check(|r| r.sequence_length = 0, 1, "sequence_length");
        check(|r| r.steps = 0, 1, "steps");
        check(|r| r.peak_lr = f64::NAN, 1, "peak_lr");
        check(|r| r.floor_lr = 1.0, 1, "floor_lr");
        check(|r| r.warm_up = 5_000, 1, "warm_up");
        check(|r| r.beta2 = 1.0, 1, "beta2");
        check(|r| r.decay = -0.1, 1, "decay");
        check(|r| r.clip = 0.0, 1, "clip");
        check(|r| r.keep_checkpoints = 0, 1, "keep_checkpoints");
        check(|r| r.checkpoint_every = 0, 1, "checkpoint_every");
        check(|r| r.sample_at = vec![10.0], 1, "sample_at");
    }

    #[test]
    fn sample_steps_are_distinct() {
        let recipe = Recipe { steps: 20, ..Recipe::default() };
        assert_eq!(recipe.sample_steps(), [(0.01, 1), (0.1, 2), (1.0, 20)]);
        let short = Recipe { steps: 2, ..recipe };
        assert_eq!(short.sample_steps(), [(0.01, 1), (1.0, 2)]);
    }
}
