//! The main text of a page: which blocks of it are kept, and how they are put together. The score
//! of a block is in `score.rs`.

use super::blocks::{Block, Kind, Page};
use super::{Budget, blocks, build, features, metadata, score};

/// What was found on a page.
#[derive(Clone, Debug, Default)]
pub struct Extracted {
    /// The page's title as it states it.
    pub title: Option<String>,
    /// The main text: lines, with a blank line between paragraphs. No markup.
    pub text: String,
    /// The language that the page claims (`lang`), lower case.
    pub language: Option<String>,
    /// Share of the text's characters that are listings (`pre`), from 0 to 1.
    pub code_share: f32,
    /// Formulas found.
    pub formulas: u32,
    /// The page was cut, because it is larger than the budget.
    pub over_budget: bool,
}

/// Extracts the main text of a decoded page. `url` is where it came from, if known.
pub fn extract(html: &str, url: Option<&str>) -> Extracted {
    extract_within(html, url, Budget::default())
}

/// `extract` with a budget of one's own.
pub fn extract_within(html: &str, _url: Option<&str>, budget: Budget) -> Extracted {
    let mut cut = html.len().min(budget.bytes.min(u32::MAX as usize / 4));
    while !html.is_char_boundary(cut) {
        cut -= 1;
    }
    let (tree, over) = build::parse(&html[..cut], budget);
    let mut extracted = from_tree(&tree);
    extracted.over_budget = over || cut < html.len();
    extracted
}

/// Extracts from a tree.
pub fn from_tree(tree: &super::tree::Tree) -> Extracted {
    let claims = metadata::read(tree);
    let page = blocks::flatten(tree);
    let rows = features::of_page(&page, &claims);
    let keep = score::choose(&page, &rows);
    let mut extracted = Extracted {
        title: claims.title,
        language: claims.language,
        text: assemble(&page, &keep),
        ..Extracted::default()
    };
    let kept = || page.blocks.iter().zip(&keep).filter(|(_, k)| **k).map(|(b, _)| b);
    let all: u32 = kept().map(|b| b.chars).sum();
    let code: u32 = kept().filter(|b| b.kind == Kind::Listing).map(|b| b.chars).sum();
    extracted.code_share = code as f32 / all.max(1) as f32;
    extracted.formulas = page.formulas;
    extracted
}

/// Joins the kept blocks: items of one list and rows of one table on following lines, all else
/// with a blank line between.
fn assemble(page: &Page, keep: &[bool]) -> String {
    let mut out = String::new();
    let mut before: Option<&Block> = None;
    for (block, _) in page.blocks.iter().zip(keep).filter(|(_, keep)| **keep) {
        if let Some(before) = before {
            out.push_str(if together(before, block) { "\n" } else { "\n\n" });
        }
        out.push_str(page.text_of(block));
        before = Some(block);
    }
    out
}

fn together(a: &Block, b: &Block) -> bool {
    let close = [Kind::Item, Kind::Row, Kind::Definition];
    a.kind == b.kind && close.contains(&a.kind)
}
