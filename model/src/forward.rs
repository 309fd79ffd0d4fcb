//! The forward pass: embedding, layers, final norm, loss head (paper §3.2).
//!
//! Every collective of the paper's 4D parallelism is called where it belongs, through types that
//! say what a rank holds; on a group of one it returns at once. Not the way that generation takes
//! (`generate.rs`), though each row has the same bits there.

use crate::Error;
use crate::batch::MicroBatch;
use crate::model::{At, Model};
use crate::packs::Both;
use crate::parameters::{Joined, end};
use crate::slots::{Scratch, Slot, Tensors};
use quipu_math::Layout::NT;
use quipu_math::View;
use quipu_math::op::*;
use quipu_mesh::placement::{self, Gathering, HeadShard, Placed, SeqShard, TpPartial, Whole};
use quipu_mesh::{Pending, Use};
use std::ops::Range;

/// What tensor-parallel ranks gather or add up goes in so many pieces of rows: one is multiplied while
/// another is on its way.
pub(crate) const PIECES: usize = 2;

/// Some of a rank's rows and query heads, and what they look at: keys of the rows before them.
pub(crate) struct Look {
    /// Of this rank's rows.
    pub rows: Range<usize>,
    /// Where they begin in the micro-batch, and end.
    pub first: usize,
    end: usize,
    /// Of this rank's heads.
    pub queries: Range<usize>,
    /// The key-value heads that these read.
    pub keys: Range<usize>,
}

/// Keys and values of all rows of a micro-batch; on their way where others have some of them.
pub(crate) struct KeysValues {
    keys: View,
    values: View,
    pending: Option<Pending>,
}

impl Model {
    /// All layers for one micro-batch; the activations stay in `slot` until its backward. On a mesh
    /// without a pipeline: over one it is [`Model::learn`] and [`Model::measure`].
    ///
    /// # Errors
    /// A micro-batch that does not fit; what the device reports.
    pub fn forward(&mut self, slot: usize, batch: &MicroBatch<'_>) -> Result<(), Error> {
        self.load_batch(slot, batch)?;
        self.forward_layers(slot, 0..self.config.layers, None).map(|_| ())
    }

    /// The layers of `range` for the micro-batch in `slot`. A range that begins the model begins with
    /// the tokens, every other with `hidden` [S, D] (`None`: what the slot already holds there).
    /// Returns the hidden state after the last layer, which lives in the slot.
    ///
    /// # Errors
    /// No such layers, an empty slot, a hidden state of another shape.
    pub fn forward_layers(
        &mut self,
        slot: usize,
        range: Range<usize>,
        hidden: Option<&View>,
    ) -> Result<View, Error> {
        let s = self.loaded(slot)?;
        let places = self.places(&s, &range)?;
        let start = range.start - self.shard.chunks[s.at.chunk].layers.start;
        let begins = self.shard.chunks[s.at.chunk].first && start == 0;
        match hidden {
            Some(x) => {
                let (x, out) = (x.clone(), s.hidden[start].clone());
                self.device.execute(Copy { x, out })?;
            }
            None if begins => self.embed(&s)?,
            None => {}
        }
        self.begin_pass();
        for (i, at) in places.iter().enumerate() {
            self.acquire(at.layer)?;
            places.get(i + 1).map_or(Ok(()), |next| self.ask_for(next.layer))?;
            self.attention_forward(&s, *at)?;
            self.feed_forward(&s, *at)?;
        }
        Ok(s.hidden[start + places.len()].clone())
    }

    /// Rows of the vocabulary-parallel embedding; ids of other ranks give zeros, which add up.
    fn embed(&self, s: &Slot) -> Result<(), Error> {
        self.acquire_end(true)?;
        let scratch = self.activations.scratch(&s.at.rows)?;
        let out = self.summand(&s.hidden[0], &scratch.summand);
        self.device.execute(Embed {
            ids: s.ends.tokens.clone(),
            table: end("embedding", &self.weights.embedding)?.clone(),
            vocab_start: self.shard.vocab.start,
            vocab: self.config.vocab_size,
            out: out.clone(),
        })?;
        self.scatter(Placed::new(out), &s.hidden[0]).map(|_| ())
    }

    /// Where a summand is made of which `one` is the sum: there itself on one rank.
    pub(crate) fn summand(&self, one: &View, memory: &View) -> View {
        if self.shard.tp.size == 1 { one.clone() } else { memory.clone() }
    }

