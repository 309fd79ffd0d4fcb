//! The line that says who wrote a page and when: "By Anna Marlow on 5 March 2022" in a box named
//! `byline`. It is data about the text and no part of it. Where there are several, the page is a row
//! of posts, and who wrote which stays. Of the articles of html-gold with one such line none has it in
//! its main text (11 of 11). Not here: names of authors without a date, or in no such box, which the
//! block score weighs.

use super::blocks::{Block, Page};
use super::{cues, features, hints};

/// Longest byline, in words.
const LONGEST: u32 = 15;

/// The place of the page's byline among its blocks, if there is one and no second.
pub fn of_page(page: &Page) -> Option<usize> {
    let mut found = page.blocks.iter().enumerate().filter(|(_, block)| is_byline(page, block));
    let (place, _) = found.next()?;
    found.next().is_none().then_some(place)
}

fn is_byline(page: &Page, block: &Block) -> bool {
    const BOTH: cues::Cues = cues::AUTHOR | cues::DATE;
    block.words <= LONGEST
        && features::hints_of(page, block) & hints::BYLINE != 0
        && cues::of_line(page.text_of(block)) & BOTH == BOTH
}

#[cfg(test)]
mod tests {
    use crate::html::extract;

    const STORY: &str = "<p>The mill stood on the river for three hundred years, and every family in \
        the valley brought its grain there, whatever the weather was.</p>";

    fn check(page: &str, line: &str, stays: bool) {
        let text = extract(&format!("<main><article>{page}</article></main>"), None).text;
        assert!(text.contains("The mill stood"), "{text}");
        assert_eq!(text.contains(line), stays, "{text}");
    }

    #[test]
    fn who_wrote_a_page_and_when_is_no_part_of_it() {
        let line = "By Anna Marlow on 5 March 2022";
        let byline = format!("<div class=byline>{line}</div>");
        check(&format!("<h1>The mill</h1>{byline}{STORY}{STORY}"), line, false);
        check(&format!("<h1>The mill</h1><p>{line}, the mill burned down.</p>{STORY}"), line, true);
    }
}
