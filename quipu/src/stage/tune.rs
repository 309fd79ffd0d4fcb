//! Stage `tune`: base model → fine-tuned on dialogues → one round of preference training. With
//! other input than the world, dialogues come from a file or are made of the kept documents.

use super::pretrain::{facts, speed};
use super::screen::Screen;
use super::train::BASE;
use super::{Context, Outcome, device};
use crate::error::Error;
use crate::terminal::thousands;
use quipu_store::{Cancelled, atomic};
use quipu_tokens::{Tokenizer, Tokens};
use quipu_train::recipe::Dtype;
use quipu_tune::from_documents::{Limits, make};
use quipu_tune::stage::{Stage, Tuned, dpo, sft};
use quipu_tune::{Dialogue, Pairs, Preference, dialogue, read_dialogues};
use serde_json::{Value, json};
use std::fs;
use std::sync::Arc;

/// The folder of the fine-tuned model.
pub const SFT: &str = "models/sft";
/// The folder of the final model.
pub const FINAL: &str = "models/final";
/// Share of dialogues and pairs that only measure.
const HELD_OUT: f64 = 0.05;
/// Batches of the preference step over which its figure is a mean: one batch has few pairs.
const LAST: usize = 5;

/// What the model is tuned on.
struct Lessons {
    dialogues: Vec<Dialogue>,
    preferences: Vec<Preference>,
    /// where the dialogues come from, for the report
    origin: String,
    /// where the pairs come from
    pairs: &'static str,
}

/// Tunes the base model in both steps.
pub fn run(context: &Context) -> Result<Outcome, Error> {
    let lessons = lessons(context)?;
    let tokens = Tokens::open(&context.run.path("tokens"))?;
    let tokenizer = &tokens.tokenizer;
    let sft = fine_tune(context, tokenizer, &lessons)?;
    let dpo = prefer(context, tokenizer, &lessons)?;
    context.progress.finish("");
    let (share, rate) = whole(&sft, &dpo);
    let (sft_dtype, dpo_dtype) = (context.recipe.sft.dtype, context.recipe.dpo.dtype);
    let facts = json!({
        "dialogues": lessons.origin, "pairs": lessons.pairs, "sft": sft, "dpo": dpo,
        "share_of_ceiling": share, "tokens_per_s": rate,
        "dtype": (sft_dtype == dpo_dtype).then_some(sft_dtype),
    });
    let line = format!("{} · {}", learned(&facts), speed(&facts));
    Ok(Outcome { line, facts })
}

/// What was learned from, and how well: on what is held out, where something is.
fn learned(facts: &Value) -> String {
    let used = |part: &Value| thousands(part["used"].as_u64().unwrap_or(0));
    let loss = |part: &Value| match part["validation"]["loss"].as_f64() {
        Some(held) => format!("held-out loss {held:.3}"),
        None => format!("loss of the last batch {:.3}", part["loss"].as_f64().unwrap_or(f64::NAN)),
    };
    let (sft, dpo) = (&facts["sft"], &facts["dpo"]);
    let (origin, pairs) = (&facts["dialogues"], &facts["pairs"]);
    let (origin, pairs) = (origin.as_str().unwrap_or(""), pairs.as_str().unwrap_or(""));
    let pairs = if pairs == origin { String::new() } else { format!(" ({pairs})") };
    let dialogues = format!("{} dialogues ({origin}) · {}", used(sft), loss(sft));
    if dpo["skipped"].is_string() {
        return dialogues + " · no preference training";
    }
    let last = &dpo["last_batches"];
    format!(
        "{dialogues} · {} pairs{pairs} · {} · chosen preferred in {:.0} % of the last {} training \
         batches",
        used(dpo),
        loss(dpo),
        100.0 * last["preferred"].as_f64().unwrap_or(f64::NAN),
        last["batches"]
    )
}

/// Share of the ceiling and tokens a second over the steps of both parts.
fn whole(sft: &Value, dpo: &Value) -> (f64, f64) {
    let sum = |key: &str| -> f64 {
        [sft, dpo].iter().filter_map(|f| Some(f["step_seconds"].as_f64()? * f[key].as_f64()?)).sum()
    };
    let seconds: f64 = [sft, dpo].iter().filter_map(|f| f["step_seconds"].as_f64()).sum();
    let seconds = seconds.max(1e-9);
    (sum("share_of_ceiling") / seconds, sum("tokens_per_s") / seconds)
}

fn lessons(context: &Context) -> Result<Lessons, Error> {
    const MADE: &str = "made of the kept documents";
    let world = context.run.path("world");
    if let Some(path) = &context.dialogues {
        let dialogues = read_dialogues(path)?;
        let made = made(context)?;
        let origin = format!("from {}", path.display());
        return Ok(Lessons { dialogues, preferences: made.preferences, origin, pairs: MADE });
    }
    if context.inputs.is_empty() {
        return Ok(Lessons {
            dialogues: read_dialogues(&world.join("dialogues.jsonl"))?,
            preferences: quipu_tune::read_preferences(&world.join("preferences.jsonl"))?,
            origin: "from the world".into(),
            pairs: "from the world",
        });
    }
    let made = made(context)?;
    let (dialogues, preferences) = (made.dialogues, made.preferences);
    Ok(Lessons { dialogues, preferences, origin: MADE.into(), pairs: MADE })
}

