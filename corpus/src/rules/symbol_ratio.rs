//! `symbol-ratio`: hash tags, ellipses and ornaments instead of sentences.
//!
//! Source: Gopher (Rae et al. 2021): `#` and ellipsis to words at most 0.1; ours counts further
//! every character that is neither letter, digit, space nor ordinary punctuation. Formulas: `#` and
//! ellipses over words above 0.1; symbols over characters that are not spaces above 0.12.

use super::{PROSE, Rule, View};

const MAX_MARKS: f32 = 0.1;
const MAX_SYMBOLS: f32 = 0.12;

pub(super) const RULE: Rule = Rule {
    name: "symbol-ratio",
    reason: "Where ornaments take the place of sentences there is no prose to learn from.",
    routes: PROSE,
    check,
};

fn check(view: &View) -> Option<f32> {
    let (mut symbols, mut all) = (0u32, 0u32);
    for c in view.text.chars().filter(|c| !c.is_whitespace()) {
        all += 1;
        symbols += u32::from(is_symbol(c));
    }
    let hashes = view.text.matches('#').count();
    let ellipses = view.text.matches("...").count() + view.text.matches('…').count();
    let marks = (hashes + ellipses) as f32 / view.words.len().max(1) as f32;
    let share = symbols as f32 / all.max(1) as f32;
    if marks > MAX_MARKS {
        return Some(marks);
    }
    (share > MAX_SYMBOLS).then_some(share)
}

fn is_symbol(c: char) -> bool {
    if c.is_ascii() {
        return matches!(
            c,
            '#' | '*'
                | '~'
                | '^'
                | '_'
                | '|'
                | '\\'
                | '{'
                | '}'
                | '<'
                | '>'
                | '='
                | '@'
                | '+'
                | '`'
                | '$'
                | '&'
        );
    }
    matches!(c, '…' | '\u{2190}'..='\u{27bf}' | '\u{1f000}'..='\u{1faff}' | '\u{fffd}' | '•' | '·')
}

#[cfg(test)]
mod tests {
    use super::super::tests;
    use super::*;

    #[test]
    fn pair() {
        tests::check(&RULE, &"#kettle #### pan … #copper *** blue ~~ ## # … ###\n".repeat(9), true);
        tests::check(
            &RULE,
            "It's #1 (again): prices rose 5 %, he said – and then, after all of \
            that, the market simply ... fell; nobody on the floor could say why it had."
                .repeat(3)
                .as_str(),
            false,
        );
    }
}
