//! A run whose folder is a bucket's: `s3://bucket/folder`.
//!
//! Machines that work on it share nothing else. Each has a scratch folder, in which it does what a
//! run in a folder does; plan, leases, results of tasks and the files that they wrote stand in the
//! bucket below `work/`, documents and fates beside it, the manifest last. A machine fetches the
//! work files that it reads: all rows of the shuffles, and texts of the units that it goes through
//! again. Who goes on after a kill needs the bucket only. Not here: leases (`quipu_store::crew`), requests
//! ([`crate::remote`]).

use super::{Engine, Job, NAME, Options, SUMMARY, WORK, remove_work};
use crate::judges::Judges;
use crate::remote::{Access, Bucket};
use crate::run::plan::Plan;
use crate::summary::Made;
use crate::{Error, Recipe, Summary};
use quipu_documents::{FORMAT, FileKind, VERSION};
use quipu_store::crew::Crew;
use quipu_store::lock::RunLock;
use quipu_store::manifest::{self, Manifest};
use quipu_store::share::Over;
use quipu_store::{Cancel, Progress, Share, atomic, checksum};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Hexadecimal digits of a run's name.
const DIGITS: usize = 16;

/// The run's folder in the bucket, and the one here.
struct Place {
    out: PathBuf,
    bucket: Bucket,
    access: Access,
    scratch: PathBuf,
    /// Of the scratch folder.
    _lock: RunLock,
}

impl Place {
    fn of(out: &Path, options: &Options, cancel: &Cancel) -> Result<Place, Error> {
        if options.engine != Engine::Embedded {
            return Err(Error::NoFolder { place: out.to_owned() });
        }
        let access = Access::new(&options.settings, cancel);
        let (scratch, lock) = scratch(out, options.scratch.as_deref())?;
        let bucket = Bucket::new(out, &access);
        Ok(Place { out: out.to_owned(), bucket, access, scratch, _lock: lock })
    }

    fn work(&self) -> PathBuf {
        self.scratch.join(WORK)
    }

    fn taken(&self, what: impl Into<String>) -> Error {
        Error::Taken { place: self.out.clone(), what: what.into() }
    }

    /// Fetches the plan that stands in the bucket; what the scratch folder has of another run goes.
    fn settle(&self) -> Result<Option<Plan>, Error> {
        let there = self.bucket.get(&plan_name())?.map(|(bytes, _)| bytes);
        let path = self.work().join(NAME);
        if std::fs::read(&path).ok() != there {
            self.empty()?;
        }
        let Some(bytes) = there else { return Ok(None) };
        atomic::create_dir(&self.work())?;
        atomic::write_bytes(&path, &bytes)?;
        Plan::read(&self.work()).map(Some)
    }

    /// Removes all of the scratch folder but its lock.
    fn empty(&self) -> Result<(), Error> {
        for entry in std::fs::read_dir(&self.scratch).map_err(Error::io(&self.scratch))? {
            let path = entry.map_err(Error::io(&self.scratch))?.path();
            match path.is_dir() {
                true => remove_work(&path)?,
                false if path.ends_with(quipu_store::lock::NAME) => {}
                false => std::fs::remove_file(&path).map_err(Error::io(&path))?,
            }
        }
        Ok(())
    }

    /// Puts the plan where there is none. Where there is one, it must be of the same stage. `None`
    /// where the run was finished meanwhile.
    fn begin(&self, plan: Plan) -> Result<Option<Plan>, Error> {
        if self.bucket.version(&plan_name())?.is_none() {
            let mut others = self.bucket.all()?.into_iter().map(|(name, _)| name);
            if let Some(name) = others.find(|name| !is_work(name)) {
                let what = format!("{name}, which no run of curation wrote");
                return self.finished()?.map_or(Err(self.taken(what)), |_| Ok(None));
            }
            super::startable(&plan.recipe)?;
        }
        let plan = Plan { run: run_name(), ..plan };
        self.check_conditions(&plan)?;
        // Of several that begin at a time one puts it.
        let put = self.bucket.put(&plan_name(), &plan.bytes()?, Over::Nothing)?;
        // A run that ended before that has its manifest by now.
        if put.is_some() && self.finished()?.is_some() {
            self.clear()?;
            return Ok(None);
        }
        let Some(there) = self.settle()? else {
            return self.finished()?.map_or(Err(self.no_run()), |_| Ok(None));
        };
        match there.stage == plan.stage {
            true => Ok(Some(there)),
            false => Err(self.taken("a run of other inputs or of another recipe that was begun")),
        }
    }

