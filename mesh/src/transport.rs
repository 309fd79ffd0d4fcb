//! How the bytes of a collective travel: one primitive, "everybody hands in and gets all".
//!
//! The `thread` transport keeps ranks as threads of one process (the default: deterministic,
//! nothing to install). A rank that fails, leaves or calls something else is noticed by the others,
//! who get an error; nobody waits for what cannot come. No clock is involved: when every rank
//! waits, that is a deadlock and is said at once.
//! What it is not: arithmetic. Sums are made in rank order by `group.rs`, so that every transport
//! gives the same bits.

use crate::error::{Error, Place as Where};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What a rank calls: all ranks of a group must agree on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The operation, as `all_reduce`.
    pub operation: &'static str,
    /// Payload bytes each rank hands in (0 for ranks that only receive).
    pub bytes: usize,
    /// Element type of the payload, or an argument all must share, as text.
    pub detail: String,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes {}", self.operation, self.bytes, self.detail)
    }
}

/// One rank's place in one group.
#[derive(Debug)]
pub struct Seat {
    /// The group's name, the same on all of its ranks and different from every other group's.
    pub group: Arc<str>,
    /// World ranks of the members, ascending.
    pub members: Vec<usize>,
    /// This rank's index among the members.
    pub index: usize,
}

impl Seat {
    /// This rank in the world.
    pub fn rank(&self) -> usize {
        self.members[self.index]
    }

    /// For errors: this rank in call number `sequence`.
    pub fn place(&self, sequence: u64, operation: &'static str) -> Box<Where> {
        Box::new(Where { rank: self.rank(), group: self.group.to_string(), sequence, operation })
    }
}

/// Payloads of all members of a group, in rank order.
pub type Payloads = Vec<Arc<Vec<u8>>>;

/// Moves bytes between the ranks of a group.
pub trait Transport: Send + Sync {
    /// Hands in `payload` for call number `sequence` of the seat's group; returns everybody's.
    ///
    /// # Errors
    /// Another member called something else, failed, left, or all ranks wait.
    fn exchange(
        &self,
        seat: &Seat,
        sequence: u64,
        call: Call,
        payload: Vec<u8>,
    ) -> Result<Payloads, Error>;
}

/// A world whose ranks are threads of this process.
pub struct Threads {
    state: Mutex<State>,
    changed: Condvar,
}

type Key = (Arc<str>, u64);

#[derive(Default)]
struct State {
    /// The first rank that failed, and with what.
    failed: Option<(usize, String)>,
    ranks: Vec<Place>,
    meetings: HashMap<Key, Meeting>,
}

#[derive(Clone, PartialEq)]
enum Place {
    Working,
    Waiting(Key, &'static str),
    Finished,
}

struct Meeting {
    handed: Vec<Option<(Call, Arc<Vec<u8>>)>>,
    taken: usize,
}

impl Meeting {
    fn complete(&self) -> bool {
        self.handed.iter().all(Option::is_some)
    }
}

impl Threads {
    /// A world of `ranks` threads that have not begun.
    pub fn new(ranks: usize) -> Threads {
        let state = State { ranks: vec![Place::Working; ranks], ..State::default() };
        Threads { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Says that a rank is done, well or not; whoever waits for it learns that.
    pub fn finish(&self, rank: usize, failure: Option<String>) {
        let mut state = self.lock();
        state.ranks[rank] = Place::Finished;
        if let Some(why) = failure {
            state.failed.get_or_insert((rank, why));
        }
        drop(state);
        self.changed.notify_all();
    }

    /// The first rank that failed and why, if one did.
    pub fn failure(&self) -> Option<(usize, String)> {
        self.lock().failed.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn hand_in(&mut self, seat: &Seat, key: &Key, call: &Call, payload: Vec<u8>) {
        let empty = || Meeting { handed: vec![None; seat.members.len()], taken: 0 };
        let meeting = self.meetings.entry(key.clone()).or_insert_with(empty);
        meeting.handed[seat.index] = Some((call.clone(), Arc::new(payload)));
    }

    /// Everybody waits, and none of the meetings waited for is complete.
    fn is_stuck(&self) -> bool {
        self.ranks.iter().all(|place| match place {
            Place::Working => false,
            Place::Finished => true,
            Place::Waiting(key, _) => self.meetings.get(key).is_some_and(|m| !m.complete()),
        })
    }

    fn places(&self) -> String {
        let one = |(rank, place): (usize, &Place)| match place {
            Place::Working => format!("{rank} works"),
            Place::Finished => format!("{rank} has finished"),
            Place::Waiting((group, sequence), what) => {
                format!("{rank} in {group} call {sequence} ({what})")
            }
        };
        self.ranks.iter().enumerate().map(one).collect::<Vec<_>>().join(", ")
    }

    /// Why `seat` waits in vain, if it does.
    fn hopeless(&self, seat: &Seat, key: &Key, call: &Call) -> Option<Error> {
        let at = seat.place(key.1, call.operation);
        if let Some((failed, why)) = &self.failed {
            return Some(Error::Poisoned { at, failed: *failed, why: why.clone() });
        }
        let meeting = self.meetings.get(key)?;
        let missing = |i: &usize| meeting.handed[*i].is_none();
        let gone = (0..seat.members.len())
            .filter(missing)
            .find(|i| self.ranks[seat.members[*i]] == Place::Finished);
        if let Some(index) = gone {
            let absent = seat.members[index];
            return Some(Error::Absent { at, absent });
        }
        let places = self.is_stuck().then(|| self.places())?;
        Some(Error::Deadlock { at, places })
    }

    /// Takes everybody's payload out of a complete meeting.
    fn take(&mut self, seat: &Seat, key: &Key, call: &Call) -> Result<Payloads, Error> {
        let Some(meeting) = self.meetings.get_mut(key) else {
            // cannot be: this rank's own payload is in it until all took theirs
            return Ok(Vec::new());
        };
        meeting.taken += 1;
        let calls: Vec<_> = meeting.handed.iter().flatten().cloned().collect();
        if meeting.taken == seat.members.len() {
            self.meetings.remove(key);
        }
        if let Some(other) = calls.iter().position(|(theirs, _)| theirs != call) {
            return Err(Error::Mismatch {
                at: seat.place(key.1, call.operation),
                ours: call.to_string(),
                other: seat.members[other],
                theirs: calls[other].0.to_string(),
            });
        }
        Ok(calls.into_iter().map(|(_, payload)| payload).collect())
    }
}

impl Transport for Threads {
    fn exchange(
        &self,
        seat: &Seat,
        sequence: u64,
        call: Call,
        payload: Vec<u8>,
    ) -> Result<Payloads, Error> {
        let key = (seat.group.clone(), sequence);
        let mut state = self.lock();
        state.hand_in(seat, &key, &call, payload);
        if state.meetings[&key].complete() {
            self.changed.notify_all();
            return state.take(seat, &key, &call);
        }
        state.ranks[seat.rank()] = Place::Waiting(key.clone(), call.operation);
        loop {
            if state.meetings.get(&key).is_none_or(Meeting::complete) {
                state.ranks[seat.rank()] = Place::Working;
                return state.take(seat, &key, &call);
            }
            if let Some(error) = state.hopeless(seat, &key, &call) {
                state.failed.get_or_insert((seat.rank(), error.to_string()));
                state.ranks[seat.rank()] = Place::Working;
                self.changed.notify_all();
                return Err(error);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
