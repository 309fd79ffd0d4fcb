//! The sites of the crawl: each with an address, a purpose, a template of its own and the faults
//! its authors never mended.
//!
//! NOT pages: what stands on them is made in `views`, `programs`, `lessons`, `tongues` and `dirt`.

/// How a site's bytes are encoded, and what it claims about that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charset {
    /// UTF-8, said in the header.
    Utf8Header,
    /// UTF-8, said in a meta element.
    Utf8Meta,
    /// UTF-8, said nowhere.
    Utf8Silent,
    /// Windows-1252, declared as ISO-8859-1 (as half the old web does).
    Windows1252AsLatin1,
    /// Windows-1252, declared as UTF-8: wrong.
    Windows1252AsUtf8,
    /// Windows-1252, said nowhere.
    Windows1252Silent,
    /// Windows-1251, said in the header.
    Windows1251,
}

/// What is wrong with a site's markup; a site may have several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `</p>`, `</li>`, `</td>` are left out.
    Unclosed,
    /// `<b><i>…</b></i>`.
    Misnested,
    /// Script with `"</p>"` in a string, CDATA around it.
    Script,
    /// Comments that hold markup.
    Comments,
    /// Entities without semicolon.
    Entities,
    /// Upper-case tags, attributes without quotes, twice the same attribute.
    Shouting,
    /// End tags that close nothing.
    Stray,
    /// Neither html, head nor body.
    Bare,
    /// Paragraphs are two line breaks.
    Breaks,
    /// Hidden elements with other text in them.
    Hidden,
    /// A line that stands in the main part of every page.
    Line,
}

/// How the main part is set off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// `<main><article>`
    Article,
    /// `<div id="content">`
    Div,
    /// `<section>` in a grid
    Section,
    /// a table for layout
    Table,
    /// `<div class="post-body">` under divs
    Deep,
    /// XHTML
    Xhtml,
}

/// One site.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) host: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) language: &'static str,
    pub(crate) charset: Charset,
    pub(crate) style: Style,
    pub(crate) faults: &'static [Fault],
    /// Addresses are `?id=…` and not paths.
    pub(crate) queries: bool,
    /// Share of right statements of its authors.
    pub(crate) reliability: f64,
}

const fn site(
    host: &'static str,
    kind: &'static str,
    charset: Charset,
    style: Style,
    faults: &'static [Fault],
    reliability: f64,
) -> Site {
    Site { host, kind, language: "en", charset, style, faults, queries: false, reliability }
}

const fn asks(site: Site) -> Site {
    Site { queries: true, ..site }
}

const fn abroad(site: Site, language: &'static str) -> Site {
    Site { language, ..site }
}

use Charset::{
    Utf8Header, Utf8Meta, Utf8Silent, Windows1251, Windows1252AsLatin1, Windows1252AsUtf8,
    Windows1252Silent,
};
use Fault::{
    Bare, Breaks, Comments, Entities, Hidden, Line, Misnested, Script, Shouting, Stray, Unclosed,
};
use Style::{Article, Deep, Div, Section, Table, Xhtml};