    /// A server that does not know conditions would let everybody begin.
    fn check_conditions(&self, plan: &Plan) -> Result<(), Error> {
        let name = format!("{WORK}/{}/asked", plan.run);
        self.bucket.put(&name, b"", Over::Nothing)?;
        let again = self.bucket.put(&name, b"", Over::Nothing)?;
        self.bucket.remove(&name)?;
        match again {
            None => Ok(()),
            Some(_) => Err(Error::NoConditions { place: self.out.clone() }),
        }
    }

    fn no_run(&self) -> Error {
        Error::NoRun { path: self.out.clone() }
    }

    /// What the run there did, where it is finished and of this stage. Documents of another stage
    /// are in the way.
    fn done(&self, stage: &str) -> Result<Option<Summary>, Error> {
        match self.finished()? {
            Some((summary, found)) if found == stage => Ok(Some(summary)),
            Some(_) => Err(self.taken("the documents of another run")),
            None => Ok(None),
        }
    }

    /// What the finished run there did, and its stage.
    fn finished(&self) -> Result<Option<(Summary, String)>, Error> {
        let Some((bytes, _)) = self.bucket.get(manifest::NAME)? else { return Ok(None) };
        atomic::write_bytes(&self.scratch.join(manifest::NAME), &bytes)?;
        let manifest = Manifest::read(&self.scratch, FORMAT, VERSION)?;
        let summary = super::summary_of(&manifest, SUMMARY, &self.scratch)?;
        let there = self.bucket.all()?.into_iter();
        let there: HashMap<String, u64> = there.map(|(name, stamp)| (name, stamp.bytes)).collect();
        let is_there = |file: &&manifest::File| there.get(&file.name) == Some(&file.bytes);
        if let Some(file) = manifest.files.iter().find(|file| !is_there(file)) {
            let (name, bytes) = (&file.name, file.bytes);
            return Err(self.taken(format!("a manifest but not {name} of {bytes} bytes")));
        }
        let stage = manifest.facts["stage"].as_str().unwrap_or_default().to_owned();
        Ok(Some((summary, stage)))
    }

    /// Removes the work files, here and there.
    fn clear(&self) -> Result<(), Error> {
        self.remove(is_work)?;
        remove_work(&self.scratch)
    }

    /// Removes objects of the run's folder.
    fn remove(&self, gone: impl Fn(&str) -> bool) -> Result<(), Error> {
        let names = self.bucket.all()?.into_iter().map(|(name, _)| name);
        let names: Vec<String> = names.filter(|name| gone(name)).collect();
        self.bucket.remove_all(&names).map_err(Error::io(&self.out))
    }

