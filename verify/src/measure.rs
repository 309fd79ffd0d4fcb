//! The measures and tolerances of `shared/golden/README.md`, for float32 references. A float64
//! model differs from such references by up to 6e-7 on logits and 2e-6 on gradients.

/// The result of one group of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What was compared: `logits`, `grad`, `loss`, …
    pub group: String,
    /// The largest error among the tensors of the group, in the group's measure.
    pub error: f64,
    /// Where the group has several tensors: the one with the largest error.
    pub worst: String,
    /// The largest error allowed.
    pub tolerance: f64,
    /// Whether the error is within the tolerance (not a number never is).
    pub ok: bool,
}

/// How a group is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Largest difference ÷ largest magnitude of the expected tensor.
    Largest,
    /// Largest difference relative to each expected number.
    Relative,
    /// L2 norm of the difference ÷ L2 norm of the expected tensor.
    Norm,
    /// Number of places that differ.
    Exact,
}

const GROUPS: [(&str, Measure, f64); 13] = [
    ("logits", Measure::Largest, 5e-6),
    ("grad", Measure::Largest, 2e-5),
    ("loss", Measure::Relative, 3e-6),
    ("losses", Measure::Relative, 3e-6),
    ("grad_norms", Measure::Relative, 2e-4),
    ("lrs", Measure::Relative, 1e-7),
    ("final", Measure::Norm, 1e-4),
    ("policy_chosen_logprob", Measure::Relative, 3e-6),
    ("policy_rejected_logprob", Measure::Relative, 3e-6),
    ("reference_chosen_logprob", Measure::Relative, 3e-6),
    ("reference_rejected_logprob", Measure::Relative, 3e-6),
    ("preference_loss", Measure::Relative, 3e-6),
    ("nll", Measure::Relative, 3e-6),
];

fn group(name: &str) -> (Measure, f64) {
    let found = GROUPS.iter().find(|(group, ..)| *group == name);
    found.map_or((Measure::Exact, 0.0), |(_, measure, tolerance)| (*measure, *tolerance))
}

/// The tolerance of a group by name; 0 for groups that must be exact.
pub fn tolerance(name: &str) -> f64 {
    group(name).1
}

/// The largest of one group's errors as it is put together.
#[derive(Debug)]
pub(crate) struct Group {
    name: &'static str,
    error: f64,
    worst: String,
}

impl Group {
    pub(crate) fn new(name: &'static str) -> Group {
        Group { name, error: 0.0, worst: String::new() }
    }

    /// Compares one tensor of the group; both lists are of one length.
    pub(crate) fn compare(mut self, tensor: &str, found: &[f64], expected: &[f64]) -> Group {
        let error = match found.len() == expected.len() {
            true => measure(group(self.name).0, found, expected),
            false => f64::INFINITY,
        };
        if error >= self.error || error.is_nan() {
            self.error = if error.is_nan() { f64::INFINITY } else { error };
            self.worst = tensor.into();
        }
        self
    }

    pub(crate) fn row(self) -> Row {
        let tolerance = tolerance(self.name);
        let ok = self.error <= tolerance;
        Row { group: self.name.into(), error: self.error, worst: self.worst, tolerance, ok }
    }
}

/// One group of one tensor.
pub(crate) fn row(name: &'static str, found: &[f64], expected: &[f64]) -> Row {
    Group::new(name).compare(name, found, expected).row()
}

fn measure(measure: Measure, found: &[f64], expected: &[f64]) -> f64 {
    let pairs = || found.iter().zip(expected);
    // a difference that is no number is the largest of all
    let largest = |errors: &mut dyn Iterator<Item = f64>| {
        errors.fold(0.0, |most: f64, e| if e.is_nan() { f64::INFINITY } else { most.max(e) })
    };
    let over = |error: f64, size: f64| if error == 0.0 { 0.0 } else { error / size };
    match measure {
        Measure::Largest => {
            let error = largest(&mut pairs().map(|(a, b)| (a - b).abs()));
            over(error, largest(&mut expected.iter().map(|x| x.abs())))
        }
        Measure::Relative => largest(&mut pairs().map(|(a, b)| over((a - b).abs(), b.abs()))),
        Measure::Norm => {
            let error: f64 = pairs().map(|(a, b)| (a - b).powi(2)).sum();
            let size: f64 = expected.iter().map(|x| x.powi(2)).sum();
            over(error.sqrt(), size.sqrt())
        }
        Measure::Exact => pairs().filter(|(a, b)| a != b).count() as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &'static str, found: &[f64], expected: &[f64], error: f64, ok: bool) {
        let row = row(name, found, expected);
        assert!((row.error - error).abs() <= 1e-12 * error || row.error == error, "{row:?}");
        assert_eq!(row.ok, ok, "{row:?}");
    }

    #[test]
    fn measures_by_hand() {
        check("logits", &[1.0, -4.0], &[1.0, -4.0], 0.0, true);
        check("logits", &[1.5, -4.0], &[1.0, -4.0], 0.125, false);
        check("losses", &[1.5, -4.0], &[1.0, -4.0], 0.5, false);
        check("final", &[3.0, 4.0], &[0.0, 4.0], 0.75, false);
        check("output", &[3.0, 4.0], &[3.0, 5.0], 1.0, false);
        check("output", &[3.0, 5.0], &[3.0, 5.0], 0.0, true);
        check("lrs", &[1.0 + 5e-8], &[1.0], 4.9999999918171056e-8, true);
    }

    #[test]
    fn what_is_no_number_is_never_ok() {
        for found in [f64::NAN, f64::INFINITY] {
            check("logits", &[found, 1.0], &[1.0, 1.0], f64::INFINITY, false);
            check("loss", &[found], &[1.0], f64::INFINITY, false);
        }
        check("grad", &[1.0], &[1.0, 2.0], f64::INFINITY, false);
        assert!(!row("final", &[f64::NAN], &[1.0]).ok);
    }
}
