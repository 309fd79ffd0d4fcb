//! The model, the data and the ranks of these tests, and what a run on them gives.

use crate::bytes::{self, Sizes};
use quipu_math::{DType, Device};
use quipu_mesh::{Mesh, Traffic, USES, Use, launch};
use quipu_model::{Config, Entry, Recompute, Table};
use quipu_train::objective::{NextToken, Packed, Samples};
use quipu_train::optimizer::State;
use quipu_train::recipe::Dtype;
use quipu_train::step::Place;
use quipu_train::watch::Outside;
use quipu_train::{Error, Learner, Parallel, Recipe};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

const LENGTH: usize = 64;
const VOCABULARY: usize = 256;

/// Samples of documents of unequal lengths, of whose tokens not all count.
pub struct Documents;

impl Samples for Documents {
    fn sample(&self, index: u64) -> Result<Packed, Outside> {
        let mut packed = Packed::default();
        let mut state = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d;
        let mut below = |limit: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % limit
        };
        while packed.tokens.len() < LENGTH {
            let start = packed.tokens.len();
            // one sample of three is a single document
            let length = if index.is_multiple_of(3) { LENGTH } else { 1 + below(40) as usize };
            let mut token = below(VOCABULARY as u64) as u32;
            for place in 0..length.min(LENGTH - start) {
                let next = (token * 5 + below(3) as u32) % VOCABULARY as u32;
                packed.tokens.push(token);
                packed.targets.push(next);
                packed.positions.push(place as u32);
                packed.starts.push(start as u32);
                // the later a sample, the more of it counts
                packed.weights.push(if below(4) < 1 + index % 4 { 1.0 } else { 0.0 });
                token = next;
            }
        }
        Ok(packed)
    }

    fn identity(&self) -> String {
        "documents".into()
    }
}

/// The debug model of these tests.
pub fn config(tied: bool) -> Config {
    Config::new(quipu_model::Sizes {
        vocab_size: VOCABULARY,
        hidden_size: 32,
        intermediate_size: 96,
        layers: 14,
        heads: 4,
        kv_heads: 2,
        max_positions: LENGTH,
        tied,
    })
    .unwrap()
}

/// Six query heads over three key-value heads: ranks of a tensor axis of two both need the middle one.
pub fn uneven(tied: bool) -> Config {
    let mut config = config(tied);
    (config.heads, config.kv_heads, config.head_dim) = (6, 3, 8);
    config
}

/// What is run.
#[derive(Clone, Copy)]
pub struct Case {
    pub config: fn(bool) -> Config,
    pub tied: bool,
    pub steps: u64,
    /// Samples of a step, and of a micro-batch.
    pub batch: (usize, usize),
    pub dtype: Dtype,
    pub recompute: Recompute,
    pub rate: f64,
    pub device: fn() -> Arc<dyn Device>,
}

/// What it gives: tensors by name, whole.
#[derive(Debug, Default)]
pub struct Outcome {
    pub losses: Vec<f64>,
    pub norms: Vec<f64>,
    pub gradients: BTreeMap<String, Vec<f64>>,
    pub parameters: BTreeMap<String, Vec<f64>>,
    /// What went over several ranks, by any of them.
    pub used: BTreeSet<&'static str>,
}

/// A rank's part of a parameter: elements of the whole, and their numbers.
type Piece = (usize, Vec<usize>, Vec<f64>);

impl Case {
    pub fn recipe(&self) -> Recipe {
        let (samples, micro) = self.batch;
        Recipe {
            seed: 3,
            dtype: self.dtype,
            recompute: self.recompute,
            peak_lr: self.rate,
            floor_lr: self.rate / 10.0,
            sequence_length: LENGTH,
            batch_tokens: samples * LENGTH,
            micro_batch_tokens: micro * LENGTH,
            steps: self.steps,
            warm_up: 0,
            ..Recipe::default()
        }
    }

    /// Runs it on a mesh.
    pub fn run(&self, mesh: &str) -> Outcome {
        let parallel: Parallel = mesh.parse().unwrap();
        let work = |mesh: Mesh| self.rank(mesh, &parallel);
        let ranks = launch(parallel.axes, work).unwrap_or_else(|e| panic!("{mesh}: {e}"));
        let table = Table::new(&(self.config)(self.tied));
        let mut all = Outcome::default();
        for (i, rank) in ranks.into_iter().enumerate() {
            if i == 0 {
                (all.losses, all.norms) = (rank.losses, rank.norms);
            } else {
                assert_eq!((&all.losses, &all.norms), (&rank.losses, &rank.norms), "{mesh}");
            }
            all.used.extend(rank.used);
            place(&table, &mut all.gradients, rank.gradients);
            place(&table, &mut all.parameters, rank.parameters);
        }
        for tensors in [&all.gradients, &all.parameters] {
            let whole = tensors.values().all(|values| values.iter().all(|x| !x.is_nan()));
            assert!(whole && tensors.len() == table.entries().len(), "{mesh}: parts are missing");
        }
        all
    }

