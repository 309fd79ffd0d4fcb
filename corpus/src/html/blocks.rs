//! A tree as the flat list of its text blocks (paragraph, heading, list item, table row, listing),
//! each with what the block score needs, and the frames (boxes) that hold them. One iterative walk
//! in document order; it decides nothing about what is main text.

use super::hints::{self, Hints};
use super::margin;
use super::math::{self, Drawn};
use super::names::*;
use super::raised;
use super::tree::{NONE, NodeId, ROOT, Space, Tree};

/// Marks: which elements a block stands in.
pub type Marks = u32;
/// In `nav`.
pub const IN_NAV: Marks = 1;
/// In `footer` that is not an article's own.
pub const IN_FOOTER: Marks = 1 << 1;
/// In `header`.
pub const IN_HEADER: Marks = 1 << 2;
/// In `aside`.
pub const IN_ASIDE: Marks = 1 << 3;
/// In `form`.
pub const IN_FORM: Marks = 1 << 4;
/// In `article`.
pub const IN_ARTICLE: Marks = 1 << 5;
/// In `main`.
pub const IN_MAIN: Marks = 1 << 6;
/// In `section`.
pub const IN_SECTION: Marks = 1 << 7;
/// In a table.
pub const IN_TABLE: Marks = 1 << 8;
/// In a list item.
pub const IN_ITEM: Marks = 1 << 9;
/// In a figure or its caption.
pub const IN_FIGURE: Marks = 1 << 10;
/// In a button or label.
pub const IN_BUTTON: Marks = 1 << 11;
/// In a dialogue.
pub const IN_DIALOG: Marks = 1 << 12;
/// In a quotation.
pub const IN_QUOTE: Marks = 1 << 13;
/// In preformatted text.
pub const IN_PRE: Marks = 1 << 14;
/// In `details`.
pub const IN_DETAILS: Marks = 1 << 15;
/// In a definition list.
pub const IN_DL: Marks = 1 << 16;
/// In an element that is not displayed.
pub const IN_HIDDEN: Marks = 1 << 17;
/// In an element hidden from assistive technology.
pub const IN_ARIA_HIDDEN: Marks = 1 << 18;
/// In `address`.
pub const IN_ADDRESS: Marks = 1 << 19;
/// In a box around blocks that is a link.
pub const IN_LINK: Marks = 1 << 20;
/// In `noscript`.
pub const IN_NOSCRIPT: Marks = 1 << 21;
/// In a box that says it is the body of an article (`itemprop`).
pub const IN_BODY: Marks = 1 << 22;
/// How many marks there are.
pub const MARKS: usize = 23;

/// What sort of line a block is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Text directly in a `div` or the like.
    Plain,
    /// `p`.
    Paragraph,
    /// `h1`.
    Title,
    /// `h2` to `h6`.
    Heading,
    /// `li`.
    Item,
    /// `dt`, `dd`.
    Definition,
    /// A table row or cell.
    Row,
    /// `pre`.
    Listing,
    /// `figcaption`, `caption`, `legend`, `summary`.
    Caption,
}

/// How many kinds there are.
pub const KINDS: usize = 9;

/// A line of text with its measures.
#[derive(Clone, Debug)]
pub struct Block {
    /// Range in `Page::text`.
    pub start: u32,
    /// End of the range.
    pub end: u32,
    /// The frame it stands in.
    pub frame: u32,
    /// What it is.
    pub kind: Kind,
    /// Elements around it.
    pub marks: Marks,
    /// Hints of inline elements that begin with the block.
    pub inline: Hints,
    /// Characters but white space.
    pub chars: u32,
    /// Of them, in links.
    pub link_chars: u32,
    /// Links that begin in it.
    pub links: u16,
    /// Words (a CJK character counts as half a word).
    pub words: u32,
    /// Commas and the like.
    pub commas: u16,
    /// Ends of sentences.
    pub stops: u16,
    /// Digits.
    pub digits: u16,
    /// Upper-case letters.
    pub capitals: u16,
    /// Characters in bold.
    pub bold: u32,
    /// Characters in italics.
    pub italic: u32,
}

