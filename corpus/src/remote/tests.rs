//! Files elsewhere are what they would be here, from servers that answer as they should and from
//! those that do not.

use super::server::{Fault, Server};
use super::*;
use crate::input::{expand, missing};
use quipu_store::Share;
use quipu_store::share::Over;
use std::path::PathBuf;
use std::time::Instant;

/// Bytes in which no two blocks are alike.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = bytes as u64;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    (0..bytes).map(|_| draw()).collect()
}

/// Settings with which a test does not wait long.
pub(crate) fn hasty(server: &Server) -> Settings {
    Settings {
        endpoint: Some(server.endpoint()),
        tries: 4,
        pause: Duration::from_millis(2),
        timeout: Duration::from_secs(4),
    }
}

fn access(server: &Server) -> Access {
    Access::new(&hasty(server), &Cancel::new())
}

fn read(path: &Path, access: &Access) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut file = access.open(path, None, u64::MAX)?;
    file.read_to_end(&mut bytes).map_err(Error::io(path))?;
    Ok(bytes)
}

/// Reads a file of ten megabytes from a server that misbehaves: all of it comes, or an error with
/// all these parts. Returns the requests.
fn check(part: &'static str, times: usize, fault: Fault, expected: &[&str]) -> Vec<String> {
    let bytes = noise(10_000_000);
    let server = Server::of(&[("b/x", &bytes)]);
    server.wrong(part, times, fault.clone());
    let mut requests = Vec::new();
    for path in [server.url("b/x"), "s3://b/x".into()] {
        server.requests();
        match read(&path, &access(&server)) {
            Ok(found) => {
                assert!(expected.is_empty(), "{fault:?}: read, but expected {expected:?}");
                assert!(found == bytes, "{fault:?}: other bytes");
            }
            Err(e) => {
                let (said, place) = (e.to_string(), path.to_string_lossy().into_owned());
                assert!(!expected.is_empty(), "{fault:?}: {said}");
                for part in expected.iter().copied().chain([place.as_str()]) {
                    assert!(said.contains(part), "{fault:?}: {said:?} lacks {part:?}");
                }
            }
        }
        requests = server.requests();
        if times < usize::MAX {
            server.mend();
            server.wrong(part, times, fault.clone());
        }
    }
    requests
}

const EVER: usize = usize::MAX;

#[test]
fn what_passes_is_tried_again() {
    check("", 0, Fault::Cut, &[]);
    check("GET", 2, Fault::Status(503, "X: y\r\n"), &[]);
    check("HEAD", 2, Fault::Status(500, "X: y\r\n"), &[]);
    check("GET", 3, Fault::Status(429, "X: y\r\n"), &[]);
    check("GET", 2, Fault::Cut, &[]);
    check("GET", 1, Fault::Long, &[]);
    check("GET", 1, Fault::Slow(Duration::from_millis(300)), &[]);
    let begun = Instant::now();
    check("GET", 1, Fault::Status(503, "Retry-After: 1\r\n"), &[]);
    assert!(begun.elapsed() >= Duration::from_secs(2), "once a second for each of two places");
}

#[test]
fn what_stays_is_told_with_url_status_and_advice() {
    let url = "http://127.0.0.1:";
    let busy = ["answered status 503 (Told)", "4 times", "run the same command again", url];
    check("GET", EVER, Fault::Status(503, "X: y\r\n"), &busy);
    let later = Fault::Status(503, "Retry-After: 3600\r\n");
    let requests = check("GET", EVER, later, &["503 and asks to wait 3600 seconds", url]);
    assert_eq!(requests.len(), 2, "{requests:?}");
    check("GET", EVER, Fault::Cut, &["no whole answer", "4 times", url]);
    check("GET", EVER, Fault::Long, &["no whole answer", "4 times", url]);
    check("GET", EVER, Fault::NoRanges, &["sends the whole file", "download the file", url]);
    check(
        "GET",
        EVER,
        Fault::Changed,
        &["changed since it was measured", "\"1\" then", "\"2\" now"],
    );
    check("HEAD", EVER, Fault::Long, &["changed since it was measured", "10000001 bytes"]);
    check("GET", EVER, Fault::Half, &["cannot be used", "bytes were asked for"]);
    let requests =
        check("HEAD", EVER, Fault::Status(404, "X: y\r\n"), &["status 404", "name right"]);
    assert_eq!(requests.len(), 1, "{requests:?}");
    let requests = check("b/x", EVER, Fault::Status(403, "X: y\r\n"), &["status 403", "may it be"]);
    assert_eq!(requests.len(), 2, "{requests:?}");
    let around = check("b/x", EVER, Fault::Around, &["redirect"]);
    assert!(around.len() < 30, "{}", around.len());
    let moved = Fault::Status(301, "x-amz-bucket-region: eu-west-2\r\n");
    check("b/x", EVER, moved, &["301", "AWS_REGION=eu-west-2"]);
}

