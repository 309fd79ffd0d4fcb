//! Attention backward, blocked like the forward: the weights of a block are computed again from the
//! log-sum-exp (Dao et al. 2022). Keys are packed once for a run of queries, so memory grows with
//! their number; queries once for a block of them. Not parallel inside one document and key-value
//! head: there the sums over queries and keys have one order. In bf16 weights and gradients of scores
//! are rounded before they are multiplied; the sums stay in f32 until the last block.
#![allow(unsafe_code)]

use super::attention::{KEYS, ROW, Run, Shape};
use super::element::{Any, Element, either};
use super::norm::dot;
use super::pack::{Native, Unit, pack_rows, pack_spaced, pack_straight};
use super::plain;
use super::simd::{Kernel, Simd, exp};
use super::tile::multiply_where;
use super::{Engine, Machine};
use crate::error::Error;
use crate::host::Mat;
use std::ops::Range;

/// Query rows of a block.
const QUERIES: usize = 64;

/// The operands of the backward.
#[derive(Clone, Copy)]
pub(super) struct Gradients<E> {
    pub dout: Mat<E>,
    pub dq: Any,
    pub dk: Mat<f32>,
    pub dv: Mat<f32>,
    pub accumulate: bool,
}

/// The same for gradients in bf16, which are replaced.
pub(super) fn backward_rounded<E: Native>(
    engine: &Engine,
    shape: Shape<E>,
    dout: Mat<E>,
    dq: Any,
    rounded: [Mat<E>; 2],
) -> Result<(), Error> {
    let scratch = engine.scratch(rounded.iter().map(|m| m.rows * m.cols).sum())?;
    let mut at = 0;
    let [dk, dv] = rounded.map(|Mat { rows, cols, .. }| {
        let ptr = scratch.mat(at);
        at += rows * cols;
        Mat { ptr, rows, cols, stride: cols }
    });
    backward(engine, shape, Gradients { dout, dq, dk, dv, accumulate: false })?;
    for (sums, out) in [dk, dv].into_iter().zip(rounded) {
        plain::copy(engine, sums, out);
    }
    Ok(())
}

/// f32 numbers of working memory that the backward takes.
pub(super) fn working<E: Native>(shape: &Shape<E>, machine: Machine) -> usize {
    deltas(shape) + Layout::of(shape, machine.panel()).total * machine.threads
}

fn deltas<E: Native>(shape: &Shape<E>) -> usize {
    shape.q.rows * shape.heads
}

pub(super) fn backward<E: Native>(
    engine: &Engine,
    shape: Shape<E>,
    g: Gradients<E>,
) -> Result<(), Error> {
    shape.check("AttentionBackward")?;
    if !g.accumulate {
        plain::fill(engine, g.dk, 0.0);
        plain::fill(engine, g.dv, 0.0);
    }
    let runs = shape.runs();
    let parts = disjoint(&shape, &runs);
    let layout = Layout::of(&shape, engine.panel());
    let deltas = deltas(&shape);
    let scratch = engine.scratch(working(&shape, engine.machine()))?;
    engine.parallel_if(shape.q.len() > 1 << 14, shape.q.rows.div_ceil(QUERIES), &|task, _| {
        let first = task * QUERIES;
        let rows = first..shape.q.rows.min(first + QUERIES);
        engine.set.run(Deltas { shape, dout: g.dout, rows, to: scratch.mat(0) });
    });
    engine.parallel(parts.len() * shape.kv_heads, &|task, thread| {
        let (part, kv) = (&parts[task / shape.kv_heads], task % shape.kv_heads);
        let (delta, memory) = (scratch.mat(0), scratch.mat(deltas + thread * layout.total));
        for &run in &runs[part.clone()] {
            engine.set.run(Backward { shape, g, run, kv, layout, delta, memory });
        }
    });
    Ok(())
}

