//! Bad input, through the program as a user runs it: each is an error that names the file and the
//! reason, an exit status that is not 0, and nothing under a final name. What commands say about
//! wrong flags and recipes is in `commands.rs`.

#![allow(clippy::unwrap_used)]

mod program;

use flate2::{Compression, write::GzEncoder};
use program::{quipu, run, said, tiny};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const PROSE: &str = "The harbour of the old town was built by people who had come from the north. \
    In the winter of that year it stood empty, and nobody could say to whom it belonged. When the \
    spring came, families moved into the houses beside it and began to repair what storms broke.";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::new(1));
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// One record of a crawl, a member of its own.
fn page(html: &str) -> Vec<u8> {
    let block = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n{html}");
    let head = format!(
        "WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:1>\r\nWARC-Date: \
         2024-01-01T00:00:00Z\r\nWARC-Target-URI: http://a.example/\r\nContent-Type: \
         application/http; msgtype=response\r\nContent-Length: {}\r\n\r\n",
        block.len()
    );
    gzip(format!("{head}{block}\r\n\r\n").as_bytes())
}

/// What stands under final names in a run's folder besides what says which run it is.
fn results(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "work" {
                folders.push(path);
            } else if path.is_file()
                && !name.starts_with('.')
                && !["run.json", "recipe.toml", "units.jsonl"].contains(&name.as_str())
            {
                found.push(path);
            }
        }
    }
    found
}

/// Curates a file of this name and content; the error must contain all of `expected`.
fn check(name: &str, bytes: &[u8], expected: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(name), bytes).unwrap();
    let recipe = tiny();
    let arguments = ["speedrun", "--recipe", &recipe, "--run-dir", "run", "--input", name];
    let (code, _, errors) = run(dir.path(), &arguments);
    assert_eq!(code, Some(3), "{name}: {errors}");
    for part in expected.iter().chain([&name]) {
        assert!(errors.contains(part), "{name} said {errors:?}, not {part:?}");
    }
    let left = results(&dir.path().join("run"));
    assert!(left.is_empty(), "{name} left {left:?}");
}

#[test]
fn what_is_no_warc_is_said() {
    check("crawl.warc.gz", b"these are not the records", &["not a WARC"]);
    check("crawl.warc", b"%PDF-1.7 neither", &["not a WARC"]);
}

#[test]
fn a_truncated_gzip_is_said() {
    let whole = page(&format!("<html><body><p>{PROSE}</p></body></html>"));
    check("cut.warc.gz", &whole[..whole.len() / 2], &["damaged"]);
    check("cut.txt.gz", &gzip(PROSE.as_bytes())[..80], &["truncated"]);
}

#[test]
fn a_file_on_which_the_reader_breaks_off_is_said_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let found = include_bytes!("../../fuzz/attacks/broken-off.parquet");
    fs::write(dir.path().join("a.parquet"), found).unwrap();
    let (code, _, errors) = run(dir.path(), &["curate", "--input", "a.parquet", "--out", "o"]);
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("a.parquet") && errors.contains("the reader broke off"), "{errors}");
    assert!(!errors.contains("panicked"), "{errors}");
}

#[test]
fn an_empty_crawl_is_said() {
    check("empty.warc.gz", b"", &["empty"]);
    let info = b"WARC/1.0\r\nWARC-Type: warcinfo\r\nContent-Length: 3\r\n\r\nabc\r\n\r\n";
    check("only-info.warc", info, &["no pages", "warcinfo"]);
}

#[test]
fn dialogues_that_are_none_are_said_before_the_first_stage() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("talk.jsonl"), "{\"messages\": 3}\n").unwrap();
    fs::write(dir.path().join("notes.txt"), PROSE).unwrap();
    let recipe = tiny();
    for command in ["speedrun", "tune"] {
        let arguments = [command, "--recipe", &recipe, "--run-dir", "run", "--input", "notes.txt"];
        let arguments = [&arguments[..], &["--dialogues", "talk.jsonl"]].concat();
        let (code, _, errors) = run(dir.path(), &arguments);
        assert_eq!(code, Some(3), "{errors}");
        assert!(errors.contains("talk.jsonl"), "{errors}");
        assert!(!dir.path().join("run").exists(), "{command}");
    }
}

#[test]
fn zero_documents_left_is_said_with_the_reasons() {
    let short = page("<html><body><p>Under construction.</p></body></html>");
    check("short.warc.gz", &short, &["zero documents left of 1", "too-short 1"]);
}

