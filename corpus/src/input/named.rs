//! What inputs are named by: paths, folders, patterns, URLs, places in buckets, lists of these.
//!
//! | name | what it stands for |
//! | --- | --- |
//! | `crawl.warc.gz`, `https://host/crawl.warc.gz`, `s3://bucket/crawl.warc.gz` | a file |
//! | `data/`, `s3://bucket/prefix/` | a folder, walked in the order of names |
//! | `data/*.warc.gz`, `s3://bucket/*/warc/*.gz` | what fits ([`super::glob`]) |
//! | `@list.txt` | its lines; paths in it are relative to its folder; `#` begins a comment |
//!
//! What lies here under just that name comes before what the name might stand for. Not here: what
//! the files are.

use super::glob;
use super::rust_docs;
use crate::Error;
use crate::remote::{self, Access, Children, Failure, Stamp, is_bucket, is_remote};
use crate::warc::Inflated;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of a list.
const MAX_LIST: u64 = 256 << 20;

/// A file or folder that was named.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub path: PathBuf,
    /// What a file elsewhere was when it was measured.
    pub stamp: Option<Stamp>,
    pub folder: bool,
}

/// The first of these names that is a path here, or a list here, that does not exist. Servers are
/// not asked.
pub fn missing(names: &[PathBuf]) -> Option<&Path> {
    let here = |name: &&PathBuf| {
        let text = name.to_string_lossy();
        let list = text.strip_prefix('@').map(Path::new);
        let path = list.unwrap_or(name);
        let other = is_remote(path) || (list.is_none() && glob::is_pattern(&text));
        !name.exists() && !other && text != "rust-docs" && !path.exists()
    };
    names.iter().find(here).map(PathBuf::as_path)
}

/// What names stand for, in their order; files elsewhere are measured.
pub(super) fn resolve(names: &[PathBuf], access: &Access) -> Result<Vec<Named>, Error> {
    let mut found = Vec::new();
    for name in names {
        let text = name.to_string_lossy();
        match text.strip_prefix('@').filter(|_| !name.exists()) {
            Some(list) => read_list(Path::new(list), access, &mut found)?,
            None => one(name, access, &mut found)?,
        }
    }
    let waits = found.iter().any(|named| is_remote(&named.path));
    remote::for_each(&found, waits, |named| measured(named.clone(), access))
}

/// Measures a file elsewhere; in a bucket, a name of no file is that of a folder.
fn measured(named: Named, access: &Access) -> Result<Named, Error> {
    if named.folder || named.stamp.is_some() || !is_remote(&named.path) {
        return Ok(named);
    }
    match access.measure(&named.path) {
        Ok(stamp) => Ok(Named { stamp: Some(stamp), ..named }),
        Err(Error::Remote(failure)) if failure.is_missing() && is_bucket(&named.path) => {
            let Children { folders, files } = access.children(&named.path)?;
            match folders.is_empty() && files.is_empty() {
                true => Err(failure.into()),
                false => Ok(Named { folder: true, ..named }),
            }
        }
        Err(e) => Err(e),
    }
}

/// What one name that is no list stands for.
fn one(name: &Path, access: &Access, found: &mut Vec<Named>) -> Result<(), Error> {
    let text = name.to_string_lossy();
    let named = |path: PathBuf, folder| Named { path, stamp: None, folder };
    if is_remote(name) {
        let bucket = is_bucket(name);
        let path = if bucket { &*text } else { text.split('?').next().unwrap_or_default() };
        if !bucket && (path.contains('*') || path.ends_with('/')) {
            return Err(Failure::NoListing { place: name.to_owned() }.into());
        }
        if bucket && glob::is_pattern(&text) {
            let (bucket, key) = text["s3://".len()..].split_once('/').unwrap_or((&text, "*"));
            let base = PathBuf::from(format!("s3://{bucket}"));
            return pattern(&base, key, &text, &|folder: &Path| access.children(folder), found);
        }
        let root = bucket && !text["s3://".len()..].contains('/');
        found.push(named(name.to_owned(), root || text.ends_with('/')));
        return Ok(());
    }
    if text == "rust-docs" && !name.exists() {
        found.push(named(rust_docs::folder()?, true));
        return Ok(());
    }
    if !name.exists() && glob::is_pattern(&text) {
        let base = if text.starts_with('/') { Path::new("/") } else { Path::new("") };
        return pattern(base, text.trim_start_matches('/'), &text, &here, found);
    }
    let data = std::fs::metadata(name).map_err(Error::io(name))?;
    if !data.is_dir() && !data.is_file() {
        // Opening a pipe that nobody writes to would wait for ever.
        let found = "a pipe, socket or device, which cannot be read twice".into();
        return Err(Error::Unrecognised { path: name.to_owned(), found });
    }
    found.push(named(name.to_owned(), data.is_dir()));
    Ok(())
}

