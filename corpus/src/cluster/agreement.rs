//! Rows on which every implementation of the shuffles must agree, drawn by a number. Tests only.
//!
//! The embedded shuffles are held against a brute-force oracle in their own tests; here whatever
//! else runs plans is held against them, row for row.

use crate::shuffle::{Embedded, Merge, Plan, Runs, Shuffle, Sorter};
use quipu_store::Cancel;
use quipu_store::crew::Crew;
use std::path::Path;

/// Words at the ends of what signed and unsigned, 32 and 64 bits and floats hold.
const EXTREMES: [u64; 9] = [
    0,
    1,
    u32::MAX as u64,
    (1 << 53) + 1,
    i64::MAX as u64,
    1 << 63,
    (1 << 63) + 1,
    u64::MAX - 1,
    u64::MAX,
];

/// Counted numbers that look random.
pub(crate) fn drawn(n: u64, below: u64) -> u64 {
    let x = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 20) % below
}

/// Rows in several runs that overlap, some rows in two of them.
pub(crate) fn runs<const W: usize>(
    dir: &Path,
    name: &str,
    rows: impl Iterator<Item = [u64; W]>,
) -> Runs {
    let mut sorters: Vec<Sorter<W>> =
        (0..4).map(|n| Sorter::new(&dir.join(format!("{name}-{n}")), 1 << 24)).collect();
    for (n, row) in rows.enumerate() {
        sorters[n % 4].push(row).unwrap();
        if n % 5 == 0 {
            sorters[(n + 1) % 4].push(row).unwrap();
        }
    }
    let paths = sorters.into_iter().flat_map(|s| s.finish().unwrap().paths).collect();
    Runs { width: W, paths }
}

/// All rows of runs, in order, each once.
pub(crate) fn rows(runs: &Runs) -> Vec<Vec<u64>> {
    match runs.width {
        2 => Merge::<2>::all(runs).unwrap().map(|row| row.unwrap().to_vec()).collect(),
        3 => Merge::<3>::all(runs).unwrap().map(|row| row.unwrap().to_vec()).collect(),
        _ => Merge::<4>::all(runs).unwrap().map(|row| row.unwrap().to_vec()).collect(),
    }
}

/// A third of the rows in one group, the others in groups of some rows, few documents.
fn skewed<const W: usize>(n: u64) -> [u64; W] {
    std::array::from_fn(|word| match word as u64 {
        0 if n.is_multiple_of(3) => 77,
        0 => drawn(n, 900),
        word => drawn(n * 31 + word, 1500),
    })
}

/// Every word one of the extremes.
fn extreme<const W: usize>(n: u64) -> [u64; W] {
    std::array::from_fn(|word| EXTREMES[drawn(n * 5 + word as u64, 9) as usize])
}

/// Runs `plan` over the same rows in the embedded shuffle and in `other`.
fn agree<const W: usize>(
    other: &dyn Shuffle,
    name: &str,
    plan: Plan,
    input: impl Iterator<Item = [u64; W]>,
) {
    let dir = tempfile::tempdir().unwrap();
    let crew = Crew::new(&dir.path().join("work"), 2, &Cancel::new()).unwrap();
    let input = runs(dir.path(), "in", input);
    let expected = rows(&Embedded::new(&crew, 64 << 20).run(name, plan, &input).unwrap());
    let made = other.run(name, plan, &input).unwrap();
    assert_eq!(made.width, plan.width(W));
    let found = rows(&made);
    let differs = found.iter().zip(&expected).position(|(a, b)| a != b);
    let at = differs.unwrap_or(found.len().min(expected.len()));
    assert!(
        found == expected,
        "{name}: row {at} of {} and {} is {:?}, expected {:?}",
        found.len(),
        expected.len(),
        found.get(at),
        expected.get(at)
    );
}

fn agree_on_width<const W: usize>(other: &dyn Shuffle, plan: Plan, count: u64) {
    let name = |case: &str| format!("{}-{W}-{case}", format!("{plan:?}").replace(['(', ')'], "-"));
    agree::<W>(other, &name("skewed"), plan, (0..count).map(skewed));
    agree::<W>(other, &name("extreme"), plan, (0..count.min(400)).map(extreme));
    agree::<W>(other, &name("none"), plan, std::iter::empty());
    agree::<W>(other, &name("one"), plan, [extreme(3)].into_iter());
}

/// Holds `other` against the embedded shuffles, plan by plan, on `count` rows and on few.
pub(crate) fn on_all_plans(other: &dyn Shuffle, count: u64) {
    agree_on_width::<2>(other, Plan::First, count);
    agree_on_width::<3>(other, Plan::First, count);
    agree_on_width::<4>(other, Plan::First, count);
    for limit in [0, 1, 6, 1_000, 20_000, u64::MAX] {
        agree_on_width::<2>(other, Plan::Frequent(limit), count);
    }
    agree_on_width::<2>(other, Plan::Star, count);
    agree_on_width::<2>(other, Plan::LargeStar, count);
    agree_on_width::<2>(other, Plan::SmallStar, count);
    agree_on_width::<4>(other, Plan::Sum, count);
    agree_on_width::<2>(other, Plan::Union, count);
    agree_on_width::<3>(other, Plan::Union, count);
    agree_on_width::<4>(other, Plan::Union, count);
}
