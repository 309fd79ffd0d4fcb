//! Runs over several ranks through the program: schedules, plans, training on one mesh and going on on
//! another, and meshes that do not fit.

#![allow(clippy::unwrap_used)]

mod program;

use program::{quipu, root, said, tiny};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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
    let (code, _, errors) =
        run(dir.path(), &["train", "schedule", "--pp", "1000", "--micro-batches", "10000"]);
    assert!(code == Some(2) && errors.contains("at most 1048576"), "{errors}");
}

#[test]
fn a_step_is_simulated() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = root().join("recipes/debug.toml");
    let told = ["train", "simulate", recipe.to_str().unwrap(), "--mesh", "tp=2,pp=2,dp=2"];
    let slow = ["--machine", "flop=1e10,memory=1e10,tp=1e8,pp=1e8,dp=1e8", "--json"];
    let (code, out, errors) = run(dir.path(), &[&told[..], &slow].concat());
    assert_eq!(code, Some(0), "{errors}");
    assert!(errors.contains("activations") && errors.contains("stages"), "{errors}");
    let value: Value = serde_json::from_str(&out).unwrap();
    let seconds = |way: &str| value[way]["seconds"].as_f64().unwrap();
    assert!(0.0 < seconds("overlap") && seconds("overlap") < seconds("no_overlap"), "{out}");
    let check = |more: &[&str], expected: &str| {
        let (code, _, errors) = run(dir.path(), &[&told[..3], more].concat());
        assert!(code == Some(2) && errors.contains(expected), "{code:?} {errors}");
    };
    check(&["--machine", "tp=fast"], "write flop=");
    check(&["--mesh", "dp=1000"], "at most 256");
    check(&["--mesh", "dp=4,group=3"], "choose a divisor of 4");
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

/// The small recipe up to its first stage.
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
    let losses = |name: &str| losses(&dir.path().join(name));
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

/// `mpirun` with as many processes of the program.
fn over_mpi(dir: &Path, processes: usize, arguments: &[&str]) -> Command {
    let mut command = Command::new("mpirun");
    command.args(["--allow-run-as-root", "--oversubscribe", "-n", &processes.to_string()]);
    command.arg(quipu(dir, &[]).get_program()).args(arguments).current_dir(dir);
    command
}

/// Whether the program was built to run over MPI; says so where not.
fn has_mpi() -> bool {
    if !cfg!(feature = "mpi") {
        println!("SKIPPED: runs over MPI: built without the feature mpi");
    }
    cfg!(feature = "mpi")
}

/// Sends a signal to the process of a rank, of the run in `dir`.
fn signal(dir: &Path, rank: usize, signal: &str) {
    let rank = format!("OMPI_COMM_WORLD_RANK={rank}");
    let is_it = |process: &Path| {
        let works_here = std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == dir);
        let environment = std::fs::read(process.join("environ")).unwrap_or_default();
        works_here && environment.split(|b| *b == 0).any(|variable| variable == rank.as_bytes())
    };
    let processes = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let found: Vec<_> = processes.filter(|process| is_it(process)).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    let id = found[0].file_name().unwrap();
    assert!(Command::new("kill").arg(signal).arg(id).status().unwrap().success());
}

/// Starts eight ranks, sends one of them a signal once some steps are done, and returns what was said
/// on standard error.
fn interrupted(dir: &Path, arguments: &[&str], (rank, name): (usize, &str)) -> String {
    let mut child = over_mpi(dir, 8, arguments);
    let child = child.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let metrics = dir.join("run/metrics.jsonl");
    let steps = || std::fs::read_to_string(&metrics).unwrap_or_default().lines().count();
    let begun = Instant::now();
    while steps() < 8 {
        assert!(begun.elapsed() < Duration::from_secs(300), "no steps");
        std::thread::sleep(Duration::from_millis(20));
    }
    signal(dir, rank, name);
    let ended = child.wait_with_output().unwrap();
    assert!(!ended.status.success());
    assert!(begun.elapsed() < Duration::from_secs(360), "the others went on");
    String::from_utf8_lossy(&ended.stderr).into_owned()
}

/// A folder, its path as processes see it, and the recipe that runs there.
fn room_for_debug() -> (tempfile::TempDir, PathBuf, String) {
    let room = tempfile::tempdir().unwrap();
    let dir = room.path().canonicalize().unwrap();
    (room, dir, root().join("recipes/debug.toml").to_string_lossy().into_owned())
}

