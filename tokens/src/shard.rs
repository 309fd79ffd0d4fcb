//! Token shards: tokens of many documents in one memory-mapped file, with the documents' ids and
//! boundaries, so that a loss or a reply can be traced to its page. The format is ours; it is
//! written down in ARCHITECTURE.md. Not here: which document goes where (`prepare`), in which order
//! it is read (`loader`).
//!
//! Little-endian. A header of 64 bytes: magic, version u32, width of a token u32 (2 or 4), tokens
//! u64, documents u64, vocabulary u32, length of the source names u32, XXH3 of the tokenizer u64,
//! XXH3 of all that follows the header u64, XXH3 of the 56 bytes before it u64. Then 40 bytes a
//! document (id u128, first token u64, bytes of its text u64, source u32, zero u32), the source
//! names (a JSON list, blanks to a multiple of 8), the tokens. Document ends where the next begins.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::Error;

const MAGIC: &[u8; 8] = b"QUIPUTOK";
/// Version of the format.
pub const VERSION: u32 = 1;
const HEADER: usize = 64;
const ENTRY: usize = 40;

/// Bytes of a token in a shard of a tokenizer of `vocabulary` ids.
#[must_use]
pub const fn width(vocabulary: usize) -> usize {
    if vocabulary <= 1 << 16 { 2 } else { 4 }
}

/// A document in a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The document's id: 128-bit hash of canonical URL, date and position.
    pub id: u128,
    /// Its first token in the shard.
    pub start: u64,
    /// Its number of tokens, without those that mark begin and end.
    pub tokens: u64,
    /// Length of its text in bytes: what bits per byte are counted by.
    pub bytes: u64,
    /// Its source: an index into [`Shard::sources`].
    pub source: u32,
}

/// A shard opened for reading; its checksum was compared when it was opened.
pub struct Shard {
    path: PathBuf,
    map: Mmap,
    width: usize,
    tokens: u64,
    documents: usize,
    vocabulary: u32,
    tokenizer: u64,
    sources: Vec<String>,
    first_token: usize,
    checksum: u64,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard")
            .field("path", &self.path)
            .field("documents", &self.documents)
            .field("tokens", &self.tokens)
            .finish_non_exhaustive()
    }
}

/// What the header says, before it is held against the file.
struct Header {
    width: usize,
    tokens: u64,
    documents: u64,
    vocabulary: u32,
    names: usize,
    tokenizer: u64,
    checksum: u64,
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let Some(header) = bytes.get(..HEADER) else {
            return Err(format!("{} bytes, the header alone has {HEADER}", bytes.len()));
        };
        if &header[..8] != MAGIC {
            return Err(format!("begins with {:?}, expected {:?}", &header[..8], MAGIC));
        }
        let (found, said) = (xxh3_64(&header[..56]), u64_at(header, 56));
        let version = u32_at(header, 8);
        if version != VERSION {
            return Err(format!("format version {version}, this program reads {VERSION}"));
        }
        if found != said {
            return Err(format!("header has checksum {found:016x}, expected {said:016x}"));
        }
        let width = u32_at(header, 12) as usize;
        if width != 2 && width != 4 {
            return Err(format!("tokens of {width} bytes, expected 2 or 4"));
        }
        Ok(Self {
            width,
            tokens: u64_at(header, 16),
            documents: u64_at(header, 24),
            vocabulary: u32_at(header, 32),
            names: u32_at(header, 36) as usize,
            tokenizer: u64_at(header, 40),
            checksum: u64_at(header, 48),
        })
    }

    /// Where the tokens begin and the file ends, if the sizes make sense.
    fn layout(&self) -> Option<(usize, usize)> {
        let table = usize::try_from(self.documents).ok()?.checked_mul(ENTRY)?;
        let first = HEADER.checked_add(table)?.checked_add(self.names)?;
        let tokens = usize::try_from(self.tokens).ok()?.checked_mul(self.width)?;
        Some((first, first.checked_add(tokens)?))
    }
}

