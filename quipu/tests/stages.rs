//! What follows the first pre-training, through the program as a user runs it: a context that grows
//! until its gate lets it end or its steps are spent, annealing, going on with a checkpoint of
//! others, and a set of data on trial.

#![allow(clippy::unwrap_used)]

mod program;

use program::{content, run, tiny};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn train(dir: &Path, name: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let tiny = tiny();
    let fixed = ["train", "--recipe", &tiny, "--run-dir", name, "--json"];
    run(dir, &fixed.into_iter().chain(more.iter().copied()).collect::<Vec<_>>())
}

/// A gate that any model passes; one that none does.
const OPEN: &str = "extend.0.gate.recall=0.0001";
const STOP: &str = "extend.0.gate.at_cap=\"stop\"";

#[test]
fn a_context_that_has_not_grown_ends_the_run_unless_that_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let (code, _, errors) = train(dir.path(), "run", &["--set", STOP]);
    assert_eq!(code, Some(1), "{errors}");
    for part in ["0 % of needles found at 128, 90 % asked", "--allow-cap", "report.html"] {
        assert!(errors.contains(part), "{part}: {errors}");
    }
    let page = fs::read_to_string(dir.path().join("run/report.html")).unwrap();
    assert!(page.contains("did not pass its gate") && page.contains("Needles found before"));
    assert!(!dir.path().join("run/models/base").exists());
    // Asked again it says the same; allowed, it goes on with what stands.
    assert_eq!(train(dir.path(), "run", &["--set", STOP]).0, Some(1));
    let (code, out, errors) = train(dir.path(), "run", &["--set", STOP, "--allow-cap"]);
    assert_eq!(code, Some(0), "{errors}");
    let facts: Value = serde_json::from_str(&out).unwrap();
    let stage = &facts["extend"]["stages"][0];
    assert_eq!((&stage["passed"], &stage["steps"]), (&json!(false), &json!(4)));
    let config = json(&dir.path().join("run/models/base/config.json"));
    let rope = &config["rope_parameters"]["rope_theta"];
    let theta = if rope.is_null() { &config["rope_theta"] } else { rope };
    assert_eq!((&config["max_position_embeddings"], theta.as_f64()), (&json!(256), Some(2e4)));
    assert_eq!(facts["anneal"]["averaged_checkpoints"], 3);
    // The grid of the gate once more, with the model that is left.
    assert_eq!(facts["anneal"]["needles"].as_array().map(Vec::len), Some(4), "{facts}");
    // Every validation is of the same rows, so that the stages can be held against each other.
    let rows = &facts["validation"]["tokens"];
    assert!(rows.is_u64(), "{facts}");
    for loss in ["before", "validation_of_last", "validation"] {
        assert_eq!(&facts["anneal"][loss]["tokens"], rows, "{loss}");
    }
}

/// A run that is stopped in each of its stages ends with the files of one that was not.
#[test]
fn stages_go_on_where_they_were_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let sets = ["--set", OPEN, "--set", "extend.0.gate.every=1", "--set", "extend.0.train.steps=3"];
    assert_eq!(train(dir.path(), "whole", &sets).0, Some(0));
    let weights = |name: &str| {
        let base = dir.path().join(name).join("models/base/model.safetensors");
        fs::read(base).unwrap()
    };
    let lines = |name: &str| {
        let journal = fs::read_to_string(dir.path().join(name).join("units.jsonl")).unwrap();
        journal.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    // What was done from a stage on is no longer in the journal.
    let forget = |stage: &str| {
        let kept: Vec<String> = lines("part")
            .into_iter()
            .take_while(|l| !l.contains(&format!("\"{stage}\"")))
            .collect();
        fs::write(dir.path().join("part/units.jsonl"), kept.join("\n") + "\n").unwrap();
    };
    assert_eq!(train(dir.path(), "part", &sets).0, Some(0));
    for stage in ["anneal", "extend"] {
        // As a kill leaves it: the stage is not in the journal, its newest checkpoint is gone.
        forget(stage);
        let folder = if stage == "anneal" { "anneal" } else { "extend-1" };
        let checkpoints = dir.path().join("part").join(folder).join("checkpoints");
        let steps = fs::read_dir(&checkpoints).unwrap().map(|e| e.unwrap().path());
        let newest = steps.filter(|p| p.to_string_lossy().contains("step-")).max().unwrap();
        fs::remove_dir_all(newest).unwrap();
        fs::remove_dir_all(dir.path().join("part/models")).unwrap();
        if stage == "extend" {
            fs::remove_dir_all(dir.path().join("part/anneal")).unwrap();
        }
        let (code, _, errors) = train(dir.path(), "part", &sets);
        assert_eq!(code, Some(0), "{errors}");
        assert!(weights("part") == weights("whole"), "{stage}");
    }
    // What was measured before a stage is not taken on trust.
    let before = dir.path().join("part/extend-1/before.json");
    let text = fs::read_to_string(&before).unwrap();
    fs::write(&before, text.replacen("\"count\":0", "\"count\":1", 1)).unwrap();
    forget("extend");
    let (code, _, errors) = train(dir.path(), "part", &sets);
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("before.json is damaged"), "{errors}");
}

