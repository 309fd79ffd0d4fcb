//! Curates inputs into a folder and prints the funnel:
//! `curate OUT [--truth FILE] [--bytes N] [--memory N] [--workers N] [--no-rules] INPUT…`.
//! With `DUMP=FILE` documents as JSON Lines, with `SHOW=RULE` samples of what a rule removed, with
//! `VALUES=1` every fate.
//!
//! For measurements of this crate alone; users have `quipu curate`.

use quipu_corpus::rules::RULES;
use quipu_corpus::{Options, Recipe, Sample, Summary, run};
use quipu_store::{Cancel, progress};
use std::path::{Path, PathBuf};
use std::time::Instant;

fn number(argument: Option<String>) -> Result<u64, Box<dyn std::error::Error>> {
    Ok(argument.ok_or("a number is missing")?.parse()?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let out = PathBuf::from(arguments.next().ok_or("usage: curate OUT INPUT…")?);
    let mut recipe = Recipe::default();
    let mut options = Options::default();
    let mut inputs = Vec::new();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--memory" => options.memory = number(arguments.next())?,
            "--workers" => options.workers = number(arguments.next())? as usize,
            "--no-rules" => {
                recipe.without = RULES.iter().map(|rule| rule.name.to_owned()).collect();
                recipe.min_words = 0;
            }
            "--truth" => recipe.truth = arguments.next().map(PathBuf::from),
            "--bytes" => {
                let bytes = arguments.next().map(|n| n.parse()).transpose()?;
                recipe.sample = Some(Sample { bytes, documents: None });
            }
            _ => inputs.push(PathBuf::from(argument)),
        }
    }
    let start = Instant::now();
    let progress = progress::standard(true);
    let summary = run(&inputs, &recipe, &out, &options, progress.as_ref(), &Cancel::new())?;
    let seconds = start.elapsed().as_secs_f64();
    table(&summary);
    println!(
        "{:.2} s, {:.0} pages/s, {:.1} MB/s of pages, kept {} bytes of text",
        seconds,
        summary.pages as f64 / seconds,
        summary.page_bytes as f64 / seconds / 1e6,
        summary.kept_bytes
    );
    details(&summary, &out)?;
    if let Ok(status) = std::fs::read_to_string(Path::new("/proc/self/status")) {
        status.lines().filter(|l| l.starts_with("VmHWM")).for_each(|l| println!("{l}"));
    }
    Ok(())
}

/// The funnel, and the scores where a truth was given; the last two figures are pages wrongly
/// removed and wrongly kept.
fn table(summary: &Summary) {
    println!("{}", summary.line());
    for step in &summary.steps {
        println!("{:10} {:22} {:6}", step.stage, step.rule, step.documents);
    }
    println!(
        "lines {:?}\nlanguages {:?}\nroutes {:?}",
        summary.lines, summary.languages, summary.routes
    );
    for s in &summary.scores {
        println!(
            "{:20} expected {:5} removed {:5} precision {:.3} recall {:.3}, wrong {} {}",
            s.rule,
            s.expected,
            s.removed,
            s.precision(),
            s.recall(),
            s.wrongly_removed,
            s.wrongly_kept
        );
    }
}

/// What the environment asks to see.
fn details(summary: &Summary, out: &Path) -> Result<(), Box<dyn std::error::Error>> {
    if let Ok(rule) = std::env::var("SHOW") {
        for step in summary.steps.iter().filter(|s| s.rule == rule) {
            for e in &step.samples {
                println!("== {} {}\n{}", e.value, e.url, e.text);
            }
        }
        if rule == "kept" {
            summary.samples.iter().for_each(|e| println!("== {}\n{}", e.url, e.text));
        }
    }
    if std::env::var("VALUES").is_ok() {
        let mut n = 0;
        while let Ok(fates) =
            quipu_documents::read_fates(&out.join(quipu_documents::FileKind::Fates.name(n)))
        {
            for f in fates {
                let detail: String = f.detail.chars().take(90).collect();
                println!(
                    "FATE\t{}\t{}\t{}\t{}\t{}",
                    f.rule,
                    f.value,
                    f.id,
                    f.url,
                    detail.replace('\n', " / ")
                );
            }
            n += 1;
        }
    }
    if let Ok(path) = std::env::var("DUMP") {
        let mut lines = String::new();
        for d in quipu_documents::Reader::open(out)? {
            let d = d?;
            let v = serde_json::json!({"id": d.id.to_string(), "url": d.url, "title": d.title,
                "headings": d.headings, "language": d.language, "score": d.language_score,
                "route": d.route.name(), "text": d.text, "scores": d.scores});
            lines.push_str(&format!("{v}\n"));
        }
        std::fs::write(path, lines)?;
    }
    Ok(())
}
