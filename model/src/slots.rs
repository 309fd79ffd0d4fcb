//! Where activations lie: what is saved of a micro-batch in one of a number of equal slots, what a
//! layer only works with in one scratch region. A plan of offsets is made from configuration and
//! capacity alone, so that what is summed beforehand and what is handed out are the same numbers;
//! handles are made of it by slot and rows. It holds no memory of weights, and no slice.

use crate::Error;
use crate::config::Config;
use crate::memory::{Capacity, Precision, Recompute};
use crate::shard::{Rows, Shard};
use quipu_math::{Buffer, DType, Device, View};

/// Where every tensor begins: on a cache line.
const ALIGN: usize = 64;

/// The memory that a tensor lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Region {
    /// The slot of its micro-batch.
    Slot,
    /// What all slots share.
    Scratch,
}

/// Which rows of a micro-batch a tensor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Per {
    /// All: keys and values that context-parallel ranks gather.
    Whole,
    /// This context-parallel rank's: what split matrices read and give.
    Local,
    /// Of them, this tensor-parallel rank's: the residual stream.
    Shard,
}

impl Per {
    fn of(self, rows: &Rows) -> usize {
        match self {
            Per::Whole => rows.whole,
            Per::Local => rows.local,
            Per::Shard => rows.shard,
        }
    }
}

/// The place of a matrix in its region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    pub region: Region,
    /// In bytes.
    pub offset: usize,
    pub dtype: DType,
    pub per: Per,
    /// At most.
    pub rows: usize,
    pub cols: usize,
}

impl Spot {
    fn bytes(&self) -> usize {
        (self.rows * self.cols * self.dtype.size()).next_multiple_of(ALIGN)
    }

    /// Its first rows (as many as there are), where the region begins at byte `base`.
    fn view(&self, buffer: &Buffer, base: usize, rows: &Rows) -> Result<View, Error> {
        let offset = (base + self.offset) / self.dtype.size();
        let rows = self.per.of(rows).min(self.rows);
        Ok(View::dense(buffer.clone(), self.dtype, offset, rows, self.cols)?)
    }
}

/// A region that is being planned: places one after the other.
#[derive(Debug)]
struct Shelf {
    region: Region,
    at: usize,
    /// The most bytes that were in use.
    bytes: usize,
}

impl Shelf {
    fn new(region: Region) -> Shelf {
        Shelf { region, at: 0, bytes: 0 }
    }

    fn place(&mut self, dtype: DType, per: Per, rows: usize, cols: usize) -> Spot {
        let spot = Spot { region: self.region, offset: self.at, dtype, per, rows, cols };
        self.at += spot.bytes();
        self.bytes = self.bytes.max(self.at);
        spot
    }

    /// What is placed from here on may lie on what was placed since `self.at` was `at`.
    fn back(&mut self, at: usize) {
        self.at = at;
    }
}

/// Views of a buffer of their own, in the order asked for.
pub(crate) struct Carver<'a> {
    device: &'a dyn Device,
    shelf: Shelf,
    spots: Vec<Spot>,
}

impl<'a> Carver<'a> {
    pub(crate) fn new(device: &'a dyn Device) -> Carver<'a> {
        Carver { device, shelf: Shelf::new(Region::Scratch), spots: Vec::new() }
    }

    pub(crate) fn ask(&mut self, dtype: DType, rows: usize, cols: usize) {
        let spot = self.shelf.place(dtype, Per::Local, rows, cols);
        self.spots.push(spot);
    }

    /// Allocates the buffer; the views come in the order of the calls of `ask`.
    pub(crate) fn carve(self) -> Result<(usize, Views), Error> {
        let buffer = self.device.allocate(self.shelf.bytes)?;
        let all = |spot: &Spot| Rows { local: spot.rows, ..Rows::default() };
        let views = self.spots.iter().map(|spot| spot.view(&buffer, 0, &all(spot)));
        Ok((self.shelf.bytes, Views(views.collect::<Result<Vec<_>, _>>()?.into_iter())))
    }
}

/// Carved views, handed out in order.
pub(crate) struct Views(std::vec::IntoIter<View>);

impl Views {
    pub(crate) fn next(&mut self) -> Result<View, Error> {
        self.0.next().ok_or_else(|| Error::Call {
            what: "planned memory",
            found: "one view too few".into(),
            expected: "as many as were asked for".into(),
        })
    }
}

/// A struct of tensors that are all of type `T`: places in a plan, or views of a slot.
macro_rules! tensors {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $field:ident),* $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Debug)]
        pub(crate) struct $name<T = View> {
            $($(#[$doc])* pub $field: T),*
        }

        impl<T> $name<T> {
            pub(crate) fn map<U>(&self, of: &mut Of<'_, T, U>) -> Result<$name<U>, Error> {
                Ok($name { $($field: of(&self.$field)?),* })
            }
        }
    };
}

