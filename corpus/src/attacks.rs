//! What the fuzzers run, so that stable tests replay their corpora and every known attack through
//! the very same functions. Each takes any bytes and may only return.
//!
//! Not here: what should be read from sound bytes; that is tested beside each reader.

use crate::input::json_lines;
use crate::warc::Records;
use crate::{encoding, html};
use quipu_documents::{Error, Reader};

/// Bytes as a crawl.
pub fn warc(bytes: &[u8]) {
    for item in Records::new(bytes) {
        drop(item);
    }
}

/// Bytes as a page.
pub fn html(bytes: &[u8]) {
    html::extract(&String::from_utf8_lossy(bytes), Some("http://a.example/"));
}

/// Bytes as a text of unknown encoding; the first line is the header that speaks of it.
pub fn encoding(bytes: &[u8]) {
    let end = bytes.iter().position(|b| *b == b'\n').unwrap_or(0);
    let header = String::from_utf8_lossy(&bytes[..end]).into_owned();
    encoding::decode(&bytes[end..], Some(&header));
    encoding::decode(bytes, None);
}

/// Bytes as lines of JSON.
pub fn json_lines(bytes: &[u8]) {
    for line in bytes.split(|b| *b == b'\n') {
        drop(json_lines::parse(line, "0"));
    }
}

/// Bytes as a Parquet file of documents.
///
/// # Errors
/// When the file that they are put into cannot be written.
pub fn documents(bytes: &[u8]) -> std::io::Result<()> {
    let name =
        format!("quipu-attack-{}-{:?}.parquet", std::process::id(), std::thread::current().id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, bytes)?;
    if let Ok(reader) = Reader::open(&path) {
        // After an error the rest of a file is skipped; more rows than bytes are a claim.
        let rows = reader.take(bytes.len() + 1);
        drop(rows.collect::<Result<Vec<_>, Error>>());
    }
    std::fs::remove_file(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Target<'a> = &'a dyn Fn(&[u8]);
    use std::path::{Path, PathBuf};

    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    #[test]
    fn seeds_and_attacks_do_no_harm() {
        let fuzz = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz"));
        let as_documents = |bytes: &[u8]| documents(bytes).unwrap();
        let targets: [(&str, Target); 5] = [
            ("warc", &warc),
            ("html", &html),
            ("encoding", &encoding),
            ("json_lines", &json_lines),
            ("documents", &as_documents),
        ];
        let attacks = files(&fuzz.join("attacks"));
        assert!(attacks.len() >= 12, "{attacks:?}");
        for (target, run) in targets {
            let seeds = files(&fuzz.join("corpus").join(target));
            assert!(seeds.len() >= 2, "{target}: {seeds:?}");
            // An attack on one reader is an input of all others too.
            for file in seeds.iter().chain(&attacks) {
                run(&std::fs::read(file).unwrap());
            }
        }
    }
}
