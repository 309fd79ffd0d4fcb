//! `GET /metrics`: one text over HTTP, for Prometheus and for people. Not a web server: one page,
//! one request a connection, no keep-alive, no TLS, no passwords. Whoever asks, in whatever way,
//! costs a thread for some seconds and a few KiB, and the run nothing else: connections, bytes of a
//! request and its time are bounded, and no answer waits for the run.

use crate::error::{Error, Kind};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What one who asks may take.
#[derive(Clone, Copy)]
struct Limits {
    /// Connections at a time.
    connections: usize,
    /// From the first byte to the last, of request and answer.
    time: Duration,
    /// Bytes of a request's head; more is no question about metrics.
    head: usize,
}

const LIMITS: Limits = Limits { connections: 16, time: Duration::from_secs(5), head: 8 << 10 };

/// How long the rest of a refused request is read, so that its sender gets to see the answer.
const LINGER: Duration = Duration::from_millis(500);

type Text = dyn Fn() -> String + Send + Sync;

/// Listens until it is dropped.
pub struct Endpoint {
    address: SocketAddr,
    over: Arc<AtomicBool>,
}

impl Endpoint {
    /// Listens at `address`, HOST:PORT, and answers with what `text` gives at that moment.
    pub fn open(
        address: &str,
        text: impl Fn() -> String + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        Self::with(address, Arc::new(text), LIMITS)
    }

    fn with(address: &str, text: Arc<Text>, limits: Limits) -> Result<Self, Error> {
        let listener = TcpListener::bind(address).map_err(|e| refused(address, &e))?;
        let own = listener.local_addr().map_err(|e| refused(address, &e))?;
        let over = Arc::new(AtomicBool::new(false));
        let ends = over.clone();
        thread::Builder::new()
            .name("metrics".into())
            .spawn(move || accept(&listener, &text, limits, &ends))
            .map_err(|e| refused(address, &e))?;
        Ok(Self { address: own, over })
    }

    /// Where it listens: with the port that the system chose, where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Wakes the thread, which then ends; one that is not woken ends with the process.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_millis(100));
    }
}

fn refused(address: &str, error: &std::io::Error) -> Error {
    let (kind, change) = match error.kind() {
        ErrorKind::AddrInUse => (
            Kind::Resource,
            "something listens there: end it, or name another port (0: a free one)",
        ),
        ErrorKind::PermissionDenied => (Kind::Resource, "name a port above 1023"),
        ErrorKind::AddrNotAvailable => {
            (Kind::Resource, "this machine has no such address; 0.0.0.0 is all that it has")
        }
        _ => (Kind::Usage, "expected HOST:PORT, such as 127.0.0.1:9464"),
    };
    Error::new(kind, format!("--metrics {address}: {error}; {change}"))
}

/// A place among the connections; given back when dropped.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn accept(listener: &TcpListener, text: &Arc<Text>, limits: Limits, over: &AtomicBool) {
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let Ok(stream) = stream else {
            // No more files can be opened, for instance: that passes, and asking at once does not
            // help.
            thread::sleep(Duration::from_millis(100));
            continue;
        };
        let place = Place(open.clone());
        if open.fetch_add(1, Ordering::Relaxed) >= limits.connections {
            // So short an answer has room in an empty socket and does not wait.
            let _ = stream.set_write_timeout(Some(Duration::from_millis(50)));
            let _ = answer(&stream, "503 Service Unavailable", "too many connections at a time\n");
            continue;
        }
        let text = text.clone();
        let serve = move || {
            // Who goes away or breaks the rules gets no answer, and nobody needs to know.
            let _ = serve(&stream, &*text, limits);
            drop(place);
        };
        // Where no thread can be had, the connection is closed.
        let _ = thread::Builder::new().name("metrics-answer".into()).spawn(serve);
    }
}

fn serve(stream: &TcpStream, text: &Text, limits: Limits) -> std::io::Result<()> {
    let end = Instant::now() + limits.time;
    stream.set_write_timeout(Some(limits.time))?;
    let (status, body, whole) = match head(stream, limits.head, end)? {
        Head::Whole(head) => {
            let (status, body) = reply(&head, text);
            (status, body, true)
        }
        Head::Long => {
            let body = format!("the head of a request has at most {} bytes\n", limits.head);
            ("431 Request Header Fields Too Large", body, false)
        }
        Head::Slow => ("408 Request Timeout", "the request did not end\n".to_owned(), false),
        Head::Cut => return Ok(()),
    };
    answer(stream, status, &body)?;
    if !whole {
        linger(stream)?;
    }
    Ok(())
}

