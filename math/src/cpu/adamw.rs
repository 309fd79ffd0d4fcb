//! The optimizer's step in one pass over memory: AdamW (Loshchilov and Hutter 2019, algorithm 2), with
//! the working weights in their own type. Bandwidth bounds it, not arithmetic.
#![allow(unsafe_code)]

use super::Engine;
use super::element::Element;
use super::plain::Pieces;
use super::simd::{Kernel, Simd};
use crate::host::Mat;
use crate::op::AdamW;

/// The scalars of a step, rounded once.
#[derive(Clone, Copy)]
pub(super) struct Step {
    scale: f32,
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    keep: f32,
    rate: f32,
    root: f32,
    epsilon: f32,
}

impl Step {
    pub fn of(o: &AdamW, scale: f64) -> Step {
        let power = |beta: f64| 1.0 - beta.powf(o.step as f64);
        Step {
            scale: scale as f32,
            beta1: o.beta1 as f32,
            rest1: (1.0 - o.beta1) as f32,
            beta2: o.beta2 as f32,
            rest2: (1.0 - o.beta2) as f32,
            keep: (1.0 - o.rate * o.decay) as f32,
            rate: (o.rate / power(o.beta1)) as f32,
            root: (1.0 / power(o.beta2).sqrt()) as f32,
            epsilon: o.epsilon as f32,
        }
    }

    /// (master, gradient, first, second) → (master, first, second).
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, [p, g, first, second]: [S::V; 4]) -> [S::V; 3] {
        // SAFETY: the caller's: the instruction set is there; registers only.
        unsafe {
            let g = S::mul(g, S::splat(self.scale));
            let first = S::fma(S::splat(self.beta1), first, S::mul(S::splat(self.rest1), g));
            let squares = S::mul(S::splat(self.rest2), S::mul(g, g));
            let second = S::fma(S::splat(self.beta2), second, squares);
            let p = S::mul(p, S::splat(self.keep));
            let root = S::fma(S::sqrt(second), S::splat(self.root), S::splat(self.epsilon));
            let p = S::fnma(S::splat(self.rate), S::div(first, root), p);
            [p, first, second]
        }
    }
}

/// The operands of a step.
#[derive(Clone, Copy)]
pub(super) struct States<E> {
    pub master: Mat<f32>,
    pub gradient: Mat<f32>,
    pub first: Mat<f32>,
    pub second: Mat<f32>,
    /// Gets the new master weights, where it is not their own memory.
    pub working: Option<Mat<E>>,
}

impl<E: Element> States<E> {
    pub fn run(self, engine: &Engine, step: Step) {
        let pieces = Pieces::of(self.master.rows, self.master.cols);
        engine.parallel(pieces.count(), &|task, _| {
            let states = States {
                master: pieces.cut(self.master, task),
                gradient: pieces.cut(self.gradient, task),
                first: pieces.cut(self.first, task),
                second: pieces.cut(self.second, task),
                working: self.working.map(|m| pieces.cut(m, task)),
            };
            engine.set.run(Update { states, step });
        });
    }
}

struct Update<E> {
    states: States<E>,
    step: Step,
}

impl<E: Element> Kernel for Update<E> {
    #[inline(always)]
    fn run<S: Simd>(self) {
        let States { master, gradient, first, second, working } = self.states;
        for r in 0..master.rows {
            for c in (0..master.cols).step_by(S::LANES) {
                let n = S::LANES.min(master.cols - c);
                // SAFETY: n elements from (r, c) in every matrix; what is written belongs to this task.
                unsafe {
                    let places = [master, gradient, first, second].map(|m| m.row(r).add(c));
                    let [p, m, v] = self.step.at::<S>(places.map(|x| S::load_part(x, n)));
                    S::store_part(places[0], n, p);
                    S::store_part(places[2], n, m);
                    S::store_part(places[3], n, v);
                    if let Some(working) = working {
                        E::store_part::<S>(working.row(r).add(c), n, p);
                    }
                }
            }
        }
    }
}
