//! What a Llama is: the sizes and constants that fix the computation, read from and written to the
//! `config.json` of Hugging Face (`LlamaForCausalLM`), both spellings of the rope keys included.
//!
//! Paper §3.2 (table 3) for the sizes; the frequency scaling of 3.1 is in the released code only.
//! What it is not: settings of training or generation. Keys we do not compute with are kept and
//! written back; keys that would change the computation are refused by name (`config_rules.rs`).

use crate::Error;
use crate::config_rules as rules;
use serde_json::{Map, Value};
use std::path::Path;

/// How the rotary frequencies are changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// θ^(−2i/d), as it is.
    None,
    /// Llama 3.1's: long wavelengths divided by `factor`, a blend between the two limits.
    Llama3 {
        /// By how much the lowest frequencies are divided.
        factor: f64,
        /// original / wavelength below which a frequency is divided.
        low_freq_factor: f64,
        /// original / wavelength above which a frequency is left alone.
        high_freq_factor: f64,
        /// The context of the first pre-training, in tokens.
        original_max_position_embeddings: usize,
    },
}

/// The architecture of one model.
#[derive(Clone, Debug)]
pub struct Config {
    /// Rows of the embedding, V.
    pub vocab_size: usize,
    /// Width of the residual stream, D.
    pub hidden_size: usize,
    /// Width of the feed-forward, F.
    pub intermediate_size: usize,
    /// Number of layers, L.
    pub layers: usize,
    /// Query heads, H.
    pub heads: usize,
    /// Key-value heads, KV (divides H).
    pub kv_heads: usize,
    /// Width of a head, even; H·head_dim need not equal D.
    pub head_dim: usize,
    /// Positions the model was made for.
    pub max_positions: usize,
    /// θ of the rotary embedding.
    pub rope_theta: f64,
    /// Scaling of the rotary frequencies.
    pub rope_scaling: RopeScaling,
    /// ε inside RMSNorm's root.
    pub rms_norm_eps: f64,
    /// Whether the output head is the embedding.
    pub tied: bool,
    /// Biases on the q, k, v and o projections.
    pub attention_bias: bool,
    /// Biases on the gate, up and down projections.
    pub mlp_bias: bool,
    /// Everything the file said, in its order, to be written back.
    kept: Map<String, Value>,
    /// The file's own text: written back verbatim while it still says the same.
    text: Option<String>,
}

impl PartialEq for Config {
    /// Equal when they compute the same; what is merely kept does not count.
    fn eq(&self, other: &Config) -> bool {
        self.computes() == other.computes()
    }
}

/// The usual sizes of a new model; everything else has Llama 3's values.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward.
    pub intermediate_size: usize,
    /// Number of layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key-value heads.
    pub kv_heads: usize,
    /// Positions the model is made for.
    pub max_positions: usize,
    /// Whether the output head is the embedding.
    pub tied: bool,
}

impl Config {
    /// A new model: θ 500,000, ε 1e-5, no biases, no scaling, head width D/H.
    ///
    /// # Errors
    /// Sizes that make no model (zero, heads that do not divide, an odd head width).
    pub fn new(sizes: Sizes) -> Result<Config, Error> {
        let Sizes { hidden_size, heads, .. } = sizes;
        if heads == 0 || !hidden_size.is_multiple_of(heads) {
            return Err(Error::Config {
                key: "num_attention_heads".into(),
                found: heads.to_string(),
                expected: format!("a divisor of hidden_size {hidden_size}"),
            });
        }
        let config = Config {
            vocab_size: sizes.vocab_size,
            hidden_size,
            intermediate_size: sizes.intermediate_size,
            layers: sizes.layers,
            heads,
            kv_heads: sizes.kv_heads,
            head_dim: hidden_size / heads,
            max_positions: sizes.max_positions,
            rope_theta: 500_000.0,
            rope_scaling: RopeScaling::None,
            rms_norm_eps: 1e-5,
            tied: sizes.tied,
            attention_bias: false,
            mlp_bias: false,
            kept: rules::fresh(),
            text: None,
        };
        config.validate()?;
        Ok(config)
    }

