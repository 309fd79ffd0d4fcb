//! Dialogues made from kept documents, for input that brings none of its own: the title asks for
//! the opening, a heading for its section (a heading that is a question is asked as it stands), a
//! sentence for the next one, a word for a sentence with it. Answers are the document's own
//! sentences, never new ones. The words around titles are English; of a document in another
//! language its title, heading or sentence is asked alone. Not an instruction set: a model
//! tuned on this learns to answer and to stop, about these documents. (The paper's synthetic data
//! of section 4.3.6 starts likewise from pages of the pre-training text.)
//!
//! What is made of a document depends on the document and the seed alone, not on its neighbours;
//! only the wrong answers of preference pairs come from the document before it.

use crate::dialogue::{Dialogue, Preference, assistant, user};
use crate::order::mix;
use crate::sentences::{is_prose, leading, paragraphs, sentences, stands_alone};
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
            0 => made.prompts.extend(dialogues(exchanges, 1).into_iter().take(1)),
            1 => {
                let wrong = before.as_deref();
                made.preferences
                    .extend(exchanges.into_iter().filter_map(|e| preference(e, wrong, key)));
            }
            // Some are talked about in one go, so that a second question is learned too.
            2..=4 => made.dialogues.extend(dialogues(exchanges, 3)),
            _ => made.dialogues.extend(dialogues(exchanges, 1)),
        }
        before = Some(std::mem::take(&mut next));
    }
    thin(&mut made.dialogues, limits.dialogues);
    thin(&mut made.preferences, limits.preferences);
    thin(&mut made.prompts, limits.prompts);
    made
}

/// Exchanges as dialogues of at most so many of them.
fn dialogues(exchanges: Vec<Exchange>, most: usize) -> Vec<Dialogue> {
    let mut out: Vec<Dialogue> = Vec::new();
    for (n, Exchange { question, answer }) in exchanges.into_iter().enumerate() {
        if n.is_multiple_of(most) {
            out.push(Dialogue { messages: Vec::new() });
        }
        if let Some(last) = out.last_mut() {
            last.messages.extend([user(question), assistant(answer)]);
        }
    }
    out
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
    let english = matches!(document.language.as_str(), "en" | "other" | "");
    let asks = Asks { name: name.as_deref(), english, words: limits.answer_words };
    let mut made: Vec<Exchange> = opening(document, &asks, key).into_iter().collect();
    let quota = limits.per_document;
    made.extend(sections(document, &asks, key, quota / 2));
    let paragraphs: Vec<_> = paragraphs(&document.text).collect();
    // Going on is asked for as often as there is room, a quotation once: nobody asks for more.
    let mut quoted = false;
    for turn in 0..2 * quota as u64 {
        if paragraphs.is_empty() || made.len() >= quota {
            break;
        }
        let draw = mix(key ^ (0x100 + turn));
        let paragraph = paragraphs[(draw % paragraphs.len() as u64) as usize];
        let found = match turn % 2 {
            1 if !quoted => quotation(paragraph, &asks, draw),
            _ => following(paragraph, &asks, draw),
        };
        quoted |= turn % 2 == 1 && found.is_some();
        let new =
            |f: &Exchange| made.iter().all(|m| m.question != f.question && m.answer != f.answer);
        let found = found.filter(new);
        made.extend(found);
    }
    made.truncate(quota);
    made
}

/// How a document is asked about.
struct Asks<'a> {
    /// What it is called.
    name: Option<&'a str>,
    /// Whether the words around that may be English.
    english: bool,
    /// Words of an answer at most.
    words: usize,
}

/// What the document is called: its title without the name of its site, else the end of its path.
fn name(document: &Document) -> Option<String> {
    let title = bare_title(document.title.trim());
    if !title.is_empty() && title.split_whitespace().count() <= 20 {
        return Some(title.to_owned());
    }
    let last = document.url.trim_end_matches('/').rsplit('/').next()?;
    let stem = last.split(['.', '?', '#']).next()?.replace(['_', '-'], " ");
    let stem = stem.trim().to_owned();
    (stem.chars().filter(|c| c.is_alphabetic()).count() >= 3).then_some(stem)
}

