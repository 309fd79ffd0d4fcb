//! Plain text and Markdown files as pages: one file is one document, or a book in pieces.
//!
//! Lines that were broken at a fixed width are joined again, Markdown markers are taken out
//! (`super::markdown`), and what is longer than a piece is split at chapter headings, then at
//! paragraphs; each piece has a title. Not here: whether it is worth keeping.

use super::markdown;
use super::{Body, Found, Input, Page, Stream};
use crate::remote::Access;
use crate::warc::{Form, Inflated};
use crate::{Error, encoding};
use quipu_documents::Document;
use std::borrow::Cow;
use std::collections::HashSet;
use std::io::Read;
use std::ops::Range;

/// Bytes of a text file that are read; the rest is refused with the file.
pub const MAX_TEXT: usize = 256 << 20;
/// A chapter shorter than this goes with the next: a list of contents is no chapter.
const MIN_CHAPTER: usize = 400;
/// Longest line that can be a heading.
const MAX_HEADING: usize = 80;

pub(super) fn open(
    input: &Input,
    piece_bytes: usize,
    markdown: bool,
    access: &Access,
) -> Result<Stream, Error> {
    let path = &input.path;
    let file = input.file(access, u64::MAX)?;
    let mut bytes = Vec::new();
    // Here the limit is of the text, whatever it was packed into.
    let inflated = Inflated::range(file, 0, u64::MAX, Form { lines: true, ..Form::default() });
    let read = inflated.take(MAX_TEXT as u64 + 1).read_to_end(&mut bytes);
    let url = input.called();
    let one = |body| {
        let (position, name) = (url.clone(), url.clone());
        Found::Page(Page { position, name, url: url.clone(), date: None, body })
    };
    let refused = match read {
        Err(e) if !crate::warc::is_damage(&e) => return Err(Error::io(path)(e)),
        Err(e) => Some(Body::Refused("truncated", e.to_string())),
        Ok(_) if bytes.len() > MAX_TEXT => {
            Some(Body::Refused("page-too-large", format!("more than {MAX_TEXT} bytes")))
        }
        Ok(_) => None,
    };
    if let Some(body) = refused {
        return Ok(Box::new(std::iter::once(Ok(one(body)))));
    }
    let text = encoding::decode(&bytes, None);
    let stem = title_of_name(&url);
    let pieces = pieces(&text, &stem, piece_bytes, markdown);
    let many = pieces.len() > 1;
    let found: Vec<_> = pieces
        .into_iter()
        .enumerate()
        .map(|(n, piece)| {
            let position = if many { format!("{url}#{n}") } else { url.clone() };
            let Piece { title, headings, text } = piece;
            let scores = vec![(super::OWN_LINES.to_owned(), 1.0)];
            let document = Document { title, headings, text, scores, ..Document::default() };
            let (name, url) = (position.clone(), position.clone());
            let body = Body::Document(Box::new(document));
            Ok(Found::Page(Page { position, name, url, date: None, body }))
        })
        .collect();
    Ok(Box::new(found.into_iter()))
}

/// `Doyle_Lost_1912.txt` → `Doyle Lost 1912`.
fn title_of_name(url: &str) -> String {
    let name = url.rsplit('/').next().unwrap_or(url);
    let name = name.strip_suffix(".gz").or(name.strip_suffix(".zst")).unwrap_or(name);
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    stem.replace(['_', '-'], " ").trim().to_owned()
}

/// A part of a text with its title.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Piece {
    /// Title of the text and of the chapter.
    pub title: String,
    /// Headings that stand in it.
    pub headings: Vec<String>,
    /// Its text.
    pub text: String,
}

/// Splits a text into pieces of at most about `size` bytes, with `name` as title where the text
/// has none.
pub fn pieces(text: &str, name: &str, size: usize, markdown: bool) -> Vec<Piece> {
    let text = match text.contains('\r') {
        true => Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n")),
        false => Cow::Borrowed(text),
    };
    let text = text.trim_start_matches('\u{feff}');
    let (plain, title, headings) = if markdown {
        let stripped = markdown::strip(text);
        (stripped.text, stripped.title, stripped.headings)
    } else {
        (unwrap(text), None, Vec::new())
    };
    let whole = title.or_else(|| first_title(&plain)).unwrap_or_else(|| name.to_owned());
    if markdown && plain.len() <= size.saturating_mul(4) {
        return vec![Piece { title: whole, headings, text: plain.trim().to_owned() }];
    }
    let known: HashSet<&str> = headings.iter().map(String::as_str).collect();
    let is_heading = |line: &str| if markdown { known.contains(line) } else { is_chapter(line) };
    let mut pieces = Vec::new();
    for (chapter, body) in chapters(&plain, is_heading) {
        let title = match &chapter {
            Some(chapter) if *chapter != whole => format!("{whole}, {chapter}"),
            _ => whole.clone(),
        };
        let parts = split(body, size);
        let many = parts.len() > 1;
        for (n, text) in parts.into_iter().enumerate() {
            let title = if many { format!("{title}, part {}", n + 1) } else { title.clone() };
            let lines = text.lines().filter(|line| known.contains(line));
            let mut inside: Vec<String> = lines.map(str::to_owned).collect();
            inside.dedup();
            if let Some(chapter) = &chapter
                && !inside.contains(chapter)
                && text.lines().any(|line| line == chapter)
            {
                inside.push(chapter.clone());
            }
            pieces.push(Piece { title, headings: inside, text });
        }
    }
    pieces
}

