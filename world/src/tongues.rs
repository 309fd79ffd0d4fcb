//! Three invented languages, each with letters, words, bending and word order of its own, and the
//! pages written in them.
//!
//! NOT drawn from the world's seed: the languages are always the same, so that a language
//! identifier may be trained on [`sample`] once and for all. Their codes are of the range that
//! ISO 639 leaves to private use.
//!
//! - `qva`: Latin letters with marks; verb last; cases as endings; adjectives agree with nouns.
//! - `qko`: Cyrillic letters; verb first; noun classes as prefixes, repeated by adjective and verb.
//! - `qth`: Greek letters; subject, verb, object; particles in place of endings; doubled plurals.

use crate::names::capital;
use crate::page::{Block, Page};
use crate::random::Draw;
use std::sync::OnceLock;

/// Codes of the invented languages.
pub const CODES: [&str; 3] = ["qva", "qko", "qth"];

const CONSTANT: u64 = 0x7175_6970_7500;

struct Sounds {
    onsets: &'static [&'static str],
    vowels: &'static [&'static str],
    codas: &'static [&'static str],
}

const SOUNDS: [Sounds; 3] = [
    Sounds {
        onsets: &["t", "v", "k", "h", "l", "s", "n", "m", "p", "j", "r", "š", "kv", "tr", "ž", "č"],
        vowels: &["a", "ä", "e", "i", "o", "ö", "u", "ü", "aa", "ie", "õ"],
        codas: &["", "", "n", "l", "s", "r", "t", "mb"],
    },
    Sounds {
        onsets: &["б", "в", "г", "д", "ж", "з", "к", "л", "м", "н", "п", "р", "т", "ш", "ц", "х"],
        vowels: &["а", "о", "у", "ы", "е", "я", "ю", "ё"],
        codas: &["", "", "", "м", "н", "й", "р", "щ"],
    },
    Sounds {
        onsets: &["θ", "κ", "λ", "μ", "ν", "π", "ρ", "σ", "τ", "φ", "χ", "δ", "γ", "β", "ξ", "ζ"],
        vowels: &["α", "ε", "η", "ι", "ο", "υ", "ω", "αι", "ου"],
        codas: &["", "", "ν", "λ", "ρ", "μ"],
    },
];

/// The words of one language.
struct Tongue {
    nouns: Vec<String>,
    verbs: Vec<String>,
    adjectives: Vec<String>,
    adverbs: Vec<String>,
    particles: Vec<String>,
}

fn root(sounds: &Sounds, syllables: usize, draw: &mut Draw) -> String {
    let mut out = String::new();
    for _ in 0..syllables {
        out.push_str(draw.pick(sounds.onsets));
        out.push_str(draw.pick(sounds.vowels));
        out.push_str(draw.pick(sounds.codas));
    }
    out
}

fn tongue(language: usize) -> &'static Tongue {
    static ALL: OnceLock<Vec<Tongue>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        (0..CODES.len())
            .map(|which| {
                let mut draw = Draw::keyed(CONSTANT, "tongue", which as u64);
                let mut words = |count: usize, low: usize, high: usize| -> Vec<String> {
                    let mut list: Vec<String> = Vec::new();
                    while list.len() < count {
                        let syllables = draw.between(low, high);
                        let word = root(&SOUNDS[which], syllables, &mut draw);
                        if !list.contains(&word) {
                            list.push(word);
                        }
                    }
                    list
                };
                Tongue {
                    nouns: words(480, 2, 3),
                    verbs: words(220, 1, 2),
                    adjectives: words(200, 2, 2),
                    adverbs: words(60, 1, 2),
                    particles: words(24, 1, 1),
                }
            })
            .collect()
    });
    &all[language]
}

/// What one page in an invented language keeps talking about.
struct Voice {
    language: usize,
    words: &'static Tongue,
    topic: usize,
    nouns: Vec<usize>,
    verbs: Vec<usize>,
    adjectives: Vec<usize>,
    names: Vec<String>,
    draw: Draw,
}

const TOPICS: usize = 12;

impl Voice {
    fn new(language: usize, mut draw: Draw) -> Self {
        let words = tongue(language);
        let topic = draw.below(TOPICS);
        let mut focus = |count: usize, size: usize| -> Vec<usize> {
            (0..count).map(|_| draw.below(size / TOPICS) * TOPICS + topic).collect()
        };
        let nouns = focus(7, words.nouns.len());
        let verbs = focus(5, words.verbs.len());
        let adjectives = focus(4, words.adjectives.len());
        let names = (0..2).map(|_| capital(&root(&SOUNDS[language], 2, &mut draw))).collect();
        Self { language, words, topic, nouns, verbs, adjectives, names, draw }
    }

    fn index(&mut self, own: &[usize], size: usize) -> usize {
        if self.draw.chance(0.68) {
            return own[self.draw.zipf(own.len())];
        }
        if self.draw.chance(0.6) {
            return (self.draw.zipf(size / TOPICS) * TOPICS + self.topic) % size;
        }
        self.draw.zipf(size)
    }

    fn noun(&mut self) -> (usize, &'static str) {
        let i = self.index(&self.nouns.clone(), self.words.nouns.len());
        (i, &self.words.nouns[i])
    }

