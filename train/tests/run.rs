//! Whole runs of a tiny model: what stops them, what resumes them, and that neither threads nor
//! kills change a bit of the result.

#![allow(clippy::unwrap_used)]

use quipu_math::{Cpu, Device, Opaque};
use quipu_mesh::Axes;
use quipu_model::{Config, MicroBatch, Model, Sizes};
use quipu_store::Cancel;
use quipu_train::metrics::{self, Record, Validation};
use quipu_train::objective::{NextToken, Objective, Outcome, Packed, Samples};
use quipu_train::watch::{Outside, Started, Watch};
use quipu_train::{
    Curve, Error, Gate, Held, Job, Parallel, Recipe, Report, Start, Verdict, events, folder, run,
};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

const LENGTH: usize = 16;
const VOCAB: u32 = 32;

/// Rows with something to learn: each token is followed by a fixed function of it, mostly.
struct Toy;

impl Samples for Toy {
    fn sample(&self, index: u64) -> Result<Packed, Outside> {
        let mut state = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
        let mut ids = vec![(state >> 40) as u32 % VOCAB];
        while ids.len() <= LENGTH {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(7);
            let last = ids[ids.len() - 1];
            let noise = (state >> 60) == 0;
            ids.push(if noise { (state >> 33) as u32 } else { last * 5 + 3 } % VOCAB);
        }
        // Two documents a row, of a length that differs from row to row.
        let border = 1 + (index % (LENGTH as u64 - 1)) as usize;
        let start = |t: usize| if t < border { 0 } else { border };
        let mut weights = vec![1.0; LENGTH];
        weights[border - 1] = 0.0;
        Ok(Packed {
            tokens: ids[..LENGTH].to_vec(),
            targets: ids[1..].to_vec(),
            positions: (0..LENGTH).map(|t| (t - start(t)) as u32).collect(),
            starts: (0..LENGTH).map(|t| start(t) as u32).collect(),
            weights,
            pieces: Vec::new(),
        })
    }

    fn identity(&self) -> String {
        "toy".into()
    }
}

/// Asks to stop after a step, and remembers what it saw.
#[derive(Default)]
struct Witness {
    stop_at: Option<u64>,
    cancel: Cancel,
    notes: Mutex<Vec<String>>,
    started: Mutex<Option<Started>>,
}

impl Watch for Witness {
    fn started(&self, started: &Started) {
        *self.started.lock().unwrap() = Some(started.clone());
    }

    fn ceiling(&self) -> Option<f64> {
        Some(1e9)
    }

    fn step(&self, record: &Record) {
        if self.stop_at == Some(record.step) {
            self.cancel.request();
        }
    }

    fn samples(
        &self,
        share: f64,
        step: u64,
        model: &mut Model,
    ) -> Result<Option<serde_json::Value>, Outside> {
        let batch = Toy.sample(1 << 40)?;
        let view = MicroBatch {
            tokens: &batch.tokens,
            targets: &batch.targets,
            positions: &batch.positions,
            starts: &batch.starts,
        };
        model.forward(0, &view)?;
        Ok(Some(serde_json::json!({"share": share, "step": step, "logp": model.log_probs(0)?[3]})))
    }

    fn note(&self, line: &str) {
        self.notes.lock().unwrap().push(line.into());
    }
}

fn config() -> Config {
    Config::new(Sizes {
        vocab_size: VOCAB as usize,
        hidden_size: 16,
        intermediate_size: 24,
        layers: 2,
        heads: 2,
        kv_heads: 1,
        max_positions: LENGTH,
        tied: false,
    })
    .unwrap()
}

fn recipe(steps: u64) -> Recipe {
    Recipe {
        seed: 3,
        sequence_length: LENGTH,
        batch_tokens: 8 * LENGTH,
        micro_batch_tokens: 2 * LENGTH,
        steps,
        peak_lr: 1e-2,
        floor_lr: 1e-3,
        warm_up: 4,
        checkpoint_every: steps / 4,
        evaluate_every: steps / 5,
        validation_samples: 3,
        ..Recipe::default()
    }
}

type Make = dyn Fn(usize) -> Result<Arc<dyn Device>, quipu_math::Error> + Sync;

fn device(_: usize) -> Result<Arc<dyn Device>, quipu_math::Error> {
    Ok(Arc::new(Cpu::new(2)))
}

