//! Sentences of a document's text: what reads as running text, where a sentence ends, and whether
//! one can stand alone as an answer. By marks and letters only, for any language that has them.
//! Not a parser: what it is unsure of it leaves together.

/// Lines that read as running text.
pub fn paragraphs(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| is_prose(line))
}

/// Ends like a sentence, is long enough to say something, is mostly letters, and begins with no
/// mark of a listing or a list.
pub fn is_prose(line: &str) -> bool {
    let line = line.trim();
    if line.starts_with(['/', '#', '*', '|', '<', '>', '$', '-', '•', '{', '@']) {
        return false;
    }
    let letters = line.chars().filter(|c| c.is_alphabetic()).count();
    let all = line.chars().filter(|c| !c.is_whitespace()).count();
    let ends = line.trim_end_matches(['"', '\'', '”', '’', '»', ')']).ends_with(is_end);
    ends && letters >= 24 && letters * 10 >= all * 7
}

fn is_end(c: char) -> bool {
    matches!(c, '.' | '!' | '?' | '…' | '。' | '！' | '？' | '।' | '؟' | '۔')
}

/// As many leading sentences as fit into `words` words and stand alone together; none if the first
/// is too long.
pub fn leading(paragraph: &str, words: usize) -> Option<String> {
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
    while !taken.is_empty() && !stands_alone(&taken.join(" ")) {
        taken.pop();
    }
    (!taken.is_empty()).then(|| taken.join(" "))
}

/// Sentences of a paragraph: an end mark with what closes after it, then white space (or a
/// full-width mark), not after an initial or a short abbreviation, nor before a small letter.
pub fn sentences(paragraph: &str) -> Vec<&str> {
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
        let goes_on = paragraph[end..].trim_start().starts_with(char::is_lowercase);
        let short = c == '.' && is_abbreviation(&paragraph[start..at]);
        if (space || wide) && !goes_on && !short {
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

/// Whether a text can stand alone: it begins as a sentence does and what is opened in it is closed.
pub fn stands_alone(text: &str) -> bool {
    let first = text.chars().find(|c| c.is_alphanumeric());
    let begins = first.is_some_and(|c| !c.is_lowercase());
    let opener = text.chars().next().is_some_and(|c| {
        c.is_alphanumeric()
            || matches!(c, '"' | '\'' | '“' | '‘' | '«' | '„' | '(' | '¿' | '¡' | '「')
    });
    let count = |c: char| text.matches(c).count();
    // German opens with the mark that English closes with, so pairs are counted as one kind.
    let closed = count('"').is_multiple_of(2)
        && (count('“') + count('”') + count('„')).is_multiple_of(2)
        && count('(') == count(')')
        && count('«') == count('»');
    begins && opener && closed
}

#[cfg(test)]
mod tests {
    use super::*;

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
        check("\"Is it?\" she asked. Yes.", &["\"Is it?\" she asked.", "Yes."]);
        check("今日は晴れ。明日も。", &["今日は晴れ。", "明日も。"]);
        check("no end", &["no end"]);
        check("... !", &[]);
        check("", &[]);
    }

    #[test]
    fn what_stands_alone() {
        for text in ["He left.", "\"Is it?\" she asked.", "“Yes.”", "(It is.)", "3 came.", "今日。"]
        {
            assert!(stands_alone(text), "{text}");
        }
        for text in ["he left.", "Bowles?\"", "- his laugh", "It is (not.", "", "Yes.”", "“Yes."]
        {
            assert!(!stands_alone(text), "{text}");
        }
    }

    #[test]
    fn listings_are_no_prose() {
        for line in [
            "// This is what the following function does for you.",
            "* A list of things that are long enough.",
        ] {
            assert!(!is_prose(line), "{line}");
        }
        assert!(is_prose("This is what the following function does for you."));
    }
}
