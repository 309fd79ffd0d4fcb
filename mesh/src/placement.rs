//! What a rank holds of a value, as a type: the mistakes that every peer made once (a missing
//! reduction, a sum over the wrong ranks) do not compile here. Costs nothing at run time.
//!
//! Activations of a layer are split over tensor-parallel ranks in one of four ways, and only the
//! functions below lead from one to another (sequence parallelism as Megatron has it; paper
//! §3.3.2). Gradients of parameters are [`Local`] until [`agree`] made them [`Agreed`],
//! [`start_reduce`] [`Scattered`] and [`join`] [`Reduced`];
//! a number summed over one rank's tokens is a [`Sum<Local>`] until `Mesh::sum` made it a
//! [`Sum<Global>`].
//!
//! A partial sum cannot pass for a whole activation:
//! ```compile_fail
//! use quipu_mesh::placement::{Placed, TpPartial, Whole};
//! fn norm(_: &Placed<Whole>) {}
//! fn layer(partial: Placed<TpPartial>) { norm(&partial) }
//! ```
//! What is already whole is not gathered again:
//! ```compile_fail
//! use quipu_mesh::placement::{self, Placed, Whole};
//! fn layer(mesh: &quipu_mesh::Mesh, device: &dyn quipu_math::Device, x: Placed<Whole>, m: &quipu_math::View) {
//!     let _ = placement::start_gather(mesh, device, x, m, 1);
//! }
//! ```
//! A head shard is not reduced, its product with the output projection is:
//! ```compile_fail
//! use quipu_mesh::placement::{self, HeadShard, Placed};
//! fn layer(mesh: &quipu_mesh::Mesh, device: &dyn quipu_math::Device, x: Placed<HeadShard>, m: &quipu_math::View) {
//!     let _ = placement::start_scatter::<quipu_mesh::Error>(mesh, device, (x, m), 1, |_| Ok(()));
//! }
//! ```
//! An optimizer does not take gradients that were not reduced:
//! ```compile_fail
//! use quipu_mesh::placement::{Gradients, Local, Reduced};
//! fn step(_: Gradients<Reduced>) {}
//! fn train(gradients: Gradients<Local>) { step(gradients) }
//! ```
//! Nor are they reduced over data before ranks with copies of a parameter agree on it:
//! ```compile_fail
//! use quipu_mesh::placement::{self, Gradients, Local};
//! fn train(m: &quipu_mesh::Mesh, d: &dyn quipu_math::Device, g: Gradients<Local>, v: quipu_math::View) {
//!     let _ = placement::start_reduce(m, d, g, &v);
//! }
//! ```
//! Gradients are not reduced twice:
//! ```compile_fail
//! use quipu_mesh::placement::{self, Gradients, Reduced};
//! fn train(m: &quipu_mesh::Mesh, d: &dyn quipu_math::Device, g: Gradients<Reduced>, v: quipu_math::View) {
//!     let _ = placement::start_reduce(m, d, g, &v);
//! }
//! ```
//! The rows of one rank are not what a split matrix multiplies:
//! ```compile_fail
//! use quipu_mesh::placement::{Placed, SeqShard, Whole};
//! fn column_parallel(_: &Placed<Whole>) {}
//! fn layer(normed: Placed<SeqShard>) { column_parallel(&normed) }
//! ```
//! One rank's loss is not the loss:
//! ```compile_fail
//! use quipu_mesh::placement::{Global, Local, Sum};
//! fn report(_: Sum<Global>) {}
//! fn step(loss: Sum<Local>) { report(loss) }
//! ```
//! The sums of one rank and of all do not add:
//! ```compile_fail
//! use quipu_mesh::placement::{Global, Local, Sum};
//! fn mean(a: Sum<Local>, b: Sum<Global>) -> f64 { (a + b).value() }
//! ```
//! A sum over all ranks is not summed over ranks again:
//! ```compile_fail
//! use quipu_mesh::{Mesh, Use, placement::{Global, Sum}};
//! fn step(mesh: &Mesh, loss: Sum<Global>) { let _ = mesh.sum(Use::Losses, &[loss]); }
//! ```
//! And the way that compiles:
//! ```
//! use quipu_mesh::{Mesh, Use, placement::Sum};
//! let mesh = Mesh::one();
//! let (loss, tokens) = (Sum::of_this_rank(6.0), Sum::of_this_rank(3.0));
//! let all = mesh.sum(Use::Losses, &[loss, tokens])?;
//! assert_eq!(all[0].value() / all[1].value(), 2.0);
//! # Ok::<(), quipu_mesh::Error>(())
//! ```

