//! The shuffles on one machine, within a hard limit of memory.
//!
//! Input runs are sorted, so a shuffle is a merge: the range of first words is cut into parts of
//! about [`PART`] bytes by the runs' indexes, each part is a task that merges its slice of every
//! run and sees the groups go by, holding no group in memory (one line that a hundred million
//! documents have, one band that all copies share, is no more than any other group). What it makes
//! is sorted within its share of memory and spilled. Where there are more runs than memory has
//! blocks for, they are merged in rounds first. Parts depend on the input alone, what is made in a
//! worker's own memory is named by it, and results are sets, so neither workers nor memory change
//! them, nor that they differ between those who work on a run.
//!
//! Not a partition by hash and a sort of each part in memory, which the reference systems do: a
//! part with one huge group does not fit, and the runs are there sorted anyway.

use super::merge::Merge;
use super::run::{self, Run, Sorter};
use super::{Plan, Runs, Shuffle};
use crate::Error;
use quipu_store::crew::Crew;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Bytes of input rows of a task.
const PART: u64 = 64 << 20;

/// Runs plans with the workers of a crew.
pub struct Embedded<'a> {
    crew: &'a Crew,
    /// Bytes that each worker may use.
    memory: u64,
}

/// What a task wrote, as names below the stage's folder.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    runs: Vec<String>,
}

impl<'a> Embedded<'a> {
    /// `memory` bytes for all workers together.
    pub fn new(crew: &'a Crew, memory: u64) -> Embedded<'a> {
        Embedded { crew, memory: memory / crew.workers() as u64 }
    }

    fn opened(&self, runs: &Runs) -> Result<Vec<Run>, Error> {
        self.crew.bring(&runs.paths)?;
        runs.paths.iter().map(|path| Run::open(path, runs.width)).collect()
    }

    /// Merges runs until one worker can hold a block of each.
    fn narrowed(&self, name: &str, width: usize, mut runs: Vec<Run>) -> Result<Vec<Run>, Error> {
        // Half of the memory is for what is made of them.
        let most = (self.memory / 2 / Merge::<2>::MEMORY_A_RUN).max(8) as usize;
        let mut round = 0;
        while runs.len() > most {
            // A worker with other memory makes other groups.
            let stage = format!("{name}-merge-{most}-{round}");
            let dir = self.crew.stage(&stage);
            let groups: Vec<&[Run]> = runs.chunks(most).collect();
            let task = |number: usize| {
                let file = format!("{number:06}.run");
                let group = groups[number].iter().cloned().map(Ok);
                match width {
                    2 => run::write(&dir.join(&file), Merge::<2>::of(group, 0, u64::MAX)?)?,
                    3 => run::write(&dir.join(&file), Merge::<3>::of(group, 0, u64::MAX)?)?,
                    _ => run::write(&dir.join(&file), Merge::<4>::of(group, 0, u64::MAX)?)?,
                };
                Ok::<_, Error>(Written { runs: vec![file] })
            };
            let written = self.crew.run(&stage, groups.len(), task, |_, _| ())?;
            runs = self.opened(&collected(&dir, width, written))?;
            round += 1;
        }
        Ok(runs)
    }
}

impl Shuffle for Embedded<'_> {
    fn run(&self, name: &str, plan: Plan, input: &Runs) -> Result<Runs, Error> {
        assert!(plan.takes(input.width), "{plan:?} of rows of {} words", input.width);
        let runs = self.opened(input)?;
        // Of the input as it is: how far it is narrowed depends on the memory here.
        let parts = parts(&runs, input.width);
        let runs = self.narrowed(name, input.width, runs)?;
        let dir = self.crew.stage(name);
        let task = |number: usize| {
            let (from, to) = parts[number];
            let slice = Slice { runs: &runs, from, to };
            let stem = dir.join(format!("{number:06}"));
            let made = match (plan, input.width) {
                (Plan::First, 2) => first::<2>(slice, &stem, self.memory / 2),
                (Plan::First, 3) => first::<3>(slice, &stem, self.memory / 2),
                (Plan::First, _) => first::<4>(slice, &stem, self.memory / 2),
                (Plan::Union, 2) => union::<2>(slice, &stem),
                (Plan::Union, 3) => union::<3>(slice, &stem),
                (Plan::Union, _) => union::<4>(slice, &stem),
                (Plan::Frequent(limit), _) => frequent(slice, limit, &stem, self.memory / 2),
                (Plan::Star, _) => star(slice, &stem, self.memory / 2),
                (Plan::LargeStar, _) => large_star(slice, &stem, self.memory / 2),
                (Plan::SmallStar, _) => small_star(slice, &stem, self.memory / 2),
                (Plan::Sum, _) => sum(slice, &stem, self.memory / 2),
            }?;
            let name = |path: &PathBuf| Some(path.file_name()?.to_string_lossy().into_owned());
            Ok::<_, Error>(Written { runs: made.paths.iter().filter_map(name).collect() })
        };
        let written = self.crew.run(name, parts.len(), task, |_, _| ())?;
        let made = collected(&dir, plan.width(input.width), written);
        self.crew.bring(&made.paths)?;
        Ok(made)
    }
}

