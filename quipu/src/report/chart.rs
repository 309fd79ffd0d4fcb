//! Charts as SVG from strings: colours are CSS variables of the page, so that they read in light
//! and dark; no script, no font of their own. Two kinds: lines over a common axis, and intervals.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 44.0;

/// A line of a chart, or a level when it has one point.
pub struct Series {
    /// what it is
    pub name: String,
    /// (x, y), ascending in x; one point means a level over the whole width
    pub points: Vec<(f64, f64)>,
}

/// One row of an interval chart: a share with its interval, and marks to hold it against.
pub struct Interval {
    /// what it is
    pub name: String,
    /// least, middle, most, each in [0, 1]
    pub share: (f64, f64, f64),
    /// named marks in [0, 1]
    pub marks: Vec<(String, f64)>,
}

/// Maps a value in [least, most] to pixels in [from, to].
fn scale(value: f64, (least, most): (f64, f64), (from, to): (f64, f64)) -> f64 {
    let span = if most > least { most - least } else { 1.0 };
    from + (value - least) / span * (to - from)
}

/// Five round values that cover [least, most].
fn ticks(least: f64, most: f64) -> Vec<f64> {
    let span = (most - least).max(1e-9);
    let raw = span / 4.0;
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|m| m * power);
    let step = step.into_iter().find(|s| *s >= raw).unwrap_or(power * 10.0);
    let first = (least / step).ceil();
    (0..=8).map(|i| (first + f64::from(i)) * step).filter(|t| *t <= most + span * 1e-9).collect()
}

fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 1e6 => format!("{:.1}M", value / 1e6),
        v if v >= 1e4 => format!("{:.0}k", value / 1e3),
        v if v == v.trunc() => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}

/// Text that is safe inside HTML and SVG.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let ends = (f64::INFINITY, f64::NEG_INFINITY);
    let (least, most) =
        values.filter(|v| v.is_finite()).fold(ends, |(least, most), v| (least.min(v), most.max(v)));
    if least > most { (0.0, 1.0) } else { (least, most) }
}

/// Lines over a common axis.
pub fn lines(x_name: &str, y_name: &str, series: &[Series]) -> String {
    let all = || series.iter().flat_map(|s| s.points.iter());
    let moving = series.iter().filter(|s| s.points.len() > 1).flat_map(|s| s.points.iter());
    let xs = range(moving.map(|p| p.0));
    let ys = range(all().map(|p| p.1));
    let pad = (ys.1 - ys.0).max(1e-6) * 0.06;
    let ys = (ys.0 - pad, ys.1 + pad);
    let (across, down) = ((LEFT, WIDTH - RIGHT), (HEIGHT - BOTTOM, TOP));
    let mut out = frame(x_name, y_name, xs, ys);
    let mut labels = Vec::new();
    for (i, one) in series.iter().enumerate() {
        let dashed = if one.points.len() == 1 { " dashed" } else { "" };
        let ends;
        let points = match one.points[..] {
            [(_, y)] => {
                ends = [(xs.0, y), (xs.1, y)];
                &ends[..]
            }
            _ => &one.points[..],
        };
        let path: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{:.1},{:.1}", scale(*x, xs, across), scale(*y, ys, down)))
            .collect();
        let _ = write!(out, "<polyline class=\"s{i}{dashed}\" points=\"{}\"/>", path.join(" "));
        if let Some((_, y)) = points.last() {
            labels.push((scale(*y, ys, down), i, format!("{} {}", one.name, number(*y))));
        }
    }
    write_labels(&mut out, labels);
    out + "</svg>"
}

/// Names at the right end, pushed apart so that none covers another.
fn write_labels(out: &mut String, mut labels: Vec<(f64, usize, String)>) {
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut least = TOP;
    for (y, i, name) in labels {
        let y = y.max(least);
        least = y + 15.0;
        let x = WIDTH - RIGHT + 6.0;
        let name = escape(&name);
        let _ = write!(out, "<text class=\"t{i}\" x=\"{x:.0}\" y=\"{:.1}\">{name}</text>", y + 4.0);
    }
}

