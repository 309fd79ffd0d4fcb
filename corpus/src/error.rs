//! What stops curation, each with its file and reason.
//!
//! A page that cannot be read stops nothing: it is counted and has a fate. Here is only what makes
//! going on pointless.

use crate::remote::Failure;
use quipu_store::Cancelled;
use std::path::{Path, PathBuf};

/// An error that ends a run, or refuses an input.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be opened, read or listed.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// An input of no known kind.
    #[error(
        "{path}: {found}; expected a WARC, HTML, text, Markdown, JSON Lines or Parquet file, \
         or a folder of them"
    )]
    Unrecognised {
        /// The file.
        path: PathBuf,
        /// What its first bytes look like.
        found: String,
    },
    /// A file whose name or place says WARC, but whose content is something else.
    #[error("{path}: not a WARC: expected `WARC/` (or `filedesc:`) at its start, found {found}")]
    NotWarc {
        /// The file.
        path: PathBuf,
        /// Its first bytes, printable.
        found: String,
    },
    /// An input that is a trained model, not text.
    #[error("{path}: a checkpoint folder, not a crawl; `quipu look` describes it")]
    Checkpoint {
        /// The folder.
        path: PathBuf,
    },
    /// The inputs hold no page at all.
    #[error("{inputs}: no pages found ({reason}); give a crawl with at least one HTML page")]
    EmptyCrawl {
        /// The inputs.
        inputs: String,
        /// What was found instead: records by kind, damaged members.
        reason: String,
    },
    /// Pages were read, and every one was removed.
    #[error(
        "{inputs}: zero documents left of {pages} pages; removed: {funnel}; \
         relax the recipe (languages, rules) or give other input"
    )]
    NothingLeft {
        /// The inputs.
        inputs: String,
        /// Pages read.
        pages: u64,
        /// Removals by rule.
        funnel: String,
    },
    /// A folder that a run would empty holds what no run wrote.
    #[error("{path} holds files that no run of curation wrote; name another folder to write to")]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// A place for a run's results that holds other things.
    #[error("{place} holds {what}; name another place, or delete what is there")]
    Taken {
        /// The place.
        place: PathBuf,
        /// What it holds.
        what: String,
    },
    /// A place on a server that takes no files.
    #[error("{place} cannot be written: name a folder, or one of a bucket as s3://bucket/folder")]
    ReadOnly {
        /// The place.
        place: PathBuf,
    },
    /// A run in a bucket whose shuffles should run elsewhere.
    #[error(
        "{place}: the machines of a cluster read the work files from a folder that all see; \
         leave out --cluster, or name such a folder and copy the result"
    )]
    NoFolder {
        /// The place.
        place: PathBuf,
    },
    /// A run whose inputs are others here.
    #[error(
        "{inputs}: the inputs, the files that the recipe names, or this program are not those with \
         which the run was begun (hash {found} here, {expected} there): name them by the same \
         paths on every machine, with the same bytes, and run the same version"
    )]
    OtherHere {
        /// The inputs as they were named.
        inputs: String,
        /// The hash of what is here.
        found: String,
        /// The hash of the plan.
        expected: String,
    },
    /// A server that cannot keep two machines apart.
    #[error(
        "{place}: its server puts objects where there are some although it is told not to \
         (If-None-Match), so that machines cannot share a run there; name a folder instead"
    )]
    NoConditions {
        /// The place.
        place: PathBuf,
    },
    /// There is no run to join.
    #[error("{path}: no run of curation is here; begin one with `quipu curate --input … --out …`")]
    NoRun {
        /// The work folder that was looked for.
        path: PathBuf,
    },
    /// The documentation that rustup installs is not there.
    #[error(
        "rust-docs: {reason}; install it with `rustup component add rust-docs`, \
         or name a folder of HTML pages instead"
    )]
    RustDocs {
        /// What was looked for, and where.
        reason: String,
    },
    /// A value of the recipe that cannot be.
    #[error("recipe: corpus.{key}: found {found}, expected {expected}")]
    Recipe {
        /// Key.
        key: &'static str,
        /// Value found.
        found: String,
        /// What is possible.
        expected: &'static str,
    },
    /// A file that the recipe names is not what it should be.
    #[error("recipe: corpus.{key}: {reason}")]
    List {
        /// Key.
        key: &'static str,
        /// What is wrong with which file.
        reason: String,
    },
    /// A file of truths or a work file does not parse.
    #[error("{path}, line {line}: {reason}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Line number from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The user's command did not do its part.
    #[error("the command `{command}` {reason}; mend it and run again: what is done stays done")]
    Pipe {
        /// The command.
        command: String,
        /// What happened.
        reason: String,
    },
    /// Reading or writing documents failed.
    #[error(transparent)]
    Documents(#[from] quipu_documents::Error),
    /// A classifier, an identifier's model or a score file.
    #[error(transparent)]
    Classify(#[from] crate::classify::Error),
    /// The durable layer refused: full disk, checksum, lock.
    #[error(transparent)]
    Store(quipu_store::Error),
    /// A plan, predicate or service of feature `cluster`.
    #[cfg(feature = "cluster")]
    #[error(transparent)]
    Cluster(#[from] crate::cluster::Error),
    /// The program has no DataFusion in it.
    #[error(
        "this program was built without the feature `cluster`; build it with \
         `cargo build --release --features cluster`, or leave the shuffles to this machine"
    )]
    NoCluster,
    /// A place on a server that cannot be read.
    #[error(transparent)]
    Remote(#[from] Failure),
    /// A pattern that nothing fits.
    #[error("{pattern}: nothing there fits; `*` and `?` stand for what is between two slashes")]
    NoMatch {
        /// As it was named.
        pattern: String,
    },
    /// Asked to stop.
    #[error("cancelled")]
    Cancelled(#[from] Cancelled),
}

impl From<quipu_store::Error> for Error {
    /// What a server said, or a request to stop, is itself also where it comes from a shared place.
    fn from(error: quipu_store::Error) -> Error {
        match error {
            quipu_store::Error::Io { action, path, source } if source.get_ref().is_some() => {
                match Error::io(&path)(source) {
                    Error::Io { path, source } => {
                        Error::Store(quipu_store::Error::Io { action, path, source })
                    }
                    known => known,
                }
            }
            other => Error::Store(other),
        }
    }
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
        move |source| match source.downcast::<Failure>() {
            Ok(failure) => Error::Remote(failure),
            Err(source) => match source.downcast::<Cancelled>() {
                Ok(stopped) => Error::Cancelled(stopped),
                Err(source) => Error::Io { path: path.to_owned(), source },
            },
        }
    }
}
