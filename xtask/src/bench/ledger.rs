//! What a part of a measurement found: figures with what was asked of them, notes, raw results; and
//! the folder in `bench/` where the parts stand together. A part that is measured again replaces
//! what it said before, the others stay. Not here: how anything is measured.

use super::spread;
use crate::run::{self, Error};
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// What is asked of a figure.
#[derive(Clone, Copy, Debug)]
pub enum Asked {
    /// It, or more.
    AtLeast(f64),
    /// Less than it.
    Below(f64),
    /// Nothing: it is reported.
    Nothing,
}

/// What one part found.
#[derive(Debug, Default)]
pub struct Ledger {
    figures: Vec<Value>,
    notes: Vec<String>,
    raw: Vec<Value>,
}

impl Ledger {
    /// A figure of ours or of a peer, one value a round; none where nothing was measured.
    pub fn figure(&mut self, what: &str, who: &str, values: &[f64], asked: Asked) {
        let mut figure = spread(values);
        let Some(median) = figure["median"].as_f64() else { return };
        let (words, reached) = match asked {
            Asked::AtLeast(mark) => (format!("≥ {}", short(mark)), Some(median >= mark)),
            Asked::Below(mark) => (format!("< {}", short(mark)), Some(median < mark)),
            Asked::Nothing => (String::new(), None),
        };
        let sign = match reached {
            Some(true) => ", reached",
            Some(false) => ", NOT reached",
            None => "",
        };
        println!("  {what} · {who}: {} {words}{sign}", short(median));
        figure["what"] = json!(what);
        figure["who"] = json!(who);
        figure["asked"] = json!(words);
        figure["reached"] = json!(reached);
        self.figures.push(figure);
    }

    /// A sentence that the figures need to be understood, or why one is missing.
    pub fn note(&mut self, sentence: impl Into<String>) {
        let sentence = sentence.into().lines().collect::<Vec<_>>().join(" / ");
        println!("  note: {sentence}");
        self.notes.push(sentence);
    }

    /// A result as it came.
    pub fn raw(&mut self, round: usize, who: &str, result: Value) {
        self.raw.push(json!({"round": round, "who": who, "result": result}));
    }
}

/// The folder of the parts.
pub struct Shelf {
    dir: PathBuf,
    heading: String,
    name: String,
}

impl Shelf {
    /// `bench/<date>-<machine>-NAME` of the workspace, or the same below `scratch`.
    pub fn new(root: &Path, name: &str, scratch: Option<&Path>) -> Result<Shelf, Error> {
        let heading = format!("{}, {}: {name}", run::today(), run::machine());
        let folder = format!("{}-{}-{name}", run::today(), run::machine());
        let dir = scratch.map_or_else(|| root.join("bench"), Path::to_path_buf).join(folder);
        std::fs::create_dir_all(&dir)?;
        Ok(Shelf { dir, heading, name: name.to_owned() })
    }

    /// Puts what a part found in its place, and writes all three files anew.
    pub fn put(&self, part: &str, title: &str, about: Value, found: Ledger) -> Result<(), Error> {
        let path = self.dir.join("summary.json");
        let mut parts: Map<String, Value> = match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text)?,
            Err(_) => Map::new(),
        };
        let mut entry = about;
        entry["title"] = json!(title);
        entry["figures"] = json!(found.figures);
        entry["notes"] = json!(found.notes);
        parts.insert(part.to_owned(), entry);
        let raw_path = self.dir.join("raw.jsonl");
        let mut lines = String::new();
        for line in std::fs::read_to_string(&raw_path).unwrap_or_default().lines() {
            let value: Value = serde_json::from_str(line)?;
            if value["part"] != part {
                writeln!(lines, "{line}")?;
            }
        }
        for value in found.raw {
            let (round, who, result) = (&value["round"], &value["who"], &value["result"]);
            let line = json!({"part": part, "round": round, "who": who, "result": result});
            writeln!(lines, "{line}")?;
        }
        std::fs::write(raw_path, lines)?;
        std::fs::write(self.dir.join("README.md"), page((&self.heading, &self.name), &parts)?)?;
        std::fs::write(path, serde_json::to_string_pretty(&parts)? + "\n")?;
        Ok(())
    }

    /// Where the files stand.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// README.md: a table a part, then its notes.