fn frame(x_name: &str, y_name: &str, xs: (f64, f64), ys: (f64, f64)) -> String {
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{} over {}\">",
        escape(y_name),
        escape(x_name)
    );
    for tick in ticks(ys.0, ys.1) {
        let y = scale(tick, ys, (HEIGHT - BOTTOM, TOP));
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"axis end\" x=\"{}\" y=\"{:.1}\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 4.0,
            number(tick)
        );
    }
    for tick in ticks(xs.0, xs.1) {
        let x = scale(tick, xs, (LEFT, WIDTH - RIGHT));
        let y = HEIGHT - BOTTOM + 16.0;
        let _ =
            write!(out, "<text class=\"axis mid\" x=\"{x:.1}\" y=\"{y}\">{}</text>", number(tick));
    }
    let _ = write!(
        out,
        "<text class=\"axis mid\" x=\"{}\" y=\"{}\">{}</text>\
         <text class=\"axis\" x=\"4\" y=\"12\">{}</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 8.0,
        escape(x_name),
        escape(y_name)
    );
    out
}

/// Shares with their intervals, one row each.
pub fn intervals(rows: &[Interval]) -> String {
    const ROW: f64 = 44.0;
    const NAMES: f64 = 190.0;
    let height = ROW * rows.len() as f64 + 34.0;
    let x = |share: f64| scale(share, (0.0, 1.0), (NAMES, WIDTH - 40.0));
    let mut out = format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">");
    for tick in 0..=4 {
        let share = f64::from(tick) / 4.0;
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"4\" y2=\"{1}\"/>\
             <text class=\"axis mid\" x=\"{0:.1}\" y=\"{2}\">{3:.0} %</text>",
            x(share),
            height - 26.0,
            height - 8.0,
            share * 100.0
        );
    }
    for (i, row) in rows.iter().enumerate() {
        let y = ROW * i as f64 + 24.0;
        let (least, middle, most) = row.share;
        let _ = write!(
            out,
            "<text x=\"4\" y=\"{:.1}\">{}</text>\
             <line class=\"s0 bar\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{y}\" y2=\"{y}\"/>\
             <circle class=\"d0\" cx=\"{:.1}\" cy=\"{y}\" r=\"5\"/>",
            y + 4.0,
            escape(&row.name),
            x(least),
            x(most),
            x(middle)
        );
        for (j, (name, share)) in row.marks.iter().enumerate() {
            let _ = write!(
                out,
                "<line class=\"s{k} bar\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{1}\" y2=\"{2}\">\
                 <title>{3} {4:.1} %</title></line>",
                x(*share),
                y - 10.0,
                y + 10.0,
                escape(name),
                share * 100.0,
                k = j + 1
            );
        }
    }
    out + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover() {
        assert_eq!(ticks(0.0, 1.0), [0.0, 0.25, 0.5, 0.75, 1.0]);
        assert_eq!(ticks(1.9, 7.6), [2.0, 4.0, 6.0]);
        assert!(ticks(3.0, 3.0).len() <= 9);
    }

    #[test]
    fn charts_carry_names_and_no_broken_numbers() {
        let series = vec![
            Series {
                name: "loss <x>".into(),
                points: vec![(1.0, 5.0), (9.0, f64::NAN), (10.0, 2.0)],
            },
            Series { name: "unigram".into(), points: vec![(0.0, 4.0)] },
        ];
        let svg = lines("tokens", "loss", &series);
        assert!(svg.contains("loss &lt;x&gt; 2") && svg.contains("unigram 4"), "{svg}");
        assert!(lines("a", "b", &[]).ends_with("</svg>"));
        let row = Interval { name: "often".into(), share: (0.5, 0.6, 0.7), marks: vec![] };
        assert!(intervals(&[row]).contains("often"));
    }
}
