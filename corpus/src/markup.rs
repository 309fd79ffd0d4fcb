//! What is asked of a page's markup without parsing it: its canonical link, and whether it was cut
//! off on its way.
//!
//! Both look at some kilobytes only. Not here: the parser ([`crate::html`]).

/// Bytes at the beginning of a page in which its head is looked for.
const HEAD: usize = 64 << 10;
/// Bytes at the end of a page that must close it.
const TAIL: usize = 2 << 10;
/// Shown of the end of a page that was cut.
const SHOWN: usize = 60;

/// The target of `<link rel="canonical">`, where it is absolute.
pub(crate) fn canonical_link(html: &str) -> Option<String> {
    let head = &html[..html.floor_char_boundary(HEAD.min(html.len()))];
    let mut rest = head;
    while let Some(at) = find_ignoring_case(rest, "<link") {
        let tag = &rest[at..];
        let end = tag.find('>')?;
        let inside = &tag[..end];
        let rel = attribute(inside, "rel").unwrap_or_default();
        if rel.eq_ignore_ascii_case("canonical") {
            let target = attribute(inside, "href")?;
            return target.starts_with("http").then(|| target.replace("&amp;", "&"));
        }
        rest = &tag[end..];
    }
    None
}

fn find_ignoring_case(text: &str, needle: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let first = needle.as_bytes()[0];
    memchr::memchr2_iter(first, first.to_ascii_uppercase(), bytes).find(|at| {
        bytes[*at..].get(..needle.len()).is_some_and(|b| b.eq_ignore_ascii_case(needle.as_bytes()))
    })
}

fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let mut from = 0;
    loop {
        let at = from + find_ignoring_case(&tag[from..], name)?;
        from = at + name.len();
        let alone = tag[..at].ends_with([' ', '\t', '\n', '"', '\'']);
        let Some(value) = tag[from..].trim_start().strip_prefix('=').filter(|_| alone) else {
            continue;
        };
        let value = value.trim_start();
        return match value.chars().next()? {
            quote @ ('"' | '\'') => value[1..].split(quote).next(),
            _ => value.split([' ', '\t', '\n', '>']).next(),
        };
    }
}

/// The end of a page that was cut off: it opens a document, does not close it, and ends within a
/// tag, a word or an open part of the content. A page that only lacks its last tags is whole.
pub(crate) fn cut_off(html: &str) -> Option<String> {
    let head = &html[..html.floor_char_boundary(2048.min(html.len()))];
    let opens = find_ignoring_case(head, "<!doctype").or(find_ignoring_case(head, "<html"));
    opens?;
    let trimmed = html.trim_end();
    let tail = &trimmed[trimmed.ceil_char_boundary(trimmed.len().saturating_sub(TAIL))..];
    if find_ignoring_case(tail, "</html").or(find_ignoring_case(tail, "</body")).is_some() {
        return None;
    }
    let within_tag = tail.rfind('<') > tail.rfind('>');
    let last = tail.rfind('<').map_or("", |at| &tail[at..]);
    let closed = tail.ends_with('>') && (last.starts_with("</") || last.starts_with("<!--"));
    let void = ["<br", "<img", "<hr", "<meta", "<link", "<input"];
    let closed = closed || (tail.ends_with('>') && void.iter().any(|v| last.starts_with(v)));
    let open_parts = ["main", "article"].iter().any(|name| is_open(html, name));
    let cut = within_tag || !closed || open_parts;
    cut.then(|| tail[tail.ceil_char_boundary(tail.len().saturating_sub(SHOWN))..].to_owned())
}

fn is_open(html: &str, name: &str) -> bool {
    let (open, close) = (format!("<{name}"), format!("</{name}"));
    html.matches(open.as_str()).count() > html.matches(close.as_str()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(html: &str, cut: bool) {
        assert_eq!(cut_off(html).is_some(), cut, "{html}");
    }

    #[test]
    fn what_is_cut_and_what_only_lacks_its_last_tags() {
        check("<!doctype html><html><body><p>x</p></body></html>\n", false);
        check("<html><body><main><p>x</p></main><footer>y</footer>", false);
        check("<html><body><p>one</p><p>two", true);
        check("<html><body><p>one</p><div cla", true);
        check("<html><body><main><p>one</p>", true);
        check("<p>a fragment that was never a document", false);
        check("", false);
    }

    #[test]
    fn canonical_links() {
        let page = |tag: &str| canonical_link(&format!("<html><head>{tag}</head>"));
        let found = Some("https://a.example/x?a=1&b=2".to_owned());
        assert_eq!(page("<LINK REL='canonical' href=\"https://a.example/x?a=1&amp;b=2\">"), found);
        assert_eq!(
            page("<link href=https://a.example/x rel=canonical>").as_deref(),
            Some("https://a.example/x")
        );
        assert_eq!(page("<link rel=canonical href=/x>"), None);
        assert_eq!(page("<link rel=stylesheet href=/x.css><link"), None);
    }
}
