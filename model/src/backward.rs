//! The backward pass, by hand: gradients of what `forward.rs` computes.
//!
//! A layer's backward is in two parts that may be called apart (zero-bubble pipelines): the
//! gradient of its input, and the gradients of its matrices. Called together they share scratch
//! memory; apart, what the second needs is kept in the slot. Same ops, same bits. What the recipe
//! says is not kept of the forward ([`Recompute`]) is made again first, by the forward's own calls.

use crate::Error;
use crate::memory::Recompute;
use crate::model::{At, Model};
use crate::packs::Both;
use crate::parameters::{Joined, LayerViews, end};
use crate::slots::{Kept, LayerSlot, Scratch, Slot, Tensors};
use quipu_math::Layout::{NN, TN};
use quipu_math::View;
use quipu_math::op::*;
use quipu_mesh::Use;
use quipu_mesh::placement::{Placed, SeqShard, TpPartial, Whole};
use std::ops::Range;
use std::sync::atomic::Ordering;

impl Model {
    /// Adds to the gradients those of Σ weight_t · log p(target_t), for a micro-batch whose forward
    /// and [`Model::log_probs`] were run. For the mean loss over N tokens the weights are −1/N.
    ///
    /// # Errors
    /// An empty slot, weights of another number, a model made without gradients.
    pub fn backward(&mut self, slot: usize, weights: &[f64]) -> Result<(), Error> {
        let gradient = self.backward_head(slot, weights)?;
        self.backward_layers(slot, 0..self.config.layers, &gradient).map(|_| ())
    }

    /// Forward, loss head and backward in one call, for weights known before: the log-probability
    /// of each row's target. On a mesh without a pipeline, as [`Model::forward`].
    ///
    /// # Errors
    /// As [`Model::forward`] and [`Model::backward`].
    pub fn forward_backward(
        &mut self,
        slot: usize,
        batch: &crate::MicroBatch<'_>,
        weights: &[f64],
    ) -> Result<Vec<f64>, Error> {
        self.forward(slot, batch)?;
        let (log_probs, gradient) = self.head_fused(slot, weights)?;
        self.backward_layers(slot, 0..self.config.layers, &gradient)?;
        Ok(log_probs)
    }

    /// The loss head's second call: the gradient of Σ weight·log p with regard to the hidden state
    /// after the last layer (in scratch memory, until the next backward); the head's and the final
    /// norm's own gradients are added.
    ///
    /// # Errors
    /// As [`Model::backward`].
    pub fn backward_head(&mut self, slot: usize, weights: &[f64]) -> Result<View, Error> {
        let s = self.loaded(slot)?;
        self.write_weights(&s, weights)?;
        let scratch = self.activations.scratch(&s.at.rows)?;
        let hidden = self.gather(Placed::new(s.ends.final_norm.clone()), &scratch.gathered)?;
        let dhidden = self.summand(&scratch.d_norm, &scratch.summand);
        self.device.execute(LossHeadBackward {
            hidden: hidden.into_view(),
            weight: end("head", &self.weights.head)?.clone(),
            targets: s.ends.targets.clone(),
            vocab_start: self.shard.vocab.start,
            vocab: self.config.vocab_size,
            lse: s.ends.lse.clone(),
            weights: s.ends.weights.clone(),
            dhidden: dhidden.clone(),
            dweight: self.gradient_memory()?.head.clone(),
            packed: self.packed_head()?.forward.clone(),
            packed_turned: self.packed_head()?.backward.clone(),
        })?;
        self.scatter(Placed::new(dhidden), &scratch.d_norm)?;
        self.final_norm_backward(&s)
    }

    pub(crate) fn write_weights(&self, s: &Slot, weights: &[f64]) -> Result<(), Error> {
        if weights.len() != s.at.rows.given {
            return Err(Error::Call {
                what: "weights",
                found: format!("{} long", weights.len()),
                expected: format!("{} long, one for each row of the slot", s.at.rows.given),
            });
        }
        let own = self.shard.spans(s.at.rows.whole).into_iter().flatten();
        let own: Vec<f64> = own.map(|row| weights.get(row).copied().unwrap_or(0.0)).collect();
        Ok(self.device.write_floats(&s.ends.weights, &own)?)
    }

