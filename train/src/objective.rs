//! What a step learns from. Pre-training and fine-tuning predict the next token of packed samples
//! ([`NextToken`]); preference optimisation is another objective of the same loop. Not the data's
//! order on disk, not the optimizer.
//!
//! The loss is the mean over the target tokens of the whole batch, over all ranks and
//! micro-batches: the count is made global before the first backward, so that no rank's or
//! micro-batch's short rows weigh more than others (the sum of means is not the mean).

use crate::metrics::Validation;
use crate::recipe::refuse;
use crate::watch::Outside;
use crate::{Error, Recipe};
use quipu_mesh::placement::Sum;
use quipu_mesh::{Axis, Mesh, Use};
use quipu_model::{Config, MicroBatch, Model, Weighted};
use std::collections::BTreeMap;
use std::ops::Range;

/// A row of packed tokens: all vectors have one entry a token.
pub use quipu_tokens::{Packed, Piece};

/// Where samples come from: a pure function of the index, so that order, ranks and resuming need
/// no state but a number.
pub trait Samples: Sync {
    /// The sample of that number, of its batch's sequence length. Every index is valid: a source of
    /// a finite number of samples starts again, in another order.
    ///
    /// # Errors
    /// Whatever the source cannot read.
    fn sample(&self, index: u64) -> Result<Packed, Outside>;

    /// What distinguishes this data from other data: two sources with equal identity give equal
    /// samples.
    fn identity(&self) -> String;

    /// The first sample that there is not, where the source does not start again for ever.
    fn ends(&self) -> Option<u64> {
        None
    }

    /// What is worth saying when these samples are read.
    fn notes(&self, samples: Range<u64>) -> Vec<String> {
        let _ = samples;
        Vec::new()
    }
}

/// What a step's forward and backward gave, over the whole batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The loss whose gradient lies in the model: nats.
    pub loss: f64,
    /// Target tokens.
    pub tokens: u64,
    /// Tokens that went through the model.
    pub processed: u64,
    /// Further figures, by name.
    pub more: BTreeMap<String, f64>,
}

/// What a step learns.
pub trait Objective: Sync {
    /// Adds the gradients of this rank's share of a batch's loss to the model's; what batch number
    /// `batch` is, [`Recipe::portion`] says. Figures returned are equal on all ranks.
    ///
    /// # Errors
    /// What the data, the device or the mesh report; [`Error::NothingToLearn`].
    fn accumulate(
        &self,
        model: &mut Model,
        mesh: &Mesh,
        recipe: &Recipe,
        batch: u64,
    ) -> Result<Outcome, Error>;

    /// Loss on data that is held out, where there is such.
    ///
    /// # Errors
    /// As [`Objective::accumulate`].
    fn validate(
        &self,
        model: &mut Model,
        mesh: &Mesh,
        recipe: &Recipe,
    ) -> Result<Option<Validation>, Error>;

    /// What a resumed run must share with the run that wrote the checkpoint.
    fn identity(&self) -> String;

    /// The documents of a batch over all ranks, where the data know them.
    ///
    /// # Errors
    /// What the data report.
    fn pieces(&self, recipe: &Recipe, batch: u64) -> Result<Vec<Piece>, Error> {
        let _ = (recipe, batch);
        Ok(Vec::new())
    }

    /// What is worth saying when that batch is read.
    fn notes(&self, recipe: &Recipe, batch: u64) -> Vec<String> {
        let _ = (recipe, batch);
        Vec::new()
    }

    /// Refuses a model that cannot take what is learned.
    ///
    /// # Errors
    /// [`Error::Recipe`].
    fn check(&self, recipe: &Recipe, config: &Config) -> Result<(), Error> {
        check_length(recipe.longest_sequence(), config)
    }
}

/// Refuses a sequence longer than the model has positions.
///
/// # Errors
/// [`Error::Recipe`].
pub fn check_length(length: usize, config: &Config) -> Result<(), Error> {
    if length <= config.max_positions {
        return Ok(());
    }
    Err(Error::Recipe {
        key: "sequence_length",
        found: length.to_string(),
        expected: format!("the model has {} positions", config.max_positions),
        change: "shorten it, or use a model with more positions".into(),
    })
}