/// What becomes of each tensor.
type Of<'a, T, U> = dyn FnMut(&T) -> Result<U, Error> + 'a;

tensors! {
    /// What the backward pass of one layer needs of its forward. T rows are those of a
    /// context-parallel rank, S of them those of a tensor-parallel one; H, KV and F are this rank's.
    Tensors {
        /// S × D: the normed input of attention.
        norm1,
        /// S × 1.
        rstd1,
        /// T × (H + 2·KV)·hd, rotated.
        qkv,
        /// T × H·hd.
        attended,
        /// T × H.
        lse,
        /// S × D: the residual stream between attention and feed-forward.
        middle,
        /// S × D: the normed input of the feed-forward.
        norm2,
        /// S × 1.
        rstd2,
        /// T × 2F; the backward turns it into its own gradient.
        gate_up,
    }
}

tensors! {
    /// Gradients of a layer's matmul outputs, kept from `backward_input` for `backward_weight`.
    Kept {
        /// S × D: gradient of the layer's output.
        out,
        /// T × F: what the down projection read.
        act,
        /// S × D: gradient of the residual stream between the halves.
        middle,
        /// T × (H + 2·KV)·hd.
        qkv,
    }
}

tensors! {
    /// A micro-batch's numbers, and what the ends of the model save.
    Ends {
        /// T × 1, as the next four.
        tokens,
        targets,
        positions,
        starts,
        weights,
        /// S × D.
        final_norm,
        /// S × 1.
        final_rstd,
        /// T × 1, as the next one.
        target_logit,
        lse,
    }
}

tensors! {
    /// What one layer's forward or backward uses and nobody needs afterwards.
    Scratch {
        /// S × D: the gradient of the residual stream.
        d_hidden,
        /// S × D: the gradient of a norm's output.
        d_norm,
        /// T × D, as the next one: what tensor-parallel ranks gather, and their summands. Nothing on
        /// one rank.
        gathered,
        summand,
        /// T × D: a norm's output, gathered once more for the gradients of weights.
        again,
        /// S × D: the residual stream on its way to another stage.
        message,
        /// All rows × 2·KV·hd: keys and values of all context-parallel ranks; their gradients.
        kv,
        d_kv,
        /// T × tensor-parallel ranks: what each has of the log-sum-exp of the logits.
        lse,
        /// T × F: the feed-forward's product, then its gradient. Attention's gradients, the next
        /// two, lie on it.
        act,
        /// T × H·hd.
        d_attended,
        /// T × (H + 2·KV)·hd.
        d_qkv,
    }
}

/// One layer of a slot.
#[derive(Clone, Debug)]
pub(crate) struct LayerSlot<T = View> {
    /// Of the forward pass.
    pub saved: Tensors<T>,
    /// Only where input and weight gradients are called apart.
    pub kept: Option<Kept<T>>,
}

/// Everything saved for one micro-batch in one chunk of layers.
#[derive(Clone, Debug)]
pub(crate) struct Slot<T = View> {
    pub ends: Ends<T>,
    /// Residual stream before each layer of the chunk and after the last: S × D each.
    pub hidden: Vec<T>,
    pub layers: Vec<LayerSlot<T>>,
    pub at: Loaded,
}

/// What is in a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loaded {
    pub rows: Rows,
    /// Number of the rank's chunk.
    pub chunk: usize,
}

impl<T> Slot<T> {
    pub(crate) fn map<U>(&self, of: &mut Of<'_, T, U>) -> Result<Slot<U>, Error> {
        let ends = self.ends.map(of)?;
        let hidden = self.hidden.iter().map(&mut *of).collect::<Result<_, _>>()?;
        let layer = |layer: &LayerSlot<T>| {
            let saved = layer.saved.map(of)?;
            let kept = layer.kept.as_ref().map(|kept| kept.map(of)).transpose()?;
            Ok::<_, Error>(LayerSlot { saved, kept })
        };
        let layers = self.layers.iter().map(layer).collect::<Result<_, _>>()?;
        Ok(Slot { ends, hidden, layers, at: self.at })
    }
}

/// Offsets of all tensors, and what they come to.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub slot: Slot<Spot>,
    pub scratch: Scratch<Spot>,
    pub slot_bytes: usize,
    pub scratch_bytes: usize,
}

