//! Inputs of any kind as a stream of pages.
//!
//! What a file is, is read from its content ([`kind`]); a folder is walked in the order of its
//! names. Reading never stops at a bad page: it becomes a page with a refusal, or is counted. Not
//! here: what a page's main text is.

mod crawl;
mod folder;
mod glob;
pub(crate) mod json_lines;
pub mod kind;
pub(crate) mod markdown;
mod named;
mod parquet;
mod range;
pub mod rust_docs;
pub(crate) mod sample;
pub mod text;

pub use folder::{Input, Skipped, expand};
pub use kind::Kind;
pub use named::missing;
pub use range::Range;

use crate::Error;
use quipu_documents::Document;

/// Score that marks a text which its writer made as a whole (plain text, Markdown): its lines are
/// no template's, and a `"Yes."` in seven books is no boilerplate, so line deduplication passes by.
pub(crate) const OWN_LINES: &str = "own-lines";

/// What is read from an input.
#[derive(Debug)]
pub enum Found {
    /// Something that should become a document.
    Page(Page),
    /// A record that is no page (a request, an image), with its kind.
    Skipped(String),
    /// A damaged piece: its place and what is wrong.
    Damaged(String, String),
}

/// A page or text before extraction.
#[derive(Debug, Default)]
pub struct Page {
    /// Where it stands in its input: record id, path below the folder, offset. Unique there, and
    /// the same whatever range of the input was opened.
    pub position: String,
    /// Its name by which a scorer knows it: record id, or file name without `.html`.
    pub name: String,
    /// URL as it stands, or path below the folder.
    pub url: String,
    /// Milliseconds since 1970.
    pub date: Option<i64>,
    /// What there is to read.
    pub body: Body,
}

/// What there is to read of a page.
#[derive(Debug)]
pub enum Body {
    /// A page of HTML as served, with the `Content-Type` header where there was one.
    Html(Vec<u8>, Option<String>),
    /// Plain text.
    Text(Vec<u8>),
    /// Text with Markdown markers.
    Markdown(Vec<u8>),
    /// A document that somebody made before: text, title, language as they stand.
    Document(Box<Document>),
    /// What cannot be read: the rule that refuses it, and details.
    Refused(&'static str, String),
}

impl Default for Body {
    fn default() -> Body {
        Body::Text(Vec::new())
    }
}

impl Page {
    /// Bytes of the page as it stood.
    pub fn bytes(&self) -> u64 {
        match &self.body {
            Body::Html(bytes, _) | Body::Text(bytes) | Body::Markdown(bytes) => bytes.len() as u64,
            Body::Document(document) => document.text.len() as u64,
            Body::Refused(..) => 0,
        }
    }

    /// The hash by which a sample is drawn: of what the page is called, not of where the input
    /// lies.
    pub(crate) fn key(&self) -> u64 {
        let name = if self.url.is_empty() { &self.position } else { &self.url };
        xxhash_rust::xxh3::xxh3_64(name.as_bytes())
    }
}

/// A stream of pages and of what is none.
pub type Stream = Box<dyn Iterator<Item = Result<Found, Error>> + Send>;