    /// From the gradient of the final norm's output to that of its input.
    pub(crate) fn final_norm_backward(&self, s: &Slot) -> Result<View, Error> {
        let scratch = self.activations.scratch(&s.at.rows)?;
        self.device.execute(RmsNormBackward {
            x: self.last_hidden(s),
            weight: end("final norm", &self.weights.final_norm)?.clone(),
            rstd: s.ends.final_rstd.clone(),
            dy: scratch.d_norm,
            dx: scratch.d_hidden.clone(),
            dweight: self.gradient_memory()?.final_norm.clone(),
            accumulate: false,
        })?;
        Ok(scratch.d_hidden)
    }

    /// The backward of `forward_layers`: from the gradient of the hidden state after the range to
    /// that before it (in scratch memory, until the next backward); a range that begins the model ends
    /// in the embedding. Gradients of all parameters of the range are added.
    ///
    /// # Errors
    /// No such layers, an empty slot, a gradient of another shape, a model made without gradients.
    pub fn backward_layers(
        &mut self,
        slot: usize,
        range: Range<usize>,
        gradient: &View,
    ) -> Result<View, Error> {
        let (s, scratch, places) = self.backward_start(slot, &range, gradient)?;
        let shared = Kept {
            out: scratch.d_hidden.clone(),
            act: scratch.act.clone(),
            middle: scratch.d_hidden.clone(),
            qkv: scratch.d_qkv.clone(),
        };
        for at in places.into_iter().rev() {
            if self.capacity.recompute == Recompute::Block {
                self.forward_again(&s, at)?;
            }
            let d_out = self.gather_gradient(&scratch.d_hidden, &scratch)?;
            self.feed_forward_input(&s, at, &d_out, &shared)?;
            self.feed_forward_weight(&s, at, &d_out, &shared)?;
            self.feed_forward_norm(&s, at)?;
            let d_middle = self.gather_gradient(&scratch.d_hidden, &scratch)?;
            self.attention_input(&s, at, &d_middle, &shared)?;
            self.attention_weight(&s, at, &d_middle, &shared)?;
            self.attention_norm(&s, at)?;
            self.fresh[at.layer].store(false, Ordering::Release);
            self.release(at.layer);
        }
        self.backward_end(&s, &range)
    }

    /// The first half of [`Model::backward_layers`]: the gradient of the input, and those of norms
    /// and the embedding; what [`Model::backward_weight`] needs is kept in the slot.
    ///
    /// # Errors
    /// As [`Model::backward_layers`], and a model made without `split_backward`.
    pub fn backward_input(
        &mut self,
        slot: usize,
        range: Range<usize>,
        gradient: &View,
    ) -> Result<View, Error> {
        let (s, scratch, places) = self.backward_start(slot, &range, gradient)?;
        for at in places.into_iter().rev() {
            let kept = kept(&s.layers[at.place])?;
            let d_hidden = || scratch.d_hidden.clone();
            self.device.execute(Copy { x: d_hidden(), out: kept.out.clone() })?;
            let d_out = self.gather_gradient(&scratch.d_hidden, &scratch)?;
            self.feed_forward_input(&s, at, &d_out, kept)?;
            self.feed_forward_norm(&s, at)?;
            self.device.execute(Copy { x: d_hidden(), out: kept.middle.clone() })?;
            let d_middle = self.gather_gradient(&scratch.d_hidden, &scratch)?;
            self.attention_input(&s, at, &d_middle, kept)?;
            self.attention_norm(&s, at)?;
            self.release(at.layer);
        }
        self.backward_end(&s, &range)
    }

