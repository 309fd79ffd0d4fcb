//! A folder that holds a trained model, described from its headers: `config.json` and the
//! beginnings of its safetensors files. No weight is read.
//!
//! Memory is arithmetic over the counts in the headers. Not here: whether the model loads, which
//! crate `model` decides by the same keys and more.

use super::spoken_bytes;
use crate::Error;
use quipu_store::progress::thousands;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of a safetensors header that are read; the format allows 100 million.
const MAX_HEADER: u64 = 100_000_000;
/// Bytes a parameter in training: f32 master weight, gradient and two moments, and a working copy.
const TRAINED_BYTES: u64 = 4 + 4 + 8 + 4;
/// Bytes of a number in running: weights and cache are f32, whatever the file holds.
const RUN_BYTES: u64 = 4;
/// Keys that must have one of these values, or be absent.
const EXPECTED: [(&str, &[&str]); 9] = [
    ("model_type", &["\"llama\""]),
    ("hidden_act", &["\"silu\"", "\"swish\""]),
    ("quantization_config", &["null"]),
    ("sliding_window", &["null"]),
    ("num_local_experts", &["0", "1"]),
    ("num_experts", &["0", "1"]),
    ("partial_rotary_factor", &["1.0", "1"]),
    ("attn_logit_softcapping", &["null"]),
    ("final_logit_softcapping", &["null"]),
];
/// Names of files that hold a tokenizer.
const TOKENIZERS: [&str; 4] =
    ["tokenizer.json", "tokenizer.model", "original/tokenizer.model", "vocab.json"];

/// What a checkpoint folder holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Checkpoint {
    /// The folder.
    pub path: PathBuf,
    /// `architectures` of its configuration.
    pub architecture: String,
    /// Layers, width, heads, key and value heads, vocabulary, context, in words.
    pub shape: String,
    /// Parameters, counted in the headers.
    pub parameters: u64,
    /// Tensors by element type.
    pub types: BTreeMap<String, u64>,
    /// Bytes of the weights on disk.
    pub bytes: u64,
    /// Tokenizer files that are there.
    pub tokenizer: Vec<String>,
    /// What this program cannot compute, by key.
    pub unsupported: Vec<String>,
    /// Bytes to run it: weights, and a key-value cache of its whole context.
    pub run_bytes: u64,
    /// Bytes to train it, without activations.
    pub train_bytes: u64,
}

/// Whether a folder is a checkpoint: `config.json` beside weights.
pub fn is_checkpoint(dir: &Path) -> bool {
    dir.join("config.json").is_file() && !weight_files(dir).is_empty()
}

