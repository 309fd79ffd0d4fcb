//! What the fuzzers run, so that stable tests replay their seeds and every known attack through the very
//! same functions. Each takes any bytes and may only return: whether they could be read.
//!
//! Not here: what should be read from sound bytes; that is tested beside each reader.

use crate::Config;
use crate::checkpoint::{Reader, seal};
use crate::tensor_file::TensorFile;
use quipu_store::manifest;
use serde_json::Value;
use std::io;
use std::path::Path;

/// Bytes as a rank's index of a checkpoint whose chunks are the 256 bytes 0 to 255, and as a manifest.
///
/// # Errors
/// When the files that they are put into cannot be written.
pub fn checkpoint(bytes: &[u8]) -> io::Result<bool> {
    let chunks: Vec<u8> = (0..=255).collect();
    in_folder(|folder| {
        std::fs::write(folder.join("rank-00000.chunks"), &chunks)?;
        std::fs::write(folder.join("rank-00000.json"), bytes)?;
        let sealed = seal(folder, 1, Value::Null).and_then(|()| Reader::open(folder));
        let read = sealed.is_ok_and(|reader| {
            let mut all = reader.names().map(|name| reader.read_all(name));
            all.all(|read| read.is_ok())
        });
        std::fs::write(folder.join(manifest::NAME), bytes)?;
        Ok(Reader::open(folder).is_ok() || read)
    })
}

/// Bytes as a model's configuration.
pub fn config(bytes: &[u8]) -> bool {
    let config = Config::parse(&String::from_utf8_lossy(bytes));
    config.is_ok_and(|config| Config::parse(&config.to_json()).is_ok())
}

/// Bytes as a file of tensors.
///
/// # Errors
/// When the file that they are put into cannot be written.
pub fn tensors(bytes: &[u8]) -> io::Result<bool> {
    in_folder(|folder| {
        let path = folder.join("x.safetensors");
        std::fs::write(&path, bytes)?;
        let Ok(file) = TensorFile::open(&path) else { return Ok(false) };
        for name in file.names() {
            drop((file.floats(name), file.tokens(name), file.bytes(name)));
            drop(file.some_floats(name, 1..3));
        }
        Ok(true)
    })
}

/// An empty folder, which goes with what `work` leaves in it.
fn in_folder(work: impl FnOnce(&Path) -> io::Result<bool>) -> io::Result<bool> {
    let (process, thread) = (std::process::id(), std::thread::current().id());
    let folder = std::env::temp_dir().join(format!("quipu-attack-{process}-{thread:?}"));
    std::fs::create_dir_all(&folder)?;
    let worked = work(&folder);
    std::fs::remove_dir_all(&folder)?;
    worked
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn files(folder: &str) -> Vec<PathBuf> {
        let fuzz = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz"));
        let entries = std::fs::read_dir(fuzz.join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    fn check(target: &str, run: impl Fn(&[u8]) -> bool) {
        let seeds = files(&format!("corpus/{target}"));
        assert!(seeds.len() >= 2, "{target}: {seeds:?}");
        // an attack on one reader is an input of all others too
        for (files, sound) in [(seeds, true), (files("attacks"), false)] {
            for path in files {
                let read = run(&std::fs::read(&path).unwrap());
                assert_eq!(read, sound, "{target}: {}", path.display());
            }
        }
    }

    #[test]
    fn seeds_and_attacks_do_no_harm() {
        check("checkpoint", |bytes| checkpoint(bytes).unwrap());
        check("config", config);
        check("tensors", |bytes| tensors(bytes).unwrap());
    }
}
