//! The inner loop of the product: a tile of the output stays in registers while k runs. Operands are
//! packed ([`super::pack`]). All of the time of a training step goes here, or should.
#![allow(unsafe_code)]

use super::element::{Any, Element};
use super::pack::Unit;
use super::simd::{Kernel, Simd};
use crate::host::Mat;
use half::bf16;
use std::marker::PhantomData;
use std::ops::Range;

/// Least units of k between two requests for lines.
const STRETCH: usize = 8;

/// Units of k ahead of the one that is multiplied, of which f32 operands are asked for. Where the
/// first-level cache is small (32 KiB) they come from the second, and loads wait for each other
/// otherwise: 72 → 80 % of the ceiling with what [`piece`] asks for of the output, on an Intel Xeon.
/// For pairs, which were measured where the cache is larger, nothing is asked for.
const AHEAD: usize = 16;

/// Cache lines of some rows that are asked for while tiles are made.
#[derive(Clone, Copy)]
pub(super) struct Soon {
    /// The next line.
    at: *const u8,
    /// Lines left in its row, and of a row.
    left: usize,
    lines: usize,
    /// Bytes from the end of a row to the next.
    skip: usize,
    /// Lines at once.
    some: usize,
}

impl Default for Soon {
    fn default() -> Soon {
        Soon { at: std::ptr::null(), left: 0, lines: 0, skip: 0, some: 0 }
    }
}

impl Soon {
    /// All of a matrix in `times` requests.
    pub fn of<E>(m: Mat<E>, times: usize) -> Soon {
        let lines = (m.cols * size_of::<E>()).div_ceil(64);
        let skip = (m.stride * size_of::<E>()).wrapping_sub(lines * 64);
        let some = (lines * m.rows).div_ceil(times);
        Soon { at: m.ptr.cast(), left: lines, lines, skip, some }
    }

    #[inline(always)]
    unsafe fn ask<S: Simd>(&mut self) {
        for _ in 0..self.some {
            // SAFETY: no address is read.
            unsafe { S::prefetch_far(self.at.cast()) }
            self.at = self.at.wrapping_add(64);
            self.left -= 1;
            if self.left == 0 {
                self.left = self.lines;
                self.at = self.at.wrapping_add(self.skip);
            }
        }
    }
}

/// What becomes of the sums of some rows and columns.
#[derive(Clone, Copy)]
pub(super) struct End {
    /// Added to them; may be `out`.
    pub plus: Option<Mat<f32>>,
    /// Where they go.
    pub out: Any,
}

impl End {
    pub fn of(out: Mat<f32>, add: bool) -> End {
        End { plus: add.then_some(out), out: Any::F32(out) }
    }

    /// Rows and columns of it.
    #[inline(always)]
    pub fn part(&self, row: usize, rows: usize, column: usize, cols: usize) -> End {
        let plus = self.plus.map(|m| m.part(row, rows).columns(column, cols));
        End { plus, out: self.out.part(row, rows).columns(column, cols) }
    }
}

/// `out (+)= left · right` with packed operands, for blocks that fit the cache: `R` and `C` are the
/// distances between rows and between units of k on the left, `depth` units, at most `KC`. Only some
/// units of k matter to a tile: `range` gives them for rows and columns of the output. A tile without
/// any is left as it is.
#[inline(always)]
pub(super) unsafe fn multiply_where<S: Simd, U: Unit, const R: usize, const C: usize>(
    depth: usize,
    left: *const f32,
    right: *const f32,
    out: Mat<f32>,
    add: bool,
    range: impl Fn(Range<usize>, Range<usize>) -> Range<usize>,
) {
    let end = End::of(out, add);
    for column in (0..out.cols).step_by(2 * S::LANES) {
        let cols = (2 * S::LANES).min(out.cols - column);
        for row in (0..out.rows).step_by(S::TILE) {
            let rows = S::TILE.min(out.rows - row);
            let k = range(row..row + rows, column..column + cols);
            if k.is_empty() {
                continue;
            }
            // SAFETY: the caller's; the range lies inside `depth`.
            unsafe {
                let right = right.add(column * depth + k.start * 2 * S::LANES);
                let left = left.add(row * R + k.start * C);
                let end = end.part(row, rows, column, cols);
                tile::<S, U, R, C>(k.len(), left, right, end, &mut Soon::default());
            }
        }
    }
}

/// At most [`Simd::TILE`] rows against one panel.
///
/// Not inlined: it is the largest piece of code here and stands once for each instruction set, where
/// otherwise it would stand in each kernel that multiplies.
#[inline(always)]
pub(super) unsafe fn tile<S: Simd, U: Unit, const R: usize, const C: usize>(
    depth: usize,
    left: *const f32,
    right: *const f32,
    end: End,
    soon: &mut Soon,
) {
    S::SET.run(Tile::<U, R, C> { depth, left, right, end, soon, unit: PhantomData });
}