#[test]
fn who_cannot_be_reached_or_is_too_slow() {
    let server = Server::of(&[("b/x", &noise(2_000_000))]);
    server.wrong("GET", EVER, Fault::Slow(Duration::from_secs(30)));
    let settings = Settings { timeout: Duration::from_millis(200), tries: 2, ..hasty(&server) };
    let access = Access::new(&settings, &Cancel::new());
    let said = read(&server.url("b/x"), &access).unwrap_err().to_string();
    assert!(said.contains("no whole answer") && said.contains("2 times"), "{said}");
    let gone = server.url("b/x");
    drop(server);
    let settings = Settings { endpoint: None, ..settings };
    let said = read(&gone, &Access::new(&settings, &Cancel::new())).unwrap_err().to_string();
    assert!(said.contains("no whole answer") && said.contains("network right"), "{said}");
}

#[test]
fn asked_to_stop_a_reader_stops_at_once() {
    for fault in [Fault::Slow(Duration::from_secs(60)), Fault::Status(503, "Retry-After: 60\r\n")] {
        let server = Server::of(&[("b/x", &noise(2_000_000))]);
        server.wrong("GET", EVER, fault);
        let cancel = Cancel::new();
        let settings = Settings { timeout: Duration::from_secs(60), ..hasty(&server) };
        let access = Access::new(&settings, &cancel);
        let begun = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(300));
                cancel.request();
            });
            let stopped = read(&server.url("b/x"), &access).unwrap_err();
            assert!(matches!(stopped, Error::Cancelled(_)), "{stopped}");
        });
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}

#[test]
fn seeking_finds_what_is_there() {
    let bytes = noise(9_500_000);
    let server = Server::of(&[("b/x", &bytes), ("b/small", &bytes[..70_000])]);
    let access = access(&server);
    for (name, bytes) in [("b/x", &bytes[..]), ("b/small", &bytes[..70_000])] {
        let mut file = access.open(&server.url(name), None, bytes.len() as u64 / 2).unwrap();
        let mut state = 7u64;
        for _ in 0..60 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (state >> 20) as usize % bytes.len();
            let count = ((state >> 8) as usize % 700_000).min(bytes.len() - at);
            file.seek(SeekFrom::Start(at as u64)).unwrap();
            let mut part = vec![0; count];
            file.read_exact(&mut part).unwrap();
            assert!(part == bytes[at..at + count], "{name} {at} {count}");
        }
        assert_eq!(file.seek(SeekFrom::End(-3)).unwrap(), bytes.len() as u64 - 3);
        let mut rest = Vec::new();
        file.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, bytes[bytes.len() - 3..]);
    }
    // A server without ranges gives a small file.
    server.wrong("GET", EVER, Fault::NoRanges);
    assert_eq!(read(&server.url("b/small"), &access).unwrap(), bytes[..70_000]);
}

#[test]
fn blocks_grow_and_are_not_asked_for_twice() {
    let bytes = noise(20 << 20);
    let server = Server::of(&[("b/x", &bytes)]);
    let access = access(&server);
    read(&server.url("b/x"), &access).unwrap();
    let asked = server.requests();
    // HEAD, 16 KiB, 256 KiB, five of 4 MiB.
    assert_eq!(asked.len(), 8, "{asked:?}");
    // The beginning is remembered; of a unit little is fetched behind its end.
    let stamp = access.measure(&server.url("b/x")).unwrap();
    let mut file = access.open(&server.url("b/x"), Some(&stamp), 64).unwrap();
    let mut part = vec![0; 64];
    file.read_exact(&mut part).unwrap();
    let mut file = access.open(&server.url("b/x"), Some(&stamp), 9 << 20).unwrap();
    file.seek(SeekFrom::Start(8 << 20)).unwrap();
    let mut part = vec![0; 1 << 20];
    file.read_exact(&mut part).unwrap();
    let asked = server.requests();
    assert_eq!(asked.len(), 3, "{asked:?}");
}

