//! The identifier's weights, and how they vote.
//!
//! For each bucket of grams and each language there is a weight: the logarithm of how much more
//! often the gram stands in that language than the floor. A text's language is that of the largest
//! sum; it counts as known only where the sum of the long grams comes near to what texts of that
//! language usually reach. Not here: where the weights come from ([`super::train`]).

use super::rows::{LANES, Rows, Sums};
use super::{grams, windows};

const MAGIC: &[u8; 8] = b"quipuL01";
/// Weights are stored in steps of this many nats.
pub(super) const STEP: f32 = 1.0 / 24.0;
/// Letters of the bigram table: boundary and a to z.
pub(super) const LETTERS: usize = 27;
/// Fewest grams that decide anything.
const MIN_GRAMS: u32 = 12;
/// Share of its usual sum that a text of a language must reach: texts of other kinds than those
/// learned from reach three quarters, invented languages in the same letters half.
const NEAR: f32 = 0.62;
/// Lead of a window's language over the next, in nats, from which the window speaks for itself.
const EVIDENCE: f32 = 25.0;
/// Bytes of the decompressed weights that are believed.
const MAX_BYTES: usize = 32 << 20;

/// A language of the model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Language {
    pub name: String,
    /// Sum a long gram that its texts usually reach.
    pub usual: f32,
    /// Spread of that, between paragraphs.
    pub spread: f32,
}

/// What a text is in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    /// Its language, where a known one is near.
    pub first: Option<&'static str>,
    /// Confidence in it; how near the nearest is where none is near enough.
    pub score: f32,
    /// The second language of its windows: share and characters of those that speak for themselves.
    pub second: Option<(&'static str, f32, usize)>,
}

/// Sums of weights by language: of short grams, and of long ones.
pub(super) struct Tally {
    sums: [Sums; 2],
    grams: [u32; 2],
    /// Room for the buckets of a text.
    buckets: [Vec<u16>; 2],
}

impl Tally {
    pub(super) fn new() -> Tally {
        Tally { sums: [[0; LANES]; 2], grams: [0; 2], buckets: [Vec::new(), Vec::new()] }
    }

    fn clear(&mut self) {
        (self.sums, self.grams) = ([[0; LANES]; 2], [0; 2]);
    }

    fn add(&mut self, other: &Tally) {
        let sums = self.sums.as_flattened_mut().iter_mut();
        sums.zip(other.sums.as_flattened()).for_each(|(sum, more)| *sum += more);
        self.grams.iter_mut().zip(other.grams).for_each(|(grams, more)| *grams += more);
    }

    fn all_grams(&self) -> u32 {
        self.grams.iter().sum()
    }
}

/// What the grams of a text say.
pub(super) struct Vote {
    pub language: usize,
    /// Lead over the next language, in nats a gram.
    pub lead: f32,
    /// Sum a long gram.
    pub mean: f32,
}

/// The weights.
pub struct Model {
    pub(super) languages: Vec<Language>,
    pub(super) rows: Rows,
    /// Surprise of a letter after another, in steps of 1/24 nat.
    pub(super) bigrams: Vec<u8>,
}

impl Model {
    /// What a text is in: its language, or two of them.
    pub fn read(&self, text: &str) -> Reading {
        let (mut whole, mut own) = (Tally::new(), Tally::new());
        let mut letters = vec![0usize; self.languages.len()];
        let mut looked = 0;
        windows::each(text, |window| {
            own.clear();
            self.count(window, &mut own);
            let length = window.chars().count();
            looked += length;
            if let Some(vote) = self.vote(&own)
                && self.is_near(&vote)
                && vote.lead * own.all_grams() as f32 >= EVIDENCE
            {
                letters[vote.language] += length;
            }
            whole.add(&own);
        });
        let Some(vote) = self.vote(&whole) else { return Reading::default() };
        let name = |language: usize| intern(&self.languages[language].name);
        let near = self.is_near(&vote);
        let score = if near { 1.0 - (-vote.lead * 12.0).exp() } else { self.nearness(&vote) };
        let mut order: Vec<usize> = (0..letters.len()).filter(|l| letters[*l] > 0).collect();
        order.sort_by_key(|l| (std::cmp::Reverse(letters[*l]), *l));
        let decided: usize = letters.iter().sum();
        // Two languages in one text: the sum is near to neither.
        let clear = order.first().filter(|l| letters[**l] * 2 >= looked);
        let first = if near { Some(&vote.language) } else { clear };
        let second = order.get(1).filter(|_| decided * 2 >= looked);
        let second = second.map(|l| (name(*l), letters[*l] as f32 / decided as f32, letters[*l]));
        Reading { first: first.map(|l| name(*l)), score, second }
    }

