//! Where the ranks of a run live: as threads of this process, or each in a process of its own that a
//! launcher of MPI started. What only one of several processes may do (a folder, a file, the screen)
//! the first one does, and the others wait.
//! What it is not: a mesh. Meshes come and go in a run; the processes stay.

use crate::Error;
use crate::axes::Axes;
use crate::group::Group;
use crate::launch::{LaunchError, launch, launch_here};
use crate::mesh::Mesh;
use crate::process::{Link, Patience, Processes};
use std::fmt::{self, Display};
use std::net::IpAddr;
use std::sync::Arc;

/// The ranks' home. Cheap to clone.
#[derive(Clone, Default)]
pub enum World {
    /// All in this process.
    #[default]
    Threads,
    /// One in each of several processes.
    Processes(Arc<Together>),
}

/// This process among the others.
pub struct Together {
    processes: Arc<Processes>,
    /// For what is no mesh's: its calls take as long as they take.
    group: Group,
    /// Processes on the same cores as this one, it included.
    beside: usize,
}

impl PartialEq for World {
    fn eq(&self, other: &World) -> bool {
        self.ranks() == other.ranks()
    }
}

impl Eq for World {}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            World::Threads => write!(f, "threads"),
            World::Processes(here) => {
                write!(f, "process {} of {}", here.processes.rank(), here.processes.size())
            }
        }
    }
}

impl World {
    /// More ranks than so many are no threads of one process: each has a model's memory, and all wait
    /// for each other on the cores of one machine.
    pub const MOST_THREADS: usize = 256;

    /// That of this process: with others, if a launcher of MPI started it as one of several.
    ///
    /// # Errors
    /// [`Error::NoProcesses`] of a program without the feature `mpi`; ranks that do not find
    /// together.
    pub fn enter(patience: Patience) -> Result<World, Error> {
        let Some((variable, count)) = launched() else { return Ok(World::Threads) };
        #[cfg(feature = "mpi")]
        {
            let _ = (variable, count);
            let fail = |what| Error::Rendezvous { rank: 0, what };
            let link = crate::process::mpi::Mpi::enter().map_err(fail)?;
            let rank = link.place().0;
            let fail = |what| Error::Rendezvous { rank, what };
            let hosts = match rank {
                0 => crate::process::mpi::hosts().map_err(fail)?,
                _ => Vec::new(),
            };
            World::of(Box::new(link), hosts, patience)
        }
        #[cfg(not(feature = "mpi"))]
        {
            let _ = patience;
            Err(Error::NoProcesses { variable, count })
        }
    }

    /// That of the processes at the ends of `link`; rank 0 is reached at one of `hosts`.
    ///
    /// # Errors
    /// Ranks that do not find together.
    pub fn of(link: Box<dyn Link>, hosts: Vec<IpAddr>, patience: Patience) -> Result<World, Error> {
        let processes = Processes::meet(link, hosts, patience)?;
        let members = (0..processes.size()).collect();
        let group = Group::new("processes", members, processes.rank(), processes.transport(true));
        let home = home();
        let homes = group.gather_texts("cores", &home)?;
        let beside = homes.iter().filter(|other| **other == home).count();
        Ok(World::Processes(Arc::new(Together { processes, group, beside })))
    }

    /// How many processes there are, where there are several.
    pub fn ranks(&self) -> Option<usize> {
        match self {
            World::Threads => None,
            World::Processes(here) => Some(here.processes.size()),
        }
    }

    /// Ranks of `axes` that share this process's cores.
    pub fn beside(&self, axes: Axes) -> usize {
        match self {
            World::Threads => axes.world(),
            World::Processes(here) => here.beside,
        }
    }

    /// Whether there are as many processes as ranks of `axes`, where ranks are processes; where they are
    /// threads, whether one process has room for them.
    ///
    /// # Errors
    /// [`Error::WorldSize`], [`Error::TooManyThreads`].
    pub fn holds(&self, axes: Axes) -> Result<(), Error> {
        match self.ranks() {
            None if axes.world() > World::MOST_THREADS => {
                let (ranks, axes) = (axes.world(), axes.to_string());
                Err(Error::TooManyThreads { axes, ranks, most: World::MOST_THREADS })
            }
            Some(processes) if processes != axes.world() => {
                let (ranks, axes) = (axes.world(), axes.to_string());
                Err(Error::WorldSize { axes, ranks, processes })
            }
            _ => Ok(()),
        }
    }

    /// Whether this process is the first of all, or the only one.
    pub fn leads(&self) -> bool {
        match self {
            World::Threads => true,
            World::Processes(here) => here.processes.rank() == 0,
        }
    }

    /// All do `what`, the first process before the others, who so find what it left.
    ///
    /// # Errors
    /// What `what` returns, and that another process failed.
    pub fn first<T, E: From<Error>>(&self, what: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let World::Processes(here) = self else { return what() };
        if !self.leads() {
            here.group.barrier()?;
            return what();
        }
        let done = what()?;
        here.group.barrier()?;
        Ok(done)
    }

    /// The first process alone does `what`, the others wait.
    ///
    /// # Errors
    /// What `what` returns, and that another process failed.
    pub fn alone<T, E: From<Error>>(
        &self,
        what: impl FnOnce() -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        self.first(|| if self.leads() { what().map(Some) } else { Ok(None) })
    }

    /// Whether the first process says so.
    ///
    /// # Errors
    /// That another process failed.
    pub fn told(&self, so: bool) -> Result<bool, Error> {
        let World::Processes(here) = self else { return Ok(so) };
        here.group.any(so && self.leads())
    }

    /// Whether `text` is the same for all processes.
    ///
    /// # Errors
    /// [`Error::Differs`]; that another process failed.
    pub fn same(&self, what: &'static str, text: &str) -> Result<(), Error> {
        match self {
            World::Threads => Ok(()),
            World::Processes(here) => here.group.same(what, text),
        }
    }

    /// Runs `work` on the ranks of `axes` that live here; what they return, in rank order.
    ///
    /// # Errors
    /// The first rank to fail; a mesh of other ranks than there are processes.
    pub fn launch<T: Send, E: Display + Send>(
        &self,
        axes: Axes,
        work: impl Fn(Mesh) -> Result<T, E> + Sync,
    ) -> Result<Vec<T>, LaunchError<E>> {
        self.holds(axes).map_err(LaunchError::Start)?;
        match self {
            World::Threads => launch(axes, work),
            World::Processes(here) => launch_here(&here.processes, axes, work),
        }
    }

    /// Ends with the others: well, or with what this process failed with.
    pub fn leave(&self, failure: Option<&str>) {
        let World::Processes(here) = self else { return };
        failure.iter().for_each(|why| here.processes.fail(why));
        here.processes.leave();
    }
}

/// What launchers of MPI say of how many processes they started, if they did: Open MPI, MPICH and
/// its kin, Slurm.
fn launched() -> Option<(&'static str, usize)> {
    let variables = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"];
    let several = |variable: &'static str| {
        let count = std::env::var(variable).ok()?.trim().parse().ok()?;
        (count > 1).then_some((variable, count))
    };
    variables.into_iter().find_map(several)
}

/// This host and the cores of it that this process may use, as text.
fn home() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let status = read("/proc/self/status");
    let cores = status.lines().find(|line| line.starts_with("Cpus_allowed_list:"));
    // of hosts that are containers of one machine each has a name of its own
    format!("{} {}", read("/proc/sys/kernel/hostname").trim(), cores.unwrap_or_default())
}