    /// Reads `FOLDER/config.json`.
    ///
    /// # Errors
    /// A file that cannot be read, and all of [`Config::parse`].
    pub fn load(folder: &Path) -> Result<Config, Error> {
        let path = folder.join("config.json");
        let text = std::fs::read_to_string(&path)
            .map_err(|source| Error::Io { path: path.clone(), source })?;
        Config::parse(&text).map_err(|error| error.in_file(&path))
    }

    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// Text that is no JSON object, a missing or impossible size, and any key or value that changes
    /// the computation in a way not supported here, by name.
    pub fn parse(text: &str) -> Result<Config, Error> {
        let value: Value =
            serde_json::from_str(text).map_err(|e| Error::NotJson { why: e.to_string() })?;
        let Value::Object(kept) = value else {
            return Err(Error::NotJson { why: "the outermost value is no object".into() });
        };
        let mut config = rules::read(&kept)?;
        config.validate()?;
        config.kept = kept;
        config.text = Some(text.to_string());
        Ok(config)
    }

    /// The text of `config.json`: the file's own where it still says the same, else its keys in
    /// their order with the changed values.
    pub fn to_json(&self) -> String {
        if let Some(text) = &self.text
            && Config::parse(text).is_ok_and(|before| before == *self)
        {
            return text.clone();
        }
        let mut text = serde_json::to_string_pretty(&Value::Object(rules::write(self, &self.kept)))
            .unwrap_or_default();
        text.push('\n');
        text
    }

    /// A key that is kept but not computed with, as `eos_token_id`.
    pub fn kept(&self, key: &str) -> Option<&Value> {
        self.kept.get(key)
    }

    /// Sets a key that is kept but not computed with, as `eos_token_id` or `dtype`.
    ///
    /// # Errors
    /// A key or value that changes the computation: set the field instead.
    pub fn keep(&mut self, key: &str, value: Value) -> Result<(), Error> {
        if rules::COMPUTED.contains(&key) {
            return Err(Error::Config {
                key: key.into(),
                found: value.to_string(),
                expected: "the field of that name to be set, this key changes the computation"
                    .into(),
            });
        }
        let mut kept = rules::write(self, &self.kept);
        kept.insert(key.into(), value);
        rules::read(&kept)?;
        self.kept = kept;
        self.text = None;
        Ok(())
    }

    /// Width of the concatenated query heads.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of the concatenated key (or value) heads.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Width of q|k|v together.
    pub fn qkv_width(&self) -> usize {
        self.query_width() + 2 * self.kv_width()
    }

