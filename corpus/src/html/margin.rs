//! What stands in the margin: marks that link a heading to itself (`§`, `¶`, `#`), marks of notes
//! (`raised.rs` tells them) and the numbers of a listing's lines. They are tools of the page, not
//! text; taken along they glue to the words beside them. Told by form, not by site: a link that is
//! one such mark; digits inside or beside `pre` in an element that its `id` or `class` calls a line.
//! Not here: whole blocks (`score.rs`).

use super::names::{Attr, Tag};
use super::raised;
use super::tree::{NONE, NodeId, Tree};

/// Marks that stand for "link to this place" when a link has no other text.
const PLACES: &[char] = &['§', '¶', '#', '🔗', '⚓', '\u{fe0f}'];
/// Names that highlighters give to line numbers, in lower case without separators.
const NUMBERS: &[&str] = &[
    "lineno",
    "linenos",
    "linenumber",
    "linenumbers",
    "linenum",
    "ln",
    "lnt",
    "gutter",
    "rougegutter",
    "blobnum",
    "hljslnnumbers",
];

/// Whether an element holds nothing but a mark or numbers of the margin. `listing`: it is in one.
pub fn is_margin(tree: &Tree, id: NodeId, listing: bool) -> bool {
    if is_prompt(tree, id) || (listing && is_copier(tree, id)) {
        return true;
    }
    match tree.node(id).tag {
        Tag::A if !listing => is_place(tree, id),
        Tag::SUP if !listing => raised::is_note(tree, id),
        Tag::TD | Tag::PRE => is_numbered(tree, id) && holds_numbers(tree, id),
        _ if listing => (is_numbered(tree, id) || is_line_id(tree, id)) && holds_numbers(tree, id),
        _ => false,
    }
}

/// A cell that holds code though it is not in `pre`: one line (GitHub's files and diffs), or a box
/// of lines (SyntaxHighlighter).
pub fn is_code_cell(tree: &Tree, id: NodeId) -> bool {
    let cell = matches!(tree.node(id).tag, Tag::TD | Tag::TH);
    let class = if cell { tree.attr(id, Attr::Class).unwrap_or("") } else { "" };
    if class == "code" {
        let first = tree.node(id).first;
        return first != NONE && tree.attr(first, Attr::Class) == Some("container");
    }
    !class.is_empty() && class.split_ascii_whitespace().any(|c| c == "blob-code")
}

/// `In [3]:` and `Out[3]:` of notebooks.
fn is_prompt(tree: &Tree, id: NodeId) -> bool {
    let class = tree.attr(id, Attr::Class).unwrap_or("");
    let first = tree.node(id).first;
    if !class.contains("rompt") || first == NONE || tree.node(first).tag != Tag::TEXT {
        return false;
    }
    let text = tree.text(first).trim();
    let inside = text.trim_start_matches("In").trim_start_matches("Out").trim();
    let number = inside.strip_prefix('[').and_then(|t| t.trim_end_matches(':').strip_suffix(']'));
    number.is_some_and(|n| n.chars().all(|c| c.is_ascii_digit() || c == '*' || c.is_whitespace()))
}

/// A button to copy a listing, by its name: it is not always a `button`.
fn is_copier(tree: &Tree, id: NodeId) -> bool {
    let class = tree.attr(id, Attr::Class).unwrap_or("");
    let named = ["copy", "clipboard", "Copy"].iter().any(|name| class.contains(name));
    let first = tree.node(id).first;
    named && (first == NONE || (tree.node(first).next == NONE && tree.text(first).len() <= 12))
}

/// A link whose whole text is one mark.
fn is_place(tree: &Tree, id: NodeId) -> bool {
    let first = tree.node(id).first;
    if first == NONE || tree.node(first).tag != Tag::TEXT || tree.node(first).next != NONE {
        return false;
    }
    let text = tree.text(first).trim();
    !text.is_empty() && text.len() <= 8 && text.chars().all(|c| PLACES.contains(&c))
}

/// Whether a class says that here are numbers of lines.
fn is_numbered(tree: &Tree, id: NodeId) -> bool {
    let classes = tree.attr(id, Attr::Class).unwrap_or_default();
    // Nearly all classes are told by this without a copy.
    if !["in", "ln", "um", "tt"].iter().any(|part| classes.contains(part)) {
        return false;
    }
    classes.split_ascii_whitespace().filter(|c| c.len() <= 24).any(|class| {
        let letters = class.chars().filter(char::is_ascii_alphanumeric);
        let bare: String = letters.map(|c| c.to_ascii_lowercase()).collect();
        NUMBERS.contains(&bare.as_str())
    })
}

/// `<a id=12>12</a>`, `<span id="L12">12</span>`.
fn is_line_id(tree: &Tree, id: NodeId) -> bool {
    let first = tree.node(id).first;
    let Some(place) = tree.attr(id, Attr::Id) else { return false };
    let number = if first == NONE { "" } else { tree.text(first).trim() };
    !number.is_empty() && place.ends_with(number)
}

/// Whether all text below a node is digits and white space, and there is some.
fn holds_numbers(tree: &Tree, top: NodeId) -> bool {
    let (mut at, mut digits) = (top, false);
    loop {
        let node = tree.node(at);
        if node.tag == Tag::TEXT {
            let text = tree.text(at);
            if !text.chars().all(|c| c.is_ascii_digit() || c.is_whitespace()) {
                return false;
            }
            digits |= text.bytes().any(|b| b.is_ascii_digit());
        }
        if node.first != NONE {
            at = node.first;
            continue;
        }
        loop {
            if at == top {
                return digits;
            }
            let node = tree.node(at);
            if node.next != NONE {
                at = node.next;
                break;
            }
            at = node.parent;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::blocks::tests::check;

    #[test]
    fn marks_of_places_go() {
        check("<h2><a class=doc-anchor href='#o'>§</a>Overview</h2>", "Overview");
        check("<h2>Usage<a class=headerlink href='#u' title='Permalink'>¶</a></h2>", "Usage");
        check("<h2>Usage <a href='#u'>#</a></h2>", "Usage");
        check("<p>See <a href='/law/12'>§ 12</a> of it.", "See § 12 of it.");
        check("<p>A § alone, and # too.", "A § alone, and # too.");
    }

    #[test]
    fn numbers_of_lines_go() {
        check(
            "<pre><a href=#1 id=1>1</a>let x = 1;\n<a href=#2 id=2>2</a>x</pre>",
            "let x = 1;\nx",
        );
        check(
            "<pre><span class=linenos> 1</span>x = 1\n<span class=ln>2</span>y</pre>",
            "x = 1\ny",
        );
        let table = "<table><tr><td class=linenos><div class=linenodiv><pre>1\n2</pre></div></td>\
            <td><pre>a\nb</pre></td></tr></table>";
        check(table, "a\nb");
        check("<table><tr><td class=blob-num>7<td>x</table>", "x");
    }

    #[test]
    fn numbers_that_are_content_stay() {
        check("<pre>1\n2 <span class=mi>34</span> <b id=x9>8</b></pre>", "1\n2 34 8");
        check("<table><tr><td>1<td class=gutter>x</table>", "1\tx");
        check("<p><a href='/12'>12</a> of <span class=ln>3</span>", "12 of 3");
    }
}
