//! `cargo xtask docs`: runs the speedrun as the README says, or takes a finished run of it, and
//! pastes what it said between two marks in README.md, so that the transcript there is of a real
//! run and says which. The lines are the program's own (`quipu report` says them again); they are
//! wrapped, and nothing is added to or left out of them.

use crate::run::{self, Error};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const BEGIN: &str = "<!-- transcript: begin (cargo xtask docs writes this) -->";
const END: &str = "<!-- transcript: end -->";
/// Columns of the transcript.
const WIDTH: usize = 118;
/// How README.md starts the program.
const PROGRAM: &str = "cargo run --release --";

/// Runs the command.
pub fn run(flags: &[&str]) -> Result<bool, Error> {
    run::known(flags, &[], &["--run"])?;
    let root = run::root();
    let quipu = run::build_quipu(&root)?;
    let dir = match run::value(flags, "--run")? {
        Some(dir) => PathBuf::from(dir),
        None => speedrun(&root, &quipu)?,
    };
    let printed = run::output(Command::new(&quipu).arg("report").arg(&dir))?;
    let report: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(dir.join("report.json"))?)?;
    let transcript = transcript(&printed, &report, &dir, &quipu);
    let origin = origin(&report, &root);
    let path = root.join("README.md");
    let readme = paste(&std::fs::read_to_string(&path)?, &format!("{transcript}\n\n{origin}"))?;
    std::fs::write(&path, readme)?;
    println!("README.md has the transcript of {}", dir.display());
    Ok(true)
}

/// Runs the speedrun in a folder of its own, its progress on this terminal.
fn speedrun(root: &Path, quipu: &Path) -> Result<PathBuf, Error> {
    let dir = root.join("target/docs-run");
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    let mut command = Command::new(quipu);
    command.current_dir(root).arg("speedrun").arg("--run-dir").arg(&dir);
    if !command.stdout(Stdio::inherit()).status()?.success() {
        return Err("the speedrun failed".into());
    }
    Ok(dir)
}

/// What the run said, as it reads to who runs it from a clone.
fn transcript(printed: &str, report: &serde_json::Value, dir: &Path, quipu: &Path) -> String {
    let name = report["recipe"]["name"].as_str().unwrap_or("speedrun");
    let shown = printed
        .replace(&*quipu.to_string_lossy(), PROGRAM)
        .replace(&*dir.to_string_lossy(), &format!("runs/{name}"));
    let lines: Vec<String> = shown.trim_end().lines().flat_map(wrapped).collect();
    format!("```text\n$ {PROGRAM} {}\n{}\n```", arguments(report), lines.join("\n"))
}

/// The arguments that make the run again, without the folder.
fn arguments(report: &serde_json::Value) -> String {
    let command = report["command"].as_str().unwrap_or_default();
    let from = command.find("speedrun").map_or("speedrun", |at| &command[at..]);
    from.split(" --run-dir ").next().unwrap_or(from).to_owned()
}

/// A line cut at its dots or else at blanks, its rest below the second column where it has one.
fn wrapped(line: &str) -> Vec<String> {
    let head: String = line.chars().take(8).collect();
    let indent = if line.starts_with(' ') || head.ends_with(' ') { 8 } else { 0 };
    let mut lines = vec![String::new()];
    let mut put = |piece: &str| {
        let last = lines.last_mut().expect("there is a first line");
        let used = last.chars().count();
        if used > indent && used + piece.trim_end().chars().count() > WIDTH {
            let kept = last.trim_end().len();
            last.truncate(kept);
            lines.push(format!("{:indent$}{piece}", ""));
        } else {
            last.push_str(piece);
        }
    };
    for part in line.split_inclusive(" · ") {
        if part.chars().count() > WIDTH - 8 {
            part.split_inclusive(' ').for_each(&mut put);
        } else {
            put(part);
        }
    }
    lines
}

/// Which run it is: figures of its report. The program does not know its commit, so the one here
/// is that of the tree when the run is pasted, and says so.
fn origin(report: &serde_json::Value, root: &Path) -> String {
    let minutes = report["seconds"].as_f64().unwrap_or(f64::NAN) / 60.0;
    let machine = &report["machine"];
    format!(
        "{} cores {}: {minutes:.1} minutes after the build, {:.0} MiB at most; pasted {} at commit {}.",
        machine["cores"],
        machine["processor"].as_str().unwrap_or("of an unknown processor"),
        report["peak_mib"].as_f64().unwrap_or(f64::NAN),
        run::today(),
        run::commit(root)
    )
}

/// `readme` with `transcript` between the marks.
fn paste(readme: &str, transcript: &str) -> Result<String, Error> {
    let (before, rest) =
        readme.split_once(BEGIN).ok_or_else(|| format!("README.md lacks {BEGIN}"))?;
    let (_, after) = rest.split_once(END).ok_or_else(|| format!("README.md lacks {END}"))?;
    Ok(format!("{before}{BEGIN}\n{transcript}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transcript_replaces_the_old_one() {
        let readme = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        assert_eq!(paste(&readme, "new").unwrap(), format!("a\n{BEGIN}\nnew\n{END}\nb\n"));
        assert!(paste("nothing", "new").is_err());
    }

    #[test]
    fn lines_are_wrapped_and_keep_their_words() {
        assert_eq!(wrapped("  100 %  The town"), ["  100 %  The town"]);
        assert_eq!(wrapped(""), [""]);
        let long = format!("corpus  {}", "word ".repeat(40).trim_end());
        let lines = wrapped(&long);
        assert!(lines.len() == 2 && lines[1].starts_with("        word"), "{lines:?}");
        assert!(lines.iter().all(|l| l.chars().count() <= WIDTH));
        let words = |t: &str| t.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&lines.join(" ")), words(&long));
    }

    #[test]
    fn paths_of_this_machine_do_not_stand_in_it() {
        let command = "/b/quipu speedrun --set train.steps=9 --run-dir /a/run-again";
        let report = serde_json::json!({"recipe": {"name": "speedrun"}, "command": command});
        let printed = "report  /a/run/report.html\nnext    /b/quipu chat /a/run   # talk\n";
        let shown = transcript(printed, &report, Path::new("/a/run"), Path::new("/b/quipu"));
        let first = "```text\n$ cargo run --release -- speedrun --set train.steps=9\nreport";
        assert!(shown.starts_with(first), "{shown}");
        assert!(shown.contains("report  runs/speedrun/report.html"), "{shown}");
        assert!(shown.contains("next    cargo run --release -- chat runs/speedrun   # talk"));
    }
}