fn train_on(
    dir: &Path,
    recipe: &Recipe,
    axes: Axes,
    device: &Make,
    objective: &dyn Objective,
    witness: &Witness,
) -> Result<Report, Error> {
    let (config, cancel) = (config(), &witness.cancel);
    let (config, start, gate, watch) = (&config, Start::Random, None, witness);
    let parallel = &Parallel::from(axes);
    run(&Job { dir, recipe, config, start, parallel, device, objective, gate, watch, cancel })
}

fn objective() -> NextToken<'static> {
    let held = Held { samples: &Toy, count: 5, length: LENGTH };
    NextToken { samples: &Toy, validation: Some(held), token_bytes: Some(&[2; 32]) }
}

fn train(dir: &Path, recipe: &Recipe, witness: &Witness) -> Result<Report, Error> {
    train_on(dir, recipe, Axes::ONE, &device, &objective(), witness)
}

/// Everything a run leaves that must be equal for equal runs: the weights and moments of its last
/// checkpoint, its metrics and events but for times.
fn result(dir: &Path) -> (Vec<u8>, String, String) {
    let checkpoints = dir.join("checkpoints");
    let last = *folder::steps(&checkpoints).unwrap().last().unwrap();
    let path = folder::path(&checkpoints, last);
    let chunks = std::fs::read(path.join("rank-00000.chunks")).unwrap();
    let metrics = metrics::comparable(&dir.join("metrics.jsonl")).unwrap();
    (chunks, metrics, events::comparable(&dir.join(events::NAME)).unwrap())
}

fn losses(dir: &Path) -> Vec<f64> {
    metrics::read(&dir.join("metrics.jsonl")).unwrap().iter().map(|r| r.loss).collect()
}

#[test]
fn a_stopped_and_resumed_run_has_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    let recipe = recipe(100);
    let report = train(&whole, &recipe, &Witness::default()).unwrap();
    assert!(report.finished && report.step == 100);
    let stops = Witness { stop_at: Some(50), ..Witness::default() };
    let report = train(&parts, &recipe, &stops).unwrap();
    assert!(!report.finished && report.step == 50);
    let witness = Witness::default();
    assert!(train(&parts, &recipe, &witness).unwrap().finished);
    assert_eq!(witness.started.lock().unwrap().as_ref().unwrap().step, 50);
    assert!(result(&whole) == result(&parts));
    // Run once more, it is found finished and nothing changes.
    assert!(train(&parts, &recipe, &Witness::default()).unwrap().finished);
    assert!(result(&whole) == result(&parts));
    let records = metrics::read(&whole.join("metrics.jsonl")).unwrap();
    assert!(records[99].loss < 0.5 * records[0].loss, "{} {}", records[0].loss, records[99].loss);
    let validated: Vec<u64> =
        records.iter().filter(|r| r.validation.is_some()).map(|r| r.step).collect();
    assert_eq!(validated, [20, 40, 60, 80, 100]);
    // Of 1 GFLOP/s, as the witness says; what each step's event has, its line has.
    let flop = witness.started.lock().unwrap().as_ref().unwrap().flop_per_token;
    let (machine, events) = (&records[9].machine, events::read(&whole.join(events::NAME)).unwrap());
    let share = machine.share_of_ceiling.unwrap();
    assert!((share - flop * machine.tokens_per_s / 1e9).abs() < 1e-9, "{machine:?}");
    let (loss, share) = (records[9].loss as f32, share as f32);
    assert_eq!((events.len(), events[10].step), (101, 10));
    for (tag, value) in [("train/loss", loss), ("train/share_of_ceiling", share)] {
        assert!(events[10].scalars.contains(&(tag.into(), value)), "{:?}", events[10]);
    }
    let sampled: Vec<u64> =
        records.iter().filter(|r| r.samples.is_some()).map(|r| r.step).collect();
    assert_eq!(sampled, [1, 10, 100]);
    // The last one has all five samples, not only three.
    let measured = records[79].validation.as_ref().unwrap().tokens;
    assert_eq!(measured, 3 * (LENGTH as u64 - 1));
    let Validation { loss, bits_per_byte, tokens } = records[99].validation.clone().unwrap();
    let bits = loss / std::f64::consts::LN_2 / 2.0;
    assert!((bits_per_byte.unwrap() - bits).abs() < 1e-12 && tokens == 5 * (LENGTH as u64 - 1));
}

