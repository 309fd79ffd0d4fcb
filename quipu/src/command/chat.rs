//! `quipu chat RUN`: a conversation on the terminal, streamed; `--prompt` for one answer. The model
//! is a run's (base, fine-tuned or final) or any Hugging Face checkpoint with a tokenizer. A large one
//! is read where its files lie, and computed with in their numbers.

use super::Setting;
use super::export::model_folder;
use crate::cli::Stage;
use crate::error::{Error, Kind};
use crate::stage::device;
use quipu_infer::{Engine, Finish, Sampling, Settings, stream};
use quipu_mesh::Mesh;
use quipu_model::{Capacity, Config, Model, Table};
use quipu_tokens::{Message, Role, Tokenizer};
use serde_json::json;
use std::io::BufRead;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether an answer is being given that Ctrl-C may stop.
static ANSWERING: AtomicBool = AtomicBool::new(false);

/// Stops the answer that is being given; false where there is none.
pub fn stop_answer() -> bool {
    ANSWERING.swap(false, Ordering::Relaxed)
}

/// Rows of a prompt that pass through the model at once.
const ROWS: usize = 128;

/// Parameters from which on a model's weights are read in place, in the numbers of its files: copies
/// of them in f32 would take 4 GB. Below, it is computed with in f32, as in the examinations.
const IN_PLACE: usize = 1_000_000_000;

/// What was asked for on the command line.
pub struct Ask {
    /// one question instead of a conversation
    pub prompt: Option<String>,
    /// which model of a run
    pub stage: Stage,
    /// most tokens of an answer
    pub max_tokens: usize,
    /// 0 takes the most likely token
    pub temperature: f64,
    /// seed of the draws
    pub seed: u64,
}

/// Talks until the input ends.
pub fn run(from: &Path, ask: &Ask, setting: &Setting) -> Result<(), Error> {
    let dir = model_folder(from, ask.stage)?;
    let tokenizer = Tokenizer::load(&dir.join("tokenizer.json"))?;
    let device = device::whole();
    let capacity = Capacity::generating(&*device, ROWS);
    let large = Table::new(&Config::load(&dir)?).parameters() >= IN_PLACE;
    let open = if large { Model::map } else { Model::open };
    let mut model = open(&dir, device, Mesh::one(), capacity)?;
    let mut engine = Engine::new(&mut model, 1);
    let mut talk = Talk { tokenizer: &tokenizer, ask, setting, turns: Vec::new() };
    if let Some(prompt) = &ask.prompt {
        return talk.answer(&mut engine, prompt);
    }
    let terminal = setting.terminal;
    // With `--json`, standard output is for the objects alone.
    let prompts = terminal.is_interactive() && !terminal.json;
    if prompts {
        terminal.comment(&format!(
            "{}; Ctrl-C stops an answer, an empty line or Ctrl-D ends it",
            dir.display()
        ));
        terminal.stream("> ");
    }
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        if line.trim().is_empty() {
            return Ok(());
        }
        if talk.refuses(&line, engine.context())? {
            if prompts {
                terminal.stream("> ");
            }
            continue;
        }
        match talk.answer(&mut engine, &line) {
            // Whoever reads along says what comes next; a script does not expect half an answer.
            Err(error) if error.kind() == Kind::Interrupted && terminal.is_interactive() => {}
            other => other?,
        }
        if prompts {
            terminal.stream("> ");
        }
    }
    if prompts {
        terminal.stream("\n");
    }
    Ok(())
}

struct Talk<'a> {
    tokenizer: &'a Tokenizer,
    ask: &'a Ask,
    setting: &'a Setting,
    turns: Vec<Message>,
}

impl Talk<'_> {
    fn answer(&mut self, engine: &mut Engine<'_>, question: &str) -> Result<(), Error> {
        let terminal = self.setting.terminal;
        self.turns.push(Message::new(Role::User, question));
        self.forget(engine.context())?;
        let sampling =
            Sampling { temperature: self.ask.temperature, top_p: 0.95, seed: self.ask.seed };
        let settings = Settings { max_new: self.ask.max_tokens, sampling };
        let mut show = |text: &str| {
            if !terminal.json {
                terminal.stream(text);
            }
            ControlFlow::Continue(())
        };
        let sequence = self.turns.len() as u64;
        ANSWERING.store(true, Ordering::Relaxed);
        let stop = || !ANSWERING.load(Ordering::Relaxed);
        let (reply, statistics) =
            stream(engine, self.tokenizer, &self.turns, (settings, sequence), &mut show, &stop)?;
        let stopped = !stop_answer();
        if !terminal.json {
            terminal.stream("\n");
        }
        terminal.result(&json!({
            "answer": reply.text,
            "ended": reply.ended(),
            "tokens": reply.completion.ids.len(),
            "tokens_per_s": statistics.tokens_per_second(),
        }));
        if reply.completion.finish == Finish::Context && !terminal.json {
            self.setting.progress.note("(the context is full: the answer was cut)");
        }
        self.turns.push(Message::new(Role::Assistant, reply.text));
        if stopped {
            return Err(Error::new(Kind::Interrupted, "the answer was stopped"));
        }
        Ok(())
    }

    /// A line that leaves no room for an answer is told and dropped in a conversation: the talk so
    /// far is worth more than the line. A script gets the engine's error.
    fn refuses(&self, line: &str, context: usize) -> Result<bool, Error> {
        let turn = [Message::new(Role::User, line)];
        let tokens = quipu_tokens::Chat::new(self.tokenizer)?.prompt(&turn)?.len();
        let refused = self.setting.terminal.is_interactive() && tokens >= context;
        if refused {
            self.setting.progress.note(&format!(
                "(not asked: the line has {tokens} tokens, and with an answer the model has room \
                 for {context}; ask something shorter)"
            ));
        }
        Ok(refused)
    }

    /// Drops the oldest exchanges until the rest leaves room for an answer.
    fn forget(&mut self, context: usize) -> Result<(), Error> {
        let chat = quipu_tokens::Chat::new(self.tokenizer)?;
        let room = self.ask.max_tokens.min(context / 2);
        while self.turns.len() > 2 && chat.prompt(&self.turns)?.len() + room > context {
            self.turns.drain(..2);
        }
        Ok(())
    }
}
