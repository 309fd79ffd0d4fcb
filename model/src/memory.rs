//! All memory of activations, planned when the model is made: one buffer for scratch, one for each
//! slot of saved activations. Nothing is allocated in a step. Not a cache of keys and values.

use crate::Error;
use crate::config::Config;
use quipu_math::{DType, Device, View};

/// What the model is made for.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Most tokens in a micro-batch; 0 for a model that only generates.
    pub tokens: usize,
    /// Micro-batches whose activations live at the same time.
    pub slots: usize,
    /// Positions of the rotary table; `None`: what the configuration was made for.
    pub positions: Option<usize>,
    /// Most rows in one call of `extend`; 0 for a model that does not generate.
    pub generated: usize,
    /// Whether there are gradients: no for a frozen reference model.
    pub gradients: bool,
    /// Whether `backward_input` and `backward_weight` are called apart (keeps more per slot).
    pub split_backward: bool,
    /// Element types by role.
    pub precision: Precision,
}

/// Element types by role. Master weights and the optimizer's moments are the trainer's, and never
/// narrower than `sums`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Precision {
    /// What the matrices are multiplied in: working weights.
    pub weights: DType,
    /// What is saved for the backward pass and read by products, and its gradients inside a layer;
    /// keys and values.
    pub activations: DType,
    /// The residual stream and its gradient, parameters' gradients, norms, log-probabilities.
    pub sums: DType,
}

impl Precision {
    /// One type for every role: F32, or F64 on the reference device.
    pub const fn whole(dtype: DType) -> Precision {
        Precision { weights: dtype, activations: dtype, sums: dtype }
    }

    /// Weights and activations in bf16, what is summed in f32 (paper, section 3.3.2: gradients are
    /// accumulated in f32).
    pub const MIXED: Precision =
        Precision { weights: DType::BF16, activations: DType::BF16, sums: DType::F32 };
}

impl Capacity {
    /// For training: `tokens` in a micro-batch, one slot, gradients, the device's own type.
    pub fn training(device: &dyn Device, tokens: usize) -> Capacity {
        let precision = Precision::whole(working_dtype(device));
        let gradients = true;
        Capacity {
            tokens,
            slots: 1,
            positions: None,
            generated: 0,
            gradients,
            split_backward: false,
            precision,
        }
    }

    /// For log-probabilities of a frozen model: no gradients.
    pub fn frozen(device: &dyn Device, tokens: usize) -> Capacity {
        Capacity { gradients: false, ..Capacity::training(device, tokens) }
    }

    /// For generation: at most `generated` new rows in one call of `extend`.
    pub fn generating(device: &dyn Device, generated: usize) -> Capacity {
        Capacity { generated, slots: 0, ..Capacity::frozen(device, 0) }
    }
}

/// The type a device computes in: f64 on the reference device, f32 elsewhere.
pub fn working_dtype(device: &dyn Device) -> DType {
    if device.name() == "reference" { DType::F64 } else { DType::F32 }
}

/// Bytes of one kind of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// `weights`, `packed weights`, `gradients`, `activations`, `scratch`, `rotary table`,
    /// `generation`; the trainer adds its own.
    pub kind: &'static str,
    /// Bytes.
    pub bytes: usize,
}

/// Views of one buffer, in the order asked for, each aligned to a cache line.
pub(crate) struct Carver<'a> {
    device: &'a dyn Device,
    shapes: Vec<(DType, usize, usize)>,
}

