//! AdamW over one flat range of parameters, of which each data-parallel rank owns a slice: master
//! weights and both moments in f32 (paper, section 3.3.2: sharded optimizer states). First the ranks
//! that hold copies of a parameter agree on its gradient; then gradients are reduce-scattered in f32
//! over the ranks that have the same parameters for other tokens (context and data parallelism), each
//! updates its slice, the working weights are gathered again. On a group of one all of this returns at
//! once. Not the schedule, not the loss.
//!
//! Formulas: Loshchilov and Hutter, "Decoupled weight decay regularization", 2019; what the device
//! computes stands at [`quipu_math::op::AdamW`].

use crate::groups::Treatment;
use crate::{Error, Recipe};
use quipu_math::op::{AdamW, Copy, SumSquares};
use quipu_math::{DType, Device, Queue, View};
use quipu_mesh::placement::{Copies, Gradients, Local, Sum, agree, scatter_gradients};
use quipu_mesh::{Mesh, Use};
use quipu_model::{Entry, MemoryUse, Model, Table};
use std::ops::Range;
use std::sync::Arc;

/// What is saved of an optimizer: each is a flat range in table order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Master weights.
    Master,
    /// First moment: mean of the gradient.
    First,
    /// Second moment: mean of its square.
    Second,
}

impl State {
    /// All kinds.
    pub const ALL: [State; 3] = [State::Master, State::First, State::Second];

    /// What a checkpoint calls it, before the parameter's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Master => "master",
            State::First => "first",
            State::Second => "second",
        }
    }
}

/// This rank's slice of the optimizer.
pub struct Optimizer {
    device: Arc<dyn Device>,
    mesh: Mesh,
    /// The slice, in elements of the flat range.
    slice: Range<usize>,
    /// Stretches of the slice of equal treatment, counted from the slice's start.
    groups: Vec<(Range<usize>, Treatment)>,
    /// Stretches of it that are learned, whatever their treatment, and counted here in the norm.
    counted: Vec<Range<usize>>,
    /// Parameters of which other ranks hold copies: those whose gradients have to be summed, and all.
    partial: Vec<Copies>,
    copies: Vec<Copies>,
    /// What goes to the ranks of one group, one behind the other.
    bucket: View,
    /// Whether `master` lies in the working weights.
    shared: bool,
    master: View,
    first: View,
    second: View,
    /// 1 × 1: the square of the norm, then the factor for clipping.
    square: View,
    scale: View,
}

impl Optimizer {
    /// An optimizer for `model`, whose master weights are copies of its working weights.
    ///
    /// # Errors
    /// Those of [`Recipe::treatments`]; what the device reports.
    pub fn new(model: &Model, recipe: &Recipe) -> Result<Self, Error> {
        let (device, mesh) = (model.device().clone(), model.mesh().clone());
        let (table, working) = (model.table(), model.weights()?);
        let group = mesh.group(Use::Gradients);
        let length = table.elements() / group.size();
        let slice = group.index() * length..(group.index() + 1) * length;
        let kind = if working.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        let flat = || device.matrix(kind, 1, length);
        let (first, second) = (flat()?, flat()?);
        // With one precision for all roles the working weights are the master weights.
        let shared = working.dtype() == kind;
        let master = if shared { working.slice_cols(slice.clone())? } else { flat()? };
        let groups = intersect(&recipe.treatments(table)?, &slice);
        let once = once(table).into_iter().map(|range| (range, ())).collect::<Vec<_>>();
        let once: Vec<_> = intersect(&once, &slice).into_iter().map(|(range, ())| range).collect();
        let counted = common(&learned(&groups), &once);
        let (partial, copies) = (model.copies(true), model.copies(false));
        let bucket = device.matrix(model.precision().sums, 1, largest(&partial))?;
        let square = device.matrix(DType::F64, 1, 1)?;
        let scale = device.matrix(kind, 1, 1)?;
        if !shared {
            let x = working.slice_cols(slice.clone())?;
            device.execute(Copy { x, out: master.clone() })?;
        }
        Ok(Self {
            device,
            mesh,
            slice,
            groups,
            counted,
            partial,
            copies,
            bucket,
            shared,
            master,
            first,
            second,
            square,
            scale,
        })
    }

    /// Bytes it holds, by kind; the master weights none where they are the working weights.
    #[must_use]
    pub fn memory(&self) -> [MemoryUse; 5] {
        let master = if self.shared { 0 } else { self.master.bytes() };
        [
            ("master weights", master),
            ("first moments", self.first.bytes()),
            ("second moments", self.second.bytes()),
            ("gradient norm", self.square.bytes() + self.scale.bytes()),
            ("gradients of copies", self.bucket.bytes()),
        ]
        .map(|(kind, bytes)| MemoryUse { kind, bytes })
    }

