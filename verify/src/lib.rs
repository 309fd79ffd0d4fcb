//! The referee: holds the program against reference tensors that another program computed.
//!
//! [`verify`] takes a Hugging Face checkpoint and a case (a safetensors file), computes what the
//! case pins down by the keys it has, through the program's own model, optimizer and objectives,
//! and returns one [`Row`] for each group: the largest error, in the measure of
//! `shared/golden/README.md`, beside its tolerance.
//!
//! It trusts nothing it measures and is imported by nothing but the program. It does not make
//! reference tensors.

mod case;
mod decoding;
mod error;
mod measure;
mod plain;
mod preference;
mod trajectory;

pub use error::Error;
pub use measure::{Row, Scale};

use case::Case;
use quipu_math::Device;
use quipu_model::Capacity;
use quipu_train::recipe::Dtype;
use std::path::Path;
use std::sync::Arc;

/// On what the program computes, and how closely it must agree.
pub(crate) struct Bench {
    pub device: Arc<dyn Device>,
    pub dtype: Dtype,
}

impl Bench {
    /// A capacity in these numbers.
    fn in_these(&self, capacity: Capacity) -> Capacity {
        Capacity { precision: self.dtype.precision(&*self.device), ..capacity }
    }

    fn training(&self, tokens: usize) -> Capacity {
        self.in_these(Capacity::training(&*self.device, tokens))
    }

    fn frozen(&self, tokens: usize) -> Capacity {
        self.in_these(Capacity::frozen(&*self.device, tokens))
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

/// Computes what the case pins down with the checkpoint in `model_dir`, on `device`, in the numbers of
/// `dtype`.
///
/// Groups by keys: `logits`, `loss`, `grad.*` (with `input_ids`, and `lengths` for packed
/// documents); `batches` with `losses`, `grad_norms`, `lrs`, `final.*` (optimizer steps);
/// `chosen_ids` and what belongs to it (preferences; the reference model lies in `reference/`
/// beside the case); `prompt.N` and `output.N` (greedy decoding).
///
/// # Errors
/// A folder or file that cannot be read, a case without any of these keys or with tensors that
/// do not fit each other; what the device reports. A number out of tolerance is no error but a
/// row that is not ok.
pub fn verify(
    model_dir: &Path,
    case_file: &Path,
    device: Arc<dyn Device>,
    dtype: Dtype,
) -> Result<Vec<Row>, Error> {
    let case = Case::open(case_file)?;
    let bench = Bench { device, dtype };
    let mut rows = Vec::new();
    if case.has("input_ids") {
        rows.extend(plain::rows(model_dir, &case, &bench)?);
    }
    if case.has("batches") {
        rows.extend(trajectory::rows(model_dir, &case, &bench)?);
    }
    if case.has("chosen_ids") {
        rows.extend(preference::rows(model_dir, &case, &bench)?);
    }
    if case.has("prompt.0") {
        rows.extend(decoding::rows(model_dir, &case, &bench)?);
    }
    if rows.is_empty() {
        return Err(case.wrong(
            format!("keys {}", case.some_names()),
            "input_ids with logits, loss or grad.NAME; batches; chosen_ids; or prompt.0",
        ));
    }
    Ok(rows)
}