fn page((heading, name): (&str, &str), parts: &Map<String, Value>) -> Result<String, Error> {
    let mut text = format!(
        "# {heading}\n\nWritten by `cargo xtask bench {name}`; raw results in `raw.jsonl`. Rounds \
         are interleaved with the peers'; a ratio is of one round. Medians and ranges, never the \
         best.\n"
    );
    for (part, found) in parts {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (title, command) = (word(&found["title"]), word(&found["command"]));
        write!(text, "\n## {part}: {title}\n\n`{command}` at {}.\n", word(&found["commit"]))?;
        let figures = found["figures"].as_array().map_or(&[][..], Vec::as_slice);
        if !figures.is_empty() {
            text += "\n| what | who | median | least | most | asked |\n\
                     | --- | --- | ---: | ---: | ---: | --- |\n";
        }
        for figure in figures {
            let n = |key: &str| short(figure[key].as_f64().unwrap_or(f64::NAN));
            let asked = match figure["reached"].as_bool() {
                Some(true) => format!("{}: reached", word(&figure["asked"])),
                Some(false) => format!("{}: **not reached**", word(&figure["asked"])),
                None => String::new(),
            };
            let (what, who) = (word(&figure["what"]), word(&figure["who"]));
            let (median, least, most) = (n("median"), n("least"), n("most"));
            writeln!(text, "| {what} | {who} | {median} | {least} | {most} | {asked} |")?;
        }
        let notes = found["notes"].as_array().map_or(&[][..], Vec::as_slice);
        if !notes.is_empty() {
            text.push('\n');
        }
        notes.iter().try_for_each(|note| writeln!(text, "- {}", word(note)))?;
    }
    Ok(text)
}

/// A number with about four digits that matter, thousands apart.
pub fn short(value: f64) -> String {
    let size = value.abs();
    let digits = match size {
        s if s >= 1000.0 || s.fract() == 0.0 => 0,
        s if s >= 100.0 => 1,
        s if s >= 10.0 => 2,
        _ => 3,
    };
    let plain = format!("{value:.digits$}");
    let (sign, rest) = plain.strip_prefix('-').map_or(("", plain.as_str()), |rest| ("-", rest));
    let (whole, part) = rest.split_once('.').unwrap_or((rest, ""));
    if whole.len() < 4 || !whole.bytes().all(|b| b.is_ascii_digit()) {
        return plain;
    }
    let mut out = sign.to_owned();
    for (n, digit) in whole.chars().enumerate() {
        if n > 0 && (whole.len() - n) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    if part.is_empty() { out } else { format!("{out}.{part}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        let cases =
            [(0.9745, "0.975"), (17.26, "17.26"), (302.34, "302.3"), (1_234_567.8, "1,234,568")];
        for (value, shown) in cases {
            assert_eq!(short(value), shown);
        }
        assert_eq!((short(20.0).as_str(), short(-4321.0).as_str()), ("20", "-4,321"));
    }

    #[test]
    fn a_part_replaces_itself_and_leaves_the_others() {
        let dir = std::env::temp_dir().join(format!("quipu-shelf-{}", std::process::id()));
        let shelf = Shelf::new(Path::new("/nowhere"), "test", Some(&dir)).unwrap();
        let put = |part: &str, value: f64| {
            let mut found = Ledger::default();
            found.figure("rate", "quipu", &[value], Asked::AtLeast(2.0));
            found.note("A note\nof two lines.");
            found.raw(1, "quipu", json!({"rate": value}));
            let about = json!({"command": "c", "commit": "abc"});
            shelf.put(part, "title", about, found).unwrap();
        };
        put("one", 1.0);
        put("two", 2.0);
        put("one", 3.0);
        let read = |name: &str| std::fs::read_to_string(shelf.dir().join(name)).unwrap();
        let (readme, raw) = (read("README.md"), read("raw.jsonl"));
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(readme.matches("| rate | quipu | 3 | 3 | 3 | ≥ 2: reached |").count(), 1);
        assert_eq!(readme.matches("## ").count(), 2, "{readme}");
        assert!(readme.contains("- A note / of two lines.\n"), "{readme}");
        assert_eq!(raw.lines().count(), 2, "{raw}");
        assert!(!raw.contains("1.0}"), "{raw}");
    }

    #[test]
    fn what_falls_short_is_said() {
        let mut found = Ledger::default();
        found.figure("peak, GiB", "quipu", &[1.6], Asked::Below(1.5));
        found.figure("nothing", "quipu", &[], Asked::Nothing);
        assert_eq!(found.figures.len(), 1);
        assert_eq!(found.figures[0]["reached"], false);
    }
}
