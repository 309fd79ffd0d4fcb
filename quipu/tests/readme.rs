//! The commands in README.md work: each line of its `sh` blocks is run, with the program already
//! built and a small recipe, in one folder, in order. The transcript is not run: `xtask docs`
//! makes it.

#![allow(clippy::unwrap_used)]

mod program;

use program::{root, run, tiny};

/// The commands of the `sh` blocks, without their remarks.
fn commands(readme: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in readme.lines() {
        match line.strip_prefix("```") {
            Some(kind) => inside = kind == "sh",
            None if inside => {
                let command = line.split(" #").next().unwrap_or_default().trim();
                found.extend((!command.is_empty()).then(|| command.to_owned()));
            }
            None => {}
        }
    }
    found
}

#[test]
fn every_command_in_the_readme_works() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let commands = commands(&readme);
    assert!(commands.len() >= 2, "{commands:?}");
    let dir = tempfile::tempdir().unwrap();
    let tiny = tiny();
    for command in commands {
        let words: Vec<&str> = command.split_whitespace().collect();
        let arguments = match words.as_slice() {
            ["cargo", "run", "--release", "--", rest @ ..] | ["quipu", rest @ ..] => rest,
            // The automation tests itself; a clone has happened when this runs.
            ["cargo", "xtask", ..] | ["git", "clone", ..] | ["cd", ..] => continue,
            other => panic!("README has a command that no test knows how to run: {other:?}"),
        };
        let mut arguments: Vec<&str> = arguments.to_vec();
        if ["speedrun", "world"].contains(&arguments[0]) {
            // The tiny recipe has the same name, so that its run lies where README says.
            arguments.extend(["--recipe", &tiny]);
        }
        if arguments[0] == "chat" && !arguments.contains(&"--prompt") {
            arguments.extend(["--prompt", "Hello."]);
        }
        let (code, out, errors) = run(dir.path(), &arguments);
        assert_eq!(code, Some(0), "{command}\n{out}\n{errors}");
    }
}

/// `cargo run` has one program to run only where the workspace names it.
#[test]
fn cargo_runs_the_program_without_being_told_which() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let what = ["metadata", "--no-deps", "--offline", "--format-version", "1"];
    let out = std::process::Command::new(cargo).args(what).current_dir(root()).output().unwrap();
    let said: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let members = said["workspace_default_members"].as_array().unwrap();
    assert_eq!(members.len(), 1, "{members:?}");
    let id = &members[0];
    let package = said["packages"].as_array().unwrap().iter().find(|p| p["id"] == *id).unwrap();
    assert_eq!(package["name"], "quipu");
}
