//! What can go wrong before a number is compared. A number that is off is no error but a row.

use std::path::PathBuf;

/// Every failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A case that does not say what it should.
    #[error("case {}: found {found}; expected {expected}", path.display())]
    Case {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: String,
        /// What would do.
        expected: String,
    },
    /// The model, its files or its device.
    #[error(transparent)]
    Model(#[from] quipu_model::Error),
    /// The optimizer's step.
    #[error(transparent)]
    Train(#[from] quipu_train::Error),
    /// The other ranks.
    #[error(transparent)]
    Mesh(#[from] quipu_mesh::Error),
    /// A rank that panicked.
    #[error("{0}")]
    Rank(String),
    /// The device.
    #[error(transparent)]
    Device(#[from] quipu_math::Error),
}
