//! The model as a value: memory, parameters, and the calls that the trainer, the tuner and the
//! generator make. How a layer is computed stands in `forward.rs` and `backward.rs`.
//!
//! It is not a training step: it knows no optimizer, no schedule and no data.

use crate::Error;
use crate::batch::MicroBatch;
use crate::config::Config;
use crate::division::Division;
use crate::generate::Stream;
use crate::memory::{Capacity, MemoryUse, Precision, Recompute};
use crate::packs::{Both, LayerPacks, Packs};
use crate::parameters::{LayerViews, Parameters};
use crate::rope;
use crate::shard::{Pipeline, Shard};
use crate::sharing::{self, Sharing};
use crate::slots::{Activations, Layout, Loaded, Slot};
use crate::table::{Entry, Init, Table};
use quipu_math::op::{Copy, Fill, Normal};
use quipu_math::{Device, View};
use quipu_mesh::placement::{Copies, Gradients, Local};
use quipu_mesh::{Axis, Group, Mesh, Use};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What of a Llama is on one rank's device: all of it on a mesh of one.
#[derive(Debug)]
pub struct Model {
    pub(crate) device: Arc<dyn Device>,
    pub(crate) mesh: Mesh,
    pub(crate) config: Config,
    pub(crate) shard: Shard,
    pub(crate) pipeline: Pipeline,
    pub(crate) table: Table,
    pub(crate) capacity: Capacity,
    pub(crate) weights: Parameters,
    pub(crate) packs: Packs,
    pub(crate) gradients: Option<Parameters>,
    pub(crate) division: Division,
    pub(crate) sharing: Sharing,
    /// Whether the micro-batch that is worked on is the last one of a step for its chunk.
    pub(crate) last: bool,
    /// Of each layer, whether its matrices' gradients are still to be written in this step.
    pub(crate) fresh: Vec<AtomicBool>,
    /// positions × hd: cosines, then sines.
    pub(crate) rotary: View,
    pub(crate) activations: Activations,
    pub(crate) stream: Option<Stream>,
    memory: Vec<MemoryUse>,
}

impl Model {
    /// A model with all its memory, weights zero: then [`Model::init`] or [`Model::load`].
    ///
    /// # Errors
    /// A configuration or capacity that makes no model, a mesh that it does not fit on, a backward in
    /// two halves that recomputes whole blocks, too little memory.
    pub fn new(
        device: Arc<dyn Device>,
        mesh: Mesh,
        config: Config,
        capacity: Capacity,
    ) -> Result<Model, Error> {
        Model::staged(device, mesh, config, capacity, &Pipeline::default())
    }

    /// [`Model::new`], whose layers are divided over the pipeline's ranks in another way.
    ///
    /// # Errors
    /// As there.
    pub fn staged(
        device: Arc<dyn Device>,
        mesh: Mesh,
        config: Config,
        capacity: Capacity,
        pipeline: &Pipeline,
    ) -> Result<Model, Error> {
        check(&config, &capacity)?;
        let shard = Shard::new(&config, &mesh, pipeline)?;
        let table = Table::of(&config, &shard);
        let full = mesh.is_fully_sharded();
        if full && capacity.split_backward {
            return Err(Error::Mesh {
                axes: mesh.axes().to_string(),
                why: "full sharding needs the schedule 1f1b: gradients of a layer's weights that wait \
                      have no place"
                    .into(),
            });
        }
        let division = divide(&table, &mesh);
        let dtype = capacity.precision.weights;
        let (weights, bytes) = sharing::memory(&*device, dtype, (&table, &division), full)?;
        let packs = match full {
            // products pack what they need as they go
            true => Packs::none(table.layers()),
            false => Packs::allocate(&*device, &weights, capacity.gradients)?,
        };
        let parts = (config, shard, pipeline.clone(), table);
        Model::with(device, mesh, parts, capacity, (weights, bytes, packs))
    }

