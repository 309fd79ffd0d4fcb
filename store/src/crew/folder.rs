//! Leases and results as files of a folder that all workers see: on one machine, or by a shared
//! file system. A lease is created where there is none; its time of change is the heartbeat.

use super::{DEAD, Desk, Holder, Standing, lease_name, locked, result_name};
use crate::{Error, atomic};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

/// How often a worker without a task looks for one.
const WAIT: Duration = Duration::from_millis(100);

pub(super) struct Folder<'a> {
    me: &'a Holder,
    dir: PathBuf,
    standing: Option<&'a Standing>,
    held: Mutex<Vec<usize>>,
}

impl<'a> Folder<'a> {
    pub(super) fn new(me: &'a Holder, dir: PathBuf, standing: Option<&'a Standing>) -> Folder<'a> {
        Folder { me, dir, standing, held: Mutex::default() }
    }

    /// Whoever comes late to a run that is over must neither go on with what is there nor write.
    fn check(&self) -> Result<(), Error> {
        self.standing.map_or(Ok(()), Standing::check)
    }

    fn lease(&self, number: usize) -> PathBuf {
        self.dir.join(lease_name(number))
    }
}

/// Whether the holder of a lease lives, seen from this machine. One that cannot be read yet is young.
pub(super) fn is_alive(lease: &Path, host: &str) -> bool {
    let age = || {
        let changed = fs::metadata(lease).and_then(|data| data.modified()).ok()?;
        SystemTime::now().duration_since(changed).ok()
    };
    let holder = fs::read(lease).ok().and_then(|b| serde_json::from_slice::<Holder>(&b).ok());
    let known = holder.and_then(|holder| holder.runs_on(host));
    known.unwrap_or_else(|| age().is_none_or(|age| age < DEAD))
}

/// Removes a file that may be gone already.
fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path, e)),
        _ => Ok(()),
    }
}

/// What a file holds, if it is there.
pub(super) fn contents(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", path, e)),
    }
}

impl Desk for Folder<'_> {
    fn result(&self, number: usize) -> Result<Option<Vec<u8>>, Error> {
        let found = contents(&self.place(number))?;
        if found.is_some() {
            self.check()?;
        }
        Ok(found)
    }

    fn place(&self, number: usize) -> PathBuf {
        self.dir.join(result_name(number))
    }

    fn claim(&self, number: usize) -> Result<bool, Error> {
        let path = self.lease(number);
        for _ in 0..2 {
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(mut file) => {
                    let holder = serde_json::to_vec(self.me).unwrap_or_default();
                    if let Err(e) = file.write_all(&holder) {
                        let _ = fs::remove_file(&path);
                        return Err(Error::io("write", &path, e));
                    }
                    locked(&self.held).push(number);
                    // Behind the lease: who replaces the run looks for leases after its plan is gone.
                    if let Err(ended) = self.check() {
                        self.release(number)?;
                        return Err(ended);
                    }
                    return Ok(true);
                }
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::io("create", &path, e)),
            }
            if locked(&self.held).contains(&number) || is_alive(&path, &self.me.host) {
                return Ok(false);
            }
            remove(&path)?;
        }
        Ok(false)
    }

    fn keep(&self, number: usize, result: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let place = self.place(number);
        if atomic::write_new(&place, result)? { Ok(None) } else { contents(&place) }
    }

    fn release(&self, number: usize) -> Result<(), Error> {
        locked(&self.held).retain(|held| *held != number);
        remove(&self.lease(number))
    }

    fn renew(&self) {
        for number in locked(&self.held).iter() {
            // A lease that somebody took over is no longer ours to renew.
            if let Ok(file) = OpenOptions::new().write(true).open(self.lease(*number)) {
                let _ = file.set_modified(SystemTime::now());
            }
        }
    }

    fn pause(&self) -> Duration {
        WAIT
    }
}
