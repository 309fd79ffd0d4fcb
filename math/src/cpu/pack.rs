//! Operands of the product in the order in which its inner loop reads them.
//!
//! What the loop takes in one lane is a *unit*: one value of k in f32, two neighbouring values of k in
//! bf16 (the processor multiplies pairs). A unit has 32 bits either way, so that everything but the
//! instruction in the middle is the same for both. Where k is odd the last pair ends in zero.
#![allow(unsafe_code)]

use super::element::Element;
use super::simd::Simd;
use crate::host::Mat;
use half::bf16;

/// Units of k that are summed in registers before they go to the output. Part of the arithmetic:
/// another value gives other bits. Long, since the second-level cache feeds the loop as fast as the
/// first, and each block reads and writes the output once.
pub(super) const KC: usize = 1024;
/// The same in the layout where the left operand's rows lie in columns. Half of it, and twice the
/// tiles in a task: what a row of memory has for a task costs the same for two lines and for eight.
pub(super) const KC_COLUMNS: usize = KC / 2;
/// Units from row to row of a packed left block: a line more than `KC`, so that rows do not fall
/// into the same set of the cache.
pub(super) const ROW: usize = KC + 16;
/// Units from k to k of a packed left tile in the layout where rows lie in columns.
pub(super) const COL: usize = 16;
/// Units from one such tile to the next: a line more than it has, for the same reason.
pub(super) const TILE: usize = COL * KC_COLUMNS + COL;
/// Units of k that are added to a panel for the same reason.
pub(super) const GAP: usize = 1;
/// Rows ahead of the one being packed that are asked for, where a row gives a few lines.
const AHEAD: usize = 8;
/// The same where a row gives many.
const ROWS_AHEAD: usize = 2;

/// What a lane holds, and what the product does with it.
pub(super) trait Unit: Copy + Send + Sync + 'static {
    /// Values of k.
    const PER: usize;

    /// c + the product of two units in each lane.
    ///
    /// # Safety
    /// As for [`Simd`].
    unsafe fn step<S: Simd>(a: S::V, b: S::V, c: S::V) -> S::V;

    /// Makes units of a row of f32 numbers that is the left operand, in place: `n` of them, and zeros
    /// after them where the last unit ends.
    ///
    /// # Safety
    /// As for [`Simd`]; the row has room for whole vectors.
    unsafe fn settle<S: Simd>(row: *mut f32, n: usize);

    /// Makes units of `rows` rows of `cols` f32 numbers, `R` apart, whose rows are values of k,
    /// and returns where they are: at `to`, or where nothing is to be done at `from`.
    ///
    /// # Safety
    /// As for [`Simd`]; rows have room for whole vectors. `to` may be `from`.
    unsafe fn gather<S: Simd, const R: usize>(
        from: *const f32,
        to: *mut f32,
        rows: usize,
        cols: usize,
    ) -> *const f32;

    /// Units that hold `values` values of k.
    fn count(values: usize) -> usize {
        values.div_ceil(Self::PER)
    }
}

/// One f32 number.
#[derive(Clone, Copy)]
pub(super) struct Single;

/// Two bf16 numbers.
#[derive(Clone, Copy)]
pub(super) struct Pair;

impl Unit for Single {
    const PER: usize = 1;

    #[inline(always)]
    unsafe fn step<S: Simd>(a: S::V, b: S::V, c: S::V) -> S::V {
        // SAFETY: the caller's.
        unsafe { S::fma(a, b, c) }
    }

    #[inline(always)]
    unsafe fn settle<S: Simd>(_: *mut f32, _: usize) {}

    #[inline(always)]
    unsafe fn gather<S: Simd, const R: usize>(
        from: *const f32,
        _: *mut f32,
        _: usize,
        _: usize,
    ) -> *const f32 {
        from
    }
}

impl Unit for Pair {
    const PER: usize = 2;

