//! The two stages as the program runs them: fine-tuning on dialogues, then a round of preference
//! optimisation, each from the Hugging Face folder that the stage before it left. Both are runs of
//! the trainer: they stop, resume and are killed like it, and end with the same bits.

use crate::dialogue::Dialogue;
use crate::dpo::Weights;
use crate::preference::{Dpo, Pairs};
use crate::rows::Rows;
use crate::{Error, order::Order};
use quipu_math::Device;
use quipu_mesh::Mesh;
use quipu_model::{Capacity, Config, Model};
use quipu_store::{Cancel, checksum};
use quipu_tokens::Tokenizer;
use quipu_train::{
    Held, Job, NextToken, Objective, Parallel, Recipe, Report, Start, Watch, export, run,
};
use std::path::Path;
use std::sync::Arc;

/// What both stages need.
#[derive(Clone, Copy)]
pub struct Stage<'a> {
    /// The stage's folder: `checkpoints/`, `metrics.jsonl`.
    pub dir: &'a Path,
    /// The Hugging Face folder of the tuned model, written when the stage is finished.
    pub out: &'a Path,
    /// The Hugging Face folder it starts from.
    pub base: &'a Path,
    /// The tokenizer of that model.
    pub tokenizer: &'a Tokenizer,
    /// Share of dialogues or pairs that only measure.
    pub held_out: f64,
    /// The ranks.
    pub parallel: &'a Parallel,
    /// The device of each rank.
    pub device: &'a (dyn Fn(usize) -> Result<Arc<dyn Device>, quipu_math::Error> + Sync),
    /// Who watches.
    pub watch: &'a dyn Watch,
    /// Asked once, the stage writes a checkpoint and stops.
    pub cancel: &'a Cancel,
}

/// How a stage ended, and what it learned from.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuned {
    /// The run's own report.
    pub report: Report,
    /// Dialogues or pairs learned from.
    pub used: usize,
    /// Dialogues or pairs left out because they are too long.
    pub too_long: usize,
    /// Pairs left out because they are equal but for their form.
    pub same: usize,
}

/// Fine-tunes on dialogues.
///
/// # Errors
/// [`Error::Nothing`] where no dialogue fits; those of the trainer.
pub fn sft(stage: &Stage<'_>, recipe: &Recipe, dialogues: &[Dialogue]) -> Result<Tuned, Error> {
    let (length, seed) = (recipe.sequence_length, recipe.seed);
    let (learned, held) = split(dialogues, stage.held_out, seed);
    let rows = Rows::new(stage.tokenizer, &learned, length, seed)?;
    let held = match held.is_empty() {
        true => None,
        false => Rows::new(stage.tokenizer, &held, length, seed).ok(),
    };
    let validation = held.as_ref().map(|rows| Held { samples: rows, count: rows.len(), length });
    let objective = NextToken { samples: &rows, validation, token_bytes: None };
    let report = stage.run(recipe, &objective)?;
    stage.finish(&report)?;
    let (used, too_long) = (rows.dialogues, rows.too_long);
    Ok(Tuned { report, used, too_long, same: 0 })
}

/// One round of preference optimisation on pairs of the stage's tokenizer, each as long as the
/// recipe's sequence at most; `stage.base` is also the frozen reference.
///
/// # Errors
/// Those of the trainer.
pub fn dpo(
    stage: &Stage<'_>,
    recipe: &Recipe,
    weights: Weights,
    pairs: &Pairs,
) -> Result<Tuned, Error> {
    let frozen = || -> Result<Model, Error> {
        let device = (stage.device)(0).map_err(quipu_train::Error::from)?;
        let precision = recipe.dtype.precision(&*device);
        let capacity = Capacity { precision, ..Capacity::frozen(&*device, recipe.sequence_length) };
        let model = Model::open(stage.base, device, Mesh::one(), capacity);
        Ok(model.map_err(quipu_train::Error::from)?)
    };
    quipu_store::atomic::create_dir(stage.dir).map_err(quipu_train::Error::from)?;
    let cache = stage.dir.join("reference.json");
    let arithmetic = (stage.device)(0).map_err(quipu_train::Error::from)?.arithmetic();
    let key = format!("{} {} {arithmetic}", fingerprint(stage.base)?, recipe.dtype);
    let world = &stage.parallel.world;
    let reference = world.first(|| pairs.cached_reference(&cache, &key, frozen))?;
    let held = (pairs.len() as f64 * stage.held_out) as usize;
    let objective = Dpo::new(pairs, &reference, weights, held, recipe.seed)?;
    let report = stage.run(recipe, &objective)?;
    stage.finish(&report)?;
    let (too_long, same) = (pairs.too_long, pairs.same);
    Ok(Tuned { report, used: pairs.len() - held, too_long, same })
}

/// Dialogues to learn from and to measure with, in another order.
fn split(dialogues: &[Dialogue], share: f64, seed: u64) -> (Vec<Dialogue>, Vec<Dialogue>) {
    let held = (dialogues.len() as f64 * share) as usize;
    let order = Order::shuffled(dialogues.len(), seed, u64::MAX - 1);
    let (held, learned) = order.split_at(held);
    let pick = |which: &[u32]| which.iter().map(|i| dialogues[*i as usize].clone()).collect();
    (pick(learned), pick(held))
}

/// What distinguishes a folder's weights from others.
fn fingerprint(folder: &Path) -> Result<String, Error> {
    let fail = |source| Error::Io { path: folder.to_owned(), source };
    let entries = std::fs::read_dir(folder).map_err(fail)?;
    let mut names: Vec<_> =
        entries.map(|e| Ok(e?.file_name())).collect::<std::io::Result<_>>().map_err(fail)?;
    names.retain(|name| name.to_string_lossy().ends_with(".safetensors"));
    names.sort();
    let sum = |name| checksum::xxh3_file(&folder.join(name)).map_err(quipu_train::Error::from);
    Ok(names.iter().map(sum).collect::<Result<Vec<_>, _>>()?.join("-"))
}

impl Stage<'_> {
    fn run(&self, recipe: &Recipe, objective: &dyn Objective) -> Result<Report, Error> {
        let config = Config::load(self.base).map_err(quipu_train::Error::from)?;
        Ok(run(&Job {
            dir: self.dir,
            recipe,
            config: &config,
            start: Start::From(self.base),
            parallel: self.parallel,
            device: self.device,
            objective,
            gate: None,
            watch: self.watch,
            cancel: self.cancel,
        })?)
    }

    /// Exports the model of a finished run.
    fn finish(&self, report: &Report) -> Result<(), Error> {
        if !report.finished {
            return Ok(());
        }
        self.parallel.world.alone(|| {
            let device = (self.device)(0)?;
            export::of_checkpoint(&report.checkpoint, self.out, device, self.tokenizer, true)
        })?;
        Ok(())
    }
}
