//! What a speedrun shows and leaves, on a small world: lines with and without `--quiet`, one object
//! with `--json`, the report with all that it promises, and next commands that work.

#![allow(clippy::unwrap_used)]

mod program;

use program::{run, tiny};
use serde_json::Value;
use std::path::Path;

fn speedrun(dir: &Path, more: &[&str]) -> (String, String) {
    let tiny = tiny();
    let mut arguments = vec!["speedrun", "--recipe", &tiny, "--run-dir", "runs/one"];
    arguments.extend(more);
    let (code, out, errors) = run(dir, &arguments);
    assert_eq!(code, Some(0), "{errors}");
    (out, errors)
}

fn report(dir: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(dir.join("runs/one/report.json")).unwrap())
        .unwrap()
}

/// The arguments of a command line that this program printed.
fn arguments(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (i, part) in command.split('\'').enumerate() {
        if i % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    let first = words.iter().position(|w| w == "--").unwrap_or(0);
    words.split_off(first + 1)
}

#[test]
fn it_shows_its_stages_and_steps_and_what_to_do_next() {
    let dir = tempfile::tempdir().unwrap();
    let (out, errors) = speedrun(dir.path(), &[]);
    let line = |name: &str| out.lines().find(|l| l.starts_with(name)).unwrap_or_default();
    for (name, words) in [
        ("world", "questions"),
        ("corpus", " · language "),
        ("tokens", "vocabulary 768"),
        ("train", "validation loss"),
        ("tune", "dialogues (from the world) · held-out loss "),
        ("eval", "right answers: often"),
        ("wrong", "(it is: "),
        ("report", "report.html"),
    ] {
        assert!(line(name).contains(words), "{name}: {out}");
    }
    assert!(line("train").contains("(5-gram ") && line("train").contains("% of the f32 ceiling"));
    assert_eq!(out.lines().filter(|l| l.starts_with("chat    > ")).count(), 3, "{out}");
    assert!(out.contains(" dialogues from the world: asked for a fact"), "{out}");
    assert!(out.contains("; asked for what they never state it says in "), "{out}");
    assert!(line("eval").contains("not asked: ") && line("eval").contains(" program"), "{out}");
    let steps = errors.lines().filter(|l| l.starts_with("train ") && l.contains("/20 · loss "));
    let steps: Vec<&str> = steps.collect();
    // Without a terminal: the first, those with a validation, the last, and what takes long.
    for step in [1, 10, 20] {
        let start = format!("train {step}/20 · ");
        assert_eq!(steps.iter().filter(|l| l.starts_with(&start)).count(), 1, "{errors}");
    }
    for part in ["tokens/s", "% of the ceiling", "norm ", "rate ", "5-gram ", "unigram ", " left"] {
        assert!(steps.iter().all(|l| l.contains(part)), "{part}: {errors}");
    }
    for share in ["    1 %  The town of", "   10 %  The town of", "  100 %  The town of"] {
        assert_eq!(errors.matches(share).count(), 1, "{errors}");
    }

    let report = report(dir.path());
    let next = report["next"].as_array().unwrap();
    assert_eq!(next.len(), 4);
    for command in next.iter().map(|n| n["command"].as_str().unwrap()) {
        assert!(out.contains(command), "{command}");
        let mut words = arguments(command);
        match words[0].as_str() {
            "chat" if !words.contains(&"--prompt".to_owned()) => {
                words.extend(["--prompt".into(), "Hello.".into()]);
            }
            // The documentation of Rust is much to read; that it is found is what shows here.
            "speedrun" => words.push("--dry-run".into()),
            _ => {}
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (code, out, errors) = run(dir.path(), &words);
        assert_eq!(code, Some(0), "{command}\n{out}\n{errors}");
    }
}

#[test]
fn quiet_says_where_the_report_is_and_json_is_one_object() {
    let dir = tempfile::tempdir().unwrap();
    let (out, errors) = speedrun(dir.path(), &["--quiet"]);
    assert_eq!((out.as_str(), errors.as_str()), ("report  runs/one/report.html\n", ""));
    let (out, errors) = speedrun(dir.path(), &["--json"]);
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(said["format"], "quipu.report");
    assert!(errors.contains("(done before)"), "{errors}");
}

#[test]
fn a_run_that_stopped_before_its_examination_has_a_report() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = tiny();
    let train = ["train", "--recipe", &tiny, "--run-dir", "runs/one", "--quiet"];
    assert_eq!(run(dir.path(), &train).0, Some(0));
    let (code, _, errors) = run(dir.path(), &["report", "runs/one"]);
    assert_eq!(code, Some(0), "{errors}");
    let report = report(dir.path());
    let samples = report["train"]["samples"].as_array().unwrap();
    assert!(samples.iter().all(|s| s["text"].is_string() && s["verbatim"].is_null()), "{report}");
}

#[test]
fn the_report_has_what_it_promises_and_its_command_repeats_the_run() {
    let dir = tempfile::tempdir().unwrap();
    speedrun(dir.path(), &["--quiet", "--set", "train.steps=21"]);
    let first = report(dir.path());
    for name in ["world", "corpus", "tokens", "train", "tune", "eval"] {
        let stage = first["stages"].as_array().unwrap().iter().find(|s| s["name"] == name);
        let stage = stage.unwrap();
        assert!(stage["seconds"].is_number() && stage["peak_mib"].is_number(), "{stage}");
        let share = stage["share_of_ceiling"].as_f64();
        let trains = ["train", "tune"].contains(&name);
        assert_eq!(share.is_some_and(|s| s > 0.0 && s < 1.0), trains, "{name}: {share:?}");
    }
    assert!(first["verdict"].as_str().unwrap().contains("5-gram"));
    assert!(first["corpus"]["steps"][0]["samples"][0]["text"].is_string());
    assert!(first["corpus"]["samples"][0]["text"].is_string());
    let losses = &first["train"]["baselines"];
    assert_eq!(first["train"]["validation"]["tokens"], losses["five_gram"]["targets"]);
    for name in ["unigram", "five_gram"] {
        assert!(losses[name]["bits_per_byte"].as_f64().unwrap() > 0.0, "{losses}");
    }
    let answers = first["answers"].as_array().unwrap();
    assert_eq!(answers.len(), 10);
    for answer in answers {
        for stage in ["base", "sft", "final"] {
            let span = &answer[stage]["verbatim"];
            assert!(span["words"].as_u64() <= span["of"].as_u64(), "{answer}");
            assert_eq!(answer[stage]["right"].is_boolean(), answer["class"] != "", "{answer}");
        }
    }
    assert!(answers.iter().any(|a| a["final"]["right"] == false));
    assert!(first["train"]["samples"][2]["verbatim"]["of"].is_u64());
    assert!(first["hashes"]["models/final/model.safetensors"].is_string());
    let page = std::fs::read_to_string(dir.path().join("runs/one/report.html")).unwrap();
    for broken in ["NaN", ">null", "undefined"] {
        assert!(!page.contains(broken), "{broken}");
    }

    let words = arguments(first["command"].as_str().unwrap());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (code, _, errors) = run(dir.path(), &words);
    assert_eq!(code, Some(0), "{words:?}\n{errors}");
    let again = std::fs::read_to_string(dir.path().join("runs/one-again/report.json")).unwrap();
    let again: Value = serde_json::from_str(&again).unwrap();
    let weights = |report: &Value| report["hashes"]["models/final/model.safetensors"].clone();
    assert_eq!(weights(&again), weights(&first));
}
