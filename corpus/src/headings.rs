//! The headings of a page that stand in its text.
//!
//! Taken from the markup by one scan for `<h1>` to `<h6>`, and kept where a line of the extracted
//! text says the same; so menus' headings do not count. Not here: the extractor.

use std::collections::HashSet;

/// Headings of a page at most.
const MOST: usize = 64;
/// Bytes of markup of one heading at most.
const MAX_MARKUP: usize = 2000;

/// The headings of `html` that are lines of `text`, in order.
pub(crate) fn of(html: &str, text: &str) -> Vec<String> {
    let lines: HashSet<&str> = text.lines().map(str::trim).filter(|l| l.len() <= 200).collect();
    let mut found: Vec<String> = Vec::new();
    let bytes = html.as_bytes();
    for at in memchr::memchr_iter(b'<', bytes) {
        let Some(tag) = bytes.get(at..at + 4) else { break };
        let level = tag[1].eq_ignore_ascii_case(&b'h') && (b'1'..=b'6').contains(&tag[2]);
        if !level || !matches!(tag[3], b'>' | b' ' | b'\n' | b'\t' | b'\r') {
            continue;
        }
        let end = html.floor_char_boundary((at + MAX_MARKUP).min(html.len()));
        let Some(inside) = html.get(at..end).and_then(|rest| rest.split_once('>')) else {
            continue;
        };
        let closing = ["</h", "</H"].iter().filter_map(|c| inside.1.find(c)).min();
        let Some(closing) = closing else { continue };
        let heading = plain(&inside.1[..closing]);
        // The extractor leaves out the marks that link a heading to itself.
        let heading = heading.trim_matches(['§', '¶', '#', ' ']).to_owned();
        if !heading.is_empty() && lines.contains(heading.as_str()) && !found.contains(&heading) {
            found.push(heading);
        }
        if found.len() == MOST {
            break;
        }
    }
    found
}

/// Without tags, the commonest entities resolved, white space as one space.
fn plain(markup: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for c in markup.chars() {
        match c {
            '<' => inside = true,
            '>' if inside => inside = false,
            _ if !inside => text.push(c),
            _ => {}
        }
    }
    for (entity, c) in [
        ("&nbsp;", " "),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&#x27;", "'"),
        ("&#8217;", "’"),
        ("&rsquo;", "’"),
        ("&amp;", "&"),
    ] {
        if text.contains('&') {
            text = text.replace(entity, c);
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(html: &str, text: &str, expected: &[&str]) {
        assert_eq!(of(html, text), expected);
    }

    #[test]
    fn only_what_stands_in_the_text() {
        let html =
            "<h1>Owls &amp; <b>mice</b></h1><p>x<h2 class=a>Food</h2><h3>Menu</h3><hr><header>";
        check(html, "Owls & mice\n\nx\nFood", &["Owls & mice", "Food"]);
        check("<h2><a href='#f'>§</a>Food</h2>", "Food", &["Food"]);
        check("<h2> </h2>", "a\n\nb", &[]);
        check("<h1>cut", "cut", &[]);
        check("<h1", "", &[]);
    }
}
