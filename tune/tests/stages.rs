//! Both stages on a tiny model: what they teach, and that stops and resumes leave no trace.

#![allow(clippy::unwrap_used)]

use quipu_math::{Cpu, Device};
use quipu_mesh::Mesh;
use quipu_model::{Capacity, Config, Model, Sizes};
use quipu_store::Cancel;
use quipu_tokens::{Tokenizer, special};
use quipu_train::metrics::{self, Record};
use quipu_train::{Parallel, Recipe, Watch, folder};
use quipu_tune::dialogue::{assistant, user};
use quipu_tune::dpo::Weights;
use quipu_tune::{Dialogue, Pairs, Preference, Rows, Stage, Tuned, stage};
use std::path::Path;
use std::sync::Arc;

const LENGTH: usize = 48;

#[derive(Default)]
struct Stops {
    at: Option<u64>,
    cancel: Cancel,
}

impl Watch for Stops {
    fn step(&self, record: &Record) {
        if self.at == Some(record.step) {
            self.cancel.request();
        }
    }
}

fn tokenizer() -> Tokenizer {
    Tokenizer::from_ranks((0..=255).map(|byte| vec![byte]).collect(), special::FIXED).unwrap()
}

fn dialogues() -> Vec<Dialogue> {
    let one = |n: u8| Dialogue {
        messages: vec![
            user(format!("{}?", (b'a' + n) as char)),
            assistant(format!("{}.", (b'A' + n) as char)),
        ],
    };
    (0..26).map(one).collect()
}

fn preferences() -> Vec<Preference> {
    let one = |n: u8| Preference {
        messages: vec![user(format!("{}?", (b'a' + n) as char))],
        chosen: format!("{}.", (b'A' + n) as char),
        rejected: "?!".into(),
    };
    (0..26).map(one).collect()
}

fn device(_: usize) -> Result<Arc<dyn Device>, quipu_math::Error> {
    Ok(Arc::new(Cpu::new(2)))
}

fn open(dir: &Path) -> Model {
    let device = device(0).unwrap();
    let capacity = Capacity::frozen(&*device, 64);
    Model::open(dir, device, Mesh::one(), capacity).unwrap()
}

/// An untrained model as a Hugging Face folder.
fn base(dir: &Path) {
    let config = Config::new(Sizes {
        vocab_size: tokenizer().vocabulary(),
        hidden_size: 16,
        intermediate_size: 24,
        layers: 1,
        heads: 2,
        kv_heads: 1,
        max_positions: LENGTH,
        tied: false,
    });
    let device = device(0).unwrap();
    let capacity = Capacity::frozen(&*device, 8);
    let mut model = Model::new(device, Mesh::one(), config.unwrap(), capacity).unwrap();
    model.init(5).unwrap();
    model.save(dir).unwrap();
}

fn recipe(preference: bool) -> Recipe {
    let length = if preference { 2 * LENGTH } else { LENGTH };
    Recipe {
        sequence_length: length,
        batch_tokens: 4 * length,
        micro_batch_tokens: 2 * length,
        steps: 12,
        warm_up: 2,
        peak_lr: if preference { 5e-3 } else { 2e-2 },
        floor_lr: 1e-3,
        checkpoint_every: 4,
        ..Recipe::default()
    }
}

fn run(dir: &Path, base: &Path, stops: &Stops, preference: bool) -> Tuned {
    over("dp=1", dir, base, stops, preference)
}

/// The same over the ranks of a mesh.
fn over(mesh: &str, dir: &Path, base: &Path, stops: &Stops, preference: bool) -> Tuned {
    let tokenizer = tokenizer();
    let out = dir.join("model");
    let stage = Stage {
        dir,
        out: &out,
        base,
        tokenizer: &tokenizer,
        held_out: 0.1,
        parallel: &Parallel { check: true, ..mesh.parse().unwrap() },
        device: &device,
        watch: stops,
        cancel: &stops.cancel,
    };
    match preference {
        true => {
            let recipe = recipe(true);
            let pairs = Pairs::new(&tokenizer, &preferences(), recipe.sequence_length).unwrap();
            stage::dpo(&stage, &recipe, Weights::default(), &pairs).unwrap()
        }
        false => stage::sft(&stage, &recipe(false), &dialogues()).unwrap(),
    }
}

/// The rows of a pair lie on several ranks, and what each of its tokens weighs is known to all.
#[test]
fn a_divided_model_learns_what_one_rank_does() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    base(&at("base"));
    for preference in [false, true] {
        let curve = |mesh: &str| {
            let place = at(&format!("{mesh} {preference}"));
            over(mesh, &place, &at("base"), &Stops::default(), preference);
            let records = metrics::read(&place.join("metrics.jsonl")).unwrap();
            let validation = records.iter().filter_map(|r| Some(r.validation.as_ref()?.loss));
            let losses = records.iter().flat_map(|r| [r.loss, r.grad_norm, r.tokens as f64]);
            validation.chain(losses).collect::<Vec<f64>>()
        };
        let expected = curve("dp=1");
        let shared = ["dp=3,sharing=full", "pp=2,dp=2,sharing=full"];
        let meshes = ["cp=2", "pp=2", "pp=3", "tp=2,cp=2", "cp=2,pp=2,dp=2"];
        for mesh in meshes.into_iter().chain(shared) {
            let found = curve(mesh);
            assert_eq!(found.len(), expected.len(), "{mesh}");
            for (a, b) in found.iter().zip(&expected) {
                assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{mesh}: {found:?} {expected:?}");
            }
        }
    }
}

