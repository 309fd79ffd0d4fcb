//! Collectives of one group of ranks, on views of a device and on host numbers.
//!
//! Every call carries a sequence number and what is called, so that ranks that disagree get an
//! error and no wrong numbers. Sums are made in rank order (`sum.rs`): the same bits on every rank
//! and over every transport. A `start_…` hands in what this rank has and returns; what it is for
//! is there once [`Pending::wait`] has been called, so that what the rank computes in between
//! overlaps with the way of the bytes. A group of one returns at once.
//! What it is not: a choice of who talks to whom (`uses.rs`) nor a way for bytes (`transport.rs`).

use crate::error::{Error, Place};
use crate::sum;
use crate::traffic::{Held, Meter, Traffic};
use crate::transport::{Call, Handed, Letter, Payload, Payloads, Seat, Transport};
use quipu_math::op::Copy;
use quipu_math::{DType, Device, Queue, View};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// One rank's handle on a group.
pub struct Group {
    seat: Seat,
    /// None for a group of one.
    transport: Option<Arc<dyn Transport>>,
    /// Of collectives.
    sequence: AtomicU64,
    /// Letters of each tag to and from each member: (whether sent, member, tag).
    letters: Mutex<BTreeMap<(bool, usize, u64), u64>>,
    meter: Meter,
    /// What the calls of this rank hold, in this group and those that it shares the count with.
    held: Arc<Held>,
}

/// A call that was made: its number, and the bytes that it holds.
#[derive(Clone, Copy, Debug, Default)]
struct Posted {
    sequence: u64,
    held: usize,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {:?} at rank {}", self.seat.group, self.seat.members, self.seat.rank())
    }
}

/// A call that this rank has made and whose result it has not taken yet. What it has handed in was
/// copied: that memory may be used again at once.
#[must_use = "nothing is received before `wait`"]
#[derive(Debug)]
pub struct Pending {
    group: Arc<Group>,
    call: Call,
    posted: Posted,
    then: Then,
}

/// What becomes of that which the others handed in.
#[derive(Debug)]
enum Then {
    /// It was there at once.
    Nothing,
    /// The piece of each rank fills its views, in their order.
    Join(Vec<Vec<View>>),
    /// Their sum lies in a view; they are of another type.
    Sum(DType, View),
    /// A letter lies in a view.
    Letter(Letter, View),
    /// A letter is gone.
    Sent(Letter),
}

impl Pending {
    /// Waits until the result is there; on return what is queued on `device` from now on sees it.
    ///
    /// # Errors
    /// What the device or the other ranks report.
    pub fn wait(self, device: &dyn Device) -> Result<(), Error> {
        self.waited(device).map(|_| ())
    }

    /// [`Pending::wait`] now, for somebody who waits again later, when it returns at once.
    ///
    /// # Errors
    /// As there.
    pub fn waited(mut self, device: &dyn Device) -> Result<Pending, Error> {
        let then = std::mem::replace(&mut self.then, Then::Nothing);
        let Pending { group, call, posted, .. } = &self;
        let Some(transport) = &group.transport else { return Ok(self) };
        match then {
            Then::Nothing => Ok(()),
            Then::Sent(to) => transport.sent(&group.seat, to),
            Then::Join(parts) => {
                let all = group.collect(*posted, call)?;
                let mut each = parts.iter().zip(&all);
                each.try_for_each(|(views, piece)| group.fill(call.operation, device, views, piece))
            }
            Then::Sum(dtype, out) => {
                let all = group.collect(*posted, call)?;
                let sum = group.sum(call.operation, (dtype, &out), &all)?;
                group.write(call.operation, device, &out, &sum)
            }
            Then::Letter(from, view) => {
                let letter = transport.receive(&group.seat, from, call)?;
                group.write(call.operation, device, &view, &letter)
            }
        }?;
        Ok(self)
    }
}

