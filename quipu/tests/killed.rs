//! `kill -9` at moments drawn by a seed over the bytes that a run writes, one of them inside a
//! checkpoint; run again after each. Final weights and metrics are, but for times, bit for bit
//! those of an uninterrupted run: on a small world always, with a tenth of the steps of the program's
//! own recipe under `--full`.

#![allow(clippy::unwrap_used)]

mod program;

use program::{check_same, content, draw, quipu, said, tiny};
use quipu_train::events;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Runs the speedrun, killed after so many bytes; what it printed, if it lived.
fn start(recipe: &str, dir: &Path, kill_after: Option<u64>) -> Option<serde_json::Value> {
    let dir = dir.to_string_lossy();
    let arguments = ["speedrun", "--run-dir", &*dir, "--json", "--quiet", "--recipe", recipe];
    let mut command = quipu(Path::new("."), &arguments);
    if let Some(bytes) = kill_after {
        command.env("QUIPU_KILL_AFTER_BYTES", bytes.to_string());
    }
    let (code, out, errors) = said(&command.output().unwrap());
    if code.is_none() {
        assert!(kill_after.is_some(), "{errors}");
        return None;
    }
    assert_eq!(code, Some(0), "{errors}");
    Some(serde_json::from_str(&out).unwrap())
}

/// All files of checkpoints, models and tokens, and the metrics without what is the machine's.
fn results(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = content(dir);
    found.retain(|name, _| {
        !(name.contains("report.") || name.ends_with("units.jsonl") || name.starts_with('.'))
    });
    for (name, bytes) in found.iter_mut().filter(|(name, _)| name.ends_with(events::NAME)) {
        *bytes = events::comparable(&dir.join(name)).unwrap().into_bytes();
    }
    for (_, bytes) in found.iter_mut().filter(|(name, _)| name.ends_with("metrics.jsonl")) {
        let lines = std::str::from_utf8(bytes).unwrap().lines().map(|line| {
            let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
            line.as_object_mut().unwrap().remove("machine");
            line.to_string()
        });
        *bytes = lines.collect::<Vec<_>>().join("\n").into_bytes();
    }
    found
}

fn unfinished_checkpoint(dir: &Path) -> bool {
    fs::read_dir(dir.join("checkpoints")).is_ok_and(|mut entries| {
        entries.any(|e| e.unwrap().file_name().to_string_lossy().starts_with('.'))
    })
}

#[test]
fn a_run_killed_five_times_ends_with_the_same_bits() {
    check(&tiny());
}

/// The program's own recipe with a tenth of its steps, and of everything that is counted in them: all
/// stages and sizes stay, and the run takes minutes.
fn tenth(recipe: &mut toml::Table) {
    const COUNTED: [&str; 7] =
        ["steps", "warm_up", "checkpoint_every", "evaluate_every", "from", "every", "after_tokens"];
    for (key, value) in recipe.iter_mut() {
        match value {
            toml::Value::Integer(n) if COUNTED.contains(&&**key) => *n /= 10,
            toml::Value::Table(table) => tenth(table),
            toml::Value::Array(list) => {
                list.iter_mut().filter_map(toml::Value::as_table_mut).for_each(tenth);
            }
            _ => {}
        }
    }
    // so few steps pass no gate, and each time it is asked takes as long as before
    if recipe.contains_key("recall") {
        recipe.insert("at_cap".into(), "go-on".into());
        recipe.insert("every".into(), 25.into());
    }
}

#[test]
#[ignore = "minutes: two runs with a tenth of the default recipe's steps"]
fn a_tenth_of_the_default_run_killed_five_times_ends_with_the_same_bits() {
    let text = fs::read_to_string(program::root().join("recipes/speedrun.toml")).unwrap();
    let mut recipe: toml::Table = text.parse().unwrap();
    tenth(&mut recipe);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tenth.toml");
    fs::write(&path, recipe.to_string()).unwrap();
    check(&path.to_string_lossy());
}

fn check(recipe: &str) {
    // Both runs lie at one path, which fates name.
    let room = tempfile::tempdir().unwrap();
    let dir = room.path().join("run");
    let report = start(recipe, &dir, None).unwrap();
    let total = report["bytes_written"].as_u64().unwrap();
    let expected = results(&dir);
    fs::remove_dir_all(&dir).unwrap();
    let (mut kills, mut inside, mut seed) = (0, false, 20_260_101);
    while kills < 5 || !inside {
        // Each attempt writes less than the whole: what stands is not written again.
        let moment = draw(&mut seed, total / 3);
        match start(recipe, &dir, Some(moment)) {
            None => kills += 1,
            // Everything was done before the moment came: begin anew.
            Some(_) => fs::remove_dir_all(&dir).unwrap(),
        }
        inside |= unfinished_checkpoint(&dir);
        assert!(kills < 60, "no kill fell into a checkpoint");
    }
    start(recipe, &dir, None).unwrap();
    check_same(&results(&dir), &expected, &format!("{kills} kills"));
}
