//! One training step: forward, backward, reduction, clipping, update. The loop, the benchmark and
//! the referee all call this one. Not the loop: no files, no clock.

use crate::objective::{Outcome, most_shares, shares};
use crate::{Error, Objective, Optimizer, Recipe};
use quipu_math::{Device, Queue, View};
use quipu_mesh::Mesh;
use quipu_model::huggingface::Import;
use quipu_model::{Capacity, Config, Entry, MemoryUse, Model, Pipeline, Table};
use std::path::Path;
use std::sync::Arc;

/// A model with its optimizer, on one rank.
pub struct Learner {
    /// The model.
    pub model: Model,
    /// This rank's part of the optimizer.
    pub optimizer: Optimizer,
    device: Arc<dyn Device>,
    mesh: Mesh,
}

/// Where a run stands before a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Steps behind it: what the schedule counts.
    pub step: u64,
    /// Updates behind it: what the moments have seen.
    pub updates: u64,
    /// The batch that is next.
    pub batch: u64,
}

impl Place {
    /// After `steps` steps of a run that skipped none and passed over no batch.
    #[must_use]
    pub fn after(steps: u64) -> Self {
        Self { step: steps, updates: steps, batch: steps }
    }
}

/// What a batch gave, before any update.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Loss, tokens, further figures.
    pub outcome: Outcome,
    /// Global norm of the gradient before clipping.
    pub norm: f64,
}

/// What a step gave, over the whole batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Loss before the update, tokens, further figures.
    pub outcome: Outcome,
    /// Global norm of the gradient before clipping.
    pub norm: f64,
    /// Learning rate of the update.
    pub rate: f64,
}

/// Rows of a prompt that pass through the model at once when a watcher completes it.
const SAMPLE_ROWS: usize = 64;

impl Learner {
    /// All memory that a run of `recipe` takes on this rank, one that `generates` even if it has no
    /// prompts; weights are zero: then
    /// [`Learner::init`], [`Learner::load`], or a checkpoint's.
    ///
    /// # Errors
    /// As [`Model::new`] and [`Optimizer::new`].
    pub fn allocate(
        device: Arc<dyn Device>,
        mesh: Mesh,
        (config, pipeline): (&Config, &Pipeline),
        recipe: &Recipe,
        generates: bool,
    ) -> Result<Self, Error> {
        // Who watches completes prompts with the model itself, where the recipe has any.
        let generates = generates || !recipe.sample_prompts.is_empty();
        let generated = if generates { SAMPLE_ROWS } else { 0 };
        let capacity = Capacity::training(&*device, recipe.largest_micro_batch());
        let precision = recipe.dtype.precision(&*device);
        let recompute = recipe.recompute;
        let split_backward = pipeline.kind == quipu_mesh::schedule::Kind::ZeroBubble;
        let slots = slots(recipe, &mesh, pipeline)?;
        let capacity =
            Capacity { generated, precision, recompute, split_backward, slots, ..capacity };
        Self::new(Model::staged(device, mesh, config.clone(), capacity, pipeline)?, recipe)
    }

    /// A fresh optimizer for `model`, whose weights are already in place.
    ///
    /// # Errors
    /// As [`Optimizer::new`].
    pub fn new(model: Model, recipe: &Recipe) -> Result<Self, Error> {
        let (device, mesh) = (model.device().clone(), model.mesh().clone());
        let optimizer = Optimizer::new(&model, recipe)?;
        Ok(Self { model, optimizer, device, mesh })
    }

    /// Bytes it holds, by kind: the model's, then the optimizer's.
    #[must_use]
    pub fn memory(&self) -> Vec<MemoryUse> {
        [self.model.memory(), &self.optimizer.memory()].concat()
    }

    /// Draws new weights, as [`Model::init`] does.
    ///
    /// # Errors
    /// What the device reports.
    pub fn init(&mut self, seed: u64) -> Result<(), Error> {
        self.each_parameter(|model, entry, out| Ok(model.draw(entry, seed, out)?))
    }

