//! Preference loss, its parts and its gradients against PyTorch's: `golden/dpo`, at the tolerances
//! of its README, through the model's two loss-head calls.

#![allow(clippy::unwrap_used)]

#[path = "../../model/tests/data/mod.rs"]
mod data;

use data::golden;
use quipu_math::{Device, Reference};
use quipu_mesh::Mesh;
use quipu_model::tensor_file::TensorFile;
use quipu_model::{Capacity, MicroBatch, Model};
use quipu_tune::dpo::{Answer, Weights, loss_and_weights, masked_sum};
use std::path::Path;
use std::sync::Arc;

/// One row of a side: ids, and which targets count.
struct Row {
    ids: Vec<u32>,
    counts: Vec<bool>,
}

fn rows(case: &TensorFile, side: &str) -> Vec<Row> {
    let name = format!("{side}_ids");
    let (length, ids) = (case.shape(&name).unwrap()[1], case.tokens(&name).unwrap());
    let mask = case.floats(&format!("{side}_mask")).unwrap();
    let row = |(ids, mask): (&[u32], &[f64])| {
        let mut counts: Vec<bool> = mask[1..].iter().map(|m| *m > 0.0).collect();
        counts.push(false);
        Row { ids: ids.to_vec(), counts }
    };
    ids.chunks(length).zip(mask.chunks(length)).map(row).collect()
}

/// Log-probability of each next token of a row; the last predicts nothing.
fn log_probs(model: &mut Model, row: &Row) -> Vec<f64> {
    let mut targets = row.ids[1..].to_vec();
    targets.push(0);
    let positions: Vec<u32> = (0..row.ids.len() as u32).collect();
    let starts = vec![0; row.ids.len()];
    let batch =
        MicroBatch { tokens: &row.ids, targets: &targets, positions: &positions, starts: &starts };
    model.forward(0, &batch).unwrap();
    model.log_probs(0).unwrap()
}

#[track_caller]
fn check(what: &str, found: f64, expected: f64) {
    let error = ((found - expected) / expected).abs();
    assert!(error <= 3e-6, "{what}: {found}, expected {expected}: {error:e}");
}

fn open(path: &Path, device: &Arc<dyn Device>) -> Model {
    let capacity = Capacity::training(&**device, 64);
    Model::open(path, device.clone(), Mesh::one(), capacity).unwrap()
}

#[test]
fn the_loss_and_its_gradients_are_those_of_pytorch() {
    let golden = golden("the_loss_and_its_gradients_are_those_of_pytorch");
    let Some(path) = golden.map(|golden| golden.join("dpo")) else { return };
    let case = TensorFile::open(&path.join("case.safetensors")).unwrap();
    let floats = |name: &str| case.floats(name).unwrap();
    let device: Arc<dyn Device> = Arc::new(Reference::new());
    let (mut policy, mut frozen) = (open(&path, &device), open(&path.join("reference"), &device));
    let (chosen, rejected) = (rows(&case, "chosen"), rows(&case, "rejected"));
    let mut total = 0.0;
    policy.zero_gradients().unwrap();
    for i in 0..chosen.len() {
        let mut sum = |row: &Row| masked_sum(&log_probs(&mut frozen, row), &row.counts);
        let references = [sum(&chosen[i]), sum(&rejected[i])];
        let logps = [log_probs(&mut policy, &chosen[i]), log_probs(&mut policy, &rejected[i])];
        let (mc, mr, [rc, rr]) = (&chosen[i].counts, &rejected[i].counts, references);
        let side = |logps, mask, reference| Answer {
            logps,
            preference: mask,
            likelihood: mask,
            reference,
        };
        let (loss, of_chosen, of_rejected) = loss_and_weights(
            side(&logps[0], mc, rc),
            side(&logps[1], mr, rr),
            chosen.len(),
            Weights::default(),
        );
        let of = |name: &str| floats(name)[i];
        check("policy chosen", masked_sum(&logps[0], mc), of("policy_chosen_logprob"));
        check("policy rejected", masked_sum(&logps[1], mr), of("policy_rejected_logprob"));
        check("reference chosen", rc, of("reference_chosen_logprob"));
        check("reference rejected", rr, of("reference_rejected_logprob"));
        check("preference loss", loss.preference, of("preference_loss"));
        check("nll", loss.nll, of("nll"));
        total += loss.total / chosen.len() as f64;
        policy.backward(0, &of_rejected).unwrap();
        log_probs(&mut policy, &chosen[i]);
        policy.backward(0, &of_chosen).unwrap();
    }
    check("loss", total, floats("loss")[0]);
    for entry in policy.table().entries() {
        let found = device.read_f64(&policy.gradient(entry).unwrap()).unwrap();
        let expected = floats(&format!("grad.{}", entry.name));
        let largest = expected.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        let worst = found.iter().zip(&expected).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
        assert!(worst / largest <= 2e-5, "{}: {:e}", entry.name, worst / largest);
    }
}
