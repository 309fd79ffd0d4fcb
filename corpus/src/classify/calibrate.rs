//! From scores to probabilities that mean what they say.
//!
//! Platt's method: a logistic curve for each label over the log-odds of examples that were held
//! back, two numbers fitted by Newton's method to targets that leave room for error (Platt 1999;
//! Lin, Lin and Weng 2007). Of isotonic regression it has the order and not the steps, which some
//! hundreds of examples would not carry. Labels are then made to sum to one.

use serde::{Deserialize, Serialize};

/// Slope and shift of the log-odds of each label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration(pub Vec<(f32, f32)>);

/// Nearest to 0 and 1 that a probability is believed.
const EDGE: f64 = 1e-6;
const ROUNDS: usize = 50;

fn odds(probability: f32) -> f64 {
    let p = f64::from(probability).clamp(EDGE, 1.0 - EDGE);
    (p / (1.0 - p)).ln()
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

impl Calibration {
    /// Leaves scores as they are.
    pub fn none(labels: usize) -> Calibration {
        Calibration(vec![(1.0, 0.0); labels])
    }

    /// Fits to the probabilities that examples held back got, and to their labels.
    pub fn fit(probabilities: &[Vec<f32>], truths: &[usize], labels: usize) -> Calibration {
        let curve = |label: usize| {
            let odds: Vec<f64> = probabilities.iter().map(|p| odds(p[label])).collect();
            let truths: Vec<bool> = truths.iter().map(|truth| *truth == label).collect();
            platt(&odds, &truths)
        };
        Calibration((0..labels).map(curve).collect())
    }

    /// Calibrated probabilities.
    pub fn apply(&self, probabilities: &[f32]) -> Vec<f32> {
        let curve = |(p, (slope, shift)): (&f32, &(f32, f32))| {
            logistic(odds(*p) * f64::from(*slope) + f64::from(*shift)) as f32
        };
        let mut out: Vec<f32> = probabilities.iter().zip(&self.0).map(curve).collect();
        let sum: f32 = out.iter().sum();
        out.iter_mut().for_each(|p| *p /= sum.max(f32::MIN_POSITIVE));
        out
    }
}

fn platt(odds: &[f64], truths: &[bool]) -> (f32, f32) {
    let positives = truths.iter().filter(|t| **t).count() as f64;
    let negatives = truths.len() as f64 - positives;
    let (high, low) = ((positives + 1.0) / (positives + 2.0), 1.0 / (negatives + 2.0));
    let target = |truth: bool| if truth { high } else { low };
    let loss = |slope: f64, shift: f64| -> f64 {
        let of = |(x, truth): (&f64, &bool)| {
            let p = logistic(x * slope + shift).clamp(1e-12, 1.0 - 1e-12);
            -target(*truth) * p.ln() - (1.0 - target(*truth)) * (1.0 - p).ln()
        };
        odds.iter().zip(truths).map(of).sum()
    };
    let (mut slope, mut shift) = (1.0, 0.0);
    for _ in 0..ROUNDS {
        let [mut ga, mut gb, mut haa, mut hab, mut hbb] = [0.0, 0.0, 1e-9, 0.0, 1e-9];
        for (x, truth) in odds.iter().zip(truths) {
            let p = logistic(x * slope + shift);
            let (error, weight) = (p - target(*truth), p * (1.0 - p));
            ga += error * x;
            gb += error;
            haa += weight * x * x;
            hab += weight * x;
            hbb += weight;
        }
        let determinant: f64 = haa * hbb - hab * hab;
        if determinant.abs() < 1e-18 || ga.abs().max(gb.abs()) < 1e-9 {
            break;
        }
        let (da, db) = ((hbb * ga - hab * gb) / determinant, (haa * gb - hab * ga) / determinant);
        let before = loss(slope, shift);
        let mut part = 1.0;
        while part > 1e-4 && loss(slope - part * da, shift - part * db) > before {
            part /= 2.0;
        }
        if part <= 1e-4 {
            break;
        }
        (slope, shift) = (slope - part * da, shift - part * db);
    }
    (slope as f32, shift as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Odds that are twice too sure are halved.
    #[test]
    fn a_curve_is_found_again() {
        let (mut probabilities, mut truths) = (Vec::new(), Vec::new());
        for n in 0..20_000 {
            let x = (n % 200) as f64 / 50.0 - 2.0;
            let p = logistic(2.0 * x) as f32;
            probabilities.push(vec![1.0 - p, p]);
            let draw = super::super::linear::draw(1, 2, n) as f64 / u64::MAX as f64;
            truths.push(usize::from(draw < logistic(x + 0.5)));
        }
        let found = Calibration::fit(&probabilities, &truths, 2);
        let (slope, shift) = found.0[1];
        assert!((slope - 0.5).abs() < 0.03 && (shift - 0.5).abs() < 0.06, "{found:?}");
        let p = found.apply(&[0.5, 0.5]);
        assert!((p[0] + p[1] - 1.0).abs() < 1e-6 && (f64::from(p[1]) - logistic(0.5)).abs() < 0.02);
    }

    #[test]
    fn one_kind_of_truth_alone_stays_finite() {
        let found = Calibration::fit(&vec![vec![0.0, 1.0]; 9], &[1; 9], 2);
        assert!(found.0.iter().all(|(a, b)| a.is_finite() && b.is_finite()));
        assert!(found.apply(&[0.0, 1.0]).iter().all(|p| p.is_finite()));
        assert_eq!(Calibration::none(2).apply(&[0.25, 0.75]), [0.25, 0.75]);
    }
}
