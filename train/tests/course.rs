//! Runs whose batches, lengths and sources change on the way, that skip steps, go back and are
//! averaged: whenever they are stopped, and with however many threads they go on, they end with
//! the bits of a run that was not. With a real loader over real shards.

#![allow(clippy::unwrap_used)]

use quipu_math::{Cpu, Device};
use quipu_mesh::Mesh;
use quipu_model::{Config, Model, Sizes};
use quipu_store::Cancel;
use quipu_tokens::shard::{Shard, ShardWriter};
use quipu_tokens::{Loader, Tokenizer};
use quipu_train::average::{self, Average};
use quipu_train::groups::Group;
use quipu_train::metrics::{self, Record, Validation};
use quipu_train::mix::Phase;
use quipu_train::objective::{NextToken, Objective, Outcome, Piece};
use quipu_train::ramp::Level;
use quipu_train::recipe::Dtype;
use quipu_train::spikes::{Line, Spikes};
use quipu_train::watch::Watch;
use quipu_train::{
    Curve, Error, Held, Job, Parallel, Recipe, Report, Start, checkpoint, export, folder, run,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

const STEPS: u64 = 40;

/// Documents of three sources in one shard.
struct Data {
    _dir: tempfile::TempDir,
    tokenizer: Tokenizer,
    shards: Arc<Vec<Shard>>,
}

impl Data {
    fn new() -> Self {
        let tokenizer = Tokenizer::from_ranks((0..=255).map(|byte| vec![byte]).collect(), 11);
        let tokenizer = tokenizer.unwrap();
        let mut writer = ShardWriter::new(tokenizer.vocabulary() as u32, 7);
        for i in 0..90_u32 {
            let source = ["code", "mathematics", "prose"][(i % 3) as usize];
            let tokens: Vec<u32> =
                (0..5 + i % 13).map(|t| 40 + (i % 3) * 60 + t * 3 % 50).collect();
            writer.push(u128::from(i) + 1_000, source, tokens.len() as u64, &tokens);
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("train-00000.tokens");
        writer.write(&path).unwrap();
        let shards = Arc::new(vec![Shard::open(&path).unwrap()]);
        Self { _dir: dir, tokenizer, shards }
    }

    fn loader(&self, recipe: &Recipe) -> Loader {
        let shards = Arc::clone(&self.shards);
        Loader::new(&self.tokenizer, shards, &recipe.course(), recipe.seed).unwrap()
    }
}

/// Stops after a step, and remembers what it was told.
#[derive(Default)]
struct Witness {
    stop_at: Option<u64>,
    cancel: Cancel,
    notes: Mutex<Vec<String>>,
}

impl Watch for Witness {
    fn step(&self, record: &Record) {
        if self.stop_at == Some(record.step) {
            self.cancel.request();
        }
    }

    fn note(&self, line: &str) {
        self.notes.lock().unwrap().push(line.into());
    }
}

/// Says that the loss of some batches is large. Their gradients are what they are.
struct Leaping<'a> {
    inner: NextToken<'a>,
    batches: &'a [u64],
}

impl Objective for Leaping<'_> {
    fn accumulate(
        &self,
        model: &mut Model,
        mesh: &Mesh,
        recipe: &Recipe,
        batch: u64,
    ) -> Result<Outcome, Error> {
        let mut outcome = self.inner.accumulate(model, mesh, recipe, batch)?;
        if self.batches.contains(&batch) {
            outcome.loss += 100.0;
        }
        Ok(outcome)
    }

    fn validate(
        &self,
        model: &mut Model,
        mesh: &Mesh,
        recipe: &Recipe,
    ) -> Result<Option<Validation>, Error> {
        self.inner.validate(model, mesh, recipe)
    }

    fn identity(&self) -> String {
        self.inner.identity()
    }

    fn pieces(&self, recipe: &Recipe, batch: u64) -> Result<Vec<Piece>, Error> {
        self.inner.pieces(recipe, batch)
    }

    fn notes(&self, recipe: &Recipe, batch: u64) -> Vec<String> {
        self.inner.notes(recipe, batch)
    }

    fn check(&self, recipe: &Recipe, config: &Config) -> Result<(), Error> {
        self.inner.check(recipe, config)
    }
}

fn config() -> Config {
    Config::new(Sizes {
        vocab_size: 272,
        hidden_size: 16,
        intermediate_size: 24,
        layers: 2,
        heads: 2,
        kv_heads: 1,
        max_positions: 32,
        tied: false,
    })
    .unwrap()
}

