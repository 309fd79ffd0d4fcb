//! Paths to inputs: files by their content, folders walked in the order of names.
//!
//! The HTML files of a folder are one crawl, a page's URL being its canonical link or its path
//! below the folder. Links are not followed. Not here: which pages of it are sampled.

use super::kind::{self, Kind};
use super::{Body, Found, Page, Range, Stream, rust_docs};
use crate::warc::Inflated;
use crate::warc::http::MAX_BODY;
use crate::{Error, look};
use quipu_documents::FORMAT;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Folders of a walk that lie deeper are not entered.
const MAX_DEPTH: usize = 64;

/// A recognised input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Input {
    /// File, or the folder of a crawl of HTML files.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Short name, the `source` of its documents: file or folder name.
    pub name: String,
    /// Path below the folder that was named, empty for a file that was named itself.
    pub below: String,
    /// HTML files of a folder, relative to it, in order.
    pub files: Arc<Vec<String>>,
}

/// A file that is no input.
#[derive(Clone, Debug, PartialEq)]
pub struct Skipped {
    /// The file.
    pub path: PathBuf,
    /// What it is.
    pub reason: String,
}

/// The inputs below some paths, and the files among them that are none. `rust-docs` names the
/// documentation that rustup installs.
///
/// # Errors
/// A path that does not exist or cannot be read; a single file of no known kind; a checkpoint.
pub fn expand(paths: &[PathBuf]) -> Result<(Vec<Input>, Vec<Skipped>), Error> {
    let (mut inputs, mut skipped) = (Vec::new(), Vec::new());
    for path in paths {
        let found = if path.as_os_str() == "rust-docs" && !path.exists() {
            rust_docs::folder()?
        } else {
            path.clone()
        };
        let data = std::fs::metadata(&found).map_err(Error::io(&found))?;
        if data.is_dir() {
            folder(&found, &mut inputs, &mut skipped)?;
        } else {
            inputs.push(file(&found)?);
        }
    }
    unique_names(&mut inputs);
    Ok((inputs, skipped))
}

fn name_of(path: &Path) -> String {
    let resolved = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = resolved.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let mut name = name.as_str();
    let ends =
        [".gz", ".zst", ".warc", ".arc", ".jsonl", ".json", ".parquet", ".txt", ".md", ".html"];
    for end in ends {
        name = name.strip_suffix(end).unwrap_or(name);
    }
    name.to_owned()
}

/// Two inputs of one name get numbers, so that a document's source is told apart.
fn unique_names(inputs: &mut [Input]) {
    let mut taken = HashSet::new();
    for input in inputs {
        let base = input.name.clone();
        let mut number = 1;
        while !taken.insert((input.name.clone(), input.below.clone(), input.kind)) {
            number += 1;
            input.name = format!("{base}-{number}");
        }
    }
}

fn file(path: &Path) -> Result<Input, Error> {
    match kind::recognise(path)? {
        Ok(kind) => {
            if kind::claims_warc(path) && kind != Kind::Warc {
                let found = format!("{kind}");
                return Err(Error::NotWarc { path: path.to_owned(), found });
            }
            let (path, name) = (path.to_owned(), name_of(path));
            Ok(Input { path, kind, name, below: String::new(), files: Arc::default() })
        }
        Err(found) if kind::claims_warc(path) => {
            Err(Error::NotWarc { path: path.to_owned(), found })
        }
        Err(found) => Err(Error::Unrecognised { path: path.to_owned(), found }),
    }
}

fn folder(root: &Path, inputs: &mut Vec<Input>, skipped: &mut Vec<Skipped>) -> Result<(), Error> {
    if look::checkpoint::is_checkpoint(root) {
        return Err(Error::Checkpoint { path: root.to_owned() });
    }
    let name = name_of(root);
    let made = |path: PathBuf, kind, below: String| Input {
        path,
        kind,
        name: name.clone(),
        below,
        files: Arc::default(),
    };
    let ours = std::fs::read_to_string(root.join("manifest.json"));
    if ours.is_ok_and(|text| text.contains(&format!("\"{FORMAT}\""))) {
        inputs.push(made(root.to_owned(), Kind::Parquet, String::new()));
        return Ok(());
    }
    let mut files = Vec::new();
    walk(root, "", 0, &mut files, skipped)?;
    let mut pages = Vec::new();
    for below in files {
        let path = root.join(&below);
        let html = [".html", ".htm", ".html.gz"].iter().any(|e| below.ends_with(e));
        // Names are believed for HTML, since a crawl has many files; reading them decides.
        match if html { Ok(Kind::Html) } else { kind::recognise(&path)? } {
            Ok(Kind::Html) => pages.push(below),
            Ok(kind) => inputs.push(made(path, kind, below)),
            Err(reason) => skipped.push(Skipped { path, reason }),
        }
    }
    if !pages.is_empty() {
        let crawl = made(root.to_owned(), Kind::Html, String::new());
        inputs.push(Input { files: Arc::new(pages), ..crawl });
    }
    Ok(())
}