/// `Sourdough - The Bread Blog` → `Sourdough`: sites write their names behind a title, nobody who
/// asks does.
fn bare_title(title: &str) -> &str {
    for mark in [" | ", " - ", " – ", " — ", " · ", " :: "] {
        if let Some((head, site)) = title.rsplit_once(mark) {
            let said = head.chars().filter(|c| c.is_alphabetic()).count() >= 3;
            if said && site.split_whitespace().count() <= 5 {
                return head.trim();
            }
        }
    }
    title
}

/// The score by which curation marks plain text and Markdown, whose lines no template wrote.
const OWN_LINES: &str = "own-lines";

fn opening(document: &Document, asks: &Asks, key: u64) -> Option<Exchange> {
    let name = asks.name?;
    let answer = paragraphs(&document.text).find_map(|p| leading(p, asks.words))?;
    // A chapter of a book begins somehow, but its first sentences do not say what it is about.
    let told = document.scores.iter().any(|(score, _)| score == OWN_LINES);
    let question = match mix(key ^ 1) % 6 {
        _ if !asks.english => name.to_owned(),
        0 => format!("What does \"{name}\" say first?"),
        1 => format!("How does \"{name}\" begin?"),
        2 | 3 if told => format!("Read me the beginning of {name}."),
        4 if told => format!("What are the first sentences of {name}?"),
        2 => format!("Tell me about {name}."),
        3 => format!("What is {name} about?"),
        4 => format!("What do you know about {name}?"),
        _ => name.to_owned(),
    };
    Some(Exchange { question, answer })
}

/// Headings that stand on a line of their own, with the text below them.
fn sections(document: &Document, asks: &Asks, key: u64, most: usize) -> Vec<Exchange> {
    let mut rest = document.text.as_str();
    let mut found = Vec::new();
    for heading in &document.headings {
        let Some(below) = after_line(rest, heading) else { continue };
        rest = below;
        let first = below.lines().find(|line| !line.trim().is_empty());
        let answer = first.filter(|p| is_prose(p)).and_then(|p| leading(p, asks.words));
        if let Some(answer) = answer.filter(|_| is_asked(heading, asks.name)) {
            found.push((heading.trim(), answer));
        }
    }
    let start = if found.is_empty() { 0 } else { (mix(key ^ 2) % found.len() as u64) as usize };
    found.rotate_left(start);
    let ask = |(i, (heading, answer)): (usize, (&str, String))| {
        let question = match (asks.name, mix(key ^ (16 + i as u64)) % 4) {
            _ if heading.ends_with(['?', '？', '؟']) => heading.to_owned(),
            (Some(name), _) if !asks.english => format!("{name}: {heading}?"),
            (None, _) if !asks.english => format!("{heading}?"),
            (Some(name), 0) => format!("What does \"{name}\" say under \"{heading}\"?"),
            (Some(name), 1) => format!("{name}: {heading}?"),
            (Some(name), 2) => format!("What does {name} say about {heading}?"),
            _ => format!("What is written under the heading \"{heading}\"?"),
        };
        Exchange { question, answer }
    };
    found.into_iter().take(most).enumerate().map(ask).collect()
}

