//! Near copies against brute force: `near_copies TEXTS.jsonl [DOCUMENTS]`.
//!
//! Takes texts (JSON Lines with `text`, as `quipu extract` prints them), adds edited copies until
//! there are DOCUMENTS (words exchanged at rates from 0.2 to 6 %, boilerplate swapped, ends cut,
//! paragraphs left out; 0: only the texts themselves), curates them with every rule switched off,
//! and holds the result against the true similarity of all pairs that share a sequence of words,
//! counted by an inverted index. Says how many documents with a kept neighbour of similarity 0.85
//! or more were removed, and whether any removal is below the threshold. Not a test: it takes
//! minutes; its figures stand in `bench/`.

use quipu_corpus::dedup::minhash::{jaccard, shingles};
use quipu_corpus::rules::View;
use quipu_corpus::{Options, Part, Recipe, run};
use quipu_documents::{Reader, read_fates};
use quipu_store::{Cancel, progress};
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// Similarity from which a document with a kept neighbour should be gone.
const ALIKE: f64 = 0.85;

fn main() -> Fallible<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: near_copies TEXTS.jsonl [DOCUMENTS]")?;
    let wanted: usize = arguments.next().map_or(Ok(0), |n| n.parse())?;
    let mut texts = Vec::new();
    for line in std::fs::read_to_string(&path)?.lines() {
        let value: serde_json::Value = serde_json::from_str(line)?;
        texts.extend(value["text"].as_str().filter(|t| t.len() > 200).map(str::to_owned));
    }
    let originals = texts.len();
    while texts.len() < wanted {
        let number = texts.len() as u64;
        let edited = edited(&texts[number as usize % originals], number);
        texts.push(edited);
    }
    println!("{originals} texts, {} documents with edited copies", texts.len());
    let dir = std::env::temp_dir().join(format!("near-copies-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let result = measure(&dir, &texts);
    std::fs::remove_dir_all(&dir)?;
    result
}

fn measure(dir: &Path, texts: &[String]) -> Fallible<()> {
    let input = dir.join("texts.jsonl");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&input)?);
    for (n, text) in texts.iter().enumerate() {
        let line = serde_json::json!({"url": format!("http://n.example/{n}"), "text": text});
        writeln!(file, "{line}")?;
    }
    file.into_inner()?.sync_all()?;
    let only = vec![Part::Dedup];
    let recipe = Recipe { only, line_limit: u32::MAX, min_words: 0, ..Recipe::default() };
    let (out, options) = (dir.join("out"), Options::default());
    let start = Instant::now();
    let silent = progress::silent();
    let summary = run(&[input], &recipe, &out, &options, silent.as_ref(), &Cancel::new())?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{} in {seconds:.1} s", summary.line());
    let number = |url: &str| url.rsplit('/').next().and_then(|n| n.parse::<usize>().ok());
    let (mut kept, mut languages) = (HashMap::new(), vec![String::new(); texts.len()]);
    let mut gone: HashMap<usize, (String, f64)> = HashMap::new();
    for document in Reader::open(&out)? {
        let document = document?;
        let n = number(&document.url).ok_or("a URL of another input")?;
        kept.insert(document.id.to_string(), n);
        languages[n] = document.language;
    }
    for file in 0.. {
        let path = out.join(quipu_documents::FileKind::Fates.name(file));
        if !path.exists() {
            break;
        }
        for fate in read_fates(&path)?.into_iter().filter(|f| f.rule == "document-duplicate") {
            let n = number(&fate.url).ok_or("a URL of another input")?;
            let copy = fate.detail.split_whitespace().nth(1).unwrap_or_default();
            gone.insert(n, (copy.trim_end_matches(',').to_owned(), fate.value));
        }
    }
    let others = texts.len() - kept.len() - gone.len();
    println!("kept {} · copies removed {} · others {others}", kept.len(), gone.len());
    compare(texts, &kept, &gone, recipe.near.threshold)
}

fn compare(
    texts: &[String],
    kept: &HashMap<String, usize>,
    gone: &HashMap<usize, (String, f64)>,
    threshold: f64,
) -> Fallible<()> {
    let sets: Vec<Vec<u32>> =
        texts.iter().map(|text| shingles(&View::of(text, "en", 0), 0)).collect();
    let (mut below, mut differ) = (0, 0);
    for (n, (copy, value)) in gone {
        let copy = *kept.get(copy).ok_or("removed for a document that is not kept")?;
        let true_value = jaccard(&sets[*n], &sets[copy]);
        below += usize::from(true_value < threshold);
        differ += usize::from((true_value - value).abs() > 0.02);
    }
    let is_kept: HashSet<usize> = kept.values().copied().collect();
    let mut places: HashMap<u32, Vec<u32>> = HashMap::new();
    for n in &is_kept {
        sets[*n].iter().for_each(|s| places.entry(*s).or_default().push(*n as u32));
    }
    let (mut should, mut missed) = (0, 0);
    for n in (0..texts.len()).filter(|n| is_kept.contains(n) || gone.contains_key(n)) {
        let mut shared: HashMap<u32, usize> = HashMap::new();
        for other in sets[n].iter().filter_map(|s| places.get(s)).flatten() {
            *shared.entry(*other).or_default() += 1;
        }
        let alike = shared.iter().any(|(other, both)| {
            let union = sets[n].len() + sets[*other as usize].len() - both;
            *other as usize != n && *both as f64 >= ALIKE * union as f64
        });
        should += usize::from(alike);
        missed += usize::from(alike && is_kept.contains(&n));
    }
    println!(
        "with a kept neighbour of {ALIKE} or more: {should}, removed {} ({:.4})",
        should - missed,
        (should - missed) as f64 / f64::from(should as u32).max(1.0)
    );
    println!(
        "removals below {threshold}: {below}; similarity written wrongly by 0.02 or more: {differ}"
    );
    Ok(())
}

/// A copy of a text with one of several kinds of edit, by its number.
fn edited(text: &str, number: u64) -> String {
    let draw = |n: u64| xxhash_rust::xxh3::xxh3_64(&(number << 24 | n).to_le_bytes());
    let rate = [500, 200, 100, 50, 25, 16][(draw(1) % 6) as usize];
    let words: Vec<String> = text
        .split(' ')
        .enumerate()
        .map(|(n, word)| match draw(2 + n as u64) % rate {
            0 => format!("edit{}", draw(n as u64) % 999),
            _ => word.to_owned(),
        })
        .collect();
    let swapped = words.join(" ");
    match draw(0) % 5 {
        0 => swapped,
        1 => {
            format!("Welcome to site {}\n{text}\nCopyright {} of us all", number % 97, number % 13)
        }
        2 => {
            let end =
                text.floor_char_boundary(text.len() - text.len() / (4 + draw(3) as usize % 30));
            text[..end].to_owned()
        }
        3 => {
            let skip = draw(4) as usize % 9;
            let lines = text.lines().enumerate().filter(|(n, _)| n % 23 != skip);
            lines.map(|(_, line)| line).collect::<Vec<_>>().join("\n")
        }
        _ => format!("Page {number}\n{swapped}"),
    }
}
