//! From a page to the bytes a server would send: each site's template around the main content,
//! with the faults of real markup.
//!
//! NOT a serialiser of trees: much of what is written here is deliberately not well-formed.
//! Whatever the faults, a browser shows the blocks of the page as the truth has them.

use crate::names::capital;
use crate::page::{Block, Page};
use crate::random::Draw;
use crate::sites::{Charset, Fault, SITES, Site, Style};
use crate::tongues;

/// What the server sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) content_type: Option<&'static str>,
    pub(crate) body: Vec<u8>,
}

const MENU: &[&str] = &[
    "Home",
    "About us",
    "Contact",
    "Archive",
    "Search",
    "Log in",
    "Register",
    "Help",
    "Imprint",
    "Newsletter",
    "Jobs",
    "Press",
    "Weather",
    "Letters",
    "Gallery",
    "Links",
    "Sitemap",
    "Terms",
    "Basket",
    "My account",
    "Categories",
    "Offers",
    "Today",
    "Topics",
    "Members",
    "Calendar",
];
const COOKIES: &[&str] = &[
    "We use cookies to improve your visit. By using this site you accept them.",
    "This website stores cookies on your computer. Accept all · Settings",
    "Your privacy matters to us and to our 214 partners. Agree and close",
    "Cookies help us deliver our services. OK · Learn more",
];
const FOOTERS: &[&str] = &[
    "All rights reserved. No part may be reproduced without permission.",
    "Powered by OpenPress 2.4 · Theme by Plainworks",
    "Terms of use | Privacy | Cookie settings | Contact the editors",
    "Views are those of the authors. Part of the Crossroads Media group.",
];
const LINES: &[&str] = &[
    "Share this page with your friends and follow us for more stories like this one.",
    "Subscribe to our newsletter and never miss a story from our editors again.",
    "Did you find a mistake? Select the text and tell us about it with one click.",
    "This page was checked by our editors and is updated at regular intervals.",
];
const SCRIPT: &str = "<script type=\"text/javascript\">\n//<![CDATA[\n\
var tpl = \"<p>Loading</p>\"; \
document.write('<div class=\"ad\"></p>'); if (a < b && c > d) { x = '</p>'; }\n//]]>\n</script>\n";

/// The line that a site repeats in the main part of every page.
pub(crate) fn repeated_line(site: usize) -> Option<&'static str> {
    SITES[site].faults.contains(&Fault::Line).then(|| LINES[site % LINES.len()])
}

struct Template<'p> {
    site: &'static Site,
    index: usize,
    page: &'p Page,
    draw: Draw,
    out: String,
}

