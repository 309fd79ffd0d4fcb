//! The matrix product, all layouts, f32 and bf16. Not a BLAS: no scaling factors, no transposed
//! output.
//!
//! Form after Goto and van de Geijn 2008 ("Anatomy of high-performance matrix multiplication"): the
//! right operand is packed into panels two vectors wide, the left one into blocks of rows, and a
//! tile of the output stays in registers while k runs. A weight's panels may be kept ([`Packed`]).
//!
//! **Same bits.** Each output element is computed as: for each block of units of k, in order,
//! a chain of multiply-adds from zero, then one addition to what came before. Nothing in this depends
//! on the number of rows, on the tile an element falls into, or on which thread computes it.
#![allow(unsafe_code)]

use super::element::{Any, either};
use super::pack::{COL, GAP, KC, KC_COLUMNS, Pair, ROW, Single, Source, TILE, Unit};
use super::pack::{pack_columns, pack_panel, pack_spaced, pack_turned};
use super::simd::{Kernel, Simd};
use super::tile::{End, Soon, tile};
use super::{Engine, Machine};
use crate::error::Error;
use crate::host::Mat;
use crate::op::Layout;
use std::marker::PhantomData;

/// Most rows a task takes, in tiles; and where they lie in columns.
const TASK_TILES: [usize; 2] = [8, 16];
/// Columns a task takes, in panels.
const TASK_PANELS: usize = 64;
/// Units of k that a task packs of a right operand whose rows they are: a part of [`KC`].
const PACK_UNITS: usize = 64;
/// Of these as many as are packed for a panel before the next: rows that still fit the cache
/// together where they all fall into one set of it.
const AT_ONCE: usize = 4;
/// Up to this many rows the right operand is packed where it is used.
const NARROW: usize = 64;
/// Most units of the right operand that are packed at once (32 MiB).
const PACKED: usize = 8 << 20;

/// `out = a · b (+ plus)` in one of the layouts; shapes have been checked. Where an operand is bf16,
/// both are rounded to it, and sums are f32.
#[derive(Clone, Copy)]
pub(super) struct Product {
    pub layout: Layout,
    pub a: Any,
    pub b: Any,
    /// The panels of `b`, where they were packed before.
    pub packed: Option<Packed>,
    pub plus: Option<Mat<f32>>,
    pub out: Any,
}

/// The panels of a right operand: `[block of k][panel][unit][column]`; or some of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed {
    units: *const f32,
    /// Panels of the whole operand.
    panels: usize,
    /// The first of those that are meant.
    first: usize,
}

// SAFETY: an address; who holds a `Packed` holds the locks of its op.
unsafe impl Send for Packed {}
// SAFETY: as above.
unsafe impl Sync for Packed {}

/// Units of k of a block.
#[inline(always)]
fn block_of(layout: Layout) -> usize {
    if layout == Layout::TN { KC_COLUMNS } else { KC }
}

/// Units that the panels of a right operand with `n` columns and `depth` units of k take.
pub(super) fn packed_units(layout: Layout, n: usize, depth: usize, width: usize) -> usize {
    n.next_multiple_of(width) * (depth + depth.div_ceil(block_of(layout)) * GAP)
}

impl Packed {
    /// All panels of an operand with `n` columns.
    pub fn whole(units: *const f32, n: usize, width: usize) -> Packed {
        Packed { units, panels: n.div_ceil(width), first: 0 }
    }

    /// Those from column `start` on: the first of a panel.
    pub fn columns(self, start: usize, width: usize) -> Packed {
        debug_assert!(start.is_multiple_of(width));
        Packed { first: self.first + start / width, ..self }
    }

    /// What begins at unit `start` of k: the first of a block.
    pub fn below(self, start: usize, width: usize) -> Packed {
        debug_assert!(start.is_multiple_of(KC));
        let units = self.units.wrapping_add((start + start / KC * GAP) * self.panels * width);
        Packed { units, ..self }
    }
}