/// What came of a request.
enum Head {
    /// Up to its blank line.
    Whole(Vec<u8>),
    /// More bytes than any that is meant.
    Long,
    /// Not the end of it in time.
    Slow,
    /// Nobody is there any more.
    Cut,
}

fn head(mut stream: &TcpStream, most: usize, end: Instant) -> std::io::Result<Head> {
    let (mut found, mut buffer) = (Vec::new(), [0; 1024]);
    loop {
        // The time is that of the whole: a byte now and then does not make it longer.
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Head::Slow);
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(Head::Cut),
            Ok(n) => found.extend_from_slice(&buffer[..n]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        if found.windows(4).any(|w| w == b"\r\n\r\n") || found.windows(2).any(|w| w == b"\n\n") {
            return Ok(Head::Whole(found));
        }
        if found.len() > most {
            return Ok(Head::Long);
        }
    }
}

/// Status and body for the head of a request.
fn reply(head: &[u8], text: &Text) -> (&'static str, String) {
    const BAD: (&str, &str) = ("400 Bad Request", "this is no request of HTTP/1\n");
    let said = |(status, body): (&'static str, &str)| (status, body.to_owned());
    let line = head.split(|b| *b == b'\n').next().unwrap_or_default();
    let Ok(line) = std::str::from_utf8(line) else { return said(BAD) };
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [method, target, version] = words[..] else { return said(BAD) };
    if !version.starts_with("HTTP/1.") {
        return said(BAD);
    }
    let path = target.split('?').next().unwrap_or_default();
    match (method, path) {
        (_, path) if path != "/metrics" => {
            said(("404 Not Found", "there is /metrics here, and nothing else\n"))
        }
        ("GET", _) => ("200 OK", text()),
        _ => said(("405 Method Not Allowed", "metrics are read with GET\n")),
    }
}

fn answer(mut stream: &TcpStream, status: &str, body: &str) -> std::io::Result<()> {
    let allow = if status.starts_with("405") { "Allow: GET\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\n{allow}Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    stream.shutdown(Shutdown::Write)
}

/// Reads on for a moment: closing a connection with unread bytes would take back the answer.
fn linger(mut stream: &TcpStream) -> std::io::Result<()> {
    let (end, mut buffer) = (Instant::now() + LINGER, [0; 4096]);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        stream.set_read_timeout(Some(left))?;
        if stream.read(&mut buffer)? == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Limits = Limits { connections: 3, time: Duration::from_millis(300), head: 2048 };

    fn open() -> Endpoint {
        Endpoint::with("127.0.0.1:0", Arc::new(|| "quipu_step 7\n".to_owned()), QUICK).unwrap()
    }

    fn connect(endpoint: &Endpoint) -> TcpStream {
        let stream = TcpStream::connect(endpoint.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// All that comes back for what is sent; what breaks off ends it.
    fn ask(endpoint: &Endpoint, request: &[u8]) -> String {
        let mut stream = connect(endpoint);
        let _ = stream.write_all(request);
        let mut found = Vec::new();
        let _ = stream.read_to_end(&mut found);
        String::from_utf8_lossy(&found).into_owned()
    }

    #[track_caller]
    fn check(request: &[u8], status: &str, body: &str) {
        let endpoint = open();
        let found = ask(&endpoint, request);
        assert!(found.starts_with(&format!("HTTP/1.1 {status}")), "{found:?}");
        let (head, found) = found.split_once("\r\n\r\n").unwrap();
        assert!(found.contains(body), "{found:?}");
        assert!(head.contains(&format!("Content-Length: {}\r\n", found.len())), "{head}");
        alive(&endpoint);
    }

    #[track_caller]
    fn alive(endpoint: &Endpoint) {
        // Those that are still being refused have their places for a moment.
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let found = ask(endpoint, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
            if found.ends_with("\r\n\r\nquipu_step 7\n") {
                return;
            }
            assert!(Instant::now() < until, "{found}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn metrics_are_there_and_nothing_else_is() {
        check(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK", "quipu_step 7\n");
        check(b"GET /metrics?a=b HTTP/1.0\n\n", "200 OK", "quipu_step 7\n");
        check(b"GET / HTTP/1.1\r\n\r\n", "404", "/metrics");
        check(b"GET /metrics/../../etc/passwd HTTP/1.1\r\n\r\n", "404", "/metrics");
        check(b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "405", "GET");
    }

    #[test]
    fn what_is_no_request_is_refused() {
        check(b"\r\n\r\n", "400", "HTTP/1");
        check(b"GET /metrics\r\n\r\n", "400", "HTTP/1");
        check(b"GET /metrics SPDY/9\r\n\r\n", "400", "HTTP/1");
        check(b"\xff\xfe\x00\x16\x03\x01 / HTTP/1.1\n\n", "400", "HTTP/1");
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400", "HTTP/1");
    }

    #[test]
    fn a_huge_request_is_cut_off_and_its_sender_told() {
        let long = [&b"GET /metrics HTTP/1.1\r\nX: "[..], &[b'a'; 4096]].concat();
        check(&long, "431", "2048 bytes");
        let endpoint = open();
        ask(&endpoint, &vec![b'\n' ^ 1; 8 << 20]);
        alive(&endpoint);
    }

    #[test]
    fn a_slow_one_has_its_time_and_no_more() {
        let endpoint = open();
        let (mut stream, start) = (connect(&endpoint), Instant::now());
        let mut found = Vec::new();
        // A byte now and then does not lengthen it.
        for byte in b"GET /metrics HTTP/1.1\r\nHost: someone-very-slow" {
            if stream.write_all(&[*byte]).is_err() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = stream.read_to_end(&mut found);
        assert!(String::from_utf8_lossy(&found).starts_with("HTTP/1.1 408"), "{found:?}");
        assert!(start.elapsed() < Duration::from_secs(10));
        alive(&endpoint);
    }

    #[test]
    fn too_many_at_a_time_are_turned_away_and_those_after_them_served() {
        let endpoint = open();
        let silent: Vec<TcpStream> = (0..3).map(|_| connect(&endpoint)).collect();
        let mut turned = 0;
        for _ in 0..20 {
            turned += u32::from(ask(&endpoint, b"").starts_with("HTTP/1.1 503"));
        }
        assert!(turned > 0);
        drop(silent);
        alive(&endpoint);
    }

    /// Seeded garbage, whole and cut, closed at once or not: it goes on serving.
    #[test]
    fn garbage_ends_nothing() {
        let endpoint = open();
        let mut state = 5u64;
        for round in 0..60 {
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as u8
            };
            let mut bytes = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
            for _ in 0..4 {
                let at = usize::from(next()) % bytes.len();
                bytes[at] = next();
            }
            bytes.truncate(1 + usize::from(next()) % bytes.len());
            let mut stream = connect(&endpoint);
            let _ = stream.write_all(&bytes);
            if round % 2 == 0 {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        alive(&endpoint);
    }

    #[test]
    fn an_address_that_cannot_be_had_is_said_with_what_to_do() {
        let endpoint = open();
        let taken = endpoint.address().to_string();
        let check = |address: &str, code: u8, expected: &str| {
            let error = Endpoint::open(address, String::new).err().unwrap();
            assert_eq!(error.kind().code(), code, "{error}");
            let said = error.to_string();
            assert!(said.contains(expected) && said.contains(address), "{said}");
        };
        check(&taken, 4, "name another port");
        check("127.0.0.1", 2, "HOST:PORT");
        check("127.0.0.1:99999", 2, "HOST:PORT");
        check("192.0.2.1:0", 4, "no such address");
        drop(endpoint);
    }

    #[test]
    fn a_dropped_endpoint_gives_its_port_back() {
        let endpoint = open();
        let address = endpoint.address().to_string();
        drop(endpoint);
        let until = Instant::now() + Duration::from_secs(20);
        while TcpListener::bind(&address).is_err() {
            assert!(Instant::now() < until);
            thread::sleep(Duration::from_millis(20));
        }
    }
}
