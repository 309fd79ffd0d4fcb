//! Trains byte-level byte-pair encoding: from nothing, or on top of given ranks, which keep their
//! ids (as Llama 3 has 28K tokens on top of 100K of tiktoken's; paper, section 3.2). Not here: the
//! encoder, special tokens.
//!
//! A candidate is a string of bytes, not a pair: its count is the number of places where two
//! neighbouring tokens join to it, whichever way. That is how merging by rank reads a vocabulary,
//! so the words as training leaves them are what the encoder makes of them. Ties go to the string
//! that is smaller byte by byte; the result depends on the texts alone, not on threads or hash
//! order.

use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;

use quipu_store::Cancel;
use rayon::prelude::*;

use crate::{Error, Tokenizer, special, split::Splitter};

/// Pre-tokens longer than this teach nothing (they are blobs) and cost time with every merge.
const LONGEST: usize = 1024;

/// How often each pre-token stands in a corpus: all that training reads of it.
#[derive(Debug, Default, Clone)]
pub struct Counts {
    words: HashMap<Box<[u8]>, u64>,
    bytes: u64,
}

impl Counts {
    /// Counts the pre-tokens of more texts, on all threads.
    ///
    /// # Errors
    /// [`Error::Encode`] when the splitter refuses a text.
    pub fn add<T: AsRef<str> + Sync>(&mut self, texts: &[T]) -> Result<(), Error> {
        let counted = texts
            .par_iter()
            .fold(
                || Ok((HashMap::new(), None)),
                |state: Result<Partial, Error>, text| {
                    let (mut words, splitter) = state?;
                    let mut splitter = match splitter {
                        Some(splitter) => splitter,
                        None => Splitter::llama3()?,
                    };
                    splitter.split(text.as_ref(), |word| match words.get_mut(word.as_bytes()) {
                        Some(count) => *count += 1,
                        None if word.len() <= LONGEST => {
                            words.insert(Box::from(word.as_bytes()), 1);
                        }
                        None => {}
                    })?;
                    Ok((words, Some(splitter)))
                },
            )
            .map(|state| state.map(|(words, _)| words))
            .try_reduce(HashMap::new, |one, two| {
                let (mut large, small) =
                    if one.len() < two.len() { (two, one) } else { (one, two) };
                small.into_iter().for_each(|(word, n)| *large.entry(word).or_default() += n);
                Ok(large)
            })?;
        counted.into_iter().for_each(|(word, n)| *self.words.entry(word).or_default() += n);
        self.bytes += texts.iter().map(|t| t.as_ref().len() as u64).sum::<u64>();
        Ok(())
    }

