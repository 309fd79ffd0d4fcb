//! What was named, as inputs: files by their content, folders walked in the order of names, here or
//! in a bucket.
//!
//! The HTML files of a folder are one crawl, a page's URL being its canonical link or its path
//! below the folder. Not here: what names stand for ([`super::named`]),
//! and which pages are sampled.

use super::kind::{self, Kind, Recognised};
use super::named::{self, Named};
use super::{Body, Found, Page, Range, Stream};
use crate::remote::{self, Access, Failure, Source, Stamp, is_remote};
use crate::warc::Inflated;
use crate::warc::http::MAX_BODY;
use crate::{Error, look};
use quipu_documents::{FORMAT, FileKind};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::FileType;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Folders of a walk that lie deeper are not entered.
const MAX_DEPTH: usize = 64;
/// Bytes by which a file is recognised, more or less.
const LOOK: u64 = 8 << 10;
/// Bytes of a manifest that are read to see whose it is.
const MAX_MANIFEST: u64 = 64 << 20;

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
    /// Whether it is compressed, as a whole or member by member.
    pub packed: bool,
    /// What it was when it was measured, where it lies elsewhere: the file, or each of `files`.
    pub stamps: Arc<Vec<Stamp>>,
}

impl Input {
    /// Its files, each with what it was where it lies elsewhere.
    pub(crate) fn places(&self) -> impl Iterator<Item = (PathBuf, Option<&Stamp>)> {
        (0..self.files.len().max(1)).map(|number| self.place(number))
    }

    /// One of its files.
    pub(super) fn place(&self, number: usize) -> (PathBuf, Option<&Stamp>) {
        let path = self.files.get(number).map_or_else(|| self.path.clone(), |f| self.path.join(f));
        (path, self.stamps.get(number))
    }

    /// Bytes of each of its files.
    ///
    /// # Errors
    /// A file that is gone.
    pub(crate) fn sizes(&self) -> Result<Vec<u64>, Error> {
        let size = |(path, stamp): (PathBuf, Option<&Stamp>)| match stamp {
            Some(stamp) => Ok(stamp.bytes),
            None => Ok(std::fs::metadata(&path).map_err(Error::io(&path))?.len()),
        };
        self.places().map(size).collect()
    }

    /// What its pages are called by, as far as that could be another input's too: a file's own name,
    /// or those of the pages of a folder.
    fn page_names(&self) -> Vec<String> {
        if self.files.is_empty() { vec![self.called()] } else { self.files.to_vec() }
    }

    /// What the pages of its file are called by, where they have no address: its path below the folder
    /// that was named, or its name. No two inputs of a run are called alike.
    pub(super) fn called(&self) -> String {
        match self.below.is_empty() {
            true => remote::file_name(&self.path),
            false => self.below.clone(),
        }
    }

    /// Opens the one file that it is; see [`Access::open`].
    pub(super) fn file(&self, access: &Access, until: u64) -> Result<Source, Error> {
        access.open(&self.path, self.stamps.first(), until)
    }
}

/// A file that is no input.
#[derive(Clone, Debug, PartialEq)]
pub struct Skipped {
    /// The file.
    pub path: PathBuf,
    /// What it is.
    pub reason: String,
}

/// Why files whose names begin with a dot are passed over, as every tool does.
const HIDDEN: &str = "hidden";
/// Why links are passed over that would have something read twice.
const ELSEWHERE: &str = "read where it lies";

impl Skipped {
    /// Whether it is passed over for its name alone.
    pub fn is_hidden(&self) -> bool {
        self.reason == HIDDEN
    }
}

/// The inputs that are named (`input::named`), and the files below them that are none.
/// `rust-docs` names the documentation that rustup installs.
///
/// # Errors
/// A path that does not exist or cannot be read; a single file of no known kind; a checkpoint; a
/// server that refuses.
pub fn expand(paths: &[PathBuf], access: &Access) -> Result<(Vec<Input>, Vec<Skipped>), Error> {
    let named = named::resolve(paths, access)?;
    let waits = named.iter().any(|named| is_remote(&named.path));
    let found = remote::for_each(&named, waits, |named| {
        let Named { path, stamp, folder } = named;
        match folder {
            false => Ok((vec![file(path, stamp.as_ref(), access)?], Vec::new())),
            true if is_remote(path) => bucket(path, access),
            true => local(path, access),
        }
    })?;
    let (mut inputs, mut skipped) = (Vec::new(), Vec::new());
    for (more, others) in found {
        inputs.extend(more);
        skipped.extend(others);
    }
    unique_names(&mut inputs);
    call_apart(&mut inputs);
    Ok((inputs, skipped))
}