/// Ranges of runs between which no key is shared, so that they may be worked on at once.
fn disjoint<E: Native>(shape: &Shape<E>, runs: &[Run]) -> Vec<Range<usize>> {
    let mut parts: Vec<Range<usize>> = Vec::new();
    let mut lowest = usize::MAX;
    // from the back: a part is closed where everything after it begins behind its last key
    for i in (0..runs.len()).rev() {
        let reach = shape.end_of(runs[i].end - 1);
        match parts.last_mut().filter(|_| lowest < reach) {
            Some(part) => part.start = i,
            None => parts.push(i..i + 1),
        }
        lowest = lowest.min(runs[i].start);
    }
    parts.reverse();
    parts
}

/// `Σ_c dout · out` of each query row and head.
struct Deltas<E> {
    shape: Shape<E>,
    dout: Mat<E>,
    rows: Range<usize>,
    to: *mut f32,
}

impl<E: Native> Kernel for Deltas<E> {
    #[inline(always)]
    fn run<S: Simd>(self) {
        let (hd, heads) = (self.shape.head(), self.shape.heads);
        for row in self.rows {
            for h in 0..heads {
                // SAFETY: in range; the row belongs to this task.
                unsafe {
                    let (a, b) = (self.dout.row(row), self.shape.out.row(row));
                    *self.to.add(row * heads + h) = dot::<S, E>(a.add(h * hd), b.add(h * hd), hd);
                }
            }
        }
    }
}

/// Where the parts of a task's memory lie: packed forms of keys and values (of all blocks of keys of
/// a run), of queries and output gradients (of a block of queries), weights and their gradients, the
/// sums of the queries' gradients.
#[derive(Clone, Copy)]
struct Layout {
    /// Columns of a head, up to whole panels.
    head: usize,
    keys_turned: usize,
    values_turned: usize,
    keys: usize,
    queries_spaced: usize,
    queries: usize,
    douts_spaced: usize,
    douts: usize,
    weights: usize,
    dscores: usize,
    dscores_gathered: usize,
    dq: usize,
    total: usize,
}

impl Layout {
    /// With room for a run of all keys: shapes do not say how long runs are, and what no run reaches
    /// is not touched.
    fn of<E: Native>(shape: &Shape<E>, panel: usize) -> Layout {
        let head = shape.head().next_multiple_of(panel);
        let blocks = (shape.offset + shape.q.rows).div_ceil(KEYS);
        let (turned, straight) = Layout::block(shape, head);
        let mut at = 0;
        let mut take = |floats: usize| {
            at += floats.next_multiple_of(16);
            at - floats.next_multiple_of(16)
        };
        let mut layout = Layout {
            head,
            keys_turned: take(blocks * turned),
            values_turned: take(blocks * turned),
            keys: take(blocks * straight),
            queries_spaced: take(QUERIES * ROW),
            queries: take(QUERIES * head),
            douts_spaced: take(QUERIES * ROW),
            douts: take(QUERIES * head),
            weights: take(QUERIES * ROW),
            dscores: take(QUERIES * ROW),
            dscores_gathered: take(QUERIES * ROW),
            dq: take(QUERIES * head),
            total: 0,
        };
        layout.total = at;
        layout
    }

    /// Units of a block of keys: as panels of keys, and as panels of columns.
    fn block<E: Native>(shape: &Shape<E>, head: usize) -> (usize, usize) {
        (KEYS * shape.depth(), E::Unit::count(KEYS) * head)
    }
}

/// One run of queries, all heads that share one key-value head.
struct Backward<E> {
    shape: Shape<E>,
    g: Gradients<E>,
    run: Run,
    kv: usize,
    layout: Layout,
    delta: *mut f32,
    memory: *mut f32,
}

