//! The page of `quipu run compare`: runs in a table, their differences with intervals, their curves
//! over each other. It shows what the command found and decides nothing.

use super::chart::{self, Series, escape};
use super::html::{close, head, list, shown, table, text};
use crate::command::compare::{COLUMNS, OTHER_TOKENS, columns, made};
use serde_json::Value;
use std::fmt::Write;

/// The page for what was found.
pub fn compared(found: &Value) -> String {
    let runs = list(&found["runs"]);
    let mut out = head(&format!("{} runs, compared", runs.len()));
    let names: Vec<String> = COLUMNS.iter().enumerate().map(|(i, name)| numbers(i, name)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let rows: Vec<Vec<String>> =
        runs.iter().map(|run| columns(run).iter().map(|cell| escape(cell)).collect()).collect();
    table(&mut out, &names, &rows);
    out.push_str(
        "<p class=\"soft small\">Loss is the mean of the last tenth of the steps, validation the \
         last one, both in nats a token; speed and share of the ceiling are over all steps.</p>",
    );
    differences(&mut out, found);
    curves(&mut out, found);
    close(out)
}

/// The table's own sign of a column of numbers.
fn numbers(column: usize, name: &str) -> String {
    if column == 0 { name.to_owned() } else { format!("#{name}") }
}

fn differences(out: &mut String, found: &Value) {
    let base = escape(&text(&found["against"]));
    let _ =
        write!(out, "<h2>Differences of the loss</h2><p>How much more it is than {base}'s.</p>");
    let mut rows = Vec::new();
    for one in list(&found["differences"]) {
        if one["other_tokens"] == true {
            let run = escape(&text(&one["run"]));
            let _ =
                write!(out, "<p><span class=\"bad\">{run} and {base}: {OTHER_TOKENS}.</span></p>");
        }
        for window in list(&one["windows"]) {
            let number = |key: &str| shown(&window[key], |v| format!("{v:+.5}"));
            let interval = match window["low"].is_null() {
                true => "–".to_owned(),
                false => format!("{} to {}", number("low"), number("high")),
            };
            rows.push(vec![
                escape(&text(&one["run"])),
                format!("{}, at equal {}", escape(&text(&window["of"])), text(&one["by"])),
                number("mean"),
                interval,
                escape(&made(window)),
            ]);
        }
    }
    table(out, &["run", "over", "#mean", "#95 % interval", "made of"], &rows);
    out.push_str(
        "<p class=\"soft small\">Losses are compared in pairs: at equal steps, or over the same \
         stretch of tokens where batches have other sizes. Neighbouring pairs are correlated, so \
         they are put into blocks, twice as long each time, until the means of neighbouring blocks \
         are not (correlation at most 0.1, or fewer than 32 blocks left); the interval is \
         Student's, of these means.</p>",
    );
    let curve = |one: &Value| Series {
        name: text(&one["run"]),
        points: points(&one["curve"], "at", "difference"),
        level: false,
    };
    let mut series: Vec<Series> = list(&found["differences"]).iter().map(curve).collect();
    // The run that others are held against keeps its colour in all charts.
    series
        .insert(0, Series { name: text(&found["against"]), points: vec![(0.0, 0.0)], level: true });
    out.push_str(&chart::lines(axis(found).1, "difference of the loss, nats a token", &series));
}

/// What all curves are over: its key, and its name.
fn axis(found: &Value) -> (&'static str, &'static str) {
    let by_steps = list(&found["differences"]).iter().all(|one| one["by"] == "steps");
    if by_steps { ("step", "steps") } else { ("tokens", "tokens trained on") }
}

fn curves(out: &mut String, found: &Value) {
    let runs = list(&found["runs"]);
    let (x, name) = axis(found);
    // The first fall of a loss leaves no room for what comes after it.
    let ends = runs.iter().filter_map(|run| list(&run["curve"]).last()?[x].as_f64());
    let half = ends.fold(f64::INFINITY, f64::min) / 2.0;
    let series = |y: &str, from: f64| -> Vec<Series> {
        let of = |run: &Value| {
            let mut points = points(&run["curve"], x, y);
            points.retain(|point| point.0 >= from);
            Series { name: text(&run["run"]), points, level: false }
        };
        runs.iter().map(of).collect()
    };
    let mut draw = |title: &str, y_name: &str, series: &[Series]| {
        if series.iter().all(|s| s.points.is_empty()) {
            return;
        }
        let _ = write!(out, "<h2>{title}</h2>{}", chart::lines(name, y_name, series));
    };
    draw("Loss", "loss, nats a token", &series("loss", 0.0));
    draw("Loss, from half of the shortest run on", "loss, nats a token", &series("loss", half));
    draw("Validation", "loss on held-out text, nats a token", &series("validation", 0.0));
    draw("Gradient norm", "global norm before clipping", &series("gradient_norm", 0.0));
}

fn points(curve: &Value, x: &str, y: &str) -> Vec<(f64, f64)> {
    list(curve).iter().filter_map(|p| Some((p[x].as_f64()?, p[y].as_f64()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_page_has_all_runs_and_nothing_unescaped_or_broken() {
        let curve = json!([{"step": 1, "tokens": 10, "loss": 3.0, "gradient_norm": 1.0},
            {"step": 2, "tokens": 20, "loss": 2.0, "validation": 2.5, "gradient_norm": 0.5}]);
        let run = |name: &str| json!({"run": name, "steps": 2, "loss": 2.0, "curve": curve});
        let window = json!({"of": "all of it", "mean": 0.25, "low": null, "pairs": 2});
        let page = compared(&json!({
            "runs": [run("a<b>"), run("c")], "against": "a<b>",
            "differences": [{"run": "c", "by": "steps", "windows": [window],
                "curve": [{"at": 1.0, "difference": 0.25}, {"at": 2.0, "difference": -0.25}]}],
        }));
        for inside in ["a&lt;b&gt;", "+0.25000", "2 pairs, of which", "Validation", "shortest run"]
        {
            assert!(page.contains(inside), "{inside} in {page}");
        }
        for broken in ["<b>", "NaN", "null", "<script", "src=", "url("] {
            assert!(!page.contains(broken), "{broken} in {page}");
        }
        assert!(page.ends_with("</html>\n"));
        assert!(compared(&json!({})).ends_with("</html>\n"));
    }
}
