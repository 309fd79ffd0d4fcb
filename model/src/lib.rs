//! Llama: configuration, the parameter table, forward, backward, generation, import and export.
//!
//! - [`Config`]: the architecture, from and to Hugging Face's `config.json`; [`Sizes`] for new
//!   ones.
//! - [`Table`]: the one parameter table: names, shapes, flat offsets, splits, initial values,
//!   decay.
//! - [`Capacity`] → [`Model::new`]: all memory planned at the start; `model.memory()` says how
//!   much.
//! - Training: `forward(slot, &batch)`, `log_probs(slot)`, `backward(slot, weights)`, which adds
//!   the gradients of Σ weight·log p(target) to the flat range `gradients()`; or `forward_backward`
//!   in one call. By layers: `load_batch`, `forward_layers`, `backward_head`, `backward_layers` or
//!   `backward_input` + `backward_weight`. [`Packed`] builds a [`MicroBatch`] from documents.
//! - On a mesh: [`Shard`] is what a rank holds; `learn` and `measure` take all micro-batches of a step
//!   through the [`Pipeline`], of which one rank is one stage.
//! - Generation: `cache(capacity)` gives a [`KvCache`]; `extend(&mut [Chunk], Wanted)` is prefill
//!   and decoding, and returns logits.
//! - Files: `Model::open(folder, …)`, `map(folder, …)` (weights read in place), `load(folder)`,
//!   `save(folder)` ([`huggingface`]);
//!   [`checkpoint`] (our own, reshardable); [`tensor_file`] (any safetensors file).
//!
//! It knows no data, no optimizer, no loop and no text.

pub mod attacks;
mod backward;
mod batch;
pub mod checkpoint;
mod config;
mod config_rules;
mod division;
mod error;
mod flops;
mod forward;
mod generate;
#[cfg(test)]
mod gradient_tests;
pub mod huggingface;
mod memory;
mod model;
mod packs;
mod parameters;
mod pipeline;
pub mod rope;
mod shard;
mod sharing;
mod slots;
#[cfg(test)]
mod slots_tests;
mod table;
pub mod tensor_file;

pub use batch::{MicroBatch, Packed};
pub use config::{Config, RopeScaling, Sizes};
pub use division::{BUCKETS_AT_ONCE, Bucket, Division};
pub use error::Error;
pub use generate::{Chunk, KvCache, Wanted};
pub use memory::{Capacity, MemoryUse, Precision, Recompute, working_dtype};
pub use model::Model;
pub use parameters::{Joined, LayerViews, Parameters};
pub use pipeline::Weighted;
pub use shard::{Among, Keys, Pipeline, Rows, Shard, Stage};
pub use table::{ALIGNMENT, Entry, Init, Kind, Split, Table};
