//! What curation did, as a section of a run's report and as a page of its own: the funnel, samples
//! by which a person can judge each rule, copies side by side, and what is left. It shows the
//! summary of `corpus` and computes nothing. What is empty has no heading.

use super::bars::{self, Removal, measured};
use super::chart::escape;
use super::html::{bar, head, table, text};
use crate::terminal::thousands;
use quipu_corpus::figures::{Cluster, Count, Tally};
use quipu_corpus::rules;
use quipu_corpus::{DAMAGED, Excerpt, RuleScore, Summary};
use quipu_store::progress::bytes;
use serde_json::Value;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Hosts, languages and sources that are listed.
const LISTED: usize = 15;
/// Lines that are listed.
const LINES: usize = 25;

/// The page of a folder of curated documents.
pub fn curated(report: &Value) -> String {
    let corpus = &report["corpus"];
    let name = format!("Curated: {}", text(&corpus["named"]));
    let mut out = head(&name);
    let mut recipe = String::new();
    if let Ok(summary) = serde_json::from_value::<Summary>(corpus.clone()) {
        let _ = write!(out, "<p class=\"verdict\">{}</p>", escape(&summary.line()));
        figures(&mut out, &summary);
        // As it would stand in a file: what is not set is not there.
        recipe = escape(&toml::to_string(&summary.recipe).unwrap_or_default());
    }
    section(&mut out, corpus);
    let _ = write!(
        out,
        "<h2>Where this comes from</h2><p>quipu {}</p>\
         <details><summary>the recipe, every key</summary><pre>{recipe}</pre></details>",
        escape(&text(&report["program"]))
    );
    super::html::next(&mut out, report);
    super::html::close(out)
}

fn figures(out: &mut String, summary: &Summary) {
    let share = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
    let copies: u64 =
        summary.steps.iter().filter(|s| s.stage == "document").map(|s| s.documents).sum();
    let lines: u64 = summary.lines.values().sum();
    let all = [
        (thousands(summary.pages), format!("pages read, {}", bytes(summary.page_bytes as f64))),
        (
            thousands(summary.kept),
            format!("documents kept, {:.1} % of the pages", share(summary.kept, summary.pages)),
        ),
        (
            thousands(summary.kept_words),
            format!("words, {} of text", bytes(summary.kept_bytes as f64)),
        ),
        (thousands(copies), "documents removed as copies of one that is kept".to_owned()),
        (thousands(lines), "lines removed as repeated".to_owned()),
    ];
    out.push_str("<div class=\"figures\">");
    for (value, what) in all {
        let _ = write!(out, "<div><b>{}</b>{}</div>", escape(&value), escape(&what));
    }
    out.push_str("</div>");
}

/// What curation did; nothing where there was none.
pub fn section(out: &mut String, corpus: &Value) {
    if corpus.is_null() {
        return;
    }
    let summary: Summary = match serde_json::from_value(corpus.clone()) {
        Ok(summary) => summary,
        Err(error) => {
            let error = escape(&error.to_string());
            let _ = write!(out, "<p>The summary of curation is of another version: {error}.</p>");
            return;
        }
    };
    funnel(out, &summary);
    rules(out, &summary);
    copies(out, &summary);
    lines(out, &summary);
    kept(out, &summary);
    hosts(out, &summary.figures.hosts);
    sources(out, &summary);
    scores(out, &summary.scores, summary.unseen);
}

fn funnel(out: &mut String, summary: &Summary) {
    let _ = write!(
        out,
        "<h2>From pages to documents</h2><p>{} pages ({}) were read, {} documents ({} of text, {} \
         words) kept; this is what each stage left.</p>",
        thousands(summary.pages),
        bytes(summary.page_bytes as f64),
        thousands(summary.kept),
        bytes(summary.kept_bytes as f64),
        thousands(summary.kept_words)
    );
    if summary.not_sampled > 0 {
        let left = thousands(summary.not_sampled);
        let _ = write!(out, "<p>{left} more pages are not in the sample.</p>");
    }
    let mut rows = vec![Removal { name: "pages".into(), before: summary.pages, removed: 0 }];
    let mut before = summary.pages;
    for step in summary.steps.iter().filter(|step| step.rule != DAMAGED) {
        match rows.last_mut().filter(|row| row.name == step.stage) {
            Some(row) => row.removed += step.documents,
            None => {
                let (name, removed) = (step.stage.clone(), step.documents);
                rows.push(Removal { name, before, removed });
            }
        }
        before = before.saturating_sub(step.documents);
    }
    out.push_str(&bars::funnel(summary.pages, &rows));
    if let Some(damaged) = summary.steps.iter().find(|step| step.rule == DAMAGED) {
        let n = thousands(damaged.documents);
        let _ = write!(out, "<p>{n} damaged records are no pages and stand beside them.</p>");
    }
    if !summary.damage.is_empty() {
        out.push_str("<details><summary>damaged, the first of them</summary><ul class=\"small\">");
        for place in &summary.damage {
            let _ = write!(out, "<li>{}</li>", escape(place));
        }
        out.push_str("</ul></details>");
    }
}

