//! What a run did, in figures and samples: the funnel of the report.
//!
//! Everything here is computed from documents and fates; it stands in the manifest beside them. Not
//! here: how it is shown.

use quipu_store::progress::thousands;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The funnel from pages to kept documents.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// The inputs as they were named.
    pub named: String,
    /// What they were curated by.
    pub recipe: crate::Recipe,
    /// What was read: short name and kind of each input, with its counts.
    pub inputs: Vec<InputCount>,
    /// Pages (or texts) that the inputs hold, after sampling.
    pub pages: u64,
    /// Bytes of these pages as they stood.
    pub page_bytes: u64,
    /// Pages that the sample left out.
    pub not_sampled: u64,
    /// Files of the inputs that are no input.
    pub unrecognised: u64,
    /// The first of them, with what they are.
    pub passed_over: Vec<String>,
    /// The first damaged members, in words.
    pub damage: Vec<String>,
    /// Removals in the order in which stages act, then by count.
    pub steps: Vec<Step>,
    /// Documents kept.
    pub kept: u64,
    /// Bytes of their text.
    pub kept_bytes: u64,
    /// Words of their text.
    pub kept_words: u64,
    /// What deduplication of documents did to each source.
    pub sources: BTreeMap<String, Source>,
    /// Sources that lost more to it than the recipe's `alarm`.
    pub alarms: Vec<String>,
    /// Kept documents without a score that the recipe asks for (`corpus.least`), by its name.
    pub unscored: BTreeMap<String, u64>,
    /// What became of score files.
    pub score_files: ScoreFiles,
    /// Lines removed from documents, by rule.
    pub lines: BTreeMap<String, u64>,
    /// Some of these lines.
    pub line_samples: Vec<Excerpt>,
    /// Kept documents by language.
    pub languages: BTreeMap<String, u64>,
    /// Kept documents by route.
    pub routes: BTreeMap<String, u64>,
    /// Kept documents as they read, chosen by hash.
    pub samples: Vec<Excerpt>,
    /// What the report draws.
    pub figures: crate::figures::Figures,
    /// Precision and recall by rule, where a truth was given.
    pub scores: Vec<RuleScore>,
    /// Pages of that truth that are neither documents nor among the fates, besides damaged ones:
    /// lost without a word. Not said of a sample, which leaves pages out.
    pub unseen: Option<u64>,
    /// Whether the process that tells of it made it; no part of what is written.
    #[serde(skip)]
    pub made: Made,
}

/// Which part of a run a process did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Made {
    /// None: it was finished before.
    #[default]
    Before,
    /// Some of it: it went on with what was begun, or worked with others.
    Partly,
    /// All of it.
    Whole,
}

/// The rule of pieces of a crawl that could not be read: no pages, so that they are counted beside
/// the pages and not among their removals.
pub const DAMAGED: &str = "damaged-record";

/// One input.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct InputCount {
    /// Short name.
    pub name: String,
    /// Kind, by content.
    pub kind: String,
    /// Pages found in it.
    pub pages: u64,
    /// Records that are no pages (requests, images, metadata), by reason.
    pub skipped: BTreeMap<String, u64>,
    /// Members that could not be read.
    pub damaged: u64,
}

/// A source as deduplication saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Source {
    /// Documents that came to it.
    pub documents: u64,
    /// Documents that it removed as copies.
    pub removed: u64,
}

/// What became of the scores of score files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScoreFiles {
    /// Scores that were read.
    pub read: u64,
    /// Left out: their document had one of that name before.
    pub duplicates: u64,
    /// Scores that documents were given before any copy of them went; of several with one identity
    /// each.
    pub joined: u64,
}

/// One rule's part in the funnel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    /// The stage.
    pub stage: String,
    /// The rule.
    pub rule: String,
    /// Documents it removed.
    pub documents: u64,
    /// Some of them, chosen by hash, so that a person can judge the rule.
    pub samples: Vec<Excerpt>,
}

/// The beginning of a document or the text of a line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Excerpt {
    /// Identity, hexadecimal.
    pub id: String,
    /// URL or place.
    pub url: String,
    /// What the rule measured (0 for a kept document).
    pub value: f64,
    /// At most `EXCERPT_BYTES` of the text.
    pub text: String,
}

/// Bytes of an excerpt.
pub const EXCERPT_BYTES: usize = 600;
/// Languages that the line names; further ones are counted together.
const LANGUAGES: usize = 5;
/// Excerpts a rule.
pub const EXCERPTS: usize = 6;

/// How one rule did against the truth. A rule is wrong about a page when it removed what should
/// stay, or what another rule should have removed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuleScore {
    /// The rule.
    pub rule: String,
    /// Pages that it should remove.
    pub expected: u64,
    /// Pages that it removed.
    pub removed: u64,
    /// Pages that it removed and should.
    pub right: u64,
    /// Pages that it removed and that should have been kept.
    pub wrongly_removed: u64,
    /// Pages that it should have removed and that were kept.
    pub wrongly_kept: u64,
}

impl RuleScore {
    /// Share of its removals that were right; 1 where it removed nothing.
    pub fn precision(&self) -> f64 {
        if self.removed == 0 { 1.0 } else { self.right as f64 / self.removed as f64 }
    }

    /// Share of what it should remove that it removed; 1 where there was nothing.
    pub fn recall(&self) -> f64 {
        if self.expected == 0 { 1.0 } else { self.right as f64 / self.expected as f64 }
    }
}

