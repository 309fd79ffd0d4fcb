//! The referee: holds the program against reference tensors that another program computed.
//!
//! [`verify`] takes a Hugging Face checkpoint and a case (a safetensors file), computes what the
//! case pins down by the keys it has, through the program's own model, optimizer and objectives,
//! and returns one [`Row`] for each group: the largest error, in the measure of
//! `shared/golden/README.md`, beside its tolerance.
//!
//! Over a mesh all ranks compute the case together, and the first compares what they have in all.
//! It trusts nothing it measures and is imported by nothing but the program. It does not make
//! reference tensors.

mod case;
mod decoding;
mod error;
mod measure;
mod plain;
mod preference;
mod trajectory;
mod whole;

pub use error::Error;
pub use measure::{Row, Scale};

use case::Case;
use quipu_math::Device;
use quipu_mesh::{LaunchError, Mesh};
use quipu_model::{Capacity, Config, Model, Pipeline};
use quipu_train::recipe::Dtype;
use quipu_train::{Learner, Parallel, Recipe};
use std::path::Path;
use std::sync::Arc;

/// On what a rank computes, and how closely it must agree.
pub(crate) struct Bench {
    pub device: Arc<dyn Device>,
    pub dtype: Dtype,
    pub mesh: Mesh,
    pub pipeline: Pipeline,
}

impl Bench {
    /// A capacity in these numbers.
    fn in_these(&self, capacity: Capacity) -> Capacity {
        Capacity { precision: self.dtype.precision(&*self.device), ..capacity }
    }

    /// A model that learns from so many micro-batches of so many tokens at once.
    fn training(&self, tokens: usize, micro_batches: usize) -> Result<Capacity, Error> {
        let slots = self.pipeline.slots(&self.mesh, micro_batches)?;
        let split_backward = self.pipeline.kind == quipu_mesh::schedule::Kind::ZeroBubble;
        let capacity = self.in_these(Capacity::training(&*self.device, tokens));
        Ok(Capacity { slots, split_backward, ..capacity })
    }

    fn frozen(&self, tokens: usize) -> Capacity {
        self.in_these(Capacity::frozen(&*self.device, tokens))
    }

    /// This rank's part of the model in a folder.
    fn open(&self, folder: &Path, capacity: Capacity) -> Result<Model, Error> {
        let (device, mesh) = (self.device.clone(), self.mesh.clone());
        let config = Config::load(folder)?;
        let mut model = Model::staged(device, mesh, config, capacity, &self.pipeline)?;
        model.load(folder)?;
        Ok(model)
    }

    /// The same, whose gradients can be added up over all ranks.
    fn learner(&self, folder: &Path, capacity: Capacity) -> Result<Learner, Error> {
        let recipe = Recipe { dtype: self.dtype, ..Recipe::default() };
        Ok(Learner::new(self.open(folder, capacity)?, &recipe)?)
    }

    fn generating(&self, tokens: usize) -> Capacity {
        self.in_these(Capacity::generating(&*self.device, tokens))
    }

    /// The tolerances; a device that computes in f64 is held to those of f32.
    fn scale(&self) -> Scale {
        match self.device.name() {
            "reference" => Scale::F64,
            _ if self.dtype == Dtype::Bf16 => Scale::Bf16,
            _ => Scale::F32,
        }
    }
}

/// Computes what the case pins down with the checkpoint in `model_dir`, over the ranks of `parallel`,
/// each on a device of its own, in the numbers of `dtype`.
///
/// Groups by keys: `logits`, `loss`, `grad.*` (with `input_ids`, and `lengths` for packed
/// documents); `batches` with `losses`, `grad_norms`, `lrs`, `final.*` (optimizer steps);
/// `chosen_ids` and what belongs to it (preferences; the reference model lies in `reference/`
/// beside the case); `prompt.N` and `output.N` (greedy decoding).
///
/// # Errors
/// A folder or file that cannot be read, a case without any of these keys or with tensors that
/// do not fit each other; ranks that the model does not fit on; what a device reports. A number out
/// of tolerance is no error but a row that is not ok.
pub fn verify(
    model_dir: &Path,
    case_file: &Path,
    parallel: &Parallel,
    device: &(dyn Fn() -> Arc<dyn Device> + Sync),
    dtype: Dtype,
) -> Result<Vec<Row>, Error> {
    let case = Case::open(case_file)?;
    let rank = |mesh: Mesh| {
        let (mesh, pipeline) = (parallel.mesh(&mesh)?, parallel.pipeline.clone());
        rows(model_dir, &case, &Bench { device: device(), dtype, mesh, pipeline })
    };
    let all = parallel.world.launch(parallel.axes, rank).map_err(|error| match error {
        LaunchError::Rank { error, .. } => error,
        LaunchError::Start(error) => error.into(),
        panicked => Error::Rank(panicked.to_string()),
    })?;
    Ok(all.into_iter().next().unwrap_or_default())
}

/// What one rank finds; the first has it all.
fn rows(model_dir: &Path, case: &Case, bench: &Bench) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    if case.has("input_ids") {
        rows.extend(plain::rows(model_dir, case, bench)?);
    }
    if case.has("batches") {
        rows.extend(trajectory::rows(model_dir, case, bench)?);
    }
    if case.has("chosen_ids") {
        rows.extend(preference::rows(model_dir, case, bench)?);
    }
    if case.has("prompt.0") {
        rows.extend(decoding::rows(model_dir, case, bench)?);
    }
    if rows.is_empty() {
        return Err(case.wrong(
            format!("keys {}", case.some_names()),
            "input_ids with logits, loss or grad.NAME; batches; chosen_ids; or prompt.0",
        ));
    }
    Ok(rows)
}
