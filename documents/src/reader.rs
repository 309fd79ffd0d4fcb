//! Reads documents: our folders (verified against their manifest), single files, and the Parquet of
//! others as far as it has a column of text.
//!
//! Memory is one batch of one file. Not here: JSON Lines and other inputs, which `corpus` reads.

use crate::source::{Chunks, Source};
use crate::{Document, Error, FORMAT, FileKind, OLDEST, VERSION, schema};
use arrow::array::RecordBatch;
use quipu_store::manifest::Manifest;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The manifest of a folder of ours of any version that is read.
fn manifest_of(dir: &Path) -> Result<Manifest, Error> {
    match Manifest::read(dir, FORMAT, VERSION) {
        Err(quipu_store::Error::Version { .. }) => Ok(Manifest::read(dir, FORMAT, OLDEST)?),
        found => Ok(found?),
    }
}

/// The manifest of a folder of ours, after every file was held against its checksum.
pub fn read_manifest(dir: &Path) -> Result<Manifest, Error> {
    let manifest = manifest_of(dir)?;
    manifest.files.iter().try_for_each(|file| file.verify(dir))?;
    Ok(manifest)
}

/// Compressed bytes of each row group of a Parquet file, in order.
pub fn row_groups(file: &Path) -> Result<Vec<u64>, Error> {
    schema::row_groups(file, open(file)?)
}

/// [`row_groups`] of bytes that lie elsewhere; `name` stands in errors.
pub fn row_groups_of(name: &Path, source: Arc<dyn Source>) -> Result<Vec<u64>, Error> {
    schema::row_groups(name, Chunks(source))
}

fn open(path: &Path) -> Result<File, Error> {
    File::open(path).map_err(Error::io(path))
}

/// Holds a folder of ours against its manifest; other paths have nothing to be held against.
pub fn verify(path: &Path) -> Result<(), Error> {
    if path.is_dir() && Manifest::exists(path) {
        read_manifest(path)?;
    }
    Ok(())
}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, Error>> + Send>;

/// A file that is open, and what its next batch is.
struct Open {
    path: PathBuf,
    batches: Batches,
}

/// The documents of a file or folder, in order. After an error that is not of one row the rest of
/// that file is skipped.
pub struct Reader {
    files: std::vec::IntoIter<PathBuf>,
    current: Option<Open>,
    rows: std::vec::IntoIter<Result<Document, Error>>,
    /// What rows without an identity of ours are called by.
    called: Option<String>,
    /// Number of the next row in its file.
    row: u64,
}

impl Reader {
    /// Opens one Parquet file; a folder with a manifest of ours (verified); or any folder with
    /// Parquet files in it, taken in the order of their names.
    pub fn open(path: &Path) -> Result<Reader, Error> {
        verify(path)?;
        Ok(Reader::over(files(path)?))
    }

    /// Opens row groups `from` to `to` (excluded) of one file.
    pub fn open_groups(file: &Path, from: u64, to: u64) -> Result<Reader, Error> {
        let (batches, row) = schema::batches(file, open(file)?, from, to)?;
        Ok(Reader::of(file, Box::new(batches), row))
    }

    /// Opens one file from the row group on in which row `row` stands; [`Reader::row`] says with
    /// which it begins.
    pub fn open_at(file: &Path, row: u64) -> Result<Reader, Error> {
        Reader::open_groups(file, schema::group_of(file, row)?, u64::MAX)
    }

    /// Opens row groups `from` to `to` (excluded) of bytes that lie elsewhere; `name` stands in
    /// errors.
    pub fn open_groups_of(
        name: &Path,
        source: Arc<dyn Source>,
        from: u64,
        to: u64,
    ) -> Result<Reader, Error> {
        let (batches, row) = schema::batches(name, Chunks(source), from, to)?;
        Ok(Reader::of(name, Box::new(batches), row))
    }

    fn of(path: &Path, batches: Batches, row: u64) -> Reader {
        let mut reader = Reader::over(Vec::new());
        (reader.current, reader.row) = (Some(Open { path: path.to_owned(), batches }), row);
        reader
    }

    fn over(files: Vec<PathBuf>) -> Reader {
        let (files, rows) = (files.into_iter(), Vec::new().into_iter());
        Reader { files, current: None, rows, called: None, row: 0 }
    }

