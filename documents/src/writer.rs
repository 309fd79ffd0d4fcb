//! Writes documents: files under final names at once, the manifest last.
//!
//! The caller decides which documents share a file (its units of work); the bytes of a file depend
//! on its documents alone. Not here: what is worth keeping.

use crate::schema::{Groups, Row};
use crate::{Document, Error, FORMAT, Fate, VERSION, write_fates};
use quipu_store::atomic;
use quipu_store::manifest::{self, Manifest};
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

/// Writes the numbered files of a documents folder, then its manifest.
///
/// Files may be written in any order and by several runs: what counts is what stands in the
/// folder when [`Writer::finish`] lists it.
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

    /// Writes file number `unit`: documents and the fates of the same pages.
    pub fn write(&self, unit: usize, rows: &[Document], fates: &[Fate]) -> Result<(), Error> {
        write_file(&self.dir.join(format!("documents-{unit:05}.parquet")), rows)?;
        write_fates(&self.dir.join(format!("fates-{unit:05}.parquet")), fates)
    }

    /// Writes the manifest over files 0 to `units` and removes numbered files beyond them (of an
    /// earlier run with more units). `facts` is what the caller wants beside the checksums.
    pub fn finish(self, units: usize, facts: serde_json::Value) -> Result<(), Error> {
        let mut names = Vec::new();
        for kind in ["documents", "fates"] {
            names.extend((0..units).map(|unit| format!("{kind}-{unit:05}.parquet")));
        }
        for entry in std::fs::read_dir(&self.dir).map_err(Error::io(&self.dir))? {
            let entry = entry.map_err(Error::io(&self.dir))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let ours = name.starts_with("documents-") || name.starts_with("fates-");
            if ours && name.ends_with(".parquet") && !names.contains(&name) {
                std::fs::remove_file(entry.path()).map_err(Error::io(&self.dir))?;
            }
        }
        let mut manifest = Manifest::new(FORMAT, VERSION);
        names.iter().try_for_each(|name| manifest.add(&self.dir, name))?;
        manifest.facts = facts;
        Ok(manifest.write(&self.dir)?)
    }
}
