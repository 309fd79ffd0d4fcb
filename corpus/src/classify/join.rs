//! Joins score files to documents by id, in bounded memory.
//!
//! Documents come in the order of their units, scores in any. The scores are sorted once by id:
//! runs that fit the memory given, then one merge into a file of fixed rows with the first id of
//! each block in memory (16 bytes for 256 rows); an id is then looked up in the blocks that may have it.
//! Of two scores of one name for one document the first read stays. Files are work files, and go
//! with [`Runs`]. Not here: the form of score files (crate `documents`).

use super::Error;
use quipu_documents::{Id, Scores};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Bytes of a row: id, number of the name, score.
const ROW: usize = 16 + 2 + 4;
/// Rows of a block.
const BLOCK: usize = 256;
/// Runs that are merged at once.
const FAN_IN: usize = 128;

/// Sorted by id, then by name; earlier rows of equal ones stand first.
#[derive(Clone, Copy, PartialEq)]
struct Row {
    id: Id,
    name: u16,
    score: f32,
}

/// Sorted scores on disk, removed when dropped.
pub struct Runs {
    file: PathBuf,
    names: Vec<String>,
    /// First id of each block.
    fences: Vec<Id>,
    rows: u64,
    read: u64,
}

/// One caller's way into the sorted scores.
pub struct Lookup<'a> {
    runs: &'a Runs,
    file: File,
    block: Vec<u8>,
    /// Number of the block that was read last.
    number: Option<usize>,
}

impl Row {
    fn key(&self) -> (u128, u16) {
        (self.id.0, self.name)
    }

    fn bytes(&self) -> [u8; ROW] {
        let mut bytes = [0; ROW];
        bytes[..16].copy_from_slice(&self.id.0.to_le_bytes());
        bytes[16..18].copy_from_slice(&self.name.to_le_bytes());
        bytes[18..].copy_from_slice(&self.score.to_le_bytes());
        bytes
    }

    fn of(bytes: &[u8]) -> Row {
        let mut id = [0; 16];
        id.copy_from_slice(&bytes[..16]);
        Row {
            id: Id(u128::from_le_bytes(id)),
            name: u16::from_le_bytes([bytes[16], bytes[17]]),
            score: f32::from_le_bytes([bytes[18], bytes[19], bytes[20], bytes[21]]),
        }
    }
}

impl Runs {
    /// Sorts the scores of `files`, in this order, with work files in `folder` and about `memory`
    /// bytes.
    pub fn sort(files: &[PathBuf], folder: &Path, memory: usize) -> Result<Runs, Error> {
        let most = (memory / size_of::<Row>()).max(BLOCK);
        let mut sorter = Sorter { folder, runs: Vec::new(), made: 0 };
        let mut numbers: BTreeMap<String, u16> = BTreeMap::new();
        let mut rows: Vec<Row> = Vec::new();
        let mut read = 0u64;
        for file in files {
            for score in Scores::open(file)? {
                let score = score?;
                let name = match numbers.get(&score.name) {
                    Some(number) => *number,
                    None => {
                        let next = u16::try_from(numbers.len()).map_err(|_| too_many(file))?;
                        *numbers.entry(score.name).or_insert(next)
                    }
                };
                rows.push(Row { id: score.id, name, score: score.score });
                read += 1;
                if rows.len() == most {
                    sorter.spill(&mut rows)?;
                }
            }
        }
        sorter.spill(&mut rows)?;
        let file = sorter.finish()?;
        let mut names = vec![String::new(); numbers.len()];
        numbers.into_iter().for_each(|(name, number)| names[usize::from(number)] = name);
        let (fences, rows) = fences(&file)?;
        Ok(Runs { file, names, fences, rows, read })
    }

    /// Names of the scores, in the order in which they were met.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// A way in, for one thread.
    pub fn lookup(&self) -> Result<Lookup<'_>, Error> {
        let file = File::open(&self.file).map_err(Error::io(&self.file))?;
        Ok(Lookup { runs: self, file, block: Vec::new(), number: None })
    }

    /// Scores that were read.
    pub fn read(&self) -> u64 {
        self.read
    }

    /// Those of them that were left out: their document had one of that name before.
    pub fn duplicates(&self) -> u64 {
        self.read - self.rows
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        // A work file that stays is swept with its folder.
        let _ = std::fs::remove_file(&self.file);
    }
}