    /// The languages that it knows.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.languages.iter().map(|language| language.name.as_str())
    }

    fn nearness(&self, vote: &Vote) -> f32 {
        vote.mean / self.languages[vote.language].usual.max(0.1)
    }

    fn is_near(&self, vote: &Vote) -> bool {
        self.nearness(vote) >= NEAR
    }

    /// Lets the grams of a text vote.
    pub(super) fn count(&self, text: &str, tally: &mut Tally) {
        tally.buckets.iter_mut().for_each(Vec::clear);
        let [short, long] = &mut tally.buckets;
        grams::each(text, |bucket, is_long| match is_long {
            true => long.push(bucket),
            false => short.push(bucket),
        });
        for (length, buckets) in tally.buckets.iter().enumerate() {
            self.rows.add(buckets, &mut tally.sums[length]);
            tally.grams[length] += buckets.len() as u32;
        }
    }

    /// The language of the largest sum; none for too few grams.
    pub(super) fn vote(&self, tally: &Tally) -> Option<Vote> {
        if tally.all_grams() < MIN_GRAMS {
            return None;
        }
        let [short, long] = &tally.sums;
        let sums: Sums = std::array::from_fn(|l| short[l] + long[l]);
        let sums = &sums[..self.languages.len()];
        let most = *sums.iter().max()?;
        let language = sums.iter().position(|sum| *sum == most)?;
        let (before, after) = (&sums[..language], &sums[language + 1..]);
        let next = before.iter().chain(after).max().copied().unwrap_or(0);
        let mean = |sum: u32, count: u32| sum as f32 * STEP / count.max(1) as f32;
        Some(Vote {
            language,
            lead: mean(most - next, tally.all_grams()),
            mean: mean(long[language], tally.grams[1]),
        })
    }

    /// Mean surprise of the letters of Latin words and of their ends, in nats; `None` below 40.
    pub fn surprise(&self, text: &str) -> Option<f32> {
        let (mut sum, mut count) = (0u32, 0u32);
        each_step(text, |from, to| {
            sum += u32::from(self.bigrams[from * LETTERS + to]);
            count += 1;
        });
        (count >= 40).then(|| sum as f32 * STEP / count as f32)
    }

    /// The compact form.
    pub(super) fn encode(&self) -> std::io::Result<Vec<u8>> {
        let mut out = vec![self.languages.len() as u8];
        for language in &self.languages {
            out.push(language.name.len() as u8);
            out.extend_from_slice(language.name.as_bytes());
            out.extend_from_slice(&language.usual.to_le_bytes());
            out.extend_from_slice(&language.spread.to_le_bytes());
        }
        self.rows.encode(&mut out);
        out.extend_from_slice(&self.bigrams);
        let packed = zstd::encode_all(&out[..], 19)?;
        Ok([MAGIC.as_slice(), &packed].concat())
    }

    /// Reads the compact form; the error says what is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<Model, String> {
        let packed = bytes.strip_prefix(MAGIC).ok_or("not language weights of this version")?;
        let mut raw = Vec::new();
        let decoder = zstd::stream::read::Decoder::new(packed).map_err(|e| e.to_string())?;
        let mut limited = std::io::Read::take(decoder, MAX_BYTES as u64);
        std::io::Read::read_to_end(&mut limited, &mut raw).map_err(|e| e.to_string())?;
        let mut rest = &raw[..];
        let mut take = |n: usize| -> Result<&[u8], String> {
            let (head, tail) = rest.split_at_checked(n).ok_or("language weights are cut off")?;
            rest = tail;
            Ok(head)
        };
        let count = usize::from(take(1)?[0]);
        if count > LANES {
            return Err(format!("{count} languages, at most {LANES} are expected"));
        }
        let mut languages = Vec::with_capacity(count);
        for _ in 0..count {
            let length = usize::from(take(1)?[0]);
            let name = String::from_utf8(take(length)?.to_vec()).map_err(|e| e.to_string())?;
            let mut number = || -> Result<f32, String> {
                let bytes: [u8; 4] = take(4)?.try_into().map_err(|_| "cut off")?;
                Ok(f32::from_le_bytes(bytes))
            };
            let (usual, spread) = (number()?, number()?);
            languages.push(Language { name, usual, spread });
        }
        let rows = Rows::decode(count, &mut take)?;
        let bigrams = take(LETTERS * LETTERS)?.to_vec();
        Ok(Model { languages, rows, bigrams })
    }
}