fn name_of(path: &Path) -> String {
    let resolved = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = remote::file_name(&resolved);
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

/// Gives inputs that would be called alike (files of one name in two folders) as much of their paths
/// as tells them apart: what they are called by is the identity of pages without an address.
fn call_apart(inputs: &mut [Input]) {
    if inputs.len() < 2 {
        return;
    }
    let mut alike: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (number, input) in inputs.iter().enumerate() {
        for name in input.page_names() {
            alike.entry(name).or_default().push(number);
        }
    }
    let groups: BTreeSet<Vec<usize>> = alike.into_values().filter(|g| g.len() > 1).collect();
    for group in groups {
        let paths: Vec<String> = group
            .iter()
            .map(|number| inputs[*number].path.to_string_lossy().replace('\\', "/"))
            .collect();
        let last = |path: &str, count: usize| {
            let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
            parts[parts.len().saturating_sub(count)..].join("/")
        };
        let longest = paths.iter().map(|path| path.split('/').count()).max().unwrap_or(1);
        let apart = |count: &usize| {
            let names: HashSet<String> = paths.iter().map(|path| last(path, *count)).collect();
            names.len() == paths.len()
        };
        // A file that was named twice is the same pages twice.
        let Some(count) = (1..=longest).find(apart) else { continue };
        for (number, path) in group.iter().zip(&paths) {
            inputs[*number].below = last(path, count);
        }
    }
}

fn file(path: &Path, stamp: Option<&Stamp>, access: &Access) -> Result<Input, Error> {
    let source = access.open(path, stamp, LOOK)?;
    match kind::recognise_from(source, path)? {
        Ok(Recognised { kind, packed }) => {
            if kind::claims_warc(path) && kind != Kind::Warc {
                let found = format!("{kind}");
                return Err(Error::NotWarc { path: path.to_owned(), found });
            }
            let name = name_of(path);
            let stamps = Arc::new(stamp.cloned().into_iter().collect());
            let path = path.to_owned();
            Ok(Input { kind, packed, stamps, ..Input::named(path, name) })
        }
        Err(found) if kind::claims_warc(path) => {
            Err(Error::NotWarc { path: path.to_owned(), found })
        }
        Err(found) => Err(Error::Unrecognised { path: path.to_owned(), found }),
    }
}

type Inputs = (Vec<Input>, Vec<Skipped>);

impl Input {
    /// An input of which nothing more is known.
    pub(super) fn named(path: PathBuf, name: String) -> Input {
        Input {
            path,
            kind: Kind::Html,
            name,
            below: String::new(),
            files: Arc::default(),
            packed: false,
            stamps: Arc::default(),
        }
    }
}

/// Whether the text of a manifest is that of a documents folder of ours.
fn is_ours(manifest: &str) -> bool {
    manifest.contains(&format!("\"{FORMAT}\""))
}

/// The inputs of a folder here.
fn local(root: &Path, access: &Access) -> Result<Inputs, Error> {
    if look::checkpoint::is_checkpoint(root) {
        return Err(Error::Checkpoint { path: root.to_owned() });
    }
    let ours = std::fs::read_to_string(root.join("manifest.json"));
    if ours.is_ok_and(|text| is_ours(&text)) {
        let input = Input { kind: Kind::Parquet, ..Input::named(root.to_owned(), name_of(root)) };
        return Ok((vec![input], Vec::new()));
    }
    let entered = vec![root.canonicalize().map_err(Error::io(root))?];
    let mut walk = Walk { root, entered, files: Vec::new(), skipped: Vec::new() };
    walk.enter("", 0)?;
    let Walk { files, mut skipped, .. } = walk;
    let files: Vec<(String, Option<Stamp>)> = files.into_iter().map(|f| (f, None)).collect();
    let inputs = sort(root, files, &mut skipped, access)?;
    Ok((inputs, skipped))
}

/// The inputs of a folder of a bucket, in the order in which they would be here.
fn bucket(root: &Path, access: &Access) -> Result<Inputs, Error> {
    let mut files = access.below(root)?;
    files.sort_by(|(a, _), (b, _)| a.split('/').cmp(b.split('/')));
    if files.is_empty() {
        let reason = "a folder with no files in it; expected s3://bucket/prefix/ of some".into();
        return Err(Failure::Name { place: root.to_owned(), reason }.into());
    }
    if let Some((_, stamp)) = files.iter().find(|(name, _)| name == "manifest.json") {
        let mut text = String::new();
        let path = root.join("manifest.json");
        let file = access.open(&path, Some(stamp), LOOK)?;
        file.take(MAX_MANIFEST).read_to_string(&mut text).map_err(Error::io(&path))?;
        // Beside the documents lie fates, which are none.
        if is_ours(&text) {
            files.retain(|(name, _)| FileKind::Documents.names(name));
        }
    }
    let mut skipped = Vec::new();
    let hidden = |name: &str| name.split('/').any(|part| part.starts_with('.'));
    files.retain(|(name, _)| {
        if hidden(name) {
            skipped.push(Skipped { path: root.join(name), reason: HIDDEN.into() });
        }
        !hidden(name)
    });
    let files = files.into_iter().map(|(name, stamp)| (name, Some(stamp))).collect();
    let inputs = sort(root, files, &mut skipped, access)?;
    Ok((inputs, skipped))
}

/// What the files of a folder are, in order; its HTML files are one input.
fn sort(
    root: &Path,
    files: Vec<(String, Option<Stamp>)>,
    skipped: &mut Vec<Skipped>,
    access: &Access,
) -> Result<Vec<Input>, Error> {
    // Names are believed for HTML, since a crawl has many files; reading them decides.
    let html = |below: &str| [".html", ".htm", ".html.gz"].iter().any(|e| below.ends_with(e));
    let kinds = remote::for_each(&files, is_remote(root), |(below, stamp)| {
        if html(below) {
            return Ok(Ok(Recognised { kind: Kind::Html, packed: false }));
        }
        let path = root.join(below);
        kind::recognise_from(access.open(&path, stamp.as_ref(), LOOK)?, &path)
    })?;
    let name = name_of(root);
    let (mut inputs, mut pages, mut of_pages) = (Vec::new(), Vec::new(), Vec::new());
    for ((below, stamp), kind) in files.into_iter().zip(kinds) {
        let path = root.join(&below);
        match kind {
            Ok(Recognised { kind: Kind::Html, .. }) => {
                pages.push(below);
                of_pages.extend(stamp);
            }
            Ok(Recognised { kind, packed }) => {
                let stamps = Arc::new(stamp.into_iter().collect());
                let named = Input::named(path, name.clone());
                inputs.push(Input { kind, below, packed, stamps, ..named });
            }
            Err(reason) => skipped.push(Skipped { path, reason }),
        }
    }
    if !pages.is_empty() {
        let (files, stamps) = (Arc::new(pages), Arc::new(of_pages));
        inputs.push(Input { files, stamps, ..Input::named(root.to_owned(), name) });
    }
    Ok(inputs)
}

/// A folder being walked.
struct Walk<'a> {
    root: &'a Path,
    /// The folder itself, and those outside of it that a link led to: each is entered once.
    entered: Vec<PathBuf>,
    files: Vec<String>,
    skipped: Vec<Skipped>,
}

