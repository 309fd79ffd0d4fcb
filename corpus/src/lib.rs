//! Crawl to clean, deduplicated, scored documents: the web curation of section 3 of the Llama 3
//! paper, as one multithreaded, resumable program.
//!
//! [`run`] takes inputs of any kind ([`input`]) through extraction ([`html`]), language
//! identification ([`language`]), the rules ([`rules`]) and the three levels of deduplication
//! ([`dedup`]), and writes documents and fates (crate `documents`). [`look()`] says what is there
//! before anything runs. This crate knows no tokenizer and no tensors.

#[doc(hidden)]
pub mod attacks;
pub mod dedup;
pub mod encoding;
mod error;
mod headings;
pub mod html;
pub mod input;
pub mod language;
pub mod look;
mod markup;
mod page;
mod recipe;
mod rows;
pub mod rules;
mod run;
mod summary;
pub mod warc;

pub use error::Error;
pub use input::Kind;
pub use look::look;
pub use recipe::{Languages, Recipe, Sample};
pub use run::{read_summary, run};
pub use summary::{Excerpt, InputCount, RuleScore, Step, Summary};
