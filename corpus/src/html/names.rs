//! Names of elements and attributes as small integers, with the properties of elements that tree
//! construction and extraction ask for. Not a tree and not a tokenizer: tables alone.
//!
//! Sources: the lists "special", "formatting", "scope" and "implied end tags" of the HTML standard
//! (section 13.2); block level and the extraction classes are our own choice, said where set.

/// An element name. Names of the table below have fixed numbers; any other name met on a page gets
/// the next free number from that page's tree, so that equal names compare equal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct Tag(pub u16);

/// Ends a scope walk (applet, table, td, template, ...).
pub(crate) const SCOPE: u16 = 1;
/// "Special" elements of the standard: they stop the search for an end tag's partner.
pub(crate) const SPECIAL: u16 = 2;
/// Formatting elements: reopened in the next block when left unclosed.
pub(crate) const FORMAT: u16 = 4;
/// Closed by implication before certain end tags.
pub(crate) const IMPLIED: u16 = 8;
/// Never has children.
pub(crate) const VOID: u16 = 16;
/// Starts and ends a line of its own in rendered text.
pub(crate) const BLOCK: u16 = 32;
/// Never carries text that a reader reads (scripts, form controls, embedded objects).
pub(crate) const UNREAD: u16 = 64;
/// Closed by implication when a template closes, beyond `IMPLIED`.
pub(crate) const THOROUGH: u16 = 128;
/// A start tag that leaves SVG or MathML and continues as HTML.
pub(crate) const BREAKOUT: u16 = 256;
/// Start tags of plain blocks: they close an open `p` and are inserted.
pub(crate) const CLOSES_P: u16 = 512;

macro_rules! tags {
    ($($name:ident $text:literal $flags:expr;)*) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        enum Number { $($name,)* COUNT }
        #[allow(missing_docs)]
        impl Tag {
            $(pub const $name: Tag = Tag(Number::$name as u16);)*
        }
        /// How many names have fixed numbers.
        pub(crate) const KNOWN: usize = Number::COUNT as usize;
        const TEXTS: [&str; KNOWN] = [$($text,)*];
        const FLAGS: [u16; KNOWN] = [$($flags,)*];
    };
}

const SB: u16 = SPECIAL | BLOCK;
const DIV: u16 = SPECIAL | BLOCK | CLOSES_P;
const OUT: u16 = BREAKOUT;

