//! Which language a text is in: hashed character n-grams of its words, with a door for languages
//! that the model does not know.
//!
//! Every gram of one to four characters votes for the languages in which it was seen; a text whose
//! grams nobody knows well enough is `other`, and one whose windows are in two languages `mixed`.
//! The paper uses fastText's 176 languages (§3.1.2): a user who has that file, or GlotLID's, brings
//! it ([`Identifier`]); this small model of our own needs no download. Weights:
//! `weights/language.bin`, made by [`train`] from Open Source Guides (CC BY 4.0) and translations of
//! the Universal Declaration of Human Rights (free to reproduce); languages and licence in
//! `weights/README.md`. Not here: which language a line is in.

pub mod evaluate;
mod given;
mod grams;
mod labels;
mod model;
mod rows;
mod texts;
pub mod train;
mod windows;

pub use given::{Given, Identifier};
pub use model::{Model, Reading};

use model::intern;
use std::sync::LazyLock;

/// The language of documents whose language nobody taught us.
pub const OTHER: &str = "other";

static MODEL: LazyLock<Option<Model>> =
    LazyLock::new(|| Model::decode(include_bytes!("../../weights/language.bin")).ok());

/// The language of documents in two languages.
pub const MIXED: &str = "mixed";
/// Share of the second language from which a document is mixed, and the characters that must be in
/// it: a quotation or a menu in another language makes no mixed document.
const MIXED_SHARE: f32 = 0.3;
const MIXED_LENGTH: usize = 150;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guess {
    /// BCP 47 tag in lower case, [`OTHER`] or [`MIXED`].
    pub language: &'static str,
    /// Confidence, 0 to 1; below what a language needs, how near the nearest one is.
    pub score: f32,
    /// The second language, and its share of what can be told; of mixed documents the one with
    /// less text.
    pub second: Option<(&'static str, f32)>,
}

/// The language of a text.
pub fn identify(text: &str) -> Guess {
    match &*MODEL {
        Some(model) => Guess::of(&model.read(text)),
        None => Guess { language: OTHER, score: 0.0, second: None },
    }
}

/// The languages that the program's own model knows, besides [`OTHER`] and [`MIXED`].
pub fn known() -> Vec<&'static str> {
    MODEL.as_ref().map_or_else(Vec::new, |model| model.names().map(intern).collect())
}

impl Guess {
    fn of(reading: &Reading) -> Guess {
        let second = reading.second;
        let mixed = second.is_some_and(|(_, s, length)| s >= MIXED_SHARE && length >= MIXED_LENGTH);
        let language = if mixed { MIXED } else { reading.first.unwrap_or(OTHER) };
        let second = second.map(|(language, share, _)| (language, share));
        Guess { language, score: reading.score, second }
    }
}

/// How surprising the letters of Latin words are, in nats a letter; `None` for too few of them.
pub(crate) fn surprise(text: &str) -> Option<f32> {
    MODEL.as_ref()?.surprise(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, language: &str) {
        let found = identify(text);
        assert_eq!(found.language, language, "{text}: {found:?}");
    }

    #[test]
    fn the_shipped_weights_are_whole_and_small() {
        let bytes = include_bytes!("../../weights/language.bin");
        assert!(bytes.len() < 2 << 20);
        Model::decode(bytes).unwrap();
    }

    #[test]
    fn sentences_of_our_own() {
        check("The boats came back in the morning and the market was full of people.", "en");
        check("Die Boote kamen am Morgen zurück, und der Markt war voller Menschen.", "de");
        check("Les bateaux sont revenus le matin et le marché était plein de monde.", "fr");
        check("Los barcos volvieron por la mañana y el mercado estaba lleno de gente.", "es");
        check("Лодки вернулись утром, и рынок был полон людей.", "ru");
        check("船が朝に戻ってきて、市場は人でいっぱいでした。", "ja");
        check("배들이 아침에 돌아왔고 시장은 사람들로 가득했습니다.", "ko");
        check("नावें सुबह लौट आईं और बाज़ार लोगों से भरा था।", "hi");
        check("عادت القوارب في الصباح وكان السوق مليئا بالناس.", "ar");
    }

    #[test]
    fn what_is_no_known_language_is_other() {
        check("", OTHER);
        check("12 34 -- !!", OTHER);
        check("qxzj wvkq zzgh xqjk vvbn qwrt xzcv plkq jhgx mnbq zxqw vkjh", OTHER);
        check("tvakšuel mböntrir kvaažol ještrun hälkvom pieräš čumbtal nötrel", OTHER);
    }
}
