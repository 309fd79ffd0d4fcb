//! Embedding and loss head. The head works on a chunk of tokens at a time, so that the logits of all
//! tokens never stand in memory together.
#![allow(unsafe_code)]

use super::Engine;
use super::product::{KC, Product};
use super::rows::{log_of, soft_sum};
use super::simd::{Kernel, Simd, exp};
use crate::error::Error;
use crate::host::Mat;
use crate::op::Layout;

/// Most elements of a chunk of logits, where one block of rows does not have more (16 MiB).
const LOGITS: usize = 4 << 20;
/// Entries of the vocabulary whose logits stand in memory together: a multiple of the product's k
/// block, so that the sum over the vocabulary has the same blocks however it is cut.
const ENTRIES: usize = 43 * KC;
/// Parts of the table that get their gradients in parallel.
const PARTS: usize = 16;

/// A vocabulary part: ids `start .. start + rows`.
fn local(id: u32, start: usize, rows: usize) -> Option<usize> {
    (id as usize).checked_sub(start).filter(|&row| row < rows)
}

pub(super) fn embed(engine: &Engine, ids: Mat<u32>, table: Mat<f32>, start: usize, out: Mat<f32>) {
    const ROWS: usize = 32;
    engine.parallel_if(out.len() > 1 << 14, ids.rows.div_ceil(ROWS), &|task, _| {
        for t in task * ROWS..(task * ROWS + ROWS).min(ids.rows) {
            // SAFETY: both rows are in range; row t of the output belongs to this task.
            unsafe {
                match local(ids.get(t, 0), start, table.rows) {
                    Some(row) => {
                        std::ptr::copy_nonoverlapping(table.row(row), out.row(t), out.cols)
                    }
                    None => std::ptr::write_bytes(out.row(t), 0, out.cols),
                }
            }
        }
    });
}

pub(super) fn embed_backward(
    engine: &Engine,
    ids: Mat<u32>,
    dout: Mat<f32>,
    start: usize,
    dtable: Mat<f32>,
) {
    let step = dtable.rows.div_ceil(PARTS).max(1);
    engine.parallel_if(dout.len() > 1 << 14, dtable.rows.div_ceil(step), &|task, _| {
        let rows = task * step..(task * step + step).min(dtable.rows);
        for t in 0..ids.rows {
            // SAFETY: in range.
            let row = local(unsafe { ids.get(t, 0) }, start, dtable.rows);
            if let Some(row) = row.filter(|row| rows.contains(row)) {
                engine.set.run(AddRow { x: dout.part(t, 1), out: dtable.part(row, 1) });
            }
        }
    });
}

struct AddRow {
    x: Mat<f32>,
    out: Mat<f32>,
}

impl Kernel for AddRow {
    #[inline(always)]
    fn run<S: Simd>(self) {
        for c in (0..self.out.cols).step_by(S::LANES) {
            let n = S::LANES.min(self.out.cols - c);
            // SAFETY: columns in range; the output's row belongs to this task.
            unsafe {
                let (x, to) = (S::load_part(self.x.ptr.add(c), n), self.out.ptr.add(c));
                S::store_part(to, n, S::add(S::load_part(to, n), x));
            }
        }
    }
}

/// The operands of the loss head that both directions have.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub hidden: Mat<f32>,
    pub weight: Mat<f32>,
    pub targets: Mat<u32>,
    pub start: usize,
    pub lse: Mat<f32>,
}

/// What the backward adds to them.
#[derive(Clone, Copy)]
pub(super) struct Gradients {
    pub weights: Mat<f32>,
    pub dhidden: Mat<f32>,
    pub dweight: Option<Mat<f32>>,
}

/// A chunk of tokens and a block of the vocabulary, with their logits.
#[derive(Clone, Copy)]
struct Tile {
    head: Head,
    entry: usize,
    logits: Mat<f32>,
}

impl Head {
    /// Tokens of a chunk: whole blocks of the product's k, by the size of the vocabulary alone.
    fn rows(&self) -> usize {
        let entries = self.weight.rows.clamp(1, ENTRIES);
        KC * (LOGITS / (entries * KC)).clamp(1, 2)
    }

    fn part(&self, start: usize, rows: usize) -> Head {
        let (hidden, targets) = (self.hidden.part(start, rows), self.targets.part(start, rows));
        Head { hidden, targets, lse: self.lse.part(start, rows), ..*self }
    }

    /// The logits of all rows of this head for one block of entries.
    fn tile(&self, engine: &Engine, entry: usize, to: *mut f32) -> Result<Tile, Error> {
        let entries = ENTRIES.min(self.weight.rows - entry);
        let (rows, cols) = (self.hidden.rows, entries);
        let logits = Mat { ptr: to, rows, cols, stride: cols };
        let (a, b) = (self.hidden, self.weight.part(entry, entries));
        Product { layout: Layout::NT, a, b, out: logits, accumulate: false }.run(engine)?;
        Ok(Tile { head: *self, entry, logits })
    }

