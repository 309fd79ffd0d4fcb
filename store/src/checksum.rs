//! XXH3, 64 bits, as sixteen hexadecimal digits. Against damage, not against malice.

use crate::Error;
use std::io::Read;
use std::path::Path;
use xxhash_rust::xxh3::Xxh3;

/// The checksum of bytes in memory.
#[must_use]
pub fn xxh3_bytes(bytes: &[u8]) -> String {
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(bytes))
}

/// The checksum of what comes piece by piece.
#[derive(Default)]
pub struct Running(Xxh3);

impl Running {
    /// Goes on with `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all that came.
    #[must_use]
    pub fn digest(&self) -> String {
        format!("{:016x}", self.0.digest())
    }
}

/// The checksum of a file, read in pieces of one mebibyte.
///
/// # Errors
/// When the file cannot be read.
pub fn xxh3_file(path: &Path) -> Result<String, Error> {
    let mut file = std::fs::File::open(path).map_err(|e| Error::io("read", path, e))?;
    let mut hash = Running::default();
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece).map_err(|e| Error::io("read", path, e))? {
            0 => return Ok(hash.digest()),
            n => hash.update(&piece[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_and_bytes_agree_and_match_the_published_value() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let bytes: Vec<u8> = (0..3_000_000u32).map(|i| ((i * 7) >> 3) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(xxh3_file(&path).unwrap(), xxh3_bytes(&bytes));
        // XXH3_64 of the empty input, from the algorithm's specification.
        assert_eq!(xxh3_bytes(b""), "2d06800538d394c2");
    }
}
