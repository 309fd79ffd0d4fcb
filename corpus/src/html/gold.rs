//! Real pages for tests, from the folder of shared data (never part of the project).

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::encoding;

/// Pages by id.
pub type Pages = Vec<(String, String)>;

/// All pages of the shared data by source: the gold, the declarations of human rights, the samples
/// of crawls, the crawl.
pub fn all_pages(test: &str) -> Option<Vec<(&'static str, Pages)>> {
    let data = data(test)?;
    let mut samples = Vec::new();
    for folder in ["aut", "commoncrawl-whirlwind", "resiliparse", "warcio"] {
        for (name, bytes) in files(&data.join("warc-samples").join(folder)) {
            samples.extend(responses(&name, &bytes));
        }
    }
    let crawl = inflated(&data.join("crawl.warc.gz"));
    Some(vec![
        ("html-gold", of_folder(&data.join("html-gold/html"), ".html.gz")),
        ("html-udhr", of_folder(&data.join("html-udhr"), ".html")),
        ("warc-samples", samples),
        ("crawl", responses("crawl", &crawl)),
    ])
}

fn data(test: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("QUIPU_SHARED")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"));
    let data = shared.join("data");
    if !data.join("html-gold/html").is_dir() {
        eprintln!("SKIPPED: {test}: shared data absent");
        return None;
    }
    Some(data)
}

fn of_folder(folder: &Path, ending: &str) -> Pages {
    let pages = files(folder).into_iter().filter_map(|(name, bytes)| {
        let id = name.strip_suffix(ending)?.to_string();
        Some((id, encoding::decode(&bytes, None).into_owned()))
    });
    pages.collect()
}

/// The files of a folder in the order of their names, inflated.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder of the shared data") {
        let path = entry.expect("a readable folder").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.push((name, inflated(&path)));
    }
    files.sort();
    files
}

/// What can be read of a file: some samples are cut or damaged on purpose.
fn inflated(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).expect("a readable file");
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return bytes;
    }
    let mut inflated = Vec::new();
    let _cut = flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut inflated);
    inflated
}

/// The bodies of HTML responses in a crawl, cut out at the lines that begin them: the reader of
/// crawls has tests of its own, this one must not depend on it. Chunk sizes stay in the text.
fn responses(name: &str, crawl: &[u8]) -> Pages {
    let starts: Vec<usize> = memchr::memmem::find_iter(crawl, b"\nHTTP/1.").collect();
    let mut pages = Vec::new();
    for (i, start) in starts.iter().enumerate() {
        let record = &crawl[*start..starts.get(i + 1).copied().unwrap_or(crawl.len())];
        let Some(end) = memchr::memmem::find(record, b"\r\n\r\n") else { continue };
        let (head, body) = record.split_at(end);
        let end = memchr::memmem::find(body, b"\r\nWARC/1.").unwrap_or(body.len());
        if memchr::memmem::find(head, b"text/html").is_some() {
            pages.push((format!("{name}-{i}"), encoding::decode(&body[..end], None).into_owned()));
        }
    }
    pages
}
