//! What the block score sees of each block: its own measures, the boxes around it, its neighbours
//! and the page. All are general properties of pages (link density, length, semantic elements,
//! hints of names, repetition, position); none names a site, none depends on a language. Numbers
//! only: what they weigh is in `model.txt`, which `examples/train_extractor.rs` makes.

use super::anchors::{self, Anchors};
use super::blocks::{Block, Frame, IN_ARTICLE, IN_MAIN, KINDS, Kind, MARKS, Page};
use super::claimed::{self, Claimed};
use super::cues::{self, Cues};
use super::hints;
use super::metadata::Claims;
use super::names::Tag;

/// Features that are neither kind, mark nor hint.
const PLAIN: usize = 86 + SORTS + PAIRS + LONE + anchors::COUNT + claimed::COUNT;
/// Features that two signs make together.
const PAIRS: usize = 8;
/// Features of a line that stands alone among paragraphs.
const LONE: usize = 12;
/// Features of the page's sort.
const SORTS: usize = 14;

/// How many features a block has.
pub const COUNT: usize = PLAIN + KINDS + MARKS + 2 * hints::COUNT + 2 * cues::COUNT;

/// What a page says of itself, as flags.
#[derive(Clone, Copy, Debug, Default)]
pub struct PageSigns {
    /// Says of itself that it is an article (og:type, schema.org).
    pub article: bool,
    /// Says of itself that it is a product.
    pub product: bool,
    /// Says of itself that it is a thread.
    pub forum: bool,
}

/// One row of `COUNT` features a block, in document order.
pub fn of_page(page: &Page, claims: &Claims) -> Vec<f32> {
    let shape = Shape::of(page, claims);
    let title = shape.title_known.then_some(shape.title);
    let anchors = Anchors::of(page, title);
    let sorts = sorts_of(page);
    let lines: Vec<u32> = page.blocks.iter().map(|b| cues::of_line(page.text_of(b))).collect();
    let heads = heads_of(page, &lines);
    let uncommented = uncommented(page);
    let claimed = Claimed::of(page, claims);
    let mut rows = Vec::with_capacity(page.blocks.len() * COUNT);
    for (i, block) in page.blocks.iter().enumerate() {
        let from = rows.len();
        own(page, block, &mut rows);
        signs_in_text(page, block, &mut rows);
        neighbours(page, i, &mut rows);
        around(page, &shape, block, &mut rows);
        landmarks(page, &shape, block, &mut rows);
        groups(&shape, i, &mut rows);
        place(page, &shape, i, &mut rows);
        whole(page, &shape, claims.signs, &mut rows);
        rows.extend(sorts);
        rows.extend(pairs(page, &anchors, claims.signs, uncommented, block));
        rows.extend(lone(page, &shape, &anchors, i, lines[i]));
        anchors.features(page, i, &mut rows);
        rows.extend(claimed.features(page, i));
        debug_assert_eq!(rows.len() - from, PLAIN);
        rows.extend((0..KINDS).map(|kind| flag(block.kind as usize == kind)));
        rows.extend((0..MARKS).map(|bit| flag(block.marks >> bit & 1 == 1)));
        let frame = &page.frames[block.frame as usize];
        let near = hints_of(page, block);
        rows.extend((0..hints::COUNT).map(|bit| flag(near >> bit & 1 == 1)));
        rows.extend((0..hints::COUNT).map(|bit| flag(frame.all >> bit & 1 == 1)));
        rows.extend((0..cues::COUNT).map(|bit| flag(lines[i] >> bit & 1 == 1)));
        rows.extend((0..cues::COUNT).map(|bit| flag(heads[i] >> bit & 1 == 1)));
    }
    rows
}

