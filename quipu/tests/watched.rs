//! A run that others watch: `--metrics` while it trains, whatever is sent there, and the events for
//! TensorBoard in its folder.

#![allow(clippy::unwrap_used)]

mod program;

use program::{quipu, run, tiny, wait};
use quipu_train::{events, metrics};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A run that is started and trains for long, and where it is asked.
struct Started {
    child: Child,
    address: String,
}

impl Started {
    fn new(dir: &Path) -> Self {
        let tiny = tiny();
        let arguments = ["train", "--recipe", &tiny, "--run-dir", "run", "--json"];
        let more = ["--set", "train.steps=1000000", "--metrics", "127.0.0.1:0"];
        let mut command = quipu(dir, &[&arguments[..], &more].concat());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        // Before anything else is done.
        let first = lines.next().unwrap().unwrap();
        let address = first.strip_prefix("metrics http://").unwrap_or_else(|| panic!("{first}"));
        let address = address.strip_suffix("/metrics").unwrap().to_owned();
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    fn ask(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut found = Vec::new();
        let _ = stream.write_all(request).and_then(|()| stream.read_to_end(&mut found));
        String::from_utf8_lossy(&found).into_owned()
    }

    /// Asks until a series is there; its value, and the whole text.
    fn value(&self, series: &str) -> (f64, String) {
        let until = Instant::now() + Duration::from_secs(300);
        loop {
            let text = self.ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
            let line = text.lines().find_map(|l| l.strip_prefix(series)?.strip_prefix(' '));
            if let Some(value) = line {
                return (value.parse().unwrap(), text);
            }
            assert!(Instant::now() < until, "no {series} in {text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

const STEP: &str = "quipu_step{run=\"run\",stage=\"train\"}";

#[test]
fn a_run_tells_its_figures_and_goes_on_whatever_is_sent_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut started = Started::new(dir.path());
    let (loss, _) = started.value("quipu_loss{run=\"run\",stage=\"train\"}");
    assert!(loss > 0.0);
    started.value("quipu_checkpoints_written_total{run=\"run\",stage=\"train\"}");
    let (before, text) = started.value(STEP);
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.contains("Content-Type: text/plain; version=0.0.4"), "{text}");
    for name in [
        "gradient_norm",
        "learning_rate",
        "tokens_total",
        "share_of_ceiling",
        "tokens_per_second",
        "time_left_seconds",
        "validation_loss",
    ] {
        started.value(&format!("quipu_{name}{{run=\"run\",stage=\"train\"}}"));
    }
    started.value("quipu_resident_memory_bytes{run=\"run\"}");

    let silent: Vec<_> = (0..40).map(|_| TcpStream::connect(&started.address).unwrap()).collect();
    started.ask(&vec![b'x'; 4 << 20]);
    started.ask(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
    drop(silent);
    let until = Instant::now() + Duration::from_secs(120);
    while started.value(STEP).0 < before + 20.0 {
        assert!(started.child.try_wait().unwrap().is_none() && Instant::now() < until);
    }
    let id = started.child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    assert_eq!(wait(&mut started.child).code(), Some(130));

    // What TensorBoard shows is what the metrics say.
    let records = metrics::read(&dir.path().join("run/metrics.jsonl")).unwrap();
    let events = events::read(&dir.path().join("run").join(events::NAME)).unwrap();
    assert_eq!(events.len(), records.len() + 1);
    for (event, record) in events[1..].iter().zip(&records) {
        assert_eq!(event.step, record.step);
        assert!(event.scalars.contains(&("train/loss".into(), record.loss as f32)), "{event:?}");
        let tags = event.scalars.iter().filter(|(tag, _)| tag.starts_with("validation/")).count();
        assert_eq!(tags, if record.validation.is_some() { 2 } else { 0 }, "{event:?}");
    }
}

/// Starts a run that is to be refused, before it has a folder.
#[track_caller]
fn check(address: &str, code: i32, expected: &str) {
    let dir = tempfile::tempdir().unwrap();
    let tiny = tiny();
    let arguments = ["speedrun", "--recipe", &tiny, "--run-dir", "run", "--metrics", address];
    let (found, out, errors) = run(dir.path(), &arguments);
    assert_eq!(found, Some(code), "{errors}");
    assert!(errors.contains(expected) && errors.contains("--metrics"), "{errors}");
    assert!(out.is_empty() && !dir.path().join("run").exists(), "{out}");
}

#[test]
fn an_address_that_cannot_be_had_is_told_before_anything_is_done() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    check(&taken.local_addr().unwrap().to_string(), 4, "name another port");
    check("nonsense", 2, "expected HOST:PORT");
    check("127.0.0.1:http", 2, "expected HOST:PORT");
}

#[test]
fn what_would_be_done_needs_no_address() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = tiny();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let arguments = ["speedrun", "--recipe", &tiny, "--dry-run", "--metrics", &address];
    assert_eq!(run(dir.path(), &arguments).0, Some(0));
}
