//! Leases, results and files in a place that is no folder, by conditional writes.
//!
//! A lease is put where there is none; its holder puts it anew at every heartbeat, with another
//! number in it, over the version that it put last. Clocks of machines are not compared: a lease
//! that an onlooker has seen unchanged for long enough, by its own clock, is a dead holder's, and is
//! put over that very version, so that one of several onlookers gets it. Each worker has a folder of
//! its own. A task's files are put before its result; whoever reads them fetches them once.

use super::folder::contents;
use super::{DEAD, Desk, Holder, lease_name, locked, result_name};
use crate::share::Over;
use crate::{Error, Share, atomic};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How often a worker without a task looks for one: every look is a request or three.
const WAIT: Duration = Duration::from_secs(1);
/// Files that are fetched at a time.
const TOGETHER: usize = 16;

/// What a crew shares.
pub(super) struct Shared {
    base: PathBuf,
    share: Box<dyn Share>,
    /// The object by which the run is known, and its version.
    run: (String, String),
}

impl Shared {
    pub(super) fn new(base: &Path, share: Box<dyn Share>, run: (String, String)) -> Shared {
        Shared { base: base.to_owned(), share, run }
    }

    /// Whoever comes late to a run that is over must not begin it again, nor write into its results.
    fn check(&self) -> Result<(), Error> {
        let (name, version) = &self.run;
        match self.share.version(name)?.as_ref() == Some(version) {
            true => Ok(()),
            false => Err(Error::Ended { place: name.clone() }),
        }
    }

    /// The name of a file where it is shared.
    fn name(&self, path: &Path) -> String {
        let inside = path.strip_prefix(&self.base).unwrap_or(path);
        let parts: Vec<_> = inside.iter().map(|part| part.to_string_lossy()).collect();
        parts.join("/")
    }

    pub(super) fn publish(&self, path: &Path) -> Result<(), Error> {
        self.check()?;
        self.share.upload(&self.name(path), path)
    }

    /// Fetches the files that are not here, several at a time; the first error stops the rest.
    pub(super) fn bring(&self, paths: &[PathBuf]) -> Result<(), Error> {
        let missing: Vec<&PathBuf> = paths.iter().filter(|path| !path.exists()).collect();
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let work = || {
            while let Some(path) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                if failed.load(Ordering::Relaxed) {
                    break;
                }
                let brought = self.fetch(path);
                failed.fetch_or(brought.is_err(), Ordering::Relaxed);
                brought?;
            }
            Ok(())
        };
        if missing.len() < 2 {
            return work();
        }
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..TOGETHER.min(missing.len())).map(|_| scope.spawn(work)).collect();
            let ended = threads.into_iter().map(|thread| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            ended.collect::<Vec<_>>().into_iter().collect()
        })
    }

    fn fetch(&self, path: &Path) -> Result<(), Error> {
        if let Some(parent) = path.parent() {
            atomic::create_dir(parent)?;
        }
        self.share.download(&self.name(path), path)
    }
}

/// A lease as it is shared.
#[derive(Serialize, Deserialize)]
struct Lease {
    holder: Holder,
    /// counts heartbeats, so that each is another version
    beat: u64,
}

/// Who holds a lease; `None` where it does not parse.
fn holder_of(lease: &[u8]) -> Option<Holder> {
    serde_json::from_slice::<Lease>(lease).ok().map(|lease| lease.holder)
}

/// A lease that is held.
#[derive(Clone, Default, PartialEq, Eq)]
struct Held {
    version: String,
    beat: u64,
}

pub(super) struct SharedDesk<'a> {
    me: &'a Holder,
    dir: PathBuf,
    shared: &'a Shared,
    held: Mutex<HashMap<usize, Held>>,
    /// Leases of others: the version, and since when it has been seen.
    seen: Mutex<HashMap<usize, (String, Instant)>>,
    /// How long a lease must have been seen unchanged to count as a dead holder's.
    dead: Duration,
}

