//! What the model reads when: phases of a data mix by tokens seen (paper, sections 3.1.2 and 3.4.1:
//! more mathematics, other languages and recent pages late in the run, trap D17), joined with the
//! ramp to the loader's course. Not how a mix is dealt out, which is `tokens`'s.
//!
//! A phase begins with a batch, like a level of the ramp: the first one that has so many tokens
//! behind it.

use crate::recipe::refuse;
use crate::{Error, Recipe};
use quipu_tokens::{Course, Mix, Stage};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A mix and from when on it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Tokens after which it holds; 0 for the first.
    pub after_tokens: u64,
    /// By source, its share of tokens. Shares are relative; what is not named is not read.
    pub shares: BTreeMap<String, f64>,
}

/// More than any run reads a source.
const MOST_EPOCHS: f64 = 1e6;

impl Recipe {
    /// What a loader must be made with.
    #[must_use]
    pub fn course(&self) -> Course {
        let phases: Vec<_> =
            self.mix.iter().map(|p| (self.batch_after(p.after_tokens).batch, p)).collect();
        let mut changes: Vec<u64> = self.levels().iter().map(|first| first.batch).collect();
        changes.extend(phases.iter().map(|(batch, _)| *batch));
        changes.sort_unstable();
        changes.dedup();
        let stage = |batch: u64| {
            let portion = self.portion(batch);
            let phase = phases.iter().rev().find(|(first, _)| *first <= batch);
            let mix = phase.map_or(Mix::Natural, |(_, phase)| {
                Mix::Shares(phase.shares.iter().map(|(name, n)| (name.clone(), *n)).collect())
            });
            Stage { from: portion.first_sample, length: portion.level.sequence_length, mix }
        };
        let stages = changes.into_iter().map(stage).collect();
        Course { stages, max_epochs: self.max_epochs.clone() }
    }

    /// The first sample of the stage of the course that a batch is of: data of another stage are
    /// of another kind.
    #[must_use]
    pub fn stage_of(&self, batch: u64) -> u64 {
        let first = self.portion(batch).first_sample;
        let stages = self.course().stages.into_iter().map(|stage| stage.from);
        stages.take_while(|from| *from <= first).last().unwrap_or(0)
    }

    pub(crate) fn check_mix(&self) -> Result<(), Error> {
        let mut last = None;
        for phase in &self.mix {
            let batch = self.batch_after(phase.after_tokens).batch;
            let begins = match last {
                None => phase.after_tokens == 0,
                Some(last) => last < batch,
            };
            if !begins {
                return refuse(
                    "mix.after_tokens",
                    phase.after_tokens,
                    "phases ascend from 0, and each has a batch of its own",
                    "begin the first at 0 and each other one at least a batch after the last",
                );
            }
            last = Some(batch);
            let sum: f64 = phase.shares.values().sum();
            let sound = phase.shares.values().all(|share| *share >= 0.0) && sum > 0.0;
            if !(sound && sum.is_finite()) {
                return refuse(
                    "mix.shares",
                    format!("{:?} after {} tokens", phase.shares, phase.after_tokens),
                    "shares are at least 0, and one of them is above 0",
                    "write shares = { prose = 0.75, code = 0.25 }",
                );
            }
        }
        self.check_epochs()
    }

    fn check_epochs(&self) -> Result<(), Error> {
        for (name, epochs) in &self.max_epochs {
            let found = format!("{name} = {epochs}");
            if !(*epochs > 0.0 && *epochs <= MOST_EPOCHS) {
                let change = "use 4.0, or leave it out";
                let expected = format!("it must be above 0 and at most {MOST_EPOCHS}");
                return refuse("max_epochs", found, expected, change);
            }
            if !self.mix.iter().any(|phase| phase.shares.get(name).is_some_and(|s| *s > 0.0)) {
                let change = "give it a share, or leave its cap out";
                return refuse(
                    "max_epochs",
                    found,
                    "no phase of the mix has a share of it",
                    change,
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ramp::Level;

    fn phase(after_tokens: u64, shares: &[(&str, f64)]) -> Phase {
        let shares = shares.iter().map(|(name, share)| ((*name).to_owned(), *share)).collect();
        Phase { after_tokens, shares }
    }

    fn recipe(mix: Vec<Phase>) -> Recipe {
        Recipe {
            sequence_length: 8,
            batch_tokens: 32,
            micro_batch_tokens: 8,
            mix,
            ..Recipe::default()
        }
    }

    #[track_caller]
    fn check(mix: Vec<Phase>, epochs: &[(&str, f64)], key: &str) {
        let max_epochs = epochs.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        match (Recipe { max_epochs, ..recipe(mix) }).check() {
            Err(Error::Recipe { key: found, .. }) => assert_eq!(found, key),
            other => panic!("expected a refusal of {key}, found {other:?}"),
        }
    }

    #[test]
    fn mixes_that_cannot_be_are_refused_by_name() {
        let prose = [("prose", 1.0)];
        check(vec![phase(1, &prose)], &[], "mix.after_tokens");
        check(vec![phase(0, &prose), phase(0, &prose)], &[], "mix.after_tokens");
        check(
            vec![phase(0, &prose), phase(33, &prose), phase(64, &prose)],
            &[],
            "mix.after_tokens",
        );
        check(vec![phase(0, &[])], &[], "mix.shares");
        check(vec![phase(0, &[("prose", 0.0)])], &[], "mix.shares");
        check(vec![phase(0, &[("prose", 1.0), ("code", -0.5)])], &[], "mix.shares");
        check(vec![phase(0, &[("prose", f64::INFINITY)])], &[], "mix.shares");
        check(vec![phase(0, &prose)], &[("prose", 0.0)], "max_epochs");
        check(vec![phase(0, &prose)], &[("code", 2.0)], "max_epochs");
        check(Vec::new(), &[("code", 2.0)], "max_epochs");
        recipe(vec![phase(0, &prose), phase(33, &prose)]).check().unwrap();
    }

    #[test]
    fn ramp_and_mix_make_one_course() {
        let (half, all) = ([("code", 0.5), ("prose", 0.5)], [("prose", 1.0)]);
        let mut recipe = recipe(vec![phase(0, &half), phase(200, &all)]);
        recipe.ramp = vec![Level {
            after_tokens: 100,
            sequence_length: 16,
            batch_tokens: 64,
            micro_batch_tokens: 16,
        }];
        recipe.check().unwrap();
        let mix = |shares: &[(&str, f64)]| {
            Mix::Shares(shares.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect())
        };
        // 4 batches of 4 samples are 128 tokens; 2 more of 4 longer ones reach 256.
        let expected = [
            Stage { from: 0, length: 8, mix: mix(&half) },
            Stage { from: 16, length: 16, mix: mix(&half) },
            Stage { from: 24, length: 16, mix: mix(&all) },
        ];
        assert_eq!(recipe.course().stages, expected);
        let stages: Vec<u64> = (0..8).map(|batch| recipe.stage_of(batch)).collect();
        assert_eq!(stages, [0, 0, 0, 0, 16, 16, 24, 24]);
        assert_eq!(Recipe::default().course(), Course::natural(256));
    }
}
