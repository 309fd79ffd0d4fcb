//! The words and labels of a fastText model, and which rows of its matrix a text sums.
//!
//! A text is its words, their character n-grams and its word n-grams; the n-grams are rows of a
//! hash table behind the words. The hash is FNV-1a over signed bytes, and a hash of 32 bits is
//! extended with its sign before word n-grams are mixed: two accidents of the original that every
//! trained model depends on. Subwords are computed when a word is seen, not stored: a model of 1.6
//! GB needs nothing besides its file. Not here: what the rows hold.

use super::cursor::Cursor;
use std::collections::HashMap;

/// The mark that stands for the end of a line.
const END: &[u8] = b"</s>";
/// What labels begin with.
pub(in super::super) const LABEL: &str = "__label__";
/// Bytes of an entry that has an empty word: NUL, count, type.
const SMALLEST_ENTRY: usize = 10;
/// Longest character n-gram that is believed; the paper's models have 4 to 6.
const LONGEST_SUBWORD: usize = 64;
/// Longest word n-gram that is believed, in words; models have 1 to 5. A text costs its words times
/// this.
const LONGEST_WORD_GRAM: usize = 64;

/// What of a model's arguments reading a text depends on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Grams {
    pub word_grams: usize,
    pub buckets: usize,
    pub shortest: usize,
    pub longest: usize,
}

/// Words first, then labels.
pub(super) struct Dictionary {
    grams: Grams,
    /// Where each word stands in the file.
    words: Vec<(usize, u32)>,
    /// Open addressing: number of the word plus one.
    table: Vec<u32>,
    /// Labels without their prefix.
    pub labels: Vec<String>,
    /// How often each label stood in the training texts: the tree of the hierarchical softmax.
    pub counts: Vec<i64>,
    /// Where kept n-grams stand in a pruned model.
    pruned: Option<HashMap<u32, u32>>,
}

impl Dictionary {
    pub fn read(cursor: &mut Cursor, file: &[u8], grams: Grams) -> Result<Dictionary, String> {
        let size = cursor.count32("the number of entries")?;
        let words = cursor.count32("the number of words")?;
        let labels = cursor.count32("the number of labels")?;
        cursor.i64("the number of tokens")?;
        let pruned = cursor.i64("the number of kept n-grams")?;
        if words.checked_add(labels) != Some(size) {
            return Err(format!("{size} entries are not {words} words and {labels} labels"));
        }
        if size > cursor.left() / SMALLEST_ENTRY {
            let left = cursor.left();
            return Err(format!("{size} entries cannot stand in the {left} bytes left"));
        }
        if grams.longest > LONGEST_SUBWORD {
            let (found, most) = (grams.longest, LONGEST_SUBWORD);
            return Err(format!("subwords of {found} characters, expected at most {most}"));
        }
        if grams.word_grams > LONGEST_WORD_GRAM {
            let (found, most) = (grams.word_grams, LONGEST_WORD_GRAM);
            return Err(format!("n-grams of {found} words, expected at most {most}"));
        }
        let mut found = Dictionary {
            grams,
            words: Vec::with_capacity(words),
            table: vec![0; (words * 2).next_power_of_two()],
            labels: Vec::with_capacity(labels),
            counts: Vec::with_capacity(labels),
            pruned: None,
        };
        for number in 0..size {
            found.entry(cursor, file, number < words)?;
        }
        if pruned >= 0 {
            let count = pruned as usize;
            if count > cursor.left() / 8 {
                return Err(format!("{count} kept n-grams cannot stand in the bytes left"));
            }
            let mut map = HashMap::with_capacity(count);
            for _ in 0..count {
                let from = cursor.count32("a kept n-gram")?;
                map.insert(from as u32, cursor.count32("the row of a kept n-gram")? as u32);
            }
            found.pruned = Some(map);
        }
        Ok(found)
    }

    fn entry(&mut self, cursor: &mut Cursor, file: &[u8], word: bool) -> Result<(), String> {
        let start = cursor.position();
        let text = cursor.until_nul("an entry of the dictionary")?;
        let count = cursor.i64("the count of an entry")?;
        let kind = cursor.byte("the type of an entry")?;
        if kind != u8::from(!word) {
            let shown = String::from_utf8_lossy(&text[..text.len().min(40)]);
            return Err(format!(
                "entry `{shown}` is of type {kind}, expected words (0), then labels (1)"
            ));
        }
        if word {
            let number = self.words.len();
            self.words.push((start, text.len().min(u32::MAX as usize) as u32));
            let mut slot = self.slot(text);
            while self.table[slot] != 0 && self.word(file, self.table[slot] as usize - 1) != text {
                slot = (slot + 1) & (self.table.len() - 1);
            }
            self.table[slot] = number as u32 + 1;
        } else {
            let name = std::str::from_utf8(text).map_err(|_| "a label is not UTF-8".to_owned())?;
            self.labels.push(name.strip_prefix(LABEL).unwrap_or(name).to_owned());
            self.counts.push(count.max(0));
        }
        Ok(())
    }