/// What names stand for, by path and bytes.
fn check_names(server: &Server, names: &[&str], expected: &[&str]) {
    let names: Vec<PathBuf> = names.iter().map(PathBuf::from).collect();
    assert_eq!(missing(&names), None);
    let said = match expand(&names, &access(server)) {
        Ok((inputs, _)) => inputs
            .iter()
            .flat_map(|input| input.places().map(|(path, _)| path).collect::<Vec<_>>())
            .map(|path| path.to_string_lossy().into_owned())
            .collect(),
        Err(e) => vec![e.to_string()],
    };
    assert_eq!(said.len(), expected.len(), "{names:?}: {said:?}");
    for (said, part) in said.iter().zip(expected) {
        assert!(said.contains(part), "{names:?}: {said} lacks {part}");
    }
}

#[test]
fn names_of_places_elsewhere() {
    let (warc, text) = (&b"WARC/1.0\r\n"[..], &b"words"[..]);
    let server = Server::of(&[
        ("b/c/1.warc", warc),
        ("b/c/2.warc", warc),
        ("b/c/3.txt", text),
        ("b/c/d/4.warc", warc),
        ("b/c/d/5.html", b"<html>"),
        ("b/c/d/6.html", b"<html>"),
        ("b/c/.hidden", warc),
        ("b/e/d/7.warc", warc),
        ("b/list", b"# a crawl\ns3://b/c/*.warc\n\n  s3://b/e/  \n"),
    ]);
    let all = ["s3://b/c/1.warc", "c/2.warc", "c/3.txt", "c/d/4.warc", "c/d/5.html", "d/6.html"];
    check_names(&server, &["s3://b/c/"], &all);
    check_names(&server, &["s3://b/c"], &all);
    check_names(&server, &["s3://b/c/2.warc"], &["s3://b/c/2.warc"]);
    check_names(&server, &["s3://b/*/d/*.warc"], &["s3://b/c/d/4.warc", "s3://b/e/d/7.warc"]);
    check_names(&server, &["s3://b/**/[47].warc"], &["c/d/4.warc", "e/d/7.warc"]);
    check_names(&server, &["s3://b/x/*.warc"], &["s3://b/x/*.warc: nothing there fits"]);
    check_names(&server, &["s3://b/x/"], &["no files in it"]);
    check_names(&server, &["s3://b/x"], &["status 404"]);
    check_names(&server, &["s3://"], &["s3://: "]);
    check_names(&server, &["s3:///x"], &["no bucket"]);
    let url = |name: &str| server.url(name).to_string_lossy().into_owned();
    check_names(&server, &[&url("b/c/1.warc?sign=x")], &["1.warc?sign=x"]);
    check_names(&server, &[&url("b/c/")], &["cannot be listed"]);
    check_names(&server, &[&url("b/*.warc")], &["cannot be listed"]);
    check_names(&server, &[&url("b/none.warc")], &["status 404"]);
    check_names(&server, &["http://"], &["http://"]);
    let list = format!("@{}", url("b/list"));
    check_names(&server, &[&list], &["c/1.warc", "c/2.warc", "e/d/7.warc"]);
    server.wrong("list-type", 1, Fault::Half);
    check_names(&server, &["s3://b/c/"], &["cannot be used"]);
    server.wrong("list-type", 2, Fault::Status(503, "X: y\r\n"));
    check_names(&server, &["s3://b/c/*.warc"], &["c/1.warc", "c/2.warc"]);
    server.wrong("list-type", 1, Fault::Cut);
    check_names(&server, &["s3://b/c/*.warc"], &["c/1.warc", "c/2.warc"]);
}

