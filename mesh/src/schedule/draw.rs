//! A timeline for people: as text, and as a picture (SVG that is readable in light and in dark).
//! A line a rank, time from left to right; a forward one unit long, a backward two.

use super::{Kind, Schedule, Timed, Timeline, Work};
use std::fmt::Write;

/// Height of a rank's line and length of a unit of time, in pixels.
const HEIGHT: u64 = 28;
const UNIT: u64 = 24;
/// Room for the names of ranks, and above and below the lines.
const LEFT: u64 = 64;
const HEAD: u64 = 34;

/// A chunk as a letter: A, B, … Z, then AA.
fn letter(chunk: usize) -> String {
    let low = char::from(b'A' + (chunk % 26) as u8);
    match chunk / 26 {
        0 => low.to_string(),
        high => format!("{}{low}", letter(high - 1)),
    }
}

impl Schedule {
    /// What is in the cell of an action: the micro-batch, then the chunk where there are several, in
    /// capitals for a forward, in small letters for a backward, with an apostrophe for weights.
    fn label(&self, timed: &Timed) -> String {
        let action = timed.action;
        let chunk = match (self.shape.chunks, action.work) {
            (1, Work::Forward) => String::new(),
            (1, _) => "b".into(),
            (_, Work::Forward) => letter(action.chunk),
            _ => letter(action.chunk).to_lowercase(),
        };
        let weight = if action.work == Work::Weight { "'" } else { "" };
        format!("{}{chunk}{weight}", action.micro_batch)
    }

    fn title(&self, timeline: &Timeline) -> String {
        let shape = &self.shape;
        let kind = match shape.kind {
            Kind::OneForwardOneBackward => "one forward, one backward",
            Kind::ZeroBubble => "zero bubble",
        };
        let (m, n) = (shape.micro_batches, shape.contiguous());
        format!(
            "PP {} · V {} · M {m} · N {n} · {kind} · {} units, bubble {:.1} %",
            shape.ranks,
            shape.chunks,
            timeline.end,
            100.0 * timeline.bubble()
        )
    }

    /// The timeline as lines of text, one a rank.
    pub fn text(&self, timeline: &Timeline) -> String {
        let all = timeline.ranks.iter().flatten();
        let wide = all.map(|timed| self.label(timed).len()).max().unwrap_or(1) + 1;
        let mut text = format!("{}\n", self.title(timeline));
        for (rank, list) in timeline.ranks.iter().enumerate() {
            let mut line = format!("rank {rank:<4} ");
            let begin = line.chars().count();
            for timed in list {
                let from = begin + wide * timed.start as usize;
                let to = begin + wide * timed.end as usize;
                let gap = from - line.chars().count();
                line.extend(std::iter::repeat_n(' ', gap));
                line += &format!("{:·<width$}", self.label(timed), width = to - from - 1);
                line.push(' ');
            }
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text += "digits: micro-batch";
        if self.shape.chunks > 1 {
            text += "; capital letter: forward of that chunk, small letter: its backward";
        } else {
            text += "; b: backward";
        }
        if self.shape.kind == Kind::ZeroBubble {
            text += " (input), with ': weights";
        }
        let peaks = (0..self.shape.ranks).map(|rank| self.peak(rank).to_string());
        let _ = writeln!(
            text,
            "\nmost live activations (micro-batches × chunks) by rank: {}",
            peaks.collect::<Vec<_>>().join(" ")
        );
        text
    }

    /// The timeline as a picture.
    pub fn svg(&self, timeline: &Timeline) -> String {
        let (ranks, end) = (timeline.ranks.len() as u64, timeline.end);
        let (wide, high) = (LEFT + UNIT * end + 16, HEAD + HEIGHT * ranks + 34);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {wide} {high}\" \
             width=\"{wide}\" height=\"{high}\" role=\"img\">\n<title>{}</title>\n<style>\
             text{{font:12px system-ui,sans-serif;fill:#1b1f24}}.paper{{fill:#fff}}\
             .cell{{stroke:#fff;stroke-width:1}}.quiet{{fill:#6a737d}}\
             @media(prefers-color-scheme:dark){{text{{fill:#e6e9ec}}.paper{{fill:#14181d}}\
             .cell{{stroke:#14181d}}.quiet{{fill:#98a2ac}}}}\
             .cell+text{{text-anchor:middle;font-size:11px;fill:#14181d}}</style>\n\
             <rect width=\"{wide}\" height=\"{high}\" class=\"paper\"/>\n\
             <text x=\"12\" y=\"20\">{}</text>\n",
            self.title(timeline),
            self.title(timeline)
        );
        for (rank, list) in timeline.ranks.iter().enumerate() {
            let y = HEAD + HEIGHT * rank as u64;
            let _ = writeln!(svg, "<text x=\"12\" y=\"{}\">rank {rank}</text>", y + 18);
            list.iter().for_each(|timed| self.cell(&mut svg, timed, y));
        }
        let _ = write!(
            svg,
            "<text class=\"quiet\" x=\"{LEFT}\" y=\"{}\">time → · numbers: micro-batches · one \
             colour a chunk, forwards light, backwards dark</text>\n</svg>\n",
            high - 12
        );
        svg
    }

    fn cell(&self, svg: &mut String, timed: &Timed, y: u64) {
        let x = LEFT + UNIT * timed.start;
        let width = UNIT * (timed.end - timed.start);
        // hues a golden angle apart differ for any number of chunks
        let hue = (210.0 + 137.5 * timed.action.chunk as f64) % 360.0;
        let light = match timed.action.work {
            Work::Forward => 86,
            Work::Backward => 66,
            Work::Weight => 76,
        };
        let _ = writeln!(
            svg,
            "<rect class=\"cell\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{}\" \
             fill=\"hsl({hue:.0} 62% {light}%)\"/><text x=\"{}\" y=\"{}\">{}</text>",
            HEIGHT - 4,
            x + width / 2,
            y + 16,
            timed.action.micro_batch
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::Shape;
    use super::*;

    #[test]
    fn figure_6_of_the_paper() {
        let shape = Shape {
            ranks: 4,
            chunks: 2,
            micro_batches: 10,
            contiguous: None,
            kind: Kind::OneForwardOneBackward,
        };
        let schedule = Schedule::new(shape).unwrap();
        assert_eq!(shape.contiguous(), 5);
        let list: Vec<String> = schedule
            .list(0)
            .iter()
            .map(|action| schedule.label(&Timed { action: *action, start: 0, end: 1 }))
            .collect();
        let expected = "0A 1A 2A 3A 4A 0B 1B 2B 3B 4B 5A 6A 0b 7A 1b 8A 2b 9A 3b 5B 4b 6B 0a 7B 1a \
                        8B 2a 9B 3a 4a 5b 6b 7b 8b 9b 5a 6a 7a 8a 9a";
        assert_eq!(list.join(" "), expected);
        let timeline = schedule.timeline().unwrap();
        let text = schedule.text(&timeline);
        assert_eq!(text.lines().filter(|line| line.starts_with("rank ")).count(), 4);
        let svg = schedule.svg(&timeline);
        assert_eq!(svg.matches("class=\"cell\"").count(), 4 * 2 * 2 * 10);
    }

    #[test]
    fn letters_of_chunks() {
        assert_eq!([0, 25, 26, 27, 52].map(letter), ["A", "Z", "AA", "AB", "BA"]);
    }
}
