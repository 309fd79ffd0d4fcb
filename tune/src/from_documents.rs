//! Dialogues made from kept documents, for input that brings none of its own: the title asks for
//! the opening, a heading for its section, a sentence for the next one, a word for a quotation.
//! Answers are the document's own sentences, never new ones. Not an instruction set: a model
//! tuned on this learns to answer and to stop, about these documents. (The paper's synthetic data
//! of section 4.3.6 starts likewise from pages of the pre-training text.)
//!
//! What is made of a document depends on the document and the seed alone, not on its neighbours;
//! only the wrong answers of preference pairs come from the document before it.

use crate::dialogue::{Dialogue, Preference, assistant, user};
use crate::order::mix;
use quipu_documents::Document;

/// What was made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Made {
    /// Dialogues to learn from.
    pub dialogues: Vec<Dialogue>,
    /// A right and a wrong answer to questions of other documents than `dialogues` ask about most.
    pub preferences: Vec<Preference>,
    /// Questions on documents that none of the others asks about.
    pub prompts: Vec<Dialogue>,
}

/// How much to make.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Dialogues of one document.
    pub per_document: usize,
    /// Words of an answer; an answer ends with a whole sentence.
    pub answer_words: usize,
    /// Dialogues in all; documents are thinned evenly by hash to stay below.
    pub dialogues: usize,
    /// Preference pairs in all.
    pub preferences: usize,
    /// Held-out questions in all.
    pub prompts: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { per_document: 4, answer_words: 60, dialogues: 8_000, preferences: 800, prompts: 200 }
    }
}

/// A question with its answer, before it is known what it is for.
struct Exchange {
    question: String,
    answer: String,
}

/// Makes dialogues of documents, in their order.
///
/// One document in ten gives held-out questions only, one in ten preference pairs.
#[must_use]
pub fn make<'a>(
    documents: impl IntoIterator<Item = &'a Document>,
    seed: u64,
    limits: Limits,
) -> Made {
    let mut made = Made::default();
    let mut before: Option<String> = None;
    for document in documents {
        let key = key(document, seed);
        let exchanges = exchanges(document, key, limits);
        let Some(last) = exchanges.last() else { continue };
        let mut next = last.answer.clone();
        match key % 10 {
            0 => made.prompts.extend(
                exchanges
                    .into_iter()
                    .take(1)
                    .map(|e| Dialogue { messages: vec![user(e.question), assistant(e.answer)] }),
            ),
            1 => {
                let wrong = before.as_deref();
                made.preferences
                    .extend(exchanges.into_iter().filter_map(|e| preference(e, wrong, key)));
            }
            _ => made.dialogues.extend(
                exchanges
                    .into_iter()
                    .map(|e| Dialogue { messages: vec![user(e.question), assistant(e.answer)] }),
            ),
        }
        before = Some(std::mem::take(&mut next));
    }
    thin(&mut made.dialogues, limits.dialogues);
    thin(&mut made.preferences, limits.preferences);
    thin(&mut made.prompts, limits.prompts);
    made
}

/// Keeps `most` of `items`, evenly spread over their order.
fn thin<T>(items: &mut Vec<T>, most: usize) {
    let all = items.len();
    if all <= most {
        return;
    }
    let mut index = 0;
    items.retain(|_| {
        let keep = (index + 1) * most / all > index * most / all;
        index += 1;
        keep
    });
}

/// A number that belongs to the document and the seed.
fn key(document: &Document, seed: u64) -> u64 {
    let id = document.id.0;
    mix(mix(seed ^ id as u64) ^ (id >> 64) as u64)
}

/// A wrong answer: of another document, stuck in a loop, or broken off.
fn preference(exchange: Exchange, other: Option<&str>, key: u64) -> Option<Preference> {
    let Exchange { question, answer } = exchange;
    let rejected = match (mix(key ^ 7) % 3, other) {
        (0, Some(other)) => other.to_owned(),
        (1, _) => {
            let first = sentences(&answer).into_iter().next()?;
            [first; 4].join(" ")
        }
        _ => {
            let words: Vec<_> = answer.split_whitespace().collect();
            words[..words.len() / 2].join(" ")
        }
    };
    let differs = !rejected.is_empty() && rejected != answer;
    differs.then(|| Preference { messages: vec![user(question)], chosen: answer, rejected })
}

fn exchanges(document: &Document, key: u64, limits: Limits) -> Vec<Exchange> {
    let name = name(document);
    let mut made = Vec::new();
    if let Some(name) = &name {
        made.extend(opening(document, name, key, limits.answer_words));
    }
    let quota = limits.per_document;
    made.extend(sections(document, name.as_deref(), key, limits.answer_words, quota / 2));
    let paragraphs: Vec<_> = paragraphs(&document.text).collect();
    if !paragraphs.is_empty() {
        for turn in 0.. {
            if made.len() >= quota || turn >= quota {
                break;
            }
            let draw = mix(key ^ (0x100 + turn as u64));
            let paragraph = paragraphs[(draw % paragraphs.len() as u64) as usize];
            let made_here = match turn % 2 {
                0 => following(paragraph, draw, limits.answer_words),
                _ => quotation(paragraph, name.as_deref(), draw, limits.answer_words),
            };
            made.extend(made_here);
        }
    }
    made.truncate(quota);
    made
}

