//! The character n-grams of a text, as hashes.
//!
//! Words are in lower case between boundary marks; Han, kana and Hangul characters count alone and
//! in pairs. Digits and punctuation are no part of a language. Not here: what the grams weigh.

use crate::classes::{self, ALPHA};

/// Buckets of gram hashes.
pub(super) const BUCKETS: usize = 1 << 15;
/// Longest gram, in characters.
const LONGEST: usize = 4;
const MARK: char = ' ';
/// Characters after which a word is cut.
const WORD: usize = 64;

fn is_wide(c: char) -> bool {
    c >= '\u{0e00}'
        && matches!(c, '\u{1100}'..='\u{11ff}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}'
            | '\u{ac00}'..='\u{d7af}' | '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}'
            | '\u{1780}'..='\u{17ff}')
}

/// The bucket of a gram, from the hash of its characters so far.
fn bucket(h: u64, length: usize) -> u16 {
    // The low bits of this product see only low bits of the characters: fold the high ones in.
    let h = h ^ (length as u64) << 56;
    let h = (h ^ (h >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((h >> 40) as usize % BUCKETS) as u16
}

/// Whether a mark belongs to the letters before it (Indic vowel signs, accents).
fn joins(c: char) -> bool {
    matches!(c, '\u{0300}'..='\u{036f}' | '\u{0591}'..='\u{05c7}' | '\u{064b}'..='\u{065f}'
        | '\u{0900}'..='\u{0dff}' | '\u{0e31}'..='\u{0e4e}')
}

/// Calls `each` with the bucket of every gram, and whether it is a long one: three characters or
/// more, or two wide ones. Short grams say which script a text is in, long ones which language.
pub(super) fn each(text: &str, mut each: impl FnMut(u16, bool)) {
    let mut word = Vec::with_capacity(WORD + LONGEST);
    word.push(MARK);
    for c in text.chars().chain(std::iter::once(' ')) {
        if classes::class(c) & ALPHA != 0 || (word.len() > 1 && joins(c)) {
            match classes::lower(c) {
                Some(one) => word.push(one),
                None => word.extend(c.to_lowercase()),
            }
            if word.len() < WORD {
                continue;
            }
        }
        if word.len() > 1 {
            word.push(MARK);
            grams(&word, &mut each);
            word.truncate(1);
        }
    }
}

fn grams(word: &[char], each: &mut impl FnMut(u16, bool)) {
    for start in word.array_windows::<LONGEST>() {
        begin(*start, each);
    }
    // The last characters begin shorter grams.
    if let [.., a, b, c] = *word {
        begin([a, b, c], each);
    }
    if let [.., b, c] = *word {
        begin([b, c], each);
    }
}

/// The grams that begin with the first of these characters.
#[inline(always)]
fn begin<const N: usize>(chars: [char; N], each: &mut impl FnMut(u16, bool)) {
    let wide = is_wide(chars[0]);
    let mut h = 0xcbf2_9ce4_8422_2325u64;
    for (n, c) in chars.into_iter().enumerate() {
        if wide && n == 2 {
            break;
        }
        h = (h ^ u64::from(u32::from(c))).wrapping_mul(0x0000_0100_0000_01b3);
        if n > 0 || c != MARK {
            each(bucket(h, n + 1), n >= 2 || (wide && n == 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: usize) {
        let mut count = 0;
        each(text, |_, _| count += 1);
        assert_eq!(count, expected, "{text}");
    }

    #[test]
    fn grams_of_words() {
        check("", 0);
        check("12 ?!", 0);
        check("a", 4); // " a", " a ", "a", "a "
        check("ab", 3 + 3 + 2);
        check("日本", 3 + 2 + 2); // grams that begin with a wide character end at two
        check(&"a".repeat(100), 4 * 63 + 4 * 37);
    }
}