/// What a plan is made from.
struct Plan<'a> {
    config: &'a Config,
    capacity: &'a Capacity,
    shard: &'a Shard,
    /// Of the largest micro-batch.
    rows: Rows,
}

impl Layout {
    pub(crate) fn new(config: &Config, capacity: &Capacity, shard: &Shard) -> Layout {
        let plan = Plan { config, capacity, shard, rows: shard.rows(capacity.tokens) };
        let (mut slot, mut scratch) = (Shelf::new(Region::Slot), Shelf::new(Region::Scratch));
        let (s, d) = (plan.rows.shard, config.hidden_size);
        let Precision { activations: act, sums, .. } = capacity.precision;
        let ends = plan.ends(&mut slot);
        let hidden =
            (0..=shard.most_layers()).map(|_| slot.place(sums, Per::Shard, s, d)).collect();
        let (mut normed, mut block) = (None, None);
        match capacity.recompute {
            // for no backward nothing is kept
            Recompute::Block => block = Some(plan.saved(&mut scratch, None)),
            _ if !capacity.gradients => block = Some(plan.saved(&mut scratch, None)),
            Recompute::Elementwise => normed = Some(scratch.place(act, Per::Shard, s, d)),
            Recompute::None => {}
        }
        let layer = |_| LayerSlot {
            saved: block.clone().unwrap_or_else(|| plan.saved(&mut slot, normed)),
            kept: capacity.split_backward.then(|| plan.kept(&mut slot)),
        };
        let layers = (0..shard.most_layers()).map(layer).collect();
        let scratch_spots = plan.working(&mut scratch);
        Layout {
            slot: Slot { ends, hidden, layers, at: Loaded::default() },
            scratch: scratch_spots,
            slot_bytes: slot.bytes,
            scratch_bytes: scratch.bytes,
        }
    }
}

impl Plan<'_> {
    fn ends(&self, shelf: &mut Shelf) -> Ends<Spot> {
        let Precision { activations: act, sums, .. } = self.capacity.precision;
        let last = if self.shard.has_last() { self.rows } else { Rows::default() };
        let mut ids = || shelf.place(DType::U32, Per::Local, self.rows.local, 1);
        let (tokens, targets, positions, starts) = (ids(), ids(), ids(), ids());
        let d = self.config.hidden_size;
        Ends {
            tokens,
            targets,
            positions,
            starts,
            weights: shelf.place(sums, Per::Local, last.local, 1),
            final_norm: shelf.place(act, Per::Shard, last.shard, d),
            final_rstd: shelf.place(sums, Per::Shard, last.shard, 1),
            target_logit: shelf.place(sums, Per::Local, last.local, 1),
            lse: shelf.place(sums, Per::Local, last.local, 1),
        }
    }

    /// What a layer saves; the outputs of both norms lie at `normed`, where they are made again.
    fn saved(&self, shelf: &mut Shelf, normed: Option<Spot>) -> Tensors<Spot> {
        let Precision { activations: act, sums, .. } = self.capacity.precision;
        let (d, shard) = (self.config.hidden_size, self.shard);
        let mut place = |dtype, per: Per, cols| shelf.place(dtype, per, per.of(&self.rows), cols);
        Tensors {
            norm1: normed.unwrap_or_else(|| place(act, Per::Shard, d)),
            rstd1: place(sums, Per::Shard, 1),
            qkv: place(act, Per::Local, shard.qkv_width()),
            attended: place(act, Per::Local, shard.query_width()),
            lse: place(sums, Per::Local, shard.heads.len()),
            middle: place(sums, Per::Shard, d),
            norm2: normed.unwrap_or_else(|| place(act, Per::Shard, d)),
            rstd2: place(sums, Per::Shard, 1),
            gate_up: place(act, Per::Local, 2 * shard.ffn.len()),
        }
    }

    fn kept(&self, shelf: &mut Shelf) -> Kept<Spot> {
        let Precision { activations: act, sums, .. } = self.capacity.precision;
        let d = self.config.hidden_size;
        let mut place = |dtype, per: Per, cols| shelf.place(dtype, per, per.of(&self.rows), cols);
        Kept {
            out: place(sums, Per::Shard, d),
            act: place(act, Per::Local, self.shard.ffn.len()),
            middle: place(sums, Per::Shard, d),
            qkv: place(act, Per::Local, self.shard.qkv_width()),
        }
    }

    fn working(&self, shelf: &mut Shelf) -> Scratch<Spot> {
        let (shard, d) = (self.shard, self.config.hidden_size);
        let Precision { activations: act, sums, .. } = self.capacity.precision;
        let rows = |needed: bool| if needed { self.rows } else { Rows::default() };
        let back = rows(self.capacity.gradients);
        let d_hidden = shelf.place(sums, Per::Shard, back.shard, d);
        let d_norm = shelf.place(act, Per::Shard, back.shard, d);
        let split = rows(shard.tp.size > 1).local;
        let gathered = shelf.place(act, Per::Local, split, d);
        let summand = shelf.place(act, Per::Local, split, d);
        let again = shelf.place(act, Per::Local, split.min(back.local), d);
        // in one type for all roles it goes as it is
        let staged = rows(!(shard.has_first() && shard.has_last()) && act != sums).shard;
        let message = shelf.place(act, Per::Shard, staged, d);
        let kv = shelf.place(act, Per::Whole, rows(shard.cp.size > 1).whole, 2 * shard.kv_width());
        let back_kv = if shard.cp.size > 1 { back.whole } else { 0 };
        let d_kv = shelf.place(sums, Per::Whole, back_kv, 2 * shard.kv_width());
        let lse = rows(shard.tp.size > 1 && shard.has_last()).local;
        let lse = shelf.place(sums, Per::Local, lse, shard.tp.size);
        // the halves of a layer come one after the other
        let halves = shelf.at;
        let product = shelf.place(act, Per::Local, self.rows.local, shard.ffn.len());
        shelf.back(halves);
        let d_attended = shelf.place(act, Per::Local, back.local, shard.query_width());
        let d_qkv = shelf.place(act, Per::Local, back.local, shard.qkv_width());
        Scratch {
            d_hidden,
            d_norm,
            gathered,
            summand,
            again,
            message,
            kv,
            d_kv,
            lse,
            act: product,
            d_attended,
            d_qkv,
        }
    }
}