impl Product {
    fn k(&self) -> usize {
        if self.layout == Layout::TN { self.a.rows() } else { self.a.cols() }
    }

    /// The part that makes columns `start ..` of the output.
    fn columns(&self, start: usize, cols: usize) -> Product {
        let b = match self.layout {
            Layout::NT => self.b.part(start, cols),
            Layout::NN | Layout::TN => self.b.columns(start, cols),
        };
        let plus = self.plus.map(|m| m.columns(start, cols));
        Product { b, plus, out: self.out.columns(start, cols), ..*self }
    }

    /// Runs on the engine's threads.
    pub fn run(&self, engine: &Engine) -> Result<(), Error> {
        match (&self.a, &self.b) {
            (Any::F32(_), Any::F32(_)) => self.run_in::<Single>(engine),
            _ => self.run_in::<Pair>(engine),
        }
    }

    fn run_in<U: Unit>(&self, engine: &Engine) -> Result<(), Error>
    where
        f32: Source<U>,
        half::bf16: Source<U>,
    {
        let (m, n, k) = (self.out.rows(), self.out.cols(), self.k());
        if m == 0 || n == 0 {
            return Ok(());
        }
        if k == 0 {
            return self.without_terms(engine);
        }
        let most = self.at_once::<U>();
        for start in (0..n).step_by(most) {
            let part = Work::<U>::of(self.columns(start, most.min(n - start)), engine.machine());
            if m <= NARROW { part.narrow(engine)? } else { part.wide(engine)? }
        }
        Ok(())
    }

    /// Columns of the output whose right operands are packed at once.
    fn at_once<U: Unit>(&self) -> usize {
        match self.packed {
            Some(_) => self.out.cols(),
            None => (PACKED / U::count(self.k())).max(64) / 64 * 64,
        }
    }

    /// f32 numbers of working memory that it takes.
    pub fn working(&self, machine: Machine) -> usize {
        match (&self.a, &self.b) {
            (Any::F32(_), Any::F32(_)) => self.working_in::<Single>(machine),
            _ => self.working_in::<Pair>(machine),
        }
    }

    fn working_in<U: Unit>(&self, machine: Machine) -> usize
    where
        f32: Source<U>,
        half::bf16: Source<U>,
    {
        let (m, n, k) = (self.out.rows(), self.out.cols(), self.k());
        if m == 0 || n == 0 || k == 0 {
            return 0;
        }
        // of all parts the first is the largest
        let part = Work::<U>::of(self.columns(0, self.at_once::<U>().min(n)), machine);
        let part = if m <= NARROW { part.narrow_parts(machine) } else { part.wide_parts(machine) };
        part.floats(machine)
    }

    /// An empty sum.
    fn without_terms(&self, engine: &Engine) -> Result<(), Error> {
        match (self.plus, self.out) {
            (None, out) => either!(out, out => super::plain::fill(engine, out, 0.0)),
            (Some(plus), Any::F32(out)) if plus.ptr == out.ptr => {}
            (Some(plus), out) => either!(out, out => super::plain::copy(engine, plus, out)),
        }
        Ok(())
    }

    /// Packs all panels of the right operand into `to`: what [`Product::packed`] then takes.
    pub fn pack(&self, engine: &Engine, pairs: bool, to: *mut f32) {
        if self.k() == 0 || self.out.cols() == 0 {
            return;
        }
        match pairs {
            true => Work::<Pair>::of(*self, engine.machine()).pack(engine, to),
            false => Work::<Single>::of(*self, engine.machine()).pack(engine, to),
        }
    }
}

/// Working memory of a product, in f32 numbers: what all threads share (a packed operand), then for
/// each thread what it packs itself and what waits for the next block of k.
#[derive(Clone, Copy)]
struct Parts {
    shared: usize,
    own: usize,
    waiting: usize,
}

impl Parts {
    fn own(&self, thread: usize) -> usize {
        self.shared + thread * (self.own + self.waiting)
    }

