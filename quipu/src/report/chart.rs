//! Charts as SVG from strings: colours are CSS variables of the page, so that they read in light
//! and dark; no script, no font of their own. Each is drawn twice, for a desktop and for a
//! telephone, and the page shows one, so that its letters have the size of the text around it. Two
//! kinds: lines over a common axis, and shares with their intervals.

use std::fmt::Write;

/// Where a chart lies on the page.
#[derive(Clone, Copy)]
struct Frame {
    class: &'static str,
    width: f64,
    height: f64,
}

const FRAMES: [Frame; 2] = [
    Frame { class: "broad", width: 940.0, height: 340.0 },
    Frame { class: "narrow", width: 370.0, height: 290.0 },
];
const LEFT: f64 = 46.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 48.0;

/// A line of a chart.
pub struct Series {
    /// what it is
    pub name: String,
    /// (x, y), ascending in x
    pub points: Vec<(f64, f64)>,
    /// a level over the whole width, of which one point is enough
    pub level: bool,
}

/// One column of an interval chart: a share with its interval, and a mark to hold it against.
pub struct Interval {
    /// what it is, in two lines
    pub name: [String; 2],
    /// least, middle, most, each in [0, 1]
    pub share: (f64, f64, f64),
    /// in [0, 1]
    pub mark: f64,
}

/// Maps a value in [least, most] to pixels in [from, to].
fn scale(value: f64, (least, most): (f64, f64), (from, to): (f64, f64)) -> f64 {
    let span = if most > least { most - least } else { 1.0 };
    from + (value - least) / span * (to - from)
}

/// Some round values that cover [least, most].
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
        v if v > 0.0 && v < 1e-3 => format!("{value:.1e}"),
        v if v > 0.0 && v < 0.1 => format!("{value:.4}").trim_end_matches('0').to_owned(),
        v if v >= 1e6 => format!("{:.1}M", value / 1e6),
        v if v >= 1e3 => format!("{}k", short(value / 1e3, 1)),
        v if v >= 10.0 => short(value, 2),
        v if v == v.trunc() => format!("{value:.0}"),
        _ => {
            let said = format!("{value:.3}");
            said.strip_suffix('0').unwrap_or(&said).to_owned()
        }
    }
}

/// A number with at most `digits` (1 or more) behind the point.
fn short(value: f64, digits: usize) -> String {
    let said = format!("{value:.digits$}");
    said.trim_end_matches('0').trim_end_matches('.').to_owned()
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

impl Frame {
    fn across(self) -> (f64, f64) {
        (LEFT, self.width - RIGHT)
    }

    fn down(self) -> (f64, f64) {
        (self.height - BOTTOM, TOP)
    }

    /// Opens the drawing: grid and numbers of the upright axis, and what the axes are.
    fn open(
        self,
        (x_name, y_name): (&str, &str),
        ys: (f64, f64),
        unit: fn(f64) -> String,
    ) -> String {
        let (x_name, y_name) = (escape(x_name), escape(y_name));
        let (left, right) = self.across();
        let mut out = format!(
            "<svg class=\"{}\" viewBox=\"0 0 {} {}\" role=\"img\" \
             aria-label=\"{y_name} over {x_name}\">",
            self.class, self.width, self.height
        );
        for tick in ticks(ys.0, ys.1) {
            let y = scale(tick, ys, self.down());
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{left}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"axis end\" x=\"{}\" y=\"{:.1}\">{}</text>",
                left - 6.0,
                y + 4.0,
                unit(tick)
            );
        }
        let (bottom, middle) = (self.down().0, f64::midpoint(left, right));
        let _ = write!(
            out,
            "<line class=\"frame\" x1=\"{left}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\"/>\
             <text class=\"axis mid\" x=\"{middle}\" y=\"{}\">{x_name}</text>\
             <text class=\"axis\" x=\"0\" y=\"13\">{y_name}</text>",
            self.height - 6.0
        );
        out
    }
}

/// Lines over a common axis, with a legend that has the last value of each.
pub fn lines(x_name: &str, y_name: &str, series: &[Series]) -> String {
    let mut out = String::from("<div class=\"legend\">");
    for (i, one) in series.iter().enumerate() {
        let last = one.points.iter().rev().find(|p| p.1.is_finite()).map_or(0.0, |p| p.1);
        let key = key(&format!(
            "<line class=\"s{i} thick{}\" x1=\"2\" x2=\"24\" y1=\"5\" y2=\"5\"/>",
            dashed(one)
        ));
        let _ = write!(out, "<span>{key}{} {last:.3}</span>", escape(&one.name));
    }
    out.push_str("</div>");
    let names = (x_name, y_name);
    FRAMES.iter().for_each(|frame| out.push_str(&frame.lines(names, series)));
    out
}

fn dashed(series: &Series) -> &'static str {
    if series.level { " dashed" } else { "" }
}

/// What a sign in a chart looks like, for its legend.
fn key(drawing: &str) -> String {
    format!("<svg viewBox=\"0 0 26 10\" aria-hidden=\"true\">{drawing}</svg>")
}

