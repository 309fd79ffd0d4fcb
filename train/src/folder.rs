//! The folder of a run's checkpoints: names, the newest, how many are kept. A checkpoint is
//! written under a temporary name and renamed when it is whole, so that a folder with a final name
//! always is. What stands inside is the model's format.

use crate::Error;
use std::fs;
use std::path::{Path, PathBuf};

const PREFIX: &str = "step-";
/// Prefix of folders being written or removed.
const UNFINISHED: &str = ".unfinished-";

/// Path of the checkpoint after `step` steps.
#[must_use]
pub fn path(dir: &Path, step: u64) -> PathBuf {
    dir.join(format!("{PREFIX}{step:08}"))
}

/// Steps of the checkpoints in `dir`, ascending. A missing folder has none.
///
/// # Errors
/// [`Error::Io`].
pub fn steps(dir: &Path) -> Result<Vec<u64>, Error> {
    let mut steps = Vec::new();
    for name in names(dir)? {
        steps.extend(name.strip_prefix(PREFIX).and_then(|n| n.parse::<u64>().ok()));
    }
    steps.sort_unstable();
    Ok(steps)
}

fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io(dir)(e)),
    };
    let name = |entry: std::io::Result<fs::DirEntry>| {
        entry.map(|e| e.file_name().to_string_lossy().into_owned()).map_err(Error::io(dir))
    };
    entries.map(name).collect()
}

/// Removes what a killed process left unfinished.
///
/// # Errors
/// [`Error::Io`].
pub fn sweep(dir: &Path) -> Result<(), Error> {
    for name in names(dir)?.iter().filter(|name| name.starts_with(UNFINISHED)) {
        let path = dir.join(name);
        fs::remove_dir_all(&path).map_err(Error::io(path))?;
    }
    Ok(())
}

/// An empty folder to write the checkpoint of `step` in, under a temporary name.
///
/// # Errors
/// [`Error::Io`].
pub fn begin(dir: &Path, step: u64) -> Result<PathBuf, Error> {
    let temporary = temporary(dir, step);
    fs::create_dir_all(dir).map_err(Error::io(dir))?;
    if temporary.exists() {
        fs::remove_dir_all(&temporary).map_err(Error::io(&temporary))?;
    }
    fs::create_dir(&temporary).map_err(Error::io(&temporary))?;
    Ok(temporary)
}

/// Where [`begin`] lets the checkpoint of `step` be written.
#[must_use]
pub fn temporary(dir: &Path, step: u64) -> PathBuf {
    dir.join(format!("{UNFINISHED}{step:08}"))
}

/// Gives what was written since [`begin`] its final name, then removes all but the newest `keep`
/// and those that are `needed`. Returns its path.
///
/// # Errors
/// [`Error::Io`].
pub fn commit(
    dir: &Path,
    step: u64,
    keep: usize,
    needed: &dyn Fn(u64) -> bool,
) -> Result<PathBuf, Error> {
    let target = path(dir, step);
    remove(dir, step)?;
    fs::rename(temporary(dir, step), &target).map_err(Error::io(&target))?;
    fs::File::open(dir).and_then(|d| d.sync_all()).map_err(Error::io(dir))?;
    let all = steps(dir)?;
    let old = &all[..all.len().saturating_sub(keep)];
    old.iter().filter(|old| !needed(**old)).try_for_each(|old| remove(dir, *old))?;
    Ok(target)
}

/// Removes the checkpoints after `step`: of a run that goes back, they are of what is undone.
///
/// # Errors
/// [`Error::Io`].
pub fn remove_after(dir: &Path, step: u64) -> Result<(), Error> {
    steps(dir)?.into_iter().filter(|later| *later > step).try_for_each(|later| remove(dir, later))
}

/// Removes a checkpoint: first its final name goes, so that half of one never stands under it.
fn remove(dir: &Path, step: u64) -> Result<(), Error> {
    let path = path(dir, step);
    if !path.exists() {
        return Ok(());
    }
    let away = dir.join(format!("{UNFINISHED}{step:08}-old"));
    fs::rename(&path, &away).map_err(Error::io(&path))?;
    fs::remove_dir_all(&away).map_err(Error::io(&away))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, step: u64) {
        let folder = begin(dir, step).unwrap();
        fs::write(folder.join("x"), "x").unwrap();
        commit(dir, step, 2, &|old| old == 20).unwrap();
    }

    #[test]
    fn the_newest_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("checkpoints");
        assert!(steps(&dir).unwrap().is_empty());
        for step in [5, 10, 15, 15] {
            write(&dir, step);
        }
        assert_eq!(steps(&dir).unwrap(), [10, 15]);
        assert!(path(&dir, 15).join("x").is_file());
        assert_eq!(names(&dir).unwrap().len(), 2);
        for step in [20, 25, 30, 35] {
            write(&dir, step);
        }
        assert_eq!(steps(&dir).unwrap(), [20, 30, 35]);
        remove_after(&dir, 20).unwrap();
        assert_eq!(steps(&dir).unwrap(), [20]);
    }

    #[test]
    fn an_unfinished_one_has_no_final_name() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        write(dir, 5);
        fs::write(begin(dir, 10).unwrap().join("x"), "half").unwrap();
        assert_eq!(steps(dir).unwrap(), [5]);
        sweep(dir).unwrap();
        assert_eq!(names(dir).unwrap(), ["step-00000005"]);
    }
}