#[test]
fn a_page_of_fifty_megabytes_is_refused() {
    let large = format!("<html><body><p>{}</body></html>", PROSE.repeat((50 << 20) / PROSE.len()));
    check("large.warc.gz", &page(&large), &["zero documents left of 1", "page-too-large 1"]);
}

#[test]
fn a_page_nested_a_hundred_thousand_deep_costs_nobody_else() {
    let deep = format!("<html><body>{}{PROSE}</body></html>", "<div><p>".repeat(100_000));
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("deep.warc.gz"), page(&deep)).unwrap();
    let recipe = tiny();
    let arguments = ["curate", "--recipe", &recipe, "--run-dir", "run", "--input", "deep.warc.gz"];
    let (code, out, errors) = run(dir.path(), &arguments);
    // The tree is cut at a depth, which leaves the text; nothing overflows or hangs.
    assert_eq!(code, Some(0), "{errors}");
    assert!(out.contains("1 pages → 1 kept"), "{out}");
}

/// Turns one bit in the middle of a file.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

/// A run of the tiny recipe on its world up to a stage.
fn trained(last: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let recipe = tiny();
    let (code, _, errors) = run(dir.path(), &[last, "--recipe", &recipe, "--run-dir", "run"]);
    assert_eq!(code, Some(0), "{errors}");
    dir
}

/// The run as if it had been killed before its stage `name` was finished.
fn forget(dir: &Path, name: &str) {
    let path = dir.join("run/units.jsonl");
    let lines = fs::read_to_string(&path).unwrap();
    let mark = format!("\"unit\":\"{name}\"");
    let kept: Vec<&str> = lines.lines().filter(|l| !l.contains(&mark)).collect();
    assert!(kept.len() + 1 == lines.lines().count(), "{lines}");
    fs::write(path, kept.join("\n") + "\n").unwrap();
}

/// One file below `dir` whose name ends so.
fn one(dir: &Path, end: &str) -> PathBuf {
    let mut found = results(dir);
    found.sort();
    found.into_iter().rfind(|p| p.to_string_lossy().ends_with(end)).unwrap()
}

/// Goes on with the run after one bit of `damaged` turned.
fn refused(dir: &Path, damaged: &Path) {
    flip(damaged);
    let recipe = tiny();
    let (code, _, errors) = run(dir, &["tune", "--recipe", &recipe, "--run-dir", "run", "--quiet"]);
    assert_eq!(code, Some(3), "{}: {errors}", damaged.display());
    let name = damaged.file_name().unwrap().to_string_lossy().into_owned();
    let words = errors.split_whitespace().collect::<String>();
    assert!(words.contains(&name), "{errors} does not name {name}");
    assert!(errors.contains("damaged") || errors.contains("checksum"), "{errors}");
    assert!(!dir.join("run/models/sft").exists());
    flip(damaged);
}

#[test]
fn one_flipped_bit_in_a_shard_or_a_checkpoint_is_found() {
    let dir = trained("train");
    let place = dir.path().join("run");
    refused(dir.path(), &one(&place.join("tokens"), ".tokens"));
    refused(dir.path(), &one(&place.join("models/base"), ".safetensors"));
    forget(dir.path(), "train");
    refused(dir.path(), &one(&place.join("checkpoints"), ".chunks"));
    forget(dir.path(), "tokens");
    fs::remove_dir_all(place.join("tokens")).unwrap();
    refused(dir.path(), &one(&place.join("corpus"), "documents-00000.parquet"));
    let recipe = tiny();
    let (code, _, errors) =
        run(dir.path(), &["train", "--recipe", &recipe, "--run-dir", "run", "--quiet"]);
    assert_eq!(code, Some(0), "whole again, it goes on: {errors}");
}

#[test]
fn a_model_with_a_flipped_bit_does_not_talk() {
    let dir = trained("train");
    let model = dir.path().join("run/models/base/model.safetensors");
    flip(&model);
    let arguments = ["chat", "run", "--stage", "base", "--prompt", "Hello."];
    let (code, out, errors) = run(dir.path(), &arguments);
    assert_eq!((code, out.as_str()), (Some(3), ""), "{errors}");
    assert!(errors.contains("model.safetensors"), "{errors}");
}

#[test]
fn a_run_folder_of_another_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("run")).unwrap();
    let mark = dir.path().join("run/run.json");
    fs::write(&mark, "{\"format\": \"quipu.run\", \"version\": 7}").unwrap();
    let recipe = tiny();
    let (code, _, errors) = run(dir.path(), &["speedrun", "--recipe", &recipe, "--run-dir", "run"]);
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("version 7") && errors.contains("run"), "{errors}");
    assert!(results(&dir.path().join("run")).is_empty());
}

