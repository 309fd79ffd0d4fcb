//! Forty optimizer steps against PyTorch's: losses, gradient norms, learning rates and final
//! weights of `golden/adamw`, at the tolerances of its README. The referee measures the same from
//! outside; here it guards the step on each device.

#![allow(clippy::unwrap_used)]

#[path = "../../model/tests/data/mod.rs"]
mod data;

use data::golden;
use quipu_math::{Cpu, Device, Reference};
use quipu_mesh::Mesh;
use quipu_model::tensor_file::TensorFile;
use quipu_model::{Capacity, Config, Model};
use quipu_train::objective::{NextToken, Packed, Samples};
use quipu_train::watch::Outside;
use quipu_train::{Learner, Recipe};
use std::sync::Arc;

/// The case's batches as rows: every position but the last predicts the next.
struct Batches {
    ids: Vec<u32>,
    length: usize,
}

impl Samples for Batches {
    fn sample(&self, index: u64) -> Result<Packed, Outside> {
        let row = &self.ids[index as usize * self.length..][..self.length];
        let mut weights = vec![1.0; self.length];
        weights[self.length - 1] = 0.0;
        Ok(Packed {
            tokens: row.to_vec(),
            targets: (1..=self.length).map(|t| *row.get(t).unwrap_or(&0)).collect(),
            positions: (0..self.length as u32).collect(),
            starts: vec![0; self.length],
            weights,
            pieces: Vec::new(),
        })
    }

    fn identity(&self) -> String {
        "golden".into()
    }
}

/// Runs the case with micro-batches of `micro` rows.
fn check(device: Arc<dyn Device>, micro: usize, test: &str) {
    let Some(path) = golden(test).map(|golden| golden.join("adamw")) else { return };
    let config = Config::load(&path).unwrap();
    let case = TensorFile::open(&path.join("case.safetensors")).unwrap();
    let floats = |name: &str| case.floats(name).unwrap();
    let shape = case.shape("batches").unwrap().to_vec();
    let samples = Batches { ids: case.tokens("batches").unwrap(), length: shape[2] };
    let recipe = Recipe {
        sequence_length: shape[2],
        batch_tokens: shape[1] * shape[2],
        micro_batch_tokens: micro * shape[2],
        steps: shape[0] as u64,
        warm_up: 8,
        peak_lr: 3e-3,
        floor_lr: 3e-4,
        ..Recipe::default()
    };
    recipe.check().unwrap();
    let capacity = Capacity::training(&*device, recipe.micro_batch_tokens);
    let model = Model::new(device.clone(), Mesh::one(), config, capacity).unwrap();
    for entry in model.table().entries() {
        let values = floats(&format!("start.{}", entry.name));
        device.write_floats(&model.weight(entry).unwrap(), &values).unwrap();
    }
    let mut learner = Learner::new(model, &recipe).unwrap();
    let objective = NextToken { samples: &samples, validation: None, token_bytes: None };
    let close = |what: &str, t: u64, found: f64, expected: f64, tolerance: f64| {
        let error = ((found - expected) / expected).abs();
        assert!(error <= tolerance, "{what} of step {t}: {found}, expected {expected}: {error:e}");
    };
    let names = ["losses", "grad_norms", "lrs"].map(floats);
    for t in 0..recipe.steps {
        let step = learner.step(&objective, &recipe, t).unwrap();
        close("loss", t, step.outcome.loss, names[0][t as usize], 3e-6);
        close("norm", t, step.norm, names[1][t as usize], 2e-4);
        close("rate", t, step.rate, names[2][t as usize], 1e-7);
    }
    for entry in learner.model.table().entries() {
        let found = device.read_f64(&learner.model.weight(entry).unwrap()).unwrap();
        let expected = floats(&format!("final.{}", entry.name));
        let square = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
        let difference = square(&mut found.iter().zip(&expected).map(|(a, b)| a - b));
        let error = difference / square(&mut expected.iter().copied());
        assert!(error <= 1e-4, "{}: {error:e}", entry.name);
    }
}

#[test]
fn the_reference_device_follows_the_golden_trajectory() {
    check(Arc::new(Reference::new()), 4, "the_reference_device_follows_the_golden_trajectory");
}

#[test]
fn the_cpu_follows_it_whatever_the_micro_batches() {
    check(Arc::new(Cpu::new(2)), 4, "the_cpu_follows_it_whatever_the_micro_batches");
    check(Arc::new(Cpu::new(1)), 1, "the_cpu_follows_it_whatever_the_micro_batches");
}
