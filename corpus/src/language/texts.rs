//! The texts of known language that the identifier learns from and is measured on.
//!
//! Articles in 29 languages (Open Source Guides), and for some forty more what the Universal
//! Declaration of Human Rights has. Not every article is translated to its end: a paragraph that
//! says what an English article says is English, whatever its folder is called, and so is one in
//! Latin letters where the language has others. Not here: what is learned.

use super::rows::LANES;
use crate::Error;
use crate::input::markdown;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

/// Languages of which only the Declaration is at hand and that a crawl is likely to hold.
const FURTHER: [&str; 44] = [
    "af", "az", "bs", "ca", "cs", "cy", "eo", "et", "eu", "fi", "gu", "hy", "is", "ka", "kk", "km",
    "kn", "ku", "ky", "la", "lb", "lg", "lt", "lv", "mi", "ml", "mr", "oc", "om", "pa", "rm", "rn",
    "sk", "sl", "so", "sr", "sv", "ti", "tk", "tl", "tt", "ur", "vi", "yo",
];
/// Languages of the articles that are not written in Latin letters.
const NOT_LATIN: [&str; 15] = [
    "ar", "be", "bg", "bn", "el", "fa", "hi", "ja", "ko", "ru", "sa", "ta", "zh", "zh-hans",
    "zh-hant",
];
/// Shortest line that is a paragraph, in characters.
const PARAGRAPH: usize = 40;
/// Share of a paragraph's word triples in English articles from which it is English.
const ENGLISH_SHARE: f64 = 0.5;
/// Share of Latin letters from which a paragraph is in no language of other letters.
const LATIN_SHARE: f64 = 0.7;

/// Paragraphs by language.
pub(super) type Texts = BTreeMap<String, Vec<String>>;

/// One article.
pub(super) struct Article {
    /// The name of its folder.
    pub folder: String,
    /// Its file name: the same article has the same in each language.
    pub name: String,
    /// Its paragraphs, and whether each is English though its folder is not.
    pub paragraphs: Vec<(String, bool)>,
}

impl Article {
    /// The language in which most of its text is.
    pub fn language(&self) -> &str {
        let bytes = |english: bool| -> usize {
            self.paragraphs.iter().filter(|p| p.1 == english).map(|p| p.0.len()).sum()
        };
        if bytes(true) > bytes(false) { "en" } else { &self.folder }
    }

    /// All of its text.
    pub fn text(&self) -> String {
        let lines: Vec<&str> = self.paragraphs.iter().map(|p| p.0.as_str()).collect();
        lines.join("\n")
    }
}

/// All that is there.
pub(super) struct Corpus {
    pub articles: Vec<Article>,
    /// Paragraphs of the Declaration in languages that are learned.
    pub declarations: Texts,
    /// The Declaration in languages that are not, each whole.
    pub unknown: Texts,
}

impl Corpus {
    /// Reads a folder that holds `text-multilingual` and `html-udhr`.
    pub fn read(data: &Path) -> Result<Corpus, Error> {
        let articles = articles(&data.join("text-multilingual"))?;
        let (declarations, unknown) = declarations(&data.join("html-udhr"), &articles)?;
        let corpus = Corpus { articles, declarations, unknown };
        let languages = corpus.taught(|_| false).len();
        if languages > LANES {
            let reason = format!("texts in {languages} languages; a model has at most {LANES}");
            return Err(Error::io(data)(std::io::Error::other(reason)));
        }
        Ok(corpus)
    }

    /// What there is to learn from, without the articles of which `held` is true. Paragraphs that
    /// are English in another folder are left out: the English articles have them.
    pub fn taught(&self, held: impl Fn(&Article) -> bool) -> Texts {
        let mut texts = self.declarations.clone();
        for article in self.articles.iter().filter(|a| !held(a)) {
            let own = article.paragraphs.iter().filter(|p| !p.1).map(|p| p.0.clone());
            texts.entry(article.folder.clone()).or_default().extend(own);
        }
        texts
    }
}

