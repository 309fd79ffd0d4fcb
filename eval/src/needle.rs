//! Needles in haystacks: a sentence that stands nowhere else is put into a long text at some depth,
//! and the model, at the end of it, has to say the number that only this sentence has (the test is
//! Kamradt's, 2023; paper, section 3.4.2: a context is long enough learned when needles are found
//! at every depth up to its length). The model completes text, so that one that was never tuned can
//! be asked. Not here: questions in dialogues (`exam`), what a poor result means for a run.
//!
//! Numbers are drawn by a counter, so that equal grids ask equal questions, and are none that stands
//! in the text; who guesses is right once in ninety. The haystack is text that the model was not
//! trained on.

use quipu_infer::{Engine, Sampling, Settings, complete};
use quipu_tokens::shard::Shard;
use quipu_tokens::{Tokenizer, special};
use serde::{Deserialize, Serialize};

use crate::{Error, Share};

/// Which needles are looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// Tokens of a haystack with its needle, question and answer, ascending.
    pub lengths: Vec<usize>,
    /// Depths at which a needle lies, evenly from the beginning to the end; from 2 to 1,000.
    pub depths: usize,
    /// Needles of each length and depth; from 1 to 1,000.
    pub needles: usize,
    /// The sentence, with `{number}`: the model is given its beginning once more at the end of the
    /// text, and has to say the number.
    pub needle: String,
}

/// The part of a needle that is asked for.
const NUMBER: &str = "{number}";
/// What it may be: two digits, which small vocabularies have as tokens, too.
const NUMBERS: std::ops::Range<u64> = 10..100;

impl Grid {
    /// What no model can be asked, as (key, what was found, what it must be).
    #[must_use]
    pub fn fault(&self, positions: usize) -> Option<(&'static str, String, String)> {
        let fits = |length: &&usize| !(LEAST..=positions).contains(*length);
        if self.lengths.is_empty() {
            return Some(("lengths", "[]".into(), "at least one length".into()));
        }
        if let Some(length) = self.lengths.iter().find(fits) {
            let expected = format!("from {LEAST} to the model's positions, {positions}");
            return Some(("lengths", length.to_string(), expected));
        }
        if self.lengths.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Some((
                "lengths",
                format!("{:?}", self.lengths),
                "ascending, none twice".into(),
            ));
        }
        for (key, found, least) in [("depths", self.depths, 2), ("needles", self.needles, 1)] {
            if !(least..=MOST).contains(&found) {
                return Some((key, found.to_string(), format!("from {least} to {MOST}")));
            }
        }
        let asked = self.needle.split_once(NUMBER).map(|(asked, _)| asked);
        let sound =
            asked.is_some_and(|asked| asked.len() > 1 && !asked.ends_with(char::is_numeric));
        let expected = format!("a sentence with, after some words, {NUMBER}");
        (!sound).then(|| ("needle", self.needle.clone(), expected))
    }
}

/// Tokens of the shortest haystack: a needle, its question and its answer in bytes.
const LEAST: usize = 128;

/// Depths, and needles of a depth, at most.
const MOST: usize = 1000;
/// Texts that are made at once.
const AT_ONCE: usize = 64;

/// What was found at one length and depth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Tokens of the whole text.
    pub length: usize,
    /// How deep the needle lay: 0 at the beginning, 1 right before the question.
    pub depth: f64,
    /// How many were found.
    pub recall: Share,
}

/// How many needles were found at each length, over all depths.
#[must_use]
pub fn by_length(cells: &[Cell]) -> Vec<(usize, Share)> {
    let mut found: Vec<(usize, usize, usize)> = Vec::new();
    for cell in cells {
        match found.iter_mut().find(|(length, ..)| *length == cell.length) {
            Some((_, count, of)) => {
                *count += cell.recall.count;
                *of += cell.recall.of;
            }
            None => found.push((cell.length, cell.recall.count, cell.recall.of)),
        }
    }
    found.into_iter().map(|(length, count, of)| (length, Share::new(count, of))).collect()
}

/// Sentences to hide needles among, as tokens.
#[derive(Debug, Clone, Default)]
pub struct Hay {
    sentences: Vec<Vec<u32>>,
}

/// Tokens of text that become hay, at most about.
const HAY: usize = 50_000;

