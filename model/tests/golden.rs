//! The model held against PyTorch's numbers in `shared/golden`: logits, loss and every gradient,
//! and import followed by export bit for bit. The measures and tolerances are those of its README;
//! the whole referee, optimizer included, is the crate `verify`.

#![allow(clippy::unwrap_used)]

mod data;

use data::golden;
use quipu_math::{Cpu, Device, Reference};
use quipu_mesh::Mesh;
use quipu_model::tensor_file::TensorFile;
use quipu_model::{Capacity, Config, Model, Packed, huggingface};
use std::path::Path;
use std::sync::Arc;

const PLAIN: [&str; 5] =
    ["gqa", "mha-tied", "rope-scaled", "rope-scaled-new-spelling", "document-mask"];

/// Largest difference, relative to the largest magnitude of the expected numbers.
fn error(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let most = expected.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let worst = found.iter().zip(expected).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
    if worst.is_finite() { worst / most } else { f64::INFINITY }
}

fn packed(case: &TensorFile) -> Packed {
    let ids = case.tokens("input_ids").unwrap();
    let width = case.shape("input_ids").unwrap()[1];
    let lengths: Vec<usize> = match case.has("lengths") {
        true => case.tokens("lengths").unwrap().iter().map(|n| *n as usize).collect(),
        false => vec![width; ids.len() / width],
    };
    let mut at = 0;
    Packed::of(lengths.iter().map(|n| {
        at += n;
        &ids[at - n..at]
    }))
}

fn check(case: &Path, device: Arc<dyn Device>) {
    let file = TensorFile::open(&case.join("case.safetensors")).unwrap();
    let batch = packed(&file);
    let capacity = Capacity::training(&*device, batch.tokens.len() + 3);
    let mut model = Model::open(case, device.clone(), Mesh::one(), capacity).unwrap();
    let weights = batch.mean_loss_weights();
    model.forward(0, &batch.view()).unwrap();
    let logits = device.read_f64(&model.logits(0).unwrap()).unwrap();
    let off = error(&logits, &file.floats("logits").unwrap());
    assert!(off < 5e-6, "logits of {}: {off:e}", case.display());
    let log_probs = model.log_probs(0).unwrap();
    let loss: f64 = log_probs.iter().zip(&weights).map(|(p, w)| p * w).sum();
    let off_loss = error(&[loss], &file.floats("loss").unwrap());
    assert!(off_loss < 3e-6, "loss of {}: {off_loss:e}", case.display());
    model.backward(0, &weights).unwrap();
    let mut worst = 0.0f64;
    for entry in model.table().entries() {
        let gradient = device.read_f64(&model.gradient(entry).unwrap()).unwrap();
        let expected = file.floats(&format!("grad.{}", entry.name)).unwrap();
        let off = error(&gradient, &expected);
        assert!(off < 2e-5, "gradient of {} in {}: {off:e}", entry.name, case.display());
        worst = worst.max(off);
    }
    let name = case.file_name().unwrap().to_string_lossy();
    println!(
        "{name} on {}: logits {off:.1e} loss {off_loss:.1e} gradients {worst:.1e}",
        device.name()
    );
}

#[test]
fn pytorchs_numbers_on_the_reference_device() {
    let Some(golden) = golden("pytorchs_numbers_on_the_reference_device") else { return };
    for case in PLAIN {
        check(&golden.join(case), Arc::new(Reference::new()));
    }
}

#[test]
fn pytorchs_numbers_on_the_cpu() {
    let Some(golden) = golden("pytorchs_numbers_on_the_cpu") else { return };
    for case in PLAIN {
        check(&golden.join(case), Arc::new(Cpu::new(2)));
    }
}

#[test]
fn every_checkpoint_goes_out_as_it_came_in() {
    let Some(golden) = golden("every_checkpoint_goes_out_as_it_came_in") else { return };
    let device: Arc<dyn Device> = Arc::new(Reference::new());
    for case in PLAIN.iter().chain(&["adamw", "dpo", "dpo/reference", "generate"]) {
        let source = golden.join(case);
        let capacity = Capacity::frozen(&*device, 0);
        let model = Model::open(&source, device.clone(), Mesh::one(), capacity).unwrap();
        let out = tempfile::tempdir().unwrap();
        model.save(out.path()).unwrap();
        huggingface::copy_companions(&source, out.path()).unwrap();
        for file in ["config.json", "model.safetensors", "generation_config.json"] {
            let (a, b) = (std::fs::read(source.join(file)), std::fs::read(out.path().join(file)));
            assert!(a.unwrap() == b.unwrap(), "{case}: {file} differs");
        }
        let shards = tempfile::tempdir().unwrap();
        model.save_sharded(shards.path(), 100_000).unwrap();
        assert!(!shards.path().join("model.safetensors").exists());
        let again = Model::open(shards.path(), device.clone(), Mesh::one(), capacity).unwrap();
        assert_eq!(Config::load(shards.path()).unwrap(), *model.config());
        let all = |m: &Model| device.read_f64(m.weights().unwrap()).unwrap();
        assert!(all(&again) == all(&model), "{case}: weights differ after shards");
    }
}