    /// Rows that the input matrix must have.
    pub fn rows(&self) -> Result<usize, String> {
        let hashed = match &self.pruned {
            Some(kept) => kept.values().map(|row| *row as usize + 1).max().unwrap_or(0),
            None if self.grams.longest > 0 || self.grams.word_grams > 1 => self.grams.buckets,
            None => 0,
        };
        self.words.len().checked_add(hashed).ok_or_else(|| "too many rows".to_owned())
    }

    pub fn is_pruned(&self) -> bool {
        self.pruned.is_some()
    }

    fn word<'a>(&self, file: &'a [u8], number: usize) -> &'a [u8] {
        let (start, length) = self.words[number];
        &file[start..start + length as usize]
    }

    fn slot(&self, word: &[u8]) -> usize {
        xxhash_rust::xxh3::xxh3_64(word) as usize & (self.table.len() - 1)
    }

    fn find(&self, file: &[u8], word: &[u8]) -> Option<usize> {
        let mut slot = self.slot(word);
        loop {
            match self.table[slot] as usize {
                0 => return None,
                n if self.word(file, n - 1) == word => return Some(n - 1),
                _ => slot = (slot + 1) & (self.table.len() - 1),
            }
        }
    }

    /// The rows that a text sums, its lines taken as one line.
    pub fn rows_of(&self, file: &[u8], text: &str, rows: &mut Vec<u32>) {
        rows.clear();
        let mut hashes = Vec::new();
        let mut marked = Vec::new();
        let tokens = text.as_bytes().split(|b| matches!(b, b' ' | b'\t'..=b'\r' | 0));
        for token in tokens.filter(|t| !t.is_empty()).chain([END]) {
            let known = self.find(file, token);
            if known.is_none() && token.starts_with(LABEL.as_bytes()) {
                continue;
            }
            if let Some(number) = known {
                rows.push(number as u32);
            }
            if token != END && self.grams.longest > 0 {
                marked.clear();
                marked.push(b'<');
                marked.extend_from_slice(token);
                marked.push(b'>');
                self.subwords(&marked, rows);
            }
            if self.grams.word_grams > 1 {
                hashes.push(hash(token) as i32);
            }
        }
        self.word_grams(&hashes, rows);
    }

    fn push(&self, bucket: u64, rows: &mut Vec<u32>) {
        let bucket = match &self.pruned {
            None => bucket as u32,
            Some(kept) => match kept.get(&(bucket as u32)) {
                Some(row) => *row,
                None => return,
            },
        };
        rows.push(self.words.len() as u32 + bucket);
    }

    /// Character n-grams of a word between its marks; one character alone counts only inside.
    fn subwords(&self, word: &[u8], rows: &mut Vec<u32>) {
        let Grams { buckets, shortest, longest, .. } = self.grams;
        if buckets == 0 || self.pruned.as_ref().is_some_and(HashMap::is_empty) {
            return;
        }
        let inside = |at: usize| word.get(at).is_some_and(|b| b & 0xc0 == 0x80);
        for start in 0..word.len() {
            if inside(start) {
                continue;
            }
            let (mut at, mut h) = (start, FNV);
            for n in 1..=longest {
                if at == word.len() {
                    break;
                }
                h = step(h, word[at]);
                at += 1;
                while inside(at) {
                    h = step(h, word[at]);
                    at += 1;
                }
                if n >= shortest && !(n == 1 && (start == 0 || at == word.len())) {
                    self.push(u64::from(h) % buckets as u64, rows);
                }
            }
        }
    }

    fn word_grams(&self, hashes: &[i32], rows: &mut Vec<u32>) {
        if self.grams.buckets == 0 || self.pruned.as_ref().is_some_and(HashMap::is_empty) {
            return;
        }
        for (start, first) in hashes.iter().enumerate() {
            let mut h = i64::from(*first) as u64;
            for next in hashes[start + 1..].iter().take(self.grams.word_grams - 1) {
                h = h.wrapping_mul(116_049_371).wrapping_add(i64::from(*next) as u64);
                self.push(h % self.grams.buckets as u64, rows);
            }
        }
    }
}

const FNV: u32 = 2_166_136_261;

/// FNV-1a, whose byte is extended with its sign.
fn step(h: u32, byte: u8) -> u32 {
    (h ^ byte as i8 as u32).wrapping_mul(16_777_619)
}

fn hash(word: &[u8]) -> u32 {
    word.iter().fold(FNV, |h, byte| step(h, *byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FNV-1a's own test vectors where bytes are ASCII; a byte from 128 on is extended.
    #[test]
    fn the_hash_is_fnv_with_signed_bytes() {
        assert_eq!(hash(b""), 0x811c_9dc5);
        assert_eq!(hash(b"a"), 0xe40c_292c);
        assert_eq!(hash(b"foobar"), 0xbf9c_f968);
        assert_eq!(hash(&[0xc3]), (FNV ^ 0xffff_ffc3).wrapping_mul(16_777_619));
    }
}
