//! `quipu run compare`: the table, the differences and the page of runs whose curves are known, and
//! what it says of runs that cannot be compared. The statistics have their tests in `train`.

#![allow(clippy::unwrap_used)]

mod program;

use program::{draw, run};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// Writes the metrics of a run: steps of `batch` tokens, a loss that falls with the tokens and
/// scatters by step alike in all runs, and `more` of it.
fn write(dir: &Path, name: &str, (first, steps): (u64, u64), batch: u64, more: f64) {
    fs::create_dir_all(dir.join(name)).unwrap();
    let (mut seed, mut lines) = (7, String::new());
    for step in 1..=steps {
        let noise = draw(&mut seed, 1000) as f64 / 1000.0;
        let tokens = step * batch;
        let loss = 2.0 + 6.0 * (-(tokens as f64) / 50_000.0).exp() + noise + more;
        if step < first {
            continue;
        }
        let mut line = json!({
            "step": step, "loss": loss, "grad_norm": 0.5, "lr": 1e-3, "tokens": tokens,
            "machine": {"seconds": 0.5, "tokens_per_s": 2.0 * batch as f64, "memory_mib": 100.0,
                "share_of_ceiling": 0.625},
        });
        if step.is_multiple_of(50) {
            line["validation"] = json!({"loss": loss, "bits_per_byte": loss / 4.0, "tokens": 9});
        }
        lines += &format!("{line}\n");
    }
    fs::write(dir.join(name).join("metrics.jsonl"), lines).unwrap();
}

/// Compares in a folder where `make` has written; the object and what was said.
fn compare(make: impl Fn(&Path), more: &[&str]) -> (Value, String, String) {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path());
    let arguments = [&["run", "compare"], more, &["--out", "page.html"]].concat();
    let (code, out, errors) = run(dir.path(), &arguments);
    assert_eq!(code, Some(0), "{errors}");
    let page = fs::read_to_string(dir.path().join("page.html")).unwrap();
    let (code, object, errors) = run(dir.path(), &[&arguments[..], &["--json"]].concat());
    assert_eq!(code, Some(0), "{errors}");
    for line in out.lines() {
        assert!(errors.contains(line), "{line:?} is said with --json as well: {errors}");
    }
    (serde_json::from_str(&object).unwrap(), out, page)
}

#[test]
fn runs_with_equal_batches_are_compared_step_by_step() {
    let make = |dir: &Path| {
        write(dir, "runs/a", (1, 1000), 512, 0.0);
        write(dir, "runs/b", (1, 900), 512, 0.0625);
    };
    let (found, out, page) = compare(make, &["runs/a", "runs/b/"]);
    assert_eq!((&found["format"], &found["version"]), (&json!("quipu.comparison"), &json!(1)));
    let (a, b) = (&found["runs"][0], &found["runs"][1]);
    assert_eq!((&a["steps"], &b["tokens"]), (&json!(1000), &json!(900 * 512)));
    assert_eq!((&a["run"], &b["run"]), (&json!("runs/a"), &json!("runs/b")));
    assert_eq!((&a["tokens_per_s"], &a["share_of_ceiling"]), (&json!(1024.0), &json!(0.625)));
    let one = &found["differences"][0];
    assert_eq!((&one["by"], &one["to"]), (&json!("steps"), &json!(900.0)));
    for window in one["windows"].as_array().unwrap() {
        // The scatter is in both: no more of it is left than of the digits.
        for key in ["mean", "low", "high"] {
            assert!((window[key].as_f64().unwrap() - 0.0625).abs() < 1e-9, "{window}");
        }
    }
    for part in ["runs/b", "1,000", "460,800", "62 %", "+0.06250", "95 %: ", "at equal steps"] {
        assert!(out.contains(part), "{part}: {out}");
    }
    for part in ["prefers-color-scheme: dark", "<polyline class=\"s1\"", "Validation", "runs/b"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("NaN") && !page.contains("<script"));
}

