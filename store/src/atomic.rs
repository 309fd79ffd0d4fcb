//! Files that are there whole or not at all: a temporary file beside the target, synced, renamed,
//! then the folder synced. Not for files that grow (see [`crate::journal`]).
//!
//! A temporary file is removed when writing fails. One that a killed process leaves is called
//! `.NAME.tmp-PID-N` and is removed by [`sweep`] by whoever holds the run lock.

use crate::{Error, fault};
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Writes a whole file through `fill`. The folder must exist.
///
/// # Errors
/// When the system refuses, when the disk is full, or with what `fill` returned; the target is
/// then as it was before and no temporary file is left.
pub fn write(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Error> {
    let mut file = File::create(path)?;
    fill(&mut file).map_err(|e| Error::io("write", path, e))?;
    file.commit()
}

/// Writes `bytes` as a whole file.
///
/// # Errors
/// As [`write()`].
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write(path, |out| out.write_all(bytes))
}

/// Writes `bytes` as a whole file where there is none; `false` where there is one, which stays. Where
/// the file system knows no second names of a file, the last of several that do so at a time stays.
///
/// # Errors
/// As [`write()`].
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<bool, Error> {
    let mut file = File::create(path)?;
    file.write_all(bytes).map_err(|e| Error::io("write", path, e))?;
    file.commit_new()
}

/// Creates a folder and its parents.
///
/// # Errors
/// When the system refuses.
pub fn create_dir(dir: &Path) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(|e| Error::io("create", dir, e))
}

/// Removes temporary files that killed processes left in `dir` and below. Call it only while
/// nothing else writes there, that is: under the run lock. Returns how many were removed.
///
/// # Errors
/// When a folder cannot be listed or a file not removed.
pub fn sweep(dir: &Path) -> Result<usize, Error> {
    let mut removed = 0;
    for entry in fs::read_dir(dir).map_err(|e| Error::io("list", dir, e))? {
        let entry = entry.map_err(|e| Error::io("list", dir, e))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(|e| Error::io("list", &path, e))?;
        if kind.is_dir() {
            removed += sweep(&path)?;
        } else if is_temporary(&path) {
            fs::remove_file(&path).map_err(|e| Error::io("remove", &path, e))?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
    name.starts_with('.') && name.contains(".tmp-")
}

/// A file being written; it appears under its name with [`File::commit`]. Dropping it removes it.
/// Buffered; use it wherever a writer is owned by something else (a Parquet writer, a compressor).
pub struct File {
    target: PathBuf,
    temporary: PathBuf,
    out: Option<BufWriter<Counted>>,
}

impl File {
    /// Opens a temporary file beside `path`.
    ///
    /// # Errors
    /// When the folder does not exist or is not writable.
    pub fn create(path: &Path) -> Result<Self, Error> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = path.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
        let temporary = path.with_file_name(format!(".{name}.tmp-{}-{n}", std::process::id()));
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&temporary)
            .map_err(|e| Error::io("create", path, e))?;
        let out = BufWriter::with_capacity(1 << 18, Counted(file));
        Ok(Self { target: path.to_path_buf(), temporary, out: Some(out) })
    }

    /// Flushes, syncs and renames; from here on the file is there, whole.
    ///
    /// # Errors
    /// When the system refuses or the disk is full; nothing is left then.
    pub fn commit(mut self) -> Result<(), Error> {
        self.sync()?;
        self.rename()
    }

    /// The same where there is no such file; `false` where there is.
    fn commit_new(mut self) -> Result<bool, Error> {
        self.sync()?;
        match fs::hard_link(&self.temporary, &self.target) {
            Ok(()) => sync_parent(&self.target).map(|()| true),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(_) if self.target.exists() => Ok(false),
            Err(_) => self.rename().map(|()| true),
        }
    }

    /// Puts what was written onto the disk.
    fn sync(&mut self) -> Result<(), Error> {
        let fail = |e| Error::io("write", &self.target, e);
        let Some(out) = self.out.take() else { return Ok(()) };
        let file = out.into_inner().map_err(|e| fail(e.into_error()))?.0;
        file.sync_all().map_err(fail)
    }

    fn rename(&self) -> Result<(), Error> {
        let fail = |e| Error::io("write", &self.target, e);
        fs::rename(&self.temporary, &self.target).map_err(fail)?;
        sync_parent(&self.target)
    }
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.out {
            Some(out) => out.write(bytes),
            None => Err(io::Error::other("the file is committed")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // After a commit the temporary name no longer exists and this does nothing.
        if let Some(out) = self.out.take() {
            drop(out.into_parts());
        }
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Makes a rename or creation in the parent folder of `path` durable.
pub(crate) fn sync_parent(path: &Path) -> Result<(), Error> {
    let parent = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    fs::File::open(parent).and_then(|dir| dir.sync_all()).map_err(|e| Error::io("sync", parent, e))
}

/// A file whose bytes count towards the injected fault.
pub(crate) struct Counted(pub(crate) fs::File);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let admitted = fault::admit(bytes.len());
        if admitted < bytes.len() {
            self.0.write_all(&bytes[..admitted])?;
            fault::die();
        }
        if fault::is_full() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
