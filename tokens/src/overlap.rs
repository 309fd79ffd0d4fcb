//! Which texts share a span of 50 words with those chosen for validation. Spans are compared twice:
//! as words between blanks, exactly, and as lower-case words without punctuation. Not here: what
//! follows from it (`prepare`).
//!
//! Nearly every text shares nothing, and that has to be found out at the speed of reading. Of the
//! chosen texts the groups of 8 words are noted that begin at every eighth word; 23 words in a row
//! hold two neighbours of them whole, from whatever place on. So a text that at no place has two
//! noted groups 8 words apart shares no span of 50 plain words, and none of 50 words between blanks
//! unless 28 of these are bare marks, which are counted. Only a text that is suspect after that has
//! all its spans hashed and looked up. (The groups are fingerprints as in winnowing, chosen by place
//! since one side is small: Schleimer, Wilkerson, Aiken 2003.)

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{LazyLock, OnceLock};

use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

/// Words of a span that no validation document may share with training.
pub const SPAN: usize = 50;
/// Words of a group that is noted, and how far apart groups begin.
const GROUP: usize = 8;
/// Bare marks among the words of a span, from which on a text is suspect: with fewer, a span has as
/// many plain words as hold two neighbouring groups whole from any place on.
const BARE: usize = SPAN + 1 - (3 * GROUP - 1);
/// Bits of the first look-up for each group, which let one in 64 other groups through.
const BITS: usize = 64;

/// The texts that were chosen, ready to be compared with others.
pub(crate) struct Chosen<'t> {
    texts: Vec<&'t str>,
    groups: HashSet<u64, Given>,
    /// a bit for the uppermost bits of each group
    bits: Vec<u64>,
    shift: u32,
    spans: OnceLock<Spans>,
    /// which of them were found to share a span
    shared: Vec<AtomicBool>,
}

/// Every span of the chosen texts.
struct Spans {
    /// (span, number of the text), ascending
    all: Vec<(u64, u32)>,
    /// where a span stands first
    places: HashMap<u64, u32, Given>,
    /// at the first place of a span: that it was met elsewhere, and all that have it are known
    met: Vec<AtomicBool>,
}

/// Keys that are hashes already.
type Given = BuildHasherDefault<GivenHasher>;

#[derive(Default)]
struct GivenHasher(u64);

impl Hasher for GivenHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64(bytes);
    }
}

impl<'t> Chosen<'t> {
    pub(crate) fn new(texts: Vec<&'t str>) -> Self {
        let noted = |text: &&str| {
            let mut words = Words::default();
            words.read(text);
            words.groups().step_by(GROUP).collect::<Vec<_>>()
        };
        let groups: HashSet<u64, Given> = texts.par_iter().flat_map_iter(noted).collect();
        let size = (groups.len() * BITS).next_power_of_two().clamp(1 << 10, 1 << 30);
        let shift = 64 - size.trailing_zeros();
        let mut bits = vec![0; size / 64];
        for group in &groups {
            let at = group >> shift;
            bits[(at / 64) as usize] |= 1 << (at % 64);
        }
        let shared = texts.iter().map(|_| AtomicBool::new(false)).collect();
        Self { texts, groups, bits, shift, spans: OnceLock::new(), shared }
    }

    /// Notes which of the chosen texts share a span with this one; `words` is working memory.
    pub(crate) fn compare(&self, text: &str, words: &mut Words) {
        words.read(text);
        if words.bare() || self.has_neighbours(words.groups()) {
            let spans = self.spans();
            each_span(text, |span| spans.meet(span, |at| _ = self.shared[at].swap(true, Relaxed)));
        }
    }

    /// Numbers of the chosen texts that share a span with one that was compared, or with one of
    /// these.
    pub(crate) fn found(self) -> HashSet<usize> {
        let shared = |at: &usize| self.shared[*at].load(Relaxed);
        let mut open: Vec<usize> = (0..self.texts.len()).filter(shared).collect();
        while let Some(at) = open.pop() {
            let new = |other: usize| {
                if !self.shared[other].swap(true, Relaxed) {
                    open.push(other);
                }
            };
            let (spans, mut new) = (self.spans(), new);
            each_span(self.texts[at], |span| spans.meet(span, &mut new));
        }
        (0..self.texts.len()).filter(shared).collect()
    }

