//! The tokenizer: bytes of each token, special tokens, merges, and an encoder built from them.
//! Byte-level byte-pair encoding as Llama 3 has it (paper sheet, section 4). The encoder is the
//! crate `tokenizers`; what is ours is the table it is built from, so that a tokenizer can be
//! trained, extended, read and written. Not here: files (`hugging_face`, `tiktoken`), training
//! (`bpe`), dialogues (`chat`).

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;
use tokenizers::models::bpe::{BpeConfig, Merges, PipelineBPE, Vocab};
use tokenizers::pipeline::{
    EncodeOptions, PipelineModel, PipelinePostProcessor, PipelinePreTokenizer, PipelineToken,
    PipelineTokenizer,
};
use tokenizers::vocab::bucket_added_vocabulary::AddedVocabulary;

use crate::{Error, alphabet, special, split, stream::StreamDecoder};

/// A token that is matched as a whole text and never made by merges: the special tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Added {
    /// Its id.
    pub id: u32,
    /// Its text.
    pub text: String,
    /// Left out of decoded text.
    pub special: bool,
}

/// What a tokenizer is made of; [`Tokenizer::build`] turns it into one that encodes.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    /// Bytes of the token with this id; `None` where an id is an added token's or nobody's.
    pub pieces: Vec<Option<Box<[u8]>>>,
    /// Pairs of ids in order of preference; the bytes of a pair's union are a token's.
    pub merges: Vec<(u32, u32)>,
    /// Special and other added tokens.
    pub added: Vec<Added>,
    /// The split pattern.
    pub pattern: String,
    /// A pre-token that is a token is taken whole, whatever the merges would make of it.
    pub ignore_merges: bool,
}

/// A byte-level BPE tokenizer. Cloning is cheap in memory traffic but copies the tables; share it
/// behind an `Arc` across threads.
#[derive(Clone)]
pub struct Tokenizer {
    parts: Parts,
    by_text: HashMap<String, u32>,
    engine: PipelineTokenizer,
    options: EncodeOptions,
    /// its file, once somebody asked for it
    json: OnceLock<Arc<str>>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocabulary", &self.vocabulary())
            .field("special", &self.parts.added.len())
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// A tokenizer from the byte strings of its ranks, with `specials` special tokens of Llama 3
    /// behind them (at least [`special::FIXED`]).
    ///
    /// # Errors
    /// [`Error::Vocabulary`] when a rank stands twice or a byte is missing.
    pub fn from_ranks(ranks: Vec<Vec<u8>>, specials: usize) -> Result<Self, Error> {
        let base = ranks.len();
        let merges = merges_of_ranks(&ranks)?;
        let added = special::names(specials)
            .into_iter()
            .enumerate()
            .map(|(i, text)| Added { id: (base + i) as u32, text, special: true })
            .collect();
        Self::build(Parts {
            pieces: ranks.into_iter().map(|r| Some(r.into_boxed_slice())).collect(),
            merges,
            added,
            pattern: split::LLAMA3_PATTERN.to_owned(),
            ignore_merges: true,
        })
    }

    /// Builds the encoder; refuses tables that it could not run on.
    pub(crate) fn build(mut parts: Parts) -> Result<Self, Error> {
        parts.added.sort_by_key(|a| a.id);
        check_bytes(&parts.pieces)?;
        let top = parts.added.iter().map(|a| a.id as usize + 1).max().unwrap_or(0);
        if top > parts.pieces.len() {
            parts.pieces.resize(top, None);
        }
        let refuse = |reason: String| Error::Vocabulary { asked: parts.pieces.len(), reason };
        let spelled = |id: u32| -> Result<String, Error> {
            let piece = parts.pieces.get(id as usize).and_then(Option::as_ref);
            piece.map(|p| alphabet::spell(p)).ok_or_else(|| {
                refuse(format!("a merge names token {id}, which the vocabulary lacks"))
            })
        };
        let mut vocab = Vocab::default();
        for (id, piece) in parts.pieces.iter().enumerate() {
            let Some(piece) = piece else { continue };
            if vocab.insert(alphabet::spell(piece), id as u32).is_some() {
                return Err(refuse(format!("token {id} has the bytes of another token")));
            }
        }
        let merges: Merges = parts
            .merges
            .iter()
            .map(|&(l, r)| Ok((spelled(l)?, spelled(r)?)))
            .collect::<Result<_, Error>>()?;
        let model = PipelineBPE::from_config(BpeConfig {
            vocab,
            merges,
            byte_level: true,
            ignore_merges: parts.ignore_merges,
            ..BpeConfig::default()
        })
        .map_err(|e| refuse(e.to_string()))?;
        let engine = PipelineTokenizer::from_parts(
            AddedVocabulary::new(),
            Vec::new(),
            PipelinePreTokenizer::Split(split::native(&parts.pattern)?),
            PipelineModel::BPE(model),
            PipelinePostProcessor::default(),
            None,
            std::collections::BTreeMap::new(),
            None,
            None,
        );
        let by_text = parts.added.iter().map(|a| (a.text.clone(), a.id)).collect();
        let (options, json) = (EncodeOptions::no_specials(), OnceLock::new());
        Ok(Self { parts, by_text, engine, options, json })
    }

