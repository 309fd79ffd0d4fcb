//! When two texts are the same: they have the same words in the same order.
//!
//! Words are those of the rules' segmentation, so mirrors that differ in white space, punctuation
//! or case are one document. Numbers are words: a price list is not last week's price list. Not
//! here: nearly equal texts ([`super::near`]).

use crate::rules::View;
use xxhash_rust::xxh3::Xxh3;

/// Hash of a text's words; 0 where there are none, which says nothing of two texts.
pub fn text_hash(view: &View) -> u64 {
    if view.words.is_empty() {
        return 0;
    }
    let mut whole = Xxh3::new();
    let mut bytes = [0; 8 * 64];
    for words in view.words.chunks(64) {
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.hash.to_le_bytes());
        }
        whole.update(&bytes[..8 * words.len()]);
    }
    whole.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(a: &str, b: &str, same: bool) {
        let hash = |text| text_hash(&View::of(text, "en", 0));
        assert_eq!(hash(a) == hash(b), same, "{a} / {b}");
    }

    #[test]
    fn what_counts_as_the_same() {
        check("A text.\n\nSecond", "a TEXT  second!", true);
        check("price 12", "price 13", false);
        check("ab c", "a bc", false);
        check("", " .", true);
        check("Price: 3\nSize: 4", "Price: 3\nSize: 5", false);
        let long: Vec<String> = (0..200).map(|n| format!("w{n}")).collect();
        check(&long.join(" "), &long.join("\n"), true);
        check(&long.join(" "), &long[..199].join(" "), false);
    }
}
