//! The workers of a stage: threads of this process, and of any other that joined the same run.
//!
//! A stage is a number of tasks. A task is claimed by making its lease, which names its holder; when
//! its outputs are durable a result is put beside it, and the lease goes. Who finds a lease whose
//! holder is dead (its process is gone, or on another machine its heartbeat has stopped) takes the
//! task over. There is no server: a folder that all see is enough (`folder`), or a bucket and a
//! folder each (`conditional`). Two holders of one task do no harm, since a task's outputs depend on
//! its number alone, or are named by what else they depend on, and are put into place whole, and
//! the first result stands; leases only save work. So a kill at any moment costs each worker one
//! task at most.
//!
//! Not a scheduler: tasks have no order and no needs; a stage begins when the one before is over.

mod conditional;
mod folder;

use crate::{Cancel, Cancelled, Error, Share, atomic};
use conditional::{Shared, SharedDesk};
use folder::Folder;
use serde::{Serialize, de::DeserializeOwned};
use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// How often a holder shows that it lives.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Age of a heartbeat from which a holder on another machine counts as dead.
const DEAD: Duration = Duration::from_secs(90);

/// Workers over a folder of stages.
pub struct Crew {
    dir: PathBuf,
    workers: usize,
    cancel: Cancel,
    me: Holder,
    standing: Option<Standing>,
    shared: Option<Shared>,
}

/// A file by which a run in a folder is known, as it stood when the crew was made.
struct Standing {
    path: PathBuf,
    state: Option<State>,
}

/// Inode, bytes and time of change: a file that is put into place anew has others.
type State = (u64, u64, SystemTime);

impl Standing {
    fn of(path: &Path) -> Standing {
        Standing { path: path.to_owned(), state: Standing::state(path) }
    }

    fn state(path: &Path) -> Option<State> {
        let data = fs::metadata(path).ok()?;
        Some((data.ino(), data.len(), data.modified().ok()?))
    }

    fn check(&self) -> Result<(), Error> {
        let now = Standing::state(&self.path);
        match now.is_some() && now == self.state {
            true => Ok(()),
            false => Err(Error::Ended { place: self.path.display().to_string() }),
        }
    }
}

/// Whether somebody who lives holds a task of a stage below `dir`. Who takes away the file that a
/// crew goes on by ([`Crew::while_stands`]) and finds nobody then, has the folder: who comes later
/// finds it gone.
///
/// # Errors
/// When the folder cannot be listed.
pub fn is_worked_on(dir: &Path) -> Result<bool, Error> {
    let host = host();
    any_below(dir, "lease", &|path| folder::is_alive(path, &host))
}

/// Whether a task of a stage below `dir` has its result.
///
/// # Errors
/// When the folder cannot be listed.
pub fn has_results(dir: &Path) -> Result<bool, Error> {
    any_below(dir, "done", &|_| true)
}

