//! `quipu classify`: classifiers trained from files, calibrated anew, and applied to documents. Not
//! the classifiers themselves (`corpus`), nor their use within a curation, which a recipe says.

use super::Setting;
use crate::cli::Classify;
use crate::error::Error;
use crate::terminal::thousands;
use quipu_corpus::classify::{self, Figure, Measured, Options, Scoring, jobs};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Runs the command.
pub fn run(what: Classify, setting: &Setting) -> Result<(), Error> {
    let terminal = &setting.terminal;
    match what {
        Classify::Train { examples, out, epochs, word_grams, bucket_bits } => {
            let default = Options::default();
            let options = Options {
                epochs: epochs.unwrap_or(default.epochs),
                word_grams: word_grams.unwrap_or(default.word_grams),
                bucket_bits: bucket_bits.unwrap_or(default.bucket_bits),
                ..default
            };
            let training = jobs::Training { inputs: labelled(&examples), out, options };
            let measured = jobs::train_files(&training, &*setting.progress, &setting.cancel);
            let measured = measured.map_err(failed)?;
            terminal.say(&told(&measured));
            terminal.say(&format!("wrote {}", training.out.display()));
            terminal.result(&figures(&measured));
        }
        Classify::Calibrate { model, examples, out } => {
            let fitted =
                jobs::calibrate_file(&model, &labelled(&examples), &out).map_err(failed)?;
            let (before, after) = (fitted.before, fitted.after);
            terminal.say(&format!(
                "mean squared distance of probabilities from the truth: {before:.4} before, \
                 {after:.4} after (on the examples that it was fitted to); wrote {}",
                out.display()
            ));
            terminal.result(&json!({"before": before, "after": after}));
        }
        Classify::Score { model, input, out, name, label } => {
            let own = || model.file_stem().map(|stem| stem.to_string_lossy().into_owned());
            let name = name.or_else(own).unwrap_or_default();
            let scoring = Scoring { model, name, label };
            let (progress, cancel) = (&*setting.progress, &setting.cancel);
            let applied = jobs::score_documents(&scoring, &input, &out, progress, cancel);
            let applied = applied.map_err(failed)?;
            let (scored, all) = (thousands(applied.scored), thousands(applied.documents));
            terminal.say(&format!("{scored} of {all} documents scored in {}", out.display()));
            terminal.result(&json!({"documents": applied.documents, "scored": applied.scored}));
        }
    }
    Ok(())
}

fn failed(error: classify::Error) -> Error {
    match error {
        classify::Error::Option { .. } | classify::Error::Label { .. } => {
            Error::usage(error.to_string())
        }
        other => Error::of(&other),
    }
}

/// `FILE=LABEL`, or `FILE` alone; a file that has the whole name is meant as such.
fn labelled(given: &[String]) -> Vec<(PathBuf, Option<String>)> {
    let one = |text: &String| match text.rsplit_once('=') {
        Some((file, label)) if !PathBuf::from(text).exists() => (file.into(), Some(label.into())),
        _ => (text.into(), None),
    };
    given.iter().map(one).collect()
}

/// For people: what cross-validation found, a line a label.
fn told(measured: &Measured) -> String {
    let mut text = format!(
        "{} examples, each held back once: {} of labels right, {:.1} % by the most frequent label\n",
        thousands(measured.examples as u64),
        shares(&measured.accuracy),
        measured.most_frequent * 100.0,
    );
    let lengths = measured.length_auc.iter().zip(&measured.gain);
    for ((label, auc), ((_, length), (_, gain))) in measured.auc.iter().zip(lengths) {
        text += &format!(
            "  {label}: in the right order {} of pairs, by length alone {}, gain {}\n",
            shares(auc),
            shares(length),
            shares(gain),
        );
        if gain.interval.start <= 0.0 {
            text += "    that may be no better than the length: give more examples\n";
        }
    }
    let (before, after) = measured.brier;
    text + &format!("  squared distance from the truth {before:.4}, calibrated {after:.4}")
}

fn shares(figure: &Figure) -> String {
    let Figure { value, interval } = figure;
    let percent = |share: f64| share * 100.0;
    let (low, high) = (percent(interval.start), percent(interval.end));
    format!("{:.1} % ({low:.1} to {high:.1})", percent(*value))
}

fn figures(measured: &Measured) -> Value {
    let figure =
        |f: &Figure| json!({"value": f.value, "low": f.interval.start, "high": f.interval.end});
    let by_label = |all: &[(String, Figure)]| -> Value {
        all.iter()
            .map(|(label, f)| (label.clone(), figure(f)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    json!({
        "examples": measured.examples,
        "accuracy": figure(&measured.accuracy),
        "most_frequent": measured.most_frequent,
        "auc": by_label(&measured.auc),
        "length_auc": by_label(&measured.length_auc),
        "gain": by_label(&measured.gain),
        "brier": {"raw": measured.brier.0, "calibrated": measured.brier.1},
    })
}
