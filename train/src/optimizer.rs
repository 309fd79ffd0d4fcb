//! AdamW over what a rank keeps of the parameters, which the ranks that have the same ones for other
//! tokens (context and data parallelism) share out: master weights and both moments in f32 (paper,
//! section 3.3.2: sharded optimizer states). The model brings the gradients of the whole batch to who
//! keeps them; each rank updates its part of every bucket, and a bucket's new working weights go to all
//! while the next one is updated. One rank keeps all, in one bucket. Not the schedule, not the loss.
//!
//! Formulas: Loshchilov and Hutter, "Decoupled weight decay regularization", 2019; what the device
//! computes stands at [`quipu_math::op::AdamW`].

use crate::groups::Treatment;
use crate::{Error, Recipe};
use quipu_math::op::{AdamW, Copy, SumSquares};
use quipu_math::{DType, Device, Queue, View};
use quipu_mesh::placement::{Gradients, Reduced, Sum};
use quipu_mesh::{Mesh, Use};
use quipu_model::{BUCKETS_AT_ONCE, Division, Entry, MemoryUse, Model, Table};
use std::collections::VecDeque;
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

/// A stretch of what a rank keeps, in one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stretch {
    bucket: usize,
    /// Elements of the rank's part of the bucket.
    range: Range<usize>,
}

