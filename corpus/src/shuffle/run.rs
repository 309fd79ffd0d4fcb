//! A run: a file of sorted rows that can be read from any key on.
//!
//! Little-endian. `quipuRUN`, version u32, words a row u32; then blocks of `BLOCK` bytes of rows
//! (the last may be shorter); then for each block its first word u64 and the XXH3 of its bytes u64;
//! then rows u64, blocks u64, and the XXH3 of the sixteen bytes at the start and of all after the
//! blocks. Every block is held against its checksum when it is read. Files are opened for each
//! block: a merge of thousands of runs needs no thousands of open files. Runs are work files and
//! live until the run of curation is over.

use super::Runs;
use crate::Error;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

const MAGIC: &[u8; 8] = b"quipuRUN";
const VERSION: u32 = 1;
const HEAD: u64 = 16;
const TAIL: u64 = 24;
/// Bytes of a block: what one read brings and one checksum covers.
pub(crate) const BLOCK: usize = 48 << 10;

/// Rows of a block.
const fn block_rows(width: usize) -> usize {
    BLOCK / (8 * width)
}

/// An open run: its index is in memory, its rows are not.
#[derive(Clone, Debug)]
pub struct Run {
    path: Arc<PathBuf>,
    width: usize,
    rows: u64,
    index: Arc<Vec<(u64, u64)>>,
}

impl Run {
    /// Opens a run of rows of `width` words.
    ///
    /// # Errors
    /// When it is missing, is no such run, or its index is damaged.
    pub fn open(path: &Path, width: usize) -> Result<Run, Error> {
        let io = || Error::io(path);
        let file = File::open(path).map_err(io())?;
        let length = file.metadata().map_err(io())?.len();
        let damaged = |reason: &str| damaged(path, reason);
        if length < HEAD + TAIL {
            return Err(damaged("is shorter than any run"));
        }
        let mut head = [0; HEAD as usize];
        file.read_exact_at(&mut head, 0).map_err(io())?;
        let mut tail = [0; TAIL as usize];
        file.read_exact_at(&mut tail, length - TAIL).map_err(io())?;
        let word = |bytes: &[u8], n: usize| u64_at(bytes, n * 8);
        let (rows, blocks, seal) = (word(&tail, 0), word(&tail, 1), word(&tail, 2));
        let expected = u64::from(VERSION) | (width as u64) << 32;
        if &head[..8] != MAGIC || word(&head, 1) != expected {
            return Err(damaged("is no run of this version and width"));
        }
        let sizes = rows.checked_mul(8 * width as u64).zip(blocks.checked_mul(16));
        let fits = |(b, i): &(u64, u64)| b.checked_add(*i) == Some(length - HEAD - TAIL);
        let Some((bytes, index)) = sizes.filter(fits) else {
            return Err(damaged("has another size than its end says"));
        };
        if blocks != rows.div_ceil(block_rows(width) as u64) {
            return Err(damaged("has another number of blocks than its rows ask for"));
        }
        let mut stored = vec![0; index as usize];
        file.read_exact_at(&mut stored, HEAD + bytes).map_err(io())?;
        if seal_of(&head, &stored, rows, blocks) != seal {
            return Err(damaged("has an index that differs from its checksum"));
        }
        let index = stored.chunks_exact(16).map(|b| (u64_at(b, 0), u64_at(b, 8))).collect();
        Ok(Run { path: Arc::new(path.to_owned()), width, rows, index: Arc::new(index) })
    }