/// The memory of a plan on a device.
#[derive(Debug)]
pub(crate) struct Activations {
    pub layout: Layout,
    slots: Buffer,
    scratch: Buffer,
    /// What is now in each slot.
    loaded: Vec<Loaded>,
}

impl Activations {
    pub(crate) fn allocate(
        device: &dyn Device,
        layout: Layout,
        slots: usize,
    ) -> Result<Activations, Error> {
        let loaded = vec![Loaded::default(); slots];
        let (slots, scratch) = (slots * layout.slot_bytes, layout.scratch_bytes);
        let (slots, scratch) = (device.allocate(slots)?, device.allocate(scratch)?);
        Ok(Activations { layout, slots, scratch, loaded })
    }

    /// Bytes of all slots, and of scratch.
    pub(crate) fn bytes(&self) -> (usize, usize) {
        (self.slots.bytes(), self.scratch.bytes())
    }

    /// Says what is in a slot, where there is such a slot.
    pub(crate) fn load(&mut self, slot: usize, what: Loaded) -> Result<(), Error> {
        let slots = self.loaded.len();
        *self.loaded.get_mut(slot).ok_or_else(|| no_slot(slot, slots))? = what;
        Ok(())
    }

    /// What is in a slot, as views of its rows.
    pub(crate) fn loaded(&self, slot: usize) -> Result<Slot, Error> {
        match self.loaded.get(slot) {
            None => Err(no_slot(slot, self.loaded.len())),
            Some(at) if at.rows.given == 0 => Err(Error::Call {
                what: "slot",
                found: "empty".into(),
                expected: "a micro-batch, by load_batch or forward".into(),
            }),
            Some(at) => {
                let views = self.layout.slot.map(&mut |spot| self.view(spot, slot, &at.rows))?;
                Ok(Slot { at: *at, ..views })
            }
        }
    }

    /// The scratch region, as views of so many rows (gradients only where there are some).
    pub(crate) fn scratch(&self, rows: &Rows) -> Result<Scratch, Error> {
        self.layout.scratch.map(&mut |spot| self.view(spot, 0, rows))
    }

    fn view(&self, spot: &Spot, slot: usize, rows: &Rows) -> Result<View, Error> {
        match spot.region {
            Region::Slot => spot.view(&self.slots, slot * self.layout.slot_bytes, rows),
            Region::Scratch => spot.view(&self.scratch, 0, rows),
        }
    }
}

fn no_slot(slot: usize, slots: usize) -> Error {
    Error::Call {
        what: "slot",
        found: slot.to_string(),
        expected: format!("less than {slots}, the slots the model was made with"),
    }
}
