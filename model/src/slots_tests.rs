//! No tensor is written over while somebody still wants to read it. Shown by the ops that a step runs,
//! not by the plan: of every number that an op or the host reads it is noted which op wrote it, and
//! that must be the same as where each tensor has memory of its own.

use crate::batch::Packed;
use crate::config::{Config, Sizes};
use crate::memory::{Capacity, Precision, Recompute};
use crate::model::Model;
use crate::shard::Shard;
use crate::slots::{Activations, Layout, Region, Spot};
use quipu_math::op::Layout as Turned;
use quipu_math::{Access, Buffer, Count, DType, Device, Op, Queue, Usage, View};
use quipu_mesh::Mesh;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

type Result<T> = std::result::Result<T, quipu_math::Error>;

/// The `count` device, and where each number came from.
#[derive(Debug, Default)]
struct Traced {
    count: Count,
    trace: Mutex<Trace>,
}

#[derive(Debug, Default)]
struct Trace {
    /// Of each two bytes of a buffer, by its id: which op wrote them, and as which part of an operand.
    writers: HashMap<u64, Vec<u64>>,
    /// Names of ops.
    ops: Vec<String>,
    /// Op, operand, and the writers of what it read.
    reads: Vec<(usize, &'static str, Vec<u64>)>,
}

impl Trace {
    /// Goes over the pairs of bytes of a view, row by row.
    fn each(&mut self, view: &View, mut f: impl FnMut(&mut u64)) {
        let buffer = view.buffer();
        let of = self.writers.entry(buffer.id()).or_insert_with(|| vec![0; buffer.bytes() / 2]);
        let pairs = view.dtype().size() / 2;
        for row in 0..view.rows() {
            let first = (view.offset() + row * view.stride()) * pairs;
            of[first..first + view.cols() * pairs].iter_mut().for_each(&mut f);
        }
    }

    fn reads(&mut self, name: &'static str, view: &View) {
        let mut found = Vec::new();
        self.each(view, |writer| found.push(*writer));
        self.reads.push((self.ops.len(), name, found));
    }

    /// Writers are counted from 1, the op that is being run.
    fn writes(&mut self, view: &View) {
        let mut next = ((self.ops.len() as u64) + 1) << 32;
        self.each(view, |writer| {
            *writer = next;
            next += 1;
        });
    }

    fn end(&mut self, op: &str) {
        self.ops.push(op.to_owned());
    }

    /// The first read of `self` that found something else than the same read of `other`.
    fn difference(&self, other: &Trace) -> Option<String> {
        assert_eq!(self.ops, other.ops, "the same calls");
        let reads = self.reads.iter().zip(&other.reads);
        let (ours, theirs) = { reads }.find(|(ours, theirs)| ours.2 != theirs.2)?;
        let pair = ours.2.iter().zip(&theirs.2).find(|(a, b)| a != b);
        let name = |op: usize| self.ops.get(op).map_or("nobody", String::as_str);
        let writer = |id: u64| name(((id >> 32) as usize).wrapping_sub(1));
        let (found, wanted) = pair.map_or(("?", "?"), |(a, b)| (writer(*a), writer(*b)));
        Some(format!("{} reads {}, of {wanted}, from {found}", name(ours.0), ours.1))
    }
}

impl Device for Traced {
    fn name(&self) -> &str {
        self.count.name()
    }

    fn arithmetic(&self) -> String {
        self.count.arithmetic()
    }

    fn allocate(&self, bytes: usize) -> Result<Buffer> {
        self.count.allocate(bytes)
    }

    fn write(&self, queue: Queue, view: &View, bytes: &[u8]) -> Result<()> {
        self.count.write(queue, view, bytes)?;
        let mut trace = self.trace.lock().unwrap();
        trace.writes(view);
        trace.end("the host");
        Ok(())
    }

    fn read(&self, queue: Queue, view: &View, bytes: &mut [u8]) -> Result<()> {
        let mut trace = self.trace.lock().unwrap();
        trace.reads("a result", view);
        trace.end("the host");
        self.count.read(queue, view, bytes)
    }

    fn run(&self, queue: Queue, op: &Op) -> Result<()> {
        self.count.run(queue, op)?;
        let mut trace = self.trace.lock().unwrap();
        let operands = op.operands();
        let read = operands.iter().filter(|o| o.access != Access::Write);
        read.for_each(|o| trace.reads(o.name, o.view));
        let written = operands.iter().filter(|o| o.access.writes());
        written.for_each(|o| trace.writes(o.view));
        trace.end(op.name());
        Ok(())
    }

    fn packed(&self, layout: Turned, dtype: DType, rows: usize, cols: usize) -> usize {
        self.count.packed(layout, dtype, rows, cols)
    }

