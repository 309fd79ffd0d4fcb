//! The matrix product in f32, all layouts. Not a BLAS: no scaling factors, no transposed output.
//!
//! Form after Goto and van de Geijn 2008 ("Anatomy of high-performance matrix multiplication"): the
//! right operand is packed into panels two vectors wide, the left one into blocks of rows, and a
//! tile of the output stays in registers while k runs.
//!
//! **Same bits.** Each output element is computed as: for each block of [`KC`] values of k, in order,
//! a chain of multiply-adds from zero, then one addition to the output. Nothing in this depends on
//! the number of rows, on the tile an element falls into, or on which thread computes it.
#![allow(unsafe_code)]

use super::Engine;
use super::scratch::Scratch;
use super::simd::{Kernel, Simd};
use crate::error::Error;
use crate::host::Mat;
use crate::op::Layout;
use std::ops::Range;

/// Values of k that are summed in registers before they go to the output. Part of the arithmetic:
/// another value gives other bits.
pub(super) const KC: usize = 384;
/// Elements from row to row of a packed left block: a line more than `KC`, so that rows do not fall
/// into the same set of the cache.
pub(super) const ROW: usize = KC + 16;
/// Elements from k to k of a packed left tile in the layout where rows lie in columns.
const COL: usize = 16;
/// Rows ahead of the one being packed that are asked for, where a row gives a few lines.
const AHEAD: usize = 8;
/// The same where a row gives many.
const ROWS_AHEAD: usize = 2;
/// Most rows a task takes, in tiles.
const TASK_TILES: usize = 4;
/// Columns a task takes, in panels.
const TASK_PANELS: usize = 64;
/// Values of k that a task packs of a right operand whose rows they are: a part of [`KC`].
const PACK_ROWS: usize = 48;
/// Up to this many rows the right operand is packed where it is used.
const NARROW: usize = 64;
/// Most elements of the right operand that are packed at once (32 MiB).
const PACKED: usize = 8 << 20;

/// `out (+)= a · b` in one of the layouts; shapes have been checked.
#[derive(Clone, Copy)]
pub(super) struct Product {
    pub layout: Layout,
    pub a: Mat<f32>,
    pub b: Mat<f32>,
    pub out: Mat<f32>,
    pub accumulate: bool,
}

impl Product {
    fn k(&self) -> usize {
        if self.layout == Layout::TN { self.a.rows } else { self.a.cols }
    }

    /// The part that makes columns `start ..` of the output.
    fn columns(&self, start: usize, cols: usize) -> Product {
        let b = match self.layout {
            Layout::NT => self.b.part(start, cols),
            Layout::NN | Layout::TN => self.b.columns(start, cols),
        };
        Product { b, out: self.out.columns(start, cols), ..*self }
    }

    /// Runs on the engine's threads.
    pub fn run(&self, engine: &Engine) -> Result<(), Error> {
        let (m, n, k) = (self.out.rows, self.out.cols, self.k());
        if m == 0 || n == 0 {
            return Ok(());
        }
        if k == 0 {
            if !self.accumulate {
                super::plain::fill(engine, self.out, 0.0);
            }
            return Ok(());
        }
        let most = (PACKED / k).max(64) / 64 * 64;
        for start in (0..n).step_by(most) {
            let part = self.columns(start, most.min(n - start));
            if m <= NARROW { part.narrow(engine)? } else { part.wide(engine)? }
        }
        Ok(())
    }

    /// Packs the right operand once, for all threads; then each task takes some rows and columns.
    fn wide(self, engine: &Engine) -> Result<(), Error> {
        let (width, tile) = (engine.panel(), engine.tile());
        let (panels, k) = (self.out.cols.div_ceil(width), self.k());
        let block = TASK_TILES * (tile * ROW).max(COL * KC);
        let (packed, blocks) = (panels * width * k, block * engine.threads());
        let scratch = engine.scratch(packed + blocks)?;
        self.pack(engine, panels, &scratch);
        // equal shares, as many for each thread: nobody waits for the last one
        let tiles = self.out.rows.div_ceil(tile);
        let row_tasks = tiles.div_ceil(TASK_TILES).next_multiple_of(engine.threads()).min(tiles);
        let column_tasks = panels.div_ceil(TASK_PANELS);
        engine.parallel(row_tasks * column_tasks, &|task, thread| {
            let (row, column) = (task % row_tasks, task / row_tasks * TASK_PANELS);
            let first = row * tiles / row_tasks * tile;
            let end = ((row + 1) * tiles / row_tasks * tile).min(self.out.rows);
            let (right, left) = (scratch.mat(0), scratch.mat(packed + thread * block));
            let rows = (first, end - first);
            let panels = (column, TASK_PANELS.min(panels - column));
            engine.set.run(Block { p: self, rows, panels, left, right });
        });
        Ok(())
    }