    /// Bytes of the texts counted so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

type Partial = (HashMap<Box<[u8]>, u64>, Option<Splitter>);

/// What to train.
#[derive(Debug, Clone, Default)]
pub struct Training {
    /// Ids in all, special tokens included. Fewer come out where the text has no more pairs that
    /// stand twice.
    pub vocabulary: usize,
    /// How many of them are special (at least [`special::FIXED`]).
    pub specials: usize,
    /// Ranks to build on; empty to begin with the 256 bytes.
    pub base: Vec<Vec<u8>>,
}

/// Ranks to build on in which each number of two up to `digits` digits is a token, whatever the text
/// holds: a number is then read and said at once (Llama 3's vocabulary has all of up to three, at
/// which pre-tokens cut numbers). None to build on below two.
#[must_use]
pub fn numbers(digits: u32) -> Vec<Vec<u8>> {
    if digits < 2 {
        return Vec::new();
    }
    let bytes = (0..=255).map(|byte| vec![byte]);
    let of = |width: u32| (0..10_usize.pow(width)).map(move |n| (n, width as usize));
    let numbers = (2..=digits).flat_map(of).map(|(n, width)| format!("{n:0width$}").into_bytes());
    bytes.chain(numbers).collect()
}

/// Trains a tokenizer on counted pre-tokens.
///
/// # Errors
/// [`Error::Vocabulary`] when the sizes leave no room or the base is no set of ranks;
/// [`Error::Cancelled`].
pub fn train(counts: &Counts, training: &Training, cancel: &Cancel) -> Result<Tokenizer, Error> {
    let refuse = |reason: String| Err(Error::Vocabulary { asked: training.vocabulary, reason });
    let base = match training.base.as_slice() {
        [] => (0..=255).map(|b| vec![b]).collect(),
        ranks => ranks.to_vec(),
    };
    let specials = training.specials.max(special::FIXED);
    let least = base.len() + specials;
    if training.vocabulary < least {
        return refuse(format!(
            "{} ranks to begin with and {specials} special tokens need at least {least}",
            base.len()
        ));
    }
    let mut trainer = Trainer::new(base, counts)?;
    while trainer.tokens.len() + specials < training.vocabulary {
        if !trainer.step() {
            break;
        }
        if trainer.tokens.len().is_multiple_of(256) {
            cancel.check()?;
        }
    }
    Tokenizer::from_ranks(trainer.tokens, specials)
}

/// Trains a tokenizer on texts: [`Counts::add`] and [`train`] in one.
///
/// # Errors
/// As those two.
pub fn train_on<T: AsRef<str> + Sync>(
    texts: &[T],
    training: &Training,
) -> Result<Tokenizer, Error> {
    let mut counts = Counts::default();
    counts.add(texts)?;
    train(&counts, training, &Cancel::new())
}

/// A distinct pre-token as tokens, with the candidate that each neighbouring pair would make.
struct Word {
    tokens: Vec<u32>,
    pairs: Vec<u32>,
    count: i64,
}

struct Candidate {
    bytes: Arc<[u8]>,
    count: i64,
    /// words in which it stood when they were last looked at; some may have lost it
    words: Vec<u32>,
    /// the token that has these bytes, if there is one already
    token: Option<u32>,
}

/// A place in the queue: most frequent first, then smallest bytes.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Offer {
    count: i64,
    bytes: std::cmp::Reverse<Arc<[u8]>>,
    candidate: u32,
}

struct Trainer {
    tokens: Vec<Vec<u8>>,
    ids: HashMap<Vec<u8>, u32>,
    words: Vec<Word>,
    candidates: Vec<Candidate>,
    by_bytes: HashMap<Arc<[u8]>, u32>,
    by_pair: HashMap<(u32, u32), u32>,
    queue: BinaryHeap<Offer>,
    /// candidates that are tokens already and so are merged before anything is learned, by id
    due: BTreeSet<(u32, u32)>,
}

impl Trainer {
    fn new(tokens: Vec<Vec<u8>>, counts: &Counts) -> Result<Self, Error> {
        let ids: HashMap<Vec<u8>, u32> =
            tokens.iter().enumerate().map(|(id, t)| (t.clone(), id as u32)).collect();
        let mut bytes = [0; 256];
        for byte in 0..=255_u8 {
            let Some(&id) = ids.get([byte].as_slice()) else {
                let reason = format!("the base has no rank for the single byte {byte:#04x}");
                return Err(Error::Vocabulary { asked: tokens.len(), reason });
            };
            bytes[byte as usize] = id;
        }
        let mut sorted: Vec<(&[u8], u64)> = counts.words.iter().map(|(w, n)| (&**w, *n)).collect();
        sorted.sort_unstable();
        let mut trainer = Self {
            tokens,
            ids,
            words: Vec::with_capacity(sorted.len()),
            candidates: Vec::new(),
            by_bytes: HashMap::new(),
            by_pair: HashMap::new(),
            queue: BinaryHeap::new(),
            due: BTreeSet::new(),
        };
        for (word, count) in sorted {
            let tokens: Vec<u32> = word.iter().map(|b| bytes[*b as usize]).collect();
            trainer.add_word(tokens, count as i64);
        }
        (0..trainer.candidates.len() as u32).for_each(|c| trainer.offer(c));
        trainer.settle();
        Ok(trainer)
    }

    fn add_word(&mut self, tokens: Vec<u32>, count: i64) {
        let at = self.words.len() as u32;
        let pairs: Vec<u32> = tokens.windows(2).map(|p| self.candidate(p[0], p[1])).collect();
        for &pair in &pairs {
            let candidate = &mut self.candidates[pair as usize];
            candidate.count += count;
            if candidate.words.last() != Some(&at) {
                candidate.words.push(at);
            }
        }
        self.words.push(Word { tokens, pairs, count });
    }

