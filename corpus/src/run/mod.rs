//! The run: inputs to documents and fates, in stages of tasks that several workers share.
//!
//! 1. `plan`: the inputs are cut into units, by what they are alone;
//! 2. `extract`: each unit's pages to text, verdicts, sketches and hashes (work files);
//! 3. `decide`: the three levels of deduplication, as shuffles of rows;
//! 4. `write`: documents and fates in numbered files;
//! 5. the summary, and the manifest, last.
//!
//! Workers are threads, and other processes that [`join`] the same folder; each does one task at a
//! time, and a task's outputs depend on its number alone. So results do not depend on how many
//! there are, on where the shuffles run, or on where a run was killed. Memory: a unit a worker, and
//! what the shuffles are given. Not here: what happens to one page.

mod bucket;
mod decide;
mod estimate;
pub(crate) mod explain;
mod extract;
mod funnel;
mod plan;
mod rows;
mod told;
mod truth;
mod words;
mod write;

pub use estimate::{Estimate, estimate};
pub use explain::explain;
pub(crate) use plan::unit_bytes;

use crate::classify::Runs as Scores;
use crate::judges::Judges;
use crate::remote::{Access, Settings, is_bucket, is_remote};
use crate::shuffle::{Embedded, Shuffle};
use crate::summary::{Made, ScoreFiles};
use crate::{Error, Recipe, Summary};
use plan::{NAME, Plan};
use quipu_documents::{FORMAT, FileKind, VERSION, Writer};
use quipu_store::crew::Crew;
use quipu_store::lock::RunLock;
use quipu_store::manifest::{self, Manifest};
use quipu_store::{Cancel, Progress};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The folder of work files below the output.
const WORK: &str = "work";
/// Name of the summary among the facts of a manifest.
pub(crate) const SUMMARY: &str = "summary";
/// The stage in which one worker writes the manifest.
const FINISH: &str = "finish";

/// Where the shuffles run. The rows are the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// Here, by sorted runs.
    #[default]
    Embedded,
    /// Here, as DataFusion plans (feature `cluster`).
    Local,
    /// Here, as DataFusion plans on a Ballista cluster within this process (feature `cluster`).
    Standalone,
    /// On the Ballista cluster whose scheduler has this address (feature `cluster`).
    Cluster(String),
}

/// How a run uses its machine; nothing of it changes a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Tasks at a time in this process.
    pub workers: usize,
    /// Bytes that the shuffles may hold in memory, all workers together.
    pub memory: u64,
    /// Where the shuffles run.
    pub engine: Engine,
    /// How servers are asked for what lies elsewhere.
    pub settings: Settings,
    /// Where the work files of a run in a bucket stand here; none: in the folder for temporary files.
    pub scratch: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Options {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        Options {
            workers,
            memory: 512 << 20,
            engine: Engine::Embedded,
            settings: Settings::default(),
            scratch: None,
        }
    }
}