/// `model.safetensors`, or the shards `model-NNNNN-of-NNNNN.safetensors`; other tensors may lie
/// beside them and are no weights.
fn weight_files(dir: &Path) -> Vec<PathBuf> {
    let whole = dir.join("model.safetensors");
    if whole.is_file() {
        return vec![whole];
    }
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let is_shard = |path: &PathBuf| {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        name.starts_with("model-") && name.ends_with(".safetensors")
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(is_shard).collect();
    files.sort();
    files
}

/// Describes a checkpoint folder.
///
/// # Errors
/// A configuration that is no JSON object, or a damaged header, with its file.
pub fn describe(dir: &Path) -> Result<Checkpoint, Error> {
    let path = dir.join("config.json");
    let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
    let config: Value = serde_json::from_str(&text).map_err(|e| broken(&path, &e.to_string()))?;
    let config = config.as_object().ok_or_else(|| broken(&path, "not a JSON object"))?;
    let mut found = Checkpoint { path: dir.to_owned(), ..Checkpoint::default() };
    for file in weight_files(dir) {
        found.bytes += std::fs::metadata(&file).map_err(Error::io(&file))?.len();
        header(&file, &mut found)?;
    }
    let names = config.get("architectures").and_then(Value::as_array);
    let names: Vec<&str> = names.into_iter().flatten().filter_map(Value::as_str).collect();
    found.architecture = if names.is_empty() { "not said".into() } else { names.join(", ") };
    found.shape = shape(config);
    found.unsupported = unsupported(config, &names, &found.types);
    let there = TOKENIZERS.iter().filter(|name| dir.join(name).is_file());
    found.tokenizer = there.map(|name| (*name).to_owned()).collect();
    found.run_bytes =
        found.parameters.saturating_mul(RUN_BYTES).saturating_add(cache_bytes(config));
    found.train_bytes = found.parameters.saturating_mul(TRAINED_BYTES);
    Ok(found)
}

fn broken(path: &Path, reason: &str) -> Error {
    Error::Line { path: path.to_owned(), line: 1, reason: reason.to_owned() }
}

fn header(path: &Path, found: &mut Checkpoint) -> Result<(), Error> {
    let mut file = std::fs::File::open(path).map_err(Error::io(path))?;
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|_| broken(path, "shorter than a header's length"))?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER {
        return Err(broken(path, &format!("header of {length} bytes, at most {MAX_HEADER}")));
    }
    let mut text = Vec::new();
    file.take(length).read_to_end(&mut text).map_err(Error::io(path))?;
    if (text.len() as u64) < length {
        return Err(broken(path, &format!("header is cut off: {} of {length} bytes", text.len())));
    }
    let tensors: Map<String, Value> =
        serde_json::from_slice(&text).map_err(|e| broken(path, &format!("header: {e}")))?;
    for (_, tensor) in tensors.iter().filter(|(name, _)| *name != "__metadata__") {
        let sizes = tensor.get("shape").and_then(Value::as_array);
        let sizes = sizes.into_iter().flatten().map(|n| n.as_u64().unwrap_or(0));
        let count = sizes.fold(1u64, u64::saturating_mul);
        found.parameters = found.parameters.saturating_add(count);
        let kind = tensor.get("dtype").and_then(Value::as_str).unwrap_or("unknown");
        *found.types.entry(kind.to_owned()).or_default() += 1;
    }
    Ok(())
}

fn number(config: &Map<String, Value>, key: &str) -> Option<u64> {
    config.get(key).and_then(Value::as_u64)
}

