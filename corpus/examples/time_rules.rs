//! Measures the rules on one core: megabytes of text a second of segmentation, of each rule and of
//! all together, the best and the median of N passes by the processor's time.
//!
//! `cargo run --release -p quipu-corpus --example time_rules -- PATH [N]`. PATH is a folder of plain
//! texts (`.txt`, `.md`), cut at ends of lines into documents of 12,000 bytes, or a file of JSON Lines
//! whose field `text` is a document each (as `extract_html` prints them).

use quipu_corpus::rules::{Judge, LINE_RULES, RULES, Set, View};
use quipu_corpus::{language, personal};
use quipu_documents::Route;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

type Failure = Box<dyn std::error::Error>;
const PIECE: usize = 12_000;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let path = args.first().ok_or("usage: time_rules PATH [N]")?;
    let passes = args.get(1).map_or(Ok(5), |n| n.parse::<usize>())?.max(1);
    let mut texts = Vec::new();
    read(Path::new(path), &mut texts)?;
    let texts: Vec<(String, &str)> = texts
        .into_iter()
        .map(|t| (language::identify(&t).language, t))
        .map(|(l, t)| (t, l))
        .collect();
    let bytes: usize = texts.iter().map(|(t, _)| t.len()).sum();
    println!("{} documents, {:.1} MB", texts.len(), bytes as f64 / 1e6);
    let time = |name: &str, work: &dyn Fn()| report(name, bytes, passes, work);
    let of = |(text, language): &(String, &'static str)| View::of(text, language, 25).words.len();
    time("view", &|| texts.iter().for_each(|t| _ = black_box(of(t))));
    let views: Vec<View> = texts.iter().map(|(t, l)| View::of(t, l, 25)).collect();
    let sets = [Set::Llama3, Set::Gopher, Set::C4, Set::Fineweb];
    let judge = Judge::default();
    for rule in RULES {
        let fired = views.iter().filter(|v| (rule.check)(v, &judge).is_some()).count();
        let label = format!("{} ({fired})", rule.name);
        time(&label, &|| views.iter().for_each(|v| _ = black_box((rule.check)(v, &judge))));
    }
    for rule in LINE_RULES {
        let fired: usize = views.iter().map(|v| (rule.find)(v).len()).sum();
        let label = format!("{} ({fired} lines)", rule.name);
        time(&label, &|| views.iter().for_each(|v| _ = black_box((rule.find)(v))));
    }
    let all = |judge: &Judge| {
        for (text, language) in &texts {
            let view = View::of(text, language, 25);
            black_box(judge.document(&view, Route::Prose));
            black_box(judge.lines(&view, Route::Prose));
        }
    };
    time("view and the default set", &|| all(&judge));
    let every = Judge::new(&sets, &[], Default::default());
    time("view and all sets", &|| all(&every));
    time("personal data", &|| texts.iter().for_each(|(t, _)| _ = black_box(personal::find(t))));
    Ok(())
}

fn read(path: &Path, texts: &mut Vec<String>) -> Result<(), Failure> {
    if path.is_dir() {
        let mut entries: Vec<_> = std::fs::read_dir(path)?.flatten().map(|e| e.path()).collect();
        entries.sort();
        return entries.iter().try_for_each(|entry| read(entry, texts));
    }
    let text = String::from_utf8_lossy(&std::fs::read(path)?).into_owned();
    match path.extension().and_then(|e| e.to_str()) {
        Some("txt" | "md") => {
            let mut piece = String::new();
            for paragraph in text.split_inclusive('\n') {
                piece.push_str(paragraph);
                if piece.len() >= PIECE {
                    texts.push(std::mem::take(&mut piece));
                }
            }
            texts.push(piece);
        }
        Some("jsonl") => {
            for line in text.lines() {
                let value: serde_json::Value = serde_json::from_str(line)?;
                texts.extend(value["text"].as_str().map(str::to_owned));
            }
        }
        _ => {}
    }
    Ok(())
}

/// Processor time of this thread so far (Linux only).
fn processor_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds: f64 = stat.split_ascii_whitespace().next()?.parse().ok()?;
    Some(nanoseconds / 1e9)
}

/// The least time of a pass that is measured: the clock has steps of milliseconds.
const LEAST: f64 = 0.15;

fn report(name: &str, bytes: usize, passes: usize, work: &dyn Fn()) {
    let seconds = |times: usize| {
        let (start, before) = (Instant::now(), processor_seconds());
        (0..times).for_each(|_| work());
        let passed = match (before, processor_seconds()) {
            (Some(before), Some(after)) => after - before,
            _ => start.elapsed().as_secs_f64(),
        };
        passed / times as f64
    };
    let times = (LEAST / seconds(1).max(1e-4)).ceil() as usize;
    let mut measured: Vec<f64> = (0..passes).map(|_| seconds(times.max(1))).collect();
    measured.sort_by(f64::total_cmp);
    let rate = |s: f64| bytes as f64 / s / 1e6;
    println!(
        "{name:40} {:8.0} MB/s best, {:8.0} median",
        rate(measured[0]),
        rate(measured[passes / 2])
    );
}