/// A box of the page: an element that may hold blocks, with sums over what it holds.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its element.
    pub node: NodeId,
    /// The frame around it (its own number for the outermost).
    pub parent: u32,
    /// Element name.
    pub tag: Tag,
    /// Hash of its element and class names: boxes of one sort have one shape.
    pub shape: u64,
    /// Hints of its own names.
    pub own: Hints,
    /// Hints of its names and of those around it.
    pub all: Hints,
    /// Elements around it, itself among them.
    pub marks: Marks,
    /// How many frames are around it.
    pub depth: u16,
    /// First block in it.
    pub first: u32,
    /// One past the last block in it.
    pub end: u32,
    /// Characters in it.
    pub chars: u32,
    /// Characters of links in it.
    pub link_chars: u32,
    /// Characters of long blocks with few links in it.
    pub prose: u32,
    /// Blocks in it that are links from end to end.
    pub link_blocks: u32,
}

/// The blocks and frames of a page.
#[derive(Default)]
pub struct Page {
    /// All text, block after block.
    pub text: String,
    /// Blocks in document order.
    pub blocks: Vec<Block>,
    /// Frames in document order; the first is the body.
    pub frames: Vec<Frame>,
    /// Formulas whose source was found.
    pub formulas: u32,
}

impl Page {
    /// The text of a block.
    pub fn text_of(&self, block: &Block) -> &str {
        self.text.get(block.start as usize..block.end as usize).unwrap_or("")
    }
}

/// Flattens a tree.
pub fn flatten(tree: &Tree) -> Page {
    let body = find_body(tree);
    let mut walk = Walk::new(tree);
    walk.run(body);
    let Walk { text, blocks, frames, formulas, .. } = walk;
    let mut page = Page { text, blocks, frames, formulas };
    sum_up(&mut page);
    page
}

fn find_body(tree: &Tree) -> NodeId {
    let mut html = tree.node(ROOT).first;
    while html != NONE && tree.node(html).tag != Tag::HTML {
        html = tree.node(html).next;
    }
    let mut at = if html == NONE { NONE } else { tree.node(html).first };
    while at != NONE && tree.node(at).tag != Tag::BODY {
        at = tree.node(at).next;
    }
    if at == NONE { ROOT } else { at }
}

/// Adds each frame's sums to the frame around it (frames stand in document order, so children come
/// after their parents).
fn sum_up(page: &mut Page) {
    for block in &page.blocks {
        let frame = &mut page.frames[block.frame as usize];
        frame.chars += block.chars;
        frame.link_chars += block.link_chars;
        if block.chars >= 80 && block.link_chars * 3 < block.chars {
            frame.prose += block.chars;
        }
        frame.link_blocks += u32::from(block.link_chars * 10 >= block.chars * 9);
    }
    for i in (1..page.frames.len()).rev() {
        let Frame { parent, chars, link_chars, prose, link_blocks, .. } = page.frames[i];
        let parent = &mut page.frames[parent as usize];
        parent.chars += chars;
        parent.link_chars += link_chars;
        parent.prose += prose;
        parent.link_blocks += link_blocks;
    }
}

struct Walk<'t, 'a> {
    tree: &'t Tree<'a>,
    text: String,
    blocks: Vec<Block>,
    frames: Vec<Frame>,
    /// Open frames, innermost last.
    stack: Vec<u32>,
    /// Where the block that is being gathered begins; it has text if `text` is longer.
    start: usize,
    current: Block,
    links: u32,
    bold: u32,
    italic: u32,
    formulas: u32,
    pre: u32,
    /// Open `code`, `samp`, `kbd` and `tt`: in them a no-break space is an indentation.
    code: u32,
    /// The block that is being gathered has text with its white space kept.
    listing: bool,
    /// How many nodes may yet be looked at for the sources of drawn formulas.
    search: usize,
    buttons: u32,
    /// White space is owed before the next text.
    space: bool,
    /// An inline element was closed and nothing came after it yet.
    closed: bool,
    /// A cell ended: a tab is owed before the next text of the row.
    tab: bool,
}

