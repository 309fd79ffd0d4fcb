//! Held-out prompts: whether the model ends its answers by itself, and how long they are. Not here:
//! whether they are any good.

use std::path::Path;

use quipu_infer::{Engine, Sampling, Settings, Statistics, replies};
use quipu_tokens::{Message, Tokenizer};
use serde::{Deserialize, Serialize};

use crate::{Error, Share, lines};

/// A prompt of `prompts.jsonl`; other keys are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Prompt {
    /// The dialogue up to where the assistant is to speak.
    pub messages: Vec<Message>,
    /// A good answer, where there is one.
    #[serde(default)]
    pub reference: String,
    /// Whether it is one of those that a report shows.
    #[serde(default)]
    pub show: bool,
}

/// Reads `prompts.jsonl`.
///
/// # Errors
/// [`Error::Read`], or [`Error::Line`] with the line that is no prompt.
pub fn read(path: &Path) -> Result<Vec<Prompt>, Error> {
    lines::read(path)
}

/// An answer to a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// Its tokens, without the one that ended it.
    pub tokens: usize,
    /// Whether the model ended it.
    pub ended: bool,
}

/// How answers end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Endings {
    /// Share of the answers that the model ended itself.
    pub ended: Share,
    /// Mean length of all answers in tokens.
    pub mean_tokens: f64,
    /// Most tokens an answer could have.
    pub limit: usize,
}

/// Answers all prompts greedily with at most `limit` tokens each, in their order.
///
/// # Errors
/// What the engine says, such as a prompt longer than the context.
pub fn answer(
    engine: &mut Engine<'_>,
    tokenizer: &Tokenizer,
    prompts: &[Prompt],
    limit: usize,
    cancelled: &dyn Fn() -> bool,
) -> Result<(Vec<Answer>, Endings, Statistics), Error> {
    let dialogues: Vec<Vec<Message>> = prompts.iter().map(|p| p.messages.clone()).collect();
    let settings = Settings { max_new: limit, sampling: Sampling::greedy() };
    let (said, statistics) = replies(engine, tokenizer, &dialogues, settings, cancelled)?;
    let answers: Vec<Answer> = said
        .into_iter()
        .map(|r| Answer { ended: r.ended(), tokens: r.completion.ids.len(), text: r.text })
        .collect();
    let endings = endings(&answers, limit);
    Ok((answers, endings, statistics))
}

fn endings(answers: &[Answer], limit: usize) -> Endings {
    let tokens: usize = answers.iter().map(|a| a.tokens).sum();
    Endings {
        ended: Share::new(answers.iter().filter(|a| a.ended).count(), answers.len()),
        mean_tokens: tokens as f64 / answers.len().max(1) as f64,
        limit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_are_counted() {
        let answer = |tokens, ended| Answer { text: String::new(), tokens, ended };
        let endings = endings(&[answer(3, true), answer(256, false)], 256);
        assert_eq!((endings.ended.count, endings.ended.of), (1, 2));
        assert_eq!(endings.mean_tokens, 129.5);
        assert_eq!(super::endings(&[], 256).mean_tokens, 0.0);
    }
}
