//! The tokenizer: tags, text, comments and raw text out of a page, in one pass. It follows the
//! tokenization states of the HTML standard (section 13.2.5) but works on ranges of the page; it
//! does not know which elements are open (the tree builder asks for raw text when it must).
//!
//! Linear: every call moves forward, nothing is read twice but for text up to the next `<`.

use memchr::{memchr, memchr2};

use super::entities;
use super::names::{Attr, Tag};
use super::tree::{Range, Tree};

/// What the tree builder consumes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Token {
    /// Text with references decoded; may hold NUL and carriage returns.
    Text(Range),
    /// A start tag.
    Start(StartTag),
    /// An end tag.
    End(Tag),
    /// A doctype; true if it asks for quirks mode.
    Doctype(bool),
    /// The end of the page.
    Eof,
}

/// A start tag with the range of its kept attributes in `Tree::attrs`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct StartTag {
    pub tag: Tag,
    pub attrs: Range,
    /// `<br/>`: means something in SVG and MathML only.
    pub self_closing: bool,
    /// Sum of hashes of all attributes (kept or not), for formatting elements only.
    pub fingerprint: u64,
}

/// A reader over the bytes of a page.
pub(crate) struct Tokenizer<'a> {
    source: &'a str,
    src: &'a [u8],
    pos: usize,
}

fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\n' | b'\t' | b'\r' | b'\x0c')
}

