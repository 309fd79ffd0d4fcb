//! Ops that look along a row or over everything: log-sum-exp, the largest element, the sum of squares.
#![allow(unsafe_code)]

use super::Engine;
use super::simd::{Kernel, Simd, exp};
use crate::error::Error;
use crate::host::Mat;

/// Elements of one partial sum of squares. Part of the arithmetic.
const CHUNK: usize = 1 << 14;

/// The largest element of a row and Σ e^(x − largest).
#[inline(always)]
pub(super) unsafe fn soft_sum<S: Simd>(x: *const f32, n: usize) -> (f32, f32) {
    // SAFETY: n elements, the caller's.
    unsafe {
        let lowest = S::splat(f32::NEG_INFINITY);
        let mut max = lowest;
        for c in (0..n).step_by(S::LANES) {
            let m = S::LANES.min(n - c);
            max = S::max(S::keep(S::load_part(x.add(c), m), m, lowest), max);
        }
        let largest = S::largest(max);
        let (mut sum, zero) = (S::splat(0.0), S::splat(0.0));
        for c in (0..n).step_by(S::LANES) {
            let m = S::LANES.min(n - c);
            let e = exp::<S>(S::sub(S::load_part(x.add(c), m), S::splat(largest)));
            sum = S::add(sum, S::keep(e, m, zero));
        }
        (largest, S::sum(sum))
    }
}

/// `out[r] = log Σ_c exp(x[r, c])`.
pub(super) fn log_sum_exp(engine: &Engine, x: Mat<f32>, out: Mat<f32>) {
    engine.parallel_if(x.len() > 1 << 13, x.rows, &|row, _| {
        engine.set.run(LogSumExp { x: x.part(row, 1), out: out.part(row, 1) });
    });
}

struct LogSumExp {
    x: Mat<f32>,
    out: Mat<f32>,
}

impl Kernel for LogSumExp {
    #[inline(always)]
    fn run<S: Simd>(self) {
        // SAFETY: one row of both.
        unsafe {
            let (largest, sum) = soft_sum::<S>(self.x.ptr, self.x.cols);
            // a row of −∞ has no largest element to subtract
            let nan = (0..self.x.cols).any(|c| self.x.get(0, c).is_nan());
            let empty = largest == f32::NEG_INFINITY && !nan;
            self.out.set(0, 0, if empty { largest } else { log_of(largest, sum) });
        }
    }
}

/// largest + ln(sum), rounded once.
#[inline(always)]
pub(super) fn log_of(largest: f32, sum: f32) -> f32 {
    (largest as f64 + (sum as f64).ln()) as f32
}

/// Column of the largest element, the first of equals, the first NaN.
pub(super) fn arg_max(engine: &Engine, x: Mat<f32>, out: Mat<u32>) {
    engine.parallel_if(x.len() > 1 << 13, x.rows, &|row, _| {
        // SAFETY: a row of `x`, read by this task alone or with others.
        let values = unsafe { std::slice::from_raw_parts(x.row(row), x.cols) };
        let mut best = 0;
        for (i, v) in values.iter().enumerate() {
            if v.is_nan() {
                best = i;
                break;
            }
            best = if *v > values[best] { i } else { best };
        }
        // SAFETY: the row belongs to this task.
        unsafe { out.set(row, 0, best as u32) }
    });
}

/// A dense matrix as one row.
fn joined(x: Mat<f32>) -> Mat<f32> {
    match x.rows <= 1 || x.stride == x.cols {
        true => Mat { rows: 1.min(x.rows), cols: x.len(), stride: x.len(), ..x },
        false => x,
    }
}

/// f32 numbers that the sums of chunks take: two for each f64.
pub(super) fn chunk_sums(x: Mat<f32>) -> usize {
    let x = joined(x);
    2 * x.rows * x.cols.div_ceil(CHUNK)
}

/// Σ x², in f64: by chunks of each row, then over the chunks in order.
pub(super) fn sum_squares(engine: &Engine, x: Mat<f32>) -> Result<f64, Error> {
    let x = joined(x);
    let blocks = x.cols.div_ceil(CHUNK);
    let scratch = engine.scratch(chunk_sums(x))?;
    engine.parallel(x.rows * blocks, &|task, _| {
        let (row, start) = (task / blocks, task % blocks * CHUNK);
        let part = x.part(row, 1).columns(start, CHUNK.min(x.cols - start));
        let to = scratch.mat(2 * task).cast();
        engine.set.run(Squares { part, to });
    });
    let partial = scratch.mat(0).cast::<f64>();
    // SAFETY: one number a task, all written.
    Ok((0..x.rows * blocks).map(|i| unsafe { *partial.add(i) }).sum())
}

struct Squares {
    part: Mat<f32>,
    to: *mut f64,
}

impl Kernel for Squares {
    #[inline(always)]
    fn run<S: Simd>(self) {
        // SAFETY: a part of one row; `to` is this task's.
        unsafe {
            let values = std::slice::from_raw_parts(self.part.ptr, self.part.cols);
            let (whole, rest) = values.as_chunks::<16>();
            let mut sums = [0f64; 16];
            for chunk in whole {
                for (sum, &x) in sums.iter_mut().zip(chunk) {
                    *sum += x as f64 * x as f64;
                }
            }
            let rest: f64 = rest.iter().map(|&x| x as f64 * x as f64).sum();
            *self.to = sums.iter().sum::<f64>() + rest;
        }
    }
}
