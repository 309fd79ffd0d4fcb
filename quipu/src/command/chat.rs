//! `quipu chat RUN`: a conversation on the terminal, streamed; `--prompt` for one answer. The model
//! is a run's (base, fine-tuned or final) or any Hugging Face checkpoint with a tokenizer. A large one
//! is read where its files lie, and computed with in their numbers.

use super::Setting;
use super::export::model_folder;
use crate::cli::Stage;
use crate::error::{Error, Kind};
use crate::stage::device;
use crate::terminal::Terminal;
use quipu_infer::{Engine, Finish, Sampling, Settings, stream};
use quipu_mesh::{Axis, LaunchError, Mesh, Use};
use quipu_model::{Capacity, Config, Model, Table};
use quipu_tokens::{Message, Role, Tokenizer};
use quipu_train::Parallel;
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
    /// the ranks over which the model is divided
    pub mesh: String,
}

/// Talks until the input ends: one rank listens and speaks, all of them answer.
pub fn run(from: &Path, ask: &Ask, setting: &Setting) -> Result<(), Error> {
    let dir = model_folder(from, ask.stage)?;
    let parallel = device::parallel_of(&ask.mesh, &setting.world, &Config::load(&dir)?)?;
    let axes = parallel.axes;
    let plain = Parallel { world: setting.world.clone(), ..Parallel::from(axes) };
    if parallel != plain || axes.size(Axis::Cp) * axes.size(Axis::Dp) > 1 {
        return Err(Error::usage(format!(
            "--mesh {}: an answer is divided over tp and pp; leave out the rest, such as tp=2,pp=2",
            ask.mesh
        )));
    }
    let threads = device::threads(&parallel);
    let done = setting.world.launch(axes, |mesh| talk(&dir, mesh, threads, ask, setting));
    done.map(drop).map_err(|error| match error {
        LaunchError::Rank { error, .. } => error,
        other => Error::data(other.to_string()),
    })
}

/// What one rank does.
fn talk(dir: &Path, mesh: Mesh, threads: usize, ask: &Ask, setting: &Setting) -> Result<(), Error> {
    let tokenizer = Tokenizer::load(&dir.join("tokenizer.json"))?;
    let device = device::of_threads(threads);
    let capacity = Capacity::generating(&*device, ROWS);
    let large = Table::new(&Config::load(dir)?).parameters() >= IN_PLACE;
    let open = if large { Model::map } else { Model::open };
    let mut model = open(dir, device, mesh.clone(), capacity)?;
    let mut engine = Engine::new(&mut model, 1);
    let first = mesh.rank() == 0;
    let mut terminal = setting.terminal;
    terminal.mute |= !first;
    let mut talk = Talk { tokenizer: &tokenizer, ask, setting, terminal, mesh, turns: Vec::new() };
    if let Some(prompt) = &ask.prompt {
        return talk.answer(&mut engine, prompt);
    }
    // With `--json`, standard output is for the objects alone.
    let prompts = first && terminal.is_interactive() && !terminal.json;
    if prompts {
        terminal.comment(&format!(
            "{}; Ctrl-C stops an answer, an empty line or Ctrl-D ends it",
            dir.display()
        ));
        terminal.stream("> ");
    }
    while let Some(line) = talk.line()? {
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
            Err(error) if error.kind() == Kind::Interrupted && talk.is_interactive()? => {}
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
    terminal: Terminal,
    mesh: Mesh,
    turns: Vec<Message>,
}

impl Talk<'_> {
    /// The next line, on every rank; none where the input ends.
    fn line(&self) -> Result<Option<String>, Error> {
        let mut line = String::new();
        if self.mesh.rank() == 0 {
            std::io::stdin().lock().read_line(&mut line)?;
        }
        let all = self.mesh.group(Use::World).gather_texts("a line", &line)?;
        Ok(all.into_iter().next().filter(|line| !line.is_empty()))
    }

    /// What the first rank knows, on every rank.
    fn told(&self, so: bool) -> Result<bool, Error> {
        Ok(self.mesh.group(Use::World).any(so && self.mesh.rank() == 0)?)
    }

    fn is_interactive(&self) -> Result<bool, Error> {
        self.told(self.terminal.is_interactive())
    }

    fn answer(&mut self, engine: &mut Engine<'_>, question: &str) -> Result<(), Error> {
        let terminal = self.terminal;
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
        let first = self.mesh.rank() == 0;
        if first {
            ANSWERING.store(true, Ordering::Relaxed);
        }
        // whom the others do not answer any more, stops
        let stop = || self.told(!ANSWERING.load(Ordering::Relaxed)).unwrap_or(true);
        let (reply, statistics) =
            stream(engine, self.tokenizer, &self.turns, (settings, sequence), &mut show, &stop)?;
        let stopped = self.told(first && !stop_answer())?;
        if !terminal.json {
            terminal.stream("\n");
        }
        terminal.result(&json!({
            "answer": reply.text,
            "ended": reply.ended(),
            "tokens": reply.completion.ids.len(),
            "tokens_per_s": statistics.tokens_per_second(),
        }));
        if reply.completion.finish == Finish::Context && !terminal.json && first {
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
        let refused = self.is_interactive()? && tokens >= context;
        if refused && self.mesh.rank() == 0 {
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