impl<'a> Tokenizer<'a> {
    pub(crate) fn new(source: &'a str) -> Tokenizer<'a> {
        // a byte order mark is no text
        let pos = if source.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        Tokenizer { source, src: source.as_bytes(), pos }
    }

    /// The next token; comments and other markup without text are passed over. `cdata` says that
    /// the current node is SVG or MathML, where CDATA sections hold text.
    pub(crate) fn next(&mut self, tree: &mut Tree<'a>, cdata: bool) -> Token {
        loop {
            if self.pos >= self.src.len() {
                return Token::Eof;
            }
            if self.src[self.pos] != b'<' {
                return self.text(tree);
            }
            let token = match self.src.get(self.pos + 1) {
                Some(b) if b.is_ascii_alphabetic() => self.start_tag(tree),
                Some(b'/') => self.end_tag(tree),
                Some(b'!') => self.declaration(cdata),
                Some(b'?') => self.bogus_comment(self.pos + 1),
                _ => Some(self.text(tree)),
            };
            if let Some(token) = token {
                return token;
            }
        }
    }

    /// Text up to the next `<` that begins markup.
    fn text(&mut self, tree: &mut Tree<'a>) -> Token {
        let start = self.pos;
        let mut at = start;
        loop {
            match memchr(b'<', &self.src[at..]) {
                None => {
                    at = self.src.len();
                    break;
                }
                Some(found) => {
                    at += found;
                    let next = self.src.get(at + 1).copied().unwrap_or(0);
                    if next.is_ascii_alphabetic() || matches!(next, b'/' | b'!' | b'?') {
                        // `</` at the very end of the page is text
                        if next != b'/' || at + 2 < self.src.len() {
                            break;
                        }
                    }
                    at += 1;
                }
            }
        }
        self.pos = at;
        Token::Text(self.decoded(start, at, false, tree))
    }

    /// The range of a piece of the page, in the side buffer if it has references.
    fn decoded(&self, start: usize, end: usize, attribute: bool, tree: &mut Tree<'a>) -> Range {
        if memchr(b'&', &self.src[start..end]).is_none() {
            return Range { start: start as u32, len: (end - start) as u32 };
        }
        let mark = tree.side_mark();
        entities::decode(&self.source[start..end], attribute, &mut tree.side);
        tree.side_range(mark)
    }

    fn start_tag(&mut self, tree: &mut Tree<'a>) -> Option<Token> {
        self.pos += 1;
        let tag = self.tag_name(tree);
        let first = tree.attrs.len();
        let mut tag = StartTag {
            tag,
            attrs: Range { start: first as u32, len: 0 },
            self_closing: false,
            fingerprint: 0,
        };
        if !self.attributes(&mut tag, tree) {
            tree.attrs.truncate(first);
            self.pos = self.src.len();
            return None;
        }
        tag.attrs.len = (tree.attrs.len() - first) as u32;
        Some(Token::Start(tag))
    }

    fn end_tag(&mut self, tree: &mut Tree<'a>) -> Option<Token> {
        match self.src.get(self.pos + 2) {
            Some(b) if b.is_ascii_alphabetic() => {}
            Some(b'>') => {
                self.pos += 3;
                return None;
            }
            Some(_) => return self.bogus_comment(self.pos + 2),
            None => return Some(self.text(tree)),
        }
        self.pos += 2;
        let name = self.tag_name(tree);
        let first = tree.attrs.len();
        let mut tag =
            StartTag { tag: name, attrs: Range::default(), self_closing: false, fingerprint: 0 };
        let complete = self.attributes(&mut tag, tree);
        tree.attrs.truncate(first);
        if !complete {
            self.pos = self.src.len();
            return None;
        }
        Some(Token::End(name))
    }

    /// Reads a tag name, lower-casing it.
    fn tag_name(&mut self, tree: &mut Tree<'a>) -> Tag {
        let start = self.pos;
        let ends = |b: &u8| is_space(*b) || matches!(b, b'/' | b'>');
        let len = self.src[start..].iter().position(ends).unwrap_or(self.src.len() - start);
        self.pos = start + len;
        let name = &self.src[start..self.pos];
        let at = Range { start: start as u32, len: len as u32 };
        let mut small = [0u8; 16];
        if len <= small.len() {
            for (to, from) in small.iter_mut().zip(name) {
                *to = from.to_ascii_lowercase();
            }
            tree.tag(&small[..len], at)
        } else {
            tree.tag(&name.to_ascii_lowercase(), at)
        }
    }

    /// Reads attributes up to and with `>`; false if the page ends inside the tag.
    fn attributes(&mut self, tag: &mut StartTag, tree: &mut Tree<'a>) -> bool {
        let mut seen = 0u64;
        loop {
            let Some(&b) = self.src.get(self.pos) else { return false };
            match b {
                b'>' => {
                    self.pos += 1;
                    return true;
                }
                b'/' => {
                    self.pos += 1;
                    tag.self_closing = self.src.get(self.pos) == Some(&b'>');
                }
                b if is_space(b) => self.pos += 1,
                _ => {
                    if !self.attribute(tag, &mut seen, tree) {
                        return false;
                    }
                }
            }
        }
    }

    fn attribute(&mut self, tag: &mut StartTag, seen: &mut u64, tree: &mut Tree<'a>) -> bool {
        let (src, start) = (self.src, self.pos);
        // a leading `=` belongs to the name
        let ends = |b: &u8| is_space(*b) || matches!(b, b'/' | b'>' | b'=');
        let rest = &src[start + 1..];
        let Some(len) = rest.iter().position(ends) else { return false };
        let name = &src[start..start + 1 + len];
        self.pos = start + 1 + len;
        let mut at = self.pos;
        while src.get(at).is_some_and(|b| is_space(*b)) {
            at += 1;
        }
        let (from, to) = if src.get(at) == Some(&b'=') {
            self.pos = at + 1;
            match self.value() {
                Some(value) => value,
                None => return false,
            }
        } else {
            (self.pos, self.pos)
        };
        if tag.tag.has(super::names::FORMAT) {
            let hash = xxhash_rust::xxh3::xxh3_64_with_seed(&src[from..to], name.len() as u64);
            tag.fingerprint = tag.fingerprint.wrapping_add(hash ^ xxhash_rust::xxh3::xxh3_64(name));
        }
        if let Some(attr) = known_attribute(name) {
            let bit = 1u64 << attr as u8;
            if *seen & bit == 0 {
                *seen |= bit;
                let range = self.decoded(from, to, true, tree);
                tree.attrs.push((attr, range));
            }
        }
        true
    }

    /// The value after `=`: its bounds, or nothing if the page ends inside it.
    fn value(&mut self) -> Option<(usize, usize)> {
        while self.src.get(self.pos).is_some_and(|b| is_space(*b)) {
            self.pos += 1;
        }
        match *self.src.get(self.pos)? {
            quote @ (b'"' | b'\'') => {
                let from = self.pos + 1;
                let len = memchr(quote, &self.src[from..])?;
                self.pos = from + len + 1;
                Some((from, from + len))
            }
            b'>' => Some((self.pos, self.pos)),
            _ => {
                let from = self.pos;
                let ends = |b: &u8| is_space(*b) || *b == b'>';
                self.pos = from + self.src[from..].iter().position(ends)?;
                Some((from, self.pos))
            }
        }
    }

    /// `<!--`, `<!DOCTYPE`, `<![CDATA[` or rubbish.
    fn declaration(&mut self, cdata: bool) -> Option<Token> {
        let rest = &self.src[self.pos + 2..];
        if rest.starts_with(b"--") {
            self.pos = comment_end(self.src, self.pos + 4);
            None
        } else if rest.len() >= 7 && rest[..7].eq_ignore_ascii_case(b"doctype") {
            let end = memchr(b'>', rest).unwrap_or(rest.len());
            let quirks = asks_for_quirks(&rest[7.min(end)..end], end == rest.len());
            self.pos = (self.pos + 2 + end + 1).min(self.src.len());
            Some(Token::Doctype(quirks))
        } else if cdata && rest.starts_with(b"[CDATA[") {
            let from = self.pos + 9;
            let end = memchr::memmem::find(&self.src[from..], b"]]>");
            let len = end.unwrap_or(self.src.len() - from);
            self.pos = (from + len + 3).min(self.src.len());
            Some(Token::Text(Range { start: from as u32, len: len as u32 }))
        } else {
            self.bogus_comment(self.pos + 2)
        }
    }

    fn bogus_comment(&mut self, from: usize) -> Option<Token> {
        let end = memchr(b'>', &self.src[from..]).map_or(self.src.len(), |i| from + i + 1);
        self.pos = end;
        None
    }

    /// Reads raw text up to the end tag of `name` (which is consumed) or the end of the page.
    /// References are decoded if `decode` (textarea and title).
    pub(crate) fn raw_text(&mut self, name: &str, decode: bool, tree: &mut Tree<'a>) -> Range {
        let start = self.pos;
        let end = if name == "script" { self.script_end() } else { self.plain_end(name) };
        self.pos = end;
        if end < self.src.len() {
            self.pos = end + 2 + name.len();
            let (first, mut tag) = (
                tree.attrs.len(),
                StartTag {
                    tag: Tag::TEXT,
                    attrs: Range::default(),
                    self_closing: false,
                    fingerprint: 0,
                },
            );
            self.attributes(&mut tag, tree);
            tree.attrs.truncate(first);
        }
        if decode {
            self.decoded(start, end, false, tree)
        } else {
            Range { start: start as u32, len: (end - start) as u32 }
        }
    }

    /// Everything that is left (`plaintext`).
    pub(crate) fn rest(&mut self) -> Range {
        let start = self.pos;
        self.pos = self.src.len();
        Range { start: start as u32, len: (self.src.len() - start) as u32 }
    }

    /// Passes one line feed (after `pre`, `listing` and `textarea`).
    pub(crate) fn skip_line_feed(&mut self) {
        if self.src[self.pos.min(self.src.len())..].starts_with(b"\r\n") {
            self.pos += 2;
        } else if matches!(self.src.get(self.pos), Some(b'\n' | b'\r')) {
            self.pos += 1;
        }
    }

    fn plain_end(&self, name: &str) -> usize {
        let mut at = self.pos;
        while let Some(found) = memchr(b'<', &self.src[at..]) {
            at += found;
            if self.closes(at, name) {
                return at;
            }
            at += 1;
        }
        self.src.len()
    }

    /// Whether `</name` stands at `at`, followed by a character that ends a tag name.
    fn closes(&self, at: usize, name: &str) -> bool {
        self.src.get(at + 1) == Some(&b'/') && self.word(at + 2, name)
    }

    fn word(&self, at: usize, name: &str) -> bool {
        let Some(found) = self.src.get(at..at + name.len()) else { return false };
        found.eq_ignore_ascii_case(name.as_bytes())
            && self.src.get(at + name.len()).is_some_and(|b| is_space(*b) || b"/>".contains(b))
    }

    /// Where a script ends: at `</script`, but inside `<!-- <script` ... `</script` ... `-->` the
    /// inner pair is part of the script ("script data double escaped").
    fn script_end(&self) -> usize {
        let (mut at, mut escaped, mut inner) = (self.pos, false, false);
        while let Some(found) = memchr2(b'<', b'-', &self.src[at..]) {
            at += found;
            if self.src[at] == b'-' {
                // "-->" also when its dashes are those of "<!-->"
                if escaped && self.src[at..].starts_with(b"-->") {
                    (escaped, inner) = (false, false);
                    at += 3;
                } else {
                    at += 1;
                }
            } else if self.closes(at, "script") {
                if !inner {
                    return at;
                }
                inner = false;
                at += 2;
            } else if self.src[at..].starts_with(b"<!--") {
                escaped = true;
                at += 2;
            } else {
                inner |= escaped && self.word(at + 1, "script");
                at += 1;
            }
        }
        self.src.len()
    }
}

#[inline]
fn known_attribute(name: &[u8]) -> Option<Attr> {
    let mut small = [0u8; 16];
    if name.len() > small.len() {
        return None;
    }
    for (to, from) in small.iter_mut().zip(name) {
        *to = from.to_ascii_lowercase();
    }
    Attr::known(&small[..name.len()])
}

/// The position after a comment whose text starts at `from`.
fn comment_end(src: &[u8], from: usize) -> usize {
    let rest = &src[from.min(src.len())..];
    if rest.starts_with(b">") {
        return from + 1;
    }
    if rest.starts_with(b"->") {
        return from + 2;
    }
    let mut at = from;
    while let Some(found) = memchr(b'>', &src[at.min(src.len())..]) {
        at += found;
        let text = &src[from..at];
        if text.ends_with(b"--") || text.ends_with(b"--!") {
            return at + 1;
        }
        at += 1;
    }
    src.len()
}

/// Whether a doctype (the text after the word) means quirks mode: no name, an old public
/// identifier, or rubbish. Only `table` inside `p` depends on it.
fn asks_for_quirks(text: &[u8], unfinished: bool) -> bool {
    let text = String::from_utf8_lossy(text).to_ascii_lowercase();
    let text = text.trim();
    if unfinished || !(text == "html" || text.starts_with("html ") || text.starts_with("html\n")) {
        return true;
    }
    let Some(at) = text.find("public") else { return false };
    let has_system = text.matches(['"', '\'']).count() >= 4;
    let id = text[at + 6..].trim_start().trim_start_matches(['"', '\'']);
    let old = ["-//ietf//dtd html", "-//w3c//dtd html 3", "-//w3o//", "-//netscape comm"];
    let frames = id.starts_with("-//w3c//dtd html 4.01 transitional")
        || id.starts_with("-//w3c//dtd html 4.01 frameset");
    old.iter().any(|prefix| id.starts_with(prefix))
        || id.starts_with("-//w3c//dtd html 4.0 ")
        || (frames && !has_system)
}
