//! One request, tried until it is answered: what is tried again, how often, after how long.
//!
//! Tried again are statuses 408, 429 and 5xx, connections that could not be made or broke, and
//! bodies that ended too early; the pause doubles from try to try, less a random part (exponential
//! back-off with jitter, after "Exponential Backoff And Jitter", M. Brooker, 2015), and is at least
//! what `Retry-After` asks for. Every answer is read to its end here, so that whoever asked has all
//! of it or an error. Not here: whether what was answered is right; bad data stays bad.

use super::Settings;
use super::failure::{Reason, Refusal};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService, ReqwestConnector,
};
use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Longest pause of our own.
const LONGEST: Duration = Duration::from_secs(30);
/// Longest pause that a server may ask for.
const RETRY_AFTER: u64 = 120;
/// Tries to reach a server that was never reached: a name is mistyped more often than it is down.
const UNKNOWN: u32 = 3;
/// Bytes of what a server says of an error that are repeated.
const SAID: usize = 300;

/// Makes clients that try again.
#[derive(Clone, Debug)]
pub(super) struct Connector(pub(super) Settings);

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        let (settings, reached) = (self.0.clone(), AtomicBool::new(false));
        Ok(HttpClient::new(Patient { inner, settings, reached }))
    }
}

/// Gives everybody the same client, so that connections are shared.
#[derive(Debug)]
pub(super) struct Shared(pub(super) HttpClient);

impl HttpConnector for Shared {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(self.0.clone())
    }
}

#[derive(Debug)]
struct Patient {
    inner: HttpClient,
    settings: Settings,
    /// Whether any server answered.
    reached: AtomicBool,
}

/// Why a try failed, whether to try again, and how long to wait at least.
struct Failed {
    reason: Reason,
    again: bool,
    after: u64,
    region: Option<String>,
}

impl Failed {
    fn broken(error: &HttpError, again: bool) -> Failed {
        let reason = Reason::Connection(innermost(error));
        Failed { reason, again, after: 0, region: None }
    }
}

/// What the last cause of an error says.
fn innermost(error: &HttpError) -> String {
    let mut at: &dyn StdError = error;
    while let Some(cause) = at.source() {
        at = cause;
    }
    at.to_string()
}

impl Patient {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let mut url = request.uri().to_string();
        url.truncate(url.find('?').unwrap_or(url.len()));
        let mut tries = 0;
        loop {
            tries += 1;
            let failed = match self.once(request.clone()).await {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            let reached = self.reached.load(Ordering::Relaxed);
            let most = if reached { self.settings.tries } else { self.settings.tries.min(UNKNOWN) };
            let late = failed.after > RETRY_AFTER;
            if failed.again && !late && tries < most {
                let pause = pause(self.settings.pause, tries, &url);
                tokio::time::sleep(pause.max(Duration::from_secs(failed.after))).await;
                continue;
            }
            let reason = match failed.reason {
                Reason::Status(status, _) if late => Reason::Later(status, failed.after),
                reason => reason,
            };
            let refusal = Refusal { url, reason, tries, region: failed.region };
            return Err(HttpError::new(HttpErrorKind::Unknown, refusal));
        }
    }

    async fn once(&self, request: HttpRequest) -> Result<HttpResponse, Failed> {
        use HttpErrorKind::{Connect, Interrupted, Request, Timeout};
        let ranged = request.headers().contains_key("range");
        let head = request.method().as_str() == "HEAD";
        let answer = self.inner.execute(request).await;
        let response = answer.map_err(|e| {
            Failed::broken(&e, matches!(e.kind(), Connect | Interrupted | Request | Timeout))
        })?;
        self.reached.store(true, Ordering::Relaxed);
        let (mut parts, body) = response.into_parts();
        let text = |name: &str| parts.headers.get(name)?.to_str().ok().map(str::to_owned);
        let status = parts.status.as_u16();
        if status == 200 && ranged {
            return Err(Failed { reason: Reason::NoRanges, again: false, after: 0, region: None });
        }
        let after = text("retry-after").and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let region = text("x-amz-bucket-region").filter(|_| (301..=308).contains(&status));
        let measured = parts.headers.contains_key("content-length");
        let bytes = body.bytes().await;
        if parts.status.is_success() {
            let bytes = bytes.map_err(|e| Failed::broken(&e, true))?;
            if !measured && !head {
                parts.headers.insert("content-length", bytes.len().into());
            }
            return Ok(HttpResponse::from_parts(parts, HttpResponseBody::from(bytes)));
        }
        let said = said(&bytes.unwrap_or_default());
        let again = matches!(status, 408 | 429 | 500..);
        Err(Failed { reason: Reason::Status(status, said), again, after, region })
    }
}

/// What a server says of an error, on one line: S3's code and message, or the beginning.
fn said(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(8 << 10)]);
    let tag = |name: &str| {
        let (_, behind) = text.split_once(&format!("<{name}>"))?;
        Some(behind.split_once('<')?.0.trim().to_owned())
    };
    let found = match (tag("Code"), tag("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code,
        _ if text.trim_start().starts_with('<') => tag("title").unwrap_or_default(),
        _ => text.split_whitespace().collect::<Vec<_>>().join(" "),
    };
    let end = found.floor_char_boundary(SAID);
    found[..end].to_owned()
}

/// The pause behind a try: doubled each time, and of that a random share between a half and all.
fn pause(first: Duration, tries: u32, url: &str) -> Duration {
    let whole = first.saturating_mul(1 << (tries - 1).min(16)).min(LONGEST);
    let drawn = format!("{url} {tries} {}", std::process::id());
    let share = xxhash_rust::xxh3::xxh3_64(drawn.as_bytes()) as f64 / u64::MAX as f64;
    whole.mul_f64(0.5 + share / 2.0)
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

impl HttpService for Patient {
    fn call<'life0, 'async_trait>(&'life0 self, request: HttpRequest) -> Answer<'async_trait>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(self.send(request))
    }
}

/// How a client of these settings is made: time limits, one connection protocol.
pub(super) fn options(settings: &Settings) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(true)
        .with_timeout(settings.timeout)
        .with_connect_timeout(settings.timeout.min(Duration::from_secs(20)))
}

/// One client for all HTTP servers.
pub(super) fn client(settings: &Settings) -> object_store::Result<HttpClient> {
    Connector(settings.clone()).connect(&options(settings))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_differ() {
        let first = Duration::from_millis(500);
        let of = |tries| pause(first, tries, "http://a/");
        for tries in 1..12 {
            let whole = first.saturating_mul(1 << (tries - 1)).min(LONGEST);
            assert!(of(tries) >= whole / 2 && of(tries) <= whole, "{tries}");
        }
        assert_ne!(of(1), pause(first, 1, "http://b/"));
    }

    #[test]
    fn what_servers_say_fits_a_line() {
        let check = |body: &str, expected: &str| assert_eq!(said(body.as_bytes()), expected);
        check("<Error><Code>NoSuchKey</Code><Message>No.</Message></Error>", "NoSuchKey: No.");
        check("<html><title>404 Not Found</title>", "404 Not Found");
        check("slow\n  down", "slow down");
        check("", "");
        assert_eq!(said("é".repeat(1000).as_bytes()).len(), SAID);
    }
}