impl<'t, 'a> Walk<'t, 'a> {
    fn new(tree: &'t Tree<'a>) -> Walk<'t, 'a> {
        Walk {
            tree,
            text: String::with_capacity(tree.source.len() / 8),
            blocks: Vec::with_capacity(256),
            frames: Vec::with_capacity(512),
            stack: Vec::new(),
            start: 0,
            current: empty_block(),
            links: 0,
            bold: 0,
            italic: 0,
            formulas: 0,
            pre: 0,
            code: 0,
            listing: false,
            search: 2 * tree.nodes.len(),
            buttons: 0,
            space: false,
            closed: false,
            tab: false,
        }
    }

    fn run(&mut self, body: NodeId) {
        let mut at = body;
        loop {
            let inside = self.enter(at);
            let first = self.tree.node(at).first;
            if inside && first != NONE {
                at = first;
                continue;
            }
            if inside {
                self.leave(at);
            }
            loop {
                if at == body {
                    self.flush();
                    self.close_frames();
                    return;
                }
                let node = self.tree.node(at);
                if node.next != NONE {
                    at = node.next;
                    break;
                }
                at = node.parent;
                self.leave(at);
            }
        }
    }

    fn close_frames(&mut self) {
        while let Some(frame) = self.stack.pop() {
            self.frames[frame as usize].end = self.blocks.len() as u32;
        }
    }

    /// Enters a node; false if what is below it is not to be read (then it is not left either).
    fn enter(&mut self, id: NodeId) -> bool {
        let node = self.tree.node(id);
        if node.tag == Tag::TEXT {
            self.add_text(id);
            return false;
        }
        if node.space == Space::Math
            && node.tag == Tag::MATH
            && let Some(source) = math::of_element(self.tree, id)
        {
            self.formula(&source);
            return false;
        }
        let tag = node.tag;
        if tag.has(UNREAD) && (tag != Tag::BUTTON || self.pre > 0) {
            if tag == Tag::SCRIPT {
                self.script(id);
            }
            return false;
        }
        match math::drawn(self.tree, id, &mut self.search) {
            Drawn::No => {}
            Drawn::BesideSource => return false,
            Drawn::Around(source) => {
                self.formula(&source);
                return false;
            }
        }
        if margin::is_margin(self.tree, id, self.pre > 0) {
            return false;
        }
        if matches!(tag, Tag::SUP | Tag::SUB) && self.raised(id) {
            return false;
        }
        match tag {
            Tag::BR => self.line_break(),
            Tag::IMG => self.image(id),
            Tag::TITLE | Tag::WBR | Tag::RP => return tag == Tag::WBR,
            Tag::HR => self.flush(),
            _ if self.is_frame(tag) => return self.enter_frame(id),
            _ => return self.enter_inline(id),
        }
        false
    }

    fn formula(&mut self, source: &str) {
        self.formulas += 1;
        self.add_words(source);
    }

    /// Writes a superscript or subscript with its sign, if it needs one.
    fn raised(&mut self, id: NodeId) -> bool {
        if self.pre > 0 || self.space || self.tab {
            return false;
        }
        let before = self.text.get(self.start..).unwrap_or("");
        let Some(written) = raised::of(self.tree, id, before) else { return false };
        self.closed = false;
        self.add_words(&written);
        true
    }

    fn script(&mut self, id: NodeId) {
        if let Some(source) = math::of_script(self.tree, id) {
            self.formula(&source);
        }
    }

    fn image(&mut self, id: NodeId) {
        if let Some(source) = math::of_image(self.tree, id) {
            self.formula(&source);
        }
    }

    fn line_break(&mut self) {
        if self.pre > 0 {
            self.text.push('\n');
        } else if self.has_text() {
            self.trim();
            self.text.push('\n');
            self.space = false;
        }
    }