use crate::Error;
use crate::group::{Group, Pending};
use crate::mesh::Mesh;
use crate::uses::Use;
use quipu_math::{Device, Queue, View, op};
use std::marker::PhantomData;
use std::ops::{Add, Range};
use std::sync::Arc;

/// All rows and all columns, the same on every tensor-parallel rank.
#[derive(Clone, Copy, Debug)]
pub struct Whole;
/// This rank's rows (tokens), all columns: the residual stream and what norms work on.
#[derive(Clone, Copy, Debug)]
pub struct SeqShard;
/// All rows, this rank's heads or feed-forward columns.
#[derive(Clone, Copy, Debug)]
pub struct HeadShard;
/// All rows and columns, but only this rank's summand.
#[derive(Clone, Copy, Debug)]
pub struct TpPartial;
/// Gradients or sums of this rank's tokens alone.
#[derive(Clone, Copy, Debug)]
pub struct Local;
/// Gradients of this rank's tokens, in which those of a parameter that several ranks hold are the
/// sum of what each of them has.
#[derive(Clone, Copy, Debug)]
pub struct Agreed;
/// Sums over the ranks of a group that shares out the states, of this rank's part.
#[derive(Clone, Copy, Debug)]
pub struct Scattered;
/// Gradients of the whole batch, of this rank's part.
#[derive(Clone, Copy, Debug)]
pub struct Reduced;
/// Sums over the whole batch.
#[derive(Clone, Copy, Debug)]
pub struct Global;

/// An activation, or the gradient of one, with what this rank holds of it.
#[derive(Clone, Debug)]
pub struct Placed<P> {
    view: View,
    placement: PhantomData<P>,
}

impl<P> Placed<P> {
    /// States a placement: for whoever computes the value and so knows it.
    pub fn new(view: View) -> Placed<P> {
        Placed { view, placement: PhantomData }
    }

    /// The memory.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The memory, the placement forgotten.
    pub fn into_view(self) -> View {
        self.view
    }
}

/// Rows of all tensor-parallel ranks that are on their way, in pieces: a rank works on those that are
/// there while the next come.
#[must_use = "nothing is there before it is waited for"]
#[derive(Debug)]
pub struct Gathering {
    whole: View,
    /// Rows of the whole, and what brings them; none where they are there.
    pieces: Vec<(Vec<Range<usize>>, Option<Pending>)>,
}

/// Begins to join the rows of all tensor-parallel ranks, in so many pieces, in the `memory` of the
/// whole; on one rank they are where they are.
///
/// # Errors
/// What the group reports.
pub fn start_gather(
    mesh: &Mesh,
    device: &dyn Device,
    shard: Placed<SeqShard>,
    memory: &View,
    pieces: usize,
) -> Result<Gathering, Error> {
    let (group, shard) = (mesh.group(Use::Activations), shard.view);
    if group.is_one() {
        let rows = vec![0..shard.rows(); 1];
        return Ok(Gathering { whole: shard, pieces: vec![(rows, None)] });
    }
    let cut = |view: &View, rows: &Range<usize>| {
        let rows = view.slice_rows(rows.clone());
        rows.map_err(|source| group.device_error("all_gather", source))
    };
    let mut all = Vec::new();
    for own in stretches(shard.rows(), pieces) {
        let rows = of_each(group.size(), shard.rows(), &own);
        let parts = rows.iter().map(|rows| Ok(vec![cut(memory, rows)?]));
        let parts = parts.collect::<Result<_, Error>>()?;
        let pending = group.start_all_gather_parts(device, &cut(&shard, &own)?, parts)?;
        all.push((rows, Some(mesh.begun(device, pending)?)));
    }
    Ok(Gathering { whole: memory.clone(), pieces: all })
}

