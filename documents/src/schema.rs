//! The Parquet schemas of documents and of fates, and rows to columns and back.
//!
//! The table stands in ARCHITECTURE.md, "Formats"; the test below reads it there. Files of others
//! and of version 1 are read through the same door as far as they have the columns (FineWeb's,
//! C4's, Dolma's and RedPajama's names are understood); their other columns become `extra`.

use crate::claims::{self, Pages};
use crate::extra::{Extra, to_extra};
use crate::{Document, Error, Fate, Id, Route, Score, parse_date};
use arrow::array::{
    Array, ArrayRef, AsArray, Float32Array, Float32Builder, Float64Array, Int32Array, ListBuilder,
    MapBuilder, MapFieldNames, RecordBatch, StringArray, StringBuilder, TimestampMillisecondArray,
    UInt64Array,
};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{
    DataType, Field, Float32Type, Float64Type, Int32Type, Schema, SchemaRef, TimeUnit,
    TimestampMillisecondType,
};
use parquet::arrow::ArrowWriter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::ChunkReader;
use serde_json::{Map, Value};
use std::cell::Cell;
use std::fs::File;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

/// Rows of one row group: small enough to be a unit of work, large enough to compress.
const ROW_GROUP: usize = 8192;
/// Bytes of text after which a row group ends before that: rows may be whole books.
const GROUP_BYTES: usize = 128 << 20;
/// Rows decoded at a time.
const BATCH: usize = 256;

/// Names of a column at others, in order of preference: the text, …
const TEXT_NAMES: &[&str] = &["text", "content", "raw_content", "body", "document"];
const URL_NAMES: &[&str] = &["url", "uri", "source_url", "link", "metadata.url", "meta.url"];
const DATE_NAMES: &[&str] =
    &["date", "timestamp", "crawl_date", "created", "metadata.date", "meta.date"];
/// Names under which corpora keep the language, in order of preference.
pub const LANGUAGE_NAMES: &[&str] = &["language", "lang"];
/// Our further columns and what they are; at others a column of such a name may be another thing.
type IsOurs = fn(&DataType) -> bool;
const OURS: [(&str, IsOurs); 10] = [
    ("id", |_| true),
    ("source", is_text),
    ("title", is_text),
    ("headings", |kind| matches!(kind, DataType::List(_))),
    ("route", is_text),
    ("language_score", DataType::is_floating),
    ("scores", |kind| matches!(kind, DataType::Map(..))),
    ("category", is_text),
    ("weight", DataType::is_floating),
    ("extra", is_text),
];

fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

fn strings() -> ListBuilder<StringBuilder> {
    ListBuilder::new(StringBuilder::new()).with_field(Field::new("element", DataType::Utf8, false))
}

fn scores() -> MapBuilder<StringBuilder, Float32Builder> {
    let names =
        MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
    MapBuilder::new(Some(names), StringBuilder::new(), Float32Builder::new())
}

fn field(name: &str, array: &ArrayRef, nullable: bool) -> Field {
    Field::new(name, array.data_type().clone(), nullable)
}

fn text_of<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn batch(columns: Vec<(&str, ArrayRef, bool)>) -> Result<RecordBatch, String> {
    let fields: Vec<Field> =
        columns.iter().map(|(n, a, nullable)| field(n, a, *nullable)).collect();
    let arrays = columns.into_iter().map(|(_, array, _)| array).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(|e| e.to_string())
}

fn documents_to_batch(rows: &[&Document]) -> Result<RecordBatch, String> {
    let mut headings = strings();
    let mut score_map = scores();
    for row in rows {
        row.headings.iter().for_each(|h| headings.values().append_value(h));
        headings.append(true);
        for (name, value) in &row.scores {
            score_map.keys().append_value(name);
            score_map.values().append_value(*value);
        }
        score_map.append(true).map_err(|e| e.to_string())?;
    }
    let dates: TimestampMillisecondArray = rows.iter().map(|d| d.date).collect();
    let ids: Vec<String> = rows.iter().map(|d| d.id.to_string()).collect();
    let confidence: Float32Array = rows.iter().map(|d| Some(d.language_score)).collect();
    let weights: Float32Array = rows.iter().map(|d| Some(d.weight)).collect();
    let extra: StringArray =
        rows.iter().map(|d| Some(d.extra.as_str()).filter(|e| !e.is_empty())).collect();
    batch(vec![
        ("id", text_of(ids.iter().map(String::as_str)), false),
        ("url", text_of(rows.iter().map(|d| d.url.as_str())), false),
        ("date", Arc::new(dates.with_data_type(timestamp())), true),
        ("source", text_of(rows.iter().map(|d| d.source.as_str())), false),
        ("title", text_of(rows.iter().map(|d| d.title.as_str())), false),
        ("headings", Arc::new(headings.finish()), false),
        ("route", text_of(rows.iter().map(|d| d.route.name())), false),
        ("language", text_of(rows.iter().map(|d| d.language.as_str())), false),
        ("language_score", Arc::new(confidence), false),
        ("text", text_of(rows.iter().map(|d| d.text.as_str())), false),
        ("scores", Arc::new(score_map.finish()), false),
        ("category", text_of(rows.iter().map(|d| d.category.as_str())), false),
        ("weight", Arc::new(weights), false),
        ("extra", Arc::new(extra), true),
    ])
}

