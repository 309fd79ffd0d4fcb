//! Extracts the main text of a folder of pages (`ID.html` or `ID.html.gz`) and prints JSON Lines
//! (`id`, `text`), as the scorers of extraction read them; `--time N` measures instead: pages and
//! megabytes a second on one core, the best and the median of N passes, inflating excluded, by
//! the processor's time where the system tells it (on a machine that is shared it is the measure).
//!
//! `cargo run --release -p quipu-corpus --example extract_html -- FOLDER [--time N]`

use std::io::{Read, Write};
use std::path::Path;
use std::time::Instant;

use quipu_corpus::{encoding, html};

type Failure = Box<dyn std::error::Error>;
/// Id and bytes.
type Page = (String, Vec<u8>);

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let folder = args.first().ok_or("usage: extract_html FOLDER [--time N]")?;
    let pages = read_folder(Path::new(folder))?;
    if args.get(1).is_some_and(|a| a == "--time") {
        let passes = args.get(2).map_or(Ok(5), |n| n.parse::<usize>())?.max(1);
        time(&pages, passes);
        return Ok(());
    }
    let mut out = std::io::stdout().lock();
    for (id, bytes) in &pages {
        let text = html::extract(&encoding::decode(bytes, None), None).text;
        writeln!(out, "{}", serde_json::json!({ "id": id, "text": text }))?;
    }
    Ok(())
}

/// All pages of a folder, inflated, in the order of their names.
fn read_folder(folder: &Path) -> Result<Vec<Page>, Failure> {
    let mut pages = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut bytes = std::fs::read(&path)?;
        if name.ends_with(".gz") {
            let mut inflated = Vec::new();
            flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut inflated)?;
            bytes = inflated;
        }
        let id = name.trim_end_matches(".gz").trim_end_matches(".html").to_string();
        pages.push((id, bytes));
    }
    pages.sort();
    Ok(pages)
}

/// Processor time of this thread so far (Linux only).
fn processor_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds: f64 = stat.split_ascii_whitespace().next()?.parse().ok()?;
    Some(nanoseconds / 1e9)
}

fn time(pages: &[Page], passes: usize) {
    let bytes: usize = pages.iter().map(|(_, b)| b.len()).sum();
    let mut seconds: Vec<f64> = (0..passes)
        .map(|_| {
            let (start, before) = (Instant::now(), processor_seconds());
            let mut length = 0;
            for (_, bytes) in pages {
                length += html::extract(&encoding::decode(bytes, None), None).text.len();
            }
            assert!(length < usize::MAX);
            match (before, processor_seconds()) {
                (Some(before), Some(after)) => after - before,
                _ => start.elapsed().as_secs_f64(),
            }
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    for (label, s) in [("best", seconds[0]), ("median", seconds[passes / 2])] {
        let (pages, megabytes) = (pages.len() as f64 / s, bytes as f64 / s / 1e6);
        println!("{label}: {pages:.0} pages/s, {megabytes:.1} MB/s, decoding included");
    }
}