fn recipe() -> Recipe {
    Recipe {
        seed: 3,
        sequence_length: 16,
        batch_tokens: 64,
        micro_batch_tokens: 32,
        steps: STEPS,
        peak_lr: 1e-2,
        floor_lr: 0.0,
        schedule: Curve::Linear,
        warm_up: 4,
        checkpoint_every: 10,
        evaluate_every: 20,
        validation_samples: 3,
        ..Recipe::default()
    }
}

fn level(after_tokens: u64, sequence_length: usize, batch_tokens: usize) -> Level {
    let micro_batch_tokens = 2 * sequence_length;
    Level { after_tokens, sequence_length, batch_tokens, micro_batch_tokens }
}

fn named(shares: &[(&str, f64)]) -> BTreeMap<String, f64> {
    shares.iter().map(|(name, share)| ((*name).to_owned(), *share)).collect()
}

fn phase(after_tokens: u64, shares: &[(&str, f64)]) -> Phase {
    Phase { after_tokens, shares: named(shares) }
}

/// Levels that begin with batches 11 and 21: 16 tokens, 32, 8.
fn ramp() -> Vec<Level> {
    vec![level(700, 32, 128), level(1_920, 8, 64)]
}

fn mix() -> Vec<Phase> {
    let last = [("code", 0.2), ("mathematics", 0.5), ("prose", 0.3)];
    vec![phase(0, &[("code", 0.4), ("prose", 0.6)]), phase(1_000, &last)]
}

fn spikes() -> Option<Spikes> {
    let (threshold, release) = (50.0, 25.0);
    Some(Spikes { window: 8, threshold, release, skips: 3, within: 5, returns: 3 })
}

/// Batches that leap: one alone, then a heap.
const LEAPS: &[u64] = &[14, 24, 25, 26];

fn train(
    dir: &Path,
    (recipe, axes, threads): (&Recipe, &str, usize),
    leaps: &[u64],
    witness: &Witness,
) -> Result<Report, Error> {
    let (data, config) = (Data::new(), config());
    let loader = data.loader(recipe);
    let validation = recipe.mix.is_empty() && recipe.ramp.is_empty();
    let length = recipe.sequence_length;
    let validation = validation.then_some(Held { samples: &loader, count: 5, length });
    let inner = NextToken { samples: &loader, validation, token_bytes: None };
    let objective = &Leaping { inner, batches: leaps };
    let (start, parallel) = (Start::Random, &axes.parse::<Parallel>().unwrap());
    let device =
        &|_| -> Result<Arc<dyn Device>, quipu_math::Error> { Ok(Arc::new(Cpu::new(threads))) };
    let (config, watch, cancel) = (&config, witness, &witness.cancel);
    let gate = None;
    run(&Job { dir, recipe, config, start, parallel, device, objective, gate, watch, cancel })
}

/// Everything that a run leaves and that must be equal for equal runs.
fn result(dir: &Path) -> (Vec<u8>, String, String) {
    let last = folder::path(&dir.join("checkpoints"), STEPS);
    let chunks = std::fs::read(last.join("rank-00000.chunks")).unwrap();
    let skipped = std::fs::read_to_string(dir.join("skipped.jsonl")).unwrap_or_default();
    (chunks, metrics::comparable(&dir.join("metrics.jsonl")).unwrap(), skipped)
}

/// A run that is stopped after each of `stops` in turn, with other threads each time, ends as one
/// that is not stopped: in bf16, and in f32, whose results are returned.
#[track_caller]
fn check(recipe: &Recipe, leaps: &[u64], stops: &[u64]) -> (Vec<u8>, String, String) {
    let rough = Recipe { dtype: Dtype::Bf16, ..recipe.clone() };
    let (rough, fine) = (in_parts(&rough, leaps, stops), in_parts(recipe, leaps, stops));
    assert!(rough.0 != fine.0, "bf16 gave the bits of f32");
    fine
}

