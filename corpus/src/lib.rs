//! Crawl to clean, deduplicated, scored documents: the web curation of section 3 of the Llama 3
//! paper, as one multithreaded, resumable program.
//!
//! [`run`] takes inputs of any kind ([`input`]) through extraction ([`html`]), language
//! identification ([`language`]), the rules ([`rules`]) and the three levels of deduplication
//! ([`dedup`]), and writes documents and fates (crate `documents`). [`look()`] says what is there
//! before anything runs. This crate knows no tokenizer and no tensors.

#[doc(hidden)]
pub mod attacks;
mod classes;
pub mod classify;
#[cfg(feature = "cluster")]
pub mod cluster;
pub mod decontaminate;
pub mod dedup;
pub mod domains;
pub mod encoding;
mod error;
pub mod figures;
mod headings;
pub mod html;
pub mod input;
mod judges;
pub mod language;
pub mod look;
mod markup;
mod page;
pub mod personal;
mod pipe;
mod recipe;
pub mod remote;
pub mod rules;
mod run;
pub mod shuffle;
mod summary;
mod tex;
pub mod warc;

pub use error::Error;
pub use input::Kind;
pub use look::look;
pub use recipe::{AddressLists, Languages, Near, Part, Recipe, Sample};
pub use run::explain::{Explained, Stage, Verdict, Visit};
pub use run::{
    Engine, Estimate, Options, begun, estimate, explain, is_begun, join, put, read_summary, run,
};
pub use summary::{DAMAGED, Excerpt, InputCount, Made, RuleScore, Source, Step, Summary};