tags! {
    DOCUMENT "#document" SCOPE;
    TEXT "#text" 0;
    HTML "html" SCOPE | SB;
    HEAD "head" SB | OUT | UNREAD;
    BODY "body" SB | OUT;
    TITLE "title" SPECIAL;
    META "meta" SPECIAL | VOID | OUT | UNREAD;
    LINK "link" SPECIAL | VOID | UNREAD;
    BASE "base" SPECIAL | VOID | UNREAD;
    BASEFONT "basefont" SPECIAL | VOID | UNREAD;
    BGSOUND "bgsound" SPECIAL | VOID | UNREAD;
    SCRIPT "script" SPECIAL | UNREAD;
    STYLE "style" SPECIAL | UNREAD;
    NOSCRIPT "noscript" SPECIAL | BLOCK;
    NOFRAMES "noframes" SPECIAL | UNREAD;
    NOEMBED "noembed" SPECIAL | UNREAD;
    TEMPLATE "template" SCOPE | SPECIAL | UNREAD;
    IFRAME "iframe" SPECIAL | UNREAD;
    TEXTAREA "textarea" SPECIAL | UNREAD;
    XMP "xmp" SB;
    PLAINTEXT "plaintext" SB;
    ADDRESS "address" DIV;
    ARTICLE "article" DIV;
    ASIDE "aside" DIV;
    BLOCKQUOTE "blockquote" DIV | OUT;
    CENTER "center" DIV | OUT;
    DETAILS "details" DIV;
    DIALOG "dialog" BLOCK | CLOSES_P;
    DIR "dir" DIV;
    DIV "div" DIV | OUT;
    DL "dl" DIV | OUT;
    FIELDSET "fieldset" DIV;
    FIGCAPTION "figcaption" DIV;
    FIGURE "figure" DIV;
    FOOTER "footer" DIV;
    HEADER "header" DIV;
    HGROUP "hgroup" DIV;
    MAIN "main" DIV;
    MENU "menu" DIV | OUT;
    NAV "nav" DIV;
    OL "ol" DIV | OUT;
    P "p" DIV | IMPLIED | OUT;
    SEARCH "search" DIV;
    SECTION "section" DIV;
    SUMMARY "summary" DIV;
    UL "ul" DIV | OUT;
    H1 "h1" SB | OUT;
    H2 "h2" SB | OUT;
    H3 "h3" SB | OUT;
    H4 "h4" SB | OUT;
    H5 "h5" SB | OUT;
    H6 "h6" SB | OUT;
    PRE "pre" SB | OUT;
    LISTING "listing" SB | OUT;
    FORM "form" SB;
    LI "li" SB | IMPLIED | OUT;
    DD "dd" SB | IMPLIED | OUT;
    DT "dt" SB | IMPLIED | OUT;
    A "a" FORMAT;
    B "b" FORMAT | OUT;
    BIG "big" FORMAT | OUT;
    CODE "code" FORMAT | OUT;
    EM "em" FORMAT | OUT;
    FONT "font" FORMAT;
    I "i" FORMAT | OUT;
    NOBR "nobr" FORMAT | OUT;
    S "s" FORMAT | OUT;
    SMALL "small" FORMAT | OUT;
    STRIKE "strike" FORMAT | OUT;
    STRONG "strong" FORMAT | OUT;
    TT "tt" FORMAT | OUT;
    U "u" FORMAT | OUT;
    APPLET "applet" SCOPE | SPECIAL | UNREAD;
    MARQUEE "marquee" SCOPE | SB;
    OBJECT "object" SCOPE | SPECIAL;
    TABLE "table" SCOPE | SB | OUT;
    CAPTION "caption" SCOPE | SB | THOROUGH;
    COLGROUP "colgroup" SPECIAL | THOROUGH;
    COL "col" SPECIAL | VOID;
    TBODY "tbody" SB | THOROUGH;
    THEAD "thead" SB | THOROUGH;
    TFOOT "tfoot" SB | THOROUGH;
    TR "tr" SB | THOROUGH;
    TD "td" SCOPE | SPECIAL | THOROUGH;
    TH "th" SCOPE | SPECIAL | THOROUGH;
    AREA "area" SPECIAL | VOID;
    BR "br" SPECIAL | VOID | OUT;
    EMBED "embed" SPECIAL | VOID | OUT | UNREAD;
    IMG "img" SPECIAL | VOID | OUT;
    KEYGEN "keygen" SPECIAL | VOID | UNREAD;
    WBR "wbr" SPECIAL | VOID;
    INPUT "input" SPECIAL | VOID | UNREAD;
    PARAM "param" SPECIAL | VOID;
    SOURCE "source" SPECIAL | VOID;
    TRACK "track" SPECIAL | VOID;
    HR "hr" SPECIAL | VOID | OUT | BLOCK;
    IMAGE "image" 0;
    FRAME "frame" SPECIAL | VOID | UNREAD;
    FRAMESET "frameset" SB;
    BUTTON "button" SPECIAL | UNREAD;
    SELECT "select" SPECIAL | SCOPE | UNREAD;
    OPTION "option" IMPLIED;
    OPTGROUP "optgroup" IMPLIED;
    DATALIST "datalist" UNREAD;
    LABEL "label" 0;
    LEGEND "legend" BLOCK;
    OUTPUT "output" 0;
    METER "meter" 0;
    PROGRESS "progress" 0;
    RB "rb" IMPLIED;
    RP "rp" IMPLIED;
    RT "rt" IMPLIED;
    RTC "rtc" IMPLIED;
    RUBY "ruby" OUT;
    SPAN "span" OUT;
    SUB "sub" OUT;
    SUP "sup" OUT;
    VAR "var" OUT;
    ABBR "abbr" 0;
    TIME "time" 0;
    CITE "cite" 0;
    Q "q" 0;
    KBD "kbd" 0;
    SAMP "samp" 0;
    DEL "del" 0;
    INS "ins" 0;
    MARK "mark" 0;
    PICTURE "picture" 0;
    VIDEO "video" UNREAD;
    AUDIO "audio" UNREAD;
    CANVAS "canvas" UNREAD;
    MAP "map" 0;
    MATH "math" 0;
    SVG "svg" UNREAD;
    MI "mi" 0;
    MO "mo" 0;
    MN "mn" 0;
    MS "ms" 0;
    MTEXT "mtext" 0;
    ANNOTATION "annotation" 0;
    ANNOTATION_XML "annotation-xml" 0;
    SEMANTICS "semantics" 0;
    FOREIGN_OBJECT "foreignobject" 0;
    DESC "desc" 0;
    SELECTEDCONTENT "selectedcontent" UNREAD;
}

impl Tag {
    /// The properties of the element: a set of the bits above (0 for names without a number).
    #[inline]
    pub(crate) fn flags(self) -> u16 {
        FLAGS.get(self.0 as usize).copied().unwrap_or(0)
    }

    /// Whether any of the properties `bits` holds.
    #[inline]
    pub(crate) fn has(self, bits: u16) -> bool {
        self.flags() & bits != 0
    }

