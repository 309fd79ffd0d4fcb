//! Which source each sample is of: shares of tokens that change at given samples (paper, sections
//! 3.1.2 and 3.4.1, trap D17), and how often a source may be read. Not what stands in a sample (the
//! `loader`), and not tokens seen or batches, in which a recipe counts (`train`).
//!
//! A sample is of one source, and all samples of a stage have one length, so that shares of
//! samples are shares of tokens. They are dealt in blocks of 10,000: each source has a quota of a
//! block, its samples are spread evenly. At no place of a stage is a source a whole sample ahead of
//! its share, nor, therefore, behind it by as many as there are other sources.
//!
//! A source with a cap gives samples as long as a whole one is left below the cap (a rest that is
//! shorter is not read); from the sample on that it cannot give, a new block deals the others in
//! proportion. All of it is worked out when the course is made, so that a sample's source is still
//! a pure function of its index.

use std::collections::BTreeMap;

use crate::{Error, spelling};

/// The share of each source by tokens; shares are relative, a source that is not named is left out.
#[derive(Debug, Clone, PartialEq)]
pub enum Mix {
    /// All documents as one source: each once an epoch.
    Natural,
    /// By source name.
    Shares(Vec<(String, f64)>),
}

/// A mix, a length, and the sample from which they hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// First sample; the first stage begins at 0.
    pub from: u64,
    /// Tokens of a sample.
    pub length: usize,
    /// The mix.
    pub mix: Mix,
}

/// What is read when, and how often at most.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Course {
    /// Mixes and lengths, ascending.
    pub stages: Vec<Stage>,
    /// By source: how many epochs it is read at most, over all stages.
    pub max_epochs: BTreeMap<String, f64>,
}

impl Course {
    /// All documents, once an epoch, in samples of one length.
    #[must_use]
    pub fn natural(length: usize) -> Self {
        let stages = vec![Stage { from: 0, length, mix: Mix::Natural }];
        Self { stages, max_epochs: BTreeMap::new() }
    }
}

/// That a source is read as often as it may be.
#[derive(Debug, Clone, PartialEq)]
pub struct Spent {
    /// The first sample that it would have given.
    pub sample: u64,
    /// Its name.
    pub source: String,
    /// Its cap.
    pub max_epochs: f64,
}

/// A course, dealt.
#[derive(Debug, Default)]
pub(crate) struct Deal {
    pub(crate) patterns: Vec<Pattern>,
    /// each capped source that ran out, in order
    pub(crate) spent: Vec<Spent>,
    /// the first sample that no source can give
    pub(crate) ends: Option<u64>,
}

/// Which source each sample of a block is of, repeated until the next pattern.
#[derive(Debug)]
pub(crate) struct Pattern {
    pub(crate) from: u64,
    /// tokens of a sample
    pub(crate) length: u64,
    /// (source, how many samples of it stand before in the block)
    block: Vec<(usize, u64)>,
    pub(crate) quotas: Vec<u64>,
    /// pairs of each source that are read before
    before: Vec<u64>,
}

/// Samples in a block: the finest share is one in so many.
const BLOCK: u64 = 10_000;

/// Deals a course out to sources, given with their pairs an epoch.
pub(crate) fn deal(sources: &[(&str, u64)], course: &Course) -> Result<Deal, Error> {
    let mut from = None;
    for stage in &course.stages {
        stage.check(from)?;
        from = Some(stage.from);
    }
    let caps = caps(sources, &course.max_epochs)?;
    let all = course.stages.iter().map(|stage| shares(sources, &stage.mix));
    let all = all.collect::<Result<Vec<_>, _>>()?;
    let (mut deal, mut read) = (Deal::default(), vec![0; sources.len()]);
    for (i, (stage, shares)) in course.stages.iter().zip(all).enumerate() {
        let end = course.stages.get(i + 1).map(|next| next.from);
        deal.stage(stage, shares, end, &caps, &mut read)?;
        if deal.ends.is_some() {
            break;
        }
    }
    for spent in &mut deal.spent {
        spent.max_epochs = course.max_epochs[&spent.source];
    }
    match deal.patterns.is_empty() {
        true if course.stages.is_empty() => refuse("a loader needs at least one mix".to_owned()),
        true => refuse(format!(
            "max_epochs {:?} leave no sample to read; raise them, or prepare more text",
            course.max_epochs
        )),
        false => Ok(deal),
    }
}