#[test]
fn stages_that_contradict_each_other_are_refused_before_anything_is_done() {
    let dir = tempfile::tempdir().unwrap();
    for (set, words) in [
        ("extend.0.positions=128", "128 positions are fewer than the 256"),
        ("extend.0.train.sequence_length=512", "sequence_length"),
        ("extend.0.gate.lengths=[512]", "from 128 to the model's positions, 256"),
        ("extend.0.gate.needle=\"{number} it is.\"", "after some words"),
        ("extend.0.gate.recall=1.5", "no share"),
        ("extend.0.train.average={from=1,every=1}", "[anneal]"),
        ("extend.1.positions=512", "extend has 1 entries"),
        ("anneal.schedule=\"cosine\"", "floor_lr = 0.0"),
        ("sets.prose=[\"x\"]", "a set is called by"),
        ("sets.more=[]", "it has no texts"),
    ] {
        let (code, _, errors) = train(dir.path(), "run", &["--set", set]);
        assert_eq!(code, Some(2), "{set}: {errors}");
        let plain = |t: &str| t.split(|c: char| !c.is_alphanumeric()).collect::<String>();
        assert!(plain(&errors).contains(&plain(words)), "{set}: {errors}");
        assert!(!dir.path().join("run").exists(), "{set}");
    }
    // What no source is called shows only when there are sources, but before the first step.
    let mix = "anneal.mix=[{after_tokens=0,shares={prosa=1.0}}]";
    let (code, _, errors) = train(dir.path(), "run", &["--set", mix]);
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("[anneal]: the mix names source \"prosa\""), "{errors}");
    assert!(!dir.path().join("run/checkpoints").exists());
}

/// Texts that nobody wrote and no rule removes, a file each.
fn texts(dir: &Path, count: u64, seed: u64) {
    fs::create_dir_all(dir).unwrap();
    let words = "the harbour of town was built by people who had come from north and in winter it \
                 stood empty nobody could say to whom that belonged when spring came families moved \
                 into houses beside river began repair what storms broke with wood stone rope";
    let words: Vec<&str> = words.split_whitespace().collect();
    let mut state = seed;
    for number in 0..count {
        let sentence = |state: &mut u64| {
            let word = |_| words[program::draw(state, words.len() as u64) as usize];
            let text: Vec<&str> = (0..12).map(word).collect();
            format!("The {}.", text.join(" "))
        };
        let text: Vec<String> = (0..12).map(|_| sentence(&mut state)).collect();
        fs::write(dir.join(format!("{number}.txt")), text.join(" ")).unwrap();
    }
}

