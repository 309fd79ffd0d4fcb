//! The measures and tolerances of `shared/golden/README.md`, for float32 references; what a model in
//! f64, which differs from such references by up to 6e-7 on logits and 2e-6 on gradients, and one
//! whose weights and activations are bf16 are held to.

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

/// What is computed in, and with it how closely it must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// The reference device.
    F64,
    /// Everything in f32.
    F32,
    /// Weights and activations in bf16.
    Bf16,
}

/// Name, measure, tolerance in f64 and in f32; measure and tolerance in bf16.
type Group5 = (&'static str, Measure, [f64; 2], Measure, f64);

const GROUPS: [Group5; 13] = {
    use Measure::{Largest, Norm, Relative};
    [
        ("logits", Largest, [2e-6, 5e-6], Largest, 3e-2),
        ("grad", Largest, [5e-6, 2e-5], Norm, 3e-2),
        ("loss", Relative, [1e-6, 3e-6], Relative, 2e-3),
        ("losses", Relative, [3e-6, 3e-6], Relative, 2e-3),
        ("grad_norms", Relative, [2e-4, 2e-4], Relative, 3e-2),
        ("lrs", Relative, [1e-7, 1e-7], Relative, 1e-7),
        // of weights that took forty steps; nothing is asked of it in bf16 but that it is close
        ("final", Norm, [1e-4, 1e-4], Norm, 5e-2),
        ("policy_chosen_logprob", Relative, [1e-6, 3e-6], Relative, 1e-2),
        ("policy_rejected_logprob", Relative, [1e-6, 3e-6], Relative, 1e-2),
        ("reference_chosen_logprob", Relative, [1e-6, 3e-6], Relative, 1e-2),
        ("reference_rejected_logprob", Relative, [1e-6, 3e-6], Relative, 1e-2),
        ("preference_loss", Relative, [3e-6, 3e-6], Relative, 1e-2),
        ("nll", Relative, [1e-6, 3e-6], Relative, 1e-2),
    ]
};

fn group(scale: Scale, name: &str) -> (Measure, f64) {
    let Some((_, measure, [f64s, f32s], rough, bf16s)) =
        GROUPS.iter().find(|(group, ..)| *group == name)
    else {
        return (Measure::Exact, 0.0);
    };
    match scale {
        Scale::F64 => (*measure, *f64s),
        Scale::F32 => (*measure, *f32s),
        Scale::Bf16 => (*rough, *bf16s),
    }
}

/// The largest of one group's errors as it is put together.
#[derive(Debug)]
pub(crate) struct Group {
    scale: Scale,
    name: &'static str,
    error: f64,
    worst: String,
}

impl Group {
    pub(crate) fn new(scale: Scale, name: &'static str) -> Group {
        Group { scale, name, error: 0.0, worst: String::new() }
    }

    /// Compares one tensor of the group; both lists are of one length.
    pub(crate) fn compare(mut self, tensor: &str, found: &[f64], expected: &[f64]) -> Group {
        let error = match found.len() == expected.len() {
            true => measure(group(self.scale, self.name).0, found, expected),
            false => f64::INFINITY,
        };
        if error >= self.error || error.is_nan() {
            self.error = if error.is_nan() { f64::INFINITY } else { error };
            self.worst = tensor.into();
        }
        self
    }

    pub(crate) fn row(self) -> Row {
        let (_, tolerance) = group(self.scale, self.name);
        let ok = self.error <= tolerance;
        Row { group: self.name.into(), error: self.error, worst: self.worst, tolerance, ok }
    }
}

/// One group of one tensor.
pub(crate) fn row(scale: Scale, name: &'static str, found: &[f64], expected: &[f64]) -> Row {
    Group::new(scale, name).compare(name, found, expected).row()
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
        let row = row(Scale::F32, name, found, expected);
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
        for scale in [Scale::F64, Scale::F32, Scale::Bf16] {
            assert!(!row(scale, "final", &[f64::NAN], &[1.0]).ok);
        }
    }
}
