//! Figures of what was kept and what went, from which the report draws its pictures.
//!
//! Each output file has its own, and they add up in the order of the files, so that they depend on
//! nothing but the documents. Their size is bounded: histograms have fixed grids, and of hosts and
//! lines a file names those with the most documents and counts the rest together ([`Tally`]). Not
//! here: the pictures.

use crate::summary::Excerpt;
use quipu_documents::Document;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Names that a tally of one file keeps.
const NAMED: usize = 512;
/// Names that a finished tally keeps, by documents kept and by documents removed.
const SHOWN: usize = 40;
/// Clusters that a finished summary shows, of each kind.
const CLUSTERS: usize = 6;
/// Copies that a cluster shows.
const COPIES: usize = 3;
/// Kept documents that a rule shows as its near misses.
const NEAR: usize = 4;

/// Figures of one file, or of all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// Words of the documents kept.
    pub words: Histogram,
    /// Confidence in the language of the documents kept.
    pub language: Histogram,
    /// Their scores, by name.
    pub scores: BTreeMap<String, Histogram>,
    /// What each rule measured of the documents that it removed.
    pub measured: BTreeMap<String, Histogram>,
    /// Similarity of near copies to the copy that was kept.
    pub similarity: Histogram,
    /// Documents by host.
    pub hosts: Tally,
    /// Lines that were removed, by their text.
    pub lines: Tally,
    /// The copies kept of which most near copies were removed.
    pub largest: Vec<Cluster>,
    /// The near copies that are least like the copy kept.
    pub doubtful: Vec<Cluster>,
    /// Of some kept documents those that a rule nearly removed, nearest first: by what share its
    /// threshold would be stricter, and the document with what the rule measured; by rule.
    pub near: BTreeMap<String, Vec<(f32, Excerpt)>>,
}

/// How many were kept and how many removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Count {
    /// Kept.
    pub kept: u64,
    /// Removed.
    pub removed: u64,
}

impl Count {
    fn add(&mut self, other: Count) {
        self.kept += other.kept;
        self.removed += other.removed;
    }
}

/// Counts by name, of which only so many are named: those that count most, then by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// By name.
    pub named: BTreeMap<String, Count>,
    /// All further names together.
    pub others: Count,
    /// Whether a file, or several together, had more names than were kept: what they left out is
    /// among the others, and counts of names are lower bounds.
    pub bounded: bool,
}

impl Tally {
    fn add(&mut self, name: &str, count: Count) {
        match self.named.get_mut(name) {
            Some(sum) => sum.add(count),
            None => {
                self.named.insert(name.to_owned(), count);
            }
        }
    }

    fn merge(&mut self, other: &Tally) {
        other.named.iter().for_each(|(name, count)| self.add(name, *count));
        self.others.add(other.others);
        self.bounded |= other.bounded;
        if self.named.len() > 8 * NAMED {
            self.bound(4 * NAMED);
        }
    }

    /// As [`Tally::keep`], where more is added afterwards.
    fn bound(&mut self, most: usize) {
        let before = self.named.len();
        self.keep(most);
        self.bounded |= self.named.len() < before;
    }

    /// Names the `most` that count most, and as many again that were removed most.
    fn keep(&mut self, most: usize) {
        if self.named.len() <= most {
            return;
        }
        let mut by_removed: Vec<(&String, &Count)> = self.named.iter().collect();
        let mut by_kept = by_removed.clone();
        by_kept.sort_by_key(|(name, count)| (Reverse(count.kept), *name));
        by_removed.sort_by_key(|(name, count)| (Reverse(count.removed), *name));
        let chosen = by_kept.into_iter().take(most).chain(by_removed.into_iter().take(most));
        let chosen: BTreeMap<String, Count> = chosen.map(|(n, c)| (n.clone(), *c)).collect();
        for (name, count) in &self.named {
            if !chosen.contains_key(name) {
                self.others.add(*count);
            }
        }
        self.named = chosen;
    }
}

/// How often values fall between the marks of a fixed grid: hundredths from 0 to 1, quarters of a
/// doubling above 1, and the same below 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Histogram {
    /// Counts by number of the step.
    pub steps: BTreeMap<i32, u64>,
    /// Sum of the counts.
    pub count: u64,
    /// The least value.
    pub least: f64,
    /// The greatest value.
    pub most: f64,
}

/// Steps from 0 to 1.
const FINE: i32 = 100;

/// Fourth roots of 2, of 4 and of 8.
const QUARTERS: [f64; 3] = [1.189_207_115_002_721, std::f64::consts::SQRT_2, 1.681_792_830_507_429];

