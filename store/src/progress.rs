//! How a long job tells where it is: a bar with rate and time left on a terminal, one line at
//! intervals without one, or nothing. All of it goes to standard error; results are the
//! program's. A job never reads anything back from here, so it cannot influence a result.

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::fmt;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a long job reports to. One job at a time; calls may come from many threads.
pub trait Progress: Send + Sync {
    /// A job of `total` units begins; 0 when the total is unknown.
    fn begin(&self, label: &str, total: u64);
    /// As [`Progress::begin`], where a unit is a byte, so that they are shown as such.
    fn begin_bytes(&self, label: &str, total: u64) {
        self.begin(label, total);
    }
    /// `n` more of what the units hold, such as documents: how many of `what` come in a second
    /// stands beside the bar, or in the line at intervals.
    fn count(&self, n: u64, what: &'static str) {
        let _ = (n, what);
    }
    /// `n` units were done by another process: counted, but not as this one's speed.
    fn resume(&self, n: u64) {
        self.advance(n);
    }
    /// `n` more units are done.
    fn advance(&self, n: u64);
    /// How the step that [`Progress::advance`] has just counted went: figures, those that matter
    /// most first. Beside the bar stand as many as the terminal is broad. Without a terminal there
    /// is a line with all of them, the step's number and the time left: for the first and the last
    /// step, for each `milestone`, and else now and then.
    fn step(&self, figures: &[String], milestone: bool) {
        let _ = (figures, milestone);
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
        Arc::new(Bar(Mutex::new(Shown::default())))
    } else {
        lines(Box::new(std::io::stderr()), Duration::from_secs(10))
    }
}

/// One line at most every `interval`, and each note and result, on `out`.
#[must_use]
pub fn lines(out: Box<dyn Write + Send>, interval: Duration) -> Arc<dyn Progress> {
    let now = Instant::now();
    let state = Lines {
        out,
        interval,
        label: String::new(),
        bytes: false,
        total: 0,
        done: 0,
        resumed: 0,
        counted: None,
        stepped: false,
        start: now,
        last: now,
    };
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

/// A count beside the units: how many of what.
type Counted = Option<(u64, &'static str)>;

/// `1,240 documents/s`.
fn rate_of(counted: Counted, start: Instant) -> Option<String> {
    let (n, what) = counted?;
    let rate = n as f64 / start.elapsed().as_secs_f64().max(1e-9);
    Some(format!("{} {what}/s", short(rate)))
}

struct Bar(Mutex<Shown>);

/// The bar that stands there now.
#[derive(Default)]
struct Shown {
    bar: Option<ProgressBar>,
    /// Columns of what stands before the message, but for the digits of the counts.
    before: usize,
    start: Option<Instant>,
    counted: Counted,
}

const KNOWN: &str = "{prefix:7} {bar:16.cyan/dim} {pos}/{len} · {eta} left {wide_msg}";
/// Columns of that without the digits, with a time left such as `59m`.
const KNOWN_COLUMNS: usize = 7 + 1 + 16 + 1 + 1 + 3 + 3 + 6;
/// On a terminal with so few columns figures say more than a bar.
const NARROW: usize = 100;
const KNOWN_NARROW: &str = "{prefix:7} {pos}/{len} · {eta} left {wide_msg}";
const UNKNOWN: &str = "{prefix:7} {spinner} {pos} · {rate} · {elapsed} {wide_msg}";
const BYTES: &str = "{prefix:7} {bar:16.cyan/dim} {decimal_bytes}/{decimal_total_bytes} · \
                     {decimal_bytes_per_sec} · {eta} left {wide_msg}";

/// Columns of the terminal, as it is now.
fn columns() -> usize {
    usize::from(Term::stderr().size().1)
}

/// The figures that have room, in their order and each whole: half a number would be another one.
fn fitted(figures: &[String], room: usize) -> String {
    let mut line = String::new();
    let mut used = 0;
    for figure in figures {
        let more = figure.chars().count() + if line.is_empty() { 2 } else { 3 };
        if used + more > room {
            continue;
        }
        line += if line.is_empty() { "· " } else { " · " };
        line += figure;
        used += more;
    }
    line
}

impl Bar {
    fn start(&self, label: &str, total: u64, template: &str) {
        let bar = if total == 0 { ProgressBar::no_length() } else { ProgressBar::new(total) };
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(8));
        let narrow = template == KNOWN && columns() < NARROW;
        let template = if narrow { KNOWN_NARROW } else { template };
        let before = KNOWN_COLUMNS - if narrow { 17 } else { 0 };
        let template = if total == 0 { UNKNOWN } else { template };
        if let Ok(style) = ProgressStyle::with_template(template) {
            let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
                let _ = write!(out, "{}/s", short(state.per_sec()));
            };
            bar.set_style(style.with_key("rate", rate));
        }
        bar.set_prefix(label.to_owned());
        bar.enable_steady_tick(Duration::from_millis(250));
        let shown = Shown { bar: Some(bar), before, start: Some(Instant::now()), counted: None };
        if let Some(old) = std::mem::replace(&mut *locked(&self.0), shown).bar {
            old.finish_and_clear();
        }
    }
}

