//! Ranks as processes, on one host or many: the transport over whatever moves messages between them
//! (a [`Link`]: MPI), with the rules of the `thread` transport. What a rank hands in is sent to each
//! member at once, the receiver sums in rank order: the same bits as among threads.
//!
//! A rank that dies, hangs or fails is told by the rendezvous (`rendezvous.rs`); one that lives and does not make
//! a call is given up after [`Patience::late`], with its number, by whoever waits for it.
//! What it is not: a launcher. `mpirun` or Slurm starts the processes.

#[cfg(feature = "mpi")]
pub(crate) mod mpi;
pub(crate) mod rendezvous;
#[cfg(test)]
mod tests;

use crate::error::{Error, Place};
use crate::transport::{Call, Handed, Letter, Payload, Payloads, Seat, Transport};
use rendezvous::{Address, Rendezvous};
pub use rendezvous::{Patience, understood};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The environment variable with an address of rank 0's host, where ranks do not find it themselves.
pub const ADDRESS: &str = "QUIPU_RENDEZVOUS";

/// A message that has come: from whom, its header and its payload.
pub type Message = (usize, Vec<u8>, Vec<u8>);

/// What moves messages between processes.
pub trait Link: Send + Sync {
    /// This process, and how many there are.
    fn place(&self) -> (usize, usize);

    /// Sends a message to another rank; does not wait. Messages between two arrive in order.
    ///
    /// # Errors
    /// What the system says.
    fn send(&self, to: usize, header: Vec<u8>, payload: Payload) -> Result<(), String>;

    /// The next message that has come, if one has.
    ///
    /// # Errors
    /// What the system says.
    fn poll(&self) -> Result<Option<Message>, String>;

    /// Gives everybody what rank 0 has; all call it, before anything else.
    ///
    /// # Errors
    /// What the system says.
    fn first_tells(&self, bytes: Vec<u8>) -> Result<Vec<u8>, String>;

    /// Whether nothing that was sent is still on its way out of this process.
    ///
    /// # Errors
    /// What the system says.
    fn is_idle(&self) -> Result<bool, String>;

    /// Ends it in order; all ranks do.
    fn finish(&self);
}

/// What goes before a payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Envelope {
    key: Key,
    /// The call as text: ranks that differ in it differ in the call.
    call: String,
    /// Of the payload where it is only counted.
    counted: Option<usize>,
}

/// Which message of a rank.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Key {
    /// The mesh it belongs to: a process may have several, one after the other.
    epoch: u64,
    group: String,
    /// Of letters.
    tag: Option<u64>,
    sequence: u64,
}

/// Messages that have come and were not taken: of a key, by world rank.
type Come = HashMap<Key, BTreeMap<usize, (String, Payload)>>;

/// This process among those of a run.
pub struct Processes {
    link: Box<dyn Link>,
    rank: usize,
    size: usize,
    rendezvous: Rendezvous,
    patience: Patience,
    come: Mutex<Come>,
    epochs: AtomicU64,
}

impl Processes {
    /// Meets the other ranks of `link`. Rank 0 is reached at one of `hosts`, which it alone knows.
    ///
    /// # Errors
    /// [`Error::Rendezvous`].
    pub fn meet(
        link: Box<dyn Link>,
        hosts: Vec<IpAddr>,
        patience: Patience,
    ) -> Result<Arc<Processes>, Error> {
        let (rank, size) = link.place();
        let fail = |what: String| Error::Rendezvous { rank, what };
        let own = match rank {
            0 => serde_json::to_vec(&Rendezvous::listen(size, hosts, patience)?)
                .map_err(|e| fail(e.to_string()))?,
            _ => Vec::new(),
        };
        let told = link.first_tells(own).map_err(fail)?;
        let address: Address = serde_json::from_slice(&told)
            .map_err(|e| fail(format!("rank 0 told no address: {e}")))?;
        let rendezvous = Rendezvous::join(rank, &address, patience)?;
        let (come, epochs) = (Mutex::default(), AtomicU64::new(0));
        Ok(Arc::new(Processes { link, rank, size, rendezvous, patience, come, epochs }))
    }

    /// This rank.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The transport of a mesh; all ranks ask for one at the same point. `patient`: however long it
    /// takes, as long as everybody lives.
    pub fn transport(self: &Arc<Self>, patient: bool) -> Arc<dyn Transport> {
        let epoch = self.epochs.fetch_add(1, Ordering::Relaxed);
        Arc::new(Epoch { processes: self.clone(), epoch, patient })
    }

    /// Tells all ranks that this one failed.
    pub fn fail(&self, why: &str) {
        self.rendezvous.fail(why, false);
    }

    /// Ends in order: sees off what was sent, says so, and lets the others say what they have to.
    pub fn leave(&self) {
        let (mut turns, rank, group) = (0, self.rank(), "processes".to_owned());
        let at = Place { rank, group, sequence: 0, operation: "leave" };
        while self.rendezvous.failed().is_none() && self.link.is_idle() == Ok(false) {
            // what nobody asked for is taken in all the same: others wait until it is gone
            let _ = self.drain(&at);
            turns += 1;
            pause(turns);
        }
        self.rendezvous.leave();
        if self.rendezvous.failed().is_none() {
            self.link.finish();
        }
    }

    fn come(&self) -> MutexGuard<'_, Come> {
        self.come.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what has come.
    fn drain(&self, at: &Place) -> Result<bool, Error> {
        let link = |what| Error::Link { at: Box::new(at.clone()), what };
        let mut any = false;
        while let Some((from, header, bytes)) = self.link.poll().map_err(link)? {
            let envelope: Envelope = serde_json::from_slice(&header)
                .map_err(|e| link(format!("rank {from} sent what is no message of ours: {e}")))?;
            let payload = envelope.counted.map_or_else(|| Payload::new(bytes), Payload::counted);
            self.come().entry(envelope.key).or_default().insert(from, (envelope.call, payload));
            any = true;
        }
        Ok(any)
    }

