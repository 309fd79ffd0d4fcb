//! Tree construction: tokens into the arena, by the insertion modes of the HTML standard (section
//! 13.2.6). Conforming where text is concerned: implied end tags, foster parenting, the adoption
//! agency, foreign content. What it leaves out, because no text depends on it: framesets as
//! documents, the contents of templates as fragments of their own, scripting.
//!
//! Linear: the stack of open elements is at most `Budget::depth` high (deeper elements become
//! siblings, as in browsers), the list of formatting elements at most `FORMATTING` long, so each
//! token costs a bounded number of steps. Iterative: the depth of a page costs no call stack.

use super::Budget;
use super::names::*;
use super::tokenizer::{StartTag, Token, Tokenizer};
use super::tree::{NONE, NodeId, ROOT, Range, Space, Tree};

/// Most formatting elements that are reopened in a later block.
const FORMATTING: usize = 48;

/// The insertion modes. "In template" is `InBody` here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    Initial,
    BeforeHtml,
    BeforeHead,
    InHead,
    InHeadNoscript,
    AfterHead,
    InBody,
    InTable,
    InCaption,
    InColumnGroup,
    InTableBody,
    InRow,
    InCell,
    AfterBody,
    InFrameset,
}

/// An open element.
#[derive(Clone, Copy)]
pub(super) struct Open {
    pub node: NodeId,
    pub tag: Tag,
    pub space: Space,
}

/// An entry of the list of active formatting elements; a marker has no node.
#[derive(Clone, Copy)]
pub(super) struct Format {
    pub node: NodeId,
    pub tag: Tag,
    pub attrs: Range,
    pub fingerprint: u64,
}

/// Which elements end a scope walk besides the common ones.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Default,
    Button,
    List,
    Table,
}

/// The state of tree construction.
pub(super) struct Builder<'a> {
    pub tree: Tree<'a>,
    pub tokens: Tokenizer<'a>,
    pub open: Vec<Open>,
    /// How many HTML elements of each numbered name are open: most scope walks end here.
    counts: [u32; KNOWN],
    pub formatting: Vec<Format>,
    pub mode: Mode,
    head: NodeId,
    pub form: NodeId,
    pub quirks: bool,
    pub foster: bool,
    /// Start tags too deep for the stack, by name, so that their end tags close nothing else.
    too_deep: [u32; 64],
    budget: Budget,
    over_budget: bool,
}

/// Parses a page; true if the budget of nodes was spent before its end.
pub fn parse<'a>(source: &'a str, budget: Budget) -> (Tree<'a>, bool) {
    let mut builder = Builder {
        tree: Tree::new(source),
        tokens: Tokenizer::new(source),
        open: Vec::with_capacity(64),
        counts: [0; KNOWN],
        formatting: Vec::new(),
        mode: Mode::Initial,
        head: NONE,
        form: NONE,
        quirks: false,
        foster: false,
        too_deep: [0; 64],
        budget,
        over_budget: false,
    };
    while !builder.over_budget {
        let foreign = builder.open.last().is_some_and(|top| top.space != Space::Html);
        match builder.tokens.next(&mut builder.tree, foreign) {
            Token::Text(range) => builder.text(range),
            Token::Start(tag) => builder.start(tag),
            Token::End(tag) => builder.end(tag),
            Token::Doctype(quirks) => builder.doctype(quirks),
            Token::Eof => break,
        }
    }
    builder.finish();
    (builder.tree, builder.over_budget)
}

