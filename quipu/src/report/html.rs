//! `report.html`: one file, no script, nothing from outside; light and dark by the reader's system.
//! It shows `report.json` and decides nothing: what is missing there has no section here. This file
//! has the page, what the run did and where it comes from; what was learned is in `learned`.

use super::chart::escape;
use super::{corpus, grown, learned};
use crate::terminal::thousands;
use quipu_store::progress::duration;
use serde_json::Value;
use std::fmt::Write;

const CSS: &str = include_str!("page.css");

/// The page for a report.
pub fn page(report: &Value) -> String {
    let name = text(&report["recipe"]["name"]);
    let mut out = head(&name);
    verdict(&mut out, report);
    stages(&mut out, report);
    corpus::section(&mut out, &report["corpus"]);
    learned::training(&mut out, &report["train"]);
    grown::extension(&mut out, &report["extend"]);
    grown::annealing(&mut out, &report["anneal"]);
    learned::tuning(&mut out, &report["tune"], &report["dialogues"]);
    learned::examination(&mut out, &report["eval"]);
    learned::answers(&mut out, &report["answers"]);
    learned::conversation(&mut out, &report["chat"]);
    origin(&mut out, report);
    close(out)
}

/// A page of this name up to its title.
pub fn head(name: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>quipu: {0}</title><style>{CSS}</style></head><body>\n<h1>{0}</h1>\n",
        escape(name)
    )
}

/// The whole page.
pub fn close(page: String) -> String {
    // A number and its sign stay on one line.
    page.replace(" %", "\u{a0}%") + "</body></html>\n"
}

/// A string as it is, anything else as JSON, null as nothing.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(s) => s.clone(),
        other => other.to_string(),
    }
}

/// What is not known is a dash, not a zero.
pub fn shown(value: &Value, say: impl Fn(f64) -> String) -> String {
    value.as_f64().filter(|v| v.is_finite()).map_or_else(|| "–".into(), say)
}

pub fn count(value: &Value) -> String {
    shown(value, |v| thousands(v as u64))
}

pub fn percent(value: &Value) -> String {
    shown(value, |v| format!("{:.0} %", 100.0 * v))
}

fn memory(value: &Value) -> String {
    shown(value, |v| format!("{} MiB", thousands(v as u64)))
}

pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A table whose rows become cards on a telephone. Names that begin with `#` are of columns of
/// numbers; cells are HTML.
pub fn table(out: &mut String, names: &[&str], rows: &[Vec<String>]) {
    out.push_str("<table class=\"stack\">");
    if names.iter().any(|name| !name.is_empty()) {
        out.push_str("<tr class=\"head\">");
        for name in names {
            let (class, name) = column(name);
            let _ = write!(out, "<th{class}>{}", escape(name));
        }
        out.push_str("</tr>");
    }
    for row in rows {
        out.push_str("<tr>");
        for (i, (name, cell)) in names.iter().zip(row).enumerate() {
            let (class, name) = column(name);
            let _ = match i {
                0 => write!(out, "<td class=\"name\">{cell}"),
                _ if cell == "–" => write!(out, "<td class=\"n none\">{cell}"),
                _ => write!(out, "<td{class} data-name=\"{}\">{cell}", escape(name)),
            };
        }
        out.push_str("</tr>");
    }
    out.push_str("</table>");
}

fn column(name: &str) -> (&'static str, &str) {
    name.strip_prefix('#').map_or(("", name), |name| (" class=\"n\"", name))
}

/// A bar as long as `share` of its cell.
pub fn bar(share: f64) -> String {
    let width = (100.0 * share).clamp(0.0, 100.0);
    format!("<span class=\"bar\"><i style=\"width:{width:.1}%\"></i></span>")
}