    fn work_on(
        &self,
        plan: Plan,
        options: &Options,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Summary, Error> {
        let done = self.run(plan.clone(), options, progress, cancel);
        cancel.check()?;
        if matches!(done, Err(Error::NothingLeft { .. } | Error::EmptyCrawl { .. })) {
            self.remove(|name| is_work(name) || FileKind::of(name).is_some())?;
            remove_work(&self.scratch)?;
        }
        // Whoever is done first removes the work files, maybe under the others.
        match self.finished()? {
            Some((summary, found)) if found == plan.stage => {
                self.clear()?;
                let made = done.map_or(Made::Partly, |summary| summary.made);
                Ok(Summary { made, ..summary })
            }
            _ => done,
        }
    }

    fn run(
        &self,
        plan: Plan,
        options: &Options,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Summary, Error> {
        let version = self.bucket.version(&plan_name())?.ok_or_else(|| self.no_run())?;
        let crew = Crew::new(&self.work().join(&plan.run), options.workers, cancel)?;
        let bucket = Box::new(self.bucket.clone());
        let crew = crew.sharing(&self.scratch, bucket, (plan_name(), version));
        let judges = Judges::of(&plan.recipe)?;
        Job::of(plan, judges, &self.scratch, crew, options, progress, cancel)?.run()
    }
}

impl Drop for Place {
    /// A scratch folder in which nothing was worked goes with its place.
    fn drop(&mut self) {
        let mut stages = std::fs::read_dir(self.work()).into_iter().flatten().flatten();
        if !stages.any(|entry| entry.path().is_dir()) {
            let _ = std::fs::remove_dir_all(&self.scratch);
        }
    }
}

/// The name of the plan in the bucket.
fn plan_name() -> String {
    format!("{WORK}/{NAME}")
}

/// A name for a run that no other has had: a worker of an earlier one, taken for dead, may yet put
/// results of the same plan.
fn run_name() -> String {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let time = time.map_or(0, |time| time.as_nanos());
    let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), time);
    format!("{seed:0DIGITS$x}")
}

/// Whether an object is a work file: the plan, or one of a run.
fn is_work(name: &str) -> bool {
    let inside = name.strip_prefix(WORK).and_then(|rest| rest.strip_prefix('/'));
    inside.is_some_and(|rest| {
        let run = rest.split_once('/').map(|(run, _)| run);
        let is_name = |run: &str| run.len() == DIGITS && run.bytes().all(|b| b.is_ascii_hexdigit());
        rest == NAME || run.is_some_and(is_name)
    })
}

/// A folder of this process for a run: the one that an earlier process left, if none has it.
fn scratch(out: &Path, within: Option<&Path>) -> Result<(PathBuf, RunLock), Error> {
    let within = within.map_or_else(std::env::temp_dir, Path::to_owned);
    let name = checksum::xxh3_bytes(out.as_os_str().as_encoded_bytes());
    let mut number = 0;
    loop {
        let dir = within.join(format!("quipu-{name}-{number}"));
        atomic::create_dir(&dir)?;
        match RunLock::acquire(&dir) {
            Ok(lock) => return Ok((dir, lock)),
            Err(quipu_store::Error::Locked { .. }) => number += 1,
            Err(other) => return Err(other.into()),
        }
    }
}

/// [`super::run`] into a bucket.
pub(super) fn run(
    inputs: &[PathBuf],
    recipe: &Recipe,
    out: &Path,
    options: &Options,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Summary, Error> {
    let place = Place::of(out, options, cancel)?;
    place.settle()?;
    let plan = match Plan::begun(&place.work(), inputs, recipe, &place.access) {
        Some(plan) => plan,
        None => Plan::of(inputs, recipe, &place.access, progress, cancel)?,
    };
    if let Some(summary) = place.done(&plan.stage)? {
        place.clear()?;
        return Ok(summary);
    }
    let stage = plan.stage.clone();
    match place.begin(plan)? {
        Some(plan) => place.work_on(plan, options, progress, cancel),
        None => place.done(&stage)?.ok_or_else(|| place.no_run()),
    }
}

/// [`super::join`] of a run in a bucket.
pub(super) fn join(
    out: &Path,
    options: &Options,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Summary, Error> {
    let place = Place::of(out, options, cancel)?;
    // In this order: a run that ends meanwhile has a manifest before its plan goes.
    let plan = place.settle()?;
    if let Some((summary, _)) = place.finished()? {
        place.clear()?;
        return Ok(summary);
    }
    let plan = plan.ok_or_else(|| place.no_run())?;
    plan.check_here(&place.access)?;
    place.work_on(plan, options, progress, cancel)
}

/// Puts a file beside the documents of a finished run.
pub(super) fn put(out: &Path, name: &str, bytes: &[u8], options: &Options) -> Result<(), Error> {
    let access = Access::new(&options.settings, &Cancel::new());
    Bucket::new(out, &access).put(name, bytes, Over::Anything)?;
    Ok(())
}
