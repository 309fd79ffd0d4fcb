//! Every mesh gives the numbers of one rank: losses, each gradient, parameters after some steps. Ranks
//! are threads of this process; over MPI each has the bits of its thread.
//!
//! In f64 on the `reference` device differences are those of the order of additions alone; in f32 they
//! are held against a control, which is one rank that makes every product in two halves.

#![allow(clippy::unwrap_used)]

mod bytes;
mod halves;
mod processes;
mod resume;
mod world;

use halves::Halved;
use quipu_math::{Cpu, Device, Reference};
use quipu_mesh::{AXES, Axis};
use quipu_model::Recompute;
use quipu_train::Parallel;
use quipu_train::recipe::Dtype;
use std::sync::Arc;
use world::{Case, Outcome, largest, relative};

fn reference() -> Arc<dyn Device> {
    Arc::new(Reference::new())
}

fn cpu() -> Arc<dyn Device> {
    Arc::new(Cpu::new(1))
}

/// Meshes that the default test goes through: each axis, pairs and all together, more ranks than
/// key-value heads, interleaved chunks, and what a pipeline may be divided by otherwise.
const SOME: [&str; 12] = [
    "tp=2",
    "cp=2",
    "pp=2",
    "dp=2",
    "tp=2,cp=2",
    "tp=4",
    "pp=4,v=2",
    "cp=2,pp=2,dp=2",
    "tp=2,pp=2,dp=2",
    "tp=2,cp=2,pp=2",
    "pp=2,layers=3/11,schedule=zero-bubble",
    "tp=2,cp=2,pp=2,dp=2",
];

/// All of {1, 2}⁴, every pair with 4, and the paper's Figure 6.
fn all() -> Vec<String> {
    let mut meshes: Vec<String> = (1..16)
        .map(|bits| {
            let sizes = ["tp", "cp", "pp", "dp"].iter().enumerate();
            let wide = sizes.filter(|(i, _)| bits >> i & 1 == 1);
            wide.map(|(_, axis)| format!("{axis}=2")).collect::<Vec<_>>().join(",")
        })
        .collect();
    for a in ["tp", "cp", "pp", "dp"] {
        for b in ["tp", "cp", "pp", "dp"] {
            if a != b {
                meshes.push(format!("{a}=4,{b}=2"));
            }
        }
    }
    meshes.extend(["tp=4,cp=4", "pp=4,v=2"].map(str::to_owned));
    meshes.extend(SOME.iter().filter(|mesh| mesh.contains("schedule")).map(|m| (*m).to_owned()));
    meshes
}

/// The samples of a step and of a micro-batch: the last micro-batch is a smaller one, and ranks of the
/// data axis have unequal numbers of them; the paper's Figure 6 has ten.
const RAGGED: (usize, usize) = (7, 2);
const TEN: (usize, usize) = (10, 1);

/// Goes through meshes, each against one rank on the same batches.
fn against_one(meshes: &[&str], case: Case, mut check: impl FnMut(&str, Outcome, &Case, &Outcome)) {
    for (tied, batch) in [(false, RAGGED), (true, RAGGED), (false, TEN), (true, TEN)] {
        let case = Case { tied, batch, ..case };
        let chunks = |mesh: &&&str| mesh.contains("v=") == (batch == TEN);
        let mut meshes = meshes.iter().filter(chunks).peekable();
        let Some(_) = meshes.peek() else { continue };
        let one = case.run("");
        for mesh in meshes {
            let found = case.run(mesh);
            check_uses(mesh, &case, &found);
            check(&format!("{mesh}, tied {tied}"), found, &case, &one);
        }
    }
}

