//! What kind of character each is, as segmentation and the language identifier ask: one table
//! look-up a character.
//!
//! The table is filled once from the standard library's Unicode data, for the basic plane; beyond
//! it the library is asked. Not here: what a word is.

use std::sync::LazyLock;

/// A letter or digit.
pub(crate) const WORD: u8 = 1;
/// An ASCII digit.
pub(crate) const DIGIT: u8 = 2;
/// A mark that continues a word without being a letter of it.
pub(crate) const MARK: u8 = 4;
/// Of a script without spaces between words.
pub(crate) const UNSPACED: u8 = 8;
/// White space.
pub(crate) const SPACE: u8 = 16;
/// An ornament: neither letter, digit, space nor ordinary punctuation.
pub(crate) const SYMBOL: u8 = 32;
/// A letter (no digit).
pub(crate) const ALPHA: u8 = 64;
/// A digit or another number of any script.
pub(crate) const NUMBER: u8 = 128;

/// Classes of ASCII bytes; 0 from 0x80 on, which ends every run that stays in ASCII.
pub(crate) static ASCII: [u8; 256] = ascii();

const fn ascii() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        let b = byte as u8;
        table[byte] = match b {
            b'0'..=b'9' => WORD | DIGIT | NUMBER,
            b'a'..=b'z' | b'A'..=b'Z' => WORD | ALPHA,
            b'\t'..=b'\r' | b' ' => SPACE,
            b'#' | b'*' | b'~' | b'^' | b'_' | b'|' | b'\\' | b'{' | b'}' | b'<' | b'>' | b'='
            | b'@' | b'+' | b'`' | b'$' | b'&' => SYMBOL,
            _ => 0,
        };
        byte += 1;
    }
    table
}

/// Class and simple lower-case form of each character of the basic plane; 0 for the latter where
/// it is not one character of that plane.
static PLANE: LazyLock<Vec<(u16, u8)>> = LazyLock::new(|| {
    let entry = |code: u32| char::from_u32(code).map_or((0, 0), |c| (plane_lower(c), of(c)));
    (0..0x1_0000).map(entry).collect()
});

fn plane_lower(c: char) -> u16 {
    let mut form = c.to_lowercase();
    match (form.next(), form.next()) {
        (Some(one), None) => u16::try_from(u32::from(one)).unwrap_or(0),
        _ => 0,
    }
}

fn of(c: char) -> u8 {
    let bit = |yes: bool, class: u8| if yes { class } else { 0 };
    bit(c.is_alphanumeric(), WORD)
        | bit(c.is_alphabetic(), ALPHA)
        | bit(c.is_ascii_digit(), DIGIT)
        | bit(c.is_numeric(), NUMBER)
        | bit(is_mark(c), MARK)
        | bit(is_unspaced(c), UNSPACED)
        | bit(c.is_whitespace(), SPACE)
        | bit(is_symbol(c), SYMBOL)
}

/// The class of a character.
pub(crate) fn class(c: char) -> u8 {
    PLANE.get(c as usize).map_or_else(|| of(c), |entry| entry.1)
}

/// The lower-case form of a character of the basic plane, where that is one character of it.
#[inline]
pub(crate) fn lower(c: char) -> Option<char> {
    let entry = PLANE.get(c as usize).filter(|entry| entry.0 != 0)?;
    char::from_u32(u32::from(entry.0))
}

/// Appends a character in lower case; the typographic apostrophe becomes the plain one, so that a
/// word is the same word in either spelling.
pub(crate) fn push_lower(c: char, into: &mut String) {
    if c == '’' {
        return into.push('\'');
    }
    match lower(c) {
        Some(one) => into.push(one),
        None => into.extend(c.to_lowercase()),
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

fn is_symbol(c: char) -> bool {
    if c.is_ascii() {
        return ASCII[c as usize] & SYMBOL != 0;
    }
    matches!(c, '…' | '\u{2190}'..='\u{27bf}' | '\u{1f000}'..='\u{1faff}' | '\u{fffd}' | '•' | '·')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ascii_table_says_what_the_plane_says() {
        for byte in 0..128u8 {
            // The library's white space leaves out no ASCII one; the two tables are one thing.
            assert_eq!(ASCII[usize::from(byte)], of(char::from(byte)), "{byte}");
            assert_eq!(class(char::from(byte)), of(char::from(byte)), "{byte}");
        }
    }

    fn check(c: char, expected: &str) {
        let mut found = String::new();
        push_lower(c, &mut found);
        assert_eq!(found, expected);
    }

    #[test]
    fn lower_case() {
        check('Ä', "ä");
        check('İ', "i̇"); // two characters
        check('’', "'");
        check('Щ', "щ");
        check('\u{10400}', "\u{10428}"); // beyond the basic plane
    }
}
