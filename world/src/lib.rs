//! A simulated world that can be crawled, taught and examined.
//!
//! [`write()`] draws a world from a seed and writes it into a folder:
//!
//! | file | what it holds |
//! | --- | --- |
//! | `crawl.warc.gz` | the crawl: WARC 1.1, one gzip member a record, some of them damaged |
//! | `truth.jsonl` | a line for each response record: what is on the page, and its fate |
//! | `facts.jsonl` | what is true, and how often pages to be kept state it |
//! | `exam.jsonl` | `fact` in four classes, `two-hop`, `arithmetic`, `program`, `needle`, `tool` |
//! | `dialogues.jsonl` | dialogues for fine-tuning, never about an examined fact |
//! | `preferences.jsonl` | two answers, one right, one rambling, unfinished, repetitive … |
//! | `prompts.jsonl` | prompts kept from both; ten with `show` for a report |
//! | `mathematics.jsonl` | problems with their solutions, no sum of the examination among them |
//! | `chronicles.jsonl` | long texts that say again, far below, what they said above |
//! | `drills.jsonl` | short texts that say a number again every few words |
//! | `manifest.json` | sizes, checksums, seed; written last |
//!
//! **Truth.** `expect` is `keep` or `drop`; a page to be dropped names its `rule`, a page that
//! looks like one of those and must be kept names that rule as `looks_like`. `record_id` is the
//! `WARC-Record-ID` without its angle brackets. `text` is the title and the blocks of the main
//! part with blank lines between them, items and rows on lines of their own. `boilerplate` is a
//! line that the site repeats in the main part of each page (for deduplication of lines).
//!
//! **Facts.** Classes and their statements a fact are in [`Class`]. A class has 200 facts at
//! size 1, two or three for a subject, over eleven relations; values are dealt evenly, so that the
//! best constant answer stays below 6 %. Careless authors misstate some (the truth says which).
//!
//! **Examination.** Right is an answer with one of `accept` in it; of a `program`, one that passes
//! `tests`; of a `tool` question, whose `context` describes two tools, the call in `accept` as Llama
//! 3 writes it: `{"name": …, "parameters": {…}}`, compared as JSON.
//!
//! **Languages.** English-like pages use the English of `english`; the invented languages are
//! always the same whatever the seed ([`tongues::sample`]).
//!
//! **Size.** Size 1 is the default world of some 6,200 pages. Below 1 everything shrinks; above 1
//! provinces are added, each a default world of its own with the same sites and languages, written
//! one after another, so that memory stays that of one province.
//!
//! What it is NOT: it does not read anything, and no other crate's code is known here.

mod chronicles;
mod dialogues;
mod dirt;
mod english;
mod exam;
mod lessons;
mod lexicon;
mod markup;
mod names;
mod output;
mod page;
mod plan;
mod programs;
mod quality;
mod random;
mod relations;
mod simulation;
mod sites;
pub mod tongues;
mod tools;
mod views;
mod warc;

pub use output::{Error, FORMAT, Size, Summary, VERSION, write};
pub use simulation::Class;
