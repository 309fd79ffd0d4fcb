//! Ops that go element by element: one description of a vector's worth of work, one loop that all of
//! them share. Loads come before stores in every vector, so an output may be an input.
#![allow(unsafe_code)]

use super::Engine;
use super::element::Element;
use super::simd::{Kernel, Simd, exp};
use crate::host::Mat;
use crate::op::Normal;
use crate::random::Random;

/// Elements of one task.
const CHUNK: usize = 1 << 14;

/// N vectors in, M vectors out.
pub(super) trait Lanewise<const N: usize, const M: usize>: Sync {
    /// # Safety
    /// As for [`Simd`]. Must be `#[inline(always)]`.
    unsafe fn at<S: Simd>(&self, x: [S::V; N]) -> [S::V; M];
}

/// `outputs = work(inputs)`; all matrices have one shape.
pub(super) fn sweep<E: Element, F: Element, const N: usize, const M: usize, W: Lanewise<N, M>>(
    engine: &Engine,
    work: &W,
    inputs: [Mat<E>; N],
    outputs: [Mat<F>; M],
) {
    let dense = inputs.iter().all(is_dense) && outputs.iter().all(is_dense);
    let (inputs, outputs) = match dense {
        true => (inputs.map(flat), outputs.map(flat)),
        false => (inputs, outputs),
    };
    let Some(&shape) = outputs.first() else { return };
    let pieces = Pieces::of(shape.rows, shape.cols);
    engine.parallel(pieces.count(), &|task, _| {
        let (inputs, outputs) =
            (inputs.map(|m| pieces.cut(m, task)), outputs.map(|m| pieces.cut(m, task)));
        engine.set.run(Sweep { work, inputs, outputs });
    });
}

fn is_dense<T>(m: &Mat<T>) -> bool {
    m.rows <= 1 || m.stride == m.cols
}

/// A dense matrix as one row.
fn flat<T>(m: Mat<T>) -> Mat<T> {
    Mat { rows: 1, cols: m.len(), stride: m.len(), ..m }
}

/// How a matrix is cut into tasks: whole rows, or parts of a single one. By shape alone.
#[derive(Clone, Copy)]
pub(super) struct Pieces {
    rows: usize,
    cols: usize,
    step: usize,
}

impl Pieces {
    pub fn of(rows: usize, cols: usize) -> Pieces {
        let step = if rows == 1 { CHUNK } else { (CHUNK / cols.max(1)).max(1) };
        Pieces { rows, cols, step }
    }

    pub fn count(&self) -> usize {
        let length = if self.rows == 1 { self.cols } else { self.rows };
        if self.rows * self.cols == 0 { 0 } else { length.div_ceil(self.step) }
    }

    pub fn cut<T: Copy>(&self, m: Mat<T>, task: usize) -> Mat<T> {
        let start = task * self.step;
        match self.rows {
            1 => m.columns(start, self.step.min(self.cols - start)),
            _ => m.part(start, self.step.min(self.rows - start)),
        }
    }
}

struct Sweep<'a, E, F, W, const N: usize, const M: usize> {
    work: &'a W,
    inputs: [Mat<E>; N],
    outputs: [Mat<F>; M],
}

impl<E: Element, F: Element, W: Lanewise<N, M>, const N: usize, const M: usize> Kernel
    for Sweep<'_, E, F, W, N, M>
{
    #[inline(always)]
    fn run<S: Simd>(self) {
        let (rows, cols) = (self.outputs[0].rows, self.outputs[0].cols);
        let whole = cols / S::LANES * S::LANES;
        for r in 0..rows {
            // SAFETY: row r and its columns lie inside all matrices; the outputs' belong to this task.
            unsafe {
                let (from, to) = (self.inputs.map(|m| m.row(r)), self.outputs.map(|m| m.row(r)));
                for c in (0..whole).step_by(S::LANES) {
                    let y = self.work.at::<S>(from.map(|p| E::load::<S>(p.add(c))));
                    for i in 0..M {
                        F::store::<S>(to[i].add(c), y[i]);
                    }
                }
                if whole < cols {
                    let rest = cols - whole;
                    let y = self.work.at::<S>(from.map(|p| E::load_part::<S>(p.add(whole), rest)));
                    for i in 0..M {
                        F::store_part::<S>(to[i].add(whole), rest, y[i]);
                    }
                }
            }
        }
    }
}

