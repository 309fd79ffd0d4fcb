//! What a run of curation may be told: languages, sample, thresholds.
//!
//! Defaults are the paper's where the paper gives a figure, else ours. Not here: the thresholds of
//! single rules, which stand in the file of the rule.

use crate::Error;
use crate::classify::Shares;
use crate::dedup::minhash::{Bands, MOST};
use crate::domains::Limits;
use crate::language;
use crate::personal;
use crate::rules::{self, Set, Told, divergence};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Recipe of one curation; as TOML it is the table `[corpus]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// Which languages are kept.
    pub languages: Languages,
    /// Budget of the input, chosen by hash; `None` takes everything.
    pub sample: Option<Sample>,
    /// What is done; everything where the list is empty. For corpora that others made:
    /// `["dedup", "decontaminate"]`, the latter with `evaluations`.
    pub only: Vec<Part>,
    /// Sets of rules that act: `llama3` (the paper's), `gopher`, `c4`, `fineweb`.
    pub sets: Vec<Set>,
    /// Rules that are switched off, by name.
    pub without: Vec<String>,
    /// Words of pages for adults, by language: files with a word or phrase a line, in the place of
    /// our own short lists.
    pub dirty_words: BTreeMap<String, PathBuf>,
    /// Lists of addresses that go, and when a domain goes as a whole.
    pub addresses: AddressLists,
    /// Kinds of personal data that are masked in the text; all are counted.
    pub mask: Vec<personal::Kind>,
    /// Evaluation files or folders: documents that contain their items go.
    pub evaluations: Vec<PathBuf>,
    /// A language identifier in the place of ours: lid.176, GlotLID, or any in fastText's format.
    pub language_model: Option<PathBuf>,
    /// Classifiers that score prose.
    pub classifiers: Vec<Classifier>,
    /// Shares of the categories that classifiers name.
    pub categories: Shares,
    /// Score files, joined to documents by id.
    pub scores: Vec<PathBuf>,
    /// Documents whose score of a name is below this go; those without such a score stay, and are
    /// counted.
    pub least: BTreeMap<String, f32>,
    /// A command that the documents go through at the end, as JSON Lines.
    pub pipe: Option<String>,
    /// How near copies are found, and from what similarity on one of two goes.
    pub near: Near,
    /// A line goes where more documents of its bucket than this contain it (paper: 6).
    pub line_limit: u32,
    /// Documents of a bucket in line deduplication (paper: 30 million).
    pub bucket: u64,
    /// Fewest words of a document, after its repeated lines went.
    pub min_words: u32,
    /// Longest document in bytes of text; longer plain texts are split, longer pages removed.
    pub max_bytes: usize,
    /// Plain text is split into documents of about this many bytes, at chapters or paragraphs.
    pub piece_bytes: usize,
    /// Share of a source's documents that deduplication may remove before an alarm is given.
    pub alarm: f64,
    /// A `truth.jsonl`: precision and recall by rule are reported against it.
    pub truth: Option<PathBuf>,
}

impl Default for Recipe {
    fn default() -> Recipe {
        Recipe {
            languages: Languages::default(),
            sample: None,
            only: Vec::new(),
            sets: vec![Set::Llama3],
            without: Vec::new(),
            dirty_words: BTreeMap::new(),
            addresses: AddressLists::default(),
            mask: Vec::new(),
            evaluations: Vec::new(),
            language_model: None,
            classifiers: Vec::new(),
            categories: Shares::default(),
            scores: Vec::new(),
            least: BTreeMap::new(),
            pipe: None,
            near: Near::default(),
            line_limit: 6,
            bucket: 30_000_000,
            min_words: 25,
            max_bytes: 4 << 20,
            piece_bytes: 12_000,
            alarm: 0.5,
            truth: None,
        }
    }
}

impl Recipe {
    /// Whether a part is done.
    pub fn does(&self, step: Part) -> bool {
        self.only.is_empty() || self.only.contains(&step)
    }

    /// Whether a rule acts: one of the set that is on by default, or [`divergence`], which is in no
    /// set.
    pub fn asks(&self, rule: &str) -> bool {
        let set = rule == divergence::NAME || self.sets.contains(&Set::Llama3);
        self.does(Part::Rules) && set && !self.without.iter().any(|off| off == rule)
    }

    /// What a rule measures, and from where on documents or lines go.
    pub fn limit(&self, rule: Told) -> String {
        match rule.name {
            rules::TOO_SHORT => format!("below {} words", self.min_words),
            _ => (rule.limit)(),
        }
    }

    /// Whether a score, of whomever, is below what is asked for.
    pub(crate) fn is_low(&self, name: &str, score: f32) -> bool {
        self.least.get(name).is_some_and(|least| score < *least)
    }

    /// Every file that the recipe names, which the results depend on.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>, Error> {
        let lists = &self.addresses;
        let addresses = [&lists.allow, &lists.block, &lists.words, &lists.soft, &lists.parts];
        let mut all: Vec<PathBuf> = addresses.into_iter().flatten().cloned().collect();
        all.extend(self.dirty_words.values().cloned());
        all.extend(self.evaluation_files()?);
        all.extend(self.language_model.clone());
        all.extend(self.classifiers.iter().map(|classifier| classifier.model.clone()));
        all.extend(self.scores.iter().cloned());
        Ok(all)
    }

    /// The files of the evaluations, those of folders in the order of their names.
    pub(crate) fn evaluation_files(&self) -> Result<Vec<PathBuf>, Error> {
        let mut files = Vec::new();
        let mut open: Vec<PathBuf> = self.evaluations.iter().rev().cloned().collect();
        while let Some(path) = open.pop() {
            if !path.is_dir() {
                files.push(path);
                continue;
            }
            let entries = std::fs::read_dir(&path).map_err(Error::io(&path))?;
            let mut inside: Vec<PathBuf> = Vec::new();
            for entry in entries {
                let entry = entry.map_err(Error::io(&path))?;
                let path = entry.path();
                // A link to a folder may lead to the one that it stands in.
                let link = entry.file_type().map_err(Error::io(&path))?.is_symlink();
                if !(link && path.is_dir()) {
                    inside.push(path);
                }
            }
            inside.sort_by(|a, b| b.cmp(a));
            open.extend(inside);
        }
        Ok(files)
    }

    /// Refuses what cannot be, with key, value and what is possible.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |key, found: String, expected| Err(Error::Recipe { key, found, expected });
        if self.line_limit == 0 {
            return refuse("line_limit", "0".into(), "1 or more (the paper's is 6)");
        }
        if self.bucket == 0 {
            return refuse("bucket", "0".into(), "1 or more documents (the paper's is 30 million)");
        }
        if self.piece_bytes < 1000 || self.piece_bytes > self.max_bytes {
            let found = self.piece_bytes.to_string();
            return refuse("piece_bytes", found, "1,000 bytes to `max_bytes`");
        }
        if !(0.0..=1.0).contains(&self.alarm) {
            return refuse("alarm", self.alarm.to_string(), "a share from 0 to 1");
        }
        if self.pipe.as_ref().is_some_and(|command| command.trim().is_empty()) {
            return refuse("pipe", "no command".into(), "a command of a shell");
        }
        if self.sample.is_some_and(|sample| sample.documents == Some(0) || sample.bytes == Some(0))
        {
            return refuse("sample", "0".into(), "1 or more pages or bytes");
        }
        if self.only.contains(&Part::Decontaminate) && self.evaluations.is_empty() {
            let expected = "evaluation files to hold documents against, as `evaluations`";
            return refuse("only", "\"decontaminate\" without any".into(), expected);
        }
        self.near.validate()?;
        self.categories.validate()?;
        if let Some(unknown) = self.without.iter().find(|name| rules::told(name).is_none()) {
            let expected = "names of rules, as reports and `quipu curate --input PATH --out FOLDER --dry-run` say them";
            return refuse("without", format!("{unknown:?}"), expected);
        }
        if matches!(&self.languages, Languages::Only(list) if list.is_empty()) {
            return refuse(
                "languages",
                "[]".into(),
                "\"all\" or a list such as [\"en\", \"other\"]",
            );
        }
        // A model of the user's knows its own.
        if let (Languages::Only(list), None) = (&self.languages, &self.language_model) {
            let known = language::known();
            let is_known =
                |l: &str| known.contains(&l) || [language::OTHER, language::MIXED].contains(&l);
            if let Some(unknown) = list.iter().find(|l| !is_known(l)) {
                let expected = "tags of two or three letters such as \"en\" or \"sw\", \"other\" or \"mixed\"; a \
                                language that our model does not know is among \"other\"";
                return refuse("languages", format!("{unknown:?}"), expected);
            }
        }
        match self.sample {
            Some(Sample { bytes: None, documents: None }) => {
                refuse("sample", "{}".into(), "`bytes`, `documents` or both")
            }
            _ => Ok(()),
        }
    }
}

/// A part of curation that can be asked for alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Lists of addresses, and domains as a whole.
    Addresses,
    /// The heuristic rules, and the distance from the corpus.
    Rules,
    /// Languages that are not wanted.
    Languages,
    /// Deduplication at all three levels.
    Dedup,
    /// Documents that contain evaluation items.
    Decontaminate,
}

/// A classifier that scores documents: see [`crate::classify`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Classifier {
    /// The model: ours, or one in fastText's format.
    pub model: PathBuf,
    /// Name of its score.
    pub name: String,
    /// The label whose probability is the score; without it the likeliest label becomes the
    /// document's category.
    #[serde(default)]
    pub label: Option<String>,
}

/// Files with lists of addresses: see [`crate::domains`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AddressLists {
    /// Domains that stay whatever the other lists say.
    pub allow: Vec<PathBuf>,
    /// Domains that go: a domain a line, hosts files, `||domain^`.
    pub block: Vec<PathBuf>,
    /// Words of which one in an address is enough.
    pub words: Vec<PathBuf>,
    /// Words of which two are.
    pub soft: Vec<PathBuf>,
    /// Parts of words of which one is.
    pub parts: Vec<PathBuf>,
    /// When a domain goes as a whole.
    pub limits: Limits,
}

/// Near copies: see [`crate::dedup::minhash`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Near {
    /// Bands of a signature: more find more.
    pub bands: usize,
    /// Values of a band: more find less.
    pub rows: usize,
    /// Similarity (Jaccard, of five words in a row) from which one of two documents goes.
    pub threshold: f64,
}

impl Default for Near {
    /// A pair at the threshold is found 98 times of 100, one at 0.85 always.
    fn default() -> Near {
        let Bands { bands, rows } = Bands::default();
        Near { bands, rows, threshold: 0.7 }
    }
}

impl Near {
    /// Its bands.
    pub fn bands(&self) -> Bands {
        Bands { bands: self.bands, rows: self.rows }
    }

    fn validate(&self) -> Result<(), Error> {
        let refuse = |key, found: String, expected| Err(Error::Recipe { key, found, expected });
        let values = self.bands.saturating_mul(self.rows);
        if values == 0 || values > MOST {
            let found = format!("{} × {}", self.bands, self.rows);
            return refuse("near.bands × near.rows", found, "1 to 512 values of a signature");
        }
        if !(self.threshold > 0.0 && self.threshold <= 1.0) {
            let found = self.threshold.to_string();
            return refuse("near.threshold", found, "a similarity above 0, at most 1");
        }
        Ok(())
    }
}

/// Which languages are kept: `"all"`, or a list in which `other` stands for whatever no language
/// model of ours knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "LanguagesForm", into = "LanguagesForm")]
pub enum Languages {
    /// Every document, whatever its language.
    #[default]
    All,
    /// Only these.
    Only(Vec<String>),
}

impl Languages {
    /// Whether a document in `language` is kept.
    pub fn keeps(&self, language: &str) -> bool {
        match self {
            Languages::All => true,
            Languages::Only(list) => list.iter().any(|l| l == language),
        }
    }
}

/// How [`Languages`] stands in a recipe.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum LanguagesForm {
    One(String),
    Many(Vec<String>),
}

impl From<LanguagesForm> for Languages {
    fn from(form: LanguagesForm) -> Languages {
        match form {
            LanguagesForm::One(name) if name == "all" => Languages::All,
            LanguagesForm::One(name) => Languages::Only(vec![name]),
            LanguagesForm::Many(list) => Languages::Only(list),
        }
    }
}

impl From<Languages> for LanguagesForm {
    fn from(languages: Languages) -> LanguagesForm {
        match languages {
            Languages::All => LanguagesForm::One("all".into()),
            Languages::Only(list) => LanguagesForm::Many(list),
        }
    }
}

/// A budget of input. Pages are taken in the order of a hash of what they are called, until the
/// budget is full, so that the same input gives the same sample on every machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sample {
    /// Bytes of pages as they stand, uncompressed.
    pub bytes: Option<u64>,
    /// Pages.
    pub documents: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut Recipe), key: Option<&str>) {
        let mut recipe = Recipe::default();
        change(&mut recipe);
        let message = recipe.validate().err().map(|e| e.to_string());
        match key {
            None => assert_eq!(message, None),
            Some(key) => assert!(message.unwrap().contains(&format!("corpus.{key}:"))),
        }
    }

    #[test]
    fn impossible_values_are_refused_by_name() {
        check(|_| (), None);
        check(|r| r.line_limit = 0, Some("line_limit"));
        check(|r| r.bucket = 0, Some("bucket"));
        check(|r| r.piece_bytes = 1, Some("piece_bytes"));
        check(|r| r.alarm = 2.0, Some("alarm"));
        check(|r| r.near.rows = 0, Some("near.bands × near.rows"));
        check(|r| r.near.threshold = 0.0, Some("near.threshold"));
        check(|r| r.sample = Some(Sample::default()), Some("sample"));
        check(|r| r.languages = Languages::Only(Vec::new()), Some("languages"));
    }

    #[test]
    fn languages_are_one_word_or_a_list() {
        let parse = |text| serde_json::from_str::<Languages>(text).unwrap();
        assert_eq!(parse("\"all\""), Languages::All);
        assert_eq!(parse("[\"en\"]"), Languages::Only(vec!["en".into()]));
        assert!(!parse("[\"en\"]").keeps("other"));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(serde_json::from_str::<Recipe>("{\"line_limt\":7}").is_err());
    }
}
