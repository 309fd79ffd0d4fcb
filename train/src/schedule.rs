//! The learning rate of a step: linear warm-up, then a cosine to a floor (paper, section 3.4.1), a
//! line (section 3.4.3: annealing falls linearly to 0), or nothing. It counts steps, whatever a
//! step's batch is: the ramp of batch sizes ([`crate::ramp`]) counts tokens and changes no rate.

use serde::{Deserialize, Serialize};

/// How the rate falls from its peak to its floor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Curve {
    /// Half a cosine.
    #[default]
    Cosine,
    /// A straight line.
    Linear,
    /// Not at all: the floor is the peak.
    Constant,
}

/// Warm-up and fall. Steps are counted from 0 here: `rate(t)` is used by the update that takes
/// a model with `t` updates behind it to one with `t + 1`.
///
/// The first `warm_up` rates lie on the line from 0, which stands at `t = -1`, so that no update
/// is wasted: `peak · (t + 1) / warm_up`. Then the rate falls from `peak`, which is reached at
/// `t = warm_up`, to `floor` at `t = steps`. That is one step after the last one: of a line to 0
/// the last update has the rate `peak / (steps - warm_up)`, so that it is not wasted either.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// How it falls.
    pub curve: Curve,
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
        let fall = self.peak - self.floor;
        match self.curve {
            Curve::Cosine => {
                let wave = 1.0 + (std::f64::consts::PI * share).cos();
                self.floor + 0.5 * fall * wave
            }
            Curve::Linear => self.floor + fall * (1.0 - share),
            Curve::Constant => self.peak,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(schedule: Schedule, t: u64, expected: f64) {
        let found = schedule.rate(t);
        let error = (found - expected).abs() / expected.max(f64::MIN_POSITIVE);
        assert!(error < 1e-5, "rate({t}) = {found}, expected {expected}");
    }

    const COSINE: Schedule =
        Schedule { curve: Curve::Cosine, peak: 1.0, floor: 0.1, warm_up: 0, steps: 10 };

    /// Oracle O-8: the figures of the 405B run, at the k-th update.
    #[test]
    fn schedule_of_405b() {
        let (peak, floor) = (8e-5, 8e-7);
        let paper = Schedule { peak, floor, warm_up: 8_000, steps: 1_200_000, ..COSINE };
        check(paper, 60 - 1, 6.0e-7);
        check(paper, 4_000 - 1, 4.0e-5);
        check(paper, 8_000 - 1, 8.0e-5);
        check(paper, 604_000 - 1, 4.04e-5);
        check(paper, 1_200_000 - 1, 8.0e-7);
    }

    #[test]
    fn peak_joins_and_floor_stays() {
        let short = Schedule { peak: 3e-3, floor: 3e-4, warm_up: 8, steps: 40, ..COSINE };
        check(short, 0, 3e-3 / 8.0);
        check(short, 7, 3e-3);
        check(short, 8, 3e-3);
        check(short, 24, 0.5 * (3e-3 + 3e-4));
        check(short, 40, 3e-4);
        check(short, 1_000, 3e-4);
    }

    #[test]
    fn no_warm_up_and_no_cosine() {
        check(COSINE, 0, 1.0);
        check(Schedule { warm_up: 4, steps: 4, ..COSINE }, 3, 1.0);
    }

    #[test]
    fn a_line_to_zero_wastes_no_update() {
        let line = Schedule { curve: Curve::Linear, floor: 0.0, warm_up: 4, steps: 24, ..COSINE };
        for (t, expected) in [(0, 0.25), (3, 1.0), (4, 1.0), (14, 0.5), (23, 0.05), (24, 0.0)] {
            check(line, t, expected);
        }
        check(Schedule { floor: 0.5, warm_up: 0, ..line }, 12, 0.75);
    }

    #[test]
    fn a_constant_rate_only_warms_up() {
        let flat = Schedule { curve: Curve::Constant, floor: 1.0, warm_up: 2, ..COSINE };
        for (t, expected) in [(0, 0.5), (1, 1.0), (2, 1.0), (9, 1.0), (1_000, 1.0)] {
            check(flat, t, expected);
        }
    }
}