fn pattern(
    base: &Path,
    below: &str,
    name: &str,
    children: &impl Fn(&Path) -> Result<Children, Error>,
    found: &mut Vec<Named>,
) -> Result<(), Error> {
    let mut parts: Vec<&str> = below.split('/').filter(|part| !part.is_empty()).collect();
    parts.dedup_by(|a, b| a == b && *a == "**");
    let mut fitting = Vec::new();
    glob::expand(base, &parts, children, &mut fitting)?;
    if fitting.is_empty() {
        return Err(Error::NoMatch { pattern: name.to_owned() });
    }
    found.extend(fitting.into_iter().map(|(path, stamp, folder)| {
        let stamp = stamp.filter(|_| is_remote(&path));
        Named { path, stamp, folder }
    }));
    Ok(())
}

/// What is in a folder here; a link to a file is a file, one to a folder is not followed.
fn here(folder: &Path) -> Result<Children, Error> {
    let dir = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut found = Children::default();
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => return Ok(found),
        entries => entries.map_err(Error::io(dir))?,
    };
    for entry in entries {
        let entry = entry.map_err(Error::io(dir))?;
        // A name that is not UTF-8 fits no pattern.
        let Ok(name) = entry.file_name().into_string() else { continue };
        if entry.file_type().map_err(Error::io(dir))?.is_dir() {
            found.folders.push(name);
        } else if entry.path().is_file() {
            found.files.push((name, Stamp::default()));
        }
    }
    Ok(found)
}

/// The names in a list, which may lie elsewhere and be compressed.
fn read_list(path: &Path, access: &Access, found: &mut Vec<Named>) -> Result<(), Error> {
    let mut bytes = Vec::new();
    let mut list = Inflated::new(access.open(path, None, u64::MAX)?).take(MAX_LIST + 1);
    list.read_to_end(&mut bytes).map_err(Error::io(path))?;
    let wrong = |line, reason| Error::Line { path: path.to_owned(), line, reason };
    if bytes.len() as u64 > MAX_LIST {
        return Err(wrong(1, format!("a list of more than {MAX_LIST} bytes; cut it in several")));
    }
    let before = found.len();
    for (number, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let line = std::str::from_utf8(line);
        let line = line.map_err(|_| wrong(number + 1, "not UTF-8: no list of names".into()))?;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with('@') {
            return Err(wrong(number + 1, format!("{line}: a list within a list; name it beside")));
        }
        let elsewhere = is_remote(Path::new(line));
        if is_remote(path) && !elsewhere && line.starts_with('/') {
            return Err(wrong(number + 1, format!("{line}: a list elsewhere names no files here")));
        }
        let name = match elsewhere {
            true => PathBuf::from(line),
            false => path.parent().unwrap_or(Path::new("")).join(line),
        };
        one(&name, access, found).map_err(|e| match e {
            Error::Cancelled(stopped) => Error::Cancelled(stopped),
            e => wrong(number + 1, e.to_string()),
        })?;
    }
    if found.len() == before {
        return Err(wrong(1, "a list that names nothing: expected a path or URL a line".into()));
    }
    Ok(())
}
