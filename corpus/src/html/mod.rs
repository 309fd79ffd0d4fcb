//! From a page of HTML to its main text: our own parser (tokenizer, tree construction, arena) and
//! our own extractor. Llama 3 paper, section 3.1.1: "custom parser that extracts the HTML content
//! and optimizes for precision in boilerplate removal and content recall", mathematics and code
//! kept in structure, no Markdown markers. Not a browser: no scripts, no style sheets, no network.

mod adoption;
mod anchors;
#[cfg(test)]
mod attacks;
pub mod blocks;
mod body;
mod build;
mod byline;
mod claimed;
mod cues;
mod entities;
mod extract;
pub mod features;
mod foreign;
#[cfg(test)]
mod forms;
#[cfg(test)]
mod gold;
pub mod hints;
pub mod margin;
pub mod math;
pub mod metadata;
pub mod names;
#[cfg(test)]
mod oracle;
mod raised;
pub mod repeats;
pub mod score;
mod tables;
pub(crate) mod tokenizer;
pub mod tree;

pub use build::parse;
pub use extract::{Extracted, extract, extract_within, from_tree};

/// What a page may cost. A page beyond it is cut, which `Extracted::over_budget` tells.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Most bytes of markup that are read.
    pub bytes: usize,
    /// Most nodes of the tree.
    pub nodes: usize,
    /// Most open elements at a time; deeper ones become siblings.
    pub depth: usize,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { bytes: 64 << 20, nodes: 2_000_000, depth: 512 }
    }
}
