//! A server for tests: HTTP with ranges, and enough of S3 to list, read and write, whole and in
//! parts, with conditions; it misbehaves as told.
//!
//! Files are known by `bucket/key`, which is their path by HTTP as well. Not here: signatures, which
//! are not looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
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
    /// What was asked for is done, and the answer is status 500.
    Lost,
    /// Conditions are not looked at.
    Blind,
}

/// Requests that are answered wrongly: those that contain some text, so many times.
struct Rule {
    part: &'static str,
    times: usize,
    fault: Fault,
}

/// A file and its version.
#[derive(Clone, Default)]
struct Stored {
    bytes: Vec<u8>,
    etag: String,
}

impl Stored {
    fn new(bytes: Vec<u8>) -> Stored {
        let etag = format!("{:x}", xxhash_rust::xxh3::xxh3_64(&bytes));
        Stored { bytes, etag }
    }
}

/// A request: its first line and what of its headers is looked at.
#[derive(Default)]
struct Request {
    line: String,
    range: String,
    if_match: String,
    if_none_match: String,
    body: Vec<u8>,
}

/// Status, headers and body of an answer.
type Answer = (u16, String, Vec<u8>);

#[derive(Default)]
struct State {
    files: Mutex<BTreeMap<String, Stored>>,
    /// Uploads in parts that are not completed, by their number.
    uploads: Mutex<BTreeMap<String, BTreeMap<usize, Vec<u8>>>>,
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
        let stored = |bytes: &[u8]| Stored { bytes: bytes.to_vec(), etag: "1".into() };
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), stored(bytes)));
        let state = State { files: Mutex::new(files.collect()), ..State::default() };
        let state = Arc::new(state);
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

    /// The files that are there now, with their bytes.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let files = self.state.files.lock().unwrap();
        files.iter().map(|(name, file)| (name.clone(), file.bytes.clone())).collect()
    }

    /// Takes files away.
    pub fn remove(&self, names: &[String]) {
        let mut files = self.state.files.lock().unwrap();
        names.iter().for_each(|name| _ = files.remove(name));
    }

    /// Uploads in parts that were neither completed nor taken back.
    pub fn open_uploads(&self) -> usize {
        self.state.uploads.lock().unwrap().len()
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
        while let Some(request) = read(&mut reader) {
            self.log.lock().unwrap().push(request.line.clone());
            if !self.answer(&mut stream, &request) {
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
    fn answer(&self, stream: &mut TcpStream, request: &Request) -> bool {
        let mut words = request.line.split(' ');
        let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let name = path.trim_start_matches('/');
        let fault = self.fault(&request.line);
        let refused = matches!(fault, Some(Fault::Status(..)));
        let (mut status, mut headers, mut body) = match method {
            _ if refused => (0, String::new(), Vec::new()),
            "PUT" if matches!(fault, Some(Fault::Blind)) => {
                self.put(name, query, &Request { body: request.body.clone(), ..Request::default() })
            }
            "PUT" => self.put(name, query, request),
            "POST" => self.post(name, query, request),
            "DELETE" => self.take_back(query),
            _ => self.get(path, query, &request.range, fault.as_ref()),
        };
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
            Some(Fault::Lost) => (status, body) = (500, b"lost".into()),
            _ => {}
        }
        let length = body.len() + usize::from(matches!(fault, Some(Fault::Long)));
        let head = format!("HTTP/1.1 {status} Told\r\nContent-Length: {length}\r\n{headers}\r\n");
        let cut = matches!(fault, Some(Fault::Cut));
        let sent = if cut { &body[..body.len() / 2] } else { &body };
        let sent = if method == "HEAD" { &[] } else { sent };
        let done = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(sent)).is_ok();
        done && !cut && length == body.len()
    }

    fn get(&self, path: &str, query: &str, range: &str, fault: Option<&Fault>) -> Answer {
        const NONE: &[u8] = b"<Error><Code>NoSuchKey</Code><Message>None.</Message></Error>";
        let file = self.files.lock().unwrap().get(path.trim_start_matches('/')).cloned();
        let (mut status, mut file) = match file {
            Some(file) => (200, file),
            None if query.contains("list-type=2") => {
                (200, Stored { bytes: self.list(path, query).into_bytes(), etag: "1".into() })
            }
            None => (404, Stored { bytes: NONE.to_vec(), etag: "1".into() }),
        };
        if matches!(fault, Some(Fault::Changed)) {
            file.etag = "2".into();
        }
        let Stored { bytes: mut body, etag } = file;
        let modified = "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT";
        let mut headers = format!("ETag: \"{etag}\"\r\n{modified}\r\n");
        let ranges = !matches!(fault, Some(Fault::NoRanges));
        if let Some((from, to)) = bounds(range).filter(|_| status == 200 && ranges) {
            let to = to.min(body.len() as u64 - 1);
            headers += &format!("Content-Range: bytes {from}-{to}/{}\r\n", body.len());
            (status, body) = (206, body[from as usize..=to as usize].to_vec());
        }
        (status, headers, body)
    }

    /// A file, if its conditions hold, or a part of one.
    fn put(&self, name: &str, query: &str, request: &Request) -> Answer {
        let file = Stored::new(request.body.clone());
        let headers = format!("ETag: \"{}\"\r\n", file.etag);
        if let Some(upload) = value(query, "uploadId") {
            let number = value(query, "partNumber").and_then(|n| n.parse().ok()).unwrap();
            let mut uploads = self.uploads.lock().unwrap();
            uploads.get_mut(&upload).unwrap().insert(number, file.bytes);
            return (200, headers, Vec::new());
        }
        let mut files = self.files.lock().unwrap();
        let there = files.get(name).map(|file| format!("\"{}\"", file.etag));
        let holds = match (request.if_match.as_str(), request.if_none_match.as_str()) {
            ("", "") => true,
            ("", _) => there.is_none(),
            (version, _) => there.as_deref() == Some(version),
        };
        if !holds {
            return (412, String::new(), b"<Error><Code>PreconditionFailed</Code></Error>".into());
        }
        files.insert(name.to_owned(), file);
        (200, headers, Vec::new())
    }

    /// Begins or completes an upload in parts, or removes files.
    fn post(&self, name: &str, query: &str, request: &Request) -> Answer {
        let mut uploads = self.uploads.lock().unwrap();
        let mut files = self.files.lock().unwrap();
        let xml = |text: String| (200, String::new(), text.into_bytes());
        if query.starts_with("delete") {
            let bucket = name.split('/').next().unwrap_or_default();
            let body = String::from_utf8_lossy(&request.body).into_owned();
            let keys = body.split("<Key>").skip(1).filter_map(|rest| rest.split_once('<'));
            let mut answer = String::from("<DeleteResult>");
            for (key, _) in keys {
                files.remove(&format!("{bucket}/{key}"));
                answer += &format!("<Deleted><Key>{key}</Key></Deleted>");
            }
            return xml(answer + "</DeleteResult>");
        }
        let Some(upload) = value(query, "uploadId") else {
            let id = format!("upload-{}", self.log.lock().unwrap().len());
            uploads.insert(id.clone(), BTreeMap::new());
            let open = "<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key>";
            let close = "</InitiateMultipartUploadResult>";
            return xml(format!("{open}<UploadId>{id}</UploadId>{close}"));
        };
        let parts = uploads.remove(&upload).unwrap();
        let file = Stored::new(parts.into_values().flatten().collect());
        let etag = file.etag.clone();
        files.insert(name.to_owned(), file);
        let (open, close) = ("<CompleteMultipartUploadResult>", "</CompleteMultipartUploadResult>");
        xml(format!("{open}<Location>l</Location><ETag>\"{etag}\"</ETag>{close}"))
    }

    /// Takes back an upload in parts.
    fn take_back(&self, query: &str) -> Answer {
        let upload = value(query, "uploadId").unwrap_or_default();
        self.uploads.lock().unwrap().remove(&upload);
        (204, String::new(), Vec::new())
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
        let files = self.files.lock().unwrap();
        for key in files.keys().filter_map(within).filter(|key| key.starts_with(prefix)) {
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
                false => {
                    let Stored { bytes, etag } = &files[&format!("{bucket}/{key}")];
                    format!(
                        "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z\
                         </LastModified><ETag>\"{etag}\"</ETag><Size>{}</Size></Contents>",
                        bytes.len()
                    )
                }
            };
        }
        if from + PAGE < entries.len() {
            xml += &format!("<NextContinuationToken>{}</NextContinuationToken>", from + PAGE);
        }
        xml + "</ListBucketResult>"
    }
}

/// The next request of a connection.
fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let (mut first, mut length, mut request) = (String::new(), 0, Request::default());
    if reader.read_line(&mut first).unwrap_or(0) == 0 {
        return None;
    }
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return None;
        }
        let Some((name, value)) = line.trim().split_once(':') else { break };
        let value = value.trim().to_owned();
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = value,
            "if-match" => request.if_match = value,
            "if-none-match" => request.if_none_match = value,
            "content-length" => length = value.parse().unwrap(),
            _ => {}
        }
    }
    request.body = vec![0; length];
    reader.read_exact(&mut request.body).ok()?;
    request.line = first.trim().trim_end_matches("HTTP/1.1").to_owned() + &request.range;
    Some(request)
}

/// A value of a query.
fn value(query: &str, name: &str) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(query.as_bytes()).into_owned();
    pairs.find(|(known, _)| known == name).map(|(_, value)| value)
}

/// `bytes=1-2`.
fn bounds(range: &str) -> Option<(u64, u64)> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    Some((from.parse().ok()?, to.parse().ok()?))
}
