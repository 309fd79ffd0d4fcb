//! Formulas in text that was no HTML: sources in TeX, Markdown with mathematics, texts of others.
//!
//! What TeX marks as mathematics is counted: `$…$` and `\(…\)` within a line, `$$…$$` and `\[…\]`,
//! and environments such as `\begin{align}`. A dollar sign is also money, so that a span in dollars
//! counts only where it holds what no price does: a command, an index or exponent, a relation, or
//! a single letter, and begins and ends with one of its signs. Not here: formulas of pages, which are
//! elements (`html::math`), nor what a route of mathematics means.

use memchr::memchr2_iter;

/// Environments that are formulas; their starred forms too.
const ENVIRONMENTS: [&str; 9] = [
    "equation",
    "align",
    "gather",
    "multline",
    "eqnarray",
    "displaymath",
    "math",
    "array",
    "cases",
];
/// Bytes of the longest span within a line that is taken for one formula.
const LONGEST: usize = 400;

/// How many formulas a text has.
pub(crate) fn formulas(text: &str) -> u32 {
    let bytes = text.as_bytes();
    let (mut count, mut from) = (0u32, 0);
    for at in memchr2_iter(b'$', b'\\', bytes) {
        if at < from {
            continue;
        }
        let rest = &bytes[at..];
        if rest.starts_with(b"\\(") || rest.starts_with(b"\\[") {
            (count, from) = (count + 1, at + 2);
        } else if let Some(name) = rest.strip_prefix(b"\\begin{") {
            let is_formula = ENVIRONMENTS.iter().any(|e| name.starts_with(e.as_bytes()));
            (count, from) = (count + u32::from(is_formula), at + 7);
        } else if rest.starts_with(b"\\") {
            // An escaped sign, such as `\$`, is no mark.
            from = at + 2;
        } else {
            let marks = if rest.starts_with(b"$$") { 2 } else { 1 };
            match span(&rest[marks..], marks) {
                Some(length) => (count, from) = (count + 1, at + length + 2 * marks),
                None => from = at + marks,
            }
        }
    }
    count
}

/// Length of the formula that begins here and ends with so many dollar signs.
fn span(rest: &[u8], marks: usize) -> Option<usize> {
    let within = &rest[..rest.len().min(LONGEST)];
    let ends = |(at, byte): (usize, &u8)| {
        (*byte == b'$' && (at == 0 || within[at - 1] != b'\\')).then_some(at)
    };
    let length = within.iter().enumerate().find_map(ends)?;
    let inside = &within[..length];
    if marks == 2 {
        return Some(length);
    }
    // As in Markdown: what begins or ends with a space is two signs, not the marks of one formula.
    if inside.first().is_none_or(u8::is_ascii_whitespace) || inside.ends_with(b" ") {
        return None;
    }
    let letter = matches!(inside, [one] if one.is_ascii_alphabetic());
    let telling = |byte: &u8| matches!(byte, b'\\' | b'^' | b'_' | b'=' | b'<' | b'>');
    (!inside.contains(&b'\n') && (letter || inside.iter().any(telling))).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_mathematics_and_not_of_money() {
        let check = |text: &str, expected| assert_eq!(formulas(text), expected, "{text}");
        check("Let $x$ be in $A_0$, and $y = \\sqrt{2}$.", 3);
        check("Then \\(a<b\\) and \\[ c^2 \\] hold.", 2);
        check("$$ e^{i\\pi} = -1 $$", 1);
        check("\\begin{align*} a &= b \\end{align*} \\begin{itemize} \\item c \\end{itemize}", 1);
        check("It cost $5, then $10, and $7 in the end.", 0);
        check("A price of \\$3 and a \\textbf{word}, $ and $", 0);
        check("Formulas $x\nend$ with their line.", 0);
        check("$a = 5; $b = 6; $c = 7;", 0);
        check("", 0);
        check("$", 0);
        check("\\", 0);
    }
}
