//! A folder that holds a trained model, described without loading it.
use std::path::Path;
/// Whether a folder is a checkpoint: `config.json` beside weights.
pub fn is_checkpoint(dir: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(dir) else { return false };
    let weights =
        entries.flatten().any(|e| e.path().extension().is_some_and(|e| e == "safetensors"));
    weights && dir.join("config.json").is_file()
}
