//! Which language a text is in: hashed character n-grams of its words, with a door for languages
//! that the model does not know.
//!
//! Every gram of one to four characters votes for the languages in which it was seen; a text whose
//! grams nobody knows well enough is `other`. The paper uses fastText's 176 languages (§3.1.2);
//! this small model of our own needs no download. Weights: `weights/language.bin`, made by
//! [`train`] from Open Source Guides (CC BY 4.0) and translations of the Universal Declaration of
//! Human Rights (free to reproduce); licence line in `weights/README.md`. Not here: languages
//! within a document.

mod grams;
mod model;
pub mod train;

pub use model::Model;

use std::sync::LazyLock;

/// The language of documents whose language nobody taught us.
pub const OTHER: &str = "other";

static MODEL: LazyLock<Option<Model>> =
    LazyLock::new(|| Model::decode(include_bytes!("../../weights/language.bin")).ok());

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guess {
    /// BCP 47 tag in lower case, or [`OTHER`].
    pub language: &'static str,
    /// Confidence, 0 to 1.
    pub score: f32,
}

/// Bytes of a text that are looked at: beginning, middle and end of longer ones.
const ENOUGH: usize = 6 << 10;

/// The language of a text.
pub fn identify(text: &str) -> Guess {
    let nothing = Guess { language: OTHER, score: 0.0 };
    let Some(model) = &*MODEL else { return nothing };
    let (name, score) = if text.len() <= ENOUGH {
        model.guess(text)
    } else {
        let part = |from: usize| {
            let start = text.ceil_char_boundary(from);
            &text[start..text.floor_char_boundary(start + ENOUGH / 3)]
        };
        let (middle, end) = (text.len() / 2, text.len() - ENOUGH / 3);
        model.guess(&[part(0), part(middle), part(end)].join("\n"))
    };
    name.map_or(nothing, |language| Guess { language, score })
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
