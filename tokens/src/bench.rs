//! The peer of our way from Parquet to shards: the crate `tokenizers` by itself, opened from a file
//! as its users do, encoding texts that lie in memory. Not the encoder that we call (`tokenizer`),
//! though both are one version of one crate.

use tokenizers::pipeline::{EncodeOptions, PipelineToken, PipelineTokenizer};

use crate::{Error, Tokenizer};

/// An encoder of Hugging Face's.
pub struct Bare {
    engine: PipelineTokenizer,
    options: EncodeOptions,
    ids: Vec<PipelineToken>,
}

impl Bare {
    /// The encoder that reads what we write.
    ///
    /// # Errors
    /// [`Error::TokenizerFile`] when it does not.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, Error> {
        let refuse =
            |reason: String| Error::TokenizerFile { path: "our own tokenizer".to_owned(), reason };
        let file = tokenizers::canonicalize_str(&tokenizer.to_json());
        let file = file.map_err(|e| refuse(e.to_string()))?;
        let engine = tokenizers::from_json(&file).map_err(|e| refuse(e.to_string()))?;
        Ok(Self { engine, options: EncodeOptions::no_specials(), ids: Vec::new() })
    }

    /// Encodes a text by the call that allocates nothing, drops the ids, and says how many they were.
    ///
    /// # Errors
    /// [`Error::Encode`] as [`Tokenizer::encode`].
    pub fn encode(&mut self, text: &str) -> Result<usize, Error> {
        self.ids.clear();
        self.engine
            .encode_into(text, &self.options, &mut self.ids)
            .map_err(|e| Error::Encode { bytes: text.len(), reason: e.to_string() })?;
        Ok(self.ids.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::tests::small;

    #[test]
    fn it_gives_as_many_ids_as_ours() {
        let mut bare = Bare::new(&small()).unwrap();
        for text in ["the thing, the users'", "\u{6f22}\u{5b57}\n\n 1234", ""] {
            assert_eq!(bare.encode(text).unwrap(), small().encode(text).unwrap().len());
        }
    }
}
