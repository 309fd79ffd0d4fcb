//! The loop: steps, validation, samples, metrics, checkpoints, recovery (paper, sections 3.3.4 and
//! 3.4). A run is a folder; calling [`run`] again on it goes on where its last checkpoint stands
//! and ends with the same bits as a run that was never stopped. Not what is learned (an
//! [`Objective`]), not when a step is skipped ([`crate::spikes`]) and not how it is shown (a
//! [`Watch`]).

use crate::checkpoint::{self, Facts, Progress};
use crate::gate::Verdict;
use crate::metrics::{Log, Machine, Record, Validation};
use crate::saver::Saver;
use crate::spikes::{Guard, Line, Skipped, Spike};
use crate::step::{Learner, Place, Seen};
use crate::watch::Started;
use crate::{Error, Gate, Objective, Parallel, Recipe, Watch, average, export, folder};
use quipu_math::Device;
use quipu_mesh::{Mesh, Use};
use quipu_model::{Config, Table};
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
    /// Those of another run's checkpoint, moments included: the stage before this one.
    Checkpoint(&'a Path),
}

/// Everything a run needs.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// Its folder: `checkpoints/`, `metrics.jsonl` and the events beside it, `skipped.jsonl`.
    pub dir: &'a Path,
    /// What it does.
    pub recipe: &'a Recipe,
    /// The model's shape.
    pub config: &'a Config,
    /// The weights before the first step.
    pub start: Start<'a>,
    /// The ranks, and how the work is divided over them.
    pub parallel: &'a Parallel,
    /// The device of each rank.
    pub device: &'a (dyn Fn(usize) -> Result<Arc<dyn Device>, quipu_math::Error> + Sync),
    /// What it learns.
    pub objective: &'a dyn Objective,
    /// When it has reached what it is for, where that is not only its last step.
    pub gate: Option<&'a dyn Gate>,
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
    /// Whether a gate ended it; none where it has no gate.
    pub passed: Option<bool>,
    /// Target tokens seen.
    pub tokens: u64,
    /// The last checkpoint, or the mean of those that a finished run averages.
    pub checkpoint: PathBuf,
    /// What the mean comes to on held-out text, where there are both.
    pub averaged: Option<Validation>,
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

    /// The record of batches from which nothing was learned.
    #[must_use]
    pub fn skipped(&self) -> PathBuf {
        self.dir.join("skipped.jsonl")
    }

    fn check(&self) -> Result<(), Error> {
        self.recipe.check()?;
        self.parallel.check(self.config)?;
        self.recipe.check_patterns(&Table::new(self.config))?;
        self.objective.check(self.recipe, self.config)
    }
}

/// Runs or resumes `job`, to its end or until it is asked to stop.
///
/// # Errors
/// [`Error::Recipe`] before anything is written; a damaged or foreign checkpoint; no number in
/// loss or gradient; what data, disk, device and mesh report. Checkpoints written before stay.
pub fn run(job: &Job<'_>) -> Result<Report, Error> {
    job.check()?;
    let world = &job.parallel.world;
    world.alone(|| folder::sweep(&job.checkpoints()))?;
    let reports = world
        .launch(job.parallel.axes, |mesh| Trainer::new(job, job.parallel.mesh(&mesh)?)?.run())?;
    let first = reports.into_iter().next();
    first.ok_or_else(|| Error::Rank { rank: 0, what: "no rank was started".into() })
}

/// Ranks that would learn other things are told before they begin: another recipe, another model,
/// other data or another order of them.
fn agree(job: &Job<'_>, mesh: &Mesh) -> Result<(), Error> {
    let world = mesh.group(Use::World);
    let recipe = serde_json::to_string_pretty(job.recipe).unwrap_or_default();
    world.same("recipe", &recipe)?;
    world.same("model", &job.config.to_json())?;
    world.same("division", &job.parallel.to_string())?;
    Ok(world.same("data", &job.objective.identity())?)
}

