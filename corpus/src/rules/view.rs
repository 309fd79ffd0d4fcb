//! What the rules see of a text: its words and lines and how many characters of each kind it has,
//! found in one pass for all rules, signatures and tables.
//!
//! A word is a run of letters, digits and marks; in scripts without spaces between words (Chinese,
//! Japanese, Thai, Lao, Khmer, Myanmar) each letter counts as one. An apostrophe or hyphen between
//! letters stays inside the word. Runs of ASCII are found by a table of bytes and hashed where they
//! stand, in a lower-case copy of the whole text; other words go character by character. Not here:
//! any judgement.

use crate::classes::{self, ALPHA, ASCII, DIGIT, MARK, SPACE, SYMBOL, UNSPACED, WORD};
use std::cell::{OnceCell, RefCell};
use std::ops::Range;
use xxhash_rust::xxh3::xxh3_64;

/// One word of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// Hash of its lower-case form.
    pub hash: u64,
    /// Where it begins, in bytes.
    pub start: u32,
    /// Where it ends.
    pub end: u32,
    /// Its letters and digits.
    pub chars: u16,
    /// Whether it has an ASCII digit.
    pub digits: bool,
    /// Whether it has a letter.
    pub letters: bool,
}

/// One line of a text that is not blank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number in the text, from 0, blank lines counted.
    pub number: u32,
    /// Where it begins without its white space, in bytes.
    pub start: u32,
    /// Where it ends without its white space.
    pub end: u32,
    /// The number of its first word.
    pub first_word: u32,
    /// One past the number of its last word.
    pub end_word: u32,
    /// Its ASCII digits.
    pub digits: u32,
}

impl Line {
    /// The numbers of its words.
    pub fn words(&self) -> Range<usize> {
        self.first_word as usize..self.end_word as usize
    }
}

/// Characters of a text by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Characters that are no white space.
    pub visible: u32,
    /// Letters and digits of all words.
    pub word_chars: u32,
    /// Ornaments: neither letters, digits, spaces nor ordinary punctuation.
    pub symbols: u32,
    /// Hash signs.
    pub hashes: u32,
    /// Ellipses, as one character or as three points.
    pub ellipses: u32,
    /// Words that are single letters of scripts without spaces.
    pub unspaced: u32,
}

/// A text with its lines and words.
pub struct View<'a> {
    /// The text.
    pub text: &'a str,
    /// Its language, by the identifier.
    pub language: &'a str,
    /// Its lines that are not blank.
    pub lines: Vec<Line>,
    /// Its words.
    pub words: Vec<Word>,
    /// Its characters by kind.
    pub counts: Counts,
    /// Share of its words that are of scripts without spaces.
    pub unspaced: f32,
    /// Fewest words of a document, by the recipe.
    pub min_words: u32,
    /// Share of function words and the least there should be, once a rule has asked.
    pub(super) function_share: OnceCell<Option<(f32, f32)>>,
    /// Lines of repeated content, once a rule has asked.
    pub(super) repeated_content: OnceCell<Vec<(usize, f32)>>,
}

impl<'a> View<'a> {
    /// Segments a text of at most 4 GiB.
    pub fn of(text: &'a str, language: &'a str, min_words: u32) -> View<'a> {
        let (words, counts) = segment(text);
        let lines = lines(text, &words);
        let unspaced = counts.unspaced as f32 / words.len().max(1) as f32;
        View {
            text,
            language,
            lines,
            words,
            counts,
            unspaced,
            min_words,
            function_share: OnceCell::new(),
            repeated_content: OnceCell::new(),
        }
    }

    /// The letters of a word.
    pub fn word(&self, word: &Word) -> &'a str {
        &self.text[word.start as usize..word.end as usize]
    }

    /// The characters of a line, without the white space at its ends.
    pub fn line(&self, line: &Line) -> &'a str {
        &self.text[line.start as usize..line.end as usize]
    }

    /// Letters and digits of all words.
    pub fn word_chars(&self) -> usize {
        self.counts.word_chars as usize
    }
}

/// The hash by which [`Word::hash`] knows a word.
pub fn word_hash(word: &str) -> u64 {
    let mut lower = String::with_capacity(word.len());
    word.chars().for_each(|c| classes::push_lower(c, &mut lower));
    xxh3_64(lower.as_bytes())
}

