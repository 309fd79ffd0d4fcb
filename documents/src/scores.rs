//! Scores of documents that somebody else computed, to be joined by id.
//!
//! Parquet, or JSON Lines where the name ends in `.jsonl` (ARCHITECTURE.md, "Formats at rest"). Long:
//! columns `id`, `name`, `score`; wide: `id` and one column of numbers a score. Read as a stream:
//! memory is one batch or line. Not here: the join, and who computes scores.

use crate::{Error, Id, schema};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type};
use std::io::BufRead;
use std::path::{Path, PathBuf};

/// Longest line of JSON that is read.
const LONGEST_LINE: u64 = 1 << 20;

/// One score of one document.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// The document: 32 hexadecimal digits, or the id that its own file gives it.
    pub id: Id,
    /// Name of the score.
    pub name: String,
    /// The score; infinities and NaN are refused.
    pub score: f32,
}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, Error>> + Send>;

enum Source {
    Parquet(Batches, usize),
    Lines(std::io::BufReader<std::fs::File>, usize),
}

/// The scores of a file, in order. An error ends the stream.
pub struct Scores {
    path: PathBuf,
    source: Option<Source>,
    rows: std::vec::IntoIter<Score>,
}

impl Scores {
    /// Opens a file of scores.
    pub fn open(path: &Path) -> Result<Scores, Error> {
        let source = if path.extension().is_some_and(|e| e == "jsonl") {
            let file = std::fs::File::open(path).map_err(Error::io(path))?;
            Source::Lines(std::io::BufReader::new(file), 0)
        } else {
            {
                let file = std::fs::File::open(path).map_err(Error::io(path))?;
                let batches =
                    schema::batches(path, file, 0, u64::MAX).map_err(|error| match error {
                        Error::Parquet { path, reason } => Error::Parquet {
                            path,
                            reason: format!("{reason} (JSON Lines of scores are called `….jsonl`)"),
                        },
                        other => other,
                    })?;
                Source::Parquet(Box::new(batches.0), 0)
            }
        };
        let rows = Vec::new().into_iter();
        Ok(Scores { path: path.to_owned(), source: Some(source), rows })
    }

    /// The next rows; `None` at the end.
    fn refill(&mut self) -> Option<Result<Vec<Score>, Error>> {
        match self.source.as_mut()? {
            Source::Parquet(batches, row) => {
                let scores =
                    batches.next()?.and_then(|b| from_batch(&self.path, &b, *row).map(|s| (s, b)));
                Some(scores.map(|(scores, batch)| {
                    *row += batch.num_rows();
                    scores
                }))
            }
            Source::Lines(reader, number) => {
                let mut line = String::new();
                let mut limited = std::io::Read::take(&mut *reader, LONGEST_LINE);
                match limited.read_line(&mut line) {
                    Ok(0) => None,
                    Ok(_) => {
                        *number += 1;
                        let scores = from_json(line.trim());
                        Some(scores.map_err(|reason| line_error(&self.path, *number, reason)))
                    }
                    Err(e) => Some(Err(Error::io(&self.path)(e))),
                }
            }
        }
    }
}

impl Iterator for Scores {
    type Item = Result<Score, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.rows.next() {
                return Some(Ok(row));
            }
            match self.refill()? {
                Ok(rows) => self.rows = rows.into_iter(),
                Err(e) => {
                    self.source = None;
                    return Some(Err(e));
                }
            }
        }
    }
}

fn line_error(path: &Path, line: usize, reason: String) -> Error {
    Error::Line { path: path.to_owned(), line, reason }
}

fn finite(name: &str, number: f64) -> Result<f32, String> {
    let score = number as f32;
    let refused = || format!("score `{name}` is {number}, expected a finite number");
    score.is_finite().then_some(score).ok_or_else(refused)
}

/// What is wrong with a line of JSON, without a place in it that would be taken for one in the file.
fn unplaced(error: &serde_json::Error) -> String {
    let said = error.to_string();
    said.split_once(" at line 1 column ").map_or(said.clone(), |(what, _)| what.to_owned())
}