impl Builder<'_> {
    /// The page ended: what must exist (`html`, `head`, `body`) does.
    fn finish(&mut self) {
        const EARLY: [Mode; 6] = [
            Mode::Initial,
            Mode::BeforeHtml,
            Mode::BeforeHead,
            Mode::InHead,
            Mode::InHeadNoscript,
            Mode::AfterHead,
        ];
        while self.counts[Tag::TEMPLATE.0 as usize] > 0 {
            self.end_template();
        }
        while EARLY.contains(&self.mode) && self.leave(self.mode) {}
    }

    fn doctype(&mut self, quirks: bool) {
        if self.mode == Mode::Initial {
            self.quirks = quirks;
            self.mode = Mode::BeforeHtml;
        }
    }

    // ---- the stack of open elements ----

    pub fn top(&self) -> Open {
        let root = Open { node: ROOT, tag: Tag::DOCUMENT, space: Space::Html };
        self.open.last().copied().unwrap_or(root)
    }

    pub fn top_is(&self, tag: Tag) -> bool {
        let top = self.top();
        top.tag == tag && top.space == Space::Html
    }

    pub fn push(&mut self, open: Open) {
        self.count(open, 1);
        self.open.push(open);
    }

    pub fn pop(&mut self) {
        if let Some(open) = self.open.pop() {
            self.count(open, u32::MAX);
        }
    }

    pub fn remove_open(&mut self, index: usize) {
        let open = self.open.remove(index);
        self.count(open, u32::MAX);
    }

    pub fn insert_open(&mut self, index: usize, open: Open) {
        self.count(open, 1);
        self.open.insert(index, open);
    }

    fn count(&mut self, open: Open, change: u32) {
        if open.space == Space::Html
            && let Some(count) = self.counts.get_mut(open.tag.0 as usize)
        {
            *count = count.wrapping_add(change);
        }
    }

    /// Whether an element of this name may be open (certain for numbered names).
    pub fn maybe_open(&self, tag: Tag) -> bool {
        self.counts.get(tag.0 as usize).is_none_or(|n| *n > 0)
    }

    pub fn in_scope(&self, tag: Tag, scope: Scope) -> bool {
        self.maybe_open(tag) && self.scope_has(scope, |open| open.tag == tag)
    }

    /// Whether an HTML element of a kind is open before a barrier of the scope.
    pub fn scope_has(&self, scope: Scope, wanted: impl Fn(&Open) -> bool) -> bool {
        for open in self.open.iter().rev() {
            if open.space == Space::Html && wanted(open) {
                return true;
            }
            if is_barrier(open, scope) {
                return false;
            }
        }
        false
    }

    /// Pops up to and with the nearest HTML element that satisfies `wanted`.
    pub fn pop_until(&mut self, wanted: impl Fn(Tag) -> bool) {
        while let Some(open) = self.open.last().copied() {
            self.pop();
            if open.space == Space::Html && wanted(open.tag) {
                break;
            }
        }
    }

    pub fn pop_until_tag(&mut self, tag: Tag) {
        self.pop_until(|t| t == tag);
    }

    /// Pops elements whose end tag may be left out, but for `except`.
    pub fn imply_ends(&mut self, except: Tag) {
        while let Some(open) = self.open.last() {
            if open.space != Space::Html || !open.tag.has(IMPLIED) || open.tag == except {
                break;
            }
            self.pop();
        }
    }

    pub fn close_p(&mut self) {
        if self.in_scope(Tag::P, Scope::Button) {
            self.imply_ends(Tag::P);
            self.pop_until_tag(Tag::P);
        }
    }

    // ---- insertion ----

    fn create(&mut self, tag: Tag, space: Space, data: Range) -> NodeId {
        if self.tree.nodes.len() >= self.budget.nodes {
            self.over_budget = true;
        }
        self.tree.create(tag, space, data)
    }

    /// Puts a node where the standard's "appropriate place for inserting a node" is, given the
    /// element it would go into.
    pub fn place(&mut self, target: Open, node: NodeId) {
        let table_part =
            matches!(target.tag, Tag::TABLE | Tag::TBODY | Tag::TFOOT | Tag::THEAD | Tag::TR)
                && target.space == Space::Html;
        if !(self.foster && table_part) {
            self.tree.append(target.node, node);
            return;
        }
        let html = |o: &Open, tag| o.tag == tag && o.space == Space::Html;
        let template = self.open.iter().rposition(|o| html(o, Tag::TEMPLATE));
        let table = self.open.iter().rposition(|o| html(o, Tag::TABLE));
        match (template, table) {
            (Some(template), table) if table.is_none_or(|t| t < template) => {
                self.tree.append(self.open[template].node, node);
            }
            (_, Some(table)) => {
                let element = self.open[table].node;
                if self.tree.node(element).parent != NONE {
                    self.tree.insert_before(element, node);
                } else {
                    let above = self.open[table.saturating_sub(1)].node;
                    self.tree.append(above, node);
                }
            }
            _ => {
                let root = self.open.first().map_or(ROOT, |o| o.node);
                self.tree.append(root, node);
            }
        }
    }

    /// Inserts an element and leaves it open (unless the stack is full).
    pub fn insert(&mut self, tag: &StartTag, space: Space) -> NodeId {
        let node = self.create(tag.tag, space, tag.attrs);
        let top = self.top();
        self.place(top, node);
        if self.open.len() >= self.budget.depth {
            self.too_deep[tag.tag.0 as usize % 64] += 1;
        } else {
            self.push(Open { node, tag: tag.tag, space });
        }
        node
    }

    pub fn insert_html(&mut self, tag: &StartTag) -> NodeId {
        self.insert(tag, Space::Html)
    }

    /// Inserts an element that the page left out.
    pub fn insert_implied(&mut self, tag: Tag) -> NodeId {
        self.insert_html(&bare(tag))
    }

    pub fn insert_void(&mut self, tag: &StartTag) {
        let node = self.create(tag.tag, Space::Html, tag.attrs);
        let top = self.top();
        self.place(top, node);
    }

    pub fn insert_text(&mut self, range: Range) {
        if range.len > 0 {
            let node = self.create(Tag::TEXT, Space::Html, range);
            let top = self.top();
            self.place(top, node);
        }
    }

    /// Inserts an element whose content is raw text, content included.
    pub fn insert_raw(&mut self, tag: &StartTag, name: &str, decode: bool) {
        let node = self.create(tag.tag, Space::Html, tag.attrs);
        let top = self.top();
        self.place(top, node);
        let range = self.tokens.raw_text(name, decode, &mut self.tree);
        if range.len > 0 {
            let text = self.create(Tag::TEXT, Space::Html, range);
            self.tree.append(node, text);
        }
    }

    // ---- formatting elements ----

    pub fn insert_formatting(&mut self, tag: &StartTag) {
        let node = self.insert_html(tag);
        if self.open.last().is_none_or(|top| top.node != node) {
            return;
        }
        // at most three equal ones after the last marker
        let same = |f: &Format| f.tag == tag.tag && f.fingerprint == tag.fingerprint;
        let start = self.formatting.iter().rposition(|f| f.node == NONE).map_or(0, |i| i + 1);
        let equal: Vec<usize> =
            (start..self.formatting.len()).filter(|&i| same(&self.formatting[i])).collect();
        if equal.len() >= 3 {
            self.formatting.remove(equal[0]);
        } else if self.formatting.len() - start >= FORMATTING {
            self.formatting.remove(start);
        }
        self.formatting.push(Format {
            node,
            tag: tag.tag,
            attrs: tag.attrs,
            fingerprint: tag.fingerprint,
        });
    }

    pub fn marker(&mut self) {
        self.formatting.push(Format {
            node: NONE,
            tag: Tag::DOCUMENT,
            attrs: Range::default(),
            fingerprint: 0,
        });
    }

    pub fn clear_to_marker(&mut self) {
        while let Some(entry) = self.formatting.pop() {
            if entry.node == NONE {
                break;
            }
        }
    }

    fn is_open(&self, node: NodeId) -> bool {
        self.open.iter().rev().any(|open| open.node == node)
    }

    /// Reopens formatting elements that were left open in an earlier block.
    pub fn reconstruct(&mut self) {
        let Some(last) = self.formatting.last() else { return };
        if last.node == NONE || self.is_open(last.node) {
            return;
        }
        let mut from = self.formatting.len() - 1;
        while from > 0 {
            let entry = self.formatting[from - 1];
            if entry.node == NONE || self.is_open(entry.node) {
                break;
            }
            from -= 1;
        }
        for i in from..self.formatting.len() {
            let Format { tag, attrs, fingerprint, .. } = self.formatting[i];
            let start = StartTag { tag, attrs, self_closing: false, fingerprint };
            self.formatting[i].node = self.insert_html(&start);
        }
    }

    // ---- text ----

    fn text(&mut self, range: Range) {
        if self.top().space != Space::Html && !self.html_text_here() {
            self.insert_text(range);
            return;
        }
        self.text_in(self.mode, range);
    }

    fn text_in(&mut self, mode: Mode, range: Range) {
        match mode {
            Mode::InBody | Mode::InCaption | Mode::InCell => {
                // NUL is ignored here: it must not even reopen formatting
                let text = self.tree.slice(range).as_bytes();
                if text.first() == Some(&0) && text.iter().all(|b| *b == 0) {
                    return;
                }
                self.reconstruct();
                self.insert_text(range);
            }
            Mode::InTable | Mode::InTableBody | Mode::InRow => {
                if self.blank_prefix(range) == range.len {
                    self.insert_text(range);
                } else {
                    self.foster = true;
                    self.reconstruct();
                    self.insert_text(range);
                    self.foster = false;
                }
            }
            Mode::InFrameset => {}
            _ => {
                let blank = self.blank_prefix(range);
                let rest = Range { start: range.start + blank, len: range.len - blank };
                self.blank_text(mode, Range { len: blank, ..range });
                if rest.len > 0 && self.leave(mode) {
                    self.text_in(self.mode, rest);
                }
            }
        }
    }

    /// White space in a mode that tells it from other text.
    fn blank_text(&mut self, mode: Mode, range: Range) {
        match mode {
            Mode::InHead | Mode::InHeadNoscript | Mode::AfterHead | Mode::InColumnGroup => {
                self.insert_text(range);
            }
            Mode::AfterBody => {
                self.reconstruct();
                self.insert_text(range);
            }
            _ => {}
        }
    }

    fn blank_prefix(&self, range: Range) -> u32 {
        let blank = |b: &u8| matches!(*b, b' ' | b'\n' | b'\t' | b'\r' | b'\x0c');
        self.tree.slice(range).bytes().take_while(blank).count() as u32
    }

    /// "Anything else" of the modes before and after the body: moves one mode on; false where the
    /// token is to be dropped instead.
    pub fn leave(&mut self, mode: Mode) -> bool {
        self.mode = match mode {
            Mode::Initial => {
                self.quirks = true;
                Mode::BeforeHtml
            }
            Mode::BeforeHtml => {
                self.insert_implied(Tag::HTML);
                Mode::BeforeHead
            }
            Mode::BeforeHead => {
                self.head = self.insert_implied(Tag::HEAD);
                Mode::InHead
            }
            Mode::InHead => {
                self.pop();
                Mode::AfterHead
            }
            Mode::InHeadNoscript => {
                self.pop();
                Mode::InHead
            }
            Mode::AfterHead => {
                self.insert_implied(Tag::BODY);
                Mode::InBody
            }
            Mode::InColumnGroup => {
                if !self.top_is(Tag::COLGROUP) {
                    return false;
                }
                self.pop();
                Mode::InTable
            }
            Mode::AfterBody => Mode::InBody,
            _ => return false,
        };
        true
    }

    // ---- start tags ----

    fn start(&mut self, tag: StartTag) {
        if self.top().space != Space::Html && !self.html_start_here(tag.tag) {
            self.foreign_start(tag);
        } else {
            self.start_in(self.mode, tag);
        }
    }

    pub fn start_in(&mut self, mode: Mode, tag: StartTag) {
        match mode {
            Mode::BeforeHtml if tag.tag == Tag::HTML => {
                self.insert_html(&tag);
                self.mode = Mode::BeforeHead;
            }
            Mode::BeforeHead if tag.tag == Tag::HEAD => {
                self.head = self.insert_html(&tag);
                self.mode = Mode::InHead;
            }
            Mode::Initial | Mode::BeforeHtml => self.leave_and_start(mode, tag),
            _ if tag.tag == Tag::HTML && self.maybe_open(Tag::TEMPLATE) => {}
            _ if tag.tag == Tag::HTML => {
                if let Some(html) = self.open.first().map(|open| open.node) {
                    self.tree.merge_attrs(html, tag.attrs);
                }
            }
            Mode::InHead if tag.tag == Tag::NOSCRIPT => {
                self.insert_html(&tag);
                self.mode = Mode::InHeadNoscript;
            }
            Mode::InHeadNoscript => match tag.tag {
                Tag::BASEFONT
                | Tag::BGSOUND
                | Tag::LINK
                | Tag::META
                | Tag::NOFRAMES
                | Tag::STYLE => {
                    self.start_in_head(&tag);
                }
                Tag::HEAD | Tag::NOSCRIPT => {}
                _ => self.leave_and_start(mode, tag),
            },
            Mode::InHead if self.start_in_head(&tag) || tag.tag == Tag::HEAD => {}
            Mode::AfterHead => self.start_after_head(tag),
            Mode::InBody => self.start_in_body(tag),
            Mode::InTable => self.start_in_table(tag),
            Mode::InCaption => self.start_in_caption(tag),
            Mode::InColumnGroup => self.start_in_columns(tag),
            Mode::InTableBody => self.start_in_rows(tag),
            Mode::InRow => self.start_in_row(tag),
            Mode::InCell => self.start_in_cell(tag),
            Mode::InFrameset => {}
            Mode::BeforeHead | Mode::InHead | Mode::AfterBody => self.leave_and_start(mode, tag),
        }
    }

    pub fn leave_and_start(&mut self, mode: Mode, tag: StartTag) {
        if self.leave(mode) {
            self.start_in(self.mode, tag);
        }
    }

    /// What belongs in the head; true if the tag was one of those.
    pub fn start_in_head(&mut self, tag: &StartTag) -> bool {
        match tag.tag {
            Tag::BASE | Tag::BASEFONT | Tag::BGSOUND | Tag::LINK | Tag::META => {
                self.insert_void(tag);
            }
            Tag::TITLE => self.insert_raw(tag, "title", true),
            Tag::SCRIPT => self.insert_raw(tag, "script", false),
            Tag::STYLE => self.insert_raw(tag, "style", false),
            Tag::NOFRAMES => self.insert_raw(tag, "noframes", false),
            Tag::TEMPLATE => {
                let node = self.insert_html(tag);
                if self.open.last().is_some_and(|top| top.node == node) {
                    self.marker();
                    self.mode = Mode::InBody;
                }
            }
            _ => return false,
        }
        true
    }

    fn start_after_head(&mut self, tag: StartTag) {
        match tag.tag {
            Tag::BODY => {
                self.insert_html(&tag);
                self.mode = Mode::InBody;
            }
            Tag::FRAMESET => {
                self.insert_html(&tag);
                self.mode = Mode::InFrameset;
            }
            Tag::HEAD => {}
            Tag::BASE
            | Tag::BASEFONT
            | Tag::BGSOUND
            | Tag::LINK
            | Tag::META
            | Tag::TITLE
            | Tag::SCRIPT
            | Tag::STYLE
            | Tag::NOFRAMES
            | Tag::TEMPLATE => {
                let head = Open { node: self.head, tag: Tag::HEAD, space: Space::Html };
                self.push(head);
                self.start_in_head(&tag);
                if let Some(at) = self.open.iter().rposition(|open| open.node == head.node) {
                    self.remove_open(at);
                }
            }
            _ => self.leave_and_start(Mode::AfterHead, tag),
        }
    }

    // ---- end tags ----

    fn end(&mut self, tag: Tag) {
        if self.too_deep[tag.0 as usize % 64] > 0 {
            self.too_deep[tag.0 as usize % 64] -= 1;
        } else if self.top().space != Space::Html {
            self.foreign_end(tag);
        } else {
            self.end_in(self.mode, tag);
        }
    }

    pub fn end_in(&mut self, mode: Mode, tag: Tag) {
        match mode {
            Mode::InBody => self.end_in_body(tag),
            Mode::InTable => self.end_in_table(tag),
            Mode::InCaption => self.end_in_caption(tag),
            Mode::InColumnGroup => self.end_in_columns(tag),
            Mode::InTableBody => self.end_in_rows(tag),
            Mode::InRow => self.end_in_row(tag),
            Mode::InCell => self.end_in_cell(tag),
            Mode::InFrameset => {}
            Mode::AfterBody if tag == Tag::HTML => {}
            Mode::InHeadNoscript => match tag {
                Tag::NOSCRIPT => {
                    self.pop();
                    self.mode = Mode::InHead;
                }
                Tag::BR => self.leave_and_end(mode, tag),
                _ => {}
            },
            Mode::InHead if tag == Tag::TEMPLATE => self.end_template(),
            Mode::AfterHead if tag == Tag::TEMPLATE => self.end_template(),
            Mode::InHead if tag == Tag::HEAD => {
                self.pop();
                self.mode = Mode::AfterHead;
            }
            Mode::AfterBody => self.leave_and_end(mode, tag),
            Mode::Initial => self.leave_and_end(mode, tag),
            _ => {
                // before the body only these end tags count; all others are dropped
                let head = tag == Tag::HEAD && mode != Mode::AfterHead;
                if head || matches!(tag, Tag::BODY | Tag::HTML | Tag::BR) {
                    self.leave_and_end(mode, tag);
                }
            }
        }
    }

    fn leave_and_end(&mut self, mode: Mode, tag: Tag) {
        if self.leave(mode) {
            self.end_in(self.mode, tag);
        }
    }

    pub fn end_template(&mut self) {
        if self.counts[Tag::TEMPLATE.0 as usize] > 0 {
            self.pop_until_tag(Tag::TEMPLATE);
            self.clear_to_marker();
            self.reset_mode();
        }
    }

    /// "Any other end tag": closes the nearest element of the name unless a special one is nearer.
    pub fn end_any(&mut self, tag: Tag) {
        if !self.maybe_open(tag) {
            return;
        }
        for at in (0..self.open.len()).rev() {
            let open = self.open[at];
            if open.space == Space::Html && open.tag == tag {
                self.imply_ends(tag);
                while self.open.len() > at {
                    self.pop();
                }
                return;
            }
            if is_special(&open) {
                return;
            }
        }
    }

    /// Finds the mode again after a table or template was closed.
    pub fn reset_mode(&mut self) {
        for open in self.open.iter().rev().filter(|open| open.space == Space::Html) {
            self.mode = match open.tag {
                Tag::TD | Tag::TH => Mode::InCell,
                Tag::TR => Mode::InRow,
                Tag::TBODY | Tag::THEAD | Tag::TFOOT => Mode::InTableBody,
                Tag::CAPTION => Mode::InCaption,
                Tag::COLGROUP => Mode::InColumnGroup,
                Tag::TABLE => Mode::InTable,
                Tag::HEAD => Mode::InHead,
                Tag::TEMPLATE | Tag::BODY => Mode::InBody,
                Tag::FRAMESET => Mode::InFrameset,
                Tag::HTML if self.head == NONE => Mode::BeforeHead,
                Tag::HTML => Mode::AfterHead,
                _ => continue,
            };
            return;
        }
        self.mode = Mode::InBody;
    }
}

