//! What must hold when a process is killed or the disk is full: nothing half-written stands under
//! a final name, and what was committed is there. The killed process is this test program itself,
//! started again with a role in its environment.

#![allow(clippy::unwrap_used)]

use quipu_store::{Error, atomic, fault, manifest::Manifest, units::Units};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const FOLDER: &str = "QUIPU_STORE_TEST_FOLDER";

/// The work that is killed: three units, each a file of 40,000 bytes, then the manifest.
fn work(dir: &Path) -> Result<(), Error> {
    atomic::sweep(dir)?;
    let units = Units::open(dir, "hash")?;
    let mut manifest = Manifest::new("quipu.test", 1);
    for unit in ["a", "b", "c"] {
        if !units.is_done(unit) {
            atomic::write(&dir.join(unit), |out| {
                (0..4000).try_for_each(|i| writeln!(out, "{unit}{i:08}"))
            })?;
            units.commit(unit, json!(null))?;
        }
        manifest.add(dir, unit)?;
    }
    manifest.write(dir)
}

/// Not a check of its own: what [`killed_anywhere_and_resumed_the_folder_is_the_same`] starts.
#[test]
fn role_of_the_killed_process() {
    if let Some(dir) = std::env::var_os(FOLDER) {
        work(Path::new(&dir)).unwrap();
    }
}

fn start(dir: &Path, kill_after: u64) -> bool {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "role_of_the_killed_process"])
        .env(FOLDER, dir)
        .env(fault::VARIABLE, kill_after.to_string())
        .output()
        .unwrap()
        .status
        .success()
}

fn content(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .map(|p| (p.file_name().unwrap().into(), fs::read(&p).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn killed_anywhere_and_resumed_the_folder_is_the_same() {
    let whole = tempfile::tempdir().unwrap();
    work(whole.path()).unwrap();
    let expected = content(whole.path());
    let total: u64 = expected.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let mut kills = 0;
    for moment in (0..24).map(|i| i * total / 23) {
        let dir = tempfile::tempdir().unwrap();
        if !start(dir.path(), moment) {
            kills += 1;
            for (name, bytes) in content(dir.path()) {
                let whole = expected.iter().any(|(n, b)| *n == name && *b == bytes);
                let growing = name == Path::new("units.jsonl");
                let temporary = name.to_string_lossy().starts_with('.');
                assert!(whole || growing || temporary, "{name:?} is half-written at {moment}");
            }
            assert!(start(dir.path(), u64::MAX));
        }
        assert_eq!(content(dir.path()), expected, "killed after {moment} bytes");
    }
    assert!(kills >= 20, "only {kills} kills");
}

fn check_full(dir: &Path) {
    let path = dir.join("big");
    let megabyte = vec![7; 1 << 20];
    fs::write(&path, b"old").unwrap();
    let error =
        atomic::write(&path, |out| (0..64).try_for_each(|_| out.write_all(&megabyte))).unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert!(error.to_string().contains("big"), "{error}");
    assert_eq!(content(dir), [(PathBuf::from("big"), b"old".to_vec())]);
    // A small file passes the buffer and meets the full disk only when it is committed.
    atomic::write(&path, |out| out.write_all(b"new")).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
}

/// Not a check of its own: what [`a_full_disk_is_said_and_nothing_is_left`] starts where no small
/// file system can be mounted. Its file size limit stands for the full disk.
#[test]
#[allow(unsafe_code)]
fn role_of_the_process_without_room() {
    let Some(dir) = std::env::var_os("QUIPU_STORE_TEST_FULL") else { return };
    let limit = libc::rlimit { rlim_cur: 1 << 21, rlim_max: 1 << 21 };
    // SAFETY: both calls change this process only; SIGXFSZ ignored makes write return EFBIG.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit), 0);
    }
    check_full(Path::new(&dir));
}

#[test]
fn a_full_disk_is_said_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
        .arg(dir.path())
        .output()
        .is_ok_and(|out| out.status.success());
    if mounted {
        let result = std::panic::catch_unwind(|| check_full(dir.path()));
        Command::new("umount").arg(dir.path()).status().unwrap();
        result.unwrap();
    }
    let limited = tempfile::tempdir().unwrap();
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "role_of_the_process_without_room"])
        .env("QUIPU_STORE_TEST_FULL", limited.path())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
}

#[test]
fn an_error_of_the_filler_or_a_missing_folder_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let error = atomic::write(&path, |_| Err(std::io::Error::other("no more pages"))).unwrap_err();
    assert!(error.to_string().contains("no more pages"), "{error}");
    drop(atomic::File::create(&path).unwrap());
    assert!(content(dir.path()).is_empty());
    let error = atomic::write_bytes(&dir.path().join("no/such"), b"").unwrap_err();
    assert!(error.to_string().contains("no/such"), "{error}");
}
