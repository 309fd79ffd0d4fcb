//! Where activations lie: what is saved of a micro-batch in one of a number of equal slots, what a
//! layer only works with in one scratch region. A plan of offsets is made from configuration and
//! capacity alone, so that what is summed beforehand and what is handed out are the same numbers;
//! handles are made of it by slot and rows. It holds no memory of weights, and no slice.

use crate::Error;
use crate::config::Config;
use crate::memory::{Capacity, Precision, Recompute};
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

/// The place of a matrix in its region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    pub region: Region,
    /// In bytes.
    pub offset: usize,
    pub dtype: DType,
    /// At most.
    pub rows: usize,
    pub cols: usize,
}

impl Spot {
    fn bytes(&self) -> usize {
        (self.rows * self.cols * self.dtype.size()).next_multiple_of(ALIGN)
    }

    /// Its first `rows` rows (as many as there are), where the region begins at byte `base`.
    fn view(&self, buffer: &Buffer, base: usize, rows: usize) -> Result<View, Error> {
        let offset = (base + self.offset) / self.dtype.size();
        let rows = rows.min(self.rows);
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

    fn place(&mut self, dtype: DType, rows: usize, cols: usize) -> Spot {
        let spot = Spot { region: self.region, offset: self.at, dtype, rows, cols };
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
        let spot = self.shelf.place(dtype, rows, cols);
        self.spots.push(spot);
    }

    /// Allocates the buffer; the views come in the order of the calls of `ask`.
    pub(crate) fn carve(self) -> Result<(usize, Views), Error> {
        let buffer = self.device.allocate(self.shelf.bytes)?;
        let views = self.spots.iter().map(|spot| spot.view(&buffer, 0, spot.rows));
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
    /// What the backward pass of one layer needs of its forward.
    Tensors {
        /// T × D: the normed input of attention.
        norm1,
        /// T × 1.
        rstd1,
        /// T × (H + 2·KV)·hd, rotated.
        qkv,
        /// T × H·hd.
        attended,
        /// T × H.
        lse,
        /// T × D: the residual stream between attention and feed-forward.
        middle,
        /// T × D: the normed input of the feed-forward.
        norm2,
        /// T × 1.
        rstd2,
        /// T × 2F; the backward turns it into its own gradient.
        gate_up,
    }
}

tensors! {
    /// Gradients of a layer's matmul outputs, kept from `backward_input` for `backward_weight`.
    Kept {
        /// T × D: gradient of the layer's output.
        out,
        /// T × F: what the down projection read.
        act,
        /// T × D: gradient of the residual stream between the halves.
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
        /// T × D.
        final_norm,
        /// T × 1, as the next two.
        final_rstd,
        target_logit,
        lse,
    }
}

tensors! {
    /// What one layer's forward or backward uses and nobody needs afterwards.
    Scratch {
        /// T × D: the gradient of the residual stream.
        d_hidden,
        /// T × D: the gradient of a norm's output.
        d_norm,
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

/// Everything saved for one micro-batch.
#[derive(Clone, Debug)]
pub(crate) struct Slot<T = View> {
    pub ends: Ends<T>,
    /// Residual stream before each layer and after the last: L + 1 of T × D.
    pub hidden: Vec<T>,
    pub layers: Vec<LayerSlot<T>>,
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
        Ok(Slot { ends, hidden, layers })
    }
}

impl Slot {
    /// Tokens in it.
    pub(crate) fn rows(&self) -> usize {
        self.ends.tokens.rows()
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

impl Layout {
    pub(crate) fn new(config: &Config, capacity: &Capacity) -> Layout {
        let (mut slot, mut scratch) = (Shelf::new(Region::Slot), Shelf::new(Region::Scratch));
        let (t, d) = (capacity.tokens, config.hidden_size);
        let Precision { activations: act, sums, .. } = capacity.precision;
        let ends = ends(&mut slot, config, capacity);
        let hidden = (0..=config.layers).map(|_| slot.place(sums, t, d)).collect();
        let (mut normed, mut block) = (None, None);
        match capacity.recompute {
            // for no backward nothing is kept
            Recompute::Block => block = Some(saved(&mut scratch, config, capacity, None)),
            _ if !capacity.gradients => block = Some(saved(&mut scratch, config, capacity, None)),
            Recompute::Elementwise => normed = Some(scratch.place(act, t, d)),
            Recompute::None => {}
        }
        let layer = |_| LayerSlot {
            saved: block.clone().unwrap_or_else(|| saved(&mut slot, config, capacity, normed)),
            kept: capacity.split_backward.then(|| kept(&mut slot, config, capacity)),
        };
        let layers = (0..config.layers).map(layer).collect();
        let scratch_spots = working(&mut scratch, config, capacity);
        Layout {
            slot: Slot { ends, hidden, layers },
            scratch: scratch_spots,
            slot_bytes: slot.bytes,
            scratch_bytes: scratch.bytes,
        }
    }
}

fn ends(shelf: &mut Shelf, config: &Config, capacity: &Capacity) -> Ends<Spot> {
    let Precision { activations: act, sums, .. } = capacity.precision;
    let mut place = |dtype, cols| shelf.place(dtype, capacity.tokens, cols);
    Ends {
        tokens: place(DType::U32, 1),
        targets: place(DType::U32, 1),
        positions: place(DType::U32, 1),
        starts: place(DType::U32, 1),
        weights: place(sums, 1),
        final_norm: place(act, config.hidden_size),
        final_rstd: place(sums, 1),
        target_logit: place(sums, 1),
        lse: place(sums, 1),
    }
}

/// What a layer saves; the outputs of both norms lie at `normed`, where they are made again.
fn saved(
    shelf: &mut Shelf,
    config: &Config,
    capacity: &Capacity,
    normed: Option<Spot>,
) -> Tensors<Spot> {
    let Precision { activations: act, sums, .. } = capacity.precision;
    let d = config.hidden_size;
    let mut place = |dtype, cols| shelf.place(dtype, capacity.tokens, cols);
    Tensors {
        norm1: normed.unwrap_or_else(|| place(act, d)),
        rstd1: place(sums, 1),
        qkv: place(act, config.qkv_width()),
        attended: place(act, config.query_width()),
        lse: place(sums, config.heads),
        middle: place(sums, d),
        norm2: normed.unwrap_or_else(|| place(act, d)),
        rstd2: place(sums, 1),
        gate_up: place(act, 2 * config.intermediate_size),
    }
}

fn kept(shelf: &mut Shelf, config: &Config, capacity: &Capacity) -> Kept<Spot> {
    let Precision { activations: act, sums, .. } = capacity.precision;
    let mut place = |dtype, cols| shelf.place(dtype, capacity.tokens, cols);
    Kept {
        out: place(sums, config.hidden_size),
        act: place(act, config.intermediate_size),
        middle: place(sums, config.hidden_size),
        qkv: place(act, config.qkv_width()),
    }
}

fn working(shelf: &mut Shelf, config: &Config, capacity: &Capacity) -> Scratch<Spot> {
    let t = capacity.tokens;
    let back = if capacity.gradients { t } else { 0 };
    let Precision { activations: act, sums, .. } = capacity.precision;
    let d_hidden = shelf.place(sums, back, config.hidden_size);
    let d_norm = shelf.place(act, back, config.hidden_size);
    // the halves of a layer come one after the other
    let halves = shelf.at;
    let product = shelf.place(act, t, config.intermediate_size);
    shelf.back(halves);
    let d_attended = shelf.place(act, back, config.query_width());
    let d_qkv = shelf.place(act, back, config.qkv_width());
    Scratch { d_hidden, d_norm, act: product, d_attended, d_qkv }
}

/// The memory of a plan on a device.
#[derive(Debug)]
pub(crate) struct Activations {
    pub layout: Layout,
    slots: Buffer,
    scratch: Buffer,
    /// Tokens now in each slot.
    rows: Vec<usize>,
}

impl Activations {
    pub(crate) fn allocate(
        device: &dyn Device,
        layout: Layout,
        slots: usize,
    ) -> Result<Activations, Error> {
        let rows = vec![0; slots];
        let (slots, scratch) = (slots * layout.slot_bytes, layout.scratch_bytes);
        let (slots, scratch) = (device.allocate(slots)?, device.allocate(scratch)?);
        Ok(Activations { layout, slots, scratch, rows })
    }

    /// Bytes of all slots, and of scratch.
    pub(crate) fn bytes(&self) -> (usize, usize) {
        (self.slots.bytes(), self.scratch.bytes())
    }

    /// How many tokens are in a slot, where there is such a slot.
    pub(crate) fn rows(&mut self, slot: usize) -> Result<&mut usize, Error> {
        let slots = self.rows.len();
        self.rows.get_mut(slot).ok_or_else(|| no_slot(slot, slots))
    }

    /// What is in a slot, as views of its rows.
    pub(crate) fn loaded(&self, slot: usize) -> Result<Slot, Error> {
        match self.rows.get(slot) {
            None => Err(no_slot(slot, self.rows.len())),
            Some(0) => Err(Error::Call {
                what: "slot",
                found: "empty".into(),
                expected: "a micro-batch, by load_batch or forward".into(),
            }),
            Some(rows) => self.layout.slot.map(&mut |spot| self.view(spot, slot, *rows)),
        }
    }

    /// The scratch region, as views of so many rows (gradients only where there are some).
    pub(crate) fn scratch(&self, rows: usize) -> Result<Scratch, Error> {
        self.layout.scratch.map(&mut |spot| self.view(spot, 0, rows))
    }

    fn view(&self, spot: &Spot, slot: usize, rows: usize) -> Result<View, Error> {
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
