//! A folder of a bucket as the place that the workers of a run share.
//!
//! Objects of one request are put whole; larger ones in parts, so that neither memory nor a
//! connection that breaks bounds them. Not here: what is put there (`quipu_store::crew`).

use super::client::Client;
use super::failure::{Failure, Reason};
use super::{Access, Settings, Stamp};
use bytes::Bytes;
use object_store::{PutMode, UpdateVersion};
use quipu_store::share::{Over, Share};
use quipu_store::{Cancel, Error, atomic};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of a part; what is smaller is put at once.
const PART: usize = 16 << 20;
/// Parts of a file that are on their way at a time.
const TOGETHER: usize = 3;
/// How long what is tidied up after a request to stop may take.
const LAST: Duration = Duration::from_secs(5);

/// A folder of a bucket.
#[derive(Clone)]
pub(crate) struct Bucket {
    place: PathBuf,
    access: Access,
}

impl Bucket {
    /// The folder `place`, `s3://bucket/folder`.
    pub fn new(place: &Path, access: &Access) -> Bucket {
        let text = place.to_string_lossy();
        Bucket { place: text.trim_end_matches('/').into(), access: access.clone() }
    }

    fn object(&self, name: &str) -> PathBuf {
        format!("{}/{name}", self.place.display()).into()
    }

    /// All objects of it, by their names.
    pub fn all(&self) -> Result<Vec<(String, Stamp)>, crate::Error> {
        self.access.below(&self.place)
    }

    /// The way on which things are tidied up: whoever is asked to stop still gives back what it holds,
    /// if that goes fast.
    fn last(&self) -> Access {
        match self.access.0.cancel.is_requested() {
            false => self.access.clone(),
            true => {
                let known = self.access.0.settings.clone();
                Access::new(&Settings { tries: 1, timeout: LAST, ..known }, &Cancel::new())
            }
        }
    }

    /// Removes objects, if they are there.
    pub fn remove_all(&self, names: &[String]) -> io::Result<()> {
        let places: Vec<PathBuf> = names.iter().map(|name| self.object(name)).collect();
        let access = self.last();
        access.client().and_then(|client| access.wait(client.remove(&places)?))
    }

    fn upload_parts(
        &self,
        client: &Client,
        name: &str,
        file: &mut File,
        length: u64,
    ) -> io::Result<()> {
        let place = self.object(name);
        let mut upload = self.access.wait(client.upload(&place)?)?;
        let mut sent = VecDeque::new();
        let mut put = || {
            loop {
                let bytes = part_of(file)?;
                if bytes.is_empty() {
                    break;
                }
                sent.push_back(client.put_part(&place, &mut upload, bytes));
                if sent.len() == TOGETHER {
                    sent.pop_front().map_or(Ok(()), |part| self.access.wait(part))?;
                }
            }
            sent.drain(..).try_for_each(|part| self.access.wait(part))
        };
        let put = put();
        if let Err(failed) = put {
            // What was put and is not completed would stay, unseen and paid for.
            let last = self.last();
            let _ = last
                .client()
                .and_then(|client| last.wait(client.end_upload(&place, upload, false)));
            return Err(failed);
        }
        match self.access.wait(client.end_upload(&place, upload, true)) {
            // It was completed, and the answer was lost.
            Err(_) if self.access.ask_measure(&place).is_ok_and(|s| s.bytes == length) => Ok(()),
            ended => ended,
        }
    }
}

/// The next part of a file; none at its end.
fn part_of(file: &mut File) -> io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(PART);
    file.take(PART as u64).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

/// Whether an error is the answer that the condition of a request does not hold.
fn unmet(error: &io::Error, over: Over) -> bool {
    let failure = error.get_ref().and_then(|e| e.downcast_ref::<Failure>());
    let Some(Failure::Refused { refusal, .. }) = failure else { return false };
    match (&refusal.reason, over) {
        // 409: somebody puts it at this moment.
        (Reason::Status(409 | 412, _), Over::Nothing | Over::Only(_)) => true,
        // What was to be put over is gone.
        (Reason::Status(404, _), Over::Only(_)) => true,
        _ => false,
    }
}

impl Share for Bucket {
    fn place(&self, name: &str) -> PathBuf {
        self.object(name)
    }

    fn get(&self, name: &str) -> Result<Option<(Vec<u8>, String)>, Error> {
        let place = self.object(name);
        let found = self.access.client().and_then(|c| self.access.wait(c.get(&place)?));
        match found {
            Ok((bytes, version)) => Ok(Some((bytes.to_vec(), version))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("read", &place, e)),
        }
    }

    fn version(&self, name: &str) -> Result<Option<String>, Error> {
        let place = self.object(name);
        match self.access.ask_measure(&place) {
            Ok(stamp) => Ok(stamp.etag),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("read", &place, e)),
        }
    }

    fn put(&self, name: &str, bytes: &[u8], over: Over) -> Result<Option<String>, Error> {
        let place = self.object(name);
        let mode = match over {
            Over::Anything => PutMode::Overwrite,
            Over::Nothing => PutMode::Create,
            Over::Only(version) => {
                let e_tag = Some(version.to_owned());
                PutMode::Update(UpdateVersion { e_tag, version: None })
            }
        };
        let bytes = Bytes::copy_from_slice(bytes);
        let put = self.access.client().and_then(|c| self.access.wait(c.put(&place, bytes, mode)?));
        match put {
            Ok(version) => Ok(Some(version)),
            Err(e) if unmet(&e, over) => Ok(None),
            Err(e) => Err(Error::io("write", &place, e)),
        }
    }

    fn upload(&self, name: &str, from: &Path) -> Result<(), Error> {
        let mut file = File::open(from).map_err(|e| Error::io("read", from, e))?;
        let length = file.metadata().map_err(|e| Error::io("read", from, e))?.len();
        let mut send = || {
            let client = self.access.client()?;
            if length > PART as u64 {
                return self.upload_parts(client, name, &mut file, length);
            }
            let put = client.put(&self.object(name), part_of(&mut file)?, PutMode::Overwrite)?;
            self.access.wait(put).map(|_| ())
        };
        send().map_err(|e| Error::io("write", &self.object(name), e))
    }

    fn download(&self, name: &str, to: &Path) -> Result<(), Error> {
        let place = self.object(name);
        let mut from =
            self.access.stream(&place, None, u64::MAX).map_err(|e| Error::io("read", &place, e))?;
        let mut file = atomic::File::create(to)?;
        let mut block = vec![0; 1 << 18];
        loop {
            match from.read(&mut block).map_err(|e| Error::io("read", &place, e))? {
                0 => return file.commit(),
                n => file.write_all(&block[..n]).map_err(|e| Error::io("write", to, e))?,
            }
        }
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        let removed = self.remove_all(&[name.to_owned()]);
        removed.map_err(|e| Error::io("remove", &self.object(name), e))
    }
}