fn fates_to_batch(rows: &[&Fate]) -> Result<RecordBatch, String> {
    let ids: Vec<String> = rows.iter().map(|f| f.id.to_string()).collect();
    let values: Float64Array = rows.iter().map(|f| Some(f.value)).collect();
    let lines: Int32Array = rows.iter().map(|f| f.line).collect();
    batch(vec![
        ("id", text_of(ids.iter().map(String::as_str)), false),
        ("url", text_of(rows.iter().map(|f| f.url.as_str())), false),
        ("stage", text_of(rows.iter().map(|f| f.stage.as_str())), false),
        ("rule", text_of(rows.iter().map(|f| f.rule.as_str())), false),
        ("value", Arc::new(values), false),
        ("line", Arc::new(lines), true),
        ("detail", text_of(rows.iter().map(|f| f.detail.as_str())), false),
    ])
}

fn scores_to_batch(rows: &[&Score]) -> Result<RecordBatch, String> {
    let ids: Vec<String> = rows.iter().map(|s| s.id.to_string()).collect();
    let numbers: Float32Array = rows.iter().map(|s| Some(s.score)).collect();
    batch(vec![
        ("id", text_of(ids.iter().map(String::as_str)), false),
        ("name", text_of(rows.iter().map(|s| s.name.as_str())), false),
        ("score", Arc::new(numbers), false),
    ])
}

/// A kind of row that has a schema.
pub(crate) trait Row: Sized {
    /// Columns of some rows.
    fn to_batch(rows: &[Self]) -> Result<RecordBatch, String>;
    /// Bytes of its longest column, which bound a row group.
    fn weight(&self) -> usize;
}

impl Row for &Document {
    fn to_batch(rows: &[Self]) -> Result<RecordBatch, String> {
        documents_to_batch(rows)
    }

    fn weight(&self) -> usize {
        self.text.len() + self.extra.len()
    }
}

impl Row for Document {
    fn to_batch(rows: &[Self]) -> Result<RecordBatch, String> {
        documents_to_batch(&rows.iter().collect::<Vec<_>>())
    }

    fn weight(&self) -> usize {
        Row::weight(&self)
    }
}

impl Row for &Fate {
    fn to_batch(rows: &[Self]) -> Result<RecordBatch, String> {
        fates_to_batch(rows)
    }

    fn weight(&self) -> usize {
        self.detail.len() + self.url.len()
    }
}

impl Row for Fate {
    fn to_batch(rows: &[Self]) -> Result<RecordBatch, String> {
        fates_to_batch(&rows.iter().collect::<Vec<_>>())
    }

    fn weight(&self) -> usize {
        Row::weight(&self)
    }
}

impl Row for &Score {
    fn to_batch(rows: &[Self]) -> Result<RecordBatch, String> {
        scores_to_batch(rows)
    }

    fn weight(&self) -> usize {
        self.name.len()
    }
}

/// Writes rows as row groups into anything that takes bytes. The bytes depend on the rows alone,
/// not on how they were handed over; memory is one row group.
pub(crate) struct Groups<W: Write + Send, T: Row> {
    writer: ArrowWriter<W>,
    waiting: Vec<T>,
    /// Bytes of the rows that wait.
    bytes: usize,
    /// Rows and bytes in the row group that is open.
    group: (usize, usize),
}

