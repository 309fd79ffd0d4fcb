//! A step's forwards and backwards over the pipeline: the actions of a schedule, one after the other,
//! and the numbers that go from stage to stage between them (paper, section 3.3.2).
//!
//! One rank is a pipeline of one stage, and takes the same way. Sending does not wait; a stage waits
//! for its input when its turn has come. A slot is free as soon as the schedule no longer needs it. Not
//! the schedule itself, which is `mesh`'s, and not what is learned.

use crate::Error;
use crate::batch::MicroBatch;
use crate::model::Model;
use crate::sharing::Through;
use quipu_math::View;
use quipu_math::op::Copy;
use quipu_mesh::schedule::{Action, Kind, Schedule, Shape, Work};
use quipu_mesh::{Axis, Mesh, Use};
use std::collections::BTreeMap;

/// A micro-batch and what its rows count.
#[derive(Clone, Copy, Debug)]
pub struct Weighted<'a> {
    /// Its numbers.
    pub batch: MicroBatch<'a>,
    /// Of each row, its weight in the objective Σ weight · log p.
    pub weights: &'a [f64],
}

impl<'a> MicroBatch<'a> {
    /// One token that predicts nothing.
    fn nothing() -> MicroBatch<'a> {
        MicroBatch { tokens: &[0], targets: &[0], positions: &[0], starts: &[0] }
    }
}

impl<'a> Weighted<'a> {
    fn nothing() -> Weighted<'a> {
        Weighted { batch: MicroBatch::nothing(), weights: &[0.0] }
    }
}

impl crate::shard::Pipeline {
    /// The sizes of a step of so many micro-batches on a mesh.
    pub fn shape(&self, mesh: &Mesh, micro_batches: usize) -> Shape {
        Shape {
            ranks: mesh.axes().size(Axis::Pp),
            chunks: self.chunks(),
            micro_batches,
            contiguous: self.contiguous,
            kind: self.kind,
        }
    }

    /// Slots that a rank needs for steps of so many micro-batches.
    ///
    /// # Errors
    /// Sizes that make no schedule.
    pub fn slots(&self, mesh: &Mesh, micro_batches: usize) -> Result<usize, Error> {
        let schedule = Schedule::new(self.shape(mesh, micro_batches))?;
        Ok(schedule.peak(mesh.at(Axis::Pp)).max(1))
    }
}

