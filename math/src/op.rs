//! The operations, as plain data: a kind, views, scalars. Not how they are computed: devices do
//! that. Formulas are those of the Llama 3 model (paper, section 3.2) and of AdamW.
//!
//! Conventions that hold for every op:
//! - an operand is a matrix of rows ([`View`]); T is a number of tokens, one token a row;
//! - a per-token scalar is T × 1, a vector parameter is 1 × D, a single number 1 × 1;
//! - gradients of parameters are **added to** (`dweight += …`); gradients of activations are
//!   **overwritten**, unless a flag `accumulate` says otherwise;
//! - an operand that is written overlaps no other operand, except where its documentation allows
//!   that it *is* another operand (the same elements, shape and type);
//! - NaN and infinity propagate; no op hides them.

use crate::error::Error;
use crate::view::View;

/// Which operands of a [`Matmul`] are transposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `out[m,n] = Σ_k a[m,k] · b[n,k]`: the forward of a linear layer, `y = x · Wᵀ`.
    NT,
    /// `out[m,n] = Σ_k a[m,k] · b[k,n]`: the gradient of its input, `dx = dy · W`.
    NN,
    /// `out[m,n] = Σ_k a[k,m] · b[k,n]`: the gradient of its weight, `dW = dyᵀ · x`.
    TN,
}

/// Maps the views inside a field of an op; everything that is no view stays.
pub(crate) trait Field: Sized {
    fn map(&self, f: &mut dyn FnMut(&View) -> Result<View, Error>) -> Result<Self, Error>;
}

impl Field for View {
    fn map(&self, f: &mut dyn FnMut(&View) -> Result<View, Error>) -> Result<View, Error> {
        f(self)
    }
}

impl Field for Option<View> {
    fn map(&self, f: &mut dyn FnMut(&View) -> Result<View, Error>) -> Result<Self, Error> {
        self.as_ref().map(f).transpose()
    }
}

impl Field for Vec<View> {
    fn map(&self, f: &mut dyn FnMut(&View) -> Result<View, Error>) -> Result<Self, Error> {
        self.iter().map(f).collect()
    }
}

macro_rules! scalars {
    ($($type:ty)*) => {$(impl Field for $type {
        fn map(&self, _: &mut dyn FnMut(&View) -> Result<View, Error>) -> Result<Self, Error> {
            Ok(*self)
        }
    })*};
}
scalars! { f64 u64 usize bool Layout }

