//! Stage `corpus`: the crawl, or what the user brings, → clean documents with fates.

use super::{Context, Outcome, sets};
use crate::error::Error;
use serde_json::json;

/// Curates into `corpus/`; a world's crawl against its truth.
pub fn run(context: &Context) -> Result<Outcome, Error> {
    let mut recipe = context.recipe.corpus.clone();
    let mut inputs = context.inputs.clone();
    if inputs.is_empty() {
        let world = context.run.path("world");
        inputs.push(world.join("crawl.warc.gz"));
        recipe.truth = Some(world.join("truth.jsonl"));
    }
    let out = context.run.path("corpus");
    let summary = quipu_corpus::run(
        &inputs,
        &recipe,
        &out,
        &quipu_corpus::Options::default(),
        &*context.progress,
        &context.cancel,
    )?;
    sets::curate(context)?;
    context.progress.finish("");
    let mut line = summary.line();
    if summary.not_sampled > 0 {
        line += &format!(" · {} pages not in the sample", summary.not_sampled);
    }
    Ok(Outcome { line, facts: json!(summary) })
}