/// What sort of page it is, as shares of its characters in boxes of some names and in some kinds
/// of blocks, and shares of its blocks.
fn sorts_of(page: &Page) -> [f32; SORTS] {
    const NAMES: [u32; 8] = [
        hints::COMMENT,
        hints::FORUM,
        hints::LIST,
        hints::PRODUCT,
        hints::RELATED,
        hints::ARTICLE,
        hints::BODY,
        hints::USER,
    ];
    const LINES: [Kind; 4] = [Kind::Item, Kind::Row, Kind::Listing, Kind::Paragraph];
    let mut sums = [0u32; SORTS];
    let (mut chars, mut blocks) = (0, 0);
    for block in &page.blocks {
        let names = page.frames[block.frame as usize].all;
        for (sum, name) in sums.iter_mut().zip(NAMES) {
            *sum += if names & name != 0 { block.chars } else { 0 };
        }
        for (sum, kind) in sums[NAMES.len()..].iter_mut().zip(LINES) {
            *sum += if block.kind == kind { block.chars } else { 0 };
        }
        sums[SORTS - 2] += u32::from(block.digits >= 4 && block.words <= 8);
        sums[SORTS - 1] += u32::from(page.text_of(block).contains(['$', '€', '£']));
        chars += block.chars;
        blocks += 1;
    }
    let mut shares = [0.0; SORTS];
    for (i, (share_of, sum)) in shares.iter_mut().zip(sums).enumerate() {
        let whole = if i < SORTS - 2 { chars } else { blocks };
        *share_of = share(sum, whole);
    }
    shares
}

/// Characters of long blocks with few links that are in no box named after comments.
fn uncommented(page: &Page) -> u32 {
    let named = |b: &Block| page.frames[b.frame as usize].all & hints::COMMENT != 0;
    page.blocks.iter().filter(|b| is_long(b) && !named(b)).map(|b| b.chars).sum()
}

/// Signs that count together and not alone: comments go where there is something to comment on
/// but are the text of a thread; a box beside others goes where the page is one article.
fn pairs(
    page: &Page,
    anchors: &Anchors,
    signs: PageSigns,
    uncommented: u32,
    block: &Block,
) -> [f32; PAIRS] {
    const BESIDE: u32 = hints::RELATED | hints::SIDE | hints::AD | hints::LIST;
    let names = page.frames[block.frame as usize].all;
    let comment = names & hints::COMMENT != 0;
    let (inside, other) = (anchors.in_candidate(block), anchors.in_other_post(page, block));
    [
        flag(comment && uncommented >= 500),
        flag(comment && uncommented >= 500 && signs.article),
        flag(comment && signs.forum),
        flag(!inside && signs.article),
        flag(other && signs.article),
        flag(names & BESIDE != 0 && signs.article),
        flag(names & BESIDE != 0 && !inside),
        flag(block.link_chars * 2 >= block.chars && signs.article),
    ]
}

/// Signs of lines that stand among the paragraphs of a text and are none of them: links to other
/// pages, teasers of them, standfirsts, what an editor says below the text.
fn lone(page: &Page, shape: &Shape, anchors: &Anchors, i: usize, cues: Cues) -> [f32; LONE] {
    let block = &page.blocks[i];
    let text = page.text_of(block);
    let linked = block.link_chars * 2 >= block.chars;
    let all_linked = block.link_chars * 10 >= block.chars * 9;
    let amid = anchors.in_candidate(block) && i > shape.first_long && i < shape.last_long;
    let cut = text.ends_with("...") || text.ends_with('…') || text.ends_with(']');
    let lead = i > shape.title && i <= shape.first_long;
    let tail = i + 3 > shape.last_long;
    let italic = share(block.italic, block.chars);
    let said = cues::of_whole(text, block.words, cues);
    let [comments, sharing, subscribe, legal] = cues::SAID.map(|cue| flag(said & cue != 0));
    [
        flag(cut && block.links > 0 && shape.outer[i].blocks >= 3),
        flag(cues & cues::RELATED != 0 && cues & cues::LABEL != 0 && linked),
        flag(all_linked && block.words >= 4 && amid),
        flag(all_linked && u32::from(block.capitals) * 2 >= block.chars),
        italic,
        if tail { italic } else { 0.0 },
        flag(lead && shape.title_known && block.words >= 6),
        flag(lead && shape.description[i]),
        comments,
        sharing,
        subscribe,
        legal,
    ]
}

