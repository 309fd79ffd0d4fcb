//! Embedding and loss head. The head works on a chunk of tokens at a time, so that the logits of all
//! tokens never stand in memory together.
#![allow(unsafe_code)]

use super::element::{Any, Element, either};
use super::pack::KC;
use super::plain;
use super::product::{Packed, Product};
use super::rows::{log_of, soft_sum};
use super::simd::{Kernel, Simd, exp};
use super::{Engine, Machine};
use crate::error::Error;
use crate::host::Mat;
use crate::op::Layout;

/// Most logits that stand in memory together (16 MiB), where a chunk has no fewer tokens than the
/// least.
const LOGITS: usize = 4 << 20;
/// Fewest and most tokens of a chunk.
const CHUNK: [usize; 2] = [256, 1024];
/// Entries of the vocabulary whose logits stand in memory together: a multiple of the product's k
/// block in either type, so that the sum over the vocabulary has the same blocks however it is cut.
const ENTRIES: usize = 16 * KC;
/// Parts of the table that get their gradients in parallel.
const PARTS: usize = 16;

/// A vocabulary part: ids `start .. start + rows`.
fn local(id: u32, start: usize, rows: usize) -> Option<usize> {
    (id as usize).checked_sub(start).filter(|&row| row < rows)
}

pub(super) fn embed<E: Element, F: Element>(
    engine: &Engine,
    ids: Mat<u32>,
    table: Mat<E>,
    start: usize,
    out: Mat<F>,
) {
    const ROWS: usize = 32;
    engine.parallel_if(out.len() > 1 << 14, ids.rows.div_ceil(ROWS), &|task, _| {
        for t in task * ROWS..(task * ROWS + ROWS).min(ids.rows) {
            // SAFETY: both rows are in range; row t of the output belongs to this task.
            unsafe {
                match local(ids.get(t, 0), start, table.rows) {
                    Some(row) => engine.set.run(Row { x: table.part(row, 1), out: out.part(t, 1) }),
                    None => std::ptr::write_bytes(out.row(t), 0, out.cols),
                }
            }
        }
    });
}

/// One row, widened or rounded.
struct Row<E, F> {
    x: Mat<E>,
    out: Mat<F>,
}

impl<E: Element, F: Element> Kernel for Row<E, F> {
    #[inline(always)]
    fn run<S: Simd>(self) {
        for c in (0..self.out.cols).step_by(S::LANES) {
            let n = S::LANES.min(self.out.cols - c);
            // SAFETY: columns in range; the output's row belongs to this task.
            unsafe {
                F::store_part::<S>(self.out.ptr.add(c), n, E::load_part::<S>(self.x.ptr.add(c), n));
            }
        }
    }
}

pub(super) fn embed_backward<E: Element>(
    engine: &Engine,
    ids: Mat<u32>,
    dout: Mat<E>,
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

struct AddRow<E> {
    x: Mat<E>,
    out: Mat<f32>,
}

impl<E: Element> Kernel for AddRow<E> {
    #[inline(always)]
    fn run<S: Simd>(self) {
        for c in (0..self.out.cols).step_by(S::LANES) {
            let n = S::LANES.min(self.out.cols - c);
            // SAFETY: columns in range; the output's row belongs to this task.
            unsafe {
                let (x, to) = (E::load_part::<S>(self.x.ptr.add(c), n), self.out.ptr.add(c));
                S::store_part(to, n, S::add(S::load_part(to, n), x));
            }
        }
    }
}

/// The operands of the loss head that both directions have.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub hidden: Any,
    pub weight: Any,
    /// The panels of `weight` for its two products, where they were packed before.
    pub packed: [Option<Packed>; 2],
    pub targets: Mat<u32>,
    pub start: usize,
    pub lse: Mat<f32>,
}

/// What the backward adds to them.
#[derive(Clone, Copy)]
pub(super) struct Gradients {
    pub weights: Mat<f32>,
    pub dhidden: Any,
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
    /// Tokens of a chunk, by the size of the vocabulary alone.
    fn rows(&self) -> usize {
        let [least, most] = CHUNK;
        (LOGITS / self.weight.rows().clamp(1, ENTRIES)).clamp(least, most)
    }

    fn part(&self, start: usize, rows: usize) -> Head {
        let (hidden, targets) = (self.hidden.part(start, rows), self.targets.part(start, rows));
        Head { hidden, targets, lse: self.lse.part(start, rows), ..*self }
    }