    /// Checks that the sizes make a model.
    ///
    /// # Errors
    /// The first value that does not, with what it should be.
    pub fn validate(&self) -> Result<(), Error> {
        let bad = |key: &str, found: &dyn ToString, expected: &str| {
            Err(Error::Config {
                key: key.into(),
                found: found.to_string(),
                expected: expected.into(),
            })
        };
        let sizes = [
            ("vocab_size", self.vocab_size, rules::MOST_ROWS),
            ("hidden_size", self.hidden_size, rules::MOST_WIDTH),
            ("intermediate_size", self.intermediate_size, rules::MOST_WIDTH),
            ("num_hidden_layers", self.layers, rules::MOST_LAYERS),
            ("num_attention_heads", self.heads, rules::MOST_HEADS),
            ("num_key_value_heads", self.kv_heads, rules::MOST_HEADS),
            ("head_dim", self.head_dim, rules::MOST_HEADS),
            ("max_position_embeddings", self.max_positions, rules::MOST_ROWS),
        ];
        for (key, found, most) in sizes {
            if found == 0 || found > most {
                return bad(key, &found, &format!("a whole number from 1 to {most}"));
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let expected = format!("a divisor of num_attention_heads {}", self.heads);
            return bad("num_key_value_heads", &self.kv_heads, &expected);
        }
        if !self.head_dim.is_multiple_of(2) {
            return bad("head_dim", &self.head_dim, "an even number, rotation turns pairs");
        }
        if !(self.rms_norm_eps >= 0.0 && self.rms_norm_eps < 1.0) {
            return bad("rms_norm_eps", &self.rms_norm_eps, "a number from 0 to 1");
        }
        if !(self.rope_theta > 0.0 && self.rope_theta.is_finite()) {
            return bad("rope_theta", &self.rope_theta, "a number above 0");
        }
        self.validate_scaling()
    }

    fn validate_scaling(&self) -> Result<(), Error> {
        let RopeScaling::Llama3 { factor, low_freq_factor: low, high_freq_factor: high, .. } =
            self.rope_scaling
        else {
            return Ok(());
        };
        let bad = |key: &str, found: f64, expected: &str| {
            Err(Error::Config {
                key: key.into(),
                found: found.to_string(),
                expected: expected.into(),
            })
        };
        if !(factor >= 1.0 && factor.is_finite()) {
            return bad("rope_scaling.factor", factor, "a number ≥ 1");
        }
        if !(low > 0.0 && low.is_finite()) {
            return bad("rope_scaling.low_freq_factor", low, "a number above 0");
        }
        if !(high > low && high.is_finite()) {
            return bad("rope_scaling.high_freq_factor", high, "a number above low_freq_factor");
        }
        Ok(())
    }

    /// What fixes the computation, for comparison.
    fn computes(&self) -> impl PartialEq + use<> {
        let sizes = [
            self.vocab_size,
            self.hidden_size,
            self.intermediate_size,
            self.layers,
            self.heads,
            self.kv_heads,
            self.head_dim,
            self.max_positions,
        ];
        let flags = [self.tied, self.attention_bias, self.mlp_bias];
        (sizes, flags, self.rope_theta, self.rms_norm_eps, self.rope_scaling)
    }

    /// Built by the reader of `config_rules.rs`, before the kept keys are attached.
    pub(crate) fn bare(sizes: [usize; 8], flags: [bool; 3], theta: f64, eps: f64) -> Config {
        Config {
            vocab_size: sizes[0],
            hidden_size: sizes[1],
            intermediate_size: sizes[2],
            layers: sizes[3],
            heads: sizes[4],
            kv_heads: sizes[5],
            head_dim: sizes[6],
            max_positions: sizes[7],
            rope_theta: theta,
            rope_scaling: RopeScaling::None,
            rms_norm_eps: eps,
            tied: flags[0],
            attention_bias: flags[1],
            mlp_bias: flags[2],
            kept: Map::new(),
            text: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"{"architectures":["LlamaForCausalLM"],"hidden_size":64,
        "odd_key":[1,{"a":null}],"intermediate_size":176,"num_hidden_layers":3,"num_attention_heads":4,
        "num_key_value_heads":2,"vocab_size":512,"rope_theta":5e5,"rms_norm_eps":1e-05}"#;

    fn with(key: &str, value: &str) -> Result<Config, Error> {
        let mut map: Map<String, Value> = serde_json::from_str(SMALL).unwrap();
        map.insert(key.into(), serde_json::from_str(value).unwrap());
        Config::parse(&serde_json::to_string(&map).unwrap())
    }

    fn check_refused(key: &str, value: &str) {
        let error = with(key, value).unwrap_err().to_string();
        assert!(error.contains(key), "{key}: {value}: the error must name the key: {error}");
    }

    #[test]
    fn what_is_missing_has_the_defaults_of_transformers() {
        let config = Config::parse(SMALL).unwrap();
        assert_eq!((config.head_dim, config.max_positions), (16, 2048));
        assert!(!config.tied && !config.attention_bias && !config.mlp_bias);
        let plain = Config::parse(&SMALL.replace("\"rope_theta\":5e5,", "")).unwrap();
        assert_eq!(plain.rope_theta, 10_000.0);
        let all = Config::parse(&SMALL.replace("\"num_key_value_heads\":2,", "")).unwrap();
        assert_eq!(all.kv_heads, 4);
    }

    #[test]
    fn what_changes_the_computation_is_refused_by_name() {
        for (key, value) in [
            ("architectures", r#"["MistralForCausalLM"]"#),
            ("model_type", r#""qwen2""#),
            ("hidden_act", r#""gelu""#),
            ("attention_dropout", "0.1"),
            ("sliding_window", "4096"),
            ("quantization_config", r#"{"bits":4}"#),
            ("partial_rotary_factor", "0.5"),
            ("rope_scaling", r#"{"type":"linear","factor":2.0}"#),
            ("rope_scaling", r#"{"rope_type":"yarn","factor":2.0}"#),
            ("rope_scaling", r#"{"rope_type":"llama3","factor":2.0}"#),
            ("rope_scaling", r#""llama3""#),
            ("rope_parameters", r#"{"rope_type":"dynamic","rope_theta":1e4}"#),
            ("num_key_value_heads", "3"),
            ("num_key_value_heads", "0"),
            ("hidden_size", "-64"),
            ("hidden_size", "1e30"),
            ("hidden_size", "\"64\""),
            ("vocab_size", "18446744073709551615"),
            ("head_dim", "15"),
            ("rms_norm_eps", "-1.0"),
            ("rope_theta", "0"),
            ("tie_word_embeddings", "\"yes\""),
        ] {
            check_refused(key, value);
        }
    }

    #[test]
    fn two_spellings_say_the_same() {
        let inside = r#""rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,
            "high_freq_factor":4.0,"original_max_position_embeddings":32"#;
        let old = with("rope_scaling", &format!("{{{inside}}}")).unwrap();
        let new =
            with("rope_parameters", &format!("{{{inside},\"rope_theta\":500000.0}}")).unwrap();
        assert_eq!(old, new);
        let older = with("rope_scaling", &format!("{{{}}}", inside.replace("rope_type", "type")));
        assert_eq!(older.unwrap(), old);
        let other = format!("{{{inside},\"rope_theta\":10000.0}}");
        assert!(with("rope_parameters", &other).unwrap_err().to_string().contains("rope_theta"));
        assert_eq!(with("rope_scaling", "null").unwrap(), Config::parse(SMALL).unwrap());
        let default = with("rope_scaling", r#"{"rope_type":"default"}"#).unwrap();
        assert_eq!(default, Config::parse(SMALL).unwrap());
    }

    #[test]
    fn what_is_read_is_written_back() {
        let mut config = Config::parse(SMALL).unwrap();
        assert_eq!(config.to_json(), SMALL);
        config.keep("eos_token_id", Value::from(7)).unwrap();
        let again = Config::parse(&config.to_json()).unwrap();
        assert_eq!(again, config);
        assert_eq!(again.kept("odd_key"), config.kept("odd_key"));
        assert_eq!(again.kept("eos_token_id"), Some(&Value::from(7)));
        let keys: Vec<_> = again.kept.keys().take(3).cloned().collect();
        assert_eq!(keys, ["architectures", "hidden_size", "odd_key"]);
        config.rope_theta = 1e6;
        config.layers = 2;
        let changed = Config::parse(&config.to_json()).unwrap();
        assert_eq!((changed.rope_theta, changed.layers), (1e6, 2));
        assert!(config.keep("hidden_size", Value::from(8)).is_err());
        assert!(config.keep("sliding_window", Value::from(8)).is_err());
    }

    #[test]
    fn a_new_model_is_a_configuration_that_reads_back() {
        let sizes = Sizes {
            vocab_size: 128_256,
            hidden_size: 4096,
            intermediate_size: 14_336,
            layers: 32,
            heads: 32,
            kv_heads: 8,
            max_positions: 8192,
            tied: false,
        };
        let config = Config::new(sizes).unwrap();
        assert_eq!(Config::parse(&config.to_json()).unwrap(), config);
        assert!(Config::new(Sizes { heads: 3, ..sizes }).is_err());
        assert!(Config::new(Sizes { heads: 0, ..sizes }).is_err());
        assert!(Config::new(Sizes { layers: 0, ..sizes }).is_err());
    }

    #[test]
    fn crafted_and_mutated_texts_never_panic() {
        for text in ["", "[]", "{}", "null", "{\"hidden_size\":", &"[".repeat(100_000)] {
            assert!(Config::parse(text).is_err());
        }
        let mut state = 7u64;
        for _ in 0..3000 {
            let mut bytes = SMALL.as_bytes().to_vec();
            for _ in 0..3 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let at = (state >> 33) as usize % bytes.len();
                bytes[at] = (state >> 20) as u8;
            }
            if let Ok(text) = std::str::from_utf8(&bytes) {
                let _ = Config::parse(text).map(|config| config.to_json());
            }
        }
    }
}