    /// A model whose weights are there, `bytes` of them in memory of their own.
    pub(crate) fn with(
        device: Arc<dyn Device>,
        mesh: Mesh,
        (config, shard, pipeline, table): (Config, Shard, Pipeline, Table),
        capacity: Capacity,
        (weights, bytes, packs): (Parameters, usize, Packs),
    ) -> Result<Model, Error> {
        let Precision { sums, weights: dtype, .. } = capacity.precision;
        let division = divide(&table, &mesh);
        let of = (&table, &division);
        let gradients = capacity
            .gradients
            .then(|| sharing::memory(&*device, sums, of, mesh.is_fully_sharded()));
        let (gradients, gradient_bytes) = gradients.transpose()?.unzip();
        let partial = copies(&table, &shard, &mesh);
        let of = (&division, &partial[..]);
        let sharing = Sharing::allocate(&*device, &mesh, of, (dtype, sums), capacity.gradients)?;
        let (own_weights, own_gradients, message) = sharing.bytes();
        let fresh = (0..table.layers()).map(|_| AtomicBool::new(false)).collect();
        let positions = capacity.positions.unwrap_or(config.max_positions).max(1);
        let rotary = device.matrix(sums, positions, config.head_dim)?;
        device.write_floats(&rotary, &rope::table(&config, positions))?;
        let layout = Layout::new(&config, &capacity, &shard);
        let activations = Activations::allocate(&*device, layout, capacity.slots)?;
        let (slot_bytes, scratch_bytes) = activations.bytes();
        let generates = capacity.generated > 0;
        let stream = generates.then(|| Stream::allocate(&*device, &config, &shard, &capacity));
        let stream = stream.transpose()?;
        let kinds = [
            ("weights", bytes + own_weights),
            ("packed weights", packs.bytes),
            ("gradients", gradient_bytes.unwrap_or(0) + own_gradients),
            ("gradients of copies", message),
            ("activations", slot_bytes),
            ("scratch", scratch_bytes),
            ("rotary table", rotary.bytes()),
            ("generation", stream.as_ref().map_or(0, |s| s.bytes)),
        ];
        let memory = kinds.map(|(kind, bytes)| MemoryUse { kind, bytes }).into();
        Ok(Model {
            device,
            mesh,
            config,
            shard,
            pipeline,
            table,
            capacity,
            weights,
            packs,
            gradients,
            division,
            sharing,
            last: false,
            fresh,
            rotary,
            activations,
            stream,
            memory,
        })
    }

