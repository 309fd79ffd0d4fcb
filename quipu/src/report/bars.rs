//! Pictures of counts: histograms, the curve by which near copies are found, and the funnel. SVG
//! and CSS bars from strings, with the colours of the page; each picture is small enough to stand on a
//! telephone as it is. Not the charts of training ([`super::chart`]).

use super::chart::escape;
use crate::terminal::thousands;
use quipu_corpus::figures::Histogram;
use std::fmt::Write;

const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 6.0;
const RIGHT: f64 = 314.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 126.0;
/// Bars of a histogram at most.
const BARS: usize = 28;

/// A value on an axis.
fn label(value: f64) -> String {
    match value.abs() {
        v if v >= 1e6 => format!("{:.0}M", value / 1e6),
        v if v >= 1e4 => format!("{:.0}k", value / 1e3),
        v if v >= 10.0 => format!("{value:.0}"),
        v if v == v.trunc() => format!("{value:.0}"),
        v if v >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A number as it was measured.
pub fn measured(value: f64) -> String {
    let text = match value.abs() {
        v if v >= 1000.0 => return thousands(v as u64),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn figure(name: &str, beside: &str, drawing: &str) -> String {
    let (name, beside) = (escape(name), escape(beside));
    format!(
        "<figure><figcaption>{name} <span class=\"soft\">{beside}</span></figcaption>\
         <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{name}\">{drawing}</svg>\
         </figure>"
    )
}

fn across(share: f64) -> f64 {
    LEFT + share * (RIGHT - LEFT)
}

fn text(out: &mut String, x: f64, y: f64, class: &str, words: &str) {
    let words = escape(words);
    let _ = write!(out, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{words}</text>");
}

/// How often values are how large; nothing for none.
pub fn histogram(name: &str, of: &Histogram) -> String {
    let bars = of.bars(BARS);
    if bars.is_empty() {
        return String::new();
    }
    let most = bars.iter().map(|bar| bar.2).max().unwrap_or(1).max(1);
    // Few bars are not as broad as the page.
    let room = 1.0 / bars.len().max(8) as f64;
    let mut out = String::new();
    for (n, (from, to, count)) in bars.iter().enumerate() {
        let height = *count as f64 / most as f64 * (BOTTOM - TOP);
        // What is there at all can be seen.
        let height = if *count > 0 { height.max(1.5) } else { 0.0 };
        let (x, width) = (across(n as f64 * room), (RIGHT - LEFT) * room - 1.0);
        let (from, to) = (label(*from), label(*to));
        let _ = write!(
            out,
            "<rect class=\"d0\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\">\
             <title>{from} to {to}: {}</title></rect>",
            BOTTOM - height,
            thousands(*count)
        );
    }
    let _ = write!(
        out,
        "<line class=\"frame\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{BOTTOM}\" y2=\"{BOTTOM}\"/>"
    );
    let step = bars.len().div_ceil(5);
    let end = (bars.len(), bars.last().map_or(0.0, |bar| bar.1));
    let edges = bars.iter().enumerate().step_by(step).map(|(n, bar)| (n, bar.0));
    let edges = edges.filter(|(n, _)| end.0 - n > step / 2).chain([end]);
    for (n, value) in edges {
        let share = n as f64 * room;
        let anchor = if share > 0.93 {
            "end"
        } else if n == 0 {
            ""
        } else {
            "mid"
        };
        text(&mut out, across(share), BOTTOM + 17.0, &format!("axis {anchor}"), &label(value));
    }
    text(&mut out, LEFT, 13.0, "axis", &format!("most: {}", thousands(most)));
    let beside =
        format!("{} values, {} to {}", thousands(of.count), measured(of.least), measured(of.most));
    figure(name, &beside, &out)
}

/// The probability that a pair is found, over its similarity, and the threshold.
pub fn curve(name: &str, threshold: f64, found: impl Fn(f64) -> f64) -> String {
    let y = |p: f64| BOTTOM - p * (BOTTOM - TOP);
    let mut out = String::new();
    for share in [0.0, 0.5, 1.0] {
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{0:.1}\" y2=\"{0:.1}\"/>",
            y(share)
        );
        text(&mut out, LEFT, y(share) - 3.0, "axis", &format!("{:.0} %", 100.0 * share));
    }
    let points: Vec<String> = (0..=100)
        .map(|n| f64::from(n) / 100.0)
        .map(|s| format!("{:.1},{:.1}", across(s), y(found(s))))
        .collect();
    let x = across(threshold);
    let _ = write!(
        out,
        "<polyline class=\"s0\" points=\"{}\"/>\
         <line class=\"s1 dashed\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{BOTTOM}\"/>",
        points.join(" ")
    );
    for s in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let anchor = if s > 0.9 {
            "end"
        } else if s < 0.1 {
            ""
        } else {
            "mid"
        };
        text(&mut out, across(s), BOTTOM + 17.0, &format!("axis {anchor}"), &label(s));
    }
    // Below the curve, where it has left the ground.
    let (anchor, place) = if threshold > 0.75 { ("end", x - 6.0) } else { ("", x + 6.0) };
    text(&mut out, place, y(0.08), anchor, &format!("from {}", measured(threshold)));
    let beside = format!("{:.1} % at the threshold", 100.0 * found(threshold));
    figure(name, &beside, &out)
}

/// One row of a funnel: what acts, what was there before, what it removed.
pub struct Removal {
    /// The stage.
    pub name: String,
    /// What came to it.
    pub before: u64,
    /// What did not go on.
    pub removed: u64,
}

/// What is left after each stage, and what each removes, to the scale of the whole.
pub fn funnel(whole: u64, rows: &[Removal]) -> String {
    let percent = |n: u64| 100.0 * n as f64 / whole.max(1) as f64;
    let mut out = String::from("<div class=\"funnel\">");
    for row in rows {
        let left = row.before.saturating_sub(row.removed);
        let removed = match row.removed {
            0 => String::new(),
            n => format!("<span class=\"bad\">−{}</span> ", thousands(n)),
        };
        let _ = write!(
            out,
            "<div><span class=\"name\">{}</span><span class=\"track\">\
             <i class=\"stay\" style=\"width:{:.2}%\"></i>\
             <i class=\"gone\" style=\"width:{:.2}%\"></i></span>\
             <span class=\"n\">{removed}{}</span></div>",
            escape(&row.name),
            percent(left),
            percent(row.removed),
            thousands(left)
        );
    }
    out + "</div>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_carry_names_and_no_broken_numbers() {
        let mut values = Histogram::default();
        assert_eq!(histogram("none", &values), "");
        [0.5, 30.0, 31.0, 4e5, -2.0].iter().for_each(|v| values.add(*v));
        let svg = histogram("words <x>", &values) + &curve("found", 0.7, |s| s * s);
        assert!(svg.contains("words &lt;x&gt;") && svg.contains("49.0 %"), "{svg}");
        assert!(svg.contains("5 values, -2 to 400,000"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        let rows = [Removal { name: "url".into(), before: 10, removed: 4 }];
        let html = funnel(10, &rows);
        assert!(html.contains("width:60.00%") && html.contains("−4"), "{html}");
        assert!(!funnel(0, &rows).contains("NaN"));
    }

    #[test]
    fn numbers_are_as_short_as_they_may_be() {
        let found = [0.0, 0.25, 12.34, 1234.0, 100.0].map(measured);
        assert_eq!(found, ["0", "0.25", "12.3", "1,234", "100"]);
        assert_eq!([0.5, 8.0, 12_000.0].map(label), ["0.50", "8", "12k"]);
    }
}
