//! `cargo xtask test`: everything that must hold before a change is accepted, in the order in
//! which it fails cheaply. Ends with a table of time by part and one line of counts.
//!
//! A test that lacks its data prints `SKIPPED: …` and passes; here it is counted as skipped, and
//! where `CI=true` as failed, so that no machine that should have the data loses tests silently.

use crate::run::{self, Error};
use crate::tidy;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Everything is built once, with every feature that can be built here. What the program is without
/// them differs by a message, which `--full` also tests, and by what its libraries can do: a feature of
/// a library that only `cluster` asks for would be missing there.
const FEATURES: [&str; 2] = ["--features", "quipu/cluster,quipu/mpi"];
const WITHOUT_MPI: [&str; 2] = ["--features", "quipu/cluster"];
/// Debian's packages with an MPI, to build against and to run.
const MPI: [&str; 2] = ["libopenmpi-dev", "openmpi-bin"];

/// What has been counted so far.
#[derive(Default)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
    table: Vec<(String, f64, String)>,
}

impl Counts {
    /// Runs one part that is one check.
    fn part(&mut self, name: &str, check: impl FnOnce() -> Result<bool, Error>) {
        println!("== {name}");
        let start = Instant::now();
        let passed = check().unwrap_or_else(|error| {
            println!("{name}: {error}");
            false
        });
        let result = if passed { "passed" } else { "FAILED" };
        self.passed += usize::from(passed);
        self.failed += usize::from(!passed);
        self.table.push((name.into(), start.elapsed().as_secs_f64(), result.into()));
    }
}

/// Runs the command; true when all passed.
pub fn run(flags: &[&str]) -> Result<bool, Error> {
    run::known(flags, &["--full", "--setup"], &[])?;
    let root = run::root();
    let asked = flags.contains(&"--setup");
    if asked {
        setup(&root)?;
    }
    let features = if has_mpi(asked || strict()) { FEATURES } else { WITHOUT_MPI };
    let mut counts = Counts::default();
    counts.part("formatting", || echo(run::cargo(&root).args(["fmt", "--all", "--check"])));
    counts.part("tidy", || Ok(tidy::report(&root)? == 0));
    counts.part("clippy", || {
        let what = ["clippy", "--quiet", "--locked", "--workspace", "--all-targets"];
        echo(run::cargo(&root).args(what).args(features).args(["--", "-D", "warnings"]))
    });
    counts.part("build of tests", || {
        let what = ["test", "--quiet", "--locked", "--workspace", "--no-run"];
        echo(run::cargo(&root).args(what).args(features))
    });
    tests(&root, features, flags.contains(&"--full"), &mut counts)?;
    counts.part("documents without features", || {
        echo(run::cargo(&root).args([
            "test",
            "--quiet",
            "--locked",
            "--package",
            "quipu-documents",
        ]))
    });
    if flags.contains(&"--full") {
        counts.part("tests without features", || {
            let what = ["test", "--quiet", "--locked", "--package", "quipu", "--test", "cluster"];
            echo(run::cargo(&root).args(what))
        });
    }
    counts.part("docs", || {
        let what = ["doc", "--quiet", "--locked", "--workspace", "--no-deps"];
        echo(run::cargo(&root).args(what).args(features).env("RUSTDOCFLAGS", "-D warnings"))
    });
    Ok(close(&counts))
}

fn close(counts: &Counts) -> bool {
    println!("\n{:24} {:>9}  result", "part", "seconds");
    for (name, seconds, result) in &counts.table {
        println!("{name:24} {seconds:9.1}  {result}");
    }
    let strict = strict();
    let failed = counts.failed + if strict { counts.skipped } else { 0 };
    if strict && counts.skipped > 0 {
        println!("CI=true: skipped tests count as failed");
    }
    println!("{} passed, {failed} failed, {} skipped", counts.passed, counts.skipped);
    failed == 0
}

/// Whether a skipped test is a failed one.
fn strict() -> bool {
    std::env::var("CI").is_ok_and(|v| v == "true")
}

/// Whether there is an MPI; where `install`, Debian's is installed.
fn has_mpi(install: bool) -> bool {
    let starts = |name: &str| Command::new(name).arg("--version").output().is_ok();
    let is_here = || starts("mpicc") && starts("mpirun");
    if !is_here() && install {
        println!("== MPI: {}", MPI.join(", "));
        let root = run::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
        let apt = |what: &[&str]| {
            let mut command = Command::new(if root { "apt-get" } else { "sudo" });
            command.args(if root { &[][..] } else { &["apt-get"] }).args(what);
            command.env("DEBIAN_FRONTEND", "noninteractive");
            if let Err(error) = run::output(&mut command) {
                println!("apt-get {}: {error}", what.join(" "));
            }
        };
        apt(&["update", "-q"]);
        apt(&[&["install", "-y", "-q", "--no-install-recommends"][..], &MPI].concat());
    }
    is_here()
}

fn echo(command: &mut Command) -> Result<bool, Error> {
    run::lines(command, |line| println!("{line}"))
}

