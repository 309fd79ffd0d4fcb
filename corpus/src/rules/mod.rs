//! The heuristic rules (paper §3.1.1), one file each: reason, source, formula, threshold, tests.
//!
//! A rule measures a [`View`] of a text, made once for all rules, and returns what it measured when
//! the document must go. Rules act in the order of [`RULES`]; the first that fires is the reason.
//! Routes: rules made for prose do not judge code and mathematics (paper §3.1.2). Not here: rules
//! about records and markup, which act at reading.

mod adult_words;
mod gibberish;
mod log_dump;
mod mean_word_length;
mod menu_only;
mod repeated_lines;
mod repeated_ngrams;
mod stop_words;
mod symbol_ratio;
mod too_short;
mod view;

pub use too_short::NAME as TOO_SHORT;
pub use view::View;

use quipu_documents::Route;

/// A rule.
pub struct Rule {
    /// Name, as it stands in fates.
    pub name: &'static str,
    /// Why such documents go, and whose idea it is.
    pub reason: &'static str,
    /// Routes whose documents it judges.
    pub routes: &'static [Route],
    /// What was measured, where the document must go.
    pub check: fn(&View) -> Option<f32>,
}

const PROSE: &[Route] = &[Route::Prose];
const TEXT: &[Route] = &[Route::Prose, Route::Mathematics];
const EVERY: &[Route] = &Route::ALL;

/// Every rule, in the order in which they act.
pub static RULES: &[Rule] = &[
    too_short::RULE,
    log_dump::RULE,
    menu_only::RULE,
    repeated_lines::RULE,
    mean_word_length::RULE,
    symbol_ratio::RULE,
    adult_words::RULE,
    gibberish::RULE,
    repeated_ngrams::RULE,
    stop_words::RULE,
];

/// The first rule that fires, as its number in [`RULES`], and what it measured. `without` names
/// rules that are switched off.
pub fn judge(view: &View, route: Route, without: &[String]) -> Option<(usize, f32)> {
    let admitted =
        |rule: &Rule| rule.routes.contains(&route) && !without.iter().any(|name| name == rule.name);
    let judged = RULES.iter().enumerate().filter(|(_, rule)| admitted(rule));
    judged.filter_map(|(n, rule)| Some((n, (rule.check)(view)?))).next()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Ordinary prose, as every rule must keep it.
    pub(crate) const PROSE_SAMPLE: &str = "The harbour lay in the shadow of the hills when the \
        first boats came back from the night's fishing. Women with baskets were waiting on the \
        quay, and the older children ran along the wall to see which of the crews had luck.\n\n\
        By nine o'clock the market was full. A merchant from the capital, who had arrived the day \
        before, went from stall to stall and asked for prices that nobody wanted to tell him; in \
        the end he bought two crates of mackerel and a barrel of salt, and left with the coach.";

    /// Checks one rule on one text; `true` where the document must go.
    pub(crate) fn check(rule: &Rule, text: &str, goes: bool) {
        let view = View::of(text, "en", 25);
        let found = (rule.check)(&view);
        let start: String = text.chars().take(80).collect();
        assert_eq!(found.is_some(), goes, "{}: {found:?} for {start}", rule.name);
    }

    #[test]
    fn no_rule_removes_ordinary_prose() {
        for rule in RULES {
            check(rule, PROSE_SAMPLE, false);
        }
    }

    #[test]
    fn names_are_unique_and_reasons_are_sentences() {
        for (n, rule) in RULES.iter().enumerate() {
            assert!(RULES[..n].iter().all(|other| other.name != rule.name));
            assert!(rule.reason.len() > 30 && rule.reason.ends_with('.'), "{}", rule.name);
        }
    }

    #[test]
    fn a_rule_can_be_switched_off() {
        let view = View::of("Coming soon.", "en", 25);
        let off = [TOO_SHORT.to_owned(), "menu-only".to_owned()];
        assert_eq!(judge(&view, Route::Prose, &[]).map(|(n, _)| RULES[n].name), Some(TOO_SHORT));
        assert_eq!(judge(&view, Route::Prose, &off), None);
    }
}
