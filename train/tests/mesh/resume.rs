//! Runs that are stopped and go on: on the same mesh with the bits of one that was never stopped, on
//! another mesh with its numbers.

use crate::halves::Halved;
use crate::world::{Documents, config, relative};
use crate::{cpu, reference};
use quipu_math::Device;
use quipu_model::checkpoint::Reader;
use quipu_store::Cancel;
use quipu_train::average::Average;
use quipu_train::metrics::Record;
use quipu_train::watch::Watch;
use quipu_train::{Error, Held, Job, NextToken, Parallel, Recipe, Report, Start, run};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

type Make = fn(usize) -> Result<Arc<dyn Device>, quipu_math::Error>;

/// Asks to stop after a step.
#[derive(Default)]
struct Until(Option<u64>, Cancel);

impl Watch for Until {
    fn step(&self, record: &Record) {
        if self.0 == Some(record.step) {
            self.1.request();
        }
    }
}

fn recipe(steps: u64) -> Recipe {
    Recipe {
        seed: 5,
        sequence_length: 64,
        batch_tokens: 7 * 64,
        micro_batch_tokens: 2 * 64,
        steps,
        warm_up: 1,
        evaluate_every: 3,
        checkpoint_every: 1000,
        ..Recipe::default()
    }
}

/// Goes on with the run in `dir`, on a mesh, to its end or until after a step.
fn go(dir: &Path, mesh: &str, (steps, until): (u64, Option<u64>), device: Make) -> Report {
    go_on(dir, mesh, (&recipe(steps), until), device)
}

fn go_on(dir: &Path, mesh: &str, (recipe, until): (&Recipe, Option<u64>), device: Make) -> Report {
    let held = Held { samples: &Documents, count: 5, length: 64 };
    let objective =
        NextToken { samples: &Documents, validation: Some(held), token_bytes: Some(&[3; 256]) };
    let watch = Until(until, Cancel::default());
    let job = Job {
        dir,
        recipe,
        config: &config(true),
        start: Start::Random,
        parallel: &Parallel { check: true, ..mesh.parse().unwrap() },
        device: &device,
        objective: &objective,
        gate: None,
        watch: &watch,
        cancel: &watch.1,
    };
    run(&job).unwrap_or_else(|e: Error| panic!("{mesh}: {e}"))
}

/// The tensors of a checkpoint, by name, as bytes.
fn tensors(report: &Report) -> BTreeMap<String, Vec<u8>> {
    let reader = Reader::open(&report.checkpoint).unwrap();
    let all = reader.names().map(|name| (name.to_owned(), reader.read_all(name).unwrap()));
    all.collect()
}

fn weights(report: &Report) -> BTreeMap<String, Vec<f64>> {
    let masters = tensors(report).into_iter().filter(|(name, _)| name.starts_with("master."));
    let numbers = |bytes: Vec<u8>| {
        bytes.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect()
    };
    masters.map(|(name, bytes)| (name, numbers(bytes))).collect()
}

/// Lines of the metrics without what the machine took.
fn lines(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    let cut = |line: &str| line.split("\"machine\"").next().unwrap_or_default().to_owned();
    text.lines().map(cut).collect()
}

fn on_cpu(_: usize) -> Result<Arc<dyn Device>, quipu_math::Error> {
    Ok(cpu())
}

fn in_halves(_: usize) -> Result<Arc<dyn Device>, quipu_math::Error> {
    Ok(Arc::new(Halved::new(cpu())))
}

fn same_bits(meshes: &[&str], steps: u64) {
    for mesh in meshes {
        let dir = tempfile::tempdir().unwrap();
        let (through, stopped) = (dir.path().join("through"), dir.path().join("stopped"));
        let expected = go(&through, mesh, (steps, None), on_cpu);
        assert!(!go(&stopped, mesh, (steps, Some(steps / 2)), on_cpu).finished, "{mesh}");
        let found = go(&stopped, mesh, (steps, None), on_cpu);
        assert_eq!(lines(&stopped), lines(&through), "{mesh}");
        assert!(tensors(&found) == tensors(&expected), "{mesh}: other bits");
    }
}

