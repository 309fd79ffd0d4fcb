//! Formulas in their source: TeX of MathML annotations, of `script type="math/tex"` and of formula
//! images, else a plain-text reading of MathML. Inline formulas come out between `$`, displayed
//! ones between `$$`: the marks of TeX itself. Llama 3 paper, section 3.1.1: the structure of
//! mathematics is kept, and the `alt` text of images, where formulas often are.

use super::names::{Attr, Tag};
use super::tree::{NONE, NodeId, Tree};

/// Longest TeX source that is believed to be a formula, in bytes.
const LONGEST: usize = 20_000;

/// The source of a `math` element.
pub fn of_element(tree: &Tree, id: NodeId) -> Option<String> {
    let display = tree.attr(id, Attr::Display).is_some_and(|v| v == "block");
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

/// The source of a `script type="math/tex"`.
pub fn of_script(tree: &Tree, id: NodeId) -> Option<String> {
    let kind = tree.attr(id, Attr::Type)?;
    if !kind.starts_with("math/tex") {
        return None;
    }
    delimited(&text_below(tree, id), kind.contains("mode=display"))
}

/// The source of a formula image: its `alt`, if the image says that it is one (class names) or
/// the text is plainly TeX.
pub fn of_image(tree: &Tree, id: NodeId) -> Option<String> {
    let alt = tree.attr(id, Attr::Alt)?.trim();
    if alt.is_empty() || alt.len() > LONGEST {
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

/// Whether an inline element is the picture of a formula whose source stands beside it (MathJax 2
/// beside its script, KaTeX beside its MathML).
pub fn is_rendering(tree: &Tree, id: NodeId) -> bool {
    let Some(class) = tree.attr(id, Attr::Class) else { return false };
    class.split_ascii_whitespace().any(|name| {
        matches!(
            name,
            "MathJax"
                | "MathJax_Preview"
                | "MathJax_Display"
                | "MathJax_SVG"
                | "MathJax_CHTML"
                | "katex-html"
                | "MJX_Assistive_MathML"
        )
    })
}

fn delimited(tex: &str, display: bool) -> Option<String> {
    let tex = tex.trim();
    if tex.is_empty() || tex.len() > LONGEST {
        return None;
    }
    if tex.starts_with('$') || tex.starts_with("\\(") || tex.starts_with("\\[") {
        return Some(tex.to_string());
    }
    Some(if display { format!("$${tex}$$") } else { format!("${tex}$") })
}