/// One rank.
struct Trainer<'a> {
    job: &'a Job<'a>,
    mesh: Mesh,
    learner: Learner,
    /// On rank 0.
    log: Option<Log>,
    /// On rank 0 of a run that skips steps.
    record: Option<Skipped>,
    progress: Progress,
    guard: Guard,
    saver: Saver,
    /// Whether no checkpoint stood when it began.
    fresh: bool,
    /// On rank 0: floating-point operations of a token over those that the machine does in a
    /// second, where that is known.
    ceiling_seconds: Option<f64>,
}

impl<'a> Trainer<'a> {
    fn new(job: &'a Job<'a>, mesh: Mesh) -> Result<Self, Error> {
        agree(job, &mesh)?;
        let device = (job.device)(mesh.rank())?;
        let newest = folder::steps(&job.checkpoints())?.last().copied();
        let generates = job.gate.is_some();
        let parallel = &job.parallel.pipeline;
        let shape = (job.config, parallel);
        let mut learner = Learner::allocate(device, mesh.clone(), shape, job.recipe, generates)?;
        let (mut progress, guard) = (Progress::default(), Guard::default());
        match job.start {
            _ if newest.is_some() => {}
            Start::Random => learner.init(job.recipe.seed)?,
            Start::From(path) => learner.load(path)?,
            Start::Checkpoint(path) => {
                let (reader, facts) = checkpoint::open(path)?;
                checkpoint::restore(&reader, path, &learner)?;
                progress.earlier = facts.progress.place().updates;
            }
        }
        let (log, record, fresh) = (None, None, newest.is_none());
        let (ceiling_seconds, saver) = (None, Saver::default());
        let mut trainer = Self {
            job,
            mesh,
            learner,
            log,
            record,
            progress,
            guard,
            saver,
            fresh,
            ceiling_seconds,
        };
        if let Some(step) = newest {
            let facts = trainer.restore(step).map_err(|error| trainer.damaged(step, error))?;
            (trainer.progress, trainer.guard) = (facts.progress, facts.guard);
        }
        trainer.open_logs()?;
        Ok(trainer)
    }

    /// On rank 0, the files that grow with the run, cut back to where it stands.
    fn open_logs(&mut self) -> Result<(), Error> {
        if self.mesh.rank() != 0 {
            return Ok(());
        }
        let job = self.job;
        std::fs::create_dir_all(job.dir).map_err(Error::io(job.dir))?;
        self.log = Some(Log::open(&job.metrics(), self.progress.step)?);
        if job.recipe.spikes.is_some() {
            self.record = Some(Skipped::open(&job.skipped(), self.guard.lines)?);
        }
        self.announce();
        Ok(())
    }

    fn announce(&mut self) {
        let recipe = self.job.recipe;
        let flop_per_token = recipe.flop_per_token(self.job.config);
        let table = Table::new(self.job.config);
        self.job.watch.started(&Started {
            step: self.progress.step,
            steps: recipe.steps,
            batch_tokens: recipe.batch_tokens,
            parameters: table.parameters(),
            flop_per_token,
            ranks: self.job.parallel.axes.world(),
        });
        let ceiling = self.job.watch.ceiling().filter(|c| c.is_finite() && *c > 0.0);
        self.ceiling_seconds = ceiling.map(|ceiling| flop_per_token / ceiling);
    }

    fn run(mut self) -> Result<Report, Error> {
        let done = self.go();
        let alike = done.as_ref().err().is_some_and(|error| self.fails_alike(error));
        if alike {
            // The checkpoint on its way is sound. The error that ended the run is the one to tell.
            let _ = self.settle();
        }
        done
    }

    /// Whether all ranks end with this error at the same point, so that they can still do something
    /// together.
    fn fails_alike(&self, error: &Error) -> bool {
        let judged = matches!(
            error,
            Error::NotFinite { .. } | Error::Spikes { .. } | Error::NothingToLearn { .. }
        );
        judged || self.mesh.axes().world() == 1
    }