impl Gathering {
    /// Hands out the rows as they come, then the whole.
    ///
    /// # Errors
    /// What the group reports, or `work`.
    pub fn each<E: From<Error>>(
        self,
        device: &dyn Device,
        mut work: impl FnMut(&View, Range<usize>) -> Result<(), E>,
    ) -> Result<Placed<Whole>, E> {
        for (rows, pending) in self.pieces {
            pending.map_or(Ok(()), |pending| pending.wait(device))?;
            rows.into_iter().try_for_each(|rows| work(&self.whole, rows))?;
        }
        Ok(Placed::new(self.whole))
    }

    /// Waits for all rows.
    ///
    /// # Errors
    /// What the group reports.
    pub fn wait(self, device: &dyn Device) -> Result<Placed<Whole>, Error> {
        self.each(device, |_, _| Ok(()))
    }
}

/// This rank's rows of a sum over tensor-parallel ranks that is on its way.
#[must_use = "nothing is there before it is waited for"]
#[derive(Debug)]
pub struct Scattering {
    shard: View,
    pending: Vec<Pending>,
}

/// Begins to add the summands of all tensor-parallel ranks, of which this rank keeps its rows, in
/// `memory`; on one rank the summand is the sum. The summand is made in so many pieces, by `make` for
/// stretches of its rows: each is on its way while the next is made.
///
/// # Errors
/// What the group reports, or `make`.
pub fn start_scatter<E: From<Error>>(
    mesh: &Mesh,
    device: &dyn Device,
    (partial, memory): (Placed<TpPartial>, &View),
    pieces: usize,
    mut make: impl FnMut(Range<usize>) -> Result<(), E>,
) -> Result<Scattering, E> {
    let (group, partial) = (mesh.group(Use::Activations), partial.view);
    if group.is_one() {
        make(0..partial.rows())?;
        return Ok(Scattering { shard: partial, pending: Vec::new() });
    }
    let cut = |view: &View, rows: &Range<usize>| {
        let rows = view.slice_rows(rows.clone());
        rows.map_err(|source| group.device_error("reduce_scatter", source))
    };
    let mut pending = Vec::new();
    for own in stretches(memory.rows(), pieces) {
        let rows = of_each(group.size(), memory.rows(), &own);
        rows.iter().cloned().try_for_each(&mut make)?;
        let parts = rows.iter().map(|rows| Ok(vec![cut(&partial, rows)?]));
        let parts = parts.collect::<Result<Vec<_>, Error>>()?;
        let begun = group.start_reduce_scatter_parts(device, &parts, &cut(memory, &own)?)?;
        pending.push(mesh.begun(device, begun)?);
    }
    Ok(Scattering { shard: memory.clone(), pending })
}

impl Scattering {
    /// Waits for all rows.
    ///
    /// # Errors
    /// What the group reports.
    pub fn wait(self, device: &dyn Device) -> Result<Placed<SeqShard>, Error> {
        self.pending.into_iter().try_for_each(|pending| pending.wait(device))?;
        Ok(Placed::new(self.shard))
    }
}

/// So many rows cut into as many stretches, of which none is empty.
fn stretches(rows: usize, pieces: usize) -> impl Iterator<Item = Range<usize>> {
    let pieces = pieces.max(1);
    let all = (0..pieces).map(move |i| rows * i / pieces..rows * (i + 1) / pieces);
    all.filter(|rows| !rows.is_empty())
}

/// Where a stretch of every rank's rows lies in those of all.
fn of_each(ranks: usize, rows: usize, own: &Range<usize>) -> Vec<Range<usize>> {
    (0..ranks).map(|rank| rank * rows + own.start..rank * rows + own.end).collect()
}

/// Gradients of parameters, as one range.
#[derive(Clone, Debug)]
pub struct Gradients<P> {
    view: View,
    placement: PhantomData<P>,
}

impl Gradients<Local> {
    /// Gradients of this rank's tokens.
    pub fn of_this_rank(view: View) -> Gradients<Local> {
        Gradients { view, placement: PhantomData }
    }
}

impl<P> Gradients<P> {
    /// The memory.
    pub fn view(&self) -> &View {
        &self.view
    }
}

/// One parameter, of which ranks hold copies, and the group of those ranks.
#[derive(Clone, Debug)]
pub struct Copies {
    /// Its elements in the range.
    pub range: Range<usize>,
    /// Why they have it.
    pub usage: Use,
    /// The ranks.
    pub group: Arc<Group>,
}

