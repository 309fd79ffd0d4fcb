//! The byte-level alphabet: 256 printable characters that stand for the 256 bytes wherever a
//! token is written as text (GPT-2's scheme, which `tokenizer.json` uses). Not here: tokens.

use std::sync::LazyLock;

static FORWARD: LazyLock<[char; 256]> = LazyLock::new(|| {
    // Bytes that print keep their character; the others take the code points from 256 up, in order.
    let prints = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut next = 256_u32;
    std::array::from_fn(|b| {
        let b = b as u8;
        if prints(b) {
            return char::from(b);
        }
        next += 1;
        char::from_u32(next - 1).unwrap_or(char::REPLACEMENT_CHARACTER)
    })
});

static BACKWARD: LazyLock<[Option<u8>; 324]> = LazyLock::new(|| {
    let mut table = [None; 324];
    for (byte, c) in FORWARD.iter().enumerate() {
        table[*c as usize] = Some(byte as u8);
    }
    table
});

/// Bytes as text in the alphabet.
#[must_use]
pub fn spell(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| FORWARD[b as usize]).collect()
}

/// The bytes that a text in the alphabet stands for; `None` where a character is outside it.
#[must_use]
pub fn unspell(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|c| BACKWARD.get(c as usize).copied().flatten()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_returns() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unspell(&spell(&all)), Some(all));
        assert_eq!(spell(b" hi\n"), "\u{120}hi\u{10a}");
        assert_eq!(unspell("a b"), None, "a blank is no letter of the alphabet");
        assert_eq!(unspell("\u{4e00}"), None);
    }
}
