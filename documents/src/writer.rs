//! Writes documents: files under final names at once, the manifest last.
//!
//! The caller decides which documents share a file (its units of work); the bytes of a file depend
//! on its documents alone. Not here: what is worth keeping.

use crate::schema::{Groups, Row};
use crate::{Document, Error, FORMAT, Fate, VERSION, write_fates};
use quipu_store::atomic;
use quipu_store::manifest::{self, File, Manifest};
use std::path::{Path, PathBuf};

/// A Parquet file that is written row by row; it appears under its name with `finish`.
struct Rows<T: Row> {
    path: PathBuf,
    groups: Groups<atomic::File, T>,
}

impl<T: Row> Rows<T> {
    fn create(path: &Path) -> Result<Rows<T>, Error> {
        let groups = Groups::new(atomic::File::create(path)?).map_err(Error::write(path))?;
        Ok(Rows { path: path.to_owned(), groups })
    }

    fn push(&mut self, row: T) -> Result<(), Error> {
        self.groups.push(row).map_err(Error::write(&self.path))
    }

    fn finish(self) -> Result<(), Error> {
        let file = self.groups.finish().map_err(Error::write(&self.path))?;
        Ok(file.commit()?)
    }
}

/// Writes a Parquet file of rows atomically.
pub(crate) fn write_rows<T>(path: &Path, rows: &[T]) -> Result<(), Error>
where
    for<'a> &'a T: Row,
{
    let mut file = Rows::create(path)?;
    rows.iter().try_for_each(|row| file.push(row))?;
    file.finish()
}

/// Writes one Parquet file of documents atomically.
pub fn write_file(path: &Path, rows: &[Document]) -> Result<(), Error> {
    write_rows(path, rows)
}

/// A Parquet file of documents that grows by one document at a time: memory is one row group. Its
/// bytes are those of [`write_file`]. Dropped before `finish`, it leaves nothing.
pub struct DocumentsFile(Rows<Document>);

impl DocumentsFile {
    /// Begins a file that will be called `path`.
    pub fn create(path: &Path) -> Result<DocumentsFile, Error> {
        Rows::create(path).map(DocumentsFile)
    }

    /// Adds a document.
    pub fn push(&mut self, document: Document) -> Result<(), Error> {
        self.0.push(document)
    }

    /// Puts the file under its name.
    pub fn finish(self) -> Result<(), Error> {
        self.0.finish()
    }
}

/// A Parquet file of fates that grows by one fate at a time.
pub struct FatesFile(Rows<Fate>);

impl FatesFile {
    /// Begins a file that will be called `path`.
    pub fn create(path: &Path) -> Result<FatesFile, Error> {
        Rows::create(path).map(FatesFile)
    }

    /// Adds a fate.
    pub fn push(&mut self, fate: Fate) -> Result<(), Error> {
        self.0.push(fate)
    }

    /// Puts the file under its name.
    pub fn finish(self) -> Result<(), Error> {
        self.0.finish()
    }
}

/// The numbered files of a folder: its documents, and the fates of the same pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// `documents-NNNNN.parquet`
    Documents,
    /// `fates-NNNNN.parquet`
    Fates,
}

impl FileKind {
    const ALL: [FileKind; 2] = [FileKind::Documents, FileKind::Fates];

    fn prefix(self) -> &'static str {
        match self {
            FileKind::Documents => "documents-",
            FileKind::Fates => "fates-",
        }
    }

    /// The name of file number `number` of this kind.
    #[must_use]
    pub fn name(self, number: usize) -> String {
        format!("{}{number:05}.parquet", self.prefix())
    }

    /// Whether a file is called as one of this kind.
    #[must_use]
    pub fn names(self, name: &str) -> bool {
        name.starts_with(self.prefix()) && name.ends_with(".parquet") && !name.contains('/')
    }

    /// Of which kind a file is, by its name.
    #[must_use]
    pub fn of(name: &str) -> Option<FileKind> {
        FileKind::ALL.into_iter().find(|kind| kind.names(name))
    }
}

/// Writes the numbered files of a documents folder, then its manifest.
///
/// Files may be written in any order and by several runs, on several machines: what counts is what
/// [`Writer::finish`] is handed.
pub struct Writer {
    dir: PathBuf,
}

impl Writer {
    /// A writer into `dir`, which is created; a manifest of an earlier run there is removed first,
    /// since from now on it does not describe the folder.
    pub fn new(dir: &Path) -> Result<Writer, Error> {
        std::fs::create_dir_all(dir).map_err(Error::io(dir))?;
        let manifest = dir.join(manifest::NAME);
        if manifest.exists() {
            std::fs::remove_file(&manifest).map_err(Error::io(&manifest))?;
        }
        Ok(Writer { dir: dir.to_owned() })
    }

    /// A writer into a folder that [`Writer::new`] prepared, maybe in another process.
    pub fn resumed(dir: &Path) -> Writer {
        Writer { dir: dir.to_owned() }
    }

    /// Writes the files of number `unit`, documents and the fates of the same pages, and returns what
    /// the manifest says of them.
    pub fn write(
        &self,
        unit: usize,
        rows: &[Document],
        fates: &[Fate],
    ) -> Result<[File; 2], Error> {
        let [documents, others] = FileKind::ALL.map(|kind| kind.name(unit));
        write_file(&self.dir.join(&documents), rows)?;
        write_fates(&self.dir.join(&others), fates)?;
        Ok([File::of(&self.dir, &documents)?, File::of(&self.dir, &others)?])
    }

    /// Writes the manifest over the files of all units, and removes numbered files that are not
    /// among them (of an earlier run with more units). `facts` is what the caller wants beside the
    /// checksums.
    pub fn finish(self, units: Vec<[File; 2]>, facts: serde_json::Value) -> Result<(), Error> {
        let mut manifest = Manifest::new(FORMAT, VERSION);
        for kind in 0..FileKind::ALL.len() {
            manifest.files.extend(units.iter().map(|files| files[kind].clone()));
        }
        for entry in std::fs::read_dir(&self.dir).map_err(Error::io(&self.dir))? {
            let entry = entry.map_err(Error::io(&self.dir))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if FileKind::of(&name).is_some() && manifest.files.iter().all(|file| file.name != name)
            {
                std::fs::remove_file(entry.path()).map_err(Error::io(&self.dir))?;
            }
        }
        manifest.facts = facts;
        Ok(manifest.write(&self.dir)?)
    }
}
