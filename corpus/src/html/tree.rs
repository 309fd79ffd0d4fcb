//! The page as a tree in one arena: nodes are numbers (u32), text and attribute values are ranges
//! of the page itself or, where entities were decoded, of a side buffer. Not the parser (that is
//! `build.rs`), and it knows nothing of main text.
//!
//! Freed all at once, so a tree nested a hundred thousand deep needs no recursion to drop.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_64;

use super::names::{Attr, KNOWN, Tag};

/// A node's number in the arena.
pub type NodeId = u32;

/// "No node."
pub const NONE: NodeId = u32::MAX;

/// The document node: the root of every tree.
pub const ROOT: NodeId = 0;

/// The vocabulary an element belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Space {
    /// HTML.
    Html,
    /// SVG.
    Svg,
    /// MathML.
    Math,
}

/// A range of bytes of the page or (from the page's length upwards) of the side buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Range {
    /// First byte.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
}

/// One node. For text, `data` is the text; for an element, a range of the attribute list.
#[derive(Clone, Debug)]
pub struct Node {
    /// Parent, or `NONE`.
    pub parent: NodeId,
    /// Previous sibling, or `NONE`.
    pub prev: NodeId,
    /// Next sibling, or `NONE`.
    pub next: NodeId,
    /// First child, or `NONE`.
    pub first: NodeId,
    /// Last child, or `NONE`.
    pub last: NodeId,
    /// Text range, or attribute range.
    pub data: Range,
    /// Element name (`Tag::TEXT` for text).
    pub tag: Tag,
    /// Vocabulary.
    pub space: Space,
}

/// The arena of one page.
pub struct Tree<'a> {
    pub(crate) source: &'a str,
    pub(crate) side: String,
    pub(crate) nodes: Vec<Node>,
    pub(crate) attrs: Vec<(Attr, Range)>,
    names: Vec<Range>,
    numbers: HashMap<u64, u16>,
}