/// Whether a file below `dir` whose name has this end is of a kind.
fn any_below(dir: &Path, end: &str, is: &dyn Fn(&Path) -> bool) -> Result<bool, Error> {
    for entry in fs::read_dir(dir).map_err(|e| Error::io("list", dir, e))? {
        let path = entry.map_err(|e| Error::io("list", dir, e))?.path();
        let found = match path.is_dir() {
            true => any_below(&path, end, is)?,
            false => path.extension().is_some_and(|found| found == end) && is(&path),
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Who holds a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
struct Holder {
    host: String,
    pid: u32,
    /// when the process began, so that a number used again is not taken for it
    began: u64,
    /// which crew of the process
    crew: u32,
}

impl Holder {
    fn new() -> Holder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let pid = std::process::id();
        let crew = NEXT.fetch_add(1, Ordering::Relaxed);
        Holder { host: host(), pid, began: began(pid), crew }
    }

    /// Whether its process runs, if it is one of this machine.
    fn runs_on(&self, host: &str) -> Option<bool> {
        (self.host == host).then(|| began(self.pid) == self.began && self.began != 0)
    }
}

impl Crew {
    /// `workers` threads over the stages below `dir`, which is created; other processes that see the
    /// folder may work along.
    ///
    /// # Errors
    /// When the folder cannot be created.
    pub fn new(dir: &Path, workers: usize, cancel: &Cancel) -> Result<Crew, Error> {
        atomic::create_dir(dir)?;
        let (dir, cancel, me) = (dir.to_owned(), cancel.clone(), Holder::new());
        let (standing, shared) = (None, None);
        Ok(Crew { dir, workers: workers.max(1), cancel, me, standing, shared })
    }

    /// The same, which goes on while the file `plan` of the folder stands as it does now: whoever
    /// finds another there takes no task and no result any more.
    #[must_use]
    pub fn while_stands(self, plan: &Path) -> Crew {
        Crew { standing: Some(Standing::of(plan)), ..self }
    }

    /// The same, with other processes that see `share` only, each with a folder of its own: what is
    /// below `base`, a folder around that of the stages, is known there by its path from `base` on.
    /// The run goes on while there is an object `run.0` of version `run.1`.
    #[must_use]
    pub fn sharing(self, base: &Path, share: Box<dyn Share>, run: (String, String)) -> Crew {
        Crew { shared: Some(Shared::new(base, share, run)), ..self }
    }

    /// Whether other processes may see a place only, and no folder.
    #[must_use]
    pub fn is_sharing(&self) -> bool {
        self.shared.is_some()
    }

    /// Threads of this process.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// The folder of a stage, in which its tasks put what they write. The names of a task's files
    /// begin with its number in six digits.
    #[must_use]
    pub fn stage(&self, stage: &str) -> PathBuf {
        self.dir.join(stage)
    }

    /// A folder like that of a stage, of this crew alone.
    #[must_use]
    pub fn own(&self, name: &str) -> PathBuf {
        let me = serde_json::to_vec(&self.me).unwrap_or_default();
        self.dir.join(format!("{name}-{}", crate::checksum::xxh3_bytes(&me)))
    }

    /// Puts a file that a task wrote outside of its stage's folder where all workers see it.
    ///
    /// # Errors
    /// When the place that is shared does not take it, or the run is over there.
    pub fn publish(&self, path: &Path) -> Result<(), Error> {
        self.shared.as_ref().map_or(Ok(()), |shared| shared.publish(path))
    }

    /// Makes sure that files of finished tasks stand here, whoever wrote them.
    ///
    /// # Errors
    /// When the place that is shared lacks one, or the disk is full.
    pub fn bring(&self, paths: &[PathBuf]) -> Result<(), Error> {
        self.shared.as_ref().map_or(Ok(()), |shared| shared.bring(paths))
    }

    /// Runs the tasks `0..count` of `stage` that have no result yet, together with whoever else
    /// works on it, and returns the results of all, in order. `done` hears of each as it is found,
    /// and whether it was there before.
    ///
    /// # Errors
    /// The first error of a task; a request to stop; a result that does not parse.
    pub fn run<T, E>(
        &self,
        stage: &str,
        count: usize,
        task: impl Fn(usize) -> Result<T, E> + Sync,
        done: impl Fn(&T, bool) + Sync,
    ) -> Result<Vec<T>, E>
    where
        T: Serialize + DeserializeOwned + Send,
        E: From<Error> + From<Cancelled> + Send,
    {
        let dir = self.stage(stage);
        atomic::create_dir(&dir)?;
        let desk: Box<dyn Desk + '_> = match &self.shared {
            None => Box::new(Folder::new(&self.me, dir, self.standing.as_ref())),
            Some(shared) => Box::new(SharedDesk::new(&self.me, dir, shared)),
        };
        let job = Job {
            cancel: &self.cancel,
            desk: &*desk,
            results: (0..count).map(|_| Mutex::new(None)).collect(),
            next: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            error: Mutex::new(None),
        };
        let beating = AtomicBool::new(true);
        std::thread::scope(|scope| {
            let heart = scope.spawn(|| beat(&*desk, &beating));
            let worker = || {
                let _stops = OnPanic(&job.stopped);
                if let Err(error) = job.work(&task, &done) {
                    job.stopped.store(true, Ordering::Relaxed);
                    locked(&job.error).get_or_insert(error);
                }
            };
            let threads: Vec<_> =
                (0..self.workers.min(count.max(1))).map(|_| scope.spawn(worker)).collect();
            let joined: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
            beating.store(false, Ordering::Relaxed);
            heart.thread().unpark();
            for result in joined {
                result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            }
        });
        if let Some(error) = locked(&job.error).take() {
            return Err(error);
        }
        Ok(job.results.into_iter().filter_map(|r| locked(&r).take()).collect())
    }
}

/// One stage while it runs.
struct Job<'a, T, E> {
    cancel: &'a Cancel,
    desk: &'a dyn Desk,
    results: Vec<Mutex<Option<T>>>,
    next: AtomicUsize,
    stopped: AtomicBool,
    error: Mutex<Option<E>>,
}