    fn enter_frame(&mut self, id: NodeId) -> bool {
        let tag = self.tree.node(id).tag;
        let (mut own, mut marks) = self.names_of(id);
        if tag == Tag::BLOCKQUOTE {
            // a quoted post (`twitter-tweet`) is no bar of buttons
            own &= !hints::SHARE;
        }
        let parent = self.stack.last().copied();
        let (all, around, depth) = match parent {
            Some(p) => {
                let p = &self.frames[p as usize];
                (p.all | own, p.marks, p.depth + 1)
            }
            None => (0, 0, 0),
        };
        marks |= around | mark_of(tag);
        if self.links > 0 {
            marks |= IN_LINK;
        }
        let cell = matches!(tag, Tag::TD | Tag::TH);
        if cell {
            self.tab = self.has_text();
        } else if self.pre > 0 {
            self.new_line();
        } else {
            self.flush();
        }
        let number = self.frames.len() as u32;
        self.frames.push(Frame {
            node: id,
            parent: parent.unwrap_or(number),
            tag,
            shape: self.shape_of(id),
            own,
            all,
            marks,
            depth,
            first: self.blocks.len() as u32,
            end: 0,
            chars: 0,
            link_chars: 0,
            prose: 0,
            link_blocks: 0,
        });
        self.stack.push(number);
        self.pre += u32::from(is_pre(tag) || margin::is_code_cell(self.tree, id));
        true
    }

    fn shape_of(&self, id: NodeId) -> u64 {
        let class = self.tree.attr(id, Attr::Class).unwrap_or("");
        let tag = u64::from(self.tree.node(id).tag.0);
        xxhash_rust::xxh3::xxh3_64_with_seed(class.trim().as_bytes(), tag)
    }

    /// The hints and marks that the attributes of an element give.
    fn names_of(&self, id: NodeId) -> (Hints, Marks) {
        let (mut own, mut marks) = (0, 0);
        let body = self.tree.node(id).tag == Tag::BODY;
        for (name, value) in self.tree.attrs_of(id) {
            let value = self.tree.slice(*value);
            match name {
                // the names of the body describe the page, not a box of it
                Attr::Class | Attr::Id if !body => own |= hints::of_names(value),
                Attr::Role => own |= hints::of_role(value),
                Attr::Itemprop => {
                    own |= hints::of_itemprop(value);
                    marks |= if value.contains("articleBody") { IN_BODY } else { 0 };
                }
                Attr::Hidden => marks |= IN_HIDDEN,
                Attr::AriaHidden if value == "true" => marks |= IN_ARIA_HIDDEN,
                Attr::AriaModal => own |= hints::MODAL,
                Attr::Style if hides(value) => marks |= IN_HIDDEN,
                _ => {}
            }
        }
        (own, marks)
    }

    fn enter_inline(&mut self, id: NodeId) -> bool {
        let tag = self.tree.node(id).tag;
        let (own, marks) = self.names_of(id);
        if marks & (IN_HIDDEN | IN_ARIA_HIDDEN) != 0 || own & hints::UNSEEN != 0 {
            return false;
        }
        if own & hints::MODAL != 0 && self.tree.attr(id, Attr::Class).is_some_and(hints::is_hover) {
            return false;
        }
        if !self.has_text() {
            self.current.inline |= own;
        }
        match tag {
            Tag::A => {
                self.links += 1;
                self.current.links = self.current.links.saturating_add(1);
            }
            Tag::B | Tag::STRONG => self.bold += 1,
            Tag::I | Tag::EM => self.italic += 1,
            Tag::CODE | Tag::SAMP | Tag::KBD | Tag::TT => self.code += 1,
            Tag::BUTTON | Tag::LABEL => {
                self.space = true;
                self.buttons += 1;
            }
            _ => {}
        }
        true
    }

    fn leave(&mut self, id: NodeId) {
        let tag = self.tree.node(id).tag;
        if self.is_frame(tag) {
            let cell = matches!(tag, Tag::TD | Tag::TH);
            if cell {
                self.tab = self.has_text();
            } else if self.pre > 0 && !is_pre(tag) {
                self.new_line();
            } else {
                self.flush();
            }
            if is_pre(tag) || margin::is_code_cell(self.tree, id) {
                self.pre = self.pre.saturating_sub(1);
            }
            if let Some(frame) = self.stack.pop() {
                self.frames[frame as usize].end = self.blocks.len() as u32;
            }
            return;
        }
        match tag {
            Tag::A => self.links = self.links.saturating_sub(1),
            Tag::B | Tag::STRONG => self.bold = self.bold.saturating_sub(1),
            Tag::I | Tag::EM => self.italic = self.italic.saturating_sub(1),
            Tag::CODE | Tag::SAMP | Tag::KBD | Tag::TT => self.code = self.code.saturating_sub(1),
            Tag::BUTTON | Tag::LABEL => {
                self.space = true;
                self.buttons = self.buttons.saturating_sub(1);
            }
            _ => {}
        }
        self.closed = true;
    }