/// Dialogues made of the kept documents; written beside the run so that they can be read.
fn made(context: &Context) -> Result<quipu_tune::from_documents::Made, Error> {
    let corpus = context.run.path("corpus");
    let documents = quipu_documents::Reader::open(&corpus)?
        .collect::<Result<Vec<_>, quipu_documents::Error>>()?;
    let made = make(&documents, context.recipe.seed, Limits::default());
    let dir = context.run.path("dialogues");
    context.world.alone(|| {
        atomic::create_dir(&dir)?;
        dialogue::write(&dir.join("dialogues.jsonl"), &made.dialogues)?;
        dialogue::write(&dir.join("preferences.jsonl"), &made.preferences)?;
        Ok::<_, Error>(dialogue::write(&dir.join("prompts.jsonl"), &made.prompts)?)
    })?;
    Ok(made)
}

/// The stage of `tune` that starts from the model in `from` and leaves one in `out`.
fn stage(
    context: &Context,
    tokenizer: &Arc<Tokenizer>,
    dtype: Dtype,
    (label, from, out): (&'static str, &str, &str),
    run: impl FnOnce(&Stage) -> Result<Tuned, quipu_tune::Error>,
) -> Result<Value, Error> {
    let (dir, base, out) = (context.run.path(label), context.run.path(from), context.run.path(out));
    atomic::create_dir(&dir)?;
    if let Some(parent) = out.parent() {
        atomic::create_dir(parent)?;
    }
    let parallel = device::checked(context)?;
    let leads = context.world.leads();
    let ceiling = || if leads { device::ceiling(device::cores(), dtype) } else { f64::NAN };
    let before = ceiling();
    let screen = Screen::new(context, label, Vec::new(), tokenizer.clone()).against(before);
    let tuned = run(&Stage {
        dir: &dir,
        base: &base,
        out: &out,
        tokenizer,
        held_out: HELD_OUT,
        parallel: &parallel,
        device: &device::of_ranks(&parallel),
        watch: &screen,
        cancel: &context.cancel,
    })?;
    if !tuned.report.finished {
        return Err(Cancelled.into());
    }
    if !leads {
        return Ok(json!({}));
    }
    let ceiling = before.max(ceiling());
    let mut facts = facts(&dir.join("metrics.jsonl"), &screen, ceiling)?;
    facts["used"] = json!(tuned.used);
    facts["too_long"] = json!(tuned.too_long);
    facts["same"] = json!(tuned.same);
    Ok(facts)
}

fn fine_tune(
    context: &Context,
    tokenizer: &Arc<Tokenizer>,
    lessons: &Lessons,
) -> Result<Value, Error> {
    let recipe = &context.recipe.sft;
    let place = ("sft", BASE, SFT);
    stage(context, tokenizer, recipe.dtype, place, |stage| sft(stage, recipe, &lessons.dialogues))
}

/// One round of preference training; without a pair to learn from, the final model is the
/// fine-tuned one, which the run may well have wanted.
fn prefer(
    context: &Context,
    tokenizer: &Arc<Tokenizer>,
    lessons: &Lessons,
) -> Result<Value, Error> {
    let (recipe, weights) = (&context.recipe.dpo, context.recipe.preference);
    let pairs = match Pairs::new(tokenizer, &lessons.preferences, recipe.sequence_length) {
        Err(quipu_tune::Error::Nothing { found, change }) => {
            let skipped = format!("no preference training: {found}; {change}");
            context.progress.note(&format!("{skipped} (the final model is the fine-tuned one)"));
            context.world.alone(|| keep_fine_tuned(context))?;
            return Ok(json!({"pairs": 0, "skipped": skipped}));
        }
        pairs => pairs?,
    };
    let place = ("dpo", SFT, FINAL);
    let run = |stage: &Stage| dpo(stage, recipe, weights, &pairs);
    let mut facts = stage(context, tokenizer, recipe.dtype, place, run)?;
    if !context.world.leads() {
        return Ok(facts);
    }
    let records = quipu_train::metrics::read(&context.run.path("dpo").join("metrics.jsonl"))?;
    let tail = &records[records.len().saturating_sub(LAST)..];
    let sum: f64 = tail.iter().filter_map(|r| r.more.get("accuracy")).sum();
    let preferred = sum / tail.len().max(1) as f64;
    facts["last_batches"] = json!({"batches": tail.len(), "preferred": preferred});
    Ok(facts)
}

/// The fine-tuned model as the final one: the whole folder or nothing.
fn keep_fine_tuned(context: &Context) -> Result<(), Error> {
    let (from, to) = (context.run.path(SFT), context.run.path(FINAL));
    let temporary = to.with_file_name(".unfinished-final");
    for old in [&temporary, &to].into_iter().filter(|path| path.exists()) {
        fs::remove_dir_all(old)?;
    }
    atomic::create_dir(&temporary)?;
    for entry in fs::read_dir(&from)? {
        let entry = entry?;
        atomic::write_bytes(&temporary.join(entry.file_name()), &fs::read(entry.path())?)?;
    }
    Ok(fs::rename(&temporary, &to)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_what_is_held_out_and_what_was_used() {
        let facts = json!({
            "dialogues": "from talk.jsonl", "pairs": "made of the kept documents",
            "sft": {"used": 2374, "loss": 0.679, "validation": {"loss": 1.126}},
            "dpo": {"used": 542, "loss": 0.5, "validation": null,
                "last_batches": {"batches": 5, "preferred": 0.88}},
        });
        assert_eq!(
            learned(&facts),
            "2,374 dialogues (from talk.jsonl) · held-out loss 1.126 · 542 pairs (made of the kept \
             documents) · loss of the last batch 0.500 · chosen preferred in 88 % of the last 5 \
             training batches"
        );
        let mut skipped = facts;
        skipped["dpo"] = json!({"pairs": 0, "skipped": "nothing to learn"});
        assert!(learned(&skipped).ends_with("loss 1.126 · no preference training"));
    }
}