    fn each_chunk(
        &self,
        engine: &Engine,
        mut f: impl FnMut(Head, usize, *mut f32) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let step = self.rows().min(self.hidden.rows.max(1));
        let scratch = engine.scratch(step * self.weight.rows.min(ENTRIES))?;
        for start in (0..self.hidden.rows).step_by(step) {
            f(self.part(start, step.min(self.hidden.rows - start)), start, scratch.mat(0))?;
        }
        Ok(())
    }

    pub fn forward(&self, engine: &Engine, target_logit: Mat<f32>) -> Result<(), Error> {
        self.each_chunk(engine, |head, start, to| {
            let target_logit = target_logit.part(start, head.hidden.rows);
            for entry in (0..head.weight.rows).step_by(ENTRIES) {
                head.tile(engine, entry, to)?.reduce(engine, target_logit);
            }
            Ok(())
        })
    }

    pub fn backward(&self, engine: &Engine, g: Gradients) -> Result<(), Error> {
        self.each_chunk(engine, |head, start, to| {
            let g = g.part(start, head.hidden.rows);
            for entry in (0..head.weight.rows).step_by(ENTRIES) {
                head.tile(engine, entry, to)?.differentiate(engine, g)?;
            }
            Ok(())
        })
    }

    /// Both, computing the logits once where the vocabulary fits one block.
    pub fn fused(&self, engine: &Engine, logit: Mat<f32>, g: Gradients) -> Result<(), Error> {
        if self.weight.rows > ENTRIES {
            self.forward(engine, logit)?;
            return self.backward(engine, g);
        }
        self.each_chunk(engine, |head, start, to| {
            let rows = head.hidden.rows;
            let tile = head.tile(engine, 0, to)?;
            tile.reduce(engine, logit.part(start, rows));
            tile.differentiate(engine, g.part(start, rows))
        })
    }
}

impl Gradients {
    fn part(&self, start: usize, rows: usize) -> Gradients {
        let (weights, dhidden) = (self.weights.part(start, rows), self.dhidden.part(start, rows));
        Gradients { weights, dhidden, dweight: self.dweight }
    }
}

impl Tile {
    /// Joins this block's log-sum-exp to that of the blocks before, and takes the targets' logits.
    fn reduce(&self, engine: &Engine, target_logit: Mat<f32>) {
        engine.parallel_if(self.logits.len() > 1 << 13, self.logits.rows, &|row, _| {
            engine.set.run(Reduce { tile: *self, target_logit, row });
        });
    }

    /// Turns logits into their gradients, and these into those of hidden state and weight.
    fn differentiate(&self, engine: &Engine, g: Gradients) -> Result<(), Error> {
        engine.parallel_if(self.logits.len() > 1 << 13, self.logits.rows, &|row, _| {
            engine.set.run(Differentiate { tile: *self, weights: g.weights, row });
        });
        let entries = self.head.weight.part(self.entry, self.logits.cols);
        let (a, accumulate) = (self.logits, self.entry > 0);
        Product { layout: Layout::NN, a, b: entries, out: g.dhidden, accumulate }.run(engine)?;
        if let Some(dweight) = g.dweight {
            let out = dweight.part(self.entry, self.logits.cols);
            let b = self.head.hidden;
            Product { layout: Layout::TN, a, b, out, accumulate: true }.run(engine)?;
        }
        Ok(())
    }
}

struct Reduce {
    tile: Tile,
    target_logit: Mat<f32>,
    row: usize,
}

impl Kernel for Reduce {
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Tile { head, entry, logits } = self.tile;
        // SAFETY: one row of each, this task's.
        unsafe {
            let z = logits.row(self.row);
            let (largest, sum) = soft_sum::<S>(z, logits.cols);
            let own = log_of(largest, sum);
            let lse = if entry == 0 { own } else { join(head.lse.get(self.row, 0), own) };
            head.lse.set(self.row, 0, lse);
            let target = head.targets.get(self.row, 0);
            match local(target, head.start + entry, logits.cols) {
                Some(v) => self.target_logit.set(self.row, 0, *z.add(v)),
                None if entry == 0 => self.target_logit.set(self.row, 0, 0.0),
                None => {}
            }
        }
    }
}

/// log(eᵃ + eᵇ).
fn join(a: f32, b: f32) -> f32 {
    let (a, b) = (a as f64, b as f64);
    let max = a.max(b);
    (max + ((a - max).exp() + (b - max).exp()).ln()) as f32
}

struct Differentiate {
    tile: Tile,
    weights: Mat<f32>,
    row: usize,
}

impl Kernel for Differentiate {
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Tile { head, entry, logits } = self.tile;
        // SAFETY: one row of each, this task's.
        unsafe {
            let z = logits.row(self.row);
            let (weight, lse) = (self.weights.get(self.row, 0), head.lse.get(self.row, 0));
            if weight == 0.0 {
                return std::ptr::write_bytes(z, 0, logits.cols);
            }
            for c in (0..logits.cols).step_by(S::LANES) {
                let n = S::LANES.min(logits.cols - c);
                let p = exp::<S>(S::sub(S::load_part(z.add(c), n), S::splat(lse)));
                S::store_part(z.add(c), n, S::mul(p, S::splat(-weight)));
            }
            let target = head.targets.get(self.row, 0);
            if let Some(v) = local(target, head.start + entry, logits.cols) {
                *z.add(v) += weight;
            }
        }
    }
}
