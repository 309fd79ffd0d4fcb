//! Attention forward, blocked over keys with a running maximum (Milakov and Gimelshein 2018; Dao et
//! al. 2022, "FlashAttention"): memory grows with length, not with its square.
//!
//! **Same bits.** Blocks of [`KEYS`] keys are counted from the first key that a query sees, and a row
//! takes from its last block only the keys it sees. So a row is the same sequence of operations in a
//! long prompt, in a packed batch and one at a time with a cache. In bf16 the weights of a block are
//! rounded before they meet the values; their sum is not.
#![allow(unsafe_code)]

use super::pack::{Native, Unit, pack_rows, pack_spaced, pack_straight};
use super::rows::log_of;
use super::simd::{Kernel, Simd, exp};
use super::tile::multiply_where;
use super::{Engine, Machine};
use crate::error::Error;
use crate::host::Mat;
use std::ops::Range;

/// Keys of a block. Part of the arithmetic.
pub(super) const KEYS: usize = 128;
/// Units from row to row of queries and scores: what a head may have at most, and a line more, so
/// that rows do not fall into the same set of the cache.
pub(super) const ROW: usize = HEAD + 16;
/// Most columns of a head.
const HEAD: usize = 256;
/// Query rows of all heads of a group that a task takes, about.
const GROUP_ROWS: usize = 192;

/// The operands and sizes of attention that both directions have.
#[derive(Clone, Copy)]
pub(super) struct Shape<E> {
    pub q: Mat<E>,
    pub k: Mat<E>,
    pub v: Mat<E>,
    pub starts: Mat<u32>,
    pub offset: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub scale: f32,
    pub out: Mat<E>,
    pub lse: Mat<f32>,
}

/// Consecutive queries that see the same first key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// First query row.
    pub first: usize,
    /// The row after the last.
    pub end: usize,
    /// First key row.
    pub start: usize,
}

impl<E: Native> Shape<E> {
    /// Columns of a head.
    pub fn head(&self) -> usize {
        self.q.cols / self.heads
    }

    /// Units of a head's columns.
    pub fn depth(&self) -> usize {
        E::Unit::count(self.head())
    }

    /// Query heads that share a key-value head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// The keys that the query in `row` sees end before this one.
    pub fn end_of(&self, row: usize) -> usize {
        self.offset + row + 1
    }

    pub fn runs(&self) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for row in 0..self.q.rows {
            // SAFETY: in range.
            let start = unsafe { self.starts.get(row, 0) } as usize;
            match runs.last_mut().filter(|run| run.start == start) {
                Some(run) => run.end = row + 1,
                None => runs.push(Run { first: row, end: row + 1, start }),
            }
        }
        runs
    }

    /// A head must fit the memory of a task.
    pub fn check(&self, op: &'static str) -> Result<(), Error> {
        if self.head() <= HEAD {
            return Ok(());
        }
        let found = format!("{} columns a head", self.head());
        let expected = format!("at most {HEAD} on device cpu");
        Err(Error::Shape { op, operand: "q", found, expected })
    }
}

/// Query rows of a task.
fn step<E: Native>(shape: &Shape<E>) -> usize {
    (GROUP_ROWS / shape.group()).clamp(8, KEYS)
}

/// f32 numbers of working memory that the forward takes.
pub(super) fn working<E: Native>(shape: &Shape<E>, machine: Machine) -> usize {
    Layout::of(shape, step(shape), machine.panel()).total * machine.threads
}

pub(super) fn forward<E: Native>(engine: &Engine, shape: Shape<E>) -> Result<(), Error> {
    shape.check("Attention")?;
    let step = step(&shape);
    let mut tasks = Vec::new();
    for run in shape.runs() {
        for first in (run.first..run.end).step_by(step) {
            let part = Run { first, end: run.end.min(first + step), ..run };
            (0..shape.kv_heads).for_each(|kv| tasks.push((part, kv)));
        }
    }
    let layout = Layout::of(&shape, step, engine.panel());
    let scratch = engine.scratch(working(&shape, engine.machine()))?;
    let worth = shape.q.rows > 1 || shape.k.rows > 256;
    engine.parallel_if(worth, tasks.len(), &|task, thread| {
        let (run, kv) = tasks[task];
        let memory = scratch.mat(thread * layout.total);
        engine.set.run(Forward { shape, run, kv, layout, memory });
    });
    Ok(())
}

/// Where the parts of a task's memory lie.
#[derive(Clone, Copy)]
struct Layout {
    /// Columns of a head, up to whole panels.
    head: usize,
    step: usize,
    keys: usize,
    values: usize,
    scores: usize,
    sums: usize,
    state: usize,
    total: usize,
}

