//! Formulas in their source: TeX of MathML annotations, of `script type="math/tex"` and of formula
//! images, else a plain-text reading of MathML. Inline formulas come out between `$`, displayed
//! ones between `$$`: the marks of TeX itself. Llama 3 paper, section 3.1.1: the structure of
//! mathematics is kept, and the `alt` text of images, where formulas often are.

use super::Budget;
use super::names::{Attr, Tag};
use super::tree::{NONE, NodeId, ROOT, Tree};

/// Longest TeX source that is believed to be a formula, in bytes.
const LONGEST: usize = 20_000;

/// The source of a `math` element.
pub fn of_element(tree: &Tree, id: NodeId) -> Option<String> {
    let display =
        tree.attr(id, Attr::Display).is_some_and(|v| v == "block") || in_display(tree, id);
    if let Some(tex) = annotation(tree, id) {
        return delimited(&tex, display);
    }
    if let Some(tex) = tree.attr(id, Attr::Alttext).filter(|v| !v.trim().is_empty()) {
        return delimited(tex, display);
    }
    let mut out = String::new();
    linear(tree, id, &mut out);
    let out = out.trim();
    (!out.is_empty()).then(|| out.to_string())
}

/// Whether KaTeX says of a formula that it stands alone (its `math` does not, in older versions).
fn in_display(tree: &Tree, id: NodeId) -> bool {
    let mut at = tree.node(id).parent;
    for _ in 0..3 {
        if at == NONE {
            return false;
        }
        if has_class(tree, at, "katex-display") {
            return true;
        }
        at = tree.node(at).parent;
    }
    false
}

/// The text of the TeX annotation in a `math` element.
fn annotation(tree: &Tree, root: NodeId) -> Option<String> {
    let mut at = root;
    loop {
        let node = tree.node(at);
        if node.tag == Tag::ANNOTATION {
            let encoding = tree.attr(at, Attr::Encoding).unwrap_or("").to_ascii_lowercase();
            if encoding.contains("tex") {
                return Some(text_below(tree, at));
            }
        }
        at = next_in(tree, root, at, true)?;
    }
}

/// The next node in document order below `root`.
fn next_in(tree: &Tree, root: NodeId, mut at: NodeId, descend: bool) -> Option<NodeId> {
    if descend && tree.node(at).first != NONE {
        return Some(tree.node(at).first);
    }
    while at != root && at != NONE {
        let next = tree.node(at).next;
        if next != NONE {
            return Some(next);
        }
        at = tree.node(at).parent;
    }
    None
}

fn text_below(tree: &Tree, root: NodeId) -> String {
    let mut out = String::new();
    let mut at = Some(root);
    while let Some(id) = at {
        out.push_str(tree.text(id));
        at = next_in(tree, root, id, true);
    }
    out
}

/// MathML read in a line: `a/b`, `x^2`, `a_i`, `√(x)`. Iterative: each element leaves what must be
/// written after each of its children on a stack.
fn linear(tree: &Tree, root: NodeId, out: &mut String) {
    let mut at = root;
    let mut descend = true;
    loop {
        let mut below = descend;
        if descend {
            let node = tree.node(at);
            match tree.custom_name(node.tag).to_ascii_lowercase().as_str() {
                "mfrac" | "msqrt" | "mroot" | "mrow" | "mfenced" if at != root => {
                    out.push_str(opening(tree, at));
                }
                _ => {}
            }
            if node.tag == Tag::TEXT {
                out.push_str(tree.text(at).trim());
            }
            below = !matches!(node.tag, Tag::ANNOTATION | Tag::ANNOTATION_XML);
        }
        if below && descend && tree.node(at).first != NONE {
            at = tree.node(at).first;
            continue;
        }
        if at == root {
            return;
        }
        out.push_str(closing(tree, at));
        out.push_str(between(tree, at));
        let node = tree.node(at);
        if node.next != NONE {
            at = node.next;
            descend = true;
        } else {
            at = node.parent;
            descend = false;
        }
    }
}

/// Whether an element of MathML holds more than one part and so needs brackets in a line.
fn is_compound(tree: &Tree, id: NodeId) -> bool {
    let first = tree.node(id).first;
    first != NONE && tree.node(first).next != NONE
}

fn name_of<'t>(tree: &'t Tree, id: NodeId) -> &'t str {
    if id == NONE { "" } else { tree.custom_name(tree.node(id).tag) }
}