fn collected(dir: &Path, width: usize, written: Vec<Written>) -> Runs {
    let paths = written.into_iter().flat_map(|w| w.runs).map(|name| dir.join(name)).collect();
    Runs { width, paths }
}

/// Ranges of first words of about [`PART`] bytes each, by the first words of all blocks.
fn parts(runs: &[Run], width: usize) -> Vec<(u64, u64)> {
    let bytes: u64 = runs.iter().map(|run| run.rows() * 8 * width as u64).sum();
    if bytes == 0 {
        return Vec::new();
    }
    let count = bytes.div_ceil(PART) as usize;
    let mut keys: Vec<u64> = runs.iter().flat_map(Run::keys).collect();
    keys.sort_unstable();
    let mut starts: Vec<u64> =
        (1..count).map(|part| keys[part * keys.len() / count]).filter(|key| *key > 0).collect();
    starts.dedup();
    starts.insert(0, 0);
    let ends = starts.iter().skip(1).map(|next| next - 1).chain([u64::MAX]);
    starts.iter().copied().zip(ends).collect()
}

/// The part of the input that a task reads.
struct Slice<'a> {
    runs: &'a [Run],
    from: u64,
    to: u64,
}

impl Slice<'_> {
    fn merge<const W: usize>(&self) -> Result<Merge<W>, Error> {
        Merge::of(self.runs.iter().cloned().map(Ok), self.from, self.to)
    }
}

fn first<const W: usize>(slice: Slice, stem: &Path, memory: u64) -> Result<Runs, Error> {
    let mut out = Sorter::<2>::new(stem, memory);
    let mut kept: Option<(u64, u64)> = None;
    for row in slice.merge::<W>()? {
        let row = row?;
        let document = row[W - 1];
        match kept {
            // A document may stand twice in a group, under two ranks.
            Some((key, first)) if key == row[0] => {
                if document != first {
                    out.push([document, first])?;
                }
            }
            _ => kept = Some((row[0], document)),
        }
    }
    out.finish()
}

fn union<const W: usize>(slice: Slice, stem: &Path) -> Result<Runs, Error> {
    let path = stem.with_extension("run");
    run::write(&path, slice.merge::<W>()?)?;
    Ok(Runs { width: W, paths: vec![path] })
}

fn frequent(slice: Slice, limit: u64, stem: &Path, memory: u64) -> Result<Runs, Error> {
    let mut out = Sorter::<2>::new(stem, memory);
    let (mut key, mut count, mut waiting) = (0, 0u64, Vec::new());
    for row in slice.merge::<2>()? {
        let row = row?;
        if row[0] != key || count == 0 {
            (key, count) = (row[0], 0);
            waiting.clear();
        }
        count += 1;
        if count <= limit {
            waiting.push(row[1]);
            continue;
        }
        for document in waiting.drain(..).chain([row[1]]) {
            out.push([document, key])?;
        }
    }
    out.finish()
}

fn star(slice: Slice, stem: &Path, memory: u64) -> Result<Runs, Error> {
    let mut out = Sorter::<2>::new(stem, memory);
    let mut kept: Option<[u64; 2]> = None;
    for row in slice.merge::<2>()? {
        let row = row?;
        match kept {
            Some([key, first]) if key == row[0] => {
                out.push([first, row[1]])?;
                out.push([row[1], first])?;
            }
            _ => kept = Some(row),
        }
    }
    out.finish()
}

fn large_star(slice: Slice, stem: &Path, memory: u64) -> Result<Runs, Error> {
    let mut out = Sorter::<2>::new(stem, memory);
    let mut group: Option<(u64, u64)> = None;
    for row in slice.merge::<2>()? {
        let [node, neighbour] = row?;
        let smallest = match group {
            Some((of, smallest)) if of == node => smallest,
            // The first neighbour is the smallest.
            _ => node.min(neighbour),
        };
        group = Some((node, smallest));
        if neighbour > node {
            out.push([neighbour, smallest])?;
        }
    }
    out.finish()
}