impl Stage {
    fn check(&self, last: Option<u64>) -> Result<(), Error> {
        let (from, length) = (self.from, self.length);
        if length == 0 || u32::try_from(length).is_err() {
            return refuse(format!("sequence length {length}: expected 1 to 2^32 - 1"));
        }
        match last {
            None if from == 0 => Ok(()),
            Some(last) if last < from => Ok(()),
            _ => refuse(format!("a mix from sample {from}: stages must begin at 0 and ascend")),
        }
    }
}

impl Deal {
    /// Deals one stage up to sample `end`; `read` is brought forward.
    fn stage(
        &mut self,
        stage: &Stage,
        mut shares: Vec<(String, f64)>,
        end: Option<u64>,
        caps: &[Option<u64>],
        read: &mut Vec<u64>,
    ) -> Result<(), Error> {
        let (mut from, length) = (stage.from, stage.length as u64);
        while end.is_none_or(|end| from < end) {
            let left = |i: usize| caps[i].map(|cap| cap.saturating_sub(read[i]) / length);
            let left: Vec<Option<u64>> = (0..caps.len()).map(left).collect();
            for ((name, share), _) in shares.iter_mut().zip(&left).filter(|(_, l)| **l == Some(0)) {
                let said = self.spent.iter().any(|spent| spent.source == *name);
                if *share > 0.0 && !said {
                    let source = name.clone();
                    self.spent.push(Spent { sample: from, source, max_epochs: 0.0 });
                }
                *share = 0.0;
            }
            if shares.iter().all(|(_, share)| *share == 0.0) {
                self.ends = Some(from);
                return Ok(());
            }
            let pattern = Pattern::new(from, length, quotas(&shares)?, read.clone());
            let short = |i: usize| left[i].and_then(|rows| pattern.sample_of(i, rows));
            let until = (0..caps.len()).filter_map(short).chain(end).min();
            if let Some(until) = until {
                *read = pattern.pairs_before(until);
                from = until;
            }
            self.patterns.push(pattern);
            if until.is_none() {
                break;
            }
        }
        Ok(())
    }
}

impl Pattern {
    fn new(from: u64, length: u64, quotas: Vec<u64>, before: Vec<u64>) -> Self {
        Self { from, length, block: spread(&quotas), quotas, before }
    }

    /// The source of a sample of this pattern, and the first of its pairs.
    pub(crate) fn place(&self, index: u64) -> (usize, u64) {
        let within = index - self.from;
        let (source, rank) = self.block[(within % BLOCK) as usize];
        let row = within / BLOCK * self.quotas[source] + rank;
        (source, self.before[source] + row * self.length)
    }

    /// The sample that is number `row` of a source here, if it gives any.
    fn sample_of(&self, source: usize, row: u64) -> Option<u64> {
        let quota = self.quotas[source];
        let rank = row.checked_rem(quota)?;
        let at = self.block.iter().position(|place| *place == (source, rank))?;
        Some(self.from + row / quota * BLOCK + at as u64)
    }

    /// Pairs of each source that are read before sample `index`, which is of this pattern or the
    /// first one after it.
    pub(crate) fn pairs_before(&self, index: u64) -> Vec<u64> {
        let within = index - self.from;
        let mut rows: Vec<u64> = self.quotas.iter().map(|q| within / BLOCK * q).collect();
        for (source, _) in &self.block[..(within % BLOCK) as usize] {
            rows[*source] += 1;
        }
        self.before.iter().zip(rows).map(|(before, n)| before + n * self.length).collect()
    }
}

fn refuse<T>(reason: String) -> Result<T, Error> {
    Err(Error::Loader { reason })
}

fn place_of(sources: &[(&str, u64)], what: &str, name: &str) -> Result<usize, Error> {
    let known = || sources.iter().map(|(name, _)| *name);
    known().position(|known| known == name).map_or_else(
        || {
            let (all, meant) = (known().collect::<Vec<_>>(), spelling::meant(name, known()));
            refuse(format!("{what} names source {name:?}; there are {all:?}{meant}"))
        },
        Ok,
    )
}

/// How many pairs of each source may be read.
fn caps(
    sources: &[(&str, u64)],
    max_epochs: &BTreeMap<String, f64>,
) -> Result<Vec<Option<u64>>, Error> {
    let mut caps = vec![None; sources.len()];
    for (name, epochs) in max_epochs {
        let at = place_of(sources, "max_epochs", name)?;
        if !(*epochs > 0.0 && epochs.is_finite()) {
            return refuse(format!("source {name:?} has max_epochs {epochs}; expected above 0"));
        }
        caps[at] = Some((sources[at].1 as f64 * epochs) as u64);
    }
    Ok(caps)
}