/// By block, the cues of the heading under which it stands: the last one before it whose box's
/// parent also holds the block.
fn heads_of(page: &Page, lines: &[u32]) -> Vec<u32> {
    let (mut cues, mut until) = (0, 0);
    let mut heads = Vec::with_capacity(lines.len());
    for (i, block) in page.blocks.iter().enumerate() {
        if matches!(block.kind, Kind::Heading | Kind::Title) {
            let own = &page.frames[block.frame as usize];
            (cues, until) = (lines[i], page.frames[own.parent as usize].end as usize);
        }
        heads.push(if i < until { cues } else { 0 });
    }
    heads
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

/// A distance in blocks, 1 from `far` on.
fn near(distance: usize, far: f32) -> f32 {
    (distance as f32 / far).min(1.0)
}

/// Hints of a block: of its box, of the two around it, and of the inline elements it begins with.
pub(super) fn hints_of(page: &Page, block: &Block) -> u32 {
    near_hints(page, &page.frames[block.frame as usize]) | block.inline
}

/// Hints of a box and of the two around it.
fn near_hints(page: &Page, frame: &Frame) -> u32 {
    let parent = &page.frames[frame.parent as usize];
    frame.own | parent.own | page.frames[parent.parent as usize].own
}

fn is_long(b: &Block) -> bool {
    b.chars >= 80 && b.link_chars * 3 < b.chars
}

/// Blocks of one shape (same elements and classes in a row of two boxes).
#[derive(Clone, Copy, Default)]
struct Group {
    blocks: u32,
    chars: u32,
    link_chars: u32,
}

/// Measures of the page that its blocks share.
struct Shape {
    chars: u32,
    prose: u32,
    link_chars: u32,
    /// The innermost frame that holds most of the prose.
    core: usize,
    /// The block that is the page's title.
    title: usize,
    /// It was found: a first heading, or a block that says what the page's title says.
    title_known: bool,
    /// First and last long block.
    first_long: usize,
    last_long: usize,
    /// How often the same text stands on the page, by block.
    repeats: Vec<u32>,
    /// Groups of blocks by the shapes of box and box around it; and one level further out.
    inner: Vec<Group>,
    outer: Vec<Group>,
    /// By frame: the nearest `article` and the nearest `main` around it (or none).
    article: Vec<Option<u32>>,
    main: Vec<Option<u32>>,
    articles: u32,
    has_main: bool,
    /// By block: blocks since the last heading, and since the last long block.
    since_heading: Vec<u32>,
    since_long: Vec<u32>,
    until_long: Vec<u32>,
    /// Which blocks hold the start of the page's description; which repeat its title.
    description: Vec<bool>,
    titles: Vec<bool>,
}

impl Shape {
    fn of(page: &Page, claims: &Claims) -> Shape {
        let body = page.frames.first();
        let last = page.blocks.len().saturating_sub(1);
        let titles = titles_of(page, claims);
        let article = nearest(page, Tag::ARTICLE);
        let main = nearest(page, Tag::MAIN);
        let is_title = |b: &Block| b.kind == Kind::Title;
        let title = (page.blocks.iter().zip(&titles).position(|(b, t)| *t && is_title(b)))
            .or_else(|| page.blocks.iter().position(is_title))
            .or_else(|| titles.iter().position(|t| *t));
        Shape {
            chars: body.map_or(0, |b| b.chars),
            prose: body.map_or(0, |b| b.prose),
            link_chars: body.map_or(0, |b| b.link_chars),
            core: core_of(page),
            title: title.unwrap_or(0),
            title_known: title.is_some(),
            first_long: page.blocks.iter().position(is_long).unwrap_or(0),
            last_long: page.blocks.iter().rposition(is_long).unwrap_or(last),
            repeats: repeats_of(page),
            inner: groups_of(page, inner_key),
            outer: groups_of(page, outer_key),
            articles: page.frames.iter().filter(|f| f.tag == Tag::ARTICLE).count() as u32,
            has_main: page.blocks.iter().any(|b| b.marks & IN_MAIN != 0),
            article,
            main,
            since_heading: since(page.blocks.iter(), |b| {
                matches!(b.kind, Kind::Heading | Kind::Title)
            }),
            since_long: since(page.blocks.iter(), is_long),
            until_long: {
                let mut until = since(page.blocks.iter().rev(), is_long);
                until.reverse();
                until
            },
            description: descriptions_of(page, claims),
            titles,
        }
    }
}

/// For each block, how many blocks ago the last one was that satisfies `wanted`.
fn since<'p>(blocks: impl Iterator<Item = &'p Block>, wanted: impl Fn(&Block) -> bool) -> Vec<u32> {
    let mut distance = 1000;
    blocks
        .map(|b| {
            let before = distance;
            distance = if wanted(b) { 1 } else { distance + 1 };
            before
        })
        .collect()
}