    /// The architecture.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The architecture, to change keys that are only kept (`Config::keep`).
    pub fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }

    /// The table of the parameters that are here.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// What of the model is here.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// How the work of a step is divided over the pipeline.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// The ranks that hold copies of a parameter, this one among them; none where there is no other.
    pub(crate) fn sharers(&self, entry: &Entry) -> Option<Arc<Group>> {
        sharers(entry, &self.shard, &self.mesh)
    }

    /// The device it lies on.
    pub fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    /// This rank's mesh.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Whether no rank computes a micro-batch by itself: all make the same calls, where it generates too.
    pub fn computes_together(&self) -> bool {
        let divided = |axis| self.mesh.axes().size(axis) > 1;
        [Axis::Tp, Axis::Cp, Axis::Pp].into_iter().any(divided) || self.mesh.is_fully_sharded()
    }

    /// What it was made for.
    pub fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    /// Element types by role.
    pub fn precision(&self) -> Precision {
        self.capacity.precision
    }

    /// Positions of the rotary table: no document or context is longer.
    pub fn positions(&self) -> usize {
        self.rotary.rows()
    }

    /// Bytes it holds, by kind; all of it was allocated when it was made. Not weights that are read
    /// in place from a mapped file: its pages are the system's to keep or to drop.
    pub fn memory(&self) -> &[MemoryUse] {
        &self.memory
    }

    /// The working weights as one flat row in table order. With uniform precision the optimizer
    /// steps them in place.
    ///
    /// # Errors
    /// A model that only reads its weights ([`Model::map`]).
    pub fn weights(&self) -> Result<&View, Error> {
        self.weights.flat()
    }

    /// One parameter's weights, rows × cols.
    ///
    /// # Errors
    /// An entry of another table; a model whose ranks share out its weights.
    pub fn weight(&self, entry: &Entry) -> Result<View, Error> {
        self.whole_here("a parameter's weights", "Model::own_weights")?;
        self.weights.parameter(entry)
    }

    /// Refuses what does not lie here with full sharding.
    fn whole_here(&self, what: &'static str, expected: &str) -> Result<(), Error> {
        if !self.mesh.is_fully_sharded() {
            return Ok(());
        }
        let found = "a model whose ranks share them out".into();
        Err(Error::Call { what, found, expected: expected.into() })
    }

    /// The gradients of this rank's tokens as one flat row in table order; after [`Model::learn`] they
    /// are on their way to who keeps them, and what this rank keeps may be a sum already.
    ///
    /// # Errors
    /// A model made without gradients, or one whose ranks share them out.
    pub fn gradients(&self) -> Result<Gradients<Local>, Error> {
        self.whole_here("gradients", "Model::own_gradients")?;
        self.settle_gradients(0..self.table.layers())?;
        Ok(Gradients::of_this_rank(self.gradient_memory()?.flat()?.clone()))
    }

    /// One parameter's gradient, rows × cols.
    ///
    /// # Errors
    /// As [`Model::gradients`]; an entry of another table.
    pub fn gradient(&self, entry: &Entry) -> Result<View, Error> {
        self.whole_here("a parameter's gradient", "Model::own_gradients")?;
        self.settle_gradients(0..self.table.layers())?;
        self.gradient_memory()?.parameter(entry)
    }

    /// Sets every gradient to zero: before the first micro-batch of a step.
    ///
    /// # Errors
    /// A model made without gradients.
    pub fn zero_gradients(&self) -> Result<(), Error> {
        let gradients = self.gradient_memory()?;
        self.begin_reduction()?;
        let ends = [&gradients.embedding, &gradients.final_norm, &gradients.head];
        let layers = gradients.layers.iter().flat_map(LayerViews::vectors);
        for out in ends.into_iter().flatten().chain(layers) {
            self.device.execute(Fill { out: out.clone(), value: 0.0 })?;
        }
        // the first micro-batch replaces those of the matrices
        self.fresh.iter().for_each(|fresh| fresh.store(true, Ordering::Release));
        Ok(())
    }

    /// Zeros for the matrices of these layers of this rank that no micro-batch has reached since
    /// [`Model::zero_gradients`].
    pub(crate) fn settle_gradients(&self, layers: Range<usize>) -> Result<(), Error> {
        let all = &self.gradient_memory()?.layers[layers.clone()];
        for (layer, fresh) in all.iter().zip(&self.fresh[layers]) {
            if fresh.swap(false, Ordering::AcqRel) {
                for out in layer.matrices()? {
                    self.device.execute(Fill { out: out.clone(), value: 0.0 })?;
                }
            }
        }
        Ok(())
    }

    pub(crate) fn gradient_memory(&self) -> Result<&Parameters, Error> {
        self.gradients.as_ref().ok_or_else(|| Error::Call {
            what: "backward pass",
            found: "a model made without gradients".into(),
            expected: "Capacity { gradients: true, .. }".into(),
        })
    }

    /// New weights: normal with deviation 0.02, outputs onto the residual stream divided by √(2·L),
    /// norms 1, biases 0. A pure function of (seed, parameter's place in the table, index).
    ///
    /// # Errors
    /// What the device reports.
    pub fn init(&mut self, seed: u64) -> Result<(), Error> {
        let sums = self.precision().sums;
        let each = |entry: &Entry| {
            self.fill(entry, |out| {
                if out.dtype() == sums {
                    return self.draw(entry, seed, out);
                }
                let x = self.device.matrix(sums, entry.rows, entry.cols)?;
                self.draw(entry, seed, &x)?;
                Ok(self.device.execute(Copy { x, out: out.clone() })?)
            })
        };
        self.table.entries().iter().try_for_each(each)
    }

    /// One parameter's new weights, as [`Model::init`] draws them, into `out` (rows × cols).
    ///
    /// # Errors
    /// What the device reports.
    pub fn draw(&self, entry: &Entry, seed: u64, out: &View) -> Result<(), Error> {
        let out = out.clone();
        let pitch = entry.whole_cols();
        match entry.init {
            Init::Ones => self.device.execute(Fill { out, value: 1.0 })?,
            Init::Zeros => self.device.execute(Fill { out, value: 0.0 })?,
            Init::Normal(deviation) => self.device.execute(Normal {
                out,
                seed,
                stream: entry.index as u64,
                first: (entry.first.0 * pitch + entry.first.1) as u64,
                pitch: pitch as u64,
                mean: 0.0,
                deviation,
            })?,
        }
        Ok(())
    }

    /// The layer's weights once more, as products read them.
    pub(crate) fn packed(&self, layer: usize) -> Result<&LayerPacks, Error> {
        self.packs.renew(&*self.device, &self.weights)?;
        Ok(&self.packs.layers[layer])
    }

    /// The head's.
    pub(crate) fn packed_head(&self) -> Result<&Both, Error> {
        self.packs.renew(&*self.device, &self.weights)?;
        Ok(&self.packs.head)
    }

    /// Copies a micro-batch into a slot.
    ///
    /// # Errors
    /// No such slot, or numbers that do not fit ([`MicroBatch::validate`]).
    pub fn load_batch(&mut self, slot: usize, batch: &MicroBatch<'_>) -> Result<(), Error> {
        self.load_chunk(slot, 0, batch)
    }

    /// Copies this rank's rows of a micro-batch into a slot, for its chunk number `chunk`. Rows that
    /// pad it are documents of one token that predict nothing.
    ///
    /// # Errors
    /// As [`Model::load_batch`], and no such chunk.
    pub fn load_chunk(
        &mut self,
        slot: usize,
        chunk: usize,
        batch: &MicroBatch<'_>,
    ) -> Result<(), Error> {
        batch.validate(&self.config, self.capacity.tokens, self.positions())?;
        if chunk >= self.shard.chunks.len() {
            let (what, found) = ("chunk", chunk.to_string());
            let expected = format!("less than {}", self.shard.chunks.len());
            return Err(Error::Call { what, found, expected });
        }
        let rows = self.shard.rows(batch.tokens.len());
        self.activations.load(slot, Loaded { rows, chunk })?;
        let Slot { ends, .. } = self.loaded(slot)?;
        let own = self.shard.spans(rows.whole);
        let cut = |list: &[u32], pad: &dyn Fn(usize) -> u32| -> Vec<u32> {
            let rows = own.iter().flat_map(Range::clone);
            rows.map(|row| list.get(row).copied().unwrap_or_else(|| pad(row))).collect()
        };
        self.device.write_u32(&ends.tokens, &cut(batch.tokens, &|_| 0))?;
        self.device.write_u32(&ends.targets, &cut(batch.targets, &|_| 0))?;
        self.device.write_u32(&ends.positions, &cut(batch.positions, &|_| 0))?;
        Ok(self.device.write_u32(&ends.starts, &cut(batch.starts, &|row| row as u32))?)
    }

    /// Of numbers that a micro-batch has by row, the sum of those whose log-probabilities this rank
    /// computes: what it adds to a sum over the ranks of [`Use::Losses`].
    pub fn own_sum(&self, numbers: &[f64]) -> f64 {
        if !self.shard.has_last() {
            return 0.0;
        }
        let own = self.shard.spans(self.shard.rows(numbers.len()).whole);
        own.into_iter().flatten().filter_map(|row| numbers.get(row)).sum()
    }

    /// The loaded part of a slot.
    pub(crate) fn loaded(&self, slot: usize) -> Result<Slot, Error> {
        self.activations.loaded(slot)
    }

    /// Where the layers of `range`, which are numbers in the whole model, are on this rank: they are
    /// layers of the chunk in the slot.
    pub(crate) fn places(&self, s: &Slot, range: &Range<usize>) -> Result<Vec<At>, Error> {
        let of = &self.shard.chunks[s.at.chunk].layers;
        if range.start < of.start || range.start > range.end || range.end > of.end {
            return Err(Error::Call {
                what: "layer range",
                found: format!("{range:?}"),
                expected: format!("inside {of:?}"),
            });
        }
        let before: usize = self.shard.chunks[..s.at.chunk].iter().map(|c| c.layers.len()).sum();
        let at = |layer| At { layer: before + layer - of.start, place: layer - of.start };
        Ok(range.clone().map(at).collect())
    }
}