/// Adds up, in place, the summands that the ranks have of the gradients of parameters of which each
/// holds a copy. `bucket` is asked for memory for so many of them, one behind the other: what goes to
/// the same ranks goes in one message.
///
/// # Errors
/// What the group reports, or `bucket`.
pub fn agree<E: From<Error>>(
    device: &dyn Device,
    gradients: Gradients<Local>,
    copies: &[Copies],
    bucket: impl Fn(usize) -> Result<View, E>,
) -> Result<Gradients<Agreed>, E> {
    let view = gradients.view;
    for same in copies.chunk_by(|a, b| Arc::ptr_eq(&a.group, &b.group)) {
        let group = &same[0].group;
        if group.is_one() {
            continue;
        }
        let bucket = bucket(same.iter().map(|one| one.range.len()).sum())?;
        let run = |x: View, out: View| -> Result<(), Error> {
            let copied = device.run(Queue::MAIN, &op::Copy { x, out }.into());
            copied.map_err(|source| group.device_error("agree", source))
        };
        let cut = |view: &View, range| {
            let part = view.slice_cols(range);
            part.map_err(|source| group.device_error("agree", source))
        };
        let mut at = 0;
        for one in same {
            let end = at + one.range.len();
            run(cut(&view, one.range.clone())?, cut(&bucket, at..end)?)?;
            at = end;
        }
        group.all_reduce(device, &bucket)?;
        at = 0;
        for one in same {
            let end = at + one.range.len();
            run(cut(&bucket, at..end)?, cut(&view, one.range.clone())?)?;
            at = end;
        }
    }
    Ok(Gradients { view, placement: PhantomData })
}

/// Gradients on their way to the ranks that keep them.
#[must_use = "nothing is there before it is waited for"]
#[derive(Debug)]
pub struct Reducing {
    part: View,
    pending: Pending,
}

/// Begins to add the gradients of the ranks that share out the states of the same parameters, each
/// keeping only its part, in `part` (which may be this rank's part of the whole).
///
/// # Errors
/// What the group reports.
pub fn start_reduce(
    mesh: &Mesh,
    device: &dyn Device,
    gradients: Gradients<Agreed>,
    part: &View,
) -> Result<Reducing, Error> {
    let group = mesh.group(Use::Gradients);
    let pending = group.start_reduce_scatter(device, &gradients.view, part)?;
    Ok(Reducing { part: part.clone(), pending: mesh.begun(device, pending)? })
}

impl Reducing {
    /// Waits for the sums.
    ///
    /// # Errors
    /// What the group reports.
    pub fn wait(self, device: &dyn Device) -> Result<Gradients<Scattered>, Error> {
        self.pending.wait(device)?;
        Ok(Gradients::scattered(self.part))
    }
}

impl Gradients<Scattered> {
    /// Sums over the ranks of a group, added up over micro-batches.
    pub fn scattered(view: View) -> Gradients<Scattered> {
        Gradients { view, placement: PhantomData }
    }
}

/// Adds what groups that each share out a copy have summed, and of a parameter that lives at both ends
/// of the pipeline, what both have.
///
/// # Errors
/// What the groups report.
pub fn join(
    mesh: &Mesh,
    device: &dyn Device,
    gradients: Gradients<Scattered>,
    ends: Option<&Arc<Group>>,
) -> Result<Gradients<Reduced>, Error> {
    mesh.group(Use::Replicas).all_reduce(device, &gradients.view)?;
    ends.map_or(Ok(()), |ends| ends.all_reduce(device, &gradients.view))?;
    Ok(Gradients { view: gradients.view, placement: PhantomData })
}

/// A number summed over tokens or parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sum<P> {
    value: f64,
    placement: PhantomData<P>,
}

impl Sum<Local> {
    /// A sum over what this rank alone saw.
    pub fn of_this_rank(value: f64) -> Sum<Local> {
        Sum { value, placement: PhantomData }
    }
}

impl<P> Sum<P> {
    pub(crate) fn of(value: f64) -> Sum<P> {
        Sum { value, placement: PhantomData }
    }

    /// The number.
    pub fn value(&self) -> f64 {
        self.value
    }
}

impl<P> Add for Sum<P> {
    type Output = Sum<P>;
    fn add(self, other: Sum<P>) -> Sum<P> {
        Sum::of(self.value + other.value)
    }
}
