//! Pipeline schedules as data: for each rank a list of what it does, in order (paper, section
//! 3.3.2, "Pipeline parallelism", and Figure 6).
//!
//! A pipeline has PP ranks with V chunks of layers each; chunk c of rank r is stage c·PP + r. Each
//! micro-batch goes forward through all stages and backward through all of them. N micro-batches go
//! through a chunk before the first of them is at the next one; any N from 1 on and any number M of
//! micro-batches makes a schedule, the last round may have fewer than N. How lists are made stands
//! in `build.rs`, how they are held against what they must be in `verify.rs`, how they are shown in
//! `draw.rs`. What it is not: what a stage holds, or how its numbers travel.

mod build;
mod draw;
mod verify;

use crate::Error;

pub use verify::{Costs, Timed, Timeline};

/// What a rank does with a micro-batch in one of its chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Work {
    /// Its forward; the activations live from here on.
    Forward,
    /// Its backward: all of it, or where the schedule has [`Work::Weight`] the gradient of its input.
    Backward,
    /// The gradients of its weights.
    Weight,
}

/// One entry of a rank's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Action {
    /// What is done.
    pub work: Work,
    /// With which micro-batch, from 0.
    pub micro_batch: usize,
    /// In which chunk of the rank, from 0.
    pub chunk: usize,
}

/// When weight gradients are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// With the gradient of the input: one forward, one backward, in turn.
    #[default]
    OneForwardOneBackward,
    /// When a rank would wait, at latest when the activations that they need would exceed those of
    /// the other kind (Qi et al. 2023, "Zero bubble pipeline parallelism", schedule ZB-H1).
    ZeroBubble,
}

/// The sizes of a pipeline's step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Ranks.
    pub ranks: usize,
    /// Chunks of a rank: V.
    pub chunks: usize,
    /// Micro-batches of a step: M; may be 0.
    pub micro_batches: usize,
    /// Micro-batches that go through a chunk one behind the other: N. None: as even as possible, at
    /// least as many as there are ranks where M allows it.
    pub contiguous: Option<usize>,
    /// When weight gradients are computed.
    pub kind: Kind,
}

impl Shape {
    /// Stages: chunks of all ranks.
    pub fn stages(&self) -> usize {
        self.ranks.saturating_mul(self.chunks)
    }

    /// N.
    pub fn contiguous(&self) -> usize {
        let rounds = (self.micro_batches / self.ranks.max(1)).max(1);
        self.contiguous.unwrap_or_else(|| self.micro_batches.div_ceil(rounds)).max(1)
    }

    /// The most of a size that is accepted.
    const MOST: usize = 1 << 16;

    fn check(&self) -> Result<(), Error> {
        let sizes = [
            ("pp", self.ranks, 1),
            ("v", self.chunks, 1),
            ("micro-batches", self.micro_batches, 0),
            ("n", self.contiguous.unwrap_or(1), 1),
        ];
        for (what, found, least) in sizes {
            if !(least..=Shape::MOST).contains(&found) {
                let expected = format!("{least} to {}", Shape::MOST);
                return Err(Error::Schedule { what, found: found.to_string(), expected });
            }
        }
        let actions = self.stages().saturating_mul(self.micro_batches);
        if actions > 1 << 24 {
            let (what, found) = ("pp × v × micro-batches", actions.to_string());
            return Err(Error::Schedule { what, found, expected: "at most 2^24".into() });
        }
        Ok(())
    }
}

/// A list for each rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    shape: Shape,
    lists: Vec<Vec<Action>>,
}

impl Schedule {
    /// The schedule of a step of training.
    ///
    /// # Errors
    /// Sizes of zero, or above all measure.
    pub fn new(shape: Shape) -> Result<Schedule, Error> {
        shape.check()?;
        Ok(Schedule { shape, lists: build::training(&shape) })
    }

    /// Forwards only, of all micro-batches: to measure.
    ///
    /// # Errors
    /// As [`Schedule::new`].
    pub fn forward_only(shape: Shape) -> Result<Schedule, Error> {
        shape.check()?;
        Ok(Schedule { shape, lists: vec![build::forwards(&shape); shape.ranks] })
    }

    /// The sizes.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// What a rank does, in order.
    pub fn list(&self, rank: usize) -> &[Action] {
        &self.lists[rank]
    }

    /// How many micro-batches' activations of a chunk live at most at once on a rank: of all its
    /// chunks together.
    pub fn peak(&self, rank: usize) -> usize {
        let last = match self.shape.kind {
            Kind::OneForwardOneBackward => Work::Backward,
            Kind::ZeroBubble => Work::Weight,
        };
        let (mut live, mut peak) = (0usize, 0);
        for action in self.list(rank) {
            if action.work == Work::Forward {
                live += 1;
                peak = peak.max(live);
            } else if action.work == last {
                live -= 1;
            }
        }
        peak
    }
}
