//! Links that take time, without a network: ranks are threads, and each has a clock that goes on by
//! what its device has computed and by what it has waited for. When the bytes of a call would be there
//! follows from when its members handed them in and from what a link costs; whoever takes them earlier
//! waits, and that wait is what communication costs (its exposed time). On a device that only counts,
//! the trainer's own step is so timed on a machine that nobody has.
//!
//! A link is one of four, by the outermost axis along which the members of a group differ (paper,
//! section 3.3.2: the innermost axes have the fastest links). What goes over one group goes one after
//! the other; groups are not in each other's way. Not a model of switches and congestion, nor of
//! kernels that compute more slowly while bytes move.

use crate::Error;
use crate::axes::{AXES, Axes, Axis};
use crate::transport::{Call, Handed, Letter, Payload, Payloads, Seat, Transport};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a way between two ranks costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// Seconds before the first byte is there.
    pub latency: f64,
    /// Bytes in a second, in each direction.
    pub bytes_per_s: f64,
}

/// The links along each axis, innermost first.
pub type Links = [Link; 4];

/// What one rank has had of one purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Passed {
    /// Seconds that bytes for it were on their way.
    pub wire: f64,
    /// Of them, those in which this rank had nothing else to do.
    pub exposed: f64,
    /// Seconds that it waited for others to hand in at all.
    pub idle: f64,
}

impl std::ops::AddAssign for Passed {
    fn add_assign(&mut self, other: Passed) {
        self.wire += other.wire;
        self.exposed += other.exposed;
        self.idle += other.idle;
    }
}

/// What all ranks share.
pub struct Network {
    axes: Axes,
    links: Links,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    calls: HashMap<(Arc<str>, u64), Flight>,
    /// When what was last on its way in a group, or from one member to another, was there.
    free: HashMap<Way, f64>,
    letters: HashMap<Address, Arrival>,
}

/// A group, or from one of its members to another.
type Way = (Arc<str>, Option<(usize, usize)>);
/// A letter: its group, who sent it, and which it is, by who receives it.
type Address = (Arc<str>, usize, Letter);

/// A call that not all members have taken.
struct Flight {
    handed: Vec<Option<f64>>,
    /// The most that a member hands in for others.
    bytes: usize,
    taken: usize,
    arrival: Arrival,
}

#[derive(Clone, Copy, Default)]
struct Arrival {
    /// When the last member handed in.
    handed: f64,
    wire: f64,
    there: f64,
}