    /// `middle = hidden + attention(norm(hidden))`.
    fn attention_forward(&self, s: &Slot, at: At) -> Result<(), Error> {
        let (w, p) = (self.acquire(at.layer)?, self.packed(at.layer)?);
        let l = &s.layers[at.place].saved;
        let scratch = self.activations.scratch(&s.at.rows)?;
        let x = Placed::<SeqShard>::new(s.hidden[at.place].clone());
        let normed = self.norm(&x, &w.attention_norm, &l.norm1, &l.rstd1)?;
        let bias = w.qkv_bias.as_ref();
        let input = (normed, &scratch.gathered);
        self.column_parallel(input, (&w.qkv, &p.qkv), bias, &l.qkv)?;
        let (q, k, _) = self.heads(&l.qkv)?;
        // keys first: while they go to the others, queries are turned
        self.rotate(&k, &s.ends.positions, false)?;
        let all = self.start_keys_and_values(s, l, &scratch)?;
        self.rotate(&q, &s.ends.positions, false)?;
        let attended = self.attend(s, l, all)?;
        let (weight, bias) = ((&w.output, &p.output), w.output_bias.as_ref());
        self.row_parallel(&x, &attended, weight, bias, (&scratch.summand, &l.middle))
    }

    /// `next hidden = middle + down(swiglu(gate_up(norm(middle))))`.
    fn feed_forward(&self, s: &Slot, at: At) -> Result<(), Error> {
        let (w, p) = (self.acquire(at.layer)?, self.packed(at.layer)?);
        let l = &s.layers[at.place].saved;
        let scratch = self.activations.scratch(&s.at.rows)?;
        let gate_up = self.gate_up(s, at)?;
        let act = self.swiglu(&gate_up, scratch.act)?;
        let (x, out) = (Placed::new(l.middle.clone()), &s.hidden[at.place + 1]);
        let (weight, bias) = ((&w.down, &p.down), w.down_bias.as_ref());
        self.row_parallel(&x, &act, weight, bias, (&scratch.summand, out))
    }

    /// `gate_up(norm(middle))`.
    fn gate_up(&self, s: &Slot, at: At) -> Result<Placed<HeadShard>, Error> {
        let (w, p) = (self.acquire(at.layer)?, self.packed(at.layer)?);
        let l = &s.layers[at.place].saved;
        let x = Placed::<SeqShard>::new(l.middle.clone());
        let normed = self.norm(&x, &w.feed_forward_norm, &l.norm2, &l.rstd2)?;
        let input = (normed, &self.activations.scratch(&s.at.rows)?.gathered);
        let bias = w.gate_up_bias.as_ref();
        self.column_parallel(input, (&w.gate_up, &p.gate_up), bias, &l.gate_up)
    }

    /// What the backward reads of a layer, once more from its input: all but its last product.
    pub(crate) fn forward_again(&self, s: &Slot, at: At) -> Result<(), Error> {
        self.attention_forward(s, at)?;
        self.gate_up(s, at).map(|_| ())
    }

    /// Causal attention inside documents, over the keys of the whole sequence.
    fn attend(&self, s: &Slot, l: &Tensors, all: KeysValues) -> Result<Placed<HeadShard>, Error> {
        let (q, _, _) = self.heads(&l.qkv)?;
        let (k, v) = self.keys_and_values(all)?;
        for look in self.looks(s) {
            let (own, seen) = (|x| self.own_rows(x, &look), |x| self.seen_rows(x, &look));
            self.device.execute(Attention {
                q: own(&q)?,
                k: seen(&k)?,
                v: seen(&v)?,
                starts: s.ends.starts.slice_rows(look.rows.clone())?,
                query_offset: look.first,
                heads: look.queries.len(),
                kv_heads: look.keys.len(),
                scale: self.attention_scale(),
                out: own(&l.attended)?,
                lse: l.lse.slice_rows(look.rows.clone())?.slice_cols(look.queries.clone())?,
            })?;
        }
        Ok(Placed::new(l.attended.clone()))
    }

    /// What attention takes at once, of a slot's micro-batch: one by one they are all of it.
    pub(crate) fn looks(&self, s: &Slot) -> Vec<Look> {
        let mut at = 0;
        let mut all = Vec::new();
        for span in self.shard.spans(s.at.rows.whole) {
            let rows = at..at + span.len();
            at = rows.end;
            all.extend(self.shard.readers().into_iter().map(|(queries, keys)| {
                let (rows, first, end) = (rows.clone(), span.start, span.end);
                Look { rows, first, end, queries, keys }
            }));
        }
        all
    }

    /// Of a matrix of query heads side by side.
    pub(crate) fn own_rows(&self, x: &View, look: &Look) -> Result<View, quipu_math::Error> {
        self.of_heads(x, &look.queries)?.slice_rows(look.rows.clone())
    }

