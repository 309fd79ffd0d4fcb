//! `c4-curly-bracket`: documents with a curly bracket go, if they are prose.

use crate::rules::{Judge, PROSE, Rule, Set, View};

pub(in crate::rules) const RULE: Rule = Rule {
    name: "c4-curly-bracket",
    set: Set::C4,
    reason: "C4 drops documents with a curly bracket: code and broken templates have them.",
    limit: || "one curly bracket; what is measured is where".into(),
    routes: PROSE,
    check,
};

fn check(view: &View, _: &Judge) -> Option<f32> {
    memchr::memchr(b'{', view.text.as_bytes()).map(|at| at as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::check;

    #[test]
    fn pair() {
        check(&RULE, "Dear {{name}}, hello.", true);
        check(&RULE, "Dear (name), hello [sic].", false);
    }
}
