//! Which blocks are main text.

use super::blocks::*;
use super::features;
use super::hints::*;

/// Chooses the blocks to keep; `rows` are the features of the page.
pub fn choose(page: &Page, rows: &[f32]) -> Vec<bool> {
    debug_assert_eq!(rows.len(), page.blocks.len() * features::COUNT);
    const BAD: u32 = NAV | FOOT | SIDE | COOKIE | SHARE | RELATED | AD | SIGNUP | MODAL | UNSEEN;
    let bad_marks = IN_NAV | IN_FOOTER | IN_ASIDE | IN_HIDDEN | IN_DIALOG;
    page.blocks
        .iter()
        .map(|b| {
            let all = page.frames[b.frame as usize].all;
            b.marks & bad_marks == 0 && all & BAD == 0 && b.link_chars * 2 < b.chars
        })
        .collect()
}
