//! All eight golden cases at their stated tolerances, on every device; and cases that are no cases.

#![allow(clippy::unwrap_used)]

#[path = "../../model/tests/data/mod.rs"]
mod data;

use data::golden;
use quipu_math::{Cpu, Device, Instructions, Opaque, Reference};
use quipu_train::Parallel;
use quipu_train::recipe::Dtype;
use quipu_verify::verify;
use std::path::Path;
use std::sync::Arc;

const CASES: [&str; 8] = [
    "gqa",
    "mha-tied",
    "rope-scaled",
    "rope-scaled-new-spelling",
    "document-mask",
    "adamw",
    "dpo",
    "generate",
];

fn check(test: &str, device: Arc<dyn Device>, dtype: Dtype) {
    over("", test, &|| device.clone(), dtype);
}

/// The cases over the ranks of a mesh, each on a device of its own.
fn over(mesh: &str, test: &str, make: &(dyn Fn() -> Arc<dyn Device> + Sync), dtype: Dtype) {
    let Some(golden) = golden(test) else { return };
    let (parallel, device): (Parallel, _) = (mesh.parse().unwrap(), make());
    let mut fit = 0;
    for case in CASES {
        let dir = golden.join(case);
        let rows = verify(&dir, &dir.join("case.safetensors"), &parallel, make, dtype);
        let rows = match rows {
            // a model of one layer has no four stages
            Err(e) if mesh.contains("v=2") && e.to_string().contains("stages") => continue,
            rows => rows.unwrap_or_else(|e| panic!("{mesh} {case}: {e}")),
        };
        fit += 1;
        assert!(!rows.is_empty());
        for row in rows {
            let (group, worst) = (&row.group, &row.worst);
            println!(
                "{} {mesh} {case} {group} {:.1e} of {:.0e} ({worst})",
                device.name(),
                row.error,
                row.tolerance
            );
            assert!(row.ok, "{mesh} {case}: {row:?}");
        }
    }
    assert!(fit >= 6, "{mesh}: {fit} cases fit");
}

#[test]
fn all_cases_on_the_reference_device() {
    check("all_cases_on_the_reference_device", Arc::new(Reference::new()), Dtype::F32);
}

#[test]
fn all_cases_on_two_threads() {
    check("all_cases_on_two_threads", Arc::new(Cpu::new(2)), Dtype::F32);
}

#[test]
fn all_cases_in_bf16() {
    check("all_cases_in_bf16", Arc::new(Cpu::new(2)), Dtype::Bf16);
}

#[test]
fn all_cases_in_bf16_on_every_instruction_set() {
    for set in Instructions::ALL.into_iter().filter(|set| set.available()) {
        let test = "all_cases_in_bf16_on_every_instruction_set";
        check(test, Arc::new(Cpu::with(2, set)), Dtype::Bf16);
    }
}

#[test]
fn all_cases_in_bf16_behind_copies_only() {
    let device = Arc::new(Opaque::new(Arc::new(Cpu::new(2))));
    check("all_cases_in_bf16_behind_copies_only", device, Dtype::Bf16);
}

#[test]
fn all_cases_behind_copies_only() {
    let device = Arc::new(Opaque::new(Arc::new(Reference::new())));
    check("all_cases_behind_copies_only", device, Dtype::F32);
}

/// Meshes that every case's model fits on: each axis, a pipeline with chunks, all together.
const MESHES: [&str; 8] = [
    "tp=2",
    "cp=2",
    "pp=2",
    "dp=2",
    "pp=2,v=2",
    "tp=2,cp=2",
    "tp=2,pp=2,schedule=zero-bubble",
    "tp=2,cp=2,pp=2,dp=2",
];

#[test]
fn all_cases_on_meshes() {
    for mesh in MESHES {
        over(mesh, "all_cases_on_meshes", &|| Arc::new(Cpu::new(1)), Dtype::F32);
    }
}

#[test]
fn all_cases_on_meshes_in_bf16() {
    for mesh in ["tp=2,cp=2", "tp=2,pp=2", "tp=2,cp=2,pp=2,dp=2"] {
        over(mesh, "all_cases_on_meshes_in_bf16", &|| Arc::new(Cpu::new(1)), Dtype::Bf16);
    }
}

/// One rank on the reference device.
fn plain(dir: &Path, case: &Path) -> Result<Vec<quipu_verify::Row>, quipu_verify::Error> {
    let device = || -> Arc<dyn Device> { Arc::new(Reference::new()) };
    verify(dir, case, &Parallel::default(), &device, Dtype::F32)
}

/// A copy of a golden checkpoint, so that it can be spoilt.
fn copy(golden: &Path, case: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors", "case.safetensors"] {
        std::fs::copy(golden.join(case).join(file), dir.path().join(file)).unwrap();
    }
    dir
}

#[test]
fn a_wrong_constant_is_out_of_tolerance() {
    let Some(golden) = golden("a_wrong_constant_is_out_of_tolerance") else { return };
    for (from, to) in [
        ("\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": 1e-06"),
        ("\"rope_theta\": 500000.0", "\"rope_theta\": 10000.0"),
    ] {
        let dir = copy(&golden, "gqa");
        let path = dir.path().join("config.json");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from));
        std::fs::write(&path, text.replace(from, to)).unwrap();
        let case = dir.path().join("case.safetensors");
        let rows = plain(dir.path(), &case).unwrap();
        assert!(rows.iter().any(|row| !row.ok), "{to}: {rows:?}");
    }
}

#[test]
fn damaged_folders_and_cases_are_said() {
    let Some(golden) = golden("damaged_folders_and_cases_are_said") else { return };
    let refuse = |spoil: &dyn Fn(&Path), word: &str| {
        let dir = copy(&golden, "gqa");
        spoil(dir.path());
        let case = dir.path().join("case.safetensors");
        let error = plain(dir.path(), &case).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    let cut = |file: &'static str, bytes: usize| {
        move |dir: &Path| {
            let all = std::fs::read(dir.join(file)).unwrap();
            std::fs::write(dir.join(file), &all[..bytes]).unwrap();
        }
    };
    refuse(&cut("case.safetensors", 4), "case.safetensors");
    refuse(&cut("case.safetensors", 5000), "case.safetensors");
    refuse(&cut("model.safetensors", 5000), "model.safetensors");
    refuse(&cut("config.json", 100), "config.json");
    refuse(&|dir| std::fs::remove_file(dir.join("model.safetensors")).unwrap(), "no model");
    // the weights of another model, of another shape, and a case that pins nothing down
    let other = |case: &'static str, file: &'static str| {
        let golden = golden.clone();
        move |dir: &Path| {
            std::fs::copy(golden.join(case).join(file), dir.join(file)).unwrap();
        }
    };
    refuse(&other("mha-tied", "model.safetensors"), "'lm_head.weight' is missing");
    let full_heads = |dir: &Path| {
        let text = std::fs::read_to_string(golden.join("mha-tied/config.json")).unwrap();
        let untied =
            text.replace("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false");
        assert_ne!(text, untied);
        std::fs::write(dir.join("config.json"), untied).unwrap();
    };
    refuse(&full_heads, "'model.layers.0.self_attn.k_proj.weight' has shape [32, 64]");
    let empty = |dir: &Path| {
        let all = std::fs::read(dir.join("model.safetensors")).unwrap();
        std::fs::write(dir.join("case.safetensors"), all).unwrap();
    };
    refuse(&empty, "input_ids");
}
