//! How bytes travel between ranks: everybody hands in something for everybody and takes what is for
//! it, or one rank sends a letter to another.
//!
//! Handing in never waits, taking does: what lies between the two overlaps with whatever the rank
//! computes. The `thread` transport keeps ranks as threads of one process (the default:
//! deterministic, nothing to install). A rank that fails, leaves or calls something else is noticed
//! by the others, who get an error; nobody waits for what cannot come. No clock is involved: when
//! every rank waits, that is a deadlock and is said at once.
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

/// Bytes on their way, or their number where the device holds none. Clones and parts share memory.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    bytes: Arc<Vec<u8>>,
    /// Where it begins in them.
    start: usize,
    length: usize,
}

impl PartialEq for Payload {
    fn eq(&self, other: &Payload) -> bool {
        (self.length, self.bytes()) == (other.length, other.bytes())
    }
}

impl Eq for Payload {}

impl Payload {
    /// These bytes.
    pub fn new(bytes: Vec<u8>) -> Payload {
        Payload { start: 0, length: bytes.len(), bytes: Arc::new(bytes) }
    }

    /// So many bytes that are not there.
    pub fn counted(length: usize) -> Payload {
        Payload { length, ..Payload::default() }
    }

    /// How many there are, or would be.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// What is there of them.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start..self.start + self.length).unwrap_or_default()
    }

    /// Some of them.
    pub fn part(&self, range: std::ops::Range<usize>) -> Payload {
        match range.end <= self.bytes().len() {
            true => Payload {
                bytes: self.bytes.clone(),
                start: self.start + range.start,
                length: range.len(),
            },
            false => Payload::counted(range.len()),
        }
    }

    /// All of several, one after the other.
    pub fn join(parts: &[Payload]) -> Payload {
        if let [one] = parts {
            return one.clone();
        }
        let bytes: Vec<&[u8]> = parts.iter().map(Payload::bytes).collect();
        let length = parts.iter().map(Payload::len).sum();
        Payload { bytes: Arc::new(bytes.concat()), start: 0, length }
    }
}

/// Payloads of all members of a group, in rank order.
pub type Payloads = Vec<Payload>;

/// What a rank hands in to a call.
#[derive(Clone, Debug)]
pub enum Handed {
    /// The same for every member.
    Same(Payload),
    /// One for each member, in rank order.
    Each(Payloads),
}

impl Handed {
    /// Bytes of all that is handed in.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Handed::Same(payload) => payload.len(),
            Handed::Each(payloads) => payloads.iter().map(Payload::len).sum(),
        }
    }

    pub(crate) fn of(&self, index: usize) -> Payload {
        match self {
            Handed::Same(payload) => payload.clone(),
            Handed::Each(payloads) => payloads[index].clone(),
        }
    }
}

/// Which letter: to or from whom, and which of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Letter {
    /// The other end: its number in the group.
    pub member: usize,
    /// What it is about; letters of different tags do not wait for each other.
    pub tag: u64,
    /// Letters of this tag between the two before it.
    pub sequence: u64,
}

/// Moves bytes between the ranks of a group.
pub trait Transport: Send + Sync {
    /// Hands in what this rank has for call number `sequence` of the seat's group; does not wait.
    ///
    /// # Errors
    /// A world that has failed.
    fn post(&self, seat: &Seat, sequence: u64, call: &Call, handed: Handed) -> Result<(), Error>;

    /// Takes what every member handed in to that call for this rank, in rank order; waits for it.
    ///
    /// # Errors
    /// Another member called something else, failed, left, or all ranks wait.
    fn collect(&self, seat: &Seat, sequence: u64, call: &Call) -> Result<Payloads, Error>;

    /// Sends a letter; does not wait.
    ///
    /// # Errors
    /// A world that has failed.
    fn send(&self, seat: &Seat, to: Letter, call: &Call, payload: Payload) -> Result<(), Error>;