    /// Of a matrix of key-value heads side by side, which has all rows of the micro-batch.
    pub(crate) fn seen_rows(&self, x: &View, look: &Look) -> Result<View, quipu_math::Error> {
        self.of_heads(x, &look.keys)?.slice_rows(0..look.end)
    }

    /// Begins to gather those of all rows of the micro-batch, in its order.
    pub(crate) fn start_keys_and_values(
        &self,
        s: &Slot,
        l: &Tensors,
        scratch: &Scratch,
    ) -> Result<KeysValues, Error> {
        let (q, keys, values) = self.heads(&l.qkv)?;
        let context = self.mesh.group(Use::KeyValues);
        if context.is_one() {
            return Ok(KeysValues { keys, values, pending: None });
        }
        let (kv, width, device) = (&scratch.kv, keys.cols(), &*self.device);
        let own = l.qkv.slice_cols(q.cols()..q.cols() + 2 * width)?;
        let parts = self.by_rank(kv, s.at.rows.whole)?;
        let pending = context.start_all_gather_parts(device, &own, parts)?;
        let pending = Some(self.mesh.begun(device, pending)?);
        let (keys, values) = (kv.slice_cols(0..width)?, kv.slice_cols(width..2 * width)?);
        Ok(KeysValues { keys, values, pending })
    }

    /// Waits for them.
    pub(crate) fn keys_and_values(&self, all: KeysValues) -> Result<(View, View), Error> {
        let KeysValues { keys, values, pending } = all;
        pending.map_or(Ok(()), |pending| pending.wait(&*self.device))?;
        Ok((keys, values))
    }

    /// The rows of `x` that each context-parallel rank has.
    pub(crate) fn by_rank(&self, x: &View, whole: usize) -> Result<Vec<Vec<View>>, Error> {
        let of = |rank| {
            let spans = self.shard.spans_of(rank, whole).into_iter();
            spans.map(|span| Ok(x.slice_rows(span)?)).collect()
        };
        (0..self.shard.cp.size).map(of).collect()
    }

    /// The hidden state after the last layer of a slot that holds the last stage.
    pub(crate) fn last_hidden(&self, s: &Slot) -> View {
        s.hidden[self.shard.chunks[s.at.chunk].layers.len()].clone()
    }

    /// The final norm of the hidden state after the last layer.
    fn final_norm(&self, s: &Slot) -> Result<Placed<Whole>, Error> {
        self.acquire_end(false)?;
        let weight = end("final norm", &self.weights.final_norm)?;
        let x = Placed::new(self.last_hidden(s));
        let normed = self.norm(&x, weight, &s.ends.final_norm, &s.ends.final_rstd)?;
        self.gather(normed, &self.activations.scratch(&s.at.rows)?.gathered)
    }

    /// Log-probability of each row's target under the model, in nats, after the layers were run; 0 for
    /// rows that other context-parallel ranks have.
    ///
    /// # Errors
    /// An empty slot; what the device reports.
    pub fn log_probs(&mut self, slot: usize) -> Result<Vec<f64>, Error> {
        let s = self.loaded(slot)?;
        let hidden = self.final_norm(&s)?;
        self.device.execute(LossHead {
            hidden: hidden.into_view(),
            weight: end("head", &self.weights.head)?.clone(),
            targets: s.ends.targets.clone(),
            vocab_start: self.shard.vocab.start,
            vocab: self.config.vocab_size,
            target_logit: s.ends.target_logit.clone(),
            lse: s.ends.lse.clone(),
            packed: self.packed_head()?.forward.clone(),
        })?;
        self.join_vocabulary(&s)?;
        self.read_log_probs(&s)
    }

    /// The loss head's two calls as one, where the weights are known before: the gradient of
    /// Σ weight·log p with regard to the hidden state after the last layer, and the
    /// log-probabilities. Same bits as [`Model::log_probs`] and [`Model::backward_head`].
    ///
    /// # Errors
    /// As those two.
    pub fn head_fused(&mut self, slot: usize, weights: &[f64]) -> Result<(Vec<f64>, View), Error> {
        if !self.mesh.group(Use::Vocabulary).is_one() {
            let log_probs = self.log_probs(slot)?;
            return Ok((log_probs, self.backward_head(slot, weights)?));
        }
        let s = self.loaded(slot)?;
        self.write_weights(&s, weights)?;
        let hidden = self.final_norm(&s)?;
        let d_norm = self.activations.scratch(&s.at.rows)?.d_norm;
        self.device.execute(LossHeadFused {
            hidden: hidden.into_view(),
            weight: end("head", &self.weights.head)?.clone(),
            targets: s.ends.targets.clone(),
            weights: s.ends.weights.clone(),
            target_logit: s.ends.target_logit.clone(),
            lse: s.ends.lse.clone(),
            dhidden: d_norm,
            dweight: self.gradient_memory()?.head.clone(),
            packed: self.packed_head()?.forward.clone(),
            packed_turned: self.packed_head()?.backward.clone(),
        })?;
        let gradient = self.final_norm_backward(&s)?;
        Ok((self.read_log_probs(&s)?, gradient))
    }