impl<W: Write + Send, T: Row> Groups<W, T> {
    pub(crate) fn new(out: W) -> io::Result<Groups<W, T>> {
        let level = ZstdLevel::try_new(3).map_err(as_io)?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(Some(ROW_GROUP))
            .set_created_by("quipu".into())
            .build();
        let schema = T::to_batch(&[]).map_err(io::Error::other)?.schema();
        let writer = ArrowWriter::try_new(out, schema, Some(properties)).map_err(as_io)?;
        Ok(Groups { writer, waiting: Vec::new(), bytes: 0, group: (0, 0) })
    }

    pub(crate) fn push(&mut self, row: T) -> io::Result<()> {
        self.bytes += row.weight();
        self.waiting.push(row);
        let full = self.waiting.len() >= ROW_GROUP / 8 || self.bytes >= GROUP_BYTES / 8;
        if full { self.pass() } else { Ok(()) }
    }

    /// Hands the rows that wait to the row group, and ends it where it is full.
    fn pass(&mut self) -> io::Result<()> {
        let rows = std::mem::take(&mut self.waiting);
        let bytes = std::mem::take(&mut self.bytes);
        self.group = (self.group.0 + rows.len(), self.group.1 + bytes);
        self.writer.write(&T::to_batch(&rows).map_err(io::Error::other)?).map_err(as_io)?;
        if self.group.0 >= ROW_GROUP {
            self.group = (0, 0); // the writer ended it
        } else if self.group.1 >= GROUP_BYTES {
            self.group = (0, 0);
            self.writer.flush().map_err(as_io)?;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> io::Result<W> {
        if !self.waiting.is_empty() {
            self.pass()?;
        }
        self.writer.into_inner().map_err(as_io)
    }
}

/// What the operating system said, where that is why Parquet could not be written: whether a disk is
/// full decides what the program tells its caller.
fn as_io(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(inner) => *inner,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::other(other),
    }
}

thread_local! {
    /// Whether this thread runs under guard.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs a piece of the Parquet reader, which panics on some damaged bytes instead of refusing them.
fn guarded<T>(path: &Path, run: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let before = GUARDED.replace(true);
    let ran = catch_unwind(AssertUnwindSafe(run));
    GUARDED.set(before);
    ran.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        Err(Error::parquet(path)(format!("the reader broke off: {said}")))
    })
}

/// From now on the process says nothing of panics that end as an error of this crate; of all others
/// it says what it said before.
pub fn hush_guarded_panics() {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !GUARDED.get() {
            say(panic);
        }
    }));
}

fn open(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<Pages<File>>, Error> {
    open_from(path, File::open(path).map_err(Error::io(path))?)
}

/// Opens bytes that need not lie in a file; `path` is their name.
fn open_from<T: ChunkReader + 'static>(
    path: &Path,
    bytes: T,
) -> Result<ParquetRecordBatchReaderBuilder<Pages<T>>, Error> {
    // Arrow's own copy of the schema is skipped: its decoder panics on damaged bytes.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    claims::check(&bytes).map_err(Error::parquet(path))?;
    guarded(path, || {
        let metadata = ArrowReaderMetadata::load(&bytes, options).map_err(Error::parquet(path))?;
        Ok(ParquetRecordBatchReaderBuilder::new_with_metadata(Pages(bytes), metadata))
    })
}

/// Compressed bytes of each row group.
pub(crate) fn row_groups<T: ChunkReader + 'static>(
    path: &Path,
    bytes: T,
) -> Result<Vec<u64>, Error> {
    let metadata = open_from(path, bytes)?.metadata().clone();
    Ok(metadata.row_groups().iter().map(|g| g.compressed_size().max(0) as u64).collect())
}

/// Batches of row groups `from` to `to` of one Parquet file, and the number of their first row.
pub(crate) fn batches<T: ChunkReader + 'static>(
    path: &Path,
    bytes: T,
    from: u64,
    to: u64,
) -> Result<(impl Iterator<Item = Result<RecordBatch, Error>> + Send + use<T>, u64), Error> {
    let builder = open_from(path, bytes)?;
    let groups = builder.metadata().row_groups();
    let bound = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(groups.len());
    // A claim of rows without end leaves room to count on from.
    let rows = groups[..bound(from)].iter().map(|group| group.num_rows().max(0) as u64);
    let before = rows.fold(0, u64::saturating_add).min(i64::MAX as u64);
    let chosen = (bound(from)..bound(to)).collect();
    let builder = builder.with_row_groups(chosen).with_batch_size(BATCH);
    Ok((built(path, builder)?, before))
}

