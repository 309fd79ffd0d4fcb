//! Starting the program as a user does, for the tests in this folder. Not a test itself.

#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output};
use std::time::{Duration, Instant};

/// The root of the workspace, as cargo says it when it runs a test: a build folder that several clones
/// share may hold what another of them built.
pub fn root() -> PathBuf {
    let here = std::env::var("CARGO_MANIFEST_DIR");
    Path::new(&here.unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").into())).parent().unwrap().into()
}

/// The program with `arguments`, in folder `dir`.
pub fn quipu(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quipu"));
    command.args(arguments).current_dir(dir);
    command
}

/// Runs it and returns status, standard output and standard error.
pub fn run(dir: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    said(&quipu(dir, arguments).output().unwrap())
}

/// Status, standard output and standard error as text.
pub fn said(out: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code(), text(&out.stdout), text(&out.stderr))
}

/// The recipe of a run that takes seconds.
pub fn tiny() -> String {
    root().join("recipes/tiny.toml").to_string_lossy().into_owned()
}

/// Shared data, or `None` after saying that `test` is skipped.
pub fn shared(test: &str) -> Option<PathBuf> {
    let named = std::env::var_os("QUIPU_SHARED").map(PathBuf::from);
    let dir = named.unwrap_or_else(|| root().join("../shared"));
    if dir.is_dir() {
        return Some(dir);
    }
    eprintln!("SKIPPED: {test}: shared data absent");
    None
}

/// Every file below `dir`, by its path there.
pub fn content(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_string_lossy().into_owned();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// A draw in [0, n): Steele and others' SplitMix64.
pub fn draw(state: &mut u64, n: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % n
}

/// Waits for a program to end, and kills it when it takes longer than ten minutes: a test that hangs
/// says nothing of why.
pub fn wait(child: &mut Child) -> ExitStatus {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if began.elapsed() > Duration::from_secs(600) {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("it did not end within ten minutes");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Checks that two runs left the same files; `what` was done to the one that was `found`.
pub fn check_same(
    found: &BTreeMap<String, Vec<u8>>,
    expected: &BTreeMap<String, Vec<u8>>,
    what: &str,
) {
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected), "{what}");
    for (name, bytes) in expected {
        assert!(found[name] == *bytes, "{name} differs: {what}");
    }
}
