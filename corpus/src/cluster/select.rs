//! `--where "SQL"`: the documents of a folder for which a predicate holds.
//!
//! File by file and row by row, in order; only the columns that the predicate reads are decoded to
//! judge, whole documents only to be written. What is not kept has a fate, as with every other
//! rule. Memory is a row group and a bit for each row of a file. Not here: what a predicate may say;
//! see [`super::predicate`].

use super::{Error, Predicate};
use crate::run::SUMMARY;
use crate::run::explain::{CHOSEN_FROM, WHERE};
use arrow::array::AsArray;
use arrow::datatypes::{DataType, SchemaRef};
use quipu_documents::{
    Document, DocumentsFile, Fate, FatesFile, FileKind, Id, Reader, Writer, columns, read_fates,
    schema_of,
};
use quipu_store::manifest::{self, Manifest};
use std::path::{Path, PathBuf};

/// What a selection left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selected {
    /// Documents looked at.
    pub documents: u64,
    /// Those for which the predicate holds.
    pub kept: u64,
}

/// Writes those documents of `documents` (a folder of ours, or any with Parquet files of documents)
/// for which `predicate` holds as the documents folder `out`; the others have a fate there, beside
/// the fates they came with.
///
/// # Errors
/// A predicate that is none; folders that cannot be read or written; `out` being `documents`.
pub fn select(documents: &Path, predicate: &str, out: &Path) -> Result<Selected, crate::Error> {
    // Held against its checksums, as every folder of ours that is read as a whole.
    let ours = documents.is_dir() && Manifest::exists(documents);
    let manifest = ours.then(|| quipu_documents::read_manifest(documents)).transpose()?;
    let facts = manifest.map_or(serde_json::Value::Null, |manifest| manifest.facts);
    let files = quipu_documents::files(documents)?;
    let mut judge = Judge { text: predicate, ready: None };
    if let Some(first) = files.first() {
        // Before anything is written, or a manifest of an earlier selection is removed.
        judge.prepare(&schema_of(first)?)?;
    }
    refuse_itself(documents, out)?;
    let written = write(&facts, &files, &mut judge, out);
    if written.is_err() {
        // What is half there has no manifest, and would be in the way of the next try.
        for name in (0..files.len()).flat_map(names) {
            let _ = std::fs::remove_file(out.join(name));
        }
        let _ = std::fs::remove_dir(out);
    }
    written
}

/// The names of the files of a unit.
fn names(unit: usize) -> [String; 2] {
    [FileKind::Documents, FileKind::Fates].map(|kind| kind.name(unit))
}

fn write(
    facts: &serde_json::Value,
    files: &[PathBuf],
    judge: &mut Judge,
    out: &Path,
) -> Result<Selected, crate::Error> {
    let predicate = judge.text;
    let writer = Writer::new(out)?;
    let (mut selected, mut written) = (Selected::default(), Vec::new());
    for (unit, file) in files.iter().enumerate() {
        let holds = judge.file(file)?;
        let names = names(unit);
        let mut kept = DocumentsFile::create(&out.join(&names[0]))?;
        let mut fates = FatesFile::create(&out.join(&names[1]))?;
        fates_beside(file)?.into_iter().try_for_each(|fate| fates.push(fate))?;
        for (position, document) in Reader::open(file)?.enumerate() {
            let document = document?;
            selected.documents += 1;
            if holds.get(position).copied().unwrap_or(false) {
                selected.kept += 1;
                kept.push(document)?;
            } else {
                fates.push(fate(&document, predicate))?;
            }
        }
        kept.finish()?;
        fates.finish()?;
        let [documents, fates] = names.map(|name| manifest::File::of(out, &name));
        written.push([documents?, fates?]);
    }
    let Selected { documents: looked_at, kept } = selected;
    // Of the run that wrote them, if a run did, so that fates can be explained.
    let from = facts.get(SUMMARY).or(facts.get(CHOSEN_FROM));
    let facts = serde_json::json!({
        WHERE: predicate, "documents": looked_at, "kept": kept, CHOSEN_FROM: from,
    });
    writer.finish(written, facts)?;
    Ok(selected)
}

