//! What a rank keeps for others too, on its way: gradients to who keeps them, weights to who works with
//! them (paper, section 3.3.2).
//!
//! Usually each rank has all weights and gradients of its layers, and the optimizer's states are shared
//! out: a bucket's gradients go off when the last micro-batch has made them, while the backward goes
//! on. With full sharding a rank keeps only its part of them: a layer's weights are gathered before
//! they are used, in one of two places, the next layer's while this one is computed; its gradients go
//! off after each micro-batch, from one of two places, and are added up where they are kept. The ends
//! of the model are gathered and reduced once a step. Not an optimizer.

use crate::Error;
use crate::division::{BUCKETS_AT_ONCE, Bucket, Division};
use crate::model::Model;
use crate::parameters::{LayerViews, Parameters};
use crate::table::{Entry, Kind, Table};
use quipu_math::op::{Add, Copy, Fill};
use quipu_math::{DType, Device, View};
use quipu_mesh::placement::{
    Copies, Gradients, Local, Reduced, Reducing, Scattered, agree, join, start_reduce,
};
use quipu_mesh::{Group, Mesh, Pending, Use};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Places for layers with full sharding: one is worked with while the other is filled or emptied.
const PLACES: usize = 2;

/// What is on its way on one rank.
#[derive(Debug)]
pub(crate) struct Sharing {
    /// Parameters of each bucket of whose gradients several ranks have summands, by their elements in
    /// the bucket.
    partial: Vec<Vec<Copies>>,
    /// Who has the other end of a tied embedding, and the bucket that it is here.
    tied: Option<(usize, Arc<Group>)>,
    /// What goes to the ranks of one group, one behind the other.
    message: View,
    full: Option<Full>,
    state: Mutex<State>,
}

/// What the micro-batches of a step are through with.
#[derive(Clone, Copy)]
pub(crate) enum Through {
    /// Number of a layer of those of this rank.
    Layer(usize),
    Embedding,
    /// And the final norm.
    Head,
}

/// With full sharding.
#[derive(Debug)]
struct Full {
    /// 1 × elements that are kept.
    weights: View,
    gradients: Option<View>,
    /// What a place's gradients are summed into.
    sums: Vec<View>,
}

#[derive(Debug, Default)]
struct State {
    /// Of each bucket, whether this step's micro-batches are through with it.
    done: Vec<bool>,
    /// Buckets whose gradients have gone off, from the last.
    gone: usize,
    reducing: VecDeque<Reducing>,
    /// Whether this step's gradients are those of the whole batch.
    reduced: bool,
    /// The bucket whose weights each place has, or will have.
    places: [Option<(usize, Option<Pending>)>; PLACES],
    /// Of each bucket that is no layer, whether its weights are there.
    ends: Vec<bool>,
    /// The bucket whose gradients each place has sent off.
    sent: [Option<(usize, Reducing)>; PLACES],
}

/// Elements of the flat range, and where they lie.
type Stretch = (Range<usize>, View);

/// Memory in which a fully sharded rank works: places for layers, and the ends of the model.
fn working(
    device: &dyn Device,
    dtype: DType,
    division: &Division,
) -> Result<(Vec<Stretch>, usize), Error> {
    let layers = division.buckets().iter().filter(|bucket| bucket.layer.is_some());
    let most = layers.map(|bucket| bucket.range.len()).max().unwrap_or(0);
    let places = (0..PLACES).map(|_| device.matrix(dtype, 1, most));
    let places = places.collect::<Result<Vec<View>, _>>()?;
    let mut bytes = places.iter().map(View::bytes).sum();
    let mut stretches = Vec::new();
    for bucket in division.buckets() {
        let view = match bucket.layer {
            Some(layer) => places[layer % PLACES].slice_cols(0..bucket.range.len())?,
            None => {
                let end = device.matrix(dtype, 1, bucket.range.len())?;
                bytes += end.bytes();
                end
            }
        };
        stretches.push((bucket.range.clone(), view));
    }
    Ok((stretches, bytes))
}

/// Memory for weights or gradients: all of the table's, or what is worked with; and its bytes.
pub(crate) fn memory(
    device: &dyn Device,
    dtype: DType,
    (table, division): (&Table, &Division),
    full: bool,
) -> Result<(Parameters, usize), Error> {
    if !full {
        let all = Parameters::allocate(device, dtype, table)?;
        return Ok((all, table.elements() * dtype.size()));
    }
    let (stretches, bytes) = working(device, dtype, division)?;
    Ok((Parameters::stretches(table, stretches)?, bytes))
}

