//! What a training run does, as data: the part of a recipe that this crate reads.
//! Not the model's shape, nor the data's place. The paper leaves out betas, epsilon, decay and
//! clipping of the large runs (trap D9), so they stand here with the values of LLaMA 1.

use crate::Error;
use crate::average::Average;
use crate::groups::Group;
use crate::mix::Phase;
use crate::ramp::Level;
use crate::schedule::{Curve, Schedule};
use crate::spikes::Spikes;
use quipu_math::{DType, Device};
use quipu_model::{Precision, Recompute, working_dtype};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
    /// What the backward computes again in place of keeping it: `none`, `elementwise` (outputs of
    /// norms and of the SwiGLU), `block` (a layer keeps its input). Numbers do not depend on it.
    pub recompute: Recompute,
    /// Tokens of one sample. This and the next two hold until the first entry of `ramp`.
    pub sequence_length: usize,
    /// Tokens of one step over all ranks: a multiple of `sequence_length`.
    pub batch_tokens: usize,
    /// Tokens that pass through the model at once on a rank; gradients of the rest are added up.
    pub micro_batch_tokens: usize,
    /// Optimizer steps.
    pub steps: u64,
    /// How the learning rate falls after the warm-up: `cosine`, `linear`, `constant`.
    pub schedule: Curve,
    /// Highest learning rate.
    pub peak_lr: f64,
    /// Learning rate at the end, one step after the last: see [`Schedule`].
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
    /// Patterns of parameters that are not learned: see [`crate::groups`].
    pub freeze: Vec<String>,
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
    /// Other sizes of batches and sequences after so many tokens. Validation keeps the first
    /// length, so that its losses can be compared.
    pub ramp: Vec<Level>,
    /// Shares of the sources in what is read, by phases of the run; none: every document once an
    /// epoch.
    pub mix: Vec<Phase>,
    /// How often a source is read at most in the whole run; its share then goes to the others.
    pub max_epochs: BTreeMap<String, f64>,
    /// Parameters that are learned at another rate or with another decay.
    pub groups: Vec<Group>,
    /// When a step is skipped and the run goes back; none: never.
    pub spikes: Option<Spikes>,
    /// Which checkpoints' mean is the result of the run; none: it is the last one.
    pub average: Option<Average>,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            seed: 1,
            dtype: Dtype::F32,
            recompute: Recompute::None,
            sequence_length: 256,
            batch_tokens: 8_192,
            micro_batch_tokens: 2_048,
            steps: 1_000,
            schedule: Curve::Cosine,
            peak_lr: 3e-3,
            floor_lr: 3e-4,
            warm_up: 50,
            clip: 1.0,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            decay: 0.1,
            freeze: Vec::new(),
            checkpoint_every: 200,
            keep_checkpoints: 2,
            evaluate_every: 100,
            validation_samples: 128,
            sample_prompts: Vec::new(),
            sample_at: vec![0.01, 0.1, 1.0],
            ramp: Vec::new(),
            mix: Vec::new(),
            max_epochs: BTreeMap::new(),
            groups: Vec::new(),
            spikes: None,
            average: None,
        }
    }
}

pub(crate) fn refuse<T>(
    key: &'static str,
    found: impl ToString,
    expected: impl Into<String>,
    change: impl Into<String>,
) -> Result<T, Error> {
    let (expected, change) = (expected.into(), change.into());
    Err(Error::Recipe { key, found: found.to_string(), expected, change })
}

/// Tokens of a step, and of what passes through the model at once, at most: a thousand times what
/// anybody trains with, and sums of them stay numbers.
const MOST: (usize, usize) = (1 << 34, 1 << 26);
/// Steps, at most: so many of the largest batches are still a number of 64 bits.
const STEPS: u64 = 1 << 29;

