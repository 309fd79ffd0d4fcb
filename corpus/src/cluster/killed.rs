//! A cluster of one scheduler and two executors, each a process of its own, of which one is killed
//! in the middle of a plan. Tests only.
//!
//! The processes are this test program again, told by the environment to run the ignored test
//! [`a_service`]: so the feature's own crate proves it, without the program `quipu`.

use super::agreement::{drawn, rows, runs};
use super::{Ballista, service};
use crate::shuffle::{Embedded, Plan, Shuffle};
use quipu_store::Cancel;
use quipu_store::crew::Crew;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What the process is to be: `scheduler`, or `executor ADDRESS FOLDER`.
const ROLE: &str = "QUIPU_TEST_SERVICE";
/// The line by which a service says where it listens.
const LISTENS: &str = "listens at ";

/// Runs what the environment asks for; only a process that a test below started does.
#[test]
#[ignore = "a process of the tests beside it, not a test"]
fn a_service() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let say = |address: std::net::SocketAddr| eprintln!("{LISTENS}{address}");
    let words: Vec<&str> = role.split('|').collect();
    match words[..] {
        ["executor", scheduler, work] => {
            let options = service::Executor {
                scheduler: scheduler.into(),
                bind: "127.0.0.1:0".parse().unwrap(),
                work: work.into(),
                workers: 1,
                memory: 256 << 20,
            };
            service::executor(&options, say).unwrap();
        }
        _ => service::scheduler("127.0.0.1:0", Duration::from_secs(6), say).unwrap(),
    }
}

/// A service's process, killed when the test is over however it ends.
struct Process {
    child: Child,
    address: String,
}

impl Process {
    fn start(role: &str) -> Process {
        let name = format!("{}::a_service", module_path!().split_once("::").unwrap().1);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([&name, "--exact", "--ignored", "--nocapture"])
            .env(ROLE, role)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines
            .find_map(|line| Some(line.ok()?.split_once(LISTENS)?.1.trim().to_owned()))
            .unwrap_or_else(|| panic!("the {role} ended before it listened"));
        // What else it says is shown beside the test's own output.
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| eprintln!("  {line}"))
        });
        Process { child, address }
    }

    /// `kill -9`.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn has_rows(dir: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(dir) else { return false };
    entries.flatten().any(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => has_rows(&entry.path()),
        Ok(_) => entry.metadata().is_ok_and(|data| data.len() > 0),
        Err(_) => false,
    })
}

#[test]
fn a_plan_survives_a_killed_executor() {
    let dir = tempfile::tempdir().unwrap();
    let scheduler = Process::start("scheduler");
    let work = |n: usize| dir.path().join(format!("executor-{n}"));
    let start =
        |n: usize| Process::start(&format!("executor|{}|{}", scheduler.address, work(n).display()));
    let (mut victim, _survivor) = (start(0), start(1));
    let many = (0..3_000_000u64)
        .map(|n| [if n % 4 == 0 { 5 } else { drawn(n, 1 << 17) }, drawn(n * 7, 1 << 50)]);
    let input = runs(dir.path(), "in", many);
    let crew = Crew::new(&dir.path().join("work"), 2, &Cancel::new()).unwrap();
    let expected =
        rows(&Embedded::new(&crew, 64 << 20).run("here", Plan::Frequent(6), &input).unwrap());
    let ballista = Ballista::connect(&crew, &Cancel::new(), 64 << 20, &scheduler.address).unwrap();
    let over = AtomicBool::new(false);
    let found = std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let made = ballista.run("there", Plan::Frequent(6), &input);
            over.store(true, Ordering::SeqCst);
            made
        });
        let began = Instant::now();
        while !has_rows(&work(0)) {
            assert!(began.elapsed() < Duration::from_secs(120), "it was given nothing to do");
            assert!(!over.load(Ordering::SeqCst), "over before it was given anything to do");
            std::thread::sleep(Duration::from_millis(5));
        }
        victim.kill();
        // Its rows are as lost as those of a machine that is gone.
        std::fs::remove_dir_all(work(0)).unwrap();
        assert!(!over.load(Ordering::SeqCst), "killed too late");
        client.join().unwrap().unwrap()
    });
    let found = rows(&found);
    assert!(expected.len() > 1_000_000);
    assert!(found == expected, "{} rows, expected {}", found.len(), expected.len());
}