/// Everything that ranks of such a mesh have to tell each other was told.
fn check_uses(mesh: &str, case: &Case, found: &Outcome) {
    let (tied, config) = (case.tied, (case.config)(case.tied));
    let parallel: Parallel = mesh.parse().unwrap();
    let wide = |axis| parallel.size(axis) > 1;
    let [tp, cp, pp, dp] = AXES.map(wide);
    let readers = config.heads / config.kv_heads;
    let ranks = parallel.size(Axis::Cp) * parallel.size(Axis::Dp);
    let keepers = parallel.sharing.group.unwrap_or(ranks);
    let needed = [
        ("activations", tp),
        ("vocabulary", tp),
        ("replicated", tp),
        // ranks begin within the queries of a head
        ("shared-heads", !(config.heads / parallel.size(Axis::Tp)).is_multiple_of(readers)),
        ("key-values", cp),
        ("stages", pp),
        ("tied", pp && tied),
        ("gradients", keepers > 1),
        ("parameters", keepers > 1),
        ("replicas", ranks > keepers),
        ("losses", cp || pp || dp),
        ("norm", true),
    ];
    let needed = needed.iter().filter(|(_, needed)| *needed).map(|(name, _)| *name);
    assert_eq!(found.used, needed.collect(), "{mesh}, tied {tied}: who was talked to");
}

fn equal_in_f64(meshes: &[&str], steps: u64) {
    let case = Case { steps, device: reference, ..Case::default() };
    in_f64(meshes, case);
}

fn in_f64(meshes: &[&str], case: Case) {
    against_one(meshes, case, |mesh, found, _, one| {
        let off = |a: f64, b: f64| (a - b).abs() / b;
        let (loss, norm) = (off(found.losses[0], one.losses[0]), off(found.norms[0], one.norms[0]));
        assert!(loss <= 1e-12 && norm <= 1e-12, "{mesh}: loss is off by {loss:e}, norm {norm:e}");
        for (name, off) in largest(&found.gradients, &one.gradients) {
            assert!(off <= 1e-12, "{mesh}: gradient of {name} is off by {off:e}");
        }
        let parameters = relative(&found.parameters, &one.parameters);
        println!("f64 {mesh:52} loss {loss:.1e} parameters {parameters:.1e}");
        assert!(parameters <= 1e-12, "{mesh}: parameters are off by {parameters:e}");
    });
}

fn equal_in_f32(meshes: &[&str]) {
    let case = Case { steps: 10, ..Case::default() };
    let mut control = (None, 0.0);
    against_one(meshes, case, |mesh, found, case, one| {
        if control.0 != Some((case.tied, case.batch)) {
            let halved = Case { device: || Arc::new(Halved::new(cpu())), ..*case }.run("");
            let off = relative(&halved.parameters, &one.parameters);
            control = (Some((case.tied, case.batch)), off.max(1e-6));
        }
        check_f32(mesh, &found, one, control.1);
    });
}

fn check_f32(mesh: &str, found: &Outcome, one: &Outcome, control: f64) {
    for (step, (a, b)) in found.losses.iter().zip(&one.losses).enumerate() {
        assert!((a - b).abs() <= 2e-6, "{mesh}: loss of step {step} is {a}, on one rank {b}");
    }
    for (name, off) in largest(&found.gradients, &one.gradients) {
        assert!(off <= 1e-5, "{mesh}: gradient of {name} is off by {off:e}");
    }
    let parameters = relative(&found.parameters, &one.parameters);
    println!("f32 {mesh:48} parameters {parameters:.1e}, control {control:.1e}");
    assert!(parameters <= 2e-5, "{mesh}: parameters are off by {parameters:e}");
    assert!(parameters <= 4.0 * control, "{mesh}: {parameters:e} is above 4 × {control:e}");
}

impl Default for Case {
    fn default() -> Case {
        Case {
            config: world::config,
            tied: false,
            steps: 1,
            batch: RAGGED,
            dtype: Dtype::F32,
            recompute: Recompute::None,
            rate: 3e-3,
            device: cpu,
        }
    }
}

/// Meshes with which whatever may be chosen beside the mesh is combined.
const WIDE: [&str; 4] = ["tp=2,cp=2", "tp=2,pp=2", "cp=2,pp=2", "tp=2,cp=2,pp=2,dp=2"];

/// What gives the same bits as the mesh alone: nothing is added in another order.
fn same_bits(mesh: &str, other: &str, case: Case) {
    for tied in [false, true] {
        let alone = Case { tied, steps: 2, ..Case::default() }.run(mesh);
        let found = Case { tied, steps: 2, ..case }.run(other);
        assert_eq!(found.losses, alone.losses, "{other}, tied {tied}");
        // squares are added up rank by rank
        let norms = found.norms.iter().zip(&alone.norms);
        norms.for_each(|(a, b)| assert!((a - b).abs() <= 1e-12 * b, "{other}: {a}, {b}"));
        assert!(found.gradients == alone.gradients, "{other}, tied {tied}: other gradients");
        assert!(found.parameters == alone.parameters, "{other}, tied {tied}: other parameters");
    }
}