/// Samples that only measure.
#[derive(Clone, Copy)]
pub struct Held<'a> {
    /// Where they come from.
    pub samples: &'a dyn Samples,
    /// How many there are.
    pub count: u64,
    /// Tokens of each, whatever length is learned from: losses of other lengths say other things.
    pub length: usize,
}

/// Cross entropy of the next token.
pub struct NextToken<'a> {
    /// What is learned.
    pub samples: &'a dyn Samples,
    /// What is held out.
    pub validation: Option<Held<'a>>,
    /// Bytes of text that each token stands for, for bits per byte.
    pub token_bytes: Option<&'a [u32]>,
}

/// The samples of batch number `batch` that are this rank's, cut into micro-batches.
///
/// Samples are divided as evenly as possible, so that a rank may have one more than another, or none;
/// its last micro-batch may be smaller.
pub fn shares(recipe: &Recipe, mesh: &Mesh, batch: u64) -> Vec<Range<u64>> {
    let portion = recipe.portion(batch);
    let own = share(portion.indices(), mesh);
    let micro = portion.micro_samples().max(1);
    let cut = own.clone().step_by(micro as usize);
    cut.map(|first| first..own.end.min(first + micro)).collect()
}

/// Micro-batches of the data-parallel rank that has most of them.
pub fn most_shares(recipe: &Recipe, mesh: &Mesh, batch: u64) -> usize {
    let portion = recipe.portion(batch);
    let most = portion.samples().div_ceil(mesh.axes().size(Axis::Dp) as u64);
    most.div_ceil(portion.micro_samples().max(1)) as usize
}

/// What of some samples this data-parallel rank has.
fn share(samples: Range<u64>, mesh: &Mesh) -> Range<u64> {
    let (ranks, rank) = (mesh.axes().size(Axis::Dp) as u64, mesh.at(Axis::Dp) as u64);
    let count = samples.end - samples.start;
    samples.start + rank * count / ranks..samples.start + (rank + 1) * count / ranks
}

/// A micro-batch in host memory, with the weight of each target.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// What each token is followed by.
    pub targets: Vec<u32>,
    /// Place of each token in its document.
    pub positions: Vec<u32>,
    /// First row that each token sees.
    pub starts: Vec<u32>,
    /// How much each target counts; 0 where there is none.
    pub weights: Vec<f64>,
}

impl Batch {
    /// Bytes of a token: four ids and a weight; its share of the objective and its log-probability.
    pub const TOKEN_BYTES: usize = 4 * size_of::<u32>() + 3 * size_of::<f64>();

    /// An empty one with room for so many tokens.
    #[must_use]
    pub fn with_capacity(tokens: usize) -> Self {
        let ids = || Vec::with_capacity(tokens);
        let weights = Vec::with_capacity(tokens);
        Self { tokens: ids(), targets: ids(), positions: ids(), starts: ids(), weights }
    }

    /// Appends a packed row: the first rows its tokens see move with it.
    pub fn push(&mut self, row: &Packed) {
        let base = self.tokens.len() as u32;
        self.starts.extend(row.starts.iter().map(|start| start + base));
        self.tokens.extend(&row.tokens);
        self.targets.extend(&row.targets);
        self.positions.extend(&row.positions);
        self.weights.extend(row.weights.iter().copied().map(f64::from));
    }

    /// As the model takes it.
    #[must_use]
    pub fn view(&self) -> MicroBatch<'_> {
        MicroBatch {
            tokens: &self.tokens,
            targets: &self.targets,
            positions: &self.positions,
            starts: &self.starts,
        }
    }

    /// Sum of the weights.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.weights.iter().sum()
    }
}

/// Rows of samples one after the other.
///
/// # Errors
/// [`Error::Outside`] with what the source reports, or with a sample of another length.
pub fn micro_batch(
    samples: &dyn Samples,
    indices: Range<u64>,
    length: usize,
) -> Result<Batch, Error> {
    let rows = indices.end.saturating_sub(indices.start) as usize;
    let mut batch = Batch::with_capacity(rows * length);
    for index in indices {
        let row = samples.sample(index).map_err(Error::Outside)?;
        if row.tokens.len() != length {
            let found = row.tokens.len();
            let what = format!("sample {index} has {found} tokens, the recipe {length}");
            return Err(Error::Outside(what.into()));
        }
        batch.push(&row);
    }
    Ok(batch)
}

