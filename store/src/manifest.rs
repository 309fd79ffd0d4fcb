//! The last file written into a folder: which files belong to it, their sizes and checksums, and
//! facts of whoever wrote it. A folder without a manifest is unfinished; a folder whose files
//! differ from it is damaged. The manifest itself ends with a checksum of its own.
//!
//! It does not interpret `facts`.

use crate::{Error, atomic, checksum};
use serde::{Deserialize, Serialize};
use std::path::{Component, Path, PathBuf};

/// The name of the manifest in its folder.
pub const NAME: &str = "manifest.json";

/// One file of the folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// path relative to the folder, with `/`
    pub name: String,
    /// size in bytes
    pub bytes: u64,
    /// XXH3 of its content, sixteen hexadecimal digits
    pub xxh3: String,
}

/// What a finished folder holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// what the folder is, for instance `quipu.tokens`
    pub format: String,
    /// version of that format
    pub version: u32,
    /// the files, in the order in which they were added
    pub files: Vec<File>,
    /// what the writer wants to keep beside them
    pub facts: serde_json::Value,
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    #[serde(flatten)]
    manifest: Manifest,
    seal: String,
}

impl Manifest {
    /// An empty manifest.
    #[must_use]
    pub fn new(format: &str, version: u32) -> Self {
        Self { format: format.into(), version, files: Vec::new(), facts: serde_json::Value::Null }
    }

    /// Adds the finished file `dir/name`, reading it for its checksum.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn add(&mut self, dir: &Path, name: &str) -> Result<(), Error> {
        self.files.push(File::of(dir, name)?);
        Ok(())
    }

    /// Writes `dir/manifest.json`. Call it last.
    ///
    /// # Errors
    /// As [`atomic::write`].
    pub fn write(&self, dir: &Path) -> Result<(), Error> {
        let path = dir.join(NAME);
        let sealed = Sealed { manifest: self.clone(), seal: self.seal(&path)? };
        let text = serde_json::to_string_pretty(&sealed).map_err(|e| malformed(&path, &e))?;
        atomic::write_bytes(&path, format!("{text}\n").as_bytes())
    }

    /// Whether `dir` has a manifest, that is: whether its writer finished.
    #[must_use]
    pub fn exists(dir: &Path) -> bool {
        dir.join(NAME).is_file()
    }

    /// Reads the manifest without reading the files it names.
    ///
    /// # Errors
    /// When it is missing, damaged, or of another format or version.
    pub fn read(dir: &Path, format: &str, version: u32) -> Result<Self, Error> {
        let path = dir.join(NAME);
        let text = std::fs::read_to_string(&path).map_err(|e| Error::io("read", &path, e))?;
        let sealed: Sealed = serde_json::from_str(&text).map_err(|e| malformed(&path, &e))?;
        let expected = sealed.manifest.seal(&path)?;
        if sealed.seal != expected {
            let (what, found) = ("its own checksum", expected);
            return Err(Error::Damaged { path, what, found, expected: sealed.seal });
        }
        let manifest = sealed.manifest;
        if manifest.format != format || manifest.version != version {
            let found = format!("{} version {}", manifest.format, manifest.version);
            let expected = format!("{format} version {version}");
            return Err(Error::Version { path, found, expected });
        }
        for file in &manifest.files {
            if !stays_inside(&file.name) {
                let reason = format!("it names {:?}, which lies outside its folder", file.name);
                return Err(Error::Malformed { path, reason });
            }
        }
        Ok(manifest)
    }

    /// Reads the manifest and holds every file it names against it.
    ///
    /// # Errors
    /// As [`Manifest::read`]; and when a file is missing or differs, with its name, what was found
    /// and what was expected.
    pub fn read_verified(dir: &Path, format: &str, version: u32) -> Result<Self, Error> {
        let manifest = Self::read(dir, format, version)?;
        for file in &manifest.files {
            file.verify(dir)?;
        }
        Ok(manifest)
    }

    /// The paths of the files, in order.
    #[must_use]
    pub fn paths(&self, dir: &Path) -> Vec<PathBuf> {
        self.files.iter().map(|f| dir.join(&f.name)).collect()
    }

    fn seal(&self, path: &Path) -> Result<String, Error> {
        let text = serde_json::to_vec(self).map_err(|e| malformed(path, &e))?;
        Ok(checksum::xxh3_bytes(&text))
    }
}

