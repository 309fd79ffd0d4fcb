//! The benchmark step: a training step of a small Llama on random tokens, the twin of the PyTorch
//! script that it is held against; and how long a checkpoint of such a model keeps a step waiting. Not
//! a training run: one batch, again and again.

use crate::objective::{NextToken, Packed, Samples};
use crate::recipe::Dtype;
use crate::step::Learner;
use crate::watch::Outside;
use crate::{Error, Parallel, Plan, Recipe, checkpoint};
use quipu_math::{Device, Timed};
use quipu_mesh::Mesh;
use quipu_model::{Config, Sizes, Table};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Sizes of the benchmark model and its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bench {
    /// Vocabulary.
    pub vocab: usize,
    /// Width.
    pub dim: usize,
    /// Layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key-value heads.
    pub kv_heads: usize,
    /// Width of the feed-forward.
    pub ffn: usize,
    /// Tokens of a row.
    pub seq: usize,
    /// Rows of a step.
    pub batch: usize,
    /// Rows of a micro-batch at most.
    pub micro_batch: usize,
    /// Steps that are timed, after three that are not.
    pub steps: usize,
    /// In what numbers.
    pub dtype: Dtype,
}

impl Default for Bench {
    /// 12.6 million parameters, 2,048 tokens a step.
    fn default() -> Self {
        Self {
            vocab: 4096,
            dim: 384,
            layers: 6,
            heads: 6,
            kv_heads: 2,
            ffn: 1024,
            seq: 256,
            batch: 8,
            micro_batch: 8,
            steps: 20,
            dtype: Dtype::F32,
        }
    }
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Timing {
    /// The device's arithmetic.
    pub mode: String,
    /// Parameters.
    pub params: usize,
    /// Tokens per second, median of the timed steps.
    pub tokens_per_s: f64,
    /// Of the fastest step.
    pub tokens_per_s_best: f64,
    /// Highest resident memory of the process, MiB.
    pub peak_rss_mib: f64,
    /// Loss of the last step, nats.
    pub loss: f64,
    /// Floating-point operations of a token.
    pub flop_per_token: f64,
    /// Those operations per second at the median step: divided by the machine's ceiling, its share.
    pub flop_per_s: f64,
}

/// Floating-point operations of one trained token: 6 for each parameter that is multiplied (not
/// the input embedding, not norms), and for causal attention 6·L·S·D with D the width of all
/// query heads. Recomputation and padding do not count.
#[must_use]
pub fn flop_per_token(config: &Config, length: usize) -> f64 {
    let table = Table::new(config);
    let all: usize = table.entries().iter().filter(|e| e.rows > 1).map(|e| e.elements()).sum();
    // Tied embeddings are multiplied once, as the head; an untied input embedding is only read.
    let read = if config.tied { 0 } else { config.vocab_size * config.hidden_size };
    let attention = config.layers * length * config.query_width();
    6.0 * (all - read) as f64 + 6.0 * attention as f64
}

/// Rows of random tokens, the same ones in every step.
struct Random {
    bench: Bench,
}

impl Samples for Random {
    fn sample(&self, index: u64) -> Result<Packed, Outside> {
        let (length, vocab) = (self.bench.seq as u64, self.bench.vocab as u64);
        let row = index % self.bench.batch as u64;
        // A linear congruence over (row, column); only its spread matters here.
        let draw = |i: u64| {
            let x = (row * (length + 1) + i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            ((x ^ (x >> 29)) % vocab) as u32
        };
        Ok(Packed {
            tokens: (0..length).map(draw).collect(),
            targets: (1..=length).map(draw).collect(),
            positions: (0..length as u32).collect(),
            starts: vec![0; length as usize],
            weights: vec![1.0; length as usize],
            pieces: Vec::new(),
        })
    }

    fn identity(&self) -> String {
        "random".into()
    }
}

impl Bench {
    /// The model's configuration.
    ///
    /// # Errors
    /// Sizes that make no model.
    pub fn config(&self) -> Result<Config, Error> {
        Ok(Config::new(Sizes {
            vocab_size: self.vocab,
            hidden_size: self.dim,
            intermediate_size: self.ffn,
            layers: self.layers,
            heads: self.heads,
            kv_heads: self.kv_heads,
            max_positions: self.seq,
            tied: false,
        })?)
    }

    /// What a run takes on ranks whose devices have so many threads.
    ///
    /// # Errors
    /// Sizes that make no model; ranks that it does not fit on.
    pub fn plan(&self, parallel: &Parallel, threads: usize) -> Result<Plan, Error> {
        Ok(Plan::new(&self.config()?, &self.recipe(), parallel, threads)?.unsaved())
    }

