//! Collectives of one group of ranks, on views of a device and on host numbers.
//!
//! Every call carries a sequence number and what is called, so that ranks that disagree get an
//! error and no wrong numbers. Sums are made in rank order, one addition after the other in the
//! payload's own type: the same bits on every rank and over every transport (paper §3.3.2,
//! "Numerical stability": reductions of gradients in f32). A group of one returns at once.
//! What it is not: a choice of who talks to whom (`uses.rs`) nor a way for bytes (`transport.rs`).

use crate::error::{Error, Place};
use crate::transport::{Call, Payloads, Seat, Transport};
use quipu_math::op::Copy;
use quipu_math::{DType, Device, Queue, View};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One rank's handle on a group.
pub struct Group {
    seat: Seat,
    /// None for a group of one.
    transport: Option<Arc<dyn Transport>>,
    sequence: AtomicU64,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {:?} at rank {}", self.seat.group, self.seat.members, self.seat.rank())
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
        Group { seat, transport, sequence: AtomicU64::new(0) }
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

    /// `whole` = the pieces of all ranks one after the other, in rank order. `whole` has as many
    /// elements as all pieces together; `piece` may be this rank's part of it.
    ///
    /// # Errors
    /// Sizes or types that do not fit; what the device or the other ranks report.
    pub fn all_gather(&self, device: &dyn Device, piece: &View, whole: &View) -> Result<(), Error> {
        let operation = "all_gather";
        self.fits(operation, piece, whole)?;
        if self.is_one() {
            return self.copy(operation, device, piece, whole);
        }
        let payload = self.read(operation, device, piece)?;
        let all = self.exchange(operation, piece.dtype().name().into(), payload)?;
        let bytes: Vec<u8> = all.iter().flat_map(|part| part.iter().copied()).collect();
        self.write(operation, device, whole, &bytes)
    }

    /// `piece` = this rank's part of the sum of all ranks' `whole`. `piece` may be this rank's part
    /// of `whole`.
    ///
    /// # Errors
    /// As [`Group::all_gather`].
    pub fn reduce_scatter(
        &self,
        device: &dyn Device,
        whole: &View,
        piece: &View,
    ) -> Result<(), Error> {
        let operation = "reduce_scatter";
        self.fits(operation, piece, whole)?;
        if self.is_one() {
            return self.copy(operation, device, whole, piece);
        }
        let payload = self.read(operation, device, whole)?;
        let all = self.exchange(operation, whole.dtype().name().into(), payload)?;
        let from = self.index() * piece.bytes();
        let parts: Vec<&[u8]> = all.iter().map(|part| &part[from..from + piece.bytes()]).collect();
        let sum = self.sum(operation, piece, &parts)?;
        self.write(operation, device, piece, &sum)
    }

    /// `view` = the sum of all ranks' `view`.
    ///
    /// # Errors
    /// As [`Group::all_gather`].
    pub fn all_reduce(&self, device: &dyn Device, view: &View) -> Result<(), Error> {
        let operation = "all_reduce";
        if self.is_one() {
            return Ok(());
        }
        let payload = self.read(operation, device, view)?;
        let all = self.exchange(operation, view.dtype().name().into(), payload)?;
        let parts: Vec<&[u8]> = all.iter().map(|part| &part[..]).collect();
        let sum = self.sum(operation, view, &parts)?;
        self.write(operation, device, view, &sum)
    }

    /// `view` = that of member number `root`.
    ///
    /// # Errors
    /// As [`Group::all_gather`], and a root that is no member.
    pub fn broadcast(&self, device: &dyn Device, view: &View, root: usize) -> Result<(), Error> {
        let operation = "broadcast";
        if root >= self.size() {
            let expected = format!("a root below {}", self.size());
            return Err(self.shape(operation, format!("root {root}"), expected));
        }
        if self.is_one() {
            return Ok(());
        }
        let here = root == self.index();
        let payload = if here { self.read(operation, device, view)? } else { Vec::new() };
        let detail = format!("{} × {} from {root}", view.len(), view.dtype());
        let call = Call { operation, bytes: view.bytes(), detail };
        let all = self.call(call, payload)?;
        if here { Ok(()) } else { self.write(operation, device, view, &all[root]) }
    }