pub(super) struct Fill(pub f32);

impl Lanewise<0, 1> for Fill {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, _: [S::V; 0]) -> [S::V; 1] {
        // SAFETY: the caller's: the instruction set is there; registers only.
        unsafe { [S::splat(self.0)] }
    }
}

pub(super) fn fill<E: Element>(engine: &Engine, out: Mat<E>, value: f32) {
    sweep::<E, E, 0, 1, _>(engine, &Fill(value), [], [out]);
}

struct Same;

impl Lanewise<1, 1> for Same {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, x: [S::V; 1]) -> [S::V; 1] {
        x
    }
}

/// `out = x`, rounded where `out` is narrower.
pub(super) fn copy<E: Element, F: Element>(engine: &Engine, x: Mat<E>, out: Mat<F>) {
    sweep(engine, &Same, [x], [out]);
}

pub(super) struct Add;

impl Lanewise<2, 1> for Add {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, [a, b]: [S::V; 2]) -> [S::V; 1] {
        // SAFETY: the caller's: the instruction set is there; registers only.
        unsafe { [S::add(a, b)] }
    }
}

/// `alpha · x + y`.
pub(super) struct Axpy(pub f32);

impl Lanewise<2, 1> for Axpy {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, [x, y]: [S::V; 2]) -> [S::V; 1] {
        // SAFETY: the caller's: the instruction set is there; registers only.
        unsafe { [S::fma(S::splat(self.0), x, y)] }
    }
}

pub(super) struct Scale(pub f32);

impl Lanewise<1, 1> for Scale {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, [x]: [S::V; 1]) -> [S::V; 1] {
        // SAFETY: the caller's: the instruction set is there; registers only.
        unsafe { [S::mul(S::splat(self.0), x)] }
    }
}

/// 1 / (1 + e⁻ᶻ).
#[inline(always)]
unsafe fn sigmoid<S: Simd>(z: S::V) -> S::V {
    // SAFETY: the caller's.
    unsafe {
        let one = S::splat(1.0);
        S::div(one, S::add(one, exp::<S>(S::sub(S::splat(0.0), z))))
    }
}

pub(super) struct SwiGlu;

impl Lanewise<2, 1> for SwiGlu {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, [gate, up]: [S::V; 2]) -> [S::V; 1] {
        // SAFETY: the caller's: the instruction set is there; registers only.
        unsafe { [S::mul(S::mul(gate, sigmoid::<S>(gate)), up)] }
    }
}

/// d silu = s + g · s · (1 − s), with s the sigmoid of the gate.
pub(super) struct SwiGluBackward;

impl Lanewise<3, 3> for SwiGluBackward {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, [gate, up, dout]: [S::V; 3]) -> [S::V; 3] {
        // SAFETY: the caller's: the instruction set is there; registers only.
        unsafe {
            let s = sigmoid::<S>(gate);
            let silu = S::mul(gate, s);
            let slope = S::fma(silu, S::sub(S::splat(1.0), s), s);
            [S::mul(S::mul(dout, up), slope), S::mul(dout, silu), S::mul(silu, up)]
        }
    }
}

impl Lanewise<3, 2> for SwiGluBackward {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, x: [S::V; 3]) -> [S::V; 2] {
        // SAFETY: the caller's: the instruction set is there; registers only.
        unsafe {
            let [dgate, dup, _] = <Self as Lanewise<3, 3>>::at::<S>(self, x);
            [dgate, dup]
        }
    }
}

/// `out[r] += bias`.
pub(super) fn add_bias<B: Element, E: Element>(engine: &Engine, bias: Mat<B>, out: Mat<E>) {
    let pieces = Pieces::of(out.rows.max(2), out.cols);
    engine.parallel_if(out.len() > CHUNK, out.rows.div_ceil(pieces.step), &|task, _| {
        let start = task * pieces.step;
        let out = out.part(start, pieces.step.min(out.rows - start));
        engine.set.run(AddBias { bias, out });
    });
}

struct AddBias<B, E> {
    bias: Mat<B>,
    out: Mat<E>,
}

