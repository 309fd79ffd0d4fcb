//! What can go wrong while generating. Not here: errors of the model's arithmetic, which pass
//! through.

/// An error of the engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model refused a step.
    #[error(transparent)]
    Model(Box<quipu_model::Error>),
    /// The device failed.
    #[error(transparent)]
    Device(Box<quipu_math::Error>),
    /// The tokenizer or the chat format failed.
    #[error(transparent)]
    Tokens(#[from] quipu_tokens::Error),
    /// A model that was made to train only: no row of it can be generated.
    #[error("the model was made without rows for generation; give its Capacity some")]
    NoRows,
    /// A prompt without tokens.
    #[error("request {request}: the prompt has no tokens; begin it with <|begin_of_text|>")]
    EmptyPrompt {
        /// Index of the request.
        request: usize,
    },
    /// A prompt that leaves no room for an answer.
    #[error("request {request}: a prompt of {found} tokens; the context has room for {room}")]
    LongPrompt {
        /// Index of the request.
        request: usize,
        /// Tokens of the prompt.
        found: usize,
        /// Tokens there is room for, with one for an answer.
        room: usize,
    },
    /// A sampling rule that draws nothing.
    #[error("request {request}: {what} is {found}; expected {expected}")]
    Sampling {
        /// Index of the request.
        request: usize,
        /// Which number.
        what: &'static str,
        /// Its value.
        found: f64,
        /// What it may be.
        expected: &'static str,
    },
    /// Logits that are no numbers: the weights are broken.
    #[error(
        "request {request}: the logits at position {position} are not numbers; the weights are \
         damaged or training diverged"
    )]
    NotANumber {
        /// Index of the request.
        request: usize,
        /// Position of the token to be drawn.
        position: usize,
    },
}

// Boxed, because they carry many operands and every result of the engine would be as large.
impl From<quipu_model::Error> for Error {
    fn from(error: quipu_model::Error) -> Self {
        Self::Model(Box::new(error))
    }
}

impl From<quipu_math::Error> for Error {
    fn from(error: quipu_math::Error) -> Self {
        Self::Device(Box::new(error))
    }
}