    fn go(&mut self) -> Result<Report, Error> {
        let recipe = self.job.recipe;
        if self.fresh && recipe.spikes.is_some() {
            // So that there is always one to go back to.
            self.save()?;
        }
        let mut written = self.progress.step;
        while !self.is_over() {
            let Some(mut record) = self.step()? else {
                written = self.progress.step;
                continue;
            };
            self.extend(&mut record)?;
            if let Some(log) = &mut self.log {
                log.append(&record)?;
                self.job.watch.step(&record);
            }
            let step = self.progress.step;
            let stop = self.look_round()?;
            if stop || self.progress.passed || recipe.wants_checkpoint(step) {
                self.save()?;
                written = step;
            }
            if stop {
                break;
            }
        }
        self.settle()?;
        let finished = self.is_over();
        let mut report = Report {
            step: self.progress.step,
            finished,
            passed: self.job.gate.map(|_| self.progress.passed),
            tokens: self.progress.tokens,
            checkpoint: folder::path(&self.job.checkpoints(), written),
            averaged: None,
        };
        if finished && recipe.average.is_some() {
            (report.checkpoint, report.averaged) = self.average()?;
        }
        Ok(report)
    }

    fn is_over(&self) -> bool {
        self.progress.passed || self.progress.step == self.job.recipe.steps
    }

    /// Takes the mean of the run's last checkpoints and measures it; the learner ends with it.
    fn average(&mut self) -> Result<(PathBuf, Option<Validation>), Error> {
        let (job, steps) = (self.job, self.job.recipe.averaged_steps());
        let path = average::path(&job.checkpoints());
        if self.mesh.rank() == 0 {
            average::write(&job.checkpoints(), &steps)?;
        }
        self.mesh.group(Use::World).barrier()?;
        let (reader, _) = checkpoint::open(&path)?;
        let model = &mut self.learner.model;
        export::fill(model, &reader, &path)?;
        let recipe = Recipe { validation_samples: u64::MAX, ..job.recipe.clone() };
        let found = job.objective.validate(model, &self.mesh, &recipe)?;
        let count = steps.len();
        let loss = found.as_ref().map_or(String::new(), |v| format!(", validation {:.3}", v.loss));
        self.note(&format!("mean of the checkpoints of {count} steps{loss}"));
        Ok((path, found))
    }

    /// One step and its record; none where the run went back.
    fn step(&mut self) -> Result<Option<Record>, Error> {
        let start = Instant::now();
        let (objective, recipe) = (self.job.objective, self.job.recipe);
        let place = self.progress.place();
        objective.notes(recipe, place.batch).iter().for_each(|note| self.note(note));
        let Seen { outcome, norm } = self.learner.gradient(objective, recipe, place)?;
        let spike = self.judge(place, outcome.loss, norm);
        let rate = match spike {
            Some(_) => 0.0,
            None => self.learner.update(recipe, place, norm)?,
        };
        if self.job.parallel.check {
            self.learner.check_copies()?;
        }
        let seconds = start.elapsed().as_secs_f64();
        self.progress.step += 1;
        self.progress.tokens += outcome.tokens;
        let mut more = outcome.more;
        if let Some(spike) = spike {
            self.progress.skipped += 1;
            more.insert("skipped".into(), 1.0);
            self.skip(place.batch, &spike)?;
            if recipe.spikes.is_some_and(|rules| self.guard.goes_back(&rules)) {
                self.go_back(&spike)?;
                return Ok(None);
            }
        }
        let tokens_per_s = outcome.processed as f64 / seconds;
        Ok(Some(Record {
            step: self.progress.step,
            loss: outcome.loss,
            grad_norm: norm,
            lr: rate,
            tokens: self.progress.tokens,
            more,
            validation: None,
            samples: None,
            gate: None,
            machine: Machine {
                seconds,
                tokens_per_s,
                share_of_ceiling: self.ceiling_seconds.map(|seconds| seconds * tokens_per_s),
                memory_mib: crate::metrics::peak_memory_mib(),
            },
        }))
    }