impl Template<'_> {
    fn has(&self, fault: Fault) -> bool {
        self.site.faults.contains(&fault)
    }

    fn put(&mut self, text: &str) {
        self.out.push_str(text);
    }

    fn escaped(&mut self, text: &str) -> String {
        let loose = self.has(Fault::Entities);
        let numeric = self.index.is_multiple_of(3);
        let mut out = String::with_capacity(text.len() + 16);
        let mut letters = text.chars().peekable();
        while let Some(c) = letters.next() {
            let before_space = letters.peek().is_none_or(|next| *next == ' ');
            match c {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str(if loose && before_space { "&lt" } else { "&lt;" }),
                '>' => out.push_str(if loose && before_space { "&gt" } else { "&gt;" }),
                '’' if numeric => out.push_str("&#8217;"),
                '“' if numeric => out.push_str("&ldquo;"),
                '”' if numeric => out.push_str("&#x201D;"),
                _ => out.push(c),
            }
        }
        out
    }

    /// Inline markup around a word of the text: emphasis or a link, well or badly nested.
    fn inline(&mut self, text: &str) -> String {
        let words: Vec<&str> = text.split(' ').collect();
        if words.len() < 6 || !self.draw.chance(0.5) {
            return self.escaped(text);
        }
        let at = self.draw.between(1, words.len() - 3);
        let head = self.escaped(&words[..at].join(" "));
        let (one, two) = (self.escaped(words[at]), self.escaped(words[at + 1]));
        let tail = self.escaped(&words[at + 2..].join(" "));
        let marked = match self.draw.below(4) {
            0 if self.has(Fault::Misnested) => format!("<b>{one} <i>{two}</b></i>"),
            0 => format!("<b>{one}</b> {two}"),
            1 => format!("<em>{one} {two}</em>"),
            2 => format!("<a href=\"/w/{at}\" title=\"{one}\">{one}</a> {two}"),
            _ if self.has(Fault::Misnested) => {
                format!("<font color=\"#333\"><b>{one}</font> {two}</b>")
            }
            _ => format!("<span class=\"x{at}\">{one}</span> {two}"),
        };
        format!("{head} {marked} {tail}")
    }

    fn close(&mut self, tag: &str) {
        if !self.has(Fault::Unclosed) {
            self.put(&format!("</{tag}>"));
        }
        self.put("\n");
    }

    fn paragraph(&mut self, text: &str) {
        let html = self.inline(text);
        if self.has(Fault::Breaks) {
            self.put(&format!("{html}<br><br>\n"));
        } else {
            self.put(&format!("<p>{html}"));
            self.close("p");
        }
        if self.has(Fault::Stray) && self.draw.chance(0.2) {
            self.put("</span></font>\n");
        }
        if self.has(Fault::Comments) && self.draw.chance(0.2) {
            self.put("<!-- <p>old version -- > of this part</p> -->\n");
        }
    }

    fn items(&mut self, tag: &str, items: &[String]) {
        self.put(&format!("<{tag}>\n"));
        for item in items {
            let html = self.inline(item);
            self.put(&format!("<li>{html}"));
            self.close("li");
        }
        self.put(&format!("</{tag}>\n"));
    }

    fn table(&mut self, rows: &[Vec<String>]) {
        self.put("<table class=\"data\" border=\"1\">\n");
        for (number, row) in rows.iter().enumerate() {
            self.put("<tr>");
            let tag = if number == 0 { "th" } else { "td" };
            for cell in row {
                let html = self.escaped(cell);
                self.put(&format!("<{tag}>{html}</{tag}>"));
            }
            self.put("</tr>\n");
        }
        self.put("</table>\n");
    }

    fn block(&mut self, block: &Block) {
        match block {
            Block::Heading(text) => {
                let html = self.escaped(text);
                self.put(&format!("<h2>{html}</h2>\n"));
            }
            Block::Para(text) => self.paragraph(text),
            Block::Quote(text) => {
                let html = self.escaped(text);
                self.put(&format!("<blockquote>{html}</blockquote>\n"));
            }
            Block::List(items) => self.items("ul", items),
            Block::Steps(items) => self.items("ol", items),
            Block::Table(rows) => self.table(rows),
            Block::Code(text) => {
                let html = self.escaped(text);
                if self.index.is_multiple_of(2) {
                    self.put(&format!(
                        "<pre><code class=\"language-python\">{html}</code></pre>\n"
                    ));
                } else {
                    self.put(&format!("<pre>{html}</pre>\n"));
                }
            }
        }
    }

    /// A word for menus, in the site's language.
    fn label(&self, number: usize) -> String {
        match tongues::CODES.iter().position(|code| *code == self.site.language) {
            Some(language) => capital(tongues::word(language, number * 7 + self.index)),
            None => MENU[(number * 5 + self.index) % MENU.len()].to_owned(),
        }
    }

    fn head(&mut self) {
        let title = self.escaped(&self.page.title.clone());
        let host = self.site.host;
        if !self.has(Fault::Bare) {
            self.put(match self.site.style {
                Style::Xhtml => concat!(
                    "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<!DOCTYPE html PUBLIC ",
                    "\"-//W3C//DTD XHTML 1.0 Strict//EN\" \"http://www.w3.org/TR/xhtml1/DTD/",
                    "xhtml1-strict.dtd\">\n<html xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n"
                ),
                Style::Table => concat!(
                    "<!DOCTYPE HTML PUBLIC \"-//W3C//DTD HTML 4.01 ",
                    "Transitional//EN\">\n<HTML>\n<HEAD>\n"
                ),
                _ => "<!doctype html>\n<html>\n<head>\n",
            });
        }
        match self.site.charset {
            Charset::Utf8Meta | Charset::Windows1252AsUtf8 => {
                self.put("<meta charset=\"utf-8\">\n")
            }
            Charset::Windows1252AsLatin1 => self.put(concat!(
                "<META http-equiv=Content-Type ",
                "content=\"text/html; charset=iso-8859-1\">\n"
            )),
            _ => {}
        }
        self.put(&format!("<title>{title} – {host}</title>\n"));
        self.put("<style>p { margin: 0 } .ad > p::after { content: \"</p>\" }</style>\n");
        if self.has(Fault::Script) {
            self.put(SCRIPT);
            self.put("<script type=\"application/ld+json\">{\"@type\":\"WebPage\"}</script>\n");
        }
        if !self.has(Fault::Bare) {
            self.put("</head>\n<body class=\"page\">\n");
        }
    }

    fn menu(&mut self) {
        let count = 6 + self.index % 7;
        let home = self.site.host.split('.').next().unwrap_or("home").to_owned();
        let shout = self.has(Fault::Shouting);
        let nav = if self.index.is_multiple_of(2) { "nav" } else { "div" };
        self.put(&format!("<{nav} class=\"menu top-nav\"><a href=\"/\">{home}</a>\n"));
        if shout {
            self.put("<UL class=nav CLASS=menu2>\n");
        } else {
            self.put("<ul>\n");
        }
        for number in 0..count {
            let label = self.label(number);
            self.put(&if shout {
                format!("<LI><A HREF=/m{number}.html>{label}</A>\n")
            } else {
                format!("<li><a href=\"/m{number}\">{label}</a></li>\n")
            });
        }
        self.put(&format!("</ul></{nav}>\n"));
    }

    fn cookies(&mut self) {
        if self.index % 4 != 3 && self.site.language == "en" {
            let text = COOKIES[self.index % COOKIES.len()];
            self.put(&format!(
                "<div id=\"cookie-banner\" class=\"consent\" role=\"dialog\">{text} \
                <button>OK</button></div>\n"
            ));
        }
    }

    fn breadcrumbs(&mut self) {
        if self.index % 3 != 1 {
            let (a, b) = (self.label(0), self.label(3));
            let kind = capital(self.page.kind);
            self.put(&format!(
                "<div class=\"breadcrumb\"><a href=\"/\">{a}</a> &raquo; \
                <a href=\"/c\">{b}</a> &raquo; {}</div>\n",
                if self.site.language == "en" { kind } else { self.label(5) }
            ));
        }
    }

    fn sidebar(&mut self) {
        let count = self.draw.between(3, 8);
        let head = self.label(9);
        let tag = if self.index.is_multiple_of(2) { "aside" } else { "div" };
        self.put(&format!("<{tag} class=\"sidebar widget\"><h3>{head}</h3>\n<ul>\n"));
        for _ in 0..count {
            let (number, other) = (self.draw.below(9999), self.draw.below(26));
            let label = format!("{} {number}", self.label(other));
            self.put(&format!("<li><a href=\"/p/{number}\">{label}</a></li>\n"));
        }
        self.put(&format!("</ul></{tag}>\n"));
        if self.has(Fault::Hidden) {
            self.put(
                "<div style=\"display:none\"><p>Template text that nobody sees: lorem ipsum \
                dolor sit amet, consectetur.</p></div>\n<noscript>\
                <img src=\"/t.gif\"></noscript>\n",
            );
        }
    }

    fn footer(&mut self) {
        let tag = if self.index.is_multiple_of(2) { "footer" } else { "div" };
        let host = self.site.host;
        self.put(&format!("<{tag} class=\"footer\" id=\"footer\">&copy 2024 {host} "));
        if self.site.language == "en" {
            self.put(FOOTERS[self.index % FOOTERS.len()]);
        }
        for number in 10..14 {
            let label = self.label(number);
            self.put(&format!(" <a href=\"/f{number}\">{label}</a>"));
        }
        self.put(&format!("</{tag}>\n"));
    }

    fn main_open(&mut self) -> &'static str {
        let (open, close) = match self.site.style {
            Style::Article => ("<main>\n<article class=\"entry\">\n", "</article>\n</main>\n"),
            Style::Div => ("<div id=\"content\">\n", "</div>\n"),
            Style::Section => {
                ("<div class=\"grid\"><section class=\"main-column\">\n", "</section></div>\n")
            }
            Style::Table => (
                "<TABLE WIDTH=100% CELLPADDING=4><TR><TD VALIGN=top CLASS=main>\n",
                "</TD></TR></TABLE>\n",
            ),
            Style::Deep => (
                "<div class=\"wrap\"><div class=\"row\"><div class=\"col-8\">\
                 <div class=\"post-body\">\n",
                "</div></div></div></div>\n",
            ),
            Style::Xhtml => ("<div id=\"main\">\n", "</div>\n"),
        };
        self.put(open);
        close
    }

    fn main(&mut self) {
        let close = self.main_open();
        let title = self.escaped(&self.page.title.clone());
        self.put(&format!("<h1>{title}</h1>\n"));
        if !self.page.author.is_empty()
            && self.index.is_multiple_of(2)
            && self.site.language == "en"
        {
            let line = format!("By {} on {}", self.page.author, self.page.date.written());
            self.put(&format!("<div class=\"byline meta\">{line}</div>\n"));
        }
        let blocks = self.page.blocks.clone();
        for block in &blocks {
            self.block(block);
        }
        if let Some(line) = repeated_line(self.index) {
            self.put(&format!("<p>{line}</p>\n"));
        }
        if self.index % 3 == 2 && self.site.language == "en" {
            self.put(
                "<div class=\"share social\"><a href=\"#\">Share</a> <a href=\"#\">Print</a> \
                <a href=\"#\">E-mail</a></div>\n",
            );
        }
        self.put(close);
    }
}

