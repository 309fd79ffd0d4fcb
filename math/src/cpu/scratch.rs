//! Working memory of kernels: taken for the length of an op and kept by the device for the next one,
//! so that no op pays for fresh pages.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use crate::error::Error;
use crate::pages::Pages;

/// Blocks that a device keeps when nobody uses them.
const KEPT: usize = 4;
/// One allocation of f32 numbers.
#[derive(Debug)]
pub(crate) struct Block {
    pages: Pages,
    bytes: usize,
}

impl Block {
    fn new(floats: usize) -> Result<Block, Error> {
        let bytes = floats.saturating_mul(size_of::<f32>());
        let pages = Pages::new(bytes).map_err(|reason| {
            let (device, reason) =
                ("cpu (working memory of an op)".to_string(), reason.to_string());
            Error::Allocate { device, bytes, reason }
        })?;
        Ok(Block { pages, bytes })
    }
}

/// A block in use; goes back to the device when dropped.
pub(crate) struct Scratch<'a> {
    block: Option<Block>,
    start: NonNull<f32>,
    floats: usize,
    free: &'a Mutex<Vec<Block>>,
}

// SAFETY: the tasks of an op write disjoint parts.
unsafe impl Sync for Scratch<'_> {}

impl<'a> Scratch<'a> {
    /// The smallest free block that is large enough, or a new one instead of the smallest.
    pub(crate) fn take(free: &'a Mutex<Vec<Block>>, floats: usize) -> Result<Scratch<'a>, Error> {
        let bytes = floats.saturating_mul(size_of::<f32>());
        let mut kept = free.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = kept.iter().enumerate().filter(|(_, b)| b.bytes >= bytes);
        let found = fitting.min_by_key(|(_, b)| b.bytes).map(|(i, _)| i);
        let block = match found {
            Some(i) => kept.swap_remove(i),
            None => {
                let smallest = (0..kept.len()).min_by_key(|&i| kept[i].bytes);
                smallest.filter(|_| kept.len() >= KEPT).map(|i| kept.swap_remove(i));
                drop(kept);
                Block::new(floats)?
            }
        };
        Ok(Scratch { start: block.pages.start().cast(), block: Some(block), floats, free })
    }

    /// Address of number `offset`.
    pub(crate) fn mat(&self, offset: usize) -> *mut f32 {
        debug_assert!(offset <= self.floats);
        // SAFETY: inside the block, or one past it.
        unsafe { self.start.as_ptr().add(offset) }
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        let mut kept = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(self.block.take());
    }
}
