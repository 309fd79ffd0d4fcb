//! From logits to a token: the largest, or a draw at a temperature among the smallest set that
//! holds a share of the probability (top-p). The random number of a draw is a function of (seed,
//! sequence, position), so a reply does not depend on what else was generated beside it. Not here:
//! penalties and grammars.

use quipu_math::Random;

/// How a token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the largest.
    pub temperature: f64,
    /// Draw among the most likely tokens that together have this share; 1 for all.
    pub top_p: f64,
    /// Seed of the draws.
    pub seed: u64,
}

impl Sampling {
    /// Always the most likely token.
    #[must_use]
    pub fn greedy() -> Self {
        Self { temperature: 0.0, top_p: 1.0, seed: 0 }
    }

    /// What is wrong with it: name, value, what it may be.
    pub(crate) fn fault(&self) -> Option<(&'static str, f64, &'static str)> {
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return Some(("temperature", self.temperature, "0 or more"));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Some(("top_p", self.top_p, "above 0, at most 1"));
        }
        None
    }

    /// The token that follows: `sequence` and `position` address the random number. `None` when
    /// the logits are not numbers.
    #[must_use]
    pub fn choose(&self, logits: &[f64], sequence: u64, position: u64) -> Option<u32> {
        let (best, top) = largest(logits)?;
        if self.temperature == 0.0 {
            return Some(best);
        }
        let mut weights: Vec<(f64, u32)> = logits
            .iter()
            .enumerate()
            .map(|(id, logit)| (((logit - top) / self.temperature).exp(), id as u32))
            .collect();
        let total: f64 = weights.iter().map(|(w, _)| w).sum();
        let mut share = total;
        if self.top_p < 1.0 {
            // Most likely first; equals by id, so that the order is one and the same.
            weights.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            share = 0.0;
            let enough = weights.iter().position(|(w, _)| {
                share += w;
                share >= self.top_p * total
            });
            weights.truncate(enough.map_or(weights.len(), |at| at + 1));
        }
        let mut left = Random::new(self.seed, sequence).uniform(position) * share;
        for (weight, id) in &weights {
            left -= weight;
            if left < 0.0 {
                return Some(*id);
            }
        }
        // Rounding may leave a crumb behind the last.
        weights.iter().rev().find(|(w, _)| *w > 0.0).map(|(_, id)| *id)
    }
}

/// The first of the largest logits; `None` where any is not a number.
fn largest(logits: &[f64]) -> Option<(u32, f64)> {
    let mut best: Option<(u32, f64)> = None;
    for (id, &logit) in logits.iter().enumerate() {
        if logit.is_nan() || logit == f64::INFINITY {
            return None;
        }
        if best.is_none_or(|(_, top)| logit > top) {
            best = Some((id as u32, logit));
        }
    }
    best.filter(|(_, top)| top.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(sampling: Sampling, logits: &[f64], draws: u64) -> Vec<f64> {
        let mut counts = vec![0.0; logits.len()];
        for position in 0..draws {
            counts[sampling.choose(logits, 3, position).unwrap() as usize] += 1.0 / draws as f64;
        }
        counts
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        assert_eq!(Sampling::greedy().choose(&[1.0, 3.0, 3.0], 0, 0), Some(1));
        assert_eq!(Sampling::greedy().choose(&[f64::NAN, 3.0], 0, 0), None);
        assert_eq!(Sampling::greedy().choose(&[f64::NEG_INFINITY; 2], 0, 0), None);
        assert_eq!(Sampling::greedy().choose(&[], 0, 0), None);
    }

    #[test]
    fn draws_follow_the_distribution() {
        let logits = [0.5_f64.ln(), 0.3_f64.ln(), 0.2_f64.ln()];
        let all = Sampling { temperature: 1.0, top_p: 1.0, seed: 1 };
        let got = shares(all, &logits, 20_000);
        assert!((got[0] - 0.5).abs() < 0.02 && (got[2] - 0.2).abs() < 0.02, "{got:?}");
        let nucleus = shares(Sampling { top_p: 0.7, ..all }, &logits, 20_000);
        assert!((nucleus[0] - 0.625).abs() < 0.02 && nucleus[2] == 0.0, "{nucleus:?}");
        let cold = shares(Sampling { temperature: 0.5, ..all }, &logits, 20_000);
        assert!((cold[0] - 0.25 / 0.38).abs() < 0.02, "{cold:?}");
        let tiny = shares(Sampling { top_p: 1e-9, ..all }, &logits, 100);
        assert_eq!(tiny[0].round(), 1.0);
    }

    #[test]
    fn a_draw_is_a_function_of_its_address() {
        let sampling = Sampling { temperature: 1.0, top_p: 0.9, seed: 9 };
        let logits: Vec<f64> = (0..50).map(|i| f64::from(i % 7)).collect();
        let draw = |sequence, position| sampling.choose(&logits, sequence, position);
        assert_eq!(draw(1, 2), draw(1, 2));
        assert!((0..50).any(|p| draw(1, p) != draw(2, p)));
    }
}
