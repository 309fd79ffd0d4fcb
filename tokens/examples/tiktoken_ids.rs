//! Ranks and ids for tiktoken to be held against: trains a vocabulary on the texts below some folders,
//! writes it to `DIR/ranks.tiktoken`, reads that file back, and writes each text with its ids to
//! `DIR/ids.jsonl`. Not the comparison, which `cargo xtask peers` makes.
//!
//! Usage: `tiktoken_ids DIR FOLDER…`

use quipu_tokens::{Tokenizer, bpe, special, tiktoken};
use serde_json::json;
use std::fmt::Write;
use std::path::{Path, PathBuf};

type Error = Box<dyn std::error::Error>;

/// Bytes of a text, at most about: cut before a character, so within words and lines too.
const PIECE: usize = 20_000;

/// What ordinary texts lack.
const ODD: [&str; 6] = [
    "a  b   c    d\t\te \n \n\n  f      \r\n\r\n\r\r   \u{a0}x\u{2003}y\u{3000}z\u{2028}\u{2029}\u{85}",
    "\u{1f469}\u{200d}\u{1f469}\u{200d}\u{1f467}\u{1f3fd}!!! \u{1f1e9}\u{1f1ea}\u{2764}\u{fe0f} \u{1f4a9}x\u{1f4a9}",
    "\u{fffd}\u{fffd} \u{0}\u{1}\u{7f} e\u{301}\u{301} \u{feff}x\u{ffff} \u{e000}\u{10ffff} \u{202e}abc\u{202c}",
    "12345678901234567890 3.14159 \u{bd}\u{2167} \u{661}\u{662}\u{663}\u{664} 1'2''3 'S 'RE 'Ll \u{17f}'\u{17f}",
    "<|begin_of_text|><|eot_id|>\n\n<|python_tag|>",
    "",
];

fn main() -> Result<(), Error> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let Some((dir, folders)) = arguments.split_first() else {
        return Err("usage: tiktoken_ids DIR FOLDER…".into());
    };
    let mut texts: Vec<String> = ODD.map(str::to_owned).into();
    folders.iter().try_for_each(|folder| gather(folder, &mut texts))?;
    let training =
        bpe::Training { vocabulary: 16_000, specials: special::LLAMA3, base: Vec::new() };
    let ranks = dir.join("ranks.tiktoken");
    bpe::train_on(&texts, &training)?.save_ranks(&ranks)?;
    let tokenizer = Tokenizer::from_ranks(tiktoken::load(&ranks)?, special::LLAMA3)?;
    let mut lines = String::new();
    for text in &texts {
        writeln!(lines, "{}", json!({"text": text, "ids": tokenizer.encode(text)?}))?;
    }
    Ok(std::fs::write(dir.join("ids.jsonl"), lines)?)
}

/// The files below a folder that are UTF-8, in pieces.
fn gather(path: &Path, texts: &mut Vec<String>) -> Result<(), Error> {
    if path.is_dir() {
        let entries = std::fs::read_dir(path)?.map(|e| e.map(|e| e.path()));
        let mut entries = entries.collect::<Result<Vec<_>, _>>()?;
        entries.sort();
        return entries.iter().try_for_each(|entry| gather(entry, texts));
    }
    let Ok(text) = String::from_utf8(std::fs::read(path)?) else { return Ok(()) };
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE));
        texts.push(piece.to_owned());
        rest = after;
    }
    Ok(())
}
