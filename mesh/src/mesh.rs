//! The mesh as one rank sees it: its place on the axes and its group for each use.
//! It is not the transport below nor the model above; a mesh of one rank is the normal case.

use crate::Error;
use crate::axes::{Axes, Axis};
use crate::group::{Group, Pending};
use crate::placement::{Global, Local, Sum};
use crate::traffic::{Held, Traffic};
use crate::transport::{Threads, Transport};
use crate::uses::{USES, Use};
use quipu_math::Device;
use std::sync::{Arc, Mutex, PoisonError};

/// Groups of some of the ranks along an axis.
type Parts = Vec<(Use, Arc<Group>)>;

/// What of parameters, gradients and states each rank keeps, of those that have the same parameters for
/// other tokens (context and data parallelism), and whether anybody waits sooner than needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// Whether working weights and gradients of layers are shared out as well: gathered before each
    /// use, reduced after each. Otherwise only the optimizer's states are, and gradients once a step.
    pub full: bool,
    /// Ranks that share out one copy (hybrid groups): neighbours, of whose number this is a divisor;
    /// none: all.
    pub group: Option<usize>,
    /// Whether what is begun is waited for where it is needed, not at once.
    pub overlap: bool,
}

impl Default for Sharing {
    fn default() -> Sharing {
        Sharing { full: false, group: None, overlap: true }
    }
}

impl Sharing {
    /// Refuses groups that do not divide the ranks of a mesh.
    ///
    /// # Errors
    /// [`Error::ShareGroups`].
    pub fn check(&self, axes: Axes) -> Result<(), Error> {
        let ranks = axes.size(Axis::Cp) * axes.size(Axis::Dp);
        match self.group {
            Some(group) if group == 0 || !ranks.is_multiple_of(group) => {
                Err(Error::ShareGroups { group, ranks, axes: axes.to_string() })
            }
            _ => Ok(()),
        }
    }

    /// Of ranks that hold the same parameters, those that rank number `index` meets for `usage`.
    fn members(&self, usage: Use, all: &[usize], index: usize) -> Vec<usize> {
        let group = self.group.unwrap_or(all.len());
        match usage {
            Use::Gradients | Use::Parameters => {
                let first = index / group * group;
                all[first..first + group].to_vec()
            }
            Use::Replicas => all.iter().skip(index % group).step_by(group).copied().collect(),
            _ => all.to_vec(),
        }
    }
}

/// This rank's view of the mesh. Cheap to clone; clones share the groups' call counters.
#[derive(Clone)]
pub struct Mesh {
    axes: Axes,
    rank: usize,
    groups: Arc<Vec<Arc<Group>>>,
    parts: Arc<Mutex<Parts>>,
    transport: Arc<dyn Transport>,
    sharing: Sharing,
    held: Arc<Held>,
}

impl std::fmt::Debug for Mesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rank {} of {}", self.rank, self.axes)
    }
}

impl Mesh {
    /// A mesh of one rank: every collective returns at once.
    pub fn one() -> Mesh {
        Mesh::build(Axes::ONE, 0, Arc::new(Threads::new(1)), Sharing::default())
    }

    /// The mesh `axes` as `rank` sees it over `transport`. All ranks must be built alike.
    ///
    /// # Errors
    /// A rank that the mesh does not have.
    pub fn new(axes: Axes, rank: usize, transport: Arc<dyn Transport>) -> Result<Mesh, Error> {
        if rank >= axes.world() {
            return Err(Error::NoSuchRank { rank, axes: axes.to_string(), last: axes.world() - 1 });
        }
        Ok(Mesh::build(axes, rank, transport, Sharing::default()))
    }

    /// The mesh with other choices: before anything was said on it.
    ///
    /// # Errors
    /// As [`Sharing::check`].
    pub fn sharing_as(&self, sharing: Sharing) -> Result<Mesh, Error> {
        sharing.check(self.axes)?;
        Ok(Mesh::build(self.axes, self.rank, self.transport.clone(), sharing))
    }

    fn build(axes: Axes, rank: usize, transport: Arc<dyn Transport>, sharing: Sharing) -> Mesh {
        let held = Arc::default();
        let group = |(usage, name, along): &(Use, &str, &[Axis])| {
            let place = |members: &[usize]| members.iter().position(|member| *member == rank);
            let members = axes.peers(rank, along);
            let members = sharing.members(*usage, &members, place(&members).unwrap_or(0));
            let index = place(&members).unwrap_or(0);
            Arc::new(Group::new(name, members, index, transport.clone()).held_in(&held))
        };
        let groups = Arc::new(USES.iter().map(group).collect());
        Mesh { axes, rank, groups, parts: Arc::default(), transport, sharing, held }
    }

    /// The group of some of the ranks along the axes of `usage`: of the members `indices`, ascending,
    /// of what [`Mesh::group`] gives. None where this rank is not among them. All of them must ask
    /// for it; who asks again gets the same group.
    pub fn part(&self, usage: Use, indices: &[usize]) -> Option<Arc<Group>> {
        let among = self.axes.peers(self.rank, USES[usage as usize].2);
        let members: Vec<usize> = indices.iter().filter_map(|i| among.get(*i).copied()).collect();
        let index = members.iter().position(|member| *member == self.rank)?;
        let group = Group::new(USES[usage as usize].1, members, index, self.transport.clone());
        let group = group.held_in(&self.held);
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let known = parts.iter().find(|(known, g)| *known == usage && g.name() == group.name());
        if let Some((_, group)) = known {
            return Some(group.clone());
        }
        let group = Arc::new(group);
        parts.push((usage, group.clone()));
        Some(group)
    }

    /// What this rank has sent so far, by use: of every group that has more than one member.
    pub fn traffic(&self) -> Vec<(Use, Traffic)> {
        let groups = USES.iter().zip(self.groups.iter());
        let whole = groups.filter(|((usage, ..), group)| {
            // of these it is the parts that talk
            !group.is_one() && !matches!(usage, Use::SharedHeads | Use::Tied)
        });
        let whole = whole.map(|((usage, ..), group)| (*usage, group.traffic()));
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let some = parts.iter().filter(|(_, group)| !group.is_one());
        whole.chain(some.map(|(usage, group)| (*usage, group.traffic()))).collect()
    }

    /// The most bytes of host memory that this rank's calls have held at once: what they hand in, and
    /// what they make of what they get.
    pub fn held(&self) -> u64 {
        self.held.most()
    }

    /// What of parameters and states each rank keeps.
    pub fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// Whether working weights are shared out: full sharding over more than one rank.
    pub fn is_fully_sharded(&self) -> bool {
        self.sharing.full && !self.group(Use::Parameters).is_one()
    }

    /// What was begun, waited for at once where nothing is to overlap.
    ///
    /// # Errors
    /// What the device or the other ranks report.
    pub fn begun(&self, device: &dyn Device, pending: Pending) -> Result<Pending, Error> {
        if self.sharing.overlap { Ok(pending) } else { pending.waited(device) }
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
    pub fn group(&self, usage: Use) -> &Arc<Group> {
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
