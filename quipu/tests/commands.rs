//! What the program says and ends with when the command line or the input is wrong: the exit
//! codes are part of its interface (0 done, 1 a check failed, 2 usage, 3 data, 4 resources).

#![allow(clippy::unwrap_used)]

mod program;

use program::run;

/// Runs the program in an empty folder; its error must contain `expected`, all else be silent.
fn check(arguments: &[&str], code: i32, expected: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (found, out, errors) = run(dir.path(), arguments);
    assert_eq!(found, Some(code), "{arguments:?}\n{errors}");
    assert!(errors.contains(expected), "{arguments:?} said {errors:?}, not {expected:?}");
    assert_eq!(out, "", "{arguments:?}");
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert!(left.is_empty(), "{arguments:?} left {left:?}");
}

#[test]
fn help_names_each_command_in_flow_order() {
    let dir = tempfile::tempdir().unwrap();
    let (code, out, _) = run(dir.path(), &["--help"]);
    assert_eq!(code, Some(0));
    let order = [
        "speedrun", "world", "look", "extract", "curate", "train", "tune", "eval", "chat", "run",
        "report", "export", "verify", "bench", "doctor",
    ];
    let line = |c: &&str| out.lines().position(|l| l.trim_start().starts_with(&format!("{c} ")));
    let places: Vec<_> = order.iter().map(line).collect();
    assert!(places.iter().all(Option::is_some), "{out}");
    assert!(places.is_sorted(), "{out}");
}

#[test]
fn doctor_says_what_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let (code, out, _) = run(dir.path(), &["doctor", "--json"]);
    assert_eq!(code, Some(0));
    let facts: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(facts["cores"].as_u64().unwrap() > 0);
}

#[test]
fn wrong_flags_and_recipes_are_usage() {
    check(&["speedrun", "--fast"], 2, "--fast");
    check(&["chat", "run", "--max-tokens", "0"], 2, "at least 1 token");
    check(&["speedrunn"], 2, "speedrun");
    check(&["speedrun", "--set", "train.stepz=1"], 2, "did you mean `steps`");
    check(&["speedrun", "--set", "model.heads=7"], 2, "7 heads");
    check(&["speedrun", "--recipe", "none.toml"], 3, "none.toml");
}

#[test]
fn names_that_are_not_utf8_are_usage() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let mut command = program::quipu(dir.path(), &["look"]);
    let out = command.arg(std::ffi::OsStr::from_bytes(b"a\xff.txt")).output().unwrap();
    let (code, _, errors) = program::said(&out);
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("is not UTF-8") && !errors.contains("panicked"), "{errors}");
}

#[test]
fn missing_and_empty_input_is_data() {
    check(&["look", "nothing.warc.gz"], 3, "nothing.warc.gz");
    check(&["extract", "nothing.html"], 3, "nothing.html");
    check(&["speedrun", "--input", "nothing"], 3, "nothing");
    check(&["chat", "nowhere", "--prompt", "x"], 3, "nowhere");
    check(&["chat", ".", "--prompt", "x"], 3, "neither run.json nor config.json");
    check(&["look", ".", "--dry-run"], 2, "--dry-run goes with");
    check(&["verify", "nowhere", "case.safetensors"], 3, "nowhere");
}
