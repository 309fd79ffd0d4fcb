//! Working memory of kernels: taken for the length of an op and kept by the device for the next one,
//! so that no op pays for fresh pages. Where an op takes more while it holds some, that is a second
//! block; each is as large as the largest that was needed at its depth. How large that is can be
//! known before: `working.rs`.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use crate::error::Error;
use crate::pages::Pages;

/// One allocation of f32 numbers.
#[derive(Debug)]
struct Block {
    pages: Pages,
    bytes: usize,
}

impl Block {
    fn new(bytes: usize) -> Result<Block, Error> {
        let pages = Pages::new(bytes).map_err(|reason| {
            let (device, reason) =
                ("cpu (working memory of an op)".to_string(), reason.to_string());
            Error::Allocate { device, bytes, reason }
        })?;
        Ok(Block { pages, bytes })
    }
}

/// The blocks of a device.
#[derive(Debug, Default)]
pub(crate) struct Blocks(Mutex<Vec<Place>>);

#[derive(Debug, Default)]
struct Place {
    taken: bool,
    /// Not here while it is in use.
    block: Option<Block>,
    /// Of the block, wherever it is.
    bytes: usize,
}

impl Blocks {
    /// Bytes of all blocks.
    pub(crate) fn bytes(&self) -> u64 {
        self.with(|places| places.iter().map(|place| place.bytes as u64).sum())
    }

    /// Of each of them.
    #[cfg(test)]
    pub(crate) fn sizes(&self) -> Vec<u64> {
        self.with(|places| places.iter().map(|place| place.bytes as u64).collect())
    }

    fn with<T>(&self, f: impl FnOnce(&mut Vec<Place>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A block in use; goes back to the device when dropped.
pub(crate) struct Scratch<'a> {
    block: Option<Block>,
    start: NonNull<f32>,
    floats: usize,
    blocks: &'a Blocks,
    place: usize,
}

// SAFETY: the tasks of an op write disjoint parts.
unsafe impl Sync for Scratch<'_> {}

impl<'a> Scratch<'a> {
    /// The first block that is free, made larger where it has to be.
    pub(crate) fn take(blocks: &'a Blocks, floats: usize) -> Result<Scratch<'a>, Error> {
        let bytes = floats.saturating_mul(size_of::<f32>());
        let (place, block) = blocks.with(|places| {
            let place = places.iter().position(|place| !place.taken).unwrap_or(places.len());
            places.resize_with(places.len().max(place + 1), Place::default);
            places[place].taken = true;
            (place, places[place].block.take())
        });
        // from here on the place is given back whatever happens
        let mut scratch = Scratch { block, start: NonNull::dangling(), floats, blocks, place };
        if scratch.block.as_ref().is_none_or(|block| block.bytes < bytes) {
            scratch.block = None;
            scratch.block = Some(Block::new(bytes)?);
            blocks.with(|places| places[place].bytes = bytes);
        }
        if let Some(block) = &scratch.block {
            scratch.start = block.pages.start().cast();
        }
        Ok(scratch)
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
        let block = self.block.take();
        self.blocks.with(|places| {
            let place = &mut places[self.place];
            place.bytes = block.as_ref().map_or(0, |block| block.bytes);
            (place.taken, place.block) = (false, block);
        });
    }
}