impl<T, E> Job<'_, T, E>
where
    T: Serialize + DeserializeOwned,
    E: From<Error> + From<Cancelled>,
{
    /// What one worker does: fresh tasks while there are any, then those that others hold.
    fn work(
        &self,
        task: &impl Fn(usize) -> Result<T, E>,
        done: &impl Fn(&T, bool),
    ) -> Result<(), E> {
        let mut later = VecDeque::new();
        loop {
            self.cancel.check()?;
            let fresh = self.next.fetch_add(1, Ordering::Relaxed);
            let is_fresh = fresh < self.results.len();
            let number = if is_fresh { Some(fresh) } else { later.pop_front() };
            let Some(number) = number else { return Ok(()) };
            if self.stopped.load(Ordering::Relaxed) {
                return Ok(());
            }
            match attempt(self.desk, number, task)? {
                Some((result, before)) => {
                    done(&result, before);
                    *locked(&self.results[number]) = Some(result);
                }
                None => {
                    later.push_back(number);
                    if !is_fresh {
                        std::thread::sleep(self.desk.pause());
                    }
                }
            }
        }
    }
}

/// Stops the other workers when one panics, since its task will never be done.
struct OnPanic<'a>(&'a AtomicBool);

impl Drop for OnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A panic of a task is raised again when its thread is joined.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The leases and results of one stage.
trait Desk: Sync {
    /// The result of a task, if it is done.
    fn result(&self, number: usize) -> Result<Option<Vec<u8>>, Error>;

    /// Where that result stands, for messages.
    fn place(&self, number: usize) -> PathBuf;

    /// Takes the lease of a task; `false` where a living holder has it.
    fn claim(&self, number: usize) -> Result<bool, Error>;

