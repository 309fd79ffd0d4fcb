//! The heuristic rules (paper §3.1.1), one file each: reason, source, formula, threshold, tests.
//!
//! A rule measures a [`View`] of a text, made once for all rules, and returns what it measured when
//! the document must go. Rules act in the order of [`RULES`]; the first that fires is the reason.
//! They come in sets: [`Set::Llama3`] is on, the published sets of others ([`gopher`], [`c4`],
//! [`fineweb`]) can be chosen. Some rules remove lines ([`LINE_RULES`]). Routes: rules made for
//! prose do not judge code and mathematics (paper §3.1.2). Not here: rules about records and markup,
//! which act at reading, and [`divergence`] from the corpus, which needs all documents first.

mod adult_words;
pub mod c4;
mod dirty_words;
pub mod divergence;
pub mod fineweb;
mod gibberish;
pub mod gopher;
mod grams;
mod lexicon;
mod log_dump;
mod mean_word_length;
mod menu_only;
mod repeated_content;
mod repeated_lines;
mod repeated_ngrams;
mod stop_words;
mod strict;
mod symbol_ratio;
mod too_short;
mod view;

pub use dirty_words::{DirtyWords, NotAList};
pub use strict::{NearMiss, Strict};
pub use too_short::NAME as TOO_SHORT;
pub use view::{Counts, Line, View, Word, word_hash};

use crate::Recipe;
use crate::recipe::Part;
use quipu_documents::Route;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A set of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Set {
    /// What the paper's heuristics ask for, in our form: on by default.
    Llama3,
    /// Quality and repetition rules of Rae et al. 2021, as published.
    Gopher,
    /// Rules of Raffel et al. 2020, as published.
    C4,
    /// The rules that FineWeb (Penedo et al. 2024) adds to Gopher's and C4's.
    Fineweb,
}

/// A rule.
pub struct Rule {
    /// Name, as it stands in fates.
    pub name: &'static str,
    /// The set it belongs to.
    pub set: Set,
    /// Why such documents go, and whose idea it is.
    pub reason: &'static str,
    /// What is measured, and from where on the document goes.
    pub limit: fn() -> String,
    /// Routes whose documents it judges.
    pub routes: &'static [Route],
    /// What was measured, where the document must go.
    pub check: fn(&View, &Judge) -> Option<f32>,
}

/// A rule about lines.
pub struct LineRule {
    /// Name, as it stands in fates.
    pub name: &'static str,
    /// The set it belongs to.
    pub set: Set,
    /// Why such lines go, and whose idea it is.
    pub reason: &'static str,
    /// What is measured, and from where on the line goes.
    pub limit: fn() -> String,
    /// Routes whose documents it judges.
    pub routes: &'static [Route],
    /// The lines that must go, by their place in [`View::lines`], with what was measured.
    pub find: fn(&View) -> Vec<(usize, f32)>,
}

/// What a person is told of a rule.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// Name, as it stands in fates.
    pub name: &'static str,
    /// Why documents or lines go.
    pub reason: &'static str,
    /// What is measured, and from where on they go.
    pub limit: fn() -> String,
}

impl Rule {
    /// What is told of it.
    pub const fn told(&self) -> Told {
        Told { name: self.name, reason: self.reason, limit: self.limit }
    }
}

impl LineRule {
    /// What is told of it.
    pub const fn told(&self) -> Told {
        Told { name: self.name, reason: self.reason, limit: self.limit }
    }
}

/// The rule of documents with a score below the least.
pub const LOW_SCORE: &str = "low-score";
/// The rule of the older visits of a URL.
pub const URL_COPY: &str = "url-duplicate";
/// The rule of documents of which a copy is kept; its value is their similarity.
pub const COPY: &str = "document-duplicate";

/// What is told of the rule of a name: one about documents or lines, or [`divergence`].
pub fn told(name: &str) -> Option<Told> {
    let documents = RULES.iter().map(Rule::told);
    let all = documents.chain(LINE_RULES.iter().map(LineRule::told)).chain([divergence::TOLD]);
    all.into_iter().find(|told| told.name == name)
}

/// A line that must go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BadLine {
    /// Its number in the text, from 0, blank lines counted.
    pub number: u32,
    /// Number of the rule in [`LINE_RULES`].
    pub rule: usize,
    /// What was measured.
    pub value: f32,
}

