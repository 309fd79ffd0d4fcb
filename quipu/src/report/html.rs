//! `report.html`: one file, no script, nothing from outside; light and dark by the reader's system.
//! It shows `report.json` and decides nothing: what is missing there has no section here.

use super::chart::{self, Interval, Series, escape};
use serde_json::Value;
use std::fmt::Write;

const CSS: &str = include_str!("page.css");

/// The page for a report.
pub fn page(report: &Value) -> String {
    let name = text(&report["recipe"]["name"]);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>quipu: {0}</title><style>{CSS}</style></head><body>\n<h1>{0}</h1>\n",
        escape(&name)
    );
    verdict(&mut out, report);
    stages(&mut out, report);
    funnel(&mut out, &report["corpus"]);
    training(&mut out, &report["train"]);
    examination(&mut out, &report["eval"]);
    answers(&mut out, &report["answers"]);
    conversation(&mut out, &report["chat"]);
    origin(&mut out, report);
    out + "</body></html>\n"
}

/// A string as it is, anything else as JSON, null as nothing.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(s) => s.clone(),
        other => other.to_string(),
    }
}

fn number(value: &Value, digits: usize) -> String {
    value.as_f64().map_or_else(|| "–".into(), |v| format!("{v:.digits$}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn verdict(out: &mut String, report: &Value) {
    let _ = write!(out, "<p class=\"verdict\">{}</p>", escape(&text(&report["verdict"])));
    let _ = write!(out, "<p class=\"soft\">{}</p>", escape(&text(&report["honesty"])));
}

fn stages(out: &mut String, report: &Value) {
    out.push_str(
        "<h2>Stages</h2><div class=\"wide\"><table><tr><th>stage<th>result\
         <th class=\"n\">seconds<th class=\"n\">peak MiB<th class=\"n\">share of the ceiling</tr>",
    );
    for stage in list(&report["stages"]) {
        let share = stage["share_of_ceiling"].as_f64();
        let share = share.map_or_else(|| "–".into(), |s| format!("{:.0} %", s * 100.0));
        let _ = write!(
            out,
            "<tr><td>{}<td>{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{share}</tr>",
            escape(&text(&stage["name"])),
            escape(&text(&stage["line"])),
            number(&stage["seconds"], 1),
            number(&stage["peak_mib"], 0),
        );
    }
    out.push_str("</table></div>");
}

fn funnel(out: &mut String, corpus: &Value) {
    if corpus.is_null() {
        return;
    }
    let _ = write!(
        out,
        "<h2>From pages to documents</h2><p>{} pages, {} kept, {} bytes of text.</p>\
         <table><tr><th>stage<th>rule<th class=\"n\">removed<th>some of them</tr>",
        text(&corpus["pages"]),
        text(&corpus["kept"]),
        text(&corpus["kept_bytes"])
    );
    for step in list(&corpus["steps"]) {
        let _ = write!(
            out,
            "<tr><td>{}<td>{}<td class=\"n\">{}<td>",
            escape(&text(&step["stage"])),
            escape(&text(&step["rule"])),
            text(&step["documents"])
        );
        excerpts(out, "removed", &step["samples"]);
        out.push_str("</tr>");
    }
    out.push_str("</table>");
    languages(out, &corpus["languages"]);
    excerpts(out, "kept documents as they read", &corpus["samples"]);
    scores(out, &corpus["scores"]);
}

/// In which languages the kept documents are, most first.
fn languages(out: &mut String, counts: &Value) {
    let Some(counts) = counts.as_object() else { return };
    let mut counts: Vec<(&str, u64)> =
        counts.iter().map(|(name, n)| (name.as_str(), n.as_u64().unwrap_or(0))).collect();
    counts.sort_by_key(|(name, n)| (std::cmp::Reverse(*n), *name));
    let parts: Vec<String> = counts.iter().map(|(name, n)| format!("{name} {n}")).collect();
    let _ = write!(out, "<p>Languages of what was kept: {}.</p>", escape(&parts.join(" · ")));
}

fn excerpts(out: &mut String, name: &str, samples: &Value) {
    let samples = list(samples);
    if samples.is_empty() {
        return;
    }
    let _ = write!(out, "<details><summary>{} {}</summary>", samples.len(), escape(name));
    for sample in samples {
        let _ = write!(
            out,
            "<div class=\"soft\">{}</div><div class=\"text\">{}</div>",
            escape(&text(&sample["url"])),
            escape(&text(&sample["text"]))
        );
    }
    out.push_str("</details>");
}

fn scores(out: &mut String, scores: &Value) {
    if list(scores).is_empty() {
        return;
    }
    out.push_str(
        "<details><summary>each rule against the world's truth</summary><table><tr><th>rule\
         <th class=\"n\">should remove<th class=\"n\">removed<th class=\"n\">rightly\
         <th class=\"n\">precision<th class=\"n\">recall</tr>",
    );
    for s in list(scores) {
        let n = |key: &str| s[key].as_f64().unwrap_or(0.0);
        let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 1.0 };
        let _ = write!(
            out,
            "<tr><td>{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}\
             <td class=\"n\">{:.3}<td class=\"n\">{:.3}</tr>",
            escape(&text(&s["rule"])),
            n("expected"),
            n("removed"),
            n("right"),
            share(n("right"), n("removed")),
            share(n("right"), n("expected"))
        );
    }
    out.push_str("</table></details>");
}

fn training(out: &mut String, train: &Value) {
    let curve = list(&train["curve"]);
    if curve.is_empty() {
        return;
    }
    let points = |key: &str| -> Vec<(f64, f64)> {
        let point = |p: &Value| Some((p["tokens"].as_f64()?, p[key].as_f64()?));
        curve.iter().filter_map(point).collect()
    };
    let mut series = vec![Series { name: "training".into(), points: points("loss") }];
    series.push(Series { name: "validation".into(), points: points("validation") });
    for (key, name) in [("unigram", "unigram"), ("five_gram", "5-gram")] {
        if let Some(level) = train["baselines"][key]["nats_per_token"].as_f64() {
            series.push(Series { name: name.into(), points: vec![(0.0, level)] });
        }
    }
    series.retain(|s| !s.points.is_empty());
    out.push_str("<h2>Training</h2>");
    out.push_str(&chart::lines("tokens", "loss, nats a token", &series));
    let _ = write!(out, "<p>{}</p>", escape(&text(&train["sentence"])));
    let completions = list(&train["samples"]);
    if !completions.is_empty() {
        out.push_str("<p class=\"soft\">The same prompt, completed while the model learned:</p>");
    }
    for s in completions {
        let share = s["share"].as_f64().unwrap_or(0.0) * 100.0;
        let _ = write!(
            out,
            "<div class=\"text\"><span class=\"soft\">{share:.0} %</span> <b>{}</b>{}</div>",
            escape(&text(&s["prompt"])),
            escape(&text(&s["text"]))
        );
    }
}

fn examination(out: &mut String, eval: &Value) {
    let classes = list(&eval["classes"]);
    if classes.is_empty() {
        return;
    }
    out.push_str("<h2>Closed-book examination</h2>");
    let n = |v: &Value| v.as_f64().unwrap_or(0.0);
    let row = |c: &Value| Interval {
        name: format!("{} ({} questions)", text(&c["class"]), text(&c["questions"])),
        share: (n(&c["low"]), n(&c["accuracy"]), n(&c["high"])),
        marks: vec![
            ("best constant answer".into(), n(&c["constant"])),
            ("untrained model".into(), n(&c["untrained"])),
        ],
    };
    out.push_str(&chart::intervals(&classes.iter().map(row).collect::<Vec<_>>()));
    out.push_str(
        "<p class=\"soft\">Share right with its 95 % interval, by how often the fact was stated; \
         marks: best constant answer, untrained model.</p><table><tr><th>class\
         <th class=\"n\">stated<th class=\"n\">questions<th class=\"n\">right\
         <th class=\"n\">95 % interval<th class=\"n\">constant<th class=\"n\">untrained</tr>",
    );
    for c in classes {
        let share = |key: &str| format!("{:.1} %", n(&c[key]) * 100.0);
        let _ = write!(
            out,
            "<tr><td>{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}–{}\
             <td class=\"n\">{}<td class=\"n\">{}</tr>",
            escape(&text(&c["class"])),
            number(&c["statements"], 1),
            text(&c["questions"]),
            share("accuracy"),
            share("low"),
            share("high"),
            share("constant"),
            share("untrained")
        );
    }
    let _ = write!(out, "</table><p>{}</p>", escape(&text(&eval["sentence"])));
}

fn answers(out: &mut String, answers: &Value) {
    if list(answers).is_empty() {
        return;
    }
    out.push_str(
        "<h2>The same prompts at three stages</h2><div class=\"wide\"><table><tr><th>prompt\
         <th>base<th>fine-tuned<th>final<th class=\"n\">longest span from training, tokens</tr>",
    );
    for a in list(answers) {
        let verdict = match a["right"].as_bool() {
            Some(true) => "<span class=\"good\">right</span> ",
            Some(false) => "<span class=\"bad\">wrong</span> ",
            None => "",
        };
        let _ = write!(
            out,
            "<tr><td>{}<td>{}<td>{}<td>{verdict}{}<td class=\"n\">{}</tr>",
            escape(&text(&a["prompt"])),
            escape(&text(&a["base"])),
            escape(&text(&a["sft"])),
            escape(&text(&a["final"])),
            text(&a["verbatim_tokens"])
        );
    }
    out.push_str("</table></div>");
}

fn conversation(out: &mut String, turns: &Value) {
    if list(turns).is_empty() {
        return;
    }
    out.push_str("<h2>A conversation</h2>");
    for turn in list(turns) {
        let _ = write!(
            out,
            "<div class=\"text\"><span class=\"soft\">{}</span> {}</div>",
            escape(&text(&turn["role"])),
            escape(&text(&turn["content"]))
        );
    }
}

fn origin(out: &mut String, report: &Value) {
    out.push_str("<h2>Where this comes from</h2><table>");
    let machine = &report["machine"];
    for (name, value) in [
        ("command", &report["command"]),
        ("input", &report["inputs"]),
        ("dialogues", &report["dialogues"]),
        ("program", &report["program"]),
        ("processor", &machine["processor"]),
        ("cores", &machine["cores"]),
        ("memory", &machine["memory"]),
    ] {
        let _ = write!(out, "<tr><th>{name}<td>{}</tr>", escape(&text(value)));
    }
    for (name, hash) in report["hashes"].as_object().into_iter().flatten() {
        let _ = write!(out, "<tr><th>{}<td>{}</tr>", escape(name), escape(&text(hash)));
    }
    let recipe = escape(&text(&report["recipe_toml"]));
    let _ = write!(out, "</table><details><summary>recipe</summary><pre>{recipe}</pre></details>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_from_outside_and_nothing_unescaped() {
        let report = json!({
            "recipe": {"name": "<script>x</script>"},
            "verdict": "It answers.",
            "stages": [{"name": "world", "line": "a & b", "seconds": 1.0, "peak_mib": 9.0}],
            "corpus": {"pages": 3, "kept": 1, "steps": [
                {"stage": "x", "rule": "y", "documents": 2,
                    "samples": [{"url": "u", "text": "<b>"}]}
            ]},
            "train": {"curve": [{"tokens": 1, "loss": 2.0}, {"tokens": 2, "loss": 1.0}],
                "baselines": {"unigram": {"nats_per_token": 3.0}}},
            "eval": {"classes": [{"class": "often", "questions": 200, "accuracy": 0.5,
                "low": 0.4, "high": 0.6, "constant": 0.1, "untrained": 0.0}]},
            "answers": [{"prompt": "p", "final": "f", "right": false}],
        });
        let html = page(&report);
        for outside in ["<script", "src=", "href=", "@import", "url(", "<b>\"", "NaN"] {
            assert!(!html.contains(outside), "{outside}");
        }
        for inside in ["a &amp; b", "often (200 questions)", "unigram 3", "wrong", "It answers."] {
            assert!(html.contains(inside), "{inside}");
        }
    }

    #[test]
    fn an_empty_report_is_a_page() {
        assert!(page(&json!({})).ends_with("</html>\n"));
    }
}