impl Group {
    /// The group `name` of `members` (world ranks, ascending), seen by member number `index`.
    pub fn new(
        name: &str,
        members: Vec<usize>,
        index: usize,
        transport: Arc<dyn Transport>,
    ) -> Group {
        let transport = (members.len() > 1).then_some(transport);
        let seat = Seat { group: format!("{name}{members:?}").into(), members, index };
        let (sequence, meter, held) = (AtomicU64::new(0), Meter::default(), Arc::default());
        Group { seat, transport, sequence, letters: Mutex::default(), meter, held }
    }

    /// The group, whose calls count with those of others in what they hold.
    pub(crate) fn held_in(self, held: &Arc<Held>) -> Group {
        Group { held: held.clone(), ..self }
    }

    /// The name, with its members.
    pub fn name(&self) -> &str {
        &self.seat.group
    }

    /// Number of ranks.
    pub fn size(&self) -> usize {
        self.seat.members.len()
    }

    /// This rank's index in the group.
    pub fn index(&self) -> usize {
        self.seat.index
    }

    /// Whether this rank is alone in it: every collective then returns at once.
    pub fn is_one(&self) -> bool {
        self.size() == 1
    }

    /// What this rank has sent in it.
    pub fn traffic(&self) -> Traffic {
        self.meter.read()
    }

    /// `whole` = the pieces of all ranks one after the other, in rank order. `whole` has as many
    /// elements as all pieces together; `piece` may be this rank's part of it.
    ///
    /// # Errors
    /// Sizes or types that do not fit; what the device or the other ranks report.
    pub fn all_gather(
        self: &Arc<Self>,
        device: &dyn Device,
        piece: &View,
        whole: &View,
    ) -> Result<(), Error> {
        self.start_all_gather(device, piece, whole)?.wait(device)
    }

    /// [`Group::all_gather`], begun.
    ///
    /// # Errors
    /// As there.
    pub fn start_all_gather(
        self: &Arc<Self>,
        device: &dyn Device,
        piece: &View,
        whole: &View,
    ) -> Result<Pending, Error> {
        let parts = self.cut("all_gather", piece, whole)?;
        self.start_all_gather_parts(device, piece, parts)
    }

    /// [`Group::all_gather`] into scattered memory, begun: the piece of rank r fills the views
    /// `parts[r]`, in their order.
    ///
    /// # Errors
    /// As there.
    pub fn start_all_gather_parts(
        self: &Arc<Self>,
        device: &dyn Device,
        piece: &View,
        parts: Vec<Vec<View>>,
    ) -> Result<Pending, Error> {
        let operation = "all_gather";
        self.fits(operation, piece, &parts, true)?;
        if let Some(whole) = alone(&parts) {
            self.copy(operation, device, piece, whole)?;
            return Ok(self.nothing(operation));
        }
        let payload = self.read(operation, device, piece)?;
        let sent = (self.size() - 1) * payload.len();
        let detail = piece.dtype().name().into();
        let call = Call { operation, bytes: payload.len(), detail };
        self.begin(call, Handed::Same(payload), sent, Then::Join(parts))
    }

    /// `piece` = this rank's part of the sum of all ranks' `whole`. `piece` may be this rank's part
    /// of `whole`; of a whole in bf16 it may be in f32.
    ///
    /// # Errors
    /// As [`Group::all_gather`].
    pub fn reduce_scatter(
        self: &Arc<Self>,
        device: &dyn Device,
        whole: &View,
        piece: &View,
    ) -> Result<(), Error> {
        self.start_reduce_scatter(device, whole, piece)?.wait(device)
    }

    /// [`Group::reduce_scatter`], begun.
    ///
    /// # Errors
    /// As there.
    pub fn start_reduce_scatter(
        self: &Arc<Self>,
        device: &dyn Device,
        whole: &View,
        piece: &View,
    ) -> Result<Pending, Error> {
        let parts = self.cut("reduce_scatter", piece, whole)?;
        self.start_reduce_scatter_parts(device, &parts, piece)
    }