/// What a rule removes and from where on, where its name does not say it.
fn meaning(rule: &str, summary: &Summary) -> Option<String> {
    let recipe = &summary.recipe;
    if let Some(rule) = rules::told(rule) {
        return Some(format!("{} Goes: {}.", rule.reason, recipe.limit(rule)));
    }
    match rule {
        rules::LOW_SCORE => {
            let least = recipe.least.iter().map(|(name, least)| format!("{name} below {least}"));
            Some(format!("Goes: {}.", least.collect::<Vec<_>>().join(", ")))
        }
        rules::URL_COPY => Some("Of the visits of its URL the newest is kept.".to_owned()),
        rules::COPY => Some(format!(
            "A document that it was compared with is kept: their similarity is {} or more, or they are equal \
             without the lines that many documents repeat.",
            recipe.near.threshold
        )),
        _ => None,
    }
}

fn rules(out: &mut String, summary: &Summary) {
    if summary.steps.is_empty() {
        return;
    }
    out.push_str("<h3>By rule</h3>");
    let most = summary.steps.iter().map(|step| step.documents).max().unwrap_or(1).max(1);
    let mut rows = Vec::new();
    for step in &summary.steps {
        let range =
            summary.figures.measured.get(&step.rule).filter(|h| h.most > h.least || h.most != 0.0);
        let range = range.map_or(String::new(), |h| match h.most > h.least {
            true => format!("{} to {}", measured(h.least), measured(h.most)),
            false => measured(h.most),
        });
        let mut samples = excerpts("removed, chosen by hash", &step.samples, true);
        if let Some(near) = summary.figures.near.get(&step.rule).filter(|_| step.stage == "rules") {
            let near: Vec<Excerpt> = near.iter().map(|(_, shown)| shown.clone()).collect();
            samples += &excerpts("kept, nearest to the limit", &near, true);
        }
        if let Some(said) = meaning(&step.rule, summary) {
            samples = format!("<span class=\"soft small\">{}</span>{samples}", escape(&said));
        }
        rows.push(vec![
            escape(&step.rule),
            format!("<span class=\"word\">{}</span>", escape(&step.stage)),
            thousands(step.documents),
            bar(step.documents as f64 / most as f64),
            range,
            samples,
        ]);
    }
    table(out, &["rule", "stage", "#removed", "", "#measured", ""], &rows);
    let of_rules = |(rule, histogram): (&String, _)| {
        let known = rules::told(rule).is_some();
        if known { bars::histogram(rule, histogram) } else { String::new() }
    };
    let drawn: String = summary.figures.measured.iter().map(of_rules).collect();
    if !drawn.is_empty() {
        let _ = write!(
            out,
            "<details><summary>what each rule measured of the documents that it removed</summary>\
             <div class=\"charts\">{drawn}</div></details>"
        );
    }
}

fn copies(out: &mut String, summary: &Summary) {
    let figures = &summary.figures;
    let near = summary.recipe.near;
    let bands = near.bands();
    if summary.pages == 0 || figures.words.count == 0 {
        return;
    }
    let _ = write!(
        out,
        "<h2>Near copies</h2><p>Two texts whose signatures share one of {} bands of {} values are \
         compared; one of them goes if their true similarity (five words in a row, Jaccard) \
         reaches {}. The newest is kept, then that of the shortest URL.</p><div class=\"charts\">",
        near.bands,
        near.rows,
        measured(near.threshold)
    );
    out.push_str(&bars::curve("pairs found, by their similarity", near.threshold, |s| {
        bands.curve(s)
    }));
    out.push_str(&bars::histogram("similarity of what was removed", &figures.similarity));
    out.push_str("</div>");
    clusters(out, "The largest clusters", &figures.largest);
    clusters(out, "The least similar pairs of which one was removed", &figures.doubtful);
}

