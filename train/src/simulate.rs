//! How long a step would take on machines with other links, and what of communication its ranks wait
//! for: the trainer's own step, all ranks as threads on devices that only count, over links that take
//! time (`mesh::Sim`). The same step once more with overlap off, where only waits are called sooner.
//!
//! A rank computes for FLOP ÷ `flop` + bytes of operands ÷ `memory` seconds. Not a measurement: kernels
//! do not get slower while bytes move, and switches have room for all.

use crate::objective::{NextToken, check_length};
use crate::plan::{Blank, largest_step};
use crate::step::{Learner, Place};
use crate::{Error, Parallel, Recipe};
use quipu_math::{Count, Device};
use quipu_mesh::{
    AXES, Axis, Link, Links, Mesh, Network, Passed, Sharing, Sim, Threads, Transport, World,
    launch_over,
};
use quipu_model::Config;
use serde::Serialize;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// What each rank computes with, and its links.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// Floating-point operations in a second.
    pub flop: f64,
    /// Bytes to and from its memory in a second.
    pub memory: f64,
    /// Its links along each axis.
    pub links: Links,
}

impl Default for Machine {
    /// About the paper's (section 3.3.1): an H100 at its 400 TFLOP/s, tensor parallelism over NVLink
    /// (450 GB/s each way), everything else over 400 Gb/s; latencies of 2 and 10 µs are assumed.
    fn default() -> Machine {
        let near = Link { latency: 2e-6, bytes_per_s: 450e9 };
        let far = Link { latency: 10e-6, bytes_per_s: 50e9 };
        Machine { flop: 400e12, memory: 3.35e12, links: [near, far, far, far] }
    }
}

impl FromStr for Machine {
    type Err = Error;

    /// `flop=4e14,memory=3.35e12,tp=4.5e11/2e-6,cp=5e10/1e-5`: bytes in a second and, behind a stroke,
    /// seconds of latency of each axis's links. What is left out is as in [`Machine::default`].
    fn from_str(text: &str) -> Result<Machine, Error> {
        let mut machine = Machine::default();
        let (mut said, parts) = (Vec::new(), text.split(',').map(str::trim));
        for part in parts.filter(|_| !text.trim().is_empty()) {
            let wrong = || wrong(part);
            let (key, value) = part.split_once('=').ok_or_else(wrong)?;
            if said.contains(&key.trim()) {
                return Err(wrong());
            }
            said.push(key.trim());
            let number = |text: &str, least: f64| {
                let number = text.trim().parse::<f64>().ok();
                number.filter(|x| x.is_finite() && *x >= least).ok_or_else(wrong)
            };
            match key.trim() {
                "flop" => machine.flop = number(value, 1.0)?,
                "memory" => machine.memory = number(value, 1.0)?,
                key => {
                    let axis = AXES.iter().find(|axis| axis.name() == key).ok_or_else(wrong)?;
                    let link = &mut machine.links[*axis as usize];
                    let (rate, latency) = value.split_once('/').unwrap_or((value, ""));
                    link.bytes_per_s = number(rate, 1.0)?;
                    if !latency.is_empty() {
                        link.latency = number(latency, 0.0)?;
                    }
                }
            }
        }
        Ok(machine)
    }
}

fn wrong(part: &str) -> Error {
    Error::Recipe {
        key: "machine",
        found: part.to_owned(),
        expected:
            "it is flop, memory, tp, cp, pp or dp, each at most once, with a rate of at least 1, \
                   and of the last four a latency of at least 0"
                .into(),
        change: "write flop=4e14,memory=3.35e12,tp=4.5e11/2e-6,dp=5e10/1e-5: FLOP and bytes in a \
                 second, behind a stroke seconds of latency"
            .into(),
    }
}

/// What a step takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Simulated {
    /// Seconds until the last rank is through.
    pub seconds: f64,
    /// Seconds that a rank computes, the mean over ranks.
    pub computed: f64,
    /// What went over the links, by axis and purpose.
    pub passed: Vec<Row>,
}

/// What went over one axis for one purpose.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The outermost axis along which the ranks differ.
    pub axis: &'static str,
    /// The purpose, by its name in `mesh`'s table.
    pub what: String,
    /// Seconds that bytes were on their way, the mean over ranks, as the next two.
    pub wire: f64,
    /// Of them, those in which the rank waited.
    pub exposed: f64,
    /// Seconds that it waited for others to begin.
    pub idle: f64,
}

impl Simulated {
    /// Seconds on the way, and exposed, along an axis.
    #[must_use]
    pub fn along(&self, axis: Axis) -> (f64, f64) {
        let rows = self.passed.iter().filter(|row| row.axis == axis.name());
        rows.fold((0.0, 0.0), |(wire, exposed), row| (wire + row.wire, exposed + row.exposed))
    }
}