#[test]
fn lists_and_patterns_here() {
    let server = Server::of(&[("b/1.warc", b"WARC/1.0\r\n")]);
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::create_dir(path("sub")).unwrap();
    for name in ["sub/a.txt", "sub/b.txt", "c.txt"] {
        std::fs::write(path(name), "words").unwrap();
    }
    let list = |text: &str| {
        std::fs::write(path("list"), text).unwrap();
        format!("@{}", path("list").display())
    };
    let all = list("# comment\r\nsub/*.txt\r\n\ns3://b/1.warc\nc.txt");
    check_names(&server, &[&all], &["sub/a.txt", "sub/b.txt", "s3://b/1.warc", "c.txt"]);
    check_names(&server, &[&list("c.txt\nnone.txt")], &["list, line 2: "]);
    check_names(&server, &[&list("@other")], &["line 1: @other: a list within a list"]);
    check_names(&server, &[&list("# none\n")], &["names nothing"]);
    check_names(&server, &[&list("http://h/dir/")], &["line 1: http://h/dir/: a folder"]);
    let pattern = path("*/*.txt");
    check_names(&server, &[pattern.to_str().unwrap()], &["sub/a.txt", "sub/b.txt"]);
    std::fs::write(path("*.txt"), "its name has a star").unwrap();
    check_names(&server, &[path("*.txt").to_str().unwrap()], &["/*.txt"]);
    std::fs::write(path("list"), b"\xff\xfe").unwrap();
    check_names(&server, &[&format!("@{}", path("list").display())], &["line 1: not UTF-8"]);
    let gone = [path("none"), format!("@{}", path("no-list").display()).into()];
    assert_eq!(missing(&gone), Some(gone[0].as_path()));
    assert_eq!(missing(&gone[1..]), Some(gone[1].as_path()));
}

/// What a run shares: objects put on conditions, and files of any size.
#[test]
fn a_bucket_takes_what_may_be_put_over_what_is_there() {
    let server = Server::of(&[]);
    let bucket = Bucket::new("s3://b/run".as_ref(), &access(&server));
    assert_eq!(bucket.get("x").unwrap(), None);
    let first = bucket.put("x", b"one", Over::Nothing).unwrap().unwrap();
    assert_eq!(bucket.put("x", b"two", Over::Nothing).unwrap(), None);
    assert_eq!(bucket.put("x", b"two", Over::Only("other")).unwrap(), None);
    assert_eq!(bucket.get("x").unwrap(), Some((b"one".to_vec(), first.clone())));
    let second = bucket.put("x", b"two", Over::Only(&first)).unwrap().unwrap();
    assert_eq!(bucket.put("y", b"two", Over::Only(&second)).unwrap(), None);
    assert!(bucket.put("x", b"three", Over::Anything).unwrap().is_some());
    // It was put, the answer was lost, and the second try finds it there.
    server.wrong("PUT", 1, Fault::Lost);
    assert_eq!(bucket.put("z", b"four", Over::Nothing).unwrap(), None);
    assert_eq!(bucket.get("z").unwrap().unwrap().0, b"four");
    bucket.remove("x").unwrap();
    bucket.remove("x").unwrap();
    assert_eq!(bucket.get("x").unwrap(), None);
    server.wrong("PUT", usize::MAX, Fault::Status(403, ""));
    let said = bucket.put("x", b"one", Over::Nothing).unwrap_err().to_string();
    assert!(said.contains("s3://b/run/x") && said.contains("status 403"), "{said}");
}

#[test]
fn large_files_go_to_a_bucket_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let server = Server::of(&[]);
    let bucket = Bucket::new("s3://b/run".as_ref(), &access(&server));
    for size in [0, 5, 16 << 20, (50 << 20) + 3] {
        let bytes = noise(size);
        std::fs::write(&from, &bytes).unwrap();
        if size > 16 << 20 {
            server.wrong("partNumber=2", 2, Fault::Status(503, ""));
        }
        bucket.upload("large", &from).unwrap();
        bucket.download("large", &to).unwrap();
        assert!(std::fs::read(&to).unwrap() == bytes, "{size}");
    }
    // Parts of a file that could not be put whole are taken back.
    server.wrong("partNumber=3", usize::MAX, Fault::Status(503, ""));
    let said = bucket.upload("other", &from).unwrap_err().to_string();
    assert!(said.contains("status 503"), "{said}");
    assert_eq!((server.open_uploads(), bucket.get("other").unwrap()), (0, None));
    assert!(bucket.download("none", &dir.path().join("none")).is_err());
    assert!(!dir.path().join("none").exists());
}