/// This rank's part of the optimizer.
pub struct Optimizer {
    device: Arc<dyn Device>,
    mesh: Mesh,
    /// Who keeps what.
    division: Division,
    /// What is treated alike.
    groups: Vec<(Stretch, Treatment)>,
    /// What is learned, whatever its treatment, and counted here in the norm.
    counted: Vec<Stretch>,
    /// Whether `master` lies in the working weights.
    shared: bool,
    /// Of each bucket, this rank's part, as the next two.
    master: Vec<View>,
    first: Vec<View>,
    second: Vec<View>,
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
        let (table, working) = (model.table(), model.own_weights()?);
        let division = model.division().clone();
        let dtype = model.precision().weights;
        let kind = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
        let flat = || {
            let all = device.matrix(kind, 1, division.elements())?;
            let parts = division.buckets().iter();
            parts.map(|bucket| all.slice_cols(bucket.kept.clone())).collect::<Result<Vec<_>, _>>()
        };
        let (first, second) = (flat()?, flat()?);
        // With one precision for all roles the working weights are the master weights.
        let shared = dtype == kind;
        let master = if shared { working.clone() } else { flat()? };
        let groups = stretches(&division, &recipe.treatments(table)?);
        // of groups that each share out a copy the first counts
        let counts = mesh.group(Use::Replicas).index() == 0;
        let once = if counts { once(table) } else { Vec::new() };
        let once: Vec<_> = once.into_iter().map(|range| (range, ())).collect();
        let counted = common(&learned(&groups), &stretches(&division, &once));
        let square = device.matrix(DType::F64, 1, 1)?;
        let scale = device.matrix(kind, 1, 1)?;
        if !shared {
            for (x, out) in working.into_iter().zip(&master) {
                device.execute(Copy { x, out: out.clone() })?;
            }
        }
        Ok(Self {
            device,
            mesh,
            division,
            groups,
            counted,
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
    pub fn memory(&self) -> [MemoryUse; 4] {
        let bytes = |views: &[View]| views.iter().map(View::bytes).sum::<usize>();
        let master = if self.shared { 0 } else { bytes(&self.master) };
        [
            ("master weights", master),
            ("first moments", bytes(&self.first)),
            ("second moments", bytes(&self.second)),
            ("gradient norm", self.square.bytes() + self.scale.bytes()),
        ]
        .map(|(kind, bytes)| MemoryUse { kind, bytes })
    }

    /// Working weights from master weights, on every rank: after [`Optimizer::write`].
    ///
    /// # Errors
    /// What the device and the mesh report.
    pub fn publish(&self, model: &Model) -> Result<(), Error> {
        if !self.shared {
            for (x, out) in self.master.iter().zip(model.own_weights()?) {
                self.device.execute(Copy { x: x.clone(), out })?;
            }
        }
        for bucket in 0..self.division.buckets().len() {
            let pending = model.publish(bucket)?;
            pending.map_or(Ok(()), |pending| pending.wait(&*self.device))?;
        }
        Ok(())
    }

    /// Sets one parameter to `x` (rows × cols, in the type of the states): this rank's part of the
    /// master weights, and the working weights.
    ///
    /// # Errors
    /// What the device reports.
    pub fn set(&self, entry: &Entry, x: &View, model: &Model) -> Result<(), Error> {
        model.set(entry, x)?;
        let Some((_, own)) = self.division.own(entry).filter(|_| !self.shared) else {
            return Ok(());
        };
        let x = x.reshape(1, entry.elements())?;
        let x = x.slice_cols(own.start - entry.offset..own.end - entry.offset)?;
        Ok(self.device.execute(Copy { x, out: self.part(State::Master, own)? })?)
    }

    /// The global norm of the gradients of the whole batch, in which each parameter that is learned
    /// counts once.
    ///
    /// # Errors
    /// What the device and the mesh report.
    pub fn norm(&self, gradients: &[Gradients<Reduced>]) -> Result<f64, Error> {
        for (i, Stretch { bucket, range }) in self.counted.iter().enumerate() {
            self.device.execute(SumSquares {
                x: gradients[*bucket].view().slice_cols(range.clone())?,
                out: self.square.clone(),
                accumulate: i > 0,
            })?;
        }
        let none = self.counted.is_empty();
        let square = if none { 0.0 } else { self.device.read_f64(&self.square)?[0] };
        Ok(self.mesh.sum(Use::Norm, &[Sum::of_this_rank(square)])?[0].value().sqrt())
    }

    /// One update of what is learned with the gradients of the whole batch, scaled down to norm
    /// `recipe.clip` where `norm` exceeds it, then the working weights of all ranks.
    ///
    /// `step` counts from 1.
    ///
    /// # Errors
    /// What the device and the mesh report.
    pub fn update(
        &self,
        model: &Model,
        recipe: &Recipe,
        (step, rate, norm): (u64, f64, f64),
    ) -> Result<(), Error> {
        let scale = if norm > recipe.clip { recipe.clip / norm } else { 1.0 };
        self.device.write_floats(&self.scale, &[scale])?;
        let (gradients, working) = (model.own_gradients()?, model.own_weights()?);
        let mut pending = VecDeque::new();
        for bucket in 0..self.division.buckets().len() {
            for (stretch, treatment) in self.groups.iter().filter(|(s, _)| s.bucket == bucket) {
                let Treatment::Learned { rate: factor, decay } = *treatment else { continue };
                let own = |views: &[View]| views[bucket].slice_cols(stretch.range.clone());
                self.device.execute(AdamW {
                    master: own(&self.master)?,
                    gradient: own(&gradients)?,
                    first: own(&self.first)?,
                    second: own(&self.second)?,
                    working: if self.shared { None } else { Some(own(&working)?) },
                    gradient_scale: Some(self.scale.clone()),
                    rate: rate * factor,
                    beta1: recipe.beta1,
                    beta2: recipe.beta2,
                    epsilon: recipe.eps,
                    decay,
                    step,
                })?;
            }
            pending.extend(model.publish(bucket)?);
            let oldest = if pending.len() > BUCKETS_AT_ONCE { pending.pop_front() } else { None };
            oldest.map_or(Ok(()), |pending| pending.wait(&*self.device))?;
        }
        pending.into_iter().try_for_each(|pending| Ok(pending.wait(&*self.device)?))
    }

    /// Who keeps what.
    #[must_use]
    pub fn division(&self) -> &Division {
        &self.division
    }

    /// Whether this rank is the one that writes what it keeps: of groups that each share out a copy,
    /// the first.
    #[must_use]
    pub fn writes(&self) -> bool {
        self.mesh.group(Use::Replicas).index() == 0
    }

    /// Element type of the states.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.scale.dtype()
    }

    /// One kind of state for the elements `range` of the flat range, which lie in this rank's part of
    /// a bucket.
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
        let bucket = self.division.find(range.start).unwrap_or(0);
        let own = self.division.buckets().get(bucket).map_or(0, |bucket| bucket.own.start);
        let start = range.start.wrapping_sub(own);
        let parts = match state {
            State::Master => &self.master,
            State::First => &self.first,
            State::Second => &self.second,
        };
        Ok(parts[bucket].slice_cols(start..start.wrapping_add(range.len()))?)
    }
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
fn common(a: &[Stretch], b: &[(Stretch, ())]) -> Vec<Stretch> {
    let pairs = a.iter().flat_map(|x| b.iter().map(move |(y, ())| (x, y)));
    let both = pairs.filter(|(x, y)| x.bucket == y.bucket).map(|(x, y)| Stretch {
        bucket: x.bucket,
        range: x.range.start.max(y.range.start)..x.range.end.min(y.range.end),
    });
    both.filter(|stretch| !stretch.range.is_empty()).collect()
}

/// What of `ranges` of the flat range this rank keeps, bucket by bucket.
fn stretches<T: Clone>(division: &Division, ranges: &[(Range<usize>, T)]) -> Vec<(Stretch, T)> {
    let buckets = division.buckets().iter().enumerate();
    let all = buckets.flat_map(|(bucket, of)| {
        ranges.iter().filter_map(move |(range, what)| {
            let (start, end) = (range.start.max(of.own.start), range.end.min(of.own.end));
            let range = start.wrapping_sub(of.own.start)..end.wrapping_sub(of.own.start);
            (start < end).then(|| (Stretch { bucket, range }, what.clone()))
        })
    });
    all.collect()
}

/// Neighbouring groups that are learned as one: where all are, the norm is one sum a bucket.
fn learned(groups: &[(Stretch, Treatment)]) -> Vec<Stretch> {
    let mut learned: Vec<Stretch> = Vec::new();
    for (stretch, _) in groups.iter().filter(|(_, how)| *how != Treatment::Frozen) {
        match learned.last_mut() {
            Some(last)
                if last.bucket == stretch.bucket && last.range.end == stretch.range.start =>
            {
                last.range.end = stretch.range.end;
            }
            _ => learned.push(stretch.clone()),
        }
    }
    learned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(range: Range<usize>) -> Stretch {
        Stretch { bucket: 0, range }
    }

    #[test]
    fn the_norm_is_one_sum_but_for_what_is_frozen() {
        let one = |rate| Treatment::Learned { rate, decay: 0.0 };
        let groups = [
            (stretch(0..5), one(1.0)),
            (stretch(5..7), one(2.0)),
            (stretch(7..9), Treatment::Frozen),
            (stretch(9..12), one(1.0)),
        ];
        assert_eq!(learned(&groups[..2]), [stretch(0..7)]);
        assert_eq!(learned(&groups), [stretch(0..7), stretch(9..12)]);
        assert!(learned(&groups[2..3]).is_empty());
    }

    #[test]
    fn what_is_counted_elsewhere_is_left_out() {
        let all = [stretch(0..7), stretch(9..12)];
        let once = [(stretch(2..10), ()), (Stretch { bucket: 1, range: 0..20 }, ())];
        assert_eq!(common(&all, &once), [stretch(2..7), stretch(9..10)]);
    }
}
