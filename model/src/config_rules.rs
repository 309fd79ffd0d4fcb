//! Which keys of a `config.json` this crate computes with, which it refuses, and how each is read
//! and written. A key in neither list has no effect in `LlamaForCausalLM` and is kept.
//!
//! It is not the configuration itself (`config.rs`). Defaults are those of `transformers` 5.

use crate::Error;
use crate::config::{Config, RopeScaling};
use serde_json::{Map, Value, json};

/// Keys that are read into fields of [`Config`].
pub(crate) const COMPUTED: [&str; 16] = [
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "tie_word_embeddings",
    "attention_bias",
    "mlp_bias",
    "hidden_act",
];

/// Largest accepted sizes: far above every published model, far below an overflow.
pub(crate) const MOST_ROWS: usize = 1 << 27;
/// As [`MOST_ROWS`], for widths.
pub(crate) const MOST_WIDTH: usize = 1 << 20;
/// As [`MOST_ROWS`], for layers.
pub(crate) const MOST_LAYERS: usize = 1 << 13;
/// As [`MOST_ROWS`], for heads and their width.
pub(crate) const MOST_HEADS: usize = 1 << 14;

/// Keys of neighbouring architectures that change the computation, with the values that do not.
const REFUSED: [(&str, &[&str]); 27] = [
    ("quantization_config", &["null"]),
    ("sliding_window", &["null"]),
    ("use_sliding_window", &["false", "null"]),
    ("attention_dropout", &["0.0", "0", "null"]),
    ("hidden_dropout", &["0.0", "0", "null"]),
    ("embd_pdrop", &["0.0", "0", "null"]),
    ("resid_pdrop", &["0.0", "0", "null"]),
    ("attn_pdrop", &["0.0", "0", "null"]),
    ("partial_rotary_factor", &["1.0", "1", "null"]),
    ("rotary_dim", &["null"]),
    ("rope_interleaved", &["false", "null"]),
    ("no_rope_layers", &["null"]),
    ("use_qk_norm", &["false", "null"]),
    ("qk_layernorm", &["false", "null"]),
    ("attention_multiplier", &["null"]),
    ("residual_multiplier", &["1.0", "1", "null"]),
    ("embedding_multiplier", &["1.0", "1", "null"]),
    ("logits_scaling", &["1.0", "1", "null"]),
    ("logit_scale", &["1.0", "1", "null"]),
    ("query_pre_attn_scalar", &["null"]),
    ("attn_logit_softcapping", &["null"]),
    ("final_logit_softcapping", &["null"]),
    ("num_local_experts", &["0", "1", "null"]),
    ("num_experts", &["0", "1", "null"]),
    ("alibi", &["false", "null"]),
    ("attention_chunk_size", &["null"]),
    ("use_bidirectional_attention", &["false", "null"]),
];

/// Keys inside a rope table that belong to other kinds of scaling.
const REFUSED_IN_ROPE: [(&str, &[&str]); 8] = [
    ("attention_factor", &["1.0", "1", "null"]),
    ("partial_rotary_factor", &["1.0", "1", "null"]),
    ("beta_fast", &["null"]),
    ("beta_slow", &["null"]),
    ("short_factor", &["null"]),
    ("long_factor", &["null"]),
    ("mscale", &["null"]),
    ("mscale_all_dim", &["null"]),
];

fn refuse<T>(key: &str, found: &Value, expected: &str) -> Result<T, Error> {
    let mut found = found.to_string();
    if found.chars().count() > 60 {
        found = found.chars().take(60).chain("…".chars()).collect();
    }
    Err(Error::Config { key: key.into(), found, expected: expected.into() })
}

/// A key that is absent and one that is null are the same to `transformers` where a default exists.
fn given<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    map.get(key).filter(|value| !value.is_null())
}

fn size(map: &Map<String, Value>, key: &str, default: Option<usize>) -> Result<usize, Error> {
    match (given(map, key), default) {
        (None, Some(default)) => Ok(default),
        (None, None) => refuse(key, &Value::Null, "the key to be there"),
        (Some(value), _) => match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(n) => Ok(n),
            None => refuse(key, value, "a whole number ≥ 1"),
        },
    }
}