const PROSE: &[Route] = &[Route::Prose];
const TEXT: &[Route] = &[Route::Prose, Route::Mathematics];
const EVERY: &[Route] = &Route::ALL;

/// Every rule about documents, in the order in which they act.
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
    repeated_content::RULE,
    stop_words::RULE,
    gopher::words::RULE,
    gopher::mean_word_length::RULE,
    gopher::symbols::RULE,
    gopher::bullets::RULE,
    gopher::ellipses::RULE,
    gopher::alphabetic::RULE,
    gopher::stop_words::RULE,
    gopher::paragraphs::RULE,
    gopher::lines::RULE,
    gopher::top_ngrams::RULE,
    gopher::ngrams::RULE,
    c4::lorem_ipsum::RULE,
    c4::curly_bracket::RULE,
    c4::bad_words::RULE,
    c4::sentences::RULE,
    fineweb::line_ends::RULE,
    fineweb::short_lines::RULE,
    fineweb::repeated_chars::RULE,
    fineweb::lists::RULE,
];

/// Every rule about lines, in the order in which they act.
pub static LINE_RULES: &[LineRule] = &[
    repeated_content::LINE_RULE,
    c4::long_word::RULE,
    c4::terminal_mark::RULE,
    c4::few_words::RULE,
    c4::javascript::RULE,
    c4::policy::RULE,
];

/// Which rules act, and what they are given. Made once for a run.
#[derive(Clone)]
pub struct Judge {
    rules: Vec<usize>,
    line_rules: Vec<usize>,
    /// Words of pages for adults, by language.
    pub dirty: Arc<DirtyWords>,
    /// By what share thresholds are stricter than they are written; 0 but for [`Strict`].
    margin: f32,
}

impl Default for Judge {
    fn default() -> Judge {
        Judge::new(&[Set::Llama3], &[], DirtyWords::default())
    }
}

impl Judge {
    /// The rules of `sets` but for those named in `without`.
    pub fn new(sets: &[Set], without: &[String], dirty: DirtyWords) -> Judge {
        let acts = |set: Set, name: &str| sets.contains(&set) && !without.iter().any(|w| w == name);
        let rules = (0..RULES.len()).filter(|n| acts(RULES[*n].set, RULES[*n].name)).collect();
        let line_rule = |n: &usize| acts(LINE_RULES[*n].set, LINE_RULES[*n].name);
        let line_rules = (0..LINE_RULES.len()).filter(line_rule).collect();
        Judge { rules, line_rules, dirty: Arc::new(dirty), margin: 0.0 }
    }

    /// The rules that a recipe asks for.
    pub(crate) fn of(recipe: &Recipe, dirty: DirtyWords) -> Judge {
        let sets = if recipe.does(Part::Rules) { recipe.sets.as_slice() } else { &[] };
        Judge::new(sets, &recipe.without, dirty)
    }

    /// The rules about documents that act, in order.
    pub fn acting(&self) -> impl Iterator<Item = &'static Rule> {
        self.rules.iter().map(|number| &RULES[*number])
    }

    /// The rules about lines that act, in order.
    pub fn acting_on_lines(&self) -> impl Iterator<Item = &'static LineRule> {
        self.line_rules.iter().map(|number| &LINE_RULES[*number])
    }

    /// What a value must reach where the rule says `threshold`.
    fn least(&self, threshold: f32) -> f32 {
        threshold * (1.0 + self.margin)
    }

    /// What a value must not pass where the rule says `threshold`.
    fn most(&self, threshold: f32) -> f32 {
        threshold * (1.0 - self.margin)
    }

    /// The first rule that fires, as its number in [`RULES`], and what it measured.
    pub fn document(&self, view: &View, route: Route) -> Option<(usize, f32)> {
        let mut found = self.rules.iter().filter(|n| RULES[**n].routes.contains(&route));
        found.find_map(|&n| Some((n, (RULES[n].check)(view, self)?)))
    }

    /// Whether a rule about lines acts.
    fn has_line_rule(&self, name: &str) -> bool {
        self.line_rules.iter().any(|n| LINE_RULES[*n].name == name)
    }

    /// The lines that must go, in order, each once, by the first rule that names it.
    pub fn lines(&self, view: &View, route: Route) -> Vec<BadLine> {
        let mut found = Vec::new();
        for &rule in self.line_rules.iter().filter(|n| LINE_RULES[**n].routes.contains(&route)) {
            let bad = (LINE_RULES[rule].find)(view).into_iter();
            found.extend(bad.map(|(line, value)| BadLine {
                number: view.lines[line].number,
                rule,
                value,
            }));
        }
        found.sort_by_key(|bad| (bad.number, bad.rule));
        found.dedup_by_key(|bad| bad.number);
        found
    }
}