    /// [`Group::reduce_scatter`] of scattered memory, begun: rank r gets the sum of what lies in the
    /// views `parts[r]`, one after the other.
    ///
    /// # Errors
    /// As there.
    pub fn start_reduce_scatter_parts(
        self: &Arc<Self>,
        device: &dyn Device,
        parts: &[Vec<View>],
        piece: &View,
    ) -> Result<Pending, Error> {
        let operation = "reduce_scatter";
        self.fits(operation, piece, parts, false)?;
        if let Some(whole) = alone(parts) {
            self.copy(operation, device, whole, piece)?;
            return Ok(self.nothing(operation));
        }
        let dtype = parts[0][0].dtype();
        let read = |views: &Vec<View>| {
            let pieces = views.iter().map(|view| self.read(operation, device, view));
            let pieces = pieces.collect::<Result<Vec<_>, _>>()?;
            Ok(Payload::join(&pieces))
        };
        let handed: Payloads = parts.iter().map(read).collect::<Result<_, Error>>()?;
        let length = handed[0].len();
        let bytes = length * self.size();
        let call = Call { operation, bytes, detail: dtype.name().into() };
        let (sent, then) = ((self.size() - 1) * length, Then::Sum(dtype, piece.clone()));
        self.begin(call, Handed::Each(handed), sent, then)
    }

    /// `view` = the sum of all ranks' `view`: each rank sums a piece, and all gather the pieces.
    ///
    /// # Errors
    /// As [`Group::all_gather`].
    pub fn all_reduce(&self, device: &dyn Device, view: &View) -> Result<(), Error> {
        let operation = "all_reduce";
        if self.is_one() {
            return Ok(());
        }
        let bytes = self.read(operation, device, view)?;
        let (size, n) = (view.dtype().size(), self.size());
        let piece = |i: usize| view.len() * i / n * size..view.len() * (i + 1) / n * size;
        let own = piece(self.index()).len();
        let detail = view.dtype().name().to_owned();
        let call = Call { operation, bytes: bytes.len(), detail: detail.clone() };
        let handed = each(&bytes, (0..n).map(piece));
        let posted = self.post(&call, handed, bytes.len() - own)?;
        let all = self.collect(posted, &call)?;
        let sum = self.sum(operation, (view.dtype(), view), &all)?;
        let call = Call { operation, bytes: bytes.len(), detail: format!("{detail} summed") };
        let posted = self.post(&call, Handed::Same(sum), (n - 1) * own)?;
        let sums = Payload::join(&self.collect(posted, &call)?);
        self.held.pass(bytes.len() + own + sums.len());
        self.write(operation, device, view, &sums)
    }

    /// `out` = what every rank has for this one: piece number r of `out` is piece number
    /// [`Group::index`] of rank r's `x`. Both have one equal piece a rank.
    ///
    /// # Errors
    /// As [`Group::all_gather`].
    pub fn all_to_all(&self, device: &dyn Device, x: &View, out: &View) -> Result<(), Error> {
        let operation = "all_to_all";
        if x.len() != out.len() || x.dtype() != out.dtype() || !x.len().is_multiple_of(self.size())
        {
            let expected = format!("one type and size, a multiple of {} pieces", self.size());
            return Err(self.shape(operation, format!("{} and {}", show(x), show(out)), expected));
        }
        if self.is_one() {
            return self.copy(operation, device, x, out);
        }
        let bytes = self.read(operation, device, x)?;
        let length = bytes.len() / self.size();
        let handed = each(&bytes, (0..self.size()).map(|i| i * length..(i + 1) * length));
        let call = Call { operation, bytes: bytes.len(), detail: x.dtype().name().into() };
        let posted = self.post(&call, handed, (self.size() - 1) * length)?;
        let all = Payload::join(&self.collect(posted, &call)?);
        self.write(operation, device, out, &all)
    }