/// What of its parameters a rank of `mesh` keeps.
fn divide(table: &Table, mesh: &Mesh) -> Division {
    let group = mesh.group(Use::Gradients);
    Division::new(table, group.index(), group.size())
}

/// The ranks that hold copies of a parameter.
fn sharers(entry: &Entry, shard: &Shard, mesh: &Mesh) -> Option<Arc<Group>> {
    match entry.shared? {
        usage @ Use::SharedHeads => {
            let head = entry.first.0.max(entry.first.1) / shard.head_dim();
            let keys = shard.keys.iter().find(|keys| keys.heads.contains(&head))?;
            mesh.part(usage, &keys.ranks.clone().collect::<Vec<_>>())
        }
        usage @ Use::Tied => mesh.part(usage, &[0, mesh.axes().size(Axis::Pp) - 1]),
        usage => Some(mesh.group(usage).clone()),
    }
}

/// The parameters of which several ranks have a summand of the gradient; what goes to the same ranks
/// stands together, and before it what goes to ranks that begin before them.
fn copies(table: &Table, shard: &Shard, mesh: &Mesh) -> Vec<Copies> {
    let partial = table.entries().iter().filter(|entry| entry.partial);
    let mut all: Vec<(usize, Copies)> = partial
        .filter_map(|entry| {
            let (usage, group) = (entry.shared?, sharers(entry, shard, mesh)?);
            let head = entry.first.0.max(entry.first.1) / shard.head_dim();
            let first = match usage {
                Use::SharedHeads => head,
                _ => 0,
            };
            Some((first, Copies { range: entry.range(), usage, group }))
        })
        .collect();
    all.sort_by_key(|(first, copies)| (copies.usage, *first));
    all.into_iter().map(|(_, copies)| copies).collect()
}

/// Where a layer is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    /// Among the layers of this rank.
    pub layer: usize,
    /// Among those of its chunk, and so in a slot.
    pub place: usize,
}

/// Whether there can be such a model.
pub(crate) fn check(config: &Config, capacity: &Capacity) -> Result<(), Error> {
    config.validate()?;
    if capacity.split_backward && capacity.recompute == Recompute::Block {
        return Err(Error::Call {
            what: "recompute",
            found: "block, with the backward in two halves".into(),
            expected: "none or elementwise: the second half would find nothing of the layer".into(),
        });
    }
    Ok(())
}