#[track_caller]
fn in_parts(recipe: &Recipe, leaps: &[u64], stops: &[u64]) -> (Vec<u8>, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    assert!(train(&whole, (recipe, "dp=1", 2), leaps, &Witness::default()).unwrap().finished);
    let parts = dir.path().join("parts");
    for (i, stop) in stops.iter().enumerate() {
        let witness = Witness { stop_at: Some(*stop), ..Witness::default() };
        let report = train(&parts, (recipe, "dp=1", 1 + i % 3), leaps, &witness).unwrap();
        assert_eq!((report.step, report.finished), (*stop, false));
    }
    assert!(train(&parts, (recipe, "dp=1", 3), leaps, &Witness::default()).unwrap().finished);
    let (whole, parts) = (result(&whole), result(&parts));
    assert_eq!((&whole.1, &whole.2), (&parts.1, &parts.2));
    assert!(whole.0 == parts.0, "the weights differ");
    whole
}

#[test]
fn in_the_middle_of_an_epoch() {
    let recipe = recipe();
    check(&recipe, &[], &[7, 20, 33]);
    // Some 1,080 pairs are an epoch; 17 steps of 64 tokens end in the second.
    let read = Data::new().loader(&recipe).epochs(4 * 17)[0].1;
    assert!(read > 1.0 && read.fract() > 0.0, "{read}");
}

#[test]
fn in_the_middle_of_a_ramp() {
    let recipe = Recipe { ramp: ramp(), ..recipe() };
    assert_eq!(recipe.levels().iter().map(|first| first.batch).collect::<Vec<_>>(), [0, 11, 21]);
    check(&recipe, &[], &[5, 11, 12, 21, 30]);
}

#[test]
fn in_the_middle_of_a_mix_that_changes_and_runs_out() {
    let mut recipe = Recipe { mix: mix(), max_epochs: named(&[("code", 1.0)]), ..recipe() };
    check(&recipe, &[], &[9, 14, 16, 17, 30]);
    recipe.ramp = ramp();
    check(&recipe, &[], &[11, 17, 21]);
}

#[test]
fn what_a_mix_leaves_out_is_said_once() {
    let dir = tempfile::tempdir().unwrap();
    let caps = named(&[("prose", 0.5)]);
    let mut recipe = Recipe { mix: mix(), max_epochs: caps, ..recipe() };
    let said = |witness: &Witness| witness.notes.lock().unwrap().clone();
    let stops = Witness { stop_at: Some(20), ..Witness::default() };
    train(dir.path(), (&recipe, "dp=1", 2), &[], &stops).unwrap();
    let rest = Witness::default();
    train(dir.path(), (&recipe, "dp=1", 2), &[], &rest).unwrap();
    let all = [said(&stops), said(&rest)].concat();
    assert_eq!(all.iter().filter(|note| note.contains("\"prose\" has been read")).count(), 1);
    assert!(said(&stops).iter().any(|note| note.contains("\"prose\"")), "{all:?}");
    // And a course that ends before the run is refused before anything is written.
    recipe.max_epochs = named(&[("code", 1.0), ("mathematics", 0.5), ("prose", 0.5)]);
    let other = dir.path().join("other");
    let error = train(&other, (&recipe, "dp=1", 2), &[], &Witness::default()).unwrap_err();
    assert!(error.to_string().contains("max_epochs"), "{error}");
    assert!(error.to_string().contains("every source is spent"), "{error}");
    assert!(!other.exists());
}

fn lines(text: &str) -> Vec<Line> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn over_spikes_back_and_past_them() {
    let recipe = Recipe { spikes: spikes(), ..recipe() };
    let (_, metrics, skipped) = check(&recipe, LEAPS, &[14, 15, 23, 26]);
    let found: Vec<_> = lines(&skipped).iter().map(|l| (l.step, l.batch, l.back_to)).collect();
    let skips = [(15, 14, None), (25, 24, None), (26, 25, None), (27, 26, None)];
    assert_eq!(found[..4], skips);
    // At step 27 it goes back to step 20 and goes on with batch 27.
    let passed: Vec<_> = (20..27).map(|batch| (27, batch, Some(20))).collect();
    assert_eq!(found[4..], passed);
    let first = &lines(&skipped)[0];
    assert_eq!((first.first_sample, first.last_sample), (14 * 4, 14 * 4 + 3));
    let pieces: u32 = first.documents.iter().map(|part| part.tokens).sum();
    assert_eq!(pieces, 64);
    assert!(first.documents.iter().all(|part| part.id.len() == 32));
    assert_eq!(first.spike.as_ref().unwrap().what, "loss");
    // One line a step, and one step among them was skipped.
    assert_eq!(metrics.lines().count() as u64, STEPS);
    assert_eq!(metrics.matches("\"skipped\":1.0").count(), 1);
}

