//! Work files of the first pass: what deduplication needs of each page, without its text.
//!
//! Three files a unit, little-endian, each block of them held against a checksum when it is read.
//! `rows`: a page's identity, verdict and line hashes, read as a whole. `sketches`: a record of
//! fixed size a page (rank, text hash, bands, where its shingles stand) and `shingles`: its sorted
//! set; both are read by the number of the page. Work files live until the run is over; they are no
//! format that others read. Not here: what is decided by them.

use crate::Error;
use crate::dedup::Row;
use crate::page::{Candidate, STAYS, Verdict};
use quipu_store::atomic;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

const MAGIC: &[u8; 8] = b"quipuR02";
/// Bytes of a page before its line hashes.
const FIXED: usize = 16 + 8 + 8 + 8 + 4 + 2 + 8 + 1 + 4 + 4 + 8;

/// What is kept of a page.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Kept {
    pub row: Row,
    pub verdict: Option<Verdict>,
    pub lines: Vec<u64>,
}

/// What near copies are found and verified by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sketch {
    /// Identity of the page.
    pub id: u128,
    /// Smaller is better: see [`Row::rank`].
    pub rank: [u64; 2],
    /// Bands of its signature; none of a text without words.
    pub bands: Vec<u64>,
    /// Number of its first shingle in the unit's file, their count and checksum.
    first: u64,
    count: u64,
    checksum: u64,
}

/// The files of one unit, by the ends of their names.
pub(super) const ROWS: &str = "rows";
pub(super) const SKETCHES: &str = "sketches";
pub(super) const SHINGLES: &str = "shingles";

fn broken(path: &Path) -> Error {
    let reason = "a damaged work file; remove the folder `work` and run again".into();
    Error::Line { path: path.to_owned(), line: 1, reason }
}

/// The files of one unit in the making. Dropped before `finish`, they leave nothing.
pub(super) struct Files {
    rows: Out,
    sketches: Out,
    shingles: Out,
    /// Of the rows so far.
    seal: Xxh3,
    /// Shingles so far.
    written: u64,
    bands: usize,
}

/// A file that is not yet under its name.
struct Out(PathBuf, atomic::File);

impl Out {
    fn create(path: PathBuf) -> Result<Out, Error> {
        let file = atomic::File::create(&path)?;
        Ok(Out(path, file))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.1.write_all(bytes).map_err(Error::io(&self.0))
    }
}

impl Files {
    /// Begins the files of one unit, of signatures with so many `bands`; `file` gives the path for an
    /// end.
    pub fn create(file: impl Fn(&str) -> PathBuf, bands: usize) -> Result<Files, Error> {
        let [rows, sketches, shingles] =
            [ROWS, SKETCHES, SHINGLES].map(|end| Out::create(file(end)));
        let mut files = Files {
            rows: rows?,
            sketches: sketches?,
            shingles: shingles?,
            seal: Xxh3::new(),
            written: 0,
            bands,
        };
        files.row(MAGIC)?;
        Ok(files)
    }

    fn row(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.seal.update(bytes);
        self.rows.write(bytes)
    }

    /// Adds a page.
    pub fn push(&mut self, candidate: &Candidate) -> Result<(), Error> {
        let Candidate { row, verdict, lines, bands: own, shingles: set, .. } = candidate;
        let mut bytes = Vec::with_capacity(FIXED + 8 * lines.len());
        bytes.extend_from_slice(&row.id.to_le_bytes());
        for word in [row.url, row.text, row.date as u64] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&row.bytes.to_le_bytes());
        bytes.extend_from_slice(&row.url_length.to_le_bytes());
        bytes.extend_from_slice(&row.language.to_le_bytes());
        bytes.push(verdict.map_or(STAYS, |v| v.rule));
        bytes.extend_from_slice(&verdict.map_or(0.0, |v| v.value).to_le_bytes());
        bytes.extend_from_slice(&(lines.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&row.domain.to_le_bytes());
        lines.iter().for_each(|hash| bytes.extend_from_slice(&hash.to_le_bytes()));
        self.row(&bytes)?;
        let shingles: Vec<u8> = set.iter().flat_map(|s| s.to_le_bytes()).collect();
        let [a, b] = row.rank();
        let none = vec![0; self.bands];
        let own = if own.is_empty() { &none } else { own };
        let (low, high) = (row.id as u64, (row.id >> 64) as u64);
        let fixed = [low, high, a, b, self.written, set.len() as u64, xxh3_64(&shingles)];
        let mut sketch: Vec<u8> =
            fixed.iter().chain(own).flat_map(|word| word.to_le_bytes()).collect();
        let seal = xxh3_64(&sketch);
        sketch.extend_from_slice(&seal.to_le_bytes());
        self.sketches.write(&sketch)?;
        self.written += set.len() as u64;
        self.shingles.write(&shingles)
    }

    /// Puts them under their names.
    pub fn finish(mut self) -> Result<(), Error> {
        self.rows.write(&self.seal.digest().to_le_bytes())?;
        for Out(_, file) in [self.rows, self.sketches, self.shingles] {
            file.commit()?;
        }
        Ok(())
    }
}

