//! Our own checkpoints: any set of named tensors, written in pieces by any number of ranks and read
//! in other pieces by any other number.
//!
//! A piece ("chunk") is a box of a tensor: where it begins, how far it reaches, and a checksum.
//! Each rank writes `rank-00000.chunks` with its index `rank-00000.json`; the manifest comes last,
//! so that a folder without one is no checkpoint. The form follows PyTorch's distributed
//! checkpoints (logical name → chunks with global offsets). It knows nothing of models: the trainer
//! stores master weights, moments and states alike.
//!
//! Nobody goes through what others wrote: a rank takes the checksum of its file as it writes it, who
//! seals reads indexes, and who opens holds indexes and sizes against the manifest and a chunk
//! against its checksum when it is read. Of the chunks a rank of thousands reads those that it needs.

use crate::Error;
use quipu_math::DType;
use quipu_store::manifest::Manifest;
use quipu_store::{atomic, checksum, manifest};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The manifest's format.
pub const FORMAT: &str = "quipu.checkpoint";
/// The version this program writes and reads.
pub const VERSION: u32 = 2;
/// About the largest chunk, in bytes: one is read whole, however little of it is asked for.
const CHUNK: usize = 16 << 20;

/// One stored box of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Chunk {
    name: String,
    dtype: String,
    /// Shape of the whole tensor: one or two dimensions.
    shape: Vec<usize>,
    /// First element of the box in each dimension.
    start: Vec<usize>,
    /// Elements of the box in each dimension.
    extent: Vec<usize>,
    /// First byte in the file.
    at: u64,
    bytes: u64,
    xxh3: String,
}

/// What a rank says of its file of chunks.
#[derive(Debug, Serialize, Deserialize)]
struct Index {
    file: manifest::File,
    chunks: Vec<Chunk>,
}

/// A box of a tensor of rows and columns: what a rank holds of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Row and column at which it begins.
    pub first: (usize, usize),
    /// Its rows.
    pub rows: usize,
    /// Its columns.
    pub cols: usize,
}

impl Part {
    /// All of a tensor of one or two dimensions.
    fn whole(shape: &[usize]) -> Part {
        let cols = shape.last().copied().unwrap_or(1);
        let rows = if shape.len() == 2 { shape[0] } else { 1 };
        Part { first: (0, 0), rows, cols }
    }

    /// Whether it lies in a tensor.
    fn is_in(&self, shape: &[usize]) -> bool {
        let Part { rows, cols, .. } = Part::whole(shape);
        let fits = |first: usize, n: usize, of| first.checked_add(n).is_some_and(|end| end <= of);
        fits(self.first.0, self.rows, rows) && fits(self.first.1, self.cols, cols)
    }
}

/// Writes one rank's pieces.
pub struct Writer {
    folder: PathBuf,
    rank: usize,
    file: atomic::File,
    checksum: checksum::Running,
    at: u64,
    chunks: Vec<Chunk>,
}

fn file_of(rank: usize) -> String {
    format!("rank-{rank:05}.chunks")
}

fn index_of(rank: usize) -> String {
    format!("rank-{rank:05}.json")
}

