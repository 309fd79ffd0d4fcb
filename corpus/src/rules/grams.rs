//! Word sequences that a text repeats: counted over the words' hashes, never over strings.
//!
//! The hash of a sequence of n words is a polynomial of their hashes, rolled on by one word in
//! three operations. One open-addressing table a thread is used again for every text. What holds
//! for short sequences bounds the long ones, which the rules use to skip work without changing a
//! result: a word in a repeated 10-gram is in a repeated 5-gram too, and a 3-gram or 4-gram has at
//! most the letters of two 2-grams at a time. Not here: thresholds.

use super::view::Word;
use std::cell::RefCell;

/// Odd, and without structure in binary: the base of the polynomial.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;
/// Slots above which a table is given back rather than kept for the next text.
const KEEP: usize = 1 << 21;

/// Keys with counts; key 0 marks a free slot.
#[derive(Default)]
pub(super) struct Table {
    slots: Vec<(u64, u32)>,
    shift: u32,
}

thread_local! {
    static TABLE: RefCell<Table> = RefCell::new(Table::default());
}

/// Lends the thread's table, empty, with room for `most` different keys.
pub(super) fn with_table<T>(most: usize, work: impl FnOnce(&mut Table) -> T) -> T {
    TABLE.with_borrow_mut(|table| {
        table.clear(most);
        let result = work(table);
        if table.slots.capacity() > KEEP {
            table.slots = Vec::new();
        }
        result
    })
}

impl Table {
    /// Empties it for `most` different keys, which fill half of it at most.
    pub(super) fn clear(&mut self, most: usize) {
        let slots = (most.max(8) * 2).next_power_of_two();
        self.slots.clear();
        self.slots.resize(slots, (0, 0));
        self.shift = 64 - slots.trailing_zeros();
    }

    /// The count of a key, from 0 where it was not there.
    #[inline]
    pub(super) fn count(&mut self, key: u64) -> &mut u32 {
        let key = key.max(1);
        let mask = self.slots.len() - 1;
        let mut at = (key >> self.shift) as usize;
        loop {
            let found = self.slots[at & mask].0;
            if found == key || found == 0 {
                let slot = &mut self.slots[at & mask];
                slot.0 = key;
                return &mut slot.1;
            }
            at += 1;
        }
    }

    /// The count of a key that may not be there.
    #[inline]
    pub(super) fn get(&self, key: u64) -> u32 {
        let key = key.max(1);
        let mask = self.slots.len() - 1;
        let mut at = (key >> self.shift) as usize;
        loop {
            let (found, count) = self.slots[at & mask];
            if found == key || found == 0 {
                return count;
            }
            at += 1;
        }
    }
}

/// Calls `each` with the number of the first word and the hash of every sequence of `n`.
#[inline]
pub(super) fn each_gram(
    hashes: impl Iterator<Item = u64> + Clone,
    n: usize,
    mut each: impl FnMut(usize, u64),
) {
    let last = (1..n).fold(1u64, |power, _| power.wrapping_mul(BASE));
    let mut leaving = hashes.clone();
    let mut gram = 0u64;
    for (at, hash) in hashes.enumerate() {
        gram = gram.wrapping_mul(BASE).wrapping_add(hash);
        if at + 1 >= n {
            each(at + 1 - n, gram);
            let first = leaving.next().unwrap_or(0);
            gram = gram.wrapping_sub(first.wrapping_mul(last));
        }
    }
}

fn letters(words: &[Word]) -> u32 {
    words.iter().map(|w| u32::from(w.chars)).sum()
}

/// Letters of the words that stand in a sequence of `n` which stood before.
pub(super) fn covered(words: &[Word], n: usize) -> u32 {
    with_table(words.len(), |table| {
        let (mut sum, mut until) = (0, 0);
        each_gram(words.iter().map(|w| w.hash), n, |at, gram| {
            let seen = table.count(gram);
            if *seen > 0 {
                sum += letters(&words[at.max(until)..at + n]);
                until = at + n;
            }
            *seen = 1;
        });
        sum
    })
}

/// Letters in all occurrences of the sequence of `n` that covers most of the text, among those that
/// occur three times or more.
pub(super) fn most_frequent(words: &[Word], n: usize) -> u32 {
    with_table(words.len(), |table| {
        let mut most = 0;
        each_gram(words.iter().map(|w| w.hash), n, |at, gram| {
            let count = table.count(gram);
            *count += 1;
            if *count > 2 {
                most = most.max(count.saturating_mul(letters(&words[at..at + n])));
            }
        });
        most
    })
}

#[cfg(test)]
mod tests {
    use super::super::View;
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn coverage_counts_each_word_once() {
        let view = View::of("a b c a b c a b c", "en", 1);
        assert_eq!(covered(&view.words, 2), 6);
        assert_eq!(most_frequent(&view.words, 2), 6);
        assert_eq!(covered(&view.words, 20), 0);
        assert_eq!(covered(&[], 2), 0);
    }

    /// The same by strings and a plain map.
    fn by_strings(view: &View, n: usize) -> (u32, u32) {
        let words: Vec<&str> = view.words.iter().map(|w| view.word(w)).collect();
        let (mut counts, mut until, mut sum) = (HashMap::<&[&str], u32>::new(), 0, 0);
        for (at, gram) in words.windows(n).enumerate() {
            let count = counts.entry(gram).or_default();
            if *count > 0 {
                sum += words[at.max(until)..at + n].iter().map(|w| w.len() as u32).sum::<u32>();
                until = at + n;
            }
            *count += 1;
        }
        let size = |gram: &[&str]| gram.iter().map(|w| w.len() as u32).sum::<u32>();
        let most = counts.iter().filter(|(_, c)| **c > 2).map(|(gram, c)| size(gram) * c).max();
        (sum, most.unwrap_or(0))
    }

    #[test]
    fn hashes_find_what_strings_find_and_the_bounds_hold() {
        let mut state = 5u64;
        let mut next = |most: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % most
        };
        for vocabulary in [2, 3, 9, 40, 500] {
            let text: Vec<String> = (0..600)
                .map(|_| {
                    "abcdefgh"[..1 + next(8) as usize].repeat(1 + next(vocabulary) as usize % 7)
                })
                .collect();
            let text = text.join(" ");
            let view = View::of(&text, "en", 1);
            let mut before = u32::MAX;
            for n in 2..12 {
                let found = (covered(&view.words, n), most_frequent(&view.words, n));
                assert_eq!(found, by_strings(&view, n), "{n} of {vocabulary}");
                assert!(found.0 <= before, "a longer sequence covers no more");
                before = found.0;
            }
            let two = most_frequent(&view.words, 2);
            assert!(most_frequent(&view.words, 3).max(most_frequent(&view.words, 4)) <= 2 * two);
        }
    }
}
