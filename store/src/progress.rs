//! How a long job tells where it is: a bar with rate and time left on a terminal, one line at
//! intervals without one, or nothing. All of it goes to standard error; results are the
//! program's. A job never reads anything back from here, so it cannot influence a result.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a long job reports to. One job at a time; calls may come from many threads.
pub trait Progress: Send + Sync {
    /// A job of `total` units begins; 0 when the total is unknown.
    fn begin(&self, label: &str, total: u64);
    /// `n` more units are done.
    fn advance(&self, n: u64);
    /// How one step went: beside the bar on a terminal, a line each without one. Not counted as
    /// progress: [`Progress::advance`] does that.
    fn step(&self, line: &str) {
        let _ = line;
    }
    /// Something worth a line: a loss, a warning, a reason.
    fn note(&self, line: &str);
    /// The job is over; `line` is its result in one line, empty for none.
    fn finish(&self, line: &str);
}

/// Says nothing.
#[must_use]
pub fn silent() -> Arc<dyn Progress> {
    Arc::new(Silent)
}

/// What suits standard error: nothing when `quiet`, a bar on a terminal, else lines.
#[must_use]
pub fn standard(quiet: bool) -> Arc<dyn Progress> {
    if quiet {
        silent()
    } else if std::io::stderr().is_terminal() {
        Arc::new(Bar(Mutex::new(None)))
    } else {
        lines(Box::new(std::io::stderr()), Duration::from_secs(10))
    }
}

/// One line at most every `interval`, and each note and result, on `out`.
#[must_use]
pub fn lines(out: Box<dyn Write + Send>, interval: Duration) -> Arc<dyn Progress> {
    let now = Instant::now();
    let state =
        Lines { out, interval, label: String::new(), total: 0, done: 0, start: now, last: now };
    Arc::new(LineProgress(Mutex::new(state)))
}

struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn note(&self, _: &str) {}
    fn finish(&self, _: &str) {}
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Progress of a job that panicked on another thread is still worth showing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Bar(Mutex<Option<ProgressBar>>);

const KNOWN: &str = "{prefix:12} {wide_bar:.cyan/dim} {pos}/{len} · {per_sec} · {eta} left {msg}";
const UNKNOWN: &str = "{prefix:12} {spinner} {pos} · {per_sec} · {elapsed} {msg}";

impl Progress for Bar {
    fn begin(&self, label: &str, total: u64) {
        let bar = if total == 0 { ProgressBar::no_length() } else { ProgressBar::new(total) };
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(8));
        let template = if total == 0 { UNKNOWN } else { KNOWN };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_prefix(label.to_owned());
        bar.enable_steady_tick(Duration::from_millis(250));
        if let Some(old) = locked(&self.0).replace(bar) {
            old.finish_and_clear();
        }
    }

    fn advance(&self, n: u64) {
        if let Some(bar) = &*locked(&self.0) {
            bar.inc(n);
        }
    }

    fn step(&self, line: &str) {
        if let Some(bar) = &*locked(&self.0) {
            bar.set_message(line.to_owned());
        }
    }

    fn note(&self, line: &str) {
        match &*locked(&self.0) {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    fn finish(&self, line: &str) {
        if let Some(bar) = locked(&self.0).take() {
            bar.finish_and_clear();
        }
        if !line.is_empty() {
            eprintln!("{line}");
        }
    }
}

struct LineProgress(Mutex<Lines>);

struct Lines {
    out: Box<dyn Write + Send>,
    interval: Duration,
    label: String,
    total: u64,
    done: u64,
    start: Instant,
    last: Instant,
}

impl Lines {
    fn say(&mut self, line: &str) {
        // A closed pipe must not end the job.
        let _ = writeln!(self.out, "{line}");
    }

    fn status(&self, seconds: f64) -> String {
        let rate = self.done as f64 / seconds.max(1e-9);
        if self.total == 0 {
            return format!("{} {} · {}/s", self.label, self.done, short(rate));
        }
        let left = self.total.saturating_sub(self.done) as f64 / rate.max(1e-9);
        let (done, total) = (self.done, self.total);
        format!("{} {done}/{total} · {}/s · {} left", self.label, short(rate), duration(left))
    }
}

impl Progress for LineProgress {
    fn begin(&self, label: &str, total: u64) {
        let mut lines = locked(&self.0);
        let now = Instant::now();
        (lines.start, lines.last, lines.done, lines.total) = (now, now, 0, total);
        label.clone_into(&mut lines.label);
    }

    fn advance(&self, n: u64) {
        let mut lines = locked(&self.0);
        lines.done += n;
        if lines.last.elapsed() >= lines.interval {
            lines.last = Instant::now();
            let status = lines.status(lines.start.elapsed().as_secs_f64());
            lines.say(&status);
        }
    }

    fn step(&self, line: &str) {
        let mut lines = locked(&self.0);
        // Such a loop has its line already; the one at intervals would say less.
        lines.last = Instant::now();
        lines.say(line);
    }

    fn note(&self, line: &str) {
        locked(&self.0).say(line);
    }

    fn finish(&self, line: &str) {
        if !line.is_empty() {
            locked(&self.0).say(line);
        }
    }
}

/// A rate in at most four digits.
fn short(rate: f64) -> String {
    match rate {
        r if r >= 1e7 => format!("{:.0}M", r / 1e6),
        r if r >= 1e4 => format!("{:.0}k", r / 1e3),
        r if r >= 100.0 => format!("{r:.0}"),
        r => format!("{r:.1}"),
    }
}

/// A count as a person writes it: `6200` → `6,200`.
#[must_use]
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Seconds as a person would say them.
#[must_use]
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 if seconds < 10.0 => format!("{seconds:.1} s"),
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    struct Sent(mpsc::Sender<u8>);

    impl Write for Sent {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            bytes.iter().for_each(|b| self.0.send(*b).unwrap());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn counts_have_commas() {
        let found = [7, 1_000, 123_456, 1_234_567].map(thousands);
        assert_eq!(found, ["7", "1,000", "123,456", "1,234,567"]);
    }

    #[test]
    fn lines_come_at_intervals_and_carry_rate_and_time_left() {
        let (sender, receiver) = mpsc::channel();
        let progress = lines(Box::new(Sent(sender)), Duration::ZERO);
        progress.begin("extract", 10);
        progress.advance(4);
        progress.step("step 3 loss 2.1");
        progress.note("a page of 50 MB was cut");
        progress.finish("10 pages");
        drop(progress);
        let text = String::from_utf8(receiver.iter().collect()).unwrap();
        let seen: Vec<&str> = text.lines().collect();
        assert!(seen[0].starts_with("extract 4/10 · ") && seen[0].ends_with(" left"), "{text}");
        assert_eq!(&seen[1..], ["step 3 loss 2.1", "a page of 50 MB was cut", "10 pages"]);
    }

    #[test]
    fn durations_read_well() {
        assert_eq!(duration(1.25), "1.2 s");
        assert_eq!(duration(59.0), "59 s");
        assert_eq!(duration(61.4), "1 min 1 s");
        assert_eq!(duration(7260.0), "2 h 1 min");
    }
}
