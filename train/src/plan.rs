//! What a run will need, before it begins: parameters, bytes by kind, work, steps and tokens (the
//! paper's memory estimator, section 3.3.2). Not a formula: the trainer's own construction and one
//! of its steps run on the `count` device, which holds no memory and does no arithmetic, so that
//! what is said here and what is allocated later cannot come apart. Not a schedule over machines.
//!
//! On one rank the step is one of a single micro-batch, the largest of the run: further ones use the
//! same memory again; a validation after it is rehearsed as well. On a mesh it is a whole step, of one
//! rank by itself (`mesh::Alone`): of each rank of a small mesh, of one of each place in the pipeline
//! of a large one, whatever the number of ranks. What kernels work in is what the device's
//! own kernels would take on as many threads. Beside it stands what the trainer holds outside the
//! device: batches, and the pages of token files that are mapped. Not counted are the program itself
//! with its tokenizer, and what ranks of one process hand each other.

use crate::metrics::Validation;
use crate::objective::{
    Batch, Held, NextToken, Objective, Outcome, Packed, Samples, check_length, micro_batches,
    shares,
};
use crate::ramp::Level;
use crate::step::{Learner, Place};
use crate::watch::Outside;
use crate::{Error, Parallel, Recipe, checkpoint};
use quipu_math::{Count, Device, Usage};
use quipu_mesh::{Alone, Axis, Mesh, USES};
use quipu_model::{Config, MemoryUse, Model, Pipeline, Table, Weighted};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is held only while the first weights are drawn or a checkpoint is written, one parameter at
/// a time.
const PASSING: &str = "drawing weights";
/// What kernels work in.
const WORKING: &str = "kernels";
/// Token ids, targets, weights and the like, in the memory of the host.
const BATCHES: &str = "batches";
/// In host memory, on their way between ranks.
const MESSAGES: &str = "messages";
/// In host memory, from which a checkpoint is written while the run goes on.
const SAVED: &str = "checkpoint copy";
/// Token files, as far as they are resident.
const PAGES: &str = "token pages";

/// Of a token of a micro-batch in the memory of the host: the two numbers of which its
/// log-probability is made.
const RESULTS: usize = 20;

/// What a run will need.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Parameters of the model.
    pub parameters: usize,
    /// Ranks.
    pub ranks: usize,
    /// Bytes by kind, of all ranks together.
    pub memory: Vec<Kind>,
    /// The most that is held at once: the sum of the kinds.
    pub total_bytes: u64,
    /// Where there are several ranks, one of each place in the pipeline.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Stage>,
    /// One step, as it was counted: of a single micro-batch on one rank, on a mesh the first rank's.
    pub step: Counted,
    /// Floating-point operations of a token, by the convention of [`crate::bench::flop_per_token`].
    pub flop_per_token: f64,
    /// Steps of the run.
    pub steps: u64,
    /// Tokens of the run.
    pub tokens: u64,
    /// How the run divides into sizes of batches and sequences.
    pub levels: Vec<Stretch>,
}

/// Bytes of one kind of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Kind {
    /// What it is for.
    pub kind: &'static str,
    /// Bytes.
    pub bytes: u64,
}

/// What the ranks at one place of a pipeline are: each of them alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// Place in the pipeline, from 0.
    pub place: usize,
    /// Layers.
    pub layers: usize,
    /// Micro-batches of the largest step.
    pub micro_batches: usize,
    /// Of them and their chunks, how many live at once.
    pub live: usize,
    /// Bytes of one rank, by kind.
    pub memory: Vec<Kind>,
    /// Their sum.
    pub total_bytes: u64,
    /// Floating-point operations of a rank in the largest step.
    pub flop: u64,
    /// What it sends in that step.
    pub sent: Vec<Sent>,
}

/// Bytes that a rank sends for one purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// The purpose, by its name in `mesh`'s table.
    pub what: &'static str,
    /// Bytes.
    pub bytes: u64,
}

/// What the device counted of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// Tokens of its micro-batch.
    pub tokens: usize,
    /// Ops.
    pub ops: u64,
    /// Their floating-point operations, those of small ops and of the optimizer too.
    pub flop: u64,
}

