//! What goes wrong with servers, in words: the URL, what was answered, what to do.
//!
//! Two levels. [`Refusal`] is what one request came to after all its tries; it travels through the
//! client as the cause of its errors. [`Failure`] is what the reader of a place is told. Not here:
//! what is tried again ([`super::patience`]).

use super::Stamp;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A place that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A request came to nothing.
    #[error("{}: {refusal}; {}", .place.display(), advice(.place, .refusal))]
    Refused {
        /// As it was named.
        place: PathBuf,
        /// What was answered.
        refusal: Refusal,
    },
    /// The file is not the one that was measured.
    #[error(
        "{}: changed since it was measured: {then} then, {now} now; begin anew, into another \
         folder or after deleting the folder `work` of this one", .place.display()
    )]
    Changed {
        /// As it was named.
        place: PathBuf,
        /// What it was.
        then: Stamp,
        /// What it is.
        now: Stamp,
    },
    /// An answer that makes no sense.
    #[error(
        "{}: the server's answer cannot be used: {reason}; try again later, or download the file \
         and name the copy", .place.display()
    )]
    Answer {
        /// As it was named.
        place: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A folder on a server that does not say what is in it.
    #[error(
        "{}: a folder of an HTTP server cannot be listed; name its files, or a list of them as \
         @list.txt, or the bucket behind it as s3://bucket/prefix/", .place.display()
    )]
    NoListing {
        /// As it was named.
        place: PathBuf,
    },
    /// A name that is no place.
    #[error("{}: {reason}", .place.display())]
    Name {
        /// As it was named.
        place: PathBuf,
        /// What is wrong with it, and what is expected.
        reason: String,
    },
}

impl Failure {
    /// Whether there is no such file.
    pub(crate) fn is_missing(&self) -> bool {
        let Failure::Refused { refusal, .. } = self else { return false };
        matches!(refusal.reason, Reason::Status(404 | 410, _))
    }
}

/// Why a request came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The server answered this status, with these words.
    Status(u16, String),
    /// The connection broke, or there was none.
    Connection(String),
    /// The server sent the whole file where a range was asked for.
    NoRanges,
    /// It asked to come back in so many seconds, which is too long to wait.
    Later(u16, u64),
}

/// What a request came to after all its tries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was asked, without the query, which may hold a signature.
    pub url: String,
    /// Why.
    pub reason: Reason,
    /// How often it was tried.
    pub tries: u32,
    /// The region in which S3 says that the bucket lies.
    pub region: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = &self.url;
        match &self.reason {
            Reason::Status(status, said) if said.is_empty() => {
                write!(f, "{url} answered status {status}")?;
            }
            Reason::Status(status, said) => write!(f, "{url} answered status {status} ({said})")?,
            Reason::Connection(said) => write!(f, "{url} gave no whole answer ({said})")?,
            Reason::NoRanges => write!(f, "{url} sends the whole file and no ranges of it")?,
            Reason::Later(status, seconds) => {
                write!(f, "{url} answered status {status} and asks to wait {seconds} seconds")?;
            }
        }
        if self.tries > 1 { write!(f, ", {} times", self.tries) } else { Ok(()) }
    }
}

impl StdError for Refusal {}

/// What to do about it.
fn advice(place: &Path, refusal: &Refusal) -> String {
    const S3: &str = "quipu takes credentials from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY \
                      (and AWS_SESSION_TOKEN), the region from AWS_REGION, another server from \
                      AWS_ENDPOINT_URL, and asks unsigned where there are none";
    let bucket = place.to_string_lossy().starts_with("s3://");
    if let Some(region) = &refusal.region {
        return format!("the bucket lies in another region: set AWS_REGION={region}");
    }
    match refusal.reason {
        Reason::Status(404 | 410, _) => "is the name right?".into(),
        Reason::Status(400..=403, _) if bucket => {
            format!("may it be read, and written where it is to be? {S3}")
        }
        Reason::Status(401 | 403, _) => "may it be read? use a signed URL, or download it".into(),
        Reason::Status(301..=308, _) if bucket => format!("is the region right? {S3}"),
        Reason::NoRanges => "download the file and name the copy".into(),
        Reason::Status(429 | 500.., _) | Reason::Later(..) => {
            "the server is busy or broken: run the same command again later, what is done stays \
             done"
                .into()
        }
        Reason::Connection(_) => {
            "are the name and the network right? What is done stays done: run the same command \
             again"
                .into()
        }
        Reason::Status(..) => "is the name right, and may it be read?".into(),
    }
}

/// What an error of the client means for a place.
pub(super) fn of(place: &Path, error: &(dyn StdError + 'static)) -> Failure {
    let (mut at, mut last) = (Some(error), String::new());
    while let Some(e) = at {
        if let Some(refusal) = e.downcast_ref::<Refusal>() {
            return Failure::Refused { place: place.to_owned(), refusal: refusal.clone() };
        }
        last = e.to_string();
        at = e.source();
    }
    Failure::Answer { place: place.to_owned(), reason: last }
}

impl From<Failure> for io::Error {
    /// Of a kind that nobody takes for damage in the data.
    fn from(failure: Failure) -> io::Error {
        let kind = match &failure {
            Failure::Refused { refusal, .. } => match refusal.reason {
                Reason::Status(404 | 410, _) => io::ErrorKind::NotFound,
                Reason::Status(401 | 403, _) => io::ErrorKind::PermissionDenied,
                Reason::NoRanges => io::ErrorKind::Unsupported,
                _ => io::ErrorKind::ConnectionAborted,
            },
            Failure::Changed { .. } => io::ErrorKind::StaleNetworkFileHandle,
            _ => io::ErrorKind::Unsupported,
        };
        io::Error::new(kind, failure)
    }
}
