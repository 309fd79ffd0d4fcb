//! Exact deduplication of documents: one of those whose normalised text is the same is kept.
//!
//! Normalised: lower case, runs of anything that is no letter or digit count as one space; so
//! mirrors that differ in white space, punctuation or case are one document. Where two words of
//! five stand in lines of at least 8, the shorter lines (bylines, dates, buttons) do not count,
//! since mirrors change those. Digits count: a price list is not last week's price list. Kept is
//! the newest, at equal dates that of the shortest URL, then of the smallest identity. Not here:
//! nearly equal texts.

use super::{Row, keep_one};
use xxhash_rust::xxh3::Xxh3;

/// Words from which a line is part of the body.
const BODY_LINE: usize = 8;
/// Share of the words that must stand in such lines for the others not to count.
const BODY_SHARE: f32 = 0.4;

/// Hash of the normalised text: of its body, where it has one.
pub fn text_hash(text: &str) -> u64 {
    let (mut body, mut whole) = (Xxh3::new(), Xxh3::new());
    let (mut body_words, mut words) = (0, 0);
    let mut normal = String::new();
    for line in text.lines() {
        normal.clear();
        let count = normalise(line, &mut normal);
        words += count;
        whole.update(normal.as_bytes());
        if count >= BODY_LINE {
            body_words += count;
            body.update(normal.as_bytes());
        }
    }
    let bodily = body_words as f32 > words as f32 * BODY_SHARE;
    if bodily { body.digest() } else { whole.digest() }
}

/// Appends the normal form of a line; returns its words, each wide letter being one.
fn normalise(line: &str, out: &mut String) -> usize {
    let mut words = 0;
    let mut open = false;
    for c in line.chars() {
        if !c.is_alphanumeric() {
            open = false;
            continue;
        }
        let wide = c as u32 >= 0x2e80;
        if !open || wide {
            words += 1;
            out.push(' ');
        }
        open = !wide;
        out.extend(c.to_lowercase());
    }
    words
}

/// For each row the one that is kept instead; rows without text are never duplicates.
pub fn duplicates(rows: &[Row], alive: &[bool]) -> Vec<Option<u32>> {
    let alive: Vec<bool> = rows.iter().zip(alive).map(|(r, a)| *a && r.bytes > 0).collect();
    keep_one(
        rows,
        &alive,
        |r| r.text,
        |a, b| {
            let key = |r: &Row| (std::cmp::Reverse(r.date), r.url_length, r.id);
            key(a) < key(b)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(a: &str, b: &str, same: bool) {
        assert_eq!(text_hash(a) == text_hash(b), same, "{a} / {b}");
    }

    #[test]
    fn what_counts_as_the_same() {
        check("A text.\n\nSecond", "a TEXT  second!", true);
        check("price 12", "price 13", false);
        check("ab c", "a bc", false);
        check("", " .", true);
        let body = "The harbour lay in the shadow of the hills when the first boats came back.";
        check(&format!("By A. Writer on 3 May\n{body}"), &format!("{body}\nShare this"), true);
        check(&format!("Price: 3\nSize: 4\n{body}"), body, true);
        check("Price: 3\nSize: 4", "Price: 3\nSize: 5", false);
    }

    #[test]
    fn the_newest_is_kept_then_the_shortest_url() {
        let row = |id, text, date, url_length| Row {
            id,
            text,
            date,
            url_length,
            bytes: 9,
            ..Row::default()
        };
        let rows = [row(1, 7, 5, 9), row(2, 7, 6, 20), row(3, 7, 6, 10), row(4, 8, 0, 0)];
        assert_eq!(duplicates(&rows, &[true; 4]), [Some(2), Some(2), None, None]);
        assert_eq!(duplicates(&rows, &[true, true, false, true]), [Some(1), None, None, None]);
    }
}