impl Writer {
    /// Begins this rank's file in `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn create(folder: &Path, rank: usize) -> Result<Writer, Error> {
        atomic::create_dir(folder)?;
        let file = atomic::File::create(&folder.join(file_of(rank)))?;
        let checksum = checksum::Running::default();
        Ok(Writer { folder: folder.into(), rank, file, checksum, at: 0, chunks: Vec::new() })
    }

    /// Stores the elements `range` (row-major) of tensor `name`, which has `shape` as a whole.
    /// `bytes` are those elements, little-endian.
    ///
    /// # Errors
    /// A shape of more than two dimensions, a range outside it, bytes of another length; a full
    /// disk.
    pub fn put(
        &mut self,
        name: &str,
        dtype: DType,
        shape: &[usize],
        range: Range<usize>,
        bytes: &[u8],
    ) -> Result<(), Error> {
        self.put_part(name, dtype, (shape, &Part::whole(shape)), range, bytes)
    }

    /// Stores elements of a part of tensor `name`: `range` counts within the part, row-major.
    ///
    /// # Errors
    /// As [`Writer::put`], and a part outside the tensor.
    pub fn put_part(
        &mut self,
        name: &str,
        dtype: DType,
        (shape, part): (&[usize], &Part),
        range: Range<usize>,
        bytes: &[u8],
    ) -> Result<(), Error> {
        if !(1..=2).contains(&shape.len()) || !part.is_in(shape) {
            return Err(self.wrong(format!(
                "a shape {shape:?} and {part:?}; expected one or two dimensions, and a part of it"
            )));
        }
        if range.start > range.end || range.end > part.rows * part.cols {
            return Err(self.wrong(format!("{name}: elements {range:?} of a shape {shape:?}")));
        }
        if bytes.len() != range.len() * dtype.size() {
            let (found, expected) = (bytes.len(), range.len() * dtype.size());
            return Err(self.wrong(format!("{name}: {found} bytes were given for {expected}")));
        }
        let mut from = 0;
        let rows = CHUNK / (part.cols * dtype.size()).max(1);
        for (start, extent) in boxes(part.rows, part.cols, range, rows.max(1)) {
            let n = extent[0] * extent[1] * dtype.size();
            let start = [start[0] + part.first.0, start[1] + part.first.1];
            let dimensions = 2 - shape.len()..;
            self.append(
                Chunk {
                    name: name.into(),
                    dtype: dtype.name().into(),
                    shape: shape.into(),
                    start: start[dimensions.clone()].into(),
                    extent: extent[dimensions].into(),
                    at: self.at,
                    bytes: n as u64,
                    xxh3: checksum::xxh3_bytes(&bytes[from..from + n]),
                },
                &bytes[from..from + n],
            )?;
            from += n;
        }
        Ok(())
    }

    fn append(&mut self, chunk: Chunk, bytes: &[u8]) -> Result<(), Error> {
        let path = self.folder.join(file_of(self.rank));
        self.file.write_all(bytes).map_err(|source| Error::Io { path, source })?;
        self.checksum.update(bytes);
        self.at += chunk.bytes;
        self.chunks.push(chunk);
        Ok(())
    }

    /// Ends this rank's part: data first, then its index. [`seal`] makes it a checkpoint.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn finish(self) -> Result<(), Error> {
        self.file.commit()?;
        let (name, xxh3) = (file_of(self.rank), self.checksum.digest());
        let file = manifest::File { name, bytes: self.at, xxh3 };
        let index = Index { file, chunks: self.chunks };
        let text = serde_json::to_vec(&index).map_err(|e| Error::NotJson { why: e.to_string() })?;
        Ok(atomic::write_bytes(&self.folder.join(index_of(self.rank)), &text)?)
    }

    fn wrong(&self, why: String) -> Error {
        Error::Checkpoint { folder: self.folder.clone(), why }
    }
}

/// The boxes that a range of elements of a rows × cols tensor makes: the end of its first row,
/// whole rows, `most` at a time, the beginning of its last row.
fn boxes(
    rows: usize,
    cols: usize,
    range: Range<usize>,
    most: usize,
) -> Vec<([usize; 2], [usize; 2])> {
    let mut boxes = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let (row, col) = (at / cols, at % cols);
        debug_assert!(row < rows, "{range:?} of {rows} × {cols}");
        let left = range.end - at;
        let (high, wide) = match col {
            0 if left >= cols => ((left / cols).min(most), cols),
            _ => (1, left.min(cols - col)),
        };
        boxes.push(([row, col], [high, wide]));
        at += high * wide;
    }
    boxes
}

/// Makes a checkpoint of what `ranks` ranks have finished: the manifest, with `facts` beside it.
///
/// # Errors
/// A rank whose part is not there; what the file system reports.
pub fn seal(folder: &Path, ranks: usize, facts: Value) -> Result<(), Error> {
    let mut manifest = Manifest::new(FORMAT, VERSION);
    for rank in 0..ranks {
        let Index { file, .. } = read_index(folder, rank)?;
        file.verify_size(folder)?;
        manifest.files.push(file);
        manifest.add(folder, &index_of(rank))?;
    }
    manifest.facts = facts;
    Ok(manifest.write(folder)?)
}

fn read_index(folder: &Path, rank: usize) -> Result<Index, Error> {
    let path = folder.join(index_of(rank));
    let text = std::fs::read(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
    let read = serde_json::from_slice(&text);
    read.map_err(|e| Error::NotJson { why: e.to_string() }.in_file(&path))
}

/// What a checkpoint says about a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Element type.
    pub dtype: DType,
    /// Shape of the whole tensor.
    pub shape: Vec<usize>,
}