    /// `view` = that of member number `root`.
    ///
    /// # Errors
    /// As [`Group::all_gather`], and a root that is no member.
    pub fn broadcast(&self, device: &dyn Device, view: &View, root: usize) -> Result<(), Error> {
        let operation = "broadcast";
        self.member(operation, root)?;
        if self.is_one() {
            return Ok(());
        }
        let here = root == self.index();
        let payload = if here { self.read(operation, device, view)? } else { Payload::default() };
        let sent = (self.size() - 1) * payload.len();
        let detail = format!("{} from {root}", show(view));
        let call = Call { operation, bytes: view.bytes(), detail };
        let posted = self.post(&call, Handed::Same(payload), sent)?;
        let all = self.collect(posted, &call)?;
        if here { Ok(()) } else { self.write(operation, device, view, &all[root]) }
    }

    /// [`Group::start_send`], waited for.
    ///
    /// # Errors
    /// As there.
    pub fn send(
        self: &Arc<Self>,
        device: &dyn Device,
        view: &View,
        to: usize,
        tag: u64,
    ) -> Result<(), Error> {
        self.start_send(device, view, to, tag)?.wait(device)
    }

    /// Sends `view` to member number `to`, who receives it; to be waited for by whoever wants to know
    /// that it is gone. Letters of one tag arrive in the order of sending.
    ///
    /// # Errors
    /// A member that there is not; what the device reports.
    pub fn start_send(
        self: &Arc<Self>,
        device: &dyn Device,
        view: &View,
        to: usize,
        tag: u64,
    ) -> Result<Pending, Error> {
        let operation = "send";
        self.member(operation, to)?;
        let payload = self.read(operation, device, view)?;
        let letter = self.letter(true, to, tag);
        self.meter.add(payload.len());
        self.held.pass(payload.len());
        let (call, posted) = (call_of(view), Posted::default());
        if let Some(transport) = &self.transport {
            transport.send(&self.seat, letter, &call, payload)?;
        }
        Ok(Pending { group: self.clone(), call, posted, then: Then::Sent(letter) })
    }

    /// Receives into `view` what member number `from` sends next with that tag.
    ///
    /// # Errors
    /// A member that there is not, a letter of another size or type; what the device or the other
    /// ranks report.
    pub fn receive(
        self: &Arc<Self>,
        device: &dyn Device,
        view: &View,
        from: usize,
        tag: u64,
    ) -> Result<(), Error> {
        self.start_receive(view, from, tag)?.wait(device)
    }

    /// [`Group::receive`], begun.
    ///
    /// # Errors
    /// As there.
    pub fn start_receive(
        self: &Arc<Self>,
        view: &View,
        from: usize,
        tag: u64,
    ) -> Result<Pending, Error> {
        self.member("receive", from)?;
        let letter = self.letter(false, from, tag);
        self.meter.add(0);
        let (posted, then) = (Posted::default(), Then::Letter(letter, view.clone()));
        Ok(Pending { group: self.clone(), call: call_of(view), posted, then })
    }

    fn letter(&self, sent: bool, member: usize, tag: u64) -> Letter {
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        let next = letters.entry((sent, member, tag)).or_default();
        *next += 1;
        Letter { member, tag, sequence: *next - 1 }
    }

    /// Returns when every rank has called it.
    ///
    /// # Errors
    /// What the other ranks report.
    pub fn barrier(&self) -> Result<(), Error> {
        self.exchange("barrier", String::new(), Vec::new()).map(|_| ())
    }

    /// The sums over ranks of host numbers, position by position, in rank order.
    ///
    /// # Errors
    /// What the other ranks report; lists of different lengths.
    pub fn sum_numbers(&self, numbers: &[f64]) -> Result<Vec<f64>, Error> {
        let all = self.gather_numbers("sum_numbers", numbers)?;
        Ok((0..numbers.len())
            .map(|i| all.iter().map(|list| list[i]).fold(0.0, |a, b| a + b))
            .collect())
    }

