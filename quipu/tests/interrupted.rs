//! Ctrl-C in a training run: once, it writes a checkpoint, stops with 130 and goes on from there
//! when it is run again; twice, it ends at once and still goes on from what stands.

#![allow(clippy::unwrap_used)]

mod program;

use program::{quipu, run, tiny};
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

/// A run that is started, and what it says as it goes.
struct Started {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    said: String,
}

impl Started {
    fn new(dir: &Path, arguments: &[&str]) -> Self {
        let mut command = quipu(dir, arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines, said: String::new() }
    }

    /// Reads on until a line has `words`; the line.
    fn wait_for(&mut self, words: &str) -> String {
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            self.said += &line;
            self.said.push('\n');
            if line.contains(words) {
                return line;
            }
        }
        panic!("it ended without {words:?}:\n{}", self.said);
    }

    fn interrupt(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    }

    /// Its exit code and all that it said.
    fn end(mut self) -> (Option<i32>, String) {
        for line in self.lines {
            self.said += &line.unwrap();
            self.said.push('\n');
        }
        (self.child.wait().unwrap().code(), self.said)
    }
}

/// Steps of the run: more than any machine does before the signal comes.
const LONG: &str = "train.steps=1000000";

fn newest_checkpoint(dir: &Path) -> Option<u64> {
    let entries = std::fs::read_dir(dir.join("run/checkpoints")).ok()?;
    let names = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
    names.filter_map(|n| n.strip_prefix("step-")?.parse().ok()).max()
}

#[test]
fn ctrl_c_once_writes_a_checkpoint_and_the_run_goes_on_from_it() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = tiny();
    let sets = ["--set", LONG, "--set", "train.checkpoint_every=1000000"];
    let mut arguments = vec!["speedrun", "--recipe", &tiny, "--run-dir", "run"];
    arguments.extend(sets);
    let mut started = Started::new(dir.path(), &arguments);
    // The line of a validation, which every tenth step has.
    started.wait_for("train 10/");
    started.interrupt();
    let (code, said) = started.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("once more to abort") && said.contains("same command again"), "{said}");
    let step = newest_checkpoint(dir.path()).expect("a checkpoint");
    assert!(step >= 10, "{step}");

    let mut again = Started::new(dir.path(), &arguments);
    again.wait_for(&format!("train goes on after step {step}"));
    let next = again.wait_for("train ");
    assert!(next.starts_with(&format!("train {}/", step + 1)), "{next}");
    again.interrupt();
    assert_eq!(again.end().0, Some(130));
}

#[test]
fn ctrl_c_twice_ends_at_once_and_the_run_goes_on_from_what_stands() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = tiny();
    // A step so long that the second signal comes before its end.
    let long = ["--set", "train.batch_tokens=1048576", "--set", "train.checkpoint_every=1"];
    let mut arguments = vec!["speedrun", "--recipe", &tiny, "--run-dir", "run"];
    arguments.extend(long);
    let mut started = Started::new(dir.path(), &arguments);
    started.wait_for("train 1/");
    let checkpoint = dir.path().join("run/checkpoints");
    while newest_checkpoint(dir.path()).is_none() {
        assert!(started.child.try_wait().unwrap().is_none(), "no {}", checkpoint.display());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    started.interrupt();
    started.wait_for("once more to abort");
    started.interrupt();
    let (code, said) = started.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("aborted"), "{said}");

    let mut again = Started::new(dir.path(), &arguments);
    again.wait_for("train goes on after step 1");
    again.child.kill().unwrap();
    again.child.wait().unwrap();
}

#[test]
fn ctrl_c_ends_other_commands_too() {
    let dir = tempfile::tempdir().unwrap();
    let (code, _, errors) = run(dir.path(), &["world", "w", "--size", "0.05"]);
    assert_eq!(code, Some(0), "{errors}");
    let mut started = Started::new(dir.path(), &["world", "large", "--size", "30"]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    started.interrupt();
    started.wait_for("stopping");
    let (code, said) = started.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(!dir.path().join("large/manifest.json").exists());
}
