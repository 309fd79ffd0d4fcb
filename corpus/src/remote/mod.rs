//! Files that lie elsewhere: `s3://bucket/key`, `http://…`, `https://…`, read as if they lay here.
//!
//! A place is written as a path everywhere, whether it is one or a URL: what is read of an input
//! does not depend on where it lies. [`Access`] opens places; `Source` is `Read + Seek` over a
//! file or over range requests (`stream`); requests are tried again in one place (`patience`).
//! The clients, and what S3 wants signed, are those of the crate `object_store`. Not here: what a
//! name with `*` or `@` means (`input::named`). What is written elsewhere is a run's folder only
//! (`bucket`).

mod bucket;
mod client;
mod failure;
mod patience;
mod stream;

#[cfg(test)]
pub(crate) mod server;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use bucket::Bucket;
pub use failure::{Failure, Reason, Refusal};
pub(crate) use stream::Positioned;

use crate::Error;
use client::{Client, Pending};
use quipu_store::Cancel;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use stream::Stream;

/// First blocks that are remembered: every unit of a file asks what its first bytes say.
const HEADS: usize = 64;
/// Requests at a time where many places are asked at once.
const TOGETHER: usize = 32;

/// How servers are asked. Credentials and regions come from the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The S3 server instead of Amazon's, such as `http://127.0.0.1:9000`; none: as
    /// `AWS_ENDPOINT_URL` says.
    pub endpoint: Option<String>,
    /// How often a request is tried.
    pub tries: u32,
    /// The pause behind the first try; it doubles, up to half a minute.
    pub pause: Duration,
    /// How long one try may take, answer included.
    pub timeout: Duration,
}

impl Default for Settings {
    /// Ten tries over some two minutes: what a busy bucket asks for.
    fn default() -> Settings {
        let (pause, timeout) = (Duration::from_millis(500), Duration::from_secs(120));
        Settings { endpoint: None, tries: 10, pause, timeout }
    }
}

/// What a file elsewhere was when it was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Its length.
    pub bytes: u64,
    /// What the server calls this version of it.
    pub etag: Option<String>,
    /// When it was changed, in seconds since 1970.
    pub modified: Option<i64>,
}

impl Stamp {
    /// Whether the file is another one: by length and `ETag`, or by its time where it has none.
    fn differs(&self, now: &Stamp) -> bool {
        let same = match (&self.etag, &now.etag) {
            (Some(then), Some(now)) => then == now,
            _ => self.modified == now.modified,
        };
        self.bytes != now.bytes || !same
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.bytes)?;
        match (&self.etag, self.modified) {
            (Some(etag), _) => write!(f, ", ETag {etag}"),
            (None, Some(time)) => {
                write!(f, ", of {}", quipu_documents::format_date(time.saturating_mul(1000)))
            }
            (None, None) => Ok(()),
        }
    }
}

/// Whether a path is the name of a place elsewhere.
pub fn is_remote(path: &Path) -> bool {
    let text = path.as_os_str().as_encoded_bytes();
    [&b"s3://"[..], b"http://", b"https://"].iter().any(|scheme| text.starts_with(scheme))
}

/// Whether a path is a place that a server can list.
pub(crate) fn is_bucket(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().starts_with(b"s3://")
}

/// The last part of a path or URL, without a query.
pub(crate) fn file_name(path: &Path) -> String {
    let mut name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    if is_remote(path) && !is_bucket(path) {
        let text = path.to_string_lossy();
        let bare = text.split(['?', '#']).next().unwrap_or_default();
        bare.rsplit('/').next().unwrap_or_default().clone_into(&mut name);
    }
    name
}

/// The way to places, here and elsewhere, until somebody asks to stop. Clones are the same way:
/// connections are shared.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
    settings: Settings,
    cancel: Cancel,
    /// Made when the first place elsewhere is asked for.
    client: OnceLock<Client>,
    heads: Mutex<VecDeque<(String, Stamp, bytes::Bytes)>>,
}

impl Access {
    /// A way by these settings.
    #[must_use]
    pub fn new(settings: &Settings, cancel: &Cancel) -> Access {
        let (settings, cancel) = (settings.clone(), cancel.clone());
        let (client, heads) = (OnceLock::new(), Mutex::default());
        Access(Arc::new(Inner { settings, cancel, client, heads }))
    }

    /// The usual settings, and nobody who asks to stop.
    #[must_use]
    pub fn usual() -> Access {
        Access::new(&Settings::default(), &Cancel::new())
    }

    fn client(&self) -> io::Result<&Client> {
        if let Some(client) = self.0.client.get() {
            return Ok(client);
        }
        let made = Client::new(&self.0.settings)?;
        Ok(self.0.client.get_or_init(|| made))
    }