#[test]
fn eight_processes_train_one_is_killed_and_four_go_on() {
    if !has_mpi() {
        return;
    }
    let (_room, dir, recipe) = room_for_debug();
    let of = |name: &'static str, mesh: &'static str| {
        let sets = ["--set", "train.steps=30", "--set", "train.checkpoint_every=5", "--quiet"];
        let patience = ["--late-after", "60"];
        let arguments = ["train", &*recipe, "--run-dir", name, "--mesh", mesh];
        [&arguments[..], &sets, &patience].concat()
    };
    let (code, _, errors) = run(&dir, &of("threads", "tp=2,cp=2,pp=2"));
    assert_eq!(code, Some(0), "{errors}");
    let errors = interrupted(&dir, &of("run", "tp=2,cp=2,pp=2"), (5, "-KILL"));
    assert!(errors.contains("rank 5 failed: its process ended"), "{errors}");
    let four = over_mpi(&dir, 4, &of("run", "dp=4")).output().unwrap();
    let (code, _, errors) = said(&four);
    assert_eq!(code, Some(0), "{errors}");
    let (found, expected) = (losses(&dir.join("run")), losses(&dir.join("threads")));
    assert_eq!((found.len(), expected.len()), (30, 30));
    for (a, b) in found.iter().zip(&expected) {
        assert!((a - b).abs() < 1e-4, "{found:?} {expected:?}");
    }
}

#[test]
fn processes_that_do_not_fit_together_are_told() {
    if !has_mpi() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let check = |mesh: &str, first: &str, second: &str, says: &str| {
        let common = ["train", "--recipe", &tiny(), "--run-dir", "run", "--mesh", mesh];
        let mut command = over_mpi(dir.path(), 1, &common);
        command.args(["--set", first, ":", "-n", "1"]);
        command.arg(quipu(dir.path(), &[]).get_program()).args(common).args(["--set", second]);
        let (code, _, errors) = said(&command.output().unwrap());
        assert!(code != Some(0) && errors.contains(says), "{errors}");
        assert!(!dir.path().join("run").exists());
    };
    check("dp=4", "seed=1", "seed=1", "dp=4 has 4 ranks, but 2 processes were started");
    check(
        "dp=2",
        "seed=1",
        "seed=2",
        "the run of rank 1 is another: seed = 2 there, seed = 1 here",
    );
}

/// A measurement of several processes is said once, and so is what is wrong with it.
#[test]
fn processes_are_measured_together() {
    if !has_mpi() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let bench = |mesh: &str| {
        let sizes =
            "--dim 32 --layers 2 --heads 2 --kv-heads 1 --ffn 48 --vocab 64 --seq 16 --batch 2";
        let arguments =
            ["bench", "train", "--steps", "2", "--threads", "2", "--json", "--mesh", mesh];
        let arguments: Vec<&str> = arguments.into_iter().chain(sizes.split(' ')).collect();
        said(&over_mpi(dir.path(), 2, &arguments).output().unwrap())
    };
    let (code, out, errors) = bench("dp=2");
    assert_eq!(code, Some(0), "{errors}");
    let values: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(values.len() == 1 && values[0]["tokens_per_s"].as_f64() > Some(0.0), "{out}");
    let (code, _, errors) = bench("dp=4");
    assert!(code != Some(0), "{errors}");
    assert_eq!(
        errors.matches("dp=4 has 4 ranks, but 2 processes were started").count(),
        1,
        "{errors}"
    );
}

/// A case that holds over two processes, and one that does not.
#[test]
fn processes_verify_together() {
    let golden = root().join("../shared/golden/gqa");
    if !golden.is_dir() {
        println!("SKIPPED: golden cases: no {}", golden.display());
        return;
    }
    if !has_mpi() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors", "case.safetensors"] {
        std::fs::copy(golden.join(file), dir.path().join(file)).unwrap();
    }
    let verify = || {
        let arguments = ["verify", ".", "case.safetensors", "--mesh", "tp=2", "--json"];
        said(&over_mpi(dir.path(), 2, &arguments).output().unwrap())
    };
    let (code, out, errors) = verify();
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(out.lines().count(), 1, "{out}");
    let path = dir.path().join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["rope_theta"] = 1e3.into();
    std::fs::write(&path, config.to_string()).unwrap();
    let (code, out, errors) = verify();
    assert!(code == Some(1) && errors.contains("out of tolerance"), "{code:?} {errors}");
    assert_eq!(out.lines().count(), 1, "{out}");
}

#[test]
#[ignore = "a minute: `cargo xtask test --full`"]
fn a_process_that_hangs_is_told() {
    if !has_mpi() {
        return;
    }
    let (_room, dir, recipe) = room_for_debug();
    let arguments = ["train", &*recipe, "--run-dir", "run", "--mesh", "dp=8", "--quiet"];
    let errors =
        interrupted(&dir, &[&arguments[..], &["--late-after", "60"]].concat(), (2, "-STOP"));
    assert!(errors.contains("rank 2 failed: nothing was heard of it for 3 s"), "{errors}");
}

/// The losses of a run's steps.
fn losses(run: &Path) -> Vec<f64> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let line = |line: &str| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64();
    text.lines().filter_map(line).collect()
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
