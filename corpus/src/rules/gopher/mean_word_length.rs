//! `gopher-mean-word-length`: words of 3 to 10 characters on average.
//!
//! Not asked of scripts without spaces, whose words our segmentation does not know.

use crate::rules::{Judge, PROSE, Rule, Set, View};

const MIN: f32 = 3.0;
const MAX: f32 = 10.0;

pub(in crate::rules) const RULE: Rule = Rule {
    name: "gopher-mean-word-length",
    set: Set::Gopher,
    reason: "Gopher keeps documents whose words have 3 to 10 characters on average.",
    limit: || format!("characters a word, outside {MIN} to {MAX}"),
    routes: PROSE,
    check,
};

fn check(view: &View, judge: &Judge) -> Option<f32> {
    if view.words.is_empty() || view.unspaced > 0.2 {
        return None;
    }
    let mean = view.word_chars() as f32 / view.words.len() as f32;
    (!(judge.least(MIN)..=judge.most(MAX)).contains(&mean)).then_some(mean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::check;

    #[test]
    fn pair() {
        check(&RULE, "an ox is in it", true);
        check(&RULE, "the fox has fur", false);
        check(&RULE, "constitutional characterisation", true);
        check(&RULE, "日本語の文章", false);
    }
}
