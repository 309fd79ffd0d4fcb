//! What `eval` found, in sentences: the line on the terminal, the verdict, and what the model knows
//! and does not. Nothing is measured here, and nothing is said that was not.

use super::{Context, facts};
use crate::terminal::thousands;
use serde_json::{Map, Value};

fn percent(value: &Value) -> String {
    format!("{:.0} %", 100.0 * value.as_f64().unwrap_or(0.0))
}

/// Classes of facts that stand in the training text, or are known not to, with their statements.
fn stated(exam: &Value) -> Vec<&Value> {
    let classes = exam["classes"].as_array().into_iter().flatten();
    let mut stated: Vec<&Value> = classes.filter(|c| c["statements"].is_number()).collect();
    let number = |c: &Value| c["statements"].as_f64().unwrap_or(0.0);
    stated.sort_by(|a, b| number(b).total_cmp(&number(a)));
    stated
}

fn name(class: &Value) -> &str {
    class["class"].as_str().unwrap_or_default()
}

/// Mean number of statements of a class's facts.
fn times(class: &Value) -> String {
    format!("{:.0}", class["statements"].as_f64().unwrap_or(0.0))
}

/// How the model stands against a 5-gram model, and what share of each class it knows.
pub fn verdict(ratio: Option<f64>, exam: &Value) -> String {
    let mut out = match ratio {
        Some(r) => {
            let (share, word) = if r < 1.0 { (1.0 - r, "fewer") } else { (r - 1.0, "more") };
            format!(
                "It needs {:.1} % {word} bits for unseen text than a 5-gram model of the same \
                 tokens.",
                100.0 * share
            )
        }
        None => "Its loss was not measured on the unseen text that a 5-gram model was.".into(),
    };
    let stated = stated(exam);
    for (i, c) in stated.iter().enumerate() {
        let often = match times(c).as_str() {
            "0" => "never".into(),
            times => format!("{times} times"),
        };
        let (low, high) = (percent(&c["low"]), percent(&c["high"]));
        out += if i == 0 { " Of the facts that were stated " } else { ", " };
        out += &match i {
            0 => format!("{often} it knows {} (95 %: {low} to {high})", percent(&c["accuracy"])),
            _ => format!("{often} {} ({low} to {high})", percent(&c["accuracy"])),
        };
    }
    if let Some(most) = stated.first() {
        let constant = percent(&most["constant"]);
        out += &format!("; the best constant answer is right in {constant} of the first.");
    }
    out
}

/// What this model knows, for whoever is about to talk with it.
pub fn honesty(context: &Context, exam: &Value) -> String {
    let kept = facts(context, "corpus").ok().and_then(|f| f["kept"].as_u64()).unwrap_or(0);
    let of = if context.inputs.is_empty() { "of a made-up world" } else { "of your input" };
    let mut out = format!("This model has read {} pages {of}", thousands(kept));
    if let Ok(tune) = facts(context, "tune") {
        let (used, origin) = (tune["sft"]["used"].as_u64().unwrap_or(0), &tune["dialogues"]);
        let origin = origin.as_str().unwrap_or_default();
        out += &format!(" and was tuned on {} dialogues {origin}", thousands(used));
    }
    out + &known(exam)
}

/// What it knows by how often that is stated, and what it says where it cannot know.
fn known(exam: &Value) -> String {
    let mut out = String::new();
    let classes = stated(exam);
    if let (Some(most), Some(least)) = (classes.first(), classes.last()) {
        out += &format!(
            ": asked for a fact that the pages state {} times it is right in {} of cases, for \
             one that they {} in {}",
            times(most),
            percent(&most["accuracy"]),
            if times(least) == "0" {
                "never state".into()
            } else {
                format!("state {} times", times(least))
            },
            percent(&least["accuracy"]),
        );
    }
    match classes.iter().find(|c| times(c) == "0" && c["declined"]["value"].is_number()) {
        Some(never) => {
            let share = percent(&never["declined"]["value"]);
            out + &format!(
                "; asked for what they never state it says in {share} of cases that it does not \
                 know, and else makes something up."
            )
        }
        None => out + "; what it does not know it may make up.",
    }
}

