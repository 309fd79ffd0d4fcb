//! What can go wrong with a model: what was found, what was expected, what to change.
//! It is not: errors of the device or the mesh, which are carried through unchanged.

use std::path::{Path, PathBuf};

/// Every failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// An error with the file it was found in.
    #[error("{}: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// The error.
        source: Box<Error>,
    },
    /// Text that is no JSON object.
    #[error("not a JSON object: {why}")]
    NotJson {
        /// The parser's words.
        why: String,
    },
    /// A weight that is no number: the checkpoint is damaged, or its training diverged.
    #[error(
        "element {element} of tensor '{name}' is {found}: the weights are damaged, or training \
         diverged; take another checkpoint"
    )]
    NotANumber {
        /// The tensor.
        name: String,
        /// What stands there.
        found: f64,
        /// The number of the first such element, row by row.
        element: usize,
    },
    /// A key of the configuration that is missing, impossible or not supported.
    #[error("configuration key '{key}' is {found}; expected {expected}")]
    Config {
        /// The key.
        key: String,
        /// Its value.
        found: String,
        /// What would do.
        expected: String,
    },
    /// A folder that holds no model weights.
    #[error(
        "{}: no model.safetensors and no model.safetensors.index.json; \
         expected a Hugging Face checkpoint folder",
        folder.display()
    )]
    NoWeights {
        /// The folder.
        folder: PathBuf,
    },
    /// A weights file that is damaged.
    #[error("not a sound safetensors file: {why}")]
    Corrupt {
        /// In what way.
        why: String,
    },
    /// A tensor the model needs and the files lack.
    #[error("tensor '{name}' is missing; the configuration needs it with shape {shape:?}")]
    Missing {
        /// Its name.
        name: String,
        /// The shape the configuration gives it.
        shape: Vec<usize>,
    },
    /// A tensor the model has no place for.
    #[error(
        "tensor '{name}' has no place in this model; is the configuration that of these weights?"
    )]
    Extra {
        /// Its name.
        name: String,
    },
    /// A tensor of another shape.
    #[error("tensor '{name}' has shape {found:?}; the configuration needs {expected:?}")]
    Shape {
        /// Its name.
        name: String,
        /// The file's shape.
        found: Vec<usize>,
        /// The configuration's shape.
        expected: Vec<usize>,
    },
    /// A tensor of an element type that is not read.
    #[error("tensor '{name}' has element type {found}; expected F32, F64, BF16 or F16")]
    Dtype {
        /// Its name.
        name: String,
        /// The file's element type.
        found: String,
    },
    /// A checkpoint that is not sound, or of another version.
    #[error("checkpoint {}: {why}", folder.display())]
    Checkpoint {
        /// Its folder.
        folder: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A mesh this model cannot run on.
    #[error("mesh {axes}: {why}")]
    Mesh {
        /// The mesh as text.
        axes: String,
        /// Why not, and what would do.
        why: String,
    },
    /// A call that does not fit what the model was made for.
    #[error("{what} is {found}; expected {expected}")]
    Call {
        /// Which argument.
        what: &'static str,
        /// Its value.
        found: String,
        /// What would do.
        expected: String,
    },
    /// The device failed.
    #[error(transparent)]
    Device(#[from] quipu_math::Error),
    /// A collective failed.
    #[error(transparent)]
    Collective(#[from] quipu_mesh::Error),
    /// What is durable failed.
    #[error(transparent)]
    Store(#[from] quipu_store::Error),
}

impl Error {
    /// Whether a file is not what was written: something of it is missing or altered.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        use quipu_store::Error as Stored;
        use std::io::ErrorKind::{NotFound, UnexpectedEof};
        match self {
            Error::InFile { source, .. } => source.is_damage(),
            Error::Checkpoint { .. } | Error::NotJson { .. } => true,
            Error::Store(Stored::Damaged { .. } | Stored::Malformed { .. }) => true,
            Error::Store(Stored::Io { source, .. }) | Error::Io { source, .. } => {
                matches!(source.kind(), NotFound | UnexpectedEof)
            }
            _ => false,
        }
    }

    /// The same error with the file it was found in.
    pub(crate) fn in_file(self, path: &Path) -> Error {
        match self {
            Error::Io { .. } | Error::InFile { .. } | Error::NoWeights { .. } => self,
            other => Error::InFile { path: path.into(), source: Box::new(other) },
        }
    }
}