    /// Elements that are boxes: block level, cells, and names of the author's own (`x-card`; not
    /// the `mjx-` of drawn formulas, which stand in lines).
    fn is_frame(&self, tag: Tag) -> bool {
        tag.has(BLOCK)
            || matches!(tag, Tag::TD | Tag::TH)
            || (tag.0 as usize >= KNOWN && !self.tree.custom_name(tag).starts_with("mjx-"))
    }

    fn has_text(&self) -> bool {
        self.text.len() > self.start
    }

    fn add_text(&mut self, id: NodeId) {
        let tree = self.tree;
        let text = tree.text(id);
        if self.pre > 0 {
            self.add_pre(text);
        } else {
            self.add_words(text);
        }
    }

    fn add_pre(&mut self, text: &str) {
        let before = self.text.len();
        self.listing = true;
        if text.contains(['\r', '\0', '\u{a0}']) {
            let text = text.replace("\r\n", "\n").replace('\r', "\n").replace('\0', "");
            let text = text.replace('\u{a0}', " ");
            self.text.push_str(&text);
        } else {
            self.text.push_str(text);
        }
        self.count((self.text.len() - before) as u32);
    }

    fn count(&mut self, chars: u32) {
        if self.links > 0 {
            self.current.link_chars += chars;
        }
        if self.bold > 0 {
            self.current.bold += chars;
        }
        if self.italic > 0 {
            self.current.italic += chars;
        }
        if self.buttons > 0 {
            self.current.marks |= IN_BUTTON;
        }
    }

    /// Adds text with its white space folded.
    fn add_words(&mut self, text: &str) {
        let mut chars = 0;
        for c in text.chars() {
            if c.is_whitespace() || c == '\0' {
                if c == '\u{a0}' && self.code > 0 && self.has_text() {
                    self.text.push(' ');
                } else {
                    self.space |= c != '\0';
                }
                continue;
            }
            if is_invisible(c) {
                continue;
            }
            if self.closed || self.space || self.tab {
                self.separate(c);
            }
            self.text.push(c);
            chars += 1;
        }
        if chars > 0 {
            self.count(chars);
        }
    }

    /// Writes the white space that is owed before `next`.
    fn separate(&mut self, next: char) {
        let last = if self.has_text() { self.text.chars().next_back() } else { None };
        if let Some(last) = last {
            if self.tab {
                self.text.push('\t');
            } else if self.space {
                if last != '\n' {
                    self.text.push(' ');
                }
            } else if self.closed && next.is_uppercase() && last.is_lowercase() {
                // two boxes side by side, kept apart by a style sheet: "ReviewsDetails"
                self.text.push(' ');
            }
        }
        (self.space, self.closed, self.tab) = (false, false, false);
    }

    fn trim(&mut self) {
        while self.has_text() && self.text.ends_with([' ', '\t']) {
            self.text.pop();
        }
    }

    fn new_line(&mut self) {
        if self.has_text() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
    }

    /// Ends the block that is being gathered.
    fn flush(&mut self) {
        if self.pre > 0 {
            let trimmed = self.text.trim_end().len().max(self.start);
            self.text.truncate(trimmed);
        } else {
            while self.has_text() && self.text.ends_with(['\n', ' ', '\t']) {
                self.text.pop();
            }
        }
        (self.space, self.closed, self.tab) = (false, false, false);
        let listing = std::mem::take(&mut self.listing) || self.pre > 0;
        let mut block = std::mem::replace(&mut self.current, empty_block());
        if !self.has_text() {
            return;
        }
        let frame = self.stack.last().copied().unwrap_or(0);
        block.start = self.start as u32;
        block.end = self.text.len() as u32;
        block.frame = frame;
        if let Some(frame) = self.frames.get(frame as usize) {
            block.marks |= frame.marks;
            block.kind = if listing { Kind::Listing } else { kind_of(frame.tag) };
        }
        measure(&mut block, &self.text[self.start..]);
        self.start = self.text.len();
        if block.chars > 0 {
            self.blocks.push(block);
        }
    }
}