impl Progress for Bar {
    fn begin(&self, label: &str, total: u64) {
        self.start(label, total, KNOWN);
    }

    fn begin_bytes(&self, label: &str, total: u64) {
        self.start(label, total, BYTES);
    }

    fn count(&self, n: u64, what: &'static str) {
        let mut shown = locked(&self.0);
        shown.counted = Some((shown.counted.map_or(0, |c| c.0) + n, what));
        let rate = shown.start.and_then(|start| rate_of(shown.counted, start));
        if let (Some(bar), Some(rate)) = (&shown.bar, rate) {
            bar.set_message(format!("· {rate}"));
        }
    }

    fn resume(&self, n: u64) {
        if let Some(bar) = &locked(&self.0).bar {
            bar.inc(n);
            bar.reset_eta();
        }
    }

    fn advance(&self, n: u64) {
        if let Some(bar) = &locked(&self.0).bar {
            bar.inc(n);
        }
    }

    fn step(&self, figures: &[String], _: bool) {
        let shown = locked(&self.0);
        if let Some(bar) = &shown.bar {
            let digits = |n: u64| n.to_string().len();
            let counts = digits(bar.position()) + digits(bar.length().unwrap_or(0));
            bar.set_message(fitted(figures, columns().saturating_sub(shown.before + counts)));
        }
    }