    /// The second half: the gradients of the matrices and biases of the range, in the same order of
    /// additions.
    ///
    /// # Errors
    /// As [`Model::backward_input`].
    pub fn backward_weight(&mut self, slot: usize, range: Range<usize>) -> Result<(), Error> {
        let s = self.loaded(slot)?;
        let scratch = self.activations.scratch(&s.at.rows)?;
        for at in self.places(&s, &range)?.into_iter().rev() {
            let kept = kept(&s.layers[at.place])?;
            let d_out = self.gather_gradient(&kept.out, &scratch)?;
            self.feed_forward_weight(&s, at, &d_out, kept)?;
            let d_middle = self.gather_gradient(&kept.middle, &scratch)?;
            self.attention_weight(&s, at, &d_middle, kept)?;
            self.fresh[at.layer].store(false, Ordering::Release);
        }
        Ok(())
    }

    fn backward_start(
        &self,
        slot: usize,
        range: &Range<usize>,
        gradient: &View,
    ) -> Result<(Slot, Scratch, Vec<At>), Error> {
        self.gradient_memory()?;
        let s = self.loaded(slot)?;
        let places = self.places(&s, range)?;
        let scratch = self.activations.scratch(&s.at.rows)?;
        if !gradient.same(&scratch.d_hidden) {
            self.device.execute(Copy { x: gradient.clone(), out: scratch.d_hidden.clone() })?;
        }
        Ok((s, scratch, places))
    }

    fn backward_end(&self, s: &Slot, range: &Range<usize>) -> Result<View, Error> {
        let scratch = self.activations.scratch(&s.at.rows)?;
        let chunk = &self.shard.chunks[s.at.chunk];
        if chunk.first && range.start == chunk.layers.start {
            let dout = self.gather_gradient(&scratch.d_hidden, &scratch)?.into_view();
            self.device.execute(EmbedBackward {
                ids: s.ends.tokens.clone(),
                dout,
                vocab_start: self.shard.vocab.start,
                vocab: self.config.vocab_size,
                dtable: end("embedding", &self.gradient_memory()?.embedding)?.clone(),
            })?;
        }
        Ok(scratch.d_hidden)
    }

    /// The gradient of the residual stream with the rows of all tensor-parallel ranks: as it is on one
    /// rank, in the type of messages over several.
    fn gather_gradient(&self, x: &View, scratch: &Scratch) -> Result<Placed<Whole>, Error> {
        if self.shard.tp.size == 1 || x.dtype() == scratch.gathered.dtype() {
            return self.gather(Placed::new(x.clone()), &scratch.gathered);
        }
        let out = scratch.d_norm.clone();
        self.device.execute(Copy { x: x.clone(), out: out.clone() })?;
        self.gather(Placed::new(out), &scratch.gathered)
    }

    /// From the gradient of the layer's output to that of the feed-forward's normed input.
    fn feed_forward_input(
        &self,
        s: &Slot,
        at: At,
        d_out: &Placed<Whole>,
        kept: &Kept,
    ) -> Result<(), Error> {
        let (w, p) = (self.acquire(at.layer), self.packed(at.layer)?);
        let l = &s.layers[at.place].saved;
        let scratch = self.activations.scratch(&s.at.rows)?;
        self.product_backward(d_out.view(), (&w.down, &p.down), &scratch.act)?;
        // in place: gate and up become their gradients, the product is computed again for `down`
        let (gate, up) = self.halves(&l.gate_up)?;
        self.device.execute(SwiGluBackward {
            gate: gate.clone(),
            up: up.clone(),
            dout: scratch.act,
            dgate: gate,
            dup: up,
            out: Some(kept.act.clone()),
        })?;
        let d_normed = self.summand(&scratch.d_norm, &scratch.summand);
        self.product_backward(&l.gate_up, (w.gate_up.whole()?, &p.gate_up), &d_normed)?;
        self.scatter(Placed::<TpPartial>::new(d_normed), &scratch.d_norm).map(|_| ())
    }

    fn feed_forward_weight(
        &self,
        s: &Slot,
        at: At,
        d_out: &Placed<Whole>,
        kept: &Kept,
    ) -> Result<(), Error> {
        let (g, l) = (self.layer_gradients(at)?, &s.layers[at.place].saved);
        let weight = &self.acquire(at.layer).feed_forward_norm;
        let normed = self.normed(&l.middle, weight, &l.norm2, &l.rstd2)?;
        let normed = self.gather(normed, &self.activations.scratch(&s.at.rows)?.summand)?;
        let adds = !self.fresh[at.layer].load(Ordering::Acquire);
        self.weight_backward(d_out.view(), &kept.act, (&g.down, adds), g.down_bias.as_ref())?;
        let dbias = g.gate_up_bias.as_ref().map(Joined::whole).transpose()?;
        let dweight = (g.gate_up.whole()?, adds);
        self.weight_backward(&l.gate_up, normed.view(), dweight, dbias)
    }

