//! The form a cleaned page takes at rest: schema, reader, writer.
//!
//! Documents are rows of Parquet (schema version 2, ARCHITECTURE.md, "Formats"), so that any
//! Parquet tool opens them; what was removed stands beside them as fates. This crate does not
//! know how pages are judged, and Parquet stays below its interface, and
//! Arrow too, but for who computes on columns ([`columns`]).

mod claims;
mod date;
mod document;
mod error;
mod extra;
mod fate;
mod find;
mod reader;
mod schema;
mod scores;
mod source;
mod writer;

pub use date::{format_date, parse_date};
pub use document::{Document, Id, Route, given_id};
pub use error::Error;
pub use extra::to_extra;
pub use fate::{Fate, read_fates, write_fates};
pub use find::{document_at, find_documents, find_fates};
pub use reader::{Reader, files, read_manifest, row_groups, row_groups_of, verify};
pub use schema::{LANGUAGE_NAMES, columns, hush_guarded_panics, schema_of};
pub use scores::{Score, Scores, write_scores};
pub use source::Source;
pub use writer::{DocumentsFile, FatesFile, FileKind, Writer, write_file};

/// Name of the folder format in its manifest.
pub const FORMAT: &str = "quipu.documents";
/// Version of the folder format; it changes with the schema in ARCHITECTURE.md.
pub const VERSION: u32 = 2;
/// The oldest version that is still read: it lacks the columns `category`, `weight`, `extra`.
pub const OLDEST: u32 = 1;