    /// Puts the result of a task whose outputs are durable here, unless another holder was first:
    /// then it returns that one's, so that all go on with the same.
    fn keep(&self, number: usize, result: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// Gives a lease back.
    fn release(&self, number: usize) -> Result<(), Error>;

    /// Renews the leases that are held.
    fn renew(&self);

    /// How long a worker without a task waits before it looks for one again.
    fn pause(&self) -> Duration;
}

/// The result of a task, and whether it was there before; `None` where another has it.
fn attempt<T, E>(
    desk: &dyn Desk,
    number: usize,
    task: &impl Fn(usize) -> Result<T, E>,
) -> Result<Option<(T, bool)>, E>
where
    T: Serialize + DeserializeOwned,
    E: From<Error>,
{
    if let Some(result) = read(desk, number)? {
        return Ok(Some((result, true)));
    }
    if !desk.claim(number)? {
        return Ok(None);
    }
    // It may have been finished between the look and the claim.
    let made = match read(desk, number) {
        Ok(Some(result)) => Ok((result, true)),
        Ok(None) => make(desk, number, task).map(|result| (result, false)),
        Err(error) => Err(error.into()),
    };
    desk.release(number)?;
    made.map(Some)
}

fn make<T, E>(desk: &dyn Desk, number: usize, task: &impl Fn(usize) -> Result<T, E>) -> Result<T, E>
where
    T: Serialize + DeserializeOwned,
    E: From<Error>,
{
    let result = task(number)?;
    let malformed = |e: serde_json::Error| Error::Malformed {
        path: desk.place(number),
        reason: format!("the result of a task has no form: {e}"),
    };
    let bytes = serde_json::to_vec(&result).map_err(malformed)?;
    match desk.keep(number, &bytes)? {
        None => Ok(result),
        Some(first) => Ok(serde_json::from_slice(&first).map_err(malformed)?),
    }
}

fn read<T: DeserializeOwned>(desk: &dyn Desk, number: usize) -> Result<Option<T>, Error> {
    let Some(bytes) = desk.result(number)? else { return Ok(None) };
    let malformed = |e: serde_json::Error| Error::Malformed {
        path: desk.place(number),
        reason: format!("{e}; remove this file, and its task is done again"),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(malformed)
}

/// Renews leases until told to stop.
fn beat(desk: &dyn Desk, beating: &AtomicBool) {
    while beating.load(Ordering::Relaxed) {
        std::thread::park_timeout(HEARTBEAT);
        desk.renew();
    }
}

/// File names of a task.
fn lease_name(number: usize) -> String {
    format!("{number:06}.lease")
}

fn result_name(number: usize) -> String {
    format!("{number:06}.done")
}

/// Name of this machine.
fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    // Without these (not Linux) processes of one machine are told by their heartbeat alone.
    let own = format!("{}-{}", name.trim(), boot.trim());
    if own.len() > 1 { own } else { format!("process-{}", std::process::id()) }
}

/// When a process began, in ticks since the machine started; 0 where there is none.
fn began(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in brackets, may hold anything; after it the state is the first field.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().collect())
        .unwrap_or_default();
    if fields.first() == Some(&"Z") {
        return 0;
    }
    fields.get(19).and_then(|ticks| ticks.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::sync::atomic::AtomicU64;

    type Answer = Result<Vec<u64>, Failed>;

    fn crew(dir: &Path, workers: usize) -> Crew {
        Crew::new(dir, workers, &Cancel::new()).unwrap()
    }

    fn squares(crew: &Crew, made: &AtomicU64) -> Answer {
        let task = |n: usize| {
            made.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(2));
            Ok::<u64, Failed>((n * n) as u64)
        };
        crew.run("squares", 40, task, |_, _| ())
    }

    fn check(workers: usize) {
        let dir = tempfile::tempdir().unwrap();
        let (crew, made) = (crew(dir.path(), workers), AtomicU64::new(0));
        let expected: Vec<u64> = (0..40).map(|n| n * n).collect();
        assert_eq!(squares(&crew, &made).unwrap(), expected);
        assert_eq!(squares(&crew, &made).unwrap(), expected);
        assert_eq!(made.into_inner(), 40, "what is done is not done again");
        let left: Vec<_> = fs::read_dir(crew.stage("squares")).unwrap().flatten().collect();
        assert!(left.iter().all(|e| e.path().extension().is_some_and(|x| x == "done")));
    }

    #[test]
    fn every_task_is_done_once() {
        check(1);
        check(7);
    }

    #[test]
    fn a_run_that_was_replaced_is_not_worked_on() {
        let dir = tempfile::tempdir().unwrap();
        let plan = dir.path().join("plan.json");
        fs::write(&plan, "one").unwrap();
        let (late, made) = (crew(dir.path(), 2).while_stands(&plan), AtomicU64::new(0));
        assert!(squares(&late, &made).is_ok());
        fs::remove_file(&plan).unwrap();
        assert!(squares(&late, &made).is_err(), "results are another run's");
        atomic::write_bytes(&plan, b"one").unwrap();
        let task = |n: usize| Ok::<usize, Failed>(n);
        assert!(late.run("more", 3, task, |_, _| ()).is_err());
        assert!(fs::read_dir(late.stage("more")).unwrap().next().is_none(), "no lease stays");
        assert!(squares(&crew(dir.path(), 2).while_stands(&plan), &made).is_ok());
        assert_eq!(made.into_inner(), 40);
    }