    #[inline(always)]
    unsafe fn step<S: Simd>(a: S::V, b: S::V, c: S::V) -> S::V {
        // SAFETY: the caller's.
        unsafe { S::dot(a, b, c) }
    }

    #[inline(always)]
    unsafe fn settle<S: Simd>(row: *mut f32, n: usize) {
        for c in (0..n).step_by(2 * S::LANES) {
            // SAFETY: the caller's; what is written was read before.
            unsafe {
                let pairs = S::join(S::load(row.add(c)), S::load(row.add(c + S::LANES)));
                S::store(row.add(c / 2), pairs);
            }
        }
    }

    #[inline(always)]
    unsafe fn gather<S: Simd, const R: usize>(
        from: *const f32,
        to: *mut f32,
        rows: usize,
        cols: usize,
    ) -> *const f32 {
        for r in (0..rows).step_by(2) {
            for c in (0..cols).step_by(S::LANES) {
                // SAFETY: the caller's; row r/2 is written after rows r and r + 1 were read.
                unsafe {
                    let low = S::load(from.add(r * R + c));
                    let last = r + 1 == rows;
                    let high =
                        if last { S::splat(0.0) } else { S::load(from.add((r + 1) * R + c)) };
                    S::store(to.add(r / 2 * R + c), S::pair(low, high));
                }
            }
        }
        to
    }
}

/// Elements that units can be made of.
pub(super) trait Source<U: Unit>: Element {
    /// LANES units of neighbouring values in a row, of which `n` values are there.
    ///
    /// # Safety
    /// As for [`Simd`].
    unsafe fn along<S: Simd>(p: *const Self, n: usize) -> S::V;

    /// A unit of each of LANES columns, of which `n` are there; `rows` holds the rows of one unit,
    /// the second null where there is none.
    ///
    /// # Safety
    /// As for [`Simd`].
    unsafe fn across<S: Simd>(rows: [*const Self; 2], n: usize) -> S::V;
}

/// The unit in which a product of two matrices of a type is made.
pub(super) trait Native: Source<Self::Unit> {
    type Unit: Unit;
}

impl Native for f32 {
    type Unit = Single;
}

impl Native for bf16 {
    type Unit = Pair;
}

impl<E: Element> Source<Single> for E {
    #[inline(always)]
    unsafe fn along<S: Simd>(p: *const Self, n: usize) -> S::V {
        // SAFETY: the caller's.
        unsafe { E::load_part::<S>(p, n) }
    }

    #[inline(always)]
    unsafe fn across<S: Simd>(rows: [*const Self; 2], n: usize) -> S::V {
        // SAFETY: the caller's.
        unsafe { E::load_part::<S>(rows[0], n) }
    }
}

#[inline(always)]
unsafe fn pair_of_rows<S: Simd, E: Element>(rows: [*const E; 2], n: usize) -> S::V {
    // SAFETY: the caller's.
    unsafe {
        let none = rows[1].is_null();
        let second = if none { S::splat(0.0) } else { E::load_part::<S>(rows[1], n) };
        S::pair(E::load_part::<S>(rows[0], n), second)
    }
}

impl Source<Pair> for bf16 {
    #[inline(always)]
    unsafe fn along<S: Simd>(p: *const Self, n: usize) -> S::V {
        // SAFETY: the caller's: n numbers, or as many as two vectors hold.
        unsafe {
            if n >= 2 * S::LANES {
                return S::load(p.cast());
            }
            let mut all = [bf16::ZERO; 32];
            std::ptr::copy_nonoverlapping(p, all.as_mut_ptr(), n);
            S::load(all.as_ptr().cast())
        }
    }

    #[inline(always)]
    unsafe fn across<S: Simd>(rows: [*const Self; 2], n: usize) -> S::V {
        // SAFETY: the caller's.
        unsafe {
            match n >= S::LANES && !rows[1].is_null() {
                true => S::zip(rows[0], rows[1]),
                false => pair_of_rows::<S, _>(rows, n),
            }
        }
    }
}