    fn usage(&self) -> Usage {
        self.count.usage()
    }
}

/// Numbers that depend on a seed alone (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % limit as u64) as usize
    }
}

/// A model to be run: shape, slots, policy.
#[derive(Clone, Debug)]
struct Case {
    seed: u64,
    config: Config,
    capacity: Capacity,
}

impl Case {
    fn new(seed: u64, slots: usize, recompute: Recompute) -> Case {
        let mut n = Numbers(seed);
        let kv_heads = 1 + n.below(2);
        let heads = kv_heads * (1 + n.below(2));
        let mut config = Config::new(Sizes {
            vocab_size: 3 + n.below(9),
            hidden_size: heads * 2 * (1 + n.below(3)),
            intermediate_size: 2 + n.below(11),
            layers: 1 + n.below(3),
            heads,
            kv_heads,
            max_positions: 16,
            tied: n.below(2) == 0,
        })
        .unwrap();
        (config.attention_bias, config.mlp_bias) = (n.below(2) == 0, n.below(2) == 0);
        let precision = [Precision::whole(DType::F32), Precision::MIXED][n.below(2)];
        let split_backward = recompute != Recompute::Block && n.below(2) == 0;
        let capacity = Capacity::training(&Count::new(), 1 + n.below(9));
        let capacity = Capacity { slots, recompute, precision, split_backward, ..capacity };
        Case { seed, config, capacity }
    }

    /// What is read where, with tensors at the places of `layout`.
    fn trace(&self, layout: Layout) -> std::result::Result<Trace, crate::Error> {
        let device = Arc::new(Traced::default());
        let mut model =
            Model::new(device.clone(), Mesh::one(), self.config.clone(), self.capacity)?;
        model.activations = Activations::allocate(&*device, layout, self.capacity.slots)?;
        self.run(&mut model)?;
        model.gradients()?;
        drop(model);
        Ok(Arc::into_inner(device).unwrap().trace.into_inner().unwrap())
    }

    /// Forward and backward of some micro-batches, as many at a time as there are slots, in an order
    /// that a pipeline might take.
    fn run(&self, model: &mut Model) -> std::result::Result<(), crate::Error> {
        let slots = self.capacity.slots;
        let mut run = Run { case: self, model, n: Numbers(self.seed ^ 0xff), rows: vec![0; slots] };
        run.model.zero_gradients()?;
        (0..slots).try_for_each(|slot| run.forward(slot))?;
        for _ in 0..2 * slots {
            let slot = run.n.below(slots);
            if run.n.below(2) == 0 {
                run.backward(slot)?
            } else {
                run.backward_fused(slot)?
            }
            run.forward(slot)?;
        }
        Ok(())
    }

    fn planned(&self) -> Layout {
        Layout::new(&self.config, &self.capacity, &Shard::whole(&self.config))
    }

    /// What `layout` gets wrong; none where it is sound.
    fn wrong(&self, layout: Layout) -> Option<String> {
        let apart = self.trace(apart(&self.planned())).unwrap();
        match self.trace(layout) {
            Ok(trace) => trace.difference(&apart),
            // two operands of one op on the same memory
            Err(error) => Some(error.to_string()),
        }
    }
}

/// A case that is being run.
struct Run<'a> {
    case: &'a Case,
    model: &'a mut Model,
    n: Numbers,
    /// Tokens in each slot.
    rows: Vec<usize>,
}

impl Run<'_> {
    fn forward(&mut self, slot: usize) -> std::result::Result<(), crate::Error> {
        self.rows[slot] = 1 + self.n.below(self.case.capacity.tokens);
        self.model.forward(slot, &Packed::of([&vec![1; self.rows[slot]][..]]).view())
    }

    /// Another micro-batch goes forward, where there is room for one.
    fn forward_another(&mut self, slot: usize) -> std::result::Result<(), crate::Error> {
        let other = self.n.below(self.rows.len());
        if other == slot { Ok(()) } else { self.forward(other) }
    }

    fn backward_fused(&mut self, slot: usize) -> std::result::Result<(), crate::Error> {
        let (_, gradient) = self.model.head_fused(slot, &vec![-1.0; self.rows[slot]])?;
        self.forward_another(slot)?;
        self.model.backward_layers(slot, 0..self.case.config.layers, &gradient).map(|_| ())
    }

    fn backward(&mut self, slot: usize) -> std::result::Result<(), crate::Error> {
        let (layers, middle) = (self.case.config.layers, self.n.below(self.case.config.layers + 1));
        self.model.log_probs(slot)?;
        let gradient = self.model.backward_head(slot, &vec![-1.0; self.rows[slot]])?;
        if !self.case.capacity.split_backward {
            let gradient = self.model.backward_layers(slot, middle..layers, &gradient)?;
            return self.model.backward_layers(slot, 0..middle, &gradient).map(|_| ());
        }
        let gradient = self.model.backward_input(slot, middle..layers, &gradient)?;
        self.model.backward_input(slot, 0..middle, &gradient)?;
        // the weights' gradients have time
        self.forward_another(slot)?;
        self.model.backward_weight(slot, 0..layers)
    }
}

