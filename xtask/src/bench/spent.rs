//! What a command spent: time, processor time of it and of the children it waited for, peak of
//! resident memory, peak of bytes in a folder it works in. Read from /proc, so on Linux only. Not
//! here: what its figures mean.

use crate::run::Error;
use std::io::{BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How often memory is looked at, and every how many such looks the folder.
const LOOK: Duration = Duration::from_millis(20);
const LOOKS_A_FOLDER: u32 = 50;
/// Clock ticks a second in /proc/self/stat, the same on every Linux.
const TICKS: f64 = 100.0;

/// What a command spent and said.
#[derive(Debug, Default)]
pub struct Spent {
    /// Both outputs, as they came.
    pub said: String,
    /// Seconds by the clock.
    pub seconds: f64,
    /// Seconds of all its processors.
    pub processor: f64,
    /// Most bytes resident, of the command itself.
    pub resident: u64,
    /// Most bytes that lay in the folder.
    pub disk: u64,
}

/// Runs a command to its end and watches it, and the `folder` it works in.
///
/// # Errors
/// When it cannot be started or ends with another status than 0; where there is no /proc.
pub fn watch(command: &mut Command, folder: Option<&Path>) -> Result<Spent, Error> {
    let name = command.get_program().to_string_lossy().into_owned();
    let before = children_seconds()?;
    let (reader, writer) = std::io::pipe()?;
    command.stdin(Stdio::null());
    command.stdout(Stdio::from(writer.try_clone()?)).stderr(Stdio::from(writer));
    let start = Instant::now();
    let mut child = command.spawn().map_err(|e| format!("cannot start {name}: {e}"))?;
    // The command still holds the writing end of the pipe, which would never close.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let listener = std::thread::spawn(move || {
        let mut said = Vec::new();
        let read = BufReader::new(reader).read_to_end(&mut said);
        read.map(|_| String::from_utf8_lossy(&said).into_owned())
    });
    let mut spent = Spent::default();
    let status = format!("/proc/{}/status", child.id());
    let mut looks = 0;
    let ended = loop {
        spent.resident = spent.resident.max(high_water(&status));
        if let Some(folder) = folder.filter(|_| looks % LOOKS_A_FOLDER == 0) {
            spent.disk = spent.disk.max(bytes_below(folder));
        }
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
        looks += 1;
        std::thread::sleep(LOOK);
    };
    spent.seconds = start.elapsed().as_secs_f64();
    spent.processor = children_seconds()? - before;
    spent.disk = folder.map_or(0, bytes_below).max(spent.disk);
    spent.said = listener.join().map_err(|_| "the thread that listened broke off")??;
    if ended.success() {
        return Ok(spent);
    }
    let lines: Vec<&str> = spent.said.lines().collect();
    let last = lines[lines.len().saturating_sub(12)..].join("\n");
    Err(format!("{name} ended with {ended}:\n{last}").into())
}

/// The high-water mark of a process's memory; 0 once it has ended.
fn high_water(status: &str) -> u64 {
    let text = std::fs::read_to_string(status).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Processor seconds of the children that this process has waited for, and of theirs.
fn children_seconds() -> Result<f64, Error> {
    let text = std::fs::read_to_string("/proc/self/stat")
        .map_err(|e| format!("cannot read /proc/self/stat ({e}): these measurements need Linux"))?;
    // Behind the name, which may hold blanks, fields 3 and on of proc(5); 16 and 17 are wanted.
    let fields = text.rsplit_once(") ").map_or("", |(_, rest)| rest).split_ascii_whitespace();
    let ticks: Vec<f64> = fields.skip(13).take(2).filter_map(|f| f.parse().ok()).collect();
    Ok(ticks.iter().sum::<f64>() / TICKS)
}

/// Bytes of the files below a folder; what vanishes meanwhile counts nothing.
fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(about) if about.is_dir() => bytes_below(&entry.path()),
        Ok(about) => about.len(),
        Err(_) => 0,
    };
    entries.map(bytes).sum()
}

/// Bytes that are free where `dir` lies, as `df` says.
///
/// # Errors
/// Where there is no `df`.
pub fn room(dir: &Path) -> Result<u64, Error> {
    let said = crate::run::output(Command::new("df").arg("-Pk").arg(dir))?;
    let free = said.lines().last().and_then(|l| l.split_whitespace().nth(3)?.parse::<u64>().ok());
    Ok(free.ok_or_else(|| format!("df -Pk said {said:?}"))? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_watched() {
        let dir = std::env::temp_dir().join(format!("quipu-spent-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let script = "echo out; echo err >&2; head -c 5000 /dev/zero > file; sleep 0.1; \
                      i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
        let mut command = Command::new("sh");
        let spent = watch(command.current_dir(&dir).args(["-c", script]), Some(&dir)).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(spent.said, "out\nerr\n");
        assert!(spent.seconds >= 0.1 && spent.disk == 5000, "{spent:?}");
        assert!(spent.processor > 0.0 && spent.resident > 100_000, "{spent:?}");
    }

    #[test]
    fn a_failure_says_what_the_command_said() {
        let error = watch(Command::new("sh").args(["-c", "echo why; exit 3"]), None).unwrap_err();
        assert!(error.to_string().contains("why"), "{error}");
        assert!(room(Path::new("/")).unwrap() > 0);
    }
}