/// The step of a value that is at least 0.
fn step_of(value: f64) -> i32 {
    if value <= 1.0 {
        // A share that came through 32 bits may lie a little below its hundredth.
        return ((value * f64::from(FINE) + 1e-6) as i32).min(FINE - 1);
    }
    // The doublings from the bits of the number, so that every machine finds the same step.
    let doublings = ((value.to_bits() >> 52) & 0x7ff) as i32 - 1023;
    let rest = f64::from_bits((value.to_bits() & ((1 << 52) - 1)) | (1023 << 52));
    let quarter = QUARTERS.iter().filter(|mark| rest >= **mark).count() as i32;
    FINE + 4 * doublings + quarter
}

/// The value at which a step begins.
fn begin_of(step: i32) -> f64 {
    match step - FINE {
        above @ 0.. => 2f64.powf(f64::from(above) / 4.0),
        _ => f64::from(step) / f64::from(FINE),
    }
}

impl Histogram {
    /// Counts a value.
    pub fn add(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        let step = if value < 0.0 { -1 - step_of(-value) } else { step_of(value) };
        *self.steps.entry(step).or_default() += 1;
        let first = self.count == 0;
        self.least = if first { value } else { self.least.min(value) };
        self.most = if first { value } else { self.most.max(value) };
        self.count += 1;
    }

    fn merge(&mut self, other: &Histogram) {
        if other.count == 0 {
            return;
        }
        let first = self.count == 0;
        self.least = if first { other.least } else { self.least.min(other.least) };
        self.most = if first { other.most } else { self.most.max(other.most) };
        self.count += other.count;
        other.steps.iter().for_each(|(step, n)| *self.steps.entry(*step).or_default() += n);
    }

    /// Whether all values lie from 0 to 1, so that a linear axis suits.
    pub fn is_share(&self) -> bool {
        self.least >= 0.0 && self.most <= 1.0
    }

    /// At most `most` bars of equal width on the grid: where each begins and ends, and its count.
    pub fn bars(&self, most: usize) -> Vec<(f64, f64, u64)> {
        let (Some((first, _)), Some((last, _))) =
            (self.steps.first_key_value(), self.steps.last_key_value())
        else {
            return Vec::new();
        };
        // Where values pass 1 the axis has doublings, and what is below 1 is one step of it.
        let coarse = |step: i32| match step {
            _ if self.is_share() => step,
            0..FINE => FINE - 1,
            step if (-FINE..0).contains(&step) => FINE - 2,
            step if step < 0 => step + 2 * FINE - 2,
            step => step,
        };
        let (first, last) = (coarse(*first), coarse(*last));
        let span = (last - first + 1) as usize;
        // Of shares the widths divide the whole, of doublings they are doublings.
        let widths: &[usize] = match self.is_share() {
            true => &[1, 2, 4, 5, 10, 20, 25, 50, 100],
            false => &[1, 2, 4, 8, 16, 32, 64, 128, 256, 4096],
        };
        let width = widths.iter().find(|w| span.div_ceil(**w) <= most).map_or(span, |w| *w) as i32;
        let origin = FINE + (first - FINE).div_euclid(width) * width;
        let mut counts = vec![0; ((last - origin) / width + 1) as usize];
        for (step, n) in &self.steps {
            counts[((coarse(*step) - origin) / width) as usize] += n;
        }
        let edge = |step: i32| match step {
            _ if self.is_share() => begin_of(step),
            step if step >= FINE => begin_of(step),
            step if step == FINE - 1 => 0.0,
            step => -begin_of(2 * FINE - 2 - step),
        };
        // Below 1 the steps are no doublings, so that the first bar begins where the values do.
        let least = if self.is_share() { origin } else { first };
        let bar = |(n, count): (usize, u64)| {
            let from = origin + n as i32 * width;
            (edge(from.max(least)), edge(from + width), count)
        };
        counts.into_iter().enumerate().map(bar).collect()
    }
}

/// A copy that was kept, and near copies that were not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// The copy kept.
    pub kept: Excerpt,
    /// Near copies of it that were removed, in the files that name the cluster.
    pub removed: u64,
    /// Those of them that are least like it; their value is the similarity.
    pub copies: Vec<Excerpt>,
}

/// Least like first.
fn least_alike(a: &Excerpt, b: &Excerpt) -> std::cmp::Ordering {
    a.value.total_cmp(&b.value).then_with(|| a.id.cmp(&b.id))
}

/// Keeps the nearest, by identity where they are as near.
fn nearest(all: &mut Vec<(f32, Excerpt)>) {
    all.sort_by(|(a, one), (b, other)| a.total_cmp(b).then_with(|| one.id.cmp(&other.id)));
    all.truncate(NEAR);
}

