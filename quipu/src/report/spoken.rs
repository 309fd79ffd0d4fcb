//! A finished run on the terminal: what each stage said, a good and a bad answer, a conversation,
//! what the model knows, and what to do next. It reads `report.json` and decides nothing.

use crate::run_folder::RunFolder;
use crate::stage;
use crate::stage::screen::completion;
use crate::terminal::{Terminal, one_line};
use serde_json::Value;

/// Characters of a line that is cut.
const WIDTH: usize = 96;

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The lines of the stages as they were said when each was done.
pub fn stages(report: &Value, terminal: &Terminal) {
    for stage in list(&report["stages"]) {
        let name = text(&stage["name"]);
        terminal.comment(&stage::line(name, stage));
        for s in list(&report["train"]["samples"]).iter().filter(|_| name == "train") {
            let share = s["share"].as_f64().unwrap_or(0.0);
            terminal.comment(&completion(share, text(&s["prompt"]), text(&s["text"])));
        }
    }
}

/// What stands at the end of a run.
pub fn close(run: &RunFolder, report: &Value, terminal: &Terminal) {
    for (mark, example) in [("right", true), ("wrong", false)] {
        let examples = list(&report["eval"]["examples"]);
        if let Some(found) = examples.iter().find(|e| e["right"] == example) {
            terminal.comment(&asked(mark, found));
        }
    }
    for turn in list(&report["chat"]) {
        let line = one_line(text(&turn["content"]), WIDTH - 10);
        let user = turn["role"] == "user";
        terminal.comment(&if user {
            format!("chat    > {line}")
        } else {
            format!("          {line}")
        });
    }
    terminal.comment(&format!("\n{}\n", text(&report["honesty"])));
    terminal.say(&format!("report  {}", run.path("report.html").display()));
    for (i, next) in list(&report["next"]).iter().enumerate() {
        let label = if i == 0 { "next" } else { "" };
        terminal.comment(&format!(
            "{label:7} {}   # {}",
            text(&next["command"]),
            text(&next["why"])
        ));
    }
}

/// `wrong   Where was Ada born? → In the sea. (Ryme)`.
fn asked(mark: &str, example: &Value) -> String {
    let accept = list(&example["accept"]).first().map(text).unwrap_or_default();
    let answer = one_line(text(&example["answer"]), WIDTH / 2);
    let right = if mark == "right" { String::new() } else { format!(" (it is: {accept})") };
    format!("{mark:7} {} → {answer}{right}", one_line(text(&example["question"]), WIDTH))
}
