//! What a model is made for, and what memory that takes by kind. All of it is planned when the model
//! is made; nothing is allocated in a step. Not where a tensor lies: that is `slots.rs`'s.

use quipu_math::{DType, Device};
use serde::{Deserialize, Serialize};

/// What the model is made for.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Most tokens in a micro-batch; 0 for a model that only generates.
    pub tokens: usize,
    /// Micro-batches whose activations live at the same time.
    pub slots: usize,
    /// Positions of the rotary table; `None`: what the configuration was made for.
    pub positions: Option<usize>,
    /// Most rows in one call of `extend`; 0 for a model that does not generate.
    pub generated: usize,
    /// Whether there are gradients: no for a frozen reference model.
    pub gradients: bool,
    /// Whether `backward_input` and `backward_weight` are called apart (keeps more per slot).
    pub split_backward: bool,
    /// Element types by role.
    pub precision: Precision,
    /// What the backward computes again; without gradients nothing is kept for one anyway.
    pub recompute: Recompute,
}

/// What of a layer's forward the backward computes again in place of keeping it (paper, section
/// 3.3.2, which tunes it by stage). Gradients have the same bits under each: the same ops run on
/// the same numbers.
///
/// Activations of a token and layer, in elements: D is the width, Q that of all query heads, KV that
/// of keys or of values, F that of the feed-forward, H the number of heads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recompute {
    /// Only the product of the SwiGLU, which falls out of its backward: 4·D + 2·Q + 2·KV + 2·F + H
    /// + 2 are kept.
    #[default]
    None,
    /// Also the outputs of both norms: 2·D + 2·Q + 2·KV + 2·F + H + 2 are kept.
    Elementwise,
    /// All of the layer but its last product: its input is kept, D. Not with `split_backward`, for
    /// which there would be nothing to read.
    Block,
}

impl std::fmt::Display for Recompute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Recompute::None => "none",
            Recompute::Elementwise => "elementwise",
            Recompute::Block => "block",
        })
    }
}

/// Element types by role. Master weights and the optimizer's moments are the trainer's, and never
/// narrower than `sums`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Precision {
    /// What the matrices are multiplied in: working weights.
    pub weights: DType,
    /// What is saved for the backward pass and read by products, and its gradients inside a layer;
    /// keys and values.
    pub activations: DType,
    /// The residual stream and its gradient, parameters' gradients, norms, log-probabilities.
    pub sums: DType,
}

impl Precision {
    /// One type for every role: F32, or F64 on the reference device.
    pub const fn whole(dtype: DType) -> Precision {
        Precision { weights: dtype, activations: dtype, sums: dtype }
    }

    /// Weights and activations in bf16, what is summed in f32 (paper, section 3.3.2: gradients are
    /// accumulated in f32).
    pub const MIXED: Precision =
        Precision { weights: DType::BF16, activations: DType::BF16, sums: DType::F32 };
}

impl Capacity {
    /// For training: `tokens` in a micro-batch, one slot, gradients, the device's own type.
    pub fn training(device: &dyn Device, tokens: usize) -> Capacity {
        let precision = Precision::whole(working_dtype(device));
        let gradients = true;
        Capacity {
            tokens,
            slots: 1,
            positions: None,
            generated: 0,
            gradients,
            split_backward: false,
            precision,
            recompute: Recompute::None,
        }
    }

    /// For log-probabilities of a frozen model: no gradients.
    pub fn frozen(device: &dyn Device, tokens: usize) -> Capacity {
        Capacity { gradients: false, ..Capacity::training(device, tokens) }
    }

    /// For generation: at most `generated` new rows in one call of `extend`.
    pub fn generating(device: &dyn Device, generated: usize) -> Capacity {
        Capacity { generated, slots: 0, ..Capacity::frozen(device, 0) }
    }
}

/// The type a device computes in: f64 on the reference device, f32 elsewhere.
pub fn working_dtype(device: &dyn Device) -> DType {
    if device.name() == "reference" { DType::F64 } else { DType::F32 }
}

/// Bytes of one kind of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// `weights`, `packed weights`, `gradients`, `activations`, `scratch`, `rotary table`,
    /// `generation`; the trainer adds its own.
    pub kind: &'static str,
    /// Bytes.
    pub bytes: usize,
}