impl Model {
    /// Adds to the gradients those of Σ weight · log p over all rows of the micro-batches of a step, and
    /// returns the log-probabilities of each: 0 for rows that other ranks have. All ranks of a pipeline
    /// call it with the same micro-batches, once a step: gradients are on their way to who keeps them
    /// when it returns.
    ///
    /// # Errors
    /// A micro-batch that does not fit, fewer slots than the schedule needs, a model made without
    /// gradients, a second call since [`Model::zero_gradients`]; what device and mesh report.
    pub fn learn(&mut self, micro_batches: &[Weighted<'_>]) -> Result<Vec<Vec<f64>>, Error> {
        if self.is_reducing() {
            return Err(Error::Call {
                what: "learn",
                found: "a second call in a step".into(),
                expected: "all micro-batches of a step in one, after zero_gradients".into(),
            });
        }
        let given = micro_batches.len();
        let micro_batches = &self.in_step(micro_batches, Weighted::nothing)?;
        let shape = self.pipeline.shape(&self.mesh, micro_batches.len());
        let schedule = Schedule::new(shape)?;
        let free = match (shape.kind, self.capacity.split_backward) {
            (Kind::OneForwardOneBackward, _) => Work::Backward,
            (Kind::ZeroBubble, true) => Work::Weight,
            (Kind::ZeroBubble, false) => {
                return Err(Error::Call {
                    what: "zero-bubble schedule",
                    found: "a model made for the whole backward only".into(),
                    expected: "Capacity { split_backward: true, .. }".into(),
                });
            }
        };
        let find = |action: &Action| micro_batches[action.micro_batch];
        let mut run = Run::new(self, micro_batches.len());
        let list = schedule.list(run.at);
        for (i, action) in list.iter().enumerate() {
            let alike = |other: &Action| (other.work, other.chunk) == (action.work, action.chunk);
            run.model.last = !list[i + 1..].iter().any(alike);
            match action.work {
                Work::Forward => run.forward(action, &find(action).batch)?,
                Work::Backward => run.backward(action, find(action).weights)?,
                Work::Weight => run.weight(action)?,
            }
            if action.work == free {
                run.release(action);
            }
        }
        run.log_probs.truncate(given);
        let log_probs = run.log_probs;
        self.last = false;
        self.send_off_completed(true)?;
        Ok(log_probs)
    }

    /// The micro-batches of a step as this rank goes through them: with full sharding as many as the
    /// rank that has most of them, since all gather weights together; those beyond its own are
    /// `nothing`.
    fn in_step<T: Clone>(&self, own: &[T], nothing: impl Fn() -> T) -> Result<Vec<T>, Error> {
        let mut all = own.to_vec();
        if self.mesh.is_fully_sharded() {
            let most = self.mesh.group(Use::Losses).largest_numbers(&[own.len() as f64])?[0];
            all.resize(all.len().max(most as usize), nothing());
        }
        Ok(all)
    }

    /// The log-probabilities of each micro-batch, as [`Model::learn`] returns them, and no gradient.
    ///
    /// # Errors
    /// As there.
    pub fn measure(&mut self, micro_batches: &[MicroBatch<'_>]) -> Result<Vec<Vec<f64>>, Error> {
        self.measure_with(micro_batches, &mut |_, _| Ok(()))
    }

    /// [`Model::measure`], with a look at each micro-batch where its last layer is: its slot still
    /// holds what was computed.
    ///
    /// # Errors
    /// As there, and those of `look`.
    pub fn measure_with(
        &mut self,
        micro_batches: &[MicroBatch<'_>],
        look: &mut dyn FnMut(&mut Model, usize) -> Result<(), Error>,
    ) -> Result<Vec<Vec<f64>>, Error> {
        let given = micro_batches.len();
        let micro_batches = &self.in_step(micro_batches, MicroBatch::nothing)?;
        let shape = self.pipeline.shape(&self.mesh, micro_batches.len());
        let schedule = Schedule::forward_only(shape)?;
        let mut run = Run::new(self, micro_batches.len());
        for action in schedule.list(run.at) {
            run.forward(action, &micro_batches[action.micro_batch])?;
            if run.model.shard.chunks[action.chunk].last {
                let slot = run.slot(action)?;
                run.log_probs[action.micro_batch] = run.model.log_probs(slot)?;
                if action.micro_batch < given {
                    look(run.model, slot)?;
                }
            }
            run.release(action);
        }
        run.log_probs.truncate(given);
        Ok(run.log_probs)
    }
}

/// A schedule that is being done.
struct Run<'m> {
    model: &'m mut Model,
    /// This rank's place in the pipeline.
    at: usize,
    ranks: usize,
    stages: u64,
    free: Vec<usize>,
    /// The slot of a chunk's micro-batch.
    live: BTreeMap<(usize, usize), usize>,
    log_probs: Vec<Vec<f64>>,
}

/// What a letter holds: a hidden state on its way to a stage, or its gradient.
const HIDDEN: u64 = 0;
const GRADIENT: u64 = 1;

impl<'m> Run<'m> {
    fn new(model: &'m mut Model, micro_batches: usize) -> Run<'m> {
        let (at, ranks) = (model.mesh.at(Axis::Pp), model.mesh.axes().size(Axis::Pp));
        let stages = (ranks * model.pipeline.chunks()) as u64;
        // the lowest first
        let free = (0..model.capacity.slots).rev().collect();
        let log_probs = vec![Vec::new(); micro_batches];
        Run { model, at, ranks, stages, free, live: BTreeMap::new(), log_probs }
    }

    fn forward(&mut self, action: &Action, batch: &MicroBatch<'_>) -> Result<(), Error> {
        let slot = self.free.pop().ok_or_else(|| Error::Call {
            what: "slots of the model",
            found: self.model.capacity.slots.to_string(),
            expected: "as many as the schedule has live micro-batches: Pipeline::slots".into(),
        })?;
        self.live.insert((action.chunk, action.micro_batch), slot);
        if self.log_probs[action.micro_batch].is_empty() {
            self.log_probs[action.micro_batch] = vec![0.0; batch.tokens.len()];
        }
        self.model.load_chunk(slot, action.chunk, batch)?;
        let chunk = self.model.shard.chunks[action.chunk].clone();
        if !chunk.first {
            let hidden = self.model.loaded(slot)?.hidden[0].clone();
            self.receive(&hidden, slot, (chunk.number - 1, chunk.number, HIDDEN), action)?;
        }
        let hidden = self.model.forward_layers(slot, chunk.layers, None)?;
        match chunk.last {
            true => Ok(()),
            false => self.send(&hidden, slot, (chunk.number, chunk.number + 1, HIDDEN), action),
        }
    }

    fn backward(&mut self, action: &Action, weights: &[f64]) -> Result<(), Error> {
        let slot = self.slot(action)?;
        let chunk = self.model.shard.chunks[action.chunk].clone();
        let gradient = match chunk.last {
            true => {
                let (log_probs, gradient) = self.model.head_fused(slot, weights)?;
                self.log_probs[action.micro_batch] = log_probs;
                if self.model.last {
                    self.model.complete(Through::Head)?;
                }
                gradient
            }
            false => {
                let rows = self.model.loaded(slot)?.at.rows;
                let gradient = self.model.activations.scratch(&rows)?.d_hidden;
                let way = (chunk.number + 1, chunk.number, GRADIENT);
                self.receive(&gradient, slot, way, action)?;
                gradient
            }
        };
        let model = &mut *self.model;
        let gradient = match model.pipeline.kind {
            Kind::OneForwardOneBackward => model.backward_layers(slot, chunk.layers, &gradient)?,
            Kind::ZeroBubble => model.backward_input(slot, chunk.layers, &gradient)?,
        };
        match chunk.first {
            true => Ok(()),
            false => self.send(&gradient, slot, (chunk.number, chunk.number - 1, GRADIENT), action),
        }
    }

    fn weight(&mut self, action: &Action) -> Result<(), Error> {
        let slot = self.slot(action)?;
        let layers = self.model.shard.chunks[action.chunk].layers.clone();
        self.model.backward_weight(slot, layers)
    }

    fn slot(&self, action: &Action) -> Result<usize, Error> {
        let found = self.live.get(&(action.chunk, action.micro_batch));
        found.copied().ok_or_else(|| Error::Call {
            what: "schedule",
            found: format!("{action:?} before its forward"),
            expected: "its forward first".into(),
        })
    }

    fn release(&mut self, action: &Action) {
        self.free.extend(self.live.remove(&(action.chunk, action.micro_batch)));
    }

    /// Letters between two stages about one micro-batch have a tag of their own.
    fn tag(&self, (_, to, what): (usize, usize, u64), action: &Action) -> u64 {
        (action.micro_batch as u64 * self.stages + to as u64) * 2 + what
    }

    /// Where what goes between stages lies on its way: it is in the type of messages.
    fn message(&self, x: &View, slot: usize) -> Result<View, Error> {
        let rows = self.model.loaded(slot)?.at.rows;
        let message = self.model.activations.scratch(&rows)?.message;
        Ok(if message.dtype() == x.dtype() { x.clone() } else { message })
    }

    fn send(
        &self,
        x: &View,
        slot: usize,
        way: (usize, usize, u64),
        action: &Action,
    ) -> Result<(), Error> {
        let (device, message) = (&*self.model.device, self.message(x, slot)?);
        if !message.same(x) {
            device.execute(Copy { x: x.clone(), out: message.clone() })?;
        }
        let (mesh, tag) = (&self.model.mesh, self.tag(way, action));
        let sent = mesh.group(Use::Stages).start_send(device, &message, way.1 % self.ranks, tag)?;
        // nobody needs to know when it is gone
        mesh.begun(device, sent).map(drop).map_err(Error::from)
    }

    fn receive(
        &self,
        x: &View,
        slot: usize,
        way: (usize, usize, u64),
        action: &Action,
    ) -> Result<(), Error> {
        let (device, message) = (&*self.model.device, self.message(x, slot)?);
        let group = self.model.mesh.group(Use::Stages);
        group.receive(device, &message, way.0 % self.ranks, self.tag(way, action))?;
        if !message.same(x) {
            device.execute(Copy { x: message, out: x.clone() })?;
        }
        Ok(())
    }
}