/// The step of a recipe that is gone through: the largest of its ramp.
#[must_use]
pub fn step_of(recipe: &Recipe) -> Recipe {
    largest_step(recipe, false)
}

/// The most tokens of the batches that all ranks hold: 5 GiB of memory.
const MOST_TOKENS: usize = 1 << 28;

/// One step of `recipe` ([`step_of`]) on the ranks of `parallel`, each a `machine`; with overlap or
/// without.
///
/// # Errors
/// What no run can use; more ranks than threads can be had.
pub fn simulate(
    config: &Config,
    recipe: &Recipe,
    parallel: &Parallel,
    machine: &Machine,
    overlap: bool,
) -> Result<Simulated, Error> {
    recipe.check()?;
    parallel.check(config)?;
    let (axes, ranks) = (parallel.axes, parallel.axes.world());
    check_length(recipe.longest_sequence(), config)?;
    let most = World::MOST_THREADS;
    if ranks > most {
        return Err(Error::Recipe {
            key: "mesh",
            found: format!("{ranks} ranks"),
            expected: format!("at most {most} are gone through, one thread each"),
            change:
                "leave out most of dp, whose groups are not in each other's way, and divide the \
                     batch with it"
                    .into(),
        });
    }
    let recipe = step_of(recipe);
    let held = ranks / parallel.size(Axis::Dp) * recipe.batch_tokens;
    if held > MOST_TOKENS {
        return Err(Error::Recipe {
            key: "batch_tokens",
            found: recipe.batch_tokens.to_string(),
            expected: format!("at most {MOST_TOKENS} tokens that all ranks hold, which are {held}"),
            change: "divide the batch as dp was: --set 'train.ramp=[]' --set train.batch_tokens=N"
                .into(),
        });
    }
    let parallel =
        Parallel { sharing: Sharing { overlap, ..parallel.sharing }, ..parallel.clone() };
    let network = Network::new(axes, machine.links);
    let clocks: Vec<Arc<Clock>> = (0..ranks).map(|_| Arc::new(Clock::new(*machine))).collect();
    let sims: Vec<OnceLock<Arc<Sim>>> = (0..ranks).map(|_| OnceLock::new()).collect();
    let transport = |rank: usize, threads: Arc<Threads>| -> Arc<dyn Transport> {
        let clock = clocks[rank].clone();
        let new = || Arc::new(Sim::new(network.clone(), threads, move || clock.seconds()));
        sims[rank].get_or_init(new).clone()
    };
    launch_over(axes, transport, |mesh| {
        step(&parallel.mesh(&mesh)?, &clocks[mesh.rank()], (config, &recipe, &parallel))
    })?;
    let mut simulated = Simulated { seconds: 0.0, computed: 0.0, passed: Vec::new() };
    for (sim, clock) in sims.iter().filter_map(OnceLock::get).zip(&clocks) {
        simulated.seconds = simulated.seconds.max(sim.now());
        simulated.computed += clock.seconds() / ranks as f64;
        for (axis, what, passed) in sim.passed() {
            add(&mut simulated.passed, (axis, what), passed, ranks as f64);
        }
    }
    Ok(simulated)
}

/// One rank's step.
fn step(
    mesh: &Mesh,
    clock: &Clock,
    (config, recipe, parallel): (&Config, &Recipe, &Parallel),
) -> Result<(), Error> {
    let shape = (config, &parallel.pipeline);
    let device = clock.device.clone();
    let mut learner = Learner::allocate(device, mesh.clone(), shape, recipe, false)?;
    let samples = Blank { length: recipe.sequence_length };
    let objective = NextToken { samples: &samples, validation: None, token_bytes: None };
    clock.start();
    let norm = learner.gradient(&objective, recipe, Place::after(0))?.norm;
    learner.update(recipe, Place::after(0), norm)?;
    Ok(())
}

/// What a rank's device has computed since it was started, in seconds.
struct Clock {
    device: Arc<Count>,
    machine: Machine,
    /// Seconds before that, as bits.
    before: AtomicU64,
}

impl Clock {
    fn new(machine: Machine) -> Clock {
        Clock { device: Arc::new(Count::new()), machine, before: AtomicU64::new(0) }
    }

    fn start(&self) {
        self.before.store(self.all().to_bits(), Ordering::Relaxed);
    }

    fn all(&self) -> f64 {
        let cost = self.device.usage().cost;
        let bytes = (cost.read + cost.written) as f64;
        cost.flops as f64 / self.machine.flop + bytes / self.machine.memory
    }

