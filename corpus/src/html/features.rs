//! What the block score sees of each block: its own measures, the boxes around it, its neighbours
//! and the page. All are general properties of pages (link density, length, semantic elements,
//! hints of names, position); none names a site. Numbers only, weights are in `weights.rs`.

use super::blocks::{Block, Frame, KINDS, Kind, MARKS, Page};
use super::hints;

/// Features that describe a block itself and the page (the rest are kinds, marks, hints).
const PLAIN: usize = 44;

/// How many features a block has.
pub const COUNT: usize = PLAIN + KINDS + MARKS + 2 * hints::COUNT;

/// What is asked of the page as a whole.
#[derive(Clone, Copy, Debug, Default)]
pub struct PageSigns {
    /// Says of itself that it is an article (og:type, schema.org).
    pub article: bool,
    /// Says of itself that it is a product.
    pub product: bool,
    /// Says of itself that it is a thread.
    pub forum: bool,
}

/// One row of features a block, in document order.
pub fn of_page(page: &Page, signs: PageSigns) -> Vec<f32> {
    let shape = Shape::of(page);
    let mut rows = Vec::with_capacity(page.blocks.len() * COUNT);
    for (i, block) in page.blocks.iter().enumerate() {
        let from = rows.len();
        plain(page, &shape, signs, i, &mut rows);
        debug_assert_eq!(rows.len() - from, PLAIN);
        rows.extend((0..KINDS).map(|kind| flag(block.kind as usize == kind)));
        rows.extend((0..MARKS).map(|bit| flag(block.marks >> bit & 1 == 1)));
        let frame = &page.frames[block.frame as usize];
        let near = near_hints(page, frame) | block.inline;
        rows.extend((0..hints::COUNT).map(|bit| flag(near >> bit & 1 == 1)));
        rows.extend((0..hints::COUNT).map(|bit| flag(frame.all >> bit & 1 == 1)));
    }
    rows
}

fn flag(on: bool) -> f32 {
    f32::from(u8::from(on))
}

/// Logarithm of a count, scaled so that long paragraphs are about 1.
fn log(count: u32) -> f32 {
    (1.0 + count as f32).ln() / 7.0
}

fn share(part: u32, whole: u32) -> f32 {
    part as f32 / whole.max(1) as f32
}

/// Hints of the box of a block and of the two around it.
fn near_hints(page: &Page, frame: &Frame) -> u32 {
    let parent = &page.frames[frame.parent as usize];
    frame.own | parent.own | page.frames[parent.parent as usize].own
}

/// Measures of the page that every block of it shares, and where its prose is densest.
struct Shape {
    chars: u32,
    prose: u32,
    link_chars: u32,
    /// The innermost frame that holds most of the prose.
    core: usize,
    /// Block numbers: the first title, the first and last long block.
    title: usize,
    first_long: usize,
    last_long: usize,
    /// How often the same text stands on the page, by block.
    repeats: Vec<u32>,
}

impl Shape {
    fn of(page: &Page) -> Shape {
        let body = page.frames.first();
        let long = |b: &Block| b.chars >= 80 && b.link_chars * 3 < b.chars;
        let last = page.blocks.len().saturating_sub(1);
        Shape {
            chars: body.map_or(0, |b| b.chars),
            prose: body.map_or(0, |b| b.prose),
            link_chars: body.map_or(0, |b| b.link_chars),
            core: core_of(page),
            title: page.blocks.iter().position(|b| b.kind == Kind::Title).unwrap_or(0),
            first_long: page.blocks.iter().position(long).unwrap_or(0),
            last_long: page.blocks.iter().rposition(long).unwrap_or(last),
            repeats: repeats_of(page),
        }
    }
}

/// Goes down from the body while one child holds at least two thirds of the prose.
fn core_of(page: &Page) -> usize {
    let mut core = 0;
    for (i, frame) in page.frames.iter().enumerate().skip(1) {
        let parent = &page.frames[core];
        if frame.parent as usize == core && frame.prose * 3 >= parent.prose * 2 && parent.prose > 0
        {
            core = i;
        }
    }
    core
}