struct Tile<U, const R: usize, const C: usize> {
    depth: usize,
    left: *const f32,
    right: *const f32,
    end: End,
    soon: *mut Soon,
    unit: PhantomData<U>,
}

impl<U: Unit, const R: usize, const C: usize> Kernel for Tile<U, R, C> {
    /// In pieces whose height the compiler knows.
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Tile { depth, left, right, end, soon, .. } = self;
        let (rows, cols) = (end.out.rows(), end.out.cols());
        let mut row = 0;
        while row < rows {
            // SAFETY: who made the tile vouches for packed operands of `depth` and for the output;
            // pieces do not overlap.
            unsafe {
                let left = left.add(row * R);
                macro_rules! piece {
                    ($($n:literal)*) => {
                        $(if S::TILE >= $n && rows - row >= $n {
                            let end = end.part(row, $n, 0, cols);
                            piece::<S, U, $n, R, C>(depth, left, right, end, soon);
                            row += $n;
                            continue;
                        })*
                    };
                }
                piece!(14 8 6 4 3 2 1);
            }
        }
    }
}

/// `N` rows, two vectors wide: the loop in which all the time goes.
#[inline(always)]
unsafe fn piece<S: Simd, U: Unit, const N: usize, const R: usize, const C: usize>(
    depth: usize,
    left: *const f32,
    right: *const f32,
    end: End,
    soon: *mut Soon,
) {
    // SAFETY: the caller's: packed operands of `depth`, `N` rows of the output.
    unsafe {
        let mut sums = [[S::splat(0.0); 2]; N];
        let (mut l, mut r) = (left, right);
        // what is added to and what is packed next is asked for a little at a time: many requests at
        // once are in the way of the loop's own
        let stretch = depth.div_ceil(N).max(STRETCH);
        for (row, start) in (0..depth).step_by(stretch).enumerate() {
            // what is only written the cache reads first
            let needed = match (end.plus, end.out) {
                (None, Any::F32(out)) if U::PER == 1 => Some(out),
                (plus, _) => plus,
            };
            if let Some(needed) = needed.filter(|_| row < N) {
                S::prefetch(needed.row(row));
                S::prefetch(needed.row(row).wrapping_add(needed.cols - 1));
            }
            (*soon).ask::<S>();
            for _ in start..depth.min(start + stretch) {
                if U::PER == 1 {
                    S::prefetch(r.wrapping_add(AHEAD * 2 * S::LANES));
                    S::prefetch(r.wrapping_add((AHEAD * 2 + 1) * S::LANES));
                    if C > 1 {
                        S::prefetch(l.wrapping_add(AHEAD * C));
                    }
                }
                let (low, high) = (S::load(r), S::load(r.add(S::LANES)));
                for (i, sum) in sums.iter_mut().enumerate() {
                    let x = S::splat(*l.add(i * R));
                    sum[0] = U::step::<S>(x, low, sum[0]);
                    sum[1] = U::step::<S>(x, high, sum[1]);
                }
                l = l.add(C);
                r = r.add(2 * S::LANES);
            }
        }
        match end.out {
            Any::F32(out) => finish::<S, f32, N>(sums, end.plus, out),
            Any::Bf16(out) => finish::<S, bf16, N>(sums, end.plus, out),
        }
    }
}

/// The sums come by value: behind a reference the compiler keeps them in memory as well as in registers,
/// and stores each after each addition (28 stores for 28 multiply-adds; 2.6 times as long in f32).
#[inline(always)]
unsafe fn finish<S: Simd, E: Element, const N: usize>(
    mut sums: [[S::V; 2]; N],
    plus: Option<Mat<f32>>,
    out: Mat<E>,
) {
    // SAFETY: the caller's: `N` rows of both.
    unsafe {
        if out.cols == 2 * S::LANES {
            if let Some(plus) = plus {
                for (i, sum) in sums.iter_mut().enumerate() {
                    let from = plus.row(i);
                    sum[0] = S::add(S::load(from), sum[0]);
                    sum[1] = S::add(S::load(from.add(S::LANES)), sum[1]);
                }
            }
            for (i, sum) in sums.iter().enumerate() {
                E::store::<S>(out.row(i), sum[0]);
                E::store::<S>(out.row(i).add(S::LANES), sum[1]);
            }
            return;
        }
        // by way of memory, so that `sums` is never indexed by a variable and stays in registers
        let mut rows = [[0.0f32; 32]; N];
        for i in 0..N {
            S::store(rows[i].as_mut_ptr(), sums[i][0]);
            S::store(rows[i].as_mut_ptr().add(S::LANES), sums[i][1]);
        }
        for (i, row) in rows.iter().enumerate() {
            for c in (0..out.cols).step_by(S::LANES) {
                let n = S::LANES.min(out.cols - c);
                let sum = S::load(row.as_ptr().add(c));
                let sum = match plus {
                    Some(plus) => S::add(S::load_part(plus.row(i).add(c), n), sum),
                    None => sum,
                };
                E::store_part::<S>(out.row(i).add(c), n, sum);
            }
        }
    }
}