    /// Waits until a letter is gone: at once where it was copied.
    ///
    /// # Errors
    /// A world that has failed.
    fn sent(&self, _seat: &Seat, _to: Letter) -> Result<(), Error> {
        Ok(())
    }

    /// Takes a letter; waits for it.
    ///
    /// # Errors
    /// As [`Transport::collect`].
    fn receive(&self, seat: &Seat, from: Letter, call: &Call) -> Result<Payload, Error>;
}

/// A world whose ranks are threads of this process.
pub struct Threads {
    state: Mutex<State>,
    changed: Condvar,
}

/// A call of a group.
type Key = (Arc<str>, u64);
/// A letter: its group, who sent it (number of a member), and which it is, by who receives it.
type Address = (Arc<str>, usize, Letter);

#[derive(Default)]
struct State {
    /// The first rank that failed, and with what.
    failed: Option<(usize, String)>,
    ranks: Vec<Place>,
    meetings: HashMap<Key, Meeting>,
    letters: HashMap<Address, (Call, Payload)>,
}

/// What a rank waits for.
#[derive(Clone, PartialEq)]
enum Awaited {
    Meeting(Key),
    Letter(Address),
}

impl Awaited {
    fn group(&self) -> &str {
        match self {
            Awaited::Meeting((group, _)) | Awaited::Letter((group, ..)) => group,
        }
    }

    fn sequence(&self) -> u64 {
        match self {
            Awaited::Meeting((_, sequence)) => *sequence,
            Awaited::Letter((.., letter)) => letter.sequence,
        }
    }
}

#[derive(Clone, PartialEq)]
enum Place {
    Working,
    Waiting(Awaited, &'static str),
    Finished,
}

struct Meeting {
    handed: Vec<Option<(Call, Handed)>>,
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
    /// Whether what is waited for has come.
    fn has(&self, awaited: &Awaited) -> bool {
        match awaited {
            Awaited::Meeting(key) => self.meetings.get(key).is_some_and(Meeting::complete),
            Awaited::Letter(address) => self.letters.contains_key(address),
        }
    }

    /// Everybody waits, and nothing that is waited for has come.
    fn is_stuck(&self) -> bool {
        self.ranks.iter().all(|place| match place {
            Place::Working => false,
            Place::Finished => true,
            Place::Waiting(awaited, _) => !self.has(awaited),
        })
    }

    fn places(&self) -> String {
        let one = |(rank, place): (usize, &Place)| match place {
            Place::Working => format!("{rank} works"),
            Place::Finished => format!("{rank} has finished"),
            Place::Waiting(awaited, what) => {
                format!("{rank} in {} call {} ({what})", awaited.group(), awaited.sequence())
            }
        };
        self.ranks.iter().enumerate().map(one).collect::<Vec<_>>().join(", ")
    }

    /// The members that have not done what is waited for.
    fn missing(&self, awaited: &Awaited) -> Vec<usize> {
        match awaited {
            Awaited::Letter((_, from, ..)) => vec![*from],
            Awaited::Meeting(key) => {
                let handed = self.meetings.get(key).map(|meeting| &meeting.handed[..]);
                let absent = handed.unwrap_or_default().iter().enumerate();
                absent.filter(|(_, handed)| handed.is_none()).map(|(i, _)| i).collect()
            }
        }
    }

    /// Why `seat` waits in vain, if it does.
    fn hopeless(&self, seat: &Seat, awaited: &Awaited, call: &Call) -> Option<Error> {
        let at = seat.place(awaited.sequence(), call.operation);
        if let Some(error) = self.poisoned(&at) {
            return Some(error);
        }
        let missing = self.missing(awaited).into_iter().map(|member| seat.members[member]);
        let mut gone = missing.filter(|rank| self.ranks[*rank] == Place::Finished);
        if let Some(absent) = gone.next() {
            return Some(Error::Absent { at, absent });
        }
        let places = self.is_stuck().then(|| self.places())?;
        Some(Error::Deadlock { at, places })
    }