impl Source<Pair> for f32 {
    #[inline(always)]
    unsafe fn along<S: Simd>(p: *const Self, n: usize) -> S::V {
        // SAFETY: the caller's; an address past the row is not read.
        unsafe {
            let second = S::load_part(p.wrapping_add(S::LANES), n.saturating_sub(S::LANES));
            S::join(S::load_part(p, n.min(S::LANES)), second)
        }
    }

    #[inline(always)]
    unsafe fn across<S: Simd>(rows: [*const Self; 2], n: usize) -> S::V {
        // SAFETY: the caller's.
        unsafe { pair_of_rows::<S, _>(rows, n) }
    }
}

/// The rows of unit `unit` of a matrix whose rows are values of k.
#[inline(always)]
unsafe fn rows_of<U: Unit, E: Element>(from: Mat<E>, unit: usize, column: usize) -> [*const E; 2] {
    let row = unit * U::PER;
    let second = U::PER == 2 && row + 1 < from.rows;
    // SAFETY: the caller's: the unit's first row is there.
    unsafe {
        let first = from.row(row).add(column);
        let second = if second { from.row(row + 1).add(column) } else { std::ptr::null_mut() };
        [first.cast_const(), second.cast_const()]
    }
}

/// Packs units `start .. start + depth` of one panel, two vectors wide, as `to[unit][column]`, from
/// columns `column ..` of a matrix whose rows are values of k; zeros where it ends.
#[inline(always)]
pub(super) unsafe fn pack_panel<S: Simd, U: Unit, E: Source<U>>(
    from: Mat<E>,
    column: usize,
    (start, depth): (usize, usize),
    to: *mut f32,
) {
    let width = 2 * S::LANES;
    let cols = width.min(from.cols - column);
    let (low, high) = (cols.min(S::LANES), cols.saturating_sub(S::LANES));
    for i in 0..depth {
        // SAFETY: reads stay inside the operand, writes inside depth · width units of `to`.
        unsafe {
            let rows = rows_of::<U, E>(from, start + i, column);
            let to = to.add(i * width);
            S::store(to, E::across::<S>(rows, low));
            let next = rows.map(|p| if p.is_null() { p } else { p.wrapping_add(low) });
            S::store(to.add(S::LANES), E::across::<S>(next, high));
        }
    }
}

/// Packs a whole matrix whose rows are values of k: `to[panel][unit][column]`.
#[inline(always)]
pub(super) unsafe fn pack_straight<S: Simd, U: Unit, E: Source<U>>(from: Mat<E>, to: *mut f32) {
    let depth = U::count(from.rows);
    for column in (0..from.cols).step_by(2 * S::LANES) {
        // SAFETY: the caller's: room for whole panels.
        unsafe { pack_panel::<S, U, E>(from, column, (0, depth), to.add(column * depth)) }
    }
}

/// Packs units `start .. start + depth` of one panel from rows that become its columns: at most two
/// vectors of them.
#[inline(always)]
pub(super) unsafe fn pack_turned<S: Simd, U: Unit, E: Source<U>>(
    rows: Mat<E>,
    (start, depth): (usize, usize),
    to: *mut f32,
) {
    let (width, lanes) = (2 * S::LANES, S::LANES);
    // whole squares by way of memory that stays in the cache
    let mut square = [0.0f32; 256];
    let mut turned = [0.0f32; 256];
    for first in [0, lanes] {
        for i in (0..depth).step_by(lanes) {
            let value = (start + i) * U::PER;
            // SAFETY: rows and values that are there; `to` has depth · width units.
            unsafe {
                for j in 0..lanes {
                    let there = if first + j < rows.rows { rows.cols - value } else { 0 };
                    let from = if there > 0 { rows.row(first + j).add(value) } else { rows.ptr };
                    let units = E::along::<S>(from, there.min(lanes * U::PER));
                    S::store(square.as_mut_ptr().add(j * lanes), units);
                }
                let to = to.add(i * width + first);
                if i + lanes <= depth {
                    S::transpose(square.as_ptr(), lanes, to, width);
                    continue;
                }
                S::transpose(square.as_ptr(), lanes, turned.as_mut_ptr(), lanes);
                for i in 0..depth - i {
                    S::store(to.add(i * width), S::load(turned.as_ptr().add(i * lanes)));
                }
            }
        }
    }
}