impl Walk<'_> {
    /// Walks what lies below, in the order of names. Links out of the folder are followed, as a cache
    /// has them that keeps its files elsewhere; what one within it leads to is met where it lies.
    fn enter(&mut self, below: &str, depth: usize) -> Result<(), Error> {
        let dir = self.root.join(below);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&dir).map_err(Error::io(&dir))? {
            let entry = entry.map_err(Error::io(&dir))?;
            let kind = entry.file_type().map_err(Error::io(&dir))?;
            match entry.file_name().into_string() {
                Ok(name) => names.push((name, kind)),
                Err(name) => self.skipped.push(Skipped {
                    path: dir.join(name.to_string_lossy().as_ref()),
                    reason: "a name that is not UTF-8".into(),
                }),
            }
        }
        names.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, kind) in names {
            let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
            let kind = match name.starts_with('.') {
                true => Err(HIDDEN),
                false if kind.is_symlink() => self.behind(&path),
                false if kind.is_dir() && self.was_entered(&path) => Err(ELSEWHERE),
                false => Ok(kind),
            };
            match kind {
                Ok(kind) if kind.is_file() => self.files.push(path),
                Ok(kind) if !kind.is_dir() => self.skip(&path, "a device, a pipe or a socket"),
                Ok(_) if depth >= MAX_DEPTH => self.skip(&path, "nested too deep"),
                Ok(_) => self.enter(&path, depth + 1)?,
                Err(reason) => self.skip(&path, reason),
            }
        }
        Ok(())
    }

    /// Whether a folder is one of those, come upon from behind a link.
    fn was_entered(&self, below: &str) -> bool {
        let is = |path: PathBuf| self.entered.contains(&path);
        self.entered.len() > 1 && self.root.join(below).canonicalize().is_ok_and(is)
    }

    /// What a link leads to, or why that is passed over.
    fn behind(&mut self, below: &str) -> Result<FileType, &'static str> {
        let path = self.root.join(below);
        let found = path.canonicalize().and_then(|to| Ok((std::fs::metadata(&to)?, to)));
        let (data, to) = found.map_err(|_| "a link to nothing")?;
        if self.entered.iter().any(|folder| to.starts_with(folder)) {
            return Err(ELSEWHERE);
        }
        if data.is_dir() {
            self.entered.push(to);
        }
        Ok(data.file_type())
    }

    fn skip(&mut self, below: &str, reason: &str) {
        self.skipped.push(Skipped { path: self.root.join(below), reason: reason.into() });
    }
}