impl<'a> SharedDesk<'a> {
    pub(super) fn new(me: &'a Holder, dir: PathBuf, shared: &'a Shared) -> SharedDesk<'a> {
        SharedDesk { me, dir, shared, held: Mutex::default(), seen: Mutex::default(), dead: DEAD }
    }

    /// Where the result of a task stands in the worker's own folder.
    fn here(&self, number: usize) -> PathBuf {
        self.dir.join(result_name(number))
    }

    fn lease(&self, number: usize) -> String {
        self.shared.name(&self.dir.join(lease_name(number)))
    }

    fn bytes(&self, beat: u64) -> Vec<u8> {
        serde_json::to_vec(&Lease { holder: self.me.clone(), beat }).unwrap_or_default()
    }

    /// Puts this crew's lease over what may be there.
    fn try_claim(&self, number: usize) -> Result<Option<String>, Error> {
        let (name, share) = (self.lease(number), &self.shared.share);
        if let Some(version) = share.put(&name, &self.bytes(0), Over::Nothing)? {
            return Ok(Some(version));
        }
        let Some((bytes, version)) = share.get(&name)? else { return Ok(None) };
        let is_dead = match holder_of(&bytes) {
            // Put by this crew, which did not hear of it: the answer was lost.
            Some(holder) if holder == *self.me => true,
            Some(holder) => {
                let runs = holder.runs_on(&self.me.host);
                runs.map_or_else(|| self.is_old(number, &version), |runs| !runs)
            }
            None => self.is_old(number, &version),
        };
        match is_dead {
            true => share.put(&name, &self.bytes(0), Over::Only(&version)),
            false => Ok(None),
        }
    }

    /// The version that was put; where none was, the one that stands there if this crew put it and
    /// the answer was lost.
    fn own(&self, put: Option<String>, number: usize) -> Result<Option<String>, Error> {
        if put.is_some() {
            return Ok(put);
        }
        let Some((bytes, version)) = self.shared.share.get(&self.lease(number))? else {
            return Ok(None);
        };
        Ok(holder_of(&bytes).filter(|holder| holder == self.me).map(|_| version))
    }

    /// Whether a lease has been unchanged for long.
    fn is_old(&self, number: usize, version: &str) -> bool {
        let mut seen = locked(&self.seen);
        match seen.get(&number) {
            Some((known, since)) if known == version => since.elapsed() >= self.dead,
            _ => {
                seen.insert(number, (version.to_owned(), Instant::now()));
                false
            }
        }
    }

    /// The files of a task: those in the stage's folder that begin with its number.
    fn files(&self, number: usize) -> Result<Vec<PathBuf>, Error> {
        let (begin, result) = (format!("{number:06}"), result_name(number));
        let entries = fs::read_dir(&self.dir).map_err(|e| Error::io("list", &self.dir, e))?;
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| Error::io("list", &self.dir, e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let behind = name.strip_prefix(&begin);
            let own = behind.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()));
            if own && name != result {
                files.push(entry.path());
            }
        }
        files.sort();
        Ok(files)
    }
}

