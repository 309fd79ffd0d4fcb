//! tiktoken's ranks, read and written: one token a line, its bytes in base64, a blank, its rank.
//! The form of Llama 3's own `tokenizer.model`. Special tokens are not in it: they lie behind the
//! ranks. Not here: base64 in general.

use std::path::Path;

use crate::{Error, Tokenizer, split};

/// Reads ranks; the place in the list is the rank.
///
/// # Errors
/// [`Error::Read`] when the file cannot be read, [`Error::Ranks`] with the line that is wrong.
pub fn load(path: &Path) -> Result<Vec<Vec<u8>>, Error> {
    let text =
        std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    parse(&text, &path.display().to_string())
}

/// Reads the content of a ranks file; `name` is what errors call it.
///
/// # Errors
/// [`Error::Ranks`] with the line that is wrong.
pub fn parse(text: &[u8], name: &str) -> Result<Vec<Vec<u8>>, Error> {
    let refuse = |line: usize, reason: String| Error::Ranks { path: name.to_owned(), line, reason };
    let mut ranks: Vec<Option<(usize, Vec<u8>)>> = Vec::new();
    let lines: Vec<&[u8]> = text.split(|b| *b == b'\n').collect();
    for (at, line) in lines.iter().enumerate().filter(|(_, l)| !l.trim_ascii().is_empty()) {
        let line = line.trim_ascii();
        let refuse = |reason: String| refuse(at + 1, reason);
        let blank = line.iter().position(|b| *b == b' ');
        let (token, rank) = match blank {
            Some(blank) => (&line[..blank], line[blank..].trim_ascii()),
            None => return Err(refuse("no blank between token and rank".to_owned())),
        };
        let rank: usize = std::str::from_utf8(rank)
            .ok()
            .and_then(|r| r.parse().ok())
            .ok_or_else(|| refuse(format!("{:?} is no rank", String::from_utf8_lossy(rank))))?;
        if rank >= lines.len() {
            return Err(refuse(format!("rank {rank} in a file of {} lines", lines.len())));
        }
        let bytes = decode(token).filter(|b| !b.is_empty());
        let bytes = bytes.ok_or_else(|| refuse("the token is no base64".to_owned()))?;
        if ranks.len() <= rank {
            ranks.resize(rank + 1, None);
        }
        if let Some((first, _)) = ranks[rank].replace((at + 1, bytes)) {
            return Err(refuse(format!("rank {rank} stands in line {first} too")));
        }
    }
    let dense = ranks.into_iter().enumerate().map(|(rank, found)| {
        found.map(|(_, bytes)| bytes).ok_or_else(|| refuse(0, format!("rank {rank} is missing")))
    });
    dense.collect()
}

/// The text of ranks.
#[must_use]
pub fn print(ranks: &[Vec<u8>]) -> String {
    ranks.iter().enumerate().map(|(rank, bytes)| format!("{} {rank}\n", encode(bytes))).collect()
}

impl Tokenizer {
    /// Its ranks, for a tokenizer whose ids are ranks followed by special tokens and whose merges
    /// and split are those that readers of ranks assume.
    ///
    /// # Errors
    /// [`Error::Vocabulary`] when ranks alone would not give the same ids.
    pub fn ranks(&self) -> Result<Vec<Vec<u8>>, Error> {
        let parts = self.parts();
        let ranks: Vec<Vec<u8>> =
            parts.pieces.iter().map_while(|p| p.as_deref().map(<[u8]>::to_vec)).collect();
        let refuse = |reason: &str| {
            Err(Error::Vocabulary { asked: parts.pieces.len(), reason: reason.to_owned() })
        };
        if parts.pieces[ranks.len()..].iter().any(Option::is_some) {
            return refuse("ids have gaps, which ranks cannot say");
        }
        if parts.pattern != split::LLAMA3_PATTERN || !parts.ignore_merges {
            return refuse("its split or ignore_merges is not Llama 3's, which ranks cannot say");
        }
        let same = Self::from_ranks(ranks.clone(), 0)?.parts().merges == parts.merges;
        if !same {
            return refuse("its merges are not those that its ranks imply");
        }
        Ok(ranks)
    }

    /// Writes tiktoken's ranks, whole or not at all.
    ///
    /// # Errors
    /// As [`ranks`](Self::ranks); [`Error::Store`] when it cannot be written.
    pub fn save_ranks(&self, path: &Path) -> Result<(), Error> {
        Ok(quipu_store::atomic::write_bytes(path, print(&self.ranks()?).as_bytes())?)
    }
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0_u32, |w, b| w << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let filled = digit <= chunk.len();
            let at = (word >> (18 - 6 * digit)) as usize & 63;
            out.push(if filled { char::from(DIGITS[at]) } else { '=' });
        }
    }
    out
}