    /// The logits of all rows of this head for one block of entries.
    fn tile(&self, engine: &Engine, entry: usize, to: *mut f32) -> Result<Tile, Error> {
        let tile = self.empty_tile(entry, to);
        tile.product(engine.panel()).run(engine)?;
        Ok(tile)
    }

    fn empty_tile(&self, entry: usize, to: *mut f32) -> Tile {
        let (rows, cols) = (self.hidden.rows(), ENTRIES.min(self.weight.rows() - entry));
        Tile { head: *self, entry, logits: Mat { ptr: to, rows, cols, stride: cols } }
    }

    /// f32 numbers of working memory that a call takes, by depth: logits, sums that wait, products.
    pub fn working(&self, machine: Machine, gradients: Option<Gradients>) -> Vec<usize> {
        let (all, entries) = (self.hidden.rows(), self.weight.rows());
        if all == 0 || entries == 0 {
            return vec![0];
        }
        let step = self.rows().min(all);
        let logits = step * entries.min(ENTRIES);
        let waiting = gradients.and_then(|g| g.waits(step, entries));
        let products = |rows: usize| {
            let tile = self.part(0, rows).empty_tile(0, std::ptr::dangling_mut());
            let first = [Some(tile.product(machine.panel())), None];
            let then = gradients.map(|g| {
                let dhidden = if waiting.is_some() { no_sums(g.dhidden) } else { g.dhidden };
                tile.products(machine.panel(), Gradients { dhidden, ..g }.part(0, rows))
            });
            first.into_iter().chain(then.into_iter().flatten()).flatten()
        };
        // the last chunk has fewer tokens, and then another kind of product
        let products = products(step).chain(products((all - 1) % step + 1));
        let most = products.map(|product| product.working(machine)).max().unwrap_or(0);
        [Some(logits), waiting, Some(most)].into_iter().flatten().collect()
    }

    fn each_chunk(
        &self,
        engine: &Engine,
        mut f: impl FnMut(Head, usize, *mut f32) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let all = self.hidden.rows();
        let step = self.rows().min(all.max(1));
        let scratch = engine.scratch(step * self.weight.rows().min(ENTRIES))?;
        for start in (0..all).step_by(step) {
            f(self.part(start, step.min(all - start)), start, scratch.mat(0))?;
        }
        Ok(())
    }

    pub fn forward(&self, engine: &Engine, target_logit: Mat<f32>) -> Result<(), Error> {
        self.each_chunk(engine, |head, start, to| {
            let target_logit = target_logit.part(start, head.hidden.rows());
            for entry in (0..head.weight.rows()).step_by(ENTRIES) {
                head.tile(engine, entry, to)?.reduce(engine, target_logit);
            }
            Ok(())
        })
    }

    pub fn backward(&self, engine: &Engine, g: Gradients) -> Result<(), Error> {
        self.each_chunk(engine, |head, start, to| {
            let (rows, entries) = (head.hidden.rows(), head.weight.rows());
            let g = g.part(start, rows);
            // sums over several blocks of the vocabulary are f32 until the last
            let waiting =
                g.waits(rows, entries).map(|floats| engine.scratch(floats)).transpose()?;
            let cols = g.dhidden.cols();
            let sums = waiting.as_ref().map(|s| Mat { ptr: s.mat(0), rows, cols, stride: cols });
            let within = Gradients { dhidden: sums.map_or(g.dhidden, Any::F32), ..g };
            for entry in (0..entries).step_by(ENTRIES) {
                head.tile(engine, entry, to)?.differentiate(engine, within)?;
            }
            if let Some(sums) = sums {
                either!(g.dhidden, out => plain::copy(engine, sums, out));
            }
            Ok(())
        })
    }

    /// Both, computing the logits once where the vocabulary fits one block.
    pub fn fused(&self, engine: &Engine, logit: Mat<f32>, g: Gradients) -> Result<(), Error> {
        if self.weight.rows() > ENTRIES {
            self.forward(engine, logit)?;
            return self.backward(engine, g);
        }
        self.each_chunk(engine, |head, start, to| {
            let rows = head.hidden.rows();
            let tile = head.tile(engine, 0, to)?;
            tile.reduce(engine, logit.part(start, rows));
            tile.differentiate(engine, g.part(start, rows))
        })
    }
}