    /// Working weights from master weights, on every rank: after [`Optimizer::write`].
    ///
    /// # Errors
    /// What the device and the mesh report.
    pub fn publish(&self, working: &View) -> Result<(), Error> {
        let part = working.slice_cols(self.slice.clone())?;
        if !self.shared {
            self.device.execute(Copy { x: self.master.clone(), out: part.clone() })?;
        }
        Ok(self.mesh.group(Use::Parameters).all_gather(&*self.device, &part, working)?)
    }

    /// Sets one parameter to `x` (rows × cols, in the type of the states): this rank's part of the
    /// master weights, and the working weights.
    ///
    /// # Errors
    /// What the device reports.
    pub fn set(&self, entry: &Entry, x: &View, working: &View) -> Result<(), Error> {
        let (range, x) = (entry.range(), x.reshape(1, entry.elements())?);
        let out = working.slice_cols(range.clone())?;
        self.device.execute(Copy { x: x.clone(), out })?;
        let own = range.start.max(self.slice.start)..range.end.min(self.slice.end);
        if self.shared || own.is_empty() {
            return Ok(());
        }
        let x = x.slice_cols(own.start - range.start..own.end - range.start)?;
        Ok(self.device.execute(Copy { x, out: self.part(State::Master, own)? })?)
    }

    /// Adds up the gradients of all ranks, each keeping its slice, and returns the global norm,
    /// in which each parameter that is learned counts once.
    ///
    /// # Errors
    /// What the device and the mesh report.
    pub fn reduce(&self, gradients: Gradients<Local>) -> Result<f64, Error> {
        let bucket = |n| Ok::<_, Error>(self.bucket.slice_cols(0..n)?);
        let agreed = agree(&*self.device, gradients, &self.partial, bucket)?;
        let part = agreed.view().slice_cols(self.slice.clone())?;
        let reduced = scatter_gradients(&self.mesh, &*self.device, agreed, part)?;
        for (i, range) in self.counted.iter().enumerate() {
            self.device.execute(SumSquares {
                x: reduced.view().slice_cols(range.clone())?,
                out: self.square.clone(),
                accumulate: i > 0,
            })?;
        }
        let none = self.counted.is_empty();
        let square = if none { 0.0 } else { self.device.read_f64(&self.square)?[0] };
        Ok(self.mesh.sum(Use::Norm, &[Sum::of_this_rank(square)])?[0].value().sqrt())
    }

    /// One update of what is learned with the reduced gradients: gradients scaled down to
    /// norm `recipe.clip` where `norm` exceeds it, then the working weights of all ranks.
    ///
    /// `step` counts from 1.
    ///
    /// # Errors
    /// What the device and the mesh report.
    pub fn update(
        &self,
        gradients: &View,
        working: &View,
        recipe: &Recipe,
        (step, rate, norm): (u64, f64, f64),
    ) -> Result<(), Error> {
        let scale = if norm > recipe.clip { recipe.clip / norm } else { 1.0 };
        self.device.write_floats(&self.scale, &[scale])?;
        for (range, treatment) in &self.groups {
            let Treatment::Learned { rate: factor, decay } = *treatment else { continue };
            let own = |view: &View| view.slice_cols(range.clone());
            let flat = self.slice.start + range.start..self.slice.start + range.end;
            self.device.execute(AdamW {
                master: own(&self.master)?,
                gradient: gradients.slice_cols(flat.clone())?,
                first: own(&self.first)?,
                second: own(&self.second)?,
                working: if self.shared { None } else { Some(working.slice_cols(flat)?) },
                gradient_scale: Some(self.scale.clone()),
                rate: rate * factor,
                beta1: recipe.beta1,
                beta2: recipe.beta2,
                epsilon: recipe.eps,
                decay,
                step,
            })?;
        }
        let part = working.slice_cols(self.slice.clone())?;
        Ok(self.mesh.group(Use::Parameters).all_gather(&*self.device, &part, working)?)
    }

    /// Whether all ranks that hold the same parameters hold the same bits of them: what `--check`
    /// asks after each step.
    ///
    /// # Errors
    /// [`Error::Copies`]; what the device and the mesh report.
    pub fn check_copies(&self, working: &View) -> Result<(), Error> {
        let device = &*self.device;
        let replicas = self.mesh.group(Use::Parameters);
        let differ = |group: &str| {
            let (rank, group) = (self.mesh.rank(), group.to_owned());
            Err(Error::Copies { rank, group })
        };
        if !replicas.agrees(device, working)? {
            return differ(replicas.name());
        }
        for Copies { range, group } in &self.copies {
            if !group.agrees(device, &working.slice_cols(range.clone())?)? {
                return differ(group.name());
            }
        }
        Ok(())
    }

