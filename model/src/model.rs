//! The model as a value: memory, parameters, and the calls that the trainer, the tuner and the
//! generator make. How a layer is computed stands in `forward.rs` and `backward.rs`.
//!
//! It is not a training step: it knows no optimizer, no schedule and no data.

use crate::Error;
use crate::batch::MicroBatch;
use crate::config::Config;
use crate::generate::Stream;
use crate::memory::{Capacity, MemoryUse, Precision, Recompute};
use crate::packs::{Both, LayerPacks, Packs};
use crate::parameters::{LayerViews, Parameters};
use crate::rope;
use crate::slots::{Activations, Layout, Slot};
use crate::table::{Entry, Init, Table};
use quipu_math::op::{Copy, Fill, Normal};
use quipu_math::{Device, View};
use quipu_mesh::placement::{Gradients, Local};
use quipu_mesh::{Axis, Mesh};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A Llama on one rank's device.
#[derive(Debug)]
pub struct Model {
    pub(crate) device: Arc<dyn Device>,
    pub(crate) mesh: Mesh,
    pub(crate) config: Config,
    pub(crate) table: Table,
    pub(crate) capacity: Capacity,
    pub(crate) weights: Parameters,
    pub(crate) packs: Packs,
    pub(crate) gradients: Option<Parameters>,
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
    /// A configuration or capacity that makes no model, a mesh with tp, cp or pp above 1 (not
    /// supported yet), a backward in two halves that recomputes whole blocks, too little memory.
    pub fn new(
        device: Arc<dyn Device>,
        mesh: Mesh,
        config: Config,
        capacity: Capacity,
    ) -> Result<Model, Error> {
        check(&config, &mesh, &capacity)?;
        let table = Table::new(&config);
        let weights = Parameters::allocate(&*device, capacity.precision.weights, &table)?;
        let packs = Packs::allocate(&*device, &weights, capacity.gradients)?;
        let bytes = weights.flat()?.bytes();
        Model::with(device, mesh, (config, table), capacity, (weights, bytes, packs))
    }