impl Hay {
    /// The sentences of the documents of some shards, from the first on.
    ///
    /// # Errors
    /// [`Error::Tokens`].
    pub fn of(shards: &[Shard], tokenizer: &Tokenizer) -> Result<Self, Error> {
        let (mut sentences, mut tokens) = (Vec::new(), 0);
        let documents = shards.iter().flat_map(|s| (0..s.documents()).map(move |i| (s, i)));
        for (shard, i) in documents {
            if tokens >= HAY {
                break;
            }
            let entry = shard.document(i);
            let mut ids = Vec::new();
            shard.read(entry.start..entry.start + entry.tokens, &mut ids);
            let text = tokenizer.decode(&ids);
            let words: Vec<&str> = text.split_whitespace().collect();
            for sentence in words.split_inclusive(|word| word.ends_with(['.', '!', '?'])) {
                let ids = tokenizer.encode(&format!(" {}", sentence.join(" ")))?;
                tokens += ids.len();
                sentences.push(ids);
            }
        }
        Ok(Self { sentences })
    }

    /// Sentences from number `first` on, `room` tokens in all: the last one is cut.
    fn some(&self, first: usize, room: usize) -> Vec<&[u32]> {
        let (mut taken, mut left) = (Vec::new(), room);
        let ring = (0..self.sentences.len()).map(|i| (first + i) % self.sentences.len());
        for sentence in ring.cycle().map(|i| &self.sentences[i][..]).take(room) {
            let part = sentence.len().min(left);
            taken.push(&sentence[..part]);
            left -= part;
            if left == 0 {
                break;
            }
        }
        taken
    }
}

/// A haystack and the number that is to be found in it.
struct Question {
    prompt: Vec<u32>,
    number: String,
}

/// Looks for every needle of a grid and says how many were found where, lengths and depths
/// ascending. The same grid asks the same questions each time.
///
/// # Errors
/// What tokenizer and engine report; [`Error::Cancelled`].
pub fn search(
    engine: &mut Engine<'_>,
    tokenizer: &Tokenizer,
    hay: &Hay,
    grid: &Grid,
    cancelled: &dyn Fn() -> bool,
) -> Result<Vec<Cell>, Error> {
    let mut cells = Vec::new();
    let of_a_length = grid.depths * grid.needles;
    for (row, &length) in grid.lengths.iter().enumerate() {
        let mut found = Vec::with_capacity(of_a_length);
        while found.len() < of_a_length {
            let some = found.len()..of_a_length.min(found.len() + AT_ONCE);
            let mut questions = Vec::with_capacity(some.len());
            for at in some {
                let depth = (at / grid.needles) as f64 / (grid.depths - 1) as f64;
                let number = (row * of_a_length + at) as u64;
                questions.push(question(tokenizer, hay, (&grid.needle, length, depth), number)?);
            }
            let prompts: Vec<_> = questions.iter().map(|q| q.prompt.clone()).collect();
            let settings = Settings { max_new: ANSWER, sampling: Sampling::greedy() };
            let stop = tokenizer.stop_ids();
            let (replies, _) = complete(engine, tokenizer, prompts, stop, settings, cancelled)?;
            if cancelled() {
                return Err(quipu_store::Cancelled.into());
            }
            let answers = questions.iter().zip(&replies);
            found.extend(answers.map(|(q, reply)| says(&reply.text, &q.number)));
        }
        for (at, found) in found.chunks(grid.needles).enumerate() {
            let depth = at as f64 / (grid.depths - 1) as f64;
            let count = found.iter().filter(|found| **found).count();
            cells.push(Cell { length, depth, recall: Share::new(count, grid.needles) });
        }
    }
    Ok(cells)
}

/// Tokens of an answer: a blank, two digits and what comes behind them.
const ANSWER: usize = 4;

/// Whether an answer begins with the number, and the number ends there.
fn says(answer: &str, number: &str) -> bool {
    let rest = answer.trim_start().strip_prefix(number);
    rest.is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
}

