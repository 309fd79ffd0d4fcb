//! Bytes that lie somewhere else than in a file, as the Parquet reader wants them.
//!
//! Who knows the place (an object in a bucket, a URL) implements [`Source`]; it is expected to keep
//! what was fetched last, since columns are read side by side, a page at a time. Not here: files,
//! which the Parquet reader opens itself.

use bytes::Bytes;
use parquet::errors::Result;
use parquet::file::reader::{ChunkReader, Length};
use std::io::{self, BufReader, Read};
use std::sync::Arc;

/// Bytes at offsets.
pub trait Source: Send + Sync {
    /// How many there are.
    fn length(&self) -> u64;

    /// Fills the beginning of `out` with bytes from `offset` on; returns how many, 0 at the end.
    ///
    /// # Errors
    /// What keeps them from being read.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize>;
}

/// A source in the Parquet reader's hands.
pub(crate) struct Chunks(pub(crate) Arc<dyn Source>);

/// A source from an offset on.
pub(crate) struct Onward {
    source: Arc<dyn Source>,
    offset: u64,
}

impl Read for Onward {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read_at(self.offset, out)?;
        self.offset += read as u64;
        Ok(read)
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.0.length()
    }
}

impl ChunkReader for Chunks {
    type T = BufReader<Onward>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(BufReader::new(Onward { source: self.0.clone(), offset: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        // The length is a claim of the file: memory grows with what is there.
        let mut bytes = Vec::new();
        let from = Onward { source: self.0.clone(), offset: start };
        from.take(length as u64).read_to_end(&mut bytes)?;
        if bytes.len() < length {
            let found = bytes.len();
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("expected {length} bytes from {start} on, found {found}"),
            )
            .into());
        }
        Ok(bytes.into())
    }
}