    /// Packs the whole right operand, each task a piece of it that lies together in memory.
    fn pack(self, engine: &Engine, panels: usize, right: &Scratch<'_>) {
        if self.layout == Layout::NT {
            engine.parallel(panels, &|panel, _| {
                engine.set.run(PackPanel { p: self, panel, right: right.mat(0) });
            });
        } else {
            engine.parallel(self.k().div_ceil(PACK_ROWS), &|task, _| {
                engine.set.run(PackRows { p: self, first: task * PACK_ROWS, right: right.mat(0) });
            });
        }
    }

    /// Packs the left operand once; each task packs one panel of the right operand and uses it.
    fn narrow(self, engine: &Engine) -> Result<(), Error> {
        let width = engine.panel();
        let (panels, k) = (self.out.cols.div_ceil(width), self.k());
        let tiles = self.out.rows.div_ceil(engine.tile());
        let block = tiles * (engine.tile() * ROW).max(COL * KC);
        let (left, panel) = (block * k.div_ceil(KC), width * KC);
        let scratch = engine.scratch(left + panel * engine.threads())?;
        engine.set.run(PackLeft { p: self, left: scratch.mat(0), block });
        let task = |panel_number, thread: usize| {
            let right = scratch.mat(left + thread * panel);
            let left = scratch.mat(0);
            engine.set.run(NarrowPanel { p: self, panel: panel_number, left, block, right });
        };
        engine.parallel_if(self.out.len() * k > 1 << 18, panels, &task);
        Ok(())
    }
}

/// Packs some values of k for every panel, where the right operand has them in its rows.
struct PackRows {
    p: Product,
    first: usize,
    right: *mut f32,
}

impl Kernel for PackRows {
    #[inline(always)]
    fn run<S: Simd>(self) {
        let (width, k) = (2 * S::LANES, self.p.k());
        let panels = self.p.out.cols.div_ceil(width);
        let start = self.first / KC * KC;
        let depth = KC.min(k - start);
        for i in self.first..k.min(self.first + PACK_ROWS) {
            for panel in 0..panels {
                let (at, column) = (start * panels + panel * depth + i - start, panel * width);
                // SAFETY: row `i` of the operand from the panel's first column on; its place in the
                // packed operand, which no other task writes.
                unsafe {
                    let (from, to) = (self.p.b.row(i).add(column), self.right.add(at * width));
                    pack_line::<S>(from, self.p.out.cols - column, to);
                }
            }
        }
    }
}

/// Packs one panel for every block of k.
struct PackPanel {
    p: Product,
    panel: usize,
    right: *mut f32,
}

impl Kernel for PackPanel {
    #[inline(always)]
    fn run<S: Simd>(self) {
        let (width, k) = (2 * S::LANES, self.p.k());
        let panels = self.p.out.cols.div_ceil(width);
        for start in (0..k).step_by(KC) {
            let depth = KC.min(k - start);
            // SAFETY: the panel's place in the packed operand; no other task writes it.
            unsafe {
                let to = self.right.add((start * panels + self.panel * depth) * width);
                pack_right::<S>(&self.p, self.panel * width, start, depth, to);
            }
        }
    }
}

/// Rows and panels of one task of the wide form.
struct Block {
    p: Product,
    rows: (usize, usize),
    panels: (usize, usize),
    left: *mut f32,
    right: *mut f32,
}

impl Kernel for Block {
    #[inline(always)]
    fn run<S: Simd>(self) {
        let (p, width) = (self.p, 2 * S::LANES);
        let (k, panels) = (p.k(), p.out.cols.div_ceil(width));
        for start in (0..k).step_by(KC) {
            let depth = KC.min(k - start);
            // SAFETY: `left` is this thread's own; the packed right operand is only read; the
            // output's rows and columns belong to this task.
            unsafe {
                pack_left::<S>(&p, self.rows.0, self.rows.1, start, depth, self.left);
                for panel in self.panels.0..self.panels.0 + self.panels.1 {
                    let right = self.right.add((start * panels + panel * depth) * width);
                    let add = p.accumulate || start > 0;
                    let out = p.out.part(self.rows.0, self.rows.1);
                    tiles::<S>(p.layout, depth, self.left, right, out, panel * width, add);
                }
            }
        }
    }
}