    fn waiting(&self, thread: usize) -> usize {
        self.own(thread) + self.own
    }

    fn floats(&self, machine: Machine) -> usize {
        self.own(machine.threads)
    }
}

/// A product in units of `U`.
#[derive(Clone, Copy)]
struct Work<U> {
    p: Product,
    /// Units of k, and of a block of it.
    depth: usize,
    block: usize,
    /// Panels of the output's columns.
    panels: usize,
    unit: PhantomData<U>,
}

impl<U: Unit> Work<U>
where
    f32: Source<U>,
    half::bf16: Source<U>,
{
    /// Where panel `panel` of `panels` begins, for the block of `depth` units of k from `start` on.
    #[inline(always)]
    fn place(&self, panels: usize, start: usize, depth: usize, panel: usize) -> usize {
        panels * (start + start / self.block * GAP) + panel * (depth + GAP)
    }

    /// The same in a packed operand.
    #[inline(always)]
    fn panel(&self, of: Packed, start: usize, panel: usize, width: usize) -> *const f32 {
        let depth = self.block.min(self.depth - start);
        let at = self.place(of.panels, start, depth, of.first + panel);
        of.units.wrapping_add(at * width)
    }

    fn of(p: Product, machine: Machine) -> Work<U> {
        let panels = p.out.cols().div_ceil(machine.panel());
        Work { p, depth: U::count(p.k()), block: block_of(p.layout), panels, unit: PhantomData }
    }

    /// Whether sums of one block of k have to wait in f32 for the next.
    fn waits(&self) -> bool {
        self.depth > self.block && matches!(self.p.out, Any::Bf16(_))
    }

    /// Most tiles of a task of the wide form.
    fn most_tiles(&self) -> usize {
        TASK_TILES[usize::from(self.p.layout == Layout::TN)]
    }

    fn wide_parts(&self, machine: Machine) -> Parts {
        let (width, tile, most) = (machine.panel(), machine.tile(), self.most_tiles());
        let columns = TASK_PANELS.min(self.panels) * width;
        Parts {
            shared: match self.p.packed {
                Some(_) => 0,
                None => packed_units(self.p.layout, self.panels * width, self.depth, width),
            },
            own: most * if self.p.layout == Layout::TN { TILE } else { tile * ROW },
            waiting: if self.waits() { most * tile * columns } else { 0 },
        }
    }

    fn narrow_parts(&self, machine: Machine) -> Parts {
        let (width, rows) = (machine.panel(), self.p.out.rows());
        let block = rows.div_ceil(machine.tile()) * (machine.tile() * ROW).max(TILE);
        Parts {
            shared: block * self.depth.div_ceil(self.block),
            own: if self.p.packed.is_some() { 0 } else { width * self.block },
            waiting: if self.waits() { NARROW * width } else { 0 },
        }
    }

    /// Packs the right operand once, for all threads; then each task takes some rows and columns.
    fn wide(self, engine: &Engine) -> Result<(), Error> {
        let (tile, most, rows) = (engine.tile(), self.most_tiles(), self.p.out.rows());
        let parts = self.wide_parts(engine.machine());
        let scratch = engine.scratch(parts.floats(engine.machine()))?;
        let right = self.p.packed.unwrap_or_else(|| {
            self.pack(engine, scratch.mat(0));
            Packed { units: scratch.mat(0), panels: self.panels, first: 0 }
        });
        // equal shares, as many for each thread: nobody waits for the last one
        let tiles = rows.div_ceil(tile);
        let row_tasks = tiles.div_ceil(most).next_multiple_of(engine.threads()).min(tiles);
        let column_tasks = self.panels.div_ceil(TASK_PANELS);
        engine.parallel(row_tasks * column_tasks, &|task, thread| {
            let column = task / row_tasks * TASK_PANELS;
            // the larger shares first
            let first = |row: usize| row * (tiles / row_tasks) + row.min(tiles % row_tasks);
            let rows_of = |task: usize| {
                let row = task % row_tasks;
                let start = first(row) * tile;
                (start, (first(row + 1) * tile).min(rows) - start)
            };
            let left = scratch.mat(parts.own(thread));
            let panels = (column, TASK_PANELS.min(self.panels - column));
            let waiting = scratch.mat(parts.waiting(thread));
            let (rows, next) = (rows_of(task), rows_of(task + engine.threads()));
            engine.set.run(Block { w: self, rows, next, panels, left, right, waiting });
        });
        Ok(())
    }

    /// Packs the whole right operand, each task a piece of it that lies together in memory.
    fn pack(self, engine: &Engine, to: *mut f32) {
        let to = Shared(to);
        if self.p.layout == Layout::NT {
            engine.parallel(self.panels, &|panel, _| {
                engine.set.run(PackPanel { w: self, panel, to: to.get() });
            });
        } else {
            engine.parallel(self.depth.div_ceil(PACK_UNITS), &|task, _| {
                engine.set.run(PackUnits { w: self, first: task * PACK_UNITS, to: to.get() });
            });
        }
    }

    /// Packs the left operand once; each task packs one panel of the right operand and uses it.
    fn narrow(self, engine: &Engine) -> Result<(), Error> {
        let block = self.p.out.rows().div_ceil(engine.tile()) * (engine.tile() * ROW).max(TILE);
        let parts = self.narrow_parts(engine.machine());
        let scratch = engine.scratch(parts.floats(engine.machine()))?;
        engine.set.run(PackLeft { w: self, left: scratch.mat(0), block });
        let task = |panel_number, thread: usize| {
            let right = scratch.mat(parts.own(thread));
            let waiting = scratch.mat(parts.waiting(thread));
            let left = scratch.mat(0);
            engine.set.run(Narrow { w: self, panel: panel_number, left, block, right, waiting });
        };
        let terms = self.p.out.len() * self.p.k();
        engine.parallel_if(terms > 1 << 18, self.panels, &task);
        Ok(())
    }

    /// What becomes of the sums of block `start` of k, for the columns of `panels` panels from
    /// `panel` on and some rows.
    fn end(
        &self,
        start: usize,
        (row, rows): (usize, usize),
        (column, cols): (usize, usize),
        waiting: *mut f32,
    ) -> End {
        let out = self.p.out.part(row, rows).columns(column, cols);
        let first = self.p.plus.map(|m| m.part(row, rows).columns(column, cols));
        let (is_first, is_last) = (start == 0, start + self.block >= self.depth);
        match out {
            Any::F32(sums) => End { plus: if is_first { first } else { Some(sums) }, out },
            Any::Bf16(_) => {
                let sums = Mat { ptr: waiting, rows, cols, stride: cols };
                let out = if is_last { out } else { Any::F32(sums) };
                End { plus: if is_first { first } else { Some(sums) }, out }
            }
        }
    }

    /// Packs rows `row .. row + rows` of the left operand, units `start .. start + depth` of k.
    #[inline(always)]
    unsafe fn pack_left<S: Simd>(
        &self,
        (row, rows): (usize, usize),
        units: (usize, usize),
        to: *mut f32,
    ) {
        // SAFETY: reads stay inside the operand, writes inside the block.
        unsafe {
            match self.p.layout {
                Layout::TN => {
                    either!(self.p.a, a => pack_columns::<S, U, _>(a, (row, rows), units, to))
                }
                Layout::NT | Layout::NN => {
                    either!(self.p.a, a => pack_spaced::<S, U, _, ROW>(a.part(row, rows), units, to))
                }
            }
        }
    }

    /// Packs columns `column ..` of the right operand for units `start .. start + depth` of k.
    #[inline(always)]
    unsafe fn pack_right<S: Simd>(&self, column: usize, units: (usize, usize), to: *mut f32) {
        let cols = (2 * S::LANES).min(self.p.out.cols() - column);
        // SAFETY: reads stay inside the operand, writes inside the panel.
        unsafe {
            match self.p.layout {
                Layout::NT => either!(self.p.b, b => {
                    pack_turned::<S, U, _>(b.part(column, cols), units, to)
                }),
                Layout::NN | Layout::TN => {
                    either!(self.p.b, b => pack_panel::<S, U, _>(b, column, units, to))
                }
            }
        }
    }

    /// All rows of a packed left block against one packed panel.
    #[inline(always)]
    unsafe fn tiles<S: Simd>(
        &self,
        depth: usize,
        left: *const f32,
        right: *const f32,
        end: End,
        soon: &mut Soon,
    ) {
        let (height, cols) = (end.out.rows(), end.out.cols());
        for row in (0..height).step_by(S::TILE) {
            let end = end.part(row, S::TILE.min(height - row), 0, cols);
            // SAFETY: the caller's.
            unsafe {
                if self.p.layout == Layout::TN {
                    let left = left.add(row / S::TILE * TILE);
                    tile::<S, U, 1, COL>(depth, left, right, end, soon);
                } else {
                    tile::<S, U, ROW, 1>(depth, left.add(row * ROW), right, end, soon);
                }
            }
        }
    }
}