macro_rules! ops {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {
        $($(#[$doc])* #[derive(Clone, Debug)] pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }
        impl From<$name> for Op { fn from(op: $name) -> Op { Op::$name(op) } })*

        /// One operation on the memory of one device.
        #[derive(Clone, Debug)]
        pub enum Op { $($(#[$doc])* $name($name),)* }

        impl Op {
            /// The name of the op in messages and tables of time.
            pub fn name(&self) -> &'static str {
                match self { $(Op::$name(_) => stringify!($name),)* }
            }

            /// The same op on other views.
            ///
            /// # Errors
            /// The first error of `f`.
            pub fn map_views(
                &self,
                mut f: impl FnMut(&View) -> Result<View, Error>,
            ) -> Result<Op, Error> {
                let f: &mut dyn FnMut(&View) -> Result<View, Error> = &mut f;
                Ok(match self {
                    $(Op::$name(o) => $name { $($field: Field::map(&o.$field, f)?),* }.into(),)*
                })
            }
        }
    };
}

ops! {
    /// `out = value`.
    Fill {
        /// Written; any type.
        out: View,
        /// Rounded to the type of `out`.
        value: f64,
    }

    /// `out = x`, converted to the type of `out` (round to nearest even). Between integer and
    /// float there is no conversion.
    Copy {
        /// Read.
        x: View,
        /// Written; the shape of `x`.
        out: View,
    }

    /// `out = a + b`: residual connections.
    Add {
        /// Read.
        a: View,
        /// Read; the shape of `a`.
        b: View,
        /// Written; the shape of `a`; may be `a` or `b`.
        out: View,
    }

    /// `out += alpha · x`.
    Axpy {
        /// The factor.
        alpha: f64,
        /// Read.
        x: View,
        /// Read and written; the shape of `x`.
        out: View,
    }

    /// `out *= alpha`.
    Scale {
        /// The factor.
        alpha: f64,
        /// Read and written.
        out: View,
    }

    /// Normal random numbers. Element (r, c) is a pure function of (seed, stream, index) with
    /// `index = first + r · pitch + c`, whatever the view, so that a shard of a tensor gets the
    /// numbers which the whole tensor has there. See [`crate::random`].
    Normal {
        /// Written; floats.
        out: View,
        /// The seed of the run.
        seed: u64,
        /// Which sequence of that seed (a tensor's number, say).
        stream: u64,
        /// Index of element (0, 0).
        first: u64,
        /// Index distance between rows: the number of columns of the whole tensor.
        pitch: u64,
        /// Added to every number.
        mean: f64,
        /// Standard deviation.
        deviation: f64,
    }

    /// Matrix product, see [`Layout`] for the three forms. Each row of `out` has the same bits
    /// whatever the number of rows of `out`, and for any number of threads. Where `a` or `b` is bf16
    /// a device may round the other one to it; sums are f32 at least.
    Matmul {
        /// Which operands are transposed.
        layout: Layout,
        /// Left operand: m × k, or k × m in [`Layout::TN`].
        a: View,
        /// Right operand: n × k in [`Layout::NT`], else k × n.
        b: View,
        /// `b` in the device's own form for this layout, by [`Pack`]; none to let it do without.
        packed: Option<View>,
        /// m × n, added to the product; may be `out`: then the product is added to it.
        plus: Option<View>,
        /// m × n, written.
        out: View,
    }

    /// Puts a weight into the form in which products of a layout read it as `b`. What that form is
    /// only the device knows; it has [`Device::packed`](crate::Device::packed) elements.
    Pack {
        /// The weight, as `b` of the product.
        x: View,
        /// The products it is for.
        layout: Layout,
        /// 1 × elements, u32, written.
        out: View,
    }

    /// `out[r] += bias` in every row.
    AddBias {
        /// 1 × n.
        bias: View,
        /// m × n, read and written.
        out: View,
    }

    /// `dbias += Σ_r dy[r]`.
    BiasBackward {
        /// m × n.
        dy: View,
        /// 1 × n, read and written.
        dbias: View,
    }

    /// `out = x · rstd · weight` with `rstd = 1 / sqrt(mean(x²) + epsilon)` in each row (paper,
    /// section 3.2: RMSNorm before each block).
    RmsNorm {
        /// T × D.
        x: View,
        /// 1 × D.
        weight: View,
        /// T × D; may be `x`.
        out: View,
        /// T × 1, written; kept for the backward.
        rstd: View,
        /// Added under the root.
        epsilon: f64,
    }

    /// The gradients of [`RmsNorm`]. With `g = dy · weight` and `n = x · rstd`:
    /// `dx = rstd · (g − n · mean(g · n))` and `dweight += Σ_t dy · n`.
    RmsNormBackward {
        /// T × D, the input of the forward.
        x: View,
        /// 1 × D.
        weight: View,
        /// T × 1, from the forward.
        rstd: View,
        /// T × D.
        dy: View,
        /// T × D; may be `dy` (without `accumulate`).
        dx: View,
        /// 1 × D, read and written; none if the weight is frozen.
        dweight: Option<View>,
        /// Whether the input's gradient is added to `dx` or replaces it: with the residual stream's
        /// gradient in `dx`, adding is the whole backward of the residual connection.
        accumulate: bool,
    }

    /// Rotary position embedding in place: columns (i, i + hd/2) of each head are turned by the
    /// angle of (position, i); the table holds cosines, so any frequency scaling lies in it.
    Rope {
        /// T × (heads · hd), read and written.
        x: View,
        /// T × 1, u32: row of `table` for each token.
        positions: View,
        /// positions × hd: hd/2 cosines, then hd/2 sines.
        table: View,
        /// Turn back: the backward of the forward rotation.
        inverse: bool,
    }

    /// `out = silu(gate) · up` with `silu(z) = z / (1 + exp(−z))`.
    SwiGlu {
        /// T × F.
        gate: View,
        /// T × F.
        up: View,
        /// T × F; may be `gate` or `up`.
        out: View,
    }

    /// The gradients of [`SwiGlu`], and once more its output where that was not kept.
    SwiGluBackward {
        /// T × F.
        gate: View,
        /// T × F.
        up: View,
        /// T × F.
        dout: View,
        /// T × F; may be `gate` or `dout`.
        dgate: View,
        /// T × F; may be `up` or `dout`.
        dup: View,
        /// T × F, `silu(gate) · up` computed again (same bits as the forward) for the weight
        /// gradient of the down projection; none where the forward's output was kept. May be `dout`.
        out: Option<View>,
    }

    /// Causal attention inside documents, grouped queries (paper, section 3.2): query row i stands
    /// at key row `query_offset + i` and sees the key rows `starts[i] ..= query_offset + i`. In each
    /// head, `out = softmax(scale · q · kᵀ) · v`. Head h reads key-value head `h · kv_heads / heads`.
    ///
    /// Training: `query_offset` 0 and as many key rows as query rows. Cached decoding: k and v are
    /// views of one sequence's cache, q holds the new tokens. Context parallelism: k and v are
    /// gathered, q is this rank's chunk. The bits of a row depend on its query and on the key rows it
    /// sees, on nothing else; memory grows linearly with length.
    Attention {
        /// Tq × (heads · hd).
        q: View,
        /// Tk × (kv_heads · hd).
        k: View,
        /// Tk × (kv_heads · hd).
        v: View,
        /// Tq × 1, u32: first key row each query sees, at most its own.
        starts: View,
        /// Key row of the first query; `query_offset + Tq ≤ Tk`.
        query_offset: usize,
        /// Query heads.
        heads: usize,
        /// Key-value heads; divides `heads`.
        kv_heads: usize,
        /// Usually 1 / sqrt(hd).
        scale: f64,
        /// Tq × (heads · hd).
        out: View,
        /// Tq × heads, written: log-sum-exp of the scaled scores; kept for the backward.
        lse: View,
    }

    /// The gradients of [`Attention`]; scores are computed again from `lse`.
    AttentionBackward {
        /// Tq × (heads · hd).
        q: View,
        /// Tk × (kv_heads · hd).
        k: View,
        /// Tk × (kv_heads · hd).
        v: View,
        /// Tq × 1, u32.
        starts: View,
        /// As in the forward.
        query_offset: usize,
        /// As in the forward.
        heads: usize,
        /// As in the forward.
        kv_heads: usize,
        /// As in the forward.
        scale: f64,
        /// Tq × (heads · hd), from the forward.
        out: View,
        /// Tq × heads, from the forward.
        lse: View,
        /// Tq × (heads · hd).
        dout: View,
        /// Tq × (heads · hd).
        dq: View,
        /// Tk × (kv_heads · hd).
        dk: View,
        /// Tk × (kv_heads · hd).
        dv: View,
        /// Whether dk and dv are added to or replaced (several query chunks over the same keys add);
        /// dq is always replaced.
        accumulate: bool,
    }

    /// `out[t] = table[ids[t] − vocab_start]`; zeros where the id lies in another rank's part of the
    /// vocabulary. Also gathers any rows by number.
    Embed {
        /// T × 1, u32.
        ids: View,
        /// rows × D: entries `vocab_start ..` of the vocabulary.
        table: View,
        /// First id in `table`.
        vocab_start: usize,
        /// Ids must be below this: the size of the whole vocabulary.
        vocab: usize,
        /// T × D.
        out: View,
    }

    /// `dtable[ids[t] − vocab_start] += dout[t]`, in the order of t.
    EmbedBackward {
        /// T × 1, u32.
        ids: View,
        /// T × D.
        dout: View,
        /// First id in `dtable`.
        vocab_start: usize,
        /// As in [`Embed`].
        vocab: usize,
        /// rows × D, read and written.
        dtable: View,
    }

    /// The loss head without its [T × V] matrix: with `z = hidden · weightᵀ`, the target's logit and
    /// the log-sum-exp of each row. The log-probability of the target is `target_logit − lse`.
    ///
    /// Vocabulary-parallel: `weight` holds the rows `vocab_start ..`; a target outside them has
    /// `target_logit` 0 here (sum over ranks), and the ranks' `lse` are joined by [`LogSumExp`].
    LossHead {
        /// T × D.
        hidden: View,
        /// rows × D.
        weight: View,
        /// T × 1, u32.
        targets: View,
        /// First id in `weight`.
        vocab_start: usize,
        /// Targets must be below this: the size of the whole vocabulary.
        vocab: usize,
        /// T × 1, written.
        target_logit: View,
        /// T × 1, written.
        lse: View,
        /// `weight` packed for [`Layout::NT`].
        packed: Option<View>,
    }

    /// The gradients of `Σ_t weights[t] · log p(target_t)`: with
    /// `g[t,v] = weights[t] · ([v = target_t] − exp(z[t,v] − lse[t]))`, `dhidden = g · weight` and
    /// `dweight += gᵀ · hidden`. With weights −1/N these are the gradients of the mean loss over N
    /// tokens.
    LossHeadBackward {
        /// T × D.
        hidden: View,
        /// rows × D.
        weight: View,
        /// T × 1, u32.
        targets: View,
        /// As in [`LossHead`].
        vocab_start: usize,
        /// As in [`LossHead`].
        vocab: usize,
        /// T × 1: over the whole vocabulary.
        lse: View,
        /// T × 1. Rows with weight zero are not computed: their gradient is exactly zero.
        weights: View,
        /// T × D, replaced.
        dhidden: View,
        /// rows × D, read and written; none if frozen.
        dweight: Option<View>,
        /// `weight` packed for [`Layout::NT`].
        packed: Option<View>,
        /// `weight` packed for [`Layout::NN`].
        packed_turned: Option<View>,
    }

    /// [`LossHead`] and [`LossHeadBackward`] in one pass, where the whole vocabulary is here and the
    /// weights are known beforehand (pre-training): the logits are computed once. Same results, bit
    /// for bit, as the two calls.
    LossHeadFused {
        /// T × D.
        hidden: View,
        /// V × D.
        weight: View,
        /// T × 1, u32, below V.
        targets: View,
        /// T × 1.
        weights: View,
        /// T × 1, written.
        target_logit: View,
        /// T × 1, written.
        lse: View,
        /// T × D, replaced.
        dhidden: View,
        /// V × D, read and written; none if frozen.
        dweight: Option<View>,
        /// `weight` packed for [`Layout::NT`].
        packed: Option<View>,
        /// `weight` packed for [`Layout::NN`].
        packed_turned: Option<View>,
    }

    /// `out[r] = log Σ_c exp(x[r, c])`: joins the `lse` of the ranks of a vocabulary-parallel head.
    LogSumExp {
        /// T × R.
        x: View,
        /// T × 1.
        out: View,
    }

    /// Column of the largest element of each row; the first of equals; the first NaN if there is one.
    ArgMax {
        /// T × V.
        x: View,
        /// T × 1, u32, written.
        out: View,
    }

    /// `out = Σ x²` (or `out += …`), summed in f64 in a fixed order: norms, and with it the check for
    /// NaN and infinity.
    SumSquares {
        /// Any shape.
        x: View,
        /// 1 × 1, f64 or f32.
        out: View,
        /// Whether the sum is added to `out` or replaces it.
        accumulate: bool,
    }

    /// One step of AdamW with decoupled decay, all in one pass. With `g = gradient · gradient_scale`:
    /// `first = beta1 · first + (1 − beta1) · g`, `second = beta2 · second + (1 − beta2) · g²`,
    /// `master −= rate · decay · master`, then `master −= rate / (1 − beta1^step) · first /
    /// (sqrt(second / (1 − beta2^step)) + epsilon)`, and `working = master`.
    AdamW {
        /// Read and written.
        master: View,
        /// Shape of `master`.
        gradient: View,
        /// First moment, shape of `master`, read and written.
        first: View,
        /// Second moment, shape of `master`, read and written.
        second: View,
        /// Shape of `master`, written: the weights that the forward reads, in their own type. None
        /// where that is `master` itself.
        working: Option<View>,
        /// 1 × 1: multiplied with every gradient (clipping, loss scale); none means 1.
        gradient_scale: Option<View>,
        /// Learning rate of this step.
        rate: f64,
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// Added to the root.
        epsilon: f64,
        /// Weight decay, multiplied with the rate.
        decay: f64,
        /// Number of this step, from 1: for the bias corrections.
        step: u64,
    }

    /// `out = parts[0] + parts[1] + …` in this order, each addition in f32 (f64 if `out` is f64):
    /// the arithmetic of a reduction over ranks, the same on every rank and transport.
    SumInRankOrder {
        /// One or more views of one shape.
        parts: Vec<View>,
        /// That shape; may be one of the parts.
        out: View,
    }
}