/// Joins lines that were broken at a fixed width, where the text as a whole looks like that.
fn unwrap(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let followed =
        || lines.windows(2).filter(|w| !w[0].trim().is_empty() && !w[1].trim().is_empty());
    let total = followed().count();
    let full = |line: &str| (45..=95).contains(&line.chars().count());
    let wrapped = followed().filter(|w| full(w[0])).count();
    let longest = lines.iter().map(|l| l.chars().count()).max().unwrap_or(0);
    if total < 20 || wrapped * 10 < total * 7 || longest > 200 {
        return lines.join("\n");
    }
    let mut out = String::with_capacity(text.len());
    for (n, line) in lines.iter().enumerate() {
        let next = lines.get(n + 1).copied().unwrap_or_default();
        out.push_str(if out.ends_with('\n') || out.is_empty() { line } else { line.trim_start() });
        // A short line ended where its writer ended it: verse, an address, a heading.
        let indented = next.starts_with("  ");
        let joins = full(line) && !next.trim().is_empty() && !indented;
        out.push(if joins { ' ' } else { '\n' });
    }
    out
}

/// The first line, where it stands alone and is short: the title of a book.
fn first_title(text: &str) -> Option<String> {
    let mut lines = text.trim_start().lines();
    let first = lines.next()?.trim();
    let alone = lines.next().is_none_or(|l| l.trim().is_empty());
    let titled = alone && (2..=60).contains(&first.chars().count()) && !first.ends_with('.');
    (titled && !is_chapter(first)).then(|| first.to_owned())
}

/// `CHAPTER IV`, `Book the First`, `XII.`
fn is_chapter(line: &str) -> bool {
    let line = line.trim();
    if line.is_empty() || line.len() > MAX_HEADING {
        return false;
    }
    let mut words = line.split(|c: char| c.is_whitespace() || ".:-—".contains(c));
    let first = words.next().unwrap_or_default();
    let second = words.find(|w| !w.is_empty()).unwrap_or_default();
    let roman = |w: &str| w.len() <= 8 && !w.is_empty() && w.chars().all(|c| "IVXLC".contains(c));
    let named = ["chapter", "book", "part", "volume", "kapitel", "chapitre", "letter"];
    if named.contains(&first.to_lowercase().as_str()) {
        let numbers = ["the", "one", "two", "three", "four", "first", "second", "third", "last"];
        let number = second.parse::<u32>().is_ok() || roman(&second.to_uppercase());
        return number || numbers.contains(&second.to_lowercase().as_str());
    }
    let rest = line.trim_end_matches('.');
    roman(rest) || (rest.len() <= 3 && rest.parse::<u32>().is_ok_and(|n| n > 0))
}

/// Chapters with their headings, as parts of a text whose lines end with `\n`; what stands before the
/// first has none.
fn chapters(text: &str, is_heading: impl Fn(&str) -> bool) -> Vec<(Option<String>, &str)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut out: Vec<(Option<String>, Range<usize>)> = Vec::new();
    let (mut heading, mut start, mut at) = (None, 0, 0);
    for (n, line) in lines.iter().enumerate() {
        let alone = n == 0 || lines[n - 1].trim().is_empty();
        if alone && is_heading(line.trim()) {
            if text[start..at].trim().len() >= MIN_CHAPTER {
                out.push((heading.take(), start..at));
                start = at;
            }
            heading = Some(chapter_title(&lines[n..]));
        }
        at += line.len() + 1;
    }
    let rest = text[start..].trim().len();
    match out.last_mut() {
        _ if rest == 0 => {}
        Some(last) if rest < MIN_CHAPTER => last.1.end = text.len(),
        _ => out.push((heading, start..text.len())),
    }
    out.into_iter().map(|(heading, range)| (heading, &text[range])).collect()
}

