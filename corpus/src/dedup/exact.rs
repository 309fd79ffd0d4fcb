//! Exact deduplication of documents: one of those whose normalised text is the same is kept.
//!
//! Normalised: lower case, runs of anything that is no letter or digit count as one space; so
//! mirrors that differ in white space, punctuation or case are one document. Digits count, since a
//! price list is not last week's price list. Kept is the newest, at equal dates that of the
//! shortest URL, then of the smallest identity. Not here: nearly equal texts.

use super::{Row, keep_one};
use xxhash_rust::xxh3::Xxh3;

/// Hash of the normalised text.
pub fn text_hash(text: &str) -> u64 {
    let mut hasher = Xxh3::new();
    let mut word = String::new();
    for c in text.chars() {
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        } else if !word.is_empty() {
            word.push(' ');
            hasher.update(word.as_bytes());
            word.clear();
        }
    }
    if !word.is_empty() {
        word.push(' ');
        hasher.update(word.as_bytes());
    }
    hasher.digest()
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
