//! `gopher-bullets`: at most 0.9 of the lines begin with a bullet (`•` or `-`).

use crate::rules::{Judge, PROSE, Rule, Set, View};

const MAX: f32 = 0.9;

pub(in crate::rules) const RULE: Rule = Rule {
    name: "gopher-bullets",
    set: Set::Gopher,
    reason: "Gopher removes documents that are one list of bullet points.",
    limit: || format!("above {MAX} of the lines begin with a bullet"),
    routes: PROSE,
    check,
};

fn check(view: &View, judge: &Judge) -> Option<f32> {
    let bullets = view.lines.iter().filter(|l| view.line(l).starts_with(['•', '-'])).count();
    let share = bullets as f32 / view.lines.len().max(1) as f32;
    (share > judge.most(MAX)).then_some(share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::check;

    #[test]
    fn pair() {
        check(&RULE, "• one\n- two\n  • three", true);
        check(&RULE, &format!("What we need\n{}", "• one\n".repeat(9)), false);
        check(&RULE, "", false);
    }
}
