//! What became of a document or line that was removed, and why.
//!
//! Fates are written beside the documents, as Parquet or as JSON Lines; the funnel, the samples and
//! `explain` are computed from them. Not here: the rules themselves.

use crate::{Error, Id, schema};
use serde::{Deserialize, Serialize};
use std::io::BufRead;
use std::path::Path;

/// One removal. Columns and their meaning: ARCHITECTURE.md, "Formats".
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fate {
    /// The document.
    pub id: Id,
    /// Its URL, or where it stood.
    pub url: String,
    /// The stage that acted.
    pub stage: String,
    /// The rule that removed it.
    pub rule: String,
    /// What the rule measured.
    pub value: f64,
    /// The line of the extracted text, from 0; `None` for a whole document.
    pub line: Option<i32>,
    /// The copy kept, the line removed, or the error.
    pub detail: String,
}

/// The form of a fate in JSON Lines: the identity as its hexadecimal digits.
#[derive(Serialize, Deserialize)]
struct Json {
    id: String,
    url: String,
    stage: String,
    rule: String,
    value: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    line: Option<i32>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    detail: String,
}

fn is_json_lines(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "jsonl")
}

/// Writes fates atomically: JSON Lines where the name ends in `.jsonl`, Parquet otherwise.
pub fn write_fates(path: &Path, fates: &[Fate]) -> Result<(), Error> {
    if !is_json_lines(path) {
        return crate::writer::write_rows(path, fates);
    }
    quipu_store::atomic::write(path, |out| {
        for fate in fates {
            let Fate { id, url, stage, rule, value, line, detail } = fate.clone();
            let row = Json { id: id.to_string(), url, stage, rule, value, line, detail };
            serde_json::to_writer(&mut *out, &row)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    })?;
    Ok(())
}

/// Reads the fates of one file, in either form.
pub fn read_fates(path: &Path) -> Result<Vec<Fate>, Error> {
    if !is_json_lines(path) {
        return schema::fates_from_parquet(path);
    }
    let file = std::fs::File::open(path).map_err(Error::io(path))?;
    let mut fates = Vec::new();
    for (number, line) in std::io::BufReader::new(file).lines().enumerate() {
        let line = line.map_err(Error::io(path))?;
        let row: Json = serde_json::from_str(&line).map_err(|e| Error::Line {
            path: path.to_owned(),
            line: number + 1,
            reason: e.to_string(),
        })?;
        let Json { id, url, stage, rule, value, line, detail } = row;
        fates.push(Fate { id: Id::parse(&id), url, stage, rule, value, line, detail });
    }
    Ok(fates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Fate> {
        let whole = Fate {
            id: Id(7),
            url: "http://a.example/é".into(),
            stage: "rules".into(),
            rule: "too-short".into(),
            value: 3.5,
            ..Fate::default()
        };
        let line = Fate { line: Some(4), detail: "Home | About".into(), ..whole.clone() };
        vec![whole, line]
    }

    fn check(name: &str) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        for fates in [samples(), Vec::new()] {
            write_fates(&path, &fates).unwrap();
            assert_eq!(read_fates(&path).unwrap(), fates);
        }
    }

    #[test]
    fn both_forms_return_what_was_written() {
        check("fates.parquet");
        check("fates.jsonl");
    }

    #[test]
    fn a_broken_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fates.jsonl");
        std::fs::write(&path, "{\"id\":1}\n").unwrap();
        let message = read_fates(&path).unwrap_err().to_string();
        assert!(message.contains("fates.jsonl, line 1"), "{message}");
    }
}
