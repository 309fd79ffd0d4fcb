//! One training step: forward, backward, reduction, clipping, update. The loop, the benchmark and
//! the referee all call this one. Not the loop: no files, no clock.

use crate::objective::Outcome;
use crate::{Error, Objective, Optimizer, Recipe};
use quipu_math::{Device, Queue, View};
use quipu_mesh::Mesh;
use quipu_model::huggingface::Import;
use quipu_model::{Entry, Model};
use std::path::Path;
use std::sync::Arc;

/// A model with its optimizer, on one rank.
pub struct Learner {
    /// The model.
    pub model: Model,
    /// This rank's slice of the optimizer.
    pub optimizer: Optimizer,
    device: Arc<dyn Device>,
    mesh: Mesh,
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

impl Learner {
    /// A fresh optimizer for `model`, whose weights are already in place.
    ///
    /// # Errors
    /// As [`Optimizer::new`].
    pub fn new(model: Model) -> Result<Self, Error> {
        let (device, mesh) = (model.device().clone(), model.mesh().clone());
        let optimizer =
            Optimizer::new(device.clone(), mesh.clone(), model.table(), model.weights())?;
        Ok(Self { model, optimizer, device, mesh })
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
    /// As [`Import::open`]; what the device reports.
    pub fn load(&mut self, folder: &Path) -> Result<(), Error> {
        let import = Import::open(folder, self.model.table())?;
        self.each_parameter(|model, entry, out| Ok(model.copy(&import, entry, out)?))
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
            optimizer.set(entry, &x, model.weights())?;
        }
        Ok(())
    }

    /// One step with `behind` steps behind it. Loss and norm are checked before the optimizer
    /// runs, so that a step that gave no numbers changes nothing.
    ///
    /// # Errors
    /// [`Error::NotFinite`]; those of the objective; what device and mesh report.
    pub fn step(
        &mut self,
        objective: &dyn Objective,
        recipe: &Recipe,
        behind: u64,
    ) -> Result<Step, Error> {
        self.model.zero_gradients()?;
        let outcome = objective.accumulate(&mut self.model, &self.mesh, recipe, behind)?;
        finite(recipe, behind, "loss", outcome.loss)?;
        let gradients = self.model.gradients()?;
        let flat = gradients.view().clone();
        let norm = self.optimizer.reduce(gradients)?;
        finite(recipe, behind, "gradient norm", norm)?;
        let rate = recipe.schedule().rate(behind);
        let working = self.model.weights();
        self.optimizer.update(&flat, working, recipe, (behind + 1, rate, norm))?;
        self.device.synchronize(Queue::MAIN)?;
        Ok(Step { outcome, norm, rate })
    }
}

fn finite(recipe: &Recipe, behind: u64, what: &'static str, value: f64) -> Result<(), Error> {
    if value.is_finite() {
        return Ok(());
    }
    let samples = recipe.step_samples();
    let first_sample = behind * samples;
    let last_sample = first_sample + samples.max(1) - 1;
    Err(Error::NotFinite { step: behind + 1, what, value, first_sample, last_sample })
}
