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
        None => "Its loss on unseen text was not measured.".into(),
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
    let mut out = format!("This model has read {} pages {of} and nothing else", thousands(kept));
    let classes = stated(exam);
    if let (Some(most), Some(least)) = (classes.first(), classes.last()) {
        out += &format!(
            ": asked for a fact that they state {} times it is right in {} of cases, for one that \
             they {} in {}",
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
    out + "; what it does not know it makes up in the same tone."
}

/// The stage's line.
pub fn line(ratio: Option<f64>, exam: &Value, found: &Map<String, Value>) -> String {
    let mut parts = Vec::new();
    if let Some(ratio) = ratio {
        parts.push(format!("bits a byte {:.0} % of a 5-gram model's", 100.0 * ratio));
    }
    let classes: Vec<String> = exam["classes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|c| format!("{} {}", name(c), percent(&c["accuracy"])))
        .collect();
    if !classes.is_empty() {
        parts.push(format!("right answers: {}", classes.join(", ")));
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
    fn the_line_has_every_class() {
        let said = line(Some(0.9), &exam(), &Map::new());
        assert_eq!(
            said,
            "bits a byte 90 % of a 5-gram model's · right answers: rarely 4 %, often 61 %, sums 30 %"
        );
        assert_eq!(line(None, &json!({}), &Map::new()), "");
    }
}
