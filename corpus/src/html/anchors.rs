//! Where a block stands to the two anchors of a page: its title, and the box in which paragraphs
//! are densest (the candidate). For each the question is how far one must go out from the anchor
//! until the block is in the same box, and how much prose one had before: what stands outside the
//! box that already holds title and prose is rarely main text. And: is the block in one of several
//! boxes of one kind (posts, comments, cards), and is it the one with the title? Measures only;
//! what they weigh is learned. The candidate's score is that of Readability (Arc90, 2009).

use super::blocks::{Block, Frame, Kind, Page};
use super::hints;
use super::names::Tag;

/// Features of an anchor, of boxes of one kind, and in all.
const OF_ANCHOR: usize = 7;
const OF_PEERS: usize = 7;
pub const COUNT: usize = 2 * OF_ANCHOR + 2 * OF_PEERS + 3;

/// What is known of a page before its blocks are asked for.
pub struct Anchors {
    title: Anchor,
    candidate: Anchor,
    /// By frame: the outermost and the innermost box around it that has others of its kind.
    outer: Vec<Option<u32>>,
    inner: Vec<Option<u32>>,
    peers: Vec<Peers>,
    /// Prose before each block, in characters; one more for the end.
    prose: Vec<u32>,
    title_known: bool,
    title_block: usize,
}

/// A frame and what is around it.
struct Anchor {
    frame: u32,
    /// By frame: the innermost frame around both it and the anchor, and the steps from the anchor
    /// up to that frame.
    common: Vec<(u32, u16)>,
    /// The anchor and the frames around it, innermost first.
    chain: Vec<u32>,
}

/// Boxes of one kind side by side: how many, this one's place among them, prose in all.
#[derive(Clone, Copy, Default)]
struct Peers {
    count: u32,
    place: u32,
    prose: u32,
}

impl Anchors {
    /// `title`: the block that is the page's title, if one is.
    pub fn of(page: &Page, title: Option<usize>) -> Anchors {
        let candidate = candidate_of(page);
        let title_frame = title.map_or(candidate, |i| page.blocks[i].frame);
        let peers = peers_of(page);
        let mut prose = vec![0];
        for block in &page.blocks {
            let so_far = prose.last().copied().unwrap_or(0);
            prose.push(so_far + if is_prose(block) { block.chars } else { 0 });
        }
        let mut outer: Vec<Option<u32>> = Vec::with_capacity(page.frames.len());
        let mut inner: Vec<Option<u32>> = Vec::with_capacity(page.frames.len());
        for (i, frame) in page.frames.iter().enumerate() {
            let above = frame.parent as usize;
            let own = (peers[i].count >= 2).then_some(i as u32);
            outer.push(outer.get(above).copied().flatten().or(own));
            inner.push(own.or(inner.get(above).copied().flatten()));
        }
        Anchors {
            title: Anchor::of(page, title_frame),
            candidate: Anchor::of(page, candidate),
            outer,
            inner,
            peers,
            prose,
            title_known: title.is_some(),
            title_block: title.unwrap_or(0),
        }
    }

    /// Whether the block stands in the candidate.
    pub fn in_candidate(&self, block: &Block) -> bool {
        self.candidate.common[block.frame as usize].1 == 0
    }

    /// Whether the block stands in one of three or more boxes of one kind, but not in the one that
    /// holds the title.
    pub fn in_other_post(&self, page: &Page, block: &Block) -> bool {
        let Some(member) = self.outer[block.frame as usize] else { return false };
        let frame = &page.frames[member as usize];
        self.peers[member as usize].count >= 3
            && !(frame.first..frame.end).contains(&(self.title_block as u32))
    }