/// Weights, moments and metrics of the last checkpoint.
fn result(dir: &Path) -> (Vec<u8>, String) {
    let checkpoints = dir.join("checkpoints");
    let last = *folder::steps(&checkpoints).unwrap().last().unwrap();
    let chunks = folder::path(&checkpoints, last).join("rank-00000.chunks");
    (std::fs::read(chunks).unwrap(), metrics::comparable(&dir.join("metrics.jsonl")).unwrap())
}

fn row(model: &Model, name: &str, row: u32) -> Vec<f64> {
    let entry = model.table().by_name(name).unwrap();
    let view = model.weight(entry).unwrap();
    let row = row as usize;
    model.device().read_f64(&view.slice_rows(row..row + 1).unwrap()).unwrap()
}

#[test]
fn stages_teach_stop_and_resume() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    base(&at("base"));
    for (preference, whole, parts, from) in
        [(false, "sft", "sft-parts", "base"), (true, "dpo", "dpo-parts", "sft/model")]
    {
        let tuned = run(&at(whole), &at(from), &Stops::default(), preference);
        assert!(tuned.report.finished && tuned.used >= 20 && tuned.too_long == 0);
        let stops = Stops { at: Some(6), ..Stops::default() };
        let stopped = run(&at(parts), &at(from), &stops, preference);
        assert!(!stopped.report.finished && !at(parts).join("model").exists());
        run(&at(parts), &at(from), &Stops::default(), preference);
        assert!(result(&at(whole)) == result(&at(parts)), "{whole}");
        let records = metrics::read(&at(whole).join("metrics.jsonl")).unwrap();
        let (first, last) = (&records[0], &records[11]);
        assert!(last.loss < 0.9 * first.loss, "{whole}: {} {}", first.loss, last.loss);
        assert!(last.validation.is_some());
        if preference {
            assert!((first.more["preference"] - std::f64::consts::LN_2).abs() < 1e-6);
            assert!(last.more["margin"] > 1.0 && last.more["accuracy"] == 1.0);
        }
    }
    // The end of a turn was never seen before the dialogues: both its rows must have moved.
    let (before, after) = (open(&at("base")), open(&at("sft/model")));
    let end = tokenizer().required(special::END_OF_TURN).unwrap();
    for name in ["lm_head.weight", "model.embed_tokens.weight"] {
        let id = match name {
            "lm_head.weight" => end,
            _ => tokenizer().required(special::END_HEADER).unwrap(),
        };
        let moved = row(&before, name, id).into_iter().zip(row(&after, name, id));
        assert!(moved.fold(0.0f64, |m, (a, b)| m.max((a - b).abs())) > 1e-3, "{name}");
    }
    assert!(at("sft/model").join("tokenizer.json").is_file());
}

#[test]
fn rows_hold_whole_dialogues_and_only_answers_count() {
    let tokenizer = tokenizer();
    let mut all = dialogues();
    all.push(Dialogue { messages: vec![user("x".repeat(60)), assistant("y")] });
    let rows = Rows::new(&tokenizer, &all, LENGTH, 1).unwrap();
    assert_eq!((rows.dialogues, rows.too_long), (26, 1));
    let end = tokenizer.required(special::END_OF_TURN).unwrap();
    let (mut targets, mut ends, mut starts) = (0, 0, 0);
    for index in 0..rows.len() {
        let row = quipu_train::Samples::sample(&rows, index).unwrap();
        assert_eq!(row.tokens.len(), LENGTH);
        for t in 0..LENGTH {
            assert_eq!(row.positions[t] + row.starts[t], t as u32, "{row:?}");
            if row.weights[t] > 0.0 {
                targets += 1;
                ends += u64::from(row.targets[t] == end);
                starts += u64::from(row.targets[t].is_ascii_uppercase_id());
            }
        }
    }
    // A letter, a full stop and the end of the turn carry loss in each.
    assert_eq!((targets, ends, starts, rows.targets), (3 * 26, 26, 26, 3 * 26));
    let none = Rows::new(&tokenizer, &all, 4, 1).unwrap_err().to_string();
    assert!(none.contains("none of 27") && none.contains("sequence_length"), "{none}");
}

trait Letter {
    fn is_ascii_uppercase_id(&self) -> bool;
}

impl Letter for u32 {
    /// Ids of single bytes are those bytes in the tokenizer above.
    fn is_ascii_uppercase_id(&self) -> bool {
        u8::try_from(*self).is_ok_and(|byte| byte.is_ascii_uppercase())
    }
}

#[test]
fn pairs_that_differ_only_in_form_are_dropped() {
    let tokenizer = tokenizer();
    let mut pairs = preferences();
    let same = pairs[0].chosen.clone();
    pairs.push(Preference { rejected: format!(" {same} "), ..pairs[0].clone() });
    pairs.push(Preference { rejected: "z".repeat(100), ..pairs[0].clone() });
    let made = quipu_tune::Pairs::new(&tokenizer, &pairs, 2 * LENGTH).unwrap();
    assert_eq!((made.len(), made.same, made.too_long), (26, 1, 1));
    let error = quipu_tune::Pairs::new(&tokenizer, &pairs[26..27], 96).unwrap_err().to_string();
    assert!(error.contains("1 are equal but for their form"), "{error}");
}
