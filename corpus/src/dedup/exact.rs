//! When two texts are the same: their normalised forms are equal.
//!
//! Normalised: lower case, runs of anything that is no letter or digit count as one space; so
//! mirrors that differ in white space, punctuation or case are one document. Digits count: a price
//! list is not last week's price list. Not here: nearly equal texts ([`super::near`]).

use xxhash_rust::xxh3::Xxh3;

/// Hash of the normalised text.
pub fn text_hash(text: &str) -> u64 {
    let mut whole = Xxh3::new();
    let mut normal = String::new();
    for line in text.lines() {
        normal.clear();
        normalise(line, &mut normal);
        whole.update(normal.as_bytes());
    }
    whole.digest()
}

/// Appends the normal form of a line, in which each wide letter is a word.
fn normalise(line: &str, out: &mut String) {
    let mut open = false;
    for c in line.chars() {
        if !c.is_alphanumeric() {
            open = false;
            continue;
        }
        let wide = c as u32 >= 0x2e80;
        if !open || wide {
            out.push(' ');
        }
        open = !wide;
        out.extend(c.to_lowercase());
    }
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
        check("Price: 3\nSize: 4", "Price: 3\nSize: 5", false);
    }
}