    /// Whether any rank says so.
    ///
    /// # Errors
    /// What the other ranks report.
    pub fn any(&self, so: bool) -> Result<bool, Error> {
        Ok(self.largest_numbers(&[f64::from(u8::from(so))])?[0] > 0.0)
    }

    /// The largest over ranks of host numbers, position by position.
    ///
    /// # Errors
    /// As [`Group::sum_numbers`].
    pub fn largest_numbers(&self, numbers: &[f64]) -> Result<Vec<f64>, Error> {
        let all = self.gather_numbers("largest_numbers", numbers)?;
        let top = |i: usize| all.iter().map(|list| list[i]).fold(f64::NEG_INFINITY, f64::max);
        Ok((0..numbers.len()).map(top).collect())
    }

    /// Whether all ranks hold the same bits in `view`; said on all of them.
    ///
    /// # Errors
    /// What the device or the other ranks report.
    pub fn agrees(&self, device: &dyn Device, view: &View) -> Result<bool, Error> {
        let operation = "agrees";
        if self.is_one() {
            return Ok(true);
        }
        let payload = self.read(operation, device, view)?;
        let sent = (self.size() - 1) * payload.len();
        let call = Call { operation, bytes: payload.len(), detail: show(view) };
        let posted = self.post(&call, Handed::Same(payload), sent)?;
        let all = self.collect(posted, &call)?;
        Ok(all.iter().all(|other| other == &all[0]))
    }

    /// Whether `text` is the same on all ranks: what each is about to work on.
    ///
    /// # Errors
    /// [`Error::Differs`] with the first line that is another, on the ranks where it is and on those
    /// that see it; what the other ranks report.
    pub fn same(&self, what: &'static str, text: &str) -> Result<(), Error> {
        let all = self.gather_texts(what, text)?;
        let Some(other) = all.iter().position(|theirs| theirs != text) else { return Ok(()) };
        let (mut ours, mut theirs) = (text.lines(), all[other].lines());
        let (ours, theirs) = loop {
            match (ours.next(), theirs.next()) {
                (None, None) => break (text, &*all[other]),
                (a, b) if a != b => break (a.unwrap_or("nothing"), b.unwrap_or("nothing")),
                _ => {}
            }
        };
        let (ours, theirs, other) = (ours.into(), theirs.into(), self.seat.members[other]);
        Err(Error::Differs { at: self.place("same"), what, ours, other, theirs })
    }

    /// The texts of all ranks, in rank order; each may be of another length.
    ///
    /// # Errors
    /// What the other ranks report.
    pub fn gather_texts(&self, what: &str, text: &str) -> Result<Vec<String>, Error> {
        let payload = Payload::new(text.as_bytes().to_vec());
        if self.is_one() {
            return Ok(vec![text.into()]);
        }
        let sent = (self.size() - 1) * payload.len();
        let call = Call { operation: "gather_texts", bytes: 0, detail: what.into() };
        let posted = self.post(&call, Handed::Same(payload), sent)?;
        let all = self.collect(posted, &call)?;
        Ok(all.iter().map(|text| String::from_utf8_lossy(text.bytes()).into_owned()).collect())
    }

    fn gather_numbers(
        &self,
        operation: &'static str,
        numbers: &[f64],
    ) -> Result<Vec<Vec<f64>>, Error> {
        let payload = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        let all = self.exchange(operation, "f64".into(), payload)?;
        let decode = |all: &Payload| {
            all.bytes().as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
        };
        Ok(all.iter().map(decode).collect())
    }

    /// Everybody's payload.
    fn exchange(
        &self,
        operation: &'static str,
        detail: String,
        payload: Vec<u8>,
    ) -> Result<Payloads, Error> {
        let payload = Payload::new(payload);
        if self.is_one() {
            return Ok(vec![payload]);
        }
        let sent = (self.size() - 1) * payload.len();
        let call = Call { operation, bytes: payload.len(), detail };
        let posted = self.post(&call, Handed::Same(payload), sent)?;
        self.collect(posted, &call)
    }

