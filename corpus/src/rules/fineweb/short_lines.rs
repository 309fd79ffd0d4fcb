//! `fineweb-short-lines`: at most 0.67 of the lines have 30 characters or fewer.

use crate::rules::{Judge, PROSE, Rule, Set, View};

const MAX: f32 = 0.67;
const SHORT: usize = 30;

pub(in crate::rules) const RULE: Rule = Rule {
    name: "fineweb-short-lines",
    set: Set::Fineweb,
    reason: "FineWeb removes documents made of short lines: lists, menus and headings.",
    limit: || format!("above {MAX} of the lines have {SHORT} characters or fewer"),
    routes: PROSE,
    check,
};

fn check(view: &View, judge: &Judge) -> Option<f32> {
    let short = |line: &str| line.len() <= SHORT || line.chars().count() <= SHORT;
    let count = view.lines.iter().filter(|l| short(view.line(l))).count();
    let share = count as f32 / view.lines.len().max(1) as f32;
    (share > judge.most(MAX)).then_some(share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::check;

    #[test]
    fn pair() {
        let long = "A line of more than thirty characters.";
        check(&RULE, &format!("{long}\nOne\nTwo\nThree"), true);
        check(&RULE, &format!("{long}\nOne\nTwo"), false);
        check(&RULE, &"é".repeat(31), false);
    }
}
