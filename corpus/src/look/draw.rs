//! Which units are read where there are too many for a look, and what they say of all.
//!
//! Every so-manieth unit of each kind of input, the first among them: units of a kind have about
//! the same bytes, so that the pages of all are to their bytes as those that were counted (the ratio
//! estimate of any book on sampling, with its standard error). Not here: the counting.

use super::Part;
use crate::input::Kind;
use std::collections::BTreeMap;

/// Units that are read; at most [`super::Look::unit`] bytes each, so that a terabyte takes what two
/// hundred megabytes take.
pub(super) const ENOUGH: usize = 24;

/// The draw.
pub(super) struct Draw {
    /// Of so many units one is read.
    stride: usize,
    kinds: BTreeMap<Kind, Drawn>,
}

/// Of the inputs of one kind.
#[derive(Default)]
struct Drawn {
    units: usize,
    bytes: f64,
    /// Bytes of a unit of the input that is being read.
    unit: f64,
    /// Units that were offered.
    offered: usize,
    /// Pages and bytes of those that were read.
    read: Vec<(f64, f64)>,
    seconds: f64,
}

impl Drawn {
    fn read_bytes(&self) -> f64 {
        self.read.iter().map(|(_, bytes)| bytes).sum::<f64>().max(1.0)
    }

    /// Pages a byte.
    fn density(&self) -> f64 {
        self.read.iter().map(|(pages, _)| pages).sum::<f64>() / self.read_bytes()
    }

    /// The variance of the pages that are estimated; one unit says nothing of it, and is taken to
    /// be as far off as it is large.
    fn variance(&self) -> f64 {
        let (n, all) = (self.read.len() as f64, self.units as f64);
        if n >= all {
            return 0.0;
        }
        let density = self.density();
        let square = |(pages, bytes): &(f64, f64)| (pages - density * bytes).powi(2);
        let spread = match self.read.len() {
            1 => self.read[0].0.powi(2),
            _ => self.read.iter().map(square).sum::<f64>() / (n - 1.0),
        };
        all * all * (1.0 - n / all) * spread / n.max(1.0)
    }
}

impl Draw {
    /// Of `units` about `most` are read.
    pub fn new(units: usize, most: usize) -> Draw {
        Draw { stride: units.div_ceil(most.max(1)).max(1), kinds: BTreeMap::new() }
    }

    /// Whether everything is read.
    pub fn is_all(&self) -> bool {
        self.stride == 1
    }

    /// An input of so many units and bytes comes.
    pub fn input(&mut self, kind: Kind, units: usize, bytes: u64) {
        let drawn = self.kinds.entry(kind).or_default();
        drawn.units += units;
        drawn.bytes += bytes as f64;
        drawn.unit = bytes as f64 / units.max(1) as f64;
    }

    /// Whether its next unit is read.
    pub fn takes(&mut self, kind: Kind) -> bool {
        let drawn = self.kinds.entry(kind).or_default();
        drawn.offered += 1;
        (drawn.offered - 1).is_multiple_of(self.stride)
    }

    /// It was, in so many seconds, and held so many pages.
    pub fn read(&mut self, kind: Kind, pages: u64, seconds: f64) {
        let drawn = self.kinds.entry(kind).or_default();
        drawn.read.push((pages as f64, drawn.unit));
        drawn.seconds += seconds;
    }

    /// Pages of inputs of a kind that have so many bytes.
    pub fn pages(&self, kind: Kind, bytes: u64) -> u64 {
        self.kinds.get(&kind).map_or(0, |drawn| (drawn.density() * bytes as f64).round() as u64)
    }

    /// Seconds that reading everything takes.
    pub fn seconds(&self) -> f64 {
        self.kinds.values().map(|drawn| drawn.seconds * drawn.bytes / drawn.read_bytes()).sum()
    }

    /// How the units that were read stand for all; none where they are all.
    pub fn part(&self) -> Option<Part> {
        let pages: f64 = self.kinds.values().map(|drawn| drawn.density() * drawn.bytes).sum();
        let variance: f64 = self.kinds.values().map(Drawn::variance).sum();
        (!self.is_all()).then(|| Part {
            units: self.kinds.values().map(|drawn| drawn.read.len() as u64).sum(),
            of: self.kinds.values().map(|drawn| drawn.units as u64).sum(),
            error: variance.sqrt() / pages.max(1.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs of units with these pages, each of 1,000 bytes; what is estimated of all.
    fn check(most: usize, inputs: &[(Kind, &[u64])], expected: u64, error: f64) -> Draw {
        let mut draw = Draw::new(inputs.iter().map(|(_, units)| units.len()).sum(), most);
        for (kind, units) in inputs {
            draw.input(*kind, units.len(), units.len() as u64 * 1_000);
            for pages in *units {
                if draw.takes(*kind) {
                    draw.read(*kind, *pages, 1.0);
                }
            }
        }
        let found =
            inputs.iter().map(|(kind, units)| draw.pages(*kind, units.len() as u64 * 1_000));
        assert_eq!(found.sum::<u64>(), expected);
        let found = draw.part().map_or(0.0, |part| part.error);
        assert!((found - error).abs() < 1e-9, "{found}");
        draw
    }

    #[test]
    fn few_units_are_counted_and_many_are_estimated() {
        let draw = check(10, &[(Kind::Warc, &[3, 5, 7]), (Kind::Text, &[1])], 16, 0.0);
        assert!(draw.is_all() && draw.part().is_none() && draw.seconds() == 4.0);
        // Of 40 units every tenth: 2, 4, 2, 4 pages, so 3 a unit, and the sum is 120. Its standard
        // error is 40 · √((1 - 4/40) · (4/3) / 4).
        let units: Vec<u64> = (0..40).map(|n| if n / 10 % 2 == 0 { 2 } else { 4 }).collect();
        let error = 40.0 * (0.9f64 * (4.0 / 3.0) / 4.0).sqrt() / 120.0;
        let draw = check(4, &[(Kind::Warc, &units)], 120, error);
        assert_eq!(draw.part().map(|part| (part.units, part.of)), Some((4, 40)));
        assert_eq!(draw.seconds(), 40.0);
        // Over inputs the draw goes on where it was, and each kind has its first unit read.
        check(4, &[(Kind::Warc, &[2; 19]), (Kind::Warc, &[2; 20]), (Kind::Text, &[1])], 79, 0.0);
    }
}
