//! Direct preference optimisation as the paper does it (section 4.1.4): formatting tokens do not
//! count in the preference term, and a likelihood term holds up the chosen answer. The arithmetic
//! on log-probabilities alone, no model in it: whoever holds the log-probabilities of both models
//! (a stage, or the referee) asks here for the loss and for its gradient.
//!
//! For a pair with z = β·[(c − c₀) − (r − r₀)], where c and r are the sums of log-probabilities of
//! the counted tokens of chosen and rejected answer under the policy, c₀ and r₀ under the frozen
//! reference:
//!
//! loss = −ln σ(z) + α·n, with n the mean negative log-likelihood of the chosen answer's tokens.
//!
//! Not told by the paper and chosen here (its traps in section 11.5 of the fact sheet): the
//! likelihood term is per token, and it may keep tokens that the preference term drops (the end
//! of the turn), which nothing else would train.

/// The two weights of the loss.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Weights {
    /// β: how far the policy may go from the reference.
    pub beta: f64,
    /// α: weight of the likelihood term.
    pub likelihood: f64,
}

impl Default for Weights {
    /// As in the paper: 0.1 and 0.2.
    fn default() -> Self {
        Self { beta: 0.1, likelihood: 0.2 }
    }
}

/// An answer under the policy. All slices have one entry a token of the row; entry t belongs to
/// the prediction of token t + 1.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// Log-probabilities under the policy, nats.
    pub logps: &'a [f64],
    /// Whether the token counts in the preference term.
    pub preference: &'a [bool],
    /// Whether the token counts in the likelihood term (read of the chosen answer only).
    pub likelihood: &'a [bool],
    /// Sum of the log-probabilities that `preference` counts, under the reference.
    pub reference: f64,
}

/// What a pair costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// −ln σ(z).
    pub preference: f64,
    /// Mean negative log-likelihood of the chosen answer per token, nats.
    pub nll: f64,
    /// The preference term plus the weighted likelihood term.
    pub total: f64,
    /// z ÷ β: how much further the policy prefers the chosen answer than the reference does, nats.
    pub margin: f64,
}

/// Sum of the counted log-probabilities, in f64 and in order.
#[must_use]
pub fn masked_sum(logps: &[f64], mask: &[bool]) -> f64 {
    logps.iter().zip(mask).filter(|(_, m)| **m).map(|(l, _)| l).sum()
}

/// The loss of one pair, and for each token of the chosen and of the rejected answer the weight
/// w_t with which the gradient of Σ w_t·logp_t is the gradient of `total` ÷ `batch`.
///
/// `batch`: pairs of the step over all ranks, for the loss is their mean.
#[must_use]
pub fn loss_and_weights(
    chosen: Answer<'_>,
    rejected: Answer<'_>,
    batch: usize,
    weights: Weights,
) -> (Loss, Vec<f64>, Vec<f64>) {
    let sum_chosen = masked_sum(chosen.logps, chosen.preference);
    let sum_rejected = masked_sum(rejected.logps, rejected.preference);
    let margin = (sum_chosen - chosen.reference) - (sum_rejected - rejected.reference);
    let z = weights.beta * margin;
    let preference = softplus(-z);
    let count = chosen.likelihood.iter().filter(|l| **l).count() as f64;
    let nll = match count > 0.0 {
        true => -masked_sum(chosen.logps, chosen.likelihood) / count,
        false => 0.0,
    };
    let share = 1.0 / batch.max(1) as f64;
    let pull = weights.beta * sigmoid(-z) * share;
    let hold = if count > 0.0 { weights.likelihood / count * share } else { 0.0 };
    let on = |weight: f64, counts: bool| if counts { weight } else { 0.0 };
    let both = chosen.preference.iter().zip(chosen.likelihood);
    let of_chosen = both.map(|(&p, &l)| -(on(pull, p) + on(hold, l))).collect();
    let of_rejected = rejected.preference.iter().map(|&p| on(pull, p)).collect();
    let total = preference + weights.likelihood * nll;
    (Loss { preference, nll, total, margin }, of_chosen, of_rejected)
}