    /// Where the text of its file is kept.
    pub(crate) fn json(&self) -> &OnceLock<Arc<str>> {
        &self.json
    }

    /// The tables it was built from.
    pub(crate) fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Number of ids: one more than the largest.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.parts.pieces.len()
    }

    /// The id of a special token by its text.
    #[must_use]
    pub fn special(&self, text: &str) -> Option<u32> {
        self.by_text.get(text).copied()
    }

    /// The id of a special token that must be there.
    ///
    /// # Errors
    /// [`Error::NoSpecial`] where the tokenizer has none of this name.
    pub fn required(&self, text: &str) -> Result<u32, Error> {
        self.special(text).ok_or_else(|| Error::NoSpecial { name: text.to_owned() })
    }

    /// True for an id that decoded text leaves out.
    #[must_use]
    pub fn is_special(&self, id: u32) -> bool {
        self.added(id).is_some_and(|a| a.special)
    }

    /// The ids that end a generation: end of text, of message, of turn, as far as they exist.
    #[must_use]
    pub fn stop_ids(&self) -> Vec<u32> {
        [special::END_OF_TEXT, special::END_OF_MESSAGE, special::END_OF_TURN]
            .iter()
            .filter_map(|name| self.special(name))
            .collect()
    }

    /// The bytes that an id stands for in text: empty for special tokens and unused ids.
    #[must_use]
    pub fn bytes(&self, id: u32) -> &[u8] {
        match self.parts.pieces.get(id as usize).and_then(Option::as_deref) {
            Some(piece) => piece,
            None => match self.added(id) {
                Some(added) if !added.special => added.text.as_bytes(),
                _ => b"",
            },
        }
    }

    fn added(&self, id: u32) -> Option<&Added> {
        let at = self.parts.added.binary_search_by_key(&id, |a| a.id).ok()?;
        self.parts.added.get(at)
    }

    /// Encodes text as ordinary text: what looks like a special token becomes the tokens of its
    /// characters. Nothing is put before or after.
    ///
    /// # Errors
    /// [`Error::Encode`] when the encoder refuses the text (4 GiB and more).
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        let mut out: Vec<PipelineToken> = Vec::with_capacity(text.len() / 3);
        self.engine
            .encode_into(text, &self.options, &mut out)
            .map_err(|e| Error::Encode { bytes: text.len(), reason: e.to_string() })?;
        Ok(PipelineToken::cast_slice(&out).to_vec())
    }

    /// Encodes many texts on all threads; the result does not depend on their number.
    ///
    /// # Errors
    /// The first that [`encode`](Self::encode) gives.
    pub fn encode_batch<T: AsRef<str> + Sync>(&self, texts: &[T]) -> Result<Vec<Vec<u32>>, Error> {
        texts.par_iter().map(|t| self.encode(t.as_ref())).collect()
    }

    /// Encodes text in which special tokens count as themselves: for text that the program wrote,
    /// never for what a user or a page says.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_with_special(&self, text: &str) -> Result<Vec<u32>, Error> {
        let mut out = Vec::new();
        let mut rest = text;
        while let Some((at, added)) = self.first_added(rest) {
            out.extend(self.encode(&rest[..at])?);
            out.push(added.id);
            rest = &rest[at + added.text.len()..];
        }
        out.extend(self.encode(rest)?);
        Ok(out)
    }

    /// The leftmost added token in a text, the longest of those that begin there.
    fn first_added(&self, text: &str) -> Option<(usize, &Added)> {
        let found = |a: &'_ Added| text.find(&a.text).filter(|_| !a.text.is_empty());
        self.parts
            .added
            .iter()
            .filter_map(|a| found(a).map(|at| (at, a)))
            .min_by_key(|(at, a)| (*at, std::cmp::Reverse(a.text.len())))
    }

    /// The text of ids; special tokens are left out, bytes that are no UTF-8 become U+FFFD.
    #[must_use]
    pub fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| self.bytes(id)).copied().collect();
        lossy(bytes)
    }

    /// The text of ids with special tokens spelled out.
    #[must_use]
    pub fn decode_with_special(&self, ids: &[u32]) -> String {
        let mut bytes = Vec::new();
        for &id in ids {
            match self.added(id) {
                Some(added) => bytes.extend_from_slice(added.text.as_bytes()),
                None => bytes.extend_from_slice(self.bytes(id)),
            }
        }
        lossy(bytes)
    }

    /// A decoder that takes one id at a time and never gives half a character.
    #[must_use]
    pub fn stream(&self) -> StreamDecoder<'_> {
        StreamDecoder::new(self)
    }
}

fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// Every byte must be a token, or some text could not be encoded.
fn check_bytes(pieces: &[Option<Box<[u8]>>]) -> Result<(), Error> {
    let mut seen = [false; 256];
    for piece in pieces.iter().flatten() {
        match **piece {
            [] => {
                let reason = "a token has no bytes".to_owned();
                return Err(Error::Vocabulary { asked: pieces.len(), reason });
            }
            [byte] => seen[byte as usize] = true,
            _ => {}
        }
    }
    match seen.iter().position(|s| !s) {
        None => Ok(()),
        Some(byte) => Err(Error::Vocabulary {
            asked: pieces.len(),
            reason: format!("no token for the single byte {byte:#04x}; a byte-level one needs all"),
        }),
    }
}

/// The merges that ranks imply: every way to cut a token in two tokens, by rank of the whole, then
/// of the parts. With all of them, pair merging by list gives what tiktoken's merging by rank does.
fn merges_of_ranks(ranks: &[Vec<u8>]) -> Result<Vec<(u32, u32)>, Error> {
    let mut by_bytes: HashMap<&[u8], u32> = HashMap::with_capacity(ranks.len());
    for (id, rank) in ranks.iter().enumerate() {
        if let Some(first) = by_bytes.insert(rank, id as u32) {
            let reason = format!("ranks {first} and {id} have the same bytes");
            return Err(Error::Vocabulary { asked: ranks.len(), reason });
        }
    }
    let mut merges = Vec::with_capacity(ranks.len() * 2);
    for rank in ranks {
        let from = merges.len();
        for cut in 1..rank.len() {
            let (left, right) = rank.split_at(cut);
            if let (Some(&l), Some(&r)) = (by_bytes.get(left), by_bytes.get(right)) {
                merges.push((l, r));
            }
        }
        merges[from..].sort_unstable();
    }
    Ok(merges)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A tokenizer with a few merges, for tests of the crate.
    pub(crate) fn small() -> Tokenizer {
        let mut ranks: Vec<Vec<u8>> = (0..=255).map(|b| vec![b]).collect();
        let more: [&[u8]; 9] =
            [b"th", b"the", b" the", b"in", b"ing", b"er", "\u{e9}".as_bytes(), b"\n\n", b"user"];
        // "user" is made by no merges: only a whole pre-token gives it.
        ranks.extend(more.iter().map(|t| t.to_vec()));
        Tokenizer::from_ranks(ranks, 16).unwrap()
    }

    #[track_caller]
    fn check(text: &str, pieces: &[&str]) {
        let tokenizer = small();
        let ids = tokenizer.encode(text).unwrap();
        let got: Vec<String> = ids.iter().map(|&i| tokenizer.decode(&[i])).collect();
        assert_eq!(got, pieces);
        assert_eq!(tokenizer.decode(&ids), text);
    }

    #[test]
    fn merges_by_rank() {
        check("the thing", &["the", " ", "th", "ing"]);
        check("thther", &["th", "the", "r"]);
        check("user", &["user"]);
        check("users", &["u", "s", "er", "s"]);
        check("", &[]);
    }

    #[test]
    fn special_text_stays_text_unless_asked() {
        let tokenizer = small();
        let text = "a<|eot_id|>b";
        let eot = tokenizer.required(special::END_OF_TURN).unwrap();
        let plain = tokenizer.encode(text).unwrap();
        assert!(!plain.contains(&eot) && tokenizer.decode(&plain) == text);
        let with = tokenizer.encode_with_special(text).unwrap();
        assert_eq!(with, [97, eot, 98]);
        assert_eq!(tokenizer.decode(&with), "ab");
        assert_eq!(tokenizer.decode_with_special(&with), text);
        assert_eq!(tokenizer.vocabulary(), 256 + 9 + 16);
    }

    #[test]
    fn bad_tables_are_refused() {
        let mut ranks: Vec<Vec<u8>> = (0..=255).map(|b| vec![b]).collect();
        ranks.remove(10);
        let error = Tokenizer::from_ranks(ranks.clone(), 16).unwrap_err().to_string();
        assert!(error.contains("0x0a"), "{error}");
        ranks.push(vec![10]);
        ranks.push(vec![11]);
        let error = Tokenizer::from_ranks(ranks, 16).unwrap_err().to_string();
        assert!(error.contains("same bytes"), "{error}");
    }

    #[test]
    fn a_long_run_of_one_letter_ends() {
        let tokenizer = small();
        let text = "a".repeat(1 << 20);
        assert_eq!(tokenizer.encode(&text).unwrap().len(), 1 << 20);
    }

    proptest::proptest! {
        #[test]
        fn round_trips(text in ".{0,200}") {
            let tokenizer = small();
            let ids = tokenizer.encode(&text).unwrap();
            proptest::prop_assert_eq!(tokenizer.decode(&ids), text.clone());
            let mut stream = tokenizer.stream();
            let mut joined: String = ids.iter().map(|&id| stream.push(id)).collect();
            joined += &stream.finish();
            proptest::prop_assert_eq!(joined, text);
        }
    }
}
