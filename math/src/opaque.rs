//! The `opaque` device: a processor behind a wall, for tests. Its memory can be reached only by
//! copies, and nothing runs before somebody waits for it: ops and writes pile up on their queue until
//! a read, a synchronisation or another queue's wait needs them. A missing wait above this crate thus
//! gives wrong numbers here every time, where on a graphics card it does so once in a while.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::buffer::Buffer;
use crate::device::{Device, Event, Queue, Usage, check_transfer};
use crate::dtype::DType;
use crate::error::Error;
use crate::op::{Layout, Op};
use crate::view::View;

/// A wrapper that hides another device and defers its work.
#[derive(Debug)]
pub struct Opaque {
    inner: Arc<dyn Device>,
    identity: Arc<()>,
    queues: Mutex<Vec<Pending>>,
}

#[derive(Debug, Default)]
struct Pending {
    done: u64,
    items: VecDeque<Item>,
}

#[derive(Debug)]
enum Item {
    Run(Box<Op>),
    Write(View, Vec<u8>),
    Wait(Mark),
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    queue: usize,
    ticket: u64,
}

struct Hidden {
    buffer: Buffer,
    owner: Arc<()>,
}

impl Opaque {
    /// Hides `inner`.
    pub fn new(inner: Arc<dyn Device>) -> Opaque {
        let queues = (0..=u8::MAX).map(|_| Pending::default()).collect();
        Opaque { inner, identity: Arc::new(()), queues: Mutex::new(queues) }
    }

    fn queues(&self) -> MutexGuard<'_, Vec<Pending>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hidden(&self, op: &'static str, operand: &'static str, v: &View) -> Result<View, Error> {
        match v.buffer().memory::<Hidden>() {
            Some(h) if Arc::ptr_eq(&h.owner, &self.identity) => v.on(&h.buffer),
            _ => Err(Error::Foreign { device: "opaque".to_string(), op, operand }),
        }
    }

    /// Does the work of one queue up to `ticket`, first that of the queues it waits for.
    fn drain(&self, queues: &mut [Pending], to: Mark) -> Result<(), Error> {
        while queues[to.queue].done < to.ticket {
            let Some(item) = queues[to.queue].items.pop_front() else { break };
            queues[to.queue].done += 1;
            match item {
                Item::Run(op) => self.inner.run(Queue::MAIN, &op)?,
                Item::Write(view, bytes) => self.inner.write(Queue::MAIN, &view, &bytes)?,
                Item::Wait(mark) => self.drain(queues, mark)?,
            }
        }
        Ok(())
    }

    fn push(&self, queue: Queue, item: Item) {
        self.queues()[queue.0 as usize].items.push_back(item);
    }
}

fn end(queues: &[Pending], queue: Queue) -> Mark {
    let pending = &queues[queue.0 as usize];
    Mark { queue: queue.0 as usize, ticket: pending.done + pending.items.len() as u64 }
}

impl Device for Opaque {
    fn name(&self) -> &str {
        "opaque"
    }

    fn arithmetic(&self) -> String {
        self.inner.arithmetic()
    }

    fn allocate(&self, bytes: usize) -> Result<Buffer, Error> {
        let buffer = self.inner.allocate(bytes)?;
        Ok(Buffer::new(bytes, Box::new(Hidden { buffer, owner: self.identity.clone() })))
    }

    fn write(&self, queue: Queue, view: &View, bytes: &[u8]) -> Result<(), Error> {
        check_transfer("write", view, bytes.len())?;
        let hidden = self.hidden("write", "view", view)?;
        view.buffer().touch();
        self.push(queue, Item::Write(hidden, bytes.to_vec()));
        Ok(())
    }

    fn read(&self, queue: Queue, view: &View, bytes: &mut [u8]) -> Result<(), Error> {
        check_transfer("read", view, bytes.len())?;
        let view = self.hidden("read", "view", view)?;
        self.synchronize(queue)?;
        self.inner.read(Queue::MAIN, &view, bytes)
    }

    fn run(&self, queue: Queue, op: &Op) -> Result<(), Error> {
        op.check()?;
        let operands = op.operands();
        operands.iter().try_for_each(|o| self.hidden(op.name(), o.name, o.view).map(drop))?;
        let hidden = op.map_views(|view| self.hidden(op.name(), "operand", view))?;
        operands.iter().filter(|o| o.access.writes()).for_each(|o| o.view.buffer().touch());
        self.push(queue, Item::Run(Box::new(hidden)));
        Ok(())
    }

    fn packed(&self, layout: Layout, dtype: DType, rows: usize, cols: usize) -> usize {
        self.inner.packed(layout, dtype, rows, cols)
    }

    fn record(&self, queue: Queue) -> Result<Event, Error> {
        Ok(Event::new(Arc::new(end(&self.queues(), queue))))
    }

    fn wait(&self, queue: Queue, event: &Event) -> Result<(), Error> {
        if let Some(mark) = event.inner::<Mark>() {
            self.push(queue, Item::Wait(*mark));
        }
        Ok(())
    }

    fn synchronize(&self, queue: Queue) -> Result<(), Error> {
        let mut queues = self.queues();
        let to = end(&queues, queue);
        self.drain(&mut queues, to)
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }
}