fn from_json(line: &str) -> Result<Vec<Score>, String> {
    if line.is_empty() {
        return Ok(Vec::new());
    }
    let row: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line)
        .map_err(|e| format!("not a line of scores: {}", unplaced(&e)))?;
    let id = match row.get("id").and_then(|id| id.as_str()) {
        Some(id) if !id.is_empty() => Id::parse(id),
        _ => {
            let found = match row.get("id") {
                Some(id) => format!("`id` is {id}"),
                None => format!("no `id` among {:?}", row.keys().take(8).collect::<Vec<_>>()),
            };
            return Err(format!("{found}; expected the document's as a string"));
        }
    };
    let number = |name: &str, value: &serde_json::Value| {
        let number = value.as_f64().ok_or_else(|| format!("`{name}` is {value}, not a number"))?;
        Ok(Score { id, name: name.to_owned(), score: finite(name, number)? })
    };
    if let (Some(name), Some(score)) = (row.get("name"), row.get("score")) {
        let name = name.as_str().ok_or_else(|| format!("`name` is {name}, not a string"))?;
        return Ok(vec![number(name, score)?]);
    }
    let wide = row.iter().filter(|(name, value)| *name != "id" && !value.is_null());
    wide.map(|(name, value)| number(name, value)).collect()
}

fn from_batch(path: &Path, batch: &RecordBatch, first: usize) -> Result<Vec<Score>, Error> {
    let schema = batch.schema();
    let wrong = |column: &str, expected: &str| Error::Column {
        path: path.to_owned(),
        column: column.to_owned(),
        expected: expected.to_owned(),
        found: format!(
            "columns {:?}",
            schema.fields().iter().map(|f| f.name()).collect::<Vec<_>>()
        ),
    };
    let strings = |name: &str| -> Result<arrow::array::ArrayRef, Error> {
        let column = batch.column_by_name(name).ok_or_else(|| wrong(name, "a string column"))?;
        cast(column, &DataType::Utf8).map_err(|_| wrong(name, "a string column"))
    };
    let ids = strings("id")?;
    let ids = ids.as_string::<i32>();
    let long = batch.column_by_name("name").is_some() && batch.column_by_name("score").is_some();
    let names = long.then(|| strings("name")).transpose()?;
    let mut scores = Vec::new();
    for (number, field) in schema.fields().iter().enumerate() {
        let name = field.name();
        let numeric = field.data_type().is_numeric();
        if name == "id" || (long && name != "score") || (!long && !numeric) {
            continue;
        }
        let column = cast(batch.column(number), &DataType::Float32)
            .map_err(|_| wrong(name, "a column of numbers"))?;
        let column = column.as_primitive::<Float32Type>();
        for row in (0..batch.num_rows()).filter(|row| column.is_valid(*row)) {
            let refuse = |reason| line_error(path, first + row + 1, reason);
            if ids.is_null(row) || ids.value(row).is_empty() {
                return Err(refuse("`id` is empty; expected the document's".to_owned()));
            }
            let name = names.as_ref().map_or(name.as_str(), |n| n.as_string::<i32>().value(row));
            let score = finite(name, f64::from(column.value(row))).map_err(refuse)?;
            scores.push(Score { id: Id::parse(ids.value(row)), name: name.to_owned(), score });
        }
    }
    if scores.is_empty() && batch.num_rows() > 0 && schema.fields().len() < 2 {
        return Err(wrong("score", "`name` and `score`, or columns of numbers"));
    }
    Ok(scores)
}