/// What the document is called: its title, else the end of its path.
fn name(document: &Document) -> Option<String> {
    let title = document.title.trim();
    if !title.is_empty() && title.split_whitespace().count() <= 20 {
        return Some(title.to_owned());
    }
    let last = document.url.trim_end_matches('/').rsplit('/').next()?;
    let stem = last.split(['.', '?', '#']).next()?.replace(['_', '-'], " ");
    let stem = stem.trim().to_owned();
    (stem.chars().filter(|c| c.is_alphabetic()).count() >= 3).then_some(stem)
}

fn opening(document: &Document, name: &str, key: u64, words: usize) -> Option<Exchange> {
    let answer = paragraphs(&document.text).find_map(|p| leading(p, words))?;
    let question = match mix(key ^ 1) % 4 {
        0 => format!("What does \"{name}\" say first?"),
        1 => format!("How does \"{name}\" begin?"),
        2 => format!("Tell me about \"{name}\"."),
        _ => name.to_owned(),
    };
    Some(Exchange { question, answer })
}

/// Headings that stand on a line of their own, with the text below them.
fn sections(
    document: &Document,
    name: Option<&str>,
    key: u64,
    words: usize,
    most: usize,
) -> Vec<Exchange> {
    let mut rest = document.text.as_str();
    let mut found = Vec::new();
    for heading in &document.headings {
        let Some(below) = after_line(rest, heading) else { continue };
        rest = below;
        let first = below.lines().find(|line| !line.trim().is_empty());
        if let Some(answer) = first.filter(|p| is_prose(p)).and_then(|p| leading(p, words)) {
            found.push((heading.trim(), answer));
        }
    }
    let start = if found.is_empty() { 0 } else { (mix(key ^ 2) % found.len() as u64) as usize };
    found.rotate_left(start);
    let ask = |(i, (heading, answer)): (usize, (&str, String))| {
        let question = match (name, mix(key ^ (16 + i as u64)) % 3) {
            (Some(name), 0) => format!("What does \"{name}\" say under \"{heading}\"?"),
            (Some(name), 1) => format!("{name}: {heading}?"),
            _ => format!("What is written under the heading \"{heading}\"?"),
        };
        Exchange { question, answer }
    };
    found.into_iter().take(most).enumerate().map(ask).collect()
}

/// What follows the line that equals `heading`.
fn after_line<'a>(text: &'a str, heading: &str) -> Option<&'a str> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        start += line.len();
        if line.trim().trim_start_matches('#').trim() == heading.trim() {
            return Some(&text[start..]);
        }
    }
    None
}

fn following(paragraph: &str, draw: u64, words: usize) -> Option<Exchange> {
    let all = sentences(paragraph);
    if all.len() < 2 {
        return None;
    }
    let at = (mix(draw) % (all.len() as u64 - 1)) as usize;
    let answer = leading(&all[at + 1..].join(" "), words)?;
    let question = match draw % 3 {
        0 => format!("Continue: {}", all[at]),
        1 => format!("What comes after this sentence? {}", all[at]),
        _ => format!("Go on from here: {}", all[at]),
    };
    Some(Exchange { question, answer })
}

fn quotation(paragraph: &str, name: Option<&str>, draw: u64, words: usize) -> Option<Exchange> {
    let all = sentences(paragraph);
    let sentence = all[(draw % all.len().max(1) as u64) as usize..].first()?;
    if sentence.split_whitespace().count() > words {
        return None;
    }
    let letters = |w: &str| w.trim_matches(|c: char| !c.is_alphanumeric()).to_owned();
    let longest = sentence.split_whitespace().map(letters).max_by_key(|w| w.chars().count())?;
    if longest.chars().count() < 4 {
        return None;
    }
    let question = match name {
        Some(name) => format!("Quote a sentence of \"{name}\" with the word \"{longest}\"."),
        None => format!("Quote a sentence with the word \"{longest}\"."),
    };
    Some(Exchange { question, answer: (*sentence).to_owned() })
}

/// Lines that read as running text.
fn paragraphs(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| is_prose(line))
}

/// Ends like a sentence, is long enough to say something, and is mostly letters.
fn is_prose(line: &str) -> bool {
    let line = line.trim();
    let letters = line.chars().filter(|c| c.is_alphabetic()).count();
    let all = line.chars().filter(|c| !c.is_whitespace()).count();
    let ends = line.trim_end_matches(['"', '\'', '”', '’', '»', ')']).ends_with(is_end);
    ends && letters >= 24 && letters * 10 >= all * 7
}

fn is_end(c: char) -> bool {
    matches!(c, '.' | '!' | '?' | '…' | '。' | '！' | '？' | '।' | '؟' | '۔')
}

