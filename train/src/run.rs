//! The loop: steps, validation, samples, metrics, checkpoints, recovery (paper, sections 3.3.4 and
//! 3.4). A run is a folder; calling [`run`] again on it goes on where its last checkpoint stands
//! and ends with the same bits as a run that was never stopped. Not what is learned (an
//! [`Objective`]) and not how it is shown (a [`Watch`]).

use crate::checkpoint::{self, Progress};
use crate::metrics::{Log, Machine, Record};
use crate::step::Learner;
use crate::watch::Started;
use crate::{Error, Objective, Recipe, Watch, folder};
use quipu_math::Device;
use quipu_mesh::{Axes, Axis, LaunchError, Mesh, Use, launch};
use quipu_model::{Capacity, Config, Model};
use quipu_store::Cancel;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// The weights before the first step.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// Drawn from the recipe's seed.
    Random,
    /// Those of a Hugging Face folder.
    From(&'a Path),
}

/// Everything a run needs.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// Its folder: `checkpoints/`, `metrics.jsonl`.
    pub dir: &'a Path,
    /// What it does.
    pub recipe: &'a Recipe,
    /// The model's shape.
    pub config: &'a Config,
    /// The weights before the first step.
    pub start: Start<'a>,
    /// The ranks. Only the data-parallel axis may exceed 1 yet.
    pub axes: Axes,
    /// The device of each rank.
    pub device: &'a (dyn Fn(usize) -> Result<Arc<dyn Device>, quipu_math::Error> + Sync),
    /// What it learns.
    pub objective: &'a dyn Objective,
    /// Who watches.
    pub watch: &'a dyn Watch,
    /// Asked once, the run writes a checkpoint and stops.
    pub cancel: &'a Cancel,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Steps behind it.
    pub step: u64,
    /// Whether those are all; if not, it was asked to stop.
    pub finished: bool,
    /// Target tokens seen.
    pub tokens: u64,
    /// The last checkpoint.
    pub checkpoint: PathBuf,
}

impl Job<'_> {
    /// The folder of checkpoints.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.dir.join("checkpoints")
    }

    /// The file of metrics.
    #[must_use]
    pub fn metrics(&self) -> PathBuf {
        self.dir.join("metrics.jsonl")
    }

    fn check(&self) -> Result<(), Error> {
        let others = [Axis::Tp, Axis::Cp, Axis::Pp].map(|axis| self.axes.size(axis));
        if others != [1, 1, 1] {
            return Err(Error::Recipe {
                key: "mesh",
                found: self.axes.to_string(),
                expected: "only data parallelism is built so far".into(),
                change: format!("use dp={}", self.axes.world()),
            });
        }
        self.objective.check(self.recipe, self.config)?;
        self.recipe.check(self.axes.size(Axis::Dp))
    }
}

/// Runs or resumes `job`, to its end or until it is asked to stop.
///
/// # Errors
/// [`Error::Recipe`] before anything is written; a damaged or foreign checkpoint; no number in
/// loss or gradient; what data, disk, device and mesh report. Checkpoints written before stay.
pub fn run(job: &Job<'_>) -> Result<Report, Error> {
    job.check()?;
    folder::sweep(&job.checkpoints())?;
    let ended = launch(job.axes, |mesh| Trainer::new(job, mesh)?.run());
    match ended {
        Ok(reports) => reports
            .into_iter()
            .next()
            .ok_or_else(|| Error::Rank { rank: 0, what: "no rank was started".into() }),
        Err(LaunchError::Rank { error, .. }) => Err(error),
        Err(LaunchError::Panic { rank, message }) => Err(Error::Rank { rank, what: message }),
        Err(LaunchError::Start(error)) => Err(error.into()),
    }
}

/// Rows of a prompt that pass through the model at once when a watcher completes it.
const SAMPLE_ROWS: usize = 64;

/// One rank.
struct Trainer<'a> {
    job: &'a Job<'a>,
    mesh: Mesh,
    learner: Learner,
    /// On rank 0.
    log: Option<Log>,
    progress: Progress,
}

impl<'a> Trainer<'a> {
    fn new(job: &'a Job<'a>, mesh: Mesh) -> Result<Self, Error> {
        let device = (job.device)(mesh.rank())?;
        // Who watches completes prompts with the model itself, where the recipe has any.
        let generated = if job.recipe.sample_prompts.is_empty() { 0 } else { SAMPLE_ROWS };
        let capacity = Capacity::training(&*device, job.recipe.micro_batch_tokens);
        let precision = job.recipe.dtype.precision(&*device);
        let capacity = Capacity { generated, precision, ..capacity };
        let model = Model::new(device, mesh.clone(), job.config.clone(), capacity)?;
        let newest = folder::steps(&job.checkpoints())?.last().copied();
        let mut learner = Learner::new(model)?;
        if newest.is_none() {
            match job.start {
                Start::Random => learner.init(job.recipe.seed)?,
                Start::From(path) => learner.load(path)?,
            }
        }
        let mut new = Self { job, mesh, learner, log: None, progress: Progress::default() };
        if let Some(step) = newest {
            new.resume(step)?;
        }
        if new.mesh.rank() == 0 {
            let (path, step) = (job.metrics(), new.progress.step);
            std::fs::create_dir_all(job.dir).map_err(Error::io(job.dir))?;
            new.log = Some(Log::open(&path, step)?);
            new.announce();
        }
        Ok(new)
    }

