//! Buffers and kernels: forward and backward of each op, and the devices that run them.
//!
//! Every tensor is a matrix of rows ([`View`]); an operation is plain data ([`Op`]); a [`Device`]
//! runs it. Not an autograd framework, and no model: the sixteen-odd ops of the Llama architecture
//! with hand-derived backwards, each checked against finite differences on the reference device.
//!
//! ```text
//! let device: Arc<dyn Device> = Arc::new(Cpu::new(2));
//! let (x, w) = (device.matrix(F32, 8, 16)?, device.matrix(F32, 32, 16)?);
//! let y = device.matrix(F32, 8, 32)?;
//! device.execute(Matmul { layout: NT, a: x, b: w, packed: None, plus: None, out: y })?;
//! ```

pub mod bench;
mod buffer;
mod check;
mod cost;
mod count;
mod cpu;
mod device;
mod dtype;
mod error;
mod host;
pub mod op;
mod opaque;
mod operand;
mod pages;
pub mod random;
mod reference;
mod timed;
mod transfer;
mod view;

pub use buffer::Buffer;
pub use cost::Cost;
pub use count::Count;
pub use cpu::{Cpu, Instructions};
pub use device::{Device, Event, Lent, Queue, Usage};
pub use dtype::DType;
pub use error::Error;
pub use op::{Layout, Op};
pub use opaque::Opaque;
pub use operand::{Access, Operand};
pub use random::Random;
pub use reference::Reference;
pub use timed::Timed;
pub use view::View;
