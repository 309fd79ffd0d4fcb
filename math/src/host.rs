//! Memory of the devices that compute on the host: aligned, zeroed, counted, and locked while an op
//! runs on it, so that a safe call from two threads is never a data race; and bytes lent by others,
//! which are only read. Nothing here is public.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::buffer::Buffer;
use crate::cost::Cost;
use crate::device::{Lent, Usage, check_transfer};
use crate::dtype::DType;
use crate::error::Error;
use crate::operand::{Access, Operand};
use crate::pages::Pages;
use crate::view::View;

/// The part that host devices share: identity, allocation, transfers, counters.
#[derive(Debug)]
pub(crate) struct Host {
    name: &'static str,
    counters: Arc<Counters>,
}

/// Bytes and ops of one device; its address is the device's identity.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    live: AtomicU64,
    peak: AtomicU64,
    ops: AtomicU64,
}

impl Counters {
    pub(crate) fn add(&self, bytes: u64) {
        let live = self.live.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(live, Ordering::Relaxed);
    }

    pub(crate) fn sub(&self, bytes: u64) {
        self.live.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn count_op(&self) {
        self.ops.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn usage(&self, cost: Cost) -> Usage {
        Usage {
            live: self.live.load(Ordering::Relaxed),
            peak: self.peak.load(Ordering::Relaxed),
            ops: self.ops.load(Ordering::Relaxed),
            working: 0,
            cost,
        }
    }
}

/// One allocation, or what was lent.
struct Memory {
    pages: Pages,
    /// That the device counts: none of what was lent.
    bytes: usize,
    lock: RwLock<()>,
    counters: Arc<Counters>,
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.counters.sub(self.bytes as u64);
    }
}

/// A view of host memory as a typed matrix, without lifetime: valid while the op's [`Locks`] live.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mat<T> {
    pub ptr: *mut T,
    pub rows: usize,
    pub cols: usize,
    pub stride: usize,
}

// SAFETY: a `Mat` is an address; kernels give each thread rows or columns of its own.
unsafe impl<T: Send> Send for Mat<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Mat<T> {}

impl<T: Copy> Mat<T> {
    /// Address of row `r`.
    ///
    /// # Safety
    /// `r` must be below `rows`, or the address must not be read or written.
    #[inline(always)]
    pub unsafe fn row(&self, r: usize) -> *mut T {
        // SAFETY: the caller's.
        unsafe { self.ptr.add(r * self.stride) }
    }

    /// Element (r, c).
    ///
    /// # Safety
    /// Both indices in range, nobody writes the element now.
    #[inline(always)]
    pub unsafe fn get(&self, r: usize, c: usize) -> T {
        // SAFETY: the caller's.
        unsafe { *self.row(r).add(c) }
    }

    /// Sets element (r, c).
    ///
    /// # Safety
    /// Both indices in range, nobody else accesses the element now.
    #[inline(always)]
    pub unsafe fn set(&self, r: usize, c: usize, value: T) {
        // SAFETY: the caller's.
        unsafe { *self.row(r).add(c) = value }
    }

    /// The rows from `start`, `rows` of them.
    pub fn part(&self, start: usize, rows: usize) -> Mat<T> {
        debug_assert!(start + rows <= self.rows);
        // SAFETY: an address inside the matrix, or one past its end when `rows` is 0.
        Mat { ptr: unsafe { self.ptr.add(start * self.stride) }, rows, ..*self }
    }

    /// The columns from `start`, `cols` of them.
    pub fn columns(&self, start: usize, cols: usize) -> Mat<T> {
        debug_assert!(start + cols <= self.cols);
        // SAFETY: an address inside the matrix's first row, or one past it when `cols` is 0.
        Mat { ptr: unsafe { self.ptr.add(start) }, cols, ..*self }
    }
}

enum Guard<'a> {
    Read(#[allow(dead_code)] RwLockReadGuard<'a, ()>),
    Write(#[allow(dead_code)] RwLockWriteGuard<'a, ()>),
}

/// The locks on all buffers of one op: shared where it reads, exclusive where it writes.
pub(crate) struct Locks<'a> {
    _guards: Vec<Guard<'a>>,
}