impl Frame {
    fn lines(self, names: (&str, &str), series: &[Series]) -> String {
        let finite = |s: &Series| -> Vec<(f64, f64)> {
            s.points.iter().copied().filter(|p| p.0.is_finite() && p.1.is_finite()).collect()
        };
        let moving = series.iter().filter(|s| !s.level).flat_map(finite);
        let (least, most) = range(moving.map(|p| p.0));
        // Curves begin where the work does; the end of some is not pressed to the right.
        let xs = (if least > 0.2 * most { least } else { 0.0 }, most);
        let ys = range(series.iter().flat_map(finite).map(|p| p.1));
        let pad = (ys.1 - ys.0).max(1e-6) * 0.06;
        let ys = (ys.0 - pad, ys.1 + pad);
        let mut out = self.open(names, ys, number);
        for tick in ticks(xs.0, xs.1) {
            let x = scale(tick, xs, self.across());
            let (y, tick) = (self.down().0 + 18.0, number(tick));
            let anchor = if x > self.width - 30.0 { "end" } else { "mid" };
            let _ =
                write!(out, "<text class=\"axis {anchor}\" x=\"{x:.1}\" y=\"{y}\">{tick}</text>");
        }
        let at = |(x, y): (f64, f64)| (scale(x, xs, self.across()), scale(y, ys, self.down()));
        for (i, one) in series.iter().enumerate() {
            let points = match finite(one)[..] {
                [(_, y), ..] if one.level => vec![(xs.0, y), (xs.1, y)],
                ref points => points.to_vec(),
            };
            if let [point] = points[..] {
                let (x, y) = at(point);
                let _ = write!(out, "<circle class=\"d{i}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>");
                continue;
            }
            let place = |point: &(f64, f64)| {
                let (x, y) = at(*point);
                format!("{x:.1},{y:.1}")
            };
            let path = points.iter().map(place).collect::<Vec<_>>().join(" ");
            let dashed = dashed(one);
            let _ = write!(out, "<polyline class=\"s{i}{dashed}\" points=\"{path}\"/>");
        }
        out + "</svg>"
    }

    fn intervals(self, names: (&str, &str), columns: &[Interval]) -> String {
        let most = range(columns.iter().flat_map(|c| [c.share.2, c.mark])).1;
        let most = [0.1, 0.2, 0.5].into_iter().find(|m| *m >= most).unwrap_or(1.0);
        let ys = (0.0, most);
        let y = |share: f64| scale(share, ys, self.down());
        let mut out = self.open(names, ys, share_of);
        let (left, right) = self.across();
        let room = (right - left) / columns.len().max(1) as f64;
        for (i, column) in columns.iter().enumerate() {
            let x = left + room * (i as f64 + 0.5);
            let (least, middle, most) = column.share;
            let half = (room * 0.22).min(26.0);
            let _ = write!(
                out,
                "<line class=\"s1 thick\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{mark:.1}\" y2=\"{mark:.1}\"/>\
                 <line class=\"s0 thick\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
                 <circle class=\"d0\" cx=\"{x:.1}\" cy=\"{middle:.1}\" r=\"5\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\">{:.0} %</text>",
                x - half,
                x + half,
                y(least),
                y(most),
                x + 9.0,
                y(middle) - 7.0,
                middle * 100.0,
                mark = y(column.mark),
                middle = y(middle),
            );
            for (j, name) in column.name.iter().enumerate() {
                let line = self.down().0 + 18.0 + 15.0 * j as f64;
                let (class, name) = (["mid", "axis mid"][j], escape(name));
                let _ =
                    write!(out, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{line}\">{name}</text>");
            }
        }
        out + "</svg>"
    }
}

fn share_of(share: f64) -> String {
    let hundredths = share * 100.0;
    let digits = usize::from((hundredths - hundredths.round()).abs() > 1e-9);
    format!("{hundredths:.digits$} %")
}

/// Shares with their intervals, a column each, and what is marked beside them.
pub fn intervals(y_name: &str, mark: &str, columns: &[Interval]) -> String {
    let own = key("<line class=\"s0 thick\" x1=\"13\" x2=\"13\" y1=\"0\" y2=\"10\"/>\
         <circle class=\"d0\" cx=\"13\" cy=\"5\" r=\"4\"/>");
    let other = key("<line class=\"s1 thick\" x1=\"2\" x2=\"24\" y1=\"5\" y2=\"5\"/>");
    let mut out = format!(
        "<div class=\"legend\"><span>{own}final model, 95 % interval</span><span>{other}{}</span></div>",
        escape(mark)
    );
    FRAMES.iter().for_each(|frame| out.push_str(&frame.intervals(("", y_name), columns)));
    out
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
                level: false,
            },
            Series { name: "validation".into(), points: vec![(10.0, 3.0)], level: false },
            Series { name: "unigram".into(), points: vec![(0.0, 4.0)], level: true },
        ];
        assert_eq!([0.0, 0.002, -0.0125, 0.25].map(number), ["0", "0.002", "-0.0125", "0.25"]);
        assert_eq!([3e-4, 2.5, 4096.0].map(number), ["3.0e-4", "2.50", "4.1k"]);
        assert_eq!([6.075, 1500.0, 2000.0, 12.5].map(number), ["6.075", "1.5k", "2k", "12.5"]);
        let svg = lines("tokens", "loss", &series);
        assert!(svg.contains("loss &lt;x&gt; 2.000") && svg.contains("unigram 4.000"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert!(lines("a", "b", &[]).ends_with("</svg>"));
        let name = ["often".into(), "60 ×".into()];
        let column = Interval { name, share: (0.5, 0.6, 0.7), mark: 0.1 };
        let svg = intervals("right", "constant", &[column]);
        assert!(svg.contains("often") && svg.contains(">60 %<"), "{svg}");
    }
}
