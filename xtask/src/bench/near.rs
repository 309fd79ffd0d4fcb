//! Part `near`: what the removal of near copies finds and what it must not remove, held against brute
//! force by the example `near_copies`: on real texts with edited copies, and on the pages of two
//! crates of the Rust documentation, whose trait implementations resemble each other. Not here: the
//! comparison itself.

use super::corpus::Setting;
use super::ledger::{Asked, Ledger};
use crate::run::{self, Error};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Share of the documents with a kept neighbour of 0.85 or more that must be gone.
const SHARE: f64 = 0.98;
/// Documents, copies included.
const DOCUMENTS: &str = "20000";
const SMALL: &str = "2000";

/// Runs the part.
pub fn run(setting: &Setting, found: &mut Ledger) -> Result<(), Error> {
    let scratch = setting.scratch("near")?;
    let program = setting.needed("near_copies")?;
    let data = setting.shared.join("data");
    let texts = scratch.path("texts.jsonl");
    extract(setting, &[data.join("crawl.warc.gz"), data.join("text-multilingual")], &texts)?;
    let documents = if setting.small { SMALL } else { DOCUMENTS };
    let label = format!("{documents} documents of crawl and articles, with edited copies");
    compare(&program, &texts, documents, &label, found)?;
    match rust_docs() {
        None => found.note("core/ and std/ were not compared: rust-docs is not installed."),
        Some(docs) => {
            let pages = scratch.path("rust.jsonl");
            let folders: &[&str] = if setting.small { &["alloc"] } else { &["core", "std"] };
            let folders: Vec<PathBuf> = folders.iter().map(|name| docs.join(name)).collect();
            extract(setting, &folders, &pages)?;
            compare(&program, &pages, "0", "core/ and std/ of rust-docs", found)?;
        }
    }
    Ok(())
}

/// Main text of inputs as JSON Lines.
fn extract(setting: &Setting, inputs: &[PathBuf], out: &Path) -> Result<(), Error> {
    let said = run::output(Command::new(&setting.quipu).arg("extract").args(inputs))?;
    Ok(std::fs::write(out, said)?)
}

/// Where the installed documentation lies.
fn rust_docs() -> Option<PathBuf> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = run::output(Command::new(rustc).args(["--print", "sysroot"])).ok()?;
    let docs = Path::new(said.trim()).join("share/doc/rust/html");
    docs.join("core").is_dir().then_some(docs)
}

fn compare(
    program: &Path,
    texts: &Path,
    documents: &str,
    label: &str,
    found: &mut Ledger,
) -> Result<(), Error> {
    let said = run::output(Command::new(program).arg(texts).arg(documents))?;
    found.raw(1, label, json!(said));
    let Said { alike, removed, below } =
        read(&said).ok_or_else(|| format!("near_copies said {said:?}"))?;
    let share = if alike > 0.0 { removed / alike } else { 1.0 };
    let what = format!("removed of {alike} with a kept neighbour ≥ 0.85: {label}");
    found.figure(&what, "quipu", &[share], Asked::AtLeast(SHARE));
    let what = format!("removals below the threshold: {label}");
    found.figure(&what, "quipu", &[below], Asked::Below(1.0));
    Ok(())
}

/// What the example says.
#[derive(Debug, PartialEq)]
struct Said {
    /// Documents with a kept neighbour that is alike.
    alike: f64,
    /// How many of them were removed.
    removed: f64,
    /// Removals whose true similarity is below the threshold.
    below: f64,
}

/// Reads `with a kept neighbour of 0.85 or more: N, removed M (share)` and `removals below T: K; …`.
fn read(said: &str) -> Option<Said> {
    let line = said.lines().find_map(|l| l.strip_prefix("with a kept neighbour of "))?;
    let (alike, removed) = line.split_once(": ")?.1.split_once(", removed ")?;
    let removed = removed.split_whitespace().next()?.parse().ok()?;
    let line = said.lines().find_map(|l| l.strip_prefix("removals below "))?;
    let below = line.split_once(": ")?.1.split(';').next()?.parse().ok()?;
    Some(Said { alike: alike.parse().ok()?, removed, below })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_example_says() {
        let said = "900 texts, 20000 documents with edited copies\n\
                    with a kept neighbour of 0.85 or more: 17012, removed 17001 (0.9994)\n\
                    removals below 0.7: 0; similarity that differs by more: 3\n";
        assert_eq!(read(said), Some(Said { alike: 17012.0, removed: 17001.0, below: 0.0 }));
        assert_eq!(read("no such lines"), None);
    }
}