    /// Returns when every rank has called it.
    ///
    /// # Errors
    /// What the other ranks report.
    pub fn barrier(&self) -> Result<(), Error> {
        if self.is_one() {
            return Ok(());
        }
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

    /// The largest over ranks of host numbers, position by position.
    ///
    /// # Errors
    /// As [`Group::sum_numbers`].
    pub fn largest_numbers(&self, numbers: &[f64]) -> Result<Vec<f64>, Error> {
        let all = self.gather_numbers("largest_numbers", numbers)?;
        let top = |i: usize| all.iter().map(|list| list[i]).fold(f64::NEG_INFINITY, f64::max);
        Ok((0..numbers.len()).map(top).collect())
    }

    fn gather_numbers(
        &self,
        operation: &'static str,
        numbers: &[f64],
    ) -> Result<Vec<Vec<f64>>, Error> {
        if self.is_one() {
            return Ok(vec![numbers.to_vec()]);
        }
        let payload = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        let all = self.exchange(operation, "f64".into(), payload)?;
        let decode = |bytes: &Arc<Vec<u8>>| {
            bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
        };
        Ok(all.iter().map(decode).collect())
    }

    fn exchange(
        &self,
        operation: &'static str,
        detail: String,
        payload: Vec<u8>,
    ) -> Result<Payloads, Error> {
        self.call(Call { operation, bytes: payload.len(), detail }, payload)
    }

    fn call(&self, call: Call, payload: Vec<u8>) -> Result<Payloads, Error> {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        match &self.transport {
            Some(transport) => transport.exchange(&self.seat, sequence, call, payload),
            None => Ok(vec![Arc::new(payload)]),
        }
    }

    /// The parts added one after the other, in the type of `like`.
    fn sum(&self, operation: &'static str, like: &View, parts: &[&[u8]]) -> Result<Vec<u8>, Error> {
        match like.dtype() {
            DType::F32 => {
                Ok(sum_in_order(parts, f32::from_le_bytes, |a, b| a + b, f32::to_le_bytes))
            }
            DType::F64 => {
                Ok(sum_in_order(parts, f64::from_le_bytes, |a, b| a + b, f64::to_le_bytes))
            }
            other => {
                Err(self.shape(operation, format!("elements of {other}"), "f32 or f64".into()))
            }
        }
    }

    fn fits(&self, operation: &'static str, piece: &View, whole: &View) -> Result<(), Error> {
        if piece.len() * self.size() == whole.len() && piece.dtype() == whole.dtype() {
            return Ok(());
        }
        let show = |view: &View| format!("{} × {} {}", view.rows(), view.cols(), view.dtype());
        let found = format!("a piece of {} and a whole of {}", show(piece), show(whole));
        Err(self.shape(operation, found, format!("one type and {} equal pieces", self.size())))
    }

    fn shape(&self, operation: &'static str, found: String, expected: String) -> Error {
        Error::Shape { at: self.place(operation), found, expected }
    }

    fn device_error(&self, operation: &'static str, source: quipu_math::Error) -> Error {
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
    ) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; view.bytes()];
        let read = device.read(Queue::MAIN, view, &mut bytes);
        read.map_err(|source| self.device_error(operation, source))?;
        Ok(bytes)
    }

    fn write(
        &self,
        operation: &'static str,
        device: &dyn Device,
        view: &View,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let written = device.write(Queue::MAIN, view, bytes);
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

fn sum_in_order<const N: usize, T: std::marker::Copy>(
    parts: &[&[u8]],
    read: impl Fn([u8; N]) -> T,
    add: impl Fn(T, T) -> T,
    write: impl Fn(T) -> [u8; N],
) -> Vec<u8> {
    let mut sum = parts[0].to_vec();
    for part in &parts[1..] {
        for (a, b) in sum.as_chunks_mut::<N>().0.iter_mut().zip(part.as_chunks::<N>().0) {
            *a = write(add(read(*a), read(*b)));
        }
    }
    sum
}
