//! Stage `anneal`: the end of pre-training (paper, section 3.4.3): the rate falls to 0 in a line,
//! better data are mixed in, and the last checkpoints are averaged. Leaves the base model, if the
//! recipe has such a stage.

use super::pretrain::{self, Pretraining, speed};
use super::{Context, Outcome, extend, sets, train};
use crate::error::Error;
use crate::terminal::thousands;
use quipu_train::Start;
use serde_json::{Value, json};

/// Anneals what the stages before left, or goes on with it.
pub fn run(context: &Context) -> Result<Outcome, Error> {
    let Some(recipe) = &context.recipe.anneal else {
        return Ok(Outcome { line: "not in the recipe".into(), facts: json!(null) });
    };
    let tokens = sets::tokens(context)?;
    let before = pretrain::last_checkpoint(&extend::last_dir(context))?;
    let stage = Pretraining {
        label: "anneal",
        dir: context.run.path("anneal"),
        recipe,
        shape: context.recipe.last_shape(),
        start: Start::Checkpoint(&before),
        gate: None,
        beside: train::baselines(context, &tokens)?,
    };
    let (report, mut facts) = pretrain::run(context, &tokens, &stage)?;
    pretrain::leave_base(context, &tokens, &report.checkpoint)?;
    context.progress.finish("");
    facts["before"] = super::base_validation(context, &["extend", "train"]);
    if report.averaged.is_some() {
        facts["averaged_checkpoints"] = json!(recipe.averaged_steps().len());
    }
    let needles = || extend::needles_after(context, &tokens, recipe.dtype, &report.checkpoint);
    if let Some(cells) = context.world.alone(needles)?.flatten() {
        facts["needles"] = json!(cells);
    }
    Ok(Outcome { line: line(&facts), facts })
}

fn line(facts: &Value) -> String {
    let count = |key: &str| thousands(facts[key].as_u64().unwrap_or(0));
    let loss = |key: &str| match facts[key]["loss"].as_f64() {
        Some(loss) => format!("{loss:.3}"),
        None => "not measured".into(),
    };
    let mut line = format!("{} steps, {} tokens", count("steps"), count("tokens"));
    line += &format!(" · validation loss {} → ", loss("before"));
    line += &match facts["averaged_checkpoints"].as_u64() {
        Some(n) => {
            let (last, mean) = (loss("validation_of_last"), loss("validation"));
            format!("{last}, of the mean of {n} checkpoints {mean}")
        }
        None => loss("validation"),
    };
    if let Some(bits) = facts["validation"]["bits_per_byte"].as_f64() {
        line += &format!(" · {bits:.3} bits a byte");
    }
    if facts["needles"].is_array() {
        line += &format!(" · needles found {}", extend::span(&facts["needles"]));
    }
    line + " · " + &speed(facts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quipu_eval::{Share, needle};

    #[test]
    fn the_line_has_the_loss_before_of_the_last_and_of_the_mean() {
        let mut facts = json!({
            "steps": 400, "tokens": 409_600, "before": {"loss": 2.1},
            "validation_of_last": {"loss": 2.05}, "validation": {"loss": 2.049},
            "averaged_checkpoints": 5, "tokens_per_s": 20_000.4, "share_of_ceiling": 0.61,
        });
        let said = line(&facts);
        let losses = "validation loss 2.100 → 2.050, of the mean of 5 checkpoints 2.049 · 20,000";
        assert!(said.contains(losses), "{said}");
        let cell =
            |length, count| needle::Cell { length, depth: 0.0, recall: Share::new(count, 10) };
        let with = json!({"needles": [cell(512, 9), cell(1024, 10)]});
        assert!(line(&with).contains(" · needles found 90–100 % · "), "{}", line(&with));
        facts["averaged_checkpoints"] = Value::Null;
        assert!(line(&facts).contains("validation loss 2.100 → 2.049 · 20,000"));
    }
}