    /// A model whose weights are there, `bytes` of them in memory of their own.
    pub(crate) fn with(
        device: Arc<dyn Device>,
        mesh: Mesh,
        (config, table): (Config, Table),
        capacity: Capacity,
        (weights, bytes, packs): (Parameters, usize, Packs),
    ) -> Result<Model, Error> {
        let sums = capacity.precision.sums;
        let gradients =
            capacity.gradients.then(|| Parameters::allocate(&*device, sums, &table)).transpose()?;
        let fresh = (0..config.layers).map(|_| AtomicBool::new(false)).collect();
        let positions = capacity.positions.unwrap_or(config.max_positions).max(1);
        let rotary = device.matrix(sums, positions, config.head_dim)?;
        device.write_floats(&rotary, &rope::table(&config, positions))?;
        let layout = Layout::new(&config, &capacity);
        let activations = Activations::allocate(&*device, layout, capacity.slots)?;
        let (slot_bytes, scratch_bytes) = activations.bytes();
        let stream =
            (capacity.generated > 0).then(|| Stream::allocate(&*device, &config, &capacity));
        let stream = stream.transpose()?;
        let kinds = [
            ("weights", bytes),
            ("packed weights", packs.bytes),
            ("gradients", gradients.as_ref().map_or(0, |_| table.elements() * sums.size())),
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
            table,
            capacity,
            weights,
            packs,
            gradients,
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

    /// The parameter table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The device it lies on.
    pub fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    /// This rank's mesh.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
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
    /// An entry of another table.
    pub fn weight(&self, entry: &Entry) -> Result<View, Error> {
        self.weights.parameter(entry)
    }

    /// The gradients of this rank's tokens as one flat row in table order.
    ///
    /// # Errors
    /// A model made without gradients.
    pub fn gradients(&self) -> Result<Gradients<Local>, Error> {
        self.settle_gradients()?;
        Ok(Gradients::of_this_rank(self.gradient_memory()?.flat()?.clone()))
    }

    /// One parameter's gradient, rows × cols.
    ///
    /// # Errors
    /// A model made without gradients, or an entry of another table.
    pub fn gradient(&self, entry: &Entry) -> Result<View, Error> {
        self.settle_gradients()?;
        self.gradient_memory()?.parameter(entry)
    }

    /// Sets every gradient to zero: before the first micro-batch of a step.
    ///
    /// # Errors
    /// A model made without gradients.
    pub fn zero_gradients(&self) -> Result<(), Error> {
        let gradients = self.gradient_memory()?;
        let ends = [&gradients.embedding, &gradients.final_norm, &gradients.head];
        let layers = gradients.layers.iter().flat_map(LayerViews::vectors);
        for out in ends.into_iter().chain(layers) {
            self.device.execute(Fill { out: out.clone(), value: 0.0 })?;
        }
        // the first micro-batch replaces those of the matrices
        self.fresh.iter().for_each(|fresh| fresh.store(true, Ordering::Release));
        Ok(())
    }

    /// Zeros for the matrices that no micro-batch has reached since [`Model::zero_gradients`].
    fn settle_gradients(&self) -> Result<(), Error> {
        for (layer, fresh) in self.gradient_memory()?.layers.iter().zip(&self.fresh) {
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
        for entry in self.table.entries() {
            let out = self.weights.parameter(entry)?;
            match out.dtype() == self.capacity.precision.sums {
                true => self.draw(entry, seed, &out)?,
                false => {
                    let x = self.device.matrix(self.precision().sums, entry.rows, entry.cols)?;
                    self.draw(entry, seed, &x)?;
                    self.device.execute(Copy { x, out })?;
                }
            }
        }
        Ok(())
    }

    /// One parameter's new weights, as [`Model::init`] draws them, into `out` (rows × cols).
    ///
    /// # Errors
    /// What the device reports.
    pub fn draw(&self, entry: &Entry, seed: u64, out: &View) -> Result<(), Error> {
        let out = out.clone();
        let place = self.table.entries().iter().position(|e| e.name == entry.name);
        match entry.init {
            Init::Ones => self.device.execute(Fill { out, value: 1.0 })?,
            Init::Zeros => self.device.execute(Fill { out, value: 0.0 })?,
            Init::Normal(deviation) => self.device.execute(Normal {
                out,
                seed,
                stream: place.unwrap_or_default() as u64,
                first: 0,
                pitch: entry.cols as u64,
                mean: 0.0,
                deviation,
            })?,
        }
        Ok(())
    }

    /// A layer's weights, before its use: free on one rank (with full sharding, a gather).
    pub fn acquire(&self, layer: usize) -> &LayerViews {
        &self.weights.layers[layer]
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

    /// The layer's weights are no longer used: free on one rank.
    pub fn release(&self, layer: usize) {
        debug_assert!(layer < self.config.layers);
    }

    /// Copies a micro-batch into a slot.
    ///
    /// # Errors
    /// No such slot, or numbers that do not fit ([`MicroBatch::validate`]).
    pub fn load_batch(&mut self, slot: usize, batch: &MicroBatch<'_>) -> Result<(), Error> {
        batch.validate(&self.config, self.capacity.tokens, self.positions())?;
        *self.activations.rows(slot)? = batch.tokens.len();
        let Slot { ends, .. } = self.loaded(slot)?;
        self.device.write_u32(&ends.tokens, batch.tokens)?;
        self.device.write_u32(&ends.targets, batch.targets)?;
        self.device.write_u32(&ends.positions, batch.positions)?;
        Ok(self.device.write_u32(&ends.starts, batch.starts)?)
    }

    /// The loaded part of a slot.
    pub(crate) fn loaded(&self, slot: usize) -> Result<Slot, Error> {
        self.activations.loaded(slot)
    }

    pub(crate) fn check_layers(&self, layers: &Range<usize>) -> Result<(), Error> {
        if layers.start <= layers.end && layers.end <= self.config.layers {
            return Ok(());
        }
        Err(Error::Call {
            what: "layer range",
            found: format!("{layers:?}"),
            expected: format!("inside 0..{}", self.config.layers),
        })
    }
}

/// Whether there can be such a model.
pub(crate) fn check(config: &Config, mesh: &Mesh, capacity: &Capacity) -> Result<(), Error> {
    config.validate()?;
    check_mesh(mesh)?;
    check_recompute(capacity)
}

fn check_recompute(capacity: &Capacity) -> Result<(), Error> {
    if capacity.split_backward && capacity.recompute == Recompute::Block {
        return Err(Error::Call {
            what: "recompute",
            found: "block, with the backward in two halves".into(),
            expected: "none or elementwise: the second half would find nothing of the layer".into(),
        });
    }
    Ok(())
}

fn check_mesh(mesh: &Mesh) -> Result<(), Error> {
    for axis in [Axis::Tp, Axis::Cp, Axis::Pp] {
        if mesh.axes().size(axis) > 1 {
            return Err(Error::Mesh {
                axes: mesh.axes().to_string(),
                why: format!("{} above 1 is not supported yet; use dp", axis.name()),
            });
        }
    }
    Ok(())
}
