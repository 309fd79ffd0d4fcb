//! `gopher-ellipses`: at most 0.3 of the lines end with an ellipsis.

use crate::rules::{Judge, PROSE, Rule, Set, View};

const MAX: f32 = 0.3;

pub(in crate::rules) const RULE: Rule = Rule {
    name: "gopher-ellipses",
    set: Set::Gopher,
    reason: "Gopher removes documents whose lines are cut off: teasers of other pages.",
    limit: || format!("above {MAX} of the lines end with an ellipsis"),
    routes: PROSE,
    check,
};

fn check(view: &View, judge: &Judge) -> Option<f32> {
    let ends = |line: &str| line.ends_with("...") || line.ends_with('…');
    let count = view.lines.iter().filter(|l| ends(view.line(l))).count();
    let share = count as f32 / view.lines.len().max(1) as f32;
    (share > judge.most(MAX)).then_some(share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::check;

    #[test]
    fn pair() {
        check(&RULE, "The mayor said...\nRead on…\nThe end.", true);
        check(&RULE, "The mayor said...\nHe spoke.\nHe left.\nThe end.", false);
    }
}