/// The batches of a reader, each read under guard.
fn built<T: ChunkReader + 'static>(
    path: &Path,
    builder: ParquetRecordBatchReaderBuilder<T>,
) -> Result<impl Iterator<Item = Result<RecordBatch, Error>> + Send + use<T>, Error> {
    let mut reader = Some(guarded(path, || builder.build().map_err(Error::parquet(path)))?);
    let path = path.to_owned();
    let next = move || {
        let batches = reader.as_mut()?;
        match guarded(&path, || Ok(batches.next())) {
            Ok(batch) => Some(batch?.map_err(Error::parquet(&path))),
            Err(e) => {
                reader = None; // what it holds after a panic is not trusted
                Some(Err(e))
            }
        }
    };
    Ok(std::iter::from_fn(next))
}

/// The columns of a Parquet file, as Arrow names them.
///
/// # Errors
/// A file that cannot be read, or is no Parquet.
pub fn schema_of(path: &Path) -> Result<SchemaRef, Error> {
    Ok(open(path)?.schema().clone())
}

/// Batches of the named columns of a Parquet file, in the order in which they stand in it; a name
/// that it lacks is passed over. The door for who computes on columns, as SQL does; documents come
/// through [`crate::Reader`].
///
/// # Errors
/// As [`schema_of`]; damage in a page is an error where it is met.
pub fn columns(
    path: &Path,
    names: &[String],
) -> Result<impl Iterator<Item = Result<RecordBatch, Error>> + Send + use<>, Error> {
    let builder = open(path)?.with_batch_size(BATCH);
    let roots = builder.schema().fields().iter().enumerate();
    let roots = roots.filter(|(_, field)| names.contains(field.name())).map(|(n, _)| n);
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    built(path, builder.with_projection(mask))
}

/// The numbers of the rows that `wanted` admits, by the texts of some columns; others are not read.
pub(crate) fn rows_where<const N: usize>(
    path: &Path,
    columns: [&str; N],
    mut wanted: impl FnMut([&str; N]) -> bool,
) -> Result<Vec<usize>, Error> {
    let builder = open(path)?.with_batch_size(BATCH);
    // Without a column there is nothing that a number of rows could be held against.
    if let Some(name) = columns.iter().find(|name| builder.schema().index_of(name).is_err()) {
        let names: Vec<&String> = builder.schema().fields().iter().map(|f| f.name()).collect();
        return Err(wrong(path, name, "a column of text", format!("columns {names:?}")));
    }
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns);
    let (mut found, mut first) = (Vec::new(), 0);
    for batch in built(path, builder.with_projection(mask))? {
        let batch = batch?;
        let mut texts = Vec::with_capacity(N);
        for name in columns {
            texts.push(Texts::of(path, &batch, &[name])?);
        }
        for row in 0..batch.num_rows() {
            if wanted(std::array::from_fn(|n| texts[n].get(row))) {
                found.push(first + row);
            }
        }
        first += batch.num_rows();
    }
    Ok(found)
}

/// The number of the row group in which a row stands, or of groups where there is no such row.
pub(crate) fn group_of(path: &Path, row: u64) -> Result<u64, Error> {
    let file = open(path)?;
    let mut before = 0u64;
    let behind = |group: &RowGroupMetaData| {
        before = before.saturating_add(group.num_rows().max(0) as u64);
        before > row
    };
    let groups = file.metadata().row_groups();
    Ok(groups.iter().position(behind).unwrap_or(groups.len()) as u64)
}

/// Rows of a file.
pub(crate) fn count(path: &Path) -> Result<usize, Error> {
    let rows = open(path)?.metadata().file_metadata().num_rows();
    Ok(usize::try_from(rows).unwrap_or(0))
}