/// As many leading sentences as fit into `words` words; none if the first is too long.
fn leading(paragraph: &str, words: usize) -> Option<String> {
    let mut taken: Vec<&str> = Vec::new();
    let mut count = 0;
    for sentence in sentences(paragraph) {
        // A script without spaces counts two characters for a word.
        let spaced = sentence.split_whitespace().count();
        count += spaced.max(sentence.chars().count() / 16);
        if count > words {
            break;
        }
        taken.push(sentence);
    }
    (!taken.is_empty()).then(|| taken.join(" "))
}

/// Sentences of a paragraph: an end mark with what closes after it, then white space (or a
/// full-width mark), not after an initial or a short abbreviation.
fn sentences(paragraph: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut chars = paragraph.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if !is_end(c) {
            continue;
        }
        let mut end = at + c.len_utf8();
        while let Some(&(next, n)) = chars.peek() {
            if !is_end(n) && !matches!(n, '"' | '\'' | '”' | '’' | '»' | ')') {
                break;
            }
            end = next + n.len_utf8();
            chars.next();
        }
        let wide = matches!(c, '。' | '！' | '？');
        let space = chars.peek().is_none_or(|&(_, n)| n.is_whitespace());
        if (space || wide) && !(c == '.' && is_abbreviation(&paragraph[start..at])) {
            found.push(paragraph[start..end].trim());
            start = end;
        }
    }
    if !paragraph[start..].trim().is_empty() && found.is_empty() {
        found.push(paragraph[start..].trim());
    }
    found.retain(|s| s.chars().any(char::is_alphabetic));
    found
}

fn is_abbreviation(before: &str) -> bool {
    let word = before.rsplit(|c: char| c.is_whitespace() || c == '(').next().unwrap_or_default();
    let letters = word.chars().count();
    let named = ["Mr", "Mrs", "Ms", "Dr", "St", "Prof", "Jr", "Sr", "vs", "etc", "cf", "No"];
    let initial = letters == 1 && word.chars().all(char::is_uppercase);
    named.contains(&word) || initial || matches!(word, "e.g" | "i.e")
}

#[cfg(test)]
mod tests {
    use super::*;
    use quipu_documents::Id;

    const TEXT: &str = "The Lamp House\n\
        The lamp house stands on the north shore of the bay. It was built by Mr. Orin Vale in \
        1902. Ships have used its light ever since!\n\
        Keepers\n\
        Three keepers have lived there with their families. The last one left in 1971.\n\
        fn main() {}\n";

    fn document(n: u128) -> Document {
        Document {
            id: Id(n),
            title: "The Lamp House".into(),
            headings: vec!["The Lamp House".into(), "Keepers".into(), "Missing".into()],
            text: TEXT.into(),
            ..Document::default()
        }
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        assert_eq!(sentences(text), expected);
    }

    #[test]
    fn sentences_end_where_they_end() {
        check("One. Two! \"Three?\" Four", &["One.", "Two!", "\"Three?\""]);
        check(
            "Mr. A. Vale came, e.g. by sea. He left.",
            &["Mr. A. Vale came, e.g. by sea.", "He left."],
        );
        check("Version 1.5 is out. Yes.", &["Version 1.5 is out.", "Yes."]);
        check("今日は晴れ。明日も。", &["今日は晴れ。", "明日も。"]);
        check("no end", &["no end"]);
        check("... !", &[]);
        check("", &[]);
    }

    #[test]
    fn answers_are_the_documents_own_sentences() {
        let documents: Vec<_> = (0..200).map(document).collect();
        let made = make(&documents, 1, Limits::default());
        assert!(made.dialogues.len() > 300 && made.preferences.len() > 20);
        assert!(made.prompts.len() > 8);
        let flat = TEXT.replace('\n', " ");
        for dialogue in &made.dialogues {
            let answer = &dialogue.messages[1].content;
            assert!(flat.contains(answer.as_str()), "{answer}");
        }
        let asks = |d: &Dialogue| d.messages[0].content.contains("Keepers");
        assert!(made.dialogues.iter().any(asks));
        for pair in &made.preferences {
            assert!(flat.contains(&pair.chosen) && pair.chosen != pair.rejected);
        }
    }

    #[test]
    fn what_is_made_of_a_document_does_not_depend_on_its_neighbours() {
        let documents: Vec<_> = (0..40).map(document).collect();
        let all = make(&documents, 3, Limits::default()).dialogues;
        let half = make(&documents[20..], 3, Limits::default()).dialogues;
        assert_eq!(all[all.len() - half.len()..], half);
        assert_ne!(all, make(&documents, 4, Limits::default()).dialogues);
    }

    #[test]
    fn limits_hold_and_empty_documents_give_nothing() {
        let documents: Vec<_> = (0..200).map(document).collect();
        let limits = Limits { dialogues: 50, preferences: 7, prompts: 3, ..Limits::default() };
        let made = make(&documents, 1, limits);
        let sizes = [made.dialogues.len(), made.preferences.len(), made.prompts.len()];
        assert_eq!(sizes, [50, 7, 3]);
        assert_eq!(make(&[Document::default()], 1, limits), Made::default());
    }
}