    /// Calls the rows without an identity of ours by this and their number; by the name of their
    /// file, where nobody says otherwise. Their identity is a hash of it, of URL and of date.
    #[must_use]
    pub fn called(mut self, name: &str) -> Reader {
        self.called = Some(name.to_owned());
        self
    }

    /// Number in its file of the row that is read next, whatever row groups were opened.
    pub fn row(&self) -> u64 {
        self.row
    }

    fn refill(&mut self) -> Result<bool, Error> {
        if let Some(Open { path, batches }) = &mut self.current {
            match batches.next() {
                Some(batch) => {
                    let name = path.file_name().unwrap_or_default().to_string_lossy();
                    let called = self.called.as_deref().unwrap_or(&name);
                    let rows = batch
                        .and_then(|b| schema::documents_from_batch(path, called, &b, self.row));
                    let Ok(rows) = rows else {
                        self.current = None;
                        return rows.map(|_| true);
                    };
                    self.rows = rows.into_iter();
                }
                None => self.current = None,
            }
            return Ok(true);
        }
        let Some(path) = self.files.next() else { return Ok(false) };
        let (batches, row) = schema::batches(&path, open(&path)?, 0, u64::MAX)?;
        let batches = Box::new(batches);
        (self.current, self.row) = (Some(Open { path, batches }), row);
        Ok(true)
    }
}

impl Iterator for Reader {
    type Item = Result<Document, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.rows.next() {
                self.row += 1;
                return Some(row);
            }
            match self.refill() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(e) => return Some(Err(e)),
            }
        }
    }
}