    /// Adds the feed-forward's share to the gradient of the residual stream.
    fn feed_forward_norm(&self, s: &Slot, at: At) -> Result<(), Error> {
        let (w, g) = (self.acquire(at.layer), self.layer_gradients(at)?);
        let l = &s.layers[at.place].saved;
        let weights = (&w.feed_forward_norm, &g.feed_forward_norm);
        self.norm_backward(s, &l.middle, weights, &l.rstd2)
    }

    /// From the gradient of the residual stream between the halves to that of attention's normed
    /// input.
    fn attention_input(
        &self,
        s: &Slot,
        at: At,
        d_middle: &Placed<Whole>,
        kept: &Kept,
    ) -> Result<(), Error> {
        let (w, p) = (self.acquire(at.layer), self.packed(at.layer)?);
        let l = &s.layers[at.place].saved;
        let scratch = self.activations.scratch(&s.at.rows)?;
        self.product_backward(d_middle.view(), (&w.output, &p.output), &scratch.d_attended)?;
        self.attend_backward(s, l, &scratch, &kept.qkv)?;
        self.rotate(&kept.qkv, &s.ends.positions, true)?;
        let d_normed = self.summand(&scratch.d_norm, &scratch.summand);
        self.product_backward(&kept.qkv, (w.qkv.whole()?, &p.qkv), &d_normed)?;
        self.scatter(Placed::<TpPartial>::new(d_normed), &scratch.d_norm).map(|_| ())
    }

    /// The gradients of keys and values are summed over the queries of all context-parallel ranks, in
    /// the type of sums.
    fn attend_backward(
        &self,
        s: &Slot,
        l: &Tensors,
        scratch: &Scratch,
        d_qkv: &View,
    ) -> Result<(), Error> {
        let context = self.mesh.group(Use::KeyValues);
        let (q, _, _) = self.heads(&l.qkv)?;
        let (dq, dk, dv) = self.heads(d_qkv)?;
        let (k, v) = self.keys_and_values(s, l, scratch)?;
        let width = k.cols();
        let (dk, dv) = match context.is_one() {
            true => (dk, dv),
            false => {
                let all = &scratch.d_kv;
                self.device.execute(Fill { out: all.clone(), value: 0.0 })?;
                (all.slice_cols(0..width)?, all.slice_cols(width..2 * width)?)
            }
        };
        let mut first = 0;
        for span in self.shard.spans(s.at.rows.whole) {
            let rows = first..first + span.len();
            first = rows.end;
            let (own, seen) = (|x: &View| x.slice_rows(rows.clone()), 0..span.end);
            self.device.execute(AttentionBackward {
                q: own(&q)?,
                k: k.slice_rows(seen.clone())?,
                v: v.slice_rows(seen.clone())?,
                starts: own(&s.ends.starts)?,
                query_offset: span.start,
                heads: self.shard.heads.len(),
                kv_heads: self.shard.kv_heads.len(),
                scale: self.attention_scale(),
                out: own(&l.attended)?,
                lse: own(&l.lse)?,
                dout: own(&scratch.d_attended)?,
                dq: own(&dq)?,
                dk: dk.slice_rows(seen.clone())?,
                dv: dv.slice_rows(seen)?,
                accumulate: !context.is_one(),
            })?;
        }
        if !context.is_one() {
            let parts = self.by_rank(&scratch.d_kv, s.at.rows.whole)?;
            let own = d_qkv.slice_cols(q.cols()..q.cols() + 2 * width)?;
            let device = &*self.device;
            context.start_reduce_scatter_parts(device, &parts, &own)?.wait(device)?;
        }
        Ok(())
    }

