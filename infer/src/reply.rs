//! Text in, text out: a dialogue becomes a prompt through the chat format, the answer is decoded as
//! it comes. Not here: which answer is right (`eval`), windows over long dialogues (`serve`).

use std::ops::ControlFlow;

use quipu_tokens::{Chat, Message, Tokenizer};

use crate::{Completion, Engine, Error, Finish, Request, Sampling, Statistics};

/// How answers are generated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Most new tokens of an answer.
    pub max_new: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
}

/// An answer as text.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The text, blanks at both ends removed.
    pub text: String,
    /// The tokens and why they ended.
    pub completion: Completion,
}

impl Reply {
    /// True when the model ended its turn by itself.
    #[must_use]
    pub fn ended(&self) -> bool {
        matches!(self.completion.finish, Finish::Stop(_))
    }
}

/// Answers many dialogues, each up to where the assistant is to speak.
///
/// # Errors
/// As [`Engine::generate`].
pub fn replies(
    engine: &mut Engine<'_>,
    tokenizer: &Tokenizer,
    dialogues: &[Vec<Message>],
    settings: Settings,
    cancelled: &dyn Fn() -> bool,
) -> Result<(Vec<Reply>, Statistics), Error> {
    let chat = Chat::new(tokenizer)?;
    let prompts: Vec<Vec<u32>> =
        dialogues.iter().map(|d| chat.prompt(d)).collect::<Result<_, _>>()?;
    complete(engine, tokenizer, prompts, chat.stop_ids(), settings, cancelled)
}

/// Continues many prompts given as tokens.
///
/// # Errors
/// As [`Engine::generate`].
pub fn complete(
    engine: &mut Engine<'_>,
    tokenizer: &Tokenizer,
    prompts: Vec<Vec<u32>>,
    stop: Vec<u32>,
    settings: Settings,
    cancelled: &dyn Fn() -> bool,
) -> Result<(Vec<Reply>, Statistics), Error> {
    let requests: Vec<Request> = (0..)
        .zip(prompts)
        .map(|(sequence, prompt)| Request {
            prompt,
            max_new: settings.max_new,
            stop: stop.clone(),
            sampling: settings.sampling,
            sequence,
        })
        .collect();
    let quiet = &mut |_: usize, _: u32| ControlFlow::Continue(());
    let (completions, statistics) = engine.generate(&requests, quiet, cancelled)?;
    let reply = |completion: Completion| {
        let text = tokenizer.decode(&completion.ids).trim().to_owned();
        Reply { text, completion }
    };
    Ok((completions.into_iter().map(reply).collect(), statistics))
}

/// Answers one dialogue and hands on the text as it comes, never half a character; `on_text` may
/// end the answer.
///
/// # Errors
/// As [`Engine::generate`].
pub fn stream(
    engine: &mut Engine<'_>,
    tokenizer: &Tokenizer,
    dialogue: &[Message],
    (settings, sequence): (Settings, u64),
    on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    cancelled: &dyn Fn() -> bool,
) -> Result<(Reply, Statistics), Error> {
    let chat = Chat::new(tokenizer)?;
    let request = Request {
        prompt: chat.prompt(dialogue)?,
        max_new: settings.max_new,
        stop: chat.stop_ids(),
        sampling: settings.sampling,
        sequence,
    };
    let mut decoder = tokenizer.stream();
    let hear = &mut |_: usize, token: u32| {
        let text = decoder.push(token);
        if text.is_empty() { ControlFlow::Continue(()) } else { on_text(&text) }
    };
    let (mut completions, statistics) =
        engine.generate(std::slice::from_ref(&request), hear, cancelled)?;
    let rest = decoder.finish();
    if !rest.is_empty() {
        // The answer is over; whether the caller wants more no longer matters.
        let _ = on_text(&rest);
    }
    let completion = completions.remove(0);
    let text = tokenizer.decode(&completion.ids).trim().to_owned();
    Ok((Reply { text, completion }, statistics))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quipu_math::{Device, Reference};
    use quipu_mesh::Mesh;
    use quipu_model::{Capacity, Config, Model, Sizes};
    use quipu_tokens::{Role, bpe};
    use std::sync::Arc;

    fn tokenizer() -> Tokenizer {
        let training = bpe::Training { vocabulary: 290, specials: 16, base: Vec::new() };
        bpe::train_on(&["the best of times, the worst of times, the 漢字 of times"], &training)
            .unwrap()
    }

    fn model(vocabulary: usize) -> Model {
        let sizes = Sizes {
            vocab_size: vocabulary,
            hidden_size: 16,
            intermediate_size: 24,
            layers: 1,
            heads: 2,
            kv_heads: 1,
            max_positions: 96,
            tied: true,
        };
        let device: Arc<dyn Device> = Arc::new(Reference::new());
        let capacity = Capacity::generating(&*device, 32);
        let config = Config::new(sizes).unwrap();
        let mut model = Model::new(device, Mesh::one(), config, capacity).unwrap();
        model.init(1).unwrap();
        model
    }

    #[test]
    fn a_streamed_answer_is_the_whole_answer() {
        let tokenizer = tokenizer();
        let mut model = model(tokenizer.vocabulary());
        let mut engine = Engine::new(&mut model, 4);
        let dialogues: Vec<Vec<Message>> =
            ["the times?", "best", "漢"].map(|t| vec![Message::new(Role::User, t)]).into();
        let sampling = Sampling { temperature: 1.5, top_p: 1.0, seed: 2 };
        let settings = Settings { max_new: 30, sampling };
        let (all, statistics) =
            replies(&mut engine, &tokenizer, &dialogues, settings, &|| false).unwrap();
        assert!(statistics.new_tokens > 0 && statistics.tokens_per_second() > 0.0);
        for (sequence, (dialogue, reply)) in (0..).zip(dialogues.iter().zip(&all)) {
            let mut heard = String::new();
            let hear = &mut |text: &str| {
                heard.push_str(text);
                ControlFlow::Continue(())
            };
            let at = (settings, sequence);
            let (streamed, _) =
                stream(&mut engine, &tokenizer, dialogue, at, hear, &|| false).unwrap();
            assert_eq!(streamed.completion.ids, reply.completion.ids);
            assert_eq!(heard.trim(), reply.text);
            assert_eq!(reply.ended(), reply.completion.ids.len() < 30);
        }
    }

    #[test]
    fn a_listener_may_end_the_answer() {
        let tokenizer = tokenizer();
        let mut model = model(tokenizer.vocabulary());
        let mut engine = Engine::new(&mut model, 1);
        let dialogue = [Message::new(Role::User, "the")];
        let settings = Settings { max_new: 30, sampling: Sampling::greedy() };
        let stop = &mut |_: &str| ControlFlow::Break(());
        let (reply, _) =
            stream(&mut engine, &tokenizer, &dialogue, (settings, 0), stop, &|| false).unwrap();
        assert!(reply.completion.ids.len() < 30);
        let long = [Message::new(Role::User, "word ".repeat(200))];
        let result = stream(&mut engine, &tokenizer, &long, (settings, 0), stop, &|| false);
        assert!(result.unwrap_err().to_string().contains("room for 95"));
    }
}
