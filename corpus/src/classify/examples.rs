//! Examples with labels, from the files that people have.
//!
//! JSON Lines with `text` and `label`; fastText's lines (`__label__good some text`); or, where one
//! label is given for a whole file, JSON Lines with `text`, plain text with a document a line, and
//! documents in Parquet. Not here: what is learned from them.

use super::Error;
use quipu_documents::Reader;
use serde::Deserialize;
use std::io::BufRead;
use std::path::Path;

/// A text and what it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// The text.
    pub text: String,
    /// Its label.
    pub label: String,
}

#[derive(Deserialize)]
struct Row {
    text: String,
    #[serde(default)]
    label: Option<serde_json::Value>,
}

/// Reads a file of examples; `label` is that of all of them, where given.
pub fn read_examples(path: &Path, label: Option<&str>) -> Result<Vec<Example>, Error> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    if path.is_dir() || extension == "parquet" {
        let Some(label) = label else {
            let expected = "a label for all documents of a Parquet file or folder";
            return Err(Error::Option { key: "label", found: "none".into(), expected });
        };
        let example = |document: quipu_documents::Document| Example {
            text: document.text,
            label: label.to_owned(),
        };
        return Reader::open(path)?.map(|d| Ok(example(d?))).collect();
    }
    let json = matches!(extension, "jsonl" | "ndjson" | "json");
    let file = std::fs::File::open(path).map_err(Error::io(path))?;
    let mut examples = Vec::new();
    for (number, line) in std::io::BufReader::new(file).lines().enumerate() {
        let line = line.map_err(Error::io(path))?;
        if line.trim().is_empty() {
            continue;
        }
        let example = if json { from_json(&line, label) } else { from_line(&line, label) };
        examples.push(example.map_err(|reason| Error::Line {
            path: path.to_owned(),
            line: number + 1,
            reason,
        })?);
    }
    Ok(examples)
}

fn from_json(line: &str, label: Option<&str>) -> Result<Example, String> {
    let row: Row = serde_json::from_str(line).map_err(|e| e.to_string())?;
    let label = match (label, row.label) {
        (Some(label), _) => label.to_owned(),
        (None, Some(serde_json::Value::String(label))) => label,
        (None, Some(label @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_)))) => {
            label.to_string()
        }
        (None, other) => return Err(format!("label is {other:?}, expected a string or number")),
    };
    Ok(Example { text: row.text, label })
}

fn from_line(line: &str, label: Option<&str>) -> Result<Example, String> {
    if let Some(label) = label {
        return Ok(Example { text: line.to_owned(), label: label.to_owned() });
    }
    let rest = line.strip_prefix(super::fasttext::LABEL).ok_or_else(|| {
        let start: String = line.chars().take(30).collect();
        format!("begins with `{start}`, expected `__label__NAME text`")
    })?;
    let (label, text) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    Ok(Example { text: text.to_owned(), label: label.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, content: &str, label: Option<&str>) -> Result<Vec<Example>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        read_examples(&path, label).map_err(|e| e.to_string())
    }

    fn example(text: &str, label: &str) -> Example {
        Example { text: text.into(), label: label.into() }
    }

    #[test]
    fn files_of_examples() {
        let json = "{\"text\":\"a b\",\"label\":1}\n\n{\"text\":\"c\",\"label\":\"no\"}\n";
        let both = [example("a b", "1"), example("c", "no")];
        assert_eq!(check("x.jsonl", json, None).unwrap(), both);
        assert_eq!(check("x.jsonl", json, Some("y")).unwrap()[1], example("c", "y"));
        let lines = "__label__good some text\n__label__bad\n";
        let both = [example("some text", "good"), example("", "bad")];
        assert_eq!(check("x.txt", lines, None).unwrap(), both);
        assert_eq!(check("x.txt", "one\ntwo", Some("y")).unwrap()[1], example("two", "y"));
    }

    #[test]
    fn errors_name_the_line() {
        let json = "{\"text\":\"a\",\"label\":1}\n{\"text\":\"a\"}\n";
        let message = check("x.jsonl", json, None).unwrap_err();
        assert!(message.contains("x.jsonl, line 2: label is"), "{message}");
        let message = check("x.txt", "__label__a b\nno label", None).unwrap_err();
        assert!(message.contains("line 2: begins with `no label`"), "{message}");
        assert!(check("x.parquet", "", None).unwrap_err().contains("a label for all"));
    }
}