/// Packs all rows of the left operand, a block for each block of k.
struct PackLeft {
    p: Product,
    left: *mut f32,
    block: usize,
}

impl Kernel for PackLeft {
    #[inline(always)]
    fn run<S: Simd>(self) {
        let k = self.p.k();
        for (i, start) in (0..k).step_by(KC).enumerate() {
            let depth = KC.min(k - start);
            // SAFETY: the block's place in the scratch.
            unsafe {
                let to = self.left.add(i * self.block);
                pack_left::<S>(&self.p, 0, self.p.out.rows, start, depth, to);
            }
        }
    }
}

/// One panel of the narrow form, all rows.
struct NarrowPanel {
    p: Product,
    panel: usize,
    left: *mut f32,
    block: usize,
    right: *mut f32,
}

impl Kernel for NarrowPanel {
    #[inline(always)]
    fn run<S: Simd>(self) {
        let (p, k, column) = (self.p, self.p.k(), self.panel * 2 * S::LANES);
        for (i, start) in (0..k).step_by(KC).enumerate() {
            let depth = KC.min(k - start);
            let add = p.accumulate || start > 0;
            // SAFETY: `right` is this thread's own, `left` is only read, the output's columns belong
            // to this task.
            unsafe {
                pack_right::<S>(&p, column, start, depth, self.right);
                let left = self.left.add(i * self.block);
                tiles::<S>(p.layout, depth, left, self.right, p.out, column, add);
            }
        }
    }
}

/// Packs columns `column ..` of the right operand, values `start .. start + depth` of k, as
/// `to[k][column]`, two vectors wide, zeros where the operand ends.
#[inline(always)]
unsafe fn pack_right<S: Simd>(
    p: &Product,
    column: usize,
    start: usize,
    depth: usize,
    to: *mut f32,
) {
    let width = 2 * S::LANES;
    let cols = width.min(p.out.cols - column);
    // SAFETY: reads stay inside the operand, writes inside depth · width elements of `to`.
    unsafe {
        if p.layout == Layout::NT {
            pack_turned::<S>(p.b.part(column, cols), start, depth, to);
            return;
        }
        for i in 0..depth {
            pack_line::<S>(p.b.row(start + i).add(column), cols, to.add(i * width));
        }
    }
}

/// One value of k of a panel: `cols` elements or two vectors, zeros where there are fewer.
#[inline(always)]
unsafe fn pack_line<S: Simd>(from: *const f32, cols: usize, to: *mut f32) {
    // SAFETY: the caller's: `cols` elements to read, two vectors to write.
    unsafe {
        if cols >= 2 * S::LANES {
            S::store(to, S::load(from));
            S::store(to.add(S::LANES), S::load(from.add(S::LANES)));
        } else {
            let rest = cols.saturating_sub(S::LANES);
            S::store(to, S::load_part(from, cols.min(S::LANES)));
            S::store(to.add(S::LANES), S::load_part(from.add(cols - rest), rest));
        }
    }
}

/// The panel of rows that become columns.
#[inline(always)]
unsafe fn pack_turned<S: Simd>(rows: Mat<f32>, start: usize, depth: usize, to: *mut f32) {
    let (width, lanes) = (2 * S::LANES, S::LANES);
    // SAFETY: whole squares are inside the operand and the panel; the rest goes by element.
    unsafe {
        for half in 0..2 {
            let first = half * lanes;
            let whole = if rows.rows >= first + lanes { depth / lanes * lanes } else { 0 };
            for i in (0..whole).step_by(lanes) {
                let from = rows.row(first).add(start + i);
                S::transpose(from, rows.stride, to.add(i * width + first), width);
            }
            for i in whole..depth {
                for j in first..first + lanes {
                    let inside = j < rows.rows;
                    *to.add(i * width + j) = if inside { rows.get(j, start + i) } else { 0.0 };
                }
            }
        }
    }
}

