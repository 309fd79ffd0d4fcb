//! Near copies: which documents of a cluster go, each verified against the copy that is kept.
//!
//! Documents that share a band are candidates; a cluster is what hangs together by candidates. A
//! chain of similar documents hangs together though its ends have nothing in common, so a cluster
//! is not one document: its documents are taken in the order of their rank, and each goes if the
//! true similarity (Jaccard, of the shingle sets) to one that was kept before reaches the
//! threshold, and is kept otherwise. So nothing is removed that was not compared with the copy that
//! stays, and what is kept depends on no order but the rank: the newest first, then the shortest
//! URL, then the smallest identity.
//!
//! The reference systems keep one document of a connected component unseen; a review of one found
//! two of three such removals wrong (marin#6854). Not here: how clusters are found
//! ([`super::minhash`], [`crate::shuffle`]).

use super::minhash::jaccard;
use std::collections::HashMap;

/// Most kept documents that one document is compared with, those with the most bands in common that
/// are no template's first. Copies share nearly all their bands; this only bounds clusters of thousands that share a
/// band by chance.
const COMPARED: usize = 64;

/// Kept documents that are known by one band, the first by rank: a band that more of them share is
/// their template's, and says nothing of two. Without a bound, a site of a million pages that share
/// more than half of their text would be compared pair by pair.
const KNOWN: usize = 64;

/// A removal: a document, the one that is kept instead, and their similarity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Removal {
    /// Number of the document among the members.
    pub member: usize,
    /// Number of the kept one.
    pub kept: usize,
    /// Their similarity.
    pub similarity: f64,
}

/// Decides a cluster of `members`, in the order of their rank, best first. `bands` reads those of a
/// member, `shingles` its set, sorted: a cluster may have millions of members, of which only those
/// that are kept are remembered.
///
/// # Errors
/// What `bands` and `shingles` bring.
pub fn resolve<E>(
    members: usize,
    threshold: f64,
    mut bands: impl FnMut(usize) -> Result<Vec<u64>, E>,
    mut shingles: impl FnMut(usize) -> Result<std::rc::Rc<Vec<u32>>, E>,
) -> Result<Vec<Removal>, E> {
    let mut kept_by_band: HashMap<u64, Vec<usize>> = HashMap::new();
    let mut removals = Vec::new();
    for member in 0..members {
        let own = bands(member)?;
        // Bands in common: those that few know, and all.
        let mut shared: HashMap<usize, (usize, usize)> = HashMap::new();
        for known in own.iter().filter_map(|band| kept_by_band.get(band)) {
            for kept in known {
                let (few, all) = shared.entry(*kept).or_default();
                *few += usize::from(known.len() < KNOWN);
                *all += 1;
            }
        }
        let mut candidates: Vec<(usize, (usize, usize))> = shared.into_iter().collect();
        candidates.sort_unstable_by_key(|(kept, bands)| (std::cmp::Reverse(*bands), *kept));
        candidates.truncate(COMPARED);
        let mut best: Option<Removal> = None;
        if !candidates.is_empty() {
            let set = shingles(member)?;
            for (kept, _) in candidates {
                let similarity = jaccard(&set, &shingles(kept)?);
                if similarity >= threshold && best.is_none_or(|b| similarity > b.similarity) {
                    best = Some(Removal { member, kept, similarity });
                }
            }
        }
        match best {
            Some(removal) => removals.push(removal),
            None => {
                for band in own {
                    let known = kept_by_band.entry(band).or_default();
                    if known.len() < KNOWN {
                        known.push(member);
                    }
                }
            }
        }
    }
    Ok(removals)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedup::minhash::{Bands, shingles};
    use crate::rules::View;
    use std::convert::Infallible;
    use std::rc::Rc;

    fn removals(texts: &[String], threshold: f64) -> Vec<Removal> {
        let sets: Vec<Rc<Vec<u32>>> =
            texts.iter().map(|t| Rc::new(shingles(&View::of(t, "en", 0), 1))).collect();
        let bands: Vec<Vec<u64>> = sets.iter().map(|s| Bands::default().of(s, 1)).collect();
        resolve(
            sets.len(),
            threshold,
            |n| Ok(bands[n].clone()),
            |n| Ok::<_, Infallible>(sets[n].clone()),
        )
        .unwrap()
    }

    /// A text of 400 words of which those from `from` on are changed.
    fn text(from: usize) -> String {
        let word = |n: usize| if n < from { format!("w{n}") } else { format!("x{from}y{n}") };
        (0..400).map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_copy_goes_and_what_is_only_similar_stays() {
        let found = removals(&[text(400), text(390), text(200)], 0.8);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].member, found[0].kept), (1, 0));
        assert!(found[0].similarity > 0.9 && found[0].similarity < 1.0);
        assert_eq!(removals(&[text(400), text(400)], 1.0).len(), 1);
        assert_eq!(removals(&[text(400), text(390)], 0.99), []);
    }

    /// Ten thousand kept documents that share bands, and copies of the last: found by their own bands,
    /// without a comparison of all with all.
    #[test]
    fn a_template_hides_no_copies() {
        let sets: Vec<Rc<Vec<u32>>> = (0..10_100u32)
            .map(|n| {
                let own = n.min(9_999) * 100;
                Rc::new((0..100).chain(1_000_000 + own..1_000_000 + own + 100).collect())
            })
            .collect();
        let bands: Vec<Vec<u64>> = (0..10_100u64)
            .map(|n| (0..10).chain((0..10).map(|b| 100 + n.min(9_999) * 10 + b)).collect())
            .collect();
        let mut read = 0;
        let found = resolve(
            sets.len(),
            0.8,
            |n| Ok(bands[n].clone()),
            |n| {
                read += 1;
                Ok::<_, Infallible>(sets[n].clone())
            },
        )
        .unwrap();
        assert_eq!(found.len(), 100);
        assert!(found.iter().all(|r| r.kept == 9_999 && r.similarity == 1.0));
        assert!(read <= 10_100 * (COMPARED + 1), "{read} sets read");
    }

    #[test]
    fn a_chain_is_not_one_document() {
        // Each next text has the last eighth of its words in common with the one before only by
        // parts: neighbours are 0.85 alike, the ends are strangers.
        let window = |start: usize| -> String {
            (start..start + 400).map(|n| format!("w{n}")).collect::<Vec<_>>().join(" ")
        };
        let texts: Vec<String> = (0..20).map(|n| window(n * 32)).collect();
        let found = removals(&texts, 0.8);
        assert!(!found.is_empty() && found.len() < 15, "{}", found.len());
        assert!(found.iter().all(|r| r.similarity >= 0.8 && r.kept < r.member));
        let gone: Vec<usize> = found.iter().map(|r| r.member).collect();
        assert!(found.iter().all(|r| !gone.contains(&r.kept)), "the copy is one that stays");
    }
}
