//! The device and the ranks of a run: the cores of this machine, shared out. No numbers of a run
//! depend on how many there are.

use crate::error::Error;
use crate::recipe::Recipe;
use crate::stage::Context;
use quipu_math::{Cpu, Device};
use quipu_mesh::World;
use quipu_model::Config;
use quipu_train::Parallel;
use quipu_train::recipe::Dtype;
use std::sync::Arc;

/// The ranks that the recipe asks for, and how the work is divided over them.
pub fn parallel(recipe: &Recipe) -> Result<Parallel, Error> {
    parsed(&recipe.mesh)
}

fn parsed(mesh: &str) -> Result<Parallel, Error> {
    mesh.parse().map_err(|e: quipu_train::Error| Error::usage(e.to_string()))
}

/// The ranks that a flag asks for, which live in `world` and on which a model fits.
pub fn parallel_of(mesh: &str, world: &World, config: &Config) -> Result<Parallel, Error> {
    let parallel = parsed(mesh)?;
    held(&parallel, world)?;
    parallel.check(config).map_err(|e| Error::usage(e.to_string()))?;
    Ok(Parallel { world: world.clone(), ..parallel })
}

/// Refuses a mesh of other ranks than there are processes, or than threads of one process may be.
pub fn held(parallel: &Parallel, world: &World) -> Result<(), Error> {
    world.holds(parallel.axes).map_err(|e| Error::usage(e.to_string()).everywhere())
}

/// The same, as the command was told to check it.
pub fn checked(context: &Context) -> Result<Parallel, Error> {
    let world = context.world.clone();
    Ok(Parallel { check: context.checks, world, ..parallel(&context.recipe)? })
}

/// The device of this process when it is a rank of its own.
pub fn whole() -> Arc<dyn Device> {
    of_threads(cores())
}

/// What opens the device of a rank.
pub fn of_ranks(
    parallel: &Parallel,
) -> impl Fn(usize) -> Result<Arc<dyn Device>, quipu_math::Error> + Sync + use<> {
    let threads = threads(parallel);
    move |_| Ok(of_threads(threads))
}

/// Threads of each rank's device.
pub fn threads(parallel: &Parallel) -> usize {
    (cores() / parallel.world.beside(parallel.axes)).max(1)
}

/// A device of so many threads.
pub fn of_threads(threads: usize) -> Arc<dyn Device> {
    Arc::new(Cpu::new(threads))
}

/// What this machine's processors can do at most: multiply-adds on registers, on so many threads,
/// FLOP/s. The best of many short measurements, a tenth of a second in all; what runs beside it
/// lowers it, so shares of it are measured around the work that they are shares of.
pub fn ceiling(threads: usize, dtype: Dtype) -> f64 {
    let cpu = Cpu::new(threads);
    1e9 * match dtype {
        Dtype::F32 => quipu_math::bench::peak(&cpu),
        Dtype::Bf16 => quipu_math::bench::peak_of_pairs(&cpu),
    }
}

/// Cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