    /// This rank's slice, in elements of the flat range.
    #[must_use]
    pub fn slice(&self) -> Range<usize> {
        self.slice.clone()
    }

    /// Element type of the states.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.master.dtype()
    }

    /// One kind of state for the elements `range` of the flat range, which lie in this slice.
    ///
    /// # Errors
    /// What the device reports.
    pub fn read(&self, state: State, range: Range<usize>) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; range.len() * self.dtype().size()];
        self.read_into(state, range, &mut bytes)?;
        Ok(bytes)
    }

    /// [`Optimizer::read`] into memory that is there already, of as many bytes.
    ///
    /// # Errors
    /// As there.
    pub fn read_into(
        &self,
        state: State,
        range: Range<usize>,
        bytes: &mut [u8],
    ) -> Result<(), Error> {
        Ok(self.device.read(Queue::MAIN, &self.part(state, range)?, bytes)?)
    }

    /// Sets it.
    ///
    /// # Errors
    /// What the device reports.
    pub fn write(&self, state: State, range: Range<usize>, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.device.write(Queue::MAIN, &self.part(state, range)?, bytes)?)
    }

    fn part(&self, state: State, range: Range<usize>) -> Result<View, Error> {
        let start = range.start.wrapping_sub(self.slice.start);
        Ok(self.view(state).slice_cols(start..start.wrapping_add(range.len()))?)
    }

    fn view(&self, state: State) -> &View {
        match state {
            State::Master => &self.master,
            State::First => &self.first,
            State::Second => &self.second,
        }
    }
}

/// The most elements that go to the ranks of one group.
fn largest(copies: &[Copies]) -> usize {
    let groups = copies.chunk_by(|a, b| Arc::ptr_eq(&a.group, &b.group));
    groups.map(|same| same.iter().map(|one| one.range.len()).sum()).max().unwrap_or(0)
}

/// What of the flat range this rank counts: all but copies of what another one counts.
fn once(table: &Table) -> Vec<Range<usize>> {
    let mut stretches = Vec::new();
    let mut at = 0;
    for copy in table.entries().iter().filter(|entry| !entry.counted) {
        stretches.push(at..copy.offset);
        at = copy.range().end;
    }
    stretches.push(at..table.elements());
    stretches.retain(|range| !range.is_empty());
    stretches
}

/// What is in both.
fn common(a: &[Range<usize>], b: &[Range<usize>]) -> Vec<Range<usize>> {
    let pairs = a.iter().flat_map(|x| b.iter().map(move |y| (x, y)));
    let both = pairs.map(|(x, y)| x.start.max(y.start)..x.end.min(y.end));
    both.filter(|range| !range.is_empty()).collect()
}

/// The parts of `ranges` inside `slice`, counted from its start.
fn intersect<T: Clone>(
    ranges: &[(Range<usize>, T)],
    slice: &Range<usize>,
) -> Vec<(Range<usize>, T)> {
    let cut = |(range, what): &(Range<usize>, T)| {
        let (start, end) = (range.start.max(slice.start), range.end.min(slice.end));
        (start < end).then(|| (start - slice.start..end - slice.start, what.clone()))
    };
    ranges.iter().filter_map(cut).collect()
}

/// Neighbouring groups that are learned as one: where all are, the norm is one sum.
fn learned(groups: &[(Range<usize>, Treatment)]) -> Vec<Range<usize>> {
    let mut learned: Vec<Range<usize>> = Vec::new();
    for (range, _) in groups.iter().filter(|(_, how)| *how != Treatment::Frozen) {
        match learned.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => learned.push(range.clone()),
        }
    }
    learned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_cut_decay_groups() {
        let ranges = [(0..10, true), (10..12, false), (12..20, true)];
        assert_eq!(intersect(&ranges, &(0..10)), [(0..10, true)]);
        assert_eq!(intersect(&ranges, &(5..15)), [(0..5, true), (5..7, false), (7..10, true)]);
        assert_eq!(intersect(&ranges, &(11..12)), [(0..1, false)]);
    }

    #[test]
    fn the_norm_is_one_sum_but_for_what_is_frozen() {
        let one = |rate| Treatment::Learned { rate, decay: 0.0 };
        let groups =
            [(0..5, one(1.0)), (5..7, one(2.0)), (7..9, Treatment::Frozen), (9..12, one(1.0))];
        assert_eq!(learned(&groups[..2]), vec![0..7; 1]);
        assert_eq!(learned(&groups), [0..7, 9..12]);
        assert!(learned(&groups[2..3]).is_empty());
    }
}
