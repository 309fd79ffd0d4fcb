//! What the program says: results on standard output, everything else on standard error, nothing
//! but one JSON object on standard output with `--json`. Not progress (that is `store`'s).

pub use quipu_store::progress::thousands;
use serde_json::Value;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Where the lines of a run go.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    /// only the final JSON object on standard output
    pub json: bool,
    /// no lines but errors and results
    pub quiet: bool,
    /// not even results: another process of the run says them
    pub mute: bool,
}

impl Terminal {
    /// A line about how it goes, where somebody wants to know.
    pub fn comment(&self, line: &str) {
        if !self.quiet && !self.mute {
            self.say(line);
        }
    }

    /// A line of result; with `--json` the object is the result. A reader that went away does not
    /// end a run.
    pub fn say(&self, line: &str) {
        if self.mute || (self.quiet && self.json) {
            return;
        }
        if self.json {
            let _ = writeln!(io::stderr(), "{line}");
        } else {
            kept(writeln!(io::stdout(), "{line}"));
        }
    }

    /// Words as they come, without a line end.
    pub fn stream(&self, piece: &str) {
        if self.mute {
            return;
        }
        let mut out = io::stdout();
        kept(out.write_all(piece.as_bytes()).and_then(|()| out.flush()));
    }

    /// The result as JSON, with `--json` only.
    pub fn result(&self, value: &Value) {
        if self.json && !self.mute {
            kept(writeln!(io::stdout(), "{value}"));
        }
    }

    /// Whether a person reads along.
    pub fn is_interactive(&self) -> bool {
        io::stdin().is_terminal() && io::stdout().is_terminal()
    }
}

/// Set once a result could not be written.
static LOST: AtomicBool = AtomicBool::new(false);

/// Notes that a result was lost, unless its reader only had enough.
fn kept(written: io::Result<()>) {
    if written.is_err_and(|e| e.kind() != io::ErrorKind::BrokenPipe) {
        LOST.store(true, Ordering::Relaxed);
    }
}

/// Whether a result could not be written to standard output, such as into a file on a full disk.
pub fn lost_results() -> bool {
    LOST.load(Ordering::Relaxed)
}

/// A text of lines without what would steer a terminal: names of files and pages may hold anything.
pub fn visible(text: &str) -> String {
    let steers = |c: char| c.is_control() && c != '\n' && c != '\t';
    text.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect()
}

/// A text on one line of at most `most` characters: runs of blanks and line ends become a blank,
/// control characters a mark, and what is cut off an ellipsis.
pub fn one_line(text: &str, most: usize) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let plain = words.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    let cut: String = plain.clone().take(most).collect();
    if plain.count() <= most {
        return cut;
    }
    let cut: String = cut.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", cut.trim_end())
}

/// The highest resident memory of this process so far, MiB; 0 where the system does not say.
pub fn peak_memory_mib() -> f64 {
    memory_mib("VmHWM:")
}

/// The resident memory of this process now, MiB; 0 where the system does not say.
pub fn resident_memory_mib() -> f64 {
    memory_mib("VmRSS:")
}

/// The resident memory of this process now that is no file's, MiB; 0 where the system does not say.
pub fn anonymous_memory_mib() -> f64 {
    memory_mib("RssAnon:")
}

fn memory_mib(name: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
    let kib = line.split_whitespace().next().and_then(|n| n.parse::<f64>().ok());
    kib.map_or(0.0, |kib| kib / 1024.0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn thousands() {
        assert_eq!(super::thousands(7), "7");
        assert_eq!(super::thousands(123_456), "123,456");
        assert_eq!(super::thousands(1_000), "1,000");
    }

    #[test]
    fn one_line() {
        assert_eq!(super::one_line(" a\n b\t\u{1b}[1m ", 9), "a b \u{fffd}[1m");
        assert_eq!(super::one_line("äöü äöü", 7), "äöü äöü");
        assert_eq!(super::one_line("äöü äöü", 5), "äöü…");
    }
}
