//! A page before it is marked up: its blocks in reading order and what the truth says about it.
//!
//! NOT HTML (`markup` makes that) and NOT cleaned text of a crawl: `Page::text` is what a perfect
//! extractor would return.

use crate::simulation::Date;

/// One block of main content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Block {
    Heading(String),
    Para(String),
    /// Items without an order.
    List(Vec<String>),
    /// Items in order.
    Steps(Vec<String>),
    /// Rows of cells, the first row a header.
    Table(Vec<Vec<String>>),
    Code(String),
    Quote(String),
}

/// One page of a site.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) kind: &'static str,
    pub(crate) language: &'static str,
    /// Index into the sites.
    pub(crate) site: usize,
    /// Path and query, with a leading slash.
    pub(crate) path: String,
    pub(crate) title: String,
    pub(crate) author: String,
    pub(crate) date: Date,
    pub(crate) blocks: Vec<Block>,
    /// Indices of facts stated, one entry a statement.
    pub(crate) facts: Vec<usize>,
    /// Indices of facts misstated by a careless author.
    pub(crate) misstated: Vec<usize>,
    /// Made-up e-mail addresses and telephone numbers in the main text.
    pub(crate) personal: Vec<String>,
    /// From 0 (dirt) to 5 (an encyclopedia page).
    pub(crate) quality: u8,
    /// The rule that must drop it; `None` to keep it.
    pub(crate) drop: Option<&'static str>,
    /// The rule that could wrongly drop it: its look-alike is dropped.
    pub(crate) looks_like: Option<&'static str>,
    /// Address of the page this one repeats, and how.
    pub(crate) duplicate_of: Option<(String, &'static str)>,
}

impl Page {
    pub(crate) fn new(kind: &'static str, language: &'static str, site: usize) -> Self {
        Self {
            kind,
            language,
            site,
            path: String::new(),
            title: String::new(),
            author: String::new(),
            date: Date { year: 2024, month: 1, day: 1 },
            blocks: Vec::new(),
            facts: Vec::new(),
            misstated: Vec::new(),
            personal: Vec::new(),
            quality: 3,
            drop: None,
            looks_like: None,
            duplicate_of: None,
        }
    }

    pub(crate) fn para(&mut self, text: impl Into<String>) {
        self.blocks.push(Block::Para(text.into()));
    }

    /// The true main text: the title and each block, a blank line between them; items and rows on
    /// lines of their own, cells of a row with a tab between them.
    pub(crate) fn text(&self) -> String {
        let mut parts = vec![self.title.clone()];
        for block in &self.blocks {
            parts.push(match block {
                Block::Heading(t) | Block::Para(t) | Block::Code(t) | Block::Quote(t) => t.clone(),
                Block::List(items) | Block::Steps(items) => items.join("\n"),
                Block::Table(rows) => {
                    let rows: Vec<String> = rows.iter().map(|cells| cells.join("\t")).collect();
                    rows.join("\n")
                }
            });
        }
        parts.retain(|part| !part.is_empty());
        parts.join("\n\n")
    }
}