fn shape(config: &Map<String, Value>) -> String {
    let part = |key: &str, name: &str| Some(format!("{} {name}", thousands(number(config, key)?)));
    let parts = [
        part("num_hidden_layers", "layers"),
        part("hidden_size", "wide"),
        part("num_attention_heads", "heads"),
        part("num_key_value_heads", "key-value heads"),
        part("vocab_size", "tokens of vocabulary"),
        part("max_position_embeddings", "positions"),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Bytes of keys and values of the whole context, each as it is computed.
fn cache_bytes(config: &Map<String, Value>) -> u64 {
    let of = |key: &str| number(config, key);
    let heads = of("num_attention_heads").unwrap_or(1).max(1);
    let width = of("head_dim").unwrap_or(of("hidden_size").unwrap_or(0) / heads);
    let kept = of("num_key_value_heads").unwrap_or(heads);
    let factors = [of("num_hidden_layers"), of("max_position_embeddings"), Some(kept), Some(width)];
    factors.into_iter().map(|f| f.unwrap_or(0)).fold(2 * RUN_BYTES, u64::saturating_mul)
}

fn unsupported(
    config: &Map<String, Value>,
    architectures: &[&str],
    types: &BTreeMap<String, u64>,
) -> Vec<String> {
    let mut out = Vec::new();
    if architectures != ["LlamaForCausalLM"] && !architectures.is_empty() {
        out.push(format!("architectures {architectures:?}: only LlamaForCausalLM is computed"));
    }
    for (key, expected) in EXPECTED {
        let Some(value) = config.get(key).map(Value::to_string) else { continue };
        if value != "null" && !expected.contains(&value.as_str()) {
            let shown: String = value.chars().take(60).collect();
            out.push(format!("{key} {shown}: expected {}", expected.join(" or ")));
        }
    }
    for table in ["rope_scaling", "rope_parameters"] {
        let Some(rope) = config.get(table).and_then(Value::as_object) else { continue };
        let kind = rope.get("rope_type").or(rope.get("type")).and_then(Value::as_str);
        if let Some(kind) = kind.filter(|k| !["default", "llama3"].contains(k)) {
            out.push(format!("{table}.rope_type {kind:?}: expected default or llama3"));
        }
    }
    for kind in types.keys().filter(|k| !["F32", "F16", "BF16", "F64"].contains(&k.as_str())) {
        out.push(format!("tensors of type {kind}: F32, F16 and BF16 are read"));
    }
    out
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: a checkpoint of {}", self.path.display(), self.architecture)?;
        writeln!(f, "  {}", self.shape)?;
        let types: Vec<String> = self.types.iter().map(|(t, n)| format!("{n} of {t}")).collect();
        let (count, disk) = (thousands(self.parameters), spoken_bytes(self.bytes));
        writeln!(f, "  {count} parameters, {disk} on disk, tensors: {}", types.join(", "))?;
        let tokenizer = if self.tokenizer.is_empty() {
            "none in the folder".to_owned()
        } else {
            self.tokenizer.join(", ")
        };
        writeln!(f, "  tokenizer: {tokenizer}")?;
        if self.unsupported.is_empty() {
            writeln!(f, "  unsupported: nothing")?;
        }
        for line in &self.unsupported {
            writeln!(f, "  unsupported: {line}")?;
        }
        writeln!(
            f,
            "  memory: {} to run in f32 with a cache of its whole context, {} to train in f32 \
             without activations",
            spoken_bytes(self.run_bytes),
            spoken_bytes(self.train_bytes)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(config: &str, header: &[u8], length: u64) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), config).unwrap();
        let bytes = [&length.to_le_bytes(), header].concat();
        std::fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
        dir
    }

    const CONFIG: &str = r#"{"architectures":["LlamaForCausalLM"],"model_type":"llama",
        "hidden_size":8,"num_hidden_layers":2,"num_attention_heads":2,"num_key_value_heads":1,
        "max_position_embeddings":16,"vocab_size":32}"#;
    const HEADER: &[u8] = br#"{"__metadata__":{},"a":{"dtype":"BF16","shape":[8,32],
        "data_offsets":[0,512]}}"#;

    #[test]
    fn a_checkpoint_is_described_from_its_headers() {
        let dir = folder(CONFIG, HEADER, HEADER.len() as u64);
        assert!(is_checkpoint(dir.path()));
        let found = describe(dir.path()).unwrap();
        assert_eq!((found.parameters, found.unsupported.len()), (256, 0));
        assert_eq!(found.run_bytes, 4 * 256 + 2 * 4 * 2 * 16 * 4);
        assert!(found.to_string().contains("tokenizer: none"));
        assert!(found.to_string().contains("to run in f32"), "{found}");
    }

    #[test]
    fn what_is_unsupported_is_named() {
        let config = CONFIG.replace("\"llama\"", "\"qwen3\"").replace(
            "\"hidden_size\"",
            "\"rope_scaling\":{\"rope_type\":\"yarn\"},\"hidden_size\"",
        );
        let dir = folder(&config, HEADER, HEADER.len() as u64);
        let found = describe(dir.path()).unwrap();
        assert_eq!(found.unsupported.len(), 2, "{:?}", found.unsupported);
    }

    #[test]
    fn damaged_headers_are_refused_with_their_file() {
        for (header, length) in [(HEADER, 1 << 60), (HEADER, 4000), (&b"{"[..], 1), (&b""[..], 0)] {
            let dir = folder(CONFIG, header, length);
            let message = describe(dir.path()).unwrap_err().to_string();
            assert!(message.contains("model.safetensors"), "{message}");
        }
        let dir = folder("[1]", HEADER, HEADER.len() as u64);
        assert!(describe(dir.path()).unwrap_err().to_string().contains("config.json"));
    }
}
