//! The four axes of the mesh and the map between a rank and its coordinates.
//!
//! What it is: sizes of [TP, CP, PP, DP], innermost first (paper §3.3.2, "Network-aware parallelism
//! configuration"), parsed from `tp=2,dp=4`, and rank = tp + TP·(cp + CP·(pp + PP·dp)).
//! What it is not: a promise that a model runs on every such mesh; the model says which it takes.

use crate::Error;
use std::fmt;

/// One of the four ways to share work, in the paper's order: innermost (most traffic) first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Axis {
    /// Tensor parallelism: a layer's matrices are split over these ranks.
    Tp,
    /// Context parallelism: a sequence is split over these ranks.
    Cp,
    /// Pipeline parallelism: the layers are split over these ranks.
    Pp,
    /// Data parallelism: the batch is split over these ranks.
    Dp,
}

/// The axes in rank order, innermost first.
pub const AXES: [Axis; 4] = [Axis::Tp, Axis::Cp, Axis::Pp, Axis::Dp];

impl Axis {
    /// The name used in recipes, flags and errors.
    pub fn name(self) -> &'static str {
        ["tp", "cp", "pp", "dp"][self as usize]
    }
}

/// The size of each axis; 1 where it is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Axes {
    sizes: [usize; 4],
}

impl Axes {
    /// A mesh of one rank.
    pub const ONE: Axes = Axes { sizes: [1; 4] };

    /// Largest number of ranks that is accepted (more than the paper's 16,384, less than a typing
    /// error).
    pub const MOST_RANKS: usize = 1 << 24;

    /// Sizes in rank order [TP, CP, PP, DP].
    ///
    /// # Errors
    /// A size of zero, or more ranks in all than [`Axes::MOST_RANKS`].
    pub fn new(sizes: [usize; 4]) -> Result<Axes, Error> {
        for (axis, size) in AXES.into_iter().zip(sizes) {
            if size == 0 {
                return Err(Error::AxisSize { axis: axis.name(), found: "0".into() });
            }
        }
        let world = sizes.into_iter().try_fold(1usize, usize::checked_mul);
        match world {
            Some(n) if n <= Axes::MOST_RANKS => Ok(Axes { sizes }),
            _ => Err(Error::TooManyRanks { most: Axes::MOST_RANKS, sizes }),
        }
    }

    /// Only data parallelism, over `dp` ranks.
    ///
    /// # Errors
    /// As [`Axes::new`].
    pub fn data(dp: usize) -> Result<Axes, Error> {
        Axes::new([1, 1, 1, dp])
    }

    /// Reads `tp=1,cp=1,pp=1,dp=2`: any order, axes left out are 1, the empty text is a mesh of
    /// one.
    ///
    /// # Errors
    /// An unknown axis, one given twice, a size that is no number ≥ 1, or too many ranks.
    pub fn parse(text: &str) -> Result<Axes, Error> {
        let mut sizes = [None; 4];
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, size) = part.split_once('=').unwrap_or((part, ""));
            let name = name.trim();
            let Some(axis) = AXES.into_iter().find(|axis| axis.name() == name) else {
                return Err(Error::UnknownAxis { found: name.into() });
            };
            let bad = || Error::AxisSize { axis: axis.name(), found: size.trim().into() };
            let size: usize = size.trim().parse().map_err(|_| bad())?;
            if size == 0 {
                return Err(bad());
            }
            if sizes[axis as usize].replace(size).is_some() {
                return Err(Error::AxisTwice { axis: axis.name() });
            }
        }
        Axes::new(sizes.map(|size| size.unwrap_or(1)))
    }

    /// The size of one axis.
    pub fn size(&self, axis: Axis) -> usize {
        self.sizes[axis as usize]
    }

    /// The number of ranks.
    pub fn world(&self) -> usize {
        self.sizes.iter().product()
    }

    /// The rank at these coordinates (each below its axis's size).
    pub fn rank(&self, at: [usize; 4]) -> usize {
        let [tp, cp, pp, dp] = self.sizes;
        debug_assert!(at.iter().zip(self.sizes).all(|(c, size)| *c < size), "{at:?} in {dp}");
        at[0] + tp * (at[1] + cp * (at[2] + pp * at[3]))
    }

    /// The coordinates of a rank below [`Axes::world`].
    pub fn coordinates(&self, rank: usize) -> [usize; 4] {
        let mut rest = rank;
        self.sizes.map(|size| {
            let at = rest % size;
            rest /= size;
            at
        })
    }

    /// The ranks that differ from `rank` only along `axes`, ascending; `rank` is among them.
    pub fn peers(&self, rank: usize, axes: &[Axis]) -> Vec<usize> {
        let home = self.coordinates(rank);
        let free = |i: usize| axes.iter().any(|axis| *axis as usize == i);
        (0..self.world())
            .filter(|other| {
                let at = self.coordinates(*other);
                (0..4).all(|i| free(i) || at[i] == home[i])
            })
            .collect()
    }
}

impl fmt::Display for Axes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [tp, cp, pp, dp] = self.sizes;
        write!(f, "tp={tp},cp={cp},pp={pp},dp={dp}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, sizes: [usize; 4]) {
        let axes = Axes::parse(text).unwrap();
        assert_eq!(axes.sizes, sizes, "{text}");
        assert_eq!(Axes::parse(&axes.to_string()).unwrap(), axes);
    }

    #[test]
    fn texts_that_are_meshes() {
        check("", [1; 4]);
        check("dp=2", [1, 1, 1, 2]);
        check("tp=1,cp=1,pp=1,dp=2", [1, 1, 1, 2]);
        check(" pp=3 , tp=2,", [2, 1, 3, 1]);
    }

    #[test]
    fn texts_that_are_not() {
        for text in
            ["dp=0", "dp", "dp=-1", "ep=2", "dp=2,dp=2", "dp=two", "dp=99999999999999999999"]
        {
            let error = Axes::parse(text).unwrap_err().to_string();
            assert!(error.contains(text.split(['=', ',']).next().unwrap()), "{text}: {error}");
        }
        assert!(Axes::parse("tp=65536,cp=65536,pp=65536,dp=65536").is_err());
    }

    #[test]
    fn the_papers_rank_order() {
        // O-4: all degrees 2, one coordinate 1
        let axes = Axes::new([2; 4]).unwrap();
        let ones = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]];
        assert_eq!(ones.map(|at| axes.rank(at)), [1, 2, 4, 8]);
        for rank in 0..16 {
            assert_eq!(axes.rank(axes.coordinates(rank)), rank);
        }
    }

    #[test]
    fn peers_differ_only_along_their_axes() {
        let axes = Axes::new([2; 4]).unwrap();
        assert_eq!(axes.peers(0, &[Axis::Tp]), [0, 1]);
        assert_eq!(axes.peers(5, &[Axis::Dp]), [5, 13]);
        assert_eq!(axes.peers(1, &[Axis::Cp, Axis::Dp]), [1, 3, 9, 11]);
        assert_eq!(axes.peers(7, &[]), [7]);
        assert_eq!(axes.peers(0, &AXES).len(), 16);
    }
}