/// The share of each source, by name.
fn shares(sources: &[(&str, u64)], mix: &Mix) -> Result<Vec<(String, f64)>, Error> {
    let named = |weight: &dyn Fn(u64) -> f64| -> Vec<(String, f64)> {
        sources.iter().map(|(name, pairs)| ((*name).to_owned(), weight(*pairs))).collect()
    };
    let shares = match mix {
        Mix::Natural => named(&|pairs| pairs as f64),
        Mix::Shares(given) => {
            let mut shares = named(&|_| 0.0);
            for (name, share) in given {
                let at = place_of(sources, "the mix", name)?;
                if !share.is_finite() || *share < 0.0 {
                    return refuse(format!(
                        "source {name:?} has share {share}; expected 0 or more"
                    ));
                }
                shares[at].1 += share;
            }
            shares
        }
    };
    let sum: f64 = shares.iter().map(|(_, share)| share).sum();
    match sum.is_finite() && sum > 0.0 {
        true => Ok(shares),
        false => refuse("the mix has no share above 0".to_owned()),
    }
}

/// Samples of each source in a block: largest remainders, at least one for a share above 0.
fn quotas(shares: &[(String, f64)]) -> Result<Vec<u64>, Error> {
    let sum: f64 = shares.iter().map(|(_, share)| share).sum();
    let exact: Vec<f64> = shares.iter().map(|(_, s)| s / sum * BLOCK as f64).collect();
    let floor = |e: &f64| if *e > 0.0 { (e.floor() as u64).max(1) } else { 0 };
    let mut quotas: Vec<u64> = exact.iter().map(floor).collect();
    while quotas.iter().sum::<u64>() != BLOCK {
        let short = quotas.iter().sum::<u64>() < BLOCK;
        let gap = |i: &usize| exact[*i] - quotas[*i] as f64;
        let by_gap = |a: &usize, b: &usize| gap(a).total_cmp(&gap(b)).then(b.cmp(a));
        let candidates = (0..quotas.len()).filter(|&i| exact[i] > 0.0 && (short || quotas[i] > 1));
        let pick = if short { candidates.max_by(by_gap) } else { candidates.min_by(by_gap) };
        match pick {
            Some(i) if short => quotas[i] += 1,
            Some(i) => quotas[i] -= 1,
            None => return refuse(format!("more than {BLOCK} sources in one mix")),
        }
    }
    Ok(quotas)
}

