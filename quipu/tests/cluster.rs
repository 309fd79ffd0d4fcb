//! `quipu curate scheduler` and `executor` as a user starts them. What the plans make, and that a
//! killed executor changes nothing, is tested in `corpus`; here that this program is such a cluster.

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
    use quipu_corpus::cluster::Ballista;
    use quipu_corpus::shuffle::{Merge, Plan, Runs, Shuffle, Sorter};
    use quipu_store::Cancel;
    use quipu_store::crew::Crew;
    use std::io::{BufRead, BufReader};
    use std::path::Path;
    use std::process::{Child, Command, Stdio};

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
        let cluster = Ballista::connect(&crew, &Cancel::new(), 64 << 20, &at).unwrap();
        let made: Runs = cluster.run("first", Plan::First, &input).unwrap();
        let found: Vec<[u64; 2]> = Merge::all(&made).unwrap().map(Result::unwrap).collect();
        let others = (0..10_000u64).filter(|n| n % 10 != 0);
        assert_eq!(found, others.map(|n| [n, n / 10 * 10]).collect::<Vec<_>>());
        assert!(executor.terminate());
        let left = std::fs::read_dir(dir.path().join("w")).unwrap().count();
        assert_eq!(left, 0, "an executor that ends leaves no rows");
        assert!(scheduler.terminate());
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
        check(&["curate", "scheduler", "--bind", "here"], 2, "HOST:PORT");
        check(&["curate", "scheduler", "--bind", &taken], 4, "choose another --bind");
    }
}
