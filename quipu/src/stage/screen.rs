//! What is seen of a training run: a bar or lines with its figures, and the same figures for who
//! asks with `--metrics`. It watches and changes nothing; its samples depend on the weights alone.

use super::Context;
use crate::terminal::{one_line, thousands};
use crate::watched::figures::Figures;
use quipu_eval::ngram::Baselines;
use quipu_infer::{Engine, Sampling, Settings};
use quipu_model::Model;
use quipu_store::Progress;
use quipu_tokens::{Tokenizer, special};
use quipu_train::metrics::Record;
use quipu_train::watch::{Outside, Started, Watch};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The watcher of one training run.
pub struct Screen {
    label: &'static str,
    progress: Arc<dyn Progress>,
    prompts: Vec<String>,
    tokenizer: Arc<Tokenizer>,
    /// What a loss is worth shows against these.
    beside: Option<Baselines>,
    /// What the machine can do, FLOP/s.
    ceiling: Option<f64>,
    figures: Option<Arc<Figures>>,
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
            ceiling: None,
            figures: context.watched.as_ref().map(|watched| watched.figures.clone()),
            state: Mutex::default(),
        }
    }

    /// The same, with the loss of n-gram models beside the model's.
    pub fn beside(self, baselines: Baselines) -> Self {
        Self { beside: Some(baselines), ..self }
    }

    /// The same, with its speed as a share of what the machine can do, FLOP/s.
    pub fn against(self, ceiling: f64) -> Self {
        Self { ceiling: Some(ceiling), ..self }
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

fn is_no_number(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(quipu_infer::Error::NotANumber { .. }))
}

/// The figures of a step, those first that a narrow terminal is to show.
fn figures(record: &Record, validation: Option<f64>, beside: Option<&Baselines>) -> Vec<String> {
    let machine = &record.machine;
    let mut found = vec![format!("loss {:.3}", record.loss)];
    found.push(format!("{} tokens/s", thousands(machine.tokens_per_s as u64)));
    found.push(format!("norm {:.2}", record.grad_norm));
    found.push(format!("rate {:.1e}", record.lr));
    if let Some(share) = machine.share_of_ceiling {
        found.push(format!("{:.0} % of the ceiling", 100.0 * share));
    }
    if machine.memory_mib > 0.0 {
        found.push(format!("{} MiB", thousands(machine.memory_mib as u64)));
    }
    match (&record.validation, validation) {
        (Some(validation), _) => found.push(format!("validation {:.3}", validation.loss)),
        (None, Some(loss)) => found.push(format!("last validation {loss:.3}")),
        (None, None) => {}
    }
    if let Some(Baselines { unigram, five_gram }) = beside {
        found.push(format!("5-gram {:.3}", five_gram.loss()));
        found.push(format!("unigram {:.3}", unigram.loss()));
    }
    if let Some(share) = record.more.get("accuracy") {
        found.push(format!("chosen preferred {:.0} %", 100.0 * share));
    }
    found
}

impl Watch for Screen {
    fn ceiling(&self) -> Option<f64> {
        self.ceiling
    }

    fn started(&self, started: &Started) {
        if let Some(figures) = &self.figures {
            figures.started(self.label, started);
        }
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
        if let Some(figures) = &self.figures {
            figures.step(self.label, record);
        }
        let mut state = self.state();
        let figures = figures(record, state.validation, self.beside.as_ref());
        state.validation = record.validation.as_ref().map(|v| v.loss).or(state.validation);
        self.progress.advance(1);
        self.progress.step(&figures, record.validation.is_some());
    }

    fn checkpoint(&self, step: u64, _: &Path) {
        if let Some(figures) = &self.figures {
            figures.checkpoint(self.label, step);
        }
    }

    fn samples(&self, share: f64, step: u64, model: &mut Model) -> Result<Option<Value>, Outside> {
        let mut samples = Vec::new();
        // of ranks that generate together one speaks
        let speaks = model.mesh().rank() == 0;
        let note = |line: &str| {
            if speaks {
                self.progress.note(line)
            }
        };
        for prompt in &self.prompts {
            let text = match self.complete(model, prompt) {
                // What diverged, the next step says with its figures; after the last nobody would.
                Err(e) if share < 1.0 && is_no_number(&*e) => {
                    note(&format!(
                        "after step {step} the model completes nothing: its logits are not numbers"
                    ));
                    return Ok(None);
                }
                text => text?,
            };
            note(&completion(share, prompt, &text));
            samples.push(json!({"share": share, "step": step, "prompt": prompt, "text": text}));
        }
        Ok((!samples.is_empty()).then(|| json!(samples)))
    }

    fn note(&self, line: &str) {
        self.progress.note(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quipu_train::metrics::{Machine, Validation};

    #[test]
    fn a_step_has_its_figures_in_the_order_in_which_they_matter() {
        let machine = Machine {
            tokens_per_s: 21_303.7,
            memory_mib: 209.4,
            share_of_ceiling: Some(0.617),
            ..Machine::default()
        };
        let mut record = Record {
            step: 1,
            loss: 2.0194,
            grad_norm: 0.412,
            lr: 0.003,
            tokens: 7,
            more: [("accuracy".to_owned(), 0.875)].into(),
            validation: None,
            samples: None,
            gate: None,
            machine,
        };
        let line = |record: &Record, before| figures(record, before, None).join(" · ");
        assert_eq!(
            line(&record, Some(2.5)),
            "loss 2.019 · 21,303 tokens/s · norm 0.41 · rate 3.0e-3 · 62 % of the ceiling · \
             209 MiB · last validation 2.500 · chosen preferred 88 %"
        );
        record.validation = Some(Validation { loss: 2.25, bits_per_byte: None, tokens: 1 });
        record.machine = Machine::default();
        record.more.clear();
        assert_eq!(
            line(&record, Some(2.5)),
            "loss 2.019 · 0 tokens/s · norm 0.41 · rate 3.0e-3 · validation 2.250"
        );
    }
}