fn empty_block() -> Block {
    Block {
        start: 0,
        end: 0,
        frame: 0,
        kind: Kind::Plain,
        marks: 0,
        inline: 0,
        chars: 0,
        link_chars: 0,
        links: 0,
        words: 0,
        commas: 0,
        stops: 0,
        digits: 0,
        capitals: 0,
        bold: 0,
        italic: 0,
    }
}

/// Counts what the block score asks for.
fn measure(block: &mut Block, text: &str) {
    let (mut wide, mut in_word) = (0u32, false);
    for c in text.chars() {
        if c.is_whitespace() {
            in_word = false;
            continue;
        }
        block.chars += 1;
        if is_ideograph(c) {
            wide += 1;
            in_word = false;
        } else if c.is_alphanumeric() {
            block.words += u32::from(!in_word);
            in_word = true;
            block.digits = block.digits.saturating_add(u16::from(c.is_ascii_digit()));
            block.capitals = block.capitals.saturating_add(u16::from(c.is_uppercase()));
        } else {
            match c {
                ',' | ';' | '،' | '、' | '，' | '；' => {
                    block.commas = block.commas.saturating_add(1);
                }
                '.' | '!' | '?' | '。' | '！' | '？' | '؟' | '।' | '…' => {
                    block.stops = block.stops.saturating_add(1);
                }
                _ => {}
            }
        }
    }
    block.words += wide.div_ceil(2);
    block.link_chars = block.link_chars.min(block.chars);
    block.bold = block.bold.min(block.chars);
    block.italic = block.italic.min(block.chars);
}

fn is_ideograph(c: char) -> bool {
    matches!(c as u32, 0x3040..=0x30ff | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff
        | 0x0e00..=0x0eff | 0x1780..=0x17ff | 0x20000..=0x3ffff)
}

/// Soft hyphens, zero-width marks, byte order marks: nothing a reader sees. Joiners stay, some
/// scripts need them.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}' | '\u{2060}' | '\u{feff}' | '\u{200e}' | '\u{200f}')
}

fn is_pre(tag: Tag) -> bool {
    matches!(tag, Tag::PRE | Tag::LISTING | Tag::XMP | Tag::PLAINTEXT)
}

fn hides(style: &str) -> bool {
    let mut compact = String::with_capacity(style.len());
    compact.extend(style.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_ascii_lowercase()));
    compact.contains("display:none") || compact.contains("visibility:hidden")
}

fn kind_of(tag: Tag) -> Kind {
    match tag {
        Tag::P => Kind::Paragraph,
        Tag::H1 => Kind::Title,
        _ if tag.is_heading() => Kind::Heading,
        Tag::LI => Kind::Item,
        Tag::DT | Tag::DD => Kind::Definition,
        Tag::TR | Tag::TD | Tag::TH | Tag::TBODY => Kind::Row,
        Tag::FIGCAPTION | Tag::CAPTION | Tag::LEGEND | Tag::SUMMARY => Kind::Caption,
        _ => Kind::Plain,
    }
}

