//! Superscripts and subscripts of plain HTML (`sup`, `sub`) in a line of text, so that nothing fuses
//! and nothing is lost: `10^3`, `x^(n+1)`, `a_max`. The signs are those of TeX and of `math.rs`.
//! What is written fused anyway stays so: ordinals (`1st`, `XXe`), marks (`™`), chemical and counted
//! subscripts (`H2O`, `x1`); fractions (`3 1/2`) and the cents of a price (`$19.99`) are told by
//! what stands around them. Not here: marks of notes, which are links (`margin.rs`); formulas.

use super::names::Tag;
use super::tree::{NONE, NodeId, Tree};

/// Longest raised text that is looked at, in bytes, and most nodes in it.
const LONGEST: usize = 24;
const NODES: usize = 16;
/// Letters that end an ordinal or a title when raised alone: `XXe`, `1o`, `2a`, `Mr`, `McX`.
const ENDINGS: &str = "eoarhdsc";

/// How a `sup` or `sub` is written after `before`, the text of its line so far, if not as it stands.
pub fn of(tree: &Tree, id: NodeId, before: &str) -> Option<String> {
    let text = text_within(tree, id)?;
    let last = before.chars().next_back().filter(|c| !c.is_whitespace())?;
    if tree.node(id).tag == Tag::SUB { below(&text, last) } else { above(tree, id, &text, before) }
}

fn above(tree: &Tree, id: NodeId, text: &str, before: &str) -> Option<String> {
    let last = before.chars().next_back()?;
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    if digits && begins_fraction(tree, id) {
        return last.is_ascii_digit().then(|| format!(" {text}"));
    }
    if digits && text.len() == 2 && ends_in_price(before) {
        return Some(format!(".{text}"));
    }
    let mut chars = text.chars();
    let first = chars.next()?;
    let alone = chars.next().is_none();
    let power = match alone {
        true if first.is_alphabetic() => {
            last != '.' && (is_variable(tree, id) || !ENDINGS.contains(first))
        }
        true => first.is_ascii_digit() || is_sign(first),
        false => is_expression(text) && text.contains(|c: char| c.is_ascii_digit() || is_sign(c)),
    };
    power.then(|| signed('^', text))
}

fn below(text: &str, last: char) -> Option<String> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let counted = digits && !last.is_ascii_digit();
    let named = last.is_alphanumeric() || matches!(last, ')' | ']' | '}' | '|' | '\'' | '′' | '∑');
    (named && !counted && is_expression(text)).then(|| signed('_', text))
}

/// The sign and what it applies to, in brackets where it is more than one name or number.
fn signed(sign: char, text: &str) -> String {
    let number = text.trim_start_matches(is_sign).trim_end_matches(is_sign);
    let one = number.chars().all(char::is_alphabetic)
        || number.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | ','));
    if one { format!("{sign}{text}") } else { format!("{sign}({text})") }
}

fn is_sign(c: char) -> bool {
    matches!(c, '+' | '-' | '−' | '–' | '±')
}

fn is_expression(text: &str) -> bool {
    let inner = |c: char| c.is_alphanumeric() || is_sign(c) || "./*×·,()=∞'′".contains(c);
    text.chars().all(inner) && text.contains(char::is_alphanumeric)
}

/// Whether the text before ends in a sum of money without cents.
fn ends_in_price(before: &str) -> bool {
    let whole = before.trim_end_matches(|c: char| c.is_ascii_digit() || c == ',');
    whole.len() < before.len() && whole.trim_end().ends_with(['$', '€', '£', '¥', '₹'])
}

/// Whether a slash and a `sub` come next.
fn begins_fraction(tree: &Tree, id: NodeId) -> bool {
    let slash = tree.node(id).next;
    if slash == NONE || !matches!(tree.text(slash).trim(), "/" | "⁄") {
        return false;
    }
    let lower = tree.node(slash).next;
    lower != NONE && tree.node(lower).tag == Tag::SUB
}

/// Whether the text is set as a variable.
fn is_variable(tree: &Tree, id: NodeId) -> bool {
    let set = |n: NodeId| n != NONE && matches!(tree.node(n).tag, Tag::I | Tag::EM | Tag::VAR);
    set(tree.node(id).first) || set(tree.node(id).parent)
}

