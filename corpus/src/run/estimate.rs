//! What a run would do, before it is begun: its inputs, how they would be cut, what would judge
//! them, and what it would take. Nothing is written, and of large inputs only some units are read
//! (a crawl that is not compressed is read to be cut). Not the looking itself ([`crate::look()`]).

use super::Options;
use super::plan::Plan;
use crate::look::Look;
use crate::remote::Access;
use crate::rules::{DirtyWords, Judge, LineRule, Rule, Told, divergence};
use crate::{Error, Recipe, look};
use quipu_store::{Cancel, progress};
use serde::Serialize;
use std::path::PathBuf;

/// Bytes of output for a byte of text: zstd of web text with its other columns.
const OUTPUT: f64 = 0.45;
/// Bytes of work files for a byte of text besides [`OUTPUT`]: shingles of four bytes a word, rows
/// of lines and bands while they are sorted.
const WORK: f64 = 2.0;
/// Bytes of work files for a page: its row and its bands.
const WORK_A_PAGE: u64 = 700;
/// Memory of a worker: a unit of pages in all its forms.
const WORKER: u64 = 96 << 20;

/// What a run would do and take.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Estimate {
    /// What the inputs hold, and samples of it.
    pub look: Look,
    /// Units that workers would share.
    pub units: usize,
    /// Workers.
    pub workers: usize,
    /// The rules that would act, in order, each with its reason and what it asks.
    pub rules: Vec<(String, String, String)>,
    /// Similarity, and the probability that a pair so alike is found.
    pub curve: Vec<(f64, f64)>,
    /// Seconds.
    pub seconds: f64,
    /// Most bytes of memory.
    pub memory: u64,
    /// Most bytes of work files, which are removed at the end.
    pub work: u64,
    /// Bytes that are left: documents and fates, before deduplication.
    pub output: u64,
}

/// What [`super::run`] would do with these inputs.
///
/// # Errors
/// Inputs that are missing or of no known kind; a recipe that cannot be.
pub fn estimate(
    inputs: &[PathBuf],
    recipe: &Recipe,
    options: &Options,
    cancel: &Cancel,
) -> Result<Estimate, Error> {
    recipe.validate()?;
    // A sample is drawn by reading everything, which an estimate does not.
    let whole = Recipe { sample: None, ..recipe.clone() };
    let access = Access::new(&options.settings, cancel);
    let plan = Plan::of(inputs, &whole, &access, &*progress::silent(), cancel)?;
    let look = look::glance(inputs, recipe, &access)?;
    let sampled = sampled(&look, recipe);
    let text = look.text_bytes as f64 * sampled;
    let workers = options.workers.min(plan.units.len()).max(1);
    let bands = recipe.near.bands();
    let judge = Judge::of(recipe, DirtyWords::default());
    let (documents, lines) = (judge.acting().map(Rule::told), judge.acting_on_lines());
    let words = recipe.asks(divergence::NAME).then_some(divergence::TOLD);
    let rules = documents.chain(lines.map(LineRule::told)).chain(words);
    let named = |rule: Told| (rule.name.to_owned(), rule.reason.to_owned(), recipe.limit(rule));
    // The estimate of `look` is for every core; a worker is one.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = cores as f64 / workers.min(cores) as f64;
    Ok(Estimate {
        units: plan.units.len(),
        workers,
        rules: rules.map(named).collect(),
        curve: (1..=20).map(|n| f64::from(n) / 20.0).map(|s| (s, bands.curve(s))).collect(),
        seconds: look.seconds * sampled * share,
        memory: options.memory + workers as u64 * WORKER,
        work: (text * (OUTPUT + WORK)) as u64 + (look.pages as f64 * sampled) as u64 * WORK_A_PAGE,
        output: (text * OUTPUT) as u64,
        look,
    })
}

/// The share of the input that the recipe's sample takes.
fn sampled(look: &Look, recipe: &Recipe) -> f64 {
    let Some(sample) = recipe.sample else { return 1.0 };
    let bytes: u64 = look.inputs.iter().map(|seen| seen.bytes).sum();
    let of = |part: Option<u64>, whole: u64| part.map_or(1.0, |n| n as f64 / whole.max(1) as f64);
    of(sample.documents, look.pages).min(of(sample.bytes, bytes)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_workers_take_less_time_and_more_memory() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..40 {
            let text = format!("{n}\n\n{}", crate::rules::tests::PROSE_SAMPLE);
            std::fs::write(dir.path().join(format!("{n}.txt")), text).unwrap();
        }
        let inputs = [dir.path().to_owned()];
        let of = |workers, recipe: &Recipe| {
            let options = Options { workers, memory: 1 << 30, ..Options::default() };
            estimate(&inputs, recipe, &options, &Cancel::new()).unwrap()
        };
        let without = vec!["gibberish".to_owned()];
        let recipe = Recipe { without, ..Recipe::default() };
        let one = of(1, &recipe);
        // Small files are looked at one by one, and worked on together.
        assert_eq!(one.look.inputs.iter().map(|seen| seen.units).sum::<u64>(), 40);
        assert_eq!(one.units, 1);
        assert!(one.memory > 1 << 30 && one.work > one.output && one.output > 0);
        assert!(one.rules.iter().any(|r| r.0 == "too-short"));
        assert!(one.rules.iter().all(|r| r.0 != "gibberish" && !r.0.starts_with("gopher")));
        assert!(one.curve.is_sorted_by(|a, b| a.1 <= b.1) && one.curve[19].1 > 0.999);
        let sample = Some(crate::Sample { documents: Some(1), bytes: None });
        assert!(of(1, &Recipe { sample, ..Recipe::default() }).work < one.work);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 40, "nothing is written");
    }
}