/// A heading that says something which the document's name does not say already.
fn is_asked(heading: &str, name: Option<&str>) -> bool {
    let letters = heading.chars().filter(|c| c.is_alphabetic()).count();
    let known = name.is_some_and(|name| name.to_lowercase().contains(&heading.to_lowercase()));
    letters >= 3 && heading.split_whitespace().count() <= 14 && !known
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

/// Words from which a sentence is told from others.
const TELLING: usize = 5;

fn following(paragraph: &str, asks: &Asks, draw: u64) -> Option<Exchange> {
    let all = sentences(paragraph);
    if all.len() < 2 {
        return None;
    }
    let at = (mix(draw) % (all.len() as u64 - 1)) as usize;
    let said = all[at];
    let long = said.split_whitespace().count().max(said.chars().count() / 16);
    if long < TELLING || long > asks.words {
        return None;
    }
    let answer = leading(&all[at + 1..].join(" "), asks.words)?;
    let question = match draw % 3 {
        _ if !asks.english => said.to_owned(),
        0 => format!("Continue: {said}"),
        1 => format!("What comes after this sentence? {said}"),
        _ => format!("Go on from here: {said}"),
    };
    Some(Exchange { question, answer })
}

fn quotation(paragraph: &str, asks: &Asks, draw: u64) -> Option<Exchange> {
    let all = sentences(paragraph);
    let sentence = *all[(draw % all.len().max(1) as u64) as usize..].first()?;
    let fits = (TELLING..=asks.words).contains(&sentence.split_whitespace().count());
    if !fits || !stands_alone(sentence) || !asks.english {
        return None;
    }
    let bare = |w: &str| w.trim_matches(|c: char| !c.is_alphanumeric()).to_owned();
    let words = sentence.split_whitespace().map(bare);
    let plain = words.filter(|w| w.chars().all(|c| c.is_alphabetic() || c == '-'));
    let longest = plain.max_by_key(|w| w.chars().count())?;
    if longest.chars().count() < 4 {
        return None;
    }
    let question = match (asks.name, draw % 3) {
        (Some(name), 0) => format!("Quote a sentence of \"{name}\" with the word \"{longest}\"."),
        (Some(name), 1) => format!("What does {name} say about {longest}?"),
        (Some(name), _) => format!("Find a sentence with \"{longest}\" in {name}."),
        (None, _) => format!("Quote a sentence with the word \"{longest}\"."),
    };
    Some(Exchange { question, answer: sentence.to_owned() })
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

    #[test]
    fn answers_are_the_documents_own_sentences() {
        let documents: Vec<_> = (0..200).map(document).collect();
        let made = make(&documents, 1, Limits::default());
        assert!(made.dialogues.len() > 300 && made.preferences.len() > 20);
        assert!(made.prompts.len() > 8);
        let flat = TEXT.replace('\n', " ");
        for dialogue in &made.dialogues {
            for answer in dialogue.messages.iter().skip(1).step_by(2) {
                assert!(flat.contains(answer.content.as_str()), "{}", answer.content);
                assert!(stands_alone(&answer.content), "{}", answer.content);
            }
        }
        let asks = |d: &Dialogue| d.messages[0].content.contains("Keepers");
        assert!(made.dialogues.iter().any(asks));
        for pair in &made.preferences {
            assert!(flat.contains(&pair.chosen) && pair.chosen != pair.rejected);
        }
    }

    #[track_caller]
    fn check_name(title: &str, expected: &str) {
        let found = name(&Document { title: title.into(), ..document(1) });
        assert_eq!(found.as_deref(), Some(expected));
    }

    #[test]
    fn a_name_is_a_title_without_its_site() {
        check_name("Sourdough - The Bread Blog", "Sourdough");
        check_name("Well-known facts | Site – Home", "Well-known facts");
        check_name("GNW: the ten best things", "GNW: the ten best things");
        check_name("A - B", "A - B");
    }

    /// Questions asked about the first so many documents, in dialogues of any length.
    fn questions(change: impl Fn(&mut Document)) -> Vec<String> {
        let documents: Vec<_> = (0..60)
            .map(|n| {
                let mut document = document(n);
                change(&mut document);
                document
            })
            .collect();
        let made = make(&documents, 1, Limits::default());
        let turns = made.dialogues.iter().flat_map(|d| d.messages.iter().step_by(2));
        turns.map(|m| m.content.clone()).collect()
    }

    #[test]
    fn questions_are_such_as_a_person_types() {
        let asked = questions(|_| ());
        for form in ["Tell me about The Lamp House.", "The Lamp House", "The Lamp House: Keepers?"]
        {
            assert!(asked.iter().any(|q| q == form), "{form}");
        }
        // The name itself is no section of the document.
        assert!(asked.iter().all(|q| !q.contains("under \"The Lamp House\"")));
        let asked = questions(|d| {
            d.text = d.text.replace("Keepers", "Who lived there?");
            d.headings = vec!["Who lived there?".into()];
        });
        assert!(asked.iter().any(|q| q == "Who lived there?"));
        let german = questions(|d| d.language = "de".into());
        assert!(german.iter().any(|q| q == "The Lamp House: Keepers?"));
        assert!(german.iter().all(|q| !q.contains("What") && !q.contains("Continue")));
    }

    #[test]
    fn some_dialogues_have_more_than_one_question() {
        let documents: Vec<_> = (0..60).map(document).collect();
        let made = make(&documents, 1, Limits::default());
        let longer = made.dialogues.iter().filter(|d| d.messages.len() > 2).count();
        assert!(longer >= 5 && longer * 2 < made.dialogues.len(), "{longer}");
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