/// Packs rows `row .. row + rows` of the left operand, values `start .. start + depth` of k.
#[inline(always)]
unsafe fn pack_left<S: Simd>(
    p: &Product,
    row: usize,
    rows: usize,
    start: usize,
    depth: usize,
    to: *mut f32,
) {
    // SAFETY: reads stay inside the operand; a row takes at most ROW elements, a tile of columns
    // COL · KC.
    unsafe {
        if p.layout == Layout::TN {
            let room = p.a.cols - row;
            for i in 0..depth {
                let from = p.a.row(start + i).add(row);
                // rows lie far apart: no processor guesses the next one by itself
                for line in (0..rows).step_by(16) {
                    S::prefetch(from.wrapping_add(AHEAD * p.a.stride + line));
                }
                for tile in (0..rows).step_by(S::TILE) {
                    // a whole COL of elements, of which the tile uses its first rows
                    let to = to.add(tile / S::TILE * COL * KC + i * COL);
                    for half in (0..COL).step_by(S::LANES) {
                        let first = tile + half;
                        let n = S::LANES.min(room.saturating_sub(first));
                        let from = from.wrapping_add(first);
                        S::store(to.add(half), S::load_part(from, n));
                    }
                }
            }
            return;
        }
        for r in 0..rows {
            let from = p.a.row(row + r).add(start);
            // a row is too short for the processor to guess far into the next one
            for line in (0..depth).step_by(16) {
                S::prefetch(from.wrapping_add(ROWS_AHEAD * p.a.stride + line));
            }
            copy_row::<S>(from, to.add(r * ROW), depth);
        }
    }
}

#[inline(always)]
unsafe fn copy_row<S: Simd>(from: *const f32, to: *mut f32, n: usize) {
    let whole = n / S::LANES * S::LANES;
    // SAFETY: the caller's: n elements on both sides.
    unsafe {
        for i in (0..whole).step_by(S::LANES) {
            S::store(to.add(i), S::load(from.add(i)));
        }
        S::store_part(to.add(whole), n - whole, S::load_part(from.add(whole), n - whole));
    }
}

/// All rows of a packed left block against one packed panel.
#[inline(always)]
unsafe fn tiles<S: Simd>(
    layout: Layout,
    depth: usize,
    left: *const f32,
    right: *const f32,
    out: Mat<f32>,
    column: usize,
    add: bool,
) {
    let mut row = 0;
    while row < out.rows {
        let rows = S::TILE.min(out.rows - row);
        // SAFETY: the caller's.
        unsafe {
            let to = Mat { ptr: out.row(row).add(column), rows, cols: out.cols - column, ..out };
            if layout == Layout::TN {
                let left = left.add(row / S::TILE * COL * KC);
                tile::<S, 1, COL>(rows, depth, left, right, to, add);
            } else {
                tile::<S, ROW, 1>(rows, depth, left.add(row * ROW), right, to, add);
            }
        }
        row += rows;
    }
}

/// Packs a matrix whose rows are values of k into panels of columns: `to[panel][k][column]`.
#[inline(always)]
pub(super) unsafe fn pack_straight<S: Simd>(from: Mat<f32>, to: *mut f32) {
    let width = 2 * S::LANES;
    // SAFETY: reads inside the matrix; writes inside rows · (columns, whole panels) of `to`.
    unsafe {
        for column in (0..from.cols).step_by(width) {
            let (cols, to) = (width.min(from.cols - column), to.add(column * from.rows));
            let (low, high) = (cols.min(S::LANES), cols.saturating_sub(S::LANES));
            for i in 0..from.rows {
                let (row, to) = (from.row(i).add(column), to.add(i * width));
                S::store(to, S::load_part(row, low));
                S::store(to.add(S::LANES), S::load_part(row.add(low), high));
            }
        }
    }
}

/// Packs a matrix whose columns are values of k into panels of its rows: `to[panel][k][row]`.
#[inline(always)]
pub(super) unsafe fn pack_rows<S: Simd>(from: Mat<f32>, to: *mut f32) {
    let width = 2 * S::LANES;
    for row in (0..from.rows).step_by(width) {
        let part = from.part(row, width.min(from.rows - row));
        // SAFETY: as in `pack_straight`.
        unsafe { pack_turned::<S>(part, 0, from.cols, to.add(row * from.cols)) }
    }
}

/// Copies rows to the distance that [`multiply`] wants on its left.
#[inline(always)]
pub(super) unsafe fn pack_spaced<S: Simd>(from: Mat<f32>, to: *mut f32) {
    for r in 0..from.rows {
        // SAFETY: rows of at most `ROW` elements.
        unsafe { copy_row::<S>(from.row(r), to.add(r * ROW), from.cols) }
    }
}