impl<B: Element, E: Element> Kernel for AddBias<B, E> {
    #[inline(always)]
    fn run<S: Simd>(self) {
        for r in 0..self.out.rows {
            for c in (0..self.out.cols).step_by(S::LANES) {
                let n = S::LANES.min(self.out.cols - c);
                // SAFETY: n elements from (r, c) on; the output's belong to this task.
                unsafe {
                    let to = self.out.row(r).add(c);
                    let bias = B::load_part::<S>(self.bias.ptr.add(c), n);
                    E::store_part::<S>(to, n, S::add(E::load_part::<S>(to, n), bias));
                }
            }
        }
    }
}

/// `out = parts[0] + parts[1] + …`, in this order.
pub(super) fn sum_in_order(engine: &Engine, parts: &[Mat<f32>], out: Mat<f32>) {
    let pieces = Pieces::of(out.rows, out.cols);
    engine.parallel(pieces.count(), &|task, _| {
        let parts = parts.iter().map(|&m| pieces.cut(m, task)).collect();
        engine.set.run(SumInOrder { parts, out: pieces.cut(out, task) });
    });
}

struct SumInOrder {
    parts: Vec<Mat<f32>>,
    out: Mat<f32>,
}

impl Kernel for SumInOrder {
    #[inline(always)]
    fn run<S: Simd>(self) {
        for r in 0..self.out.rows {
            for c in (0..self.out.cols).step_by(S::LANES) {
                let n = S::LANES.min(self.out.cols - c);
                // SAFETY: n elements from (r, c) in every matrix; the output's belong to this task.
                unsafe {
                    let mut sum = S::load_part(self.parts[0].row(r).add(c), n);
                    for part in &self.parts[1..] {
                        sum = S::add(sum, S::load_part(part.row(r).add(c), n));
                    }
                    S::store_part(self.out.row(r).add(c), n, sum);
                }
            }
        }
    }
}

/// `out = value`, for any element type.
pub(super) fn set<T: Copy + Send + Sync>(engine: &Engine, out: Mat<T>, value: T) {
    let pieces = Pieces::of(out.rows, out.cols);
    engine.parallel(pieces.count(), &|task, _| {
        let out = pieces.cut(out, task);
        for r in 0..out.rows {
            // SAFETY: the row lies inside its matrix and belongs to this task.
            unsafe { std::slice::from_raw_parts_mut(out.row(r), out.cols) }.fill(value);
        }
    });
}

/// `out = f(x)` between element types.
pub(super) fn convert<A: Copy + Send + Sync, B: Copy + Send + Sync>(
    engine: &Engine,
    x: Mat<A>,
    out: Mat<B>,
    f: impl Fn(A) -> B + Sync,
) {
    let pieces = Pieces::of(out.rows, out.cols);
    engine.parallel(pieces.count(), &|task, _| {
        let (x, out) = (pieces.cut(x, task), pieces.cut(out, task));
        for r in 0..out.rows {
            // SAFETY: both rows lie inside their matrices and do not overlap (checked with the op);
            // the output's row belongs to this task.
            let (from, to) = unsafe {
                (
                    std::slice::from_raw_parts(x.row(r), out.cols),
                    std::slice::from_raw_parts_mut(out.row(r), out.cols),
                )
            };
            to.iter_mut().zip(from).for_each(|(to, &from)| *to = f(from));
        }
    });
}

pub(super) fn normal(engine: &Engine, o: &Normal, out: Mat<f32>) {
    let random = Random::new(o.seed, o.stream);
    engine.parallel_if(
        out.len() > 256,
        out.rows.div_ceil(8) * out.cols.div_ceil(1024),
        &|task, _| {
            let blocks = out.cols.div_ceil(1024);
            let (row, col) = (task / blocks * 8, task % blocks * 1024);
            for r in row..(row + 8).min(out.rows) {
                for c in col..(col + 1024).min(out.cols) {
                    let index = o.first.wrapping_add((r as u64).wrapping_mul(o.pitch) + c as u64);
                    // SAFETY: in range; the element belongs to this task.
                    unsafe { out.set(r, c, (o.mean + o.deviation * random.normal(index)) as f32) }
                }
            }
        },
    );
}
