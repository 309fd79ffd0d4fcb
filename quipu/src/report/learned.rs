//! What a model learned, as sections of `report.html`: its loss beside the baselines, what it knows
//! by how often that was stated, the same prompts at three stages, a conversation. Not what the run
//! did: that is in `html`.

use super::chart::{self, Interval, Series, escape};
use super::html::{count, list, percent, shown, table, text};
use serde_json::Value;
use std::fmt::Write;

/// The loss while it was trained, and how it went on with the same prompt meanwhile.
pub fn training(out: &mut String, train: &Value) {
    let curve = list(&train["curve"]);
    if curve.is_empty() {
        return;
    }
    let points = |key: &str| -> Vec<(f64, f64)> {
        let point = |p: &Value| Some((p["tokens"].as_f64()?, p[key].as_f64()?));
        curve.iter().filter_map(point).collect()
    };
    let mut series = vec![
        Series { name: "training".into(), points: points("loss"), level: false },
        Series { name: "validation".into(), points: points("validation"), level: false },
    ];
    for (key, name) in [("five_gram", "5-gram"), ("unigram", "unigram")] {
        let level = train["baselines"][key]["nats_per_token"].as_f64();
        let points = level.map(|level| (0.0, level)).into_iter().collect();
        series.push(Series { name: name.into(), points, level: true });
    }
    series.retain(|s| !s.points.is_empty());
    let _ = write!(
        out,
        "<h2>Training</h2><p>{} parameters, {} steps, {} tokens. The baselines are n-gram models \
         of the same training tokens (modified Kneser–Ney), measured on the validation text.</p>",
        count(&train["parameters"]),
        count(&train["steps"]),
        count(&train["tokens"])
    );
    out.push_str(&chart::lines("tokens trained on", "loss, nats a token", &series));
    let completions = list(&train["samples"]);
    if completions.is_empty() {
        return;
    }
    out.push_str("<h3>The same prompt, completed while it learned</h3>");
    for s in completions {
        let _ = write!(
            out,
            "<div class=\"said\"><span class=\"soft\">after {}</span><div class=\"text\"><b>{}</b>{}\
             <div class=\"soft small\">{}</div></div></div>",
            percent(&s["share"]),
            escape(&text(&s["prompt"])),
            escape(&text(&s["text"])),
            copied(&s["verbatim"])
        );
    }
}

/// What it was tuned on, with both losses of each step.
pub fn tuning(out: &mut String, tune: &Value, dialogues: &Value) {
    if tune["sft"].is_null() {
        return;
    }
    let preferred = match tune["dpo"]["skipped"].as_str() {
        Some(why) => format!("{}.", escape(why)),
        None => format!(
            "In {} of the pairs of the last {} training batches the better one was preferred.",
            percent(&tune["dpo"]["last_batches"]["preferred"]),
            count(&tune["dpo"]["last_batches"]["batches"])
        ),
    };
    let _ = write!(
        out,
        "<h2>Tuning</h2><p>Dialogues {}; pairs of a better and a worse answer {}. {preferred}</p>",
        escape(&text(dialogues)),
        escape(&text(&tune["pairs"])),
    );
    let loss = |v: &Value| shown(v, |v| format!("{v:.3}"));
    let row = |(name, key): (&str, &str)| {
        let step = &tune[key];
        vec![
            name.into(),
            count(&step["used"]),
            count(&step["too_long"]),
            count(&step["same"]),
            count(&step["steps"]),
            loss(&step["loss"]),
            loss(&step["validation"]["loss"]),
        ]
    };
    let rows = [("on dialogues", "sft"), ("on pairs", "dpo")].map(row);
    let names = [
        "step",
        "#learned from",
        "#too long",
        "#both alike",
        "#steps",
        "#loss of the last batch",
        "#held-out loss",
    ];
    table(out, &names, &rows);
}

/// How much of a sample stands in the training text.
fn copied(span: &Value) -> String {
    let (Some(words), Some(of)) = (span["words"].as_u64(), span["of"].as_u64()) else {
        return String::new();
    };
    let quote = match words {
        0 => String::new(),
        _ => format!(": “{}”", escape(&crate::terminal::one_line(&text(&span["text"]), 160))),
    };
    format!("longest span from the training text: {words} of {of} words{quote}")
}

/// Accuracy against how often a fact was stated, and the other kinds of question.
pub fn examination(out: &mut String, eval: &Value) {
    let classes = list(&eval["classes"]);
    if classes.is_empty() {
        return;
    }
    out.push_str("<h2>Examination</h2><p>The model generates its answers.</p>");
    let n = |v: &Value| v.as_f64().unwrap_or(0.0);
    let (mut stated, others): (Vec<&Value>, Vec<&Value>) =
        classes.iter().partition(|c| c["statements"].is_number());
    stated.sort_by(|a, b| n(&a["statements"]).total_cmp(&n(&b["statements"])));
    let column = |c: &&Value| Interval {
        name: [text(&c["class"]), format!("{:.0} statements", n(&c["statements"]))],
        share: (n(&c["low"]), n(&c["accuracy"]), n(&c["high"])),
        mark: n(&c["constant"]),
    };
    if !stated.is_empty() {
        out.push_str(
            "<h3>Closed-book</h3><p>Questions on facts that the pages state often, sometimes, \
             rarely and never; none of these facts occurs in a dialogue that it was tuned on.</p>",
        );
        let columns: Vec<_> = stated.iter().map(column).collect();
        out.push_str(&chart::intervals("answered right", "best constant answer", &columns));
        classes_table(out, &stated);
    }
    if !others.is_empty() {
        out.push_str(
            "<h3>Other questions</h3><p>On what follows from two facts, on sums, on texts and \
             tools that are given with the question.</p>",
        );
        classes_table(out, &others);
    }
    examples(out, &eval["examples"]);
}

