//! The `reference` device: every op from its formula, in f64, one element after the other. The oracle
//! that fast kernels are held against; not meant to be fast. Operands of any float type are widened
//! on reading and rounded on writing.
#![allow(unsafe_code)]

mod attention;
mod ends;
mod plain;

use half::bf16;

use crate::buffer::Buffer;
use crate::cost::Cost;
use crate::device::{Device, Queue, Usage};
use crate::dtype::{DType, to_bf16};
use crate::error::Error;
use crate::host::Host;
use crate::op::Op;
use crate::view::View;

/// The oracle.
#[derive(Debug)]
pub struct Reference(Host);

impl Reference {
    /// A device of its own.
    pub fn new() -> Reference {
        Reference(Host::new("reference"))
    }
}

impl Default for Reference {
    fn default() -> Reference {
        Reference::new()
    }
}

/// A copy of a view's elements, widened.
#[derive(Clone)]
struct Matrix {
    rows: usize,
    cols: usize,
    data: Vec<f64>,
}

impl Matrix {
    fn zero(rows: usize, cols: usize) -> Matrix {
        Matrix { rows, cols, data: vec![0.0; rows * cols] }
    }

    fn at(&self, r: usize, c: usize) -> f64 {
        self.data[r * self.cols + c]
    }

    fn at_mut(&mut self, r: usize, c: usize) -> &mut f64 {
        &mut self.data[r * self.cols + c]
    }

    fn row(&self, r: usize) -> &[f64] {
        &self.data[r * self.cols..][..self.cols]
    }

    fn row_mut(&mut self, r: usize) -> &mut [f64] {
        &mut self.data[r * self.cols..][..self.cols]
    }
}

/// Access to operands while the op's locks are held.
struct Memory<'a> {
    host: &'a Host,
    op: &'static str,
}

impl Memory<'_> {
    fn get(&self, view: &View) -> Matrix {
        let mut data = Vec::with_capacity(view.len());
        for r in 0..view.rows() {
            for c in 0..view.cols() {
                // SAFETY: in range; the op's locks are held, this thread alone runs it.
                data.push(unsafe {
                    match view.dtype() {
                        DType::F64 => self.host.mat::<f64>(view).get(r, c),
                        DType::F32 => self.host.mat::<f32>(view).get(r, c) as f64,
                        DType::BF16 => self.host.mat::<bf16>(view).get(r, c).to_f64(),
                        DType::U32 => self.host.mat::<u32>(view).get(r, c) as f64,
                    }
                });
            }
        }
        Matrix { rows: view.rows(), cols: view.cols(), data }
    }

    fn put(&self, view: &View, m: &Matrix) {
        for r in 0..view.rows() {
            for c in 0..view.cols() {
                let value = m.at(r, c);
                // SAFETY: as in `get`.
                unsafe {
                    match view.dtype() {
                        DType::F64 => self.host.mat::<f64>(view).set(r, c, value),
                        DType::F32 => self.host.mat::<f32>(view).set(r, c, value as f32),
                        DType::BF16 => self.host.mat::<bf16>(view).set(r, c, to_bf16(value)),
                        DType::U32 => self.host.mat::<u32>(view).set(r, c, value as u32),
                    }
                }
            }
        }
    }

    /// `view += m`, or `view = m`.
    fn add(&self, view: &View, m: &Matrix, accumulate: bool) {
        if !accumulate {
            return self.put(view, m);
        }
        let mut sum = self.get(view);
        sum.data.iter_mut().zip(&m.data).for_each(|(s, x)| *s += x);
        self.put(view, &sum);
    }

    /// Integers of a T × 1 view, each below `limit`.
    fn indices(
        &self,
        operand: &'static str,
        view: &View,
        limit: impl Fn(usize) -> usize,
    ) -> Result<Vec<usize>, Error> {
        let found: Vec<usize> = self.get(view).data.iter().map(|&v| v as usize).collect();
        match found.iter().enumerate().find(|&(row, &v)| v >= limit(row)) {
            None => Ok(found),
            Some((row, &v)) => {
                let (found, limit) = (v as u64, limit(row) as u64);
                Err(Error::Index { op: self.op, operand, row, found, limit })
            }
        }
    }
}

impl Device for Reference {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn arithmetic(&self) -> String {
        "reference/f64".to_string()
    }

    fn allocate(&self, bytes: usize) -> Result<Buffer, Error> {
        self.0.allocate(bytes)
    }

    fn write(&self, _: Queue, view: &View, bytes: &[u8]) -> Result<(), Error> {
        self.0.write(view, bytes)
    }

    fn read(&self, _: Queue, view: &View, bytes: &mut [u8]) -> Result<(), Error> {
        self.0.read(view, bytes)
    }

    fn run(&self, _: Queue, op: &Op) -> Result<(), Error> {
        op.check()?;
        let _locks = self.0.lock(op.name(), &op.operands())?;
        self.0.counters().count_op();
        let memory = Memory { host: &self.0, op: op.name() };
        match op {
            Op::Attention(o) => attention::forward(&memory, o),
            Op::AttentionBackward(o) => attention::backward(&memory, o),
            Op::Embed(o) => ends::embed(&memory, o),
            Op::EmbedBackward(o) => ends::embed_backward(&memory, o),
            Op::LossHead(o) => ends::loss_head(&memory, o),
            Op::LossHeadBackward(o) => ends::loss_head_backward(&memory, o),
            Op::LossHeadFused(o) => ends::loss_head_fused(&memory, o),
            Op::Rope(o) => plain::rope(&memory, o),
            _ => {
                plain::run(&memory, op);
                Ok(())
            }
        }
    }

    fn usage(&self) -> Usage {
        self.0.counters().usage(Cost::default())
    }
}