fn small_star(slice: Slice, stem: &Path, memory: u64) -> Result<Runs, Error> {
    let mut out = Sorter::<2>::new(stem, memory);
    let mut group: Option<[u64; 2]> = None;
    for row in slice.merge::<2>()? {
        let [node, neighbour] = row?;
        let member = match group {
            Some([of, _]) if of == node => neighbour,
            // The first neighbour is the smallest; all are smaller than the node itself.
            _ => {
                group = Some([node, neighbour]);
                node
            }
        };
        let smallest = group.map_or(neighbour, |[_, smallest]| smallest);
        out.push([member, smallest])?;
        out.push([smallest, member])?;
    }
    out.finish()
}

fn sum(slice: Slice, stem: &Path, memory: u64) -> Result<Runs, Error> {
    let mut out = Sorter::<3>::new(stem, memory);
    let mut sums: Option<[u64; 3]> = None;
    for row in slice.merge::<4>()? {
        let [key, _, n, k] = row?;
        match &mut sums {
            Some([of, all, some]) if *of == key => {
                *all = all.wrapping_add(n);
                *some = some.wrapping_add(k);
            }
            _ => {
                if let Some(row) = sums.replace([key, n, k]) {
                    out.push(row)?;
                }
            }
        }
    }
    if let Some(row) = sums {
        out.push(row)?;
    }
    out.finish()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::shuffle::components;
    use quipu_store::Cancel;
    use std::collections::{BTreeMap, BTreeSet};

    /// Rows in several overlapping runs.
    pub(crate) fn runs<const W: usize>(dir: &Path, rows: &[[u64; W]]) -> Runs {
        let mut all = Runs { width: W, paths: Vec::new() };
        for (n, part) in rows.chunks(rows.len().div_ceil(5).max(1)).enumerate() {
            let mut sorter = Sorter::<W>::new(&dir.join(format!("in-{n}")), 1 << 20);
            part.iter().for_each(|row| sorter.push(*row).unwrap());
            all.paths.extend(sorter.finish().unwrap().paths);
        }
        all
    }

    /// Counted numbers that look random.
    pub(crate) fn drawn(n: u64, below: u64) -> u64 {
        let x = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 20) % below
    }

    fn check<const W: usize, const V: usize>(plan: Plan, rows: &[[u64; W]], expected: &[[u64; V]]) {
        for (workers, memory) in [(1, 64 << 20), (3, 1)] {
            let dir = tempfile::tempdir().unwrap();
            let crew = Crew::new(&dir.path().join("work"), workers, &Cancel::new()).unwrap();
            let shuffle = Embedded::new(&crew, memory);
            let made = shuffle.run("s", plan, &runs(dir.path(), rows)).unwrap();
            let found: Vec<[u64; V]> = Merge::all(&made).unwrap().map(Result::unwrap).collect();
            assert_eq!(found, expected, "{plan:?}");
        }
    }

    #[test]
    fn each_plan_makes_its_rows() {
        check(
            Plan::First,
            &[[7, 2, 0, 9], [7, 1, 5, 8], [7, 1, 6, 3], [2, 0, 0, 1]],
            &[[3, 8], [9, 8]],
        );
        check(Plan::First, &[[7, 5], [7, 4], [u64::MAX, 1]], &[[5, 4]]);
        let lines = [[3, 1], [3, 2], [3, 3], [4, 1], [4, 2], [u64::MAX, 1]];
        check(Plan::Frequent(2), &lines, &[[1, 3], [2, 3], [3, 3]]);
        check(Plan::Star, &[[3, 1], [3, 2], [3, 9]], &[[1, 2], [1, 9], [2, 1], [9, 1]]);
        check(Plan::LargeStar, &[[1, 2], [2, 1], [2, 3], [3, 2]], &[[2, 1], [3, 1]]);
        check(Plan::SmallStar, &[[3, 1], [3, 2]], &[[1, 2], [1, 3], [2, 1], [3, 1]]);
        check(Plan::Union, &[[5, 0, 2], [5, 0, 1]], &[[5, 0, 1], [5, 0, 2]]);
        check(Plan::Sum, &[[5, 0, 2, 1], [5, 1, 2, 1], [6, 0, 1, 0]], &[[5, 4, 2], [6, 1, 0]]);
        check::<2, 2>(Plan::Star, &[], &[]);
    }

    /// A brute-force oracle for the plans on rows that span many blocks and parts.
    #[test]
    fn many_rows_and_huge_groups() {
        let rows: Vec<[u64; 2]> = (0..60_000)
            .map(|n| [if n % 3 == 0 { 5 } else { drawn(n, 9_000) }, drawn(n * 7, 20_000)])
            .collect();
        let mut groups: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        rows.iter().for_each(|[key, document]| {
            groups.entry(*key).or_default().insert(*document);
        });
        let mut expected = BTreeSet::new();
        for (key, documents) in &groups {
            if documents.len() > 6 {
                expected.extend(documents.iter().map(|document| [*document, *key]));
            }
        }
        check(Plan::Frequent(6), &rows, &expected.into_iter().collect::<Vec<_>>());
        let mut expected = BTreeSet::new();
        for documents in groups.values() {
            let mut documents = documents.iter();
            let first = documents.next().unwrap();
            expected.extend(documents.map(|document| [*document, *first]));
        }
        check(Plan::First, &rows, &expected.into_iter().collect::<Vec<_>>());
    }

    /// Half of the tasks were done by a worker with little memory, the others by one with much.
    #[test]
    fn workers_of_different_memory_share_a_plan() {
        let rows: Vec<[u64; 2]> =
            (0..60_000).map(|n| [drawn(n, 9_000), drawn(n * 7, 500)]).collect();
        let dir = tempfile::tempdir().unwrap();
        let mut input = Runs { width: 2, paths: Vec::new() };
        for (n, part) in rows.chunks(2_500).enumerate() {
            let mut sorter = Sorter::<2>::new(&dir.path().join(format!("in-{n}")), 1 << 20);
            part.iter().for_each(|row| sorter.push(*row).unwrap());
            input.paths.extend(sorter.finish().unwrap().paths);
        }
        let crew = Crew::new(&dir.path().join("work"), 1, &Cancel::new()).unwrap();
        let made = |memory: u64| {
            let made = Embedded::new(&crew, memory).run("s", Plan::Frequent(2), &input).unwrap();
            Merge::<2>::all(&made).unwrap().map(Result::unwrap).collect::<Vec<_>>()
        };
        let forget = |odd: bool| {
            let stages = std::fs::read_dir(dir.path().join("work")).unwrap().flatten();
            let files = stages.flat_map(|stage| std::fs::read_dir(stage.path()).unwrap().flatten());
            for (n, file) in files.enumerate() {
                let is_result = file.path().extension().is_some_and(|e| e == "done");
                if is_result && (n % 2 == 1) == odd {
                    std::fs::remove_file(file.path()).unwrap();
                }
            }
        };
        let expected = made(1);
        assert!(expected.len() > 10_000);
        // Merged in groups of 8, of 11 and not at all.
        let a_run = Merge::<2>::MEMORY_A_RUN;
        for (memory, odd) in [(22 * a_run, true), (1, false), (64 << 20, true), (1, true)] {
            forget(odd);
            assert!(made(memory) == expected, "{memory}");
        }
    }

    #[test]
    fn components_are_those_of_a_search() {
        let nodes = 3_000u64;
        let mut edges = Vec::new();
        // chains, which need the most rounds, and some short cuts
        for n in 0..nodes {
            if n % 50 != 0 {
                edges.push([n, n - 1]);
            }
            if n % 97 == 0 {
                edges.push([n, drawn(n, nodes)]);
            }
        }
        edges.retain(|[a, b]| a != b);
        let both: Vec<[u64; 2]> = edges.iter().flat_map(|[a, b]| [[*a, *b], [*b, *a]]).collect();
        let mut root: Vec<u64> = (0..nodes).collect();
        loop {
            let before = root.clone();
            for [a, b] in &both {
                let least = root[*a as usize].min(root[*b as usize]);
                (root[*a as usize], root[*b as usize]) = (least, least);
            }
            if root == before {
                break;
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let crew = Crew::new(&dir.path().join("work"), 2, &Cancel::new()).unwrap();
        let shuffle = Embedded::new(&crew, 1 << 20);
        let found = components(&shuffle, "cc", runs(dir.path(), &both)).unwrap();
        let mut by_root = vec![u64::MAX; nodes as usize];
        for row in Merge::<2>::all(&found).unwrap().map(Result::unwrap) {
            let [small, large] = [row[0].min(row[1]), row[0].max(row[1])];
            by_root[large as usize] = small;
        }
        for n in 0..nodes as usize {
            let expected = root[n];
            let found = if by_root[n] == u64::MAX { n as u64 } else { by_root[n] };
            assert_eq!(found, expected, "node {n}");
        }
    }

    #[test]
    fn a_large_input_is_cut_into_parts_at_keys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.run");
        run::write(&path, (0..9_000_000u64).map(|n| Ok([n / 4_000_000, n]))).unwrap();
        let runs = [Run::open(&path, 2).unwrap()];
        assert_eq!(parts(&runs, 2), [(0, 0), (1, u64::MAX)]);
        assert!(parts(&[], 2).is_empty());
    }
}
