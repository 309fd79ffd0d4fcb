//! The adoption agency: what an end tag of a formatting element does when blocks were opened
//! inside it (`<b>one<p>two</b>three`). HTML standard, section 13.2.6.4.7. Bounded: eight rounds
//! over a stack of bounded height.

use super::build::{Builder, Open, Scope, is_special};
use super::names::Tag;
use super::tree::{NONE, NodeId, Space};

impl Builder<'_> {
    pub fn adopt(&mut self, subject: Tag) {
        let top = self.top();
        let listed = |list: &[super::build::Format]| list.iter().any(|f| f.node == top.node);
        if self.top_is(subject) && !listed(&self.formatting) {
            self.pop();
            return;
        }
        for _ in 0..8 {
            let since = self.formatting.iter().rposition(|f| f.node == NONE).map_or(0, |i| i + 1);
            let Some(entry) =
                (since..self.formatting.len()).rev().find(|&i| self.formatting[i].tag == subject)
            else {
                self.end_any(subject);
                return;
            };
            let node = self.formatting[entry].node;
            let Some(at) = self.open.iter().rposition(|open| open.node == node) else {
                self.formatting.remove(entry);
                return;
            };
            if !self.scope_has(Scope::Default, |open| open.node == node) {
                return;
            }
            let furthest = (at + 1..self.open.len()).find(|&i| is_special(&self.open[i]));
            let Some(furthest) = furthest else {
                while self.open.len() > at {
                    self.pop();
                }
                self.formatting.remove(entry);
                return;
            };
            self.adopt_round(at, furthest);
        }
    }

    /// One round: the formatting element at `at` is split around the furthest block.
    fn adopt_round(&mut self, at: usize, furthest: usize) {
        let element = self.open[at].node;
        let block = self.open[furthest];
        let ancestor = self.open[at.saturating_sub(1)];
        // where the clone goes in the list: in place of the element, or after this node
        let mut after: Option<NodeId> = None;
        let mut last = block.node;
        let mut index = furthest;
        let mut round = 0;
        while index > at + 1 {
            index -= 1;
            round += 1;
            let inner = self.open[index];
            let mut entry = self.formatting.iter().position(|f| f.node == inner.node);
            if let (Some(i), true) = (entry, round > 3) {
                self.formatting.remove(i);
                entry = None;
            }
            let Some(entry) = entry else {
                self.remove_open(index);
                continue;
            };
            let clone = self.clone_format(entry);
            self.formatting[entry].node = clone;
            self.open[index].node = clone;
            if last == block.node {
                after = Some(clone);
            }
            self.tree.detach(last);
            self.tree.append(clone, last);
            last = clone;
        }
        self.tree.detach(last);
        self.place(ancestor, last);
        self.finish_round(element, block, after);
    }

    /// Puts a clone of the formatting element inside the block, around all its children.
    fn finish_round(&mut self, element: NodeId, block: Open, after: Option<NodeId>) {
        let Some(entry) = self.formatting.iter().position(|f| f.node == element) else { return };
        let clone = self.clone_format(entry);
        self.tree.move_children(block.node, clone);
        self.tree.append(block.node, clone);
        let mut format = self.formatting[entry];
        format.node = clone;
        match after {
            None => self.formatting[entry] = format,
            Some(node) => {
                self.formatting.remove(entry);
                let to = self.formatting.iter().position(|f| f.node == node);
                self.formatting.insert(to.map_or(entry, |i| i + 1), format);
            }
        }
        if let Some(i) = self.open.iter().rposition(|open| open.node == element) {
            self.remove_open(i);
        }
        let below = self.open.iter().rposition(|open| open.node == block.node);
        let open = Open { node: clone, tag: format.tag, space: Space::Html };
        self.insert_open(below.map_or(self.open.len(), |i| i + 1), open);
    }

    fn clone_format(&mut self, entry: usize) -> NodeId {
        let format = self.formatting[entry];
        self.tree.create(format.tag, Space::Html, format.attrs)
    }
}
