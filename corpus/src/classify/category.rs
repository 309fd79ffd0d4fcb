//! Thinning out fields of knowledge that a crawl has too much of.
//!
//! The paper (§3.1.2) classifies knowledge and then down-samples what is over-represented. A
//! category's share says how much of it stays: documents are dropped by a hash of their id, so that
//! the same documents stay whatever else is in the corpus and a smaller share keeps a part of what
//! a larger one keeps; or all stay and carry the share as their weight, by which the loader draws.

use quipu_documents::Id;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a share is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Thinning {
    /// The rest is removed.
    #[default]
    Drop,
    /// All stay, with the share as weight.
    Weight,
}

/// Shares by category.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shares {
    /// Share that stays, 0 to 1; with [`Thinning::Weight`] any weight from 0 on. Categories that
    /// are not named stay whole.
    pub keep: BTreeMap<String, f64>,
    /// How.
    pub thinning: Thinning,
    /// Seed of the choice.
    pub seed: u64,
}

impl Shares {
    /// Refuses shares that cannot be.
    pub fn validate(&self) -> Result<(), super::Error> {
        let most = if self.thinning == Thinning::Drop { 1.0 } else { f64::MAX };
        match self.keep.iter().find(|(_, share)| !(0.0..=most).contains(*share)) {
            None => Ok(()),
            Some((category, share)) => Err(super::Error::Option {
                key: "keep",
                found: format!("{category} = {share}"),
                expected: "a share from 0 to 1, or with `weight` any number from 0 on",
            }),
        }
    }

    /// The weight of a document of a category; `None` where it goes.
    pub fn weight(&self, id: Id, category: &str) -> Option<f32> {
        let Some(share) = self.keep.get(category) else { return Some(1.0) };
        match self.thinning {
            Thinning::Weight => Some(*share as f32),
            Thinning::Drop => (place(id, self.seed) < *share).then_some(1.0),
        }
    }
}

/// Where an id lies between 0 and 1.
fn place(id: Id, seed: u64) -> f64 {
    let hash = xxhash_rust::xxh3::xxh3_64_with_seed(&id.0.to_le_bytes(), seed);
    (hash >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(share: f64, thinning: Thinning) -> Shares {
        Shares { keep: BTreeMap::from([("arts".to_owned(), share)]), thinning, seed: 7 }
    }

    #[test]
    fn a_share_stays_and_the_same_documents_do() {
        let kept = |share: f64| -> Vec<u128> {
            let shares = shares(share, Thinning::Drop);
            (0..10_000).filter(|n| shares.weight(Id(*n), "arts").is_some()).collect()
        };
        let (small, large) = (kept(0.3), kept(0.6));
        // Four standard deviations of 10,000 draws.
        assert!(small.len().abs_diff(3000) < 184 && large.len().abs_diff(6000) < 196);
        assert!(small.iter().all(|n| large.binary_search(n).is_ok()));
        assert_eq!((kept(0.0).len(), kept(1.0).len()), (0, 10_000));
    }

    #[test]
    fn other_categories_and_weights_stay() {
        assert_eq!(shares(0.0, Thinning::Drop).weight(Id(1), "physics"), Some(1.0));
        assert_eq!(shares(2.5, Thinning::Weight).weight(Id(1), "arts"), Some(2.5));
        assert!(shares(2.5, Thinning::Weight).validate().is_ok());
        let message = shares(2.5, Thinning::Drop).validate().unwrap_err().to_string();
        assert!(message.contains("arts = 2.5"), "{message}");
        assert!(shares(f64::NAN, Thinning::Weight).validate().is_err());
    }
}