fn walk(
    root: &Path,
    below: &str,
    depth: usize,
    files: &mut Vec<String>,
    skipped: &mut Vec<Skipped>,
) -> Result<(), Error> {
    let dir = root.join(below);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&dir).map_err(Error::io(&dir))? {
        let entry = entry.map_err(Error::io(&dir))?;
        let kind = entry.file_type().map_err(Error::io(&dir))?;
        names.push((entry.file_name().to_string_lossy().into_owned(), kind));
    }
    names.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, kind) in names {
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        let skip = |reason: &str| Skipped { path: root.join(&path), reason: reason.into() };
        if name.starts_with('.') {
            skipped.push(skip("hidden"));
        } else if kind.is_dir() && depth < MAX_DEPTH {
            walk(root, &path, depth + 1, files, skipped)?;
        } else if kind.is_file() {
            files.push(path);
        } else {
            skipped.push(skip("a link, a device, or nested too deep"));
        }
    }
    Ok(())
}

/// Pages of one HTML file, or of a range of the files of a folder; of the latter only those with a
/// key up to `limit`.
pub(super) fn open_html(input: &Input, range: Range, limit: u64) -> Result<Stream, Error> {
    let (root, files) = (input.path.clone(), input.files.clone());
    if files.is_empty() {
        let url = root.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let url = if input.below.is_empty() { url } else { input.below.clone() };
        return Ok(Box::new(std::iter::once(html_page(&root, url))));
    }
    let bound = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(files.len());
    let numbers = bound(range.from)..bound(range.to);
    Ok(Box::new(numbers.filter_map(move |n| {
        let admitted = xxhash_rust::xxh3::xxh3_64(files[n].as_bytes()) <= limit;
        admitted.then(|| html_page(&root.join(&files[n]), files[n].clone()))
    })))
}

fn html_page(path: &Path, url: String) -> Result<Found, Error> {
    let file = std::fs::File::open(path).map_err(Error::io(path))?;
    let mut bytes = Vec::new();
    let read = Inflated::new(file).take(MAX_BODY as u64 + 1).read_to_end(&mut bytes);
    let body = match read {
        Err(e) if !crate::warc::is_damage(&e) => return Err(Error::io(path)(e)),
        Err(e) => Body::Refused("truncated", e.to_string()),
        Ok(_) if bytes.len() > MAX_BODY => {
            Body::Refused("page-too-large", format!("more than {MAX_BODY} bytes"))
        }
        Ok(_) => Body::Html(bytes, None),
    };
    let stem = url.rsplit('/').next().unwrap_or(&url);
    let stem = stem.strip_suffix(".gz").unwrap_or(stem);
    let name = stem.strip_suffix(".html").or(stem.strip_suffix(".htm")).unwrap_or(stem).to_owned();
    Ok(Found::Page(Page { position: url.clone(), name, url, date: None, body }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &[u8])], expected: &[(&str, Kind)], refused: usize) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("in");
        for (name, bytes) in files {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        let (inputs, skipped) = expand(&[root]).unwrap();
        let found: Vec<(&str, Kind)> = inputs.iter().map(|i| (i.below.as_str(), i.kind)).collect();
        assert_eq!(found, expected);
        assert_eq!(skipped.len(), refused, "{skipped:?}");
    }

    #[test]
    fn a_folder_is_walked_in_order() {
        check(
            &[
                ("b/x.html", b"<html>"),
                ("a.html", b"<html>"),
                ("c.txt", b"words"),
                ("d.warc", b"WARC/1.0\r\n"),
                (".git/x", b"x"),
                ("e.png", b"\x89PNG\x00\x00\x00\x01"),
            ],
            &[("c.txt", Kind::Text), ("d.warc", Kind::Warc), ("", Kind::Html)],
            2,
        );
    }

    #[test]
    fn a_file_that_only_claims_to_be_a_crawl_is_refused_with_its_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("crawl.warc");
        std::fs::write(&path, "hello").unwrap();
        let message = expand(&[path]).unwrap_err().to_string();
        assert!(message.contains("crawl.warc: not a WARC"), "{message}");
        let missing = dir.path().join("missing");
        assert!(expand(&[missing]).unwrap_err().to_string().contains("missing"));
    }

    #[test]
    fn pages_of_a_folder_have_their_path_as_url() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/x.html"), "<p>x").unwrap();
        let (inputs, _) = expand(&[dir.path().to_owned()]).unwrap();
        let pages: Vec<Page> = inputs[0]
            .open(10_000)
            .unwrap()
            .map(|f| match f.unwrap() {
                Found::Page(page) => page,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!((pages[0].url.as_str(), pages[0].name.as_str()), ("sub/x.html", "x"));
    }
}