fn sorted(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = std::fs::read_dir(dir).map_err(Error::io(dir))?;
    let paths: Result<Vec<_>, _> = entries.map(|e| e.map(|e| e.path())).collect();
    let mut paths = paths.map_err(Error::io(dir))?;
    paths.sort();
    Ok(paths)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn paragraphs(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().map(str::trim).filter(|l| l.chars().count() >= PARAGRAPH).map(str::to_owned)
}

fn articles(dir: &Path) -> Result<Vec<Article>, Error> {
    let mut articles = Vec::new();
    for folder in sorted(dir)?.iter().filter(|p| p.is_dir()) {
        for file in sorted(folder)? {
            let text = std::fs::read_to_string(&file).map_err(Error::io(&file))?;
            let plain = markdown::strip(&text).text;
            let paragraphs = paragraphs(&plain).map(|p| (p, false)).collect();
            articles.push(Article { folder: name_of(folder), name: name_of(&file), paragraphs });
        }
    }
    let mut english = HashSet::new();
    for article in articles.iter().filter(|a| a.folder == "en") {
        article.paragraphs.iter().for_each(|p| english.extend(triples(&p.0)));
    }
    for article in articles.iter_mut().filter(|a| a.folder != "en") {
        let other_letters = NOT_LATIN.contains(&article.folder.as_str());
        for (text, is_english) in &mut article.paragraphs {
            *is_english = says(text, &english) || (other_letters && latin(text));
        }
    }
    Ok(articles)
}

/// Hashes of the words of a text, three at a time, without case and punctuation.
fn triples(text: &str) -> Vec<u64> {
    let words: Vec<String> = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|w| !w.is_empty())
        .map(str::to_lowercase)
        .collect();
    words.windows(3).map(|w| xxhash_rust::xxh3::xxh3_64(w.join(" ").as_bytes())).collect()
}

fn says(text: &str, english: &HashSet<u64>) -> bool {
    let triples = triples(text);
    let known = triples.iter().filter(|t| english.contains(t)).count();
    known as f64 > ENGLISH_SHARE * triples.len() as f64
}

fn latin(text: &str) -> bool {
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    let latin = text.chars().filter(|c| c.is_ascii_alphabetic()).count();
    latin as f64 > LATIN_SHARE * letters as f64
}

fn declarations(dir: &Path, articles: &[Article]) -> Result<(Texts, Texts), Error> {
    let folders: HashSet<&str> = articles.iter().map(|a| a.folder.as_str()).collect();
    let (mut known, mut unknown) = (Texts::new(), Texts::new());
    for file in sorted(dir)?.iter().filter(|p| p.extension().is_some_and(|e| e == "html")) {
        let html = std::fs::read_to_string(file).map_err(Error::io(file))?;
        let tag =
            html.split("lang=\"").nth(1).and_then(|t| t.split('"').next()).unwrap_or_default();
        let primary = tag.split('-').next().unwrap_or_default();
        let plain: String =
            html.split('<').filter_map(|p| p.split_once('>')).map(|p| p.1).collect();
        let has_article = primary == tag && folders.contains(tag);
        if has_article || FURTHER.contains(&primary) {
            known.entry(primary.to_owned()).or_default().extend(paragraphs(&plain));
        } else if !folders.iter().any(|f| f.split('-').next() == Some(primary)) {
            let lines: Vec<String> = paragraphs(&plain).collect();
            unknown.entry(tag.to_owned()).or_default().push(lines.join("\n"));
        }
    }
    Ok((known, unknown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_english_says_is_english() {
        let english: HashSet<u64> =
            triples("The boats came back in the morning.").into_iter().collect();
        assert!(says("the boats came back", &english));
        assert!(!says("die Boote kamen am Morgen zurück", &english));
        assert!(!says("boats", &english), "too short to tell");
        assert!(latin("Git и GitHub pull request") && !latin("Лодки вернулись на GitHub"));
    }

    #[test]
    fn an_article_is_of_the_language_of_most_of_its_text() {
        let paragraphs = vec![("a longer English text".to_owned(), true), ("kurz".into(), false)];
        let mut article = Article { folder: "de".into(), name: String::new(), paragraphs };
        assert_eq!(article.language(), "en");
        article.paragraphs.swap_remove(0);
        assert_eq!(article.language(), "de");
    }
}