/// Names live as long as the program: there are as many as models have languages.
pub(super) fn intern(name: &str) -> &'static str {
    use std::collections::BTreeSet;
    use std::sync::{Mutex, PoisonError};
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return known;
    }
    let leaked: &'static str = Box::leak(name.to_owned().into_boxed_str());
    names.insert(leaked);
    leaked
}

/// Calls `each` with every letter and the one before it; separators in a row count once.
pub(super) fn each_step(text: &str, mut each: impl FnMut(usize, usize)) {
    let mut previous = 0;
    for letter in text.chars().filter_map(letter) {
        if previous + letter > 0 {
            each(previous, letter);
        }
        previous = letter;
    }
}

/// 1 to 26 for a letter without its marks, 0 for what separates words, `None` for letters of other
/// alphabets.
fn letter(c: char) -> Option<usize> {
    let base = match c.to_ascii_lowercase() {
        c @ 'a'..='z' => c,
        'à'..='å' | 'À'..='Å' | 'ā' | 'ă' | 'ą' => 'a',
        'è'..='ë' | 'È'..='Ë' | 'ē' | 'ę' | 'ě' => 'e',
        'ì'..='ï' | 'Ì'..='Ï' | 'ı' => 'i',
        'ò'..='ö' | 'ø' | 'Ò'..='Ö' | 'Ø' | 'ő' => 'o',
        'ù'..='ü' | 'Ù'..='Ü' | 'ű' | 'ů' => 'u',
        'ç' | 'Ç' | 'č' | 'ć' => 'c',
        'ñ' | 'Ñ' | 'ń' => 'n',
        'ş' | 'š' | 'ś' | 'ș' => 's',
        'ž' | 'ż' | 'ź' => 'z',
        'ł' => 'l',
        'ğ' => 'g',
        'ţ' | 'ț' => 't',
        c if c.is_alphabetic() => return None,
        _ => return Some(0),
    };
    Some(base as usize - 'a' as usize + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Damaged weights are refused or harmless, never a panic.
    #[test]
    fn mutated_weights_never_panic() {
        let valid = include_bytes!("../../weights/language.bin");
        assert!(Model::decode(&valid[..20]).is_err());
        assert!(Model::decode(b"").is_err());
        for n in 0..60usize {
            let mut bytes = valid.to_vec();
            let at = n * 7919 % bytes.len();
            bytes[at] ^= 0x55;
            if let Ok(model) = Model::decode(&bytes) {
                let _ = model.read("a text to be identified by damaged weights");
            }
        }
    }

    #[test]
    fn the_form_returns() {
        let languages = vec![Language { name: "xx".into(), usual: 1.0, spread: 0.5 }];
        let mut rows = Rows::zero();
        *rows.weight(3, 0) = 7;
        let model = Model { languages, rows, bigrams: vec![3; LETTERS * LETTERS] };
        let back = Model::decode(&model.encode().unwrap()).unwrap();
        assert_eq!(back.languages, model.languages);
        assert!(back.rows == model.rows && back.bigrams == model.bigrams);
    }
}