fn number(
    map: &Map<String, Value>,
    key: &str,
    name: &str,
    default: Option<f64>,
) -> Result<f64, Error> {
    match (given(map, key), default) {
        (None, Some(default)) => Ok(default),
        (None, None) => refuse(name, &Value::Null, "the key to be there"),
        (Some(value), _) => match value.as_f64() {
            Some(x) => Ok(x),
            None => refuse(name, value, "a number"),
        },
    }
}

fn flag(map: &Map<String, Value>, key: &str) -> Result<bool, Error> {
    match given(map, key) {
        None => Ok(false),
        Some(Value::Bool(yes)) => Ok(*yes),
        Some(value) => refuse(key, value, "true or false"),
    }
}

/// Reads every key that is computed with; refuses those that would change the computation.
pub(crate) fn read(map: &Map<String, Value>) -> Result<Config, Error> {
    refuse_foreign(map)?;
    let heads = size(map, "num_attention_heads", None)?;
    let hidden = size(map, "hidden_size", None)?;
    if heads == 0 || (given(map, "head_dim").is_none() && !hidden.is_multiple_of(heads)) {
        let expected = format!("a divisor of hidden_size {hidden}, as head_dim is not given");
        return refuse("num_attention_heads", &json!(heads), &expected);
    }
    let sizes = [
        size(map, "vocab_size", None)?,
        hidden,
        size(map, "intermediate_size", None)?,
        size(map, "num_hidden_layers", None)?,
        heads,
        size(map, "num_key_value_heads", Some(heads))?,
        size(map, "head_dim", Some(hidden / heads))?,
        size(map, "max_position_embeddings", Some(2048))?,
    ];
    let flags =
        [flag(map, "tie_word_embeddings")?, flag(map, "attention_bias")?, flag(map, "mlp_bias")?];
    let eps = number(map, "rms_norm_eps", "rms_norm_eps", Some(1e-6))?;
    let (theta, scaling) = rope(map)?;
    let mut config = Config::bare(sizes, flags, theta, eps);
    config.rope_scaling = scaling;
    Ok(config)
}

fn refuse_foreign(map: &Map<String, Value>) -> Result<(), Error> {
    match map.get("architectures") {
        None | Some(Value::Null) => {}
        Some(value) => {
            let ours = value.as_array().is_some_and(|a| a.iter().any(|n| n == "LlamaForCausalLM"));
            if !ours {
                return refuse("architectures", value, "LlamaForCausalLM");
            }
        }
    }
    match given(map, "model_type") {
        None => {}
        Some(value) if value == "llama" => {}
        Some(value) => return refuse("model_type", value, "llama"),
    }
    match given(map, "hidden_act") {
        None => {}
        Some(value) if value == "silu" || value == "swish" => {}
        Some(value) => return refuse("hidden_act", value, "silu"),
    }
    refuse_listed(map, &REFUSED, "")
}

fn refuse_listed(
    map: &Map<String, Value>,
    list: &[(&str, &[&str])],
    prefix: &str,
) -> Result<(), Error> {
    for (key, harmless) in list {
        if let Some(value) = map.get(*key)
            && !harmless.contains(&value.to_string().as_str())
        {
            let expected =
                format!("{}: it changes the computation and is not supported", harmless[0]);
            return refuse(&format!("{prefix}{key}"), value, &expected);
        }
    }
    Ok(())
}

/// θ and scaling from either spelling; where both are there they must agree.
fn rope(map: &Map<String, Value>) -> Result<(f64, RopeScaling), Error> {
    let mut tables = Vec::new();
    for key in ["rope_scaling", "rope_parameters"] {
        if let Some(value) = given(map, key) {
            let Some(table) = value.as_object() else {
                return refuse(key, value, "null or an object with a rope_type");
            };
            refuse_listed(table, &REFUSED_IN_ROPE, &format!("{key}."))?;
            tables.push((key, value, table));
        }
    }
    let mut theta = given(map, "rope_theta")
        .map(|_| number(map, "rope_theta", "rope_theta", None))
        .transpose()?;
    let mut scaling = None;
    for (key, value, table) in tables {
        let here = scaling_of(key, value, table)?;
        if scaling.replace(here).is_some_and(|before| before != here) {
            return refuse(key, value, "what rope_scaling says, both are given and differ");
        }
        let name = format!("{key}.rope_theta");
        if given(table, "rope_theta").is_some() {
            let here = number(table, "rope_theta", &name, None)?;
            if theta.replace(here).is_some_and(|before| before != here) {
                return refuse(&name, &json!(here), "one rope_theta, several are given and differ");
            }
        }
    }
    Ok((theta.unwrap_or(10_000.0), scaling.unwrap_or(RopeScaling::None)))
}