/// Packs a matrix whose columns are values of k into panels of its rows: `to[panel][unit][row]`.
#[inline(always)]
pub(super) unsafe fn pack_rows<S: Simd, U: Unit, E: Source<U>>(from: Mat<E>, to: *mut f32) {
    let (width, depth) = (2 * S::LANES, U::count(from.cols));
    for row in (0..from.rows).step_by(width) {
        let part = from.part(row, width.min(from.rows - row));
        // SAFETY: as in `pack_straight`.
        unsafe { pack_turned::<S, U, E>(part, (0, depth), to.add(row * depth)) }
    }
}

/// Packs rows for the left, units `start .. start + depth`, `R` units apart.
#[inline(always)]
pub(super) unsafe fn pack_spaced<S: Simd, U: Unit, E: Source<U>, const R: usize>(
    from: Mat<E>,
    (start, depth): (usize, usize),
    to: *mut f32,
) {
    let (value, lanes) = (start * U::PER, S::LANES);
    let values = (depth * U::PER).min(from.cols - value);
    for r in 0..from.rows {
        // SAFETY: rows of at most `R` units, of which a vector may be written beyond `depth`.
        unsafe {
            let row = from.row(r).add(value);
            // a row is too short for the processor to guess far into the next one
            for line in (0..values).step_by(64 / size_of::<E>()) {
                S::prefetch(row.wrapping_add(ROWS_AHEAD * from.stride + line).cast());
            }
            for i in (0..depth).step_by(lanes) {
                let (at, to) = (i * U::PER, to.add(r * R + i));
                let there = (values - at).min(lanes * U::PER);
                S::store_part(to, depth - i, E::along::<S>(row.add(at), there));
            }
        }
    }
}

/// Packs columns `column .. column + cols` for the left, from a matrix whose rows are values of k:
/// tiles of [`Simd::TILE`] columns, [`TILE`] units each, `COL` from unit to unit.
#[inline(always)]
pub(super) unsafe fn pack_columns<S: Simd, U: Unit, E: Source<U>>(
    from: Mat<E>,
    (column, cols): (usize, usize),
    (start, depth): (usize, usize),
    to: *mut f32,
) {
    let room = from.cols - column;
    for i in 0..depth {
        // SAFETY: reads stay inside the operand, writes inside the tiles.
        unsafe {
            let rows = rows_of::<U, E>(from, start + i, column);
            // rows lie far apart: no processor guesses the next one by itself
            for line in (0..cols).step_by(64 / size_of::<E>()) {
                let ahead = AHEAD * U::PER * from.stride + line;
                S::prefetch(rows[0].wrapping_add(ahead).cast());
                if U::PER == 2 {
                    S::prefetch(rows[0].wrapping_add(ahead + from.stride).cast());
                }
            }
            for tile in (0..cols).step_by(S::TILE) {
                // a whole COL of units, of which the tile uses its first ones
                let to = to.add(tile / S::TILE * TILE + i * COL);
                for half in (0..COL).step_by(S::LANES) {
                    let first = tile + half;
                    let n = S::LANES.min(room.saturating_sub(first));
                    let rows = rows.map(|p| if p.is_null() { p } else { p.wrapping_add(first) });
                    S::store(to.add(half), E::across::<S>(rows, n));
                }
            }
        }
    }
}