#[test]
fn over_spikes_in_a_ramp_and_a_mix() {
    let (ramp, mix, spikes) = (ramp(), mix(), spikes());
    let average = Some(Average { from: 30, every: 2 });
    let recipe = Recipe { ramp, mix, spikes, average, ..recipe() };
    check(&recipe, &[31, 34, 35, 36], &[12, 19, 34, 36]);
}

#[test]
fn a_run_that_goes_back_too_often_stops() {
    let dir = tempfile::tempdir().unwrap();
    let rules = Spikes { returns: 1, ..spikes().unwrap() };
    let recipe = Recipe { spikes: Some(rules), ..recipe() };
    let leaps: Vec<u64> = (24..60).collect();
    for _ in 0..2 {
        let found = train(dir.path(), (&recipe, "dp=1", 1), &leaps, &Witness::default());
        let error = found.unwrap_err().to_string();
        assert!(error.contains("step 23") && error.contains("gone back 1 times"), "{error}");
        assert_eq!(folder::steps(&dir.path().join("checkpoints")).unwrap(), [10, 20]);
    }
}

#[test]
fn ranks_read_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let average = Some(Average { from: 30, every: 5 });
    let base = Recipe { ramp: ramp(), mix: mix(), spikes: spikes(), average, ..recipe() };
    let freeze = vec!["embedding".to_owned(), "layers.0.*".to_owned()];
    let norms = Group { parameters: vec!["layers.1.*norm*".into()], rate: 0.5, decay: Some(0.0) };
    let recipe = Recipe { freeze, groups: vec![norms], ..base };
    let of = |axes: &str| {
        let (dir, witness) = (dir.path().join(axes), Witness::default());
        train(&dir, (&recipe, axes, 1), &[34, 35, 36], &witness).unwrap();
        let records = metrics::read(&dir.join("metrics.jsonl")).unwrap();
        (std::fs::read_to_string(dir.join("skipped.jsonl")).unwrap(), records)
    };
    let (one, two) = (of("dp=1"), of("dp=2"));
    // Three steps up to step 37, then the batches since the checkpoint before the first of them: that
    // of step 35 holds what stood then.
    assert_eq!(lines(&one.0).len(), 3 + 7);
    let documents = |text: &str| lines(text).into_iter().map(|l| l.documents).collect::<Vec<_>>();
    assert_eq!(documents(&one.0), documents(&two.0));
    for (a, b) in one.1.iter().zip(&two.1) {
        assert_eq!(a.tokens, b.tokens);
        assert!((a.loss - b.loss).abs() / a.loss <= 1e-4, "step {}: {} {}", a.step, a.loss, b.loss);
        let norms = (a.grad_norm, b.grad_norm);
        assert!((norms.0 - norms.1).abs() / norms.0 <= 1e-3, "step {}: {norms:?}", a.step);
    }
}

/// All weights of a checkpoint by name.
fn weights(checkpoint: &Path) -> BTreeMap<String, Vec<f64>> {
    let device: Arc<dyn Device> = Arc::new(Cpu::new(1));
    let model = export::load(checkpoint, Arc::clone(&device), None).unwrap();
    let read = |entry: &quipu_model::Entry| {
        (entry.name.clone(), device.read_f64(&model.weight(entry).unwrap()).unwrap())
    };
    model.table().entries().iter().map(read).collect()
}

#[test]
fn the_frozen_stay_and_do_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let freeze = |names: &[&str]| Recipe {
        freeze: names.iter().map(|name| (*name).to_owned()).collect(),
        checkpoint_every: 1,
        keep_checkpoints: 50,
        ..recipe()
    };
    let of = |name: &str, recipe: &Recipe| {
        let dir = dir.path().join(name);
        train(&dir, (recipe, "dp=1", 2), &[], &Witness::default()).unwrap();
        let norm = metrics::read(&dir.join("metrics.jsonl")).unwrap()[0].grad_norm;
        let checkpoints = dir.join("checkpoints");
        (norm, [1, STEPS].map(|step| weights(&folder::path(&checkpoints, step))))
    };
    let (all, [first, last]) = of("all", &freeze(&[]));
    assert!(first.keys().all(|name| first[name] != last[name]));
    let (some, [first, last]) = of("some", &freeze(&["embedding", "layers.1.*"]));
    for name in first.keys() {
        let frozen = name.contains("embed") || name.contains("layers.1.");
        assert_eq!(first[name] == last[name], frozen, "{name}");
    }
    let rest = ["head", "model.norm.weight", "layers.0.*"];
    let (other, _) = of("rest", &freeze(&rest));
    let sum = some * some + other * other;
    assert!((sum / (all * all) - 1.0).abs() < 1e-9, "{some} {other} {all}");
}

