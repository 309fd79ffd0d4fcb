//! Messages over MPI: the one that is installed, with its launcher (`mpirun`, or Slurm's `srun`) and
//! its networks. Only messages are used of it: sums are ours, so that they have the bits of threads,
//! and who is alive is known over the rendezvous.
//!
//! A message is a header of known tag and, if it has one, a payload in pieces that MPI's counts can
//! name. What is sent belongs to its request until MPI is done with it; nothing waits inside MPI.
#![allow(unsafe_code)]

use super::{Link, Message};
use crate::transport::Payload;
use std::collections::VecDeque;
use std::ffi::{c_char, c_int, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Of headers.
const HEADER: c_int = 0;
/// Of payloads.
const PAYLOAD: c_int = 1;
/// Bytes of a piece of a payload: below what a C int counts.
const PIECE: usize = 1 << 30;

// SAFETY: the signatures are those of `mpi.c`.
unsafe extern "C" {
    fn quipu_mpi_init(rank: *mut c_int, size: *mut c_int) -> c_int;
    fn quipu_mpi_finalize() -> c_int;
    fn quipu_mpi_broadcast(bytes: *mut c_void, count: c_int) -> c_int;
    fn quipu_mpi_send(
        bytes: *const c_void,
        count: c_int,
        to: c_int,
        tag: c_int,
        request: *mut *mut c_void,
    ) -> c_int;
    fn quipu_mpi_receive(
        bytes: *mut c_void,
        count: c_int,
        from: c_int,
        tag: c_int,
        request: *mut *mut c_void,
    ) -> c_int;
    fn quipu_mpi_test(request: *mut c_void, done: *mut c_int) -> c_int;
    fn quipu_mpi_probe(tag: c_int, has: *mut c_int, from: *mut c_int, count: *mut c_int) -> c_int;
    fn quipu_mpi_error(code: c_int, text: *mut c_char) -> c_int;
    fn quipu_mpi_longest_error() -> c_int;
}

/// This process in MPI's world.
pub(crate) struct Mpi {
    rank: usize,
    size: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sending: Vec<Sending>,
    coming: VecDeque<Coming>,
}

/// A request of MPI's; null once done.
struct Request(*mut c_void);

// SAFETY: MPI was initialised for calls from any thread, one at a time, and all calls that take a
// request are made under the lock of `Mpi::state`.
unsafe impl Send for Request {}

/// Bytes that MPI reads until their requests are done.
struct Sending {
    requests: Vec<Request>,
    _bytes: (Vec<u8>, Payload),
}

/// Bytes that MPI writes until their requests are done.
struct Coming {
    requests: Vec<Request>,
    from: usize,
    header: Vec<u8>,
    payload: Vec<u8>,
}

fn check(code: c_int) -> Result<(), String> {
    if code == 0 {
        return Ok(());
    }
    // SAFETY: takes nothing.
    let longest = unsafe { quipu_mpi_longest_error() };
    let mut text = vec![0u8; usize::try_from(longest).unwrap_or(0) + 1];
    // SAFETY: `text` has room for the longest text.
    let length = unsafe { quipu_mpi_error(code, text.as_mut_ptr().cast()) };
    text.truncate(usize::try_from(length).unwrap_or(0));
    Err(format!("MPI: {}", String::from_utf8_lossy(&text)))
}

impl Request {
    fn is_done(&mut self) -> Result<bool, String> {
        if self.0.is_null() {
            return Ok(true);
        }
        let mut done = 0;
        // SAFETY: the request came from MPI, its bytes are still there, and it is tested no more
        // once it is done.
        check(unsafe { quipu_mpi_test(self.0, &mut done) })?;
        if done != 0 {
            self.0 = std::ptr::null_mut();
        }
        Ok(done != 0)
    }
}

fn all_done(requests: &mut [Request]) -> Result<bool, String> {
    let mut all = true;
    for request in requests {
        all &= request.is_done()?;
    }
    Ok(all)
}

fn send(bytes: &[u8], to: usize, tag: c_int) -> Result<Vec<Request>, String> {
    let piece = |piece: &[u8]| {
        let mut request = std::ptr::null_mut();
        // SAFETY: who calls keeps `bytes` until the request is done.
        let code = unsafe {
            let (at, count) = (piece.as_ptr().cast(), piece.len() as c_int);
            quipu_mpi_send(at, count, to as c_int, tag, &mut request)
        };
        check(code).map(|()| Request(request))
    };
    bytes.chunks(PIECE).map(piece).collect()
}

fn receive(bytes: &mut [u8], from: usize, tag: c_int) -> Result<Vec<Request>, String> {
    let piece = |piece: &mut [u8]| {
        let mut request = std::ptr::null_mut();
        // SAFETY: who calls keeps `bytes` until the request is done, and does not touch them.
        let code = unsafe {
            let (at, count) = (piece.as_mut_ptr().cast(), piece.len() as c_int);
            quipu_mpi_receive(at, count, from as c_int, tag, &mut request)
        };
        check(code).map(|()| Request(request))
    };
    bytes.chunks_mut(PIECE).map(piece).collect()
}

/// A header that has come: all of it is there, so that this ends at once.
fn whole(mut header: Vec<u8>, from: usize) -> Result<Vec<u8>, String> {
    let received = receive(&mut header, from, HEADER).and_then(|mut requests| {
        while !all_done(&mut requests)? {}
        Ok(())
    });
    match received {
        Ok(()) => Ok(header),
        Err(what) => {
            std::mem::forget(header);
            Err(what)
        }
    }
}

impl Mpi {
    /// Enters MPI's world; once in a process.
    ///
    /// # Errors
    /// What MPI says.
    pub(crate) fn enter() -> Result<Mpi, String> {
        let (mut rank, mut size) = (0, 0);
        // SAFETY: both are written to.
        check(unsafe { quipu_mpi_init(&mut rank, &mut size) })?;
        let whole = |n: c_int| usize::try_from(n).map_err(|e| e.to_string());
        Ok(Mpi { rank: whole(rank)?, size: whole(size)?, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Lets go of what has been sent.
    fn sent(&mut self) -> Result<(), String> {
        let mut i = 0;
        while i < self.sending.len() {
            match all_done(&mut self.sending[i].requests)? {
                true => drop(self.sending.swap_remove(i)),
                false => i += 1,
            }
        }
        Ok(())
    }

    /// Begins to receive the next message, if there is one.
    fn begin(&mut self) -> Result<bool, String> {
        let (mut has, mut from, mut count) = (0, 0, 0);
        // SAFETY: all are written to.
        check(unsafe { quipu_mpi_probe(HEADER, &mut has, &mut from, &mut count) })?;
        if has == 0 {
            return Ok(false);
        }
        let (from, count) = (from as usize, count as usize);
        let header = whole(vec![0; count], from)?;
        let Some((length, header)) = header.split_first_chunk() else {
            return Err(format!("rank {from} sent a header of {count} bytes"));
        };
        let length = u64::from_le_bytes(*length) as usize;
        let mut payload = Vec::new();
        payload
            .try_reserve_exact(length)
            .map_err(|e| format!("no memory for {length} bytes from rank {from}: {e}"))?;
        payload.resize(length, 0);
        match receive(&mut payload, from, PAYLOAD) {
            Ok(requests) => {
                let header = header.to_vec();
                self.coming.push_back(Coming { requests, from, header, payload });
                Ok(true)
            }
            Err(what) => {
                // what was begun may still be written
                std::mem::forget(payload);
                Err(what)
            }
        }
    }
}

impl Link for Mpi {
    fn place(&self) -> (usize, usize) {
        (self.rank, self.size)
    }

    fn send(&self, to: usize, header: Vec<u8>, payload: Payload) -> Result<(), String> {
        let mut state = self.state();
        let mut whole = (payload.bytes().len() as u64).to_le_bytes().to_vec();
        whole.extend(header);
        let requests = send(&whole, to, HEADER).and_then(|mut requests| {
            requests.extend(send(payload.bytes(), to, PAYLOAD)?);
            Ok(requests)
        });
        let bytes = (whole, payload);
        match requests {
            Ok(requests) => state.sending.push(Sending { requests, _bytes: bytes }),
            Err(what) => {
                // what was begun may still be read
                std::mem::forget(bytes);
                return Err(what);
            }
        }
        state.sent()
    }

    fn poll(&self) -> Result<Option<Message>, String> {
        let mut state = self.state();
        state.sent()?;
        while state.begin()? {}
        let mut done = None;
        for (i, coming) in state.coming.iter_mut().enumerate() {
            if all_done(&mut coming.requests)? {
                done = Some(i);
                break;
            }
        }
        let coming = done.and_then(|i| state.coming.remove(i));
        Ok(coming.map(|coming| (coming.from, coming.header, coming.payload)))
    }

    fn first_tells(&self, bytes: Vec<u8>) -> Result<Vec<u8>, String> {
        let _one_at_a_time = self.state();
        let mut length = (bytes.len() as u64).to_le_bytes();
        // SAFETY: eight bytes.
        check(unsafe { quipu_mpi_broadcast(length.as_mut_ptr().cast(), 8) })?;
        let mut bytes = bytes;
        bytes.resize(u64::from_le_bytes(length) as usize, 0);
        let count = c_int::try_from(bytes.len()).map_err(|e| e.to_string())?;
        // SAFETY: so many bytes.
        check(unsafe { quipu_mpi_broadcast(bytes.as_mut_ptr().cast(), count) })?;
        Ok(bytes)
    }

    fn is_idle(&self) -> Result<bool, String> {
        let mut state = self.state();
        state.sent()?;
        Ok(state.sending.is_empty())
    }

    fn finish(&self) {
        let _one_at_a_time = self.state();
        // SAFETY: takes nothing. What it may say changes nothing any more.
        let _ = unsafe { quipu_mpi_finalize() };
    }
}

/// Addresses of this host at which others may reach it: those of its networks before its own.
pub(crate) fn hosts() -> Result<Vec<std::net::IpAddr>, String> {
    if let Ok(told) = std::env::var(super::ADDRESS) {
        let wrong = |e| format!("{} is '{told}': {e}; expected an IP address", super::ADDRESS);
        return Ok(vec![told.trim().parse().map_err(wrong)?]);
    }
    let found = if_addrs::get_if_addrs().map_err(|e| format!("addresses of this host: {e}"))?;
    let mut hosts: Vec<_> =
        found.iter().map(if_addrs::Interface::ip).filter(|ip| ip.is_ipv4()).collect();
    hosts.sort_by_key(std::net::IpAddr::is_loopback);
    Ok(hosts)
}