/// Curates `inputs` into the folder `out`, here or of a bucket, and returns what was done. A run that
/// is finished there with the same inputs and recipe is not repeated; one that was stopped goes on.
///
/// # Errors
/// Inputs that are missing or of no known kind; no pages; no documents left; a full disk; a bucket
/// that holds other things.
pub fn run(
    inputs: &[PathBuf],
    recipe: &Recipe,
    out: &Path,
    options: &Options,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Summary, Error> {
    recipe.validate()?;
    writable(out)?;
    if is_bucket(out) {
        return bucket::run(inputs, recipe, out, options, progress, cancel);
    }
    let work = out.join(WORK);
    let access = Access::new(&options.settings, cancel);
    let plan = match Plan::begun(&work, inputs, recipe, &access) {
        Some(plan) => plan,
        None => Plan::of(inputs, recipe, &access, progress, cancel)?,
    };
    if let Some(summary) = finished(out, &plan.stage) {
        clear(&work)?;
        return Ok(summary);
    }
    let judges = startable(recipe)?;
    quipu_store::atomic::create_dir(&work)?;
    let lock = RunLock::acquire(&work)?;
    plan.install(&work, progress)?;
    // From now on the manifest of an earlier run does not describe what stands here. One of this run
    // is that of somebody who works along and was done meanwhile.
    let stands = Manifest::read(out, FORMAT, VERSION);
    if !stands.is_ok_and(|manifest| is_of(&manifest, &plan.stage)) {
        Writer::new(out)?;
    }
    let crew = crew(out, options, cancel)?;
    let summary = Job::of(plan, judges, out, crew, options, progress, cancel)?.run()?;
    drop(lock);
    remove_work(&work)?;
    Ok(summary)
}

/// Works along on the run in the folder `out`, which another process began with [`run`] on this or
/// another machine, until it is finished; returns what was done.
///
/// # Errors
/// No run there that goes on; and as [`run`].
pub fn join(
    out: &Path,
    options: &Options,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Summary, Error> {
    writable(out)?;
    if is_bucket(out) {
        return bucket::join(out, options, progress, cancel);
    }
    if let Ok(summary) = read_summary(out) {
        clear(&out.join(WORK))?;
        return Ok(summary);
    }
    let work = out.join(WORK);
    if !work.join(NAME).is_file() {
        return Err(Error::NoRun { path: out.to_owned() });
    }
    // Before the plan is read: what is read is what stood then, or nothing is done with it.
    let crew = crew(out, options, cancel)?;
    let plan = Plan::read(&work)?;
    plan.check_here(&Access::new(&options.settings, cancel))?;
    let (stage, judges) = (plan.stage.clone(), Judges::of(&plan.recipe)?);
    let done = Job::of(plan, judges, out, crew, options, progress, cancel)?.run();
    // Whoever began the run removes the work files once the manifest is there, maybe under us; if
    // it was killed, the last one does.
    match finished(out, &stage) {
        Some(summary) => {
            clear(&out.join(WORK))?;
            let made = done.map_or(Made::Partly, |summary| summary.made);
            Ok(Summary { made, ..summary })
        }
        None => done,
    }
}

/// Reads the files that a recipe names, before anything is begun: what is refused then is in nobody's
/// way, and costs nothing that was there.
fn startable(recipe: &Recipe) -> Result<Judges, Error> {
    for file in &recipe.scores {
        quipu_documents::Scores::open(file)?.try_for_each(|score| score.map(drop))?;
    }
    Judges::of(recipe)
}

/// A place that cannot be written is said before anything is read.
fn writable(out: &Path) -> Result<(), Error> {
    match is_remote(out) && !is_bucket(out) {
        true => Err(Error::ReadOnly { place: out.to_owned() }),
        false => Ok(()),
    }
}

/// Puts a file beside the documents in `out`, here or in a bucket.
///
/// # Errors
/// A full disk; a bucket that does not take it.
pub fn put(out: &Path, name: &str, bytes: &[u8], options: &Options) -> Result<(), Error> {
    match is_bucket(out) {
        true => bucket::put(out, name, bytes, options),
        false => Ok(quipu_store::atomic::write_bytes(&out.join(name), bytes)?),
    }
}

/// The workers of a run in a folder.
fn crew(out: &Path, options: &Options, cancel: &Cancel) -> Result<Crew, Error> {
    let work = out.join(WORK);
    Ok(Crew::new(&work, options.workers, cancel)?.while_stands(&work.join(NAME)))
}

/// What every stage needs.
struct Job<'a> {
    plan: Plan,
    judges: Judges,
    scores: Option<Scores>,
    out: &'a Path,
    access: Access,
    crew: Crew,
    memory: u64,
    engine: Engine,
    progress: &'a dyn Progress,
    cancel: &'a Cancel,
    /// Whether results were found that this process did not make.
    found: AtomicBool,
}

impl<'a> Job<'a> {
    fn of(
        plan: Plan,
        judges: Judges,
        out: &'a Path,
        crew: Crew,
        options: &Options,
        progress: &'a dyn Progress,
        cancel: &'a Cancel,
    ) -> Result<Job<'a>, Error> {
        let scores = match plan.recipe.scores.as_slice() {
            [] => None,
            files => {
                let dir = crew.own("scores");
                quipu_store::atomic::create_dir(&dir)?;
                Some(Scores::sort(files, &dir, options.memory as usize / 2)?)
            }
        };
        Ok(Job {
            plan,
            judges,
            scores,
            out,
            access: Access::new(&options.settings, cancel),
            crew,
            memory: options.memory,
            engine: options.engine.clone(),
            progress,
            cancel,
            found: AtomicBool::new(false),
        })
    }

    /// Who runs the shuffles.
    fn shuffle(&self) -> Result<Box<dyn Shuffle + '_>, Error> {
        #[cfg(feature = "cluster")]
        {
            use crate::cluster::Plans;
            let (crew, cancel, memory) = (&self.crew, self.cancel, self.memory);
            let plans = match &self.engine {
                Engine::Embedded => return Ok(Box::new(Embedded::new(crew, memory))),
                Engine::Local => Plans::here(crew, cancel, memory)?,
                Engine::Standalone => Plans::standalone(crew, cancel, memory)?,
                Engine::Cluster(address) => Plans::at(address, crew, cancel, memory)?,
            };
            Ok(Box::new(plans))
        }
        #[cfg(not(feature = "cluster"))]
        match &self.engine {
            Engine::Embedded => Ok(Box::new(Embedded::new(&self.crew, self.memory))),
            _ => Err(Error::NoCluster),
        }
    }

    fn run(&self) -> Result<Summary, Error> {
        // First of all: a cluster that is not there is said before hours of extraction.
        let shuffle = self.shuffle()?;
        let extracted = extract::pass(self)?;
        let mut summary = funnel::begin(&self.plan, &extracted);
        if summary.pages == 0 {
            let reason = funnel::why_empty(&summary);
            return Err(Error::EmptyCrawl { inputs: self.plan.names.clone(), reason });
        }
        let decisions = decide::pass(self, &*shuffle, &extracted)?;
        let files = write::pass(self, &extracted, &decisions)?;
        if let Some(scores) = &self.scores {
            let (read, duplicates) = (scores.read(), scores.duplicates());
            summary.score_files = ScoreFiles { read, duplicates, ..summary.score_files };
        }
        funnel::finish(&mut summary, &files, self.plan.recipe.alarm);
        if summary.kept == 0 {
            remove_files(self.out)?;
            let (pages, funnel) = (summary.pages, funnel::reasons(&summary));
            return Err(Error::NothingLeft { inputs: self.plan.names.clone(), pages, funnel });
        }
        // One worker finishes; the others wait for it as for any task.
        let finish = |_: usize| {
            let mut summary = summary.clone();
            let written: Vec<_> = files.iter().map(|output| output.files.clone()).collect();
            if !self.crew.is_sharing() {
                written.iter().flatten().try_for_each(|file| file.verify_size(self.out))?;
            }
            if let Some(path) = &self.plan.recipe.truth {
                let paths = written.iter().flatten().map(|file| self.out.join(&file.name));
                self.crew.bring(&paths.collect::<Vec<_>>())?;
                let languages = &self.plan.recipe.languages;
                let (scores, unseen) = truth::score(path, languages, self.out, files.len())?;
                summary.scores = scores;
                summary.unseen = (summary.not_sampled == 0).then_some(unseen);
            }
            let mut facts = serde_json::json!({ "stage": self.plan.stage, SUMMARY: summary });
            let elsewhere = self.plan.elsewhere();
            if !elsewhere.is_empty() {
                facts["elsewhere"] = elsewhere.into();
            }
            Writer::resumed(self.out).finish(written, facts)?;
            self.crew.publish(&self.out.join(manifest::NAME))?;
            Ok::<_, Error>(summary)
        };
        let done = self.crew.run(FINISH, 1, finish, |_, _| ())?;
        let made = if self.found.load(Ordering::Relaxed) { Made::Partly } else { Made::Whole };
        Ok(Summary { made, ..done.into_iter().next().unwrap_or(summary) })
    }
}

