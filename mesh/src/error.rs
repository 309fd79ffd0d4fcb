//! What can go wrong in a mesh, with the group, operation, sequence number and rank where it did.
//! It is not: errors of the device itself, which are carried through unchanged.

/// Where a rank was when something went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The rank that reports.
    pub rank: usize,
    /// The group's name, with its members.
    pub group: String,
    /// Number of the call within the group, from 0.
    pub sequence: u64,
    /// The operation this rank was in.
    pub operation: &'static str,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Place { rank, group, sequence, operation } = self;
        write!(f, "rank {rank}, group {group}, call {sequence} ({operation})")
    }
}

/// Every failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An axis nobody knows.
    #[error("mesh: no axis is called '{found}'; the axes are tp, cp, pp and dp, as in 'dp=2'")]
    UnknownAxis {
        /// What stood before the '='.
        found: String,
    },
    /// An axis given twice.
    #[error("mesh: axis {axis} is given twice; give it once")]
    AxisTwice {
        /// The axis.
        axis: &'static str,
    },
    /// A size that is not a whole number of at least one.
    #[error(
        "mesh: the size of axis {axis} is '{found}'; expected a whole number from 1 to 2^24, as in '{axis}=2'"
    )]
    AxisSize {
        /// The axis.
        axis: &'static str,
        /// What was given.
        found: String,
    },
    /// A product of sizes that no machine has.
    #[error("mesh: sizes {sizes:?} of [tp, cp, pp, dp] make more than {most} ranks")]
    TooManyRanks {
        /// The limit.
        most: usize,
        /// The sizes given.
        sizes: [usize; 4],
    },
    /// A rank outside the mesh.
    #[error("mesh: rank {rank} does not exist in {axes}, which has ranks 0 to {last}")]
    NoSuchRank {
        /// The rank asked for.
        rank: usize,
        /// The mesh as text.
        axes: String,
        /// The last rank there is.
        last: usize,
    },
    /// Ranks of one group made different calls at the same place.
    #[error(
        "{at}: this rank calls {ours}, but rank {other} calls {theirs}; \
         all ranks of a group must make the same calls in order"
    )]
    Mismatch {
        /// Where this rank was.
        at: Box<Place>,
        /// The call made here.
        ours: String,
        /// The rank that differs.
        other: usize,
        /// The call made there.
        theirs: String,
    },
    /// Another rank failed, so this one was let go.
    #[error("{at}: rank {failed} failed: {why}")]
    Poisoned {
        /// Where this rank was.
        at: Box<Place>,
        /// The rank that failed first.
        failed: usize,
        /// What it failed with.
        why: String,
    },
    /// A rank left without making a call the others wait for.
    #[error("{at}: rank {absent} has finished without making this call")]
    Absent {
        /// Where this rank was.
        at: Box<Place>,
        /// The rank that is gone.
        absent: usize,
    },
    /// Every rank waits for another.
    #[error("{at}: every rank waits: {places}")]
    Deadlock {
        /// Where this rank was.
        at: Box<Place>,
        /// Where each rank stands.
        places: String,
    },
    /// Views whose sizes do not fit the collective.
    #[error("{at}: {found}; expected {expected}")]
    Shape {
        /// Where this rank was.
        at: Box<Place>,
        /// The sizes given.
        found: String,
        /// What would fit.
        expected: String,
    },
    /// The device failed to read, write or copy.
    #[error("{at}: {source}")]
    Device {
        /// Where this rank was.
        at: Box<Place>,
        /// The device's own error.
        source: Box<quipu_math::Error>,
    },
    /// A rank's thread could not be started.
    #[error("mesh: the thread of rank {rank} could not be started: {source}")]
    Spawn {
        /// The rank.
        rank: usize,
        /// What the system said.
        source: std::io::Error,
    },
    /// The processes of a run did not find together.
    #[error("rank {rank}: the run's processes do not find together: {what}")]
    Rendezvous {
        /// The rank that reports.
        rank: usize,
        /// What was found.
        what: String,
    },
    /// What moves messages between processes failed.
    #[error("{at}: {what}")]
    Link {
        /// Where this rank was.
        at: Box<Place>,
        /// What it said.
        what: String,
    },
    /// Ranks that live did not make a call in time.
    #[error("{at}: ranks {ranks:?} have not made this call for {seconds:.0} s; are they stuck?")]
    Late {
        /// Where this rank was.
        at: Box<Place>,
        /// The ranks that were waited for.
        ranks: Vec<usize>,
        /// How long.
        seconds: f64,
    },
    /// Ranks that must work on the same do not.
    #[error("{at}: the {what} of rank {other} is another: {theirs} there, {ours} here")]
    Differs {
        /// Where this rank was.
        at: Box<Place>,
        /// What differs.
        what: &'static str,
        /// Here.
        ours: String,
        /// The rank that differs.
        other: usize,
        /// There.
        theirs: String,
    },
    /// A mesh of other ranks than there are processes.
    #[error(
        "mesh {axes} has {ranks} ranks, but {processes} processes were started; start {ranks}, or name \
         a mesh of {processes}"
    )]
    WorldSize {
        /// The mesh as text.
        axes: String,
        /// Its ranks.
        ranks: usize,
        /// The processes that there are.
        processes: usize,
    },
    /// More ranks than one process has threads for.
    #[error(
        "mesh {axes} has {ranks} ranks, but only {most} are threads of one process; start processes \
         (mpirun -n {ranks} quipu …, built with --features mpi), or look at it with --dry-run"
    )]
    TooManyThreads {
        /// The mesh as text.
        axes: String,
        /// Its ranks.
        ranks: usize,
        /// The most that there can be.
        most: usize,
    },
    /// Groups that share out states and do not divide the ranks that hold the same parameters.
    #[error(
        "mesh {axes}: groups of {group} share out states, but {ranks} ranks (cp × dp) hold the same \
         parameters; choose a divisor of {ranks}"
    )]
    ShareGroups {
        /// Ranks of a group.
        group: usize,
        /// CP · DP.
        ranks: usize,
        /// The mesh as text.
        axes: String,
    },
    /// Started as one of several processes by a program that cannot be.
    #[error(
        "this process was started as one of several ({variable} says {count}), but the program was \
         built without the feature 'mpi': build it with --features mpi, or start one process"
    )]
    NoProcesses {
        /// The launcher's variable.
        variable: &'static str,
        /// What it says.
        count: usize,
    },
    /// A pipeline schedule that there cannot be, or a list that is none.
    #[error("schedule: {what}: {found}; expected {expected}")]
    Schedule {
        /// Which size, or `list`.
        what: &'static str,
        /// What was found.
        found: String,
        /// What would do.
        expected: String,
    },
}