    /// The candidate that two neighbouring tokens make.
    fn candidate(&mut self, left: u32, right: u32) -> u32 {
        if let Some(&known) = self.by_pair.get(&(left, right)) {
            return known;
        }
        let mut bytes = self.tokens[left as usize].clone();
        bytes.extend_from_slice(&self.tokens[right as usize]);
        let bytes: Arc<[u8]> = bytes.into();
        let next = self.candidates.len() as u32;
        let found = *self.by_bytes.entry(Arc::clone(&bytes)).or_insert(next);
        if found == next {
            let token = self.ids.get(&*bytes).copied();
            self.candidates.push(Candidate { bytes, count: 0, words: Vec::new(), token });
        }
        self.by_pair.insert((left, right), found);
        found
    }

    /// Puts a candidate where it will be met again.
    fn offer(&mut self, at: u32) {
        let candidate = &self.candidates[at as usize];
        match candidate.token {
            _ if candidate.count < 1 => {}
            Some(token) => {
                self.due.insert((token, at));
            }
            None if candidate.count > 1 => self.queue.push(Offer {
                count: candidate.count,
                bytes: std::cmp::Reverse(Arc::clone(&candidate.bytes)),
                candidate: at,
            }),
            None => {}
        }
    }

    /// Learns one token; false when no candidate stands twice.
    fn step(&mut self) -> bool {
        while let Some(offer) = self.queue.pop() {
            let at = offer.candidate;
            let candidate = &mut self.candidates[at as usize];
            if candidate.token.is_some() {
                continue;
            }
            if candidate.count != offer.count {
                // Its count fell since; a rise was offered when it happened.
                if candidate.count < offer.count {
                    self.offer(at);
                }
                continue;
            }
            let token = self.tokens.len() as u32;
            candidate.token = Some(token);
            let bytes = candidate.bytes.to_vec();
            self.ids.insert(bytes.clone(), token);
            self.tokens.push(bytes);
            self.merge(at, token);
            self.settle();
            return true;
        }
        false
    }

    /// Merges what is a token already, lowest id first.
    fn settle(&mut self) {
        while let Some((token, candidate)) = self.due.pop_first() {
            self.merge(candidate, token);
        }
    }

    /// Puts `token` wherever two neighbours make this candidate.
    fn merge(&mut self, candidate: u32, token: u32) {
        let mut words = std::mem::take(&mut self.candidates[candidate as usize].words);
        words.sort_unstable();
        words.dedup();
        let mut risen = Vec::new();
        for at in words {
            self.merge_in(at, candidate, token, &mut risen);
        }
        risen.sort_unstable();
        risen.dedup();
        risen.into_iter().for_each(|c| self.offer(c));
    }