/// The summary of a finished run of the same inputs and recipe.
fn finished(out: &Path, stage: &str) -> Option<Summary> {
    let manifest = Manifest::read_verified(out, FORMAT, VERSION).ok()?;
    if is_of(&manifest, stage) { summary_of(&manifest, SUMMARY, out).ok() } else { None }
}

fn is_of(manifest: &Manifest, stage: &str) -> bool {
    manifest.facts["stage"].as_str() == Some(stage)
}

/// The summary of a finished run in `out`, whatever it was made from.
///
/// # Errors
/// No manifest of ours there, or one without a summary.
pub fn read_summary(out: &Path) -> Result<Summary, Error> {
    summary_of(&Manifest::read(out, FORMAT, VERSION)?, SUMMARY, out)
}

/// The summary of a run among the facts of the manifest of the folder `out`.
fn summary_of(manifest: &Manifest, key: &str, out: &Path) -> Result<Summary, Error> {
    let value = manifest.facts.get(key).cloned().unwrap_or_default();
    serde_json::from_value(value).map_err(|e| Error::Line {
        path: out.join(quipu_store::manifest::NAME),
        line: 1,
        reason: format!("no summary of a run of curation: {e}"),
    })
}

/// Removes output files of a run that keeps nothing.
fn remove_files(out: &Path) -> Result<(), Error> {
    for entry in std::fs::read_dir(out).map_err(Error::io(out))? {
        let path = entry.map_err(Error::io(out))?.path();
        if FileKind::of(&path.file_name().unwrap_or_default().to_string_lossy()).is_some() {
            std::fs::remove_file(&path).map_err(Error::io(&path))?;
        }
    }
    remove_work(&out.join(WORK))
}

