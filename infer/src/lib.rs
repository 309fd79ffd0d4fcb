//! Generation: a batch of sequences through a model with caches of keys and values, sampling,
//! streaming. Cached decoding gives the bits of prefill. Not here: optimizers, training, HTTP.

mod engine;
mod error;
mod reply;
mod sampling;

pub use engine::{Completion, Engine, Finish, Request, Statistics};
pub use error::Error;
pub use reply::{Reply, Settings, complete, replies, stream};
pub use sampling::Sampling;