#[test]
fn threads_and_hidden_memory_do_not_change_a_bit() {
    let dir = tempfile::tempdir().unwrap();
    let with = |name: &str, device: &Make| {
        let (dir, witness) = (dir.path().join(name), Witness::default());
        train_on(&dir, &recipe(20), Axes::ONE, device, &objective(), &witness).unwrap();
        result(&dir)
    };
    let one = with("one", &|_| Ok(Arc::new(Cpu::new(1))));
    assert!(one == with("two", &|_| Ok(Arc::new(Cpu::new(2)))));
    assert!(one == with("three", &|_| Ok(Arc::new(Cpu::new(3)))));
    assert!(one == with("hidden", &|_| Ok(Arc::new(Opaque::new(Arc::new(Cpu::new(2)))))));
}

#[test]
fn two_ranks_have_the_losses_of_one() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let recipe = recipe(20);
    train(&one, &recipe, &Witness::default()).unwrap();
    let axes = Axes::parse("dp=2").unwrap();
    let stops = Witness { stop_at: Some(10), ..Witness::default() };
    train_on(&two, &recipe, axes, &device, &objective(), &stops).unwrap();
    for (a, b) in losses(&one).iter().zip(losses(&two)) {
        assert!((a - b).abs() / a <= 2e-6, "{a} {b}");
    }
    // What two ranks wrote, one reads, and says what that means.
    let witness = Witness::default();
    assert!(train(&two, &recipe, &witness).unwrap().finished);
    assert!(witness.notes.lock().unwrap()[0].contains("dp=2"));
    for (a, b) in losses(&one).iter().zip(losses(&two)) {
        assert!((a - b).abs() / a <= 1e-5, "{a} {b}");
    }
}

/// Gives no number at one step.
struct Poisoned(u64);

impl Objective for Poisoned {
    fn accumulate(
        &self,
        model: &mut Model,
        mesh: &quipu_mesh::Mesh,
        recipe: &Recipe,
        step: u64,
    ) -> Result<Outcome, Error> {
        let mut outcome = objective().accumulate(model, mesh, recipe, step)?;
        if step + 1 == self.0 {
            outcome.loss = f64::NAN;
        }
        Ok(outcome)
    }

    fn validate(
        &self,
        _: &mut Model,
        _: &quipu_mesh::Mesh,
        _: &Recipe,
    ) -> Result<Option<Validation>, Error> {
        Ok(None)
    }

    fn identity(&self) -> String {
        objective().identity()
    }
}

#[test]
fn no_number_stops_before_the_optimizer() {
    let dir = tempfile::tempdir().unwrap();
    let witness = Witness::default();
    let run = |axes| train_on(dir.path(), &recipe(8), axes, &device, &Poisoned(5), &witness);
    let error = run(Axes::ONE).unwrap_err().to_string();
    assert!(error.contains("step 5") && error.contains("NaN"), "{error}");
    assert!(error.contains("samples 32 to 39"), "{error}");
    assert_eq!(folder::steps(&dir.path().join("checkpoints")).unwrap(), [2, 4]);
    assert!(run(Axes::parse("dp=2").unwrap()).unwrap_err().to_string().contains("step 5"));
}

/// What somebody is told whose newest checkpoint is damaged.
const ADVICE: &str = "the checkpoint of step 3 stands beside it: move that of step 4 away";

/// A finished run of four steps, and what its second start says after `change`.
#[track_caller]
fn check(change: impl FnOnce(&Path, &mut Recipe), says: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let mut recipe = recipe(4);
    train(dir.path(), &recipe, &Witness::default()).unwrap();
    change(&folder::path(&dir.path().join("checkpoints"), 4), &mut recipe);
    let error = train(dir.path(), &recipe, &Witness::default()).unwrap_err().to_string();
    assert!(says.iter().all(|s| error.contains(s)), "{error}");
    // nobody is told to move away what is sound
    assert_eq!(error.contains(ADVICE), says.contains(&ADVICE), "{error}");
}

