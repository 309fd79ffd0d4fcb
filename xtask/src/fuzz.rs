//! `cargo xtask fuzz`: each reader of bytes from outside under libFuzzer for a while, from the seeds
//! and known attacks of `fuzz/`. What it finds new lies in `target/fuzz`, what breaks a reader in
//! `fuzz/artifacts`. Not the stable tests, which replay seeds and attacks without any fuzzer.

use super::run::{Error, cargo, known, root, value};
use std::path::Path;

/// Seconds a target, where nobody says.
const SECONDS: u64 = 60;
/// Longest input, which grows slowly up to it; what needs more is among the attacks.
const MAX_LENGTH: u32 = 64 << 10;
/// Memory and time of one input from which on it is a finding: a page has 64 KiB here.
const MIB: u32 = 2048;
const SLOW_SECONDS: u32 = 10;

/// Fuzzes the targets named, or all.
///
/// # Errors
/// No nightly toolchain or `cargo-fuzz`; a target that is not there.
pub fn run(flags: &[&str]) -> Result<bool, Error> {
    let named: Vec<&str> = flags.iter().copied().take_while(|f| !f.starts_with("--")).collect();
    known(&flags[named.len()..], &[], &["--seconds"])?;
    let seconds = value(flags, "--seconds")?.map_or(Ok(SECONDS), str::parse)?;
    let root = root();
    let there = targets(&root)?;
    if let Some(other) = named.iter().find(|name| !there.iter().any(|target| target == *name)) {
        return Err(format!("no target {other:?}; there are {}", there.join(", ")).into());
    }
    let is_ready = cargo(&root).args(["+nightly", "fuzz", "--version"]).output()?.status.success();
    if !is_ready {
        return Err("fuzzing needs `rustup toolchain install nightly` and \
                    `cargo install --locked cargo-fuzz`"
            .into());
    }
    let mut broken = Vec::new();
    for target in there.iter().filter(|target| named.is_empty() || named.contains(&target.as_str()))
    {
        if !fuzz(&root, target, seconds)? {
            broken.push(target.as_str());
        }
    }
    if !broken.is_empty() {
        println!("broken: {}; the inputs lie in fuzz/artifacts", broken.join(", "));
    }
    Ok(broken.is_empty())
}

fn targets(root: &Path) -> Result<Vec<String>, Error> {
    let mut targets = Vec::new();
    for entry in std::fs::read_dir(root.join("fuzz/fuzz_targets"))? {
        let path = entry?.path();
        targets.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    targets.sort();
    Ok(targets)
}

fn fuzz(root: &Path, target: &str, seconds: u64) -> Result<bool, Error> {
    // The first folder takes what is found.
    let found = format!("target/fuzz/{target}");
    std::fs::create_dir_all(root.join(&found))?;
    let seeds = format!("fuzz/corpus/{target}");
    let mut command = cargo(root);
    command.args(["+nightly", "fuzz", "run", target, &found, &seeds, "fuzz/attacks", "--"]);
    command.args([
        format!("-max_total_time={seconds}"),
        format!("-max_len={MAX_LENGTH}"),
        format!("-rss_limit_mb={MIB}"),
        format!("-timeout={SLOW_SECONDS}"),
        "-print_final_stats=1".to_owned(),
    ]);
    Ok(command.status()?.success())
}
