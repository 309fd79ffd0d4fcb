//! Runs over several ranks through the program: schedules, plans, training on one mesh and going on on
//! another, and meshes that do not fit.

#![allow(clippy::unwrap_used)]

mod program;

use program::{quipu, root, said, tiny};
use serde_json::Value;
use std::path::Path;

fn run(dir: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    said(&quipu(dir, arguments).output().unwrap())
}

#[test]
fn the_papers_figure_6() {
    let dir = tempfile::tempdir().unwrap();
    let sizes = ["train", "schedule", "--pp", "4", "--v", "2", "--micro-batches", "10"];
    let (code, out, errors) = run(dir.path(), &[&sizes[..], &["--svg", "figure.svg"]].concat());
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(out.lines().filter(|line| line.starts_with("rank ")).count(), 4, "{out}");
    assert!(out.contains("N 5"), "{out}");
    let svg = std::fs::read_to_string(dir.path().join("figure.svg")).unwrap();
    assert_eq!(svg.matches("class=\"cell\"").count(), 4 * 2 * 2 * 10);
    let (_, out, _) = run(dir.path(), &[&sizes[..], &["--json"]].concat());
    let value: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(value["ranks"][3]["actions"].as_array().unwrap().len(), 2 * 2 * 10);
    let (code, _, errors) =
        run(dir.path(), &["train", "schedule", "--pp", "0", "--micro-batches", "1"]);
    assert_eq!(code, Some(2), "{errors}");
}

#[test]
fn the_405b_is_planned_on_its_ranks() {
    for recipe in ["405b-8k", "405b-128k"] {
        let path = root().join(format!("recipes/{recipe}.toml"));
        let path = path.to_string_lossy();
        let arguments = ["train", "--recipe", &*path, "--dry-run", "--json"];
        let dir = tempfile::tempdir().unwrap();
        let (code, out, errors) = run(dir.path(), &arguments);
        assert_eq!(code, Some(0), "{errors}");
        let plan = serde_json::from_str::<Value>(&out).unwrap()["plan"].take();
        assert_eq!(plan["ranks"], 16_384);
        let stages = plan["stages"].as_array().unwrap();
        assert_eq!(stages.len(), 16);
        assert!(stages.iter().all(|stage| stage["total_bytes"].as_u64() > Some(1 << 30)));
    }
}

/// The small recipe without what a divided model does not do yet.
fn pretraining(dir: &Path) {
    let text = std::fs::read_to_string(tiny()).unwrap();
    let mut recipe: toml::Table = text.parse().unwrap();
    recipe.remove("extend");
    recipe.remove("anneal");
    std::fs::write(dir.join("small.toml"), recipe.to_string()).unwrap();
}

#[test]
fn a_run_goes_on_on_another_mesh() {
    let dir = tempfile::tempdir().unwrap();
    pretraining(dir.path());
    let of = |name, mesh, kill: Option<&str>| {
        let arguments = ["train", "--recipe", "small.toml", "--run-dir", name, "--quiet"];
        let mut command = quipu(dir.path(), &[&arguments[..], &["--mesh", mesh]].concat());
        kill.map(|bytes| command.env("QUIPU_KILL_AFTER_BYTES", bytes));
        said(&command.output().unwrap())
    };
    let refused = |mesh, says: &str| {
        let (code, _, errors) = of("none", mesh, None);
        assert!(code == Some(2) && errors.contains(says), "{errors}");
        assert!(!dir.path().join("none").exists());
    };
    refused("tp=3", "tp must divide the model's");
    refused("pp=2,v=3", "stages");
    refused("ep=2", "ep");
    let losses = |name: &str| -> Vec<f64> {
        let text = std::fs::read_to_string(dir.path().join(name).join("metrics.jsonl")).unwrap();
        let line = |line: &str| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64();
        text.lines().filter_map(line).collect()
    };
    let (code, out, errors) = of("whole", "tp=2,cp=2", None);
    assert_eq!(code, Some(0), "{errors}");
    let expected = losses("whole");
    assert_eq!(expected.len(), 20, "{out}");
    // what is finished is finished on any mesh
    assert_eq!(of("whole", "dp=2", None).0, Some(0));
    // killed on its way, it goes on over other ranks
    let all = size(&dir.path().join("whole"));
    let bytes = all - all / 4;
    let (code, _, errors) = of("moved", "tp=2,cp=2", Some(&bytes.to_string()));
    assert_eq!(code, None, "{errors}");
    let (code, _, errors) = of("moved", "pp=2,dp=2", None);
    assert_eq!(code, Some(0), "{errors}");
    let found = losses("moved");
    assert_eq!(found.len(), 20);
    for (a, b) in found.iter().zip(&expected) {
        assert!((a - b).abs() < 1e-4, "{found:?} {expected:?}");
    }
}

/// Bytes of all files below a folder: a run has written more, of which some went.
fn size(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap();
    let sizes = entries.map(|entry| {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() { size(&entry.path()) } else { entry.metadata().unwrap().len() }
    });
    sizes.sum()
}
