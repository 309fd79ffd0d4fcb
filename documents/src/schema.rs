//! The Parquet schema of documents and fates, version 1, and rows to columns and back.
//!
//! The table stands in ARCHITECTURE.md, "Formats"; the test below reads it there. Files of others
//! are read through the same door as far as they have the columns (FineWeb's names are understood).

use crate::{Document, Error, Fate, Id, Route, parse_date};
use arrow::array::{
    Array, ArrayRef, AsArray, Float32Array, Float32Builder, Float64Array, Int32Array, ListBuilder,
    MapBuilder, MapFieldNames, RecordBatch, StringArray, StringBuilder, TimestampMillisecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Field, Float32Type, Float64Type, Int32Type, Schema, TimeUnit,
    TimestampMillisecondType,
};
use parquet::arrow::ArrowWriter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::path::Path;
use std::sync::Arc;

/// Rows of one row group: small enough to be a unit of work, large enough to compress.
const ROW_GROUP: usize = 8192;
/// Rows decoded at a time.
const BATCH: usize = 256;

/// Names under which others keep the text, in order of preference.
pub(crate) const TEXT_NAMES: [&str; 5] = ["text", "content", "raw_content", "body", "document"];
const URL_NAMES: [&str; 4] = ["url", "uri", "source_url", "link"];
const DATE_NAMES: [&str; 4] = ["date", "timestamp", "crawl_date", "created"];

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

fn documents_to_batch(rows: &[Document]) -> Result<RecordBatch, String> {
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
    ])
}

fn fates_to_batch(rows: &[Fate]) -> Result<RecordBatch, String> {
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

fn encode<T>(
    path: &Path,
    rows: &[T],
    to_batch: impl Fn(&[T]) -> Result<RecordBatch, String>,
) -> Result<Vec<u8>, Error> {
    let level = ZstdLevel::try_new(3).map_err(Error::parquet(path))?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(ROW_GROUP))
        .set_created_by("quipu".into())
        .build();
    let empty = to_batch(&[]).map_err(Error::parquet(path))?;
    let mut writer = ArrowWriter::try_new(Vec::new(), empty.schema(), Some(properties))
        .map_err(Error::parquet(path))?;
    for part in rows.chunks(ROW_GROUP / 8) {
        let batch = to_batch(part).map_err(Error::parquet(path))?;
        writer.write(&batch).map_err(Error::parquet(path))?;
    }
    writer.into_inner().map_err(Error::parquet(path))
}

/// The Parquet bytes of some documents; the same documents give the same bytes.
pub(crate) fn documents_to_parquet(path: &Path, rows: &[Document]) -> Result<Vec<u8>, Error> {
    encode(path, rows, documents_to_batch)
}

/// The Parquet bytes of some fates.
pub(crate) fn fates_to_parquet(path: &Path, rows: &[Fate]) -> Result<Vec<u8>, Error> {
    encode(path, rows, fates_to_batch)
}

/// Batches of one Parquet file.
pub(crate) fn batches(
    path: &Path,
) -> Result<impl Iterator<Item = Result<RecordBatch, Error>> + Send + use<>, Error> {
    let reader = builder(path)?.build().map_err(Error::parquet(path))?;
    let path = path.to_owned();
    Ok(reader.map(move |batch| batch.map_err(Error::parquet(&path))))
}