impl<'a> Carver<'a> {
    pub(crate) fn new(device: &'a dyn Device) -> Carver<'a> {
        Carver { device, shapes: Vec::new() }
    }

    pub(crate) fn ask(&mut self, dtype: DType, rows: usize, cols: usize) {
        self.shapes.push((dtype, rows, cols));
    }

    /// Allocates one buffer; the views come in the order of the calls of `ask`.
    pub(crate) fn carve(self) -> Result<(usize, Views), Error> {
        let room = |(dtype, rows, cols): &(DType, usize, usize)| {
            (rows * cols * dtype.size()).next_multiple_of(64)
        };
        let bytes = self.shapes.iter().map(room).sum();
        let buffer = self.device.allocate(bytes)?;
        let mut at = 0;
        let mut views = Vec::new();
        for shape in &self.shapes {
            let (dtype, rows, cols) = *shape;
            views.push(View::dense(buffer.clone(), dtype, at / dtype.size(), rows, cols)?);
            at += room(shape);
        }
        Ok((bytes, Views(views.into_iter())))
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

/// What the backward pass of one layer needs of its forward.
#[derive(Clone, Debug)]
pub(crate) struct LayerSlot {
    /// T × D: the normed input of attention.
    pub norm1: View,
    /// T × 1.
    pub rstd1: View,
    /// T × (H + 2·KV)·hd, rotated.
    pub qkv: View,
    /// T × H·hd.
    pub attended: View,
    /// T × H.
    pub lse: View,
    /// T × D: the residual stream between attention and feed-forward.
    pub middle: View,
    /// T × D: the normed input of the feed-forward.
    pub norm2: View,
    /// T × 1.
    pub rstd2: View,
    /// T × 2F; the backward turns it into its own gradient.
    pub gate_up: View,
    /// Only where input and weight gradients are called apart.
    pub kept: Option<Kept>,
}

/// Gradients of a layer's matmul outputs, kept from `backward_input` for `backward_weight`.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// T × D: gradient of the layer's output.
    pub out: View,
    /// T × F: what the down projection read.
    pub act: View,
    /// T × D: gradient of the residual stream between the halves.
    pub middle: View,
    /// T × (H + 2·KV)·hd.
    pub qkv: View,
}

/// Everything saved for one micro-batch.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    /// Tokens now in it.
    pub rows: usize,
    pub tokens: View,
    pub targets: View,
    pub positions: View,
    pub starts: View,
    pub weights: View,
    /// Residual stream before each layer and after the last: L + 1 of T × D.
    pub hidden: Vec<View>,
    pub layers: Vec<LayerSlot>,
    pub final_norm: View,
    pub final_rstd: View,
    pub target_logit: View,
    pub lse: View,
}

impl Slot {
    pub(crate) fn allocate(
        device: &dyn Device,
        config: &Config,
        capacity: &Capacity,
    ) -> Result<(usize, Slot), Error> {
        let (t, d) = (capacity.tokens, config.hidden_size);
        let Precision { activations: act, sums, .. } = capacity.precision;
        let (q, qkv, f) = (config.query_width(), config.qkv_width(), config.intermediate_size);
        let layer = [
            (act, d),
            (sums, 1),
            (act, qkv),
            (act, q),
            (sums, config.heads),
            (sums, d),
            (act, d),
            (sums, 1),
            (act, 2 * f),
        ];
        let kept = [(sums, d), (act, f), (sums, d), (act, qkv)];
        let ends = [(sums, 1), (act, d), (sums, 1), (sums, 1), (sums, 1)];
        let mut carver = Carver::new(device);
        (0..4).for_each(|_| carver.ask(DType::U32, t, 1));
        ends.iter().for_each(|(dtype, cols)| carver.ask(*dtype, t, *cols));
        (0..=config.layers).for_each(|_| carver.ask(sums, t, d));
        for _ in 0..config.layers {
            layer.iter().for_each(|(dtype, cols)| carver.ask(*dtype, t, *cols));
            if capacity.split_backward {
                kept.iter().for_each(|(dtype, cols)| carver.ask(*dtype, t, *cols));
            }
        }
        let (bytes, mut views) = carver.carve()?;
        Ok((bytes, Slot::from_views(&mut views, config.layers, capacity.split_backward)?))
    }

    fn from_views(v: &mut Views, layers: usize, split: bool) -> Result<Slot, Error> {
        Ok(Slot {
            rows: 0,
            tokens: v.next()?,
            targets: v.next()?,
            positions: v.next()?,
            starts: v.next()?,
            weights: v.next()?,
            final_norm: v.next()?,
            final_rstd: v.next()?,
            target_logit: v.next()?,
            lse: v.next()?,
            hidden: (0..=layers).map(|_| v.next()).collect::<Result<_, _>>()?,
            layers: (0..layers)
                .map(|_| LayerSlot::from_views(v, split))
                .collect::<Result<_, _>>()?,
        })
    }