    fn merge_in(&mut self, at: u32, candidate: u32, token: u32, risen: &mut Vec<u32>) {
        let word = &mut self.words[at as usize];
        if !word.pairs.contains(&candidate) {
            return;
        }
        let (old, pairs) = (std::mem::take(&mut word.tokens), std::mem::take(&mut word.pairs));
        let count = word.count;
        pairs.iter().for_each(|p| self.candidates[*p as usize].count -= count);
        let mut tokens = Vec::with_capacity(old.len());
        let mut new_pairs = Vec::with_capacity(pairs.len());
        let (mut i, mut before_merged) = (0, false);
        while i < old.len() {
            let merged = pairs.get(i) == Some(&candidate);
            let next = if merged { token } else { old[i] };
            if let Some(&last) = tokens.last() {
                let fresh = merged || before_merged;
                let pair = if fresh { self.candidate(last, next) } else { pairs[i - 1] };
                let entry = &mut self.candidates[pair as usize];
                entry.count += count;
                if fresh {
                    entry.words.push(at);
                    risen.push(pair);
                }
                new_pairs.push(pair);
            }
            tokens.push(next);
            before_merged = merged;
            i += 1 + usize::from(merged);
        }
        let word = &mut self.words[at as usize];
        (word.tokens, word.pairs) = (tokens, new_pairs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn training(vocabulary: usize) -> Training {
        Training { vocabulary, specials: special::FIXED, base: Vec::new() }
    }

    fn learned(texts: &[&str], count: usize) -> Vec<String> {
        let tokenizer = train_on(texts, &training(256 + special::FIXED + count)).unwrap();
        let end = tokenizer.vocabulary() - special::FIXED;
        (256..end as u32).map(|id| tokenizer.decode(&[id])).collect()
    }

    #[test]
    fn numbers_are_tokens_though_the_text_has_none() {
        let training = |digits| Training { base: numbers(digits), ..training(1_400) };
        for (digits, lengths) in [(1, [2, 3, 3]), (2, [1, 2, 2]), (3, [1, 1, 1])] {
            let tokenizer = train_on(&["the sea is wide"], &training(digits)).unwrap();
            let ids = ["47", "305", "007"].map(|text| tokenizer.encode(text).unwrap().len());
            assert_eq!(ids, lengths, "{digits}");
        }
    }

    #[test]
    fn most_frequent_first_then_smallest() {
        assert_eq!(learned(&["ab ab ab cd cd"], 9), ["ab", " ab", " c", " cd"]);
        assert_eq!(learned(&["xy xy", "ab ab"], 2), ["ab", "xy"]);
        assert_eq!(learned(&["aaaa aaaa"], 9), ["aa", "aaaa"]);
        assert_eq!(learned(&["abc"], 9), Vec::<String>::new());
    }

    #[test]
    fn sizes_are_checked() {
        let error = train_on(&["a"], &training(260)).unwrap_err().to_string();
        assert!(error.contains("at least 267"), "{error}");
        let base = vec![vec![b'a']];
        let bad = Training { vocabulary: 999, specials: 0, base };
        assert!(train_on(&["a"], &bad).unwrap_err().to_string().contains("0x00"));
    }

    /// Text with many repeats, of several scripts.
    fn corpus() -> Vec<String> {
        let words =
            ["the ", "thing ", "Ελλη", "νικά ", "漢字", "for i in 0..10 {\n", "\t}\n\n", "re"];
        let mut state = 7_u64;
        let mut draw = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % n
        };
        (0..300).map(|_| (0..40).map(|_| words[draw(words.len())]).collect()).collect()
    }

    #[test]
    fn the_encoder_makes_what_training_left() {
        let texts = corpus();
        let mut counts = Counts::default();
        counts.add(&texts).unwrap();
        let base: Vec<Vec<u8>> = (0..=255).map(|b| vec![b]).collect();
        let mut trainer = Trainer::new(base, &counts).unwrap();
        while trainer.tokens.len() < 500 && trainer.step() {}
        let tokenizer = Tokenizer::from_ranks(trainer.tokens.clone(), 11).unwrap();
        for word in &trainer.words {
            let text = tokenizer.decode(&word.tokens);
            assert_eq!(tokenizer.encode(&text).unwrap(), word.tokens, "{text:?}");
        }
        // Counts kept by step are those of a fresh count.
        let mut fresh = vec![0; trainer.candidates.len()];
        for word in &trainer.words {
            word.pairs.iter().for_each(|p| fresh[*p as usize] += word.count);
        }
        assert!(trainer.candidates.iter().zip(&fresh).all(|(c, n)| c.count == *n));
    }

    #[test]
    fn any_number_of_threads_gives_the_same() {
        let texts = corpus();
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| train_on(&texts, &training(420)).unwrap().to_json())
        };
        let one = with(1);
        assert!(one == with(2) && one == with(7));
    }

    #[test]
    fn old_ids_stay_when_ranks_are_extended() {
        let texts = corpus();
        let first = train_on(&texts[..100], &training(330)).unwrap();
        let base: Vec<Vec<u8>> = (0..330 - 11).map(|id| first.bytes(id as u32).to_vec()).collect();
        let more = Training { vocabulary: 400, specials: 16, base: base.clone() };
        let second = train_on(&texts, &more).unwrap();
        assert_eq!(second.vocabulary(), 400);
        for (id, bytes) in base.iter().enumerate() {
            assert_eq!(second.bytes(id as u32), bytes.as_slice());
        }
        let text = texts.concat();
        let (short, long) = (second.encode(&text).unwrap(), first.encode(&text).unwrap());
        assert!(short.len() < long.len());
        // Training again with the same text and size is training in one go.
        let whole = train_on(&texts, &training(400)).unwrap();
        let part = train_on(&texts, &training(350)).unwrap();
        let base = (0..350 - 11).map(|id| part.bytes(id as u32).to_vec()).collect();
        let rest = Training { vocabulary: 400, specials: 11, base };
        assert_eq!(train_on(&texts, &rest).unwrap().to_json(), whole.to_json());
    }
}
