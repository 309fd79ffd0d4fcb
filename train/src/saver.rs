//! Checkpoints that are written while the run goes on. The step waits for a copy of the states into
//! host memory; a thread of each rank writes its copy; at the end of a later step the ranks find that
//! all have, and the first makes a checkpoint of it (paper, section 3.3.1: checkpoints should not keep
//! the GPUs waiting). One is on its way at a time, its memory is used again.
//!
//! Not what a checkpoint holds (`checkpoint.rs`), nor when one is due (the loop).

use crate::checkpoint::{self, Facts, Piece};
use crate::{Error, Job, Learner, Recipe, folder};
use quipu_mesh::{Mesh, Use};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

/// What a thread gives back: the memory that it wrote from.
type Worker = JoinHandle<Result<Vec<u8>, Error>>;

/// A rank's checkpoint on its way, and the memory for the next one.
#[derive(Default)]
pub(crate) struct Saver {
    copy: Vec<u8>,
    flight: Option<Flight>,
}

struct Flight {
    facts: Facts,
    /// Where it is written, under its temporary name.
    folder: PathBuf,
    phase: Phase,
    /// None once it is through, and on ranks that have nothing to do in this phase.
    worker: Option<Worker>,
}

/// What all ranks are at.
#[derive(Clone, Copy, PartialEq)]
enum Phase {
    /// Each writes its part.
    Writing,
    /// The first makes a checkpoint of them.
    Sealing,
}

impl Saver {
    /// Begins the checkpoint of a moment; on return the learner may go on. All ranks call it, with
    /// none on its way.
    ///
    /// # Errors
    /// What the device, the file system and the mesh report.
    pub(crate) fn begin(
        &mut self,
        job: &Job<'_>,
        facts: Facts,
        learner: &Learner,
        mesh: &Mesh,
    ) -> Result<(), Error> {
        let (dir, step, rank) = (job.checkpoints(), facts.progress.step, mesh.rank());
        if rank == 0 {
            folder::begin(&dir, step)?;
        }
        mesh.group(Use::World).barrier()?;
        let pieces = checkpoint::copy(learner, &mut self.copy)?;
        let (copy, folder) = (std::mem::take(&mut self.copy), folder::temporary(&dir, step));
        let to = folder.clone();
        let worker = Some(spawn(move || write(&to, rank, &pieces, copy))?);
        self.flight = Some(Flight { facts, folder, phase: Phase::Writing, worker });
        Ok(())
    }

    /// Whether this rank is still at work; what went wrong, as soon as it has.
    ///
    /// # Errors
    /// What the file system reports; nothing is then left under a final name.
    pub(crate) fn is_busy(&mut self) -> Result<bool, Error> {
        let Some(flight) = &mut self.flight else { return Ok(false) };
        match &flight.worker {
            Some(worker) if !worker.is_finished() => Ok(true),
            _ => self.join().map(|()| false),
        }
    }

    /// Goes on to the next phase, once no rank is busy any more. All ranks call it. The path of the
    /// checkpoint when it is whole.
    ///
    /// # Errors
    /// What the file system reports.
    pub(crate) fn advance(&mut self, job: &Job<'_>, mesh: &Mesh) -> Result<Option<PathBuf>, Error> {
        self.join()?;
        let Some(mut flight) = self.flight.take() else { return Ok(None) };
        let (dir, step) = (job.checkpoints(), flight.facts.progress.step);
        if flight.phase == Phase::Sealing {
            return Ok(Some(folder::path(&dir, step)));
        }
        flight.phase = Phase::Sealing;
        if mesh.rank() == 0 {
            let (facts, recipe, ranks) =
                (flight.facts.clone(), job.recipe.clone(), mesh.axes().world());
            let copy = std::mem::take(&mut self.copy);
            let seal = move || seal(&dir, &recipe, &facts, ranks).map(|()| copy);
            flight.worker = Some(spawn(seal)?);
        }
        self.flight = Some(flight);
        Ok(None)
    }

    /// Waits until the checkpoint on its way is whole; its step and path, if there is one. All ranks
    /// call it.
    ///
    /// # Errors
    /// What the file system and the mesh report.
    pub(crate) fn settle(&mut self, job: &Job<'_>, mesh: &Mesh) -> Result<Option<PathBuf>, Error> {
        while self.flight.is_some() {
            self.join()?;
            mesh.group(Use::World).barrier()?;
            if let Some(path) = self.advance(job, mesh)? {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// The step of the checkpoint on its way.
    pub(crate) fn step(&self) -> Option<u64> {
        self.flight.as_ref().map(|flight| flight.facts.progress.step)
    }

    /// Waits for this rank's thread.
    fn join(&mut self) -> Result<(), Error> {
        let Some(flight) = &mut self.flight else { return Ok(()) };
        let Some(worker) = flight.worker.take() else { return Ok(()) };
        let what = || "the thread that wrote it panicked".into();
        let panicked = |_| Error::Checkpoint { path: flight.folder.clone(), what: what() };
        self.copy = worker.join().map_err(panicked)??;
        Ok(())
    }
}

impl Drop for Saver {
    /// A run that fails leaves no thread behind that still writes in its folder.
    fn drop(&mut self) {
        let _ = self.join();
    }
}

fn spawn(work: impl FnOnce() -> Result<Vec<u8>, Error> + Send + 'static) -> Result<Worker, Error> {
    let named = thread::Builder::new().name("checkpoint".into());
    named.spawn(work).map_err(Error::io(Path::new("a thread")))
}

fn write(folder: &Path, rank: usize, pieces: &[Piece], copy: Vec<u8>) -> Result<Vec<u8>, Error> {
    let written = checkpoint::write(folder, rank, pieces, &copy);
    if written.is_err() && rank == 0 {
        // The error that stopped the writing is the one to tell.
        let _ = std::fs::remove_dir_all(folder);
    }
    written.map(|()| copy)
}

fn seal(dir: &Path, recipe: &Recipe, facts: &Facts, ranks: usize) -> Result<(), Error> {
    let step = facts.progress.step;
    checkpoint::seal(&folder::temporary(dir, step), facts, ranks)?;
    let needed = |old| recipe.needs_checkpoint(step, facts.guard.first_skipped(), old);
    folder::commit(dir, step, recipe.keep_checkpoints, &needed).map(drop)
}
