//! What the program says: results on standard output, everything else on standard error, nothing
//! but one JSON object on standard output with `--json`. Not progress (that is `store`'s).

pub use quipu_store::progress::thousands;
use serde_json::Value;
use std::io::{self, IsTerminal, Write};

/// Where the lines of a run go.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    /// only the final JSON object on standard output
    pub json: bool,
    /// no lines but errors
    pub quiet: bool,
}

impl Terminal {
    /// A line of result. A reader that went away does not end a run.
    pub fn say(&self, line: &str) {
        if self.quiet {
            return;
        }
        let _ = if self.json {
            writeln!(io::stderr(), "{line}")
        } else {
            writeln!(io::stdout(), "{line}")
        };
    }

    /// Words as they come, without a line end.
    pub fn stream(&self, piece: &str) {
        let mut out = io::stdout();
        let _ = out.write_all(piece.as_bytes()).and_then(|()| out.flush());
    }

    /// The result as JSON, with `--json` only.
    pub fn result(&self, value: &Value) {
        if self.json {
            let _ = writeln!(io::stdout(), "{value}");
        }
    }

    /// Whether a person reads along.
    pub fn is_interactive(&self) -> bool {
        io::stdin().is_terminal() && io::stdout().is_terminal()
    }
}

/// The highest resident memory of this process so far, MiB; 0 where the system does not say.
pub fn peak_memory_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or_default();
    let kib = line.split_whitespace().next().and_then(|n| n.parse::<f64>().ok());
    kib.map_or(0.0, |kib| kib / 1024.0)
}