impl Gradients {
    /// How many sums of `rows` tokens over blocks of the vocabulary wait in f32 for the last one.
    fn waits(&self, rows: usize, entries: usize) -> Option<usize> {
        match self.dhidden {
            Any::Bf16(out) if entries > ENTRIES => Some(rows * out.cols),
            _ => None,
        }
    }

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
            either!(self.rounded(), out => {
                engine.set.run(Differentiate { tile: *self, weights: g.weights, row, out });
            });
        });
        let products = self.products(engine.panel(), g);
        products.into_iter().flatten().try_for_each(|product| product.run(engine))
    }

    /// Gradients of logits, in the memory of these: what products would round is stored so, in the
    /// first half of its row.
    fn rounded(&self) -> Any {
        let Mat { ptr, rows, cols, stride } = self.logits;
        match (self.head.hidden, self.head.weight) {
            (Any::F32(_), Any::F32(_)) => Any::F32(self.logits),
            _ => Any::Bf16(Mat { ptr: ptr.cast(), rows, cols, stride: 2 * stride }),
        }
    }

    /// The product that makes the logits.
    fn product(&self, width: usize) -> Product {
        let (a, b) = (self.head.hidden, self.head.weight.part(self.entry, self.logits.cols));
        let packed = self.head.packed[0].map(|p| p.columns(self.entry, width));
        Product { layout: Layout::NT, a, b, packed, plus: None, out: Any::F32(self.logits) }
    }

    /// Those that take their gradients to hidden state and weight.
    fn products(&self, width: usize, g: Gradients) -> [Option<Product>; 2] {
        let (a, entries) = (self.rounded(), self.head.weight.part(self.entry, self.logits.cols));
        let plus = match g.dhidden {
            Any::F32(out) if self.entry > 0 => Some(out),
            _ => None,
        };
        let start = if matches!(entries, Any::Bf16(_)) { self.entry / 2 } else { self.entry };
        let packed = self.head.packed[1].map(|p| p.below(start, width));
        let out = g.dhidden;
        let hidden = Product { layout: Layout::NN, a, b: entries, packed, plus, out };
        let weight = g.dweight.map(|dweight| {
            let out = dweight.part(self.entry, self.logits.cols);
            let (b, plus, out) = (self.head.hidden, Some(out), Any::F32(out));
            Product { layout: Layout::TN, a, b, packed: None, plus, out }
        });
        [Some(hidden), weight]
    }
}

/// The shape of a matrix as one of f32, without memory.
fn no_sums(of: Any) -> Any {
    let (rows, cols) = (of.rows(), of.cols());
    Any::F32(Mat { ptr: std::ptr::dangling_mut(), rows, cols, stride: cols })
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

/// −weight · e^(z − lse).
#[inline(always)]
unsafe fn share<S: Simd>(z: S::V, lse: f32, weight: f32) -> S::V {
    // SAFETY: the caller's: the instruction set is there; registers only.
    unsafe { S::mul(exp::<S>(S::sub(z, S::splat(lse))), S::splat(-weight)) }
}

/// Logits to their gradients; `out` may lie in their memory.
struct Differentiate<E> {
    tile: Tile,
    weights: Mat<f32>,
    row: usize,
    out: Mat<E>,
}

impl<E: Element> Kernel for Differentiate<E> {
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Tile { head, entry, logits } = self.tile;
        // SAFETY: one row of each, this task's; what is written was read before.
        unsafe {
            let (z, out) = (logits.row(self.row), self.out.row(self.row));
            let (weight, lse) = (self.weights.get(self.row, 0), head.lse.get(self.row, 0));
            if weight == 0.0 {
                return std::ptr::write_bytes(out, 0, logits.cols);
            }
            let target = head.targets.get(self.row, 0);
            let target = local(target, head.start + entry, logits.cols).map(|v| (v, *z.add(v)));
            for c in (0..logits.cols).step_by(S::LANES) {
                let n = S::LANES.min(logits.cols - c);
                let z = S::load_part(z.add(c), n);
                E::store_part::<S>(out.add(c), n, share::<S>(z, lse, weight));
            }
            if let Some((v, z)) = target {
                let mut own = [0.0f32; 16];
                let sum = S::add(share::<S>(S::splat(z), lse, weight), S::splat(weight));
                S::store(own.as_mut_ptr(), sum);
                *out.add(v) = E::rounded(own[0]);
            }
        }
    }
}