/// A run that begins on `a` and goes on on `b` ends where one on `a` does, but for the order of
/// additions; the control is one rank that makes its products in halves.
fn other_mesh(pairs: &[(&str, &str)], steps: u64) {
    let dir = tempfile::tempdir().unwrap();
    let of = |name: &str| dir.path().join(name);
    let one = weights(&go(&of("one"), "", (steps, None), on_cpu));
    let halves = weights(&go(&of("halves"), "", (steps, None), in_halves));
    let control = relative(&halves, &one).max(1e-6);
    for (i, (a, b)) in pairs.iter().enumerate() {
        let (through, moved) = (of(&format!("through {i}")), of(&format!("moved {i}")));
        let expected = weights(&go(&through, a, (steps, None), on_cpu));
        go(&moved, a, (steps, Some(steps / 2)), on_cpu);
        let off = relative(&weights(&go(&moved, b, (steps, None), on_cpu)), &expected);
        println!("from {a:24} to {b:24} {off:.1e}, control {control:.1e}");
        assert!(off <= 10.0 * control, "from {a} to {b}: {off:e} is above 10 × {control:e}");
    }
}

const PAIRS: [(&str, &str); 24] = [
    ("tp=2", "dp=2"),
    ("tp=2,cp=2,pp=2", "dp=4"),
    ("dp=4", "tp=4"),
    ("pp=4,v=2", "cp=2,dp=2"),
    ("", "pp=2"),
    ("pp=2", ""),
    ("tp=2", "tp=4"),
    ("tp=4", "tp=2"),
    ("cp=2", "pp=2"),
    ("cp=4", "tp=2,pp=2"),
    ("dp=2", "dp=3"),
    ("dp=3", "dp=2"),
    ("pp=2,layers=3/11", "pp=4"),
    ("pp=4", "pp=2,v=2"),
    ("tp=2,cp=2", "cp=2,pp=2"),
    ("tp=2,dp=2", "tp=2,pp=2,dp=2"),
    ("pp=2,dp=2", "tp=2,pp=2"),
    ("tp=2,cp=2,pp=2,dp=2", ""),
    ("", "tp=2,cp=2,pp=2,dp=2"),
    ("pp=2,schedule=zero-bubble", "tp=2"),
    ("cp=2,dp=2", "dp=2"),
    ("tp=4,cp=2", "pp=4,v=2"),
    ("tp=2,dp=2,sharing=full", "pp=2,dp=2,group=1"),
    ("dp=4,group=2", "cp=2,dp=2,sharing=full"),
];

#[test]
fn a_run_that_was_stopped_has_the_bits_of_one_that_was_not() {
    same_bits(&["tp=2,dp=2", "cp=2,pp=2", "tp=2,cp=2,pp=2,dp=2", "pp=4,v=2"], 6);
    same_bits(&["dp=4,sharing=full,group=2"], 6);
}

#[test]
fn a_run_goes_on_on_another_mesh() {
    other_mesh(&PAIRS[..4], 6);
    other_mesh(&PAIRS[22..], 6);
}

#[test]
#[ignore = "minutes: `cargo xtask test --full`"]
fn every_run_goes_on() {
    let all = crate::all();
    same_bits(&all.iter().map(String::as_str).collect::<Vec<_>>(), 100);
    other_mesh(&PAIRS, 100);
}

/// The mean of checkpoints that a run ends with is measured as on one rank.
#[test]
fn a_mean_of_checkpoints_is_what_is_measured() {
    let average = Some(Average { from: 3, every: 1 });
    let recipe = Recipe { average, checkpoint_every: 1, ..recipe(5) };
    let dir = tempfile::tempdir().unwrap();
    let of = |mesh: &str| {
        let device = |_| Ok(reference());
        go_on(&dir.path().join(mesh), mesh, (&recipe, None), device).averaged.unwrap().loss
    };
    let expected = of("dp=1");
    for mesh in ["tp=2,dp=2", "dp=2,sharing=full", "tp=2,pp=2,dp=2,sharing=full"] {
        let found = of(mesh);
        assert!((found / expected - 1.0).abs() < 1e-12, "{mesh}: {found} {expected}");
    }
}

/// A checkpoint of any mesh is exported as one of one rank is: it holds the same whole tensors.
#[test]
fn checkpoints_of_all_meshes_hold_the_same_tensors() {
    let dir = tempfile::tempdir().unwrap();
    let shapes = |mesh: &str| {
        let reference = |_| Ok(reference());
        let report = go(&dir.path().join(mesh), mesh, (1, None), reference);
        let reader = Reader::open(&report.checkpoint).unwrap();
        let of = |name: &str| (name.to_owned(), reader.info(name).unwrap().clone());
        reader.names().map(of).collect::<Vec<_>>()
    };
    let one = shapes("dp=1");
    assert_eq!(shapes("tp=4,pp=2"), one);
    assert_eq!(shapes("cp=2,dp=2"), one);
    assert_eq!(shapes("dp=4,sharing=full,group=2"), one);
}
