//! What the program ends with: a message and an exit code. Not an error type of any crate: those
//! come in here, at one place each, and keep their words.

use miette::{Diagnostic, LabeledSpan, NamedSource};
use std::error::Error as StdError;
use std::fmt;

/// Whose fault it is; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A check ran and failed (verify).
    Check,
    /// The command line or the recipe is wrong.
    Usage,
    /// The input is not what it should be.
    Data,
    /// The machine lacks room, or the folder is in use.
    Resource,
    /// Stopped on request.
    Interrupted,
}

impl Kind {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Check => 1,
            Self::Usage => 2,
            Self::Data => 3,
            Self::Resource => 4,
            Self::Interrupted => 130,
        }
    }
}

/// Why a command ended without its result.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: Message,
    /// Whether all processes of a run find it, alike.
    everywhere: bool,
}

#[derive(Debug)]
enum Message {
    Plain(String),
    Recipe(Box<miette::Report>),
}

impl Error {
    /// An error in one sentence.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: Message::Plain(message.into()), everywhere: false }
    }

    /// The command line or the recipe is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// The input is not what it should be.
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(Kind::Data, message)
    }

    /// An error of another crate, as data's fault unless something below it is the machine's.
    pub fn of(error: &(dyn StdError + 'static)) -> Self {
        let kind = kind_of(error);
        let message = match kind {
            // Where it stopped is no cause.
            Kind::Interrupted => quipu_store::Cancelled.to_string(),
            _ => chain(error),
        };
        Self { kind, message: Message::Plain(message), everywhere: false }
    }

    /// An error at a place in a recipe.
    pub fn recipe(error: RecipeError) -> Self {
        let message = Message::Recipe(Box::new(miette::Report::new(error)));
        Self { kind: Kind::Usage, message, everywhere: false }
    }

    /// Puts the stage or file in front, where the message does not say it.
    #[must_use]
    pub fn context(mut self, what: &str) -> Self {
        if let Message::Plain(text) = &mut self.message
            && self.kind != Kind::Interrupted
        {
            *text = format!("{what}: {text}");
        }
        self
    }

    /// What all processes of a run find alike, so that one of them says it.
    #[must_use]
    pub fn everywhere(self) -> Self {
        Self { everywhere: true, ..self }
    }

    /// Whether that is so.
    pub fn is_everywhere(&self) -> bool {
        self.everywhere || self.kind == Kind::Interrupted
    }

    /// Whose fault it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.message {
            Message::Plain(text) => write!(f, "{text}"),
            Message::Recipe(report) => write!(f, "{report:?}"),
        }
    }
}

/// Looks down the chain of causes for the machine's faults and for a request to stop.
fn kind_of(error: &(dyn StdError + 'static)) -> Kind {
    let mut at = Some(error);
    while let Some(e) = at {
        if e.is::<quipu_store::Cancelled>() {
            return Kind::Interrupted;
        }
        if let Some(e) = e.downcast_ref::<quipu_store::Error>()
            && e.is_resource()
        {
            return Kind::Resource;
        }
        if let Some(e) = e.downcast_ref::<std::io::Error>()
            && matches!(
                e.kind(),
                std::io::ErrorKind::StorageFull
                    | std::io::ErrorKind::QuotaExceeded
                    | std::io::ErrorKind::FileTooLarge
                    | std::io::ErrorKind::OutOfMemory
            )
        {
            return Kind::Resource;
        }
        at = e.source();
    }
    Kind::Data
}

/// The message and those of its causes that it does not already contain.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(e) = at {
        let cause = e.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        at = e.source();
    }
    text
}

/// Errors whose type this program does not look into: the chain below them says whose fault it is.
macro_rules! from {
    ($($error:ty),* $(,)?) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::of(&error)
            }
        })*
    };
}

from!(
    quipu_store::Error,
    quipu_store::Cancelled,
    quipu_tokens::Error,
    quipu_documents::Error,
    quipu_model::Error,
    quipu_infer::Error,
    quipu_eval::Error,
    quipu_math::Error,
    quipu_mesh::Error,
    std::io::Error,
);

impl From<quipu_corpus::Error> for Error {
    fn from(error: quipu_corpus::Error) -> Self {
        #[cfg(feature = "cluster")]
        {
            use quipu_corpus::cluster::Error as Cluster;
            match &error {
                quipu_corpus::Error::Cluster(
                    e @ (Cluster::Address { .. } | Cluster::Predicate { .. }),
                ) => return Self::usage(e.to_string()),
                quipu_corpus::Error::Cluster(
                    e @ (Cluster::Service { .. }
                    | Cluster::NoScheduler { .. }
                    | Cluster::NoExecutor { .. }),
                ) => return Self::new(Kind::Resource, e.to_string()),
                _ => {}
            }
        }
        match &error {
            quipu_corpus::Error::ReadOnly { .. }
            | quipu_corpus::Error::Taken { .. }
            | quipu_corpus::Error::NoFolder { .. }
            | quipu_corpus::Error::NoCluster
            | quipu_corpus::Error::NoConditions { .. } => Self::usage(error.to_string()),
            _ => Self::of(&error),
        }
    }
}

impl From<quipu_train::Error> for Error {
    fn from(error: quipu_train::Error) -> Self {
        match error {
            quipu_train::Error::Recipe { .. } => Self::usage(error.to_string()),
            other => Self::of(&other),
        }
    }
}

impl From<quipu_tune::Error> for Error {
    fn from(error: quipu_tune::Error) -> Self {
        match error {
            quipu_tune::Error::Train(inner) => inner.into(),
            other => Self::of(&other),
        }
    }
}

impl From<quipu_world::Error> for Error {
    fn from(error: quipu_world::Error) -> Self {
        match error {
            quipu_world::Error::Cancelled => Self::of(&quipu_store::Cancelled),
            quipu_world::Error::Size { .. } => Self::usage(error.to_string()),
            other => Self::of(&other),
        }
    }
}

/// What is wrong in a recipe, and where.
#[derive(Debug)]
pub struct RecipeError {
    /// what is wrong
    pub message: String,
    /// what to change
    pub help: Option<String>,
    /// the recipe's name and text
    pub source: NamedSource<String>,
    /// offset and length of the place in the text
    pub place: Option<(usize, usize)>,
}

impl fmt::Display for RecipeError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}", self.message)
    }
}

impl StdError for RecipeError {}

impl Diagnostic for RecipeError {
    fn help(&self) -> Option<Box<dyn fmt::Display + '_>> {
        self.help.as_ref().map(|h| Box::new(h) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        self.place.is_some().then_some(&self.source as &dyn miette::SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let (offset, length) = self.place?;
        let label = LabeledSpan::new(Some("here".into()), offset, length);
        Some(Box::new(std::iter::once(label)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("stage failed")]
    struct Wrapped(#[source] quipu_store::Error);

    #[test]
    fn the_chain_decides_the_code() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let full = quipu_store::Error::io("write", "x".as_ref(), full);
        let error = Error::of(&Wrapped(full));
        assert_eq!(error.kind().code(), 4);
        assert!(error.to_string().starts_with("stage failed: no room left to write x"), "{error}");
        let wrapped = quipu_corpus::Error::from(quipu_store::Cancelled);
        for error in [Error::of(&quipu_store::Cancelled), wrapped.into()] {
            assert_eq!(error.kind().code(), 130);
            let error = error.context("corpus").to_string();
            assert!(error.starts_with("stopped on request"), "{error}");
        }
        assert_eq!(Error::data("x").context("corpus").to_string(), "corpus: x");
    }
}
