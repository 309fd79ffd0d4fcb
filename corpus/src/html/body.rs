//! Tree construction in the body: the insertion mode "in body" of the HTML standard (13.2.6.4.7),
//! where nearly all tags of a page are met. What an end tag of a formatting element does is in
//! `adoption.rs`.

use super::build::{Builder, Mode, Scope, bare, is_special};
use super::names::*;
use super::tokenizer::StartTag;
use super::tree::{NONE, NodeId, Space};

impl Builder<'_> {
    pub fn start_in_body(&mut self, tag: StartTag) {
        let name = tag.tag;
        if self.start_in_head_from_body(&tag) {
            return;
        }
        match name {
            Tag::BODY if self.maybe_open(Tag::TEMPLATE) => {}
            Tag::BODY => {
                if let Some(body) = self.open.get(1).filter(|open| open.tag == Tag::BODY) {
                    let body = body.node;
                    self.tree.merge_attrs(body, tag.attrs);
                }
            }
            _ if name.is_heading() => {
                self.close_p();
                if self.top().tag.is_heading() && self.top().space == Space::Html {
                    self.pop();
                }
                self.insert_html(&tag);
            }
            _ if name.has(CLOSES_P) => {
                self.close_p();
                self.insert_html(&tag);
            }
            Tag::PRE | Tag::LISTING => {
                self.close_p();
                self.insert_html(&tag);
                self.tokens.skip_line_feed();
            }
            Tag::FORM => self.start_form(tag),
            Tag::LI | Tag::DD | Tag::DT => self.start_item(tag),
            Tag::PLAINTEXT => {
                self.close_p();
                self.insert_html(&tag);
                let rest = self.tokens.rest();
                self.reconstruct();
                self.insert_text(rest);
            }
            Tag::A => self.start_anchor(tag),
            Tag::NOBR => {
                self.reconstruct();
                if self.in_scope(Tag::NOBR, Scope::Default) {
                    self.adopt(Tag::NOBR);
                    self.reconstruct();
                }
                self.insert_formatting(&tag);
            }
            _ if name.has(FORMAT) => {
                self.reconstruct();
                self.insert_formatting(&tag);
            }
            Tag::TABLE => {
                if !self.quirks {
                    self.close_p();
                }
                self.insert_html(&tag);
                self.mode = Mode::InTable;
            }
            _ => self.start_odd_in_body(tag),
        }
    }

    fn start_in_head_from_body(&mut self, tag: &StartTag) -> bool {
        tag.tag.has(SPECIAL) && self.start_in_head(tag)
    }

    /// The rest of "in body": controls, embedded content, ruby, foreign content.
    fn start_odd_in_body(&mut self, tag: StartTag) {
        match tag.tag {
            Tag::APPLET | Tag::MARQUEE | Tag::OBJECT => {
                self.reconstruct();
                self.insert_html(&tag);
                self.marker();
            }
            Tag::BUTTON => {
                if self.in_scope(Tag::BUTTON, Scope::Default) {
                    self.imply_ends(Tag::DOCUMENT);
                    self.pop_until_tag(Tag::BUTTON);
                }
                self.reconstruct();
                self.insert_html(&tag);
            }
            Tag::PARAM | Tag::SOURCE | Tag::TRACK => self.insert_void(&tag),
            Tag::HR => {
                self.close_p();
                if self.in_scope(Tag::SELECT, Scope::Default) {
                    self.imply_ends(Tag::DOCUMENT);
                }
                self.insert_void(&tag);
            }
            Tag::IMAGE => self.start_odd_in_body(StartTag { tag: Tag::IMG, ..tag }),
            Tag::TEXTAREA => {
                self.tokens.skip_line_feed();
                self.insert_raw(&tag, "textarea", true);
            }
            Tag::XMP => {
                self.close_p();
                self.reconstruct();
                self.insert_raw(&tag, "xmp", false);
            }
            Tag::IFRAME => self.insert_raw(&tag, "iframe", false),
            Tag::NOEMBED => self.insert_raw(&tag, "noembed", false),
            Tag::INPUT | Tag::SELECT => self.start_control(tag),
            Tag::OPTION | Tag::OPTGROUP => self.start_option(tag),
            Tag::RB | Tag::RTC | Tag::RP | Tag::RT => {
                if self.in_scope(Tag::RUBY, Scope::Default) {
                    let keep = matches!(tag.tag, Tag::RP | Tag::RT);
                    self.imply_ends(if keep { Tag::RTC } else { Tag::DOCUMENT });
                }
                self.insert_html(&tag);
            }
            Tag::MATH | Tag::SVG => {
                self.reconstruct();
                let space = if tag.tag == Tag::MATH { Space::Math } else { Space::Svg };
                self.insert_foreign(&tag, space);
            }
            Tag::CAPTION
            | Tag::COL
            | Tag::COLGROUP
            | Tag::FRAME
            | Tag::HEAD
            | Tag::TBODY
            | Tag::TD
            | Tag::TFOOT
            | Tag::TH
            | Tag::THEAD
            | Tag::TR
            | Tag::FRAMESET => {}
            name if name.has(VOID) => {
                self.reconstruct();
                self.insert_void(&tag);
            }
            _ => {
                self.reconstruct();
                self.insert_html(&tag);
            }
        }
    }

    fn start_form(&mut self, tag: StartTag) {
        let in_template = self.maybe_open(Tag::TEMPLATE);
        if self.form != NONE && !in_template {
            return;
        }
        self.close_p();
        let node = self.insert_html(&tag);
        if !in_template && self.open.last().is_some_and(|top| top.node == node) {
            self.form = node;
        }
    }

    /// `form` directly in a table: an element without content, but the form is "open".
    pub fn start_form_in_table(&mut self, tag: StartTag) {
        if self.form == NONE && !self.maybe_open(Tag::TEMPLATE) {
            self.insert_void(&tag);
            self.form = self.tree.nodes.len() as NodeId - 1;
        }
    }

    /// `li`, `dd`, `dt` close the item before them.
    fn start_item(&mut self, tag: StartTag) {
        let list = tag.tag == Tag::LI;
        let wanted = |t: Tag| if list { t == Tag::LI } else { matches!(t, Tag::DD | Tag::DT) };
        let mut found = None;
        for open in self.open.iter().rev() {
            if open.space == Space::Html && wanted(open.tag) {
                found = Some(open.tag);
                break;
            }
            let passed = matches!(open.tag, Tag::ADDRESS | Tag::DIV | Tag::P);
            if is_special(open) && !passed {
                break;
            }
        }
        if let Some(name) = found {
            self.imply_ends(name);
            self.pop_until_tag(name);
        }
        self.close_p();
        self.insert_html(&tag);
    }

    fn start_anchor(&mut self, tag: StartTag) {
        let since = self.formatting.iter().rposition(|f| f.node == NONE).map_or(0, |i| i + 1);
        let old = self.formatting[since..].iter().rev().find(|f| f.tag == Tag::A).map(|f| f.node);
        if let Some(node) = old {
            self.adopt(Tag::A);
            self.formatting.retain(|f| f.node != node);
            if let Some(at) = self.open.iter().rposition(|open| open.node == node) {
                self.remove_open(at);
            }
        }
        self.reconstruct();
        self.insert_formatting(&tag);
    }

    fn start_control(&mut self, tag: StartTag) {
        if self.in_scope(Tag::SELECT, Scope::Default) {
            self.pop_until_tag(Tag::SELECT);
            if tag.tag == Tag::SELECT {
                return;
            }
        }
        self.reconstruct();
        if tag.tag == Tag::INPUT {
            self.insert_void(&tag);
        } else {
            self.insert_html(&tag);
        }
    }

    fn start_option(&mut self, tag: StartTag) {
        if self.in_scope(Tag::SELECT, Scope::Default) {
            let group = tag.tag == Tag::OPTGROUP;
            self.imply_ends(if group { Tag::DOCUMENT } else { Tag::OPTGROUP });
        } else if self.top_is(Tag::OPTION) {
            self.pop();
        }
        self.reconstruct();
        self.insert_html(&tag);
    }

    // ---- end tags ----

    pub fn end_in_body(&mut self, tag: Tag) {
        match tag {
            Tag::TEMPLATE => self.end_template(),
            Tag::BODY | Tag::HTML => {
                if self.in_scope(Tag::BODY, Scope::Default) {
                    self.mode = Mode::AfterBody;
                }
            }
            Tag::FORM => self.end_form(),
            Tag::P => {
                if !self.in_scope(Tag::P, Scope::Button) {
                    self.insert_implied(Tag::P);
                }
                self.close_p();
            }
            Tag::LI => {
                if self.in_scope(Tag::LI, Scope::List) {
                    self.imply_ends(Tag::LI);
                    self.pop_until_tag(Tag::LI);
                }
            }
            _ if tag.is_heading() => {
                if self.scope_has(Scope::Default, |open| open.tag.is_heading()) {
                    self.imply_ends(Tag::DOCUMENT);
                    self.pop_until(Tag::is_heading);
                }
            }
            Tag::DD | Tag::DT => {
                if self.in_scope(tag, Scope::Default) {
                    self.imply_ends(tag);
                    self.pop_until_tag(tag);
                }
            }
            Tag::APPLET | Tag::MARQUEE | Tag::OBJECT => {
                if self.in_scope(tag, Scope::Default) {
                    self.imply_ends(Tag::DOCUMENT);
                    self.pop_until_tag(tag);
                    self.clear_to_marker();
                }
            }
            Tag::BR => {
                self.reconstruct();
                self.insert_void(&bare(Tag::BR));
            }
            _ if tag.has(FORMAT) => self.adopt(tag),
            _ if tag.has(CLOSES_P)
                || matches!(tag, Tag::BUTTON | Tag::LISTING | Tag::PRE | Tag::SELECT) =>
            {
                if self.in_scope(tag, Scope::Default) {
                    self.imply_ends(Tag::DOCUMENT);
                    self.pop_until_tag(tag);
                }
            }
            _ => self.end_any(tag),
        }
    }

    fn end_form(&mut self) {
        if self.maybe_open(Tag::TEMPLATE) {
            if self.in_scope(Tag::FORM, Scope::Default) {
                self.imply_ends(Tag::DOCUMENT);
                self.pop_until_tag(Tag::FORM);
            }
            return;
        }
        let form = std::mem::replace(&mut self.form, NONE);
        if form == NONE || !self.scope_has(Scope::Default, |open| open.node == form) {
            return;
        }
        self.imply_ends(Tag::DOCUMENT);
        if let Some(at) = self.open.iter().rposition(|open| open.node == form) {
            self.remove_open(at);
        }
    }
}