fn builder(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<std::fs::File>, Error> {
    let file = std::fs::File::open(path).map_err(Error::io(path))?;
    // Arrow's own copy of the schema is skipped: its decoder panics on damaged bytes.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)
        .map_err(Error::parquet(path))?;
    Ok(builder.with_batch_size(BATCH))
}

/// The numbers of the rows that `wanted` admits, by the texts of some columns; others are not read.
pub(crate) fn rows_where<const N: usize>(
    path: &Path,
    columns: [&str; N],
    mut wanted: impl FnMut([&str; N]) -> bool,
) -> Result<Vec<usize>, Error> {
    let builder = builder(path)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns);
    let reader = builder.with_projection(mask).build().map_err(Error::parquet(path))?;
    let (mut found, mut first) = (Vec::new(), 0);
    for batch in reader {
        let batch = batch.map_err(Error::parquet(path))?;
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

/// Rows of a file.
pub(crate) fn count(path: &Path) -> Result<usize, Error> {
    let rows = builder(path)?.metadata().file_metadata().num_rows();
    Ok(usize::try_from(rows).unwrap_or(0))
}

/// Batches of some rows alone, whose numbers ascend and which are there; pages without them are
/// not decoded.
pub(crate) fn batches_of(
    path: &Path,
    rows: &[usize],
) -> Result<impl Iterator<Item = Result<RecordBatch, Error>> + use<>, Error> {
    let builder = builder(path)?;
    let total = usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
    let ranges = rows.iter().map(|row| *row..*row + 1);
    let selection = RowSelection::from_consecutive_ranges(ranges, total);
    let reader = builder.with_row_selection(selection).build().map_err(Error::parquet(path))?;
    let path = path.to_owned();
    Ok(reader.map(move |batch| batch.map_err(Error::parquet(&path))))
}

fn wrong(path: &Path, name: &str, expected: &str, found: String) -> Error {
    let (path, column) = (path.to_owned(), name.to_owned());
    Error::Column { path, column, expected: expected.to_owned(), found }
}

fn column_as(
    path: &Path,
    batch: &RecordBatch,
    names: &[&str],
    wanted: &DataType,
) -> Result<Option<ArrayRef>, Error> {
    let Some((name, array)) = names.iter().find_map(|n| Some((n, batch.column_by_name(n)?))) else {
        return Ok(None);
    };
    if array.data_type() == wanted {
        return Ok(Some(array.clone()));
    }
    let converted = cast(array, wanted)
        .map_err(|_| wrong(path, name, &wanted.to_string(), array.data_type().to_string()))?;
    Ok(Some(converted))
}

/// One text column by row, empty where absent or null.
struct Texts(Option<ArrayRef>);

impl Texts {
    fn of(path: &Path, batch: &RecordBatch, names: &[&str]) -> Result<Texts, Error> {
        Ok(Texts(column_as(path, batch, names, &DataType::Utf8)?))
    }

    fn get(&self, row: usize) -> &str {
        match &self.0 {
            Some(array) if array.is_valid(row) => array.as_string::<i32>().value(row),
            _ => "",
        }
    }
}

fn dates(path: &Path, batch: &RecordBatch) -> Result<Vec<Option<i64>>, Error> {
    let found = DATE_NAMES.iter().find_map(|n| batch.column_by_name(n));
    let temporal = matches!(
        found.map(|a| a.data_type()),
        Some(DataType::Timestamp(..) | DataType::Date32 | DataType::Date64)
    );
    if temporal {
        let array = column_as(path, batch, &DATE_NAMES, &timestamp())?;
        let values = array.as_ref().map(|a| a.as_primitive::<TimestampMillisecondType>());
        return Ok(values.map_or_else(Vec::new, |v| v.iter().collect()));
    }
    let texts = match found {
        Some(_) => Texts::of(path, batch, &DATE_NAMES)?,
        None => Texts(None),
    };
    Ok((0..batch.num_rows()).map(|row| parse_date(texts.get(row))).collect())
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

/// The documents of one batch, ours or somebody else's; `position` is the number of its first row.
pub(crate) fn documents_from_batch(
    path: &Path,
    batch: &RecordBatch,
    position: usize,
) -> Result<Vec<Document>, Error> {
    let text = |names: &[&str]| Texts::of(path, batch, names);
    let texts = text(&TEXT_NAMES)?;
    if texts.0.is_none() {
        let schema = batch.schema();
        let found: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        return Err(wrong(path, "text", "a column of strings", format!("columns {found:?}")));
    }
    let (ids, urls) = (text(&["id"])?, text(&URL_NAMES)?);
    let (sources, titles) = (text(&["source"]).unwrap_or(Texts(None)), text(&["title"])?);
    let (routes, languages) = (text(&["route"])?, text(&["language", "lang"])?);
    let confidence = column_as(path, batch, &["language_score"], &DataType::Float32)?;
    let confidence = confidence.as_ref().map(|a| a.as_primitive::<Float32Type>());
    let (dates, mut headings, mut scores) =
        (dates(path, batch)?, heading_lists(batch), score_lists(batch));
    let row = |i: usize| {
        let (url, date) = (urls.get(i).to_owned(), dates.get(i).copied().flatten());
        let id = match ids.get(i) {
            "" => Id::of(&url, date, &format!("{}", position + i)),
            given => Id::parse(given),
        };
        Document {
            id,
            url,
            date,
            source: sources.get(i).to_owned(),
            title: titles.get(i).to_owned(),
            headings: std::mem::take(&mut headings[i]),
            route: Route::parse(routes.get(i)),
            language: languages.get(i).to_owned(),
            language_score: confidence.filter(|c| c.is_valid(i)).map_or(0.0, |c| c.value(i)),
            text: texts.get(i).to_owned(),
            scores: std::mem::take(&mut scores[i]),
        }
    };
    Ok((0..batch.num_rows()).map(row).collect())
}

/// The fates of one Parquet file.
pub(crate) fn fates_from_parquet(path: &Path) -> Result<Vec<Fate>, Error> {
    let mut fates = Vec::new();
    for batch in batches(path)? {
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
        check("Documents, version 1", documents_to_batch(&[]).unwrap());
        check("Fates, version 1", fates_to_batch(&[]).unwrap());
    }
}