impl Host {
    pub(crate) fn new(name: &'static str) -> Host {
        Host { name, counters: Arc::default() }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(crate) fn allocate(&self, bytes: usize) -> Result<Buffer, Error> {
        let pages = Pages::new(bytes).map_err(|reason| Error::Allocate {
            device: self.name.to_string(),
            bytes,
            reason: reason.to_string(),
        })?;
        self.counters.add(bytes as u64);
        let counters = self.counters.clone();
        let memory = Memory { pages, bytes, lock: RwLock::new(()), counters };
        Ok(Buffer::new(bytes, Box::new(memory)))
    }

    pub(crate) fn lend(&self, bytes: &Lent) -> Option<Buffer> {
        let (length, pages) = ((**bytes).as_ref().len(), Pages::lent(bytes.clone())?);
        let counters = self.counters.clone();
        let memory = Memory { pages, bytes: 0, lock: RwLock::new(()), counters };
        Some(Buffer::new(length, Box::new(memory)))
    }

    fn memory<'v>(
        &self,
        op: &'static str,
        operand: &'static str,
        buffer: &'v Buffer,
    ) -> Result<&'v Memory, Error> {
        match buffer.memory::<Memory>() {
            Some(m) if Arc::ptr_eq(&m.counters, &self.counters) => Ok(m),
            _ => Err(Error::Foreign { device: self.name.to_string(), op, operand }),
        }
    }

    /// Locks all buffers of an op, in the order of their ids: two ops can never wait for each other.
    pub(crate) fn lock<'v>(
        &self,
        op: &'static str,
        operands: &[Operand<'v>],
    ) -> Result<Locks<'v>, Error> {
        let mut needed: Vec<(u64, bool, &'v Memory)> = Vec::with_capacity(operands.len());
        for o in operands {
            let memory = self.memory(op, o.name, o.view.buffer())?;
            let (id, writes) = (o.view.buffer().id(), o.access.writes());
            if writes && !memory.pages.writable() {
                return Err(Error::ReadOnly { op, operand: o.name });
            }
            match needed.iter_mut().find(|n| n.0 == id) {
                Some(n) => n.1 |= writes,
                None => needed.push((id, writes, memory)),
            }
        }
        needed.sort_unstable_by_key(|n| n.0);
        let take = |(_, writes, memory): (u64, bool, &'v Memory)| match writes {
            true => Guard::Write(memory.lock.write().unwrap_or_else(PoisonError::into_inner)),
            false => Guard::Read(memory.lock.read().unwrap_or_else(PoisonError::into_inner)),
        };
        let locks = Locks { _guards: needed.into_iter().map(take).collect() };
        // under the locks: who sees the new version then waits for what is written
        operands.iter().filter(|o| o.access.writes()).for_each(|o| o.view.buffer().touch());
        Ok(locks)
    }

    /// The address of a view. The caller holds the op's [`Locks`] and knows the element type.
    pub(crate) fn mat<T>(&self, view: &View) -> Mat<T> {
        debug_assert_eq!(size_of::<T>(), view.dtype().size());
        let start = match view.buffer().memory::<Memory>() {
            // SAFETY: a view lies inside its buffer.
            Some(m) => unsafe { m.pages.start().as_ptr().add(view.offset() * size_of::<T>()) },
            None => NonNull::<T>::dangling().as_ptr().cast(),
        };
        let (rows, cols, stride) = (view.rows(), view.cols(), view.stride());
        Mat { ptr: start.cast(), rows, cols, stride }
    }

    pub(crate) fn write(&self, view: &View, bytes: &[u8]) -> Result<(), Error> {
        check_transfer("write", view, bytes.len())?;
        let operand = Operand { name: "view", view, access: Access::Write };
        let _locks = self.lock("write", &[operand])?;
        let width = view.cols() * view.dtype().size();
        for r in 0..if width == 0 { 0 } else { view.rows() } {
            // SAFETY: the row lies inside the buffer, `bytes` has rows · width bytes, we hold the
            // lock for writing.
            unsafe {
                let to = self.row_bytes(view, r);
                std::ptr::copy_nonoverlapping(bytes.as_ptr().add(r * width), to, width);
            }
        }
        Ok(())
    }

    pub(crate) fn read(&self, view: &View, bytes: &mut [u8]) -> Result<(), Error> {
        check_transfer("read", view, bytes.len())?;
        let operand = Operand { name: "view", view, access: Access::Read };
        let _locks = self.lock("read", &[operand])?;
        let width = view.cols() * view.dtype().size();
        for r in 0..if width == 0 { 0 } else { view.rows() } {
            // SAFETY: as in `write`, with the lock for reading.
            unsafe {
                let from = self.row_bytes(view, r);
                std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr().add(r * width), width);
            }
        }
        Ok(())
    }

    fn row_bytes(&self, view: &View, r: usize) -> *mut u8 {
        let row = r * view.stride();
        // SAFETY: `r` is a row of a view, which lies inside its buffer.
        unsafe {
            match view.dtype() {
                DType::F64 => self.mat::<f64>(view).ptr.add(row).cast(),
                DType::F32 | DType::U32 => self.mat::<u32>(view).ptr.add(row).cast(),
                DType::BF16 => self.mat::<u16>(view).ptr.add(row).cast(),
            }
        }
    }
}
