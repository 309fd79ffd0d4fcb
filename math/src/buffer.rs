//! Memory of a device as an opaque handle. Not a slice: only the device that allocated a buffer
//! knows what lies behind it, so nothing above this crate can touch its bytes but by copy.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A cloneable handle to bytes of one device; the bytes are freed when the last clone is dropped.
#[derive(Clone)]
pub struct Buffer(Arc<Inner>);

struct Inner {
    id: u64,
    bytes: usize,
    version: AtomicU64,
    memory: Box<dyn Any + Send + Sync>,
}

impl Buffer {
    /// Wraps `memory` (whatever the device frees on drop) of `bytes` bytes. For devices.
    pub fn new(bytes: usize, memory: Box<dyn Any + Send + Sync>) -> Buffer {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let (id, version) = (NEXT.fetch_add(1, Ordering::Relaxed), AtomicU64::new(0));
        Buffer(Arc::new(Inner { id, bytes, version, memory }))
    }

    /// Length in bytes.
    pub fn bytes(&self) -> usize {
        self.0.bytes
    }

    /// A number that no other buffer of this process has; the order in which locks are taken.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// A number that grows with every op and transfer that may have written to it: by it a copy in
    /// another form knows whether it is still one.
    pub fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    /// Notes a write. For devices.
    pub fn touch(&self) {
        self.0.version.fetch_add(1, Ordering::AcqRel);
    }

    /// What the device stored, if it is an `M`. For devices.
    pub fn memory<M: Any>(&self) -> Option<&M> {
        self.0.memory.downcast_ref()
    }

    /// Whether both handles mean the same memory.
    pub fn same(&self, other: &Buffer) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer#{}({} bytes)", self.id(), self.bytes())
    }
}