    /// The logits of every row that this rank has of a slot after its layers were run, [T, V]: for
    /// tests and small models; the loss head never builds them. Of tensor-parallel ranks each has its
    /// part of the vocabulary.
    ///
    /// # Errors
    /// An empty slot; too little memory.
    pub fn logits(&mut self, slot: usize) -> Result<View, Error> {
        let s = self.loaded(slot)?;
        let hidden = self.final_norm(&s)?.into_view();
        self.project(hidden)
    }

    /// `hidden · headᵀ` into memory of its own.
    pub(crate) fn project(&self, hidden: View) -> Result<View, Error> {
        let weight = end("head", &self.weights.head)?;
        let out = self.device.matrix(self.precision().sums, hidden.rows(), weight.rows())?;
        self.product(&hidden, (weight, self.packed_head()?), None, &out)?;
        Ok(out)
    }

    /// Adds up the parts of a vocabulary-parallel head.
    fn join_vocabulary(&self, s: &Slot) -> Result<(), Error> {
        let group = self.mesh.group(Use::Vocabulary);
        if group.is_one() {
            return Ok(());
        }
        let device = &*self.device;
        group.all_reduce(device, &s.ends.target_logit)?;
        let x = self.activations.scratch(&s.at.rows)?.lse;
        let column = |rank| Ok(vec![x.slice_cols(rank..rank + 1)?]);
        let parts = (0..group.size()).map(column).collect::<Result<_, Error>>()?;
        group.start_all_gather_parts(device, &s.ends.lse, parts)?.wait(device)?;
        Ok(self.device.execute(LogSumExp { x, out: s.ends.lse.clone() })?)
    }

    fn read_log_probs(&self, s: &Slot) -> Result<Vec<f64>, Error> {
        let target = self.device.read_f64(&s.ends.target_logit)?;
        let lse = self.device.read_f64(&s.ends.lse)?;
        let mut all = vec![0.0; s.at.rows.given];
        let own = self.shard.spans(s.at.rows.whole).into_iter().flatten();
        for (row, (target, lse)) in own.zip(target.iter().zip(lse)) {
            if let Some(out) = all.get_mut(row) {
                *out = target - lse;
            }
        }
        Ok(all)
    }

    /// The columns of some heads, of a matrix of heads side by side.
    pub(crate) fn of_heads(
        &self,
        x: &View,
        heads: &Range<usize>,
    ) -> Result<View, quipu_math::Error> {
        let width = self.config.head_dim;
        x.slice_cols(heads.start * width..heads.end * width)
    }

    /// 1/√hd.
    pub(crate) fn attention_scale(&self) -> f64 {
        1.0 / (self.config.head_dim as f64).sqrt()
    }

    /// The columns of q, k and v in a [T, (H + 2·KV)·hd] matrix.
    pub(crate) fn heads(&self, qkv: &View) -> Result<(View, View, View), Error> {
        let (q, kv) = (self.shard.query_width(), self.shard.kv_width());
        let at = |range| qkv.slice_cols(range);
        Ok((at(0..q)?, at(q..q + kv)?, at(q + kv..q + 2 * kv)?))
    }

    /// Turns queries or keys by their positions, or back.
    pub(crate) fn rotate(&self, x: &View, positions: &View, inverse: bool) -> Result<(), Error> {
        let (x, positions, table) = (x.clone(), positions.clone(), self.rotary.clone());
        Ok(self.device.execute(Rope { x, positions, table, inverse })?)
    }

    pub(crate) fn norm(
        &self,
        x: &Placed<SeqShard>,
        weight: &View,
        out: &View,
        rstd: &View,
    ) -> Result<Placed<SeqShard>, Error> {
        self.device.execute(RmsNorm {
            x: x.view().clone(),
            weight: weight.clone(),
            out: out.clone(),
            rstd: rstd.clone(),
            epsilon: self.config.rms_norm_eps,
        })?;
        Ok(Placed::new(out.clone()))
    }