fn inner_key(page: &Page, frame: u32) -> u64 {
    let frame = &page.frames[frame as usize];
    frame.shape ^ page.frames[frame.parent as usize].shape.rotate_left(17)
}

fn outer_key(page: &Page, frame: u32) -> u64 {
    inner_key(page, page.frames[frame as usize].parent)
}

/// By block, the group it belongs to.
fn groups_of(page: &Page, key: impl Fn(&Page, u32) -> u64) -> Vec<Group> {
    let mut keys: Vec<(u64, usize)> =
        page.blocks.iter().enumerate().map(|(i, b)| (key(page, b.frame), i)).collect();
    keys.sort_unstable();
    let mut groups = vec![Group::default(); keys.len()];
    for members in keys.chunk_by(|a, b| a.0 == b.0) {
        let mut group = Group::default();
        for block in members.iter().map(|(_, i)| &page.blocks[*i]) {
            group.blocks += 1;
            group.chars += block.chars;
            group.link_chars += block.link_chars;
        }
        members.iter().for_each(|(_, i)| groups[*i] = group);
    }
    groups
}

/// For each frame the nearest frame of an element around it, itself included.
fn nearest(page: &Page, tag: Tag) -> Vec<Option<u32>> {
    let mut nearest: Vec<Option<u32>> = Vec::with_capacity(page.frames.len());
    for (i, frame) in page.frames.iter().enumerate() {
        let around = nearest.get(frame.parent as usize).copied().flatten();
        nearest.push(if frame.tag == tag { Some(i as u32) } else { around });
    }
    nearest
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
    let hash = |b: &Block| xxhash_rust::xxh3::xxh3_64(page.text_of(b).as_bytes());
    let mut keys: Vec<(u64, usize)> =
        page.blocks.iter().enumerate().map(|(i, b)| (hash(b), i)).collect();
    keys.sort_unstable();
    let mut repeats = vec![0; keys.len()];
    for group in keys.chunk_by(|a, b| a.0 == b.0) {
        for (_, i) in group {
            repeats[*i] = group.len() as u32;
        }
    }
    repeats
}

/// Which blocks repeat the claimed title or a good part of it.
fn titles_of(page: &Page, claims: &Claims) -> Vec<bool> {
    let title = claims.title.as_deref().unwrap_or("");
    let matches = |b: &Block| {
        let text = page.text_of(b);
        b.chars >= 6 && text.len() * 4 >= title.len() && title.contains(text)
            || (title.len() >= 12 && text.len() <= title.len() * 2 && text.contains(title))
    };
    page.blocks.iter().map(matches).collect()
}

/// Which blocks hold the start of the claimed description.
fn descriptions_of(page: &Page, claims: &Claims) -> Vec<bool> {
    let full = claims.description.as_deref().unwrap_or("");
    let cut = full.char_indices().nth(40).map_or(full.len(), |(at, _)| at);
    let start = &full[..cut];
    let holds = |b: &Block| start.len() >= 20 && page.text_of(b).contains(start);
    page.blocks.iter().map(holds).collect()
}

