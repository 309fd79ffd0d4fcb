//! An identifier that the user brings: lid.176 or GlotLID in fastText's format, or ours.
//!
//! It is asked about the same windows of a text as ours, so that its documents in two languages are
//! found in the same way, and long documents cost no more than short ones. Not here: the format.

use super::{Guess, MIXED, MIXED_LENGTH, MIXED_SHARE, OTHER, intern, labels, windows};
use crate::classify::Error;
use crate::classify::fasttext::{Model, Scratch};
use std::collections::BTreeMap;
use std::path::Path;

/// Probability below which a text is [`OTHER`]; lid.176 says 0.1 to 0.3 of what it does not know.
const CONFIDENT: f32 = 0.5;
/// Probability from which a window speaks for itself.
const EVIDENT: f32 = 0.8;

/// Says which language a text is in.
pub enum Identifier {
    /// The model that the program carries.
    Own,
    /// A model of fastText's format.
    Given(Box<Given>),
}

/// A model of fastText's format with the tags of its labels.
pub struct Given {
    model: Model,
    tags: Vec<&'static str>,
}

impl Identifier {
    /// Reads a model; the error says what is wrong with the file.
    pub fn open(path: &Path) -> Result<Identifier, Error> {
        Ok(Identifier::Given(Box::new(Given::new(Model::open(path)?))))
    }

    /// The languages that it can tell, sorted.
    pub fn languages(&self) -> Vec<&'static str> {
        let mut tags = match self {
            Identifier::Own => super::known(),
            Identifier::Given(given) => given.tags.clone(),
        };
        tags.retain(|tag| *tag != OTHER);
        tags.sort_unstable();
        tags.dedup();
        tags
    }

    /// The language of a text.
    pub fn identify(&self, text: &str, scratch: &mut Scratch) -> Guess {
        match self {
            Identifier::Own => super::identify(text),
            Identifier::Given(given) => given.identify(text, scratch),
        }
    }
}

impl Given {
    fn new(model: Model) -> Given {
        let tags = model.labels().iter().map(|label| intern(&labels::tag(label))).collect();
        Given { model, tags }
    }

    fn identify(&self, text: &str, scratch: &mut Scratch) -> Guess {
        let mut looked = String::new();
        let mut letters: BTreeMap<&'static str, usize> = BTreeMap::new();
        let mut length = 0;
        windows::each(text, |window| {
            looked.push_str(window);
            looked.push('\n');
            let characters = window.chars().count();
            length += characters;
            if let Some((label, score)) = self.model.predict(window, 1, scratch).first()
                && *score >= EVIDENT
            {
                *letters.entry(self.tags[*label]).or_default() += characters;
            }
        });
        // Digits and signs alone are no language, whatever the model has learned of them.
        if !looked.chars().any(char::is_alphabetic) {
            return Guess { language: OTHER, score: 0.0, second: None };
        }
        let best = self.model.predict(&looked, 1, scratch).first().copied();
        let (label, score) = best.map_or((OTHER, 0.0), |(l, score)| (self.tags[l], score));
        let mut order: Vec<(&'static str, usize)> = letters.into_iter().collect();
        order.sort_by_key(|(tag, count)| (std::cmp::Reverse(*count), *tag));
        let decided: usize = order.iter().map(|o| o.1).sum();
        let second = order.get(1).filter(|_| decided * 2 >= length);
        let share = |count: usize| count as f32 / decided as f32;
        let mixed = second.is_some_and(|(_, n)| share(*n) >= MIXED_SHARE && *n >= MIXED_LENGTH);
        let language = match mixed {
            true => MIXED,
            false if score >= CONFIDENT => label,
            false => OTHER,
        };
        Guess { language, score, second: second.map(|(tag, count)| (*tag, share(*count))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_one_of_them() {
        let text = "The boats came back in the morning and the market was full of people.";
        let own = Identifier::Own;
        assert_eq!(own.identify(text, &mut Scratch::default()).language, "en");
        assert!(own.languages().is_sorted() && own.languages().contains(&"zh-hant"));
        assert_eq!(own.languages().len(), 73, "weights/README.md names them");
    }

    #[test]
    fn a_file_that_is_no_model_is_an_error_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lid.176.bin");
        std::fs::write(&path, "<html>404</html>").unwrap();
        let message = Identifier::open(&path).err().unwrap().to_string();
        assert!(message.contains("lid.176.bin") && message.contains("not a fastText"), "{message}");
    }

    /// A model with two words, a language each: `boat` is `eng_Latn`, `Boot` is `deu_Latn`.
    #[test]
    fn a_given_model_is_asked_by_windows() {
        let model = Model::parse(crate::classify::fasttext::two_words()).unwrap();
        let identifier = Identifier::Given(Box::new(Given::new(model)));
        assert_eq!(identifier.languages(), ["de", "en"]);
        let check = |text: &str, expected: &str| {
            let found = identifier.identify(text, &mut Scratch::default());
            assert_eq!(found.language, expected, "{found:?}");
        };
        let (english, german) = ("boat ".repeat(40), "Boot ".repeat(40));
        check(&english, "en");
        check(&german, "de");
        check("1234 5678", OTHER);
        check("", OTHER);
        check(&format!("{english}\n{german}\n{english}\n{german}"), MIXED);
    }
}