    fn poisoned(&self, at: &Place) -> Result<(), Error> {
        match self.rendezvous.failed() {
            None => Ok(()),
            Some((failed, why)) => Err(Error::Poisoned { at: Box::new(at.clone()), failed, why }),
        }
    }

    /// Waits until all of `from` (world ranks) have sent a message of `key`; takes them.
    fn take(
        &self,
        at: &Place,
        (key, from): (&Key, &[usize]),
        patient: bool,
    ) -> Result<Vec<(String, Payload)>, Error> {
        let began = Instant::now();
        let mut turns = 0u32;
        let taken = loop {
            let any = self.drain(at)?;
            if let Some(taken) = self.take_now(key, from) {
                break taken;
            }
            self.poisoned(at)?;
            if turns == 1 {
                self.rendezvous.set_waiting(true);
            }
            if !patient && began.elapsed() > self.patience.late {
                return Err(self.late(at, key, from));
            }
            turns = if any { 0 } else { turns.saturating_add(1) };
            pause(turns);
        };
        self.rendezvous.set_waiting(false);
        Ok(taken)
    }

    fn take_now(&self, key: &Key, from: &[usize]) -> Option<Vec<(String, Payload)>> {
        let mut come = self.come();
        let here = come.get_mut(key)?;
        if !from.iter().all(|rank| here.contains_key(rank)) {
            return None;
        }
        let taken = from.iter().filter_map(|rank| here.remove(rank)).collect();
        if here.is_empty() {
            come.remove(key);
        }
        Some(taken)
    }

    fn late(&self, at: &Place, key: &Key, from: &[usize]) -> Error {
        let come = self.come();
        let here = come.get(key);
        let is_late = |rank: &&usize| !here.is_some_and(|here| here.contains_key(rank));
        let ranks = from.iter().filter(is_late).copied().collect();
        let seconds = self.patience.late.as_secs_f64();
        let error = Error::Late { at: Box::new(at.clone()), ranks, seconds };
        self.rendezvous.fail(&error.to_string(), true);
        error
    }

    fn send(
        &self,
        at: &Place,
        to: usize,
        (key, call): (Key, &Call),
        payload: Payload,
    ) -> Result<(), Error> {
        let call = call.to_string();
        if to == self.rank {
            self.come().entry(key).or_default().insert(to, (call, payload));
            return Ok(());
        }
        let counted = (payload.bytes().len() < payload.len()).then_some(payload.len());
        let header = serde_json::to_vec(&Envelope { key, call, counted });
        let sent = header.map_err(|e| e.to_string());
        let sent = sent.and_then(|header| self.link.send(to, header, payload));
        sent.map_err(|what| Error::Link { at: Box::new(at.clone()), what })
    }
}

/// Between two looks: first the processor is only offered to others, then left to them.
fn pause(turns: u32) {
    match turns {
        0..100 => thread::yield_now(),
        100..1000 => thread::sleep(Duration::from_micros(20)),
        _ => thread::sleep(Duration::from_micros(500)),
    }
}

/// The transport of one mesh.
struct Epoch {
    processes: Arc<Processes>,
    epoch: u64,
    patient: bool,
}

impl Epoch {
    fn key(&self, seat: &Seat, tag: Option<u64>, sequence: u64) -> Key {
        Key { epoch: self.epoch, group: seat.group.to_string(), tag, sequence }
    }
}

impl Transport for Epoch {
    fn post(&self, seat: &Seat, sequence: u64, call: &Call, handed: Handed) -> Result<(), Error> {
        let at = seat.place(sequence, call.operation);
        self.processes.poisoned(&at)?;
        for (i, member) in seat.members.iter().enumerate() {
            let key = self.key(seat, None, sequence);
            self.processes.send(&at, *member, (key, call), handed.of(i))?;
        }
        Ok(())
    }

    fn collect(&self, seat: &Seat, sequence: u64, call: &Call) -> Result<Payloads, Error> {
        let at = seat.place(sequence, call.operation);
        let key = self.key(seat, None, sequence);
        let all = self.processes.take(&at, (&key, &seat.members), self.patient)?;
        let ours = call.to_string();
        if let Some(other) = all.iter().position(|(theirs, _)| *theirs != ours) {
            let (other, theirs) = (seat.members[other], all[other].0.clone());
            return Err(Error::Mismatch { at, ours, other, theirs });
        }
        Ok(all.into_iter().map(|(_, payload)| payload).collect())
    }

    fn send(&self, seat: &Seat, to: Letter, call: &Call, payload: Payload) -> Result<(), Error> {
        let at = seat.place(to.sequence, call.operation);
        self.processes.poisoned(&at)?;
        let key = self.key(seat, Some(to.tag), to.sequence);
        self.processes.send(&at, seat.members[to.member], (key, call), payload)
    }

    fn receive(&self, seat: &Seat, from: Letter, call: &Call) -> Result<Payload, Error> {
        let at = seat.place(from.sequence, call.operation);
        let (key, other) =
            (self.key(seat, Some(from.tag), from.sequence), seat.members[from.member]);
        let letters = self.processes.take(&at, (&key, &[other]), self.patient)?;
        let (ours, none) = (call.to_string(), (String::new(), Payload::default()));
        // one was asked for, so that one is there
        let (theirs, payload) = letters.into_iter().next().unwrap_or(none);
        match theirs == ours {
            true => Ok(payload),
            false => Err(Error::Mismatch { at, ours, other, theirs }),
        }
    }
}
