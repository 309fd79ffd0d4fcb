//! Texts of any amount for measurements of memory and rate: `generate_texts DIR BYTES`.
//!
//! JSON Lines in files of some 16 MB, zstd, `url`, `date` and `text`: documents of some 5 kB in
//! lines of some 80 bytes, words drawn by Zipf's law from 60,000; one document of ten a copy of an
//! earlier one with edits, one of twenty another visit of an earlier URL, one line of eight from a
//! few thousand that sites share. A document depends on its number alone.

use std::io::Write;
use std::path::Path;

const FILE_BYTES: u64 = 16 << 20;
const VOCABULARY: u64 = 60_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: generate_texts DIR BYTES";
    let dir = arguments.next().ok_or(usage)?;
    let bytes: u64 = arguments.next().ok_or(usage)?.parse()?;
    std::fs::create_dir_all(&dir)?;
    let words: Vec<String> = (0..VOCABULARY).map(word).collect();
    let (mut number, mut written, mut lines) = (0u64, 0u64, 0u64);
    for file in 0.. {
        if written >= bytes {
            break;
        }
        let path = Path::new(&dir).join(format!("texts-{file:05}.jsonl.zst"));
        let mut out = zstd::Encoder::new(std::fs::File::create(path)?, 1)?;
        let until = written + FILE_BYTES;
        while written < until.min(bytes) {
            let text = text(number, &words);
            let day = 1 + number % 28;
            let address = if draw(number, 1).is_multiple_of(20) {
                draw(number, 2) % (number + 1)
            } else {
                number
            };
            let line = serde_json::json!({
                "url": format!("https://site{}.example/{address}", address % 9_973),
                "date": format!("2024-{:02}-{day:02}T00:00:00Z", 1 + number % 12),
                "text": text,
            });
            writeln!(out, "{line}")?;
            lines += text.lines().count() as u64;
            written += text.len() as u64;
            number += 1;
        }
        out.finish()?;
    }
    println!("{written} bytes of text, {lines} lines, {number} documents");
    Ok(())
}

fn draw(a: u64, b: u64) -> u64 {
    let x = (a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (x ^ (x >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 16
}

/// A word of two to five syllables; the most frequent are English function words.
fn word(rank: u64) -> String {
    const FUNCTION: [&str; 24] = [
        "the", "of", "and", "to", "in", "a", "is", "that", "was", "for", "it", "with", "as", "on",
        "be", "at", "by", "this", "had", "not", "are", "but", "from", "have",
    ];
    if let Some(word) = FUNCTION.get(rank as usize) {
        return (*word).to_owned();
    }
    let (mut word, mut rest) = (String::new(), draw(rank, 77));
    for _ in 0..2 + rank % 3 {
        word.push(b"bcdfghklmnprstvw"[(rest % 16) as usize].into());
        word.push(b"aeiou"[(rest / 16 % 5) as usize].into());
        rest /= 80;
    }
    word
}

/// Rank by Zipf's law with exponent 1: the logarithm is uniform.
fn zipf(draw: u64) -> u64 {
    let uniform = (draw & 0xffff_ffff) as f64 / 4_294_967_296.0;
    ((VOCABULARY as f64).powf(uniform) - 1.0) as u64
}

fn text(number: u64, words: &[String]) -> String {
    // A copy has the content of an earlier document and edits of its own.
    let copies = number > 100 && draw(number, 3).is_multiple_of(10);
    let content = if copies { draw(number, 4) % number } else { number };
    let rate = 60 + draw(number, 5) % 400;
    let mut text = String::with_capacity(5_400);
    let lines = 20 + draw(content, 6) % 90;
    for line in 0..lines {
        let place = content << 24 | line << 8;
        if draw(place, 7).is_multiple_of(8) {
            let shared = zipf(draw(place, 8)) % 5_000;
            text += &format!("Read more about {} and subscribe", words[30 + shared as usize]);
        } else {
            for n in 0..13 {
                let edited = copies && draw(number, place + n).is_multiple_of(rate);
                let drawn = draw(place + n, if edited { number } else { 9 });
                text += &words[zipf(drawn) as usize % words.len()];
                text.push(if n == 12 { '.' } else { ' ' });
            }
        }
        text.push('\n');
    }
    text
}