/// An address that the tasks of one job write disjoint parts behind.
#[derive(Clone, Copy)]
struct Shared(*mut f32);

// SAFETY: the tasks write disjoint parts.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn get(&self) -> *mut f32 {
        self.0
    }
}

/// Packs some units of k for every panel, where the right operand has them in its rows.
struct PackUnits<U> {
    w: Work<U>,
    first: usize,
    to: *mut f32,
}

impl<U: Unit> Kernel for PackUnits<U>
where
    f32: Source<U>,
    half::bf16: Source<U>,
{
    #[inline(always)]
    fn run<S: Simd>(self) {
        let (width, panels, units) = (2 * S::LANES, self.w.panels, self.w.depth);
        let start = self.first / self.w.block * self.w.block;
        let depth = self.w.block.min(units - start);
        let end = units.min(self.first + PACK_UNITS);
        for unit in (self.first..end).step_by(AT_ONCE) {
            let some = AT_ONCE.min(end - unit);
            for panel in 0..panels {
                let at = self.w.place(panels, start, depth, panel) + unit - start;
                // SAFETY: the units' rows from the panel's first column on; their place in the packed
                // operand, which no other task writes.
                unsafe {
                    self.w.pack_right::<S>(panel * width, (unit, some), self.to.add(at * width));
                    // the rows of the next units are on their way
                    either!(self.w.p.b, b => for row in 0..some * U::PER {
                        let row = ((unit + some) * U::PER + row) * b.stride;
                        S::prefetch_far(b.ptr.wrapping_add(row + panel * width).cast());
                    });
                }
            }
        }
    }
}