/// The page as its site serves it. `draw` chooses what differs between two visits.
pub(crate) fn render(page: &Page, draw: Draw) -> Reply {
    let site = &SITES[page.site];
    let mut template = Template { site, index: page.site, page, draw, out: String::new() };
    template.head();
    template.cookies();
    template.menu();
    template.breadcrumbs();
    if page.site % 2 == 1 {
        template.sidebar();
        template.main();
    } else {
        template.main();
        template.sidebar();
    }
    template.footer();
    if !template.has(Fault::Bare) {
        template.put("</body>\n</html>\n");
    }
    let content_type = match site.charset {
        Charset::Utf8Header if site.style == Style::Xhtml => "application/xhtml+xml; charset=utf-8",
        Charset::Utf8Header => "text/html; charset=utf-8",
        Charset::Windows1251 => "text/html; charset=windows-1251",
        _ => "text/html",
    };
    let body = encode(&template.out, site.charset);
    Reply { status: 200, content_type: Some(content_type), body }
}

/// Letters of windows-1252 outside Latin-1 that occur in pages.
const WINDOWS_1252: &[(char, u8)] = &[
    ('’', 0x92),
    ('‘', 0x91),
    ('“', 0x93),
    ('”', 0x94),
    ('–', 0x96),
    ('—', 0x97),
    ('…', 0x85),
    ('€', 0x80),
    ('•', 0x95),
    ('š', 0x9a),
    ('ž', 0x9e),
];