impl Layout {
    fn of<E: Native>(shape: &Shape<E>, step: usize, panel: usize) -> Layout {
        let head = shape.head().next_multiple_of(panel);
        let rows = step * shape.group();
        let keys = rows * ROW;
        let values = keys + KEYS.next_multiple_of(panel) * shape.head();
        let scores = values + KEYS * head;
        let sums = scores + step * ROW;
        let state = sums + rows * head;
        Layout { head, step, keys, values, scores, sums, state, total: state + 2 * rows }
    }
}

/// Some queries of one run, all heads that share one key-value head.
struct Forward<E> {
    shape: Shape<E>,
    run: Run,
    kv: usize,
    layout: Layout,
    memory: *mut f32,
}

impl<E: Native> Kernel for Forward<E> {
    #[inline(always)]
    fn run<S: Simd>(self) {
        // SAFETY: all rows and columns lie inside operands that were checked; the memory is this
        // thread's; the output's rows and heads belong to this task.
        unsafe {
            self.begin::<S>();
            let end = self.shape.end_of(self.run.end - 1);
            let mut key = self.run.start;
            while key < end {
                self.block::<S>(key, KEYS.min(end - key));
                key += KEYS;
            }
            self.finish::<S>();
        }
    }
}

impl<E: Native> Forward<E> {
    fn rows(&self) -> usize {
        self.run.end - self.run.first
    }

    /// Running maximum and sum of row `i` of head `g` of the group.
    #[inline(always)]
    unsafe fn state(&self, g: usize, i: usize) -> *mut f32 {
        // SAFETY: inside this task's memory.
        unsafe { self.memory.add(self.layout.state + 2 * (g * self.layout.step + i)) }
    }

    /// Running output of head `g`.
    #[inline(always)]
    unsafe fn sums(&self, g: usize) -> Mat<f32> {
        let Layout { head, step, sums, .. } = self.layout;
        // SAFETY: inside this task's memory.
        let ptr = unsafe { self.memory.add(sums + g * step * head) };
        Mat { ptr, rows: self.rows(), cols: self.shape.head(), stride: head }
    }

    #[inline(always)]
    unsafe fn begin<S: Simd>(&self) {
        let (hd, rows) = (self.shape.head(), self.rows());
        for g in 0..self.shape.group() {
            let head = self.kv * self.shape.group() + g;
            let q = self.shape.q.part(self.run.first, rows).columns(head * hd, hd);
            // SAFETY: see `run`.
            unsafe {
                let to = self.memory.add(g * self.layout.step * ROW);
                pack_spaced::<S, E::Unit, E, ROW>(q, (0, self.shape.depth()), to);
                let sums = self.sums(g);
                std::ptr::write_bytes(sums.ptr, 0, rows * sums.stride);
                for i in 0..rows {
                    *self.state(g, i) = f32::NEG_INFINITY;
                    *self.state(g, i).add(1) = 0.0;
                }
            }
        }
    }

    /// The keys `key .. key + keys`, which the last query sees.
    #[inline(always)]
    unsafe fn block<S: Simd>(&self, key: usize, keys: usize) {
        let (hd, rows) = (self.shape.head(), self.rows());
        let first = (key + 1).saturating_sub(self.shape.end_of(self.run.first));
        // keys of this block that row `i` of those that see any sees
        let seen = |i: usize| keys.min(self.shape.end_of(self.run.first + first + i) - key);
        let (depth, all) = (self.shape.depth(), E::Unit::count(keys));
        // SAFETY: see `run`.
        unsafe {
            let (packed, values) =
                (self.memory.add(self.layout.keys), self.memory.add(self.layout.values));
            let column = self.kv * hd;
            let k = self.shape.k.part(key, keys).columns(column, hd);
            let v = self.shape.v.part(key, keys).columns(column, hd);
            pack_rows::<S, E::Unit, E>(k, packed);
            pack_straight::<S, E::Unit, E>(v, values);
            let together = seen(0) == keys || all_finite::<S, E>(v);
            for g in 0..self.shape.group() {
                let left = self.memory.add((g * self.layout.step + first) * ROW);
                let ptr = self.memory.add(self.layout.scores + first * ROW);
                let scores = Mat { ptr, rows: rows - first, cols: keys, stride: ROW };
                let any = |q: Range<usize>, k: Range<usize>| {
                    0..if seen(q.end - 1) > k.start { depth } else { 0 }
                };
                multiply_where::<S, E::Unit, ROW, 1>(depth, left, packed, scores, false, any);
                for i in first..rows {
                    let row = scores.row(i - first);
                    self.soften::<S>(g, i, row, seen(i - first), keys);
                    E::Unit::settle::<S>(row, keys);
                }
                // rows together, with weights of zero for keys that not all of them see; each by
                // itself where zero would not keep a value out that is no number (in bf16 the other
                // half of a row's last pair is multiplied by zero)
                let sums = self.sums(g).part(first, rows - first);
                let step = if together { scores.rows } else { 1 };
                for i in (0..scores.rows).step_by(step) {
                    let own = |q: Range<usize>, _| 0..E::Unit::count(seen(i + q.end - 1));
                    let (left, sums) = (scores.row(i), sums.part(i, step));
                    multiply_where::<S, E::Unit, ROW, 1>(all, left, values, sums, true, own);
                }
            }
        }
    }

