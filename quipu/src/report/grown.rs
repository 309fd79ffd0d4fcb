//! What was done to the model after its first pre-training, as sections of `report.html`: how its
//! context grew, with a picture of the needles it found before and after, and annealing. It shows
//! what the stages left and decides nothing.

use super::chart::{self, Series};
use super::html::{count, list, shown, table};
use serde_json::Value;
use std::fmt::Write;

/// Width and height of a picture's cell, and the room left of the cells and above them.
const CELL: (f64, f64) = (74.0, 34.0);
const ROOM: (f64, f64) = (52.0, 24.0);

fn loss(value: &Value) -> String {
    shown(value, |loss| format!("{loss:.3}"))
}

/// Each stage in which the context grew.
pub fn extension(out: &mut String, extend: &Value) {
    let stages = list(&extend["stages"]);
    if stages.is_empty() {
        return;
    }
    out.push_str(
        "<h2>Context extension</h2><p>Each stage trains on longer texts until its gate lets it \
         end: short texts are predicted as well as before, within what chance does to the \
         comparison, and needles are found at every length. A needle is a sentence with a \
         number that stands nowhere else in the text; the model has to say it at the end. The \
         texts are held out.</p>",
    );
    for stage in stages {
        one(out, stage);
    }
}

fn one(out: &mut String, stage: &Value) {
    let (before, now) = (&stage["before"], &stage["gate"]["found"]);
    let verdict = match stage["passed"].as_bool() {
        Some(true) => "<span class=\"good\">passed its gate</span>",
        _ => "<span class=\"bad\">did not pass its gate</span>",
    };
    let _ = write!(
        out,
        "<h3>To {} positions</h3><p>It ended after {} steps, {} tokens, and {verdict}. Base of the \
         rotary embedding {}; short texts cost {} nats a token before and {} after (a difference of \
         {}, where ± {} is chance).</p>",
        count(&stage["positions"]),
        count(&stage["steps"]),
        count(&stage["tokens"]),
        count(&stage["rope_theta"]),
        loss(&before["short_loss"]),
        loss(&now["short_loss"]),
        shown(&now["short_loss_more"], |more| format!("{more:.4}")),
        shown(&now["short_loss_noise"], |noise| format!("{noise:.4}")),
    );
    out.push_str("<div class=\"charts\">");
    for (name, cells) in [("before", &before["cells"]), ("after", &now["cells"])] {
        needles(out, name, list(cells));
    }
    out.push_str("</div>");
}

fn needles(out: &mut String, when: &str, cells: &[Value]) {
    let picture = picture(cells);
    let _ = write!(out, "<figure><figcaption>Needles found {when}</figcaption>{picture}</figure>");
}

/// Different values in the order in which they first occur.
fn distinct(cells: &[Value], key: &str) -> Vec<f64> {
    let mut found: Vec<f64> = Vec::new();
    for value in cells.iter().filter_map(|cell| cell[key].as_f64()) {
        if !found.contains(&value) {
            found.push(value);
        }
    }
    found
}

/// Lengths from left to right, depths from top to bottom; the fuller a cell, the more was found.
fn picture(cells: &[Value]) -> String {
    let (lengths, depths) = (distinct(cells, "length"), distinct(cells, "depth"));
    let (width, height) =
        (ROOM.0 + CELL.0 * lengths.len() as f64, ROOM.1 + CELL.1 * depths.len() as f64 + 20.0);
    let mut out = format!(
        "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" style=\"max-width:{width}px\" \
         aria-label=\"share of needles found, by length and depth\">\
         <text class=\"axis\" x=\"0\" y=\"13\">depth</text>"
    );
    for (i, length) in lengths.iter().enumerate() {
        let x = ROOM.0 + CELL.0 * (i as f64 + 0.5);
        let _ = write!(out, "<text class=\"axis mid\" x=\"{x}\" y=\"13\">{length}</text>");
    }
    for (j, depth) in depths.iter().enumerate() {
        let y = ROOM.1 + CELL.1 * (j as f64 + 0.5) + 4.0;
        let (x, depth) = (ROOM.0 - 8.0, 100.0 * depth);
        let _ = write!(out, "<text class=\"axis end\" x=\"{x}\" y=\"{y}\">{depth:.0} %</text>");
    }
    for cell in cells {
        let place = |all: &[f64], key: &str| all.iter().position(|v| cell[key] == *v).unwrap_or(0);
        let (i, j) = (place(&lengths, "length"), place(&depths, "depth"));
        let share = cell["recall"]["value"].as_f64().unwrap_or(0.0);
        let (x, y) = (ROOM.0 + CELL.0 * i as f64, ROOM.1 + CELL.1 * j as f64);
        let full = 0.06 + 0.5 * share;
        let _ = write!(
            out,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\" rx=\"3\" \
             style=\"fill:var(--c0);fill-opacity:{full:.2}\"/>\
             <text class=\"mid\" x=\"{}\" y=\"{}\">{:.0} %</text>",
            CELL.0 - 2.0,
            CELL.1 - 2.0,
            x + CELL.0 / 2.0 - 1.0,
            y + CELL.1 / 2.0 + 4.0,
            100.0 * share,
        );
    }
    let (x, y) = (ROOM.0 + CELL.0 * lengths.len() as f64 / 2.0, height - 4.0);
    let _ = write!(out, "<text class=\"axis mid\" x=\"{x}\" y=\"{y}\">tokens of the text</text>");
    out + "</svg>"
}

/// The end of pre-training.
pub fn annealing(out: &mut String, anneal: &Value) {
    let curve = list(&anneal["curve"]);
    if curve.is_empty() {
        return;
    }
    let _ = write!(
        out,
        "<h2>Annealing</h2><p>{} steps, {} tokens, in which the rate falls to 0 in a line. Losses \
         are of the same held-out text throughout.</p>",
        count(&anneal["steps"]),
        count(&anneal["tokens"])
    );
    let points = |key: &str| -> Vec<(f64, f64)> {
        let point = |p: &Value| Some((p["tokens"].as_f64()?, p[key].as_f64()?));
        curve.iter().filter_map(point).collect()
    };
    let before = anneal["before"]["loss"].as_f64().map(|loss| (0.0, loss));
    let mut series = vec![
        Series { name: "training".into(), points: points("loss"), level: false },
        Series { name: "validation".into(), points: points("validation"), level: false },
        Series { name: "before".into(), points: before.into_iter().collect(), level: true },
    ];
    series.retain(|one| !one.points.is_empty());
    out.push_str(&chart::lines("tokens trained on", "loss, nats a token", &series));
    let of = |key: &str| {
        let bits = shown(&anneal[key]["bits_per_byte"], |bits| format!("{bits:.4}"));
        vec![shown(&anneal[key]["loss"], |loss| format!("{loss:.4}")), bits]
    };
    let mut rows = vec![[vec!["before annealing".to_owned()], of("before")].concat()];
    match anneal["averaged_checkpoints"].as_u64() {
        Some(n) => {
            rows.push([vec!["its last checkpoint".into()], of("validation_of_last")].concat());
            let name = format!("the mean of its last {n} checkpoints: the base model");
            rows.push([vec![name], of("validation")].concat());
        }
        None => {
            let name = "its last checkpoint: the base model".into();
            rows.push([vec![name], of("validation")].concat());
        }
    }
    table(out, &["weights", "#validation loss", "#bits a byte"], &rows);
    let found = list(&anneal["needles"]);
    if !found.is_empty() {
        out.push_str("<div class=\"charts\">");
        needles(out, "by the base model", found);
        out.push_str("</div>");
    }
}
