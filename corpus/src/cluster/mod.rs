//! Feature `cluster`: the shuffles as Apache DataFusion plans, and SQL predicates over documents.
//!
//! [`Plans::here`] runs the plans in this process within a limit of memory; it is also the oracle
//! that the embedded shuffles are held against. [`Plans::at`] sends the same plans to an Apache
//! Ballista cluster, of which [`service`] starts scheduler and executors from this very program. Only rows
//! of fixed size go there, as Parquet in the work folder, which all machines of the cluster must see
//! under one path; what comes back is sorted here, so that results are the same rows whoever made
//! them, in whatever order. [`Predicate`] and [`select`] need no cluster: a predicate looks at one
//! document at a time.
//!
//! Not here: the embedded shuffles, which are the default and need none of this.

#[cfg(test)]
pub(crate) mod agreement;
mod ballista;
mod engine;
mod error;
mod local;
mod plans;
mod predicate;
mod select;
pub mod service;
mod staging;

pub use engine::Plans;
pub use error::Error;
pub use predicate::Predicate;
pub use select::{Selected, matching, select};