#[test]
fn runs_with_other_batches_are_compared_at_equal_tokens() {
    let make = |dir: &Path| {
        write(dir, "a", (1, 800), 300, 0.0);
        write(dir, "b", (1, 240), 1000, 0.5);
    };
    let (found, out, page) = compare(make, &["a", "b/metrics.jsonl"]);
    let one = &found["differences"][0];
    assert_eq!(one["by"], "tokens");
    let window = &one["windows"][0];
    assert_eq!(window["pairs"], 240);
    let (low, high) = (window["low"].as_f64().unwrap(), window["high"].as_f64().unwrap());
    assert!(0.35 < low && low < high && high < 0.6, "{window}");
    assert!(out.contains("at equal tokens") && page.contains("tokens trained on"), "{out}");
    let (by_steps, ..) = compare(make, &["a", "b", "--by", "steps"]);
    assert_eq!(by_steps["differences"][0]["windows"][0]["pairs"], 240);
    assert!(by_steps["differences"][0]["windows"][0]["mean"].as_f64().unwrap() < 0.4);
}

#[test]
fn a_run_that_is_being_written_and_one_of_few_steps_can_be_read() {
    let make = |dir: &Path| {
        write(dir, "a", (1, 5), 512, 0.0);
        write(dir, "b", (1, 5), 512, 0.0);
        write(dir, "c", (1, 9), 512, 0.0);
        let path = dir.join("b/metrics.jsonl");
        let whole = fs::read(&path).unwrap();
        fs::write(path, &whole[..whole.len() - 20]).unwrap();
    };
    let (found, out, _) = compare(make, &["a", "b", "c"]);
    assert_eq!(found["runs"][1]["steps"], 4);
    let window = &found["differences"][0]["windows"][0];
    assert_eq!((&window["low"], &window["pairs"]), (&Value::Null, &json!(4)));
    assert!(out.contains("4 pairs, of which no interval"), "{out}");
    assert_eq!(found["differences"][1]["windows"][0]["pairs"], 5);
}

/// In a folder with the runs a, b, late, empty and damaged: its error must contain `expected`.
#[track_caller]
fn check(arguments: &[&str], code: i32, expected: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a", (1, 9), 512, 0.0);
    write(dir.path(), "b", (1, 9), 512, 0.0);
    write(dir.path(), "late", (20, 30), 512, 0.0);
    write(dir.path(), "damaged", (1, 9), 512, 0.0);
    let path = dir.path().join("damaged/metrics.jsonl");
    let lines = fs::read_to_string(&path).unwrap();
    fs::write(&path, lines.replace("\"step\":3,", "\"step\":3,,")).unwrap();
    write(dir.path(), "other", (1, 9), 512, 0.0);
    let path = dir.path().join("other/metrics.jsonl");
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("\"step\":4,", "\"stop\":4,"))
        .unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    fs::create_dir(dir.path().join("begun")).unwrap();
    fs::write(dir.path().join("begun/metrics.jsonl"), "").unwrap();
    let arguments = [&["run", "compare"], arguments, &["--out", "page.html"]].concat();
    let (found, out, errors) = run(dir.path(), &arguments);
    assert_eq!((found, out.as_str()), (Some(code), ""), "{errors}");
    for part in expected {
        assert!(errors.contains(part), "{arguments:?} said {errors:?}, not {part:?}");
    }
    assert!(!dir.path().join("page.html").exists());
}

#[test]
fn what_cannot_be_compared_is_said() {
    check(&["a", "nowhere"], 3, &["no run nowhere", "runs/speedrun/sft"]);
    check(&["empty", "a"], 3, &["empty holds no metrics.jsonl"]);
    check(&["a", "begun"], 3, &["begun/metrics.jsonl has no step yet"]);
    check(&["a", "damaged"], 3, &["damaged/metrics.jsonl", "line 3"]);
    check(&["a", "other"], 3, &["other/metrics.jsonl", "line 4", "no record of a step"]);
    check(&["a", "late"], 3, &["no step is in both", "steps 1 to 9", "late has steps 20 to 30"]);
    check(&["a", "late", "--by", "tokens"], 3, &["no stretch of tokens is in both"]);
    check(&["a", "b", "a/"], 2, &["named twice"]);
    check(&["a", "b", "b/metrics.jsonl"], 2, &["named twice"]);
    check(&["a"], 2, &["2 values required"]);
    check(&["a", "b", "--by", "hours"], 2, &["steps", "tokens"]);
}

#[test]
fn a_page_that_cannot_be_written_is_said() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a", (1, 9), 512, 0.0);
    write(dir.path(), "b", (1, 9), 512, 0.0);
    let (code, _, errors) =
        run(dir.path(), &["run", "compare", "a", "b", "--out", "none/page.html"]);
    assert!(code != Some(0) && errors.contains("none/page.html"), "{errors}");
}