/// Each tensor of each slot in memory of its own.
fn apart(layout: &Layout) -> Layout {
    let alone = |at: &mut usize, region, spot: &Spot| {
        let offset = *at;
        *at += (spot.rows * spot.cols * spot.dtype.size()).next_multiple_of(64);
        Ok(Spot { region, offset, ..*spot })
    };
    let (mut slot_bytes, mut scratch_bytes) = (0, 0);
    let slot = layout.slot.map(&mut |spot| alone(&mut slot_bytes, Region::Slot, spot));
    let scratch = layout.scratch.map(&mut |spot| alone(&mut scratch_bytes, Region::Scratch, spot));
    Layout { slot: slot.unwrap(), scratch: scratch.unwrap(), slot_bytes, scratch_bytes }
}

const POLICIES: [Recompute; 3] = [Recompute::None, Recompute::Elementwise, Recompute::Block];

#[test]
fn no_two_live_tensors_overlap() {
    for (recompute, slots) in POLICIES.into_iter().flat_map(|r| [1, 2, 5].map(|n| (r, n))) {
        for seed in 0..12 {
            let case = Case::new(seed, slots, recompute);
            assert_eq!(case.wrong(case.planned()), None, "{case:?}");
        }
    }
}

/// The layout with tensor number `which` a line lower; none where there is no lower or no such tensor.
fn moved(layout: &Layout, which: usize) -> Option<Layout> {
    let (mut layout, mut at, mut found) = (layout.clone(), 0, false);
    let mut lower = |spot: &Spot| {
        let this = at == which && spot.offset > 0 && spot.rows > 0;
        (at, found) = (at + 1, found || this);
        Ok(Spot { offset: spot.offset - if this { 64 } else { 0 }, ..*spot })
    };
    layout.slot = layout.slot.map(&mut lower).unwrap();
    layout.scratch = layout.scratch.map(&mut lower).unwrap();
    found.then_some(layout)
}

/// The test above would fail: each tensor is moved onto the end of the one that lies before it. Where
/// nothing is made again only attention's gradient may lie so: that of a norm's output is written when
/// it has been read. What is made again may lie on what is dead by then.
#[test]
fn a_plan_that_is_wrong_in_one_place_is_noticed() {
    for recompute in POLICIES {
        let mut case = Case::new(3, 2, recompute);
        case.capacity.split_backward = false;
        let plan = case.planned();
        let mut all = 0;
        let mut count = |_: &_| {
            all += 1;
            Ok(())
        };
        plan.slot.map(&mut count).unwrap();
        plan.scratch.map(&mut count).unwrap();
        let moved = (0..all).filter_map(|which| Some((which, moved(&plan, which)?)));
        let missed = moved.filter(|(_, layout)| case.wrong(layout.clone()).is_none());
        let missed: Vec<usize> = missed.map(|(which, _)| which).collect();
        match recompute {
            Recompute::None => assert_eq!(missed, [all - 2]),
            _ => assert!(5 * missed.len() < all, "{recompute}: {missed:?} of {all}"),
        }
        let close = Layout { slot_bytes: plan.slot_bytes - 64, ..plan };
        assert!(case.wrong(close).is_some(), "{recompute}: slots too close");
    }
}

/// Nor does it pass where a norm's output is not made again, but its memory shared.
#[test]
fn what_is_not_made_again_is_missed() {
    let shared = Case::new(3, 1, Recompute::Elementwise).planned();
    let case = Case::new(3, 1, Recompute::None);
    assert!(case.wrong(shared).is_some());
}

#[test]
fn each_policy_keeps_less() {
    let bytes = |recompute, slots| {
        let Case { config, mut capacity, .. } = Case::new(8, slots, recompute);
        (capacity.tokens, capacity.split_backward) = (64, false);
        let layout = Layout::new(&config, &capacity, &Shard::whole(&config));
        (layout.slot_bytes, layout.scratch_bytes)
    };
    let [none, norms, block] = POLICIES.map(|recompute| bytes(recompute, 1));
    assert!(none.0 > norms.0 && norms.0 > block.0, "{none:?} {norms:?} {block:?}");
    assert!(none.1 < norms.1 && norms.1 < block.1, "{none:?} {norms:?} {block:?}");
    assert_eq!(bytes(Recompute::None, 5), none, "slots are equal");
}
