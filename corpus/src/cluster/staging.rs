//! Runs as Parquet, the form in which executors read them.
//!
//! Run after run, without a merge: the rows are the cluster's to sort. Files and row groups are of
//! a size that can be shared out. They are work files, removed when their plan is done.

use super::Error;
use crate::shuffle::{Merge, Runs};
use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows of a file: 64 MiB of pairs.
const FILE_ROWS: usize = 4 << 20;
/// Rows of a row group, which is the least that one task reads.
const GROUP_ROWS: usize = 1 << 18;
/// Rows written at a time.
const BATCH: usize = 1 << 14;

/// The columns of rows of `width` words.
pub(super) fn schema(width: usize) -> SchemaRef {
    let fields = (0..width).map(|n| Field::new(format!("w{n}"), DataType::UInt64, false));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// A folder of Parquet files that lives as long as this value.
pub(super) struct Staged {
    dir: PathBuf,
    /// Rows in it, repeated ones included.
    pub rows: u64,
}

impl Staged {
    /// The folder, as a path that holds on every machine that mounts it there.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // What cannot be removed now goes with the work folder.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Writes `runs` into the folder `dir`, which is made anew.
pub(super) fn stage(dir: &Path, runs: &Runs) -> Result<Staged, crate::Error> {
    if dir.exists() {
        std::fs::remove_dir_all(dir).map_err(crate::Error::io(dir))?;
    }
    quipu_store::atomic::create_dir(dir)?;
    let dir = dir.canonicalize().map_err(crate::Error::io(dir))?;
    let mut staged = Staged { dir, rows: 0 };
    staged.rows = match runs.width {
        2 => write::<2>(&staged.dir, runs)?,
        3 => write::<3>(&staged.dir, runs)?,
        _ => write::<4>(&staged.dir, runs)?,
    };
    Ok(staged)
}

/// Writes every run; one file at least, so that a table of no rows is a table too.
fn write<const W: usize>(dir: &Path, runs: &Runs) -> Result<u64, crate::Error> {
    let (mut files, mut rows) = (0, 0);
    let mut part = Part::<W>::create(dir, files)?;
    for path in &runs.paths {
        let one = Runs { width: W, paths: vec![path.clone()] };
        for row in Merge::<W>::all(&one)? {
            if part.rows == FILE_ROWS {
                let next = Part::create(dir, files + 1)?;
                std::mem::replace(&mut part, next).finish()?;
                files += 1;
            }
            part.push(row?)?;
            rows += 1;
        }
    }
    part.finish()?;
    Ok(rows)
}

/// A file being written.
struct Part<const W: usize> {
    path: PathBuf,
    writer: ArrowWriter<quipu_store::atomic::File>,
    words: [Vec<u64>; W],
    rows: usize,
}

impl<const W: usize> Part<W> {
    fn create(dir: &Path, number: usize) -> Result<Part<W>, crate::Error> {
        let path = dir.join(format!("rows-{number:05}.parquet"));
        // Hashes neither compress nor repeat.
        let properties = WriterProperties::builder()
            .set_compression(Compression::UNCOMPRESSED)
            .set_dictionary_enabled(false)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .build();
        let file = quipu_store::atomic::File::create(&path)?;
        let writer = ArrowWriter::try_new(file, schema(W), Some(properties))
            .map_err(Error::parquet(&path))?;
        let words = std::array::from_fn(|_| Vec::with_capacity(BATCH));
        Ok(Part { path, writer, words, rows: 0 })
    }

    fn push(&mut self, row: [u64; W]) -> Result<(), crate::Error> {
        self.words.iter_mut().zip(row).for_each(|(column, word)| column.push(word));
        self.rows += 1;
        if self.words[0].len() == BATCH { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), crate::Error> {
        let columns = self
            .words
            .iter_mut()
            .map(|column| Arc::new(UInt64Array::from(std::mem::take(column))) as ArrayRef);
        let batch = RecordBatch::try_new(schema(W), columns.collect())
            .map_err(Error::parquet(&self.path))?;
        Ok(self.writer.write(&batch).map_err(Error::parquet(&self.path))?)
    }

    fn finish(mut self) -> Result<(), crate::Error> {
        self.flush()?;
        let file = self.writer.into_inner().map_err(Error::parquet(&self.path))?;
        Ok(file.commit()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shuffle::Sorter;
    use arrow::array::AsArray;
    use arrow::datatypes::UInt64Type;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    fn read(dir: &Path) -> Vec<[u64; 2]> {
        let mut rows = Vec::new();
        for entry in std::fs::read_dir(dir).unwrap() {
            let file = std::fs::File::open(entry.unwrap().path()).unwrap();
            for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
                let batch = batch.unwrap();
                let column = |n: usize| batch.column(n).as_primitive::<UInt64Type>().clone();
                let (a, b) = (column(0), column(1));
                rows.extend((0..batch.num_rows()).map(|n| [a.value(n), b.value(n)]));
            }
        }
        rows
    }

    #[test]
    fn rows_of_all_runs_and_of_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut all = Runs { width: 2, paths: Vec::new() };
        for n in 0..3u64 {
            let mut sorter = Sorter::<2>::new(&dir.path().join(format!("in-{n}")), 1 << 20);
            sorter.push([u64::MAX - n, n]).unwrap();
            sorter.push([0, 7]).unwrap();
            all.paths.extend(sorter.finish().unwrap().paths);
        }
        let staged = stage(&dir.path().join("s"), &all).unwrap();
        assert_eq!(staged.rows, 6);
        let mut rows = read(staged.dir());
        rows.sort_unstable();
        assert_eq!(rows[..4], [[0, 7], [0, 7], [0, 7], [u64::MAX - 2, 2]]);
        let none = stage(&dir.path().join("none"), &Runs { width: 2, paths: vec![] }).unwrap();
        assert_eq!((none.rows, read(none.dir()).len()), (0, 0));
        assert_eq!(std::fs::read_dir(none.dir()).unwrap().count(), 1);
        let gone = none.dir().to_owned();
        drop(none);
        assert!(!gone.exists());
    }
}