    #[test]
    fn who_works_in_a_folder_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let crew = crew(dir.path(), 1);
        let seen = |_: usize| Ok::<_, Failed>(is_worked_on(dir.path()).unwrap());
        assert!(!has_results(dir.path()).unwrap());
        assert_eq!(crew.run("s", 1, seen, |_, _| ()).unwrap(), [true]);
        assert!(!is_worked_on(dir.path()).unwrap() && has_results(dir.path()).unwrap());
        let gone = Holder { began: 1, ..Holder::new() };
        let lease = crew.stage("s").join(lease_name(7));
        fs::write(&lease, serde_json::to_vec(&gone).unwrap()).unwrap();
        assert!(!is_worked_on(dir.path()).unwrap(), "its holder is dead");
    }

    /// What goes wrong with a task here; which of it, no test asks.
    #[derive(Debug)]
    pub(super) struct Failed;
    impl From<Error> for Failed {
        fn from(_: Error) -> Failed {
            Failed
        }
    }
    impl From<Cancelled> for Failed {
        fn from(_: Cancelled) -> Failed {
            Failed
        }
    }

    #[test]
    fn two_crews_share_a_stage() {
        let dir = tempfile::tempdir().unwrap();
        // Of one process: so each finds the other's leases alive, as those of another process.
        let (one, two) = (crew(dir.path(), 2), crew(dir.path(), 2));
        let made = AtomicU64::new(0);
        let (a, b) = std::thread::scope(|scope| {
            let first = scope.spawn(|| squares(&one, &made));
            (squares(&two, &made).unwrap(), first.join().unwrap().unwrap())
        });
        assert_eq!(a, b);
        assert_eq!(made.into_inner(), 40);
    }

    #[test]
    fn an_error_stops_and_loses_nothing_that_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let crew = crew(dir.path(), 3);
        let fails = |n: usize| if n == 20 { Err(Failed) } else { Ok(n) };
        assert!(crew.run("s", 40, fails, |_, _| ()).is_err());
        let made = AtomicU64::new(0);
        let works = |n: usize| {
            made.fetch_add(1, Ordering::Relaxed);
            Ok::<usize, Failed>(n)
        };
        assert!(crew.run("s", 40, works, |_, _| ()).is_ok_and(|all| all.len() == 40));
        assert!(made.into_inner() <= 25);
        assert!(!crew.stage("s").join("000020.lease").exists());
    }

    #[test]
    fn the_lease_of_a_dead_process_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let crew = crew(dir.path(), 1);
        let stage = crew.stage("squares");
        fs::create_dir_all(&stage).unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let dead = Holder { pid: child.id(), began: 7, ..crew.me.clone() };
        fs::write(stage.join("000003.lease"), serde_json::to_vec(&dead).unwrap()).unwrap();
        let far = Holder { host: "elsewhere".into(), pid: 1, began: 1, crew: 0 };
        let lease = stage.join("000005.lease");
        fs::write(&lease, serde_json::to_vec(&far).unwrap()).unwrap();
        let file = OpenOptions::new().write(true).open(&lease).unwrap();
        file.set_modified(SystemTime::now() - 2 * DEAD).unwrap();
        assert_eq!(squares(&crew, &AtomicU64::new(0)).unwrap().len(), 40);
    }

    #[test]
    fn a_request_to_stop_ends_the_wait_for_others() {
        let dir = tempfile::tempdir().unwrap();
        let cancel = Cancel::new();
        let crew = Crew::new(dir.path(), 1, &cancel).unwrap();
        let stage = crew.stage("squares");
        fs::create_dir_all(&stage).unwrap();
        let far = Holder { host: "elsewhere".into(), pid: 1, began: 1, crew: 0 };
        fs::write(stage.join("000005.lease"), serde_json::to_vec(&far).unwrap()).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(400));
                cancel.request();
            });
            let answer = crew.run("squares", 9, Ok::<_, Failed>, |_, _| ());
            assert!(answer.is_err());
        });
    }

    #[test]
    fn a_panic_reaches_the_caller() {
        let dir = tempfile::tempdir().unwrap();
        let crew = crew(dir.path(), 2);
        let bad = |n: usize| if n == 4 { panic!("task {n}") } else { Ok::<_, Failed>(n) };
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = crew.run("s", 9, bad, |_, _| ());
        }));
        assert!(caught.is_err());
    }
}
