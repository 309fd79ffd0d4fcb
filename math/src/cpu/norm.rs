//! RMSNorm and bias: ops whose backward sums over tokens. Such sums are taken in blocks of rows of a
//! fixed size and then over the blocks in order, so that they do not depend on threads.
#![allow(unsafe_code)]

use super::Engine;
use super::element::Element;
use super::simd::{Kernel, Simd};
use crate::error::Error;
use crate::host::Mat;

/// Rows of one task and of one partial sum over tokens. Part of the arithmetic of weight gradients.
const ROWS: usize = 32;

#[derive(Clone, Copy)]
pub(super) struct Forward<E> {
    pub x: Mat<f32>,
    pub weight: Mat<E>,
    pub out: Mat<E>,
    pub rstd: Mat<f32>,
    pub epsilon: f64,
}

impl<E: Element> Forward<E> {
    pub fn run(self, engine: &Engine) {
        let rows = self.x.rows;
        engine.parallel_if(self.x.len() > 1 << 14, rows.div_ceil(ROWS), &|task, _| {
            let start = task * ROWS;
            engine.set.run(Rows { op: self, start, end: rows.min(start + ROWS) });
        });
    }
}

struct Rows<T> {
    op: T,
    start: usize,
    end: usize,
}

impl<E: Element> Kernel for Rows<Forward<E>> {
    #[inline(always)]
    fn run<S: Simd>(self) {
        let o = self.op;
        let cols = o.x.cols;
        for r in self.start..self.end {
            // SAFETY: rows of this task; columns in range.
            unsafe {
                let (x, out) = (o.x.row(r), o.out.row(r));
                let mean = dot::<S, f32>(x, x, cols) as f64 / cols as f64;
                let scale = (1.0 / (mean + o.epsilon).sqrt()) as f32;
                o.rstd.set(r, 0, scale);
                for c in (0..cols).step_by(S::LANES) {
                    let n = S::LANES.min(cols - c);
                    let v = S::mul(S::load_part(x.add(c), n), S::splat(scale));
                    let v = S::mul(v, E::load_part::<S>(o.weight.ptr.add(c), n));
                    E::store_part::<S>(out.add(c), n, v);
                }
            }
        }
    }
}

/// Σ a · b in a fixed order: two running vectors, then their lanes.
#[inline(always)]
pub(super) unsafe fn dot<S: Simd, E: Element>(a: *const E, b: *const E, n: usize) -> f32 {
    // SAFETY: n elements on both sides, the caller's.
    unsafe {
        let (mut even, mut odd) = (S::splat(0.0), S::splat(0.0));
        let mut c = 0;
        while c + 2 * S::LANES <= n {
            let d = c + S::LANES;
            even = S::fma(E::load::<S>(a.add(c)), E::load::<S>(b.add(c)), even);
            odd = S::fma(E::load::<S>(a.add(d)), E::load::<S>(b.add(d)), odd);
            c += 2 * S::LANES;
        }
        while c < n {
            let m = S::LANES.min(n - c);
            let (x, y) = (E::load_part::<S>(a.add(c), m), E::load_part::<S>(b.add(c), m));
            even = S::fma(x, y, even);
            c += m;
        }
        S::sum(S::add(even, odd))
    }
}

/// f32 numbers that sums over rows take before they are added up.
pub(super) fn partial_sums(rows: usize, cols: usize) -> usize {
    rows.div_ceil(ROWS) * cols
}

#[derive(Clone, Copy)]
pub(super) struct Backward<E> {
    pub x: Mat<f32>,
    pub weight: Mat<E>,
    pub rstd: Mat<f32>,
    pub dy: Mat<E>,
    pub dx: Mat<f32>,
    pub dweight: Option<Mat<f32>>,
    pub accumulate: bool,
}

impl<E: Element> Backward<E> {
    pub fn run(self, engine: &Engine) -> Result<(), Error> {
        let (rows, cols) = (self.x.rows, self.x.cols);
        let blocks = rows.div_ceil(ROWS);
        let scratch = engine.scratch(partial_sums(rows, cols))?;
        engine.parallel_if(self.x.len() > 1 << 14, blocks, &|task, _| {
            let start = task * ROWS;
            let rows = Rows { op: self, start, end: rows.min(start + ROWS) };
            engine.set.run(BackwardRows { rows, partial: scratch.mat(task * cols) });
        });
        if let Some(out) = self.dweight {
            engine.set.run(Total { partial: scratch.mat(0), blocks, out });
        }
        Ok(())
    }
}

