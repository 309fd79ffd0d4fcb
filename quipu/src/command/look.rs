//! `quipu look`: what inputs hold, before anything runs. Not the reading itself (that is `corpus`'s).

use crate::error::Error;
use crate::terminal::{Terminal, thousands};
use quipu_corpus::look::checkpoint::Checkpoint;
use quipu_corpus::look::{Look, look};
use serde_json::json;
use std::path::PathBuf;

/// Characters of a document that are shown.
const SHOWN: usize = 400;

/// Prints what is there.
pub fn run(
    inputs: &[PathBuf],
    recipe: &quipu_corpus::Recipe,
    terminal: &Terminal,
) -> Result<(), Error> {
    let found = look(inputs, recipe)?;
    for seen in &found.inputs {
        let damaged =
            if seen.damaged > 0 { format!(", {} damaged", seen.damaged) } else { String::new() };
        terminal.say(&format!(
            "{}: {}, {} files, {} pages, {} bytes{damaged}",
            seen.path.display(),
            seen.kind,
            thousands(seen.files),
            thousands(seen.pages),
            thousands(seen.bytes)
        ));
        for (kind, count) in &seen.skipped {
            terminal.say(&format!("  not a page: {} ({kind})", thousands(*count)));
        }
    }
    for (reason, (count, path)) in &found.skipped {
        terminal.say(&format!("skipped {count}: {reason}, such as {}", path.display()));
    }
    found.checkpoints.iter().for_each(|c| checkpoint(c, terminal));
    if found.pages > 0 {
        pages(&found, terminal);
    }
    terminal.result(&json!(found));
    Ok(())
}

fn pages(found: &Look, terminal: &Terminal) {
    let list = |counts: &std::collections::BTreeMap<String, u64>| {
        let parts: Vec<_> = counts.iter().map(|(name, n)| format!("{name} {n}")).collect();
        if parts.is_empty() { "none".to_owned() } else { parts.join(" · ") }
    };
    let more = if found.more { "at least " } else { "" };
    terminal.say(&format!("{more}{} pages; of {} read:", thousands(found.pages), found.looked));
    terminal.say(&format!("  languages  {}", list(&found.languages)));
    terminal.say(&format!("  removed    {}", list(&found.removed)));
    terminal.say(&format!(
        "estimates: {} bytes of text, {} tokens; curation {:.0} s, {} MiB",
        thousands(found.text_bytes),
        thousands(found.tokens),
        found.seconds.ceil(),
        found.memory >> 20
    ));
    for document in &found.documents {
        terminal.say(&format!("\n{} [{}] {}", document.title, document.language, document.url));
        let text: String = document.text.chars().take(SHOWN).collect();
        terminal.say(&text);
    }
}

fn checkpoint(found: &Checkpoint, terminal: &Terminal) {
    terminal.say(&format!("{}: checkpoint, {}", found.path.display(), found.architecture));
    terminal.say(&format!("  {}, {} parameters", found.shape, thousands(found.parameters)));
    let or_none = |list: &[String]| match list {
        [] => "none".to_owned(),
        list => list.join(", "),
    };
    terminal.say(&format!("  tokenizer    {}", or_none(&found.tokenizer)));
    terminal.say(&format!("  unsupported  {}", or_none(&found.unsupported)));
    let (run, train) = (found.run_bytes >> 20, found.train_bytes >> 20);
    terminal.say(&format!("  memory       {run} MiB to run, {train} MiB to train"));
}