    /// What leaps in the step that is being done. Loss and norm are the same on all ranks, and so
    /// is the judgement.
    fn judge(&mut self, place: Place, loss: f64, norm: f64) -> Option<Spike> {
        let rules = self.job.recipe.spikes?;
        self.guard.enter(self.job.recipe.stage_of(place.batch));
        self.guard.judge(&rules, place.step + 1, (loss, norm))
    }

    /// Records a batch that was skipped.
    fn skip(&mut self, batch: u64, spike: &Spike) -> Result<(), Error> {
        let Spike { what, value, limit, .. } = spike;
        let step = self.progress.step;
        self.write_line(batch, |line| line.spike = Some(spike.clone()))?;
        self.note(&format!("step {step}: {what} {value:.3} is above {limit:.3}, nothing learned"));
        Ok(())
    }

    /// Goes back to the last checkpoint that the recipe asked for, and past the batches since.
    fn go_back(&mut self, spike: &Spike) -> Result<(), Error> {
        self.settle()?;
        let (job, now) = (self.job, self.progress);
        let returns = self.guard.returns;
        if job.recipe.spikes.is_some_and(|rules| returns >= rules.returns) {
            let Spike { what, value, limit, .. } = spike.clone();
            let path = job.skipped();
            return Err(Error::Spikes { step: now.step, what, value, limit, returns, path });
        }
        // A checkpoint among the skipped steps holds the weights of now: nothing would be undone.
        let heap = self.guard.first_skipped().unwrap_or(now.step);
        let then = self.restore(job.recipe.checkpoint_before(heap.saturating_sub(1)))?;
        let (back_to, next) = (then.progress.step, now.place().batch);
        let batches = then.progress.place().batch..next;
        for batch in batches.clone() {
            self.write_line(batch, |line| line.back_to = Some(back_to))?;
        }
        self.guard = std::mem::take(&mut self.guard).gone_back(then.guard);
        self.progress = Progress { passed_over: next - back_to, ..then.progress };
        if self.mesh.rank() == 0 {
            folder::remove_after(&job.checkpoints(), back_to)?;
        }
        self.mesh.group(Use::World).barrier()?;
        self.note(&format!(
            "step {}: back to step {back_to}, past batches {} to {}: see {}",
            now.step,
            batches.start,
            next - 1,
            job.skipped().display()
        ));
        self.open_logs()
    }

    /// On rank 0, a line of the record for a batch; counted on all.
    fn write_line(&mut self, batch: u64, finish: impl Fn(&mut Line)) -> Result<(), Error> {
        self.guard.lines += 1;
        let (job, step) = (self.job, self.progress.step);
        let Some(record) = &mut self.record else { return Ok(()) };
        let pieces = job.objective.pieces(job.recipe, batch)?;
        let mut line = Line::new(job.recipe, step, batch, &pieces);
        finish(&mut line);
        record.append(&line)
    }

    fn note(&self, line: &str) {
        if self.mesh.rank() == 0 {
            self.job.watch.note(line);
        }
    }

    /// What is due after this step: the gate, validation, samples.
    fn extend(&mut self, record: &mut Record) -> Result<(), Error> {
        let (recipe, step) = (self.job.recipe, record.step);
        let due = recipe.evaluate_every > 0 && step.is_multiple_of(recipe.evaluate_every);
        record.gate = self.ask(step)?;
        let last = self.is_over();
        if due || last {
            // What is said of the model rests on its last validation, so that leaves nothing out.
            let most = if last { u64::MAX } else { recipe.validation_samples };
            let recipe = Recipe { validation_samples: most, ..recipe.clone() };
            let model = &mut self.learner.model;
            record.validation = self.job.objective.validate(model, &self.mesh, &recipe)?;
        }
        let due = recipe.sample_steps().into_iter().filter(|(_, at)| *at == step);
        for (share, _) in due {
            if self.generates() {
                let watch = self.job.watch;
                record.samples =
                    watch.samples(share, step, &mut self.learner.model).map_err(Error::Outside)?;
            }
        }
        Ok(())
    }

