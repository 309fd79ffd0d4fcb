//! Confidence intervals of a share. The paper's is the Gaussian one, 1.96·√(S(1−S)/N) (section
//! 5.1.3; sheet, section 14.1); it says itself that its assumption is wrong, and at shares near 0
//! or 1, where examinations of small models lie, it leaves [0, 1] or has no width. Results here
//! carry Wilson's interval (Wilson 1927), which keeps its 95 % there; the Gaussian half-width
//! stands beside it for comparison with the paper. Not here: which difference matters.

use serde::{Deserialize, Serialize};

/// The 97.5 % quantile of the standard normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// A share with its 95 % interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// How many of `of` are so.
    pub count: usize,
    /// How many there are.
    pub of: usize,
    /// count / of; 0 for none.
    pub value: f64,
    /// Lower end of Wilson's 95 % interval.
    pub low: f64,
    /// Upper end of Wilson's 95 % interval.
    pub high: f64,
    /// Half-width of the paper's Gaussian interval.
    pub gaussian: f64,
}

impl Share {
    /// `count` of `of`. Nothing is known of none: the interval is then all of [0, 1].
    #[must_use]
    pub fn new(count: usize, of: usize) -> Self {
        if of == 0 {
            return Self { high: 1.0, ..Self::default() };
        }
        let n = of as f64;
        let value = count as f64 / n;
        let spread = value * (1.0 - value) / n;
        let middle = value + Z * Z / (2.0 * n);
        let half = Z * (spread + Z * Z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + Z * Z / n;
        Self {
            count,
            of,
            value,
            low: if count == 0 { 0.0 } else { (middle - half) / scale },
            high: if count == of { 1.0 } else { (middle + half) / scale },
            gaussian: 1.96 * spread.sqrt(),
        }
    }

    /// Whether this interval lies wholly above the other.
    #[must_use]
    pub fn above(&self, other: &Self) -> bool {
        self.low > other.high
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = |x: f64| x * 100.0;
        write!(
            f,
            "{:.1} % [{:.1}, {:.1}] ({} of {})",
            percent(self.value),
            percent(self.low),
            percent(self.high),
            self.count,
            self.of
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_of_known_cases() {
        // Newcombe 1998, table I: 81/263, 15/148, 0/20, 1/29.
        for (count, of, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let share = Share::new(count, of);
            assert!((share.low - low).abs() < 1e-4 && (share.high - high).abs() < 1e-4, "{share}");
        }
        assert_eq!((Share::new(0, 0).low, Share::new(0, 0).high), (0.0, 1.0));
        assert_eq!(Share::new(5, 5).high, 1.0);
    }

    /// The paper's own half-widths (sheet, O-10), in percent.
    #[test]
    fn gaussian_of_the_paper() {
        for (share, of, half) in [(0.890, 164, 4.8), (0.572, 1319, 2.7), (0.538, 5000, 1.4)] {
            let count = (share * f64::from(of)).round() as usize;
            let got = Share::new(count, of as usize).gaussian * 100.0;
            assert!((got - half).abs() < 0.05, "{got} {half}");
        }
    }
}