/// The ids of the documents for which `predicate` holds, in their order, file by file.
///
/// # Errors
/// As [`select`]; an error in the stream ends it.
pub fn matching(
    documents: &Path,
    predicate: &str,
) -> Result<impl Iterator<Item = Result<Id, crate::Error>>, crate::Error> {
    quipu_documents::verify(documents)?;
    let files = quipu_documents::files(documents)?;
    let mut judge = Judge { text: predicate, ready: None };
    if let Some(first) = files.first() {
        judge.prepare(&schema_of(first)?)?;
    }
    let text = predicate.to_owned();
    let of_file = move |file: PathBuf| -> Result<Vec<Id>, crate::Error> {
        let mut judge = Judge { text: &text, ready: None };
        let holds = judge.file(&file)?;
        let ids = ids(&file)?;
        Ok(ids.into_iter().zip(holds).filter_map(|(id, holds)| holds.then_some(id)).collect())
    };
    let mut failed = false;
    Ok(files.into_iter().flat_map(of_file_or_error(of_file)).take_while(move |id| {
        let go_on = !failed;
        failed |= id.is_err();
        go_on
    }))
}

type Found = Vec<Result<Id, crate::Error>>;

/// The ids of a file, or its error as the only item.
fn of_file_or_error(
    of_file: impl Fn(PathBuf) -> Result<Vec<Id>, crate::Error>,
) -> impl FnMut(PathBuf) -> Found {
    move |file| match of_file(file) {
        Ok(ids) => ids.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error)],
    }
}

/// A predicate, prepared for the columns of the file before.
struct Judge<'a> {
    text: &'a str,
    ready: Option<(SchemaRef, Predicate)>,
}

impl Judge<'_> {
    fn prepare(&mut self, schema: &SchemaRef) -> Result<&Predicate, crate::Error> {
        let ready = match self.ready.take().filter(|(of, _)| of == schema) {
            Some(ready) => ready,
            None => (schema.clone(), Predicate::new(self.text, schema)?),
        };
        Ok(&self.ready.insert(ready).1)
    }

    /// Whether the predicate holds, for each row of a file.
    fn file(&mut self, path: &Path) -> Result<Vec<bool>, crate::Error> {
        let predicate = self.prepare(&schema_of(path)?)?;
        let mut holds = Vec::new();
        for batch in columns(path, predicate.columns())? {
            holds.extend(predicate.holds(&batch?)?);
        }
        Ok(holds)
    }
}

/// The ids of a file: its column `id` where all of them are ours, or those that the reader gives.
fn ids(path: &Path) -> Result<Vec<Id>, crate::Error> {
    let schema = schema_of(path)?;
    let column = schema.field_with_name("id");
    let mut ids = Vec::new();
    let mut ours = column.is_ok_and(|field| field.data_type() == &DataType::Utf8);
    if ours {
        for batch in columns(path, &["id".to_owned()])? {
            let batch = batch?;
            let column = batch.column(0).as_string::<i32>();
            ours &= column.iter().all(|id| id.is_some_and(Id::is_ours));
            ids.extend(column.iter().flatten().map(Id::parse));
        }
    }
    match ours {
        true => Ok(ids),
        false => Reader::open(path)?.map(|document| Ok(document?.id)).collect(),
    }
}

fn fate(document: &Document, predicate: &str) -> Fate {
    Fate {
        id: document.id,
        url: document.url.clone(),
        stage: WHERE.into(),
        rule: WHERE.into(),
        value: 0.0,
        line: None,
        detail: predicate.into(),
    }
}

/// The fates of the same pages, where the folder has them.
fn fates_beside(file: &Path) -> Result<Vec<Fate>, crate::Error> {
    let name = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let Some(number) = name.strip_prefix("documents-") else { return Ok(Vec::new()) };
    let fates = file.with_file_name(format!("fates-{number}"));
    if fates.exists() { Ok(read_fates(&fates)?) } else { Ok(Vec::new()) }
}