    /// Whether this rank takes part where the model generates: rank 0 alone with a whole model.
    fn generates(&self) -> bool {
        self.mesh.rank() == 0 || self.learner.model.computes_together()
    }

    /// Asks the gate, where it is due; what rank 0 finds holds for all.
    fn ask(&mut self, step: u64) -> Result<Option<Verdict>, Error> {
        let Some(gate) = self.job.gate else { return Ok(None) };
        if !gate.is_due(step) && step != self.job.recipe.steps {
            return Ok(None);
        }
        let verdict = match self.generates() {
            true => Some(gate.ask(step, &mut self.learner.model).map_err(Error::Outside)?),
            false => None,
        };
        let passed = verdict.as_ref().is_some_and(|verdict| verdict.passed);
        self.progress.passed = self.on_any_rank(passed)?;
        Ok(verdict)
    }

    /// Whether to stop: all ranks do at the same step, whoever heard the request first. And whether
    /// the checkpoint on its way has come as far on all of them.
    fn look_round(&mut self) -> Result<bool, Error> {
        let here = [self.job.cancel.is_requested(), self.saver.is_busy()?];
        let here = here.map(|so| f64::from(u8::from(so)));
        let any = self.mesh.group(Use::World).largest_numbers(&here)?;
        if any[1] == 0.0 {
            let step = self.saver.step();
            let path = self.saver.advance(self.job, &self.mesh)?;
            self.saved(step, path);
        }
        Ok(any[0] > 0.0)
    }

    /// Waits for the checkpoint on its way.
    fn settle(&mut self) -> Result<(), Error> {
        let step = self.saver.step();
        let path = self.saver.settle(self.job, &self.mesh)?;
        self.saved(step, path);
        Ok(())
    }

    fn saved(&self, step: Option<u64>, path: Option<PathBuf>) {
        if let (0, Some(step), Some(path)) = (self.mesh.rank(), step, path) {
            self.job.watch.checkpoint(step, &path);
        }
    }

    fn on_any_rank(&self, here: bool) -> Result<bool, Error> {
        Ok(self.mesh.group(Use::World).any(here)?)
    }

    /// Begins a checkpoint, after the one before it.
    fn save(&mut self) -> Result<(), Error> {
        self.settle()?;
        if let Some(log) = &mut self.log {
            log.sync()?;
        }
        if let Some(record) = &mut self.record {
            record.sync()?;
        }
        let device = &**self.learner.model.device();
        let facts = Facts::new(self.job, device, self.progress, self.guard.clone());
        self.saver.begin(self.job, facts, &self.learner, &self.mesh)
    }

    /// Puts weights and moments of a checkpoint in place; what else stands in it.
    fn restore(&mut self, step: u64) -> Result<Facts, Error> {
        let path = folder::path(&self.job.checkpoints(), step);
        let (reader, facts) = checkpoint::open(&path)?;
        let device = &**self.learner.model.device();
        let now = Facts::new(self.job, device, facts.progress, Guard::default());
        now.compare(&facts, &path)?.iter().for_each(|note| self.note(note));
        checkpoint::restore(&reader, &path, &self.learner)?;
        Ok(facts)
    }

    /// Says what a run may go on from, where its newest checkpoint is damaged.
    fn damaged(&self, step: u64, error: Error) -> Error {
        let is_damage = match &error {
            Error::Model(error) => error.is_damage(),
            Error::Checkpoint { .. } => true,
            _ => false,
        };
        let older = folder::steps(&self.job.checkpoints()).unwrap_or_default();
        match older.iter().rev().find(|older| **older < step) {
            Some(older) if is_damage => {
                Error::Damaged { step, older: *older, error: Box::new(error) }
            }
            _ => error,
        }
    }
}