impl<'a> Tree<'a> {
    /// An empty document over `source`.
    pub fn new(source: &'a str) -> Tree<'a> {
        let mut tree = Tree {
            source,
            side: String::new(),
            nodes: Vec::with_capacity(source.len() / 40 + 16),
            attrs: Vec::with_capacity(source.len() / 80 + 16),
            names: Vec::new(),
            numbers: HashMap::new(),
        };
        tree.create(Tag::DOCUMENT, Space::Html, Range::default());
        tree
    }

    /// Adds an unattached node.
    pub fn create(&mut self, tag: Tag, space: Space, data: Range) -> NodeId {
        let id = self.nodes.len() as NodeId;
        self.nodes.push(Node {
            parent: NONE,
            prev: NONE,
            next: NONE,
            first: NONE,
            last: NONE,
            data,
            tag,
            space,
        });
        id
    }

    /// The node of a number.
    #[inline]
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    #[inline]
    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    /// Makes `child` (unattached) the last child of `parent`.
    pub fn append(&mut self, parent: NodeId, child: NodeId) {
        let last = self.node(parent).last;
        let node = self.node_mut(child);
        node.parent = parent;
        node.prev = last;
        if last == NONE {
            self.node_mut(parent).first = child;
        } else {
            self.node_mut(last).next = child;
        }
        self.node_mut(parent).last = child;
    }

    /// Puts `child` (unattached) in front of `sibling` (attached).
    pub fn insert_before(&mut self, sibling: NodeId, child: NodeId) {
        let (parent, prev) = (self.node(sibling).parent, self.node(sibling).prev);
        let node = self.node_mut(child);
        node.parent = parent;
        node.prev = prev;
        node.next = sibling;
        self.node_mut(sibling).prev = child;
        if prev == NONE {
            self.node_mut(parent).first = child;
        } else {
            self.node_mut(prev).next = child;
        }
    }

    /// Takes a node (with what is below it) out of its parent.
    pub fn detach(&mut self, id: NodeId) {
        let Node { parent, prev, next, .. } = *self.node(id);
        if parent == NONE {
            return;
        }
        if prev == NONE {
            self.node_mut(parent).first = next;
        } else {
            self.node_mut(prev).next = next;
        }
        if next == NONE {
            self.node_mut(parent).last = prev;
        } else {
            self.node_mut(next).prev = prev;
        }
        let node = self.node_mut(id);
        node.parent = NONE;
        node.prev = NONE;
        node.next = NONE;
    }

    /// Moves all children of `from` to the end of `to`.
    pub fn move_children(&mut self, from: NodeId, to: NodeId) {
        while self.node(from).first != NONE {
            let child = self.node(from).first;
            self.detach(child);
            self.append(to, child);
        }
    }

    /// The text of a range.
    #[inline]
    pub fn slice(&self, range: Range) -> &str {
        let (start, len) = (range.start as usize, range.len as usize);
        let from = self.source.len();
        if start < from {
            self.source.get(start..start + len).unwrap_or("")
        } else {
            self.side.get(start - from..start - from + len).unwrap_or("")
        }
    }

    /// Copies a string to the side buffer.
    pub fn keep(&mut self, text: &str) -> Range {
        let start = self.side_mark();
        self.side.push_str(text);
        self.side_range(start)
    }

    /// Where the next byte of the side buffer goes, as a position for `Range`.
    pub(crate) fn side_mark(&self) -> u32 {
        (self.source.len() + self.side.len()) as u32
    }

    /// What was written to the side buffer since `mark`.
    pub(crate) fn side_range(&self, mark: u32) -> Range {
        Range { start: mark, len: self.side_mark() - mark }
    }

    /// The text of a text node ("" for elements).
    #[inline]
    pub fn text(&self, id: NodeId) -> &str {
        let node = self.node(id);
        if node.tag == Tag::TEXT { self.slice(node.data) } else { "" }
    }

    /// The value of an attribute of an element.
    #[inline]
    pub fn attr(&self, id: NodeId, name: Attr) -> Option<&str> {
        self.attrs_of(id).iter().find(|(a, _)| *a == name).map(|(_, range)| self.slice(*range))
    }

    /// The kept attributes of an element.
    #[inline]
    pub fn attrs_of(&self, id: NodeId) -> &[(Attr, Range)] {
        let node = self.node(id);
        if node.tag == Tag::TEXT || node.data.len == 0 {
            return &[];
        }
        let start = node.data.start as usize;
        self.attrs.get(start..start + node.data.len as usize).unwrap_or(&[])
    }

    /// The number of a lower-case element name, a new one if the name is new to this page. Past
    /// 60,000 different names all further ones share a number.
    pub fn tag(&mut self, name: &[u8], at: Range) -> Tag {
        if let Some(tag) = Tag::known(name) {
            return tag;
        }
        let next = KNOWN + self.names.len();
        if next > 60_000 {
            return Tag(u16::MAX);
        }
        let number = *self.numbers.entry(xxh3_64(name)).or_insert(next as u16);
        if number as usize == next {
            self.names.push(at);
        }
        Tag(number)
    }

    /// The name of an element that has no fixed number, as written on the page.
    pub fn custom_name(&self, tag: Tag) -> &str {
        let number = (tag.0 as usize).checked_sub(KNOWN);
        number.and_then(|i| self.names.get(i)).map_or("", |range| self.slice(*range))
    }

    /// Adds attributes that an element lacks (a second `html` or `body` tag does this).
    pub(crate) fn merge_attrs(&mut self, id: NodeId, more: Range) {
        let mut all = self.attrs_of(id).to_vec();
        let have = all.len();
        for i in more.start..more.start + more.len {
            let Some(&attr) = self.attrs.get(i as usize) else { break };
            if !all.iter().any(|(name, _)| *name == attr.0) {
                all.push(attr);
            }
        }
        if all.len() > have {
            let data = Range { start: self.attrs.len() as u32, len: all.len() as u32 };
            self.attrs.extend(all);
            self.node_mut(id).data = data;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siblings_stay_linked_through_moves() {
        let mut tree = Tree::new("abc");
        let ids: Vec<NodeId> = (0..3)
            .map(|i| tree.create(Tag::TEXT, Space::Html, Range { start: i, len: 1 }))
            .collect();
        let box_ = tree.create(Tag::DIV, Space::Html, Range::default());
        tree.append(ROOT, ids[0]);
        tree.append(ROOT, ids[2]);
        tree.insert_before(ids[2], ids[1]);
        let read = |tree: &Tree, from: NodeId| {
            let (mut out, mut at) = (String::new(), tree.node(from).first);
            while at != NONE {
                out.push_str(tree.text(at));
                at = tree.node(at).next;
            }
            out
        };
        assert_eq!(read(&tree, ROOT), "abc");
        tree.detach(ids[1]);
        assert_eq!(read(&tree, ROOT), "ac");
        tree.move_children(ROOT, box_);
        assert_eq!(read(&tree, ROOT), "");
        assert_eq!(read(&tree, box_), "ac");
    }

    #[test]
    fn new_names_get_stable_numbers() {
        let mut tree = Tree::new("x-card");
        let at = Range { start: 0, len: 6 };
        let card = tree.tag(b"x-card", at);
        assert_eq!(tree.tag(b"x-card", at), card);
        assert_ne!(tree.tag(b"x-list", at), card);
        assert_eq!(tree.custom_name(card), "x-card");
        assert_eq!(tree.tag(b"div", at), Tag::DIV);
    }
}
