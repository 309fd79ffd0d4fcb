//! The main text of a page: which blocks of it are kept, and how they are put together. The score
//! of a block is in `score.rs`.

use super::blocks::{Block, Kind, Page};
use super::names::Tag;
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
    let keep = score::choose(&page, &rows, claims.signs);
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
            out.push_str(if together(page, before, block) { "\n" } else { "\n\n" });
        }
        out.push_str(page.text_of(block));
        before = Some(block);
    }
    out
}

fn together(page: &Page, a: &Block, b: &Block) -> bool {
    let close = [Kind::Item, Kind::Row, Kind::Definition];
    let row = |block: &Block| {
        let frame = &page.frames[block.frame as usize];
        (block.kind == Kind::Listing && frame.tag == Tag::TR).then_some(frame.parent)
    };
    // the lines of a listing that is laid out as a table
    let lines = row(a).is_some() && row(a) == row(b);
    a.kind == b.kind && close.contains(&a.kind) || lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "The mill stood on the river for three hundred years, and every family \
        in the valley brought its grain there, whatever the weather was.";
    const SECOND: &str = "When the railway came, the miller sold his stones to a museum; the \
        wheel, which nobody wanted, still turns when the water is high enough.";

    /// A page with all the usual surroundings around `main`.
    fn surrounded(main: &str) -> String {
        format!(
            "<!doctype html><html lang=EN><head><title>The mill | Valley news</title></head><body>\
             <header class=site-header><nav><ul><li><a href=/>Home</a><li><a href=/n>News</a>\
             <li><a href=/s>Sport</a></ul></nav></header>\
             <main><article><h1>The mill</h1>{main}</article></main>\
             <aside class=sidebar><h3>Most read</h3><ul><li><a href=1>Ten bridges to see</a>\
             <li><a href=2>Bread is dearer</a></ul></aside>\
             <div class=cookie-consent>We use cookies to improve this site. <button>Accept</button>\
             </div><footer class=site-footer>© 2020 Valley news <a href=/p>Privacy</a></footer>"
        )
    }

    fn check(main: &str, kept: &[&str]) {
        let extracted = extract(&surrounded(main), None);
        for piece in kept {
            assert!(extracted.text.contains(piece), "{piece:?} in {:?}", extracted.text);
        }
        for chrome in ["Sport", "Ten bridges", "cookies", "Privacy", "Accept"] {
            assert!(!extracted.text.contains(chrome), "{chrome:?} in {:?}", extracted.text);
        }
        assert_eq!(extracted.title.as_deref(), Some("The mill | Valley news"));
        assert_eq!(extracted.language.as_deref(), Some("en"));
        assert!(!extracted.over_budget);
    }

    #[test]
    fn the_article_without_its_surroundings() {
        check(&format!("<p>{FIRST}</p><p>{SECOND}</p>"), &[&format!("{FIRST}\n\n{SECOND}")]);
    }

    #[test]
    fn lists_tables_and_code_of_the_article() {
        let list = "<ul><li>Wheat was ground on Mondays, rye on Tuesdays.<li>Oats had to wait \
            until the end of the week.</ul>";
        let code = "<pre>flow = 3\n  wheel(flow)</pre>";
        check(
            &format!("<p>{FIRST}</p>{list}<p>{SECOND}</p>{code}<p>{FIRST}</p>"),
            &[FIRST, SECOND, "Tuesdays.\nOats", "flow = 3\n  wheel(flow)"],
        );
    }

    #[test]
    fn pages_without_text_give_none() {
        for html in ["", "<frameset><frame src=x></frameset>", "<script>x</script>"] {
            let extracted = extract(html, Some("http://a.example/"));
            assert_eq!(extracted.text, "");
            assert_eq!(extracted.code_share, 0.0);
        }
    }

    #[test]
    fn text_for_browsers_without_scripts_is_read() {
        let page = format!("<body><noscript><div><p>{FIRST}</p><p>{SECOND}</p></div></noscript>");
        assert!(extract(&page, None).text.contains(FIRST));
    }

    #[test]
    fn cuts_fall_between_characters() {
        let cut = extract_within("<p>éé", None, Budget { bytes: 4, ..Budget::default() });
        assert!(cut.over_budget);
    }
}