/// The Parquet files of documents at a path: itself, those of a folder of ours by its manifest, or
/// those of any folder in the order of their names.
pub fn files(path: &Path) -> Result<Vec<PathBuf>, Error> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    if Manifest::exists(path) {
        let manifest = manifest_of(path)?;
        let names = manifest.files.iter().map(|f| &f.name);
        return Ok(names.filter(|n| FileKind::Documents.names(n)).map(|n| path.join(n)).collect());
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
    use arrow::array::{ArrayRef, Int64Array, StringArray, StructArray};
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
            category: if n.is_multiple_of(2) { "history".into() } else { "".into() },
            weight: 1.0 + n as f32,
            extra: if n.is_multiple_of(3) { format!("{{\"dump\":{n}}}") } else { "".into() },
        }
    }

    fn check(rows: &[Document]) {
        let dir = tempfile::tempdir().unwrap();
        let writer = Writer::new(dir.path()).unwrap();
        let half = rows.len() / 2;
        let second = writer.write(1, &rows[half..], &[]).unwrap();
        let first = writer.write(0, &rows[..half], &[]).unwrap();
        writer.write(2, &[], &[]).unwrap();
        let facts = serde_json::json!({"kept": rows.len()});
        writer.finish(vec![first, second], facts).unwrap();
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

    #[test]
    fn reading_begins_near_a_row() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet");
        let rows: Vec<Document> = (0..9000).map(sample).collect();
        write_file(&path, &rows).unwrap();
        assert!(row_groups(&path).unwrap().len() > 1);
        for from in [0, 1, 8191, 8192, 8999] {
            let mut reader = Reader::open_at(&path, from).unwrap();
            let first = reader.row();
            assert!(first <= from && (from < 8999 || first > 0), "{first}");
            assert_eq!(reader.next().unwrap().unwrap().id, Id(first.into()));
        }
        assert!(Reader::open_at(&path, 9000).unwrap().next().is_none());
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
        let text: ArrayRef = Arc::new(StringArray::from(vec![Some("one"), Some("")]));
        let date: ArrayRef = Arc::new(StringArray::from(vec!["2024-05-18T01:58:10Z", "never"]));
        let dump: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let rows = foreign(vec![("content", text), ("date", date), ("dump", dump)]).unwrap();
        assert_eq!(rows[0].text, "one");
        assert_eq!(rows[0].date, Some(1_715_997_490_000));
        assert_eq!((rows[1].text.as_str(), rows[1].date), ("", None));
        assert_ne!(rows[0].id, rows[1].id);
    }

    #[test]
    fn identities_of_others_do_not_make_two_documents_one() {
        let columns = || {
            let ids: ArrayRef = Arc::new(StringArray::from(vec![Some("0"), Some("0"), None]));
            vec![("text", texts(&["one", "two", "three"])), ("id", ids)]
        };
        let (one, two) = (foreign(columns()).unwrap(), foreign(columns()).unwrap());
        assert_eq!(one, two, "they depend on where a row stands");
        let ids: std::collections::HashSet<Id> = one.iter().map(|d| d.id).collect();
        assert_eq!(ids.len(), 3);
        assert_eq!([0, 1].map(|n| one[n].known_as()), [Id::parse("0"); 2]);
    }

    #[test]
    fn what_is_no_text_is_an_error_and_no_empty_document() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let said = foreign(vec![("text", numbers)]).unwrap_err().to_string();
        assert!(said.contains("`text`") && said.contains("Int64"), "{said}");
        let bytes = vec![Some(&b"one"[..]), Some(b"\xff\xfe two"), None, Some(b"three")];
        let bytes: ArrayRef = Arc::new(arrow::array::BinaryArray::from(bytes));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("theirs.parquet");
        let batch = RecordBatch::try_from_iter([("text", bytes)]).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        std::fs::write(&path, writer.into_inner().unwrap()).unwrap();
        let rows: Vec<_> = Reader::open(&path).unwrap().collect();
        let said: Vec<String> = rows
            .iter()
            .map(|row| row.as_ref().map_or_else(|e| e.to_string(), |d| d.text.clone()))
            .collect();
        assert_eq!((said[0].as_str(), said[3].as_str()), ("one", "three"));
        assert!(said[1].ends_with("#1: its text is not UTF-8"), "{said:?}");
        assert!(said[2].ends_with("#2: its text is null"), "{said:?}");
    }

    /// As others write it; each of these needs a feature of a library.
    #[test]
    fn every_codec_and_kind_of_date_is_read() {
        use arrow::array::{Date32Array, TimestampMicrosecondArray, TimestampSecondArray};
        use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
        use parquet::file::properties::WriterProperties;
        const DAY: i64 = 86_400_000;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("theirs.parquet");
        let dates: [ArrayRef; 3] = [
            Arc::new(Date32Array::from(vec![Some(19_000), None])),
            Arc::new(TimestampSecondArray::from(vec![Some(19_000 * 86_400), None])),
            Arc::new(
                TimestampMicrosecondArray::from(vec![Some(19_000 * DAY * 1000), None])
                    .with_timezone("Europe/Berlin"),
            ),
        ];
        let codecs = [
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            Compression::GZIP(GzipLevel::default()),
            Compression::ZSTD(ZstdLevel::default()),
            Compression::BROTLI(BrotliLevel::default()),
            Compression::LZ4,
            Compression::LZ4_RAW,
        ];
        for (n, codec) in codecs.into_iter().enumerate() {
            let columns = [("text", texts(&["one", "two"])), ("date", dates[n % 3].clone())];
            let batch = RecordBatch::try_from_iter(columns).unwrap();
            let properties = WriterProperties::builder().set_compression(codec).build();
            let mut writer =
                ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
            writer.write(&batch).unwrap();
            std::fs::write(&path, writer.into_inner().unwrap()).unwrap();
            let rows: Vec<Document> = Reader::open(&path).unwrap().map(Result::unwrap).collect();
            assert_eq!((rows[0].text.as_str(), rows[0].date), ("one", Some(19_000 * DAY)));
            assert_eq!((rows[1].text.as_str(), rows[1].date), ("two", None), "{codec:?}");
        }
    }

    fn texts(values: &[&str]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    #[test]
    fn unknown_columns_pass_through() {
        // The columns of FineWeb.
        let tokens: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), None]));
        let score: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![0.5, 0.25]));
        let mut rows = foreign(vec![
            ("text", texts(&["one", "two"])),
            ("id", texts(&["<urn:uuid:1>", "00000000000000000000000000000002"])),
            ("dump", texts(&["CC-MAIN-2024-22", "x"])),
            ("url", texts(&["http://a.example/", ""])),
            ("date", texts(&["2024-05-18T01:58:10Z", ""])),
            ("language", texts(&["en", "de"])),
            ("language_score", score),
            ("token_count", tokens),
        ])
        .unwrap();
        let first = r#"{"id":"<urn:uuid:1>","dump":"CC-MAIN-2024-22","token_count":7}"#;
        assert_eq!((rows[0].extra.as_str(), rows[0].language_score), (first, 0.5));
        assert_eq!((rows[1].id, rows[1].extra.as_str()), (Id(2), r#"{"dump":"x"}"#));
        assert_eq!((rows[1].weight, rows[1].language.as_str()), (1.0, "de"));
        // What passed through once passes through again.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.parquet");
        rows[0].category = "science".into();
        write_file(&path, &rows).unwrap();
        let back: Vec<Document> = Reader::open(&path).unwrap().map(Result::unwrap).collect();
        assert_eq!(back, rows);
    }

    #[test]
    fn columns_of_one_name_and_another_meaning_are_theirs() {
        let weight = texts(&["heavy"]);
        let scores: ArrayRef = Arc::new(Int64Array::from(vec![3]));
        let meta = StructArray::try_from(vec![
            ("url", texts(&["http://m.example/"])),
            ("timestamp", texts(&["2020"])),
        ]);
        let meta: ArrayRef = Arc::new(meta.unwrap());
        let columns = vec![
            ("raw_content", texts(&["one"])),
            ("weight", weight),
            ("meta", meta),
            ("scores", scores),
        ];
        let rows = foreign(columns).unwrap();
        assert_eq!((rows[0].url.as_str(), rows[0].weight), ("http://m.example/", 1.0));
        let extra = concat!(
            r#"{"weight":"heavy","meta":{"url":"http://m.example/","timestamp":"2020"},"#,
            r#""scores":3}"#
        );
        assert_eq!(rows[0].extra, extra);
    }

    #[test]
    fn version_1_is_still_read() {
        let dir = tempfile::tempdir().unwrap();
        let columns =
            vec![("id", texts(&["00000000000000000000000000000001"])), ("text", texts(&["t"]))];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        let name = "documents-00000.parquet";
        std::fs::write(dir.path().join(name), writer.into_inner().unwrap()).unwrap();
        for (version, readable) in [(OLDEST, true), (VERSION, true), (VERSION + 1, false)] {
            let mut manifest = Manifest::new(FORMAT, version);
            manifest.add(dir.path(), name).unwrap();
            manifest.write(dir.path()).unwrap();
            let found = Reader::open(dir.path()).ok();
            let ids = found.map(|rows| rows.map(|d| d.unwrap().id).collect::<Vec<_>>());
            assert_eq!(ids, readable.then(|| vec![Id(1)]), "version {version}");
        }
    }

    #[test]
    fn row_groups_are_bounded_by_bytes_and_read_one_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.parquet");
        let book = |n: u128| Document { text: format!("{n} {}", "x".repeat(5 << 20)), ..sample(n) };
        let mut file = crate::DocumentsFile::create(&path).unwrap();
        for n in 0..60 {
            file.push(book(n)).unwrap();
            assert!(!path.exists());
        }
        file.finish().unwrap();
        let groups = row_groups(&path).unwrap();
        assert_eq!(groups.len(), 3);
        let mut row = 0;
        for group in 0..3 {
            let reader = Reader::open_groups(&path, group, group + 1).unwrap();
            assert_eq!(reader.row(), row);
            for document in reader {
                assert_eq!(document.unwrap().id, Id(u128::from(row)));
                row += 1;
            }
        }
        assert_eq!(row, 60);
        drop(crate::DocumentsFile::create(&dir.path().join("y.parquet")).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_grows_has_the_bytes_of_one_written_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("1.parquet"), dir.path().join("2.parquet"));
        let rows: Vec<Document> = (0..9000).map(sample).collect();
        write_file(&one, &rows).unwrap();
        let mut file = crate::DocumentsFile::create(&other).unwrap();
        rows.into_iter().try_for_each(|row| file.push(row)).unwrap();
        file.finish().unwrap();
        assert_eq!(std::fs::read(one).unwrap(), std::fs::read(other).unwrap());
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
        let files = writer.write(0, &[sample(1), sample(2)], &[]).unwrap();
        writer.finish(vec![files], serde_json::Value::Null).unwrap();
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