/// The text of an element without white space, if it is short and has no pictures or formulas.
fn text_within(tree: &Tree, top: NodeId) -> Option<String> {
    let (mut out, mut at) = (String::new(), tree.node(top).first);
    for _ in 0..NODES {
        if at == NONE {
            break;
        }
        let node = tree.node(at);
        if matches!(node.tag, Tag::IMG | Tag::MATH | Tag::SCRIPT | Tag::BR | Tag::A) {
            return None;
        }
        out.extend(tree.text(at).chars().filter(|c| !c.is_whitespace()));
        if out.len() > LONGEST {
            return None;
        }
        let mut next = node.first;
        while next == NONE && at != top {
            next = tree.node(at).next;
            at = tree.node(at).parent;
        }
        at = next;
    }
    (at == NONE && !out.is_empty()).then_some(out)
}

/// Whether a `sup` is the mark of a note: nothing but a link of a number, a letter or a star.
pub fn is_note(tree: &Tree, id: NodeId) -> bool {
    let first = tree.node(id).first;
    if first == NONE || tree.node(first).tag != Tag::A || tree.node(first).next != NONE {
        return false;
    }
    let Some(text) = text_within(tree, first) else { return false };
    let mark = text.trim_matches(|c| matches!(c, '[' | ']' | '(' | ')' | ','));
    let number = mark.len() <= 3 && mark.bytes().all(|b| b.is_ascii_digit());
    number || mark.chars().nth(1).is_none() || mark.chars().all(|c| "*†‡§¶".contains(c))
}

#[cfg(test)]
mod tests {
    use super::super::blocks::tests::check;

    #[test]
    fn powers_and_indices_have_their_signs() {
        check("<p>10<sup>3</sup> and 10<sup>&minus;3</sup> m", "10^3 and 10^−3 m");
        check("<p>x<sup>n</sup>, (a+b)<sup>2n+1</sup>, e<sup>-x</sup>", "x^n, (a+b)^(2n+1), e^-x");
        check("<p>5 m<sup>2</sup> of Ca<sup>2+</sup>", "5 m^2 of Ca^2+");
        check("<p>v<sub>max</sub>, a<sub>n+1</sub>, 101<sub>2</sub>", "v_max, a_(n+1), 101_2");
        check("<p>x<sub>i</sub><sup>2</sup> <code>2<sup>8</sup></code>", "x_i^2 2^8");
        check("<p>2<sup><i>e</i></sup>", "2^e");
    }

    #[test]
    fn what_is_written_fused_stays_fused() {
        check("<p>H<sub>2</sub>O, Ca(OH)<sub>2</sub>, x<sub>1</sub>", "H2O, Ca(OH)2, x1");
        check("<p>the 1<sup>st</sup>, XX<sup>e</sup>, M<sup>r</sup>", "the 1st, XXe, Mr");
        check("<p>Mill<sup>TM</sup> and Mill<sup>®</sup>", "MillTM and Mill®");
        check("<p>a <sup>1</sup> Note.", "a 1 Note.");
        check("<sup>1</sup> Note <sub>small print</sub>", "1 Note small print");
    }

    #[test]
    fn fractions_and_cents() {
        check(
            "<p>3<sup>1</sup>/<sub>2</sub> or <sup>3</sup>⁄<sub>4</sub> cups",
            "3 1/2 or 3⁄4 cups",
        );
        check("<p>$19<sup>99</sup>, € 1,200<sup>50</sup>", "$19.99, € 1,200.50");
    }

    #[test]
    fn marks_of_notes_go() {
        let linked = "<sup class=reference><a href='#n1'><span>[</span>1<span>]</span></a></sup>";
        check(&format!("<p>So it was.{linked} And then"), "So it was. And then");
        check(
            "<p>here<sup><a href=#f>a</a></sup>, there<sup><a href=#g>†</a></sup>",
            "here, there",
        );
        check("<p>a mark<sup><a href=/tm>trade mark</a></sup>", "a marktrade mark");
        check("<pre>x<sup>2</sup></pre>", "x2");
    }

    #[test]
    fn nested_scripts_end() {
        check(&format!("<p>{}", "y<sub>".repeat(3)), "y_yy");
        let deep = "x<sup>".repeat(3000);
        let (tree, _) = super::super::parse(&deep, super::super::Budget::default());
        assert!(!super::super::blocks::flatten(&tree).blocks.is_empty());
    }
}