/// The mark that an element gives to what is in it.
fn mark_of(tag: Tag) -> Marks {
    match tag {
        Tag::NAV | Tag::MENU => IN_NAV,
        Tag::FOOTER => IN_FOOTER,
        Tag::HEADER => IN_HEADER,
        Tag::ASIDE => IN_ASIDE,
        Tag::FORM => IN_FORM,
        Tag::ARTICLE => IN_ARTICLE,
        Tag::MAIN => IN_MAIN,
        Tag::SECTION => IN_SECTION,
        Tag::TABLE => IN_TABLE,
        Tag::LI => IN_ITEM,
        Tag::FIGURE | Tag::FIGCAPTION => IN_FIGURE,
        Tag::DIALOG => IN_DIALOG,
        Tag::BLOCKQUOTE => IN_QUOTE,
        Tag::PRE | Tag::LISTING | Tag::XMP => IN_PRE,
        Tag::DETAILS => IN_DETAILS,
        Tag::DL => IN_DL,
        Tag::ADDRESS => IN_ADDRESS,
        Tag::SEARCH => IN_FORM,
        Tag::NOSCRIPT => IN_NOSCRIPT,
        _ => 0,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{Budget, parse};
    use super::*;

    /// The blocks of a page, one after the other, with `|` between them.
    #[track_caller]
    pub(in super::super) fn check(html: &str, expected: &str) {
        let (tree, _) = parse(html, Budget::default());
        let page = flatten(&tree);
        let texts: Vec<&str> = page.blocks.iter().map(|b| page.text_of(b)).collect();
        assert_eq!(texts.join("|"), expected, "{html}");
    }

    #[test]
    fn white_space_is_folded_as_browsers_do() {
        check("<p> a\n b&nbsp;\t<i>c </i> d<p>e", "a b c d|e");
        check("<p>a<br> b <br/><br>c", "a\nb\n\nc");
        check("<p>f<b>o</b>o x\u{ad}y\u{200b}z", "foo xyz");
        check("<div>a<div>b</div>c</div>", "a|b|c");
        check("<a>Reviews</a><a>Details</a>", "Reviews Details");
        check("<p>line<wbr>break", "linebreak");
    }

    #[test]
    fn listings_keep_white_space() {
        check("<pre>\n  if x:\n\ty = 1\n</pre>", "  if x:\n\ty = 1");
        check("<pre><span class=k>fn</span> <span>f</span>() {}\r\n  x</pre>", "fn f() {}\n  x");
        check("<pre><div>a</div><div>  b</div></pre>", "a\n  b");
    }

    #[test]
    fn tables_and_lists_stay_readable() {
        check("<table><tr><th>a<th>b<tr><td>1<td>2</table>", "a\tb|1\t2");
        check("<ul><li>a<li>b <i>c</i><ol><li>d</ol></ul>", "a|b c|d");
        check("<dl><dt>t<dd>d</dl>", "t|d");
        check("<table><tr><td><p>x</p><td>y</table>", "x|y");
    }

    #[test]
    fn what_is_not_read() {
        check("a<script>b</script><style>c</style><template>d</template><svg>e</svg>", "a");
        check("<select><option>b</select><textarea>c</textarea><iframe>d</iframe>x", "x");
        check("a <span hidden>b</span><span style='display: none'>c</span>d", "a d");
        check("<span class=sr-only>b</span>c", "c");
    }

    #[test]
    fn formulas_keep_their_source() {
        let annotated = "<math><semantics><mi>x</mi><annotation encoding='application/x-tex'>x^2\
            </annotation></semantics></math>";
        check(&format!("<p>so {annotated} is"), "so $x^2$ is");
        check("<p>a <script type='math/tex'>b_1</script>", "a $b_1$");
        check("<p><script type='math/tex; mode=display'>c</script>", "$$c$$");
        check("<p>a <img class=latex alt='\\pi r^2'>", "a $\\pi r^2$");
        check("<p>a <img alt=logo> b", "a b");
        check("<p><span class=MathJax>shown</span><script type='math/tex'>s</script>", "$s$");
        check("<p><math alttext='y' display=block><mi>z</mi></math>", "$$y$$");
        check(
            "<math><msup><mi>x</mi><mn>2</mn></msup><mo>+</mo><mfrac><mi>a</mi><mrow><mi>b</mi>\
            <mi>c</mi></mrow></mfrac></math>",
            "x^2+a/(bc)",
        );
        check("<math><msqrt><msub><mi>x</mi><mi>i</mi></msub></msqrt></math>", "√(x_i)");
    }

    #[test]
    fn measures_count_links_and_marks() {
        let (tree, _) = parse("<nav><a href=x>ab</a> cd</nav><p>x, y. Z", Budget::default());
        let page = flatten(&tree);
        let nav = &page.blocks[0];
        assert_eq!((nav.chars, nav.link_chars, nav.links, nav.words), (4, 2, 1, 2));
        assert!(nav.marks & IN_NAV != 0);
        let p = &page.blocks[1];
        assert_eq!((p.commas, p.stops, p.capitals, p.kind), (1, 1, 1, Kind::Paragraph));
        assert_eq!(page.frames[0].chars, 9);
    }
}
