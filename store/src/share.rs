//! A place that workers without a common folder share: whole objects by name, put where there is
//! none, or where there is still the one that was read. Leases need no more, and buckets have no
//! more (conditional writes of S3). Not here: a bucket (`corpus::remote`), nor what is shared
//! ([`crate::crew`]).

use crate::Error;
use std::path::{Path, PathBuf};

/// What an object may be put over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over<'a> {
    /// Whatever is there.
    Anything,
    /// Nothing: there must be no object of this name.
    Nothing,
    /// The object of this version.
    Only(&'a str),
}

/// Objects by name; names have `/` between their parts. All of it may be called by several threads.
pub trait Share: Send + Sync {
    /// Where an object stands, for messages.
    fn place(&self, name: &str) -> PathBuf;

    /// An object and its version, or `None` where there is none.
    ///
    /// # Errors
    /// When the place cannot be asked.
    fn get(&self, name: &str) -> Result<Option<(Vec<u8>, String)>, Error>;

    /// The version of an object, or `None` where there is none.
    ///
    /// # Errors
    /// When the place cannot be asked.
    fn version(&self, name: &str) -> Result<Option<String>, Error>;

    /// Puts an object and returns its version, or `None` where something else is there than it may
    /// be put over.
    ///
    /// # Errors
    /// When the place does not take it.
    fn put(&self, name: &str, bytes: &[u8], over: Over) -> Result<Option<String>, Error>;

    /// Puts a file, of any size, over whatever is there.
    ///
    /// # Errors
    /// As [`Share::put`]; when the file cannot be read.
    fn upload(&self, name: &str, from: &Path) -> Result<(), Error>;

    /// Writes an object to a file, whole or not at all.
    ///
    /// # Errors
    /// No object of this name; as [`Share::get`]; a full disk.
    fn download(&self, name: &str, to: &Path) -> Result<(), Error>;

    /// Removes an object, if it is there.
    ///
    /// # Errors
    /// When the place refuses.
    fn remove(&self, name: &str) -> Result<(), Error>;
}