/// Encodes; what the encoding lacks becomes a numeric character reference.
fn encode(text: &str, charset: Charset) -> Vec<u8> {
    let byte = |c: char| -> Option<u8> {
        let special = WINDOWS_1252.iter().find(|(letter, _)| *letter == c).map(|(_, b)| *b);
        match charset {
            Charset::Windows1251 => match c {
                'А'..='я' => u8::try_from(c as u32 - 0x410 + 0xc0).ok(),
                'Ё' => Some(0xa8),
                'ё' => Some(0xb8),
                _ if c.is_ascii() => Some(c as u8),
                _ => special.filter(|b| *b < 0x98),
            },
            _ => {
                special.or_else(|| u8::try_from(c as u32).ok().filter(|b| *b < 0x80 || *b >= 0xa0))
            }
        }
    };
    if matches!(charset, Charset::Utf8Header | Charset::Utf8Meta | Charset::Utf8Silent) {
        return text.as_bytes().to_vec();
    }
    let mut out = Vec::with_capacity(text.len());
    for c in text.chars() {
        match byte(c) {
            Some(b) => out.push(b),
            None => out.extend(format!("&#{};", c as u32).bytes()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_as_a_browser_reads_them() {
        let check = |text, charset, bytes: &[u8]| assert_eq!(encode(text, charset), bytes);
        check("é’", Charset::Windows1252Silent, &[0xe9, 0x92]);
        check("θ", Charset::Windows1252AsLatin1, b"&#952;");
        check("Аяё", Charset::Windows1251, &[0xc0, 0xff, 0xb8]);
        check("é", Charset::Utf8Silent, "é".as_bytes());
    }

    #[test]
    fn every_site_has_a_template_of_its_own() {
        let mut seen = std::collections::HashSet::new();
        for (site, known) in SITES.iter().enumerate() {
            let mut page = Page::new("blog", known.language, site);
            page.title = "Title".into();
            page.para("One & two < three “four” five six seven eight nine ten.");
            let reply = render(&page, Draw::keyed(1, "visit", 0));
            assert!(seen.insert(reply.body), "site {site} looks like another");
        }
    }
}