fn verdict(out: &mut String, report: &Value) {
    let _ = write!(out, "<p class=\"verdict\">{}</p>", escape(&text(&report["verdict"])));
    let (eval, train) = (&report["eval"], &report["train"]);
    out.push_str("<div class=\"figures\">");
    let mut figure = |value: String, what: String| {
        let _ = write!(out, "<div><b>{}</b>{}</div>", escape(&value), escape(&what));
    };
    let bits = |v: &Value| shown(&v["bits_per_byte"], |v| format!("{v:.3}"));
    let last = ["anneal", "extend", "train"].map(|stage| &report[stage]["validation"]);
    if let Some(validation) = last.into_iter().find(|validation| validation.is_object()) {
        let beside = &train["baselines"];
        let (five, one) = (bits(&beside["five_gram"]), bits(&beside["unigram"]));
        let what = format!("bits a byte of unseen text; 5-gram model {five}, unigram {one}");
        figure(bits(validation), what);
    }
    let stated = list(&eval["classes"]).iter().filter(|c| c["statements"].is_number());
    let times = |c: &Value| c["statements"].as_f64().unwrap_or(0.0);
    if let Some(most) = stated.max_by(|a, b| times(a).total_cmp(&times(b))) {
        let (low, high) = (percent(&most["low"]), percent(&most["high"]));
        let times = times(most);
        let what = format!("of facts stated {times:.0} times are known (95 %: {low} to {high})");
        figure(percent(&most["accuracy"]), what);
    }
    let endings = &eval["endings"];
    if endings.is_object() {
        let mean = shown(&endings["mean_tokens"], |v| format!("{v:.0}"));
        let of = count(&endings["ended"]["of"]);
        let what = format!("of {of} answers end by themselves, after {mean} tokens on average");
        figure(percent(&endings["ended"]["value"]), what);
    }
    if train["share_of_ceiling"].is_number() {
        let ceiling = shown(&train["ceiling_flop_per_s"], |v| format!("{:.0} GFLOP/s", v / 1e9));
        let share = percent(&train["share_of_ceiling"]);
        let name = crate::stage::train::ceiling(train);
        let what = format!("tokens a second in training, {share} of the {name} of {ceiling}");
        figure(count(&train["tokens_per_s"]), what);
    }
    if report["seconds"].is_number() {
        let what = format!("for all stages, with at most {}", memory(&report["peak_mib"]));
        figure(shown(&report["seconds"], duration), what);
    }
    out.push_str("</div>");
    let _ = write!(out, "<p class=\"soft\">{}</p>", escape(&text(&report["honesty"])));
}

fn stages(out: &mut String, report: &Value) {
    out.push_str("<h2>Stages</h2>");
    let row = |stage: &Value| {
        vec![
            escape(&text(&stage["name"])),
            escape(&text(&stage["line"])),
            shown(&stage["seconds"], |_| crate::stage::time(stage)),
            memory(&stage["peak_mib"]),
            count(&stage["tokens_per_s"]),
            percent(&stage["share_of_ceiling"]),
        ]
    };
    let rows: Vec<_> = list(&report["stages"]).iter().map(row).collect();
    let names = ["stage", "result", "#time", "#peak memory", "#tokens/s", "#of the ceiling"];
    table(out, &names, &rows);
    out.push_str(
        "<p class=\"soft small\">Times are over all processes that worked on a stage; one that \
         was killed left none. Peak memory is the process's highest so far. The ceiling is what \
         this machine's processors can do in f32 (multiply-adds on registers), measured around \
         each stage that trains; the share counts what training needs, padding included.</p>",
    );
}

fn origin(out: &mut String, report: &Value) {
    out.push_str("<h2>Where this comes from</h2>");
    let machine = &report["machine"];
    let program = format!("quipu {}", text(&report["program"]));
    let inputs = match &report["inputs"] {
        Value::Array(paths) => paths.iter().map(text).collect::<Vec<_>>().join(", "),
        other => text(other),
    };
    let cores = format!("{}, {} cores", text(&machine["processor"]), text(&machine["cores"]));
    let command = format!("<code>{}</code>", escape(&text(&report["command"])));
    let mut rows = vec![vec!["to repeat it".to_owned(), command]];
    for (name, value) in [
        ("input", inputs),
        ("dialogues", text(&report["dialogues"])),
        ("program", program),
        ("processor", cores),
        ("instructions", text(&machine["instructions"])),
        ("memory", text(&machine["memory"])),
    ] {
        if !value.is_empty() {
            rows.push(vec![name.into(), escape(&value)]);
        }
    }
    table(out, &["", ""], &rows);
    let hash = |(name, hash): (&String, &Value)| {
        vec![escape(name), format!("<code>{}</code>", escape(&text(hash)))]
    };
    let hashes: Vec<_> = report["hashes"].as_object().into_iter().flatten().map(hash).collect();
    out.push_str("<h3>Hashes (XXH3, 64 bits)</h3>");
    table(out, &["file", "hash"], &hashes);
    let recipe = escape(&text(&report["recipe_toml"]));
    let _ = write!(
        out,
        "<details><summary>the recipe, every key</summary><pre>{recipe}</pre></details>"
    );
    next(out, report);
}

