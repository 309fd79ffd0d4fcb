//! Crawl to clean, deduplicated, scored documents: the web curation of section 3 of the Llama 3
//! paper, as one multithreaded, resumable program.
//!
//! Inputs of any kind go through extraction, language identification, the rules and the three
//! levels of deduplication, and come out as documents and fates (crate `documents`). This crate
//! knows no tokenizer and no tensors.

pub mod encoding;
mod error;
pub mod html;
mod recipe;
mod summary;
pub mod warc;

pub use error::Error;
pub use recipe::{Languages, Recipe, Sample};
pub use summary::{Excerpt, InputCount, RuleScore, Step, Summary};
