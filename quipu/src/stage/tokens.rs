//! Stage `tokens`: documents → tokenizer and token shards, some documents set apart.

use super::{Context, Outcome};
use crate::error::Error;
use crate::terminal::thousands;
use quipu_tokens::prepare::{Preparation, prepare};
use serde_json::json;

/// Makes `tokens/` of `corpus/`.
pub fn run(context: &Context) -> Result<Outcome, Error> {
    let recipe = &context.recipe.tokens;
    let options = Preparation {
        vocabulary: recipe.vocabulary,
        validation_share: recipe.validation_share,
        grouping: recipe.grouping,
        ..Preparation::default()
    };
    let (documents, out) = (context.run.path("corpus"), context.run.path("tokens"));
    let summary = prepare(&documents, &out, &options, &*context.progress, &context.cancel)?;
    context.progress.finish("");
    let train = summary.train;
    let line = format!(
        "{} documents → {} tokens to train on, {} set apart · vocabulary {} · {:.2} bytes a token",
        thousands(train.documents),
        thousands(train.tokens),
        thousands(summary.validation.tokens),
        thousands(summary.vocabulary as u64),
        train.bytes as f64 / train.tokens.max(1) as f64
    );
    Ok(Outcome { line, facts: json!(summary) })
}