    fn note(&self, line: &str) {
        match &locked(&self.0).bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    fn finish(&self, line: &str) {
        if let Some(bar) = locked(&self.0).bar.take() {
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
    /// Whether a unit is a byte.
    bytes: bool,
    total: u64,
    done: u64,
    /// Of `done`, what other processes did.
    resumed: u64,
    counted: Counted,
    /// Whether a step of this job has had its line.
    stepped: bool,
    start: Instant,
    last: Instant,
}

impl Lines {
    fn say(&mut self, line: &str) {
        // A closed pipe must not end the job.
        let _ = writeln!(self.out, "{line}");
    }

    /// Units a second, of this process.
    fn rate(&self) -> f64 {
        let seconds = self.start.elapsed().as_secs_f64();
        (self.done - self.resumed) as f64 / seconds.max(1e-9)
    }

    fn left(&self) -> String {
        let left = self.total.saturating_sub(self.done) as f64 / self.rate().max(1e-9);
        format!("{} left", duration(left))
    }

    fn status(&self) -> String {
        let shown = |n: u64| if self.bytes { bytes(n as f64) } else { n.to_string() };
        let rate = if self.bytes { bytes(self.rate()) } else { short(self.rate()) };
        let counted =
            rate_of(self.counted, self.start).map_or(String::new(), |r| format!(" · {r}"));
        let (label, done) = (&self.label, shown(self.done));
        if self.total == 0 {
            return format!("{label} {done} · {rate}/s{counted}");
        }
        format!("{label} {done}/{} · {rate}/s{counted} · {}", shown(self.total), self.left())
    }

    fn begin(&mut self, label: &str, total: u64, bytes: bool) {
        let now = Instant::now();
        (self.start, self.last, self.total) = (now, now, total);
        (self.done, self.resumed, self.counted, self.bytes) = (0, 0, None, bytes);
        self.stepped = false;
        label.clone_into(&mut self.label);
    }
}

impl Progress for LineProgress {
    fn begin(&self, label: &str, total: u64) {
        locked(&self.0).begin(label, total, false);
    }

    fn begin_bytes(&self, label: &str, total: u64) {
        locked(&self.0).begin(label, total, true);
    }

    fn count(&self, n: u64, what: &'static str) {
        let mut lines = locked(&self.0);
        lines.counted = Some((lines.counted.map_or(0, |c| c.0) + n, what));
    }

    fn resume(&self, n: u64) {
        let mut lines = locked(&self.0);
        lines.done += n;
        lines.resumed += n;
    }

    fn advance(&self, n: u64) {
        let mut lines = locked(&self.0);
        lines.done += n;
        // Steps have lines of their own, which say more.
        if !lines.stepped && lines.last.elapsed() >= lines.interval {
            lines.last = Instant::now();
            let status = lines.status();
            lines.say(&status);
        }
    }

    fn step(&self, figures: &[String], milestone: bool) {
        let mut lines = locked(&self.0);
        let ends = !lines.stepped || lines.done == lines.total;
        if !(ends || milestone || lines.last.elapsed() >= lines.interval) {
            return;
        }
        (lines.stepped, lines.last) = (true, Instant::now());
        let (label, done, total) = (&lines.label, lines.done, lines.total);
        let line = format!("{label} {done}/{total} · {} · {}", figures.join(" · "), lines.left());
        lines.say(&line);
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

/// Bytes in units of a thousand, as files are sized.
#[must_use]
pub fn bytes(n: f64) -> String {
    match n {
        n if n >= 1e12 => format!("{:.2} TB", n / 1e12),
        n if n >= 1e9 => format!("{:.2} GB", n / 1e9),
        n if n >= 1e6 => format!("{:.1} MB", n / 1e6),
        n if n >= 1e3 => format!("{:.1} kB", n / 1e3),
        n => format!("{n:.0} bytes"),
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
        progress.resume(3);
        progress.advance(1);
        progress.step(&["loss 2.1".into(), "norm 0.4".into()], false);
        progress.note("a page of 50 MB was cut");
        progress.finish("10 pages");
        drop(progress);
        let text = String::from_utf8(receiver.iter().collect()).unwrap();
        let seen: Vec<&str> = text.lines().collect();
        assert!(seen[0].starts_with("extract 4/10 · ") && seen[0].ends_with(" left"), "{text}");
        assert!(seen[1].starts_with("extract 4/10 · loss 2.1 · norm 0.4 · "), "{text}");
        assert!(seen[1].ends_with(" left"), "{text}");
        assert_eq!(&seen[2..], ["a page of 50 MB was cut", "10 pages"]);
    }

    #[test]
    fn steps_have_a_line_at_the_ends_at_milestones_and_now_and_then() {
        let (sender, receiver) = mpsc::channel();
        let progress = lines(Box::new(Sent(sender)), Duration::from_secs(3600));
        for label in ["train", "tune"] {
            progress.begin(label, 9);
            for step in 1..=9 {
                progress.advance(1);
                progress.step(&[format!("loss {step}")], step == 4);
            }
        }
        drop(progress);
        let text = String::from_utf8(receiver.iter().collect()).unwrap();
        let seen: Vec<&str> = text.lines().map(|l| l.split(" · ").nth(1).unwrap()).collect();
        assert_eq!(seen, ["loss 1", "loss 4", "loss 9"].repeat(2), "{text}");
    }

    #[test]
    fn what_has_no_room_is_left_out_whole() {
        let figures = ["loss 2.019", "norm 0.41", "21,303 tokens/s"].map(str::to_owned);
        let whole = "· loss 2.019 · norm 0.41 · 21,303 tokens/s";
        assert_eq!(fitted(&figures, whole.chars().count()), whole);
        assert_eq!(fitted(&figures, whole.chars().count() - 1), "· loss 2.019 · norm 0.41");
        assert_eq!((fitted(&figures, 10).as_str(), fitted(&[], 99).as_str()), ("", ""));
        assert_eq!(fitted(&figures, 12), "· loss 2.019");
        let beside = ["loss 2.019", "last validation 2.111", "norm 0.41"].map(str::to_owned);
        assert_eq!(fitted(&beside, 24), "· loss 2.019 · norm 0.41");
    }

    #[test]
    fn bytes_and_what_they_hold_have_their_rates() {
        let (sender, receiver) = mpsc::channel();
        let progress = lines(Box::new(Sent(sender)), Duration::ZERO);
        progress.begin_bytes("extract", 10_000_000);
        progress.resume(1_000_000);
        progress.resume(1_000_000);
        progress.count(7, "documents");
        progress.advance(3_000_000);
        drop(progress);
        let text = String::from_utf8(receiver.iter().collect()).unwrap();
        assert!(text.starts_with("extract 5.0 MB/10.0 MB · "), "{text}");
        let parts: Vec<&str> = text.trim_end().split(" · ").collect();
        assert!(parts[1].ends_with("B/s") && parts[2].ends_with(" documents/s"), "{text}");
        assert!(parts[3].ends_with(" left"), "{text}");
    }

    #[test]
    fn durations_read_well() {
        assert_eq!(duration(1.25), "1.2 s");
        assert_eq!(duration(59.0), "59 s");
        assert_eq!(duration(61.4), "1 min 1 s");
        assert_eq!(duration(7260.0), "2 h 1 min");
    }
}