/// What to do next.
pub fn next(out: &mut String, report: &Value) {
    let next = list(&report["next"]);
    if !next.is_empty() {
        out.push_str("<h3>Next</h3>");
        let row = |n: &Value| {
            let command = format!("<code>{}</code>", escape(&text(&n["command"])));
            vec![escape(&text(&n["why"])), command]
        };
        table(out, &["", ""], &next.iter().map(row).collect::<Vec<_>>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_from_outside_and_nothing_unescaped() {
        let span = json!({"words": 2, "of": 5, "text": "<i>", "document": "0f"});
        let report = json!({
            "recipe": {"name": "<script>x</script>"},
            "verdict": "It answers.",
            "stages": [{"name": "world", "line": "a & b", "seconds": 1.0, "peak_mib": 9.0}],
            "corpus": {"pages": 3000, "kept": 1, "lines": {"line-duplicate": 71}, "steps": [
                {"stage": "x", "rule": "y", "documents": 2,
                    "samples": [{"url": "u", "text": "<b>"}]},
                {"stage": "read", "rule": "damaged-record", "documents": 24}
            ], "unseen": 7, "scores": [{"rule": "y"}]},
            "train": {"curve": [{"tokens": 1, "loss": 2.0}, {"tokens": 2, "loss": 1.0}],
                "baselines": {"unigram": {"nats_per_token": 3.0}},
                "samples": [{"share": 0.01, "prompt": "p", "text": "<u>", "verbatim": span}]},
            "dialogues": "from talk.jsonl",
            "tune": {"pairs": "made of the kept documents",
                "sft": {"used": 2374, "loss": 0.679, "validation": {"loss": 1.126}},
                "dpo": {"used": 542, "last_batches": {"batches": 5, "preferred": 0.88}}},
            "eval": {"classes": [{"class": "often", "questions": 200, "accuracy": 0.5,
                "low": 0.4, "high": 0.6, "constant": 0.1, "untrained": 0.0, "statements": 60.2,
                "declined": {"value": 0.125}},
                {"class": "needle", "questions": 20, "accuracy": 0.25, "too_long": 21},
                {"class": "program", "questions": 0, "programs": 60}]},
            "answers": [{"prompt": "p", "class": "often", "reference": "Ryme",
                "base": {"text": "", "right": false, "verbatim": span},
                "sft": {"text": "s", "right": true, "verbatim": span},
                "final": {"text": "f", "right": false, "verbatim": span}}],
        });
        let html = page(&report);
        for outside in ["<script", "src=", "href=", "@import", "url(", "<b>\"", "<i>\"", "<u>"] {
            assert!(!html.contains(outside), "{outside}");
        }
        for broken in ["NaN", "null", "undefined", "inf\""] {
            assert!(!html.contains(broken), "{broken}");
        }
        for inside in
            ["a &amp; b", "3,000 pages", "60 statements", "unigram 3.000", "miss", "2 of 5 words"]
        {
            assert!(html.contains(inside), "{inside}");
        }
        for inside in ["from talk.jsonl; pairs", "made of the kept documents", "1.126", "542"] {
            assert!(html.contains(inside), "{inside}");
        }
        let (facts, others) = html.split_once("Other questions").unwrap();
        assert!(facts.contains("none of these facts") && facts.contains("12.5\u{a0}%"), "{facts}");
        for inside in ["21 too long", "60 programs"] {
            assert!(others.contains(inside) && !facts.contains(inside), "{inside}");
        }
        for inside in ["1 removed, chosen by hash", "24 damaged records", "7 pages of the truth"] {
            assert!(html.contains(inside), "{inside}");
        }
    }

    #[test]
    fn an_empty_report_is_a_page() {
        assert!(page(&json!({})).ends_with("</html>\n"));
    }
}