    fn seconds(&self) -> f64 {
        self.all() - f64::from_bits(self.before.load(Ordering::Relaxed))
    }
}

/// Adds what one of so many ranks has had.
fn add(rows: &mut Vec<Row>, (axis, what): (Axis, String), passed: Passed, ranks: f64) {
    let (axis, at) =
        (axis.name(), rows.iter().position(|r| r.axis == axis.name() && r.what == what));
    let at = at.unwrap_or_else(|| {
        rows.push(Row { axis, what, wire: 0.0, exposed: 0.0, idle: 0.0 });
        rows.len() - 1
    });
    rows[at].wire += passed.wire / ranks;
    rows[at].exposed += passed.exposed / ranks;
    rows[at].idle += passed.idle / ranks;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Dtype;
    use quipu_model::Sizes;

    fn config() -> Config {
        Config::new(Sizes {
            vocab_size: 1024,
            hidden_size: 256,
            intermediate_size: 768,
            layers: 6,
            heads: 8,
            kv_heads: 4,
            max_positions: 512,
            tied: false,
        })
        .unwrap()
    }

    fn simulated(mesh: &str, machine: &Machine, overlap: bool) -> Simulated {
        let recipe = Recipe {
            dtype: Dtype::Bf16,
            sequence_length: 512,
            batch_tokens: 8 * 512,
            micro_batch_tokens: 512,
            ..Recipe::default()
        };
        simulate(&config(), &recipe, &mesh.parse().unwrap(), machine, overlap).unwrap()
    }

    /// Along each axis ranks wait less for what is on its way when they go on meanwhile, and the same
    /// bytes go.
    #[test]
    fn overlap_hides_some_of_each_axis() {
        // as long on its way as it is computed
        let link = Link { latency: 1e-6, bytes_per_s: 2e9 };
        let machine = Machine { flop: 1e12, memory: 1e12, links: [link; 4] };
        for mesh in ["tp=2", "cp=2", "pp=2", "dp=2", "tp=2,cp=2,pp=2,dp=2", "dp=4,sharing=full"] {
            let (on, off) = (simulated(mesh, &machine, true), simulated(mesh, &machine, false));
            let parallel: Parallel = mesh.parse().unwrap();
            for axis in AXES.into_iter().filter(|axis| parallel.size(*axis) > 1) {
                let ((wire, exposed), (same, all)) = (on.along(axis), off.along(axis));
                // a sender that waits until its letter is gone
                assert!((wire / same - 1.0).abs() < 1e-9, "{mesh}: {wire} {same}");
                assert!(exposed < 0.97 * all, "{mesh}, {}: {exposed} of {all}", axis.name());
                assert!(exposed > 0.0, "{mesh}, {}", axis.name());
            }
            assert!(on.seconds < off.seconds, "{mesh}: {} {}", on.seconds, off.seconds);
            assert!((on.computed / off.computed - 1.0).abs() < 1e-9);
        }
    }

    /// One rank goes through all micro-batches, as many do.
    #[test]
    fn a_step_is_the_whole_batch() {
        let machine = Machine::default();
        let one = simulated("", &machine, true);
        let two = simulated("dp=2", &machine, true);
        assert!(one.computed > 1.5 * two.computed, "{one:?} {two:?}");
    }

    #[test]
    fn links_without_cost_take_no_time() {
        let link = Link { latency: 0.0, bytes_per_s: f64::MAX };
        let machine = Machine { links: [link; 4], ..Machine::default() };
        let found = simulated("tp=2,dp=2", &machine, true);
        let exposed: f64 = AXES.into_iter().map(|axis| found.along(axis).1).sum();
        assert!(exposed < 1e-12 && found.seconds >= found.computed, "{found:?}");
    }

    #[test]
    fn texts_of_machines() {
        assert_eq!("".parse::<Machine>().unwrap(), Machine::default());
        let found: Machine = "flop=1e12, tp=2e9/1e-3,dp=5".parse().unwrap();
        assert_eq!((found.flop, found.memory), (1e12, Machine::default().memory));
        assert_eq!(found.links[0], Link { latency: 1e-3, bytes_per_s: 2e9 });
        assert_eq!(found.links[3], Link { bytes_per_s: 5.0, ..Machine::default().links[3] });
        assert!("flop=1e9,flop=1e9".parse::<Machine>().is_err());
        assert!("flop=1e9,,tp=1e9".parse::<Machine>().is_err());
        for text in ["tp", "ep=2", "flop=0", "flop=-1", "tp=nan", "dp=1/x", "memory=inf"] {
            let error = text.parse::<Machine>().unwrap_err().to_string();
            assert!(error.contains(text) && error.contains("write flop="), "{error}");
        }
    }
}