    /// One rank of it.
    pub fn rank(&self, mesh: Mesh, parallel: &Parallel) -> Result<Rank, Error> {
        let mesh = parallel.mesh(&mesh)?;
        let (device, recipe) = ((self.device)(), self.recipe());
        let config = (self.config)(self.tied);
        let shape = (&config, &parallel.pipeline);
        let mut learner = Learner::allocate(device.clone(), mesh.clone(), shape, &recipe, false)?;
        learner.init(recipe.seed)?;
        let objective = NextToken { samples: &Documents, validation: None, token_bytes: None };
        let mut rank = Rank { number: mesh.rank(), ..Rank::default() };
        for step in 0..self.steps {
            let place = Place::after(step);
            let seen = learner.gradient(&objective, &recipe, place)?;
            rank.losses.push(seen.outcome.loss);
            rank.norms.push(seen.norm);
            if step == 0 {
                let kept = learner.model.own_gradients()?;
                let buckets = learner.optimizer.division().buckets();
                rank.gradients = pieces(&learner, |bucket, flat| {
                    let start = buckets[bucket].own.start;
                    let own = kept[bucket].slice_cols(flat.start - start..flat.end - start);
                    device.read_f64(&own.unwrap()).unwrap()
                });
            }
            learner.update(&recipe, place, seen.norm)?;
            if step == 0 {
                rank.used = self.check_bytes(&mesh, &learner, &recipe);
            }
            learner.check_copies()?;
        }
        let optimizer = &learner.optimizer;
        rank.parameters = pieces(&learner, |_, range| {
            let bytes = optimizer.read(State::Master, range).unwrap();
            match optimizer.dtype() {
                DType::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
                _ => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b).into()).collect(),
            }
        });
        Ok(rank)
    }
}

impl Case {
    /// Holds what a rank has sent in its first step against the formulas, and says by which uses.
    fn check_bytes(
        &self,
        mesh: &Mesh,
        learner: &Learner,
        recipe: &Recipe,
    ) -> BTreeSet<&'static str> {
        let (model, precision) = (&learner.model, learner.model.precision());
        let sizes = Sizes {
            message: precision.activations.size() as u64,
            sum: precision.sums.size() as u64,
            weight: precision.weights.size() as u64,
        };
        let of = (model.config(), model.shard());
        let expected = bytes::expected(mesh, of, (recipe, model.pipeline().kind), sizes);
        let mut used = BTreeSet::new();
        let mut found = BTreeMap::new();
        for (usage, traffic) in mesh.traffic() {
            let sum = found.entry(usage).or_insert_with(Traffic::default);
            *sum = *sum + traffic;
        }
        for (usage, traffic) in found {
            // counts and norms go as single numbers
            let numbers = matches!(usage, Use::Losses | Use::Norm | Use::World);
            let wanted = expected.get(&usage).copied().unwrap_or(0);
            let name = USES[usage as usize].1;
            assert!(numbers || traffic.sent == wanted, "{mesh:?}, {name}: {traffic:?}, {wanted}");
            if traffic.calls > 0 {
                used.insert(name);
            }
        }
        used
    }
}

/// What one rank finds.
#[derive(Debug, Default)]
pub struct Rank {
    pub number: usize,
    used: BTreeSet<&'static str>,
    losses: Vec<f64>,
    norms: Vec<f64>,
    gradients: Vec<Piece>,
    parameters: Vec<Piece>,
}

/// What of each parameter this rank keeps, as far as it is the one that counts it: `read` gets the
/// bucket and elements of the flat range.
fn pieces(learner: &Learner, read: impl Fn(usize, Range<usize>) -> Vec<f64>) -> Vec<Piece> {
    let (optimizer, entries) = (&learner.optimizer, learner.model.table().entries());
    let own = |entry: &Entry| {
        let (bucket, flat) = optimizer.division().own(entry)?;
        let at = flat.clone().map(|i| entry.place(i - entry.offset)).collect();
        Some((entry.index, at, read(bucket, flat)))
    };
    let counted = entries.iter().filter(|entry| entry.counted && optimizer.writes());
    counted.filter_map(own).collect()
}

fn place(table: &Table, tensors: &mut BTreeMap<String, Vec<f64>>, pieces: Vec<Piece>) {
    for (index, at, values) in pieces {
        let entry = &table.entries()[index];
        let whole =
            tensors.entry(entry.name.clone()).or_insert_with(|| vec![f64::NAN; entry.elements()]);
        for (at, value) in at.into_iter().zip(values) {
            assert!(whole[at].is_nan(), "element {at} of {} is on two ranks", entry.name);
            whole[at] = value;
        }
    }
}

/// Of each tensor, the largest difference over the largest magnitude.
pub fn largest<'a>(
    found: &'a BTreeMap<String, Vec<f64>>,
    expected: &'a BTreeMap<String, Vec<f64>>,
) -> impl Iterator<Item = (&'a str, f64)> {
    found.iter().map(|(name, values)| {
        let other = &expected[name];
        let magnitude = other.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
        let off = values.iter().zip(other).fold(0.0, |most: f64, (a, b)| most.max((a - b).abs()));
        (&**name, off / magnitude.max(f64::MIN_POSITIVE))
    })
}

/// The norm of the difference over the norm, of all tensors together.
pub fn relative(found: &BTreeMap<String, Vec<f64>>, expected: &BTreeMap<String, Vec<f64>>) -> f64 {
    let (mut off, mut all) = (0.0, 0.0);
    for (name, values) in found {
        for (a, b) in values.iter().zip(&expected[name]) {
            off += (a - b) * (a - b);
            all += b * b;
        }
    }
    (off / all).sqrt()
}