impl Sharing {
    /// Of a model whose copies are `partial`, with gradients or without.
    pub(crate) fn allocate(
        device: &dyn Device,
        mesh: &Mesh,
        (division, partial): (&Division, &[Copies]),
        (weights, sums): (DType, DType),
        gradients: bool,
    ) -> Result<Sharing, Error> {
        let buckets = division.buckets();
        let mut tied = None;
        let mut by_bucket = vec![Vec::new(); buckets.len()];
        for copies in partial {
            let Some(bucket) = division.find(copies.range.start) else { continue };
            // it is a bucket by itself: of its sums only what a rank keeps has to go
            if copies.usage == Use::Tied && !mesh.group(Use::Gradients).is_one() {
                tied = Some((bucket, copies.group.clone()));
                continue;
            }
            let start = buckets[bucket].range.start;
            let range = copies.range.start - start..copies.range.end - start;
            by_bucket[bucket].push(Copies { range, ..copies.clone() });
        }
        let most = by_bucket.iter().map(|copies| largest(copies)).max().unwrap_or(0);
        let message = device.matrix(sums, 1, if gradients { most } else { 0 })?;
        let keep = |dtype| device.matrix(dtype, 1, division.elements());
        let full = match mesh.is_fully_sharded() {
            true => Some(Full {
                weights: keep(weights)?,
                gradients: gradients.then(|| keep(sums)).transpose()?,
                sums: reduced_layers(device, sums, division, gradients)?,
            }),
            false => None,
        };
        let state = State::default();
        let sharing = Sharing { partial: by_bucket, tied, message, full, state: Mutex::new(state) };
        sharing.begin();
        Ok(sharing)
    }

    /// Bytes of weights, of gradients, and of what goes between ranks with copies.
    pub(crate) fn bytes(&self) -> (usize, usize, usize) {
        let (weights, gradients) = self.full.as_ref().map_or((0, 0), |full| {
            let sums: usize = full.sums.iter().map(View::bytes).sum();
            let gradients = full.gradients.as_ref().map_or(0, View::bytes);
            (full.weights.bytes(), gradients + sums)
        });
        (weights, gradients, self.message.bytes())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A step begins: nothing is on its way.
    fn begin(&self) {
        let mut state = self.lock();
        (state.gone, state.done) = (0, vec![false; self.partial.len()]);
        state.reducing.clear();
        state.reduced = false;
        state.sent = Default::default();
        state.ends.resize(self.partial.len(), false);
    }
}

/// The most elements that go to the ranks of one group.
fn largest(copies: &[Copies]) -> usize {
    let groups = copies.chunk_by(|a, b| Arc::ptr_eq(&a.group, &b.group));
    groups.map(|same| same.iter().map(|one| one.range.len()).sum()).max().unwrap_or(0)
}

fn reduced_layers(
    device: &dyn Device,
    dtype: DType,
    division: &Division,
    gradients: bool,
) -> Result<Vec<View>, Error> {
    let layers = division.buckets().iter().filter(|bucket| bucket.layer.is_some() && gradients);
    let most = layers.map(|bucket| bucket.own.len()).max().unwrap_or(0);
    (0..PLACES).map(|_| Ok(device.matrix(dtype, 1, most)?)).collect()
}

impl Model {
    /// What of its parameters this rank keeps.
    pub fn division(&self) -> &Division {
        &self.division
    }

    /// The working weights that this rank keeps: of each bucket of [`Model::division`], its part.
    ///
    /// # Errors
    /// A model that only reads its weights ([`Model::map`]).
    pub fn own_weights(&self) -> Result<Vec<View>, Error> {
        match &self.sharing.full {
            Some(full) => self.kept(&full.weights),
            None => self.own(self.weights.flat()?),
        }
    }

    /// The gradients that this rank keeps, which [`Model::reduced`] has made those of the whole batch.
    ///
    /// # Errors
    /// A model made without gradients.
    pub fn own_gradients(&self) -> Result<Vec<View>, Error> {
        match &self.sharing.full {
            Some(Full { gradients: Some(gradients), .. }) => self.kept(gradients),
            _ => self.own(self.gradient_memory()?.flat()?),
        }
    }

    fn kept(&self, all: &View) -> Result<Vec<View>, Error> {
        let buckets = self.division.buckets().iter();
        buckets.map(|bucket| Ok(all.slice_cols(bucket.kept.clone())?)).collect()
    }

