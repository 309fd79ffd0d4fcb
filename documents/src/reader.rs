//! Reads documents: our folders (verified against their manifest), single files, and the Parquet of
//! others as far as it has a column of text.
//!
//! Memory is one batch of one file. Not here: JSON Lines and other inputs, which `corpus` reads.

use crate::{Document, Error, FORMAT, VERSION, schema};
use arrow::array::RecordBatch;
use quipu_store::manifest::Manifest;
use std::path::{Path, PathBuf};

/// The manifest of a folder of ours, after every file was held against its checksum.
pub fn read_manifest(dir: &Path) -> Result<Manifest, Error> {
    Ok(Manifest::read_verified(dir, FORMAT, VERSION)?)
}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, Error>> + Send>;

/// The documents of a file or folder, in order. After an error the rest of that file is skipped.
pub struct Reader {
    files: std::vec::IntoIter<PathBuf>,
    current: Option<(PathBuf, Batches, usize)>,
    rows: std::vec::IntoIter<Document>,
}

impl Reader {
    /// Opens one Parquet file; a folder with a manifest of ours (verified); or any folder with
    /// Parquet files in it, taken in the order of their names.
    pub fn open(path: &Path) -> Result<Reader, Error> {
        let files = files(path)?;
        Ok(Reader { files: files.into_iter(), current: None, rows: Vec::new().into_iter() })
    }

    fn refill(&mut self) -> Result<bool, Error> {
        if let Some((path, batches, position)) = &mut self.current {
            match batches.next() {
                Some(batch) => {
                    let rows =
                        batch.and_then(|b| schema::documents_from_batch(path, &b, *position));
                    let Ok(rows) = rows else {
                        self.current = None;
                        return rows.map(|_| true);
                    };
                    *position += rows.len();
                    self.rows = rows.into_iter();
                }
                None => self.current = None,
            }
            return Ok(true);
        }
        let Some(path) = self.files.next() else { return Ok(false) };
        let batches = Box::new(schema::batches(&path)?);
        self.current = Some((path, batches, 0));
        Ok(true)
    }
}

impl Iterator for Reader {
    type Item = Result<Document, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.rows.next() {
                return Some(Ok(row));
            }
            match self.refill() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(e) => return Some(Err(e)),
            }
        }
    }
}

/// The Parquet files of documents behind a path, in order: those of a folder of ours (verified),
/// those of any other folder by name, or the one file that it is.
pub fn files(path: &Path) -> Result<Vec<PathBuf>, Error> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    if Manifest::exists(path) {
        let manifest = read_manifest(path)?;
        let names = manifest.files.iter().map(|f| &f.name);
        return Ok(names.filter(|n| n.starts_with("documents-")).map(|n| path.join(n)).collect());
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(Error::io(path))? {
        let file = entry.map_err(Error::io(path))?.path();
        if file.extension().is_some_and(|e| e == "parquet") {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() { Err(Error::Empty { path: path.to_owned() }) } else { Ok(files) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Id, Route, Writer, write_file};
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use parquet::arrow::ArrowWriter;
    use std::sync::Arc;

    fn sample(n: u128) -> Document {
        Document {
            id: Id(n),
            url: format!("http://a.example/{n}"),
            date: n.is_multiple_of(2).then_some(1_700_000_000_000 + n as i64),
            source: "crawl".into(),
            title: "Ärger".into(),
            headings: (0..n % 3).map(|h| format!("heading {h}")).collect(),
            route: Route::ALL[n as usize % 3],
            language: "de".into(),
            language_score: 0.5,
            text: format!("text {n}\nline"),
            scores: vec![("link-share".into(), n as f32)],
        }
    }

    fn check(rows: &[Document]) {
        let dir = tempfile::tempdir().unwrap();
        let writer = Writer::new(dir.path()).unwrap();
        let half = rows.len() / 2;
        writer.write(1, &rows[half..], &[]).unwrap();
        writer.write(0, &rows[..half], &[]).unwrap();
        writer.write(2, &[], &[]).unwrap();
        writer.finish(2, serde_json::json!({"kept": rows.len()})).unwrap();
        assert!(!dir.path().join("documents-00002.parquet").exists());
        let back: Vec<Document> = Reader::open(dir.path()).unwrap().map(Result::unwrap).collect();
        assert_eq!(back, rows);
    }

    #[test]
    fn what_was_written_returns() {
        check(&[]);
        check(&[sample(1)]);
        check(&(0..3000).map(sample).collect::<Vec<_>>());
    }

    fn foreign(columns: Vec<(&str, ArrayRef)>) -> Result<Vec<Document>, Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("theirs.parquet");
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        std::fs::write(&path, writer.into_inner().unwrap()).unwrap();
        Reader::open(dir.path())?.collect()
    }

    #[test]
    fn parquet_of_others_is_read_as_far_as_it_goes() {
        let text: ArrayRef = Arc::new(StringArray::from(vec![Some("one"), None]));
        let date: ArrayRef = Arc::new(StringArray::from(vec!["2024-05-18T01:58:10Z", "never"]));
        let dump: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let rows = foreign(vec![("content", text), ("date", date), ("dump", dump)]).unwrap();
        assert_eq!(rows[0].text, "one");
        assert_eq!(rows[0].date, Some(1_715_997_490_000));
        assert_eq!((rows[1].text.as_str(), rows[1].date), ("", None));
        assert_ne!(rows[0].id, rows[1].id);
    }

    #[test]
    fn parquet_without_text_names_its_columns() {
        let dump: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let message = foreign(vec![("dump", dump)]).unwrap_err().to_string();
        assert!(message.contains("theirs.parquet") && message.contains("dump"), "{message}");
    }

    #[test]
    fn one_flipped_byte_is_an_error_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let writer = Writer::new(dir.path()).unwrap();
        writer.write(0, &[sample(1), sample(2)], &[]).unwrap();
        writer.finish(1, serde_json::Value::Null).unwrap();
        let path = dir.path().join("documents-00000.parquet");
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let message = Reader::open(dir.path()).err().unwrap().to_string();
        assert!(message.contains("documents-00000.parquet"), "{message}");
    }

    /// Deterministic mutations of a valid file: an error or documents, never a panic or a hang.
    #[test]
    fn mutated_parquet_never_panics() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.parquet");
        write_file(&path, &(0..20).map(sample).collect::<Vec<_>>()).unwrap();
        let valid = std::fs::read(&path).unwrap();
        let mut state = 1u64;
        let mut draw = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % below
        };
        for round in 0..600 {
            let mut bytes = valid.clone();
            if round % 3 == 0 {
                bytes.truncate(draw(valid.len()));
            }
            for _ in 0..draw(4) {
                let at = draw(bytes.len().max(1));
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << draw(8);
                }
            }
            std::fs::write(&path, &bytes).unwrap();
            if let Ok(reader) = Reader::open(&path) {
                assert!(reader.take(1000).count() <= 1000);
            }
        }
    }
}