/// Holds the sizes of a level against each other; `keys` are their names.
fn check_level(keys: [&'static str; 3], level: &Level) -> Result<(), Error> {
    let (length, batch, micro) =
        (level.sequence_length, level.batch_tokens, level.micro_batch_tokens);
    if length < 2 {
        return refuse(keys[0], length, "it must be at least 2", "use 256");
    }
    for (key, found, most) in
        [(keys[0], length, MOST.1), (keys[2], micro, MOST.1), (keys[1], batch, MOST.0)]
    {
        if found > most {
            return refuse(key, found, format!("it must be at most {most}"), "use less");
        }
    }
    if batch == 0 || !batch.is_multiple_of(length) {
        return refuse(
            keys[1],
            batch,
            format!("it must be a multiple of sequence_length = {length}"),
            format!("use {}", batch.next_multiple_of(length).max(length)),
        );
    }
    if micro == 0 || !micro.is_multiple_of(length) {
        return refuse(
            keys[2],
            micro,
            format!("it must be a multiple of sequence_length = {length}"),
            format!("use {}", micro.next_multiple_of(length).max(length)),
        );
    }
    Ok(())
}

fn positive(key: &'static str, value: f64) -> Result<(), Error> {
    // As the optimizer has it: in f32.
    match value as f32 > 0.0 && (value as f32).is_finite() {
        true => Ok(()),
        false => refuse(
            key,
            format!("{value:e}"),
            "it must be above 0 and finite, as a number of 32 bits",
            "see recipes/",
        ),
    }
}

impl Recipe {
    /// The schedule of the learning rate.
    pub fn schedule(&self) -> Schedule {
        Schedule {
            curve: self.schedule,
            peak: self.peak_lr,
            floor: self.floor_lr,
            warm_up: self.warm_up,
            steps: self.steps,
        }
    }

    /// Whether the recipe asks for a checkpoint after `step`.
    pub fn wants_checkpoint(&self, step: u64) -> bool {
        let averaged = self.average.is_some_and(|average| average.takes(step));
        step.is_multiple_of(self.checkpoint_every.max(1)) || averaged || step == self.steps
    }

    /// The last step up to `step` after which it does, or 0: where a run goes back to.
    pub fn checkpoint_before(&self, step: u64) -> u64 {
        (0..=step).rev().find(|step| self.wants_checkpoint(*step)).unwrap_or(0)
    }

    /// Whether a run with `now` steps behind it, of which the first that was skipped lately is
    /// `skipped`, still needs the checkpoint of `step`, however many newer ones are kept.
    pub fn needs_checkpoint(&self, now: u64, skipped: Option<u64>, step: u64) -> bool {
        let averaged = self.average.is_some_and(|average| average.takes(step));
        let before = skipped.map_or(now, |skipped| now.min(skipped.saturating_sub(1)));
        let back = [now, before].map(|step| self.checkpoint_before(step));
        averaged || (self.spikes.is_some() && back.contains(&step))
    }

    /// Steps after which the sample prompts are completed, ascending, none twice.
    pub fn sample_steps(&self) -> Vec<(f64, u64)> {
        let step = |share: f64| ((share * self.steps as f64).round() as u64).max(1);
        let mut steps: Vec<_> = self.sample_at.iter().map(|&s| (s, step(s))).collect();
        steps.sort_by(|a, b| a.0.total_cmp(&b.0));
        steps.dedup_by_key(|(_, step)| *step);
        steps
    }

    /// Refuses what no run can use.
    ///
    /// # Errors
    /// [`Error::Recipe`] names the key, its value, the condition and the change.
    pub fn check(&self) -> Result<(), Error> {
        self.check_sizes()?;
        self.check_mix()?;
        self.check_schedule()?;
        self.check_optimizer()?;
        self.check_groups()?;
        self.spikes.as_ref().map_or(Ok(()), Spikes::check)?;
        self.average.as_ref().map_or(Ok(()), |average| average.check(self.steps))?;
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

    fn check_sizes(&self) -> Result<(), Error> {
        if self.steps == 0 {
            return refuse("steps", 0, "a run needs a step", "use at least 1");
        }
        if self.steps > STEPS {
            return refuse(
                "steps",
                self.steps,
                format!("at most {STEPS} are counted"),
                "use fewer",
            );
        }
        let keys = ["sequence_length", "batch_tokens", "micro_batch_tokens"];
        check_level(keys, &self.first_level())?;
        let keys = ["ramp.sequence_length", "ramp.batch_tokens", "ramp.micro_batch_tokens"];
        self.ramp.iter().try_for_each(|level| check_level(keys, level))?;
        // One level is popped where another begins with the same batch.
        let levels = self.levels();
        match self.ramp.iter().find(|level| !levels.iter().any(|first| first.level == **level)) {
            None if levels.len() == self.ramp.len() + 1 => Ok(()),
            found => refuse(
                "ramp.after_tokens",
                found.map_or(0, |level| level.after_tokens),
                "no batch falls between it and the next entry; they ascend, from above 0",
                "leave the entry out, or begin the next one later",
            ),
        }
    }

    fn check_schedule(&self) -> Result<(), Error> {
        positive("peak_lr", self.peak_lr)?;
        if !(self.floor_lr >= 0.0 && self.floor_lr <= self.peak_lr) {
            let expected = format!("it must lie between 0 and peak_lr = {}", self.peak_lr);
            return refuse("floor_lr", self.floor_lr, expected, "use a tenth of the peak");
        }
        if self.warm_up > self.steps {
            let expected = format!("it must not exceed steps = {}", self.steps);
            return refuse("warm_up", self.warm_up, expected, "use a twentieth of the steps");
        }
        let (peak, floor) = (self.peak_lr, self.floor_lr);
        match self.schedule {
            Curve::Constant if floor < peak => refuse(
                "floor_lr",
                floor,
                format!("a constant rate ends where it began, at peak_lr = {peak}"),
                "set floor_lr to it, or use schedule = \"cosine\" or \"linear\"",
            ),
            Curve::Linear if floor == peak => refuse(
                "floor_lr",
                floor,
                format!("a line falls from peak_lr = {peak} to less"),
                "use 0, or schedule = \"constant\"",
            ),
            Curve::Linear if self.warm_up == self.steps => refuse(
                "warm_up",
                self.warm_up,
                format!("of {} steps the warm-up leaves none in which the rate falls", self.steps),
                "use fewer, or schedule = \"constant\"",
            ),
            _ => Ok(()),
        }
    }

    fn check_optimizer(&self) -> Result<(), Error> {
        positive("clip", self.clip)?;
        positive("eps", self.eps)?;
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
    fn check(change: impl FnOnce(&mut Recipe), key: &str) {
        let mut recipe = Recipe::default();
        change(&mut recipe);
        match recipe.check() {
            Err(Error::Recipe { key: found, .. }) => assert_eq!(found, key),
            other => panic!("expected a refusal of {key}, found {other:?}"),
        }
    }

    #[test]
    fn the_default_stands() {
        Recipe::default().check().unwrap();
        // the last micro-batch of a step may be a smaller one
        Recipe { micro_batch_tokens: 3 * 256, ..Recipe::default() }.check().unwrap();
    }

    #[test]
    fn impossible_values_are_refused_by_name() {
        check(|r| r.batch_tokens = 1_000, "batch_tokens");
        check(|r| r.micro_batch_tokens = 300, "micro_batch_tokens");
        check(|r| r.micro_batch_tokens = 0, "micro_batch_tokens");
        check(|r| r.sequence_length = 0, "sequence_length");
        check(|r| r.steps = 0, "steps");
        let level = |after_tokens, sequence_length, batch_tokens, micro_batch_tokens| Level {
            after_tokens,
            sequence_length,
            batch_tokens,
            micro_batch_tokens,
        };
        let ramp = |levels: &[Level]| Recipe { ramp: levels.into(), ..Recipe::default() };
        let sound = level(9_000, 512, 8_192, 512);
        ramp(&[sound]).check().unwrap();
        check(|r| *r = ramp(&[level(9_000, 1, 8_192, 512)]), "ramp.sequence_length");
        check(|r| *r = ramp(&[level(9_000, 512, 8_000, 512)]), "ramp.batch_tokens");
        check(|r| *r = ramp(&[sound, level(99_000, 512, 700, 512)]), "ramp.batch_tokens");
        check(|r| *r = ramp(&[level(9_000, 512, 8_192, 256)]), "ramp.micro_batch_tokens");
        check(|r| *r = ramp(&[level(0, 512, 8_192, 512)]), "ramp.after_tokens");
        check(|r| *r = ramp(&[sound, level(9_001, 256, 512, 256)]), "ramp.after_tokens");
        check(|r| *r = ramp(&[sound, level(8_000, 256, 512, 256)]), "ramp.after_tokens");
        check(|r| r.peak_lr = f64::NAN, "peak_lr");
        check(|r| r.floor_lr = 1.0, "floor_lr");
        check(|r| r.warm_up = 5_000, "warm_up");
        check(|r| r.schedule = Curve::Constant, "floor_lr");
        let line = || Recipe { schedule: Curve::Linear, ..Recipe::default() };
        check(|r| *r = Recipe { floor_lr: line().peak_lr, ..line() }, "floor_lr");
        check(|r| *r = Recipe { warm_up: line().steps, ..line() }, "warm_up");
        check(|r| r.beta2 = 1.0, "beta2");
        check(|r| r.decay = -0.1, "decay");
        check(|r| r.clip = 0.0, "clip");
        check(|r| r.keep_checkpoints = 0, "keep_checkpoints");
        check(|r| r.checkpoint_every = 0, "checkpoint_every");
        check(|r| r.sample_at = vec![10.0], "sample_at");
    }

    #[test]
    fn sample_steps_are_distinct() {
        let recipe = Recipe { steps: 20, ..Recipe::default() };
        assert_eq!(recipe.sample_steps(), [(0.01, 1), (0.1, 2), (1.0, 20)]);
        let short = Recipe { steps: 2, ..recipe };
        assert_eq!(short.sample_steps(), [(0.01, 1), (1.0, 2)]);
    }
}