    fn own(&self, flat: &View) -> Result<Vec<View>, Error> {
        let buckets = self.division.buckets().iter();
        buckets.map(|bucket| Ok(flat.slice_cols(bucket.own.clone())?)).collect()
    }

    /// Fills one parameter, as far as it is here: `fill` gets memory for all of it.
    ///
    /// # Errors
    /// Those of `fill`; what the device reports.
    pub(crate) fn fill<E: From<Error>>(
        &self,
        entry: &Entry,
        fill: impl FnOnce(&View) -> Result<(), E>,
    ) -> Result<(), E> {
        let weight = self.weights.parameter(entry)?;
        if self.sharing.full.is_none() {
            return fill(&weight);
        }
        let x = self.device.matrix(weight.dtype(), entry.rows, entry.cols).map_err(Error::from)?;
        fill(&x)?;
        Ok(self.set(entry, &x)?)
    }

    /// Sets one parameter to `x` (rows × cols), as far as it is here.
    ///
    /// # Errors
    /// What the device reports.
    pub fn set(&self, entry: &Entry, x: &View) -> Result<(), Error> {
        if self.sharing.full.is_none() {
            let out = self.weight(entry)?;
            return Ok(self.device.execute(Copy { x: x.clone(), out })?);
        }
        self.forget();
        let Some((bucket, own)) = self.division.own(entry) else { return Ok(()) };
        let x = x.reshape(1, entry.elements())?;
        let x = x.slice_cols(own.start - entry.offset..own.end - entry.offset)?;
        let start = self.division.buckets()[bucket].own.start;
        let out = self.own_weights()?[bucket].slice_cols(own.start - start..own.end - start)?;
        Ok(self.device.execute(Copy { x, out })?)
    }

    /// Begins to bring a bucket's weights, whose owners have changed their parts, to all that work with
    /// it; with full sharding, that is done where it is used.
    ///
    /// # Errors
    /// What the mesh reports.
    pub fn publish(&self, bucket: usize) -> Result<Option<Pending>, Error> {
        if self.sharing.full.is_some() {
            self.forget();
            return Ok(None);
        }
        let whole = self.weights.flat()?;
        let of = &self.division.buckets()[bucket];
        let (part, whole) =
            (whole.slice_cols(of.own.clone())?, whole.slice_cols(of.range.clone())?);
        self.start_gather_weights(&part, &whole).map(Some)
    }

    fn start_gather_weights(&self, part: &View, whole: &View) -> Result<Pending, Error> {
        let (group, device) = (self.mesh.group(Use::Parameters), &*self.device);
        Ok(self.mesh.begun(device, group.start_all_gather(device, part, whole)?)?)
    }

    /// Weights that were gathered are old.
    fn forget(&self) {
        let mut state = self.sharing.lock();
        state.places = Default::default();
        state.ends.fill(false);
    }

    /// A pass through a chunk of layers begins: it gathers all of them, whatever was there.
    pub(crate) fn begin_pass(&self) {
        if self.sharing.full.is_some() {
            self.sharing.lock().places = Default::default();
        }
    }

    /// The bucket that is a layer, with full sharding.
    fn bucket_of(&self, layer: usize) -> Option<usize> {
        self.sharing.full.as_ref()?;
        self.division.buckets().iter().position(|bucket| bucket.layer == Some(layer))
    }

    fn start_gather_bucket(&self, full: &Full, bucket: usize) -> Result<Pending, Error> {
        let of = &self.division.buckets()[bucket];
        let part = full.weights.slice_cols(of.kept.clone())?;
        self.start_gather_weights(&part, &self.weights.stretch(of.range.clone())?)
    }

    /// Begins to gather the weights of a layer that is used next: nothing where they are in memory.
    ///
    /// # Errors
    /// What device and mesh report.
    pub(crate) fn ask_for(&self, layer: usize) -> Result<(), Error> {
        let (Some(full), Some(bucket)) = (&self.sharing.full, self.bucket_of(layer)) else {
            return Ok(());
        };
        let place = layer % PLACES;
        if self.sharing.lock().places[place].as_ref().is_some_and(|(held, _)| *held == bucket) {
            return Ok(());
        }
        let pending = self.start_gather_bucket(full, bucket)?;
        self.sharing.lock().places[place] = Some((bucket, Some(pending)));
        Ok(())
    }