    fn recipe(&self) -> Recipe {
        Recipe {
            sequence_length: self.seq,
            batch_tokens: self.seq * self.batch,
            micro_batch_tokens: self.seq * self.micro_batch.min(self.batch),
            steps: self.steps as u64 + WARM,
            dtype: self.dtype,
            peak_lr: 1e-3,
            floor_lr: 1e-3,
            warm_up: 0,
            ..Recipe::default()
        }
    }
}

/// What one op took of a step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spent {
    /// The op.
    pub op: String,
    /// How often a step runs it.
    pub per_step: f64,
    /// Seconds of a step, in all.
    pub seconds: f64,
}

/// Runs the benchmark on `device`, and says which op took how long.
///
/// # Errors
/// As [`run`].
pub fn run_by_op(device: Arc<dyn Device>, bench: Bench) -> Result<(Timing, Vec<Spent>), Error> {
    let timed = Arc::new(Timed::new(device));
    let one = Parallel::default();
    let mut timings = run(&one, bench, &|_| timed.clone(), &|| drop(timed.take()))?;
    let timing = timings.swap_remove(0);
    let steps = bench.steps as f64;
    let spent = timed.take().into_iter().map(|(op, runs, time)| Spent {
        op,
        per_step: runs as f64 / steps,
        seconds: time.as_secs_f64() / steps,
    });
    Ok((timing, spent.collect()))
}

/// Runs the benchmark over the ranks of `parallel`, each on a device of its own; `warm` is called on
/// each before the timed steps. What each measured.
///
/// # Errors
/// Sizes that make no model; ranks that it does not fit on; what the devices report.
pub fn run<D: Device + 'static>(
    parallel: &Parallel,
    bench: Bench,
    device: &(dyn Fn(usize) -> Arc<D> + Sync),
    warm: &(dyn Fn() + Sync),
) -> Result<Vec<Timing>, Error> {
    let rank =
        |mesh: Mesh| measure(device(mesh.rank()), parallel.mesh(&mesh)?, (bench, parallel), warm);
    Ok(parallel.world.launch(parallel.axes, rank)?)
}

/// Steps that are not timed.
const WARM: u64 = 3;

fn measure(
    device: Arc<dyn Device>,
    mesh: Mesh,
    (bench, parallel): (Bench, &Parallel),
    warm: &dyn Fn(),
) -> Result<Timing, Error> {
    let (config, recipe) = (bench.config()?, bench.recipe());
    let mode = device.arithmetic();
    let shape = (&config, &parallel.pipeline);
    let mut learner = Learner::allocate(device, mesh, shape, &recipe, false)?;
    learner.init(0)?;
    let samples = Random { bench };
    let objective = NextToken { samples: &samples, validation: None, token_bytes: None };
    let (mut seconds, mut loss) = (Vec::new(), 0.0);
    for step in 0..recipe.steps {
        if step == WARM {
            warm();
        }
        let start = Instant::now();
        loss = learner.step(&objective, &recipe, step)?.outcome.loss;
        seconds.push(start.elapsed().as_secs_f64());
    }
    let timed = &mut seconds[WARM as usize..];
    timed.sort_by(f64::total_cmp);
    let (median, best) = (timed[timed.len() / 2], timed[0]);
    let flop_per_token = flop_per_token(&config, bench.seq);
    let tokens = recipe.batch_tokens as f64;
    Ok(Timing {
        mode,
        params: Table::new(&config).parameters(),
        tokens_per_s: tokens / median,
        tokens_per_s_best: tokens / best,
        peak_rss_mib: crate::metrics::peak_memory_mib(),
        loss,
        flop_per_token,
        flop_per_s: flop_per_token * tokens / median,
    })
}

/// How long a checkpoint takes, seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Saved {
    /// What is saved: master weights and both moments.
    pub bytes: usize,
    /// A plain copy of as many bytes, in memory that was used before.
    pub copied_s: f64,
    /// What a step waits for: the copy of the states into memory that was used before, and a thread.
    pub held_s: f64,
    /// What it would wait for without a thread: the copy, the writing and that the disk has it.
    pub written_s: f64,
}

/// Measures a checkpoint of the benchmark's model in `dir`, which is left empty.
///
/// # Errors
/// Sizes that make no model; what the device and the file system report.
pub fn save(device: Arc<dyn Device>, bench: Bench, dir: &Path) -> Result<Saved, Error> {
    let (config, recipe, one) = (bench.config()?, bench.recipe(), Parallel::default());
    let shape = (&config, &one.pipeline);
    let mut learner = Learner::allocate(device, Mesh::one(), shape, &recipe, false)?;
    learner.init(0)?;
    let mut copy = Vec::new();
    checkpoint::copy(&learner, &mut copy)?;
    let held = || -> Result<f64, Error> {
        let start = Instant::now();
        let pieces = checkpoint::copy(&learner, &mut copy)?;
        std::thread::spawn(move || drop(pieces));
        Ok(start.elapsed().as_secs_f64())
    };
    let held_s = median(held)?;
    let mut other = copy.clone();
    let plain = || {
        let start = Instant::now();
        other.copy_from_slice(std::hint::black_box(&copy));
        Ok(start.elapsed().as_secs_f64())
    };
    let copied_s = median(plain)?;
    drop(other);
    let folder = dir.join("checkpoint");
    let start = Instant::now();
    let pieces = checkpoint::copy(&learner, &mut copy)?;
    checkpoint::write(&folder, 0, &pieces, &copy)?;
    let written_s = start.elapsed().as_secs_f64();
    std::fs::remove_dir_all(&folder).map_err(Error::io(&folder))?;
    Ok(Saved { bytes: copy.len(), copied_s, held_s, written_s })
}

/// Of five measurements.
fn median(mut measure: impl FnMut() -> Result<f64, Error>) -> Result<f64, Error> {
    let mut all = (0..5).map(|_| measure()).collect::<Result<Vec<_>, _>>()?;
    all.sort_by(f64::total_cmp);
    Ok(all[all.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flop_of_the_benchmark_model() {
        // 12,588,000-odd parameters less 4,096 × 384 of the input embedding and 13 norms, ×6, and
        // 6 layers × 256 tokens × 384 columns, ×6.
        let multiplied = 4096 * 384 + 6 * (384 * 384 * 2 + 2 * 128 * 384 + 3 * 1024 * 384);
        let expected = 6.0 * (multiplied + 6 * 256 * 384) as f64;
        assert_eq!(flop_per_token(&Bench::default().config().unwrap(), 256), expected);
    }
}