    /// Opens a file: here, or elsewhere with what was measured of it. `until`: reading is expected
    /// to end about there, so that not much is fetched behind it.
    pub(crate) fn open(
        &self,
        path: &Path,
        stamp: Option<&Stamp>,
        until: u64,
    ) -> Result<Source, Error> {
        if !is_remote(path) {
            return Ok(Source::Here(File::open(path).map_err(Error::io(path))?));
        }
        let stream = self.stream(path, stamp, until).map_err(Error::io(path))?;
        Ok(Source::Elsewhere(Box::new(stream)))
    }

    fn stream(&self, path: &Path, stamp: Option<&Stamp>, until: u64) -> io::Result<Stream> {
        let stamp = match stamp {
            Some(stamp) => stamp.clone(),
            None => self.ask_measure(path)?,
        };
        let object = self.client()?.object(path, stamp)?;
        Ok(Stream::new(self.clone(), object, until))
    }

    /// A file elsewhere, to be read at any offset.
    pub(crate) fn positioned(&self, path: &Path, stamp: &Stamp) -> Result<Positioned, Error> {
        let object = self.client().and_then(|client| client.object(path, stamp.clone()));
        Ok(Positioned::new(self.clone(), object.map_err(Error::io(path))?))
    }

    /// What a file elsewhere is.
    pub(crate) fn measure(&self, path: &Path) -> Result<Stamp, Error> {
        self.ask_measure(path).map_err(Error::io(path))
    }

    fn ask_measure(&self, path: &Path) -> io::Result<Stamp> {
        self.wait(self.client()?.measure(path)?)
    }

    /// The names of folders and files in a folder of a bucket, in no order.
    pub(crate) fn children(&self, folder: &Path) -> Result<Children, Error> {
        let ask = || {
            listable(folder)?;
            self.wait(self.client()?.children(folder)?)
        };
        ask().map_err(Error::io(folder))
    }

    /// All files below a folder of a bucket, relative to it, in no order.
    pub(crate) fn below(&self, folder: &Path) -> Result<Vec<(String, Stamp)>, Error> {
        let ask = || {
            listable(folder)?;
            self.wait(self.client()?.below(folder)?)
        };
        ask().map_err(Error::io(folder))
    }

    /// Waits for an answer, or until somebody asks to stop.
    fn wait<T>(&self, pending: Pending<T>) -> io::Result<T> {
        pending.wait(&self.0.cancel)
    }

    /// The first block of a file, if it was read lately.
    fn head(&self, path: &Path, stamp: &Stamp) -> Option<bytes::Bytes> {
        let heads = self.0.heads.lock().unwrap_or_else(PoisonError::into_inner);
        let name = path.to_string_lossy();
        let found = heads.iter().find(|(path, of, _)| *path == name && of == stamp);
        found.map(|(.., bytes)| bytes.clone())
    }

    fn remember(&self, path: &Path, stamp: &Stamp, bytes: &bytes::Bytes) {
        let mut heads = self.0.heads.lock().unwrap_or_else(PoisonError::into_inner);
        if heads.len() >= HEADS {
            heads.pop_front();
        }
        heads.push_back((path.to_string_lossy().into_owned(), stamp.clone(), bytes.clone()));
    }
}

/// Whether a server can say what is in a folder.
fn listable(place: &Path) -> Result<(), Failure> {
    match is_bucket(place) {
        true => Ok(()),
        false => Err(Failure::NoListing { place: place.to_owned() }),
    }
}

/// What is in a folder of a bucket.
#[derive(Debug, Default)]
pub(crate) struct Children {
    /// Names of folders.
    pub folders: Vec<String>,
    /// Names of files, and what they are.
    pub files: Vec<(String, Stamp)>,
}

/// Does something for each of many things, [`TOGETHER`] at a time where that waits for servers;
/// results in order. The first error, in that order, stops the rest.
pub(crate) fn for_each<T: Sync, R: Send>(
    things: &[T],
    waits: bool,
    run: impl Fn(&T) -> Result<R, Error> + Sync,
) -> Result<Vec<R>, Error> {
    if !waits || things.len() < 2 {
        return things.iter().map(run).collect();
    }
    let next = std::sync::atomic::AtomicUsize::new(0);
    let failed = std::sync::atomic::AtomicBool::new(false);
    let done = Mutex::new(Vec::with_capacity(things.len()));
    let order = std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        for _ in 0..TOGETHER.min(things.len()) {
            scope.spawn(|| {
                while !failed.load(order) {
                    let number = next.fetch_add(1, order);
                    let Some(thing) = things.get(number) else { return };
                    let result = run(thing);
                    failed.fetch_or(result.is_err(), order);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((number, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

/// A file that is open, wherever it lies.
pub(crate) enum Source {
    /// On this machine.
    Here(File),
    /// Behind range requests.
    Elsewhere(Box<Stream>),
}

impl Read for Source {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Source::Here(file) => file.read(out),
            Source::Elsewhere(stream) => stream.read(out),
        }
    }
}

impl Seek for Source {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Source::Here(file) => file.seek(to),
            Source::Elsewhere(stream) => stream.seek(to),
        }
    }
}