fn is_script_or_fraction(name: &str) -> bool {
    matches!(name, "mfrac" | "msup" | "msub" | "msubsup" | "munder" | "mover" | "munderover")
}

fn opening(tree: &Tree, id: NodeId) -> &'static str {
    match name_of(tree, id) {
        "msqrt" | "mroot" => "√(",
        "mfenced" => "(",
        "mrow" if in_parts(tree, id) => "(",
        _ => "",
    }
}

fn closing(tree: &Tree, id: NodeId) -> &'static str {
    match name_of(tree, id) {
        "msqrt" | "mroot" | "mfenced" => ")",
        "mrow" if in_parts(tree, id) => ")",
        _ => "",
    }
}

fn in_parts(tree: &Tree, id: NodeId) -> bool {
    is_compound(tree, id) && is_script_or_fraction(name_of(tree, tree.node(id).parent))
}

/// The sign between a part of a fraction or script and the next part.
fn between(tree: &Tree, id: NodeId) -> &'static str {
    let node = tree.node(id);
    if node.tag == Tag::TEXT || node.next == NONE {
        return "";
    }
    let first = node.prev == NONE || tree.node(node.prev).tag == Tag::TEXT;
    match name_of(tree, node.parent) {
        "mfrac" => "/",
        "msup" | "mover" => "^",
        "msub" | "munder" => "_",
        "msubsup" | "munderover" => {
            if first {
                "_"
            } else {
                "^"
            }
        }
        "mtr" => "\t",
        "mtable" => "\n",
        _ => "",
    }
}

/// The source of a script that holds a formula: TeX, AsciiMath, or MathML.
pub fn of_script(tree: &Tree, id: NodeId) -> Option<String> {
    let kind = tree.attr(id, Attr::Type)?;
    if !kind.starts_with("math/") {
        return None;
    }
    let text = text_below(tree, id);
    if kind.starts_with("math/tex") {
        return delimited(&text, kind.contains("mode=display"));
    }
    if kind.starts_with("math/mml") {
        let budget = Budget { bytes: LONGEST, nodes: LONGEST, ..Budget::default() };
        let (inner, _) = super::parse(text.get(..LONGEST.min(text.len()))?, budget);
        let math = math_below(&inner, ROOT, &mut inner.nodes.len())?;
        return of_element(&inner, math);
    }
    let text = text.trim();
    (!text.is_empty() && text.len() <= LONGEST).then(|| text.to_string())
}

/// The source of a formula image: its `alt`, if the image says that it is one (class names) or
/// the text is plainly TeX.
pub fn of_image(tree: &Tree, id: NodeId) -> Option<String> {
    let alt = tree.attr(id, Attr::Alt).unwrap_or("").trim();
    if alt.is_empty() {
        return delimited(&of_address(tree.attr(id, Attr::Src)?)?, false);
    }
    if alt.len() > LONGEST {
        return None;
    }
    let class = tree.attr(id, Attr::Class).unwrap_or("").to_ascii_lowercase();
    let named = ["latex", "tex", "math", "mwe-math-fallback-image-inline"];
    let is_named = class.split_ascii_whitespace().any(|name| {
        named.contains(&name) || name.starts_with("mwe-math") || name.starts_with("latex")
    });
    let is_tex = alt.contains('\\')
        && (alt.contains('{') || alt.contains('^') || alt.contains('_') || alt.starts_with('\\'));
    if !(is_named || is_tex) {
        return None;
    }
    delimited(alt, class.contains("display"))
}

/// The TeX in the address of a picture that a service draws from it (CodeCogs, WordPress).
fn of_address(address: &str) -> Option<String> {
    const SERVICES: [&str; 4] =
        ["latex.codecogs.com/", "latex.php?latex=", "mathtex.cgi?", "chart?cht=tx&chl="];
    let service = SERVICES.iter().find(|s| address.contains(**s))?;
    let (_, rest) = address.split_once(service)?;
    let query = if service.ends_with('/') { rest.split_once('?')?.1 } else { rest };
    let query = if service.contains("codecogs") { query } else { query.split('&').next()? };
    let plus = if service.contains("codecogs") { b'+' } else { b' ' };
    let (mut bytes, raw, mut at) = (Vec::with_capacity(query.len()), query.as_bytes(), 0);
    while let Some(&byte) = raw.get(at) {
        let code = query.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let (byte, len) = match (byte, code) {
            (b'%', Some(code)) => (code, 3),
            (b'+', _) => (plus, 1),
            _ => (byte, 1),
        };
        bytes.push(byte);
        at += len;
    }
    String::from_utf8(bytes).ok()
}