fn clusters(out: &mut String, name: &str, all: &[Cluster]) {
    if all.is_empty() {
        return;
    }
    let _ = write!(out, "<h3>{}</h3>", escape(name));
    for cluster in all {
        let first = cluster.copies.first().map_or(0.0, |copy| copy.value);
        let said = match cluster.removed {
            1 => format!("1 copy, similarity {}", measured(first)),
            n => format!("{} copies, the least similar {}", thousands(n), measured(first)),
        };
        let _ = write!(
            out,
            "<details><summary>{} <span class=\"tag\">{said}</span></summary><div class=\"pair\">",
            place(&cluster.kept)
        );
        let _ = write!(out, "<div><b>kept</b>{}</div>", quoted(&cluster.kept, false));
        for copy in &cluster.copies {
            let _ = write!(out, "<div><b>removed</b>{}</div>", quoted(copy, true));
        }
        out.push_str("</div></details>");
    }
}

fn lines(out: &mut String, summary: &Summary) {
    let sum: u64 = summary.lines.values().sum();
    if sum == 0 {
        return;
    }
    let by_rule: Vec<String> = summary
        .lines
        .iter()
        .map(|(rule, n)| format!("{} {}", escape(rule), thousands(*n)))
        .collect();
    let _ = write!(
        out,
        "<h2>Lines removed</h2><p>{} lines went from documents that stay: {}. A line-duplicate is a line \
         that goes, with all its occurrences, since more than {} documents of its bucket contain it.\
         </p>",
        thousands(sum),
        by_rule.join(" · "),
        summary.recipe.line_limit
    );
    let tally = &summary.figures.lines;
    let mut most: Vec<(&String, &Count)> = tally.named.iter().collect();
    most.sort_by_key(|(line, count)| (Reverse(count.removed), *line));
    let at_least = if tally.bounded { "at least " } else { "" };
    let row = |(line, count): &(&String, &Count)| {
        vec![format!("{at_least}{}", thousands(count.removed)), escape(line)]
    };
    let rows: Vec<_> = most.iter().take(LINES).map(row).collect();
    if !rows.is_empty() {
        out.push_str("<details open><summary>removed most often</summary>");
        table(out, &["times", "line"], &rows);
        out.push_str("</details>");
    }
    out.push_str(&excerpts("of the removed lines, where they stood", &summary.line_samples, false));
}

fn kept(out: &mut String, summary: &Summary) {
    if summary.kept == 0 {
        return;
    }
    let figures = &summary.figures;
    out.push_str("<h2>What is kept</h2><div class=\"charts\">");
    out.push_str(&bars::histogram("words of a document", &figures.words));
    out.push_str(&bars::histogram("confidence in its language", &figures.language));
    for (name, histogram) in &figures.scores {
        out.push_str(&bars::histogram(&format!("score {name}"), histogram));
    }
    out.push_str("</div>");
    let mut languages: Vec<(&String, &u64)> = summary.languages.iter().collect();
    languages.sort_by_key(|(name, n)| (Reverse(**n), *name));
    let row = |(name, n): &(&String, &u64)| {
        vec![escape(name), thousands(**n), bar(**n as f64 / summary.kept as f64)]
    };
    table(
        out,
        &["language", "#documents", ""],
        &languages.iter().take(LISTED).map(row).collect::<Vec<_>>(),
    );
    if languages.len() > LISTED {
        let rest = &languages[LISTED..];
        let sum: u64 = rest.iter().map(|(_, n)| **n).sum();
        let _ = write!(out, "<p>{} more languages, {}.</p>", rest.len(), thousands(sum));
    }
    let routes: Vec<String> = summary
        .routes
        .iter()
        .map(|(name, n)| format!("{} {}", escape(name), thousands(*n)))
        .collect();
    let _ = write!(out, "<p>By route: {}.</p>", routes.join(" · "));
    out.push_str(&excerpts("kept documents as they read, chosen by hash", &summary.samples, false));
}