/// Measures of the block alone: 15.
fn own(page: &Page, block: &Block, out: &mut Vec<f32>) {
    let text = page.text_of(block);
    let last = text.trim_end().chars().next_back().unwrap_or(' ');
    let ends = ".!?。！？…\"”»।".contains(last);
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

/// Signs that mean the same in every language: 8.
fn signs_in_text(page: &Page, block: &Block, out: &mut Vec<f32>) {
    let text = page.text_of(block);
    let (mut copyright, mut money, mut bars, mut at, mut lines) = (false, false, 0u32, false, 0);
    for c in text.chars() {
        match c {
            '©' | '®' | '™' => copyright |= c == '©',
            '$' | '€' | '£' | '¥' | '₹' | '₽' | '₩' => money = true,
            '|' | '·' | '•' | '›' | '»' | '→' | '>' | '/' => bars += 1,
            '@' => at = true,
            '\n' => lines += 1,
            _ => {}
        }
    }
    let first = text.chars().next().unwrap_or(' ');
    out.extend([
        flag(copyright),
        flag(money && block.digits > 0),
        (share(bars, block.words) * 4.0).min(1.0),
        flag(at),
        near(lines, 6.0),
        flag(first.is_lowercase()),
        flag(text.ends_with("...") || text.ends_with('…')),
        flag(block.digits >= 4 && block.words <= 8),
    ]);
}

/// Length and link density of the two blocks before and after: 8.
fn neighbours(page: &Page, i: usize, out: &mut Vec<f32>) {
    for at in [i.checked_sub(1), Some(i + 1), i.checked_sub(2), Some(i + 2)] {
        let other = at.and_then(|at| page.blocks.get(at));
        out.push(other.map_or(0.0, |b| log(b.chars)));
        out.push(other.map_or(1.0, |b| share(b.link_chars, b.chars)));
    }
}

/// Measures of the boxes around a block: 17.
fn around(page: &Page, shape: &Shape, block: &Block, out: &mut Vec<f32>) {
    let own = &page.frames[block.frame as usize];
    let mut frame = own;
    for _ in 0..4 {
        frame = &page.frames[frame.parent as usize];
        out.push(share(frame.link_chars, frame.chars));
        out.push(share(frame.prose, shape.prose));
        out.push(share(frame.chars, shape.chars));
    }
    let core = &page.frames[shape.core];
    let inside = block.frame >= shape.core as u32 && in_range(page, core, block);
    out.extend([
        flag(inside),
        (f32::from(own.depth) / 30.0).min(1.0),
        share(core.prose, core.chars),
        log(own.end.saturating_sub(own.first)),
        share(own.link_blocks, own.end.saturating_sub(own.first)),
    ]);
}

fn in_range(page: &Page, frame: &Frame, block: &Block) -> bool {
    page.blocks.get(frame.first as usize).is_some_and(|b| block.start >= b.start)
        && page.blocks.get(frame.end as usize).is_none_or(|b| block.start < b.start)
}

/// Where the block stands to `main` and `article`: 10.
fn landmarks(page: &Page, shape: &Shape, block: &Block, out: &mut Vec<f32>) {
    for nearest in [&shape.article, &shape.main] {
        let frame = nearest[block.frame as usize].map(|f| &page.frames[f as usize]);
        out.push(frame.map_or(0.0, |f| share(f.chars, shape.chars)));
        out.push(frame.map_or(0.0, |f| share(f.prose, shape.prose)));
        out.push(frame.map_or(0.0, |f| share(f.link_chars, f.chars)));
    }
    out.extend([
        flag(shape.has_main && block.marks & IN_MAIN == 0),
        flag(shape.articles == 1 && block.marks & IN_ARTICLE == 0),
        flag(shape.articles == 1 && block.marks & IN_ARTICLE != 0),
        flag(shape.articles >= 3 && block.marks & IN_ARTICLE != 0),
    ]);
}

/// Repetition of the box's shape (menus, cards, posts) and of the text: 9.
fn groups(shape: &Shape, i: usize, out: &mut Vec<f32>) {
    for group in [shape.inner[i], shape.outer[i]] {
        out.extend([
            log(group.blocks),
            share(group.chars, shape.chars),
            log(group.chars / group.blocks.max(1)),
            share(group.link_chars, group.chars),
        ]);
    }
    out.push(flag(shape.repeats[i] > 1));
}

/// Position on the page: 12.
fn place(page: &Page, shape: &Shape, i: usize, out: &mut Vec<f32>) {
    let count = page.blocks.len() as f32;
    out.extend([
        i as f32 / count,
        flag(i < shape.title),
        near(i.saturating_sub(shape.last_long), 20.0),
        near(shape.first_long.saturating_sub(i), 20.0),
        near(i.saturating_sub(shape.title), 40.0),
        flag(i == shape.title),
        flag(shape.titles[i]),
        flag(shape.description[i]),
        near(shape.since_heading[i] as usize, 10.0),
        near(shape.since_long[i] as usize, 10.0),
        near(shape.until_long[i] as usize, 10.0),
        near(page.blocks.len() - i, 20.0),
    ]);
}

/// The page as a whole: 7.
fn whole(page: &Page, shape: &Shape, signs: PageSigns, out: &mut Vec<f32>) {
    out.extend([
        log(shape.chars) - 1.0,
        share(shape.prose, shape.chars),
        share(shape.link_chars, shape.chars),
        flag(signs.article),
        flag(signs.product),
        flag(signs.forum),
        log(page.blocks.len() as u32),
    ]);
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
            let rows = of_page(&page, &Claims::default());
            assert_eq!(rows.len(), page.blocks.len() * COUNT);
            assert!(rows.iter().all(|v| v.is_finite()));
        }
    }
}