    /// Reads the weights of a Hugging Face folder.
    ///
    /// # Errors
    /// As [`Import::open`]; weights that are no numbers; what the device reports.
    pub fn load(&mut self, folder: &Path) -> Result<(), Error> {
        let table = Table::new(self.model.config());
        let import = Import::open(folder, &table)?;
        // From them nothing can be learned, and the first loss would not say why.
        import.finite(&table)?;
        self.each_parameter(|model, entry, out| Ok(import.copy(&**model.device(), entry, out)?))
    }

    /// Sets each parameter to what `fill` writes: master weights get all bits of it, working weights
    /// those that they keep.
    ///
    /// # Errors
    /// Those of `fill`; what the device reports.
    pub fn each_parameter(
        &mut self,
        fill: impl Fn(&Model, &Entry, &View) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (model, optimizer) = (&self.model, &self.optimizer);
        for entry in model.table().entries() {
            let x = self.device.matrix(optimizer.dtype(), entry.rows, entry.cols)?;
            fill(model, entry, &x)?;
            optimizer.set(entry, &x, model)?;
        }
        Ok(())
    }

    /// One step with `behind` steps behind it.
    ///
    /// # Errors
    /// Those of [`Learner::gradient`] and [`Learner::update`].
    pub fn step(
        &mut self,
        objective: &dyn Objective,
        recipe: &Recipe,
        behind: u64,
    ) -> Result<Step, Error> {
        let place = Place::after(behind);
        let Seen { outcome, norm } = self.gradient(objective, recipe, place)?;
        let rate = self.update(recipe, place, norm)?;
        Ok(Step { outcome, norm, rate })
    }

    /// Forward and backward of the batch that is next, its gradients reduced. Loss and norm are
    /// checked, so that a step that gave no numbers never reaches the optimizer.
    ///
    /// # Errors
    /// [`Error::NotFinite`]; those of the objective; what device and mesh report.
    pub fn gradient(
        &mut self,
        objective: &dyn Objective,
        recipe: &Recipe,
        place: Place,
    ) -> Result<Seen, Error> {
        self.model.zero_gradients()?;
        let outcome = objective.accumulate(&mut self.model, &self.mesh, recipe, place.batch)?;
        finite(recipe, place, "loss", outcome.loss)?;
        let norm = self.optimizer.norm(&self.model.reduced()?)?;
        finite(recipe, place, "gradient norm", norm)?;
        Ok(Seen { outcome, norm })
    }

    /// One update with the gradients of [`Learner::gradient`], which had that norm; the rate of it.
    ///
    /// # Errors
    /// What device and mesh report.
    pub fn update(&mut self, recipe: &Recipe, place: Place, norm: f64) -> Result<f64, Error> {
        let rate = recipe.schedule().rate(place.step);
        let number = place.updates + 1;
        self.optimizer.update(&self.model, recipe, (number, rate, norm))?;
        self.device.synchronize(Queue::MAIN)?;
        Ok(rate)
    }
}

impl Learner {
    /// Whether ranks that hold the same parameters hold the same bits of them.
    ///
    /// # Errors
    /// [`Error::Copies`]; what device and mesh report.
    pub fn check_copies(&self) -> Result<(), Error> {
        let rank = self.mesh.rank();
        let differing = self.model.differing_copies()?;
        differing.map_or(Ok(()), |group| Err(Error::Copies { rank, group }))
    }
}

/// Micro-batches whose activations live at once on this rank, at most.
fn slots(recipe: &Recipe, mesh: &Mesh, pipeline: &Pipeline) -> Result<usize, Error> {
    let mut most = 1;
    for first in recipe.levels() {
        let batches = match mesh.is_fully_sharded() {
            true => most_shares(recipe, mesh, first.batch),
            false => shares(recipe, mesh, first.batch).len(),
        };
        most = most.max(pipeline.slots(mesh, batches)?);
    }
    Ok(most)
}

fn finite(recipe: &Recipe, place: Place, what: &'static str, value: f64) -> Result<(), Error> {
    if value.is_finite() {
        return Ok(());
    }
    let portion = recipe.portion(place.batch);
    let first_sample = portion.first_sample;
    let last_sample = first_sample + portion.samples().max(1) - 1;
    Err(Error::NotFinite { step: place.step + 1, what, value, first_sample, last_sample })
}