/// All sites.
pub(crate) const SITES: &[Site] = &[
    site("encyclopedia.example", "encyclopedia", Utf8Header, Article, &[Script], 1.0),
    site("www.worldbook.example", "encyclopedia", Utf8Meta, Div, &[Comments, Stray], 1.0),
    site(
        "lexicon.old-university.example",
        "encyclopedia",
        Windows1252AsLatin1,
        Table,
        &[Unclosed, Shouting],
        1.0,
    ),
    site("pedia.mirrorhouse.example", "encyclopedia", Utf8Silent, Deep, &[Misnested, Hidden], 1.0),
    site("www.morning-courier.example", "news", Utf8Header, Article, &[Script, Line], 0.995),
    site("evening-post.example", "news", Utf8Meta, Deep, &[Script, Comments, Hidden], 0.99),
    asks(site(
        "news.valley-herald.example",
        "news",
        Windows1252Silent,
        Table,
        &[Unclosed, Breaks, Line],
        0.985,
    )),
    site("the-lantern.example", "news", Utf8Header, Section, &[Misnested, Entities], 0.99),
    site("gazette.harbour.example", "news", Windows1252AsUtf8, Div, &[Stray, Script], 0.985),
    site("daily.crossroads.example", "news", Utf8Header, Deep, &[Hidden, Line, Comments], 0.98),
    site("shop.brassandoak.example", "shop", Utf8Header, Section, &[Script, Hidden], 0.99),
    asks(site(
        "www.cheap-wares.example",
        "shop",
        Windows1252AsLatin1,
        Table,
        &[Shouting, Unclosed, Entities],
        0.98,
    )),
    site("store.lampworks.example", "shop", Utf8Meta, Div, &[Script, Line], 0.99),
    asks(site("market-hall.example", "shop", Utf8Silent, Deep, &[Comments, Misnested], 0.985)),
    site("forum.craftspeople.example", "forum", Utf8Header, Deep, &[Hidden, Entities], 0.97),
    asks(site(
        "board.oldtimers.example",
        "forum",
        Windows1252Silent,
        Table,
        &[Unclosed, Shouting, Breaks],
        0.96,
    )),
    site("talk.travellers.example", "forum", Utf8Meta, Div, &[Script, Line], 0.97),
    asks(site("answers.example", "forum", Utf8Header, Article, &[Stray], 0.98)),
    site("blog.quiet-hours.example", "blog", Utf8Header, Article, &[Script], 0.985),
    site("notes-from-the-hill.example", "blog", Utf8Meta, Deep, &[Line, Comments], 0.98),
    site("people.example.net", "blog", Windows1252AsLatin1, Table, &[Bare, Unclosed, Breaks], 0.97),
    site("weekly-letter.example.org", "blog", Utf8Header, Section, &[Misnested, Hidden], 0.985),
    site("my-small-garden.example.net", "blog", Utf8Silent, Div, &[Entities, Stray, Bare], 0.98),
    site("diary.example.org", "blog", Windows1252AsUtf8, Div, &[Shouting, Unclosed], 0.975),
    site("kitchen-tales.example", "blog", Utf8Header, Deep, &[Script, Line], 0.985),
    site("learn.small-programs.example", "code", Utf8Header, Article, &[Script], 1.0),
    site("code-corner.example.org", "code", Utf8Meta, Div, &[Comments, Unclosed], 1.0),
    site("www.first-functions.example", "code", Utf8Header, Xhtml, &[Script], 1.0),
    site("sums.school.example", "lesson", Utf8Header, Section, &[Script], 1.0),
    site("mathematics.example.org", "lesson", Utf8Meta, Table, &[Unclosed, Comments], 1.0),
    site("numbers-daily.example", "lesson", Utf8Header, Xhtml, &[Comments], 1.0),
    abroad(site("www.kavatra.example", "foreign", Utf8Header, Article, &[Script], 1.0), "qva"),
    abroad(site("lehet.qva.example", "foreign", Utf8Meta, Deep, &[Unclosed, Hidden], 1.0), "qva"),
    abroad(
        site("www.korum.example", "foreign", Windows1251, Table, &[Shouting, Breaks], 1.0),
        "qko",
    ),
    abroad(site("gazeta.qko.example", "foreign", Utf8Header, Div, &[Script, Stray], 1.0), "qko"),
    abroad(site("thalis.example", "foreign", Utf8Silent, Section, &[Comments], 1.0), "qth"),
    abroad(
        site("nea.qth.example", "foreign", Utf8Header, Article, &[Hidden, Misnested], 1.0),
        "qth",
    ),
    site("mirror.archive-copies.example", "mirror", Utf8Header, Div, &[Comments], 1.0),
    site("reprints.example.net", "mirror", Utf8Meta, Deep, &[Unclosed, Script], 1.0),
    site("best-offers-4u.example", "spam", Utf8Meta, Table, &[Shouting, Hidden], 0.5),
    site("hot-night.example", "spam", Utf8Silent, Div, &[Script], 0.5),
];

/// The sites of a kind, by index.
pub(crate) fn of_kind(kind: &str, language: &str) -> Vec<usize> {
    let fits = |s: &Site| s.kind == kind && s.language == language;
    (0..SITES.len()).filter(|&i| fits(&SITES[i])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn thirty_sites_and_more_with_addresses_of_their_own() {
        let hosts: HashSet<&str> = SITES.iter().map(|s| s.host).collect();
        assert!(SITES.len() >= 30 && hosts.len() == SITES.len());
        for kind in ["encyclopedia", "news", "shop", "forum", "blog", "code", "lesson", "mirror"] {
            assert!(of_kind(kind, "en").len() >= 2, "{kind}");
        }
    }
}