    fn verb(&mut self) -> &'static str {
        let i = self.index(&self.verbs.clone(), self.words.verbs.len());
        &self.words.verbs[i]
    }

    fn adjective(&mut self) -> &'static str {
        let i = self.index(&self.adjectives.clone(), self.words.adjectives.len());
        &self.words.adjectives[i]
    }

    fn adverb(&mut self) -> &'static str {
        &self.words.adverbs[self.draw.zipf(self.words.adverbs.len())]
    }

    /// A noun phrase in a case (0 subject, 1 object, 2 place), and the mark its verb must repeat.
    fn phrase(&mut self, case: usize) -> (String, usize) {
        if case == 0 && self.draw.chance(0.4) {
            let name = self.names[self.draw.below(self.names.len())].clone();
            return (name, 0);
        }
        let (index, noun) = self.noun();
        let many = self.draw.chance(0.3);
        let dressed = self.draw.chance(0.45);
        let adjective = if dressed { self.adjective() } else { "" };
        let text = match self.language {
            0 => {
                let end = ["", "ak", "une"][case];
                let il = if many { "il" } else { "" };
                if dressed {
                    format!("{adjective}{il}{end} {noun}{il}{end}")
                } else {
                    format!("{noun}{il}{end}")
                }
            }
            1 => {
                let class = ["ки", "ва", "му", "ле"][index % 4];
                let place = if case == 2 { "на " } else { "" };
                if dressed {
                    format!("{place}{class}{noun} {class}{adjective}")
                } else {
                    format!("{place}{class}{noun}")
                }
            }
            _ => {
                let mark = ["", "τα ", "εν "][case];
                let doubled = if many { format!("{noun} {noun}") } else { noun.to_owned() };
                if dressed {
                    format!("{mark}{doubled} λε {adjective}")
                } else {
                    format!("{mark}{doubled}")
                }
            }
        };
        let mark = if self.language == 0 { usize::from(many) } else { index % 4 };
        (text, mark)
    }

    fn clause(&mut self) -> String {
        let (subject, mark) = self.phrase(0);
        let (object, _) = self.phrase(1);
        let place = if self.draw.chance(0.35) { self.phrase(2).0 } else { String::new() };
        let adverb = if self.draw.chance(0.25) { self.adverb() } else { "" };
        let verb = self.verb();
        let past = self.draw.chance(0.7);
        let parts = match self.language {
            0 => {
                let tense = if past { "si" } else { "da" };
                let agree = if mark == 1 { "mme" } else { "" };
                vec![subject, place, adverb.to_owned(), object, format!("{verb}{tense}{agree}")]
            }
            1 => {
                let class = ["ки", "ва", "му", "ле"][mark];
                let tense = if past { "ла" } else { "ти" };
                vec![format!("{class}{verb}{tense}"), adverb.to_owned(), subject, object, place]
            }
            _ => {
                let tense = if past { "δο" } else { "νυ" };
                vec![subject, tense.to_owned(), verb.to_owned(), object, place, adverb.to_owned()]
            }
        };
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        parts.join(" ")
    }

    fn sentence(&mut self) -> String {
        let particles = &self.words.particles;
        let text = match self.draw.below(10) {
            0 | 1 => {
                let link = &particles[self.draw.zipf(8)];
                format!("{} {link} {}", self.clause(), self.clause())
            }
            2 => {
                let head = &particles[8 + self.draw.zipf(8)];
                format!("{head} {}, {}", self.clause(), self.clause())
            }
            3 => {
                let number = self.draw.between(2, 90);
                format!("{number} {} {}", self.noun().1, self.clause())
            }
            _ => self.clause(),
        };
        capital(&text) + [".", ".", ".", "!", "?"][self.draw.zipf(5)]
    }

    fn paragraph(&mut self, sentences: usize) -> String {
        let all: Vec<String> = (0..sentences).map(|_| self.sentence()).collect();
        all.join(" ")
    }
}

/// At least `bytes` bytes of running text in the language `CODES[language]`, always the same:
/// what a language identifier may be trained on. `None` for a language that is not there.
#[must_use]
pub fn sample(language: usize, bytes: usize) -> Option<String> {
    CODES.get(language)?;
    let mut text = String::new();
    for page in 0.. {
        let mut voice = Voice::new(language, Draw::keyed(CONSTANT, "sample", page));
        text.push_str(&voice.paragraph(8));
        text.push('\n');
        if text.len() >= bytes {
            break;
        }
    }
    Some(text)
}

/// Noun number `index` of a language.
pub(crate) fn word(language: usize, index: usize) -> &'static str {
    let nouns = &tongue(language).nouns;
    &nouns[index % nouns.len()]
}

/// A page in an invented language.
pub(crate) fn page(language: usize, site: usize, draw: Draw) -> Page {
    let mut voice = Voice::new(language, draw);
    let mut page = Page::new("foreign", CODES[language], site);
    page.title = capital(&voice.clause());
    page.para(voice.paragraph(3));
    for _ in 0..voice.draw.between(1, 2) {
        if voice.draw.chance(0.25) {
            let heading = capital(voice.noun().1);
            page.blocks.push(Block::Heading(heading));
        }
        let sentences = voice.draw.between(3, 7);
        page.para(voice.paragraph(sentences));
        if voice.draw.chance(0.2) {
            let items = (0..voice.draw.between(3, 6)).map(|_| voice.sentence()).collect();
            page.blocks.push(Block::List(items));
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn languages_share_no_words_and_are_always_the_same() {
        let texts: Vec<String> = (0..3).filter_map(|i| sample(i, 20_000)).collect();
        assert_eq!(texts.len(), 3);
        let words = |text: &str| -> HashSet<String> {
            text.split(|c: char| !c.is_alphabetic())
                .filter(|w| !w.is_empty())
                .map(str::to_lowercase)
                .collect()
        };
        let all: Vec<HashSet<String>> = texts.iter().map(|t| words(t)).collect();
        assert!(
            all.iter().all(|w| w.len() > 300),
            "{:?}",
            all.iter().map(HashSet::len).collect::<Vec<_>>()
        );
        assert!(all[0].is_disjoint(&all[1]) && all[1].is_disjoint(&all[2]));
        assert_eq!(sample(1, 500), sample(1, 500));
        assert_eq!(sample(3, 500), None);
    }
}