    /// The weights of layer number `layer` of those that are here, before its use: at once where they
    /// are in memory, with full sharding after a gather.
    ///
    /// # Errors
    /// What device and mesh report.
    pub fn acquire(&self, layer: usize) -> Result<&LayerViews, Error> {
        if self.sharing.full.is_some() {
            self.ask_for(layer)?;
            let pending = {
                let mut state = self.sharing.lock();
                state.places[layer % PLACES].as_mut().and_then(|(_, pending)| pending.take())
            };
            pending.map_or(Ok(()), |pending| pending.wait(&*self.device))?;
        }
        Ok(&self.weights.layers[layer])
    }

    /// The weights of the embedding (`first`), or of the final norm and the head, before their use.
    ///
    /// # Errors
    /// What device and mesh report.
    pub(crate) fn acquire_end(&self, first: bool) -> Result<(), Error> {
        let Some(full) = &self.sharing.full else { return Ok(()) };
        for (bucket, of) in self.division.buckets().iter().enumerate() {
            // the embedding may be the head as well
            let tied = self.config.tied && self.shard.has_first() && self.shard.has_last();
            let here = of.layer.is_none() && (self.is_embedding(of) == first || tied);
            if !here || std::mem::replace(&mut self.sharing.lock().ends[bucket], true) {
                continue;
            }
            self.start_gather_bucket(full, bucket)?.wait(&*self.device)?;
        }
        Ok(())
    }

    /// Whether all ranks that hold the same parameters hold the same bits of them; the name of a group
    /// whose ranks do not.
    ///
    /// # Errors
    /// What device and mesh report.
    pub fn differing_copies(&self) -> Result<Option<String>, Error> {
        let device = &*self.device;
        let differs = |group: &Group, view: &View| -> Result<Option<String>, Error> {
            Ok((!group.agrees(device, view)?).then(|| group.name().to_owned()))
        };
        let replicas = self.mesh.group(Use::Replicas);
        for own in self.own_weights()? {
            if let Some(group) = differs(replicas, &own)? {
                return Ok(Some(group));
            }
        }
        if self.sharing.full.is_none() {
            let flat = self.weights.flat()?;
            if let Some(group) = differs(self.mesh.group(Use::Parameters), flat)? {
                return Ok(Some(group));
            }
        }
        for entry in self.table.entries() {
            let Some(group) = self.sharers(entry) else { continue };
            match self.table.layer_numbers().position(|number| Some(number) == entry.layer) {
                Some(layer) => self.acquire(layer).map(|_| ())?,
                None => self.acquire_end(entry.kind == Kind::Embedding)?,
            }
            if let Some(group) = differs(&group, &self.weights.parameter(entry)?)? {
                return Ok(Some(group));
            }
        }
        Ok(None)
    }
}

/// Gradients.
impl Model {
    /// A step begins.
    pub(crate) fn begin_reduction(&self) -> Result<(), Error> {
        self.sharing.begin();
        if let Some(Full { gradients: Some(out), .. }) = &self.sharing.full {
            self.device.execute(Fill { out: out.clone(), value: 0.0 })?;
        }
        Ok(())
    }

    /// Whether the micro-batches of this step are through with some gradients.
    pub(crate) fn is_reducing(&self) -> bool {
        self.sharing.lock().gone > 0
    }

    /// A layer's backward begins: with full sharding its place for gradients is emptied.
    pub(crate) fn begin_layer_gradients(&self, layer: usize) -> Result<(), Error> {
        if self.sharing.full.is_none() {
            return Ok(());
        }
        self.keep_sent(layer % PLACES)?;
        for out in self.gradient_memory()?.layers[layer].vectors() {
            self.device.execute(Fill { out: out.clone(), value: 0.0 })?;
        }
        self.fresh[layer].store(true, Ordering::Release);
        Ok(())
    }

    /// A layer's backward has ended: with full sharding its gradients go off, otherwise if that was its
    /// `last` in this step.
    pub(crate) fn end_layer_gradients(&self, layer: usize, last: bool) -> Result<(), Error> {
        let (Some(full), Some(bucket)) = (&self.sharing.full, self.bucket_of(layer)) else {
            return if last { self.complete(Through::Layer(layer)) } else { Ok(()) };
        };
        let place = layer % PLACES;
        let part = full.sums[place].slice_cols(0..self.division.buckets()[bucket].own.len())?;
        let reducing = self.send_off(bucket, &part)?;
        self.sharing.lock().sent[place] = Some((bucket, reducing));
        Ok(())
    }

    /// Adds what a place has sent off to what is kept of it.
    fn keep_sent(&self, place: usize) -> Result<(), Error> {
        let sent = self.sharing.lock().sent[place].take();
        let Some((bucket, reducing)) = sent else { return Ok(()) };
        let sum: Gradients<Scattered> = reducing.wait(&*self.device)?;
        let a = self.own_gradients()?[bucket].clone();
        let (b, out) = (sum.view().clone(), a.clone());
        Ok(self.device.execute(Add { a, b, out })?)
    }

