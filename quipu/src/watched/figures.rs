//! The figures of a run in Prometheus' text format 0.0.4: one series a figure and stage of the run
//! that trains. A figure that is not known has no series, rather than a zero. Not how they are
//! fetched.

use crate::terminal;
use quipu_train::metrics::{Record, Validation};
use quipu_train::watch::Started;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What is known of a run.
pub struct Figures {
    run: String,
    /// The stages that train, in the order in which they began.
    stages: Mutex<Vec<(&'static str, State)>>,
}

/// What is known of a stage.
struct State {
    begun: Instant,
    /// Steps that a checkpoint brought.
    brought: u64,
    step: u64,
    steps: u64,
    parameters: usize,
    last: Option<Record>,
    validation: Option<Validation>,
    /// Written by this process.
    checkpoints: u64,
    checkpoint: Option<u64>,
}

impl State {
    /// Seconds to the last step, at this process's pace so far, validation and checkpoints in it.
    fn left(&self) -> Option<f64> {
        let done = self.step.checked_sub(self.brought).filter(|done| *done > 0)?;
        let left = self.steps.saturating_sub(self.step) as f64;
        Some(self.begun.elapsed().as_secs_f64() / done as f64 * left)
    }
}

/// A figure of a stage: its name, kind and meaning, and where it comes from.
type Figure = (&'static str, &'static str, &'static str, fn(&State) -> Option<f64>);

const FIGURES: &[Figure] = &[
    ("step", "gauge", "Steps done.", |s| Some(s.step as f64)),
    ("steps", "gauge", "Steps of the whole stage.", |s| Some(s.steps as f64)),
    ("parameters", "gauge", "Parameters of the model.", |s| Some(s.parameters as f64)),
    ("tokens_total", "counter", "Target tokens trained on, those before a resume included.", |s| {
        Some(s.last.as_ref()?.tokens as f64)
    }),
    ("loss", "gauge", "Loss of the last step's batch before its update, nats a token.", |s| {
        Some(s.last.as_ref()?.loss)
    }),
    ("gradient_norm", "gauge", "Global norm of the last gradient before clipping.", |s| {
        Some(s.last.as_ref()?.grad_norm)
    }),
    ("learning_rate", "gauge", "Learning rate of the last update.", |s| Some(s.last.as_ref()?.lr)),
    ("tokens_per_second", "gauge", "Tokens through the model in a second of the last step.", |s| {
        Some(s.last.as_ref()?.machine.tokens_per_s)
    }),
    (
        "share_of_ceiling",
        "gauge",
        "Floating-point operations of the last step as a share of what the machine can do, 0 to 1.",
        |s| s.last.as_ref()?.machine.share_of_ceiling,
    ),
    ("validation_loss", "gauge", "Last loss on held-out text, nats a token.", |s| {
        Some(s.validation.as_ref()?.loss)
    }),
    ("validation_bits_per_byte", "gauge", "Last loss on held-out text, bits a byte.", |s| {
        s.validation.as_ref()?.bits_per_byte
    }),
    (
        "time_left_seconds",
        "gauge",
        "Time to the last step of the stage at the pace of this process.",
        State::left,
    ),
    ("checkpoints_written_total", "counter", "Checkpoints that this process has written.", |s| {
        Some(s.checkpoints as f64)
    }),
    (
        "last_checkpoint_step",
        "gauge",
        "Step of the newest checkpoint; a kill now would go back to it.",
        |s| s.checkpoint.map(|step| step as f64),
    ),
];

impl Figures {
    /// Those of a run of this name, of which nothing is known yet.
    pub fn new(run: String) -> Self {
        Self { run, stages: Mutex::default() }
    }

    /// A stage begins to train, or goes on.
    pub fn started(&self, stage: &'static str, started: &Started) {
        let brought = started.step;
        let state = State {
            begun: Instant::now(),
            brought,
            step: brought,
            steps: started.steps,
            parameters: started.parameters,
            last: None,
            validation: None,
            checkpoints: 0,
            checkpoint: (brought > 0).then_some(brought),
        };
        let mut stages = self.stages();
        stages.retain(|(name, _)| *name != stage);
        stages.push((stage, state));
    }

    /// A stage has done a step.
    pub fn step(&self, stage: &str, record: &Record) {
        self.of(stage, |state| {
            state.step = record.step;
            if record.validation.is_some() {
                state.validation.clone_from(&record.validation);
            }
            // Samples are long, and nobody asks for them here.
            state.last = Some(Record { samples: None, ..record.clone() });
        });
    }

    /// A checkpoint is whole on disk.
    pub fn checkpoint(&self, stage: &str, step: u64) {
        self.of(stage, |state| {
            state.checkpoints += 1;
            state.checkpoint = Some(step);
        });
    }

    fn of(&self, stage: &str, change: impl FnOnce(&mut State)) {
        if let Some((_, state)) = self.stages().iter_mut().find(|(name, _)| *name == stage) {
            change(state);
        }
    }

    fn stages(&self) -> MutexGuard<'_, Vec<(&'static str, State)>> {
        // What a panicking rank left here is only shown.
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All figures, as a scrape gets them.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let run = label(&self.run);
        head(&mut out, "build_info", "gauge", "The program, by its version.");
        let version = env!("CARGO_PKG_VERSION");
        let _ = writeln!(out, "quipu_build_info{{run=\"{run}\",version=\"{version}\"}} 1");
        let memory = terminal::resident_memory_mib();
        if memory > 0.0 {
            let name = "resident_memory_bytes";
            head(&mut out, name, "gauge", "Resident memory of the process.");
            let bytes = number(memory * 1024.0 * 1024.0);
            let _ = writeln!(out, "quipu_{name}{{run=\"{run}\"}} {bytes}");
        }
        let stages = self.stages();
        for (name, kind, help, value) in FIGURES {
            let known = |(stage, state): &(&str, State)| Some((stage.to_string(), value(state)?));
            let known: Vec<(String, f64)> = stages.iter().filter_map(known).collect();
            if known.is_empty() {
                continue;
            }
            head(&mut out, name, kind, help);
            for (stage, value) in known {
                let value = number(value);
                let _ = writeln!(out, "quipu_{name}{{run=\"{run}\",stage=\"{stage}\"}} {value}");
            }
        }
        out
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = write!(out, "# HELP quipu_{name} {help}\n# TYPE quipu_{name} {kind}\n");
}

/// A label's value: three characters have a meaning there.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A number as Prometheus reads it.
fn number(value: f64) -> String {
    match value {
        v if v.is_nan() => "NaN".into(),
        f64::INFINITY => "+Inf".into(),
        f64::NEG_INFINITY => "-Inf".into(),
        v => format!("{v}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quipu_train::metrics::Machine;

    fn started(step: u64) -> Started {
        Started {
            step,
            steps: 100,
            batch_tokens: 512,
            parameters: 1234,
            flop_per_token: 1e6,
            ranks: 1,
        }
    }

    fn record(step: u64) -> Record {
        Record {
            step,
            loss: 2.5,
            grad_norm: f64::INFINITY,
            lr: 3e-7,
            tokens: step * 500,
            more: Default::default(),
            validation: None,
            samples: Some("long".into()),
            gate: None,
            machine: Machine { tokens_per_s: 21_000.5, ..Machine::default() },
        }
    }

    /// The value of a series, by its name and labels.
    #[track_caller]
    fn check(text: &str, series: &str, expected: Option<&str>) {
        let found = text.lines().find_map(|l| l.strip_prefix(series)?.strip_prefix(' '));
        assert_eq!(found, expected, "{series} in\n{text}");
    }

    #[test]
    fn what_is_known_has_a_series_and_what_is_not_has_none() {
        let figures = Figures::new("a \"b\"\\c\n".into());
        let text = figures.text();
        check(&text, "quipu_step{run=\"a \\\"b\\\"\\\\c\\n\",stage=\"train\"}", None);
        figures.step("train", &record(1));
        let figures = Figures::new("one".into());
        figures.started("train", &started(40));
        let of = |name: &str, stage: &str| format!("quipu_{name}{{run=\"one\",stage=\"{stage}\"}}");
        let text = figures.text();
        check(&text, &of("step", "train"), Some("40"));
        check(&text, &of("loss", "train"), None);
        check(&text, &of("last_checkpoint_step", "train"), Some("40"));
        figures.step("train", &record(41));
        figures.checkpoint("train", 41);
        figures.started("sft", &started(0));
        let text = figures.text();
        for (name, value) in [
            ("step", "41"),
            ("steps", "100"),
            ("parameters", "1234"),
            ("tokens_total", "20500"),
            ("loss", "2.5"),
            ("gradient_norm", "+Inf"),
            ("learning_rate", "0.0000003"),
            ("tokens_per_second", "21000.5"),
            ("checkpoints_written_total", "1"),
            ("last_checkpoint_step", "41"),
        ] {
            check(&text, &of(name, "train"), Some(value));
        }
        check(&text, &of("share_of_ceiling", "train"), None);
        check(&text, &of("validation_loss", "train"), None);
        check(&text, &of("step", "sft"), Some("0"));
        check(&text, &of("time_left_seconds", "sft"), None);
        assert!(text.contains("\nquipu_time_left_seconds{run=\"one\",stage=\"train\"} "), "{text}");
    }

    /// The grammar of the format, as far as it is used: each figure has its two lines once, before
    /// its series.
    #[test]
    fn each_figure_is_described_once_and_before_its_series() {
        let figures = Figures::new("one".into());
        figures.started("train", &started(0));
        figures.step("train", &record(1));
        let text = figures.text();
        let (mut described, mut series) = (Vec::new(), 0);
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                described.push(rest.split(' ').next().unwrap());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(described.last(), Some(&name));
                let total = name.ends_with("_total");
                assert_eq!(kind, if total { "counter" } else { "gauge" }, "{name}");
            } else {
                let (name, value) = (line.split('{').next().unwrap(), line.rsplit(' ').next());
                assert_eq!(described.last(), Some(&name), "{line}");
                assert!(value.unwrap().parse::<f64>().is_ok(), "{line}");
                series += 1;
            }
        }
        let mut once = described.clone();
        once.sort_unstable();
        once.dedup();
        assert!(once.len() == described.len() && series >= described.len() && text.ends_with('\n'));
    }
}