impl Lookup<'_> {
    /// The scores of a document, by number of the name.
    pub fn scores(&mut self, id: Id) -> Result<Vec<(usize, f32)>, Error> {
        let mut scores = Vec::new();
        // The last block that begins below the id may end with it; later ones begin with it.
        let first = self.runs.fences.partition_point(|fence| *fence < id).saturating_sub(1);
        for number in first..self.runs.fences.len() {
            if self.runs.fences[number] > id {
                break;
            }
            self.read(number)?;
            let rows = self.block.chunks_exact(ROW).map(Row::of);
            let own = rows.skip_while(|row| row.id < id).take_while(|row| row.id == id);
            scores.extend(own.map(|row| (usize::from(row.name), row.score)));
        }
        Ok(scores)
    }

    fn read(&mut self, number: usize) -> Result<(), Error> {
        if self.number == Some(number) {
            return Ok(());
        }
        self.number = None;
        let path = &self.runs.file;
        let start = (number * BLOCK * ROW) as u64;
        self.file.seek(SeekFrom::Start(start)).map_err(Error::io(path))?;
        self.block.clear();
        let mut limited = (&self.file).take((BLOCK * ROW) as u64);
        limited.read_to_end(&mut self.block).map_err(Error::io(path))?;
        self.number = Some(number);
        Ok(())
    }
}

/// Makes sorted runs and merges them.
struct Sorter<'a> {
    folder: &'a Path,
    runs: Vec<PathBuf>,
    made: usize,
}

impl Sorter<'_> {
    fn name(&mut self) -> PathBuf {
        self.made += 1;
        self.folder.join(format!("scores-{:05}.run", self.made))
    }

    fn spill(&mut self, rows: &mut Vec<Row>) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        // A stable sort: of equal keys the first read stays first.
        rows.sort_by_key(Row::key);
        rows.dedup_by_key(|row| row.key());
        let path = self.name();
        quipu_store::atomic::write(&path, |out| {
            let mut out = BufWriter::new(out);
            rows.iter().try_for_each(|row| out.write_all(&row.bytes()))?;
            out.flush()
        })?;
        rows.clear();
        self.runs.push(path);
        if self.runs.len() == FAN_IN {
            let merged = self.finish()?;
            self.runs.push(merged);
        }
        Ok(())
    }

    /// Merges the runs there are into one; the run read first wins.
    fn finish(&mut self) -> Result<PathBuf, Error> {
        let path = self.name();
        let runs = std::mem::take(&mut self.runs);
        let mut readers = Vec::with_capacity(runs.len());
        for run in &runs {
            readers.push(BufReader::new(File::open(run).map_err(Error::io(run))?));
        }
        quipu_store::atomic::write(&path, |out| {
            let mut out = BufWriter::new(out);
            merge(&mut readers, |row| out.write_all(&row.bytes()))?;
            out.flush()
        })?;
        for run in &runs {
            std::fs::remove_file(run).map_err(Error::io(run))?;
        }
        Ok(path)
    }
}

fn too_many(file: &Path) -> Error {
    Error::Option {
        key: "score files",
        found: format!("more than 65,536 names of scores at {}", file.display()),
        expected: "a few; long files have columns `id`, `name`, `score`",
    }
}

fn next_row(reader: &mut BufReader<File>) -> std::io::Result<Option<Row>> {
    let mut bytes = [0; ROW];
    match reader.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(Row::of(&bytes))),
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(e),
    }
}

fn merge(
    readers: &mut [BufReader<File>],
    mut each: impl FnMut(Row) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut heads: Vec<Option<Row>> = Vec::with_capacity(readers.len());
    let mut heap = BinaryHeap::new();
    for (number, reader) in readers.iter_mut().enumerate() {
        let head = next_row(reader)?;
        heap.extend(head.map(|row| Reverse((row.key(), number))));
        heads.push(head);
    }
    let mut last = None;
    while let Some(Reverse((key, number))) = heap.pop() {
        if let Some(row) = heads[number]
            && last != Some(key)
        {
            each(row)?;
            last = Some(key);
        }
        heads[number] = next_row(&mut readers[number])?;
        heap.extend(heads[number].map(|row| Reverse((row.key(), number))));
    }
    Ok(())
}