#[test]
fn the_mean_of_checkpoints_is_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let average = Some(Average { from: 32, every: 4 });
    let recipe = Recipe { average, keep_checkpoints: 1, ..recipe() };
    let witness = Witness::default();
    let report = train(dir.path(), (&recipe, "dp=1", 2), &[], &witness).unwrap();
    let checkpoints = dir.path().join("checkpoints");
    assert_eq!(report.checkpoint, average::path(&checkpoints));
    assert_eq!(folder::steps(&checkpoints).unwrap(), [32, 36, 40]);
    let all = [32, 36, 40].map(|step| weights(&folder::path(&checkpoints, step)));
    for (name, mean) in weights(&report.checkpoint) {
        for (i, found) in mean.into_iter().enumerate() {
            let sum: f64 = all.iter().map(|weights| weights[&name][i]).sum();
            assert_eq!(found, f64::from((sum / 3.0) as f32), "{name} {i}");
        }
    }
    let facts = checkpoint::facts(&report.checkpoint).unwrap();
    assert_eq!((facts.averaged, facts.progress.step), (vec![32, 36, 40], 40));
    let last = metrics::read(&dir.path().join("metrics.jsonl")).unwrap().pop().unwrap();
    let (own, mean) = (last.validation.unwrap(), report.averaged.unwrap());
    assert_eq!(own.tokens, mean.tokens);
    assert!(own.loss != mean.loss && (own.loss - mean.loss).abs() < 0.5, "{own:?} {mean:?}");
    assert!(witness.notes.lock().unwrap().iter().any(|n| n.contains("mean of the checkpoints")));
    // Once more it is found finished, and the same.
    let bytes = || std::fs::read(report.checkpoint.join("rank-00000.chunks")).unwrap();
    let before = bytes();
    train(dir.path(), (&recipe, "dp=1", 1), &[], &Witness::default()).unwrap();
    assert!(before == bytes());
    // A checkpoint that is gone is named.
    std::fs::remove_dir_all(folder::path(&checkpoints, 36)).unwrap();
    let error = average::write(&checkpoints, &[32, 36, 40]).unwrap_err().to_string();
    assert!(error.contains("step-00000036"), "{error}");
}

/// All at once: what changes on the way, what is skipped, and the mean at the end.
fn everything() -> Recipe {
    let average = Some(Average { from: 36, every: 2 });
    let max_epochs = named(&[("code", 1.0)]);
    Recipe { ramp: ramp(), mix: mix(), max_epochs, spikes: spikes(), average, ..recipe() }
}

/// Not a test of its own: the process that the test below starts and kills.
#[test]
fn child() {
    let Ok(dir) = std::env::var("QUIPU_TEST_COURSE") else { return };
    let witness = Witness::default();
    train(Path::new(&dir), (&everything(), "dp=1", 1), &[32, 33, 34], &witness).unwrap();
}

#[test]
fn killed_anywhere_it_ends_with_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let command = |dir: &Path| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["child", "--exact"]).env("QUIPU_TEST_COURSE", dir);
        command
    };
    let everything = |dir: &Path| {
        let mean = average::path(&dir.join("checkpoints")).join("rank-00000.chunks");
        (result(dir), std::fs::read(mean).unwrap())
    };
    let whole = dir.path().join("whole");
    assert!(command(&whole).output().unwrap().status.success());
    let expected = everything(&whole);
    assert!(lines(&expected.0.2).iter().any(|line| line.back_to == Some(30)));
    let (mut draw, mut killed) = (5_u64, 0);
    for round in 0..10 {
        let parts = dir.path().join(format!("parts-{round}"));
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // A checkpoint is some 170 kB, and seven are written.
        let bytes = (draw >> 33) % 1_300_000;
        let first = command(&parts).env("QUIPU_KILL_AFTER_BYTES", bytes.to_string()).output();
        killed += u32::from(!first.unwrap().status.success());
        assert!(command(&parts).output().unwrap().status.success());
        assert!(everything(&parts) == expected, "killed after {bytes} bytes");
    }
    assert!(killed >= 7, "only {killed} of 10 were killed");
}
