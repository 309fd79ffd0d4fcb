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

/// Writes the checkpoint of `step` with `fill`, which gets an empty folder, then removes all but
/// the newest `keep`. Returns its path; nothing is left under a final name if `fill` fails.
///
/// # Errors
/// Those of `fill`; [`Error::Io`].
pub fn write(
    dir: &Path,
    step: u64,
    keep: usize,
    fill: impl FnOnce(&Path) -> Result<(), Error>,
) -> Result<PathBuf, Error> {
    let (target, temporary) = (path(dir, step), dir.join(format!("{UNFINISHED}{step:08}")));
    fs::create_dir_all(dir).map_err(Error::io(dir))?;
    if temporary.exists() {
        fs::remove_dir_all(&temporary).map_err(Error::io(&temporary))?;
    }
    fs::create_dir(&temporary).map_err(Error::io(&temporary))?;
    if let Err(error) = fill(&temporary) {
        // The error that stopped the writing is the one to tell.
        let _ = fs::remove_dir_all(&temporary);
        return Err(error);
    }
    remove(dir, step)?;
    fs::rename(&temporary, &target).map_err(Error::io(&target))?;
    fs::File::open(dir).and_then(|d| d.sync_all()).map_err(Error::io(dir))?;
    let all = steps(dir)?;
    for old in &all[..all.len().saturating_sub(keep)] {
        remove(dir, *old)?;
    }
    Ok(target)
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

    fn fill(dir: &Path) -> Result<(), Error> {
        fs::write(dir.join("x"), "x").map_err(Error::io(dir))
    }

    #[test]
    fn the_newest_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("checkpoints");
        assert!(steps(&dir).unwrap().is_empty());
        for step in [5, 10, 15, 15] {
            write(&dir, step, 2, fill).unwrap();
        }
        assert_eq!(steps(&dir).unwrap(), [10, 15]);
        assert!(path(&dir, 15).join("x").is_file());
        assert_eq!(names(&dir).unwrap().len(), 2);
    }

    #[test]
    fn a_failed_one_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        write(dir, 5, 2, fill).unwrap();
        let full = |folder: &Path| {
            fill(folder)?;
            Err(Error::Io { path: folder.into(), source: std::io::Error::other("disk full") })
        };
        assert!(write(dir, 10, 2, full).unwrap_err().to_string().contains("disk full"));
        assert_eq!(names(dir).unwrap(), ["step-00000005"]);
        fs::create_dir(dir.join(".unfinished-00000010")).unwrap();
        sweep(dir).unwrap();
        assert_eq!(names(dir).unwrap(), ["step-00000005"]);
    }
}