    /// Its rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// First words of its blocks, in order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = u64> + '_ {
        self.index.iter().map(|(key, _)| *key)
    }

    /// The block in which the first row with a first word of at least `key` stands, or the one
    /// before.
    pub(crate) fn block_of(&self, key: u64) -> usize {
        self.index.partition_point(|(first, _)| *first < key).saturating_sub(1)
    }

    /// Hands over the rows whose first word is one of `keys`, which are sorted. A block is read once
    /// at most, and only where one of them may stand in it.
    pub(crate) fn find<const W: usize>(
        &self,
        keys: &[u64],
        mut each: impl FnMut([u64; W]),
    ) -> Result<(), Error> {
        let (mut rows, mut held) = (Vec::new(), None);
        for key in keys {
            let mut block = self.block_of(*key);
            loop {
                if held != Some(block) {
                    self.read(block, &mut rows)?;
                    held = Some(block);
                }
                let from = rows.partition_point(|row: &[u64; W]| row[0] < *key);
                let to = rows.partition_point(|row| row[0] <= *key);
                rows[from..to].iter().for_each(|row| each(*row));
                // More of them may stand where the next block begins.
                block += 1;
                if to < rows.len() || self.index.get(block).is_none_or(|(first, _)| first > key) {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Reads block number `block` into `rows`; leaves it empty behind the last.
    pub(crate) fn read<const W: usize>(
        &self,
        block: usize,
        rows: &mut Vec<[u64; W]>,
    ) -> Result<(), Error> {
        debug_assert_eq!(W, self.width);
        rows.clear();
        let Some((_, checksum)) = self.index.get(block) else { return Ok(()) };
        let first = block as u64 * block_rows(W) as u64;
        let count = (self.rows - first).min(block_rows(W) as u64) as usize;
        let mut bytes = vec![0; count * 8 * W];
        let file = File::open(&*self.path).map_err(Error::io(&self.path))?;
        file.read_exact_at(&mut bytes, HEAD + first * 8 * W as u64)
            .map_err(Error::io(&self.path))?;
        if xxh3_64(&bytes) != *checksum {
            return Err(damaged(&self.path, "has a block that differs from its checksum"));
        }
        rows.extend(
            bytes.chunks_exact(8 * W).map(|row| std::array::from_fn(|n| u64_at(row, n * 8))),
        );
        Ok(())
    }
}

fn damaged(path: &Path, reason: &str) -> Error {
    let reason = format!("this work file {reason}; remove the folder `work` and run again");
    Error::Line { path: path.to_owned(), line: 1, reason }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

fn seal_of(head: &[u8], index: &[u8], rows: u64, blocks: u64) -> u64 {
    let mut seal = Xxh3::new();
    seal.update(head);
    seal.update(index);
    seal.update(&rows.to_le_bytes());
    seal.update(&blocks.to_le_bytes());
    seal.digest()
}

/// Puts the seal at the end of the bytes of a run that fits the rest of them, as one would who
/// means to deceive; for attacks.
pub(crate) fn reseal(bytes: &mut [u8]) {
    let length = bytes.len();
    let (head, tail) = (HEAD as usize, TAIL as usize);
    if length < head + tail {
        return;
    }
    let (rows, blocks) = (u64_at(bytes, length - tail), u64_at(bytes, length - tail + 8));
    let index = blocks.saturating_mul(16).min((length - head - tail) as u64) as usize;
    let seal = seal_of(&bytes[..head], &bytes[length - tail - index..length - tail], rows, blocks);
    bytes[length - 8..].copy_from_slice(&seal.to_le_bytes());
}

/// Writes sorted, distinct `rows` as a run; returns how many they were.
///
/// # Errors
/// A full disk, or a folder that is not there; what the rows themselves bring.
pub fn write<const W: usize>(
    path: &Path,
    rows: impl Iterator<Item = Result<[u64; W], Error>>,
) -> Result<u64, Error> {
    let mut file = quipu_store::atomic::File::create(path)?;
    let mut put = |bytes: &[u8]| file.write_all(bytes).map_err(Error::io(path));
    let mut head = MAGIC.to_vec();
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&(W as u32).to_le_bytes());
    put(&head)?;
    let (mut index, mut count, mut block) = (Vec::new(), 0u64, Vec::with_capacity(BLOCK));
    let mut rows = rows.peekable();
    let mut last: Option<[u64; W]> = None;
    while let Some(row) = rows.next() {
        let row = row?;
        debug_assert!(last < Some(row), "{last:?} before {row:?}");
        last = Some(row);
        row.iter().for_each(|word| block.extend_from_slice(&word.to_le_bytes()));
        count += 1;
        if block.len() == block_rows(W) * 8 * W || rows.peek().is_none() {
            index.extend_from_slice(&block[..8]);
            index.extend_from_slice(&xxh3_64(&block).to_le_bytes());
            put(&block)?;
            block.clear();
        }
    }
    let blocks = index.len() as u64 / 16;
    put(&index)?;
    put(&count.to_le_bytes())?;
    put(&blocks.to_le_bytes())?;
    put(&seal_of(&head, &index, count, blocks).to_le_bytes())?;
    file.commit()?;
    Ok(count)
}

/// Takes rows in any order and writes them as sorted runs of at most `capacity` rows each, which is
/// what it holds in memory.
pub struct Sorter<const W: usize> {
    rows: Vec<[u64; W]>,
    capacity: usize,
    stem: String,
    dir: PathBuf,
    paths: Vec<PathBuf>,
}

impl<const W: usize> Sorter<W> {
    /// Writes `STEM-0.run`, or `STEM-CAPACITY-0.run`, `STEM-CAPACITY-1.run`, … where `memory`, what
    /// its rows may take in bytes, has a bound: another sorter of the same rows with another memory
    /// makes other runs of them, which must not be taken for these.
    pub fn new(stem: &Path, memory: u64) -> Sorter<W> {
        let capacity = (memory as usize / (8 * W)).max(block_rows(W));
        let name = stem.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
        let dir = stem.parent().map(Path::to_owned).unwrap_or_default();
        let stem = if memory == u64::MAX { name.into() } else { format!("{name}-{capacity}") };
        Sorter { rows: Vec::new(), capacity, stem, dir, paths: Vec::new() }
    }

    /// Takes a row.
    ///
    /// # Errors
    /// A full disk, where a run is written because memory is used up.
    pub fn push(&mut self, row: [u64; W]) -> Result<(), Error> {
        if self.rows.len() == self.capacity {
            self.spill()?;
        }
        self.rows.push(row);
        Ok(())
    }

    fn spill(&mut self) -> Result<(), Error> {
        self.rows.sort_unstable();
        self.rows.dedup();
        let path = self.dir.join(format!("{}-{}.run", self.stem, self.paths.len()));
        write(&path, self.rows.drain(..).map(Ok))?;
        self.paths.push(path);
        Ok(())
    }

    /// Writes what is left; the runs in order, none where there were no rows.
    ///
    /// # Errors
    /// A full disk.
    pub fn finish(mut self) -> Result<Runs, Error> {
        if !self.rows.is_empty() {
            self.spill()?;
        }
        Ok(Runs { width: W, paths: self.paths })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shuffle::Merge;

    fn check(rows: &[[u64; 2]], memory: u64) {
        let dir = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::<2>::new(&dir.path().join("t"), memory);
        rows.iter().for_each(|row| sorter.push(*row).unwrap());
        let runs = sorter.finish().unwrap();
        let found: Vec<[u64; 2]> = Merge::all(&runs).unwrap().map(Result::unwrap).collect();
        let mut expected = rows.to_vec();
        expected.sort_unstable();
        expected.dedup();
        assert_eq!(found, expected);
    }

    #[test]
    fn rows_come_back_sorted_and_once() {
        check(&[], 1 << 20);
        check(&[[u64::MAX, 0], [0, u64::MAX], [5, 5], [5, 5], [5, 4]], 1 << 20);
        let many: Vec<[u64; 2]> =
            (0..20_000u64).map(|n| [n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 50, n % 3]).collect();
        check(&many, 1 << 20);
        check(&many, 1);
    }

    #[test]
    fn rows_are_found_by_their_first_word() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.run");
        // Even keys, three rows each, over several blocks; a key's rows lie across their borders.
        let count = 3 * block_rows(2) as u64;
        write(&path, (0..count).map(|n| Ok([n / 3 * 2, n % 3]))).unwrap();
        let run = Run::open(&path, 2).unwrap();
        let check = |keys: &[u64]| {
            let mut found = Vec::new();
            run.find::<2>(keys, |row| found.push(row)).unwrap();
            let there = keys.iter().filter(|key| **key % 2 == 0 && **key / 2 < count / 3);
            let expected: Vec<[u64; 2]> =
                there.flat_map(|key| (0..3).map(move |n| [*key, n])).collect();
            assert_eq!(found, expected, "{keys:?}");
        };
        check(&[]);
        check(&[0, 1, 2, 700, 701, count / 3 * 2 - 2, count / 3 * 2, u64::MAX]);
        let all: Vec<u64> = (0..count).collect();
        check(&all);
        let none = dir.path().join("b.run");
        write(&none, std::iter::empty::<Result<[u64; 2], Error>>()).unwrap();
        let mut found = 0;
        Run::open(&none, 2).unwrap().find::<2>(&all, |_| found += 1).unwrap();
        assert_eq!(found, 0);
    }

    #[test]
    fn every_damaged_byte_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.run");
        write(&path, (0..40u64).map(|n| Ok([n, n * n]))).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let read = || -> Result<Vec<[u64; 2]>, Error> {
            let run = Run::open(&path, 2)?;
            let mut rows = Vec::new();
            run.read(0, &mut rows)?;
            Ok(rows)
        };
        assert_eq!(read().unwrap().len(), 40);
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            std::fs::write(&path, &bytes).unwrap();
            assert!(read().is_err(), "byte {at}");
            std::fs::write(&path, &whole[..at]).unwrap();
            assert!(read().is_err(), "cut at {at}");
        }
    }

    /// Sizes whose sum is past 64 bits, sealed by whoever wrote them.
    #[test]
    fn sizes_that_overflow_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.run");
        write(&path, (0..40u64).map(|n| Ok([n, n * n]))).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let tail = whole.len() - TAIL as usize;
        for (rows, blocks) in [(u64::MAX / 16, u64::MAX / 16), (u64::MAX, 1), (40, u64::MAX / 16)] {
            let mut bytes = whole.clone();
            bytes[tail..tail + 8].copy_from_slice(&rows.to_le_bytes());
            bytes[tail + 8..tail + 16].copy_from_slice(&blocks.to_le_bytes());
            reseal(&mut bytes);
            std::fs::write(&path, bytes).unwrap();
            let message = Run::open(&path, 2).unwrap_err().to_string();
            assert!(message.contains("another size than its end says"), "{message}");
        }
        let mut sealed = whole.clone();
        reseal(&mut sealed);
        assert_eq!(sealed, whole);
    }

    #[test]
    fn a_run_is_of_its_width() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.run");
        write(&path, [Ok([1u64, 2])].into_iter()).unwrap();
        let message = Run::open(&path, 3).unwrap_err().to_string();
        assert!(message.contains("a.run") && message.contains("width"), "{message}");
    }
}
