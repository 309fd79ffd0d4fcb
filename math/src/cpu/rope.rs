//! Rotary position embedding in place (Su et al. 2021), half-split pairs as in the released Llama
//! checkpoints: columns i and i + hd/2 of a head turn together.
#![allow(unsafe_code)]

use super::Engine;
use super::element::Element;
use super::simd::{Kernel, Simd};
use crate::host::Mat;

#[derive(Clone, Copy)]
pub(super) struct Rope<E> {
    pub x: Mat<E>,
    pub positions: Mat<u32>,
    pub table: Mat<f32>,
    pub inverse: bool,
}

impl<E: Element> Rope<E> {
    pub fn run(self, engine: &Engine) {
        const ROWS: usize = 32;
        engine.parallel_if(self.x.len() > 1 << 14, self.x.rows.div_ceil(ROWS), &|task, _| {
            let (start, rows) = (task * ROWS, ROWS.min(self.x.rows - task * ROWS));
            let (x, positions) = (self.x.part(start, rows), self.positions.part(start, rows));
            engine.set.run(Rope { x, positions, ..self });
        });
    }
}

impl<E: Element> Kernel for Rope<E> {
    #[inline(always)]
    fn run<S: Simd>(self) {
        let half = self.table.cols / 2;
        for r in 0..self.x.rows {
            // SAFETY: the position was checked against the table; heads and halves lie in the row.
            unsafe {
                let cos = self.table.row(self.positions.get(r, 0) as usize);
                let sin = cos.add(half);
                for head in (0..self.x.cols).step_by(2 * half) {
                    let (low, high) = (self.x.row(r).add(head), self.x.row(r).add(head + half));
                    for i in (0..half).step_by(S::LANES) {
                        let n = S::LANES.min(half - i);
                        let u = E::load_part::<S>(low.add(i), n);
                        let v = E::load_part::<S>(high.add(i), n);
                        let (c, s) = (S::load_part(cos.add(i), n), S::load_part(sin.add(i), n));
                        let s = if self.inverse { S::sub(S::splat(0.0), s) } else { s };
                        E::store_part::<S>(low.add(i), n, S::fnma(v, s, S::mul(u, c)));
                        E::store_part::<S>(high.add(i), n, S::fma(u, s, S::mul(v, c)));
                    }
                }
            }
        }
    }
}