impl Shard {
    /// Opens a shard, compares its checksum and checks every boundary and token.
    ///
    /// # Errors
    /// [`Error::Read`] when it cannot be read, [`Error::Shard`] when it is none or is damaged.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let read = |source| Error::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(read)?;
        // SAFETY: shards are written under another name and renamed, never changed in place; that
        // nobody else truncates a file of a run folder is what every memory map rests on.
        #[allow(unsafe_code)]
        let map = unsafe { Mmap::map(&file) }.map_err(read)?;
        let refuse = |reason: String| Error::Shard { path: path.to_owned(), reason };
        let header = Header::parse(&map).map_err(refuse)?;
        let (first_token, end) =
            header.layout().ok_or_else(|| refuse("sizes overflow".to_owned()))?;
        if end != map.len() {
            return Err(refuse(format!("{} bytes, the header says {end}", map.len())));
        }
        let found = xxh3_64(&map[HEADER..]);
        if found != header.checksum {
            return Err(refuse(format!(
                "content has checksum {found:016x}, expected {:016x}",
                header.checksum
            )));
        }
        let names = &map[first_token - header.names..first_token];
        let sources: Vec<String> = serde_json::from_slice(names)
            .map_err(|e| refuse(format!("the source names are no JSON list: {e}")))?;
        let shard = Self {
            path: path.to_owned(),
            width: header.width,
            tokens: header.tokens,
            documents: header.documents as usize,
            vocabulary: header.vocabulary,
            tokenizer: header.tokenizer,
            sources,
            first_token,
            checksum: header.checksum,
            map,
        };
        shard.check().map_err(refuse)?;
        Ok(shard)
    }

    /// Boundaries ascend, sources exist, tokens lie in the vocabulary.
    fn check(&self) -> Result<(), String> {
        let mut before = 0;
        for i in 0..self.documents {
            let (start, source) = (self.start(i), u32_at(self.entry(i), 32));
            let in_order = if i == 0 { start == 0 } else { start >= before };
            if !in_order || start > self.tokens {
                return Err(format!("document {i} begins at token {start}, after {before}"));
            }
            if source as usize >= self.sources.len() {
                return Err(format!("document {i} is of source {source}, which has no name"));
            }
            before = start;
        }
        if self.documents == 0 && self.tokens > 0 {
            return Err(format!("{} tokens belong to no document", self.tokens));
        }
        let top = match self.width {
            2 => self.map[self.first_token..]
                .chunks_exact(2)
                .map(|c| u32::from(u16::from_le_bytes([c[0], c[1]])))
                .max(),
            _ => self.map[self.first_token..].chunks_exact(4).map(|c| u32_at(c, 0)).max(),
        };
        match top {
            Some(top) if top >= self.vocabulary => {
                Err(format!("token {top} in a vocabulary of {}", self.vocabulary))
            }
            _ => Ok(()),
        }
    }

    fn entry(&self, i: usize) -> &[u8] {
        &self.map[HEADER + i * ENTRY..HEADER + (i + 1) * ENTRY]
    }

    fn start(&self, i: usize) -> u64 {
        u64_at(self.entry(i), 16)
    }

    /// Bytes of the file.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.map.len() as u64
    }

    /// Gives back the pages that are resident: they stay in the system's cache, and are mapped again
    /// when they are read.
    pub fn release(&self) {
        // SAFETY: a map of a file that is only read has nothing that could be lost.
        #[cfg(target_os = "linux")]
        #[allow(unsafe_code)]
        let _ = unsafe { self.map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of documents.
    #[must_use]
    pub fn documents(&self) -> usize {
        self.documents
    }

    /// Number of tokens.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Number of ids of the tokenizer that made it.
    #[must_use]
    pub fn vocabulary(&self) -> u32 {
        self.vocabulary
    }

    /// XXH3 of the `tokenizer.json` that made it.
    #[must_use]
    pub fn tokenizer(&self) -> u64 {
        self.tokenizer
    }

    /// XXH3 of its content.
    #[must_use]
    pub fn checksum(&self) -> u64 {
        self.checksum
    }

    /// Names of the sources.
    #[must_use]
    pub fn sources(&self) -> &[String] {
        &self.sources
    }

    /// The document at index `i`, which must be below [`documents`](Self::documents).
    #[must_use]
    pub fn document(&self, i: usize) -> Entry {
        let entry = self.entry(i);
        let mut id = [0; 16];
        id.copy_from_slice(&entry[..16]);
        let start = u64_at(entry, 16);
        let end = if i + 1 < self.documents { self.start(i + 1) } else { self.tokens };
        Entry {
            id: u128::from_le_bytes(id),
            start,
            tokens: end - start,
            bytes: u64_at(entry, 24),
            source: u32_at(entry, 32),
        }
    }

    /// Appends the tokens of a range, which must lie within [`tokens`](Self::tokens).
    pub fn read(&self, range: Range<u64>, out: &mut Vec<u32>) {
        let at = |token: u64| self.first_token + token as usize * self.width;
        let bytes = &self.map[at(range.start)..at(range.end)];
        if self.width == 2 {
            let token = |c: &[u8]| u32::from(u16::from_le_bytes([c[0], c[1]]));
            out.extend(bytes.chunks_exact(2).map(token));
        } else {
            out.extend(bytes.chunks_exact(4).map(|c| u32_at(c, 0)));
        }
    }
}

/// Gathers documents and writes them as one shard.
#[derive(Debug)]
pub struct ShardWriter {
    vocabulary: u32,
    tokenizer: u64,
    sources: Vec<String>,
    table: Vec<u8>,
    /// the tokens as they will stand in the file
    bytes: Vec<u8>,
    tokens: u64,
    documents: u64,
}

impl ShardWriter {
    /// An empty shard for a tokenizer of `vocabulary` ids with this XXH3 of its `tokenizer.json`.
    #[must_use]
    pub fn new(vocabulary: u32, tokenizer: u64) -> Self {
        Self {
            vocabulary,
            tokenizer,
            sources: Vec::new(),
            table: Vec::new(),
            bytes: Vec::new(),
            tokens: 0,
            documents: 0,
        }
    }

    /// Adds a document; `bytes` is the length of its text.
    pub fn push(&mut self, id: u128, source: &str, bytes: u64, tokens: &[u32]) {
        let source = match self.sources.iter().position(|s| s == source) {
            Some(at) => at,
            None => {
                self.sources.push(source.to_owned());
                self.sources.len() - 1
            }
        };
        self.table.extend_from_slice(&id.to_le_bytes());
        self.table.extend_from_slice(&self.tokens.to_le_bytes());
        self.table.extend_from_slice(&bytes.to_le_bytes());
        self.table.extend_from_slice(&(source as u32).to_le_bytes());
        self.table.extend_from_slice(&0_u32.to_le_bytes());
        let (from, width) = (self.bytes.len(), self.width() as usize);
        self.bytes.resize(from + tokens.len() * width, 0);
        let places = self.bytes[from..].chunks_exact_mut(width);
        match width {
            2 => {
                places.zip(tokens).for_each(|(b, t)| b.copy_from_slice(&(*t as u16).to_le_bytes()))
            }
            _ => places.zip(tokens).for_each(|(b, t)| b.copy_from_slice(&t.to_le_bytes())),
        }
        self.tokens += tokens.len() as u64;
        self.documents += 1;
    }

    /// Bytes of a token.
    fn width(&self) -> u32 {
        width(self.vocabulary as usize) as u32
    }

    /// Number of tokens so far.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Number of documents so far.
    #[must_use]
    pub fn documents(&self) -> u64 {
        self.documents
    }

    /// Writes the shard under its final name, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Store`] when it cannot be written.
    pub fn write(self, path: &Path) -> Result<(), Error> {
        let mut names = serde_json::to_vec(&self.sources).unwrap_or_else(|_| b"[]".to_vec());
        names.resize(names.len().next_multiple_of(8), b' ');
        let mut content = Xxh3::new();
        for part in [&self.table, &names, &self.bytes] {
            content.update(part);
        }
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&self.width().to_le_bytes());
        header.extend_from_slice(&self.tokens.to_le_bytes());
        header.extend_from_slice(&self.documents.to_le_bytes());
        header.extend_from_slice(&self.vocabulary.to_le_bytes());
        header.extend_from_slice(&(names.len() as u32).to_le_bytes());
        header.extend_from_slice(&self.tokenizer.to_le_bytes());
        header.extend_from_slice(&content.digest().to_le_bytes());
        let checksum = xxh3_64(&header);
        header.extend_from_slice(&checksum.to_le_bytes());
        quipu_store::atomic::write(path, |out| {
            for part in [&header, &self.table, &names, &self.bytes] {
                out.write_all(part)?;
            }
            Ok(())
        })?;
        Ok(())
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A shard of a few documents over a vocabulary, for tests of the crate.
    pub(crate) fn write(path: &Path, vocabulary: u32, documents: &[(u128, &str, Vec<u32>)]) {
        let mut writer = ShardWriter::new(vocabulary, 7);
        for (id, source, tokens) in documents {
            writer.push(*id, source, tokens.len() as u64 * 2, tokens);
        }
        writer.write(path).unwrap();
    }

    fn sample(vocabulary: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("train-00000.tokens");
        let documents =
            [(u128::MAX - 4, "prose", vec![1, 2, 3]), (9, "code", vec![]), (8, "prose", vec![4])];
        write(&path, vocabulary, &documents);
        (dir, path)
    }

    #[track_caller]
    fn check_refused(bytes: &[u8], says: &str) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.tokens");
        std::fs::write(&path, bytes).unwrap();
        let error = Shard::open(&path).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("x.tokens"), "{error}");
    }

    /// Puts right checksums on damaged content, as an attacker would.
    fn seal(bytes: &mut [u8]) {
        let content = xxh3_64(&bytes[HEADER..]);
        bytes[48..56].copy_from_slice(&content.to_le_bytes());
        let header = xxh3_64(&bytes[..56]);
        bytes[56..64].copy_from_slice(&header.to_le_bytes());
    }

    #[test]
    fn round_trip_in_both_widths() {
        for vocabulary in [300, 70_000] {
            let (_dir, path) = sample(vocabulary);
            let shard = Shard::open(&path).unwrap();
            assert_eq!((shard.documents(), shard.tokens()), (3, 4));
            assert_eq!(shard.sources(), ["prose", "code"]);
            let first = shard.document(0);
            assert_eq!((first.id, first.tokens, first.bytes), (u128::MAX - 4, 3, 6));
            assert_eq!(shard.document(1).tokens, 0);
            assert_eq!(shard.document(2).source, 0);
            let mut tokens = Vec::new();
            shard.read(1..4, &mut tokens);
            assert_eq!(tokens, [2, 3, 4]);
        }
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let (_dir, path) = sample(300);
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            check_refused(&bad, "damaged token shard");
        }
        for length in 0..good.len() {
            if length > 0 {
                check_refused(&good[..length], "damaged token shard");
            }
        }
    }

    #[test]
    fn crafted_shards_are_refused() {
        let (_dir, path) = sample(300);
        let good = std::fs::read(&path).unwrap();
        let with = |at: usize, value: &[u8]| {
            let mut bad = good.clone();
            bad[at..at + value.len()].copy_from_slice(value);
            seal(&mut bad);
            bad
        };
        check_refused(&with(8, &9_u32.to_le_bytes()), "version 9");
        check_refused(&with(12, &3_u32.to_le_bytes()), "tokens of 3 bytes");
        check_refused(&with(16, &u64::MAX.to_le_bytes()), "overflow");
        check_refused(&with(24, &(u64::MAX / 40).to_le_bytes()), "overflow");
        check_refused(&with(32, &3_u32.to_le_bytes()), "token 4 in a vocabulary of 3");
        check_refused(&with(HEADER + 16, &1_u64.to_le_bytes()), "document 0 begins at token 1");
        check_refused(&with(HEADER + ENTRY + 16, &90_u64.to_le_bytes()), "document 1 begins");
        check_refused(&with(HEADER + 32, &5_u32.to_le_bytes()), "no name");
        check_refused(&with(HEADER + 3 * ENTRY, b"{}"), "no JSON list");
    }

    #[test]
    fn mutations_never_panic() {
        let (_dir, path) = sample(300);
        let good = std::fs::read(&path).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut state = 1_u64;
        for _ in 0..3000 {
            let mut bad = good.clone();
            for _ in 0..3 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (state >> 33) as usize % bad.len();
                bad[at] = (state >> 20) as u8;
            }
            seal(&mut bad);
            let path = dir.path().join("m.tokens");
            std::fs::write(&path, &bad).unwrap();
            if let Ok(shard) = Shard::open(&path) {
                let mut out = Vec::new();
                for i in 0..shard.documents() {
                    let d = shard.document(i);
                    shard.read(d.start..d.start + d.tokens, &mut out);
                }
            }
        }
    }
}