    /// Hands in, and holds what is handed in and some bytes more until it is collected.
    fn post(&self, call: &Call, handed: Handed, sent: usize) -> Result<Posted, Error> {
        self.post_and_hold(call, handed, (sent, 0))
    }

    fn post_and_hold(
        &self,
        call: &Call,
        handed: Handed,
        (sent, more): (usize, usize),
    ) -> Result<Posted, Error> {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let held = handed.bytes() + more;
        self.meter.add(sent);
        self.held.hold(held);
        if let Some(transport) = &self.transport {
            transport.post(&self.seat, sequence, call, handed)?;
        }
        Ok(Posted { sequence, held })
    }

    fn begin(
        self: &Arc<Self>,
        call: Call,
        handed: Handed,
        sent: usize,
        then: Then,
    ) -> Result<Pending, Error> {
        let made = if let Then::Sum(_, out) = &then { out.bytes() } else { 0 };
        let posted = self.post_and_hold(&call, handed, (sent, made))?;
        Ok(Pending { group: self.clone(), call, posted, then })
    }

    fn collect(&self, posted: Posted, call: &Call) -> Result<Payloads, Error> {
        self.held.free(posted.held);
        match &self.transport {
            Some(transport) => transport.collect(&self.seat, posted.sequence, call),
            None => Ok(Vec::new()),
        }
    }

    fn nothing(self: &Arc<Self>, operation: &'static str) -> Pending {
        let call = Call { operation, bytes: 0, detail: String::new() };
        let (posted, then) = (Posted::default(), Then::Nothing);
        Pending { group: self.clone(), call, posted, then }
    }

    /// The parts, of type `dtype`, added up for `out`.
    fn sum(
        &self,
        operation: &'static str,
        (dtype, out): (DType, &View),
        parts: &Payloads,
    ) -> Result<Payload, Error> {
        if let Some(counted) = parts.iter().find(|part| part.bytes().len() < part.len()) {
            return Ok(Payload::counted(counted.len() / dtype.size() * out.dtype().size()));
        }
        let parts: Vec<&[u8]> = parts.iter().map(Payload::bytes).collect();
        sum::in_rank_order(&parts, dtype, out.dtype()).map(Payload::new).ok_or_else(|| {
            let found = format!("sums of {dtype} in {}", out.dtype());
            self.shape(operation, found, "f64, or f32 and bf16 in either of both".into())
        })
    }

    /// Fills views with a payload, one after the other.
    fn fill(
        &self,
        operation: &'static str,
        device: &dyn Device,
        views: &[View],
        payload: &Payload,
    ) -> Result<(), Error> {
        if let [view] = views {
            return self.write(operation, device, view, payload);
        }
        let mut at = 0;
        for view in views {
            // a payload of another size is refused by the device
            let end = payload.len().min(at + view.bytes());
            self.write(operation, device, view, &payload.part(at..end))?;
            at = end;
        }
        Ok(())
    }

    /// `whole` cut into one piece for each rank.
    fn cut(
        &self,
        operation: &'static str,
        piece: &View,
        whole: &View,
    ) -> Result<Vec<Vec<View>>, Error> {
        let n = self.size();
        let wrong = || {
            let found = format!("a piece of {} and a whole of {}", show(piece), show(whole));
            self.shape(operation, found, format!("one type and {n} equal pieces"))
        };
        if piece.len() * n != whole.len() {
            return Err(wrong());
        }
        let fail = |source| self.device_error(operation, source);
        let one = |i: usize| match whole.rows().is_multiple_of(n) {
            true => whole.slice_rows(i * whole.rows() / n..(i + 1) * whole.rows() / n),
            false => {
                whole.reshape(1, whole.len())?.slice_cols(i * piece.len()..(i + 1) * piece.len())
            }
        };
        (0..n).map(|i| Ok(vec![one(i).map_err(fail)?])).collect()
    }