/// What the advice promises.
#[test]
fn a_run_goes_on_from_the_checkpoint_before_a_damaged_one() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = recipe(4);
    let train = || train(dir.path(), &recipe, &Witness::default());
    train().unwrap();
    let path = folder::path(&dir.path().join("checkpoints"), 4);
    let (chunks, index) = (path.join("rank-00000.chunks"), path.join("rank-00000.json"));
    let sound = [&chunks, &index].map(|path| std::fs::read(path).unwrap());
    edit(chunks.clone(), |mut bytes| {
        bytes.truncate(7);
        bytes
    });
    assert!(train().unwrap_err().to_string().contains(ADVICE));
    std::fs::rename(&path, dir.path().join("away")).unwrap();
    train().unwrap();
    assert_eq!([&chunks, &index].map(|path| std::fs::read(path).unwrap()), sound);
}

fn edit(path: PathBuf, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    std::fs::write(&path, change(std::fs::read(&path).unwrap())).unwrap();
}

#[test]
fn damaged_and_foreign_checkpoints_are_named() {
    check(
        |path, _| {
            edit(path.join("rank-00000.chunks"), |mut bytes| {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                bytes
            });
        },
        &["rank-00000.chunks", "is damaged", ADVICE],
    );
    check(
        |path, _| edit(path.join("rank-00000.json"), |bytes| bytes[..bytes.len() / 2].into()),
        &["rank-00000.json", ADVICE],
    );
    check(
        |path, _| std::fs::remove_file(path.join("manifest.json")).unwrap(),
        &["manifest.json", ADVICE],
    );
    check(
        |path, _| {
            let mut manifest = quipu_store::manifest::Manifest::read(
                path,
                quipu_model::checkpoint::FORMAT,
                quipu_model::checkpoint::VERSION,
            )
            .unwrap();
            manifest.version += 1;
            manifest.write(path).unwrap();
        },
        &["version 3"],
    );
    check(|_, recipe| recipe.peak_lr = 0.5, &["step-00000004", "peak_lr = 0.01", "peak_lr = 0.5"]);
    check(|_, recipe| recipe.steps = 9, &["steps = 4", "steps = 9"]);
    check(
        |path, _| edit(path.join("../../metrics.jsonl"), |bytes| bytes[..20].into()),
        &["metrics.jsonl"],
    );
}

#[test]
fn a_mesh_that_the_model_does_not_fit_on_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let run = |mesh| {
        let axes = Axes::parse(mesh).unwrap();
        train_on(dir.path(), &recipe(4), axes, &device, &objective(), &Witness::default())
    };
    assert!(run("tp=64").unwrap_err().to_string().contains("must divide the model's"));
    assert!(run("pp=64").unwrap_err().to_string().contains("stages"));
    assert!(!dir.path().join("metrics.jsonl").exists());
}

/// Not a test of its own: the process that the tests below start and kill.
#[test]
fn child() {
    let Ok(dir) = std::env::var("QUIPU_TEST_RUN") else { return };
    if let Err(error) = train(Path::new(&dir), &recipe(20), &Witness::default()) {
        println!("refused: {error}");
        std::process::exit(3);
    }
}

fn command(dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["child", "--exact", "--nocapture"]).env("QUIPU_TEST_RUN", dir);
    command
}

#[test]
fn a_killed_run_ends_with_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    assert!(command(&whole).output().unwrap().status.success());
    let expected = result(&whole);
    let (mut draw, mut killed) = (11u64, 0);
    for round in 0..8 {
        let parts = dir.path().join(format!("parts-{round}"));
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let bytes = draw % 300_000;
        let first = command(&parts).env("QUIPU_KILL_AFTER_BYTES", bytes.to_string()).output();
        killed += u32::from(!first.unwrap().status.success());
        assert!(command(&parts).output().unwrap().status.success());
        assert!(result(&parts) == expected, "killed after {bytes} bytes");
    }
    assert!(killed >= 5, "only {killed} of 8 were killed");
}

/// A limit on the size of files stands for a full disk: the system refuses the write in both.
#[test]
fn a_full_disk_is_said_and_leaves_nothing_half_written() {
    let dir = tempfile::tempdir().unwrap();
    let parts = dir.path().join("parts");
    let child = command(&parts);
    let shell = "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\"";
    let mut limited = Command::new("sh");
    limited.args(["-c", shell]).arg(child.get_program()).args(child.get_args());
    limited.env("QUIPU_TEST_RUN", &parts);
    let output = limited.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("no room left") && said.contains("rank-00000.chunks"), "{said}");
    assert!(folder::steps(&parts.join("checkpoints")).unwrap().is_empty());
    assert!(command(&parts).output().unwrap().status.success());
}