/// Steps of equal sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Stretch {
    /// The first of them, counted from 1.
    pub first_step: u64,
    /// How many; 0 for a level that the run ends before.
    pub steps: u64,
    /// Their tokens.
    pub tokens: u64,
    /// The sizes.
    #[serde(flatten)]
    pub level: Level,
}

impl Plan {
    /// Of a run of `recipe` on the ranks of `parallel`, each with `threads` threads of this machine.
    ///
    /// # Errors
    /// What no run can use, as [`crate::run`] says it.
    pub fn new(
        config: &Config,
        recipe: &Recipe,
        parallel: &Parallel,
        threads: usize,
    ) -> Result<Self, Error> {
        recipe.check()?;
        parallel.check(config)?;
        recipe.check_patterns(&Table::new(config))?;
        check_length(recipe.longest_sequence(), config)?;
        let mut stages: Vec<Stage> = Vec::new();
        let (mut memory, mut step): (Vec<Kind>, _) = (Vec::new(), None);
        for (rank, stands_for) in representatives(parallel) {
            let mesh = Mesh::new(parallel.axes, rank, Arc::new(Alone::default()))?;
            let mesh = parallel.mesh(&mesh)?;
            let found = rehearse(&mesh, (config, recipe, &parallel.pipeline), threads)?;
            add(&mut memory, &found.memory, stands_for);
            step.get_or_insert(found.step);
            // the first rank of each place in the pipeline is shown
            if parallel.axes.world() > 1 && stages.len() == mesh.at(Axis::Pp) {
                stages.push(found.stage);
            }
        }
        add(&mut memory, &[Kind { kind: PAGES, bytes: token_pages(config, recipe) }], 1);
        Ok(Self {
            parameters: Table::new(config).parameters(),
            ranks: parallel.axes.world(),
            total_bytes: memory.iter().map(|row| row.bytes).sum(),
            memory,
            stages,
            step: step.unwrap_or_default(),
            flop_per_token: recipe.flop_per_token(config),
            steps: recipe.steps,
            tokens: recipe.total_tokens(),
            levels: recipe.stretches(),
        })
    }

    /// The plan of steps of which no checkpoint is written.
    #[must_use]
    pub fn unsaved(mut self) -> Self {
        self.memory.retain(|row| row.kind != SAVED);
        self.total_bytes = self.memory.iter().map(|row| row.bytes).sum();
        self
    }

    /// Floating-point operations of the run, by the same convention.
    #[must_use]
    pub fn flop(&self) -> f64 {
        self.flop_per_token * self.tokens as f64
    }

    /// Seconds of the run on a machine that does so many floating-point operations in one; without
    /// validation and checkpoints.
    #[must_use]
    pub fn seconds(&self, flop_per_s: f64) -> f64 {
        self.flop() / flop_per_s
    }
}

/// More ranks than so many are not gone through one by one.
const EACH: usize = 64;

/// The ranks that are gone through, with how many others each stands for: all of a small mesh; of a
/// large one, one of each place in the pipeline, whose parts are not the smaller ones where they do
/// not divide.
fn representatives(parallel: &Parallel) -> Vec<(usize, u64)> {
    let (axes, world) = (parallel.axes, parallel.axes.world());
    if world <= EACH {
        return (0..world).map(|rank| (rank, 1)).collect();
    }
    let places = axes.size(Axis::Pp);
    let last = axes.size(Axis::Tp) - 1;
    (0..places).map(|place| (axes.rank([last, 0, place, 0]), (world / places) as u64)).collect()
}

fn add(memory: &mut Vec<Kind>, more: &[Kind], times: u64) {
    for Kind { kind, bytes } in more {
        let bytes = bytes * times;
        match memory.iter_mut().find(|row| row.kind == *kind) {
            Some(row) => row.bytes += bytes,
            None => memory.push(Kind { kind, bytes }),
        }
    }
}

/// One rank on the `count` device.
struct Rank {
    memory: Vec<Kind>,
    step: Counted,
    stage: Stage,
}