    /// Gradients of a bucket, on their way to who keeps them.
    fn send_off(&self, bucket: usize, part: &View) -> Result<Reducing, Error> {
        let range = self.division.buckets()[bucket].range.clone();
        let gradients = self.gradient_memory()?.stretch(range)?;
        let message = |n| Ok::<_, Error>(self.sharing.message.slice_cols(0..n)?);
        let local = Gradients::<Local>::of_this_rank(gradients);
        let agreed = agree(&*self.device, local, &self.sharing.partial[bucket], message)?;
        Ok(start_reduce(&self.mesh, &*self.device, agreed, part)?)
    }

    /// All micro-batches of a step are through with these gradients. They go off from the last bucket to
    /// the first, on all ranks in the same order.
    pub(crate) fn complete(&self, through: Through) -> Result<(), Error> {
        if self.mesh.group(Use::Gradients).is_one() {
            return Ok(());
        }
        let mut state = self.sharing.lock();
        for (bucket, done) in self.division.buckets().iter().zip(&mut state.done) {
            *done |= match through {
                Through::Layer(layer) => bucket.layer == Some(layer),
                Through::Embedding => self.is_embedding(bucket),
                Through::Head => bucket.layer.is_none() && !self.is_embedding(bucket),
            };
        }
        drop(state);
        self.send_off_completed(false)
    }

    fn is_embedding(&self, bucket: &Bucket) -> bool {
        bucket.range.start == 0 && self.shard.has_first()
    }

    pub(crate) fn send_off_completed(&self, all: bool) -> Result<(), Error> {
        let buckets = self.division.buckets();
        loop {
            let bucket = {
                let mut state = self.sharing.lock();
                let next = buckets.len() - state.gone;
                let Some(bucket) = next.checked_sub(1) else { return Ok(()) };
                // what is fully sharded has gone off layer by layer
                let sharded = self.sharing.full.is_some() && buckets[bucket].layer.is_some();
                if !all && !sharded && !state.done[bucket] {
                    return Ok(());
                }
                state.gone += 1;
                if sharded {
                    continue;
                }
                bucket
            };
            match buckets[bucket].layer {
                Some(layer) => self.settle_gradients(layer..layer + 1)?,
                None if buckets.len() == 1 => self.settle_gradients(0..self.table.layers())?,
                None => {}
            }
            let part = self.own_gradients()?[bucket].clone();
            let reducing = self.send_off(bucket, &part)?;
            let oldest = {
                let mut state = self.sharing.lock();
                state.reducing.push_back(reducing);
                if state.reducing.len() > BUCKETS_AT_ONCE {
                    state.reducing.pop_front()
                } else {
                    None
                }
            };
            self.wait_for(oldest)?;
        }
    }

    fn wait_for(&self, reducing: Option<Reducing>) -> Result<(), Error> {
        // its sums lie in what this rank keeps of the bucket
        Ok(reducing.map_or(Ok(()), |one| one.wait(&*self.device).map(drop))?)
    }

    /// Waits until this rank has the gradients of the whole batch for what it keeps: of each bucket of
    /// [`Model::division`], its part.
    ///
    /// # Errors
    /// A model made without gradients, a second call in a step; what device and mesh report.
    pub fn reduced(&self) -> Result<Vec<Gradients<Reduced>>, Error> {
        self.gradient_memory()?;
        if std::mem::replace(&mut self.sharing.lock().reduced, true) {
            return Err(Error::Call {
                what: "reduced",
                found: "a second call in a step".into(),
                expected: "one, after learn; then own_gradients".into(),
            });
        }
        self.send_off_completed(true)?;
        (0..PLACES).try_for_each(|place| self.keep_sent(place))?;
        let device = &*self.device;
        let reducing = std::mem::take(&mut self.sharing.lock().reducing);
        reducing.into_iter().try_for_each(|one| self.wait_for(Some(one)))?;
        let mut reduced = Vec::new();
        for (bucket, own) in self.own_gradients()?.into_iter().enumerate() {
            let tied = self.sharing.tied.as_ref().filter(|(of, _)| *of == bucket);
            let sum = Gradients::scattered(own);
            reduced.push(join(&self.mesh, device, sum, tied.map(|(_, group)| group))?);
        }
        Ok(reduced)
    }
}
