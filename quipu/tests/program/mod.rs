//! Starting the program as a user does, for the tests in this folder. Not a test itself.

#![allow(dead_code, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The root of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
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