/// `None` for anything but padded base64 as [`encode`] writes it.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    for (at, chunk) in text.chunks(4).enumerate() {
        let padding = chunk.iter().rev().take_while(|b| **b == b'=').count();
        if padding > 2 || (padding > 0 && (at + 1) * 4 != text.len()) {
            return None;
        }
        let mut word = 0_u32;
        for digit in &chunk[..4 - padding] {
            let value = DIGITS.iter().position(|d| d == digit)?;
            word = word << 6 | value as u32;
        }
        word <<= 6 * padding;
        out.extend_from_slice(&word.to_be_bytes()[1..4 - padding]);
    }
    (encode(&out).as_bytes() == text).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bpe, tokenizer::tests::small};
    use std::collections::HashMap;
    use std::sync::LazyLock;

    #[test]
    fn round_trip() {
        let tokenizer = small();
        let ranks = tokenizer.ranks().unwrap();
        let text = print(&ranks);
        assert!(text.starts_with("AA== 0\nAQ== 1\n"), "{}", &text[..20]);
        assert_eq!(parse(text.as_bytes(), "x").unwrap(), ranks);
        let again = Tokenizer::from_ranks(ranks, 16).unwrap();
        assert_eq!(again.to_json(), tokenizer.to_json());
    }

    /// The ids that tiktoken gives, by its own way: cut by a regex engine; a piece that is a token is
    /// that token; else the two neighbours whose union has the lowest rank become one, the leftmost
    /// of equals first, until no union has a rank.
    fn by_rank(ranks: &[Vec<u8>], text: &str) -> Vec<u32> {
        let of: HashMap<&[u8], u32> = (0..).zip(ranks).map(|(id, r)| (&r[..], id)).collect();
        let pattern = fancy_regex::Regex::new(split::LLAMA3_PATTERN).unwrap();
        let mut ids = Vec::new();
        for piece in pattern.find_iter(text).map(|m| m.unwrap().as_str().as_bytes()) {
            if let Some(&id) = of.get(piece) {
                ids.push(id);
                continue;
            }
            // Where each part begins, and the end.
            let mut cuts: Vec<usize> = (0..=piece.len()).collect();
            let union = |cuts: &[usize], i: usize| of.get(&piece[cuts[i]..cuts[i + 2]]).copied();
            let best = |cuts: &[usize]| {
                let joined = (0..cuts.len() - 2).filter_map(|i| Some((union(cuts, i)?, i)));
                joined.min()
            };
            while let Some((_, i)) = best(&cuts) {
                cuts.remove(i + 1);
            }
            ids.extend(cuts.windows(2).map(|c| of[&piece[c[0]..c[1]]]));
        }
        ids
    }

    /// Text of many kinds: scripts, code, runs of blanks, emoji, what looks broken.
    const KINDS: &[&str] = &[
        "It was the best of times, it was the worst of times; it wasn't WE'LL I'd 'tis ''s.",
        "\u{0395}\u{03af}\u{03bd}\u{03b1}\u{03b9} \u{03b7} \u{03b5}\u{03c0}\u{03bf}\u{03c7}\u{03ae}",
        "\u{305d}\u{308c}\u{306f}\u{6700}\u{826f}\u{306e}\u{6642}\u{4ee3}",
        " \u{d55c}\u{ad6d}\u{c5b4} \u{928}\u{92e}\u{938}\u{94d}\u{924}\u{947}",
        "\u{0645}\u{0631}\u{062d}\u{0628}\u{0627}",
        " \u{0661}\u{0662}\u{0663} \u{202e}abc\u{202c} \u{05e9}\u{05dc}\u{05d5}\u{05dd}",
        "fn main() {\n    let x = 1_000;\n\tif x != 0xFF { return; }\n}\r\n\r\n// ok\n",
        "a  b   c    d\t\te \n \n\n  f      ",
        "\u{1f469}\u{200d}\u{1f469}\u{200d}\u{1f467}\u{1f3fd}!!! \u{1f1e9}\u{1f1ea}\u{2764}\u{fe0f}",
        "\u{fffd}\u{fffd} \u{0}\u{1}\u{7f}\u{85} e\u{301}\u{301} \u{feff}x\u{ffff} \u{e000}\u{10ffff}",
        "1234567890 3.14159 \u{bd}\u{2167} 12,345 2026-11-27 <|eot_id|> <|begin_of_text|>",
        "\u{a0}x\u{2003}y\u{3000}z \u{2028}\u{2029} \u{200b}",
    ];

    /// Ranks that were trained, and with them some that no merges lead to.
    fn ranks() -> Vec<Vec<u8>> {
        let texts: Vec<String> = KINDS.iter().map(|t| t.repeat(3)).collect();
        let training = bpe::Training { vocabulary: 460, specials: 11, base: Vec::new() };
        let mut ranks = bpe::train_on(&texts, &training).unwrap().ranks().unwrap();
        for more in [" wasp", "times", "\n\n\n\n", "\u{1f3fd}", "0000", "worst of"] {
            if !ranks.iter().any(|r| r == more.as_bytes()) {
                ranks.push(more.as_bytes().to_vec());
            }
        }
        ranks
    }

    #[test]
    fn ids_are_those_of_merging_by_rank() {
        let ranks = ranks();
        let file = print(&ranks);
        let read = parse(file.as_bytes(), "x").unwrap();
        let tokenizer = Tokenizer::from_ranks(read, 256).unwrap();
        for text in KINDS {
            assert_eq!(tokenizer.encode(text).unwrap(), by_rank(&ranks, text), "{text:?}");
        }
        let all = KINDS.concat();
        assert_eq!(tokenizer.encode(&all).unwrap(), by_rank(&ranks, &all));
        // Its own ranks are those of the file, so that a round through us loses nothing.
        assert_eq!(print(&tokenizer.ranks().unwrap()), file);
    }

    proptest::proptest! {
        #[test]
        fn ids_of_random_text_are_those_of_merging_by_rank(
            cuts in proptest::collection::vec((0..KINDS.len(), 0_usize..40, 0_usize..12), 1..12),
            noise in ".{0,12}",
        ) {
            static RANKS: LazyLock<(Vec<Vec<u8>>, Tokenizer)> = LazyLock::new(|| {
                let ranks = ranks();
                (ranks.clone(), Tokenizer::from_ranks(ranks, 11).unwrap())
            });
            let cut = |(kind, from, length): (usize, usize, usize)| -> String {
                KINDS[kind].chars().skip(from).take(length).collect()
            };
            let text = cuts.into_iter().map(cut).collect::<String>() + &noise;
            proptest::prop_assert_eq!(RANKS.1.encode(&text).unwrap(), by_rank(&RANKS.0, &text));
        }
    }

    #[track_caller]
    fn check_refused(text: &str, says: &str) {
        let error = parse(text.as_bytes(), "r.model").unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("r.model"), "{error}");
    }

    #[test]
    fn attacks() {
        check_refused("AA==", "line 1: no blank");
        check_refused("AA== 0\nAQ== x", "line 2: \"x\" is no rank");
        check_refused("AA== 99999999999999999999", "is no rank");
        check_refused("AA== 4000000000", "rank 4000000000 in a file of 1 lines");
        check_refused("A=== 0", "no base64");
        check_refused("AB== 0", "no base64");
        check_refused("AA==AA== 0", "no base64");
        check_refused("A 0", "no base64");
        check_refused("AA== 0\nAQ== 0", "line 1 too");
        check_refused("AA== 0\nAQ== 2\n\n", "rank 1 is missing");
        check_refused("é 0", "no base64");
        assert!(Tokenizer::from_ranks(parse(b"", "x").unwrap(), 11).is_err());
    }

    #[test]
    fn mutations_never_panic() {
        let good = print(&small().ranks().unwrap()).into_bytes();
        let mut state = 3_u64;
        for _ in 0..2000 {
            let mut bad = good.clone();
            for _ in 0..3 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (state >> 33) as usize % bad.len();
                bad[at] = (state >> 20) as u8;
            }
            bad.truncate(bad.len() - (state >> 8) as usize % 50);
            if let Ok(ranks) = parse(&bad, "m") {
                let _ = Tokenizer::from_ranks(ranks, 11);
            }
        }
    }

    #[test]
    fn base64_of_every_length() {
        for length in 0..9_u8 {
            let bytes: Vec<u8> = (0..length).map(|b| b.wrapping_mul(91) ^ 0xC5).collect();
            assert_eq!(decode(encode(&bytes).as_bytes()), Some(bytes));
        }
    }
}