/// Batches of some rows alone, whose numbers ascend. Groups without them are not read; within a
/// group all rows are decoded, since Parquet's reader does not end on some damaged bytes where it
/// is to skip rows.
pub(crate) fn batches_of(
    path: &Path,
    rows: &[usize],
) -> Result<impl Iterator<Item = Result<RecordBatch, Error>> + use<>, Error> {
    let builder = open(path)?.with_batch_size(BATCH);
    // The groups to read, and the numbers that the rows have in what they give.
    let (mut groups, mut wanted) = (Vec::new(), Vec::with_capacity(rows.len()));
    let (mut before, mut skipped, mut rest) = (0usize, 0, rows);
    for (number, group) in builder.metadata().row_groups().iter().enumerate() {
        let after = before.saturating_add(usize::try_from(group.num_rows()).unwrap_or(0));
        let (here, later) = rest.split_at(rest.partition_point(|row| *row < after));
        if here.is_empty() {
            skipped += after - before;
        } else {
            groups.push(number);
            wanted.extend(here.iter().map(|row| row - skipped));
        }
        (before, rest) = (after, later);
    }
    let (mut from, mut first) = (0, 0);
    let batches = built(path, builder.with_row_groups(groups))?;
    let name = path.to_owned();
    Ok(batches.map(move |batch| {
        let batch = batch?;
        let to = from + wanted[from..].partition_point(|row| *row < first + batch.num_rows());
        let own = wanted[from..to].iter().map(|row| (row - first) as u64);
        let own = UInt64Array::from_iter_values(own);
        (from, first) = (to, first + batch.num_rows());
        guarded(&name, || take_record_batch(&batch, &own).map_err(Error::parquet(&name)))
    }))
}

fn wrong(path: &Path, name: &str, expected: &str, found: String) -> Error {
    let (path, column) = (path.to_owned(), name.to_owned());
    Error::Column { path, column, expected: expected.to_owned(), found }
}

/// The column of one of these names, with the name; `a.b` is the field `b` of the struct `a`.
fn find<'n>(batch: &RecordBatch, names: &[&'n str]) -> Option<(&'n str, ArrayRef)> {
    names.iter().find_map(|name| {
        let Some((outer, inner)) = name.split_once('.') else {
            return Some((*name, batch.column_by_name(name)?.clone()));
        };
        let fields = batch.column_by_name(outer)?.as_struct_opt()?;
        Some((*name, fields.column_by_name(inner)?.clone()))
    })
}

fn column_as(
    path: &Path,
    batch: &RecordBatch,
    names: &[&str],
    wanted: &DataType,
) -> Result<Option<ArrayRef>, Error> {
    let Some((name, array)) = find(batch, names) else {
        return Ok(None);
    };
    if array.data_type() == wanted {
        return Ok(Some(array));
    }
    let converted = cast(&array, wanted)
        .map_err(|_| wrong(path, name, &wanted.to_string(), array.data_type().to_string()))?;
    Ok(Some(converted))
}

/// One text column by row, empty where absent or null.
struct Texts(Option<ArrayRef>);

impl Texts {
    fn of(path: &Path, batch: &RecordBatch, names: &[&str]) -> Result<Texts, Error> {
        Ok(Texts(column_as(path, batch, names, &DataType::Utf8)?))
    }

    /// A column that only ours has for certain: of another type, it is not ours.
    fn own(path: &Path, batch: &RecordBatch, name: &str) -> Texts {
        let ours = batch.column_by_name(name).is_some_and(|a| is_text(a.data_type()));
        let texts = if ours { Texts::of(path, batch, &[name]).ok() } else { None };
        texts.unwrap_or(Texts(None))
    }

    fn is_there(&self, row: usize) -> bool {
        self.0.as_ref().is_some_and(|array| array.is_valid(row))
    }

    fn get(&self, row: usize) -> &str {
        match &self.0 {
            Some(array) if array.is_valid(row) => array.as_string::<i32>().value(row),
            _ => "",
        }
    }
}

/// One column of numbers by row.
struct Numbers(Option<ArrayRef>);

impl Numbers {
    fn own(path: &Path, batch: &RecordBatch, name: &str) -> Numbers {
        let ours = batch.column_by_name(name).is_some_and(|a| a.data_type().is_floating());
        Numbers(
            if ours { column_as(path, batch, &[name], &DataType::Float32) } else { Ok(None) }
                .unwrap_or(None),
        )
    }

    fn get(&self, row: usize, absent: f32) -> f32 {
        match &self.0 {
            Some(array) if array.is_valid(row) => array.as_primitive::<Float32Type>().value(row),
            _ => absent,
        }
    }
}

