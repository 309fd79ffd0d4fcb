//! Evaluation items from files: the strings of each record, and what the record is called.
//!
//! JSON Lines and JSON (a list, or an object, of records; every string in a record is a part, however
//! deep), CSV (each row a record), other text (each paragraph a record); `.gz` of each. Not here: what
//! is done with them.

use serde_json::Value;
use std::io::Read;
use std::path::Path;

/// Bytes of one file, decompressed, that are believed.
const MOST: u64 = 4 << 30;

/// Items by name, each with its strings.
#[derive(Debug, Default)]
pub struct Items {
    items: Vec<(String, Vec<String>)>,
}

/// Why a file has no items.
#[derive(Debug, thiserror::Error)]
pub enum NotItems {
    /// It could not be read.
    #[error("{file}: cannot be read: {error}")]
    Io {
        /// The file.
        file: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// A line is no JSON.
    #[error(
        "{file}, line {line}: no JSON: {reason}; expected a record a line, or one list of records"
    )]
    Json {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What the parser said.
        reason: String,
    },
    /// It is larger than is believed.
    #[error("{file}: more than {MOST} bytes, decompressed; split it")]
    TooLarge {
        /// The file.
        file: String,
    },
    /// A field of comma-separated values that is not closed: what follows would be one item.
    #[error("{file}: the quotation mark that opens a field in row {row} is never closed")]
    Quote {
        /// The file.
        file: String,
        /// The row, from 1.
        row: usize,
    },
    /// There is no string in it.
    #[error("{file}: no item with a string in it; expected JSON Lines, JSON, CSV or text")]
    Nothing {
        /// The file.
        file: String,
    },
}

impl Items {
    /// Adds the items of a file, by what its name ends with.
    pub fn file(&mut self, path: &Path) -> Result<(), NotItems> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let fail = |error| NotItems::Io { file: path.display().to_string(), error };
        let file = std::fs::File::open(path).map_err(fail)?;
        let mut bytes = Vec::new();
        let plain = name.strip_suffix(".gz");
        let mut reader: Box<dyn Read> = match plain {
            Some(_) => Box::new(flate2::read::MultiGzDecoder::new(file)),
            None => Box::new(file),
        };
        reader.by_ref().take(MOST + 1).read_to_end(&mut bytes).map_err(fail)?;
        if bytes.len() as u64 > MOST {
            return Err(NotItems::TooLarge { file: path.display().to_string() });
        }
        let text = String::from_utf8_lossy(&bytes);
        let kind = plain.unwrap_or(&name);
        if kind.ends_with(".json") || kind.ends_with(".jsonl") || kind.ends_with(".ndjson") {
            self.json(&name, &text)
        } else if kind.ends_with(".csv") {
            self.csv(&name, &text)
        } else {
            self.text(&name, &text)
        }
    }

    /// Adds the records of JSON Lines, or of one JSON value.
    pub fn json(&mut self, file: &str, text: &str) -> Result<(), NotItems> {
        let before = self.items.len();
        let listed = serde_json::from_str(text).is_ok_and(|whole: Value| {
            let one_line = text.trim().lines().nth(1).is_none();
            let records = records(&whole, one_line);
            records.iter().zip(1..).for_each(|(v, n)| self.record(format!("{file}:{n}"), v));
            !records.is_empty()
        });
        for (number, line) in text.lines().enumerate().filter(|_| !listed) {
            if line.trim().is_empty() {
                continue;
            }
            let value: Value = serde_json::from_str(line).map_err(|e| NotItems::Json {
                file: file.to_owned(),
                line: number + 1,
                reason: e.to_string(),
            })?;
            self.record(format!("{file}:{}", number + 1), &value);
        }
        self.some(file, before)
    }

    fn record(&mut self, name: String, value: &Value) {
        let mut strings = Vec::new();
        gather(value, &mut strings);
        self.push(name, strings);
    }

    fn push(&mut self, name: String, mut strings: Vec<String>) {
        strings.retain(|s| s.chars().any(char::is_alphanumeric));
        if !strings.is_empty() {
            self.items.push((name, strings));
        }
    }

    fn some(&self, file: &str, before: usize) -> Result<(), NotItems> {
        match self.items.len() > before {
            true => Ok(()),
            false => Err(NotItems::Nothing { file: file.to_owned() }),
        }
    }

    /// Adds the rows of comma-separated values (RFC 4180).
    pub fn csv(&mut self, file: &str, text: &str) -> Result<(), NotItems> {
        let before = self.items.len();
        let (mut row, mut field, mut quoted, mut number) = (Vec::new(), String::new(), false, 1);
        let mut chars = text.chars().chain(['\n']).peekable();
        while let Some(c) = chars.next() {
            match c {
                '"' if quoted && chars.peek() == Some(&'"') => {
                    chars.next();
                    field.push('"');
                }
                '"' if quoted || field.is_empty() => quoted = !quoted,
                ',' if !quoted => row.push(std::mem::take(&mut field)),
                '\n' if !quoted || chars.peek().is_none() => {
                    row.push(std::mem::take(&mut field));
                    self.push(format!("{file}:{number}"), std::mem::take(&mut row));
                    number += 1;
                }
                c => field.push(c),
            }
        }
        if quoted {
            return Err(NotItems::Quote { file: file.to_owned(), row: number - 1 });
        }
        self.some(file, before)
    }

    /// Adds the paragraphs of a text.
    pub fn text(&mut self, file: &str, text: &str) -> Result<(), NotItems> {
        let before = self.items.len();
        let lines: Vec<&str> = text.lines().collect();
        for (n, paragraph) in lines.split(|line| line.trim().is_empty()).enumerate() {
            self.push(format!("{file}:{}", n + 1), vec![paragraph.join("\n")]);
        }
        self.some(file, before)
    }

    pub(super) fn into_items(self) -> Vec<(String, Vec<String>)> {
        self.items
    }
}

