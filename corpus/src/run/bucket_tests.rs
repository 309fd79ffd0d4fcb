//! Runs whose folder is a bucket: the same bytes as a run in a folder, by machines that share
//! nothing else, from servers that lose answers, and whoever is stopped.

use super::elsewhere_tests::{bytes_of, files};
use super::*;
use crate::remote::server::{Fault, Server};
use crate::remote::tests::hasty;
use quipu_store::progress;
use std::sync::atomic::{AtomicUsize, Ordering};

const OUT: &str = "s3://out/runs/one";

/// A server with inputs, and what a run in a folder makes of them.
struct Setting {
    server: Server,
    dir: tempfile::TempDir,
    expected: Vec<(String, Vec<u8>)>,
}

impl Setting {
    fn new() -> Setting {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let mut files: Vec<_> =
            files.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect();
        files.push(("mine/work/thesis.docx", b"words"));
        let server = Server::of(&files);
        let mut setting = Setting { server, dir, expected: Vec::new() };
        let out = setting.dir.path().join("whole");
        setting.run(&out, &Recipe::default(), &Cancel::new()).unwrap();
        setting.expected = bytes_of(&out);
        setting
    }

    fn options(&self) -> Options {
        let scratch = Some(self.dir.path().join("scratch"));
        let settings = Settings { tries: 30, ..hasty(&self.server) };
        Options { settings, workers: 2, scratch, ..Options::default() }
    }

    fn run(&self, out: &Path, recipe: &Recipe, cancel: &Cancel) -> Result<Summary, Error> {
        let silent = progress::silent();
        run(&["s3://in/".into()], recipe, out, &self.options(), silent.as_ref(), cancel)
    }

    fn begin(&self) -> Result<Summary, Error> {
        self.run(OUT.as_ref(), &Recipe::default(), &Cancel::new())
    }

    fn join(&self) -> Result<Summary, Error> {
        let silent = progress::silent();
        join(OUT.as_ref(), &self.options(), silent.as_ref(), &Cancel::new())
    }

    /// What the run's folder holds on the server.
    fn found(&self) -> Vec<(String, Vec<u8>)> {
        let inside = |(name, bytes): (String, Vec<u8>)| {
            Some((name.strip_prefix("out/runs/one/")?.to_owned(), bytes))
        };
        self.server.files().into_iter().filter_map(inside).collect()
    }

    /// The run is finished: the same bytes, a manifest, and nothing else, there or here.
    fn check(&self) {
        let (found, expected) = (self.found(), &self.expected);
        let (manifest, files): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|(name, _)| name == manifest::NAME);
        assert!(files == *expected, "{:?}", files.iter().map(|(name, _)| name).collect::<Vec<_>>());
        let out = self.dir.path().join("fetched");
        std::fs::create_dir_all(&out).unwrap();
        for (name, bytes) in files.iter().chain(&manifest) {
            std::fs::write(out.join(name), bytes).unwrap();
        }
        Manifest::read_verified(&out, FORMAT, VERSION).unwrap();
        let left = std::fs::read_dir(self.dir.path().join("scratch")).unwrap().flatten();
        assert_eq!(left.map(|entry| entry.path()).next(), None);
    }
}

#[test]
fn one_machine_or_three_make_the_bytes_of_a_folder() {
    let setting = Setting::new();
    setting.begin().unwrap();
    setting.check();
    // Done is done: nothing but the manifest and what is there is asked for.
    setting.server.requests();
    assert!(setting.begin().is_ok_and(|summary| summary.kept > 100));
    assert!(setting.join().is_ok_and(|summary| summary.kept > 100));
    let asked = setting.server.requests();
    assert!(!asked.iter().any(|request| request.starts_with("PUT")), "{asked:?}");

    let setting = Setting::new();
    let late = |thread: u64| {
        // A run can be joined once it has a plan.
        let begun = || setting.found().iter().any(|(name, _)| name == "work/plan.json");
        while !begun() {
            std::thread::sleep(std::time::Duration::from_millis(5 * thread));
        }
        setting.join()
    };
    let kept: Vec<u64> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..3).map(|n| scope.spawn(move || late(n))).collect();
        let first = setting.begin().unwrap().kept;
        let others = others.into_iter().map(|other| other.join().unwrap().unwrap().kept);
        [first].into_iter().chain(others).collect()
    });
    assert!(kept.iter().all(|n| *n == kept[0]), "{kept:?}");
    setting.check();
}

#[test]
fn answers_that_are_lost_change_nothing() {
    let setting = Setting::new();
    for part in ["PUT", "lease", ".done", "POST", "GET /out"] {
        setting.server.wrong(part, 6, Fault::Lost);
        setting.server.wrong(part, 6, Fault::Status(503, ""));
    }
    setting.begin().unwrap();
    setting.check();
}

/// Asks to stop at a number of steps of progress.
struct StopsAt(AtomicUsize, Cancel);

impl Progress for StopsAt {
    fn begin(&self, _: &str, _: u64) {}
    fn note(&self, _: &str) {}
    fn finish(&self, _: &str) {}
    fn advance(&self, _: u64) {
        if self.0.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.1.request();
        }
    }
}