/// Results by class, with what of each was not asked.
fn classes_table(out: &mut String, classes: &[&Value]) {
    let fine = |v: &Value| shown(v, |v| format!("{:.1} %", 100.0 * v));
    let row = |c: &&Value| {
        let held = &c["held_out_forms"];
        let forms = match held["of"].as_u64() {
            Some(of) if of > 0 => format!("{} of {of}", percent(&held["value"])),
            _ => "–".into(),
        };
        vec![
            escape(&text(&c["class"])),
            shown(&c["statements"], |v| format!("{v:.1}")),
            count(&c["questions"]),
            fine(&c["accuracy"]),
            format!("{}–{}", fine(&c["low"]).trim_end_matches(" %"), fine(&c["high"])),
            forms,
            fine(&c["constant"]),
            fine(&c["untrained"]),
            fine(&c["declined"]["value"]),
            not_asked(c),
        ]
    };
    let names = [
        "class",
        "#stated, times",
        "#questions",
        "#right",
        "#95 % interval",
        "#in unseen wording",
        "#best constant",
        "#untrained model",
        "#says it does not know",
        "#not asked",
    ];
    table(out, &names, &classes.iter().map(row).collect::<Vec<_>>());
}

/// How many questions of a class were left out, and why.
fn not_asked(class: &Value) -> String {
    let reasons = [("too_long", "too long"), ("programs", "programs, which are not run")];
    let reason = |(key, why): (&str, &str)| match class[key].as_u64() {
        None | Some(0) => None,
        Some(n) => Some(format!("{n} {why}")),
    };
    let found: Vec<String> = reasons.into_iter().filter_map(reason).collect();
    if found.is_empty() { "–".into() } else { found.join(", ") }
}

fn examples(out: &mut String, examples: &Value) {
    if list(examples).is_empty() {
        return;
    }
    let row = |e: &Value| {
        let accept: Vec<String> = list(&e["accept"]).iter().map(text).collect();
        vec![
            escape(&text(&e["class"])),
            escape(&text(&e["question"])),
            format!("{}{}", mark(&e["right"]), escape(&text(&e["answer"]))),
            escape(&accept.join(" or ")),
        ]
    };
    let _ = write!(
        out,
        "<details><summary>{} answers, right and wrong ones of each class</summary>",
        list(examples).len()
    );
    table(
        out,
        &["class", "question", "answer", "right is"],
        &list(examples).iter().map(row).collect::<Vec<_>>(),
    );
    out.push_str("</details>");
}

fn mark(right: &Value) -> &'static str {
    match right.as_bool() {
        Some(true) => "<span class=\"good\">hit</span> ",
        Some(false) => "<span class=\"bad\">miss</span> ",
        None => "",
    }
}

/// The same prompts, answered by the base, the fine-tuned and the final model.
pub fn answers(out: &mut String, answers: &Value) {
    if list(answers).is_empty() {
        return;
    }
    let _ = write!(
        out,
        "<h2>The same {} prompts at three stages</h2><p>Chosen before any answer was known: the \
         first question of each class of the examination, then prompts that were held out.</p>",
        list(answers).len()
    );
    for a in list(answers) {
        let (class, reference) = (text(&a["class"]), text(&a["reference"]));
        let tag = match class.as_str() {
            "" => String::new(),
            class => format!(" <span class=\"tag\">{}</span>", escape(class)),
        };
        let _ = write!(
            out,
            "<div class=\"card\"><div class=\"ask\">{}{tag}</div>",
            escape(&text(&a["prompt"]))
        );
        if !reference.is_empty() {
            let what = if class.is_empty() { "a good answer" } else { "right is" };
            let _ = write!(out, "<div class=\"soft small\">{what}: {}</div>", escape(&reference));
        }
        out.push_str("<div class=\"said\">");
        for (key, name) in [("base", "base"), ("sft", "fine-tuned"), ("final", "final")] {
            let said = &a[key];
            let words = match text(&said["text"]) {
                empty if empty.is_empty() => "<span class=\"soft\">(nothing)</span>".into(),
                words => escape(&words),
            };
            let cut = if said["ended"] == false { " <span class=\"tag\">cut</span>" } else { "" };
            let _ = write!(
                out,
                "<span class=\"soft\">{name}</span><div>{}{words}{cut}\
                 <div class=\"soft small\">{}</div></div>",
                mark(&said["right"]),
                copied(&said["verbatim"])
            );
        }
        out.push_str("</div></div>");
    }
}

/// A conversation with the final model.
pub fn conversation(out: &mut String, turns: &Value) {
    if list(turns).is_empty() {
        return;
    }
    out.push_str("<h2>A conversation with the final model</h2>");
    for turn in list(turns) {
        let class = if turn["role"] == "user" { "user" } else { "assistant" };
        let _ =
            write!(out, "<div class=\"turn {class}\">{}</div>", escape(&text(&turn["content"])));
    }
}
