//! A server for tests: HTTP with ranges, and enough of S3 to list and read; it misbehaves as told.
//!
//! Files are known by `bucket/key`, which is their path by HTTP as well. Not here: writing, and
//! signatures, which are not looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Keys of a page of a listing: few, so that there are several.
const PAGE: usize = 3;

/// How a request is answered wrongly.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// This status, with one more header.
    Status(u16, &'static str),
    /// Half of the body, then the connection ends.
    Cut,
    /// Nothing for so long.
    Slow(Duration),
    /// A `Content-Length` that is larger by one.
    Long,
    /// Half of the body, and a `Content-Length` that fits it.
    Half,
    /// All of the file, whatever range was asked for.
    NoRanges,
    /// Another version of the file.
    Changed,
    /// A redirect to the same place.
    Around,
}

/// Requests that are answered wrongly: those that contain some text, so many times.
struct Rule {
    part: &'static str,
    times: usize,
    fault: Fault,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    rules: Mutex<Vec<Rule>>,
    log: Mutex<Vec<String>>,
    stop: AtomicBool,
}

/// A server that ends when it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    state: Arc<State>,
}

impl Server {
    /// Serves these files.
    pub fn of(files: &[(&str, &[u8])]) -> Server {
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec()));
        let state = Arc::new(State { files: files.collect(), ..State::default() });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stop.load(Ordering::Relaxed) {
                    return;
                }
                let (shared, stream) = (shared.clone(), stream.unwrap());
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Server { address, state }
    }

    /// Answers the next `times` requests that contain `part` wrongly; a request is
    /// `GET /bucket/key bytes=0-1`.
    pub fn wrong(&self, part: &'static str, times: usize, fault: Fault) -> &Server {
        self.state.rules.lock().unwrap().push(Rule { part, times, fault });
        self
    }

    /// Answers everything rightly from now on.
    pub fn mend(&self) {
        self.state.rules.lock().unwrap().clear();
    }

    /// The requests since it was last asked.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.state.log.lock().unwrap())
    }

    /// Its address as the endpoint of S3.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The URL of a file.
    pub fn url(&self, name: &str) -> PathBuf {
        format!("http://{}/{name}", self.address).into()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
        // Whoever waits for a connection sees it.
        drop(TcpStream::connect(self.address));
    }
}

impl State {
    fn serve(&self, stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        loop {
            let (mut first, mut range) = (String::new(), String::new());
            if reader.read_line(&mut first).unwrap_or(0) == 0 {
                return;
            }
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    return;
                }
                match line.trim().to_ascii_lowercase().split_once(':') {
                    None => break,
                    Some(("range", value)) => value.trim().clone_into(&mut range),
                    Some(_) => {}
                }
            }
            let request = first.trim().trim_end_matches("HTTP/1.1").to_owned() + &range;
            self.log.lock().unwrap().push(request.clone());
            if !self.answer(&mut stream, &request, &range) {
                return;
            }
        }
    }

    fn fault(&self, request: &str) -> Option<Fault> {
        let mut rules = self.rules.lock().unwrap();
        let rule = rules.iter_mut().find(|r| r.times > 0 && request.contains(r.part))?;
        rule.times -= 1;
        Some(rule.fault.clone())
    }

    /// Answers; `false` where the connection ends.
    fn answer(&self, stream: &mut TcpStream, request: &str, range: &str) -> bool {
        let mut words = request.split(' ');
        let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let fault = self.fault(request);
        let mut headers = String::new();
        let (mut status, mut body) = match self.files.get(path.trim_start_matches('/')) {
            Some(bytes) => (200, bytes.clone()),
            None if query.contains("list-type=2") => (200, self.list(path, query).into_bytes()),
            None => (404, b"<Error><Code>NoSuchKey</Code><Message>None.</Message></Error>".into()),
        };
        let ranges = !matches!(fault, Some(Fault::NoRanges));
        if let Some((from, to)) = bounds(range).filter(|_| status == 200 && ranges) {
            let to = to.min(body.len() as u64 - 1);
            headers += &format!("Content-Range: bytes {from}-{to}/{}\r\n", body.len());
            (status, body) = (206, body[from as usize..=to as usize].to_vec());
        }
        match &fault {
            Some(Fault::Status(other, header)) => {
                (status, body) = (*other, b"<Error><Code>Told</Code></Error>".into());
                headers += header;
            }
            Some(Fault::Around) => {
                (status, body) = (302, Vec::new());
                headers += &format!("Location: {target}\r\n");
            }
            Some(Fault::Slow(time)) => std::thread::sleep(*time),
            Some(Fault::Half) => body.truncate(body.len() / 2),
            _ => {}
        }
        let version = if matches!(fault, Some(Fault::Changed)) { 2 } else { 1 };
        headers += &format!("ETag: \"{version}\"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT");
        let length = body.len() + usize::from(matches!(fault, Some(Fault::Long)));
        let head =
            format!("HTTP/1.1 {status} Told\r\nContent-Length: {length}\r\n{headers}\r\n\r\n");
        let cut = matches!(fault, Some(Fault::Cut));
        let sent = if cut { &body[..body.len() / 2] } else { &body };
        let sent = if method == "HEAD" { &[] } else { sent };
        let done = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(sent)).is_ok();
        done && !cut && length == body.len()
    }

    /// What `ListObjectsV2` answers.
    fn list(&self, path: &str, query: &str) -> String {
        let pairs: BTreeMap<String, String> =
            url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let text = |name: &str| pairs.get(name).map(String::as_str).unwrap_or_default();
        let (bucket, prefix) = (path.trim_matches('/'), text("prefix"));
        let within = |key: &String| {
            key.strip_prefix(bucket).and_then(|key| key.strip_prefix('/')).map(str::to_owned)
        };
        let mut entries = BTreeSet::new();
        for key in self.files.keys().filter_map(within).filter(|key| key.starts_with(prefix)) {
            let folder = key[prefix.len()..].find('/').map(|at| &key[..=prefix.len() + at]);
            match folder.filter(|_| text("delimiter") == "/") {
                Some(folder) => entries.insert((folder.to_owned(), true)),
                None => entries.insert((key, false)),
            };
        }
        let from: usize = text("continuation-token").parse().unwrap_or(0);
        let mut xml = String::from("<?xml version=\"1.0\"?><ListBucketResult>");
        for (key, folder) in entries.iter().skip(from).take(PAGE) {
            xml += &match folder {
                true => format!("<CommonPrefixes><Prefix>{key}</Prefix></CommonPrefixes>"),
                false => format!(
                    "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z\
                     </LastModified><ETag>\"1\"</ETag><Size>{}</Size></Contents>",
                    self.files[&format!("{bucket}/{key}")].len()
                ),
            };
        }
        if from + PAGE < entries.len() {
            xml += &format!("<NextContinuationToken>{}</NextContinuationToken>", from + PAGE);
        }
        xml + "</ListBucketResult>"
    }
}

/// `bytes=1-2`.
fn bounds(range: &str) -> Option<(u64, u64)> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    Some((from.parse().ok()?, to.parse().ok()?))
}
