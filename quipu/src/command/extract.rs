//! `quipu extract INPUT…`: main text as JSON Lines (`id`, `url`, `text`), one line a page, in the
//! order of the input. Nothing is judged or removed: that is curation.

use crate::error::Error;
use quipu_corpus::input::{Body, Found, Page, Skipped, expand};
use quipu_corpus::remote::Access;
use quipu_corpus::{encoding, html};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

/// Extracts to standard output.
pub fn run(inputs: &[PathBuf]) -> Result<(), Error> {
    let access = Access::usual();
    let (inputs, skipped) = expand(inputs, &access)?;
    say_skipped(&skipped);
    let mut out = BufWriter::new(io::stdout().lock());
    let piece = quipu_corpus::Recipe::default().piece_bytes;
    for input in inputs {
        for found in input.open(piece, &access)? {
            match found? {
                Found::Page(page) => {
                    if !write(&mut out, &page)? {
                        return Ok(());
                    }
                }
                Found::Skipped(_) => {}
                Found::Damaged(place, why) => {
                    eprintln!("damaged: {} {place}: {why}", input.path.display());
                }
            }
        }
    }
    finish(out.flush())?;
    Ok(())
}

/// Files that are passed by: each by name, or by reason where they are many.
fn say_skipped(skipped: &[Skipped]) {
    const NAMED: usize = 8;
    if skipped.len() <= NAMED {
        skipped.iter().for_each(|f| eprintln!("skipped {}: {}", f.path.display(), f.reason));
        return;
    }
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    skipped.iter().for_each(|f| *reasons.entry(&f.reason).or_default() += 1);
    reasons.iter().for_each(|(reason, count)| eprintln!("skipped {count} files: {reason}"));
}

/// Writes one page; false when nobody reads any more.
fn write(out: &mut impl Write, page: &Page) -> Result<bool, Error> {
    let text = match &page.body {
        Body::Html(bytes, content_type) => {
            let markup = encoding::decode(bytes, content_type.as_deref());
            html::extract(&markup, Some(&page.url)).text
        }
        Body::Text(bytes) | Body::Markdown(bytes) => encoding::decode(bytes, None).into_owned(),
        Body::Document(document) => document.text.clone(),
        Body::Refused(rule, why) => {
            eprintln!("{}: {rule}: {why}", page.name);
            String::new()
        }
    };
    let line = json!({"id": page.name, "url": page.url, "text": text});
    finish(writeln!(out, "{line}"))
}

/// A closed pipe is the reader's wish, not an error.
fn finish(result: io::Result<()>) -> Result<bool, Error> {
    match result {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(e.into()),
    }
}
