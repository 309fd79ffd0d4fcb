//! What is seen of a training run: a bar or lines, the first loss, the rate. It watches and
//! changes nothing; its samples depend on the weights alone.

use super::Context;
use crate::terminal::{one_line, thousands};
use quipu_eval::ngram::Baselines;
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
    /// What a loss is worth shows against these.
    beside: Option<Baselines>,
    state: Mutex<State>,
}

/// What is known of the model, and the last loss on held-out text.
#[derive(Default)]
struct State {
    parameters: usize,
    flop_per_token: f64,
    validation: Option<f64>,
}

/// Tokens of a completion.
const SAMPLE_TOKENS: usize = 48;

/// A completion in a line: how much of the training was behind it, prompt and text.
pub fn completion(share: f64, prompt: &str, text: &str) -> String {
    format!("{:5.0} %  {}", share * 100.0, one_line(&format!("{prompt}{text}"), 90))
}

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
            beside: None,
            state: Mutex::default(),
        }
    }

    /// The same, with the loss of n-gram models beside the model's.
    pub fn beside(self, baselines: Baselines) -> Self {
        Self { beside: Some(baselines), ..self }
    }

    /// Parameters of the model.
    pub fn parameters(&self) -> usize {
        self.state().parameters
    }

    /// Floating-point operations of a trained token.
    pub fn flop_per_token(&self) -> f64 {
        self.state().flop_per_token
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
        state.flop_per_token = started.flop_per_token;
        self.progress.begin(self.label, started.steps);
        if started.step > 0 {
            self.progress.resume(started.step);
            self.progress.note(&format!("{} goes on after step {}", self.label, started.step));
        }
    }

    fn step(&self, record: &Record) {
        self.progress.advance(1);
        let mut line = format!("loss {:.3}", record.loss);
        let mut state = self.state();
        if let Some(validation) = &record.validation {
            state.validation = Some(validation.loss);
            line += &format!(" · validation {:.3}", validation.loss);
        } else if let Some(loss) = state.validation {
            line += &format!(" · last validation {loss:.3}");
        }
        if let Some(Baselines { unigram, five_gram }) = &self.beside {
            let (five, one) = (five_gram.loss(), unigram.loss());
            line += &format!(" · 5-gram {five:.3} · unigram {one:.3}");
        }
        if let Some(share) = record.more.get("accuracy") {
            line += &format!(" · chosen preferred {:.0} %", 100.0 * share);
        }
        line += &format!(" · {} tokens/s", thousands(record.machine.tokens_per_s as u64));
        self.progress.step(&line);
    }

    fn samples(&self, share: f64, step: u64, model: &mut Model) -> Result<Option<Value>, Outside> {
        let mut samples = Vec::new();
        for prompt in &self.prompts {
            let text = self.complete(model, prompt)?;
            self.progress.note(&completion(share, prompt, &text));
            samples.push(json!({"share": share, "step": step, "prompt": prompt, "text": text}));
        }
        Ok((!samples.is_empty()).then(|| json!(samples)))
    }

    fn note(&self, line: &str) {
        self.progress.note(line);
    }
}