/// The micro-batches of batch number `batch` that are this rank's.
///
/// # Errors
/// As [`micro_batch`].
pub fn micro_batches(
    samples: &dyn Samples,
    (recipe, mesh): (&Recipe, &Mesh),
    batch: u64,
) -> Result<Vec<Batch>, Error> {
    let length = recipe.portion(batch).level.sequence_length;
    let rows = |share| micro_batch(samples, share, length);
    shares(recipe, mesh, batch).into_iter().map(rows).collect()
}

impl Objective for NextToken<'_> {
    fn accumulate(
        &self,
        model: &mut Model,
        mesh: &Mesh,
        recipe: &Recipe,
        batch: u64,
    ) -> Result<Outcome, Error> {
        let portion = recipe.portion(batch);
        let batches = micro_batches(self.samples, (recipe, mesh), batch)?;
        let local = batches.iter().map(|batch| model.own_sum(&batch.weights)).sum();
        let local = Sum::of_this_rank(local);
        let tokens = mesh.sum(Use::Losses, &[local])?[0].value();
        if tokens == 0.0 {
            return Err(Error::NothingToLearn { batch, samples: portion.samples() });
        }
        let of = |batch: &Batch| batch.weights.iter().map(|w| -w / tokens).collect::<Vec<f64>>();
        let weights: Vec<Vec<f64>> = batches.iter().map(of).collect();
        let pairs = batches.iter().zip(&weights);
        let pairs = pairs.map(|(batch, weights)| Weighted { batch: batch.view(), weights });
        let log_probs = model.learn(&pairs.collect::<Vec<_>>())?;
        let mut loss = 0.0;
        for (logps, batch) in log_probs.iter().zip(&batches) {
            loss -= weighted(logps, &batch.weights);
        }
        let loss = mesh.sum(Use::Losses, &[Sum::of_this_rank(loss)])?[0].value() / tokens;
        let sizes = [
            ("batch_tokens", portion.level.batch_tokens),
            ("sequence_length", portion.level.sequence_length),
        ];
        let shown = if recipe.ramp.is_empty() { &[][..] } else { &sizes[..] };
        let more = shown.iter().map(|(name, n)| ((*name).to_owned(), *n as f64)).collect();
        let processed = portion.level.batch_tokens as u64;
        Ok(Outcome { loss, tokens: tokens as u64, processed, more })
    }

    fn validate(
        &self,
        model: &mut Model,
        mesh: &Mesh,
        recipe: &Recipe,
    ) -> Result<Option<Validation>, Error> {
        let Some(Held { samples, count, length }) = self.validation else { return Ok(None) };
        let count = count.min(recipe.validation_samples);
        let own = share(0..count, mesh);
        let (mut loss, mut tokens, mut bytes) = (0.0, 0.0, 0.0);
        let micro = (recipe.micro_batch_tokens / length.max(1)).max(1) as u64;
        // as many at once as keep a pipeline busy
        let most = match mesh.axes().size(Axis::Pp) as u64 {
            1 => 1,
            ranks => 4 * ranks,
        };
        // ranks that have fewer samples measure nothing when the others measure their last
        let rounds = count.div_ceil(mesh.axes().size(Axis::Dp) as u64).div_ceil(micro * most);
        for round in 0..rounds {
            let first = own.end.min(own.start + round * micro * most);
            let end = own.end.min(first + micro * most);
            let starts = (first..end).step_by(micro as usize);
            let rows = |start| micro_batch(samples, start..end.min(start + micro), length);
            let batches = starts.map(rows).collect::<Result<Vec<Batch>, _>>()?;
            let views: Vec<MicroBatch<'_>> = batches.iter().map(Batch::view).collect();
            for (logps, batch) in model.measure(&views)?.iter().zip(&batches) {
                loss -= weighted(logps, &batch.weights);
                tokens += model.own_sum(&batch.weights);
                bytes += model.own_sum(&self.bytes(batch));
            }
        }
        let sums = [loss, tokens, bytes].map(Sum::of_this_rank);
        let sums = mesh.sum(Use::Losses, &sums)?;
        let (loss, tokens, bytes) = (sums[0].value(), sums[1].value(), sums[2].value());
        if tokens == 0.0 {
            return Ok(None);
        }
        let bits = (bytes > 0.0).then(|| loss / std::f64::consts::LN_2 / bytes);
        Ok(Some(Validation { loss: loss / tokens, bits_per_byte: bits, tokens: tokens as u64 }))
    }

    fn identity(&self) -> String {
        self.samples.identity()
    }

    fn pieces(&self, recipe: &Recipe, batch: u64) -> Result<Vec<Piece>, Error> {
        let mut pieces = Vec::new();
        for index in recipe.portion(batch).indices() {
            pieces.extend(self.samples.sample(index).map_err(Error::Outside)?.pieces);
        }
        Ok(pieces)
    }

    fn notes(&self, recipe: &Recipe, batch: u64) -> Vec<String> {
        self.samples.notes(recipe.portion(batch).indices())
    }

    fn check(&self, recipe: &Recipe, config: &Config) -> Result<(), Error> {
        check_length(recipe.longest_sequence(), config)?;
        let (needed, ends) = (recipe.portion(recipe.steps).first_sample, self.samples.ends());
        match ends.filter(|ends| *ends < needed) {
            None => Ok(()),
            Some(ends) => refuse(
                "max_epochs",
                format!("{:?}", recipe.max_epochs),
                format!("every source is spent after {ends} of the run's {needed} samples"),
                "raise a cap, leave one out, or take fewer steps",
            ),
        }
    }
}