/// `CHAPTER I`, and the name of the chapter where it stands alone below.
fn chapter_title(lines: &[&str]) -> String {
    let heading = lines[0].trim().trim_end_matches('.');
    let below = lines.get(2).copied().unwrap_or_default().trim();
    let blank = |n: usize| lines.get(n).is_none_or(|l| l.trim().is_empty());
    let named = blank(1) && blank(3) && !below.is_empty() && below.len() <= MAX_HEADING;
    let sentence = below.ends_with(['.', ',', ';']);
    if named && !sentence {
        format!("{heading}: {}", below.trim_matches('"'))
    } else {
        heading.into()
    }
}

/// Splits at blank lines, else at line ends, else at sentences, into parts of at most about
/// `size` bytes and of about the same length.
fn split(text: &str, size: usize) -> Vec<String> {
    let text = text.trim();
    if text.len() <= size + size / 4 {
        return vec![text.to_owned()];
    }
    let count = text.len().div_ceil(size);
    let target = text.len() / count;
    let separator = if text.contains("\n\n") { "\n\n" } else { "\n" };
    let (mut out, mut part) = (Vec::new(), String::new());
    for paragraph in text.split(separator).flat_map(|p| shorter(p, size)) {
        if !part.is_empty() && part.len() + paragraph.len() / 2 > target {
            out.push(std::mem::take(&mut part));
        }
        if !part.is_empty() {
            part.push_str(separator);
        }
        part.push_str(paragraph);
    }
    out.push(part);
    out.into_iter().map(trimmed).filter(|p| !p.is_empty()).collect()
}

/// A text without the white space around it, in the same memory.
fn trimmed(mut text: String) -> String {
    text.truncate(text.trim_end().len());
    text.drain(..text.len() - text.trim_start().len());
    text
}

/// A paragraph longer than a piece, cut behind sentences or, failing that, anywhere.
fn shorter(paragraph: &str, size: usize) -> Vec<&str> {
    let (mut rest, mut out) = (paragraph, Vec::new());
    while rest.len() > size + size / 4 {
        let mut end = size;
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let sentence = rest[..end].rfind(". ").or(rest[..end].rfind(' '));
        let cut = sentence.filter(|at| *at > size / 2).map_or(end, |at| at + 1);
        let (head, tail) = rest.split_at(cut);
        out.push(head);
        rest = tail;
    }
    out.push(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, size: usize, expected: &[(&str, usize)]) {
        let found = pieces(text, "file name", size, false);
        let found: Vec<(&str, usize)> =
            found.iter().map(|p| (p.title.as_str(), p.text.lines().count())).collect();
        assert_eq!(found, expected);
    }

    fn paragraph(words: usize) -> String {
        "word ".repeat(words).trim().to_owned()
    }

    #[test]
    fn a_short_text_is_one_document() {
        check("Just words.\nMore.", 12_000, &[("file name", 2)]);
        check("The Title\n\nJust words.\nMore.", 12_000, &[("The Title", 4)]);
    }

    #[test]
    fn a_book_is_split_at_chapters_and_then_at_paragraphs() {
        let body = paragraph(100);
        let book = format!(
            "The Book\n\nCHAPTER I\n\nA Beginning\n\n{body}\n\nCHAPTER II\n\n{body}\n\n{body}\n\n\
             {body}\n"
        );
        check(
            &book,
            1000,
            &[
                ("The Book, CHAPTER I: A Beginning", 7),
                ("The Book, CHAPTER II, part 1", 3),
                ("The Book, CHAPTER II, part 2", 3),
            ],
        );
    }

    #[test]
    fn fixed_width_lines_are_joined_and_verse_is_not() {
        let line = "a line that was broken at a width of about seventy characters or so";
        let prose = format!("{}\n\n", [line; 10].join("\n")).repeat(3);
        let verse = "Tyger Tyger, burning bright,\nIn the forests of the night\n";
        let found = pieces(&format!("{prose}{verse}"), "n", 12_000, false);
        assert_eq!(found[0].text.lines().count(), 3 + 3 + 2);
        let dialogue = "\"Yes.\"\n\"No.\"\n".repeat(40);
        assert_eq!(unwrap(&dialogue).lines().count(), 80);
    }

    #[test]
    fn headings_of_chapters() {
        for line in ["CHAPTER I", "Chapter 12. The Sea", "BOOK THE FIRST", "XIV.", "3"] {
            assert!(is_chapter(line), "{line}");
        }
        for line in ["Chapter and verse", "book a table", "I", "It was", ""] {
            assert_eq!(is_chapter(line), line == "I", "{line}");
        }
    }

    #[test]
    fn endless_paragraphs_are_cut() {
        for text in [paragraph(4000), "x".repeat(20_000), "é".repeat(10_000)] {
            let found = pieces(&text, "n", 3000, false);
            assert!(found.len() >= 5 && found.iter().all(|p| p.text.len() <= 4000));
        }
    }
}