/// A start tag without attributes.
pub(super) fn bare(tag: Tag) -> StartTag {
    StartTag { tag, attrs: Range::default(), self_closing: false, fingerprint: 0 }
}

/// "Special" elements, those of SVG and MathML among them.
pub(super) fn is_special(open: &Open) -> bool {
    match open.space {
        Space::Html => open.tag.has(SPECIAL),
        _ => is_foreign_barrier(open),
    }
}

fn is_foreign_barrier(open: &Open) -> bool {
    match open.space {
        Space::Html => false,
        Space::Svg => matches!(open.tag, Tag::FOREIGN_OBJECT | Tag::DESC | Tag::TITLE),
        Space::Math => matches!(
            open.tag,
            Tag::MI | Tag::MO | Tag::MN | Tag::MS | Tag::MTEXT | Tag::ANNOTATION_XML
        ),
    }
}

fn is_barrier(open: &Open, scope: Scope) -> bool {
    if open.space != Space::Html {
        return scope != Scope::Table && is_foreign_barrier(open);
    }
    match scope {
        Scope::Table => matches!(open.tag, Tag::HTML | Tag::TABLE | Tag::TEMPLATE),
        Scope::Button if open.tag == Tag::BUTTON => true,
        Scope::List if matches!(open.tag, Tag::OL | Tag::UL) => true,
        _ => open.tag.has(SCOPE),
    }
}
