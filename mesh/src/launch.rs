//! Ranks as threads of this process: start them, wait for all, say which failed first. Where ranks
//! are processes that somebody else started (`world.rs`), the one that this is.
//!
//! A rank that panics or returns an error poisons every group, so that the others get an error
//! that names it and end too. It is not the transport itself (`transport.rs`).

use crate::Error;
use crate::axes::Axes;
use crate::mesh::Mesh;
use crate::process::Processes;
use crate::transport::{Threads, Transport};
use std::any::Any;
use std::fmt::{self, Display};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Why a launch failed.
#[derive(Debug)]
pub enum LaunchError<E> {
    /// This rank returned this error, before any other failed.
    Rank {
        /// The rank that failed first.
        rank: usize,
        /// Its error.
        error: E,
    },
    /// This rank panicked, before any other failed.
    Panic {
        /// The rank.
        rank: usize,
        /// What it said.
        message: String,
    },
    /// The ranks could not be started.
    Start(Error),
}

impl<E: Display> Display for LaunchError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LaunchError::Rank { rank, error } => write!(f, "rank {rank}: {error}"),
            LaunchError::Panic { rank, message } => write!(f, "rank {rank} panicked: {message}"),
            LaunchError::Start(error) => write!(f, "{error}"),
        }
    }
}

impl<E: Display + fmt::Debug> std::error::Error for LaunchError<E> {}

enum Ended<T, E> {
    Well(T),
    Failed(E),
    Panicked(String),
}

impl<T, E: Display> Ended<T, E> {
    fn of(work: impl FnOnce() -> Result<T, E>) -> Self {
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(value)) => Ended::Well(value),
            Ok(Err(error)) => Ended::Failed(error),
            Err(panic) => Ended::Panicked(message(panic)),
        }
    }

    fn failure(&self) -> Option<String> {
        match self {
            Ended::Well(_) => None,
            Ended::Failed(error) => Some(error.to_string()),
            Ended::Panicked(message) => Some(format!("panic: {message}")),
        }
    }
}

/// Runs `work` on this process's rank of `axes`; what it returns, as the only one of the list.
///
/// # Errors
/// The error of this rank, which the others learn.
pub(crate) fn launch_here<T, E: Display>(
    processes: &Arc<Processes>,
    axes: Axes,
    work: impl FnOnce(Mesh) -> Result<T, E>,
) -> Result<Vec<T>, LaunchError<E>> {
    let rank = processes.rank();
    let mesh = Mesh::new(axes, rank, processes.transport(false)).map_err(LaunchError::Start)?;
    let ended = Ended::of(|| work(mesh));
    if let Some(why) = ended.failure() {
        processes.fail(&why);
    }
    match ended {
        Ended::Well(value) => Ok(vec![value]),
        Ended::Failed(error) => Err(LaunchError::Rank { rank, error }),
        Ended::Panicked(message) => Err(LaunchError::Panic { rank, message }),
    }
}

/// Runs `work` on every rank of `axes`, each on a thread of its own (a mesh of one: on the
/// caller's), and returns what they return, in rank order.
///
/// # Errors
/// The first rank to fail; the others have then ended as well.
pub fn launch<T: Send, E: Display + Send>(
    axes: Axes,
    work: impl Fn(Mesh) -> Result<T, E> + Sync,
) -> Result<Vec<T>, LaunchError<E>> {
    launch_over(axes, |_, world| world, work)
}

/// [`launch`], where ranks talk over what `transport` makes of that of threads for each.
///
/// # Errors
/// As there.
pub fn launch_over<T: Send, E: Display + Send>(
    axes: Axes,
    transport: impl Fn(usize, Arc<Threads>) -> Arc<dyn Transport> + Sync,
    work: impl Fn(Mesh) -> Result<T, E> + Sync,
) -> Result<Vec<T>, LaunchError<E>> {
    let world = Arc::new(Threads::new(axes.world()));
    let run = |rank: usize| {
        let mesh = match Mesh::new(axes, rank, transport(rank, world.clone())) {
            Ok(mesh) => mesh,
            Err(error) => return Ended::Panicked(error.to_string()),
        };
        let ended = Ended::of(|| work(mesh));
        world.finish(rank, ended.failure());
        ended
    };
    let ended =
        if axes.world() == 1 { vec![run(0)] } else { on_threads(axes.world(), &world, run)? };
    collect(ended, world.failure().map(|(rank, _)| rank))
}

fn on_threads<R: Send>(
    ranks: usize,
    world: &Threads,
    run: impl Fn(usize) -> R + Sync,
) -> Result<Vec<R>, StartError> {
    std::thread::scope(|scope| {
        let mut handles = Vec::new();
        let mut failed = None;
        for rank in 0..ranks {
            let run = &run;
            let builder = std::thread::Builder::new().name(format!("rank {rank}"));
            match builder.spawn_scoped(scope, move || run(rank)) {
                Ok(handle) => handles.push(handle),
                Err(source) => {
                    (rank..ranks).for_each(|r| world.finish(r, Some(source.to_string())));
                    failed = Some(Error::Spawn { rank, source });
                    break;
                }
            }
        }
        let ended: Vec<R> = handles.into_iter().filter_map(|handle| handle.join().ok()).collect();
        failed.map_or(Ok(ended), |error| Err(StartError(error)))
    })
}

struct StartError(Error);

impl<E> From<StartError> for LaunchError<E> {
    fn from(error: StartError) -> LaunchError<E> {
        LaunchError::Start(error.0)
    }
}

/// All values, or the failure that came first.
fn collect<T, E>(ended: Vec<Ended<T, E>>, first: Option<usize>) -> Result<Vec<T>, LaunchError<E>> {
    let mut values = Vec::new();
    let mut failures: Vec<(usize, LaunchError<E>)> = Vec::new();
    for (rank, ended) in ended.into_iter().enumerate() {
        match ended {
            Ended::Well(value) => values.push(value),
            Ended::Failed(error) => failures.push((rank, LaunchError::Rank { rank, error })),
            Ended::Panicked(message) => failures.push((rank, LaunchError::Panic { rank, message })),
        }
    }
    let culprit = failures.iter().position(|(rank, _)| Some(*rank) == first).unwrap_or(0);
    match failures.is_empty() {
        true => Ok(values),
        false => Err(failures.swap_remove(culprit).1),
    }
}

fn message(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}