/// Writes scores in the long form atomically: JSON Lines where the name ends in `.jsonl`, Parquet
/// otherwise.
pub fn write_scores(path: &Path, scores: &[Score]) -> Result<(), Error> {
    if path.extension().is_none_or(|e| e != "jsonl") {
        return crate::writer::write_rows(path, scores);
    }
    quipu_store::atomic::write(path, |out| {
        for Score { id, name, score } in scores {
            let row = serde_json::json!({"id": id.to_string(), "name": name, "score": score});
            serde_json::to_writer(&mut *out, &row)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Float64Array, Int32Array, StringArray};
    use parquet::arrow::ArrowWriter;
    use std::sync::Arc;

    fn score(id: u128, name: &str, score: f32) -> Score {
        Score { id: Id(id), name: name.into(), score }
    }

    fn read(path: &Path) -> Result<Vec<Score>, String> {
        let scores = Scores::open(path).map_err(|e| e.to_string())?;
        scores.collect::<Result<_, _>>().map_err(|e| e.to_string())
    }

    fn lines(text: &str) -> Result<Vec<Score>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("scores.jsonl");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    fn columns(columns: Vec<(&str, ArrayRef)>) -> Result<Vec<Score>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("scores.parquet");
        let batch = RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, column)| (name, column, true)),
        )
        .unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        std::fs::write(&path, writer.into_inner().unwrap()).unwrap();
        read(&path)
    }

    #[test]
    fn both_forms_return_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let rows: Vec<Score> =
            (0..1000).map(|n| score(n, ["a", "b"][n as usize % 2], 0.5)).collect();
        for name in ["scores.parquet", "scores.jsonl"] {
            let path = dir.path().join(name);
            for rows in [&rows[..], &[]] {
                write_scores(&path, rows).unwrap();
                assert_eq!(read(&path).unwrap(), rows, "{name}");
            }
        }
    }

    #[test]
    fn wide_files_have_a_column_a_score() {
        let text = format!("{{\"id\":\"{:032x}\",\"q\":1,\"t\":0.25,\"x\":null}}\n\n", 7);
        assert_eq!(lines(&text).unwrap(), [score(7, "q", 1.0), score(7, "t", 0.25)]);
        let ids: ArrayRef = Arc::new(StringArray::from(vec![format!("{:032x}", 7); 2]));
        let doubles: ArrayRef = Arc::new(Float64Array::from(vec![Some(0.5), None]));
        let whole: ArrayRef = Arc::new(Int32Array::from(vec![3, 4]));
        let words: ArrayRef = Arc::new(StringArray::from(vec!["skipped", "skipped"]));
        let found = columns(vec![("id", ids), ("q", doubles), ("n", whole), ("url", words)]);
        let expected = [score(7, "q", 0.5), score(7, "n", 3.0), score(7, "n", 4.0)];
        assert_eq!(found.unwrap(), expected);
    }

    #[test]
    fn errors_name_the_line() {
        let good = format!("{{\"id\":\"{:032x}\",\"q\":1}}\n", 7);
        let check = |line: &str, reason: &str| {
            let message = lines(&format!("{good}{line}\n")).unwrap_err();
            assert!(message.contains("line 2") && message.contains(reason), "{message}");
        };
        check("{\"q\":1}", "no `id` among [\"q\"]");
        check("{\"id\":17,\"q\":1}", "`id` is 17; expected the document's as a string");
        check("{\"id\":\"a\",\"q\":\"high\"}", "`q` is \"high\", not a number");
        check("{\"id\":\"a\",\"name\":\"q\",\"score\":1e300}", "expected a finite number");
        check("nothing", "not a line of scores");
        let ids: ArrayRef = Arc::new(StringArray::from(vec!["a", ""]));
        let doubles: ArrayRef = Arc::new(Float64Array::from(vec![0.5, 0.5]));
        let message = columns(vec![("id", ids.clone()), ("q", doubles.clone())]).unwrap_err();
        assert!(message.contains("line 2: `id` is empty"), "{message}");
        let message = columns(vec![("q", doubles)]).unwrap_err();
        assert!(message.contains("column `id`") && message.contains("\"q\""), "{message}");
        assert!(columns(vec![("id", ids)]).unwrap_err().contains("columns of numbers"));
    }

    #[test]
    fn an_endless_line_is_an_error() {
        let text = format!("{{\"id\":\"{}", "x".repeat(3 << 20));
        assert!(lines(&text).unwrap_err().contains("line 1"));
    }
}