impl Summary {
    /// The funnel in one line: `6,200 pages → 3,410 kept (url-duplicate 1,120 · menu-only 840)`;
    /// kept and removed add up to the pages.
    pub fn line(&self) -> String {
        let of_pages = |s: &&Step| s.documents > 0 && s.rule != DAMAGED;
        let mut removed: Vec<&Step> = self.steps.iter().filter(of_pages).collect();
        removed.sort_by(|a, b| b.documents.cmp(&a.documents).then(a.rule.cmp(&b.rule)));
        let reasons: Vec<String> =
            removed.iter().map(|s| format!("{} {}", s.rule, thousands(s.documents))).collect();
        let reasons =
            if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(" · ")) };
        let (pages, kept) = (thousands(self.pages), thousands(self.kept));
        format!("{pages} pages → {kept} kept{reasons}{}{}", self.spoken(), self.beside())
    }

    /// What is no part of the sum: damaged records, and pages lost without a word.
    fn beside(&self) -> String {
        let damaged: u64 =
            self.steps.iter().filter(|s| s.rule == DAMAGED).map(|s| s.documents).sum();
        let unseen = self.unseen.unwrap_or(0);
        let ScoreFiles { read, duplicates, joined } = self.score_files;
        let parts = [
            (damaged, "damaged record", " beside them"),
            (unseen, "page", " of the truth neither kept nor removed"),
            (duplicates, "score", " of a name that its document had before"),
            (self.unrecognised, "file", " passed over as no input"),
        ];
        let said = parts.iter().filter(|(n, ..)| *n > 0);
        let said = said.map(|(n, what, more)| {
            let s = if *n == 1 { "" } else { "s" };
            format!(" · {} {what}{s}{more}", thousands(*n))
        });
        let given = (read > 0).then(|| {
            let (read, joined) = (thousands(read), thousands(joined));
            format!(" · scores in files {read}, given to documents {joined}")
        });
        let lacking = |(name, n): (&String, &u64)| {
            format!(" · {} kept without the score `{name}` that is asked for", thousands(*n))
        };
        let lost = |name: &String| {
            let Source { documents, removed } = self.sources.get(name).copied().unwrap_or_default();
            let (removed, documents) = (thousands(removed), thousands(documents));
            format!(" · ALARM: {removed} of {documents} documents of {name} were copies")
        };
        let alarms = self.alarms.iter().map(lost);
        said.chain(given).chain(self.unscored.iter().map(lacking)).chain(alarms).collect()
    }

    /// The languages of what was kept, most first, where there is more than one.
    fn spoken(&self) -> String {
        let mut languages: Vec<(&String, &u64)> = self.languages.iter().collect();
        languages.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), name.as_str()));
        let (most, rest) = languages.split_at(languages.len().min(LANGUAGES));
        let mut parts: Vec<String> =
            most.iter().map(|(name, n)| format!("{name} {}", thousands(**n))).collect();
        if !rest.is_empty() {
            let sum: u64 = rest.iter().map(|(_, n)| **n).sum();
            parts.push(format!("{} more {}", rest.len(), thousands(sum)));
        }
        if parts.len() < 2 {
            String::new()
        } else {
            format!(" · languages {}", parts.join(" · "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_gives_the_largest_reason_first() {
        let step = |rule: &str, documents| Step { rule: rule.into(), documents, ..Step::default() };
        let steps = vec![step("a", 1), step("b", 1120), step("c", 0)];
        let summary = Summary { pages: 1_234_567, kept: 999, steps, ..Summary::default() };
        assert_eq!(summary.line(), "1,234,567 pages → 999 kept (b 1,120 · a 1)");
        let steps = vec![step("a", 1), step(DAMAGED, 24)];
        let beside = Summary { pages: 2, kept: 1, steps, unseen: Some(3), ..Summary::default() };
        let said = "2 pages → 1 kept (a 1) · 24 damaged records beside them · 3 pages of the truth \
                    neither kept nor removed";
        assert_eq!(beside.line(), said);
        let sources = [("a".to_owned(), Source { documents: 9, removed: 8 })].into();
        let unscored = [("quality".to_owned(), 5)].into();
        let alarming = Summary {
            pages: 9,
            kept: 9,
            sources,
            unscored,
            alarms: vec!["a".into()],
            ..Summary::default()
        };
        let said = "9 pages → 9 kept · 5 kept without the score `quality` that is asked for · ALARM: \
                    8 of 9 documents of a were copies";
        assert_eq!(alarming.line(), said);
        let languages =
            [("de", 9), ("en", 980), ("fr", 4), ("is", 1), ("it", 3), ("no", 1), ("other", 1)];
        let languages = languages.map(|(name, n)| (name.to_owned(), n)).into();
        let summary = Summary { languages, steps: Vec::new(), ..summary };
        let said =
            "1,234,567 pages → 999 kept · languages en 980 · de 9 · fr 4 · it 3 · is 1 · 2 more 2";
        assert_eq!(summary.line(), said);
    }

    #[test]
    fn precision_and_recall() {
        let score = RuleScore { expected: 4, removed: 5, right: 3, ..RuleScore::default() };
        assert_eq!((score.precision(), score.recall()), (0.6, 0.75));
        assert_eq!(RuleScore::default().precision(), 1.0);
    }
}