#[test]
fn pretraining_goes_on_with_a_checkpoint_of_others_and_reads_old_text_again() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    assert_eq!(train(dir.path(), "first", &["--set", OPEN]).0, Some(0));
    texts(&at("new"), 60, 1);
    texts(&at("old"), 60, 2);
    let go_on = |name: &str, more: &[&str]| {
        let fixed = ["train", "--from", "first/models/base", "--input", "new", "--run-dir", name];
        let short = ["--set", "train.steps=3", "--set", "train.warm_up=1", "--json"];
        let arguments = fixed.into_iter().chain(short).chain(more.iter().copied());
        run(dir.path(), &arguments.collect::<Vec<_>>())
    };
    let (code, out, errors) = go_on("more", &["--replay", "old", "--set", "from.replay_share=0.5"]);
    assert_eq!(code, Some(0), "{errors}");
    let facts: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(facts["steps"], 3);
    let (first, more) = (at("first/models/base"), at("more/models/base"));
    assert_eq!(
        fs::read(first.join("tokenizer.json")).unwrap(),
        fs::read(more.join("tokenizer.json")).unwrap()
    );
    let config = |of: &Path| {
        let mut config = json(&of.join("config.json"));
        config.as_object_mut().unwrap().retain(|key, _| !key.ends_with("token_id"));
        config
    };
    assert_eq!(config(&first), config(&more));
    let recipe = fs::read_to_string(at("more/recipe.toml")).unwrap();
    assert!(
        recipe.contains("replay_share = 0.5") && recipe.contains("positions = 256"),
        "{recipe}"
    );
    // It goes on by itself, as every run does.
    let (code, ..) = run(dir.path(), &["train", "--run-dir", "more", "--quiet"]);
    assert_eq!(code, Some(0));

    // A tokenizer of another model.
    let other = at("other");
    fs::create_dir(&other).unwrap();
    for (name, bytes) in content(&first) {
        fs::write(other.join(name), bytes).unwrap();
    }
    fs::remove_file(other.join("manifest.json")).unwrap();
    let text = fs::read_to_string(other.join("config.json")).unwrap();
    fs::write(
        other.join("config.json"),
        text.replace("\"vocab_size\": 768", "\"vocab_size\": 700"),
    )
    .unwrap();
    let from = ["train", "--from", "other", "--input", "new", "--run-dir", "x"];
    let (code, _, errors) = run(dir.path(), &from);
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("768 ids, its embedding 700 rows"), "{errors}");
    fs::remove_file(other.join("tokenizer.json")).unwrap();
    assert_eq!(run(dir.path(), &from).0, Some(3));
    assert!(!at("x").exists());
    let (code, _, errors) = run(dir.path(), &["train", "--replay", "old"]);
    assert_eq!(code, Some(2), "{errors}");
}

/// Weights that are cut are told before anything is read, those that are no numbers before the first
/// step.
#[test]
fn broken_weights_of_others_are_refused_by_file_and_tensor() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    assert_eq!(train(dir.path(), "first", &["--set", OPEN]).0, Some(0));
    texts(&at("new"), 60, 1);
    let (first, other) = (at("first/models/base"), at("other"));
    fs::create_dir(&other).unwrap();
    for name in ["config.json", "tokenizer.json"] {
        fs::copy(first.join(name), other.join(name)).unwrap();
    }
    let from = ["train", "--from", "other", "--input", "new", "--run-dir", "x"];
    let mut weights = fs::read(first.join("model.safetensors")).unwrap();
    let end = weights.len() - 4;
    fs::write(other.join("model.safetensors"), &weights[..end]).unwrap();
    let (code, _, errors) = run(dir.path(), &from);
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("not a sound safetensors file"), "{errors}");
    assert!(!at("x").exists());
    weights[end..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(other.join("model.safetensors"), &weights).unwrap();
    let (code, _, errors) = run(dir.path(), &from);
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("of tensor 'model.") && errors.contains("is NaN"), "{errors}");
}

#[test]
fn a_set_on_trial_is_held_against_its_control() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(train(dir.path(), "run", &["--set", OPEN]).0, Some(0));
    let fixed = ["run", "probe", "run", "--data", "run/world/mathematics.jsonl", "--steps", "3"];
    let probe = |more: &[&str]| {
        run(dir.path(), &fixed.into_iter().chain(more.iter().copied()).collect::<Vec<_>>())
    };
    let (code, out, errors) = probe(&["--json", "--at", "15"]);
    assert_eq!(code, Some(0), "{errors}");
    let found: Value = serde_json::from_str(&out).unwrap();
    let [control, with] = [0, 1].map(|i| &found["runs"][i]);
    assert_eq!((&control["share"], &with["share"]), (&json!(0.0), &json!(0.3)));
    assert_ne!(control["found"]["validation"], with["found"]["validation"]);
    assert!(found["verdicts"].as_array().unwrap().iter().any(|v| v["class"] == "arithmetic"));
    assert_eq!(json(&dir.path().join("run/probes/mathematics/probe.json")), found);
    for (more, word) in [
        (&["--at", "7"][..], "there are checkpoints after steps [15, 20]"),
        (&["--share", "1.0"], "between 0 and 1"),
        (&["--class", "algebra"], "the questions are of "),
        (&["--exam", "nowhere.jsonl"], "nowhere.jsonl does not exist"),
    ] {
        let (code, _, errors) = probe(more);
        assert_eq!(code, Some(2), "{errors}");
        assert!(errors.contains(word), "{errors}");
    }
}