/// What an element is to a formula.
pub enum Drawn {
    /// Not a drawing of one, or one whose source stands nowhere: it is read as it is.
    No,
    /// A drawing whose source stands beside it and is read there.
    BesideSource,
    /// A drawing that holds the formula as MathML for screen readers: its reading.
    Around(String),
}

/// Tells the drawings that MathJax 2 and 3 and KaTeX make. `search`: how many nodes may be looked
/// at, over the whole page, so that nested drawings cost no more than the page is long.
pub fn drawn(tree: &Tree, id: NodeId, search: &mut usize) -> Drawn {
    let container = tree.custom_name(tree.node(id).tag) == "mjx-container";
    let class = tree.attr(id, Attr::Class).unwrap_or("");
    if !container && !class.contains("MathJax") && !class.contains("katex-html") {
        return Drawn::No;
    }
    let mut names = class.split_ascii_whitespace();
    if names.clone().any(|name| name == "katex-html") {
        let before = tree.node(id).prev;
        let known = before != NONE && has_class(tree, before, "katex-mathml");
        return if known { Drawn::BesideSource } else { Drawn::No };
    }
    let of_mathjax = |name: &str| {
        let rest = name.strip_prefix("MathJax");
        rest.is_some_and(|r| {
            matches!(
                r,
                "" | "_Preview"
                    | "_Display"
                    | "_SVG"
                    | "_SVG_Display"
                    | "_CHTML"
                    | "_CHTML_Display"
            )
        }) || name == "MathJax_MathML"
            || name == "MathJax_CHTML"
    };
    if !container && !names.any(of_mathjax) {
        return Drawn::No;
    }
    if script_follows(tree, id) {
        return Drawn::BesideSource;
    }
    let display = tree.attr(id, Attr::Display).is_some_and(|d| d == "true");
    match math_below(tree, id, search).and_then(|math| of_element(tree, math)) {
        Some(source) if display && source.starts_with('$') && !source.starts_with("$$") => {
            Drawn::Around(format!("${source}$"))
        }
        Some(source) => Drawn::Around(source),
        None => Drawn::No,
    }
}

fn has_class(tree: &Tree, id: NodeId, name: &str) -> bool {
    let class = tree.attr(id, Attr::Class).unwrap_or("");
    class.split_ascii_whitespace().any(|c| c == name)
}

/// Whether one of the next siblings is a script that holds a formula.
fn script_follows(tree: &Tree, id: NodeId) -> bool {
    let mut at = tree.node(id).next;
    for _ in 0..4 {
        if at == NONE {
            return false;
        }
        if tree.node(at).tag == Tag::SCRIPT {
            return tree.attr(at, Attr::Type).is_some_and(|t| t.starts_with("math/"));
        }
        at = tree.node(at).next;
    }
    false
}

fn math_below(tree: &Tree, root: NodeId, search: &mut usize) -> Option<NodeId> {
    let mut at = root;
    loop {
        *search = search.checked_sub(1)?;
        at = next_in(tree, root, at, true)?;
        if tree.node(at).tag == Tag::MATH {
            return Some(at);
        }
    }
}

/// The source without what stands for its surroundings: MediaWiki's `{\displaystyle ...}` around
/// all of it, and the CDATA marks of scripts.
fn bare(tex: &str) -> &str {
    let mut tex = tex.trim();
    tex = tex.strip_prefix('%').map_or(tex, str::trim_start);
    tex = tex.strip_prefix("<![CDATA[").unwrap_or(tex);
    tex = tex.strip_suffix("]]>").unwrap_or(tex).trim_end().trim_end_matches('%').trim();
    let inner = tex.strip_prefix("{\\displaystyle ").and_then(|t| t.strip_suffix('}'));
    let whole = |inner: &str| {
        let mut open = 0i32;
        inner.bytes().all(|b| {
            open += i32::from(b == b'{') - i32::from(b == b'}');
            open >= 0
        })
    };
    inner.filter(|inner| whole(inner)).map_or(tex, str::trim)
}

fn delimited(tex: &str, display: bool) -> Option<String> {
    let tex = bare(tex);
    if tex.is_empty() || tex.len() > LONGEST {
        return None;
    }
    if tex.starts_with('$') || tex.starts_with("\\(") || tex.starts_with("\\[") {
        return Some(tex.to_string());
    }
    Some(if display { format!("$${tex}$$") } else { format!("${tex}$") })
}
