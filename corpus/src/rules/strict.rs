//! Near misses: documents that stay, and would go if a threshold were a little stricter.
//!
//! A rule asks its judge for the thresholds that it compares with ([`Judge`]'s `least` and `most`),
//! so that the same rules, asked by a stricter judge, name them. Rules without a threshold (a word
//! of a list, a bracket) have none; nor have the bounds outside of the rules: the recipe's
//! `max_bytes`, and the distance from the corpus. Not here: which documents are asked about.

use super::{Judge, RULES, View};
use quipu_documents::Route;

/// By what shares thresholds are made stricter, from the nearest on.
const MARGINS: [f32; 4] = [0.02, 0.05, 0.1, 0.2];

/// Judges of rising strictness.
pub struct Strict(Vec<Judge>);

/// A rule that a document nearly broke.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NearMiss {
    /// Number of the rule in [`RULES`].
    pub rule: usize,
    /// What it measured.
    pub value: f32,
    /// By what share a threshold would be stricter that it breaks.
    pub margin: f32,
}

impl Strict {
    /// With the rules of `judge`.
    pub fn of(judge: &Judge) -> Strict {
        let with = |margin| Judge { margin, ..judge.clone() };
        Strict([0.0].into_iter().chain(MARGINS).map(with).collect())
    }

    /// The rules that a document nearly broke, in their order.
    pub fn near(&self, view: &View, route: Route) -> Vec<NearMiss> {
        let Some(strictest) = self.0.last() else { return Vec::new() };
        let acting = strictest.rules.iter().filter(|n| RULES[**n].routes.contains(&route));
        acting.filter_map(|&rule| self.nearly(rule, view, strictest)).collect()
    }

    fn nearly(&self, rule: usize, view: &View, strictest: &Judge) -> Option<NearMiss> {
        let check = RULES[rule].check;
        check(view, strictest)?;
        let broken = |judge: &Judge| Some((judge.margin, check(view, judge)?));
        let (margin, value) = self.0.iter().find_map(broken)?;
        // Broken as it is written: lines that went have changed the text since it was judged.
        (margin > 0.0).then_some(NearMiss { rule, value, margin })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::PROSE_SAMPLE;
    use super::super::{DirtyWords, Set};
    use super::*;

    fn check(text: &str, min_words: u32, expected: &[(&str, f32)]) {
        let sets = [Set::Llama3, Set::Gopher, Set::C4, Set::Fineweb];
        let judge = Judge::new(&sets, &[], DirtyWords::default());
        let view = View::of(text, "en", min_words);
        let near = Strict::of(&judge).near(&view, Route::Prose);
        let found: Vec<(&str, f32)> = near.iter().map(|n| (RULES[n.rule].name, n.margin)).collect();
        assert_eq!(found, expected, "{near:?}");
    }

    #[test]
    fn a_text_is_near_the_rules_that_it_nearly_breaks() {
        check(PROSE_SAMPLE, 1, &[]);
        let words = View::of(PROSE_SAMPLE, "en", 0).words.len() as u32;
        check(PROSE_SAMPLE, words, &[("too-short", 0.02)]);
        check(PROSE_SAMPLE, words - 5, &[("too-short", 0.1)]);
        // Broken, and so not nearly broken.
        check(PROSE_SAMPLE, words + 1, &[]);
        // Of twenty lines seventeen are bullets: 0.85 of 0.9.
        let line = |n: usize| {
            let mark = if n < 17 { "- " } else { "" };
            let name = char::from(b'a' + n as u8).to_string().repeat(4);
            format!("{mark}In {name}, a harbour of the old coast, the boats have come back.\n")
        };
        let list: String = (0..20).map(line).collect();
        check(&list, 1, &[("gopher-bullets", 0.1)]);
    }

    /// Thresholds are compared as they are written where nobody asks for more.
    #[test]
    fn a_plain_judge_is_not_stricter() {
        let judge = Judge::default();
        for threshold in [0.1f32, 0.3, 0.12, 3.7, 25.0, 100_000.0] {
            assert_eq!((judge.least(threshold), judge.most(threshold)), (threshold, threshold));
        }
    }
}
