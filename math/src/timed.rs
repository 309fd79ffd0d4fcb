//! A device that notes how long each op of another one takes. Every op is waited for, so that times
//! add up to those of a step, and a device whose queues overlap is slower behind it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::buffer::Buffer;
use crate::device::{Device, Event, Lent, Queue, Usage};
use crate::dtype::DType;
use crate::error::Error;
use crate::op::{Layout, Op};
use crate::view::View;

/// The wrapper.
#[derive(Debug)]
pub struct Timed {
    inner: Arc<dyn Device>,
    spent: Mutex<BTreeMap<String, (u64, Duration)>>,
}

impl Timed {
    /// Times the ops of `inner`.
    pub fn new(inner: Arc<dyn Device>) -> Timed {
        Timed { inner, spent: Mutex::default() }
    }

    /// How often each op ran, by name (products with their layout and shape), and how long in all,
    /// the longest first; what was noted is forgotten.
    pub fn take(&self) -> Vec<(String, u64, Duration)> {
        let spent = std::mem::take(&mut *self.spent.lock().unwrap_or_else(PoisonError::into_inner));
        let mut all: Vec<_> = spent.into_iter().map(|(name, (n, time))| (name, n, time)).collect();
        all.sort_by_key(|(_, _, time)| std::cmp::Reverse(*time));
        all
    }

    fn note<T>(&self, name: String, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = spent.entry(name).or_default();
        *entry = (entry.0 + 1, entry.1 + start.elapsed());
        result
    }
}

fn name(op: &Op) -> String {
    match op {
        Op::Matmul(o) => {
            let k = if o.layout == Layout::TN { o.a.rows() } else { o.a.cols() };
            format!("Matmul {:?} {} × {} × {k}", o.layout, o.out.rows(), o.out.cols())
        }
        _ => op.name().to_string(),
    }
}

impl Device for Timed {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn arithmetic(&self) -> String {
        self.inner.arithmetic()
    }

    fn holds(&self) -> bool {
        self.inner.holds()
    }

    fn allocate(&self, bytes: usize) -> Result<Buffer, Error> {
        self.inner.allocate(bytes)
    }

    fn lend(&self, bytes: &Lent) -> Option<Buffer> {
        self.inner.lend(bytes)
    }

    fn write(&self, queue: Queue, view: &View, bytes: &[u8]) -> Result<(), Error> {
        self.note("write".into(), || self.inner.write(queue, view, bytes))
    }

    fn read(&self, queue: Queue, view: &View, bytes: &mut [u8]) -> Result<(), Error> {
        self.note("read".into(), || self.inner.read(queue, view, bytes))
    }

    fn run(&self, queue: Queue, op: &Op) -> Result<(), Error> {
        self.note(name(op), || {
            self.inner.run(queue, op)?;
            self.inner.synchronize(queue)
        })
    }

    fn packed(&self, layout: Layout, dtype: DType, rows: usize, cols: usize) -> usize {
        self.inner.packed(layout, dtype, rows, cols)
    }

    fn record(&self, queue: Queue) -> Result<Event, Error> {
        self.inner.record(queue)
    }

    fn wait(&self, queue: Queue, event: &Event) -> Result<(), Error> {
        self.inner.wait(queue, event)
    }

    fn synchronize(&self, queue: Queue) -> Result<(), Error> {
        self.inner.synchronize(queue)
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }
}
