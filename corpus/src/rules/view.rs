//! What the rules see of a text: its lines and words, segmented once for all of them.
//!
//! A word is a run of letters, digits and marks; in scripts without spaces between words (Chinese,
//! Japanese, Thai, Lao, Khmer, Myanmar) each letter counts as one. An apostrophe or hyphen between
//! letters stays inside the word. Not here: any judgement.

/// One word of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// Where it begins, in bytes.
    pub start: u32,
    /// Where it ends.
    pub end: u32,
    /// Its letters and digits.
    pub chars: u16,
    /// Hash of its lower-case form.
    pub hash: u64,
}

/// A text with its lines and words.
pub struct View<'a> {
    /// The text.
    pub text: &'a str,
    /// Its language, by the identifier.
    pub language: &'a str,
    /// Its lines that are not blank, trimmed.
    pub lines: Vec<&'a str>,
    /// Its words.
    pub words: Vec<Word>,
    /// Share of its words that are of scripts without spaces.
    pub unspaced: f32,
    /// Fewest words of a document, by the recipe.
    pub min_words: u32,
}

impl<'a> View<'a> {
    /// Segments a text.
    pub fn of(text: &'a str, language: &'a str, min_words: u32) -> View<'a> {
        let lines = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        let (words, unspaced) = segment(text);
        let unspaced = unspaced as f32 / words.len().max(1) as f32;
        View { text, language, lines, words, unspaced, min_words }
    }

    /// The letters of a word.
    pub fn word(&self, word: &Word) -> &'a str {
        &self.text[word.start as usize..word.end as usize]
    }

    /// Letters and digits of all words.
    pub fn word_chars(&self) -> usize {
        self.words.iter().map(|w| w.chars as usize).sum()
    }
}

fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}'
        | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// Combining marks that belong to a word without being letters of it (those of Indic scripts are
/// alphabetic already).
fn is_mark(c: char) -> bool {
    matches!(c, '\u{0300}'..='\u{036f}' | '\u{0900}'..='\u{0d7f}' | '\u{0591}'..='\u{05c7}'
        | '\u{064b}'..='\u{065f}' | '\u{200c}' | '\u{200d}')
}

/// Words, and how many of them are single letters of unspaced scripts.
fn segment(text: &str) -> (Vec<Word>, usize) {
    let (mut words, mut unspaced) = (Vec::with_capacity(text.len() / 6), 0);
    let mut lower = String::new();
    let mut open: Option<(usize, u16)> = None;
    let mut close = |open: &mut Option<(usize, u16)>, end: usize, lower: &mut String| {
        if let Some((start, chars)) = open.take() {
            let hash = xxhash_rust::xxh3::xxh3_64(lower.as_bytes());
            words.push(Word { start: start as u32, end: end as u32, chars, hash });
            lower.clear();
        }
    };
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if is_unspaced(c) && c.is_alphanumeric() {
            close(&mut open, at, &mut lower);
            lower.push(c);
            open = Some((at, 1));
            close(&mut open, at + c.len_utf8(), &mut lower);
            unspaced += 1;
        } else if c.is_alphanumeric() || (open.is_some() && is_mark(c)) {
            let (_, count) = open.get_or_insert((at, 0));
            *count = count.saturating_add(u16::from(c.is_alphanumeric()));
            if c.is_ascii() {
                lower.push(c.to_ascii_lowercase())
            } else {
                lower.extend(c.to_lowercase())
            }
        } else {
            let joins = matches!(c, '\'' | '’' | '-') && open.is_some();
            let next = chars.peek().is_some_and(|(_, n)| n.is_alphabetic() && !is_unspaced(*n));
            if joins && next {
                lower.push(c);
            } else {
                close(&mut open, at, &mut lower);
            }
        }
    }
    close(&mut open, text.len(), &mut lower);
    (words, unspaced)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let view = View::of(text, "en", 1);
        let found: Vec<&str> = view.words.iter().map(|w| view.word(w)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn words_of_many_scripts() {
        check(
            "Don't stop: x2, well-known -- or 3.5!",
            &["Don't", "stop", "x2", "well-known", "or", "3", "5"],
        );
        check("日本語 text", &["日", "本", "語", "text"]);
        check("हिन्दी भाषा", &["हिन्दी", "भाषा"]);
        check("ça fût", &["ça", "fût"]);
        check("", &[]);
    }

    #[test]
    fn case_does_not_matter_to_the_hash() {
        let view = View::of("Wort WORT", "de", 1);
        assert_eq!(view.words[0].hash, view.words[1].hash);
    }
}