/// Packs one panel for every block of k.
struct PackPanel<U> {
    w: Work<U>,
    panel: usize,
    to: *mut f32,
}

impl<U: Unit> Kernel for PackPanel<U>
where
    f32: Source<U>,
    half::bf16: Source<U>,
{
    #[inline(always)]
    fn run<S: Simd>(self) {
        let (width, panels, units) = (2 * S::LANES, self.w.panels, self.w.depth);
        for start in (0..units).step_by(self.w.block) {
            let depth = self.w.block.min(units - start);
            // SAFETY: the panel's place in the packed operand; no other task writes it.
            unsafe {
                let to = self.to.add(self.w.place(panels, start, depth, self.panel) * width);
                self.w.pack_right::<S>(self.panel * width, (start, depth), to);
            }
        }
    }
}

/// Rows and panels of one task of the wide form.
struct Block<U> {
    w: Work<U>,
    rows: (usize, usize),
    /// The rows of the task that is probably this thread's next.
    next: (usize, usize),
    panels: (usize, usize),
    left: *mut f32,
    right: Packed,
    waiting: *mut f32,
}

impl<U: Unit> Kernel for Block<U>
where
    f32: Source<U>,
    half::bf16: Source<U>,
{
    #[inline(always)]
    fn run<S: Simd>(self) {
        let (w, width) = (&self.w, 2 * S::LANES);
        let column = self.panels.0 * width;
        let cols = (self.panels.1 * width).min(w.p.out.cols() - column);
        for start in (0..w.depth).step_by(w.block) {
            let depth = w.block.min(w.depth - start);
            let end = w.end(start, self.rows, (column, cols), self.waiting);
            // SAFETY: `left` is this thread's own; the packed right operand is only read; the
            // output's rows and columns belong to this task.
            unsafe {
                w.pack_left::<S>(self.rows, (start, depth), self.left);
                let mut soon = self.soon::<S>(start);
                for panel in 0..self.panels.1 {
                    let (first, cols) = (panel * width, width.min(cols - panel * width));
                    let end = end.part(0, self.rows.1, first, cols);
                    let right = w.panel(self.right, start, self.panels.0 + panel, width);
                    w.tiles::<S>(depth, self.left, right, end, &mut soon);
                }
            }
        }
    }
}