impl Desk for SharedDesk<'_> {
    fn result(&self, number: usize) -> Result<Option<Vec<u8>>, Error> {
        let here = self.here(number);
        if let Some(bytes) = contents(&here)? {
            return Ok(Some(bytes));
        }
        let found = self.shared.share.get(&self.shared.name(&here))?;
        let Some((bytes, _)) = found else { return Ok(None) };
        // So that a process that goes on after a kill need not ask for all of them again. What is
        // damaged there is not kept here: it may be removed there.
        if serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_ok() {
            atomic::write_bytes(&here, &bytes)?;
        }
        Ok(Some(bytes))
    }

    fn place(&self, number: usize) -> PathBuf {
        self.shared.share.place(&self.shared.name(&self.here(number)))
    }

    fn claim(&self, number: usize) -> Result<bool, Error> {
        let Some(version) = self.try_claim(number)? else { return Ok(false) };
        locked(&self.held).insert(number, Held { version, beat: 0 });
        if let Err(ended) = self.shared.check() {
            self.release(number)?;
            return Err(ended);
        }
        Ok(true)
    }

    fn keep(&self, number: usize, result: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let (share, here) = (&self.shared.share, self.here(number));
        for path in self.files(number)? {
            share.upload(&self.shared.name(&path), &path)?;
        }
        if share.put(&self.shared.name(&here), result, Over::Nothing)?.is_some() {
            atomic::write_bytes(&here, result)?;
            return Ok(None);
        }
        // Another's, or this one after an answer that was lost.
        self.result(number)
    }

    fn release(&self, number: usize) -> Result<(), Error> {
        // One that was taken over meanwhile is another's.
        match locked(&self.held).remove(&number) {
            Some(_) => self.shared.share.remove(&self.lease(number)),
            None => Ok(()),
        }
    }

    fn renew(&self) {
        let held = locked(&self.held).clone();
        for (number, old) in held {
            let beat = old.beat + 1;
            let put = self.shared.share.put(
                &self.lease(number),
                &self.bytes(beat),
                Over::Only(&old.version),
            );
            // A place that does not answer may answer at the next heartbeat.
            let Ok(put) = put.and_then(|put| self.own(put, number)) else { continue };
            let mut held = locked(&self.held);
            if held.get(&number) == Some(&old) {
                match put {
                    Some(version) => held.insert(number, Held { version, beat }),
                    None => held.remove(&number),
                };
            }
        }
    }

    fn pause(&self) -> Duration {
        WAIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cancel;
    use crate::crew::Crew;
    use crate::crew::tests::Failed;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    /// Objects and their versions, which are numbers.
    type Objects = HashMap<String, (Vec<u8>, u64)>;

    /// A place in memory.
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Objects>>);

    impl Share for Memory {
        fn place(&self, name: &str) -> PathBuf {
            Path::new("memory:").join(name)
        }

        fn get(&self, name: &str) -> Result<Option<(Vec<u8>, String)>, Error> {
            let found = locked(&self.0).get(name).cloned();
            Ok(found.map(|(bytes, version)| (bytes, version.to_string())))
        }

        fn put(&self, name: &str, bytes: &[u8], over: Over) -> Result<Option<String>, Error> {
            static NEXT: AtomicU64 = AtomicU64::new(1);
            let mut objects = locked(&self.0);
            let there = objects.get(name).map(|(_, version)| version.to_string());
            let may = match over {
                Over::Anything => true,
                Over::Nothing => there.is_none(),
                Over::Only(version) => there.as_deref() == Some(version),
            };
            if !may {
                return Ok(None);
            }
            let version = NEXT.fetch_add(1, Ordering::Relaxed);
            objects.insert(name.to_owned(), (bytes.to_vec(), version));
            Ok(Some(version.to_string()))
        }

        fn version(&self, name: &str) -> Result<Option<String>, Error> {
            Ok(self.get(name)?.map(|(_, version)| version))
        }

        fn upload(&self, name: &str, from: &Path) -> Result<(), Error> {
            let bytes = fs::read(from).map_err(|e| Error::io("read", from, e))?;
            self.put(name, &bytes, Over::Anything).map(|_| ())
        }

        fn download(&self, name: &str, to: &Path) -> Result<(), Error> {
            let missing = || Error::io("read", to, std::io::ErrorKind::NotFound.into());
            let (bytes, _) = self.get(name)?.ok_or_else(missing)?;
            atomic::write_bytes(to, &bytes)
        }

        fn remove(&self, name: &str) -> Result<(), Error> {
            locked(&self.0).remove(name);
            Ok(())
        }
    }

    fn crew(base: &Path, memory: &Memory) -> Crew {
        let crew = Crew::new(&base.join("work"), 2, &Cancel::new()).unwrap();
        let version = memory.version("plan").unwrap().unwrap();
        crew.sharing(base, Box::new(memory.clone()), ("plan".into(), version))
    }

    /// A place with a run that goes on.
    fn begun() -> Memory {
        let memory = Memory::default();
        memory.put("plan", b"", Over::Nothing).unwrap();
        memory
    }

    /// What a crew shares of it.
    fn shared(dir: &Path, memory: &Memory) -> Shared {
        let version = memory.version("plan").unwrap().unwrap();
        Shared::new(dir, Box::new(memory.clone()), ("plan".into(), version))
    }

    #[test]
    fn who_comes_when_the_run_is_over_does_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (memory, made) = (begun(), AtomicU64::new(0));
        let crew = crew(dir.path(), &memory);
        for over in [true, false] {
            // Over, or another in its place.
            memory.remove("plan").unwrap();
            if !over {
                memory.put("plan", b"", Over::Nothing).unwrap();
            }
            let task = |_: usize| Ok::<_, Failed>(made.fetch_add(1, Ordering::Relaxed));
            assert!(crew.run("s", 3, task, |_, _| ()).is_err());
            fs::write(dir.path().join("out"), "x").unwrap();
            assert!(crew.publish(&dir.path().join("out")).is_err());
        }
        assert_eq!(made.into_inner(), 0);
        assert_eq!(locked(&memory.0).keys().collect::<Vec<_>>(), ["plan"]);
    }

    #[test]
    fn the_first_of_two_results_stands() {
        let dir = tempfile::tempdir().unwrap();
        let memory = begun();
        let shared = shared(dir.path(), &memory);
        let me = Holder::new();
        let [one, two] = ["one", "two"].map(|name| {
            fs::create_dir_all(dir.path().join(name)).unwrap();
            SharedDesk::new(&me, dir.path().join(name), &shared)
        });
        // Two folders of one name where they are shared, as of two machines.
        let two = SharedDesk { dir: one.dir.clone(), ..two };
        assert_eq!(one.keep(5, b"first").unwrap(), None);
        fs::remove_file(one.here(5)).unwrap();
        assert_eq!(two.keep(5, b"second").unwrap(), Some(b"first".to_vec()));
        assert_eq!(one.result(5).unwrap(), Some(b"first".to_vec()));
    }

    #[test]
    fn a_damaged_result_is_named_where_it_can_be_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (memory, me) = (begun(), Holder::new());
        let shared = shared(dir.path(), &memory);
        let desk = SharedDesk::new(&me, dir.path().to_owned(), &shared);
        memory.put("000003.done", b"{cut", Over::Nothing).unwrap();
        let said = crate::crew::read::<u64>(&desk, 3).unwrap_err().to_string();
        assert!(said.contains("memory:/000003.done"), "{said}");
        memory.remove("000003.done").unwrap();
        assert!(desk.result(3).unwrap().is_none(), "what was damaged was not kept");
    }

    /// Each task writes a file into its stage and one beside the stages.
    fn squares(base: &Path, crew: &Crew, made: &AtomicU64) -> Vec<u64> {
        let task = |n: usize| {
            made.fetch_add(1, Ordering::Relaxed);
            let (inner, outer) = (format!("{n:06}.square"), format!("out-{n:02}"));
            let inner = crew.stage("squares").join(inner);
            atomic::write_bytes(&inner, format!("{}", n * n).as_bytes())?;
            atomic::write_bytes(&base.join(&outer), b"x")?;
            crew.publish(&base.join(&outer))?;
            std::thread::sleep(Duration::from_millis(2));
            Ok::<_, Failed>((n * n) as u64)
        };
        crew.run("squares", 30, task, |_, _| ()).unwrap()
    }

    #[test]
    fn crews_without_a_common_folder_share_a_stage() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (memory, made) = (begun(), AtomicU64::new(0));
        let crews =
            [(one.path(), crew(one.path(), &memory)), (two.path(), crew(two.path(), &memory))];
        let expected: Vec<u64> = (0..30).map(|n| n * n).collect();
        std::thread::scope(|scope| {
            for (base, crew) in &crews {
                scope.spawn(|| assert_eq!(squares(base, crew, &made), expected));
            }
        });
        assert_eq!(made.load(Ordering::Relaxed), 30, "each task is done once");
        let names = locked(&memory.0).keys().cloned().collect::<Vec<_>>();
        assert!(names.iter().all(|name| !name.ends_with(".lease")), "{names:?}");
        for (base, crew) in &crews {
            let path = |n: usize| crew.stage("squares").join(format!("{n:06}.square"));
            let paths: Vec<PathBuf> = (0..30).map(path).collect();
            crew.bring(&paths).unwrap();
            for (n, path) in paths.iter().enumerate() {
                assert_eq!(fs::read_to_string(path).unwrap(), (n * n).to_string());
            }
            crew.bring(&[base.join("out-07"), base.join("out-08")]).unwrap();
            assert!(base.join("out-07").exists() && base.join("out-08").exists());
            assert!(crew.bring(&[base.join("out-77")]).is_err());
        }
        // A third that comes late finds all of it done.
        let three = tempfile::tempdir().unwrap();
        assert_eq!(squares(three.path(), &crew(three.path(), &memory), &made), expected);
        assert_eq!(made.load(Ordering::Relaxed), 30);
    }

    #[test]
    fn a_lease_passes_on_when_its_holder_is_silent() {
        let dir = tempfile::tempdir().unwrap();
        let memory = begun();
        let shared = shared(dir.path(), &memory);
        let on = |host: &str| Holder { host: host.into(), pid: 1, began: 1, crew: 0 };
        let (one, two, near) = (on("one"), on("two"), on("near"));
        let desk = |me| {
            let desk = SharedDesk::new(me, dir.path().join("s"), &shared);
            SharedDesk { dead: Duration::from_millis(80), ..desk }
        };
        let (one, two, near) = (desk(&one), desk(&two), desk(&near));
        assert!(one.claim(4).unwrap());
        assert!(one.claim(4).unwrap(), "its own, as after an answer that was lost");
        assert!(!near.claim(4).unwrap());
        for _ in 0..4 {
            std::thread::sleep(Duration::from_millis(40));
            one.renew();
            assert!(!near.claim(4).unwrap(), "its holder lives");
        }
        std::thread::sleep(Duration::from_millis(100));
        // `two` sees it for the first time.
        assert!(!two.claim(4).unwrap() && near.claim(4).unwrap());
        one.renew();
        one.release(4).unwrap();
        assert!(!two.claim(4).unwrap(), "the first holder gave nothing back that was not its own");
        near.release(4).unwrap();
        assert!(two.claim(4).unwrap());
    }

    #[test]
    fn a_process_of_this_machine_that_is_gone_is_seen_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let shared = shared(dir.path(), &begun());
        let me = Holder::new();
        let gone = Holder { began: me.began + 1, ..Holder::new() };
        let [me, gone] =
            [&me, &gone].map(|holder| SharedDesk::new(holder, dir.path().join("s"), &shared));
        assert!(gone.claim(1).unwrap() && me.claim(1).unwrap());
    }

    #[test]
    fn files_of_a_task_are_told_by_its_number() {
        let dir = tempfile::tempdir().unwrap();
        let shared = shared(dir.path(), &begun());
        let me = Holder::new();
        let desk = SharedDesk::new(&me, dir.path().to_owned(), &shared);
        for name in ["000012.run", "000012-0.run", "0000123.run", "000012.done", ".000012.tmp-1-2"]
        {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        let names: Vec<PathBuf> = desk.files(12).unwrap();
        assert_eq!(names, ["000012-0.run", "000012.run"].map(|name| dir.path().join(name)));
    }
}
