//! Axes, groups, collectives and transports: who holds what, and how it gets to the others.
//!
//! - [`Axes`]: sizes of [TP, CP, PP, DP], `tp=1,dp=2`; rank = tp + TP·(cp + CP·(pp + PP·dp)).
//! - [`Mesh`]: this rank's place; `mesh.group(Use::Gradients)` is its [`Group`] for a use ([`USES`]
//!   is the one table of who talks along which axes).
//! - [`Group`]: `all_gather`, `reduce_scatter`, `all_reduce`, `all_to_all`, `broadcast`, `send`,
//!   `receive`, `barrier` on views; `sum_numbers` on host numbers. Sums in rank order; a group of
//!   one returns at once. `start_…` gives a [`Pending`].
//! - [`schedule`]: pipeline schedules as data, verified and drawn.
//! - [`placement`]: what a rank holds, as a type: `Placed<SeqShard>`, `Gradients<Reduced>`,
//!   `Sum<Global>`.
//! - [`launch`]: ranks as threads. One rank runs on the caller's thread.
//! - [`Sim`]: links that take time of a clock of their own: what of the way of the bytes ranks wait for.
//! - [`World`]: where the ranks of a run live: here, as threads, or each in a process of its own
//!   (feature `mpi`).
//!
//! It knows no model and no token; only who waits for another process looks at a clock.

mod alone;
mod axes;
#[cfg(test)]
mod collective_tests;
mod error;
mod group;
mod launch;
mod mesh;
pub mod placement;
pub mod process;
pub mod schedule;
mod sim;
mod sum;
mod traffic;
mod transport;
mod uses;
mod world;

pub use alone::Alone;
pub use axes::{AXES, Axes, Axis};
pub use error::{Error, Place};
pub use group::{Group, Pending};
pub use launch::{LaunchError, launch, launch_over};
pub use mesh::{Mesh, Sharing};
pub use sim::{Link, Links, Network, Passed, Sim};
pub use traffic::Traffic;
pub use transport::{Call, Handed, Letter, Payload, Payloads, Seat, Threads, Transport};
pub use uses::{USES, Use};
pub use world::World;