/// Spreads quotas evenly: at each place the source that is farthest behind its share.
fn spread(quotas: &[u64]) -> Vec<(usize, u64)> {
    let mut taken = vec![0_u64; quotas.len()];
    (1..=BLOCK)
        .map(|n| {
            let behind = |i: usize| (quotas[i] * n) as i64 - (taken[i] * BLOCK) as i64;
            let next = (0..quotas.len())
                .filter(|&i| taken[i] < quotas[i])
                .max_by_key(|&i| (behind(i), std::cmp::Reverse(i)))
                .unwrap_or(0);
            taken[next] += 1;
            (next, taken[next] - 1)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SOURCES: [(&str, u64); 3] = [("code", 700), ("mathematics", 300), ("prose", 5_000)];

    fn mix(code: f64, mathematics: f64, prose: f64) -> Mix {
        let named = |name: &str, share| (name.to_owned(), share);
        let all = [("code", code), ("mathematics", mathematics), ("prose", prose)];
        Mix::Shares(all.map(|(name, share)| named(name, share)).into())
    }

    fn capped(stages: Vec<Stage>, caps: &[(&str, f64)]) -> Course {
        let max_epochs = caps.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        Course { stages, max_epochs }
    }

    /// The source of each of the first samples, and the first of its pairs.
    fn places(deal: &Deal, samples: u64) -> Vec<(usize, u64)> {
        let pattern = |index| {
            let after = deal.patterns.partition_point(|p| p.from <= index);
            &deal.patterns[after - 1]
        };
        (0..samples.min(deal.ends.unwrap_or(u64::MAX))).map(|i| pattern(i).place(i)).collect()
    }

    #[track_caller]
    fn check_refused(course: &Course, says: &str) {
        let error = deal(&SOURCES, course).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }

    #[test]
    fn a_spent_source_leaves_its_share_to_the_others_in_proportion() {
        let stages = vec![Stage { from: 0, length: 10, mix: mix(0.5, 0.1, 0.4) }];
        let deal = deal(&SOURCES, &capped(stages, &[("code", 2.0)])).unwrap();
        let found = places(&deal, 1_000);
        let count = |source, samples: &[(usize, u64)]| {
            samples.iter().filter(|(s, _)| *s == source).count() as f64
        };
        let spent = deal.spent[0].sample as usize;
        assert_eq!((deal.spent.len(), &*deal.spent[0].source), (1, "code"));
        assert!((279..=281).contains(&spent), "{spent}");
        assert_eq!(count(0, &found[..spent]), 140.0);
        assert_eq!(count(0, &found[spent..]), 0.0);
        // 0.1 and 0.4 are a fifth and four fifths of what is left.
        let rest = &found[spent..];
        assert!((count(1, rest) - 0.2 * rest.len() as f64).abs() <= 1.0);
        assert_eq!(deal.ends, None);
    }

    #[test]
    fn a_course_may_end() {
        let stages = vec![Stage { from: 0, length: 10, mix: mix(1.0, 1.0, 0.0) }];
        let deal = deal(&SOURCES, &capped(stages, &[("code", 1.0), ("mathematics", 0.5)])).unwrap();
        assert_eq!(deal.ends, Some(70 + 15));
        let names: Vec<&str> = deal.spent.iter().map(|s| &*s.source).collect();
        assert_eq!(names, ["mathematics", "code"]);
        assert_eq!((deal.spent[0].max_epochs, deal.spent[1].sample), (0.5, 85));
    }

    #[test]
    fn courses_that_cannot_be_are_refused() {
        let course =
            |mix| Course { stages: vec![Stage { from: 0, length: 10, mix }], ..Course::natural(1) };
        let stage = |name: &str| course(Mix::Shares(vec![(name.to_owned(), 1.0)]));
        check_refused(&stage("prosa"), "did you mean \"prose\"?");
        check_refused(&stage("xyzzy"), "\"mathematics\"");
        let caps = |caps| capped(course(Mix::Natural).stages, caps);
        check_refused(&caps(&[("cod", 1.0)]), "did you mean \"code\"?");
        check_refused(&caps(&[("code", 0.0)]), "max_epochs 0");
        let all = [("code", 1e-3), ("mathematics", 1e-3), ("prose", 1e-3)];
        check_refused(&caps(&all), "no sample to read");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever the shares, lengths, changes and caps: each source is read without a gap, at
        /// most as often as it may be, and no more than a sample from its share.
        #[test]
        fn every_course_keeps_shares_and_caps(
            shares in prop::collection::vec((1_u32..50, 0_u32..50, 0_u32..50), 1..4),
            lengths in prop::collection::vec(1_usize..40, 3),
            gaps in prop::collection::vec(1_u64..400, 3),
            epochs in prop::collection::vec(1_u32..300, 3),
        ) {
            let mut from = 0;
            let mut stages = Vec::new();
            for (i, (a, b, c)) in shares.iter().enumerate() {
                let mix = mix(f64::from(*a), f64::from(*b), f64::from(*c));
                stages.push(Stage { from, length: lengths[i], mix });
                from += gaps[i];
            }
            let caps: Vec<f64> = epochs.iter().map(|e| f64::from(*e) / 100.0).collect();
            let named = [("code", caps[0]), ("mathematics", caps[1]), ("prose", caps[2])];
            let Ok(deal) = deal(&SOURCES, &capped(stages, &named)) else { return Ok(()) };
            let mut read = [0; 3];
            let mut given = [0_f64; 3];
            for (index, (source, first)) in places(&deal, 1_500).into_iter().enumerate() {
                let after = deal.patterns.partition_point(|p| p.from <= index as u64);
                let pattern = &deal.patterns[after - 1];
                if pattern.from == index as u64 {
                    given = [0.0; 3];
                }
                prop_assert_eq!(first, read[source], "a gap at sample {}", index);
                read[source] += pattern.length;
                given[source] += 1.0;
                let n = (index as u64 - pattern.from + 1) as f64;
                for (i, given) in given.iter().enumerate() {
                    let share = n * pattern.quotas[i] as f64 / BLOCK as f64;
                    let ahead = given - share;
                    prop_assert!((-2.0..1.0).contains(&ahead), "{} of {}", given, share);
                }
                prop_assert_eq!(&pattern.pairs_before(index as u64 + 1)[..], &read[..]);
            }
            for i in 0..3 {
                prop_assert!(read[i] as f64 <= SOURCES[i].1 as f64 * caps[i]);
            }
        }
    }
}