fn dates(path: &Path, batch: &RecordBatch) -> Result<Vec<Option<i64>>, Error> {
    let Some((name, array)) = find(batch, DATE_NAMES) else {
        return Ok(vec![None; batch.num_rows()]);
    };
    match array.data_type() {
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => {
            // Without a zone: the name of one would have to be known, and it changes no number.
            let millis = cast(&array, &DataType::Timestamp(TimeUnit::Millisecond, None))
                .map_err(|e| wrong(path, name, "dates", e.to_string()))?;
            Ok(millis.as_primitive::<TimestampMillisecondType>().iter().collect())
        }
        // Seconds or milliseconds since 1970, which parse_date tells apart.
        _ => {
            let texts = Texts::of(path, batch, &[name])?;
            Ok((0..batch.num_rows()).map(|row| parse_date(texts.get(row))).collect())
        }
    }
}

fn heading_lists(batch: &RecordBatch) -> Vec<Vec<String>> {
    let Some(lists) = batch.column_by_name("headings").and_then(|a| a.as_list_opt::<i32>()) else {
        return vec![Vec::new(); batch.num_rows()];
    };
    let one = |list: Option<ArrayRef>| -> Vec<String> {
        let Some(list) = list else { return Vec::new() };
        let Some(texts) = list.as_string_opt::<i32>() else { return Vec::new() };
        texts.iter().flatten().map(str::to_owned).collect()
    };
    lists.iter().map(one).collect()
}

fn score_lists(batch: &RecordBatch) -> Vec<Vec<(String, f32)>> {
    let Some(map) = batch.column_by_name("scores").and_then(|a| a.as_map_opt()) else {
        return vec![Vec::new(); batch.num_rows()];
    };
    (0..batch.num_rows())
        .map(|row| {
            let entries = map.value(row);
            let keys = entries.column(0).as_string_opt::<i32>();
            let values = entries.column(1).as_primitive_opt::<Float32Type>();
            let (Some(keys), Some(values)) = (keys, values) else { return Vec::new() };
            keys.iter().zip(values.iter()).filter_map(|(k, v)| Some((k?.to_owned(), v?))).collect()
        })
        .collect()
}