/// The records of a file that is one JSON value; none where it is a record of JSON Lines itself.
fn records(whole: &Value, one_line: bool) -> Vec<&Value> {
    let nested = |v: &Value| v.is_object() || v.is_array();
    match whole {
        Value::Array(values) if !one_line || values.iter().any(nested) => values.iter().collect(),
        Value::Object(fields) if !one_line => {
            let lists = fields.values().filter_map(Value::as_array);
            let listed: Vec<&Value> = lists.flatten().filter(|v| v.is_object()).collect();
            if !listed.is_empty() {
                listed
            } else if fields.values().all(nested) {
                fields.values().collect()
            } else {
                vec![whole]
            }
        }
        _ => Vec::new(),
    }
}

/// Every string of a value; the parser has bounded how deep it is.
fn gather(value: &Value, strings: &mut Vec<String>) {
    match value {
        Value::String(text) => strings.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|v| gather(v, strings)),
        Value::Object(fields) => fields.values().for_each(|v| gather(v, strings)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(read: impl FnOnce(&mut Items) -> Result<(), NotItems>, expected: &[(&str, &[&str])]) {
        let mut items = Items::default();
        read(&mut items).unwrap();
        let found: Vec<(&str, Vec<&str>)> = items
            .items
            .iter()
            .map(|(name, strings)| (name.as_str(), strings.iter().map(String::as_str).collect()))
            .collect();
        let expected: Vec<(&str, Vec<&str>)> =
            expected.iter().map(|(name, strings)| (*name, strings.to_vec())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn records_of_every_form() {
        let lines =
            "{\"q\":\"one\",\"n\":3,\"c\":[\"two\",{\"x\":\"three\"}]}\n\n{\"q\":\"four\"}\n";
        check(|i| i.json("f", lines), &[("f:1", &["one", "two", "three"]), ("f:3", &["four"])]);
        check(
            |i| i.json("f", "[{\"q\":\"one\"},\n{\"q\":\"two\"}]"),
            &[("f:1", &["one"]), ("f:2", &["two"])],
        );
        let named = "{\"a\":[\"one\"],\n\"b\":[\"two\"]}";
        check(|i| i.json("f", named), &[("f:1", &["one"]), ("f:2", &["two"])]);
        let listed = "{\"canary\":\"x\",\n\"examples\":[{\"q\":\"one\"},{\"q\":\"two\"}]}";
        check(|i| i.json("f", listed), &[("f:1", &["one"]), ("f:2", &["two"])]);
        check(|i| i.json("f", "{\n\"q\":\"one\"\n}"), &[("f:1", &["one"])]);
        check(|i| i.json("f", "{\"q\":\"one\"}"), &[("f:1", &["one"])]);
        check(|i| i.json("f", "[\"one\",\"two\"]\n"), &[("f:1", &["one", "two"])]);
        let rows = "q,a\n\"one, \"\"two\"\"\nthree\",4\n,!\nlast";
        check(
            |i| i.csv("f", rows),
            &[("f:1", &["q", "a"]), ("f:2", &["one, \"two\"\nthree", "4"]), ("f:4", &["last"])],
        );
        check(
            |i| i.text("f", "one\ntwo\n\nthree\n"),
            &[("f:1", &["one\ntwo"]), ("f:2", &["three"])],
        );
    }

    #[test]
    fn files_by_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.jsonl.gz");
        let mut encoder = flate2::write::GzEncoder::new(
            std::fs::File::create(&path).unwrap(),
            flate2::Compression::new(1),
        );
        std::io::Write::write_all(&mut encoder, b"{\"q\":\"one\"}\n").unwrap();
        encoder.finish().unwrap();
        check(|i| i.file(&path), &[("x.jsonl.gz:1", &["one"])]);
        let missing = Items::default().file(&dir.path().join("none.csv")).unwrap_err();
        assert!(missing.to_string().contains("none.csv"), "{missing}");
    }

    #[test]
    fn what_has_no_items_is_refused() {
        let refused = |result: Result<(), NotItems>, part: &str| {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        refused(Items::default().json("f", "{\"q\":\"one\"}\nnot json\n"), "line 2");
        refused(Items::default().json("f", "{\"q\":1}"), "no item");
        refused(Items::default().csv("f", ""), "no item");
        refused(Items::default().csv("f", "q,a\none,\"two\nthree,\nfour\n"), "in row 2 is never");
        refused(Items::default().text("f", "\n - \n"), "no item");
        let deep = "[".repeat(100_000);
        refused(Items::default().json("f", &deep), "line 1");
    }
}