struct BackwardRows<E> {
    rows: Rows<Backward<E>>,
    partial: *mut f32,
}

impl<E: Element> Kernel for BackwardRows<E> {
    #[inline(always)]
    fn run<S: Simd>(self) {
        let o = self.rows.op;
        let cols = o.x.cols;
        for r in self.rows.start..self.rows.end {
            // SAFETY: rows of this task; columns in range; `partial` has a row of its own.
            unsafe {
                let (x, dy, dx) = (o.x.row(r), o.dy.row(r), o.dx.row(r));
                let scale = o.rstd.get(r, 0);
                let mean = weighted_dot::<S, E>(x, dy, o.weight.ptr, cols) * scale / cols as f32;
                for c in (0..cols).step_by(S::LANES) {
                    let n = S::LANES.min(cols - c);
                    let (v, d) = (S::load_part(x.add(c), n), E::load_part::<S>(dy.add(c), n));
                    let unit = S::mul(v, S::splat(scale));
                    let sum = self.partial.add(c);
                    let first = r == self.rows.start;
                    let old = if first { S::splat(0.0) } else { S::load_part(sum, n) };
                    S::store_part(sum, n, S::fma(d, unit, old));
                    let g = S::mul(d, E::load_part::<S>(o.weight.ptr.add(c), n));
                    let g = S::mul(S::splat(scale), S::fnma(unit, S::splat(mean), g));
                    let add = o.accumulate;
                    let g = if add { S::add(S::load_part(dx.add(c), n), g) } else { g };
                    S::store_part(dx.add(c), n, g);
                }
            }
        }
    }
}

/// Σ a · b · w.
#[inline(always)]
unsafe fn weighted_dot<S: Simd, E: Element>(
    a: *const f32,
    b: *const E,
    w: *const E,
    n: usize,
) -> f32 {
    // SAFETY: n elements each, the caller's.
    unsafe {
        let mut sum = S::splat(0.0);
        for c in (0..n).step_by(S::LANES) {
            let m = S::LANES.min(n - c);
            let v = S::mul(E::load_part::<S>(b.add(c), m), E::load_part::<S>(w.add(c), m));
            sum = S::fma(S::load_part(a.add(c), m), v, sum);
        }
        S::sum(sum)
    }
}

/// `out += Σ partial`, block after block.
struct Total {
    partial: *mut f32,
    blocks: usize,
    out: Mat<f32>,
}

impl Kernel for Total {
    #[inline(always)]
    fn run<S: Simd>(self) {
        let cols = self.out.cols;
        for c in (0..cols).step_by(S::LANES) {
            let n = S::LANES.min(cols - c);
            // SAFETY: columns in range of both.
            unsafe {
                let mut sum = S::splat(0.0);
                for block in 0..self.blocks {
                    sum = S::add(sum, S::load_part(self.partial.add(block * cols + c), n));
                }
                let to = self.out.ptr.add(c);
                S::store_part(to, n, S::add(S::load_part(to, n), sum));
            }
        }
    }
}

/// `dbias += Σ_r dy[r]`.
pub(super) fn bias_backward<E: Element>(
    engine: &Engine,
    dy: Mat<E>,
    dbias: Mat<f32>,
) -> Result<(), Error> {
    let blocks = dy.rows.div_ceil(ROWS);
    let scratch = engine.scratch(partial_sums(dy.rows, dy.cols))?;
    engine.parallel_if(dy.len() > 1 << 14, blocks, &|task, _| {
        let block = dy.part(task * ROWS, ROWS.min(dy.rows - task * ROWS));
        engine.set.run(ColumnSums { block, to: scratch.mat(task * dy.cols) });
    });
    engine.set.run(Total { partial: scratch.mat(0), blocks, out: dbias });
    Ok(())
}

struct ColumnSums<E> {
    block: Mat<E>,
    to: *mut f32,
}

impl<E: Element> Kernel for ColumnSums<E> {
    #[inline(always)]
    fn run<S: Simd>(self) {
        for c in (0..self.block.cols).step_by(S::LANES) {
            let n = S::LANES.min(self.block.cols - c);
            // SAFETY: columns in range; `to` has a row of its own.
            unsafe {
                let mut sum = S::splat(0.0);
                for r in 0..self.block.rows {
                    sum = S::add(sum, E::load_part::<S>(self.block.row(r).add(c), n));
                }
                S::store_part(self.to.add(c), n, sum);
            }
        }
    }
}