/// The clusters that a file shows: the largest, and those with the least similar pair; by the
/// number of the copy kept, with the near copies of each.
pub(crate) fn chosen(removals: Vec<(u64, Excerpt)>) -> [Vec<(u64, Cluster)>; 2] {
    let mut clusters: BTreeMap<u64, Cluster> = BTreeMap::new();
    for (kept, copy) in removals {
        let cluster = clusters.entry(kept).or_default();
        cluster.removed += 1;
        cluster.copies.push(copy);
        cluster.copies.sort_by(least_alike);
        cluster.copies.truncate(COPIES);
    }
    let mut largest: Vec<(u64, Cluster)> = clusters.into_iter().collect();
    let mut doubtful = largest.clone();
    doubtful.sort_by(|a, b| least_alike(&a.1.copies[0], &b.1.copies[0]));
    doubtful.truncate(CLUSTERS);
    doubtful.iter_mut().for_each(|(_, cluster)| cluster.copies.truncate(1));
    largest.sort_by_key(|(kept, cluster)| (Reverse(cluster.removed), *kept));
    largest.truncate(CLUSTERS);
    [largest, doubtful]
}

/// The host of a canonical URL; `None` of what is no URL.
pub fn host(url: &str) -> Option<&str> {
    let rest = url.split_once("://")?.1;
    let host = rest.split(['/', '?', '#', ':']).next()?;
    (!host.is_empty()).then_some(host)
}

impl Figures {
    /// Counts a document that was kept.
    pub(crate) fn kept(&mut self, document: &Document) {
        self.language.add(f64::from(document.language_score));
        for (name, value) in &document.scores {
            let value = f64::from(*value);
            match name.as_str() {
                "words" => self.words.add(value),
                _ => self.scores.entry(name.clone()).or_default().add(value),
            }
        }
        if let Some(host) = host(&document.url) {
            self.hosts.add(host, Count { kept: 1, removed: 0 });
        }
    }

    /// Counts a document that was removed.
    pub(crate) fn removed(&mut self, rule: &str, url: &str, value: f64) {
        if let Some(host) = host(url) {
            self.hosts.add(host, Count { kept: 0, removed: 1 });
        }
        self.measured.entry(rule.to_owned()).or_default().add(value);
    }

    /// Counts a line that was removed.
    pub(crate) fn line(&mut self, text: &str) {
        self.lines.add(text, Count { kept: 0, removed: 1 });
    }

    /// Counts a kept document among the near misses of a rule.
    pub(crate) fn near(&mut self, rule: &str, margin: f32, document: Excerpt) {
        let all = self.near.entry(rule.to_owned()).or_default();
        all.push((margin, document));
        nearest(all);
    }

    /// What one file names of hosts and lines.
    pub(crate) fn bound(&mut self) {
        self.hosts.bound(NAMED);
        self.lines.bound(NAMED);
    }

    /// Adds those of the next file.
    pub(crate) fn merge(&mut self, other: &Figures) {
        self.words.merge(&other.words);
        self.language.merge(&other.language);
        self.similarity.merge(&other.similarity);
        for (own, others) in
            [(&mut self.scores, &other.scores), (&mut self.measured, &other.measured)]
        {
            others.iter().for_each(|(name, h)| own.entry(name.clone()).or_default().merge(h));
        }
        self.hosts.merge(&other.hosts);
        self.lines.merge(&other.lines);
        for cluster in &other.largest {
            match self.largest.iter_mut().find(|own| own.kept.id == cluster.kept.id) {
                Some(own) => {
                    own.removed += cluster.removed;
                    own.copies.extend(cluster.copies.iter().cloned());
                    own.copies.sort_by(least_alike);
                    own.copies.truncate(COPIES);
                }
                None => self.largest.push(cluster.clone()),
            }
        }
        self.doubtful.extend(other.doubtful.iter().cloned());
        self.doubtful.sort_by(|a, b| least_alike(&a.copies[0], &b.copies[0]));
        self.doubtful.truncate(CLUSTERS);
        for (rule, others) in &other.near {
            let all = self.near.entry(rule.clone()).or_default();
            all.extend(others.iter().cloned());
            nearest(all);
        }
    }