fn rehearse(
    mesh: &Mesh,
    (config, recipe, pipeline): (&Config, &Recipe, &Pipeline),
    threads: usize,
) -> Result<Rank, Error> {
    let device = Arc::new(Count::beside(threads));
    let (alone, ranks) = (mesh.axes().world() == 1, mesh.axes().size(Axis::Dp));
    let shape = (config, pipeline);
    let mut learner = Learner::allocate(device.clone(), mesh.clone(), shape, recipe, false)?;
    learner.init(recipe.seed)?;
    let largest = largest_step(recipe, alone);
    let step = count(&device, &mut learner, &largest)?;
    let Usage { live, peak, working, .. } = device.usage();
    let of = |MemoryUse { kind, bytes }| Kind { kind, bytes: bytes as u64 };
    let mut memory: Vec<Kind> = learner.memory().into_iter().map(of).collect();
    memory.push(Kind { kind: WORKING, bytes: working });
    memory.push(Kind { kind: BATCHES, bytes: batches(recipe, ranks) });
    memory.push(Kind { kind: MESSAGES, bytes: mesh.held() });
    memory.push(Kind { kind: SAVED, bytes: checkpoint::copied_bytes(&learner) as u64 });
    memory.push(Kind { kind: PASSING, bytes: peak - live });
    memory.retain(|row| row.bytes > 0);
    let sent = mesh
        .traffic()
        .into_iter()
        .map(|(usage, traffic)| Sent { what: USES[usage as usize].1, bytes: traffic.sent });
    let stage = Stage {
        place: mesh.at(Axis::Pp),
        layers: learner.model.shard().layers().count(),
        micro_batches: shares(&largest, mesh, 0).len(),
        live: learner.model.capacity().slots,
        total_bytes: memory.iter().map(|row| row.bytes).sum(),
        memory: memory.clone(),
        flop: step.flop,
        sent: sent.filter(|sent| sent.bytes > 0).collect(),
    };
    Ok(Rank { memory, step, stage })
}

/// A batch of one rank as the loader gives it, all of it, since its targets are counted first; and
/// what goes to the device and comes back of a micro-batch.
fn batches(recipe: &Recipe, ranks: usize) -> u64 {
    let levels = recipe.ramp.iter().map(|level| level.batch_tokens);
    let largest = levels.fold(recipe.batch_tokens, usize::max) / ranks;
    (largest * Batch::TOKEN_BYTES + recipe.largest_micro_batch() * RESULTS) as u64
}

/// No more pages than the run's tokens lie on, nor than the loader keeps.
fn token_pages(config: &Config, recipe: &Recipe) -> u64 {
    let width = quipu_tokens::shard::width(config.vocab_size) as u64;
    recipe.total_tokens().saturating_mul(width).min(quipu_tokens::loader::RESIDENT)
}

/// A step.
fn count(device: &Count, learner: &mut Learner, recipe: &Recipe) -> Result<Counted, Error> {
    let before = device.usage();
    let samples = Blank { length: recipe.sequence_length };
    let objective = NextToken { samples: &samples, validation: None, token_bytes: None };
    let place = Place::after(0);
    let alone = learner.model.mesh().axes().world() == 1;
    let learned: &dyn Objective = if alone { &objective } else { &Without(&samples) };
    let norm = learner.gradient(learned, recipe, place)?.norm;
    learner.update(recipe, place, norm)?;
    let after = device.usage();
    let held = Held { samples: &samples, count: 1, length: recipe.sequence_length };
    let held_out = NextToken { validation: Some(held), ..objective };
    if alone {
        held_out.validate(&mut learner.model, &Mesh::one(), recipe)?;
    }
    Ok(Counted {
        tokens: recipe.micro_batch_tokens,
        ops: after.ops - before.ops,
        flop: after.cost.flops - before.cost.flops,
    })
}

/// The next token as one rank of several learns it, without asking the others how many tokens they
/// have: a rank of an early stage has none to count.
struct Without<'a>(&'a Blank);