    fn attention_weight(
        &self,
        s: &Slot,
        at: At,
        d_middle: &Placed<Whole>,
        kept: &Kept,
    ) -> Result<(), Error> {
        let (g, l) = (self.layer_gradients(at)?, &s.layers[at.place].saved);
        let weight = &self.acquire(at.layer).attention_norm;
        let normed = self.normed(&s.hidden[at.place], weight, &l.norm1, &l.rstd1)?;
        let normed = self.gather(normed, &self.activations.scratch(&s.at.rows)?.summand)?;
        let adds = !self.fresh[at.layer].load(Ordering::Acquire);
        let (dweight, dbias) = ((&g.output, adds), g.output_bias.as_ref());
        self.weight_backward(d_middle.view(), &l.attended, dweight, dbias)?;
        let dbias = g.qkv_bias.as_ref().map(Joined::whole).transpose()?;
        let dweight = (g.qkv.whole()?, adds);
        self.weight_backward(&kept.qkv, normed.view(), dweight, dbias)
    }

    /// Adds attention's share to the gradient of the residual stream.
    fn attention_norm(&self, s: &Slot, at: At) -> Result<(), Error> {
        let (w, g) = (self.acquire(at.layer), self.layer_gradients(at)?);
        let weights = (&w.attention_norm, &g.attention_norm);
        self.norm_backward(s, &s.hidden[at.place], weights, &s.layers[at.place].saved.rstd1)
    }

    /// A norm's output, made again where it was not kept.
    fn normed(
        &self,
        x: &View,
        weight: &View,
        out: &View,
        rstd: &View,
    ) -> Result<Placed<SeqShard>, Error> {
        match self.capacity.recompute {
            Recompute::Elementwise => self.norm(&Placed::new(x.clone()), weight, out, rstd),
            Recompute::None | Recompute::Block => Ok(Placed::new(out.clone())),
        }
    }

    /// `d_hidden += ` the gradient of a norm's input, from the gradient of its output in `d_norm`.
    fn norm_backward(
        &self,
        s: &Slot,
        x: &View,
        (weight, dweight): (&View, &View),
        rstd: &View,
    ) -> Result<(), Error> {
        let scratch = self.activations.scratch(&s.at.rows)?;
        Ok(self.device.execute(RmsNormBackward {
            x: x.clone(),
            weight: weight.clone(),
            rstd: rstd.clone(),
            dy: scratch.d_norm,
            dx: scratch.d_hidden,
            dweight: Some(dweight.clone()),
            accumulate: true,
        })?)
    }

    /// `dx = dy · W`.
    fn product_backward(
        &self,
        dy: &View,
        (weight, packed): (&View, &Both),
        dx: &View,
    ) -> Result<(), Error> {
        let (a, b, out) = (dy.clone(), weight.clone(), dx.clone());
        let packed = packed.backward.clone();
        Ok(self.device.execute(Matmul { layout: NN, a, b, packed, plus: None, out })?)
    }

    /// `dW += dyᵀ · x` (or `dW = …`) and `dbias += Σ dy`.
    fn weight_backward(
        &self,
        dy: &View,
        x: &View,
        (dweight, adds): (&View, bool),
        dbias: Option<&View>,
    ) -> Result<(), Error> {
        if let Some(dbias) = dbias {
            self.device.execute(BiasBackward { dy: dy.clone(), dbias: dbias.clone() })?;
        }
        let (a, b, out) = (dy.clone(), x.clone(), dweight.clone());
        let (packed, plus) = (None, adds.then(|| out.clone()));
        Ok(self.device.execute(Matmul { layout: TN, a, b, packed, plus, out })?)
    }

    fn layer_gradients(&self, at: At) -> Result<&LayerViews, Error> {
        Ok(&self.gradient_memory()?.layers[at.layer])
    }
}

fn kept(layer: &LayerSlot) -> Result<&Kept, Error> {
    layer.kept.as_ref().ok_or_else(|| Error::Call {
        what: "backward_input or backward_weight",
        found: "a model made for the whole backward only".into(),
        expected: "Capacity { split_backward: true, .. }".into(),
    })
}
