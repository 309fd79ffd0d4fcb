//! `quipu bench tokens INPUT…`: from documents to what training reads, on one core: training a
//! vocabulary, Parquet to token shards beside bare encoding of the same texts in memory, and the
//! loader's packed batches from warm pages. Not here: which texts are worth reading (`bench text`).

use super::{clock, text};
use crate::error::Error;
use crate::terminal::{Terminal, peak_memory_mib, resident_memory_mib};
use quipu_documents::{Document, Id, write_file};
use quipu_store::{Cancel, progress};
use quipu_tokens::prepare::{Preparation, prepare};
use quipu_tokens::{Course, Loader, Tokenizer, Tokens, bench::Bare, bpe};
use quipu_train::objective::micro_batch;
use serde_json::{Value, json};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Tokens of a sample, samples of a batch, and batches of a pass of the loader.
const LENGTH: usize = 2048;
const ROWS: u64 = 8;
const BATCHES: u64 = 512;
/// Special tokens of the vocabulary, as Llama 3 has them.
const SPECIALS: usize = quipu_tokens::special::LLAMA3;

/// Measures and prints.
pub fn run(
    inputs: &[PathBuf],
    (passes, vocabulary): (usize, usize),
    terminal: &Terminal,
) -> Result<(), Error> {
    if passes == 0 {
        return Err(Error::usage("--passes must be at least 1"));
    }
    let one = rayon_of_one()?;
    let texts: Vec<String> = text::texts(inputs)?;
    let megabytes = texts.iter().map(String::len).sum::<usize>() as f64 / 1e6;
    terminal.say(&format!("{} texts, {megabytes:.1} MB; one core:", texts.len()));
    one.install(|| measure(&texts, megabytes, (passes, vocabulary), terminal))
}

/// A pool in which all work runs on one thread, whose clock is read.
fn rayon_of_one() -> Result<rayon::ThreadPool, Error> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    pool.map_err(|e| Error::data(format!("no thread can be started: {e}")))
}

fn measure(
    texts: &[String],
    megabytes: f64,
    (passes, vocabulary): (usize, usize),
    terminal: &Terminal,
) -> Result<(), Error> {
    let (tokenizer, training) = trained(texts, vocabulary, terminal)?;
    let dir = Scratch::new()?;
    let parquet = dir.0.join("documents.parquet");
    write_file(&parquet, &documents(texts)).map_err(|e| Error::data(e.to_string()))?;
    let mut bare = Bare::new(&tokenizer)?;
    let (mut rates, mut last) = (Vec::new(), None);
    for pass in 0..passes {
        let mut ids = 0;
        let peer = timed(|| {
            for text in texts {
                ids += black_box(bare.encode(text)?);
            }
            Ok(())
        })?;
        let out = dir.0.join(format!("tokens-{pass}"));
        let mut made = None;
        let ours = timed(|| {
            made = Some(shards(&parquet, &out, &tokenizer)?);
            Ok(())
        })?;
        let made = made.map_or(0, |summary| summary.train.tokens + summary.validation.tokens);
        if made != ids as u64 {
            return Err(Error::data(format!("{made} tokens in shards, bare encoding gave {ids}")));
        }
        let rate = |seconds: f64| megabytes / seconds;
        let (ours, peer) = ((rate(ours.0), rate(ours.1)), (rate(peer.0), rate(peer.1)));
        terminal.say(&format!(
            "Parquet to shards {:.1} MB/s, bare encoding {:.1} MB/s, ratio {:.3}",
            ours.0,
            peer.0,
            ours.0 / peer.0
        ));
        rates.push(json!({
            "mb_per_s": ours.0, "bare_mb_per_s": peer.0, "ratio": ours.0 / peer.0,
            "wall_mb_per_s": ours.1, "bare_wall_mb_per_s": peer.1,
        }));
        last = Some((out, ids));
    }
    let Some((folder, ids)) = last else { return Ok(()) };
    let loader = loaded(&folder, passes, terminal)?;
    terminal.result(&json!({
        "texts": texts.len(), "bytes": megabytes * 1e6, "tokens": ids, "training": training,
        "passes": rates, "loader_tokens_per_s": loader, "peak_rss_mib": peak_memory_mib(),
    }));
    Ok(())
}

/// Processor seconds of this thread and seconds by the wall.
fn timed(mut work: impl FnMut() -> Result<(), Error>) -> Result<(f64, f64), Error> {
    let (start, mut result) = (Instant::now(), Ok(()));
    let seconds = clock::seconds(1, || result = work());
    result?;
    Ok((seconds[0], start.elapsed().as_secs_f64()))
}

fn trained(
    texts: &[String],
    vocabulary: usize,
    terminal: &Terminal,
) -> Result<(Tokenizer, Value), Error> {
    let training = bpe::Training { vocabulary, specials: SPECIALS, base: Vec::new() };
    let (before, mut made) = (resident_memory_mib(), None);
    let (seconds, _) = timed(|| {
        made = Some(bpe::train_on(texts, &training)?);
        Ok(())
    })?;
    let more = peak_memory_mib() - before;
    let tokenizer = made.ok_or_else(|| Error::data("no tokenizer was trained".to_owned()))?;
    let ids = tokenizer.vocabulary();
    terminal.say(&format!(
        "vocabulary of {ids} in {seconds:.2} s, {more:.0} MiB at most beside the texts"
    ));
    let facts = json!({"vocabulary": ids, "seconds": seconds, "peak_mib_above_texts": more});
    Ok((tokenizer, facts))
}

fn documents(texts: &[String]) -> Vec<Document> {
    let document = |(n, text): (usize, &String)| Document {
        id: Id::of("bench", None, &n.to_string()),
        text: text.clone(),
        ..Document::default()
    };
    texts.iter().enumerate().map(document).collect()
}

fn shards(
    parquet: &Path,
    out: &Path,
    tokenizer: &Tokenizer,
) -> Result<quipu_tokens::prepare::Summary, Error> {
    let options = Preparation { tokenizer: Some(tokenizer.clone()), ..Preparation::default() };
    Ok(prepare(parquet, out, &options, &*progress::silent(), &Cancel::new())?)
}

/// Tokens a second of the loader, by pass: batches as training asks for them, with what belongs to
/// which document and a weight for each target. A first pass warms the pages.
fn loaded(folder: &Path, passes: usize, terminal: &Terminal) -> Result<Vec<f64>, Error> {
    let tokens = Tokens::open(folder)?;
    let course = Course::natural(LENGTH);
    let loader = Loader::new(&tokens.tokenizer, Arc::clone(&tokens.train), &course, 0)?;
    let mut rates = Vec::new();
    for pass in 0..=passes {
        let (seconds, _) = timed(|| {
            for batch in 0..BATCHES {
                let samples = batch * ROWS..(batch + 1) * ROWS;
                black_box(micro_batch(&loader, samples, LENGTH)?);
            }
            Ok(())
        })?;
        if pass > 0 {
            rates.push((BATCHES * ROWS) as f64 * LENGTH as f64 / seconds);
        }
    }
    let mut sorted = rates.clone();
    sorted.sort_by(f64::total_cmp);
    terminal.say(&format!("loader {:.1} million tokens/s", clock::median(&sorted) / 1e6));
    Ok(rates)
}

/// A folder of this process that vanishes with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Error> {
        let dir = std::env::temp_dir().join(format!("quipu-bench-tokens-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It lies among temporary files: what cannot be removed now the system removes later.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