impl Objective for Without<'_> {
    fn accumulate(
        &self,
        model: &mut Model,
        mesh: &Mesh,
        recipe: &Recipe,
        batch: u64,
    ) -> Result<Outcome, Error> {
        let batches = micro_batches(self.0, (recipe, mesh), batch)?;
        let of = |batch| Weighted { batch: Batch::view(batch), weights: &batch.weights };
        model.learn(&batches.iter().map(of).collect::<Vec<_>>())?;
        Ok(Outcome { loss: 0.0, tokens: 1, ..Outcome::default() })
    }

    fn validate(&self, _: &mut Model, _: &Mesh, _: &Recipe) -> Result<Option<Validation>, Error> {
        Ok(None)
    }

    fn identity(&self) -> String {
        self.0.identity()
    }
}

/// The recipe of the largest sizes of a run alone, with nothing but one micro-batch in a step where
/// one rank has them all: they repeat each other.
pub(crate) fn largest_step(recipe: &Recipe, alone: bool) -> Recipe {
    let levels = recipe.ramp.iter().copied().chain([recipe.first_level()]);
    let key = |level: &Level| (level.micro_batch_tokens, level.sequence_length, level.batch_tokens);
    let level = levels.max_by_key(key).unwrap_or(recipe.first_level());
    Recipe {
        sequence_length: level.sequence_length,
        batch_tokens: if alone { level.micro_batch_tokens } else { level.batch_tokens },
        micro_batch_tokens: level.micro_batch_tokens,
        ramp: Vec::new(),
        mix: Vec::new(),
        max_epochs: BTreeMap::new(),
        ..recipe.clone()
    }
}

/// Samples of one document, for a device that looks at no token.
pub(crate) struct Blank {
    /// Tokens of each.
    pub length: usize,
}

impl Samples for Blank {
    fn sample(&self, _: u64) -> Result<Packed, Outside> {
        let length = self.length;
        Ok(Packed {
            tokens: vec![0; length],
            targets: vec![0; length],
            positions: (0..length as u32).collect(),
            starts: vec![0; length],
            weights: vec![1.0; length],
            pieces: Vec::new(),
        })
    }

    fn identity(&self) -> String {
        "blank".into()
    }
}

impl Recipe {
    /// Floating-point operations of a token: the mean over the run's, since longer sequences take
    /// more for each.
    #[must_use]
    pub fn flop_per_token(&self, config: &Config) -> f64 {
        let all = self.total_tokens().max(1) as f64;
        let of = |stretch: &Stretch| {
            let length = stretch.level.sequence_length;
            stretch.tokens as f64 / all * crate::bench::flop_per_token(config, length)
        };
        self.stretches().iter().map(of).sum()
    }

