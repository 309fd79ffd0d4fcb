//! What can go wrong in training, with the operands. Not the errors of other crates: those are
//! wrapped, never retold.

use std::path::PathBuf;

/// Errors of the training crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value in the recipe that no run can use.
    #[error("{key} = {found}: {expected}; {change}")]
    Recipe {
        /// The key as it stands in the recipe.
        key: &'static str,
        /// The value found.
        found: String,
        /// The condition that it breaks.
        expected: String,
        /// What to change.
        change: String,
    },
    /// The loss or the gradient is no number, noticed before the optimizer ran.
    #[error(
        "step {step}: the {what} is {value}; nothing was updated, the last checkpoint is sound; \
         lower `peak_lr`, lengthen `warm_up`, or look at samples {first_sample} to {last_sample}"
    )]
    NotFinite {
        /// Step, counted from 1.
        step: u64,
        /// "loss" or "gradient norm".
        what: &'static str,
        /// The value found.
        value: f64,
        /// First global sample index of the step.
        first_sample: u64,
        /// Last global sample index of the step.
        last_sample: u64,
    },
    /// Ranks that hold copies of a parameter hold other numbers.
    #[error(
        "rank {rank}: what the ranks of {group} hold copies of is no longer the same on all of them; \
         this is a mistake in the program, please report it with the recipe and the mesh"
    )]
    Copies {
        /// The rank that reports.
        rank: usize,
        /// Those that should agree.
        group: String,
    },
    /// The run went back as often as it may, and the figures leap again.
    #[error(
        "step {step}: {what} {value} is above {limit}, and the run has gone back {returns} times, \
         its spikes.returns; the last checkpoint is sound; look at the documents in {path}, lower \
         `peak_lr`, or raise `spikes.threshold`"
    )]
    Spikes {
        /// Step, counted from 1.
        step: u64,
        /// What leapt.
        what: String,
        /// The value found.
        value: f64,
        /// What it would have had to stay below.
        limit: f64,
        /// How often the run went back.
        returns: u64,
        /// The record of skipped batches.
        path: PathBuf,
    },
    /// A batch without a single target token.
    #[error(
        "batch {batch}: none of its {samples} samples has a token to learn; look at the data of \
         the run (documents of one token, or dialogues without answers)"
    )]
    NothingToLearn {
        /// Its number, from 0.
        batch: u64,
        /// Samples of the batch.
        samples: u64,
    },
    /// The run folder holds a checkpoint that another recipe, model or data wrote.
    #[error(
        "{path}: the checkpoint was written with {what} {found}, this run has {expected}; \
         start a new run folder, or go back to the old {what}"
    )]
    OtherRun {
        /// The checkpoint.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// As the checkpoint says.
        found: String,
        /// As this run says.
        expected: String,
    },
    /// A checkpoint that lacks something or holds it in another shape.
    #[error("{path}: {what}")]
    Checkpoint {
        /// The checkpoint.
        path: PathBuf,
        /// What was found and what was expected.
        what: String,
    },
    /// The newest checkpoint cannot be read, and there is an older one.
    #[error(
        "{error}; the checkpoint of step {older} stands beside it: move that of step {step} away, \
         and the run goes on from there"
    )]
    Damaged {
        /// The checkpoint that cannot be read.
        step: u64,
        /// The newest before it.
        older: u64,
        /// What is wrong with it.
        #[source]
        error: Box<Error>,
    },
    /// A line of `metrics.jsonl` that cannot be read.
    #[error("{path}, line {line}: {what}")]
    Metrics {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// What was found and what was expected.
        what: String,
    },
    /// An event file that cannot be read.
    #[error(
        "{path}: the event at byte {offset} {what}; delete the file and go on with the run, \
             which writes it anew from metrics.jsonl"
    )]
    Events {
        /// The file.
        path: PathBuf,
        /// Where the event begins.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Input and output.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A rank of the mesh failed.
    #[error("rank {rank} failed: {what}")]
    Rank {
        /// The rank.
        rank: usize,
        /// Its error.
        what: String,
    },
    /// Whoever watches the run, or brings its data, reports a failure.
    #[error("{0}")]
    Outside(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// From the device.
    #[error(transparent)]
    Math(#[from] quipu_math::Error),
    /// From the mesh.
    #[error(transparent)]
    Mesh(#[from] quipu_mesh::Error),
    /// From the model.
    #[error(transparent)]
    Model(#[from] quipu_model::Error),
    /// From the tokens.
    #[error(transparent)]
    Tokens(#[from] quipu_tokens::Error),
    /// From the store.
    #[error(transparent)]
    Store(#[from] quipu_store::Error),
}

impl Error {
    /// Wraps what the system said about a path.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

impl From<quipu_mesh::LaunchError<Error>> for Error {
    fn from(error: quipu_mesh::LaunchError<Error>) -> Self {
        use quipu_mesh::LaunchError::{Panic, Rank, Start};
        match error {
            Rank { error, .. } => error,
            Panic { rank, message } => Self::Rank { rank, what: message },
            Start(error) => error.into(),
        }
    }
}
