//! Memory by the page: zeroed, or bytes that somebody else keeps and nobody writes. Large pieces of the
//! former ask the system for huge pages: operands of a product lie rows apart, and with small pages
//! nearly every row costs a walk through the page tables.
#![allow(unsafe_code)]

use memmap2::MmapMut;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use crate::device::Lent;

/// Where every piece begins: a cache line.
const ALIGN: usize = 64;
/// From this size on the system's own pages are asked for.
const LARGE: usize = 4 << 20;

/// Bytes that begin on a cache line; freed, or given back, when dropped.
pub(crate) struct Pages {
    start: NonNull<u8>,
    from: From,
}

enum From {
    System(#[allow(dead_code)] MmapMut),
    Allocator(Layout),
    /// Only read.
    Lent(#[allow(dead_code)] Lent),
}

// SAFETY: plain memory without thread affinity; who reads and writes it is the owner's business.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    /// At least `bytes` zeroed bytes; or why there are none.
    pub fn new(bytes: usize) -> Result<Pages, &'static str> {
        const NO_MORE: &str = "the system has no more memory for this process";
        if bytes >= LARGE {
            let mut map = MmapMut::map_anon(bytes).map_err(|_| NO_MORE)?;
            // a wish: without it everything is as before, only slower
            #[cfg(target_os = "linux")]
            let _ = map.advise(memmap2::Advice::HugePage);
            let start = NonNull::new(map.as_mut_ptr()).ok_or(NO_MORE)?;
            return Ok(Pages { start, from: From::System(map) });
        }
        let layout = Layout::from_size_align(bytes.max(ALIGN), ALIGN)
            .map_err(|_| "more than an address can hold")?;
        // SAFETY: the layout is not empty.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(NO_MORE)?;
        Ok(Pages { start, from: From::Allocator(layout) })
    }

    /// Somebody's bytes, kept as long as these pages; `None` where they begin off a cache line.
    pub fn lent(bytes: Lent) -> Option<Pages> {
        // `bytes` is behind an `Arc` that stays here, so its slice stays where it is
        let start = NonNull::from((*bytes).as_ref()).cast::<u8>();
        let aligned = (start.as_ptr() as usize).is_multiple_of(ALIGN);
        aligned.then(|| Pages { start, from: From::Lent(bytes) })
    }

    /// Whether they may be written.
    pub fn writable(&self) -> bool {
        !matches!(self.from, From::Lent(_))
    }

    /// The first byte.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pages at {:p}", self.start)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if let From::Allocator(layout) = self.from {
            // SAFETY: came from `alloc_zeroed` with this layout, freed once.
            unsafe { dealloc(self.start.as_ptr(), layout) }
        }
    }
}
