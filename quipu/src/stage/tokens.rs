//! Stage `tokens`: documents → tokenizer and token shards, some documents set apart. A run that goes
//! on with a checkpoint of others has that one's tokenizer.

use super::{Context, Outcome, sets};
use crate::error::Error;
use crate::terminal::thousands;
use quipu_tokens::bpe;
use quipu_tokens::prepare::{Preparation, prepare};
use serde_json::json;

/// Makes `tokens/` of `corpus/`.
pub fn run(context: &Context) -> Result<Outcome, Error> {
    let recipe = &context.recipe.tokens;
    let origin = context.recipe.from.as_ref();
    let options = Preparation {
        vocabulary: recipe.vocabulary,
        base: bpe::numbers(recipe.digits),
        validation_share: recipe.validation_share,
        grouping: recipe.grouping,
        tokenizer: origin.map(|origin| origin.tokenizer()).transpose()?,
        ..Preparation::default()
    };
    let (documents, out) = (context.run.path("corpus"), context.run.path("tokens"));
    let summary = prepare(&documents, &out, &options, &*context.progress, &context.cancel)?;
    let sets = sets::tokenise(context, &options)?;
    context.progress.finish("");
    let train = summary.train;
    let mut line = format!(
        "{} documents → {} tokens to train on, {} set apart · vocabulary {} · {:.2} bytes a token",
        thousands(train.documents),
        thousands(train.tokens),
        thousands(summary.validation.tokens),
        thousands(summary.vocabulary as u64),
        train.bytes as f64 / train.tokens.max(1) as f64
    );
    let mut facts = json!(summary);
    for (name, made) in sets {
        line += &format!(" · {name} {} tokens", thousands(made.train.tokens));
        facts["sets"][name] = json!(made);
    }
    Ok(Outcome { line, facts })
}