/// Each line that is not blank, with the words in it.
fn lines(text: &str, words: &[Word]) -> Vec<Line> {
    let bytes = text.as_bytes();
    let mut lines = Vec::with_capacity(text.len() / 64 + 1);
    let (mut from, mut number, mut word) = (0, 0, 0);
    for end in memchr::memchr_iter(b'\n', bytes).chain(std::iter::once(bytes.len())) {
        let trimmed = text[from..end].trim();
        if !trimmed.is_empty() {
            let start = from + text[from..end].len() - text[from..end].trim_start().len();
            let first_word = word as u32;
            let mut digits = 0;
            while words.get(word).is_some_and(|w| (w.start as usize) < end) {
                if words[word].digits {
                    let letters = &bytes[words[word].start as usize..words[word].end as usize];
                    digits += letters.iter().filter(|b| b.is_ascii_digit()).count() as u32;
                }
                word += 1;
            }
            let (end, end_word) = ((start + trimmed.len()) as u32, word as u32);
            lines.push(Line { number, start: start as u32, end, first_word, end_word, digits });
        }
        (from, number) = (end + 1, number + 1);
    }
    lines
}

thread_local! {
    /// The lower-case copy of the text at hand, and that of one word that is not all ASCII.
    static SCRATCH: RefCell<(Vec<u8>, String)> = const { RefCell::new((Vec::new(), String::new())) };
}

/// Above this many bytes the copy is given back rather than kept for the next text.
const KEEP: usize = 16 << 20;

fn segment(text: &str) -> (Vec<Word>, Counts) {
    SCRATCH.with_borrow_mut(|(lower, word)| {
        lower.clear();
        lower.extend_from_slice(text.as_bytes());
        lower.make_ascii_lowercase();
        let words = Vec::with_capacity(text.len() / 5 + 8);
        let mut segmenter = Segmenter { text, lower, word, words, counts: Counts::default() };
        segmenter.run();
        let found = (segmenter.words, segmenter.counts);
        if lower.capacity() > KEEP {
            *lower = Vec::new();
        }
        found
    })
}

struct Segmenter<'t> {
    text: &'t str,
    lower: &'t [u8],
    word: &'t mut String,
    words: Vec<Word>,
    counts: Counts,
}