    /// `h1` to `h6`.
    #[inline]
    pub fn is_heading(self) -> bool {
        (Tag::H1.0..=Tag::H6.0).contains(&self.0)
    }

    /// The fixed number of a lower-case name, if it has one.
    pub(crate) fn known(name: &[u8]) -> Option<Tag> {
        TAG_INDEX.find(name).map(Tag)
    }
}

/// The attributes that are kept; all others are read past.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Attr {
    Class,
    Id,
    Role,
    Itemprop,
    Style,
    Hidden,
    AriaHidden,
    Alt,
    Type,
    Name,
    Property,
    Content,
    Encoding,
    Lang,
    Color,
    Face,
    Size,
    AriaModal,
    Display,
    Alttext,
    Charset,
    HttpEquiv,
    Src,
}

const ATTRS: [(&str, Attr); 23] = [
    ("class", Attr::Class),
    ("id", Attr::Id),
    ("role", Attr::Role),
    ("itemprop", Attr::Itemprop),
    ("style", Attr::Style),
    ("hidden", Attr::Hidden),
    ("aria-hidden", Attr::AriaHidden),
    ("alt", Attr::Alt),
    ("type", Attr::Type),
    ("name", Attr::Name),
    ("property", Attr::Property),
    ("content", Attr::Content),
    ("encoding", Attr::Encoding),
    ("lang", Attr::Lang),
    ("color", Attr::Color),
    ("face", Attr::Face),
    ("size", Attr::Size),
    ("aria-modal", Attr::AriaModal),
    ("display", Attr::Display),
    ("alttext", Attr::Alttext),
    ("charset", Attr::Charset),
    ("http-equiv", Attr::HttpEquiv),
    ("src", Attr::Src),
];

impl Attr {
    /// The attribute of a lower-case name, if it is kept.
    #[inline]
    pub(crate) fn known(name: &[u8]) -> Option<Attr> {
        ATTR_INDEX.find(name).map(|i| ATTRS[i as usize].1)
    }
}

/// An open-addressing table from short names (up to 15 bytes, packed in an integer) to numbers,
/// built when the program is compiled.
struct Index {
    keys: [u128; SLOTS],
    values: [u16; SLOTS],
}

const SLOTS: usize = 512;
/// Longest name that fits a key.
const LONGEST: usize = 15;

impl Index {
    const fn new(names: &[&str]) -> Index {
        let mut index = Index { keys: [0; SLOTS], values: [0; SLOTS] };
        let mut i = 0;
        while i < names.len() {
            let key = pack(names[i].as_bytes());
            let mut slot = slot_of(key);
            while index.keys[slot] != 0 {
                slot = (slot + 1) % SLOTS;
            }
            index.keys[slot] = key;
            index.values[slot] = i as u16;
            i += 1;
        }
        index
    }

    #[inline]
    fn find(&self, name: &[u8]) -> Option<u16> {
        if name.is_empty() || name.len() > LONGEST {
            return None;
        }
        let key = pack(name);
        let mut slot = slot_of(key);
        loop {
            let found = self.keys[slot];
            if found == key {
                return Some(self.values[slot]);
            }
            if found == 0 {
                return None;
            }
            slot = (slot + 1) % SLOTS;
        }
    }
}

#[inline]
const fn pack(name: &[u8]) -> u128 {
    let mut key = 1u128; // so that a leading NUL counts
    let mut i = 0;
    while i < name.len() {
        key = key << 8 | name[i] as u128;
        i += 1;
    }
    key
}

#[inline]
const fn slot_of(key: u128) -> usize {
    let folded = (key as u64) ^ ((key >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (folded.wrapping_mul(0xff51_afd7_ed55_8ccd) >> 55) as usize
}

const fn attr_names() -> [&'static str; ATTRS.len()] {
    let mut names = [""; ATTRS.len()];
    let mut i = 0;
    while i < ATTRS.len() {
        names[i] = ATTRS[i].0;
        i += 1;
    }
    names
}

static TAG_INDEX: Index = Index::new(&TEXTS);
static ATTR_INDEX: Index = Index::new(&attr_names());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_finds_its_own_number() {
        for (i, name) in TEXTS.iter().enumerate() {
            assert_eq!(Tag::known(name.as_bytes()), Some(Tag(i as u16)), "{name}");
        }
        for (name, attr) in ATTRS {
            assert_eq!(Attr::known(name.as_bytes()), Some(attr), "{name}");
        }
        assert_eq!(Tag::known(b"x-card"), None);
        assert_eq!(Tag::known(b"a-name-longer-than-sixteen"), None);
        assert_eq!(Attr::known(b""), None);
        assert_eq!(Attr::known(b"\0class"), None);
    }
}