impl File {
    /// Holds `dir/name` against its size, without reading it.
    ///
    /// # Errors
    /// When it is missing or differs.
    pub fn verify_size(&self, dir: &Path) -> Result<(), Error> {
        let path = dir.join(&self.name);
        let bytes = std::fs::metadata(&path).map_err(|e| Error::io("read", &path, e))?.len();
        if bytes != self.bytes {
            let (found, expected) = (format!("{bytes} bytes"), format!("{} bytes", self.bytes));
            return Err(Error::Damaged { path, what: "size", found, expected });
        }
        Ok(())
    }

    /// The finished file `dir/name`, which is read for its checksum.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn of(dir: &Path, name: &str) -> Result<File, Error> {
        let path = dir.join(name);
        let bytes = std::fs::metadata(&path).map_err(|e| Error::io("read", &path, e))?.len();
        Ok(File { name: name.into(), bytes, xxh3: checksum::xxh3_file(&path)? })
    }

    /// Holds `dir/name` against its size and checksum.
    ///
    /// # Errors
    /// When it is missing or differs.
    pub fn verify(&self, dir: &Path) -> Result<(), Error> {
        self.verify_size(dir)?;
        let path = dir.join(&self.name);
        let found = checksum::xxh3_file(&path)?;
        if found != self.xxh3 {
            let expected = self.xxh3.clone();
            return Err(Error::Damaged { path, what: "checksum", found, expected });
        }
        Ok(())
    }
}

fn malformed(path: &Path, error: &serde_json::Error) -> Error {
    Error::Malformed { path: path.to_path_buf(), reason: error.to_string() }
}

fn stays_inside(name: &str) -> bool {
    !name.is_empty() && Path::new(name).components().all(|c| matches!(c, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::fs;

    fn folder() -> (tempfile::TempDir, Manifest) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.bin"), b"some bytes").unwrap();
        let mut manifest = Manifest::new("quipu.test", 3);
        manifest.add(dir.path(), "a.bin").unwrap();
        manifest.facts = json!({"pages": 12, "share": 0.1, "z": {"b": 1, "a": [1.5e-7]}});
        manifest.write(dir.path()).unwrap();
        (dir, manifest)
    }

    fn check(dir: &Path, expected: &str) {
        let error = Manifest::read_verified(dir, "quipu.test", 3).unwrap_err().to_string();
        assert!(error.contains(expected), "{error} does not say {expected:?}");
    }

    #[test]
    fn comes_back_as_written() {
        let (dir, manifest) = folder();
        assert_eq!(Manifest::read_verified(dir.path(), "quipu.test", 3).unwrap(), manifest);
    }

    #[test]
    fn each_flipped_byte_is_found() {
        let (dir, _) = folder();
        for name in ["a.bin", NAME] {
            let path = dir.path().join(name);
            let whole = fs::read(&path).unwrap();
            for i in 0..whole.len() {
                let mut bytes = whole.clone();
                bytes[i] ^= 1;
                fs::write(&path, &bytes).unwrap();
                // White space of the manifest may change: it carries nothing.
                if Manifest::read_verified(dir.path(), "quipu.test", 3).is_ok() {
                    assert!(name == NAME && whole[i].is_ascii_whitespace(), "{name} byte {i}");
                }
                fs::write(&path, &whole[..i]).unwrap();
                let cut = Manifest::read_verified(dir.path(), "quipu.test", 3);
                assert!(cut.is_err() || (name == NAME && i + 1 == whole.len()), "{name} cut {i}");
            }
            fs::write(&path, &whole).unwrap();
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let (dir, mut manifest) = folder();
        fs::write(dir.path().join("a.bin"), b"some byteS").unwrap();
        check(dir.path(), "a.bin is damaged: checksum");
        fs::write(dir.path().join("a.bin"), b"some").unwrap();
        check(dir.path(), "a.bin is damaged: size is 4 bytes, its manifest says 10 bytes");
        fs::remove_file(dir.path().join("a.bin")).unwrap();
        check(dir.path(), "a.bin");
        manifest.version = 2;
        manifest.write(dir.path()).unwrap();
        check(dir.path(), "quipu.test version 2 but this program reads quipu.test version 3");
        manifest.version = 3;
        manifest.files[0].name = "../a.bin".into();
        manifest.write(dir.path()).unwrap();
        check(dir.path(), "outside its folder");
    }
}