fn repeats_of(page: &Page) -> Vec<u32> {
    let mut keys: Vec<(u64, usize)> = (page.blocks.iter().enumerate())
        .map(|(i, b)| (xxhash_rust::xxh3::xxh3_64(page.text_of(b).as_bytes()), i))
        .collect();
    keys.sort_unstable();
    let mut repeats = vec![0; keys.len()];
    for group in keys.chunk_by(|a, b| a.0 == b.0) {
        for (_, i) in group {
            repeats[*i] = group.len() as u32;
        }
    }
    repeats
}

/// The features that are neither kind, mark nor hint.
fn plain(page: &Page, shape: &Shape, signs: PageSigns, i: usize, out: &mut Vec<f32>) {
    let block = &page.blocks[i];
    own(page, block, out);
    let neighbour = |at: Option<usize>| at.and_then(|at| page.blocks.get(at));
    for at in [i.checked_sub(1), Some(i + 1), i.checked_sub(2), Some(i + 2)] {
        let other = neighbour(at);
        out.push(other.map_or(0.0, |b| log(b.chars)));
        out.push(other.map_or(1.0, |b| share(b.link_chars, b.chars)));
    }
    frames(page, shape, block, out);
    let count = page.blocks.len() as f32;
    let at = i as f32;
    let before_title = i < shape.title;
    let beyond = (at - shape.last_long as f32).max(0.0);
    let ahead = (shape.first_long as f32 - at).max(0.0);
    out.extend([
        at / count,
        flag(before_title),
        (beyond / 20.0).min(1.0),
        (ahead / 20.0).min(1.0),
        flag(shape.repeats[i] > 1),
        log(shape.chars) - 1.0,
        share(shape.prose, shape.chars),
        share(shape.link_chars, shape.chars),
        flag(signs.article),
        flag(signs.product),
        flag(signs.forum),
        log(shape.prose) - 0.8,
    ]);
}

/// Measures of the block alone.
fn own(page: &Page, block: &Block, out: &mut Vec<f32>) {
    let text = page.text_of(block);
    let last = text.trim_end().chars().next_back().unwrap_or(' ');
    let ends = matches!(last, '.' | '!' | '?' | '。' | '！' | '？' | '…' | '"' | '”' | '»' | '।');
    let words = block.words;
    out.extend([
        log(block.chars),
        share(block.link_chars, block.chars),
        flag(block.link_chars * 10 >= block.chars * 9),
        flag(ends),
        flag(last == ':'),
        (share(u32::from(block.commas), words) * 8.0).min(1.0),
        (share(u32::from(block.stops), words) * 8.0).min(1.0),
        share(u32::from(block.digits), block.chars),
        share(u32::from(block.capitals), block.chars).min(0.5) * 2.0,
        share(block.bold, block.chars),
        flag(words <= 2),
        flag(words >= 10),
        flag(words >= 25),
        (f32::from(block.links) / 6.0).min(1.0),
        flag(words == 0),
    ]);
}

/// Measures of the boxes around a block.
fn frames(page: &Page, shape: &Shape, block: &Block, out: &mut Vec<f32>) {
    let mut frame = &page.frames[block.frame as usize];
    for _ in 0..3 {
        frame = &page.frames[frame.parent as usize];
        out.push(share(frame.link_chars, frame.chars));
        out.push(share(frame.prose, shape.prose));
    }
    let core = &page.frames[shape.core];
    let at = block.start;
    let inside = page.blocks.get(core.first as usize).is_some_and(|b| at >= b.start)
        && page.blocks.get(core.end as usize).is_none_or(|b| at < b.start);
    out.push(flag(inside));
    out.push((f32::from(page.frames[block.frame as usize].depth) / 30.0).min(1.0));
    out.push(share(core.prose, core.chars));
}

#[cfg(test)]
mod tests {
    use super::super::{Budget, blocks, parse};
    use super::*;

    #[test]
    fn every_block_has_a_whole_row_of_finite_numbers() {
        for html in ["", "<p>one", "<nav><a href=x>a</a></nav><p>Two, three.<pre>x</pre>"] {
            let (tree, _) = parse(html, Budget::default());
            let page = blocks::flatten(&tree);
            let rows = of_page(&page, PageSigns::default());
            assert_eq!(rows.len(), page.blocks.len() * COUNT);
            assert!(rows.iter().all(|v| v.is_finite()));
        }
    }
}