#[test]
fn what_is_recomputed_changes_no_bit_on_any_mesh() {
    for recompute in [Recompute::Elementwise, Recompute::Block] {
        WIDE.iter().for_each(|mesh| {
            same_bits(mesh, mesh, Case { recompute, ..Case::default() });
        });
    }
}

#[test]
fn stages_may_be_uneven_and_weights_may_wait() {
    for mesh in ["tp=2,pp=2", "cp=2,pp=2", "tp=2,cp=2,pp=2", "tp=2,cp=2,pp=2,dp=2"] {
        for what in ["layers=11/3", "layers=0/14", "schedule=zero-bubble"] {
            same_bits(mesh, &format!("{mesh},{what}"), Case::default());
        }
    }
}

/// What of parameters, gradients and states the ranks share out, beside what TP and CP divide.
const SHARED: [&str; 9] = [
    "dp=2,sharing=full",
    "tp=2,cp=2,sharing=full",
    "tp=2,pp=2,dp=2,sharing=full",
    "cp=2,pp=2,dp=2,sharing=full,group=2",
    "tp=2,cp=2,pp=2,dp=2,sharing=full",
    "tp=2,cp=2,dp=2,group=2",
    "tp=2,dp=4,group=2",
    "pp=2,dp=2,group=1",
    "tp=4,cp=2,sharing=full",
];

#[test]
fn shared_out_parameters_give_the_numbers_of_one_rank_in_f64() {
    equal_in_f64(&SHARED, 2);
    in_f64(
        &SHARED[3..5],
        Case { recompute: Recompute::Block, device: reference, ..Case::default() },
    );
}

/// Where ranks begin within the queries of a key-value head.
const WITHIN: [&str; 4] = ["tp=2", "tp=2,cp=2", "tp=6", "tp=2,pp=2,dp=2,sharing=full"];

#[test]
fn heads_that_do_not_divide_give_the_numbers_of_one_rank_in_f64() {
    let case = Case { config: world::uneven, steps: 2, device: reference, ..Case::default() };
    in_f64(&WITHIN, case);
}

#[test]
fn who_waits_sooner_finds_the_same_bits() {
    for mesh in WIDE.into_iter().chain([SHARED[4]]) {
        same_bits(mesh, &format!("{mesh},overlap=off"), Case::default());
    }
}

#[test]
fn bf16_is_as_far_from_one_rank_as_its_rounding() {
    // at a rate at which ten steps do not make much of the rounding of the first
    let case = Case { steps: 10, dtype: Dtype::Bf16, rate: 1e-3, ..Case::default() };
    against_one(&WIDE, case, |mesh, found, _, one| {
        for (step, (a, b)) in found.losses.iter().zip(&one.losses).enumerate() {
            assert!((a - b).abs() <= 2e-3, "{mesh}: loss of step {step} is {a}, on one rank {b}");
        }
        for (name, off) in largest(&found.gradients, &one.gradients) {
            assert!(off <= 3e-2, "{mesh}: gradient of {name} is off by {off:e}");
        }
        let parameters = relative(&found.parameters, &one.parameters);
        println!("bf16 {mesh:51} parameters {parameters:.1e}");
    });
}

#[test]
fn some_meshes_give_the_numbers_of_one_rank_in_f64() {
    equal_in_f64(&SOME, 2);
}

#[test]
fn some_meshes_give_the_numbers_of_one_rank_in_f32() {
    equal_in_f32(&SOME);
}

#[test]
#[ignore = "minutes: `cargo xtask test --full`"]
fn every_mesh_gives_the_numbers_of_one_rank() {
    let all = all();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    equal_in_f64(&all, 10);
    equal_in_f32(&all);
    equal_in_f64(&SHARED, 10);
    equal_in_f32(&SHARED);
}