/// One run of all test programs, with what they print shown only when it says something.
fn tests(root: &Path, features: [&str; 2], full: bool, counts: &mut Counts) -> Result<(), Error> {
    println!("== tests");
    let mut command = run::cargo(root);
    // Without fail-fast one failing crate would hide the others' results.
    command.args(["test", "--locked", "--workspace", "--no-fail-fast"]).args(features);
    command.args(["--", "--show-output"]);
    if full {
        command.arg("--include-ignored");
    }
    let start = Instant::now();
    let mut reader = Reader::default();
    let success = run::lines(&mut command, |line| reader.line(line))?;
    reader.notes.iter().for_each(|note| println!("{note}"));
    reader.close(start.elapsed().as_secs_f64(), counts);
    if !success && reader.failed == 0 {
        println!("cargo test failed before any test did");
        counts.failed += 1;
    }
    Ok(())
}

/// Reads what `cargo test -- --show-output` prints, test program by test program.
#[derive(Default)]
struct Reader {
    program: String,
    passed: usize,
    failed: usize,
    skipped: usize,
    ignored: usize,
    by_program: Vec<(String, f64, usize, usize)>,
    failing: bool,
    notes: Vec<String>,
}

impl Reader {
    fn line(&mut self, line: &str) {
        let text = line.trim_start();
        if let Some(rest) = text.strip_prefix("Running ") {
            self.program = program(rest);
        } else if let Some(rest) = text.strip_prefix("Doc-tests ") {
            self.program = format!("{rest} docs");
        } else if let Some(rest) = line.strip_prefix("test result: ") {
            self.result(rest);
        } else if text.starts_with("SKIPPED: ") {
            self.skipped += 1;
            self.notes.push(text.to_owned());
        } else if line == "failures:" {
            self.failing = true;
        } else if line == "successes:" {
            self.failing = false;
        }
        if self.failing || line.starts_with("error") || line.ends_with("... FAILED") {
            println!("{line}");
        }
    }

    fn result(&mut self, rest: &str) {
        let number = |unit: &str| -> f64 {
            let before = rest.split(unit).next().unwrap_or_default();
            before.split_whitespace().last().and_then(|n| n.parse().ok()).unwrap_or(0.0)
        };
        let seconds = rest.rsplit("finished in ").next().unwrap_or_default();
        let seconds = seconds.trim_end_matches('s').parse().unwrap_or(0.0);
        let (passed, failed) = (number(" passed") as usize, number(" failed") as usize);
        self.ignored += number(" ignored") as usize;
        self.passed += passed;
        self.failed += failed;
        self.failing = false;
        if passed + failed > 0 {
            println!("{:40} {passed:4} passed {failed:3} failed {seconds:7.1} s", self.program);
            self.by_program.push((self.program.clone(), seconds, passed, failed));
        }
    }

    fn close(&self, seconds: f64, counts: &mut Counts) {
        counts.passed += self.passed.saturating_sub(self.skipped);
        counts.failed += self.failed;
        counts.skipped += self.skipped;
        let ignored = match self.ignored {
            0 => String::new(),
            n => format!(", {n} left for --full"),
        };
        let result = format!("{} passed, {} failed{ignored}", self.passed, self.failed);
        counts.table.push(("tests".into(), seconds, result));
        let mut slow = self.by_program.clone();
        slow.sort_by(|a, b| b.1.total_cmp(&a.1));
        for (program, seconds, passed, failed) in slow.into_iter().take(12) {
            let result = format!("{passed} passed, {failed} failed");
            counts.table.push((format!("  {program}"), seconds, result));
        }
    }
}

/// `unittests src/lib.rs (…/deps/quipu_store-0123456789abcdef)` → `quipu_store`; an integration
/// test keeps its file: `tests/faults.rs`.
fn program(rest: &str) -> String {
    let (source, path) = rest.split_once(" (").unwrap_or((rest, ""));
    let name = path.trim_end_matches(')').rsplit('/').next().unwrap_or_default();
    let name = name.rsplit_once('-').map_or(name, |(name, _)| name);
    if source.starts_with("unittests") { name.into() } else { source.into() }
}

/// Installs what the parts need and a fresh toolchain may lack.
fn setup(root: &Path) -> Result<(), Error> {
    for component in ["rustfmt", "clippy"] {
        let what = ["component", "add", component];
        // Toolchains that rustup did not install bring both, so a missing rustup is no failure.
        if let Err(error) = run::output(Command::new("rustup").args(what)) {
            println!("rustup component add {component}: {error}");
        }
    }
    echo(run::cargo(root).args(["fetch", "--locked"])).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_cargo_prints() {
        let mut reader = Reader::default();
        for line in [
            "     Running unittests src/lib.rs (/t/debug/deps/quipu_store-7dff026716c150dc)",
            "test a ... ok",
            "---- a stdout ----",
            "  SKIPPED: golden gqa: shared data absent",
            "test result: ok. 12 passed; 0 failed; 1 ignored; finished in 1.67s",
            "     Running tests/faults.rs (/t/debug/deps/faults-5099660e67acd637)",
            "test result: FAILED. 4 passed; 1 failed; 0 ignored; finished in 0.50s",
        ] {
            reader.line(line);
        }
        let mut counts = Counts::default();
        reader.close(2.0, &mut counts);
        assert_eq!((counts.passed, counts.failed, counts.skipped), (15, 1, 1));
        assert_eq!(reader.by_program[0].0, "quipu_store");
        assert_eq!(reader.by_program[1].0, "tests/faults.rs");
        assert!(!close(&counts));
    }
}
