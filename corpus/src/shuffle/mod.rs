//! Shuffles: what moves between units of work. Rows of fixed size only, never text.
//!
//! A row is a few `u64` words; rows are compared word by word, and a set of rows is kept as sorted
//! [`run`]s. A [`Plan`] groups rows by their first word and makes new rows of each group. Plans are
//! data, so that the same plan runs here ([`Embedded`]) and as an Apache DataFusion plan (feature
//! `cluster`), with the same rows as result. Results are sets: a row stands in them once.
//!
//! The connected components are those of Kiveris et al. 2014 ("Connected Components in MapReduce
//! and Beyond"): large-star and small-star in turn until nothing changes. Not here: what rows mean.

mod embedded;
mod merge;
pub mod run;

pub use embedded::Embedded;
pub use merge::Merge;
pub use run::{Run, Sorter};

use crate::Error;
use std::path::PathBuf;

/// A set of rows of `width` words each, in sorted runs. The runs may overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// Words of a row.
    pub width: usize,
    /// The files.
    pub paths: Vec<PathBuf>,
}

/// What is made of the groups of rows that have the same first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// `[key, rank …, document]`, two words or more: of each group the first row stays; emits
    /// `[document, document of the first row]` for every other.
    First,
    /// `[key, document]`: emits `[document, key]` for the rows of groups with more rows than this.
    Frequent(u64),
    /// `[key, document]`: emits edges between the first document of each group and every other, in
    /// both directions.
    Star,
    /// Edges in both directions: each `u` ties its larger neighbours to the smallest of its
    /// neighbours and itself; emits `[larger, smaller]`.
    LargeStar,
    /// Edges `[larger, smaller]`: each `u` ties itself and its neighbours to the smallest of them;
    /// emits both directions.
    SmallStar,
    /// Rows of any width: emits them.
    Union,
    /// `[key, part, n, k]`: emits `[key, sum of n, sum of k]`.
    Sum,
}

impl Plan {
    /// Words of a row that it makes of rows of `width` words.
    pub fn width(self, width: usize) -> usize {
        match self {
            Plan::Sum => 3,
            Plan::Union => width,
            _ => 2,
        }
    }

    /// Whether rows of so many words can be its input.
    pub fn takes(self, width: usize) -> bool {
        match self {
            Plan::First | Plan::Union => (2..=4).contains(&width),
            Plan::Sum => width == 4,
            _ => width == 2,
        }
    }
}

/// Something that runs plans.
pub trait Shuffle: Sync {
    /// Runs `plan` over `input` as the stage `name`, which is unique within a run of curation.
    ///
    /// # Errors
    /// Damaged or missing runs; a full disk; a request to stop.
    fn run(&self, name: &str, plan: Plan, input: &Runs) -> Result<Runs, Error>;
}

/// Rounds after which connected components are given up; each round of large and small star at
/// least halves what is unfinished, so that this is beyond any input.
const ROUNDS: usize = 64;

/// The connected components of a graph given by `edges` in both directions: rows `[root, member]`
/// for every member but the root, which is the smallest of its component. The other direction
/// stands in the result as well.
///
/// # Errors
/// As [`Shuffle::run`].
pub fn components(shuffle: &dyn Shuffle, name: &str, edges: Runs) -> Result<Runs, Error> {
    let mut edges = edges;
    let mut before = fingerprint(&edges)?;
    for round in 0..ROUNDS {
        if before.0 == 0 {
            break;
        }
        let large = shuffle.run(&format!("{name}-{round:02}-large"), Plan::LargeStar, &edges)?;
        edges = shuffle.run(&format!("{name}-{round:02}-small"), Plan::SmallStar, &large)?;
        let after = fingerprint(&edges)?;
        if after == before {
            break;
        }
        before = after;
    }
    Ok(edges)
}

/// Number and a sum of hashes of the rows, by which two sets are told apart.
fn fingerprint(rows: &Runs) -> Result<(u64, u64), Error> {
    let (mut count, mut sum) = (0u64, 0u64);
    for row in Merge::<2>::all(rows)? {
        let [a, b] = row?;
        count += 1;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&a.to_le_bytes());
        bytes[8..].copy_from_slice(&b.to_le_bytes());
        sum = sum.wrapping_add(xxhash_rust::xxh3::xxh3_64(&bytes));
    }
    Ok((count, sum))
}
