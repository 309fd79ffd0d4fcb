//! A device that makes every product in two halves of its inner dimension: the same numbers but for
//! the order of additions. What a run on it is off by is what such an order may do.

use quipu_math::Layout::{NN, NT, TN};
use quipu_math::op::Matmul;
use quipu_math::{Buffer, Device, Error, Op, Queue, Usage, View};
use std::sync::Arc;

#[derive(Debug)]
pub struct Halved(Arc<dyn Device>);

impl Halved {
    pub fn new(device: Arc<dyn Device>) -> Halved {
        Halved(device)
    }
}

impl Device for Halved {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn arithmetic(&self) -> String {
        self.0.arithmetic()
    }

    fn allocate(&self, bytes: usize) -> Result<Buffer, Error> {
        self.0.allocate(bytes)
    }

    fn write(&self, queue: Queue, view: &View, bytes: &[u8]) -> Result<(), Error> {
        self.0.write(queue, view, bytes)
    }

    fn read(&self, queue: Queue, view: &View, bytes: &mut [u8]) -> Result<(), Error> {
        self.0.read(queue, view, bytes)
    }

    fn run(&self, queue: Queue, op: &Op) -> Result<(), Error> {
        let Op::Matmul(m) = op else { return self.0.run(queue, op) };
        let inner = if m.layout == TN { m.a.rows() } else { m.a.cols() };
        let half = |range: std::ops::Range<usize>, plus| -> Result<Op, Error> {
            let range = || range.clone();
            let (a, b) = match m.layout {
                NT => (m.a.slice_cols(range())?, m.b.slice_cols(range())?),
                NN => (m.a.slice_cols(range())?, m.b.slice_rows(range())?),
                TN => (m.a.slice_rows(range())?, m.b.slice_rows(range())?),
            };
            let (layout, packed, out) = (m.layout, None, m.out.clone());
            Ok(Matmul { layout, a, b, packed, plus, out }.into())
        };
        self.0.run(queue, &half(0..inner / 2, m.plus.clone())?)?;
        self.0.run(queue, &half(inner / 2..inner, Some(m.out.clone()))?)
    }

    fn usage(&self) -> Usage {
        self.0.usage()
    }
}