/// A text without the lines that must go.
pub fn without_lines(text: &str, bad: &[BadLine]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut bad = bad.iter().map(|b| b.number as usize).peekable();
    for (number, line) in text.lines().enumerate() {
        if bad.next_if_eq(&number).is_some() {
            continue;
        }
        if !line.is_empty() || !(out.is_empty() || out.ends_with("\n\n")) {
            out.push_str(line);
            out.push('\n');
        }
    }
    out.truncate(out.trim_end().len());
    out
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
        check_in(rule, "en", text, goes);
    }

    /// The same in another language.
    pub(crate) fn check_in(rule: &Rule, language: &str, text: &str, goes: bool) {
        let view = View::of(text, language, 25);
        let found = (rule.check)(&view, &Judge::default());
        let start: String = text.chars().take(80).collect();
        assert_eq!(found.is_some(), goes, "{}: {found:?} for {start}", rule.name);
    }

    /// Checks which lines, by number, a rule removes.
    pub(crate) fn check_lines(rule: &LineRule, text: &str, numbers: &[u32]) {
        let view = View::of(text, "en", 25);
        let found: Vec<u32> =
            (rule.find)(&view).iter().map(|(line, _)| view.lines[*line].number).collect();
        assert_eq!(found, numbers, "{}", rule.name);
    }

    #[test]
    fn no_rule_removes_ordinary_prose() {
        let story =
            [PROSE_SAMPLE, "Nobody asked where he went. The boats were out again. It rained."]
                .join("\n");
        for rule in RULES {
            check(rule, &story, false);
        }
        for rule in LINE_RULES {
            check_lines(rule, &story, &[]);
        }
    }

    #[test]
    fn names_are_unique_and_reasons_are_sentences() {
        let names = RULES.iter().map(|r| (r.name, r.reason));
        let all: Vec<_> = names.chain(LINE_RULES.iter().map(|r| (r.name, r.reason))).collect();
        assert!(RULES.len() < 250, "numbers of rules are bytes, and the last few are taken");
        for (n, (name, reason)) in all.iter().enumerate() {
            assert!(all[..n].iter().all(|other| other.0 != *name), "{name}");
            assert!(reason.len() > 30 && reason.ends_with('.'), "{name}");
        }
    }

    #[test]
    fn a_rule_can_be_switched_off() {
        let view = View::of("Coming soon.", "en", 25);
        let first = |off: &[String]| {
            let judge = Judge::new(&[Set::Llama3], off, DirtyWords::default());
            judge.document(&view, Route::Prose).map(|(n, _)| RULES[n].name)
        };
        assert_eq!(first(&[]), Some(TOO_SHORT));
        assert_eq!(first(&[TOO_SHORT.to_owned(), "menu-only".to_owned()]), None);
    }

    #[test]
    fn sets_are_chosen() {
        let view = View::of("Coming soon.\n\nPlease enable JavaScript to see this page.", "en", 1);
        let name = |sets: &[Set]| {
            let judge = Judge::new(sets, &[], DirtyWords::default());
            judge.document(&view, Route::Prose).map(|(n, _)| RULES[n].name)
        };
        assert_eq!(name(&[]), None);
        assert_eq!(name(&[Set::Llama3]), None);
        assert_eq!(name(&[Set::Gopher]), Some("gopher-words"));
        assert_eq!(name(&[Set::C4]), Some("c4-sentences"));
        assert_eq!(serde_json::to_string(&Set::Fineweb).unwrap(), "\"fineweb\"");
    }

    #[test]
    fn lines_go_once_and_leave_no_gap() {
        let text = "A line that stays, as it is long enough.\n\nSoon\n\nUse of JavaScript\nThe end \
            of it is a sentence.";
        let judge = Judge::new(&[Set::C4], &[], DirtyWords::default());
        let bad = judge.lines(&View::of(text, "en", 1), Route::Prose);
        assert_eq!(bad.iter().map(|b| b.number).collect::<Vec<_>>(), [2, 4]);
        let rest = without_lines(text, &bad);
        assert_eq!(rest.lines().count(), 3, "{rest}");
    }
}
