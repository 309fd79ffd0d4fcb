//! What can go wrong in a mesh, with the group, operation, sequence number and rank where it did.
//! It is not: errors of the device itself, which are carried through unchanged.

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
        "mesh: the size of axis {axis} is '{found}'; expected a whole number ≥ 1, as in '{axis}=2'"
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
        "rank {rank}, group {group}, call {sequence}: this rank calls {ours}, \
         but rank {other} calls {theirs}; all ranks of a group must make the same calls in order"
    )]
    Mismatch {
        /// The rank that reports.
        rank: usize,
        /// The group's name.
        group: String,
        /// Number of the call within the group, from 0.
        sequence: u64,
        /// The call made here.
        ours: String,
        /// The rank that differs.
        other: usize,
        /// The call made there.
        theirs: String,
    },
    /// Another rank failed, so this one was let go.
    #[error(
        "rank {rank}, group {group}, call {sequence} ({operation}): rank {failed} failed: {why}"
    )]
    Poisoned {
        /// The rank that reports.
        rank: usize,
        /// The group's name.
        group: String,
        /// Number of the call within the group.
        sequence: u64,
        /// The operation this rank was in.
        operation: &'static str,
        /// The rank that failed first.
        failed: usize,
        /// What it failed with.
        why: String,
    },
    /// A rank left without making a call the others wait for.
    #[error(
        "rank {rank}, group {group}, call {sequence} ({operation}): rank {absent} has finished \
         without making this call"
    )]
    Absent {
        /// The rank that reports.
        rank: usize,
        /// The group's name.
        group: String,
        /// Number of the call within the group.
        sequence: u64,
        /// The operation this rank was in.
        operation: &'static str,
        /// The rank that is gone.
        absent: usize,
    },
    /// Every rank waits for another.
    #[error(
        "rank {rank}, group {group}, call {sequence} ({operation}): every rank waits: {places}"
    )]
    Deadlock {
        /// The rank that reports.
        rank: usize,
        /// The group's name.
        group: String,
        /// Number of the call within the group.
        sequence: u64,
        /// The operation this rank was in.
        operation: &'static str,
        /// Where each rank stands.
        places: String,
    },
    /// Views whose sizes do not fit the collective.
    #[error("rank {rank}, group {group} of {ranks}, {operation}: {found}; expected {expected}")]
    Shape {
        /// The rank that reports.
        rank: usize,
        /// The group's name.
        group: String,
        /// Number of ranks in it.
        ranks: usize,
        /// The operation.
        operation: &'static str,
        /// The sizes given.
        found: String,
        /// What would fit.
        expected: String,
    },
    /// The device failed to read, write or copy.
    #[error("rank {rank}, group {group}, {operation}: {source}")]
    Device {
        /// The rank that reports.
        rank: usize,
        /// The group's name.
        group: String,
        /// The operation.
        operation: &'static str,
        /// The device's own error.
        source: quipu_math::Error,
    },
    /// A rank's thread could not be started.
    #[error("mesh: the thread of rank {rank} could not be started: {source}")]
    Spawn {
        /// The rank.
        rank: usize,
        /// What the system said.
        source: std::io::Error,
    },
}
