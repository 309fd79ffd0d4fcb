//! `quipu curate` killed with `kill -9` at moments drawn by a seed over the bytes that it writes, and
//! run again with another number of workers: all files are, byte for byte, those of a run that
//! nobody disturbed. A few moments always, twenty under `--full`.

#![allow(clippy::unwrap_used)]

mod program;

use program::{check_same, content, draw, quipu, said};
use std::fs;
use std::path::Path;

/// Curates, killed after so many bytes; the result, if the process lived.
fn curate(room: &Path, workers: usize, kill_after: Option<u64>) -> Option<serde_json::Value> {
    let (input, out) = (room.join("world/crawl.warc.gz"), room.join("out"));
    let workers = workers.to_string();
    let (input, out) = (input.to_string_lossy(), out.to_string_lossy());
    let arguments = ["curate", "--input", &input, "--out", &out, "--workers", &workers];
    let quiet = ["--memory", "16MiB", "--json", "--quiet"];
    let arguments: Vec<&str> = arguments.into_iter().chain(quiet).collect();
    let mut command = quipu(Path::new("."), &arguments);
    if let Some(bytes) = kill_after {
        command.env("QUIPU_KILL_AFTER_BYTES", bytes.to_string());
    }
    let (code, out, errors) = said(&command.output().unwrap());
    if code.is_none() {
        assert!(kill_after.is_some(), "{errors}");
        return None;
    }
    assert_eq!(code, Some(0), "{errors}");
    Some(serde_json::from_str(&out).unwrap())
}

fn check(kills: usize) {
    let room = tempfile::tempdir().unwrap();
    let world = room.path().join("world");
    let world = world.to_string_lossy();
    let made = quipu(Path::new("."), &["world", &world, "--size", "0.1", "--quiet"]).output();
    let (code, _, errors) = said(&made.unwrap());
    assert_eq!(code, Some(0), "{errors}");
    let result = curate(room.path(), 2, None).unwrap();
    let total = result["bytes_written"].as_u64().unwrap();
    let out = room.path().join("out");
    let expected = content(&out);
    assert!(expected.keys().all(|name| !name.starts_with("work")), "{:?}", expected.keys());
    fs::remove_dir_all(&out).unwrap();
    let (mut killed, mut seed) = (0, 20_261_124);
    while killed < kills {
        let workers = 1 + killed % 5;
        // Each attempt goes on where the last one was killed: moments over a half of the whole
        // fall into every stage.
        match curate(room.path(), workers, Some(draw(&mut seed, total / 2))) {
            None => killed += 1,
            Some(_) => fs::remove_dir_all(&out).unwrap(),
        }
    }
    curate(room.path(), 3, None).unwrap();
    check_same(&content(&out), &expected, &format!("{killed} kills"));
}

#[test]
fn a_curation_killed_four_times_ends_with_the_same_bytes() {
    check(4);
}

#[test]
#[ignore = "twenty kills"]
fn a_curation_killed_twenty_times_ends_with_the_same_bytes() {
    check(20);
}