/// Whether a run was begun in the folder `out`, and stopped before its end.
pub fn is_begun(out: &Path) -> bool {
    plan::is_ours(&out.join(WORK)).unwrap_or(false)
}

/// Recipe and inputs, as they were named, of the run that was begun in the folder `out` and of which
/// something is done.
pub fn begun(out: &Path) -> Option<(Recipe, String)> {
    let plan = Plan::read(&out.join(WORK)).ok()?;
    let done = quipu_store::crew::has_results(&out.join(WORK)).unwrap_or(true);
    done.then_some((plan.recipe, plan.names))
}

/// Removes what a finished run left of its work, where whoever began it was killed: nobody else
/// holds the lock.
fn clear(work: &Path) -> Result<(), Error> {
    if !work.is_dir() || !plan::is_ours(work)? {
        return Ok(());
    }
    match RunLock::acquire(work) {
        Ok(lock) => {
            drop(lock);
            remove_work(work)
        }
        Err(quipu_store::Error::Locked { .. }) => Ok(()),
        Err(other) => Err(other.into()),
    }
}

/// Removes a file, or a folder with all that it holds.
fn remove(path: &Path) -> std::io::Result<()> {
    if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
}

/// Removes the work files; another process that worked along may still leave one there. The plan goes
/// last: without it nobody knows after a kill whose files these are.
fn remove_work(work: &Path) -> Result<(), Error> {
    let entries = std::fs::read_dir(work).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()).filter(|path| !path.ends_with(NAME)) {
        match remove(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) if e.kind() == std::io::ErrorKind::DirectoryNotEmpty => {}
            other => other.map_err(Error::io(&path))?,
        }
    }
    for _ in 0..3 {
        match std::fs::remove_dir_all(work) {
            Err(e) if e.kind() == std::io::ErrorKind::DirectoryNotEmpty => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => return other.map_err(Error::io(work)),
        }
    }
    std::fs::remove_dir_all(work).map_err(Error::io(work))
}

#[cfg(test)]
mod bucket_tests;
#[cfg(test)]
mod elsewhere_tests;
#[cfg(test)]
mod tests;