/// The column of texts, as it stands and as text: what is not UTF-8 is null in the latter. A column
/// of numbers or lists is none, though each could be written out.
fn texts_of(path: &Path, batch: &RecordBatch) -> Result<(ArrayRef, Texts), Error> {
    let expected = "a column of strings";
    let Some((name, array)) = find(batch, TEXT_NAMES) else {
        let schema = batch.schema();
        let found: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        return Err(wrong(path, "text", expected, format!("columns {found:?}")));
    };
    let is_bytes = |kind: &DataType| {
        matches!(kind, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
    };
    let is = |kind: &DataType| is_text(kind) || is_bytes(kind);
    match array.data_type() {
        DataType::Dictionary(_, values) if is(values) => {}
        kind if is(kind) => {}
        kind => return Err(wrong(path, name, expected, kind.to_string())),
    }
    let texts = Texts::of(path, batch, &[name])?;
    Ok((array, texts))
}

/// The documents of one batch, ours or somebody else's; `position` is the number of its first row,
/// `called` what its rows are called by. A row without a text is an error of its own.
pub(crate) fn documents_from_batch(
    path: &Path,
    called: &str,
    batch: &RecordBatch,
    position: u64,
) -> Result<Vec<Result<Document, Error>>, Error> {
    let text = |names: &[&str]| Texts::of(path, batch, names);
    let own = |name: &str| Texts::own(path, batch, name);
    let (stored, texts) = texts_of(path, batch)?;
    let (ids, urls, languages) = (text(&["id"])?, text(URL_NAMES)?, text(LANGUAGE_NAMES)?);
    let (sources, titles, routes) = (own("source"), own("title"), own("route"));
    let (categories, extras) = (own("category"), own("extra"));
    let number = |name: &str| Numbers::own(path, batch, name);
    let (confidence, weights) = (number("language_score"), number("weight"));
    let others = Others::of(batch);
    let (dates, mut headings, mut scores) =
        (dates(path, batch)?, heading_lists(batch), score_lists(batch));
    let row = |i: usize| {
        let row = position + i as u64;
        if !texts.is_there(i) {
            let reason =
                if stored.is_null(i) { "its text is null" } else { "its text is not UTF-8" };
            return Err(Error::Row { path: path.to_owned(), row, reason });
        }
        let (url, date) = (urls.get(i).to_owned(), dates[i]);
        let id = match ids.get(i) {
            ours if Id::is_ours(ours) => Id::parse(ours),
            _ => Id::of(&url, date, &format!("{called}#{row}")),
        };
        Ok(Document {
            id,
            url,
            date,
            source: sources.get(i).to_owned(),
            title: titles.get(i).to_owned(),
            headings: std::mem::take(&mut headings[i]),
            route: Route::parse(routes.get(i)),
            language: languages.get(i).to_owned(),
            language_score: confidence.get(i, 0.0),
            text: texts.get(i).to_owned(),
            scores: std::mem::take(&mut scores[i]),
            category: categories.get(i).to_owned(),
            weight: weights.get(i, 1.0),
            extra: others.row(i, ids.get(i), extras.get(i)),
        })
    };
    Ok((0..batch.num_rows()).map(row).collect())
}

/// What becomes `extra`.
struct Others(Extra);

impl Others {
    fn of(batch: &RecordBatch) -> Others {
        // What was read under a name of others is not ours to keep twice.
        let read: Vec<&str> = [TEXT_NAMES, URL_NAMES, DATE_NAMES, LANGUAGE_NAMES]
            .iter()
            .filter_map(|names| find(batch, names).map(|(name, _)| name))
            .collect();
        let ours = |name: &str, kind: &DataType| {
            OURS.iter().any(|(own, is)| *own == name && is(kind)) || read.contains(&name)
        };
        Others(Extra::of(batch, ours))
    }

    /// One row: columns of others, an identity of theirs, and what was `extra` before.
    fn row(&self, row: usize, id: &str, before: &str) -> String {
        if self.0.is_empty() && (id.is_empty() || Id::is_ours(id)) {
            return before.to_owned();
        }
        let mut object = Map::new();
        if !id.is_empty() && !Id::is_ours(id) {
            object.insert("id".into(), id.into());
        }
        match serde_json::from_str(before) {
            Ok(Value::Object(earlier)) => object.extend(earlier),
            _ if !before.is_empty() => drop(object.insert("extra".into(), before.into())),
            _ => {}
        }
        to_extra(&self.0.row(row, object))
    }
}

/// The fates of one Parquet file.
pub(crate) fn fates_from_parquet(path: &Path) -> Result<Vec<Fate>, Error> {
    let mut fates = Vec::new();
    for batch in batches(path, File::open(path).map_err(Error::io(path))?, 0, u64::MAX)?.0 {
        fates.extend(fates_from_batch(path, &batch?)?);
    }
    Ok(fates)
}

/// The fates of one batch.
pub(crate) fn fates_from_batch(path: &Path, batch: &RecordBatch) -> Result<Vec<Fate>, Error> {
    let text = |name: &str| Texts::of(path, batch, &[name]);
    let (ids, urls, stages) = (text("id")?, text("url")?, text("stage")?);
    let (rules, details) = (text("rule")?, text("detail")?);
    let values = column_as(path, batch, &["value"], &DataType::Float64)?;
    let lines = column_as(path, batch, &["line"], &DataType::Int32)?;
    let values = values.as_ref().map(|a| a.as_primitive::<Float64Type>());
    let lines = lines.as_ref().map(|a| a.as_primitive::<Int32Type>());
    let fate = |i: usize| Fate {
        id: Id::parse(ids.get(i)),
        url: urls.get(i).to_owned(),
        stage: stages.get(i).to_owned(),
        rule: rules.get(i).to_owned(),
        value: values.filter(|v| v.is_valid(i)).map_or(0.0, |v| v.value(i)),
        line: lines.filter(|l| l.is_valid(i)).map(|l| l.value(i)),
        detail: details.get(i).to_owned(),
    };
    Ok((0..batch.num_rows()).map(fate).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of the columns in the table that follows a heading of ARCHITECTURE.md.
    fn documented(heading: &str) -> Vec<String> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../ARCHITECTURE.md");
        let text = std::fs::read_to_string(path).unwrap();
        let section = text.split("\n### ").find(|s| s.starts_with(heading)).unwrap();
        let rows = section.lines().filter(|l| l.starts_with("| `"));
        rows.map(|l| l.split('`').nth(1).unwrap().to_owned()).collect()
    }

    fn check(heading: &str, batch: RecordBatch) {
        let schema = batch.schema();
        let names: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).collect();
        assert_eq!(names, documented(heading));
    }

    #[test]
    fn the_architecture_names_our_columns_in_our_order() {
        check("Documents, version 2", documents_to_batch(&[]).unwrap());
        check("Fates, version 1", fates_to_batch(&[]).unwrap());
    }
}