/// The toy's rows from a place on.
struct From(u64);

impl Samples for From {
    fn sample(&self, index: u64) -> Result<Packed, Outside> {
        Toy.sample(self.0 + index)
    }

    fn identity(&self) -> String {
        format!("toy from {}", self.0)
    }
}

/// Asked every third step, it lets a stage end from a step on.
struct After(u64);

impl Gate for After {
    fn is_due(&self, step: u64) -> bool {
        step.is_multiple_of(3)
    }

    fn ask(&self, step: u64, model: &mut Model) -> Result<Verdict, Outside> {
        let found = Witness::default().samples(0.0, step, model)?;
        Ok(Verdict { passed: step >= self.0, found: serde_json::json!(found) })
    }
}

/// A stage of `steps` at one rate that reads from row `rows` on, begun from a checkpoint.
fn stage(
    dir: &Path,
    (steps, rows): (u64, u64),
    start: Start<'_>,
    gate: Option<&dyn Gate>,
    witness: &Witness,
) -> Report {
    let samples = From(rows);
    let objective = &NextToken { samples: &samples, validation: None, token_bytes: None };
    let rate = 3e-3;
    let (peak_lr, floor_lr, schedule) = (rate, rate, Curve::Constant);
    let recipe = Recipe { peak_lr, floor_lr, schedule, warm_up: 0, ..recipe(steps) };
    let (config, device, watch) = (&config(), &device, witness);
    let (recipe, cancel) = (&recipe, &witness.cancel);
    let parallel = &Parallel::default();
    let job = Job { dir, recipe, config, start, parallel, device, objective, gate, watch, cancel };
    run(&job).unwrap()
}

fn chunks(report: &Report) -> Vec<u8> {
    std::fs::read(report.checkpoint.join("rank-00000.chunks")).unwrap()
}

#[test]
fn a_stage_goes_on_with_the_moments_of_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let of = |name| dir.path().join(name);
    let witness = Witness::default();
    let whole = stage(&of("whole"), (40, 0), Start::Random, None, &witness);
    let first = stage(&of("first"), (20, 0), Start::Random, None, &witness);
    let start = Start::Checkpoint(&first.checkpoint);
    let second = stage(&of("second"), (20, 20 * 8), start, None, &witness);
    assert!(chunks(&whole) == chunks(&second));
    assert_eq!((whole.passed, second.step), (None, 20));
    // What is not the first stage's numbers is not its end.
    let other = stage(&of("other"), (20, 0), start, None, &witness);
    assert!(chunks(&other) != chunks(&second));
}

#[test]
fn a_gate_ends_a_stage_whenever_it_was_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let of = |name: &str| dir.path().join(name);
    let run = |name: &str, gate: u64, witness: &Witness| {
        stage(&of(name), (40, 0), Start::Random, Some(&After(gate)), witness)
    };
    let whole = run("whole", 11, &Witness::default());
    assert_eq!((whole.step, whole.finished, whole.passed), (12, true, Some(true)));
    for stop_at in [3, 8, 12] {
        let name = format!("stopped-{stop_at}");
        run(&name, 11, &Witness { stop_at: Some(stop_at), ..Witness::default() });
        let report = run(&name, 11, &Witness::default());
        assert_eq!((report.step, report.passed), (12, Some(true)), "{stop_at}");
        assert!(result(&of(&name)) == result(&of("whole")), "{stop_at}");
    }
    let records = metrics::read(&of("whole").join("metrics.jsonl")).unwrap();
    let asked: Vec<u64> = records.iter().filter(|r| r.gate.is_some()).map(|r| r.step).collect();
    assert_eq!(asked, [3, 6, 9, 12]);
    // The last step asks too, and a stage that ends there without passing says so.
    let capped = run("capped", 99, &Witness::default());
    assert_eq!((capped.step, capped.finished, capped.passed), (40, true, Some(false)));
    let records = metrics::read(&of("capped").join("metrics.jsonl")).unwrap();
    assert!(!records[39].gate.as_ref().unwrap().passed);
}