impl Info {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A tensor and its chunks, each with the rank that wrote it.
type Tensor = (Info, Vec<(usize, Chunk)>);

/// A checkpoint of sound indexes and whole files, open for reading.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    facts: Value,
    files: Vec<File>,
    tensors: BTreeMap<String, Tensor>,
}

impl Reader {
    /// Opens a folder: checks the indexes and the sizes of all files against the manifest, and that
    /// every tensor is whole. What is in a chunk is checked when it is read.
    ///
    /// # Errors
    /// No manifest, another format or version, a file that is missing, cut off or damaged (which and
    /// how), an index that does not describe whole tensors.
    pub fn open(folder: &Path) -> Result<Reader, Error> {
        let manifest = Manifest::read(folder, FORMAT, VERSION)?;
        let facts = manifest.facts.clone();
        let mut reader =
            Reader { folder: folder.into(), facts, files: Vec::new(), tensors: BTreeMap::new() };
        for (rank, files) in manifest.files.chunks(2).enumerate() {
            reader.add_rank(rank, files)?;
        }
        for (name, (info, chunks)) in &reader.tensors {
            reader.check_cover(name, info, chunks)?;
        }
        Ok(reader)
    }

    /// `files`: those that the manifest names of a rank.
    fn add_rank(&mut self, rank: usize, files: &[manifest::File]) -> Result<(), Error> {
        match files {
            [file, index] if file.name == file_of(rank) && index.name == index_of(rank) => {
                file.verify_size(&self.folder)?;
                index.verify(&self.folder)?;
            }
            _ => return Err(self.wrong(format!("its manifest lacks {}", index_of(rank)))),
        }
        let Index { file, chunks } = read_index(&self.folder, rank)?;
        if file != files[0] {
            let name = index_of(rank);
            return Err(self.wrong(format!("{name} and the manifest differ in {}", file.name)));
        }
        let path = self.folder.join(file_of(rank));
        let open = || File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (length, file) = open().map_err(|source| Error::Io { path: path.clone(), source })?;
        self.files.push(file);
        let mut at = 0;
        for chunk in chunks {
            let info = self.check_chunk(&chunk, at..length)?;
            at += chunk.bytes;
            let entry = self.tensors.entry(chunk.name.clone());
            let (known, chunks) = entry.or_insert_with(|| (info.clone(), Vec::new()));
            if *known != info {
                let why = format!("tensor '{}' has two shapes or types", chunk.name);
                return Err(Error::Checkpoint { folder: self.folder.clone(), why });
            }
            chunks.push((rank, chunk));
        }
        Ok(())
    }

    /// `left` of its file lies behind the chunks before it.
    fn check_chunk(&self, chunk: &Chunk, left: Range<u64>) -> Result<Info, Error> {
        let Some(dtype) = DType::parse(&chunk.dtype) else {
            return Err(
                self.wrong(format!("tensor '{}' has element type {}", chunk.name, chunk.dtype))
            );
        };
        let d = chunk.shape.len();
        let inside = (1..=2).contains(&d)
            && chunk.start.len() == d
            && chunk.extent.len() == d
            && (0..d).all(|i| {
                let end = chunk.start[i].checked_add(chunk.extent[i]);
                chunk.extent[i] > 0 && end.is_some_and(|end| end <= chunk.shape[i])
            });
        let size =
            |dims: &[usize]| dims.iter().try_fold(dtype.size(), |n, dim| n.checked_mul(*dim));
        let fits = inside
            && size(&chunk.shape).is_some()
            && size(&chunk.extent).map(|n| n as u64) == Some(chunk.bytes)
            && chunk.at == left.start
            && chunk.at.checked_add(chunk.bytes).is_some_and(|end| end <= left.end);
        match fits {
            true => Ok(Info { dtype, shape: chunk.shape.clone() }),
            false => Err(self.wrong(format!("a piece of tensor '{}' does not fit it", chunk.name))),
        }
    }

