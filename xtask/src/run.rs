//! Running other programs: where the workspace is, what a command said, flags with values. Not a
//! shell: every command is a program with arguments.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What went wrong, as a sentence.
pub type Error = Box<dyn std::error::Error>;

/// The root of the workspace: as cargo says it when it runs this, since a build folder that several
/// clones share may hold a program that another of them built.
pub fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR");
    let here = here.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    here.parent().unwrap_or(&here).to_path_buf()
}

/// Data that tests may read but that is no part of the project; `None` where it is absent.
pub fn shared(root: &Path) -> Option<PathBuf> {
    let named = std::env::var_os("QUIPU_SHARED").map(PathBuf::from);
    let dir = named.unwrap_or_else(|| root.join("../shared"));
    dir.is_dir().then_some(dir)
}

/// The value after `name`, if the flag is there.
///
/// # Errors
/// When the flag has no value.
pub fn value<'a>(flags: &[&'a str], name: &str) -> Result<Option<&'a str>, Error> {
    match flags.iter().position(|f| *f == name) {
        None => Ok(None),
        Some(i) => match flags.get(i + 1) {
            Some(v) => Ok(Some(v)),
            None => Err(format!("{name} wants a value").into()),
        },
    }
}

/// Refuses flags that are neither in `switches` nor, with a value after them, in `valued`.
///
/// # Errors
/// Names the first unknown flag.
pub fn known(flags: &[&str], switches: &[&str], valued: &[&str]) -> Result<(), Error> {
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        if valued.contains(flag) {
            flags.next();
        } else if !switches.contains(flag) {
            return Err(format!("unknown flag {flag:?}; see cargo xtask help").into());
        }
    }
    Ok(())
}

/// `cargo` in the workspace, as if it were called from a shell. What cargo says to this program of its
/// package is taken away: build scripts of dependencies look at the same variables (that of `ring`
/// does), so that every clone, and every `cargo build` in turn with `cargo xtask test`, would build
/// them and all that depends on them again.
pub fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    let of_package = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "OUT_DIR"];
    for (name, _) in std::env::vars_os() {
        if of_package.iter().any(|start| name.to_string_lossy().starts_with(start)) {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command and returns its standard output, or its errors as an error.
///
/// # Errors
/// When it cannot be started or ends with another status than 0.
pub fn output(command: &mut Command) -> Result<String, Error> {
    let name = command.get_program().to_string_lossy().into_owned();
    let out = command.output().map_err(|e| format!("cannot start {name}: {e}"))?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&out.stderr);
    let last: Vec<&str> = said.lines().rev().take(12).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    Err(format!("{name} ended with {}:\n{}", out.status, last.join("\n")).into())
}

/// Runs a command with both outputs joined, handing each line to `line` as it comes.
///
/// # Errors
/// When it cannot be started.
pub fn lines(command: &mut Command, mut line: impl FnMut(&str)) -> Result<bool, Error> {
    let (reader, writer) = std::io::pipe()?;
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdout(Stdio::from(writer.try_clone()?)).stderr(Stdio::from(writer));
    let mut child = command.spawn().map_err(|e| format!("cannot start {name}: {e}"))?;
    // The command still holds the writing end of the pipe, which would never close.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    for text in BufReader::new(reader).split(b'\n') {
        line(String::from_utf8_lossy(&text?).trim_end_matches('\r'));
    }
    Ok(child.wait()?.success())
}

/// Builds the program as a user does and returns its path.
///
/// # Errors
/// When it does not build.
pub fn build_quipu(root: &Path) -> Result<PathBuf, Error> {
    build(root, &["--package", "quipu"], "quipu")
}

/// Builds `what` optimised and returns the path of its executable called `name`.
///
/// # Errors
/// When it does not build, or has no such executable.
pub fn build(root: &Path, what: &[&str], name: &str) -> Result<PathBuf, Error> {
    let mut command = cargo(root);
    command.args(["build", "--release", "--locked"]).args(what);
    command.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    let said = output(&mut command)?;
    let is_it = |m: &serde_json::Value| m["target"]["name"] == name;
    said.lines()
        .filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok())
        .filter(is_it)
        .find_map(|m| m["executable"].as_str().map(PathBuf::from))
        .ok_or_else(|| format!("cargo built no program called {name}").into())
}

/// Today in UTC, as `2026-01-31`.
pub fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    date(since.as_secs() / 86_400)
}

/// The civil date `days` after 1970-01-01 (Gregorian calendar; years counted from March so that
/// the leap day is a year's last).
fn date(days: u64) -> String {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// The processor and its count of cores, as words for a file name.
pub fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find(|l| l.starts_with("model name")).and_then(|l| l.split_once(':'));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let model = model.map_or(std::env::consts::ARCH, |(_, name)| name).to_lowercase();
    let words: Vec<&str> =
        model.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
    format!("{cores}x-{}", words.join("-"))
}

/// The commit of the work tree, with a mark when it has changes.
pub fn commit(root: &Path) -> String {
    let git = |arguments: &[&str]| {
        output(Command::new("git").current_dir(root).args(arguments)).unwrap_or_default()
    };
    let changed = if git(&["status", "--porcelain"]).is_empty() { "" } else { "+changes" };
    format!("{}{changed}", git(&["rev-parse", "--short", "HEAD"]).trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(11_016), "2000-02-29");
        assert_eq!(date(20_454), "2026-01-01");
    }

    #[test]
    fn flags_are_refused_by_name() {
        assert!(known(&["--python", "p", "--full"], &["--full"], &["--python"]).is_ok());
        let error = known(&["--ful"], &["--full"], &[]).unwrap_err().to_string();
        assert!(error.contains("--ful"), "{error}");
        assert_eq!(value(&["--rounds", "3"], "--rounds").unwrap(), Some("3"));
        assert!(value(&["--rounds"], "--rounds").is_err());
    }
}