impl<E: Native> Kernel for Backward<E> {
    #[inline(always)]
    fn run<S: Simd>(self) {
        // SAFETY: all rows and columns lie inside operands that were checked; the memory is this
        // thread's; the gradients' rows and heads belong to this task.
        unsafe {
            self.pack_keys::<S>();
            for h in 0..self.shape.group() {
                let head = self.kv * self.shape.group() + h;
                for row in (self.run.first..self.run.end).step_by(QUERIES) {
                    let rows = row..self.run.end.min(row + QUERIES);
                    self.pack_queries::<S>(head, rows.clone());
                    let end = self.shape.end_of(rows.end - 1);
                    for key in (self.run.start..end).step_by(KEYS) {
                        self.block::<S>(key, KEYS.min(end - key), head, rows.clone());
                    }
                    either!(self.g.dq, dq => self.finish::<S, _>(head, rows, dq));
                }
            }
        }
    }
}

impl<E: Native> Backward<E> {
    #[inline(always)]
    unsafe fn at(&self, part: usize) -> *mut f32 {
        // SAFETY: inside this task's memory.
        unsafe { self.memory.add(part) }
    }

    /// Keys of the block from `key` on that any query of this run sees.
    fn keys(&self, key: usize) -> usize {
        KEYS.min(self.shape.end_of(self.run.end - 1) - key)
    }

    /// The three packed forms of the block from `key` on: turned keys and values, keys.
    #[inline(always)]
    unsafe fn packed(&self, key: usize) -> [*mut f32; 3] {
        let l = &self.layout;
        let (turned, straight) = Layout::block(&self.shape, l.head);
        let block = (key - self.run.start) / KEYS;
        let places = [(l.keys_turned, turned), (l.values_turned, turned), (l.keys, straight)];
        // SAFETY: inside this task's memory.
        places.map(|(part, size)| unsafe { self.at(part + block * size) })
    }

    #[inline(always)]
    unsafe fn pack_keys<S: Simd>(&self) {
        let hd = self.shape.head();
        for key in (self.run.start..self.shape.end_of(self.run.end - 1)).step_by(KEYS) {
            let k = self.shape.k.part(key, self.keys(key)).columns(self.kv * hd, hd);
            let v = self.shape.v.part(key, self.keys(key)).columns(self.kv * hd, hd);
            // SAFETY: see `run`.
            unsafe {
                let [keys_turned, values_turned, keys] = self.packed(key);
                pack_rows::<S, E::Unit, E>(k, keys_turned);
                pack_rows::<S, E::Unit, E>(v, values_turned);
                pack_straight::<S, E::Unit, E>(k, keys);
            }
        }
    }

    #[inline(always)]
    unsafe fn pack_queries<S: Simd>(&self, head: usize, rows: Range<usize>) {
        let (hd, l, units) = (self.shape.head(), &self.layout, (0, self.shape.depth()));
        let q = self.shape.q.part(rows.start, rows.len()).columns(head * hd, hd);
        let dout = self.g.dout.part(rows.start, rows.len()).columns(head * hd, hd);
        // SAFETY: see `run`.
        unsafe {
            pack_spaced::<S, E::Unit, E, ROW>(q, units, self.at(l.queries_spaced));
            pack_straight::<S, E::Unit, E>(q, self.at(l.queries));
            pack_spaced::<S, E::Unit, E, ROW>(dout, units, self.at(l.douts_spaced));
            pack_straight::<S, E::Unit, E>(dout, self.at(l.douts));
        }
    }

    /// The sums of the queries' gradients.
    #[inline(always)]
    unsafe fn dq(&self, rows: usize) -> Mat<f32> {
        // SAFETY: inside this task's memory.
        let ptr = unsafe { self.at(self.layout.dq) };
        Mat { ptr, rows, cols: self.shape.head(), stride: self.layout.head }
    }

