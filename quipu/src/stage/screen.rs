//! What is seen of a training run: a bar or lines, the first loss, the rate. It watches and
//! changes nothing; its samples depend on the weights alone.

use super::Context;
use quipu_infer::{Engine, Sampling, Settings};
use quipu_model::Model;
use quipu_store::Progress;
use quipu_tokens::{Tokenizer, special};
use quipu_train::metrics::Record;
use quipu_train::watch::{Outside, Started, Watch};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The watcher of one training run.
pub struct Screen {
    label: &'static str,
    progress: Arc<dyn Progress>,
    prompts: Vec<String>,
    tokenizer: Arc<Tokenizer>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    parameters: usize,
    steps: u64,
    tokens: u64,
    seconds: f64,
    last_tokens: u64,
}

/// Tokens of a completion.
const SAMPLE_TOKENS: usize = 48;

impl Screen {
    /// A watcher that shows `label`, and how the model completes `prompts` as it learns.
    pub fn new(
        context: &Context,
        label: &'static str,
        prompts: Vec<String>,
        tokenizer: Arc<Tokenizer>,
    ) -> Self {
        Self {
            label,
            progress: context.progress.clone(),
            prompts,
            tokenizer,
            state: Mutex::default(),
        }
    }

    /// Parameters of the model.
    pub fn parameters(&self) -> usize {
        self.state().parameters
    }

    /// Tokens a second over the steps of this process; none when it ran no step.
    pub fn rate(&self) -> Option<f64> {
        let state = self.state();
        (state.seconds > 0.0).then(|| state.tokens as f64 / state.seconds)
    }

    /// The most likely continuation of a prompt.
    fn complete(&self, model: &mut Model, prompt: &str) -> Result<String, Outside> {
        let tokenizer = &*self.tokenizer;
        let mut ids = vec![tokenizer.required(special::BEGIN_OF_TEXT)?];
        ids.extend(tokenizer.encode(prompt)?);
        let settings = Settings { max_new: SAMPLE_TOKENS, sampling: Sampling::greedy() };
        let mut engine = Engine::new(model, 1);
        let stop = tokenizer.stop_ids();
        let (replies, _) =
            quipu_infer::complete(&mut engine, tokenizer, vec![ids], stop, settings, &|| false)?;
        let mut ids = Vec::new();
        for reply in replies {
            ids.extend(reply.completion.ids);
        }
        Ok(tokenizer.decode(&ids))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What a panicking rank left here is only shown.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch for Screen {
    fn started(&self, started: &Started) {
        let mut state = self.state();
        state.parameters = started.parameters;
        state.steps = started.steps;
        self.progress.begin(self.label, started.steps);
        self.progress.advance(started.step);
        if started.step > 0 {
            self.progress.note(&format!("{} goes on after step {}", self.label, started.step));
        }
    }

    fn step(&self, record: &Record) {
        let mut state = self.state();
        let seen = record.tokens.saturating_sub(state.last_tokens);
        // After a resume the first record counts what earlier processes did, so it is left out.
        if state.last_tokens > 0 || record.step == 1 {
            state.tokens += seen;
            state.seconds += record.machine.seconds;
        }
        state.last_tokens = record.tokens;
        self.progress.advance(1);
        let mut line = format!(
            "{} step {}/{} loss {:.3} · {:.0} tokens/s",
            self.label, record.step, state.steps, record.loss, record.machine.tokens_per_s
        );
        if let Some(v) = &record.validation {
            line += &format!(" · validation {:.3}", v.loss);
        }
        self.progress.step(&line);
    }

    fn samples(&self, share: f64, step: u64, model: &mut Model) -> Result<Option<Value>, Outside> {
        let mut samples = Vec::new();
        for prompt in &self.prompts {
            let text = self.complete(model, prompt)?;
            self.progress.note(&format!("{:3.0} %  {prompt}{text}", share * 100.0));
            samples.push(json!({"share": share, "step": step, "prompt": prompt, "text": text}));
        }
        Ok((!samples.is_empty()).then(|| json!(samples)))
    }

    fn note(&self, line: &str) {
        self.progress.note(line);
    }
}
