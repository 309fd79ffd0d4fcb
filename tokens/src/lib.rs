//! From text to token ids and back, at rest and on the way into a training run: the tokenizer, the
//! chat format, token shards, the loader. Form and order of everything follow Llama 3 (paper,
//! sections 3.2 and 4.1.1). Not here: models, tensors, curation.

pub mod alphabet;
pub mod bench;
pub mod bpe;
pub mod chat;
pub mod course;
mod error;
mod hugging_face;
pub mod loader;
#[cfg(feature = "prepare")]
mod overlap;
#[cfg(feature = "prepare")]
pub mod prepare;
pub mod shard;
pub mod special;
pub mod spelling;
pub mod split;
mod stream;
pub mod tiktoken;
mod tokenizer;

pub use chat::{Chat, Dialogue, Message, Role};
pub use course::{Course, Mix, Stage};
pub use error::Error;
pub use loader::{Loader, Packed, Piece, Sequential, Tokens, sources};
pub use stream::StreamDecoder;
pub use tokenizer::Tokenizer;
