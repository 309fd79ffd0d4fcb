//! A small set of words, each with a number, asked by the hash that segmentation has made already.
//!
//! Open addressing over the hash's low bits, a quarter full, so that most questions cost one look.
//! Not here: which words; the rules have those.

use super::view::word_hash;

/// Words by hash.
#[derive(Clone, Debug, Default)]
pub(super) struct Lexicon {
    slots: Vec<(u64, u32)>,
}

impl Lexicon {
    /// A set of hashes with their numbers; of a hash that comes twice the first stays.
    pub(super) fn new(entries: &[(u64, u32)]) -> Lexicon {
        let mut lexicon = Lexicon { slots: vec![(0, 0); (entries.len() * 4).next_power_of_two()] };
        for &(hash, number) in entries {
            let mask = lexicon.slots.len() - 1;
            let mut at = hash as usize & mask;
            while lexicon.slots[at].0 != 0 && lexicon.slots[at].0 != hash.max(1) {
                at = (at + 1) & mask;
            }
            if lexicon.slots[at].0 == 0 {
                lexicon.slots[at] = (hash.max(1), number);
            }
        }
        lexicon
    }

    /// The words of a list separated by white space, all with one number.
    pub(super) fn of_words(words: &str, number: u32) -> Lexicon {
        let hash = |word| (word_hash(word), number);
        Lexicon::new(&words.split_whitespace().map(hash).collect::<Vec<_>>())
    }

    /// The number of a word.
    #[inline]
    pub(super) fn get(&self, hash: u64) -> Option<u32> {
        let (hash, mask) = (hash.max(1), self.slots.len().wrapping_sub(1));
        let mut at = hash as usize & mask;
        loop {
            match self.slots.get(at) {
                Some(&(found, number)) if found == hash => return Some(number),
                Some(&(found, _)) if found != 0 => at = (at + 1) & mask,
                _ => return None,
            }
        }
    }

    pub(super) fn has(&self, hash: u64) -> bool {
        self.get(hash).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_is_found_and_nothing_else() {
        let entries: Vec<(u64, u32)> = (0..200u32).map(|n| (u64::from(n) * 256, n)).collect();
        let lexicon = Lexicon::new(&entries);
        for (hash, number) in &entries[1..] {
            assert_eq!(lexicon.get(*hash), Some(*number));
            assert_eq!(lexicon.get(hash + 1), None);
        }
        assert_eq!(Lexicon::default().get(7), None);
        assert_eq!(Lexicon::new(&[]).get(7), None);
        let words = Lexicon::of_words("the of\nund", 3);
        assert_eq!(words.get(word_hash("UND")), Some(3));
        assert!(!words.has(word_hash("oder")));
    }
}