    /// Appends the `COUNT` features of block `i`.
    pub fn features(&self, page: &Page, i: usize, out: &mut Vec<f32>) {
        let block = &page.blocks[i];
        let whole = self.prose.last().copied().unwrap_or(0);
        for anchor in [&self.title, &self.candidate] {
            anchor.features(page, block, whole, out);
        }
        for member in [&self.outer, &self.inner] {
            self.of_member(page, member[block.frame as usize], whole, out);
        }
        let box_of = &page.frames[self.candidate.frame as usize];
        let at = |block: u32| self.prose.get(block as usize).copied().unwrap_or(whole);
        let (from, to) = (at(box_of.first), at(box_of.end));
        let here = self.prose[i].clamp(from, to);
        out.extend([
            share(here - from, to - from),
            share(self.prose[i], whole),
            if self.title_known { 1.0 } else { 0.0 },
        ]);
    }

    fn of_member(&self, page: &Page, member: Option<u32>, whole: u32, out: &mut Vec<f32>) {
        let Some(member) = member else {
            out.extend([0.0; OF_PEERS]);
            return;
        };
        let peers = self.peers[member as usize];
        let frame = &page.frames[member as usize];
        let title = self.title_block as u32;
        let with_title = self.title_known && (frame.first..frame.end).contains(&title);
        out.extend([
            (1.0 + peers.count as f32).ln() / 4.0,
            if peers.place == 0 { 1.0 } else { 0.0 },
            if with_title { 1.0 } else { 0.0 },
            share(peers.prose, whole),
            share(frame.prose, peers.prose),
            share(frame.link_blocks, frame.end - frame.first),
            share(frame.link_chars, frame.chars),
        ]);
    }
}

impl Anchor {
    fn of(page: &Page, frame: u32) -> Anchor {
        let mut chain = Vec::new();
        let mut at = frame;
        while let Some(next) = page.frames.get(at as usize) {
            chain.push(at);
            if next.parent == at {
                break;
            }
            at = next.parent;
        }
        let mut step_of = vec![u16::MAX; page.frames.len()];
        for (step, &frame) in chain.iter().enumerate() {
            step_of[frame as usize] = step.min(u16::MAX as usize - 1) as u16;
        }
        let mut common: Vec<(u32, u16)> = Vec::with_capacity(page.frames.len());
        for (i, frame) in page.frames.iter().enumerate() {
            let step = step_of[i];
            let above = common.get(frame.parent as usize).copied().unwrap_or((0, 0));
            common.push(if step == u16::MAX { above } else { (i as u32, step) });
        }
        Anchor { frame, common, chain }
    }

    fn features(&self, page: &Page, block: &Block, whole: u32, out: &mut Vec<f32>) {
        let (common, steps) = self.common[block.frame as usize];
        let common = &page.frames[common as usize];
        let below = steps.checked_sub(1).and_then(|s| self.chain.get(s as usize));
        let had = below.map_or(0, |&f| page.frames[f as usize].prose);
        let own = page.frames[block.frame as usize].depth;
        out.extend([
            (f32::from(steps) / 8.0).min(1.0),
            if steps == 0 { 1.0 } else { 0.0 },
            share(common.prose, whole),
            share(had, whole),
            (1.0 + had as f32).ln() / 10.0,
            share(had, common.prose),
            (f32::from(own.saturating_sub(common.depth)) / 8.0).min(1.0),
        ]);
    }
}

fn share(part: u32, whole: u32) -> f32 {
    part as f32 / whole.max(1) as f32
}

fn is_prose(block: &Block) -> bool {
    block.chars >= 80 && block.link_chars * 3 < block.chars
}

/// The frame with the greatest sum of paragraph scores, of which the box around a paragraph gets
/// all and the next one half.
fn candidate_of(page: &Page) -> u32 {
    let mut scores = vec![0f32; page.frames.len()];
    for block in page.blocks.iter().filter(|b| b.chars >= 25) {
        let worth = 1.0 + f32::from(block.commas) + (block.chars as f32 / 100.0).min(3.0);
        let worth = worth * (1.0 - share(block.link_chars, block.chars));
        let mut frame = block.frame;
        if matches!(block.kind, Kind::Paragraph | Kind::Item | Kind::Row) {
            frame = page.frames[frame as usize].parent;
        }
        scores[frame as usize] += worth;
        let above = page.frames[frame as usize].parent;
        if above != frame {
            scores[above as usize] += worth / 2.0;
        }
    }
    let mut best = (0f32, 0u32);
    for (i, (frame, score)) in page.frames.iter().zip(&scores).enumerate() {
        let score = score * (1.0 - share(frame.link_chars, frame.chars)) * likelihood(frame);
        if score > best.0 {
            best = (score, i as u32);
        }
    }
    best.1
}