/// The rows of one unit.
pub(super) fn read(path: &Path) -> Result<Vec<Kept>, Error> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let broken = || broken(path);
    let (bytes, seal) = bytes.split_last_chunk::<8>().ok_or_else(broken)?;
    if xxh3_64(bytes) != u64::from_le_bytes(*seal) {
        return Err(broken());
    }
    let mut rest = bytes.strip_prefix(MAGIC).ok_or_else(broken)?;
    let mut all = Vec::new();
    while !rest.is_empty() {
        let (fixed, tail) = rest.split_at_checked(FIXED).ok_or_else(broken)?;
        let count = u32::from_le_bytes(array(fixed, 59)) as usize;
        let (hashes, tail) = tail.split_at_checked(count * 8).ok_or_else(broken)?;
        rest = tail;
        let row = Row {
            id: u128::from_le_bytes(array(fixed, 0)),
            url: u64::from_le_bytes(array(fixed, 16)),
            text: u64::from_le_bytes(array(fixed, 24)),
            date: i64::from_le_bytes(array(fixed, 32)),
            bytes: u32::from_le_bytes(array(fixed, 40)),
            url_length: u16::from_le_bytes(array(fixed, 44)),
            language: u64::from_le_bytes(array(fixed, 46)),
            domain: u64::from_le_bytes(array(fixed, 63)),
        };
        let verdict = (fixed[54] != STAYS)
            .then(|| Verdict { rule: fixed[54], value: f32::from_le_bytes(array(fixed, 55)) });
        let lines = hashes.chunks_exact(8).map(|h| u64::from_le_bytes(array(h, 0))).collect();
        all.push(Kept { row, verdict, lines });
    }
    Ok(all)
}

/// Words of a sketch besides its bands, its seal included.
const WORDS: usize = 8;

/// The sketches of a run, whose signatures have `bands` bands each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sketches {
    pub bands: usize,
}

impl Sketches {
    fn bytes(self) -> usize {
        8 * (WORDS + self.bands)
    }

    fn parse(self, record: &[u8], path: &Path) -> Result<Sketch, Error> {
        let words: Vec<u64> =
            record.chunks_exact(8).map(|w| u64::from_le_bytes(array(w, 0))).collect();
        let sealed = record.len() - 8;
        if xxh3_64(&record[..sealed]) != u64::from_le_bytes(array(record, sealed)) {
            return Err(broken(path));
        }
        Ok(Sketch {
            id: u128::from(words[1]) << 64 | u128::from(words[0]),
            rank: [words[2], words[3]],
            first: words[4],
            count: words[5],
            checksum: words[6],
            bands: if words[5] == 0 { Vec::new() } else { words[7..words.len() - 1].to_vec() },
        })
    }

    /// All sketches of a unit.
    pub fn all(self, path: &Path) -> Result<Vec<Sketch>, Error> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        if bytes.len() % self.bytes() != 0 {
            return Err(broken(path));
        }
        bytes.chunks_exact(self.bytes()).map(|record| self.parse(record, path)).collect()
    }

    /// The sketch of page `number` of a unit.
    pub fn one(self, path: &Path, number: u64) -> Result<Sketch, Error> {
        let mut record = vec![0; self.bytes()];
        let file = File::open(path).map_err(Error::io(path))?;
        file.read_exact_at(&mut record, number * self.bytes() as u64).map_err(Error::io(path))?;
        self.parse(&record, path)
    }
}

impl Sketch {
    /// Its shingles, from the unit's file.
    pub fn shingles(&self, path: &Path) -> Result<Vec<u32>, Error> {
        let mut bytes = vec![0; self.count as usize * 4];
        let file = File::open(path).map_err(Error::io(path))?;
        file.read_exact_at(&mut bytes, self.first * 4).map_err(Error::io(path))?;
        if xxh3_64(&bytes) != self.checksum {
            return Err(broken(path));
        }
        Ok(bytes.chunks_exact(4).map(|s| u32::from_le_bytes(array(s, 0))).collect())
    }
}

fn array<const N: usize>(bytes: &[u8], from: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[from..from + N]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(verdict: Option<Verdict>, lines: Vec<u64>, shingles: Vec<u32>) -> Candidate {
        let row = Row {
            id: 1 << 99,
            url: 2,
            text: 3,
            date: -4,
            bytes: 5,
            url_length: 6,
            language: 7,
            domain: 8,
        };
        Candidate { row, verdict, lines, bands: vec![8, 9], shingles, ..Candidate::default() }
    }

    #[test]
    fn what_was_written_returns_and_damage_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let file = |end: &str| dir.path().join(end);
        let verdict = Some(Verdict { rule: 7, value: 0.5 });
        let all = [candidate(None, vec![8, 9], vec![1, 2]), candidate(verdict, vec![], vec![5])];
        let mut files = Files::create(file, 2).unwrap();
        all.iter().for_each(|candidate| files.push(candidate).unwrap());
        files.finish().unwrap();
        let kept = read(&file(ROWS)).unwrap();
        assert_eq!((kept[0].row, &kept[0].lines), (all[0].row, &vec![8, 9]));
        assert_eq!((kept[1].verdict, kept.len()), (verdict, 2));
        let sketches = Sketches { bands: 2 };
        let second = sketches.one(&file(SKETCHES), 1).unwrap();
        assert_eq!(sketches.all(&file(SKETCHES)).unwrap()[1], second);
        assert_eq!((second.id, second.rank), (all[1].row.id, all[1].row.rank()));
        assert_eq!(second.bands, all[1].bands);
        assert_eq!(second.shingles(&file(SHINGLES)).unwrap(), [5]);
        for (end, at) in [(ROWS, 40), (SKETCHES, 90), (SHINGLES, 9)] {
            let whole = std::fs::read(file(end)).unwrap();
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(file(end), bytes).unwrap();
            let damaged = match end {
                ROWS => read(&file(ROWS)).err(),
                SKETCHES => sketches.all(&file(SKETCHES)).err(),
                _ => second.shingles(&file(SHINGLES)).err(),
            };
            assert!(damaged.unwrap().to_string().contains(end));
            std::fs::write(file(end), whole).unwrap();
        }
    }
}
