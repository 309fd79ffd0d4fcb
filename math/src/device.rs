//! What everything above this crate computes through: a device allocates, runs ops that are data on
//! queues, copies, records and waits for events. Not a tensor library: no shapes are inferred, no
//! memory is allocated by an op, no gradient is recorded.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::buffer::Buffer;
use crate::cost::Cost;
use crate::dtype::DType;
use crate::error::Error;
use crate::op::{Layout, Op};
use crate::view::View;

/// An in-order sequence of work on a device; work on different queues may overlap in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Queue(pub u8);

impl Queue {
    /// Where computation goes.
    pub const MAIN: Queue = Queue(0);
    /// Where copies and collectives that overlap with computation go.
    pub const COPY: Queue = Queue(1);
}

/// A point in a queue that other queues can wait for. Cloneable; belongs to the device that gave it.
#[derive(Clone)]
pub struct Event(Option<Arc<dyn Any + Send + Sync>>);

impl Event {
    /// An event that has already happened: for devices that finish an op before they return.
    pub fn done() -> Event {
        Event(None)
    }

    /// An event behind which a device keeps `inner`.
    pub fn new(inner: Arc<dyn Any + Send + Sync>) -> Event {
        Event(Some(inner))
    }

    /// What the device keeps, if it is an `E`.
    pub fn inner<E: Any>(&self) -> Option<&E> {
        self.0.as_ref()?.downcast_ref()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_none() { "Event(done)" } else { "Event" })
    }
}

/// Counters of a device since its creation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes allocated now.
    pub live: u64,
    /// The most bytes that were allocated at once.
    pub peak: u64,
    /// Bytes that kernels work in, beside those: each op uses them again.
    pub working: u64,
    /// Ops run.
    pub ops: u64,
    /// Their work (only the `count` device adds it up).
    pub cost: Cost,
}

/// Bytes of the host that are only read for as long as anybody holds them, such as a mapped file.
pub type Lent = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// A device. Cheap to share (`Arc<dyn Device>`); all methods take `&self` and may be called from
/// several threads; ops on the same memory are then ordered one after the other.
pub trait Device: Send + Sync + fmt::Debug {
    /// `reference`, `cpu`, `count`, `opaque`, …
    fn name(&self) -> &str;

    /// What the bits of results depend on: device and instruction set (`cpu/avx512`). Never the
    /// number of threads.
    fn arithmetic(&self) -> String;

    /// Whether what was written can be read again: no on a device that only counts, where nothing
    /// needs to be carried from rank to rank.
    fn holds(&self) -> bool {
        true
    }

    /// Memory of `bytes` bytes, all zero.
    ///
    /// # Errors
    /// [`Error::Allocate`] with the bytes wanted.
    fn allocate(&self, bytes: usize) -> Result<Buffer, Error>;

    /// Host bytes as memory of this device, read where they lie, never written: ops and transfers that
    /// would are [`Error::ReadOnly`]. `None` where the device computes on memory of its own alone, or
    /// where the bytes begin off a cache line: then they are to be copied.
    fn lend(&self, _bytes: &Lent) -> Option<Buffer> {
        None
    }

    /// Copies host bytes (rows one after the other, little-endian, no gaps) into `view`, after all
    /// work queued before on `queue`. The slice may be reused on return.
    ///
    /// # Errors
    /// [`Error::Transfer`] if lengths differ, [`Error::Foreign`], [`Error::ReadOnly`].
    fn write(&self, queue: Queue, view: &View, bytes: &[u8]) -> Result<(), Error>;

    /// Copies `view` to host bytes, after all work queued before on `queue`; blocks until done.
    ///
    /// # Errors
    /// As [`Device::write`].
    fn read(&self, queue: Queue, view: &View, bytes: &mut [u8]) -> Result<(), Error>;

    /// Checks `op` ([`Op::check`]) and puts it on `queue`.
    ///
    /// # Errors
    /// Those of the check; [`Error::Unsupported`], [`Error::Foreign`], [`Error::ReadOnly`],
    /// [`Error::Index`]. After an error the contents of written operands are unspecified, all else is
    /// untouched.
    fn run(&self, queue: Queue, op: &Op) -> Result<(), Error>;

    /// Elements (u32) of a weight of `rows` × `cols` in the form that [`Pack`](crate::op::Pack) gives
    /// it for products of a layout; 0 where the device has no use for one.
    fn packed(&self, _layout: Layout, _dtype: DType, _rows: usize, _cols: usize) -> usize {
        0
    }

    /// The point after all work now on `queue`. This and the next two as they stand here are for
    /// devices on which an op is finished when [`Device::run`] returns; all others have their own.
    ///
    /// # Errors
    /// What the device reports.
    fn record(&self, _queue: Queue) -> Result<Event, Error> {
        Ok(Event::done())
    }

    /// Work put on `queue` from now on starts after `event`.
    ///
    /// # Errors
    /// What the device reports.
    fn wait(&self, _queue: Queue, _event: &Event) -> Result<(), Error> {
        Ok(())
    }

    /// Blocks until all work on `queue` is done.
    ///
    /// # Errors
    /// What the device reports, also of work that failed after [`Device::run`] had returned.
    fn synchronize(&self, _queue: Queue) -> Result<(), Error> {
        Ok(())
    }

    /// The counters.
    fn usage(&self) -> Usage;
}

/// `bytes` of `view`'s elements for a transfer, or the error that names both lengths.
pub(crate) fn check_transfer(op: &'static str, view: &View, bytes: usize) -> Result<(), Error> {
    if bytes == view.bytes() {
        return Ok(());
    }
    Err(Error::Transfer { op, found: bytes, expected: view.bytes() })
}
