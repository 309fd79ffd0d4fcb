//! The transport of a rank without the others: what they would hand in is taken to be what this rank
//! hands in itself. On a device that only counts, a step of one rank of a mesh of thousands can so be
//! gone through for its shapes, its memory and its traffic. Not a way to compute anything.

use crate::error::Error;
use crate::transport::{Call, Handed, Letter, Payload, Payloads, Seat, Transport};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A world in which one rank is by itself.
#[derive(Default)]
pub struct Alone {
    handed: Mutex<HashMap<(Arc<str>, u64), Payload>>,
}

impl Transport for Alone {
    fn post(&self, seat: &Seat, sequence: u64, _: &Call, handed: Handed) -> Result<(), Error> {
        let mut all = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert((seat.group.clone(), sequence), handed.of(seat.index));
        Ok(())
    }

    fn collect(&self, seat: &Seat, sequence: u64, _: &Call) -> Result<Payloads, Error> {
        let mut all = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.remove(&(seat.group.clone(), sequence)).unwrap_or_default();
        Ok(vec![own; seat.members.len()])
    }

    fn send(&self, _: &Seat, _: Letter, _: &Call, _: Payload) -> Result<(), Error> {
        Ok(())
    }

    fn receive(&self, _: &Seat, _: Letter, call: &Call) -> Result<Payload, Error> {
        Ok(Payload::counted(call.bytes))
    }
}