fn scaling_of(key: &str, whole: &Value, table: &Map<String, Value>) -> Result<RopeScaling, Error> {
    let kind = given(table, "rope_type").or(given(table, "type"));
    match kind.map(|value| value.as_str()) {
        None if table.values().any(Value::is_object) => {
            refuse(key, whole, "one rope_type for all layers, not one for each kind of layer")
        }
        None | Some(Some("default")) => Ok(RopeScaling::None),
        Some(Some("llama3")) => {
            let get = |name: &str| number(table, name, &format!("{key}.{name}"), None);
            let name = "original_max_position_embeddings";
            let original = match given(table, name).and_then(Value::as_u64) {
                Some(n) if (1..=MOST_ROWS as u64).contains(&n) => n as usize,
                _ => {
                    let found = table.get(name).unwrap_or(&Value::Null);
                    return refuse(&format!("{key}.{name}"), found, "a whole number ≥ 1");
                }
            };
            Ok(RopeScaling::Llama3 {
                factor: get("factor")?,
                low_freq_factor: get("low_freq_factor")?,
                high_freq_factor: get("high_freq_factor")?,
                original_max_position_embeddings: original,
            })
        }
        Some(_) => {
            let found = kind.unwrap_or(&Value::Null);
            refuse(&format!("{key}.rope_type"), found, "default or llama3")
        }
    }
}

/// The kept keys of a model that was made here.
pub(crate) fn fresh() -> Map<String, Value> {
    let value = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
    });
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// `kept` with every computed key set to what `config` says, in the spelling `kept` uses.
pub(crate) fn write(config: &Config, kept: &Map<String, Value>) -> Map<String, Value> {
    let mut map = kept.clone();
    let before = read(kept).ok();
    let mut set = |key: &str, value: Value| {
        map.insert(key.into(), value);
    };
    set("vocab_size", json!(config.vocab_size));
    set("hidden_size", json!(config.hidden_size));
    set("intermediate_size", json!(config.intermediate_size));
    set("num_hidden_layers", json!(config.layers));
    set("num_attention_heads", json!(config.heads));
    set("num_key_value_heads", json!(config.kv_heads));
    set("head_dim", json!(config.head_dim));
    set("max_position_embeddings", json!(config.max_positions));
    set("rms_norm_eps", json!(config.rms_norm_eps));
    set("tie_word_embeddings", json!(config.tied));
    set("attention_bias", json!(config.attention_bias));
    set("mlp_bias", json!(config.mlp_bias));
    set("hidden_act", json!("silu"));
    let same =
        |b: Config| (b.rope_theta, b.rope_scaling) == (config.rope_theta, config.rope_scaling);
    if !before.is_some_and(same) {
        write_rope(config, &mut map);
    }
    map
}

fn write_rope(config: &Config, map: &mut Map<String, Value>) {
    let mut table = match config.rope_scaling {
        RopeScaling::None => json!({"rope_type": "default"}),
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        } => {
            json!({
                "factor": factor,
                "high_freq_factor": high_freq_factor,
                "low_freq_factor": low_freq_factor,
                "original_max_position_embeddings": original_max_position_embeddings,
                "rope_type": "llama3",
            })
        }
    };
    if map.contains_key("rope_parameters") {
        table["rope_theta"] = json!(config.rope_theta);
        map.insert("rope_parameters".into(), table);
        map.shift_remove("rope_theta");
        map.shift_remove("rope_scaling");
    } else {
        map.insert("rope_theta".into(), json!(config.rope_theta));
        let scaled = config.rope_scaling != RopeScaling::None;
        map.insert("rope_scaling".into(), if scaled { table } else { Value::Null });
    }
}