    fn poisoned(&self, at: &Where) -> Option<Error> {
        let (failed, why) = self.failed.clone()?;
        Some(Error::Poisoned { at: Box::new(at.clone()), failed, why })
    }

    /// Takes what is for `seat` out of a complete meeting.
    fn take(&mut self, seat: &Seat, key: &Key, call: &Call) -> Result<Payloads, Error> {
        let Some(meeting) = self.meetings.get_mut(key) else {
            // cannot be: what this rank handed in is in it until all took theirs
            return Ok(Vec::new());
        };
        meeting.taken += 1;
        let all: Vec<_> = meeting.handed.iter().flatten().cloned().collect();
        if meeting.taken == seat.members.len() {
            self.meetings.remove(key);
        }
        if let Some(other) = all.iter().position(|(theirs, _)| theirs != call) {
            return Err(mismatch(seat, key.1, call, (other, &all[other].0)));
        }
        Ok(all.iter().map(|(_, handed)| handed.of(seat.index)).collect())
    }
}

fn mismatch(seat: &Seat, sequence: u64, call: &Call, (member, theirs): (usize, &Call)) -> Error {
    Error::Mismatch {
        at: seat.place(sequence, call.operation),
        ours: call.to_string(),
        other: seat.members[member],
        theirs: theirs.to_string(),
    }
}

impl Threads {
    /// Waits until what is awaited is there.
    fn wait(
        &self,
        seat: &Seat,
        awaited: &Awaited,
        call: &Call,
    ) -> Result<MutexGuard<'_, State>, Error> {
        let mut state = self.lock();
        while !state.has(awaited) {
            state.ranks[seat.rank()] = Place::Waiting(awaited.clone(), call.operation);
            if let Some(error) = state.hopeless(seat, awaited, call) {
                state.failed.get_or_insert((seat.rank(), error.to_string()));
                state.ranks[seat.rank()] = Place::Working;
                self.changed.notify_all();
                return Err(error);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.ranks[seat.rank()] = Place::Working;
        Ok(state)
    }
}

impl Transport for Threads {
    fn post(&self, seat: &Seat, sequence: u64, call: &Call, handed: Handed) -> Result<(), Error> {
        let mut state = self.lock();
        if let Some(error) = state.poisoned(&seat.place(sequence, call.operation)) {
            return Err(error);
        }
        let empty = || Meeting { handed: vec![None; seat.members.len()], taken: 0 };
        let meeting = state.meetings.entry((seat.group.clone(), sequence)).or_insert_with(empty);
        meeting.handed[seat.index] = Some((call.clone(), handed));
        if meeting.complete() {
            self.changed.notify_all();
        }
        Ok(())
    }

    fn collect(&self, seat: &Seat, sequence: u64, call: &Call) -> Result<Payloads, Error> {
        let key = (seat.group.clone(), sequence);
        self.wait(seat, &Awaited::Meeting(key.clone()), call)?.take(seat, &key, call)
    }

    fn send(&self, seat: &Seat, to: Letter, call: &Call, payload: Payload) -> Result<(), Error> {
        let mut state = self.lock();
        if let Some(error) = state.poisoned(&seat.place(to.sequence, call.operation)) {
            return Err(error);
        }
        state.letters.insert((seat.group.clone(), seat.index, to), (call.clone(), payload));
        self.changed.notify_all();
        Ok(())
    }

    fn receive(&self, seat: &Seat, from: Letter, call: &Call) -> Result<Payload, Error> {
        let here = Letter { member: seat.index, ..from };
        let address = (seat.group.clone(), from.member, here);
        let mut state = self.wait(seat, &Awaited::Letter(address.clone()), call)?;
        let Some((theirs, payload)) = state.letters.remove(&address) else {
            // cannot be: nobody else takes it
            return Ok(Payload::default());
        };
        match theirs == *call {
            true => Ok(payload),
            false => Err(mismatch(seat, from.sequence, call, (from.member, &theirs))),
        }
    }
}
