//! The clients of buckets and servers, and the thread on which their requests run.
//!
//! One thread drives all connections, so that a block is on its way while the readers compute; a
//! reader waits for it on a channel and hears meanwhile whether somebody asked to stop. Not here:
//! how often a request is tried ([`super::patience`]).

use super::failure::{self, Failure};
use super::patience::{self, Connector, Shared};
use super::{Children, Settings, Stamp};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::client::HttpClient;
use object_store::http::HttpBuilder;
use object_store::path::Path as Key;
use object_store::{
    GetOptions, GetRange, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode,
    RetryConfig,
};
use quipu_store::Cancel;
use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

/// How often a reader that waits asks whether to stop.
const ASK: Duration = Duration::from_millis(50);

/// Kind of the error of a reader that was asked to stop: readers try again at `Interrupted`, and
/// take others for damage in the data.
const STOPPED: io::ErrorKind = io::ErrorKind::ConnectionAborted;

/// Where credentials may come from; where none of these is set, requests are not signed.
const CREDENTIALS: [&str; 6] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_SKIP_SIGNATURE",
];

/// Clients that share a thread.
pub(super) struct Client {
    settings: Settings,
    http: HttpClient,
    buckets: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
    runtime: Handle,
    /// Ends the thread when it goes.
    _end: oneshot::Sender<()>,
}

/// A file elsewhere, as it was measured.
#[derive(Clone)]
pub(super) struct Object {
    pub place: PathBuf,
    pub stamp: Stamp,
    store: Arc<dyn ObjectStore>,
    key: Key,
}

/// An answer that is on its way; letting it go takes the request back.
pub(super) struct Pending<T> {
    answer: mpsc::Receiver<io::Result<T>>,
    task: AbortHandle,
}

impl<T> Pending<T> {
    /// The answer, or an error when somebody asks to stop before it is there.
    pub(super) fn wait(self, cancel: &Cancel) -> io::Result<T> {
        loop {
            match self.answer.recv_timeout(ASK) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Timeout) => {
                    let stopped = |e| io::Error::new(STOPPED, e);
                    cancel.check().map_err(stopped)?;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let reason = "the thread of the network is gone";
                    return Err(io::Error::new(io::ErrorKind::BrokenPipe, reason));
                }
            }
        }
    }
}

impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The clients themselves try nothing again.
fn nothing() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

/// No client can be made: a name, or what the environment says.
fn unusable(place: &Path) -> impl FnOnce(object_store::Error) -> Failure + '_ {
    move |e| {
        let reason = format!("no client for it: {e}; are AWS_… in the environment complete?");
        Failure::Name { place: place.to_owned(), reason }
    }
}