/// `out (+)= left · right` with packed operands, for blocks that fit the cache: `R` and `C` as in
/// [`tile`], `depth` at most [`KC`].
#[inline(always)]
pub(super) unsafe fn multiply<S: Simd, const R: usize, const C: usize>(
    depth: usize,
    left: *const f32,
    right: *const f32,
    out: Mat<f32>,
    add: bool,
) {
    // SAFETY: the caller's.
    unsafe { multiply_where::<S, R, C>(depth, left, right, out, add, |_, _| 0..depth) }
}

/// The same, where only some values of k matter to a tile: `range` gives them for rows and columns
/// of the output. A tile without any is left as it is.
#[inline(always)]
pub(super) unsafe fn multiply_where<S: Simd, const R: usize, const C: usize>(
    depth: usize,
    left: *const f32,
    right: *const f32,
    out: Mat<f32>,
    add: bool,
    range: impl Fn(Range<usize>, Range<usize>) -> Range<usize>,
) {
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
                let to = out.part(row, rows).columns(column, cols);
                let right = right.add(column * depth + k.start * 2 * S::LANES);
                let left = left.add(row * R + k.start * C);
                tile::<S, R, C>(rows, k.len(), left, right, to, add);
            }
        }
    }
}

/// At most [`Simd::TILE`] rows against one panel, in pieces whose height the compiler knows. `R` and
/// `C` are the distances between rows and between values of k on the left.
#[inline(always)]
unsafe fn tile<S: Simd, const R: usize, const C: usize>(
    rows: usize,
    depth: usize,
    left: *const f32,
    right: *const f32,
    out: Mat<f32>,
    add: bool,
) {
    let mut row = 0;
    while row < rows {
        // SAFETY: the caller's; pieces do not overlap.
        unsafe {
            let (left, to) = (left.add(row * R), out.row(row));
            let (cols, stride) = (out.cols.min(2 * S::LANES), out.stride);
            macro_rules! piece {
                ($($n:literal)*) => {
                    $(if S::TILE >= $n && rows - row >= $n {
                        piece::<S, $n, R, C>(depth, left, right, to, stride, cols, add);
                        row += $n;
                        continue;
                    })*
                };
            }
            piece!(14 8 6 4 3 2 1);
        }
    }
}

/// `N` rows, two vectors wide: the loop in which all the time goes.
#[inline(always)]
unsafe fn piece<S: Simd, const N: usize, const R: usize, const C: usize>(
    depth: usize,
    left: *const f32,
    right: *const f32,
    out: *mut f32,
    stride: usize,
    cols: usize,
    add: bool,
) {
    // SAFETY: the caller's: packed operands of `depth`, `N` rows of `cols` columns of output.
    unsafe {
        // the output's lines are on their way while the sums are made
        for i in 0..N {
            S::prefetch(out.wrapping_add(i * stride));
            S::prefetch(out.wrapping_add(i * stride + cols - 1));
        }
        let mut sums = [[S::splat(0.0); 2]; N];
        let (mut l, mut r) = (left, right);
        for _ in 0..depth {
            let (low, high) = (S::load(r), S::load(r.add(S::LANES)));
            for (i, sum) in sums.iter_mut().enumerate() {
                let x = S::splat(*l.add(i * R));
                sum[0] = S::fma(x, low, sum[0]);
                sum[1] = S::fma(x, high, sum[1]);
            }
            l = l.add(C);
            r = r.add(2 * S::LANES);
        }
        let whole = cols == 2 * S::LANES;
        if whole && add {
            for (i, sum) in sums.iter().enumerate() {
                let (low, high) = (out.add(i * stride), out.add(i * stride + S::LANES));
                S::store(low, S::add(S::load(low), sum[0]));
                S::store(high, S::add(S::load(high), sum[1]));
            }
        } else if whole {
            for (i, sum) in sums.iter().enumerate() {
                S::store(out.add(i * stride), sum[0]);
                S::store(out.add(i * stride + S::LANES), sum[1]);
            }
        } else {
            // by way of memory, so that `sums` is never indexed by a variable and stays in registers
            let mut rows = [[0.0f32; 32]; N];
            for i in 0..N {
                S::store(rows[i].as_mut_ptr(), sums[i][0]);
                S::store(rows[i].as_mut_ptr().add(S::LANES), sums[i][1]);
            }
            for (i, row) in rows.iter().enumerate() {
                let to = out.add(i * stride);
                for c in (0..cols).step_by(S::LANES) {
                    let n = S::LANES.min(cols - c);
                    let (sum, to) = (S::load(row.as_ptr().add(c)), to.add(c));
                    S::store_part(to, n, if add { S::add(S::load_part(to, n), sum) } else { sum });
                }
            }
        }
    }
}