    /// Whether the boxes cover the tensor once: as many elements as it has, and no two overlap.
    fn check_cover(&self, name: &str, info: &Info, chunks: &[(usize, Chunk)]) -> Result<(), Error> {
        let mut spans: Vec<Range<usize>> = Vec::new();
        let cols = info.shape[info.shape.len() - 1];
        for (_, chunk) in chunks {
            let (start, extent) = padded(chunk);
            let first = start[0] * cols + start[1];
            if extent[1] == cols {
                spans.push(first..first + extent[0] * cols);
            } else {
                let row = |r: usize| first + r * cols..first + r * cols + extent[1];
                spans.extend((0..extent[0]).map(row));
            }
        }
        spans.sort_by_key(|span| span.start);
        let mut at = 0;
        for span in spans {
            if span.start != at {
                let what = if span.start < at { "stored twice" } else { "missing" };
                return Err(self.wrong(format!("tensor '{name}': elements near {at} are {what}")));
            }
            at = span.end;
        }
        match at == info.elements() {
            true => Ok(()),
            false => Err(self.wrong(format!("tensor '{name}': elements from {at} on are missing"))),
        }
    }

    /// What the writer kept beside the tensors.
    pub fn facts(&self) -> &Value {
        &self.facts
    }

    /// All names, ascending.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Type and shape of a tensor.
    ///
    /// # Errors
    /// A tensor that is not there.
    pub fn info(&self, name: &str) -> Result<&Info, Error> {
        Ok(&self.find(name)?.0)
    }

    /// The bytes of the elements `range` (row-major) of a tensor, wherever they were written.
    ///
    /// # Errors
    /// A tensor that is not there, a range outside it, a damaged piece.
    pub fn read(&self, name: &str, range: Range<usize>) -> Result<Vec<u8>, Error> {
        let part = Part::whole(&self.info(name)?.shape);
        self.read_part(name, &part, range)
    }

    /// Those of a part of a tensor: `range` counts within the part, row-major.
    ///
    /// # Errors
    /// As [`Reader::read`], and a part outside the tensor.
    pub fn read_part(
        &self,
        name: &str,
        part: &Part,
        range: Range<usize>,
    ) -> Result<Vec<u8>, Error> {
        let (info, chunks) = self.find(name)?;
        let inside = range.start <= range.end && range.end <= part.rows * part.cols;
        if !(inside && part.is_in(&info.shape)) {
            let why = format!("tensor '{name}' {:?} has no elements {range:?}", info.shape);
            return Err(self.wrong(why));
        }
        let size = info.dtype.size();
        let mut out = vec![0; range.len() * size];
        let wanted = boxes(part.rows, part.cols, range, usize::MAX);
        let wanted: Vec<_> = wanted
            .into_iter()
            .scan(0, |at, (start, extent)| {
                let first = *at;
                *at += extent[0] * extent[1];
                Some((first, [start[0] + part.first.0, start[1] + part.first.1], extent))
            })
            .collect();
        for (rank, chunk) in chunks {
            let mut bytes = None;
            for (first, start, extent) in &wanted {
                let Some(common) = Overlap::of((*start, *extent), padded(chunk)) else { continue };
                if bytes.is_none() {
                    bytes = Some(self.chunk_bytes(*rank, chunk)?);
                }
                common.copy(bytes.as_deref().unwrap_or_default(), &mut out, (*first, size));
            }
        }
        Ok(out)
    }

    /// The bytes of a whole tensor.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn read_all(&self, name: &str) -> Result<Vec<u8>, Error> {
        let elements = self.info(name)?.elements();
        self.read(name, 0..elements)
    }

    fn chunk_bytes(&self, rank: usize, chunk: &Chunk) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; chunk.bytes as usize];
        self.files[rank]
            .read_exact_at(&mut bytes, chunk.at)
            .map_err(|source| Error::Io { path: self.folder.join(file_of(rank)), source })?;
        let found = checksum::xxh3_bytes(&bytes);
        if found != chunk.xxh3 {
            let (name, expected) = (&chunk.name, &chunk.xxh3);
            let file = file_of(rank);
            let why = format!(
                "a piece of tensor '{name}' in {file} is damaged: its checksum is {found}, its index \
                 says {expected}"
            );
            return Err(self.wrong(why));
        }
        Ok(bytes)
    }

    fn find(&self, name: &str) -> Result<&Tensor, Error> {
        self.tensors.get(name).ok_or_else(|| self.wrong(format!("it holds no tensor '{name}'")))
    }

    fn wrong(&self, why: String) -> Error {
        Error::Checkpoint { folder: self.folder.clone(), why }
    }
}

/// What two boxes of a tensor have in common.
struct Overlap {
    rows: Range<usize>,
    cols: Range<usize>,
    /// The one that is wanted, and the one that is stored.
    wanted: ([usize; 2], [usize; 2]),
    stored: ([usize; 2], [usize; 2]),
}