    /// Whether two noted groups begin [`GROUP`] words apart.
    fn has_neighbours(&self, mut groups: impl Iterator<Item = u64>) -> bool {
        // Which of the last eight groups were noted; the oldest is the uppermost bit.
        let mut last = 0_u8;
        groups.any(|group| {
            let at = group >> self.shift;
            let may = self.bits[(at / 64) as usize] >> (at % 64) & 1 == 1;
            let noted = may && self.groups.contains(&group);
            let found = noted && last >> (GROUP - 1) == 1;
            last = last << 1 | u8::from(noted);
            found
        })
    }

    fn spans(&self) -> &Spans {
        self.spans.get_or_init(|| Spans::of(&self.texts))
    }
}

impl Spans {
    fn of(texts: &[&str]) -> Self {
        let of = |(at, text): (u32, &&str)| {
            let mut own = Vec::new();
            each_span(text, |span| own.push((span, at)));
            own
        };
        let mut all: Vec<(u64, u32)> = (0..).zip(texts).flat_map(of).collect();
        all.par_sort_unstable();
        all.dedup();
        let mut places = HashMap::with_capacity_and_hasher(all.len(), Given::default());
        for (place, (span, _)) in (0..).zip(&all) {
            places.entry(*span).or_insert(place);
        }
        let met = all.iter().map(|_| AtomicBool::new(false)).collect();
        Self { all, places, met }
    }

    /// Calls `each` with the texts that have this span, the first time that it is met.
    fn meet(&self, span: u64, each: impl FnMut(usize)) {
        let Some(&place) = self.places.get(&span) else { return };
        let place = place as usize;
        if !self.met[place].swap(true, Relaxed) {
            let same = self.all[place..].iter().take_while(|(other, _)| *other == span);
            same.map(|(_, at)| *at as usize).for_each(each);
        }
    }
}

/// The plain words of a text as hashes: letters and numbers in lower case, whatever stands between
/// them; in scripts written without blanks each character is a word.
#[derive(Default)]
pub(crate) struct Words {
    hashes: Vec<u64>,
    /// of the words between blanks the numbers of those that hold no letter and no number
    bare: Vec<u32>,
    word: String,
}

/// What a character of the first plane is to a reading.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Blank,
    Mark,
    /// part of a word, in lower case this (one character)
    Part(char),
    /// part of a word, in lower case several characters
    Parts,
    /// a word by itself
    Alone,
}

/// From here on scripts are written without blanks.
const UNSPACED: char = '\u{2e80}';

fn kind(c: char) -> Kind {
    let mut lower = c.to_lowercase();
    match (lower.next(), lower.next()) {
        _ if c.is_whitespace() => Kind::Blank,
        _ if !c.is_alphanumeric() => Kind::Mark,
        _ if c >= UNSPACED => Kind::Alone,
        (Some(lower), None) => Kind::Part(lower),
        _ => Kind::Parts,
    }
}

/// [`kind`] of every character below [`UNSPACED`].
static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(|| ('\0'..UNSPACED).map(kind).collect());

impl Words {
    /// Reads a text; what was read before is forgotten.
    fn read(&mut self, text: &str) {
        self.hashes.clear();
        self.bare.clear();
        let (bytes, kinds) = (text.as_bytes(), &**KINDS);
        // Of the word between blanks at hand: its number; has it marks, has it letters or numbers?
        let (mut number, mut marks, mut letters) = (0, false, false);
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if byte.is_ascii_alphanumeric() {
                let (hash, end) = ascii_word(bytes, at);
                let joined = bytes.get(end).is_some_and(|b| !b.is_ascii());
                at = if joined { self.long_way(text, at) } else { end };
                if !joined {
                    self.hashes.push(hash);
                }
                letters = true;
                continue;
            }
            let c = if byte.is_ascii() { char::from(byte) } else { first(&text[at..]) };
            match kinds.get(c as usize).copied().unwrap_or_else(|| kind(c)) {
                Kind::Blank => {
                    if marks && !letters {
                        self.bare.push(number);
                    }
                    number += u32::from(marks || letters);
                    (marks, letters) = (false, false);
                }
                Kind::Mark => marks = true,
                Kind::Alone => {
                    self.hashes.push(finish(u64::from(u32::from(c))));
                    letters = true;
                }
                Kind::Part(_) | Kind::Parts => {
                    at = self.long_way(text, at);
                    letters = true;
                    continue;
                }
            }
            at += c.len_utf8();
        }
        if marks && !letters {
            self.bare.push(number);
        }
    }

    /// Whether somewhere so many words of a span may be bare marks that groups say nothing.
    fn bare(&self) -> bool {
        let within = |marks: &[u32]| marks[BARE - 1] - marks[0] < SPAN as u32;
        self.bare.windows(BARE).any(within)
    }

    /// Reads the word that begins at `at` character by character; says where it ends.
    fn long_way(&mut self, text: &str, at: usize) -> usize {
        self.word.clear();
        let mut end = at;
        for c in text[at..].chars() {
            match KINDS.get(c as usize) {
                Some(Kind::Part(lower)) => self.word.push(*lower),
                Some(Kind::Parts) => self.word.extend(c.to_lowercase()),
                _ => break,
            }
            end += c.len_utf8();
        }
        let mut hash = 0;
        for chunk in self.word.as_bytes().chunks(8) {
            let mut eight = [0; 8];
            eight[..chunk.len()].copy_from_slice(chunk);
            hash = step(hash, u64::from_le_bytes(eight));
        }
        self.hashes.push(finish(hash));
        end
    }

    /// A rolling hash of each group of words, in order.
    fn groups(&self) -> impl Iterator<Item = u64> {
        rolling(&self.hashes, GROUP)
    }
}

