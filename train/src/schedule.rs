//! The learning rate of a step: linear warm-up, cosine to a floor (paper, section 3.4.1).
//! Not the ramps of batch size and sequence length, which come with the full recipe.

use serde::{Deserialize, Serialize};

/// Warm-up and cosine. Steps are counted from 0 here: `rate(t)` is used by the update that takes
/// a model with `t` updates behind it to one with `t + 1`.
///
/// The first `warm_up` rates rise linearly and do not start at zero, so that no update is wasted:
/// `peak · (t + 1) / warm_up`. Then half a cosine falls from `peak`, which is reached at
/// `t = warm_up`, to `floor` at `t = steps`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Highest learning rate.
    pub peak: f64,
    /// Learning rate at the end.
    pub floor: f64,
    /// Steps of warm-up.
    pub warm_up: u64,
    /// Steps in all.
    pub steps: u64,
}

impl Schedule {
    /// Learning rate of the update with `t` updates behind it.
    pub fn rate(&self, t: u64) -> f64 {
        if t < self.warm_up {
            return self.peak * (t + 1) as f64 / self.warm_up as f64;
        }
        let length = self.steps.saturating_sub(self.warm_up).max(1) as f64;
        let share = ((t - self.warm_up) as f64 / length).min(1.0);
        let wave = 1.0 + (std::f64::consts::PI * share).cos();
        self.floor + 0.5 * (self.peak - self.floor) * wave
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(schedule: Schedule, t: u64, expected: f64) {
        let found = schedule.rate(t);
        let error = (found - expected).abs() / expected;
        assert!(error < 1e-5, "rate({t}) = {found}, expected {expected}");
    }

    /// Oracle O-8: the figures of the 405B run, at the k-th update.
    #[test]
    fn schedule_of_405b() {
        let paper = Schedule { peak: 8e-5, floor: 8e-7, warm_up: 8_000, steps: 1_200_000 };
        check(paper, 60 - 1, 6.0e-7);
        check(paper, 4_000 - 1, 4.0e-5);
        check(paper, 8_000 - 1, 8.0e-5);
        check(paper, 604_000 - 1, 4.04e-5);
        check(paper, 1_200_000 - 1, 8.0e-7);
    }

    #[test]
    fn peak_joins_and_floor_stays() {
        let short = Schedule { peak: 3e-3, floor: 3e-4, warm_up: 8, steps: 40 };
        check(short, 0, 3e-3 / 8.0);
        check(short, 7, 3e-3);
        check(short, 8, 3e-3);
        check(short, 24, 0.5 * (3e-3 + 3e-4));
        check(short, 40, 3e-4);
        check(short, 1_000, 3e-4);
    }

    #[test]
    fn no_warm_up_and_no_cosine() {
        check(Schedule { peak: 1.0, floor: 0.1, warm_up: 0, steps: 10 }, 0, 1.0);
        check(Schedule { peak: 1.0, floor: 0.1, warm_up: 4, steps: 4 }, 3, 1.0);
    }
}