impl Overlap {
    fn of(wanted: ([usize; 2], [usize; 2]), stored: ([usize; 2], [usize; 2])) -> Option<Overlap> {
        let common = |i: usize| {
            let start = wanted.0[i].max(stored.0[i]);
            start..(wanted.0[i] + wanted.1[i]).min(stored.0[i] + stored.1[i])
        };
        let (rows, cols) = (common(0), common(1));
        (rows.start < rows.end && cols.start < cols.end).then_some(Overlap {
            rows,
            cols,
            wanted,
            stored,
        })
    }

    /// Copies it from the stored box's bytes to where the wanted box begins in `out`, at element
    /// `first`.
    fn copy(&self, bytes: &[u8], out: &mut [u8], (first, size): (usize, usize)) {
        let at = |(start, extent): ([usize; 2], [usize; 2]), row: usize| {
            (row - start[0]) * extent[1] + self.cols.start - start[1]
        };
        let n = self.cols.len() * size;
        for row in self.rows.clone() {
            let (from, to) = (at(self.stored, row) * size, (first + at(self.wanted, row)) * size);
            out[to..to + n].copy_from_slice(&bytes[from..from + n]);
        }
    }
}

/// Start and extent as rows and columns.
fn padded(chunk: &Chunk) -> ([usize; 2], [usize; 2]) {
    match chunk.shape.len() {
        1 => ([0, chunk.start[0]], [1, chunk.extent[0]]),
        _ => ([chunk.start[0], chunk.start[1]], [chunk.extent[0], chunk.extent[1]]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sample() -> Vec<u8> {
        (0..7 * 5).flat_map(|i| (i as f32 * 0.5 - 3.0).to_le_bytes()).collect()
    }

    /// One 7 × 5 matrix cut at `cuts` among ranks, and a vector on rank 0.
    fn write(folder: &Path, cuts: &[usize]) {
        let bytes = sample();
        for rank in 0..cuts.len() - 1 {
            let range = cuts[rank]..cuts[rank + 1];
            let mut writer = Writer::create(folder, rank).unwrap();
            let part = &bytes[range.start * 4..range.end * 4];
            writer.put("m.weight", DType::F32, &[7, 5], range, part).unwrap();
            if rank == 0 {
                writer.put("step", DType::U32, &[2], 0..2, &[1, 0, 0, 0, 9, 0, 0, 0]).unwrap();
            }
            writer.finish().unwrap();
        }
        seal(folder, cuts.len() - 1, json!({"step": 12})).unwrap();
    }

    fn check(cuts: &[usize]) {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), cuts);
        let reader = Reader::open(dir.path()).unwrap();
        assert_eq!(reader.facts()["step"], 12);
        assert_eq!(reader.names().collect::<Vec<_>>(), ["m.weight", "step"]);
        assert_eq!(reader.read_all("m.weight").unwrap(), sample());
        for a in 0..35 {
            for b in a..=35 {
                assert_eq!(
                    reader.read("m.weight", a..b).unwrap(),
                    sample()[a * 4..b * 4],
                    "{a}..{b}"
                );
            }
        }
        assert!(reader.read("m.weight", 30..36).is_err());
        assert!(reader.read_all("other").unwrap_err().to_string().contains("other"));
    }

    #[test]
    fn what_any_ranks_wrote_any_ranks_read() {
        check(&[0, 35]);
        check(&[0, 17, 35]);
        check(&[0, 3, 4, 4, 25, 35]);
    }

    #[test]
    fn parts_of_columns_make_a_whole_and_are_read_as_others() {
        let dir = tempfile::tempdir().unwrap();
        let values: Vec<u32> = (0..35).collect();
        let cut = |part: &Part| -> Vec<u8> {
            let rows = part.first.0..part.first.0 + part.rows;
            let cells =
                rows.flat_map(|r| (part.first.1..part.first.1 + part.cols).map(move |c| (r, c)));
            cells.flat_map(|(r, c)| values[r * 5 + c].to_le_bytes()).collect()
        };
        for (rank, (left, cols)) in [(0, 2), (2, 3)].into_iter().enumerate() {
            let part = Part { first: (0, left), rows: 7, cols };
            let (mut writer, bytes) = (Writer::create(dir.path(), rank).unwrap(), cut(&part));
            let middle = part.rows * cols / 2;
            for range in [0..middle, middle..part.rows * cols] {
                let bytes = &bytes[range.start * 4..range.end * 4];
                writer.put_part("m", DType::U32, (&[7, 5], &part), range, bytes).unwrap();
            }
            let outside = Part { first: (1, left), ..part };
            assert!(writer.put_part("n", DType::U32, (&[7, 5], &outside), 0..0, &[]).is_err());
            writer.finish().unwrap();
        }
        seal(dir.path(), 2, json!({})).unwrap();
        let reader = Reader::open(dir.path()).unwrap();
        for (first, rows, cols) in [((0, 0), 7, 5), ((2, 1), 3, 2), ((6, 4), 1, 1), ((1, 0), 5, 3)]
        {
            let part = Part { first, rows, cols };
            for range in [0..rows * cols, 0..1, rows * cols / 3..rows * cols] {
                let expected = &cut(&part)[range.start * 4..range.end * 4];
                assert_eq!(reader.read_part("m", &part, range.clone()).unwrap(), expected);
            }
        }
    }

    #[test]
    fn an_unfinished_checkpoint_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(dir.path(), 0).unwrap();
        writer.put("m", DType::F32, &[1], 0..1, &[0; 4]).unwrap();
        assert!(writer.put("m", DType::F32, &[1], 0..2, &[0; 8]).is_err());
        assert!(writer.put("m", DType::F32, &[1, 1, 1], 0..1, &[0; 4]).is_err());
        assert!(writer.put("m", DType::F32, &[1], 0..1, &[0; 5]).is_err());
        writer.finish().unwrap();
        assert!(Reader::open(dir.path()).is_err());
        assert!(seal(dir.path(), 2, json!({})).is_err());
    }

    #[test]
    fn a_part_left_out_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(dir.path(), 0).unwrap();
        writer.put("m.weight", DType::F32, &[7, 5], 0..34, &sample()[..136]).unwrap();
        writer.finish().unwrap();
        seal(dir.path(), 1, json!({})).unwrap();
        let error = Reader::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("m.weight") && error.contains("missing"), "{error}");
    }

    #[test]
    fn every_flipped_byte_of_every_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[0, 17, 35]);
        let read = || -> Result<_, Error> {
            let reader = Reader::open(dir.path())?;
            let (m, step) = (reader.read_all("m.weight")?, reader.read_all("step")?);
            Ok((reader.facts()["step"].clone(), m, step))
        };
        let whole = read().unwrap();
        for file in std::fs::read_dir(dir.path()).unwrap() {
            let path = file.unwrap().path();
            let sound = std::fs::read(&path).unwrap();
            for at in (0..sound.len()).step_by(13) {
                let mut damaged = sound.clone();
                damaged[at] ^= 0x10;
                std::fs::write(&path, &damaged).unwrap();
                // white space in the manifest may change without changing what it says
                let found = read();
                assert!(found.is_err() || found.is_ok_and(|found| found == whole));
            }
            std::fs::write(&path, &sound[..sound.len() / 2]).unwrap();
            assert!(Reader::open(dir.path()).is_err(), "truncated {}", path.display());
            std::fs::write(&path, &sound).unwrap();
        }
        assert_eq!(read().unwrap(), whole);
    }

    #[test]
    fn large_tensors_are_cut_into_chunks() {
        let dir = tempfile::tempdir().unwrap();
        let (rows, cols) = (9, CHUNK / 16 / 4 * 5 + 1);
        let bytes: Vec<u8> = (0..rows * cols).flat_map(|i| (i as u32).to_le_bytes()).collect();
        let mut writer = Writer::create(dir.path(), 0).unwrap();
        let range = 0..rows * cols;
        writer.put("m", DType::U32, &[rows, cols], range, &bytes).unwrap();
        writer.finish().unwrap();
        seal(dir.path(), 1, json!({})).unwrap();
        let reader = Reader::open(dir.path()).unwrap();
        assert_eq!(reader.tensors["m"].1.len(), 3);
        assert!(reader.read_all("m").unwrap() == bytes);
    }

    #[test]
    fn another_version_or_format_is_said() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[0, 35]);
        let mut manifest = Manifest::read(dir.path(), FORMAT, VERSION).unwrap();
        manifest.version = VERSION + 1;
        manifest.write(dir.path()).unwrap();
        assert!(Reader::open(dir.path()).unwrap_err().to_string().contains('3'));
    }
}
