//! The mesh as one rank sees it: its place on the axes and its group for each use.
//! It is not the transport below nor the model above; a mesh of one rank is the normal case.

use crate::Error;
use crate::axes::{Axes, Axis};
use crate::group::Group;
use crate::placement::{Global, Local, Sum};
use crate::transport::{Threads, Transport};
use crate::uses::{USES, Use};
use std::sync::Arc;

/// This rank's view of the mesh. Cheap to clone; clones share the groups' call counters.
#[derive(Clone, Debug)]
pub struct Mesh {
    axes: Axes,
    rank: usize,
    groups: Arc<Vec<Group>>,
}

impl Mesh {
    /// A mesh of one rank: every collective returns at once.
    pub fn one() -> Mesh {
        Mesh::build(Axes::ONE, 0, Arc::new(Threads::new(1)))
    }

    /// The mesh `axes` as `rank` sees it over `transport`. All ranks must be built alike.
    ///
    /// # Errors
    /// A rank that the mesh does not have.
    pub fn new(axes: Axes, rank: usize, transport: Arc<dyn Transport>) -> Result<Mesh, Error> {
        if rank >= axes.world() {
            return Err(Error::NoSuchRank { rank, axes: axes.to_string(), last: axes.world() - 1 });
        }
        Ok(Mesh::build(axes, rank, transport))
    }

    fn build(axes: Axes, rank: usize, transport: Arc<dyn Transport>) -> Mesh {
        let group = |(_, name, along): &(Use, &str, &[Axis])| {
            let members = axes.peers(rank, along);
            let index = members.iter().position(|member| *member == rank).unwrap_or(0);
            Group::new(name, members, index, transport.clone())
        };
        Mesh { axes, rank, groups: Arc::new(USES.iter().map(group).collect()) }
    }

    /// The sizes of the axes.
    pub fn axes(&self) -> Axes {
        self.axes
    }

    /// This rank.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// This rank's coordinate on one axis.
    pub fn at(&self, axis: Axis) -> usize {
        self.axes.coordinates(self.rank)[axis as usize]
    }

    /// The group for a use.
    pub fn group(&self, usage: Use) -> &Group {
        &self.groups[usage as usize]
    }

    /// Adds up sums that each rank made over its own part, position by position.
    ///
    /// # Errors
    /// What the other ranks report.
    pub fn sum(&self, usage: Use, sums: &[Sum<Local>]) -> Result<Vec<Sum<Global>>, Error> {
        let numbers: Vec<f64> = sums.iter().map(|sum| sum.value()).collect();
        let all = self.group(usage).sum_numbers(&numbers)?;
        Ok(all.into_iter().map(Sum::of).collect())
    }
}
