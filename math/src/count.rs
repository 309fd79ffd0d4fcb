//! The `count` device: no memory and no arithmetic. It checks every op, adds up FLOPs and bytes and
//! the high-water mark of allocation; a dry run, the planner and the simulator run the trainer's
//! real step on it. What is read from it is zero.

use std::sync::{Arc, Mutex, PoisonError};

use crate::buffer::Buffer;
use crate::cost::Cost;
use crate::cpu::{Instructions, Machine, working};
use crate::device::{Device, Queue, Usage, check_transfer};
use crate::dtype::DType;
use crate::error::Error;
use crate::host::Counters;
use crate::op::{Layout, Op};
use crate::view::View;

/// A device that only counts.
#[derive(Debug, Default)]
pub struct Count {
    counters: Arc<Counters>,
    limit: Option<u64>,
    by_op: Mutex<Vec<(&'static str, u64, Cost)>>,
    /// Whose kernels' working memory is counted.
    machine: Option<Machine>,
    /// f32 numbers of it, by depth of nesting.
    working: Mutex<Vec<usize>>,
}

struct Claim {
    bytes: u64,
    counters: Arc<Counters>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.counters.sub(self.bytes);
    }
}

impl Count {
    /// A device of unlimited memory.
    pub fn new() -> Count {
        Count::default()
    }

    /// A device that refuses to hold more than `bytes` bytes at once.
    pub fn with_limit(bytes: u64) -> Count {
        Count { limit: Some(bytes), ..Count::default() }
    }

    /// A device that counts as well what kernels of the `cpu` device with so many threads would work
    /// in, on the best instruction set of this processor.
    pub fn beside(threads: usize) -> Count {
        let machine = Machine { set: Instructions::best(), threads: threads.max(1) };
        Count { machine: Some(machine), ..Count::default() }
    }

    /// Number and work of the ops run so far, by name, in order of first appearance.
    pub fn by_op(&self) -> Vec<(&'static str, u64, Cost)> {
        self.by_op.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn owned(&self, op: &'static str, operand: &'static str, view: &View) -> Result<(), Error> {
        match view.buffer().memory::<Claim>() {
            Some(claim) if Arc::ptr_eq(&claim.counters, &self.counters) => Ok(()),
            _ => Err(Error::Foreign { device: "count".to_string(), op, operand }),
        }
    }
}

impl Device for Count {
    fn name(&self) -> &str {
        "count"
    }

    fn arithmetic(&self) -> String {
        "count".to_string()
    }

    fn holds(&self) -> bool {
        false
    }

    fn allocate(&self, bytes: usize) -> Result<Buffer, Error> {
        let live = self.counters.usage(Cost::default()).live;
        if let Some(limit) = self.limit.filter(|&limit| live.saturating_add(bytes as u64) > limit) {
            let reason = format!("{live} of {limit} bytes are in use");
            return Err(Error::Allocate { device: "count".to_string(), bytes, reason });
        }
        self.counters.add(bytes as u64);
        let claim = Claim { bytes: bytes as u64, counters: self.counters.clone() };
        Ok(Buffer::new(bytes, Box::new(claim)))
    }

    fn write(&self, _: Queue, view: &View, bytes: &[u8]) -> Result<(), Error> {
        self.owned("write", "view", view)?;
        view.buffer().touch();
        check_transfer("write", view, bytes.len())
    }

    fn read(&self, _: Queue, view: &View, bytes: &mut [u8]) -> Result<(), Error> {
        self.owned("read", "view", view)?;
        check_transfer("read", view, bytes.len())?;
        bytes.fill(0);
        Ok(())
    }

    fn run(&self, _: Queue, op: &Op) -> Result<(), Error> {
        op.check()?;
        for o in op.operands() {
            self.owned(op.name(), o.name, o.view)?;
            if o.access.writes() {
                o.view.buffer().touch();
            }
        }
        self.counters.count_op();
        if let Some(machine) = self.machine {
            let mut all = self.working.lock().unwrap_or_else(PoisonError::into_inner);
            for (depth, floats) in working(machine, op).into_iter().enumerate() {
                let longer = all.len().max(depth + 1);
                all.resize(longer, 0);
                all[depth] = all[depth].max(floats);
            }
        }
        let mut by_op = self.by_op.lock().unwrap_or_else(PoisonError::into_inner);
        let name = op.name();
        let at = by_op.iter().position(|row| row.0 == name).unwrap_or_else(|| {
            by_op.push((name, 0, Cost::default()));
            by_op.len() - 1
        });
        by_op[at].1 += 1;
        by_op[at].2 += op.cost();
        Ok(())
    }

    /// As the `cpu` device of the machine, or one with vectors of 16 lanes.
    fn packed(&self, layout: Layout, dtype: DType, rows: usize, cols: usize) -> usize {
        let panel = self.machine.map_or(32, |machine| machine.panel());
        crate::cpu::packed_elements(panel, layout, dtype, rows, cols)
    }

    fn usage(&self) -> Usage {
        let mut total = Cost::default();
        self.by_op().iter().for_each(|row| total += row.2);
        let all = self.working.lock().unwrap_or_else(PoisonError::into_inner);
        let working = (all.iter().sum::<usize>() * size_of::<f32>()) as u64;
        Usage { working, ..self.counters.usage(total) }
    }
}