#[test]
fn who_goes_on_after_a_stop_needs_the_bucket_only() {
    let setting = Setting::new();
    let mut stopped = 0;
    for steps in [1, 4, 9, 15, 22, 40] {
        let cancel = Cancel::new();
        let progress = StopsAt(AtomicUsize::new(steps), cancel.clone());
        let (inputs, recipe) = (["s3://in/".into()], Recipe::default());
        let options = setting.options();
        match run(&inputs, &recipe, OUT.as_ref(), &options, &progress, &cancel) {
            Ok(_) => break,
            Err(error) => assert!(matches!(error, Error::Cancelled(_)), "{error}"),
        }
        stopped += 1;
        let leases = setting.found().into_iter().filter(|(name, _)| name.ends_with(".lease"));
        assert_eq!(leases.count(), 0, "who stops gives its leases back");
        // Another machine goes on: it has nothing.
        std::fs::remove_dir_all(setting.dir.path().join("scratch")).unwrap();
    }
    assert!(stopped > 3, "{stopped}");
    setting.join().unwrap();
    setting.check();
}

#[test]
fn a_machine_on_which_the_inputs_are_others_does_not_work_along() {
    let setting = Setting::new();
    let list = setting.dir.path().join("block.txt");
    std::fs::write(&list, "a.example\n").unwrap();
    let mut recipe = Recipe::default();
    recipe.addresses.block = vec![list.clone()];
    let cancel = Cancel::new();
    let progress = StopsAt(AtomicUsize::new(3), cancel.clone());
    let options = setting.options();
    let stopped = run(&["s3://in/".into()], &recipe, OUT.as_ref(), &options, &progress, &cancel);
    assert!(matches!(stopped, Err(Error::Cancelled(_))));
    std::fs::write(&list, "b.example\n").unwrap();
    assert!(matches!(setting.join(), Err(Error::OtherHere { .. })));
    std::fs::write(&list, "a.example\n").unwrap();
    setting.join().unwrap();
}

/// Whoever was killed comes back when another has finished the run and begun one of the same plan.
#[test]
fn what_is_left_of_another_run_of_the_same_plan_is_not_taken() {
    let setting = Setting::new();
    let cancel = Cancel::new();
    let progress = StopsAt(AtomicUsize::new(12), cancel.clone());
    let (inputs, recipe, options) = (["s3://in/".into()], Recipe::default(), setting.options());
    let stopped = run(&inputs, &recipe, OUT.as_ref(), &options, &progress, &cancel);
    assert!(matches!(stopped, Err(Error::Cancelled(_))));
    let names = setting.found().into_iter().map(|(name, _)| format!("out/runs/one/{name}"));
    setting.server.remove(&names.collect::<Vec<_>>());
    setting.begin().unwrap();
    setting.check();
}

#[test]
fn places_that_cannot_be_used_are_refused() {
    let setting = Setting::new();
    let check = |out: &str, recipe: &Recipe, expected: &str| {
        let said = setting.run(out.as_ref(), recipe, &Cancel::new()).unwrap_err().to_string();
        assert!(said.contains(expected) && said.contains(out), "{said:?} lacks {expected:?}");
    };
    let other = Recipe { min_words: 9, ..Recipe::default() };
    check("http://example.com/out", &other, "cannot be written");
    check("s3://in/notes", &other, "holds a.txt, which no run of curation wrote");
    check("s3://mine", &other, "holds work/thesis.docx, which no run of curation wrote");
    setting.server.wrong("PUT /blind/", usize::MAX, Fault::Blind);
    check("s3://blind/x", &other, "If-None-Match");
    assert!(matches!(setting.join(), Err(Error::NoRun { .. })));
    setting.begin().unwrap();
    check(OUT, &other, "holds the documents of another run");
    setting.server.wrong("PUT /denied/", usize::MAX, Fault::Status(403, ""));
    check("s3://denied/x", &other, "status 403");
    let options = Options { engine: Engine::Standalone, ..setting.options() };
    let silent = progress::silent();
    let refused = join(OUT.as_ref(), &options, silent.as_ref(), &Cancel::new());
    assert!(matches!(refused, Err(Error::NoFolder { .. })));
    // One that cannot start is not in the way of the next.
    let file = setting.dir.path().join("q.jsonl");
    std::fs::write(&file, "this is no score\n").unwrap();
    let scores = Recipe { scores: vec![file.clone()], ..Recipe::default() };
    let refused = setting.run("s3://out/scored".as_ref(), &scores, &Cancel::new()).unwrap_err();
    assert!(refused.to_string().contains("q.jsonl, line 1"), "{refused}");
    std::fs::write(&file, "").unwrap();
    setting.run("s3://out/scored".as_ref(), &scores, &Cancel::new()).unwrap();
    // A run that removes everything leaves nothing.
    let strict = Recipe { min_words: 100_000, ..Recipe::default() };
    let refused = setting.run("s3://out/strict".as_ref(), &strict, &Cancel::new());
    assert!(matches!(refused, Err(Error::NothingLeft { .. })));
    let files = setting.server.files();
    let left = |part: &str| files.iter().filter(|(name, _)| name.contains(part)).count();
    assert_eq!((left("strict"), left("blind"), left("thesis")), (0, 0, 1));
    let scratch = std::fs::read_dir(setting.dir.path().join("scratch")).unwrap();
    assert_eq!(scratch.count(), 0, "nothing is left here of what was refused");
}