    #[inline(always)]
    unsafe fn finish<S: Simd, F: Element>(&self, head: usize, rows: Range<usize>, dq: Mat<F>) {
        let hd = self.shape.head();
        for (i, row) in rows.clone().enumerate() {
            for c in (0..hd).step_by(S::LANES) {
                // SAFETY: see `run`; sums have room for whole vectors.
                unsafe {
                    let (sum, to) = (S::load(self.dq(rows.len()).row(i).add(c)), dq.row(row));
                    F::store_part::<S>(to.add(head * hd + c), S::LANES.min(hd - c), sum);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn block<S: Simd>(&self, key: usize, keys: usize, head: usize, rows: Range<usize>) {
        let (hd, count, l) = (self.shape.head(), rows.len(), &self.layout);
        let (depth, per) = (self.shape.depth(), E::Unit::PER);
        // SAFETY: see `run`.
        unsafe {
            let [keys_turned, values_turned, packed] = self.packed(key);
            let block = |part| Mat { ptr: self.at(part), rows: count, cols: keys, stride: ROW };
            let (weights, dscores) = (block(l.weights), block(l.dscores));
            // keys of this block that query `i` of the block sees
            let seen = |i: usize| keys.min(self.shape.end_of(rows.start + i).saturating_sub(key));
            let any = |q: Range<usize>, k: Range<usize>| {
                0..if seen(q.end - 1) > k.start { depth } else { 0 }
            };
            let (left, right) = (self.at(l.queries_spaced), keys_turned);
            multiply_where::<S, E::Unit, ROW, 1>(depth, left, right, weights, false, any);
            let (left, right) = (self.at(l.douts_spaced), values_turned);
            multiply_where::<S, E::Unit, ROW, 1>(depth, left, right, dscores, false, any);
            for i in 0..count {
                let (row, weights, dscores) = (rows.start + i, weights.row(i), dscores.row(i));
                self.derive::<S>(row, head, weights, dscores, seen(i), keys);
            }
            let by_key = E::Unit::gather::<S, ROW>(weights.ptr, weights.ptr, count, keys);
            let to = self.at(l.dscores_gathered);
            let gathered = E::Unit::gather::<S, ROW>(dscores.ptr, to, count, keys);
            (0..count).for_each(|i| E::Unit::settle::<S>(dscores.row(i), keys));
            // a key has nothing from queries before the first that sees it, a query nothing from
            // keys after the last it sees
            let (sees, queries) = (self.shape.end_of(rows.start), E::Unit::count(count));
            let after = |k: Range<usize>, _| {
                (key + k.start + 1).saturating_sub(sees).min(count) / per..queries
            };
            let before = |q: Range<usize>, _| 0..E::Unit::count(seen(q.end - 1));
            let column = self.kv * hd;
            let dv = self.g.dv.part(key, keys).columns(column, hd);
            let right = self.at(l.douts);
            multiply_where::<S, E::Unit, 1, ROW>(queries, by_key, right, dv, true, after);
            let dk = self.g.dk.part(key, keys).columns(column, hd);
            let right = self.at(l.queries);
            multiply_where::<S, E::Unit, 1, ROW>(queries, gathered, right, dk, true, after);
            let (depth, add, dq) =
                (E::Unit::count(self.keys(key)), key > self.run.start, self.dq(count));
            multiply_where::<S, E::Unit, ROW, 1>(depth, dscores.ptr, packed, dq, add, before);
        }
    }

    /// Scores to weights, and gradients of weights to gradients of scores; zero for keys not seen.
    #[inline(always)]
    unsafe fn derive<S: Simd>(
        &self,
        row: usize,
        head: usize,
        weights: *mut f32,
        dscores: *mut f32,
        seen: usize,
        keys: usize,
    ) {
        // SAFETY: see `run`; rows have room for whole vectors.
        unsafe {
            let (zero, scale) = (S::splat(0.0), S::splat(self.shape.scale));
            let lse = S::splat(self.shape.lse.get(row, head));
            let delta = S::splat(*self.delta.add(row * self.shape.heads + head));
            for c in (0..keys).step_by(S::LANES) {
                let seen = seen.saturating_sub(c);
                let score = S::mul(S::load(weights.add(c)), scale);
                let p = S::keep(exp::<S>(S::sub(score, lse)), seen, zero);
                let d = S::mul(S::mul(p, scale), S::sub(S::load(dscores.add(c)), delta));
                S::store(weights.add(c), p);
                S::store(dscores.add(c), S::keep(d, seen, zero));
            }
        }
    }
}