/// ln(1 + eˣ) without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn sigmoid(x: f64) -> f64 {
    match x >= 0.0 {
        true => 1.0 / (1.0 + (-x).exp()),
        false => x.exp() / (1.0 + x.exp()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHOSEN: [f64; 5] = [-0.5, -1.25, -2.0, -0.125, -3.0];
    const REJECTED: [f64; 4] = [-0.75, -2.5, -1.5, -0.25];
    const KEPT_CHOSEN: [bool; 5] = [false, true, true, true, false];
    const WITH_END: [bool; 5] = [false, true, true, true, true];
    const KEPT_REJECTED: [bool; 4] = [false, true, true, false];

    fn pair(chosen: &[f64], rejected: &[f64], batch: usize) -> (Loss, Vec<f64>, Vec<f64>) {
        let chosen = Answer {
            logps: chosen,
            preference: &KEPT_CHOSEN,
            likelihood: &WITH_END,
            reference: -3.0,
        };
        let rejected = Answer {
            logps: rejected,
            preference: &KEPT_REJECTED,
            likelihood: &KEPT_REJECTED,
            reference: -4.5,
        };
        loss_and_weights(chosen, rejected, batch, Weights::default())
    }

    #[test]
    fn loss_by_hand() {
        let (loss, ..) = pair(&CHOSEN, &REJECTED, 1);
        let margin: f64 = (-3.375 + 3.0) - (-4.0 + 4.5);
        assert!((loss.margin - margin).abs() < 1e-12);
        assert!((loss.preference - (1.0 + (-0.1 * margin).exp()).ln()).abs() < 1e-12);
        assert!((loss.nll - 6.375 / 4.0).abs() < 1e-12);
        assert!((loss.total - loss.preference - 0.2 * loss.nll).abs() < 1e-15);
    }

    #[test]
    fn weights_are_the_derivative() {
        let (_, chosen, rejected) = pair(&CHOSEN, &REJECTED, 3);
        let step = 1.0 / 64.0;
        let total = |c: &[f64], r: &[f64]| pair(c, r, 3).0.total / 3.0;
        for t in 0..CHOSEN.len() {
            let (mut up, mut down) = (CHOSEN, CHOSEN);
            (up[t], down[t]) = (up[t] + step, down[t] - step);
            let slope = (total(&up, &REJECTED) - total(&down, &REJECTED)) / (2.0 * step);
            assert!((slope - chosen[t]).abs() < 1e-7, "{t}: {slope} {}", chosen[t]);
        }
        for t in 0..REJECTED.len() {
            let (mut up, mut down) = (REJECTED, REJECTED);
            (up[t], down[t]) = (up[t] + step, down[t] - step);
            let slope = (total(&CHOSEN, &up) - total(&CHOSEN, &down)) / (2.0 * step);
            assert!((slope - rejected[t]).abs() < 1e-7, "{t}: {slope}");
        }
    }

    /// Oracle O-13: a pair that differs in the last terminator only costs ln 2, and what pulls at
    /// a token of the chosen answer pushes at the same token of the rejected one.
    #[test]
    fn a_pair_that_differs_in_the_terminator_teaches_no_preference() {
        let mask = [false, true, true, false];
        let answer = |logps| Answer {
            logps,
            preference: &mask,
            likelihood: &mask,
            reference: masked_sum(&[-0.5, -1.0, -2.0, -9.0], &mask),
        };
        let only = Weights { likelihood: 0.0, ..Weights::default() };
        let (loss, chosen, rejected) = loss_and_weights(
            answer(&[-0.25, -1.5, -0.75, -0.5]),
            answer(&[-0.25, -1.5, -0.75, -6.0]),
            1,
            only,
        );
        assert_eq!(loss.preference, std::f64::consts::LN_2);
        assert!(chosen.iter().zip(&rejected).all(|(c, r)| c + r == 0.0));
        assert_eq!((chosen[3], rejected[3]), (0.0, 0.0));
    }

    #[test]
    fn far_margins_stay_finite() {
        let (loss, chosen, _) = pair(&[-1e6; 5], &REJECTED, 1);
        assert!(loss.total.is_finite() && chosen.iter().all(|w| w.is_finite()));
        assert!((chosen[1] + 0.1 + 0.05).abs() < 1e-6);
    }
}