    /// The same slot with every view cut to its first `rows` rows.
    pub(crate) fn cut(&self, rows: usize) -> Result<Slot, Error> {
        let cut = |view: &View| view.slice_rows(0..rows);
        Ok(Slot {
            rows,
            tokens: cut(&self.tokens)?,
            targets: cut(&self.targets)?,
            positions: cut(&self.positions)?,
            starts: cut(&self.starts)?,
            weights: cut(&self.weights)?,
            final_norm: cut(&self.final_norm)?,
            final_rstd: cut(&self.final_rstd)?,
            target_logit: cut(&self.target_logit)?,
            lse: cut(&self.lse)?,
            hidden: self.hidden.iter().map(cut).collect::<Result<_, _>>()?,
            layers: self.layers.iter().map(|layer| layer.cut(rows)).collect::<Result<_, _>>()?,
        })
    }
}

impl LayerSlot {
    fn from_views(v: &mut Views, split: bool) -> Result<LayerSlot, Error> {
        Ok(LayerSlot {
            norm1: v.next()?,
            rstd1: v.next()?,
            qkv: v.next()?,
            attended: v.next()?,
            lse: v.next()?,
            middle: v.next()?,
            norm2: v.next()?,
            rstd2: v.next()?,
            gate_up: v.next()?,
            kept: match split {
                true => {
                    Some(Kept { out: v.next()?, act: v.next()?, middle: v.next()?, qkv: v.next()? })
                }
                false => None,
            },
        })
    }

    fn cut(&self, rows: usize) -> Result<LayerSlot, Error> {
        let cut = |view: &View| view.slice_rows(0..rows);
        let kept = |kept: &Kept| {
            let (out, act) = (cut(&kept.out)?, cut(&kept.act)?);
            Ok::<_, quipu_math::Error>(Kept {
                out,
                act,
                middle: cut(&kept.middle)?,
                qkv: cut(&kept.qkv)?,
            })
        };
        Ok(LayerSlot {
            norm1: cut(&self.norm1)?,
            rstd1: cut(&self.rstd1)?,
            qkv: cut(&self.qkv)?,
            attended: cut(&self.attended)?,
            lse: cut(&self.lse)?,
            middle: cut(&self.middle)?,
            norm2: cut(&self.norm2)?,
            rstd2: cut(&self.rstd2)?,
            gate_up: cut(&self.gate_up)?,
            kept: self.kept.as_ref().map(kept).transpose()?,
        })
    }
}

/// What one layer's forward or backward uses and nobody needs afterwards.
#[derive(Clone, Debug)]
pub(crate) struct Scratch {
    /// T × F: the feed-forward's product, then its gradient.
    pub act: View,
    /// T × D: the gradient of the residual stream.
    pub d_hidden: View,
    /// T × D: the gradient of a norm's output.
    pub d_norm: View,
    /// T × H·hd.
    pub d_attended: View,
    /// T × (H + 2·KV)·hd.
    pub d_qkv: View,
}

impl Scratch {
    pub(crate) fn allocate(
        device: &dyn Device,
        config: &Config,
        capacity: &Capacity,
    ) -> Result<(usize, Scratch), Error> {
        let t = capacity.tokens;
        let back = if capacity.gradients { t } else { 0 };
        let Precision { activations: act, sums, .. } = capacity.precision;
        let mut carver = Carver::new(device);
        carver.ask(act, t, config.intermediate_size);
        carver.ask(sums, back, config.hidden_size);
        carver.ask(act, back, config.hidden_size);
        carver.ask(act, back, config.query_width());
        carver.ask(act, back, config.qkv_width());
        let (bytes, mut v) = carver.carve()?;
        let scratch = Scratch {
            act: v.next()?,
            d_hidden: v.next()?,
            d_norm: v.next()?,
            d_attended: v.next()?,
            d_qkv: v.next()?,
        };
        Ok((bytes, scratch))
    }

    /// Cut to the first `rows` rows (gradients only where there are some).
    pub(crate) fn cut(&self, rows: usize) -> Result<Scratch, Error> {
        let cut = |view: &View| view.slice_rows(0..rows.min(view.rows()));
        Ok(Scratch {
            act: cut(&self.act)?,
            d_hidden: cut(&self.d_hidden)?,
            d_norm: cut(&self.d_norm)?,
            d_attended: cut(&self.d_attended)?,
            d_qkv: cut(&self.d_qkv)?,
        })
    }
}