fn question(
    tokenizer: &Tokenizer,
    hay: &Hay,
    (needle, length, depth): (&str, usize, f64),
    mut counter: u64,
) -> Result<Question, Error> {
    let asked = needle.split(NUMBER).next().unwrap_or_default().trim_end();
    let asked = tokenizer.encode(&format!(" {asked}"))?;
    let needle = |number: u64| {
        tokenizer.encode(&format!(" {}", needle.replace(NUMBER, &number.to_string())))
    };
    let room = length.saturating_sub(1 + needle(NUMBERS.start)?.len() + asked.len() + ANSWER);
    let sentences = hay.some(next(&mut counter) as usize % hay.sentences.len().max(1), room);
    let text = tokenizer.decode(&sentences.concat());
    let span = NUMBERS.end - NUMBERS.start;
    let first = next(&mut counter) % span;
    let mut free = (0..span).map(|more| NUMBERS.start + (first + more) % span);
    let number = free.find(|number| !text.contains(&number.to_string()));
    let number = number.unwrap_or(NUMBERS.start + first);
    let above = (depth * sentences.len() as f64).round() as usize;
    let mut prompt = vec![tokenizer.required(special::BEGIN_OF_TEXT)?];
    sentences[..above].iter().for_each(|sentence| prompt.extend(*sentence));
    prompt.extend(needle(number)?);
    sentences[above..].iter().for_each(|sentence| prompt.extend(*sentence));
    prompt.extend(&asked);
    Ok(Question { prompt, number: number.to_string() })
}

/// The next draw of a counter (SplitMix64; Steele and others, 2014).
fn next(counter: &mut u64) -> u64 {
    *counter = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *counter;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer() -> Tokenizer {
        Tokenizer::from_ranks((0..=255).map(|byte| vec![byte]).collect(), 11).unwrap()
    }

    fn hay(tokenizer: &Tokenizer) -> Hay {
        let texts = [" The sea is wide.", " Nobody came.", " It rained all day long."];
        Hay { sentences: texts.iter().map(|text| tokenizer.encode(text).unwrap()).collect() }
    }

    #[test]
    fn a_needle_lies_at_its_depth_and_the_text_fills_its_length() {
        let tokenizer = tokenizer();
        let hay = hay(&tokenizer);
        for depth in [0.0, 0.5, 1.0] {
            let needle = "The password is {number}.";
            let question = question(&tokenizer, &hay, (needle, 512, depth), 7).unwrap();
            let length = question.prompt.len() + ANSWER;
            assert_eq!(length, 512);
            let text = tokenizer.decode(&question.prompt);
            let at = text.find(" The password is").unwrap();
            // All that is no needle, question or answer is hay; needles lie between its sentences.
            let hay = (512 - 1 - 20 - 16 - ANSWER) as f64;
            assert!((at as f64 - depth * hay).abs() <= 25.0, "{depth}: {at} in {text}");
            assert_eq!(text.matches(" The password is").count(), 2);
            assert_eq!(text.matches(&question.number).count(), 1, "{text}");
            assert!(text.ends_with(" is"));
        }
    }

    #[test]
    fn an_answer_is_the_whole_number() {
        assert!(says(" 47. The sea", "47") && says("47", "47") && says("47, then", "47"));
        assert!(!says("471", "47") && !says("the 47", "47") && !says("", "47"));
    }

    #[test]
    fn grids_that_nobody_can_be_asked_are_refused() {
        let grid = |lengths: &[usize], depths, needles| Grid {
            lengths: lengths.into(),
            depths,
            needles,
            needle: "It is {number}.".into(),
        };
        let needle = |needle: &str| Grid { needle: needle.into(), ..grid(&[512], 5, 4) };
        assert_eq!(grid(&[128, 1024], 5, 4).fault(1024), None);
        for (grid, key) in [
            (grid(&[], 5, 4), "lengths"),
            (grid(&[1025], 5, 4), "lengths"),
            (grid(&[100], 5, 4), "lengths"),
            (grid(&[512, 512], 5, 4), "lengths"),
            (grid(&[1024, 512], 5, 4), "lengths"),
            (grid(&[512], 1, 4), "depths"),
            (grid(&[512], 5, 0), "needles"),
            (grid(&[512], usize::MAX, 4), "depths"),
            (grid(&[512], 5, usize::MAX), "needles"),
            (needle("{number} it is."), "needle"),
            (needle("It is 1{number}."), "needle"),
            (needle("It is a number."), "needle"),
        ] {
            assert_eq!(grid.fault(1024).unwrap().0, key);
        }
    }

    #[test]
    fn lengths_are_summed_over_depths() {
        let cell = |length, depth, count| Cell { length, depth, recall: Share::new(count, 4) };
        let found = by_length(&[cell(512, 0.0, 1), cell(512, 1.0, 4), cell(1024, 0.0, 0)]);
        assert_eq!(found, [(512, Share::new(5, 8)), (1024, Share::new(0, 4))]);
    }
}