    /// The levels as far as the run goes through them.
    #[must_use]
    pub fn stretches(&self) -> Vec<Stretch> {
        let (levels, end) = (self.levels(), self.portion(self.steps));
        let of = |i: usize| {
            let (first, next) = (levels[i], levels.get(i + 1));
            let to = next.map_or(end, |next| if next.batch < end.batch { *next } else { end });
            Stretch {
                first_step: first.batch + 1,
                steps: to.batch.saturating_sub(first.batch),
                tokens: to.tokens_before.saturating_sub(first.tokens_before),
                level: first.level,
            }
        };
        (0..levels.len()).map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Dtype;
    use quipu_math::Cpu;
    use quipu_model::{Recompute, Sizes};

    fn small(tied: bool) -> Config {
        Config::new(Sizes {
            vocab_size: 300,
            hidden_size: 64,
            intermediate_size: 96,
            layers: 3,
            heads: 4,
            kv_heads: 2,
            max_positions: 64,
            tied,
        })
        .unwrap()
    }

    fn recipe(dtype: Dtype) -> Recipe {
        let level = Level {
            after_tokens: 100,
            sequence_length: 64,
            batch_tokens: 256,
            micro_batch_tokens: 128,
        };
        Recipe {
            dtype,
            sequence_length: 32,
            batch_tokens: 64,
            micro_batch_tokens: 32,
            steps: 5,
            warm_up: 1,
            ramp: vec![level],
            ..Recipe::default()
        }
    }

    fn bytes(plan: &Plan, kind: &str) -> u64 {
        plan.memory.iter().find(|row| row.kind == kind).map_or(0, |row| row.bytes)
    }

    /// A plan, held against what a step of the trainer makes `device` hold.
    #[track_caller]
    fn check(device: Arc<dyn Device>, tied: bool, dtype: Dtype) -> Plan {
        let (config, recipe) = (small(tied), largest_step(&recipe(dtype), true));
        let plan = Plan::new(&config, &recipe, &Parallel::default(), 1).unwrap();
        let mut learner = Learner::allocate(
            device.clone(),
            Mesh::one(),
            (&config, &Pipeline::default()),
            &recipe,
            false,
        )
        .unwrap();
        let held: u64 = learner.memory().iter().map(|row| row.bytes as u64).sum();
        assert_eq!(held, device.usage().live, "{:?}", learner.memory());
        learner.init(1).unwrap();
        let samples = Blank { length: recipe.sequence_length };
        let objective = NextToken { samples: &samples, validation: None, token_bytes: None };
        learner.step(&objective, &recipe, 0).unwrap();
        let outside =
            [BATCHES, MESSAGES, SAVED, PAGES].map(|kind| bytes(&plan, kind)).iter().sum::<u64>();
        let Usage { peak, working, .. } = device.usage();
        assert_eq!((bytes(&plan, WORKING), plan.total_bytes - outside), (working, peak + working));
        assert_eq!(plan.total_bytes, plan.memory.iter().map(|row| row.bytes).sum::<u64>());
        plan
    }

    #[test]
    fn what_is_planned_is_what_is_held() {
        for tied in [true, false] {
            check(Arc::new(Count::beside(1)), tied, Dtype::F32);
            check(Arc::new(Count::beside(1)), tied, Dtype::Bf16);
            check(Arc::new(Cpu::new(1)), tied, Dtype::Bf16);
            let plan = check(Arc::new(Cpu::new(1)), tied, Dtype::F32);
            assert_eq!(plan.parameters, Table::new(&small(tied)).parameters());
        }
    }

    #[test]
    fn kinds_are_those_of_the_precision() {
        let of = |dtype| check(Arc::new(Count::beside(1)), false, dtype).memory;
        let bytes = |rows: &[Kind], kind| rows.iter().find(|r| r.kind == kind).map(|r| r.bytes);
        let (narrow, wide) = (of(Dtype::Bf16), of(Dtype::F32));
        let all = Table::new(&small(false)).elements() as u64;
        assert_eq!(bytes(&narrow, "weights"), Some(2 * all));
        assert_eq!(bytes(&wide, "weights"), Some(4 * all));
        // With one precision the working weights are the master weights.
        assert_eq!(bytes(&narrow, "master weights"), Some(4 * all));
        assert_eq!(bytes(&wide, "master weights"), None);
        for rows in [&narrow, &wide] {
            for kind in ["gradients", "first moments", "second moments"] {
                assert_eq!(bytes(rows, kind), Some(4 * all), "{kind}");
            }
        }
        assert!(bytes(&narrow, "packed weights") > Some(0));
    }

    #[test]
    fn ranks_share_the_optimizer_and_nothing_else() {
        let of = |axes| {
            let parallel: Parallel = str::parse(axes).unwrap();
            Plan::new(&small(false), &recipe(Dtype::F32), &parallel, 1).unwrap()
        };
        let (one, two) = (of("dp=1"), of("dp=2"));
        let kinds = [("gradients", 2), ("activations", 2), ("first moments", 1), (WORKING, 2)];
        for (kind, times) in kinds {
            assert_eq!(bytes(&two, kind), times * bytes(&one, kind), "{kind}");
        }
        assert_eq!((one.step.tokens, two.ranks), (two.step.tokens, 2));
        assert!(two.step.flop < one.step.flop, "half of the optimizer's work");
    }

    /// The paper's table 4: what the formulas of section 7.2 of its summary say of weights and
    /// gradients, in seconds, on any machine.
    #[test]
    fn the_405b_on_16384_ranks() {
        let config = Config::new(Sizes {
            vocab_size: 128_256,
            hidden_size: 16_384,
            intermediate_size: 53_248,
            layers: 126,
            heads: 128,
            kv_heads: 8,
            max_positions: 131_072,
            tied: false,
        })
        .unwrap();
        for (mesh, length) in
            [("tp=8,pp=16,v=8,dp=128", 8_192), ("tp=8,cp=16,pp=16,v=8,dp=8", 131_072)]
        {
            let recipe = Recipe {
                dtype: Dtype::Bf16,
                sequence_length: length,
                batch_tokens: 1 << 24,
                micro_batch_tokens: length,
                ..Recipe::default()
            };
            let plan = Plan::new(&config, &recipe, &mesh.parse().unwrap(), 1).unwrap();
            assert_eq!((plan.ranks, plan.stages.len()), (16_384, 16));
            let bytes = |stage: &Stage, kind| {
                stage.memory.iter().find(|row| row.kind == kind).map_or(0, |row| row.bytes)
            };
            // eight layers, of some 3.2B parameters each over eight ranks
            let middle = &plan.stages[8];
            assert_eq!((middle.layers, middle.micro_batches), (8, 16));
            let layer: u64 = 2 * 16_384 * 16_384 + 2 * 16_384 * 1_024 + 3 * 16_384 * 53_248;
            let own = layer as f64;
            assert!((bytes(middle, "weights") as f64 / (2.0 * own) - 1.0).abs() < 1e-3);
            assert!((bytes(middle, "gradients") as f64 / (4.0 * own) - 1.0).abs() < 1e-3);
            // Adam's moments and the master weights, over CP · DP = 128 ranks
            let states = ["master weights", "first moments", "second moments"];
            let states: u64 = states.iter().map(|kind| bytes(middle, kind)).sum();
            assert!((states as f64 / (12.0 * own / 128.0) - 1.0).abs() < 1e-3);
            assert_eq!(plan.stages.iter().map(|stage| stage.layers).sum::<usize>(), 126);
            assert!(middle.sent.iter().any(|sent| sent.what == "stages"));
        }
    }

    #[test]
    fn recomputation_takes_less_memory_and_counts_as_no_work() {
        let of = |recompute| {
            let recipe = Recipe { recompute, ..recipe(Dtype::Bf16) };
            Plan::new(&small(false), &recipe, &Parallel::default(), 1).unwrap()
        };
        let ways = [Recompute::None, Recompute::Elementwise, Recompute::Block].map(of);
        for (more, less) in [(&ways[0], &ways[1]), (&ways[1], &ways[2])] {
            assert!(bytes(more, "activations") > bytes(less, "activations"));
            assert!(more.total_bytes > less.total_bytes);
            assert!(more.step.flop < less.step.flop, "the device does it all the same");
            assert_eq!(more.flop_per_token, less.flop_per_token);
        }
    }

    #[test]
    fn levels_end_where_the_run_does() {
        let check = |steps, expected: &[(u64, u64, u64)]| {
            let found = Recipe { steps, ..recipe(Dtype::F32) }.stretches();
            let found = found.iter().map(|s| (s.first_step, s.steps, s.tokens));
            assert_eq!(found.collect::<Vec<_>>(), expected);
        };
        check(5, &[(1, 2, 128), (3, 3, 768)]);
        check(2, &[(1, 2, 128), (3, 0, 0)]);
        check(1, &[(1, 1, 64), (3, 0, 0)]);
    }

    #[test]
    fn work_is_the_mean_over_tokens() {
        let recipe = recipe(Dtype::F32);
        let of = |length| crate::bench::flop_per_token(&small(true), length);
        let expected = (128.0 * of(32) + 768.0 * of(64)) / 896.0;
        let found = recipe.flop_per_token(&small(true));
        assert!((found / expected - 1.0).abs() < 1e-12, "{found} {expected}");
    }

    #[test]
    fn what_no_run_can_use_is_refused() {
        let long = Recipe {
            ramp: vec![Level { sequence_length: 128, ..recipe(Dtype::F32).ramp[0] }],
            ..recipe(Dtype::F32)
        };
        let check = |recipe: &Recipe, parallel: &str, expected: &str| {
            let parallel: Parallel = parallel.parse().unwrap();
            let error = Plan::new(&small(true), recipe, &parallel, 1).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&long, "", "the model has 64 positions");
        check(&recipe(Dtype::F32), "tp=3", "tp must divide the model's 4 heads");
    }
}