impl<U: Unit> Block<U> {
    /// What this thread packs after block `start` of k, probably.
    #[inline(always)]
    fn soon<S: Simd>(&self, start: usize) -> Soon {
        let w = &self.w;
        let (start, rows) = match start + w.block < w.depth {
            true => (start + w.block, self.rows),
            false => (0, self.next),
        };
        let (value, values) = (start * U::PER, (w.block * U::PER).min(w.p.k() - start * U::PER));
        let calls = self.panels.1 * self.rows.1.div_ceil(S::TILE) * S::TILE;
        either!(w.p.a, a => match w.p.layout {
            Layout::TN => Soon::of(a.part(value, values).columns(rows.0, rows.1), calls),
            Layout::NT | Layout::NN => Soon::of(a.part(rows.0, rows.1).columns(value, values), calls),
        })
    }
}

/// Packs all rows of the left operand, a block for each block of k.
struct PackLeft<U> {
    w: Work<U>,
    left: *mut f32,
    block: usize,
}

impl<U: Unit> Kernel for PackLeft<U>
where
    f32: Source<U>,
    half::bf16: Source<U>,
{
    #[inline(always)]
    fn run<S: Simd>(self) {
        let (units, rows) = (self.w.depth, (0, self.w.p.out.rows()));
        for (i, start) in (0..units).step_by(self.w.block).enumerate() {
            let depth = self.w.block.min(units - start);
            // SAFETY: the block's place in the scratch.
            unsafe { self.w.pack_left::<S>(rows, (start, depth), self.left.add(i * self.block)) }
        }
    }
}

/// One panel of the narrow form, all rows.
struct Narrow<U> {
    w: Work<U>,
    panel: usize,
    left: *mut f32,
    block: usize,
    right: *mut f32,
    waiting: *mut f32,
}

impl<U: Unit> Kernel for Narrow<U>
where
    f32: Source<U>,
    half::bf16: Source<U>,
{
    #[inline(always)]
    fn run<S: Simd>(self) {
        let (w, width) = (&self.w, 2 * S::LANES);
        let (rows, column) = (w.p.out.rows(), self.panel * width);
        let cols = width.min(w.p.out.cols() - column);
        for (i, start) in (0..w.depth).step_by(w.block).enumerate() {
            let depth = w.block.min(w.depth - start);
            let end = w.end(start, (0, rows), (column, cols), self.waiting);
            // SAFETY: `right` is this thread's own, `left` and what is packed are only read, the
            // output's columns belong to this task.
            unsafe {
                let right = match w.p.packed {
                    Some(packed) => w.panel(packed, start, self.panel, width),
                    None => {
                        w.pack_right::<S>(column, (start, depth), self.right);
                        self.right.cast_const()
                    }
                };
                w.tiles::<S>(
                    depth,
                    self.left.add(i * self.block),
                    right,
                    end,
                    &mut Soon::default(),
                );
            }
        }
    }
}
