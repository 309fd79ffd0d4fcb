//! `gopher-alphabetic`: at least 0.8 of the words have a letter.

use crate::rules::{Judge, PROSE, Rule, Set, View};

const MIN: f32 = 0.8;

pub(in crate::rules) const RULE: Rule = Rule {
    name: "gopher-alphabetic",
    set: Set::Gopher,
    reason: "Gopher removes documents in which a fifth of the words are numbers.",
    limit: || format!("below {MIN} of the words have a letter"),
    routes: PROSE,
    check,
};

fn check(view: &View, judge: &Judge) -> Option<f32> {
    if view.words.is_empty() {
        return None;
    }
    let lettered = view.words.iter().filter(|w| w.letters).count();
    let share = lettered as f32 / view.words.len() as f32;
    (share < judge.least(MIN)).then_some(share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::check;

    #[test]
    fn pair() {
        check(&RULE, "Lot 12 sold 40 at 3.5", true);
        check(&RULE, "He sold it for 12 crowns", false);
        check(&RULE, "", false);
    }
}