impl Client {
    pub(super) fn new(settings: &Settings) -> io::Result<Client> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new().name("network".into()).spawn(move || {
            // An error says that the other end is gone, which is the end as well.
            let _: Result<(), _> = runtime.block_on(ended);
        })?;
        let http = patience::client(settings);
        let http = http.map_err(|e| io::Error::new(io::ErrorKind::Unsupported, e))?;
        let buckets = Mutex::default();
        Ok(Client { settings: settings.clone(), http, buckets, runtime: handle, _end: end })
    }

    fn start<T: Send + 'static>(
        &self,
        request: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Pending<T> {
        let (sender, answer) = mpsc::sync_channel(1);
        let task = self.runtime.spawn(async move {
            // Nobody listens any more where it was taken back.
            let _ = sender.send(request.await.map_err(io::Error::from));
        });
        Pending { answer, task: task.abort_handle() }
    }

    /// The client of a bucket.
    fn bucket(&self, name: &str, place: &Path) -> Result<Arc<dyn ObjectStore>, Failure> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = buckets.get(name) {
            return Ok(store.clone());
        }
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(name)
            .with_retry(nothing())
            .with_client_options(patience::options(&self.settings))
            .with_http_connector(Connector(self.settings.clone()));
        if CREDENTIALS.iter().all(|name| std::env::var_os(name).is_none()) {
            builder = builder.with_skip_signature(true);
        }
        if let Some(endpoint) = &self.settings.endpoint {
            builder = builder.with_endpoint(endpoint).with_virtual_hosted_style_request(false);
        }
        let store: Arc<dyn ObjectStore> = Arc::new(builder.build().map_err(unusable(place))?);
        buckets.insert(name.to_owned(), store.clone());
        Ok(store)
    }

    /// Client and key of a place. A URL is the key of a client of its own, so that it is asked for
    /// as it stands, query and all.
    fn find(&self, place: &Path) -> Result<(Arc<dyn ObjectStore>, Key), Failure> {
        let refuse = |reason: String| Failure::Name { place: place.to_owned(), reason };
        let Some(text) = place.to_str() else { return Err(refuse("not UTF-8".into())) };
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err(refuse("no bucket: expected s3://bucket/key".into()));
            }
            let key = key.strip_suffix('/').unwrap_or(key);
            let key = Key::parse(key).map_err(|e| refuse(format!("not a key: {e}")))?;
            return Ok((self.bucket(bucket, place)?, key));
        }
        let url = url::Url::parse(text).map_err(|e| refuse(format!("not a URL: {e}")))?;
        let builder = HttpBuilder::new()
            .with_url(url)
            .with_retry(nothing())
            .with_http_connector(Shared(self.http.clone()));
        Ok((Arc::new(builder.build().map_err(unusable(place))?), Key::default()))
    }

    pub(super) fn object(&self, place: &Path, stamp: Stamp) -> io::Result<Object> {
        let (store, key) = self.find(place)?;
        Ok(Object { place: place.to_owned(), stamp, store, key })
    }

    /// What a file is: by `HEAD`, or by a range where a server does not answer that.
    pub(super) fn measure(&self, place: &Path) -> io::Result<Pending<Stamp>> {
        let (store, key) = self.find(place)?;
        let place = place.to_owned();
        Ok(self.start(async move {
            let head = GetOptions { head: true, ..GetOptions::default() };
            let failed = match store.get_opts(&key, head).await {
                Ok(found) => return Ok(stamp(&found.meta)),
                Err(e) => failure::of(&place, &e),
            };
            let answered = |failed: &Failure| match failed {
                Failure::Refused { refusal, .. } => match refusal.reason {
                    failure::Reason::Status(status, _) => matches!(status, 400 | 403 | 405 | 501),
                    _ => false,
                },
                _ => true,
            };
            if !answered(&failed) {
                return Err(failed);
            }
            let range = Some(GetRange::Bounded(0..1));
            let first = GetOptions { range, ..GetOptions::default() };
            // What the server says of a GET is told: to HEAD it has no words.
            let found = store.get_opts(&key, first).await.map_err(|e| failure::of(&place, &e))?;
            Ok(stamp(&found.meta))
        }))
    }

    /// Asks for a range of a file.
    pub(super) fn fetch(&self, object: &Object, range: Range<u64>) -> Pending<Bytes> {
        self.start(fetch(object.clone(), range))
    }

    /// A file of a bucket, whole, and its version.
    pub(super) fn get(&self, place: &Path) -> io::Result<Pending<(Bytes, String)>> {
        let (store, key) = self.find(place)?;
        let place = place.to_owned();
        Ok(self.start(async move {
            let found = store.get(&key).await.map_err(|e| failure::of(&place, &e))?;
            let version = version(&place, found.meta.e_tag.clone())?;
            let bytes = found.bytes().await.map_err(|e| failure::of(&place, &e))?;
            Ok((bytes, version))
        }))
    }

    /// Puts a file into a bucket, whole; the answer is its version.
    pub(super) fn put(
        &self,
        place: &Path,
        bytes: Bytes,
        mode: PutMode,
    ) -> io::Result<Pending<String>> {
        let (store, key) = self.find(place)?;
        let place = place.to_owned();
        Ok(self.start(async move {
            let put = store.put_opts(&key, bytes.into(), mode.into()).await;
            version(&place, put.map_err(|e| failure::of(&place, &e))?.e_tag)
        }))
    }

    /// Begins to put a file in parts.
    pub(super) fn upload(&self, place: &Path) -> io::Result<Pending<Box<dyn MultipartUpload>>> {
        let (store, key) = self.find(place)?;
        let place = place.to_owned();
        Ok(self.start(async move {
            store.put_multipart(&key).await.map_err(|e| failure::of(&place, &e))
        }))
    }

    /// Puts the next part.
    pub(super) fn put_part(
        &self,
        place: &Path,
        upload: &mut Box<dyn MultipartUpload>,
        bytes: Bytes,
    ) -> Pending<()> {
        let (part, place) = (upload.put_part(bytes.into()), place.to_owned());
        self.start(async move { part.await.map_err(|e| failure::of(&place, &e)) })
    }

    /// Makes a file of the parts, or takes them back.
    pub(super) fn end_upload(
        &self,
        place: &Path,
        mut upload: Box<dyn MultipartUpload>,
        complete: bool,
    ) -> Pending<()> {
        let place = place.to_owned();
        self.start(async move {
            let ended = match complete {
                true => upload.complete().await.map(|_| ()),
                false => upload.abort().await,
            };
            ended.map_err(|e| failure::of(&place, &e))
        })
    }

    /// Removes files of one bucket, if they are there.
    pub(super) fn remove(&self, places: &[PathBuf]) -> io::Result<Pending<()>> {
        let found: Result<Vec<_>, Failure> = places.iter().map(|place| self.find(place)).collect();
        let found = found?;
        let place = places.first().cloned().unwrap_or_default();
        Ok(self.start(async move {
            let Some((store, _)) = found.first().cloned() else { return Ok(()) };
            let keys = futures::stream::iter(found.into_iter().map(|(_, key)| Ok(key))).boxed();
            let removed = store.delete_stream(keys).map(|removed| match removed {
                Err(object_store::Error::NotFound { .. }) => Ok(()),
                other => other.map(|_| ()),
            });
            removed.try_collect().await.map_err(|e: object_store::Error| failure::of(&place, &e))
        }))
    }

    /// What is in a folder of a bucket.
    pub(super) fn children(&self, folder: &Path) -> io::Result<Pending<Children>> {
        let (store, key) = self.find(folder)?;
        let folder = folder.to_owned();
        Ok(self.start(async move {
            let listed = store.list_with_delimiter(Some(&key)).await;
            let listed = listed.map_err(|e| failure::of(&folder, &e))?;
            let name = |path: &Key| path.filename().map(str::to_owned);
            let file = |meta: &ObjectMeta| Some((name(&meta.location)?, stamp(meta)));
            Ok(Children {
                folders: listed.common_prefixes.iter().filter_map(name).collect(),
                // The folder itself may be a file of no bytes.
                files: listed
                    .objects
                    .iter()
                    .filter(|o| o.location != key)
                    .filter_map(file)
                    .collect(),
            })
        }))
    }

    /// All files below a folder of a bucket.
    pub(super) fn below(&self, folder: &Path) -> io::Result<Pending<Vec<(String, Stamp)>>> {
        let (store, key) = self.find(folder)?;
        let folder = folder.to_owned();
        Ok(self.start(async move {
            let listed: Result<Vec<ObjectMeta>, _> = store.list(Some(&key)).try_collect().await;
            let listed = listed.map_err(|e| failure::of(&folder, &e))?;
            let below = |path: &Key| {
                let rest = path.as_ref().strip_prefix(key.as_ref())?.trim_start_matches('/');
                (!rest.is_empty()).then(|| rest.to_owned())
            };
            let file = |meta: &ObjectMeta| Some((below(&meta.location)?, stamp(meta)));
            Ok(listed.iter().filter_map(file).collect())
        }))
    }
}

