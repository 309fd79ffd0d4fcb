//! Real pages for tests, from the folder of shared data (never part of the project).

use std::io::Read;
use std::path::PathBuf;

use crate::encoding;

/// The decoded pages of the extraction gold by id; none, with the line that says so, where the
/// shared data is absent.
pub fn pages(test: &str) -> Option<Vec<(String, String)>> {
    let shared = std::env::var_os("QUIPU_SHARED")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"));
    let Ok(folder) = std::fs::read_dir(shared.join("data/html-gold/html")) else {
        eprintln!("SKIPPED: {test}: shared data absent");
        return None;
    };
    let mut pages = Vec::new();
    for entry in folder {
        let path = entry.expect("a readable folder").path();
        let file = std::fs::File::open(&path).expect("a readable page");
        let mut bytes = Vec::new();
        flate2::read::MultiGzDecoder::new(file).read_to_end(&mut bytes).expect("gzip");
        let id = path.file_name().unwrap_or_default().to_string_lossy().replace(".html.gz", "");
        pages.push((id, encoding::decode(&bytes, None).into_owned()));
    }
    pages.sort();
    Some(pages)
}
