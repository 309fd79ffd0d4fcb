//! Runs over inputs that lie on a server: the same bytes as over the same inputs here, and none of
//! it asked for twice.

use super::tests::{html, page, prose};
use super::*;
use crate::remote::server::{Fault, Server};
use crate::remote::tests::hasty;
use quipu_store::progress;
use std::io::Write;

/// A record that is no page and does not become small.
fn ballast(number: usize) -> Vec<u8> {
    let mut state = number as u64;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    let noise: Vec<u8> = (0..150_000).map(|_| draw()).collect();
    let head = format!(
        "WARC/1.0\r\nWARC-Type: metadata\r\nContent-Type: image/png\r\nContent-Length: {}\r\n\r\n",
        noise.len()
    );
    pack(&[head.as_bytes(), &noise, b"\r\n\r\n"].concat())
}

fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A crawl of several units, lines in many members, rows, pages in files.
pub(super) fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let crawl: Vec<u8> = (0..40).flat_map(|n| [page(n, ""), ballast(n)].concat()).collect();
    let line = |n: usize| {
        let noise: String = (0..3000).map(|i| char::from(b'a' + (i * i * n % 26) as u8)).collect();
        let line =
            serde_json::json!({ "text": prose(n), "url": format!("http://l/{n}"), "x": noise });
        pack(format!("{line}\n").as_bytes())
    };
    let row = |n: usize| quipu_documents::Document {
        text: prose(n),
        url: format!("http://r.example/{n}"),
        ..Default::default()
    };
    let rows = dir.join("rows.parquet");
    quipu_documents::write_file(&rows, &(200..260).map(row).collect::<Vec<_>>()).unwrap();
    let mut files = vec![
        ("in/crawl.warc.gz".to_owned(), crawl),
        ("in/lines.jsonl.gz".to_owned(), (100..160).flat_map(line).collect()),
        ("in/rows.parquet".to_owned(), std::fs::read(&rows).unwrap()),
        ("in/notes/a.txt".to_owned(), prose(300).into_bytes()),
        ("in/.hidden".to_owned(), b"x".to_vec()),
    ];
    let pages = (400..420).map(|n| (format!("in/site/{n}.html"), html(n, "").into_bytes()));
    files.extend(pages);
    files
}

fn serve(files: &[(String, Vec<u8>)]) -> Server {
    Server::of(&files.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect::<Vec<_>>())
}

fn curate(inputs: &[PathBuf], out: &Path, server: &Server) -> Result<Summary, Error> {
    let options = Options { settings: hasty(server), workers: 3, ..Options::default() };
    let silent = progress::silent();
    run(inputs, &Recipe::default(), out, &options, silent.as_ref(), &Cancel::new())
}

/// Documents and fates, byte for byte.
pub(super) fn bytes_of(out: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(out).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|e| e == "parquet"))
        .map(|path| (path.display().to_string(), std::fs::read(&path).unwrap()))
        .map(|(path, bytes)| (path.rsplit('/').next().unwrap().to_owned(), bytes))
        .collect();
    found.sort();
    assert!(found.len() >= 2);
    found
}

#[test]
fn the_same_inputs_here_and_elsewhere_give_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    let server = serve(&files);
    for (name, bytes) in &files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    // A folder, here and in a bucket; files, here, by HTTP, in the bucket, and by a pattern.
    let names = ["in/crawl.warc.gz", "in/lines.jsonl.gz", "in/rows.parquet"];
    let here = |name: &str| dir.path().join(name);
    let groups: [Vec<Vec<PathBuf>>; 2] = [
        vec![vec![here("in")], vec!["s3://in/".into()]],
        vec![
            names.iter().map(|name| here(name)).collect(),
            names.iter().map(|name| server.url(name)).collect(),
            names.iter().map(|name| format!("s3://{name}").into()).collect(),
            vec!["s3://in/*.*".into()],
        ],
    ];
    for (number, group) in groups.iter().enumerate() {
        let mut first = None;
        for (way, inputs) in group.iter().enumerate() {
            let out = here(&format!("out-{number}-{way}"));
            let summary = curate(inputs, &out, &server).unwrap();
            let found = (summary.pages, summary.kept, bytes_of(&out));
            assert!(found.1 > 100, "{}", summary.line());
            let first = first.get_or_insert_with(|| found.clone());
            assert!(*first == found, "{inputs:?}: {} {}", found.0, found.1);
            let manifest = Manifest::read(&out, FORMAT, VERSION).unwrap();
            let told = manifest.facts["elsewhere"].as_array().map_or(0, Vec::len);
            assert_eq!(told, if way == 0 { 0 } else { [24, 3][number] });
        }
    }
}

#[test]
fn a_run_that_was_stopped_goes_on_without_asking_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    let server = serve(&files);
    let inputs = [PathBuf::from("s3://in/*.gz")];
    let (whole, out) = (dir.path().join("whole"), dir.path().join("out"));
    curate(&inputs, &whole, &server).unwrap();
    server.wrong("bytes=3145728-", usize::MAX, Fault::Status(404, "X: y\r\n"));
    let said = curate(&inputs, &out, &server).unwrap_err().to_string();
    assert!(said.contains("s3://in/crawl.warc.gz: ") && said.contains("404"), "{said}");
    assert!(!Manifest::exists(&out));
    server.mend();
    server.requests();
    server.wrong("GET", usize::MAX, Fault::Changed);
    let said = curate(&inputs, &out, &server).unwrap_err().to_string();
    assert!(said.contains("changed since it was measured"), "{said}");
    server.mend();
    curate(&inputs, &out, &server).unwrap();
    let asked = server.requests();
    let again = |request: &&String| request.contains("list-type") || request.starts_with("HEAD");
    assert_eq!(asked.iter().find(again), None, "{asked:?}");
    assert!(bytes_of(&out) == bytes_of(&whole));
}