fn first(text: &str) -> char {
    text.chars().next().unwrap_or(char::REPLACEMENT_CHARACTER)
}

const ODD: u64 = 0x9E37_79B9_7F4A_7C15;

fn step(hash: u64, eight: u64) -> u64 {
    ((hash ^ eight).wrapping_mul(ODD)).rotate_left(29)
}

fn finish(hash: u64) -> u64 {
    (hash ^ (hash >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93)
}

/// The hash of the letters and numbers of ASCII from `at` on, in lower case, and where they end:
/// eight bytes at a time, all compared in one register.
fn ascii_word(bytes: &[u8], mut at: usize) -> (u64, usize) {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x80 * ONES;
    // The top bit of each byte (which are below 128) that lies in `low..=high`.
    let within = |bytes: u64, low: u8, high: u8| {
        let from = bytes + ONES * u64::from(128 - low);
        from & !(bytes + ONES * u64::from(127 - high))
    };
    let mut hash = 0;
    loop {
        let eight = match bytes.get(at..at + 8) {
            Some(eight) => eight.try_into().unwrap_or_default(),
            None => {
                let mut eight = [0; 8];
                eight[..bytes.len() - at].copy_from_slice(&bytes[at..]);
                eight
            }
        };
        let found = u64::from_le_bytes(eight);
        let (lower, plain) = ((found | (ONES * 0x20)) & !TOPS, found & !TOPS);
        let good = (within(lower, b'a', b'z') | within(plain, b'0', b'9')) & !found & TOPS;
        let length = ((!good & TOPS).trailing_zeros() / 8) as usize;
        if length == 8 {
            hash = step(hash, lower);
            at += 8;
            continue;
        }
        if length > 0 {
            hash = step(hash, lower & ((1 << (8 * length)) - 1));
        }
        return (finish(hash), at + length);
    }
}

/// Calls `each` with the hash of every span of [`SPAN`] words, in both ways of reading words.
fn each_span(text: &str, mut each: impl FnMut(u64)) {
    let exact: Vec<u64> = text.split_whitespace().map(|w| xxh3_64(w.as_bytes())).collect();
    let mut plain = Words::default();
    plain.read(text);
    rolling(&exact, SPAN).for_each(&mut each);
    rolling(&plain.hashes, SPAN).for_each(&mut each);
}

/// A rolling polynomial hash over every window of `size` words.
fn rolling(words: &[u64], size: usize) -> impl Iterator<Item = u64> {
    const BASE: u64 = 0xD6E8_FEB8_6659_FD93;
    let top = (0..size).fold(1_u64, |power, _| power.wrapping_mul(BASE));
    let add = |hash: u64, word: u64| hash.wrapping_mul(BASE).wrapping_add(word);
    let (head, rest) = words.split_at(words.len().min(size));
    let start = (head.len() == size).then(|| head.iter().fold(0, |h, w| add(h, *w)));
    let mut hash = start.unwrap_or_default();
    let later = words.iter().zip(rest).map(move |(old, new)| {
        hash = add(hash, *new).wrapping_sub(old.wrapping_mul(top));
        hash
    });
    start.into_iter().chain(later)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::mix;

    /// The plain words of a text as they are defined.
    fn plain(text: &str) -> Vec<String> {
        let (mut words, mut word) = (Vec::new(), String::new());
        for c in text.chars().chain([' ']) {
            let alone = c >= UNSPACED && c.is_alphanumeric();
            if c.is_alphanumeric() && !alone {
                word.extend(c.to_lowercase());
                continue;
            }
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            if alone {
                words.push(c.to_string());
            }
        }
        words
    }

    /// Equal words, and only they, have equal hashes.
    #[track_caller]
    fn check_words(text: &str) {
        let mut words = Words::default();
        words.read(text);
        let expected = plain(text);
        assert_eq!(words.hashes.len(), expected.len(), "{text:?}");
        let mut known: HashMap<&str, u64> = HashMap::new();
        for (word, hash) in expected.iter().zip(&words.hashes) {
            assert_eq!(known.entry(word).or_insert(*hash), hash, "{word:?}");
        }
        let distinct: HashSet<u64> = known.values().copied().collect();
        assert_eq!(distinct.len(), known.len(), "{text:?}");
        let bare = text.split_whitespace().map(|w| !w.chars().any(char::is_alphanumeric));
        let bare: Vec<u32> = (0..).zip(bare).filter(|(_, bare)| *bare).map(|(n, _)| n).collect();
        assert_eq!(words.bare, bare, "{text:?}");
    }

    #[test]
    fn words_are_those_of_the_definition() {
        check_words("Don't STOP don't stop 12345678 123456789 ABCDEFGHIJKLMNOPQ abcdefghijklmnopq");
        check_words(
            "na\u{ef}ve NA\u{cf}VE nave na ve \u{212a}elvin kelvin \u{130}stanbul i\u{307}stanbul",
        );
        check_words("\u{3a3}\u{3bf}\u{3c6}\u{3cc}\u{3c2} \u{3c3}\u{3bf}\u{3c6}\u{3cc}\u{3c2}");
        check_words("x\u{6f22}\u{5b57}y \u{6f22} -- \u{2014} ** a*b \u{a0}\u{3000}c");
        check_words(
            "@[`{ AZ az 09 /: \u{7f} -\t-\n- x\u{301}y \u{1f469}\u{200d}\u{1f469} \u{10400}",
        );
        check_words("");
        for end in 0..20 {
            check_words(&"abcdefghi9 ABCDEFGHI9 x"[..end]);
        }
    }

    /// What [`Chosen`] says without the groups: every span of every text looked up.
    fn found_slowly(chosen: &[String], text: &str) -> HashSet<usize> {
        let spans = |text: &str| {
            let mut own = HashSet::new();
            each_span(text, |span| _ = own.insert(span));
            own
        };
        let of: Vec<HashSet<u64>> = chosen.iter().map(|text| spans(text)).collect();
        let (mut met, mut found) = (spans(text), HashSet::new());
        let next = |met: &HashSet<u64>, found: &HashSet<usize>| {
            (0..of.len()).find(|at| !found.contains(at) && !of[*at].is_disjoint(met))
        };
        while let Some(at) = next(&met, &found) {
            found.insert(at);
            met.extend(&of[at]);
        }
        found
    }

    /// A text of words and marks, some of which stand alone.
    fn random(seed: u64, words: usize, bare: u64) -> String {
        const WORDS: [&str; 8] =
            ["one", "Two", "na\u{ef}ve", "\u{6f22}\u{5b57}", "\u{3b1}\u{3b2}", "x_y", "7", "end."];
        let word = |i: u64| match mix(seed, i) % 100 {
            n if n < bare => {
                ["-", "*", "|", "\u{2014}"][(mix(seed, i) >> 40) as usize % 4].to_owned()
            }
            _ => {
                format!("{}{}", WORDS[(mix(seed, i) >> 8) as usize % 8], mix(seed, i) >> 20 & 0xff)
            }
        };
        (0..words as u64).map(|i| word(i) + " ").collect()
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]

        /// Whatever is shared, the groups let nothing slip; spans of every length about the limit,
        /// from any place, as they are or in capitals and with other marks, among bare marks or none.
        #[test]
        fn nothing_shared_is_missed(
            seed in 0_u64..1 << 40, bare in 0_u64..100, from in 0_usize..60, length in 44_usize..58,
            loud in proptest::bool::ANY,
        ) {
            let mut chosen: Vec<String> = (0..4).map(|n| random(seed + n, 130, bare)).collect();
            let link = random(seed + 7, length, bare);
            (chosen[0], chosen[2]) = (format!("{} {link}", chosen[0]), chosen[2].clone() + &link);
            let words: Vec<&str> = chosen[2].split_whitespace().collect();
            let mut span = words[from..from + length].join(if loud { " ,; " } else { "\n" });
            if loud {
                span = span.to_uppercase();
            }
            let text = format!("{} {span} {}", random(seed + 9, 30, 10), random(seed + 10, 30, 10));
            let compared = Chosen::new(chosen.iter().map(String::as_str).collect());
            compared.compare(&text, &mut Words::default());
            proptest::prop_assert_eq!(compared.found(), found_slowly(&chosen, &text));
        }
    }
}
