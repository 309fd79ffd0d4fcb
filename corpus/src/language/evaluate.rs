//! How good the identifier is on articles that it has not seen.
//!
//! Cross-validation by article: a fold holds back the same articles in every language, since they
//! say the same with the same names. Counted twice: as the folders say, and with articles and
//! paragraphs that stand in English in another folder (`super::texts`) as English, or left out.
//! Not here: languages whose texts are not at hand.

use super::model::Model;
use super::texts::{Article, Corpus};
use super::{Guess, MIXED, OTHER, train};
use crate::Error;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Right and wrong by language.
#[derive(Clone, Debug, Default)]
pub struct Score {
    /// What was asked and answered, and how often.
    pub confusions: BTreeMap<(String, String), usize>,
}

impl Score {
    fn add(&mut self, expected: &str, found: &str) {
        *self.confusions.entry((expected.to_owned(), found.to_owned())).or_default() += 1;
    }

    /// Texts that were asked about.
    pub fn count(&self) -> usize {
        self.confusions.values().sum()
    }

    /// F1 of each language that was asked about.
    pub fn f1(&self) -> BTreeMap<&str, f64> {
        let asked: BTreeSet<&str> = self.confusions.keys().map(|k| k.0.as_str()).collect();
        let sum = |of: &dyn Fn(&(String, String)) -> bool| -> f64 {
            self.confusions.iter().filter(|(k, _)| of(k)).map(|(_, n)| *n as f64).sum()
        };
        let f1 = |language: &str| {
            let right = sum(&|k| k.0 == language && k.1 == language);
            let both = sum(&|k| k.0 == language) + sum(&|k| k.1 == language);
            2.0 * right / both
        };
        asked.into_iter().map(|language| (language, f1(language))).collect()
    }

    /// Their mean.
    pub fn macro_f1(&self) -> f64 {
        let f1 = self.f1();
        f1.values().sum::<f64>() / f1.len().max(1) as f64
    }

    /// Share of texts that got an answer.
    pub fn share(&self, answer: &str) -> f64 {
        let given = self.confusions.iter().filter(|(k, _)| k.1 == answer).map(|(_, n)| n);
        given.sum::<usize>() as f64 / self.count().max(1) as f64
    }

    /// The most frequent errors.
    pub fn errors(&self) -> Vec<(&str, &str, usize)> {
        let wrong = self.confusions.iter().filter(|(k, _)| k.0 != k.1);
        let mut errors: Vec<_> = wrong.map(|(k, n)| (k.0.as_str(), k.1.as_str(), *n)).collect();
        errors.sort_by_key(|error| std::cmp::Reverse(error.2));
        errors
    }
}

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Whole articles, as their folders say.
    pub folders: Score,
    /// Whole articles, by the language of most of their text.
    pub articles: Score,
    /// Paragraphs of at least 40 characters, as their folders say.
    pub all_paragraphs: Score,
    /// Paragraphs that are not English in another folder.
    pub paragraphs: Score,
    /// Articles whose paragraphs alternate between two languages: right is `mixed`.
    pub mixed: Score,
    /// The Declaration in languages that the model does not know: right is `other`.
    pub unknown: Score,
}

/// Learns `folds` times without a part of the articles and asks about that part.
pub fn cross_validate(data: &Path, folds: usize) -> Result<Measured, Error> {
    let corpus = Corpus::read(data)?;
    let names: BTreeSet<&str> = corpus.articles.iter().map(|a| a.name.as_str()).collect();
    let fold_of: BTreeMap<&str, usize> =
        names.into_iter().enumerate().map(|(n, name)| (name, n % folds.max(2))).collect();
    let mut measured = Measured::default();
    for fold in 0..folds.max(2) {
        let held = |article: &Article| fold_of[article.name.as_str()] == fold;
        let model = train::learn(&corpus.taught(held));
        let asked: Vec<&Article> = corpus.articles.iter().filter(|a| held(a)).collect();
        ask(&model, &asked, &mut measured);
        ask_mixed(&model, &asked, &mut measured.mixed);
        if fold == 0 {
            let texts =
                corpus.unknown.iter().flat_map(|(tag, list)| list.iter().map(move |t| (tag, t)));
            for (tag, text) in texts {
                let found = Guess::of(&model.read(text)).language;
                measured.unknown.add(if found == OTHER { OTHER } else { tag }, found);
            }
        }
    }
    Ok(measured)
}

fn ask(model: &Model, asked: &[&Article], measured: &mut Measured) {
    for article in asked {
        let found = Guess::of(&model.read(&article.text())).language;
        measured.folders.add(&article.folder, found);
        measured.articles.add(article.language(), found);
        for (text, english) in &article.paragraphs {
            let found = Guess::of(&model.read(text)).language;
            measured.all_paragraphs.add(&article.folder, found);
            if !english {
                measured.paragraphs.add(&article.folder, found);
            }
        }
    }
}

/// Each article with the next language's of the same name, four paragraphs about.
fn ask_mixed(model: &Model, asked: &[&Article], score: &mut Score) {
    let own = |article: &Article| -> Vec<String> {
        article.paragraphs.iter().filter(|p| !p.1).map(|p| p.0.clone()).collect()
    };
    for (n, article) in asked.iter().enumerate() {
        let other = asked[n + 1..].iter().find(|a| a.name == article.name);
        let Some(other) = other.filter(|o| o.language() != article.language()) else { continue };
        let (one, two) = (own(article), own(other));
        let parts = one.chunks(4).zip(two.chunks(4)).flat_map(|(a, b)| [a, b].concat());
        let text: Vec<String> = parts.take(40).collect();
        let found = Guess::of(&model.read(&text.join("\n"))).language;
        score.add(MIXED, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f1_by_hand() {
        let mut score = Score::default();
        for (expected, found) in [("a", "a"), ("a", "b"), ("b", "b"), ("b", "b"), ("c", "other")] {
            score.add(expected, found);
        }
        let f1 = score.f1();
        assert!((f1["a"] - 2.0 / 3.0).abs() < 1e-12 && (f1["b"] - 0.8).abs() < 1e-12);
        assert_eq!((f1["c"], score.count(), score.errors().len()), (0.0, 5, 2));
        assert!((score.macro_f1() - (2.0 / 3.0 + 0.8) / 3.0).abs() < 1e-12);
        assert!((score.share("other") - 0.2).abs() < 1e-12);
    }

    /// The marks of the identifier, on articles that the weights of the fold have not seen.
    #[test]
    fn unseen_articles_are_named_right() {
        let shared = std::env::var_os("QUIPU_SHARED")
            .map(std::path::PathBuf::from)
            .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"));
        let data = shared.join("data");
        if !data.join("text-multilingual").exists() {
            println!("SKIPPED: {} is absent", data.display());
            return;
        }
        let measured = cross_validate(&data, 5).unwrap();
        assert!(measured.articles.macro_f1() >= 0.98, "{}", measured.articles.macro_f1());
        assert!(measured.paragraphs.macro_f1() >= 0.97, "{}", measured.paragraphs.macro_f1());
        assert!(measured.mixed.share(MIXED) >= 0.8, "{:?}", measured.mixed);
        assert!(measured.articles.share(MIXED) <= 0.01, "{:?}", measured.articles.errors());
        assert!(measured.unknown.share(OTHER) >= 0.8, "{:?}", measured.unknown);
    }
}