fn refuse_itself(documents: &Path, out: &Path) -> Result<(), Error> {
    let same = documents.canonicalize().ok().zip(out.canonicalize().ok());
    if same.is_some_and(|(from, to)| from == to) {
        let reason = "this is the folder that is read; name another one to write".to_owned();
        return Err(Error::Parquet { path: out.to_owned(), reason });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::RecordBatch;
    use quipu_documents::Route;

    fn document(n: u128) -> Document {
        Document {
            id: Id(n),
            url: format!("http://a.example/{n}"),
            date: Some(1_700_000_000_000 + n as i64 * 86_400_000),
            language: if n.is_multiple_of(2) { "en" } else { "de" }.into(),
            language_score: n as f32 / 100.0,
            route: Route::ALL[n as usize % 3],
            headings: vec![format!("heading {n}")],
            text: format!("text {n}"),
            scores: vec![("links".into(), n as f32)],
            ..Document::default()
        }
    }

    /// Two files of 50 documents, with one fate.
    fn folder(dir: &Path) -> Vec<Document> {
        let all: Vec<Document> = (0..100).map(document).collect();
        let writer = Writer::new(dir).unwrap();
        let gone =
            Fate { id: Id(1000), stage: "url".into(), rule: "url".into(), ..Fate::default() };
        let first = writer.write(0, &all[..50], &[gone]).unwrap();
        let second = writer.write(1, &all[50..], &[]).unwrap();
        writer.finish(vec![first, second], serde_json::Value::Null).unwrap();
        all
    }

    fn kept(predicate: &str) -> Vec<u128> {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let all = folder(&from);
        let selected = select(&from, predicate, &to).unwrap();
        let back: Vec<Document> = Reader::open(&to).unwrap().map(Result::unwrap).collect();
        assert_eq!((selected.documents, selected.kept), (100, back.len() as u64));
        assert!(back.iter().all(|document| all.contains(document)), "whole documents return");
        let ids: Vec<Id> = matching(&from, predicate).unwrap().map(Result::unwrap).collect();
        assert_eq!(ids, back.iter().map(|d| d.id).collect::<Vec<_>>());
        let fates: Vec<Fate> =
            (0..2).flat_map(|n| read_fates(&to.join(FileKind::Fates.name(n))).unwrap()).collect();
        assert_eq!(fates.len(), 1 + 100 - back.len());
        assert_eq!(fates[0].rule, "url");
        assert!(fates[1..].iter().all(|fate| fate.rule == WHERE && fate.detail == predicate));
        ids.into_iter().map(|id| id.0).collect()
    }

    #[test]
    fn documents_for_which_it_holds_in_their_order() {
        assert_eq!(kept("language = 'en' and language_score > 0.945"), [96, 98]);
        assert_eq!(kept("scores['links'] between 48 and 51"), [48, 49, 50, 51]);
        assert_eq!(kept("date < '2023-11-16T00:00:00Z'"), [0, 1]);
        assert_eq!(kept("array_has(headings, 'heading 7') or text = 'text 9'"), [7, 9]);
        assert_eq!(kept("route = 'code' and url like '%/4_'").len(), 4);
        assert_eq!(kept("true").len(), 100);
        assert_eq!(kept("false").len(), 0);
    }

    #[test]
    fn a_bad_predicate_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        folder(&from);
        let error = select(&from, "langage = 'en'", &to).unwrap_err().to_string();
        assert!(error.contains("did you mean \"language\""), "{error}");
        assert!(!to.exists());
        assert!(matching(&from, "langage = 'en'").is_err());
        let error = select(&from, "true", &from).unwrap_err().to_string();
        assert!(error.contains("name another"), "{error}");
        assert_eq!(Reader::open(&from).unwrap().count(), 100, "the folder is as it was");
    }

    #[test]
    fn a_file_whose_pages_claim_too_much_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (file, to) = (dir.path().join("a.parquet"), dir.path().join("to"));
        let found = include_bytes!("../../../fuzz/attacks/dictionary.parquet");
        std::fs::write(&file, found).unwrap();
        let error = select(&file, "true or text = 'x'", &to).unwrap_err().to_string();
        assert!(error.contains("the dictionary at byte"), "{error}");
        assert!(!to.exists());
    }

    #[test]
    fn a_column_that_a_later_file_lacks_is_an_error_with_its_columns() {
        let dir = tempfile::tempdir().unwrap();
        quipu_documents::write_file(&dir.path().join("a.parquet"), &[document(1)]).unwrap();
        let text = arrow::array::StringArray::from(vec!["x"]);
        let text: arrow::array::ArrayRef = std::sync::Arc::new(text);
        let batch = RecordBatch::try_from_iter([("text", text)]).unwrap();
        let mut writer =
            parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        std::fs::write(dir.path().join("b.parquet"), writer.into_inner().unwrap()).unwrap();
        let found: Vec<_> = matching(dir.path(), "language = 'de'").unwrap().collect();
        assert_eq!(found[0].as_ref().ok(), Some(&Id(1)));
        let error = found[1].as_ref().err().unwrap().to_string();
        assert!(error.contains("language") && error.contains("Columns: text"), "{error}");
        assert_eq!(matching(dir.path(), "text = 'x'").unwrap().count(), 1);
    }
}