    fn announce(&self) {
        let recipe = self.job.recipe;
        let table = self.learner.model.table();
        self.job.watch.started(&Started {
            step: self.progress.step,
            steps: recipe.steps,
            batch_tokens: recipe.batch_tokens,
            parameters: table.parameters(),
            flop_per_token: crate::bench::flop_per_token(self.job.config, recipe.sequence_length),
            ranks: self.job.axes.world(),
        });
    }

    fn run(mut self) -> Result<Report, Error> {
        let recipe = self.job.recipe;
        let mut written = self.progress.step;
        while self.progress.step < recipe.steps {
            let mut record = self.step()?;
            self.extend(&mut record)?;
            if let Some(log) = &mut self.log {
                log.append(&record)?;
                self.job.watch.step(&record);
            }
            let step = self.progress.step;
            let stop = self.asked_to_stop()?;
            if stop || step == recipe.steps || step.is_multiple_of(recipe.checkpoint_every) {
                self.save()?;
                written = step;
            }
            if stop {
                break;
            }
        }
        Ok(Report {
            step: self.progress.step,
            finished: self.progress.step == recipe.steps,
            tokens: self.progress.tokens,
            checkpoint: folder::path(&self.job.checkpoints(), written),
        })
    }

    fn step(&mut self) -> Result<Record, Error> {
        let start = Instant::now();
        let (objective, recipe) = (self.job.objective, self.job.recipe);
        let done = self.learner.step(objective, recipe, self.progress.step)?;
        let seconds = start.elapsed().as_secs_f64();
        self.progress.step += 1;
        self.progress.tokens += done.outcome.tokens;
        Ok(Record {
            step: self.progress.step,
            loss: done.outcome.loss,
            grad_norm: done.norm,
            lr: done.rate,
            tokens: self.progress.tokens,
            more: done.outcome.more,
            validation: None,
            samples: None,
            machine: Machine {
                seconds,
                tokens_per_s: done.outcome.processed as f64 / seconds,
                memory_mib: crate::metrics::peak_memory_mib(),
            },
        })
    }

    /// What is due after this step: validation, samples.
    fn extend(&mut self, record: &mut Record) -> Result<(), Error> {
        let (recipe, step) = (self.job.recipe, record.step);
        let due = recipe.evaluate_every > 0 && step.is_multiple_of(recipe.evaluate_every);
        let last = step == recipe.steps;
        if due || last {
            // What is said of the model rests on its last validation, so that leaves nothing out.
            let most = if last { u64::MAX } else { recipe.validation_samples };
            let recipe = Recipe { validation_samples: most, ..recipe.clone() };
            let model = &mut self.learner.model;
            record.validation = self.job.objective.validate(model, &self.mesh, &recipe)?;
        }
        let due = recipe.sample_steps().into_iter().filter(|(_, at)| *at == step);
        for (share, _) in due {
            if self.mesh.rank() == 0 {
                let watch = self.job.watch;
                record.samples =
                    watch.samples(share, step, &mut self.learner.model).map_err(Error::Outside)?;
            }
        }
        Ok(())
    }

    /// All ranks stop at the same step, whoever heard the request first.
    fn asked_to_stop(&self) -> Result<bool, Error> {
        let asked = f64::from(u8::from(self.job.cancel.is_requested()));
        Ok(self.mesh.group(Use::World).largest_numbers(&[asked])?[0] > 0.0)
    }

    fn save(&mut self) -> Result<(), Error> {
        if let Some(log) = &mut self.log {
            log.sync()?;
        }
        let step = self.progress.step;
        let facts = checkpoint::Facts::new(self.job, &**self.learner.model.device(), self.progress);
        let dir = self.job.checkpoints();
        let keep = self.job.recipe.keep_checkpoints;
        let path = checkpoint::save(&dir, keep, &facts, &self.learner, &self.mesh)?;
        if self.mesh.rank() == 0 {
            self.job.watch.checkpoint(step, &path);
        }
        Ok(())
    }

    fn resume(&mut self, step: u64) -> Result<(), Error> {
        let path = folder::path(&self.job.checkpoints(), step);
        let (reader, facts) = checkpoint::open(&path)?;
        let device = &**self.learner.model.device();
        let now = checkpoint::Facts::new(self.job, device, facts.progress);
        if let Some(note) = now.compare(&facts, &path)?
            && self.mesh.rank() == 0
        {
            self.job.watch.note(&note);
        }
        checkpoint::restore(&reader, &path, &self.learner)?;
        self.progress = facts.progress;
        Ok(())
    }
}