impl NextToken<'_> {
    /// Bytes of text behind each target that counts.
    fn bytes(&self, batch: &Batch) -> Vec<f64> {
        let lengths = self.token_bytes.unwrap_or_default();
        let length = |id: u32| f64::from(lengths.get(id as usize).copied().unwrap_or(0));
        let targets = batch.targets.iter().zip(&batch.weights);
        targets.map(|(id, weight)| if *weight > 0.0 { length(*id) } else { 0.0 }).collect()
    }
}

/// The log-probabilities of micro-batches, each whole on every rank over which the model is divided
/// ([`Model::measure`] leaves each rank with its own part).
///
/// # Errors
/// What device and mesh report.
pub fn log_probs(
    model: &mut Model,
    batches: &[MicroBatch<'_>],
) -> Result<Vec<Vec<f64>>, quipu_model::Error> {
    let mesh = model.mesh().clone();
    let own = model.measure(batches)?;
    let group = mesh.group(Use::LogProbs);
    if group.is_one() {
        return Ok(own);
    }
    let all = group.sum_numbers(&own.concat())?;
    let mut rest = &all[..];
    let cut = own.iter().map(|rows| {
        let (first, others) = rest.split_at(rows.len());
        rest = others;
        first.to_vec()
    });
    Ok(cut.collect())
}

/// What a micro-batch costs under its weights, nats: the same on every rank over which the model is
/// divided.
///
/// # Errors
/// What device and mesh report.
pub fn loss_of(model: &mut Model, batch: &Batch) -> Result<f64, quipu_model::Error> {
    let found = log_probs(model, &[batch.view()])?;
    Ok(-found.iter().map(|logps| weighted(logps, &batch.weights)).sum::<f64>())
}

/// Σ wₜ·logpₜ, in order.
#[must_use]
pub fn weighted(logps: &[f64], weights: &[f64]) -> f64 {
    logps.iter().zip(weights).map(|(l, w)| l * w).sum()
}

impl Samples for quipu_tokens::Loader {
    fn sample(&self, index: u64) -> Result<Packed, Outside> {
        match Self::ends(self) {
            Some(ends) if ends <= index => {
                Err(format!("sample {index}: every source is spent after {ends}").into())
            }
            _ => Ok(Self::sample(self, index)),
        }
    }

    fn ends(&self) -> Option<u64> {
        Self::ends(self)
    }

    fn notes(&self, samples: Range<u64>) -> Vec<String> {
        Self::notes(self, samples)
    }

    fn identity(&self) -> String {
        format!("loader {:016x}", self.fingerprint())
    }
}

impl Samples for quipu_tokens::Sequential {
    fn sample(&self, index: u64) -> Result<Packed, Outside> {
        Ok(self.row(index))
    }

    fn identity(&self) -> String {
        format!("{} rows, {} bytes", self.rows(), self.bytes())
    }
}