fn hosts(out: &mut String, tally: &Tally) {
    if tally.named.is_empty() {
        return;
    }
    let at_least = if tally.bounded { "at least " } else { "" };
    let mut listed: BTreeSet<&String> = BTreeSet::new();
    let mut one = |name: &str, of: fn(&Count) -> u64| {
        let mut sorted: Vec<(&String, &Count)> = tally.named.iter().collect();
        sorted.retain(|(_, count)| of(count) > 0);
        sorted.sort_by_key(|(host, count)| (Reverse(of(count)), *host));
        let row = |(host, count): &(&String, &Count)| {
            let share = count.removed as f64 / (count.kept + count.removed).max(1) as f64;
            let shown = |n: u64| format!("{at_least}{}", thousands(n));
            let percent = format!("{:.0} %", 100.0 * share);
            vec![escape(host), shown(count.kept), shown(count.removed), percent, bar(share)]
        };
        sorted.truncate(LISTED);
        listed.extend(sorted.iter().map(|(host, _)| *host));
        let rows: Vec<_> = sorted.iter().map(row).collect();
        if !rows.is_empty() {
            let _ = write!(out, "<h3>{name}</h3>");
            table(out, &["host", "#kept", "#removed", "#of its pages removed", ""], &rows);
        }
    };
    one("Hosts with the most documents kept", |count| count.kept);
    one("Hosts with the most removed", |count| count.removed);
    let mut others = tally.others;
    for (_, count) in tally.named.iter().filter(|(host, _)| !listed.contains(host)) {
        others.kept += count.kept;
        others.removed += count.removed;
    }
    if others != Count::default() {
        let (kept, removed) = (thousands(others.kept), thousands(others.removed));
        let whose = match tally.bounded {
            true => "Other pages, some of them of these hosts",
            false => "Other hosts",
        };
        let _ = write!(out, "<p>{whose}: {kept} kept, {removed} removed.</p>");
    }
}

fn sources(out: &mut String, summary: &Summary) {
    if summary.inputs.is_empty() {
        return;
    }
    out.push_str("<h3>Inputs</h3>");
    let row = |input: &quipu_corpus::InputCount| {
        let skipped: Vec<String> = input
            .skipped
            .iter()
            .map(|(kind, n)| format!("{} {}", escape(kind), thousands(*n)))
            .collect();
        vec![
            escape(&input.name),
            escape(&input.kind),
            thousands(input.pages),
            thousands(input.damaged),
            skipped.join(" · "),
        ]
    };
    let names = ["input", "kind", "#pages", "#damaged", "no pages"];
    table(out, &names, &summary.inputs.iter().take(LISTED).map(row).collect::<Vec<_>>());
    let share = |s: &quipu_corpus::Source| s.removed as f64 / s.documents.max(1) as f64;
    let mut sources: Vec<(&String, &quipu_corpus::Source)> = summary.sources.iter().collect();
    sources.sort_by(|a, b| share(b.1).total_cmp(&share(a.1)).then_with(|| a.0.cmp(b.0)));
    let limit = 100.0 * summary.recipe.alarm;
    let row = |(name, source): &(&String, &quipu_corpus::Source)| {
        let alarm = match summary.alarms.contains(name) {
            true => format!("<span class=\"bad\">alarm: more than {limit:.0} %</span>"),
            false => String::new(),
        };
        let percent = format!("{:.1} %", 100.0 * share(source));
        vec![
            escape(name),
            thousands(source.documents),
            thousands(source.removed),
            percent,
            bar(share(source)),
            alarm,
        ]
    };
    let rows: Vec<_> = sources.iter().take(LISTED).map(row).collect();
    if !rows.is_empty() {
        out.push_str("<h3>What each source lost to copies</h3>");
        table(out, &["source", "#documents", "#copies", "#share", "", ""], &rows);
    }
}

/// Where a sample stands.
fn place(sample: &Excerpt) -> String {
    escape(if sample.url.is_empty() { &sample.id } else { &sample.url })
}

fn quoted(sample: &Excerpt, valued: bool) -> String {
    let value = if valued { format!("{} · ", measured(sample.value)) } else { String::new() };
    format!(
        "<div class=\"soft small\">{value}{}</div><div class=\"text\">{}</div>",
        place(sample),
        escape(&sample.text)
    )
}

fn excerpts(name: &str, samples: &[Excerpt], valued: bool) -> String {
    if samples.is_empty() {
        return String::new();
    }
    let mut out = format!("<details><summary>{} {}</summary>", samples.len(), escape(name));
    samples.iter().for_each(|sample| out.push_str(&quoted(sample, valued)));
    out + "</details>"
}