/// First id of each block, and the number of rows.
fn fences(path: &Path) -> Result<(Vec<Id>, u64), Error> {
    let mut file = BufReader::new(File::open(path).map_err(Error::io(path))?);
    let (mut fences, mut rows) = (Vec::new(), 0u64);
    while let Some(row) = next_row(&mut file).map_err(Error::io(path))? {
        if rows.is_multiple_of(BLOCK as u64) {
            fences.push(row.id);
        }
        rows += 1;
    }
    Ok((fences, rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quipu_documents::{Score, write_scores};

    fn score(id: u128, name: &str, score: f32) -> Score {
        Score { id: Id(id), name: name.into(), score }
    }

    /// Ids in an order that has nothing to do with theirs.
    fn scattered(n: u128) -> u128 {
        n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
    }

    fn check(memory: usize) {
        let dir = tempfile::tempdir().unwrap();
        let files = [dir.path().join("a.parquet"), dir.path().join("b.jsonl")];
        let first: Vec<Score> = (0..2000).map(|n| score(scattered(n), "q", n as f32)).collect();
        let second: Vec<Score> = (1000..3000)
            .flat_map(|n| [score(scattered(n), "q", -1.0), score(scattered(n), "t", 0.5)])
            .collect();
        write_scores(&files[0], &first).unwrap();
        write_scores(&files[1], &second).unwrap();
        let work = dir.path().join("work");
        std::fs::create_dir(&work).unwrap();
        let runs = Runs::sort(&files, &work, memory).unwrap();
        assert_eq!(runs.names(), ["q", "t"]);
        let mut lookup = runs.lookup().unwrap();
        for n in (0..2500u128).step_by(100) {
            for n in n..n + 100 {
                let found = lookup.scores(Id(scattered(n))).unwrap();
                let q = (0, if n < 2000 { n as f32 } else { -1.0 });
                let expected = if n < 1000 { vec![q] } else { vec![q, (1, 0.5)] };
                assert_eq!(found, expected, "{n}");
            }
        }
        assert!([5, u128::MAX].iter().all(|id| lookup.scores(Id(*id)).unwrap().is_empty()));
        assert_eq!((runs.read(), runs.duplicates()), (6000, 1000));
        drop(lookup);
        drop(runs);
        assert_eq!(std::fs::read_dir(&work).unwrap().count(), 0, "work files stay");
    }

    #[test]
    fn the_join_does_not_depend_on_memory() {
        check(64 << 20);
        check(100_000);
        check(0); // runs of one block
    }

    /// More runs than are merged at once, and more scores of one document than a block has.
    #[test]
    fn many_runs_and_many_names() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("s.jsonl");
        let rows: Vec<Score> = (0..40_000u32)
            .map(|n| score(u128::from(n % 40), &format!("n{}", n / 40), n as f32))
            .collect();
        write_scores(&file, &rows).unwrap();
        let runs = Runs::sort(&[file], dir.path(), 0).unwrap();
        let found = runs.lookup().unwrap().scores(Id(7)).unwrap();
        assert_eq!(found.len(), 1000);
        assert!(found.iter().all(|(name, score)| *score == (*name as f32) * 40.0 + 7.0));
        assert_eq!(runs.duplicates(), 0);
    }

    #[test]
    fn no_scores_are_no_error_and_broken_ones_are() {
        let dir = tempfile::tempdir().unwrap();
        let runs = Runs::sort(&[], dir.path(), 1 << 20).unwrap();
        assert!(runs.lookup().unwrap().scores(Id(1)).unwrap().is_empty());
        let file = dir.path().join("s.jsonl");
        std::fs::write(&file, "{\"id\":\"a\",\"q\":1}\nbroken\n").unwrap();
        let message = Runs::sort(&[file], dir.path(), 1 << 20).err().unwrap().to_string();
        assert!(message.contains("s.jsonl, line 2"), "{message}");
    }
}
