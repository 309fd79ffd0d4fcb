//! `quipu curate scheduler` and `executor` as a user starts them, and that a curation writes the
//! same bytes wherever its shuffles ran. What each plan makes is tested in `corpus`.

#![allow(clippy::unwrap_used)]

mod program;

#[cfg(not(feature = "cluster"))]
#[test]
fn without_the_feature_the_services_say_how_to_get_them() {
    let dir = tempfile::tempdir().unwrap();
    let lines = [
        vec!["curate", "scheduler"],
        vec!["curate", "executor", "--scheduler", "localhost:1", "--work", "w"],
    ];
    for arguments in lines {
        let (code, out, errors) = program::run(dir.path(), &arguments);
        assert_eq!(code, Some(2), "{errors}");
        assert!(errors.contains("cargo build --release --features cluster"), "{errors}");
        assert_eq!(out, "");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[cfg(feature = "cluster")]
mod cluster {
    use super::program;
    use quipu_corpus::cluster::Plans;
    use quipu_corpus::shuffle::{Embedded, Merge, Plan, Runs, Shuffle, Sorter};
    use quipu_store::Cancel;
    use quipu_store::crew::Crew;
    use std::io::{BufRead, BufReader};
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    /// A service, and where it says that it listens; it ends with the test.
    struct Service(Child, String);

    impl Service {
        fn start(dir: &Path, arguments: &[&str]) -> Service {
            let mut command = program::quipu(dir, arguments);
            let mut child = command.arg("--json").stdout(Stdio::piped()).spawn().unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            let said: serde_json::Value = serde_json::from_str(&line).unwrap();
            let address = said[arguments[1]].as_str().unwrap().to_owned();
            Service(child, address)
        }

        /// Asks it to end, and whether it did so in peace.
        fn terminate(mut self) -> bool {
            let number = self.0.id().to_string();
            assert!(Command::new("kill").args(["-TERM", &number]).status().unwrap().success());
            self.0.wait().unwrap().success()
        }
    }

    impl Drop for Service {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn the_services_of_this_program_run_plans() {
        let dir = tempfile::tempdir().unwrap();
        let scheduler =
            Service::start(dir.path(), &["curate", "scheduler", "--bind", "127.0.0.1:0"]);
        let at = scheduler.1.clone();
        let arguments = ["curate", "executor", "--scheduler", &at, "--work", "w"];
        let executor = Service::start(dir.path(), &arguments);
        let mut sorter = Sorter::<2>::new(&dir.path().join("in"), 1 << 20);
        (0..10_000u64).for_each(|n| sorter.push([n / 10, n]).unwrap());
        let input = sorter.finish().unwrap();
        let crew = Crew::new(&dir.path().join("work"), 1, &Cancel::new()).unwrap();
        let cluster = Plans::at(&at, &crew, &Cancel::new(), 64 << 20).unwrap();
        let made: Runs = cluster.run("first", Plan::First, &input).unwrap();
        let found: Vec<[u64; 2]> = Merge::all(&made).unwrap().map(Result::unwrap).collect();
        let others = (0..10_000u64).filter(|n| n % 10 != 0);
        assert_eq!(found, others.map(|n| [n, n / 10 * 10]).collect::<Vec<_>>());
        assert!(executor.terminate());
        let left = std::fs::read_dir(dir.path().join("w")).unwrap().count();
        assert_eq!(left, 0, "an executor that ends leaves no rows");
        assert!(scheduler.terminate());
    }

    /// A cluster of three processes.
    struct TwoExecutors {
        scheduler: Service,
        victim: (Service, PathBuf),
        /// It ends with the others.
        _survivor: Service,
    }

    impl TwoExecutors {
        fn start(dir: &Path) -> TwoExecutors {
            let scheduler = ["curate", "scheduler", "--bind", "127.0.0.1:0", "--dead-after", "6"];
            let scheduler = Service::start(dir, &scheduler);
            let executor = |work: &str| {
                let fixed = ["curate", "executor", "--scheduler", &scheduler.1, "--workers", "1"];
                Service::start(dir, &[&fixed[..], &["--work", work]].concat())
            };
            let victim = (executor("victim"), dir.join("victim"));
            TwoExecutors { victim, _survivor: executor("survivor"), scheduler }
        }

        fn address(&self) -> &str {
            &self.scheduler.1
        }

        /// `kill -9` of one executor once it holds rows of a client that is not over.
        fn kill_one_at_work(&mut self, mut is_over: impl FnMut() -> bool) {
            let (victim, work) = &mut self.victim;
            let began = Instant::now();
            while bytes(work) == 0 {
                assert!(began.elapsed() < Duration::from_secs(120), "it was given nothing to do");
                assert!(!is_over(), "over before it was given work");
                std::thread::sleep(Duration::from_millis(2));
            }
            victim.0.kill().unwrap();
            victim.0.wait().unwrap();
            // Its rows are as lost as those of a machine that is gone.
            std::fs::remove_dir_all(work).unwrap();
            assert!(!is_over(), "killed too late");
        }
    }

    /// Curates the world `crawl.warc.gz` of `dir` into `out`.
    fn curate(dir: &Path, out: &str, more: &[&str]) -> Child {
        let fixed = ["curate", "--input", "world/crawl.warc.gz", "--out", out, "--quiet"];
        let arguments: Vec<&str> = fixed.into_iter().chain(more.iter().copied()).collect();
        program::quipu(dir, &arguments).stdout(Stdio::null()).spawn().unwrap()
    }

    /// Checks that `child` writes into `out` what one worker wrote.
    fn check_same(dir: &Path, out: &str, mut child: Child) {
        assert!(program::wait(&mut child).success(), "{out}");
        let documents = |out: &str| {
            let mut files = program::content(&dir.join(out));
            // The report names its folder and its machine.
            files.retain(|name, _| !name.starts_with("report."));
            files
        };
        program::check_same(&documents(out), &documents("one"), out);
    }

    /// Bytes of rows in a folder of work.
    fn bytes(dir: &Path) -> u64 {
        let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
        let of = |entry: std::fs::DirEntry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => bytes(&entry.path()),
            _ => entry.metadata().map_or(0, |data| data.len()),
        };
        entries.flatten().map(of).sum()
    }

    #[test]
    fn a_curation_writes_the_same_bytes_wherever_its_shuffles_run() {
        let room = tempfile::tempdir().unwrap();
        let dir = room.path();
        let (code, _, errors) = program::run(dir, &["world", "world", "--size", "0.1", "--quiet"]);
        assert_eq!(code, Some(0), "{errors}");
        assert!(program::wait(&mut curate(dir, "one", &["--workers", "1"])).success());
        for (out, workers) in [("two", "2"), ("seven", "7")] {
            check_same(dir, out, curate(dir, out, &["--workers", workers]));
        }
        for engine in ["local", "standalone"] {
            check_same(dir, engine, curate(dir, engine, &["--cluster", engine]));
        }
        let mut two = TwoExecutors::start(dir);
        let mut client = curate(dir, "cluster", &["--cluster", two.address()]);
        two.kill_one_at_work(|| client.try_wait().unwrap().is_some());
        check_same(dir, "cluster", client);
    }

    #[test]
    fn a_plan_survives_a_killed_executor() {
        let room = tempfile::tempdir().unwrap();
        let dir = room.path();
        let mut two = TwoExecutors::start(dir);
        // One group of a quarter of the rows, and groups of about 17.
        let mut sorter = Sorter::<2>::new(&dir.join("in"), 64 << 20);
        for n in 0..3_000_000u64 {
            let key = if n % 4 == 0 { 5 } else { n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 47 };
            sorter.push([key, n]).unwrap();
        }
        let input = sorter.finish().unwrap();
        let crew = Crew::new(&dir.join("work"), 2, &Cancel::new()).unwrap();
        let rows = |made: &Runs| -> Vec<[u64; 2]> {
            Merge::all(made).unwrap().map(Result::unwrap).collect()
        };
        let embedded = Embedded::new(&crew, 64 << 20);
        let expected = rows(&embedded.run("here", Plan::Frequent(16), &input).unwrap());
        assert!(expected.len() > 1_000_000);
        let address = two.address().to_owned();
        let cancel = Cancel::new();
        let plans = Plans::at(&address, &crew, &cancel, 64 << 20).unwrap();
        // A plan that hangs is ended, and the test with it.
        let late = cancel.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(600));
            late.request();
        });
        let found = std::thread::scope(|scope| {
            let client = scope.spawn(|| plans.run("there", Plan::Frequent(16), &input));
            two.kill_one_at_work(|| client.is_finished());
            client.join().unwrap().unwrap()
        });
        assert!(rows(&found) == expected, "other rows than the embedded shuffle's");
    }

    const PROSE: &str = "The harbour of the old town was built by people who had come from the \
        north. In the winter of that year it stood empty, and nobody could say to whom it \
        belonged.";

    #[test]
    fn a_predicate_selects_documents_and_replaces_none() {
        let room = tempfile::tempdir().unwrap();
        let dir = room.path();
        std::fs::write(dir.join("a.txt"), PROSE).unwrap();
        let (code, _, errors) = program::run(dir, &["curate", "--input", "a.txt", "--out", "all"]);
        assert_eq!(code, Some(0), "{errors}");
        let select = |predicate: &str, out: &str| {
            program::run(dir, &["curate", "--input", "all", "--where", predicate, "--out", out])
        };
        let (code, said, errors) = select("language = 'en' and text like '%harbour%'", "some");
        assert_eq!((code, said.trim()), (Some(0), "1 of 1 documents in some"), "{errors}");
        let before = program::content(&dir.join("some"));
        let (code, _, errors) = select("language = 'de'", "some");
        assert_eq!(code, Some(2), "{errors}");
        assert!(errors.contains("some is not empty"), "{errors}");
        program::check_same(&program::content(&dir.join("some")), &before, "a second selection");
        let (code, _, errors) = select("language = 'de'", "none");
        assert_eq!(code, Some(0), "{errors}");
        for (folder, part) in [("some", "passed"), ("none", "REMOVED      where (does not hold)")] {
            let (code, said, errors) = program::run(dir, &["curate", "explain", folder, "a.txt"]);
            assert_eq!(code, Some(0), "{errors}");
            assert!(said.contains(&format!("  where         {part}")), "{said}");
        }
        let (code, _, errors) = select("langage = 'en'", "other");
        assert_eq!(code, Some(2), "{errors}");
        assert!(errors.contains("did you mean \"language\""), "{errors}");
        assert!(!dir.join("other").exists());
    }

    #[test]
    fn what_cannot_be_started_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = taken.local_addr().unwrap().to_string();
        let check = |arguments: &[&str], code: i32, part: &str| {
            let (found, _, errors) = program::run(dir.path(), arguments);
            assert!(errors.contains(part), "{errors}");
            assert_eq!(found, Some(code), "{errors}");
        };
        std::fs::write(dir.path().join("a.txt"), "a").unwrap();
        let at = |address| ["curate", "--input", "a.txt", "--out", "o", "--cluster", address];
        check(&at("here"), 2, "HOST:PORT");
        check(&at("127.0.0.1:9"), 4, "no scheduler answers");
        check(&["curate", "scheduler", "--bind", "here"], 2, "HOST:PORT");
        check(&["curate", "scheduler", "--bind", &taken], 4, "choose another --bind");
    }
}
