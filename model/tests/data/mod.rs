//! Where reference data lie that tests may read but that are no part of the project: the folder
//! `shared` beside it, or what `QUIPU_SHARED` names. Tests of other crates take this file by its
//! path. Not the data's format: `quipu_model::tensor_file` reads that.

use std::path::{Path, PathBuf};

/// The folder of golden cases; where it is absent, says that `test` is skipped.
pub fn golden(test: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let golden = std::env::var_os("QUIPU_SHARED").map_or(beside, PathBuf::from).join("golden");
    if golden.is_dir() {
        return Some(golden);
    }
    eprintln!("SKIPPED: {test}: shared data absent");
    None
}
