//! Tree construction inside tables: the insertion modes "in table", "in caption", "in column
//! group", "in table body", "in row" and "in cell" of the HTML standard (13.2.6.4.9 to .15).
//! What does not belong in a table is put in front of it (foster parenting).

use super::build::{Builder, Mode, Scope};
use super::names::Tag;
use super::tokenizer::StartTag;

impl Builder<'_> {
    fn pop_to(&mut self, stops: &[Tag]) {
        while !matches!(self.top().tag, Tag::TEMPLATE | Tag::HTML | Tag::DOCUMENT)
            && !stops.contains(&self.top().tag)
        {
            self.pop();
        }
    }

    fn pop_to_table(&mut self) {
        self.pop_to(&[Tag::TABLE]);
    }

    fn pop_to_rows(&mut self) {
        self.pop_to(&[Tag::TBODY, Tag::TFOOT, Tag::THEAD]);
    }

    fn pop_to_row(&mut self) {
        self.pop_to(&[Tag::TR]);
    }

    pub fn start_in_table(&mut self, tag: StartTag) {
        match tag.tag {
            Tag::CAPTION => {
                self.pop_to_table();
                self.marker();
                self.insert_html(&tag);
                self.mode = Mode::InCaption;
            }
            Tag::COLGROUP => {
                self.pop_to_table();
                self.insert_html(&tag);
                self.mode = Mode::InColumnGroup;
            }
            Tag::COL => {
                self.pop_to_table();
                self.insert_implied(Tag::COLGROUP);
                self.mode = Mode::InColumnGroup;
                self.start_in_columns(tag);
            }
            Tag::TBODY | Tag::TFOOT | Tag::THEAD => {
                self.pop_to_table();
                self.insert_html(&tag);
                self.mode = Mode::InTableBody;
            }
            Tag::TD | Tag::TH | Tag::TR => {
                self.pop_to_table();
                self.insert_implied(Tag::TBODY);
                self.mode = Mode::InTableBody;
                self.start_in_rows(tag);
            }
            Tag::TABLE => {
                if self.close_table() {
                    self.start_in(self.mode, tag);
                }
            }
            Tag::STYLE | Tag::SCRIPT | Tag::TEMPLATE => {
                self.start_in_head(&tag);
            }
            Tag::INPUT if self.is_hidden_input(&tag) => self.insert_void(&tag),
            Tag::FORM => self.start_form_in_table(tag),
            _ => {
                self.foster = true;
                self.start_in(Mode::InBody, tag);
                self.foster = false;
            }
        }
    }

    fn is_hidden_input(&self, tag: &StartTag) -> bool {
        let from = tag.attrs.start as usize;
        let attrs = self.tree.attrs.get(from..from + tag.attrs.len as usize).unwrap_or(&[]);
        attrs.iter().any(|(name, value)| {
            *name == super::names::Attr::Type
                && self.tree.slice(*value).eq_ignore_ascii_case("hidden")
        })
    }

    fn close_table(&mut self) -> bool {
        let open = self.in_scope(Tag::TABLE, Scope::Table);
        if open {
            self.pop_until_tag(Tag::TABLE);
            self.reset_mode();
        }
        open
    }

    pub fn end_in_table(&mut self, tag: Tag) {
        match tag {
            Tag::TABLE => {
                self.close_table();
            }
            Tag::BODY
            | Tag::CAPTION
            | Tag::COL
            | Tag::COLGROUP
            | Tag::HTML
            | Tag::TBODY
            | Tag::TD
            | Tag::TFOOT
            | Tag::TH
            | Tag::THEAD
            | Tag::TR => {}
            _ => {
                self.foster = true;
                self.end_in_body(tag);
                self.foster = false;
            }
        }
    }

    fn close_caption(&mut self) -> bool {
        let open = self.in_scope(Tag::CAPTION, Scope::Table);
        if open {
            self.imply_ends(Tag::DOCUMENT);
            self.pop_until_tag(Tag::CAPTION);
            self.clear_to_marker();
            self.mode = Mode::InTable;
        }
        open
    }

    pub fn start_in_caption(&mut self, tag: StartTag) {
        if is_table_part(tag.tag) {
            if self.close_caption() {
                self.start_in_table(tag);
            }
        } else {
            self.start_in(Mode::InBody, tag);
        }
    }

    pub fn end_in_caption(&mut self, tag: Tag) {
        match tag {
            Tag::CAPTION => {
                self.close_caption();
            }
            Tag::TABLE => {
                if self.close_caption() {
                    self.end_in_table(tag);
                }
            }
            Tag::BODY | Tag::HTML => {}
            _ if is_table_part(tag) => {}
            _ => self.end_in_body(tag),
        }
    }

    pub fn start_in_columns(&mut self, tag: StartTag) {
        match tag.tag {
            Tag::COL => self.insert_void(&tag),
            Tag::TEMPLATE => {
                self.start_in_head(&tag);
            }
            _ => self.leave_and_start(Mode::InColumnGroup, tag),
        }
    }

    pub fn end_in_columns(&mut self, tag: Tag) {
        match tag {
            Tag::COLGROUP => {
                self.leave(Mode::InColumnGroup);
            }
            Tag::COL => {}
            Tag::TEMPLATE => self.end_template(),
            _ => {
                if self.leave(Mode::InColumnGroup) {
                    self.end_in_table(tag);
                }
            }
        }
    }

    /// Closes the open `tbody`, `thead` or `tfoot`.
    fn close_rows(&mut self) -> bool {
        let groups = |t: Tag| matches!(t, Tag::TBODY | Tag::THEAD | Tag::TFOOT);
        let open = self.scope_has(Scope::Table, |o| groups(o.tag));
        if open {
            self.pop_to_rows();
            self.pop();
            self.mode = Mode::InTable;
        }
        open
    }

    pub fn start_in_rows(&mut self, tag: StartTag) {
        match tag.tag {
            Tag::TR => {
                self.pop_to_rows();
                self.insert_html(&tag);
                self.mode = Mode::InRow;
            }
            Tag::TH | Tag::TD => {
                self.pop_to_rows();
                self.insert_implied(Tag::TR);
                self.mode = Mode::InRow;
                self.start_in_row(tag);
            }
            _ if is_table_part(tag.tag) => {
                if self.close_rows() {
                    self.start_in_table(tag);
                }
            }
            _ => self.start_in_table(tag),
        }
    }

    pub fn end_in_rows(&mut self, tag: Tag) {
        match tag {
            Tag::TBODY | Tag::THEAD | Tag::TFOOT => {
                if self.in_scope(tag, Scope::Table) {
                    self.close_rows();
                }
            }
            Tag::TABLE => {
                if self.close_rows() {
                    self.end_in_table(tag);
                }
            }
            _ => self.end_in_table(tag),
        }
    }

    fn close_row(&mut self) -> bool {
        let open = self.in_scope(Tag::TR, Scope::Table);
        if open {
            self.pop_to_row();
            self.pop();
            self.mode = Mode::InTableBody;
        }
        open
    }

    pub fn start_in_row(&mut self, tag: StartTag) {
        match tag.tag {
            Tag::TH | Tag::TD => {
                self.pop_to_row();
                self.insert_html(&tag);
                self.mode = Mode::InCell;
                self.marker();
            }
            _ if is_table_part(tag.tag) => {
                if self.close_row() {
                    self.start_in_rows(tag);
                }
            }
            _ => self.start_in_table(tag),
        }
    }

    pub fn end_in_row(&mut self, tag: Tag) {
        match tag {
            Tag::TR => {
                self.close_row();
            }
            Tag::TABLE => {
                if self.close_row() {
                    self.end_in_rows(tag);
                }
            }
            Tag::TBODY | Tag::THEAD | Tag::TFOOT => {
                if self.in_scope(tag, Scope::Table) && self.close_row() {
                    self.end_in_rows(tag);
                }
            }
            _ => self.end_in_table(tag),
        }
    }

    fn close_cell(&mut self) {
        self.imply_ends(Tag::DOCUMENT);
        self.pop_until(|t| matches!(t, Tag::TD | Tag::TH));
        self.clear_to_marker();
        self.mode = Mode::InRow;
    }

    fn cell_is_open(&self) -> bool {
        self.scope_has(Scope::Table, |o| matches!(o.tag, Tag::TD | Tag::TH))
    }

    pub fn start_in_cell(&mut self, tag: StartTag) {
        if !is_table_part(tag.tag) {
            self.start_in(Mode::InBody, tag);
        } else if self.cell_is_open() {
            self.close_cell();
            self.start_in_row(tag);
        }
    }

    pub fn end_in_cell(&mut self, tag: Tag) {
        match tag {
            Tag::TD | Tag::TH => {
                if self.in_scope(tag, Scope::Table) {
                    self.imply_ends(Tag::DOCUMENT);
                    self.pop_until_tag(tag);
                    self.clear_to_marker();
                    self.mode = Mode::InRow;
                }
            }
            Tag::BODY | Tag::CAPTION | Tag::COL | Tag::COLGROUP | Tag::HTML => {}
            Tag::TABLE | Tag::TBODY | Tag::TFOOT | Tag::THEAD | Tag::TR => {
                if self.in_scope(tag, Scope::Table) {
                    self.close_cell();
                    self.end_in_row(tag);
                }
            }
            _ => self.end_in_body(tag),
        }
    }
}

/// The tags that cannot stand inside a caption, row or cell but end it.
fn is_table_part(tag: Tag) -> bool {
    matches!(
        tag,
        Tag::CAPTION
            | Tag::COL
            | Tag::COLGROUP
            | Tag::TBODY
            | Tag::TD
            | Tag::TFOOT
            | Tag::TH
            | Tag::THEAD
            | Tag::TR
    )
}