    /// Scores to weights relative to the running maximum, zero for keys not seen; sum and output
    /// scaled to the new one.
    #[inline(always)]
    unsafe fn soften<S: Simd>(
        &self,
        g: usize,
        i: usize,
        scores: *mut f32,
        seen: usize,
        keys: usize,
    ) {
        // SAFETY: see `run`; scores have room for whole vectors.
        unsafe {
            let (lowest, zero) = (S::splat(f32::NEG_INFINITY), S::splat(0.0));
            let scale = S::splat(self.shape.scale);
            let mut max = lowest;
            for c in (0..seen).step_by(S::LANES) {
                let s = S::keep(S::mul(S::load(scores.add(c)), scale), seen - c, lowest);
                S::store(scores.add(c), s);
                max = S::max(s, max);
            }
            let state = self.state(g, i);
            let old = *state;
            let largest = S::largest(max);
            let largest = if largest > old { largest } else { old };
            let mut sum = zero;
            for c in (0..seen).step_by(S::LANES) {
                let p = exp::<S>(S::sub(S::load(scores.add(c)), S::splat(largest)));
                let p = S::keep(p, seen - c, zero);
                S::store(scores.add(c), p);
                sum = S::add(sum, p);
            }
            for c in (seen.next_multiple_of(S::LANES)..keys).step_by(S::LANES) {
                S::store(scores.add(c), zero);
            }
            let shrink = if largest == old { 1.0 } else { one_exp::<S>(old - largest) };
            *state = largest;
            *state.add(1) = *state.add(1) * shrink + S::sum(sum);
            if shrink != 1.0 {
                let sums = self.sums(g).row(i);
                for c in (0..self.layout.head).step_by(S::LANES) {
                    S::store(sums.add(c), S::mul(S::load(sums.add(c)), S::splat(shrink)));
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn finish<S: Simd>(&self) {
        let hd = self.shape.head();
        for g in 0..self.shape.group() {
            let head = self.kv * self.shape.group() + g;
            for i in 0..self.rows() {
                let row = self.run.first + i;
                // SAFETY: see `run`.
                unsafe {
                    let (largest, sum) = (*self.state(g, i), *self.state(g, i).add(1));
                    self.shape.lse.set(row, head, log_of(largest, sum));
                    let (from, to) = (self.sums(g).row(i), self.shape.out.row(row).add(head * hd));
                    for c in (0..hd).step_by(S::LANES) {
                        let n = S::LANES.min(hd - c);
                        let y = S::div(S::load(from.add(c)), S::splat(sum));
                        E::store_part::<S>(to.add(c), n, y);
                    }
                }
            }
        }
    }
}

/// Whether no element is infinite or NaN.
#[inline(always)]
unsafe fn all_finite<S: Simd, E: Native>(m: Mat<E>) -> bool {
    let mut found = 0.0;
    for c in (0..m.cols).step_by(S::LANES) {
        // SAFETY: elements of the matrix.
        unsafe {
            let mut sum = S::splat(0.0);
            for r in 0..m.rows {
                let x = E::load_part::<S>(m.row(r).add(c), S::LANES.min(m.cols - c));
                sum = S::fma(x, S::splat(0.0), sum);
            }
            found += S::sum(sum);
        }
    }
    found == 0.0
}

/// eˣ of one number.
#[inline(always)]
unsafe fn one_exp<S: Simd>(x: f32) -> f32 {
    let mut lanes = [0.0f32; 16];
    // SAFETY: room for the widest vector.
    unsafe { S::store(lanes.as_mut_ptr(), exp::<S>(S::splat(x))) }
    lanes[0]
}
