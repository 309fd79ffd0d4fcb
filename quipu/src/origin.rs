//! Continued pre-training: the checkpoint of others that a run begins with, and the text that is
//! read again so that the model keeps what it knew (replay), as a table of the recipe. Not the
//! training, which is the stages' own.

use crate::error::Error;
use crate::recipe::{Recipe, Scaling, Shape};
use quipu_model::huggingface::Import;
use quipu_model::{Config, RopeScaling, Table};
use quipu_tokens::Tokenizer;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The source of replayed text, as a mix names it.
pub const REPLAY: &str = "replay";

/// Where a run begins that does not begin with random weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// a Hugging Face checkpoint with its tokenizer
    pub model: PathBuf,
    /// text that is read beside the new one, named as inputs are
    #[serde(default)]
    pub replay: Vec<PathBuf>,
    /// its share of tokens, where the recipe has no mix of its own
    #[serde(default = "quarter")]
    pub replay_share: f64,
}

/// Of what is read, from 1 to 30 % of old text keep most of what was known (Ibrahim and others,
/// "Simple and scalable strategies to continually pre-train large language models", 2024).
fn quarter() -> f64 {
    0.25
}

impl Origin {
    /// The checkpoint's own configuration.
    pub fn config(&self) -> Result<Config, Error> {
        Ok(Config::load(&self.model)?)
    }

    /// The checkpoint's tokenizer, which must fit its embedding.
    pub fn tokenizer(&self) -> Result<Tokenizer, Error> {
        let tokenizer = Tokenizer::load(&self.model.join("tokenizer.json"))?;
        let (ids, rows) = (tokenizer.vocabulary(), self.config()?.vocab_size);
        if ids <= rows {
            return Ok(tokenizer);
        }
        let model = self.model.display();
        Err(Error::data(format!(
            "{model}: its tokenizer has {ids} ids, its embedding {rows} rows: they are not of one \
             model; put the tokenizer.json there that the checkpoint was trained with"
        )))
    }

    /// Refuses what cannot be, by key.
    pub fn check(&self) -> Result<(), (String, String)> {
        if self.replay_share > 0.0 && self.replay_share < 1.0 {
            return Ok(());
        }
        let message = format!("{} is not between 0 and 1", self.replay_share);
        Err(("from.replay_share".to_owned(), message))
    }
}

impl Shape {
    /// The shape of somebody's model, as far as recipes name it.
    fn of(config: &Config) -> Self {
        let rope_scaling = match config.rope_scaling {
            RopeScaling::None => None,
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            } => Some(Scaling {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            }),
        };
        Self {
            hidden_size: config.hidden_size,
            layers: config.layers,
            heads: config.heads,
            kv_heads: config.kv_heads,
            ffn_size: config.intermediate_size,
            positions: config.max_positions,
            rope_theta: config.rope_theta,
            tied: config.tied,
            rope_scaling,
        }
    }
}

impl Recipe {
    /// Takes the model and the size of the vocabulary from the checkpoint that the run begins with.
    pub fn adopt(&mut self) -> Result<(), Error> {
        let Some(origin) = &self.from else { return Ok(()) };
        let config = origin.config()?;
        origin.tokenizer()?;
        // Tensors and their shapes, before anything is read for them.
        Import::open(&origin.model, &Table::new(&config))?;
        self.model = Shape::of(&config);
        self.tokens.vocabulary = config.vocab_size;
        Ok(())
    }
}