fn scores(out: &mut String, scores: &[RuleScore], unseen: Option<u64>) {
    if scores.is_empty() {
        return;
    }
    out.push_str("<details><summary>each rule against the truth that was given</summary>");
    let share =
        |whole: u64, share: f64| if whole > 0 { format!("{share:.3}") } else { "–".into() };
    let row = |s: &RuleScore| {
        vec![
            escape(&s.rule),
            thousands(s.expected),
            thousands(s.removed),
            thousands(s.right),
            share(s.removed, s.precision()),
            share(s.expected, s.recall()),
            thousands(s.wrongly_removed),
            thousands(s.wrongly_kept),
        ]
    };
    let names = [
        "rule",
        "#should remove",
        "#removed",
        "#rightly",
        "#precision",
        "#recall",
        "#good pages lost",
        "#bad pages kept",
    ];
    table(out, &names, &scores.iter().map(row).collect::<Vec<_>>());
    if let Some(n) = unseen {
        let n = thousands(n);
        let _ = write!(out, "<p>{n} pages of the truth were neither kept nor removed.</p>");
    }
    out.push_str("</details>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn full() -> Value {
        let sample =
            json!({"id": "0f", "url": "https://a.example/<x>", "value": 0.81, "text": "<b>"});
        let steps = json!([
            {"stage": "rules", "rule": "too-short", "documents": 5, "samples": [sample]},
            {"stage": "rules", "rule": "menu-only", "documents": 1, "samples": []},
            {"stage": "rules", "rule": "low-score", "documents": 1, "samples": []},
            {"stage": "document", "rule": "document-duplicate", "documents": 3, "samples": [sample]},
            {"stage": "read", "rule": DAMAGED, "documents": 24},
        ]);
        let words = json!({"steps": {"120": 3}, "count": 3, "least": 40.0, "most": 44.0});
        let cluster = json!({"kept": sample, "removed": 3, "copies": [sample]});
        json!({
            "named": "crawl & more", "pages": 1020, "kept": 1010, "steps": steps,
            "recipe": {"least": {"quality": 0.5}},
            "lines": {"line-duplicate": 71}, "languages": {"en": 1000, "de": 10},
            "sources": {"crawl": {"documents": 10, "removed": 6}}, "alarms": ["crawl"],
            "inputs": [{"name": "crawl", "kind": "WARC", "pages": 1020, "damaged": 24}],
            "damage": ["crawl at 7: torn"],
            "figures": {"words": words, "similarity": words, "largest": [cluster],
                "doubtful": [cluster], "near": {"too-short": [[0.02, sample]]},
                "measured": {"too-short": words},
                "hosts": {"named": {"a.example": {"kept": 7, "removed": 1}},
                    "others": {"kept": 2, "removed": 0}, "bounded": true},
                "lines": {"named": {"Home | About": {"removed": 71}}}},
        })
    }

    #[test]
    fn the_page_shows_what_the_summary_has() {
        let next = json!([{"command": "quipu look x", "why": "y"}]);
        let html = curated(&json!({"corpus": full(), "program": "0.1.0", "next": next}));
        for inside in [
            "crawl &amp; more",
            "https://a.example/&lt;x&gt;",
            "24 damaged records",
            "crawl at 7: torn",
            "alarm: more than 50",
            "Home | About",
            "at least 7",
            "Goes: quality below 0.5.",
            "similarity is 0.7 or more",
            "3 copies, the least similar 0.81",
            "kept, nearest to the limit",
            ">from 0.7<",
            "quipu look x",
            "−7",
        ] {
            assert!(html.contains(inside), "{inside}\n{html}");
        }
        for outside in ["<script", "src=", "href=", "<b>\"", "NaN", "null"] {
            let place = html.find(outside).map(|at| &html[at.saturating_sub(200)..]);
            assert_eq!(place, None, "{outside}");
        }
    }

    #[test]
    fn nothing_and_another_version_are_said() {
        let (mut none, mut other) = (String::new(), String::new());
        section(&mut none, &Value::Null);
        section(&mut other, &json!({"pages": "many"}));
        assert!(none.is_empty() && other.contains("another version"), "{other}");
        assert!(curated(&json!({})).ends_with("</html>\n"));
    }
}