#[test]
fn a_run_folder_in_use_is_refused_and_its_user_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = tiny();
    let arguments = ["curate", "--recipe", &recipe, "--run-dir", "run"];
    // The world of size 1 takes seconds, so that the second process meets the first at work.
    let slow: Vec<&str> = arguments.into_iter().chain(["--set", "world.size=1"]).collect();
    let mut first = quipu(dir.path(), &slow).spawn().unwrap();
    while !dir.path().join("run/run.json").exists() {
        std::thread::yield_now();
    }
    let (code, _, errors) = run(dir.path(), &slow);
    assert_eq!(code, Some(4), "{errors}");
    let process = first.id().to_string();
    assert!(errors.contains("in use") && errors.contains(&process), "{errors}");
    assert!(program::wait(&mut first).success());
}

/// A file system of two megabytes, or `None` where this process may not mount one.
struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    fn mounted() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(dir.path());
        let mounted = mount.output().is_ok_and(|o| o.status.success());
        mounted.then_some(Self { dir })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.dir.path()).status();
    }
}

/// Results that standard output does not take are an error, not a silent loss; a reader that has
/// enough is none.
#[test]
fn results_that_cannot_be_written_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.txt"), PROSE).unwrap();
    let mut look = quipu(dir.path(), &["look", "a.txt", "--quiet"]);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (code, _, errors) = said(&look.stdout(full).output().unwrap());
    assert_eq!(code, Some(4), "{errors}");
    assert!(errors.contains("standard output could not be written"), "{errors}");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let (code, _, errors) = said(&look.stdout(writer).output().unwrap());
    assert_eq!((code, errors.as_str()), (Some(0), ""));
}

fn full(errors: &str, code: Option<i32>, run: &Path) {
    assert_eq!(code, Some(4), "{errors}");
    assert!(errors.contains("no room left to write"), "{errors}");
    let half = results(run).into_iter().filter(|p| p.ends_with("manifest.json"));
    for manifest in half {
        // What has its manifest is whole: every file that it names is there at its size.
        let text = fs::read_to_string(&manifest).unwrap();
        let facts: serde_json::Value = serde_json::from_str(&text).unwrap();
        for file in facts["files"].as_array().unwrap() {
            let path = manifest.with_file_name(file["name"].as_str().unwrap());
            assert_eq!(fs::metadata(&path).unwrap().len(), file["bytes"], "{}", path.display());
        }
    }
}

#[test]
fn a_full_disk_is_an_error_and_leaves_nothing_half_written() {
    let recipe = tiny();
    let arguments = ["train", "--recipe", &recipe, "--run-dir", "run", "--quiet"];
    // At every stage, by refusing writes; then on a disk that is full indeed, where one can be had.
    for bytes in ["1000", "200000", "400000", "1000000", "1500000"] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = quipu(dir.path(), &arguments);
        let (code, _, errors) =
            said(&command.env("QUIPU_FULL_AFTER_BYTES", bytes).output().unwrap());
        full(&errors, code, &dir.path().join("run"));
        let (code, _, errors) = run(dir.path(), &arguments);
        assert_eq!(code, Some(0), "with room again, it goes on: {errors}");
    }
    if let Some(disk) = SmallDisk::mounted() {
        let large: Vec<&str> = arguments.into_iter().chain(["--set", "world.size=1"]).collect();
        let (code, _, errors) = run(disk.dir.path(), &large);
        full(&errors, code, &disk.dir.path().join("run"));
    }
}

/// Whatever the file that does not fit, the exit status says that it is the machine's fault.
#[test]
fn curation_on_a_full_disk_is_no_fault_of_the_data() {
    let dir = tempfile::tempdir().unwrap();
    let line =
        |n: u32| format!("{{\"url\": \"https://a.example/{n}\", \"text\": \"{PROSE} {n}.\"}}\n");
    fs::write(dir.path().join("a.jsonl"), (0..400).map(line).collect::<String>()).unwrap();
    let arguments = ["curate", "--input", "a.jsonl", "--out", "out", "--quiet"];
    for bytes in (400..20_000).step_by(1_400) {
        let mut command = quipu(dir.path(), &arguments);
        let out = command.env("QUIPU_FULL_AFTER_BYTES", bytes.to_string()).output().unwrap();
        let (code, _, errors) = said(&out);
        assert_eq!(code, Some(4), "{bytes}: {errors}");
    }
    let (code, _, errors) = run(dir.path(), &arguments);
    assert_eq!(code, Some(0), "with room again, it goes on: {errors}");
}