/// What the names around a frame are worth for the candidate.
fn likelihood(frame: &Frame) -> f32 {
    const AGAINST: u32 = hints::NAV
        | hints::FOOT
        | hints::SIDE
        | hints::COOKIE
        | hints::COMMENT
        | hints::RELATED
        | hints::MODAL
        | hints::AD;
    let against = (frame.all & AGAINST).count_ones();
    let outside = matches!(frame.tag, Tag::NAV | Tag::FOOTER | Tag::ASIDE | Tag::HEADER);
    1.0 / (1.0 + against as f32 + if outside { 2.0 } else { 0.0 })
}

/// For each frame the boxes beside it that are of its kind: same element, same hints of names
/// (but for articles and items, whose names often hold their categories), two blocks or more,
/// prose in them.
fn peers_of(page: &Page) -> Vec<Peers> {
    let mut keys: Vec<(u32, u16, u32, usize)> = Vec::new();
    for (i, frame) in page.frames.iter().enumerate().skip(1) {
        if frame.prose > 0 && frame.end - frame.first >= 2 {
            let named = !matches!(frame.tag, Tag::ARTICLE | Tag::LI);
            keys.push((frame.parent, frame.tag.0, if named { frame.own } else { 0 }, i));
        }
    }
    keys.sort_unstable();
    let mut peers = vec![Peers::default(); page.frames.len()];
    for group in keys.chunk_by(|a, b| (a.0, a.1, a.2) == (b.0, b.1, b.2)) {
        let prose = group.iter().map(|k| page.frames[k.3].prose).sum();
        for (place, key) in group.iter().enumerate() {
            peers[key.3] = Peers { count: group.len() as u32, place: place as u32, prose };
        }
    }
    peers
}

#[cfg(test)]
mod tests {
    use super::super::{Budget, blocks, parse};
    use super::*;

    const PROSE: &str = "A long enough line of prose, with a comma, that counts as a paragraph of \
        the text and not as a label.";

    fn page_of(html: &str) -> Page {
        blocks::flatten(&parse(html, Budget::default()).0)
    }

    #[test]
    fn the_box_with_the_title_is_told_from_its_peers() {
        let post = |title: &str| format!("<div class=post><h2>{title}</h2><p>{PROSE}</p></div>");
        let page = page_of(&format!("<body>{}{}{}", post("A"), post("B"), post("C")));
        let anchors = Anchors::of(&page, Some(0));
        let row = |i: usize| {
            let mut out = Vec::new();
            anchors.features(&page, i, &mut out);
            assert_eq!(out.len(), COUNT);
            out
        };
        let member = 2 * OF_ANCHOR;
        assert_eq!(row(1)[member + 1..member + 3], [1.0, 1.0]);
        assert_eq!(row(3)[member + 1..member + 3], [0.0, 0.0]);
        // the second post is further out from the title than the first
        assert!(row(3)[0] > row(1)[0]);
    }

    #[test]
    fn the_candidate_is_the_box_of_the_paragraphs() {
        let side =
            "<div class=sidebar><p>Short, but, with, commas, in it, it is not much.</p></div>";
        let page = page_of(&format!("<body>{side}<div id=x><p>{PROSE}</p><p>{PROSE}</p></div>"));
        let candidate = candidate_of(&page);
        assert_eq!(page.frames[candidate as usize].prose, page.frames[0].prose);
        assert!(candidate > 0);
    }
}