impl Network {
    /// Of ranks on these axes.
    pub fn new(axes: Axes, links: Links) -> Arc<Network> {
        Arc::new(Network { axes, links, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The outermost axis along which the members differ.
    fn axis(&self, seat: &Seat) -> Axis {
        let at = |rank: &usize| self.axes.coordinates(*rank);
        let first = seat.members.first().map_or([0; 4], at);
        let differ = |axis: &&Axis| {
            seat.members.iter().any(|rank| at(rank)[**axis as usize] != first[**axis as usize])
        };
        AXES.iter().rev().find(differ).copied().unwrap_or(Axis::Tp)
    }

    /// Seconds of `bytes` bytes that go in `hops` parts.
    fn cost(&self, seat: &Seat, hops: usize, bytes: usize) -> f64 {
        let Link { latency, bytes_per_s } = self.links[self.axis(seat) as usize];
        hops as f64 * latency + bytes as f64 / bytes_per_s
    }

    fn hand_in(&self, seat: &Seat, sequence: u64, handed: &Handed, now: f64) {
        let (n, all) = (seat.members.len(), handed.bytes());
        let bytes = match handed {
            Handed::Same(_) => all * (n - 1),
            Handed::Each(_) => all - handed.of(seat.index).len(),
        };
        let mut state = self.lock();
        let key = (seat.group.clone(), sequence);
        let empty = || {
            let (handed, arrival) = (vec![None; n], Arrival::default());
            Flight { handed, bytes: 0, taken: 0, arrival }
        };
        let flight = state.calls.entry(key.clone()).or_insert_with(empty);
        flight.handed[seat.index] = Some(now);
        flight.bytes = flight.bytes.max(bytes);
        let times: Vec<f64> = flight.handed.iter().flatten().copied().collect();
        if times.len() < n {
            return;
        }
        // all members have handed in the calls before it, too
        let handed = times.into_iter().fold(0.0, f64::max);
        let wire = self.cost(seat, n - 1, flight.bytes);
        let way = (seat.group.clone(), None);
        let there = handed.max(state.free(&way)) + wire;
        state.free.insert(way, there);
        if let Some(flight) = state.calls.get_mut(&key) {
            flight.arrival = Arrival { handed, wire, there };
        }
    }

    fn take(&self, seat: &Seat, sequence: u64) -> Arrival {
        let mut state = self.lock();
        let key = (seat.group.clone(), sequence);
        let Some(flight) = state.calls.get_mut(&key) else { return Arrival::default() };
        flight.taken += 1;
        let (arrival, all) = (flight.arrival, flight.taken == seat.members.len());
        if all {
            state.calls.remove(&key);
        }
        arrival
    }

    fn send(&self, seat: &Seat, to: Letter, bytes: usize, now: f64) {
        let wire = self.cost(seat, 1, bytes);
        let mut state = self.lock();
        let way = (seat.group.clone(), Some((seat.index, to.member)));
        let there = now.max(state.free(&way)) + wire;
        state.free.insert(way, there);
        let address = (seat.group.clone(), seat.index, to);
        state.letters.insert(address, Arrival { handed: now, wire, there });
    }

    fn letter(&self, address: &Address) -> Arrival {
        self.lock().letters.get(address).copied().unwrap_or_default()
    }
}

impl State {
    fn free(&self, way: &Way) -> f64 {
        self.free.get(way).copied().unwrap_or(0.0)
    }
}

/// One rank's way to the others.
pub struct Sim {
    network: Arc<Network>,
    inner: Arc<dyn Transport>,
    /// Seconds that its device has computed.
    computed: Box<dyn Fn() -> f64 + Send + Sync>,
    own: Mutex<Own>,
}

#[derive(Default)]
struct Own {
    waited: f64,
    passed: BTreeMap<(Axis, String), Passed>,
}

impl Sim {
    /// A rank on `network` whose bytes `inner` moves, and whose device has computed for so long.
    pub fn new(
        network: Arc<Network>,
        inner: Arc<dyn Transport>,
        computed: impl Fn() -> f64 + Send + Sync + 'static,
    ) -> Sim {
        Sim { network, inner, computed: Box::new(computed), own: Mutex::default() }
    }

    /// Seconds on its clock.
    pub fn now(&self) -> f64 {
        (self.computed)() + self.lock().waited
    }

    /// What it has had, by axis and purpose.
    pub fn passed(&self) -> Vec<(Axis, String, Passed)> {
        let own = self.lock();
        own.passed.iter().map(|((axis, what), passed)| (*axis, what.clone(), *passed)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the clock go on to when something is there.
    fn wait(&self, seat: &Seat, Arrival { handed, wire, there }: Arrival, wire_counts: bool) {
        let now = self.now();
        let (idle, late) = ((handed - now).max(0.0), (there - now).max(0.0));
        let what = seat.group.split('[').next().unwrap_or_default().to_owned();
        let mut own = self.lock();
        own.waited += late;
        *own.passed.entry((self.network.axis(seat), what)).or_default() += Passed {
            wire: if wire_counts { wire } else { 0.0 },
            exposed: (late - idle).max(0.0),
            idle: idle.min(late),
        };
    }
}

impl Transport for Sim {
    fn post(&self, seat: &Seat, sequence: u64, call: &Call, handed: Handed) -> Result<(), Error> {
        self.network.hand_in(seat, sequence, &handed, self.now());
        self.inner.post(seat, sequence, call, handed)
    }

    fn collect(&self, seat: &Seat, sequence: u64, call: &Call) -> Result<Payloads, Error> {
        let all = self.inner.collect(seat, sequence, call)?;
        self.wait(seat, self.network.take(seat, sequence), true);
        Ok(all)
    }

    fn send(&self, seat: &Seat, to: Letter, call: &Call, payload: Payload) -> Result<(), Error> {
        self.network.send(seat, to, payload.len(), self.now());
        self.inner.send(seat, to, call, payload)
    }

    fn sent(&self, seat: &Seat, to: Letter) -> Result<(), Error> {
        let arrival = self.network.letter(&(seat.group.clone(), seat.index, to));
        self.wait(seat, arrival, false);
        self.inner.sent(seat, to)
    }

    fn receive(&self, seat: &Seat, from: Letter, call: &Call) -> Result<Payload, Error> {
        let payload = self.inner.receive(seat, from, call)?;
        let here = Letter { member: seat.index, ..from };
        let arrival = self.network.letter(&(seat.group.clone(), from.member, here));
        self.wait(seat, arrival, true);
        Ok(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mesh, Threads, Use, launch_over};
    use quipu_math::{Count, DType, Device};
    use std::sync::atomic::{AtomicU64, Ordering};

    const LINKS: Links = [Link { latency: 1.0, bytes_per_s: 100.0 }; 4];

    /// Runs `work` on two ranks with a clock that it moves; seconds of each and what they have had.
    fn times(
        axes: &str,
        work: impl Fn(&Mesh, &dyn Device, &dyn Fn(u64)) -> Result<(), Error> + Sync,
    ) -> Vec<(f64, Passed)> {
        let axes = Axes::parse(axes).unwrap();
        let network = Network::new(axes, LINKS);
        let clocks: Vec<_> = (0..axes.world()).map(|_| Arc::new(AtomicU64::new(0))).collect();
        let sims = Mutex::new(BTreeMap::new());
        let transport = |rank: usize, threads: Arc<Threads>| -> Arc<dyn Transport> {
            let clock = clocks[rank].clone();
            let now = move || clock.load(Ordering::Relaxed) as f64;
            let sim = Arc::new(Sim::new(network.clone(), threads, now));
            sims.lock().unwrap().insert(rank, sim.clone());
            sim
        };
        launch_over(axes, transport, |mesh| {
            let compute = |seconds| {
                clocks[mesh.rank()].fetch_add(seconds, Ordering::Relaxed);
            };
            work(&mesh, &Count::new(), &compute)
        })
        .unwrap();
        let all = sims.into_inner().unwrap();
        let sum = |sim: &Arc<Sim>| {
            let mut sum = Passed::default();
            sim.passed().into_iter().for_each(|(.., passed)| sum += passed);
            (sim.now(), sum)
        };
        all.values().map(sum).collect()
    }

    /// 100 bytes to each of the others, so two seconds with the latency; computed before and between.
    fn gathered(before: [u64; 2], between: u64) -> Vec<(f64, Passed)> {
        times("tp=2", |mesh, device, compute| {
            let piece = device.matrix(DType::F32, 1, 25).unwrap();
            let whole = device.matrix(DType::F32, 1, 50).unwrap();
            compute(before[mesh.rank()]);
            let group = mesh.group(Use::Activations);
            let pending = group.start_all_gather(device, &piece, &whole)?;
            compute(between);
            pending.wait(device)
        })
    }

    #[test]
    fn what_is_computed_in_between_hides_the_way() {
        let of = |wire, exposed, idle| Passed { wire, exposed, idle };
        assert_eq!(gathered([0, 0], 0), [(2.0, of(2.0, 2.0, 0.0)); 2]);
        assert_eq!(gathered([0, 0], 1), [(2.0, of(2.0, 1.0, 0.0)); 2]);
        assert_eq!(gathered([0, 0], 5), [(5.0, of(2.0, 0.0, 0.0)); 2]);
        let late = [(5.0, of(2.0, 2.0, 3.0)), (5.0, of(2.0, 2.0, 0.0))];
        assert_eq!(gathered([0, 3], 0), late);
    }

    #[test]
    fn one_way_takes_one_after_the_other() {
        let found = times("tp=2", |mesh, device, _| {
            let piece = device.matrix(DType::F32, 1, 25).unwrap();
            let whole = device.matrix(DType::F32, 1, 50).unwrap();
            let start = || mesh.group(Use::Activations).start_all_gather(device, &piece, &whole);
            let (first, second) = (start()?, start()?);
            first.wait(device)?;
            second.wait(device)
        });
        assert_eq!(found, [(4.0, Passed { wire: 4.0, exposed: 4.0, idle: 0.0 }); 2]);
    }

    /// A letter is awaited by its receiver, and by a sender that wants to know that it is gone.
    #[test]
    fn letters() {
        let found = |wait: bool| {
            times("pp=2", move |mesh, device, compute| {
                let view = device.matrix(DType::F32, 1, 25).unwrap();
                let group = mesh.group(Use::Stages);
                if mesh.rank() == 1 {
                    compute(1);
                    return group.receive(device, &view, 0, 0);
                }
                let gone = group.start_send(device, &view, 1, 0)?;
                if wait { gone.wait(device) } else { Ok(()) }
            })
        };
        let received = (2.0, Passed { wire: 2.0, exposed: 1.0, idle: 0.0 });
        let waited = Passed { exposed: 2.0, ..Passed::default() };
        assert_eq!(found(false), [(0.0, Passed::default()), received]);
        assert_eq!(found(true), [(2.0, waited), received]);
    }

    /// The axis is the outermost along which a group goes.
    #[test]
    fn links_go_by_axes() {
        let axes = Axes::parse("tp=2,cp=2,dp=2").unwrap();
        let network = Network::new(axes, LINKS);
        let seat = |members: Vec<usize>| Seat { group: "g".into(), members, index: 0 };
        let of = |members| network.axis(&seat(members));
        assert_eq!(of(vec![0, 1]), Axis::Tp);
        assert_eq!(of(vec![0, 2]), Axis::Cp);
        assert_eq!(of(vec![0, 2, 4, 6]), Axis::Dp);
    }
}