    /// Whether each rank's views have as many elements as `piece`, all of one type, and `types`: of
    /// its type.
    fn fits(
        &self,
        operation: &'static str,
        piece: &View,
        parts: &[Vec<View>],
        types: bool,
    ) -> Result<(), Error> {
        let dtype = parts.iter().flatten().next().map(View::dtype);
        let sizes = parts.iter().all(|views| {
            views.iter().map(View::len).sum::<usize>() == piece.len()
                && views.iter().all(|view| Some(view.dtype()) == dtype)
        });
        if parts.len() == self.size() && sizes && !(types && dtype != Some(piece.dtype())) {
            return Ok(());
        }
        let parts: Vec<String> = parts.iter().flatten().map(show).collect();
        let found = format!("a piece of {} and parts of {}", show(piece), parts.join(", "));
        Err(self.shape(operation, found, format!("one type and {} equal pieces", self.size())))
    }

    fn member(&self, operation: &'static str, member: usize) -> Result<(), Error> {
        if member < self.size() {
            return Ok(());
        }
        let expected = format!("a member below {}", self.size());
        Err(self.shape(operation, format!("member {member}"), expected))
    }

    fn shape(&self, operation: &'static str, found: String, expected: String) -> Error {
        Error::Shape { at: self.place(operation), found, expected }
    }

    pub(crate) fn device_error(&self, operation: &'static str, source: quipu_math::Error) -> Error {
        Error::Device { at: self.place(operation), source: Box::new(source) }
    }

    fn place(&self, operation: &'static str) -> Box<Place> {
        self.seat.place(self.sequence.load(Ordering::Relaxed), operation)
    }

    fn read(
        &self,
        operation: &'static str,
        device: &dyn Device,
        view: &View,
    ) -> Result<Payload, Error> {
        if !device.holds() {
            return Ok(Payload::counted(view.bytes()));
        }
        let mut bytes = vec![0; view.bytes()];
        let read = device.read(Queue::MAIN, view, &mut bytes);
        read.map_err(|source| self.device_error(operation, source))?;
        Ok(Payload::new(bytes))
    }

    fn write(
        &self,
        operation: &'static str,
        device: &dyn Device,
        view: &View,
        payload: &Payload,
    ) -> Result<(), Error> {
        if !device.holds() && payload.len() == view.bytes() {
            return Ok(());
        }
        let written = device.write(Queue::MAIN, view, payload.bytes());
        written.map_err(|source| self.device_error(operation, source))
    }

    /// A group of one: the piece is the whole; where they lie apart, a copy.
    fn copy(
        &self,
        operation: &'static str,
        device: &dyn Device,
        x: &View,
        out: &View,
    ) -> Result<(), Error> {
        let fail = |source| self.device_error(operation, source);
        let flat = |view: &View| match view.is_dense() {
            true => view.reshape(1, view.len()),
            false => Ok(view.clone()),
        };
        let (x, out) = (flat(x).map_err(fail)?, flat(out).map_err(fail)?);
        if x.same(&out) {
            return Ok(());
        }
        device.run(Queue::MAIN, &Copy { x, out }.into()).map_err(fail)
    }
}

fn show(view: &View) -> String {
    format!("{} × {} {}", view.rows(), view.cols(), view.dtype())
}

/// The only view of a group of one, where it is in one part.
fn alone(parts: &[Vec<View>]) -> Option<&View> {
    match parts {
        [views] => match &views[..] {
            [view] => Some(view),
            _ => None,
        },
        _ => None,
    }
}

/// What both ends of a letter must agree on.
fn call_of(view: &View) -> Call {
    Call { operation: "letter", bytes: view.bytes(), detail: view.dtype().name().into() }
}

fn each(payload: &Payload, pieces: impl Iterator<Item = Range<usize>>) -> Handed {
    Handed::Each(pieces.map(|piece| payload.part(piece)).collect())
}