/// Pages of one HTML file, or of a range of the files of a folder; of the latter only those with a
/// key up to `limit`.
pub(super) fn open_html(
    input: &Input,
    range: Range,
    limit: u64,
    access: &Access,
) -> Result<Stream, Error> {
    let (input, access) = (input.clone(), access.clone());
    if input.files.is_empty() {
        let url = input.called();
        return Ok(Box::new(std::iter::once(html_page(&input, 0, url, &access))));
    }
    let bound = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(input.files.len());
    let numbers = bound(range.from)..bound(range.to);
    Ok(Box::new(numbers.filter_map(move |n| {
        let url = input.files[n].clone();
        let admitted = xxhash_rust::xxh3::xxh3_64(url.as_bytes()) <= limit;
        let called = match input.below.is_empty() {
            true => url,
            false => format!("{}/{url}", input.below),
        };
        admitted.then(|| html_page(&input, n, called, &access))
    })))
}

fn html_page(input: &Input, number: usize, url: String, access: &Access) -> Result<Found, Error> {
    let (path, stamp) = input.place(number);
    let file = access.open(&path, stamp, u64::MAX)?;
    let mut bytes = Vec::new();
    let read = Inflated::new(file).take(MAX_BODY as u64 + 1).read_to_end(&mut bytes);
    let body = match read {
        Err(e) if !crate::warc::is_damage(&e) => return Err(Error::io(&path)(e)),
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
        let (inputs, skipped) = expand(&[root], &Access::usual()).unwrap();
        let found: Vec<(&str, Kind)> = inputs.iter().map(|i| (i.below.as_str(), i.kind)).collect();
        assert_eq!(found, expected);
        assert_eq!(skipped.len(), refused, "{skipped:?}");
    }

    #[test]
    fn links_out_of_a_folder_are_followed() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let (root, cache) = (dir.path().join("in"), dir.path().join("cache"));
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::create_dir_all(&cache).unwrap();
        std::fs::write(cache.join("0af3"), "It was a dark and stormy night.").unwrap();
        std::fs::write(root.join("sub/b.txt"), "Call me Ishmael.").unwrap();
        symlink("../cache/0af3", root.join("a.txt")).unwrap();
        symlink("sub/b.txt", root.join("c.txt")).unwrap();
        symlink("nowhere", root.join("d.txt")).unwrap();
        symlink("../..", root.join("sub/up")).unwrap();
        symlink("../in", cache.join("back")).unwrap();
        symlink("../cache", root.join("z")).unwrap();
        let (inputs, skipped) = expand(&[root], &Access::usual()).unwrap();
        let found: Vec<&str> = inputs.iter().map(|i| i.below.as_str()).collect();
        // By way of `sub/up` the cache is entered, and the folder itself is not entered again.
        assert_eq!(found, ["a.txt", "sub/b.txt", "sub/up/cache/0af3"]);
        let reasons: Vec<&str> = skipped.iter().map(|s| s.reason.as_str()).collect();
        assert_eq!(reasons.iter().filter(|r| **r == ELSEWHERE).count(), 4, "{skipped:?}");
        assert_eq!(reasons.iter().filter(|r| **r == "a link to nothing").count(), 1);
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

    /// The addresses, or what stands for them, of all pages of these inputs.
    fn called(root: &Path, named: &[&str]) -> Vec<String> {
        let named: Vec<PathBuf> = named.iter().map(|name| root.join(name)).collect();
        let (inputs, _) = expand(&named, &Access::usual()).unwrap();
        let pages = inputs.iter().flat_map(|i| i.open(10_000, &Access::usual()).unwrap());
        let name = |found: Result<Found, Error>| match found.unwrap() {
            Found::Page(page) if page.url.is_empty() => page.position,
            Found::Page(page) => page.url,
            other => panic!("{other:?}"),
        };
        pages.map(name).collect()
    }

    #[test]
    fn files_of_one_name_are_not_one_page() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["a", "b"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
            let file = |name: &str, text: &str| {
                std::fs::write(dir.path().join(folder).join(name), text).unwrap();
            };
            file("x.txt", folder);
            file("x.html", "<p>x");
            file("x.jsonl", "{\"text\":\"x\"}\n");
        }
        let of_a = ["x.jsonl#line@0", "x.txt", "x.html"];
        assert_eq!(called(dir.path(), &["a"]), of_a);
        let apart = |folder: &str| of_a.map(|name| format!("{folder}/{name}"));
        assert_eq!(called(dir.path(), &["a", "b"]), [apart("a"), apart("b")].concat());
        let files = called(dir.path(), &["b/x.txt", "a/x.txt"]);
        assert_eq!(files, ["b/x.txt", "a/x.txt"]);
        // The same file twice is one visit twice.
        assert_eq!(called(dir.path(), &["a/x.txt", "a/x.txt"]), ["x.txt", "x.txt"]);
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_no_text_are_counted() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.txt"), "a").unwrap();
        let odd = std::ffi::OsStr::from_bytes(b"b\xff.txt");
        // Some file systems refuse such names themselves.
        if std::fs::write(dir.path().join(odd), "b").is_ok() {
            let (inputs, skipped) = expand(&[dir.path().to_owned()], &Access::usual()).unwrap();
            assert_eq!((inputs.len(), skipped.len()), (1, 1));
            assert!(skipped[0].reason.contains("UTF-8"), "{skipped:?}");
        }
    }

    #[test]
    fn a_file_that_only_claims_to_be_a_crawl_is_refused_with_its_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("crawl.warc");
        std::fs::write(&path, "hello").unwrap();
        let message = expand(&[path], &Access::usual()).unwrap_err().to_string();
        assert!(message.contains("crawl.warc: not a WARC"), "{message}");
        let missing = dir.path().join("missing");
        assert!(expand(&[missing], &Access::usual()).unwrap_err().to_string().contains("missing"));
    }

    #[test]
    fn pages_of_a_folder_have_their_path_as_url() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/x.html"), "<p>x").unwrap();
        let (inputs, _) = expand(&[dir.path().to_owned()], &Access::usual()).unwrap();
        let pages: Vec<Page> = inputs[0]
            .open(10_000, &Access::usual())
            .unwrap()
            .map(|f| match f.unwrap() {
                Found::Page(page) => page,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!((pages[0].url.as_str(), pages[0].name.as_str()), ("sub/x.html", "x"));
    }
}