impl Segmenter<'_> {
    fn run(&mut self) {
        let mut at = 0;
        while let Some(&byte) = self.lower.get(at) {
            let class = ASCII[usize::from(byte)];
            at = if class & WORD != 0 {
                self.ascii_word(at)
            } else if class & SPACE != 0 {
                at + 1
            } else if byte < 0x80 {
                self.sign(at, byte, class)
            } else {
                self.wide(at)
            };
        }
    }

    /// A word from `start` on, and where it ends.
    fn ascii_word(&mut self, start: usize) -> usize {
        let bytes = self.lower;
        let (mut end, mut seen, mut joins) = (start, 0, 0);
        loop {
            while let Some(&byte) = bytes.get(end)
                && ASCII[usize::from(byte)] & WORD != 0
            {
                seen |= ASCII[usize::from(byte)];
                end += 1;
            }
            let next = |n: usize| bytes.get(end + n).copied().unwrap_or(0);
            let join = matches!(next(0), b'\'' | b'-');
            if next(0) >= 0x80 || (join && next(1) >= 0x80) {
                return self.any_word(start);
            }
            if !join || ASCII[usize::from(next(1))] & ALPHA == 0 {
                break;
            }
            (end, joins) = (end + 1, joins + 1);
        }
        let chars = end - start - joins;
        self.counts.visible += (end - start) as u32;
        self.push(start..end, chars as u32, seen, xxh3_64(&bytes[start..end]));
        end
    }

    fn push(&mut self, range: Range<usize>, chars: u32, seen: u8, hash: u64) {
        self.counts.word_chars += chars;
        self.words.push(Word {
            hash,
            start: range.start as u32,
            end: range.end as u32,
            chars: chars.min(u32::from(u16::MAX)) as u16,
            digits: seen & DIGIT != 0,
            letters: seen & ALPHA != 0,
        });
    }

    /// A word from `start` on, whatever its script, and where it ends.
    fn any_word(&mut self, start: usize) -> usize {
        self.word.clear();
        let (mut end, mut count, mut seen) = (start, 0, 0);
        let mut chars = self.text[start..].chars();
        while let Some(c) = chars.next() {
            let class = classes::class(c);
            let letter = class & WORD != 0;
            if class & (WORD | UNSPACED) == WORD | UNSPACED {
                break;
            }
            if !letter && class & MARK == 0 {
                let next = chars.as_str().chars().next().map_or(0, classes::class);
                let joins = matches!(c, '\'' | '’' | '-');
                if !joins || next & (ALPHA | UNSPACED) != ALPHA {
                    break;
                }
            }
            count += u32::from(letter);
            seen |= class;
            self.counts.visible += 1;
            classes::push_lower(c, self.word);
            end += c.len_utf8();
        }
        self.push(start..end, count, seen, xxh3_64(self.word.as_bytes()));
        end
    }

    /// Something that is not ASCII, and where it ends.
    fn wide(&mut self, at: usize) -> usize {
        let Some(c) = self.text[at..].chars().next() else { return at + 1 };
        let (class, end) = (classes::class(c), at + c.len_utf8());
        if class & (WORD | UNSPACED) == WORD {
            return self.any_word(at);
        }
        self.counts.visible += u32::from(class & SPACE == 0);
        self.counts.symbols += u32::from(class & SYMBOL != 0);
        self.counts.ellipses += u32::from(c == '…');
        if class & WORD != 0 {
            self.counts.unspaced += 1;
            self.push(at..end, 1, class, xxh3_64(&self.lower[at..end]));
        }
        end
    }

    /// Punctuation and ornaments of ASCII; three points are an ellipsis.
    fn sign(&mut self, at: usize, byte: u8, class: u8) -> usize {
        if byte == b'.' && self.lower[at..].starts_with(b"...") {
            self.counts.ellipses += 1;
            self.counts.visible += 3;
            return at + 3;
        }
        self.counts.visible += 1;
        self.counts.symbols += u32::from(class & SYMBOL != 0);
        self.counts.hashes += u32::from(byte == b'#');
        at + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let view = View::of(text, "en", 1);
        let found: Vec<&str> = view.words.iter().map(|w| view.word(w)).collect();
        assert_eq!(found, expected);
        let letters = |w: &Word| view.word(w).chars().filter(|c| c.is_alphanumeric()).count();
        for word in &view.words {
            assert_eq!(usize::from(word.chars), letters(word), "{}", view.word(word));
            assert_eq!(word.hash, word_hash(view.word(word)), "{}", view.word(word));
        }
        assert_eq!(view.word_chars(), view.words.iter().map(letters).sum::<usize>());
        let visible = text.chars().filter(|c| !c.is_whitespace()).count();
        assert_eq!(view.counts.visible as usize, visible, "{text}");
    }

    #[test]
    fn words_of_many_scripts() {
        check(
            "Don't stop: x2, well-known -- or 3.5!",
            &["Don't", "stop", "x2", "well-known", "or", "3", "5"],
        );
        check("日本語 text", &["日", "本", "語", "text"]);
        check("text日本's it's日 a-日", &["text", "日", "本", "s", "it's", "日", "a", "日"]);
        check("हिन्दी भाषा", &["हिन्दी", "भाषा"]);
        check("ça fût", &["ça", "fût"]);
        check("l’été d'été e-é x-2 é-2", &["l’été", "d'été", "e-é", "x", "2", "é", "2"]);
        check("end- 'quote' rock-'n'-roll…", &["end", "quote", "rock", "n", "roll"]);
        check("\u{301}a\u{301}b ۱۲۳ ไทย", &["a\u{301}b", "۱۲۳", "ไ", "ท", "ย"]);
        check("😀 𝒳y 𠀀𠀁", &["𝒳y", "𠀀", "𠀁"]);
        check("", &[]);
        check("'", &[]);
        check("a'", &["a"]);
    }

    #[test]
    fn neither_case_nor_the_form_of_the_apostrophe_matters_to_the_hash() {
        let view = View::of("Wort WORT don't DON’T ÄRA ära", "de", 1);
        for pair in view.words.chunks(2) {
            assert_eq!(pair[0].hash, pair[1].hash);
        }
    }

    #[test]
    fn lines_know_their_words() {
        let view = View::of("\n One two.\r\n\n \u{3000}\n3 boats 44\n--", "en", 1);
        let found: Vec<(u32, &str, usize, u32)> = view
            .lines
            .iter()
            .map(|l| (l.number, view.line(l), l.words().len(), l.digits))
            .collect();
        assert_eq!(found, [(1, "One two.", 2, 0), (4, "3 boats 44", 3, 3), (5, "--", 0, 0)]);
        assert_eq!(view.lines[1].words(), 2..5);
    }

    #[test]
    fn characters_by_kind() {
        let counts = View::of("# a... b…. .. ##* ♥ 日本 ......", "ja", 1).counts;
        let found = (counts.hashes, counts.ellipses, counts.symbols, counts.unspaced);
        assert_eq!(found, (3, 4, 6, 2));
    }
}