    /// What a summary shows of the sum.
    pub(crate) fn finish(&mut self) {
        self.hosts.keep(SHOWN);
        self.lines.keep(SHOWN);
        self.largest.sort_by(|a, b| (b.removed, &a.kept.id).cmp(&(a.removed, &b.kept.id)));
        self.largest.truncate(CLUSTERS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[f64], most: usize, expected: &[(f64, f64, u64)]) {
        let mut histogram = Histogram::default();
        values.iter().for_each(|v| histogram.add(*v));
        let bars = histogram.bars(most);
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9 * b.abs().max(1.0);
        let same = bars.len() == expected.len()
            && bars
                .iter()
                .zip(expected)
                .all(|(a, b)| near(a.0, b.0) && near(a.1, b.1) && a.2 == b.2);
        assert!(same, "{values:?}: {bars:?}");
        assert_eq!(bars.iter().map(|b| b.2).sum::<u64>(), histogram.count);
    }

    #[test]
    fn shares_have_even_bars_and_counts_have_doublings() {
        check(&[], 10, &[]);
        check(&[0.5, 0.505, 0.52, 1.0], 100, &{
            let bar = |n: i32| (f64::from(n) / 100.0, f64::from(n + 1) / 100.0, 0);
            let mut bars: Vec<_> = (50..100).map(bar).collect();
            (bars[0].2, bars[2].2, bars[49].2) = (2, 1, 1);
            bars
        });
        check(&[0.71, 0.99], 4, &[(0.7, 0.8, 1), (0.8, 0.9, 0), (0.9, 1.0, 1)]);
        check(&[0.29f32.into()], 1, &[(0.29, 0.3, 1)]);
        check(&[4.0, 7.9, 8.0, 15.0], 2, &[(4.0, 8.0, 2), (8.0, 16.0, 2)]);
        check(&[f64::NAN, 3.0], 1, &[(2f64.powf(1.5), 2f64.powf(1.75), 1)]);
    }

    #[test]
    fn small_and_negative_values_stand_beside_large_ones() {
        for values in [vec![0.5, 900.0], vec![-300.0, 0.0, 5.0], vec![-0.5, -0.25]] {
            let mut histogram = Histogram::default();
            values.iter().for_each(|v| histogram.add(*v));
            let bars = histogram.bars(24);
            assert_eq!(bars.iter().map(|b| b.2).sum::<u64>(), values.len() as u64);
            assert!(bars.len() <= 25 && bars.iter().all(|b| b.0 <= b.1), "{bars:?}");
        }
    }

    #[test]
    fn a_tally_names_the_most_and_counts_the_rest() {
        let mut tally = Tally::default();
        for n in 0..2 * SHOWN as u64 {
            tally.add(&format!("host-{n:03}"), Count { kept: n, removed: 1 });
        }
        let mut all = tally.clone();
        all.merge(&tally);
        all.keep(SHOWN);
        assert_eq!(all.named["host-079"], Count { kept: 158, removed: 2 });
        assert!(all.named.contains_key("host-000"), "removed as often, and first by name");
        let sum: u64 = all.named.values().map(|c| c.kept).sum();
        assert_eq!(sum + all.others.kept, 2 * (0..80).sum::<u64>());
    }

    #[test]
    fn figures_of_two_files_are_those_of_one() {
        let copy = |id: &str, value| Excerpt { id: id.into(), value, ..Excerpt::default() };
        let removals = vec![
            (7, copy("a", 0.9)),
            (7, copy("b", 0.8)),
            (9, copy("c", 0.7)),
            (7, copy("d", 1.0)),
        ];
        let [largest, doubtful] = chosen(removals);
        assert_eq!((largest[0].0, largest[0].1.removed, largest[0].1.copies[0].value), (7, 3, 0.8));
        assert_eq!((doubtful[0].0, doubtful[0].1.copies.len()), (9, 1));
        let document = |n: u32| Document {
            url: format!("https://a{}.example/{n}", n % 2),
            scores: vec![("words".into(), n as f32), ("x".into(), 0.5)],
            ..Document::default()
        };
        let (mut one, mut first, mut second) =
            (Figures::default(), Figures::default(), Figures::default());
        for n in 1..40 {
            one.kept(&document(n));
            if n < 20 { first.kept(&document(n)) } else { second.kept(&document(n)) }
        }
        second.removed("rule", "https://a1.example/x", 3.0);
        one.removed("rule", "https://a1.example/x", 3.0);
        first.merge(&second);
        assert_eq!(first, one);
        assert_eq!(one.hosts.named["a1.example"], Count { kept: 20, removed: 1 });
        let mut tally = Tally::default();
        (0..9).for_each(|n| tally.add(&n.to_string(), Count { kept: n, removed: n }));
        let (mut shown, mut bounded) = (tally.clone(), tally.clone());
        shown.keep(5);
        bounded.bound(5);
        assert!(!shown.bounded && bounded.bounded && shown.others == bounded.others);
        bounded.merge(&tally);
        let (named, others) = (&bounded.named, bounded.others);
        assert_eq!((named["8"].kept, named["0"].kept, others.kept), (16, 0, 6));
        assert_eq!((host("sub/page.html"), host("https://a.b:8/x")), (None, Some("a.b")));
    }
}
