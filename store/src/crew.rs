//! The workers of a stage: threads of this process, and of any other that joined the same folder.
//!
//! A stage is a number of tasks. A task is claimed by creating its lease, a file that names its
//! holder; when its outputs are durable a result is written beside it, and the lease goes. Who
//! finds a lease whose holder is dead (its process is gone, or on another machine its heartbeat is
//! old) takes the task over. There is no server: a folder that all see is enough. Two holders of
//! one task do no harm, since a task's outputs depend on its number alone and are renamed into
//! place; leases only save work. So a kill at any moment costs each worker one task at most.
//!
//! Not a scheduler: tasks have no order and no needs; a stage begins when the one before is over.

use crate::{Cancel, Cancelled, Error, atomic};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// How often a holder shows that it lives.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Age of a heartbeat from which a holder on another machine counts as dead.
const DEAD: Duration = Duration::from_secs(90);
/// How often a worker without a task looks for one.
const WAIT: Duration = Duration::from_millis(100);

/// Workers over a folder of stages.
pub struct Crew {
    dir: PathBuf,
    workers: usize,
    cancel: Cancel,
    me: Holder,
}

/// Who holds a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
struct Holder {
    host: String,
    pid: u32,
    /// when the process began, so that a number used again is not taken for it
    began: u64,
}

impl Crew {
    /// `workers` threads over the stages below `dir`, which is created.
    ///
    /// # Errors
    /// When the folder cannot be created.
    pub fn new(dir: &Path, workers: usize, cancel: &Cancel) -> Result<Crew, Error> {
        atomic::create_dir(dir)?;
        let me = Holder { host: host(), pid: std::process::id(), began: began(std::process::id()) };
        Ok(Crew { dir: dir.to_owned(), workers: workers.max(1), cancel: cancel.clone(), me })
    }

    /// Threads of this process.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// The folder of a stage, in which its tasks put what they write.
    #[must_use]
    pub fn stage(&self, stage: &str) -> PathBuf {
        self.dir.join(stage)
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
        let desk = Desk { crew: self, dir, held: Mutex::new(Vec::new()) };
        let job = Job {
            desk: &desk,
            results: (0..count).map(|_| Mutex::new(None)).collect(),
            next: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            error: Mutex::new(None),
        };
        let beating = AtomicBool::new(true);
        std::thread::scope(|scope| {
            let heart = scope.spawn(|| desk.beat(&beating));
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
    desk: &'a Desk<'a>,
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
            self.desk.crew.cancel.check()?;
            let fresh = self.next.fetch_add(1, Ordering::Relaxed);
            let is_fresh = fresh < self.results.len();
            let number = if is_fresh { Some(fresh) } else { later.pop_front() };
            let Some(number) = number else { return Ok(()) };
            if self.stopped.load(Ordering::Relaxed) {
                return Ok(());
            }
            match self.desk.attempt(number, task)? {
                Some((result, before)) => {
                    done(&result, before);
                    *locked(&self.results[number]) = Some(result);
                }
                None => {
                    later.push_back(number);
                    if !is_fresh {
                        std::thread::sleep(WAIT);
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
struct Desk<'a> {
    crew: &'a Crew,
    dir: PathBuf,
    held: Mutex<Vec<usize>>,
}

impl Desk<'_> {
    fn lease(&self, number: usize) -> PathBuf {
        self.dir.join(format!("{number:06}.lease"))
    }

    fn result(&self, number: usize) -> PathBuf {
        self.dir.join(format!("{number:06}.done"))
    }

    /// The result of a task, and whether it was there before; `None` where another has it.
    fn attempt<T, E>(
        &self,
        number: usize,
        task: &impl Fn(usize) -> Result<T, E>,
    ) -> Result<Option<(T, bool)>, E>
    where
        T: Serialize + DeserializeOwned,
        E: From<Error>,
    {
        if let Some(result) = self.read(number)? {
            return Ok(Some((result, true)));
        }
        if !self.claim(number)? {
            return Ok(None);
        }
        locked(&self.held).push(number);
        // It may have been finished between the look and the claim.
        let found = self.read(number)?;
        let made = match found {
            Some(result) => Ok((result, true)),
            None => self.make(number, task).map(|result| (result, false)),
        };
        locked(&self.held).retain(|held| *held != number);
        let lease = self.lease(number);
        if let Err(error) = fs::remove_file(&lease)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(Error::io("remove", &lease, error).into());
        }
        made.map(Some)
    }

    fn make<T, E>(&self, number: usize, task: &impl Fn(usize) -> Result<T, E>) -> Result<T, E>
    where
        T: Serialize,
        E: From<Error>,
    {
        let result = task(number)?;
        let path = self.result(number);
        let malformed = |e: serde_json::Error| Error::Malformed {
            path: path.clone(),
            reason: format!("the result of a task has no form: {e}"),
        };
        let bytes = serde_json::to_vec(&result).map_err(malformed)?;
        atomic::write_bytes(&path, &bytes)?;
        Ok(result)
    }

    fn read<T: DeserializeOwned>(&self, number: usize) -> Result<Option<T>, Error> {
        let path = self.result(number);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("read", &path, e)),
        };
        let malformed = |e: serde_json::Error| Error::Malformed {
            path: path.clone(),
            reason: format!("{e}; remove this file, and its task is done again"),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(malformed)
    }

    /// Takes the lease of a task; `false` where a living holder has it.
    fn claim(&self, number: usize) -> Result<bool, Error> {
        let path = self.lease(number);
        for _ in 0..2 {
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(mut file) => {
                    let holder = serde_json::to_vec(&self.crew.me).unwrap_or_default();
                    let written = file.write_all(&holder);
                    if written.is_err() {
                        let _ = fs::remove_file(&path);
                    }
                    return written.map(|()| true).map_err(|e| Error::io("write", &path, e));
                }
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::io("create", &path, e)),
            }
            if locked(&self.held).contains(&number) || self.is_alive(&path) {
                return Ok(false);
            }
            match fs::remove_file(&path) {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io("remove", &path, e)),
            }
        }
        Ok(false)
    }

    /// Whether the holder of a lease lives. One that cannot be read yet is young.
    fn is_alive(&self, lease: &Path) -> bool {
        let age = || {
            let changed = fs::metadata(lease).and_then(|data| data.modified()).ok()?;
            SystemTime::now().duration_since(changed).ok()
        };
        let holder = fs::read(lease).ok().and_then(|b| serde_json::from_slice::<Holder>(&b).ok());
        match holder {
            Some(holder) if holder.host == self.crew.me.host => {
                began(holder.pid) == holder.began && holder.began != 0
            }
            _ => age().is_none_or(|age| age < DEAD),
        }
    }

    /// Renews the leases that this process holds until told to stop.
    fn beat(&self, beating: &AtomicBool) {
        while beating.load(Ordering::Relaxed) {
            std::thread::park_timeout(HEARTBEAT);
            for number in locked(&self.held).iter() {
                // A lease that somebody took over is no longer ours to renew.
                if let Ok(file) = OpenOptions::new().write(true).open(self.lease(*number)) {
                    let _ = file.set_modified(SystemTime::now());
                }
            }
        }
    }
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

    #[derive(Debug)]
    struct Failed;
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
        let far = Holder { host: "elsewhere".into(), pid: 1, began: 1 };
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
        let far = Holder { host: "elsewhere".into(), pid: 1, began: 1 };
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
