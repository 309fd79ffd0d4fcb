//! Tree construction inside SVG and MathML ("foreign content", HTML standard 13.2.6.5): where HTML
//! begins again inside them, and which tags break out of them.

use super::build::{Builder, Open};
use super::names::{Attr, BREAKOUT, Tag};
use super::tokenizer::StartTag;
use super::tree::Space;

impl Builder<'_> {
    /// Whether text in the current (foreign) element is treated as HTML.
    pub fn html_text_here(&self) -> bool {
        let top = self.top();
        is_math_text(&top) || self.is_html_point(&top)
    }

    /// Whether a start tag in the current (foreign) element is treated as HTML.
    pub fn html_start_here(&self, tag: Tag) -> bool {
        let top = self.top();
        is_math_text(&top)
            || self.is_html_point(&top)
            || (is_annotation_xml(&top) && tag == Tag::SVG)
    }

    fn is_html_point(&self, open: &Open) -> bool {
        match open.space {
            Space::Html => false,
            Space::Svg => matches!(open.tag, Tag::FOREIGN_OBJECT | Tag::DESC | Tag::TITLE),
            Space::Math => {
                let encoding = self.tree.attr(open.node, Attr::Encoding).unwrap_or("");
                is_annotation_xml(open)
                    && (encoding.eq_ignore_ascii_case("text/html")
                        || encoding.eq_ignore_ascii_case("application/xhtml+xml"))
            }
        }
    }

    /// Inserts an SVG or MathML element; `<x/>` closes itself here.
    pub fn insert_foreign(&mut self, tag: &StartTag, space: Space) {
        let node = self.insert(tag, space);
        if tag.self_closing && self.top().node == node {
            self.pop();
        }
    }

    pub fn foreign_start(&mut self, tag: StartTag) {
        let breaks = tag.tag.has(BREAKOUT) || (tag.tag == Tag::FONT && self.is_old_font(&tag));
        if !breaks {
            let space = self.top().space;
            self.insert_foreign(&tag, space);
            return;
        }
        self.leave_foreign();
        self.start_in(self.mode, tag);
    }

    fn is_old_font(&self, tag: &StartTag) -> bool {
        let from = tag.attrs.start as usize;
        let attrs = self.tree.attrs.get(from..from + tag.attrs.len as usize).unwrap_or(&[]);
        attrs.iter().any(|(name, _)| matches!(name, Attr::Color | Attr::Face | Attr::Size))
    }

    /// Pops until HTML is allowed again.
    fn leave_foreign(&mut self) {
        while self.top().space != Space::Html && !self.html_text_here() {
            self.pop();
        }
    }

    pub fn foreign_end(&mut self, tag: Tag) {
        if matches!(tag, Tag::BR | Tag::P) {
            self.leave_foreign();
            self.end_in(self.mode, tag);
            return;
        }
        for at in (0..self.open.len()).rev() {
            let open = self.open[at];
            if open.space == Space::Html {
                self.end_in(self.mode, tag);
                return;
            }
            if open.tag == tag {
                while self.open.len() > at {
                    self.pop();
                }
                return;
            }
        }
    }
}

fn is_math_text(open: &Open) -> bool {
    open.space == Space::Math
        && matches!(open.tag, Tag::MI | Tag::MO | Tag::MN | Tag::MS | Tag::MTEXT)
}

fn is_annotation_xml(open: &Open) -> bool {
    open.space == Space::Math && open.tag == Tag::ANNOTATION_XML
}