    /// Every rank's own outputs from the whole input, which is gathered in `memory`.
    pub(crate) fn column_parallel(
        &self,
        (x, memory): (Placed<SeqShard>, &View),
        (weight, packed): (&Joined, &Both),
        bias: Option<&Joined>,
        out: &View,
    ) -> Result<Placed<HeadShard>, Error> {
        self.start_gather(x, memory, PIECES)?.each(&*self.device, |x, rows| {
            let (x, out) = (x.slice_rows(rows.clone())?, out.slice_rows(rows)?);
            let mut first = 0;
            for part in weight.parts() {
                let end = first + part.rows();
                self.product(&x, (part, packed), None, &out.slice_cols(first..end)?)?;
                first = end;
            }
            Ok::<_, Error>(())
        })?;
        let mut first = 0;
        for part in bias.map_or(&[][..], Joined::parts) {
            let end = first + part.cols();
            self.bias(Some(part), &out.slice_cols(first..end)?)?;
            first = end;
        }
        Ok(Placed::new(out.clone()))
    }

    /// The end of a residual branch: `out = x + (y · Wᵀ + bias)`, where every rank has a summand of
    /// the product. On one rank the product is added as it is made.
    pub(crate) fn row_parallel(
        &self,
        x: &Placed<SeqShard>,
        y: &Placed<HeadShard>,
        weight: (&View, &Both),
        bias: Option<&View>,
        (summand, out): (&View, &View),
    ) -> Result<(), Error> {
        if self.shard.tp.size == 1 {
            self.product(y.view(), weight, Some(x.view()), out)?;
            return self.bias(bias, out);
        }
        let (partial, device) = (Placed::<TpPartial>::new(summand.clone()), &*self.device);
        let make = |rows: Range<usize>| {
            let (y, out) = (y.view().slice_rows(rows.clone())?, summand.slice_rows(rows)?);
            self.product(&y, weight, None, &out)
        };
        let added = placement::start_scatter(&self.mesh, device, (partial, out), PIECES, make)?;
        let added = added.wait(device)?;
        self.bias(bias, added.view())?;
        let (a, b) = (x.view().clone(), added.into_view());
        Ok(self.device.execute(Add { a, b, out: out.clone() })?)
    }

    /// `out = x · Wᵀ (+ plus)`.
    fn product(
        &self,
        x: &View,
        (weight, packed): (&View, &Both),
        plus: Option<&View>,
        out: &View,
    ) -> Result<(), Error> {
        Ok(self.device.execute(Matmul {
            layout: NT,
            a: x.clone(),
            b: weight.clone(),
            packed: packed.forward.clone(),
            plus: plus.cloned(),
            out: out.clone(),
        })?)
    }

    fn bias(&self, bias: Option<&View>, out: &View) -> Result<(), Error> {
        match bias {
            Some(bias) => {
                Ok(self.device.execute(AddBias { bias: bias.clone(), out: out.clone() })?)
            }
            None => Ok(()),
        }
    }

    /// `silu(gate) · up`; gate and up are the two halves of the columns.
    pub(crate) fn swiglu(
        &self,
        gate_up: &Placed<HeadShard>,
        out: View,
    ) -> Result<Placed<HeadShard>, Error> {
        let (gate, up) = self.halves(gate_up.view())?;
        self.device.execute(SwiGlu { gate, up, out: out.clone() })?;
        Ok(Placed::new(out))
    }

    pub(crate) fn halves(&self, gate_up: &View) -> Result<(View, View), Error> {
        let f = gate_up.cols() / 2;
        Ok((gate_up.slice_cols(0..f)?, gate_up.slice_cols(f..2 * f)?))
    }

    /// The rows of all tensor-parallel ranks, in `memory` where there are several.
    pub(crate) fn gather(
        &self,
        x: Placed<SeqShard>,
        memory: &View,
    ) -> Result<Placed<Whole>, Error> {
        Ok(self.start_gather(x, memory, 1)?.wait(&*self.device)?)
    }

    /// [`Model::gather`], begun, in so many pieces.
    pub(crate) fn start_gather(
        &self,
        x: Placed<SeqShard>,
        memory: &View,
        pieces: usize,
    ) -> Result<Gathering, Error> {
        Ok(placement::start_gather(&self.mesh, &*self.device, x, memory, pieces)?)
    }

    /// This rank's rows of the sum of all tensor-parallel ranks, in `memory` where there are several.
    pub(crate) fn scatter(
        &self,
        x: Placed<TpPartial>,
        memory: &View,
    ) -> Result<Placed<SeqShard>, Error> {
        let (device, made) = (&*self.device, |_| Ok::<_, Error>(()));
        Ok(placement::start_scatter(&self.mesh, device, (x, memory), 1, made)?.wait(device)?)
    }
}