/// What a bucket calls the version of a file; conditions are about nothing else.
fn version(place: &Path, etag: Option<String>) -> Result<String, Failure> {
    let reason = || "it gives no ETag".to_owned();
    etag.ok_or_else(|| Failure::Answer { place: place.to_owned(), reason: reason() })
}

fn stamp(meta: &ObjectMeta) -> Stamp {
    let modified = meta.last_modified.timestamp();
    Stamp {
        bytes: meta.size,
        etag: meta.e_tag.clone().filter(|tag| !tag.is_empty()),
        modified: (modified != 0).then_some(modified),
    }
}

/// A range of a file that is still what it was. All of a file is asked for without a range, which
/// every server answers.
async fn fetch(object: Object, range: Range<u64>) -> Result<Bytes, Failure> {
    let Object { place, stamp: then, store, key } = object;
    let whole = range == (0..then.bytes);
    let wanted = (!whole).then(|| GetRange::Bounded(range.clone()));
    let options = GetOptions { range: wanted, ..GetOptions::default() };
    let found = store.get_opts(&key, options).await.map_err(|e| failure::of(&place, &e))?;
    let now = stamp(&found.meta);
    if then.differs(&now) {
        return Err(Failure::Changed { place, then, now });
    }
    let bytes = found.bytes().await.map_err(|e| failure::of(&place, &e))?;
    if bytes.len() as u64 != range.end - range.start {
        let (asked, got) = (range.end - range.start, bytes.len());
        let reason = format!("{asked} bytes were asked for from {} on, {got} came", range.start);
        return Err(Failure::Answer { place, reason });
    }
    Ok(bytes)
}