/// `often 57 %`; with how many were asked where others did not fit the context.
fn right(class: &Value) -> String {
    let right = format!("{} {}", name(class), percent(&class["accuracy"]));
    match class["too_long"].as_u64() {
        Some(long) if long > 0 => format!("{right} of {} ({long} too long)", class["questions"]),
        _ => right,
    }
}

/// The stage's line.
pub fn line(ratio: Option<f64>, exam: &Value, found: &Map<String, Value>) -> String {
    let mut parts = Vec::new();
    if let Some(ratio) = ratio {
        parts.push(format!("bits a byte {:.0} % of a 5-gram model's", 100.0 * ratio));
    }
    let all = exam["classes"].as_array().into_iter().flatten();
    let (asked, others): (Vec<&Value>, Vec<&Value>) = all.partition(|c| c["questions"] != 0);
    if !asked.is_empty() {
        let right: Vec<String> = asked.into_iter().map(right).collect();
        parts.push(format!("right answers: {}", right.join(", ")));
    }
    if !others.is_empty() {
        let number = |c: &Value, key: &str| c[key].as_u64().unwrap_or(0);
        let left = |c: &Value| number(c, "too_long") + number(c, "programs");
        let names: Vec<_> = others.iter().map(|c| format!("{} {}", left(c), name(c))).collect();
        parts.push(format!("not asked: {}", names.join(", ")));
    }
    if let Some(endings) = found.get("endings") {
        let mean = endings["mean_tokens"].as_f64().unwrap_or(0.0);
        let (ended, of) = (percent(&endings["ended"]["value"]), &endings["ended"]["of"]);
        parts.push(format!(
            "{ended} of {of} answers end by themselves, {mean:.0} tokens on average"
        ));
    }
    parts.join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn exam() -> Value {
        let class = |name, stated: Option<f64>, accuracy| {
            json!({"class": name, "statements": stated, "accuracy": accuracy, "low": 0.5,
                "high": 0.7, "constant": 0.1})
        };
        let classes = [
            class("rarely", Some(2.0), 0.04),
            class("often", Some(60.0), 0.61),
            class("sums", None, 0.3),
        ];
        json!({"classes": classes})
    }

    #[test]
    fn the_verdict_orders_by_statements_and_keeps_to_facts() {
        let said = verdict(Some(0.88), &exam());
        assert!(said.starts_with("It needs 12.0 % fewer bits"), "{said}");
        let facts = " Of the facts that were stated 60 times it knows 61 % (95 %: 50 % to 70 %), \
            2 times 4 % (50 % to 70 %); the best constant answer is right in 10 % of the first.";
        assert!(said.ends_with(facts), "{said}");
        assert!(verdict(Some(1.5), &json!({})).contains("50.0 % more bits"));
        assert!(verdict(None, &json!({})).contains("not measured"));
    }

    #[test]
    fn what_is_said_of_the_unknown_was_counted() {
        let never = json!({"class": "never", "statements": 0.0, "accuracy": 0.01,
            "declined": {"value": 0.78}});
        let mut exam = exam();
        assert!(known(&exam).ends_with("; what it does not know it may make up."));
        exam["classes"].as_array_mut().unwrap().push(never);
        let said = known(&exam);
        let counted = ", for one that they never state in 1 %; asked for what they never state it \
            says in 78 % of cases that it does not know, and else makes something up.";
        assert!(said.ends_with(counted), "{said}");
    }

    #[test]
    fn the_line_says_what_was_not_asked() {
        let exam = json!({"classes": [
            {"class": "needle", "questions": 20, "accuracy": 0.5, "too_long": 20, "programs": 0},
            {"class": "program", "questions": 0, "too_long": 0, "programs": 60},
        ]});
        let expected = "right answers: needle 50 % of 20 (20 too long) · not asked: 60 program";
        assert_eq!(line(None, &exam, &Map::new()), expected);
    }

    #[test]
    fn the_line_has_every_class() {
        let said = line(Some(0.9), &exam(), &Map::new());
        assert_eq!(
            said,
            "bits a byte 90 % of a 5-gram model's · right answers: rarely 4 %, often 61 %, sums 30 %"
        );
        assert_eq!(line(None, &json!({}), &Map::new()), "");
    }
}
