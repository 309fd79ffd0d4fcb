//! The backward pass, by hand: gradients of what `forward.rs` computes.
//!
//! A layer's backward is in two parts that may be called apart (zero-bubble pipelines): the
//! gradient of its input, and the gradients of its matrices. Called together they share scratch
//! memory; apart, what the second needs is kept in the slot. Same ops, same bits. What the recipe
//! says is not kept of the forward ([`Recompute`]) is made again first, by the forward's own calls.

use crate::Error;
use crate::memory::Recompute;
use crate::model::Model;
use crate::packs::Both;
use crate::parameters::{Joined, LayerViews};
use crate::slots::{Kept, LayerSlot, Scratch, Slot, Tensors};
use quipu_math::Layout::{NN, TN};
use quipu_math::View;
use quipu_math::op::*;
use quipu_mesh::Use;
use quipu_mesh::placement::{Placed, SeqShard, TpPartial};
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
    /// of each row's target.
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
        let hidden = self.gather(Placed::new(s.ends.final_norm.clone()))?;
        let d_norm = self.activations.scratch(s.rows())?.d_norm;
        self.device.execute(LossHeadBackward {
            hidden: hidden.into_view(),
            weight: self.weights.head.clone(),
            targets: s.ends.targets.clone(),
            vocab_start: 0,
            vocab: self.config.vocab_size,
            lse: s.ends.lse.clone(),
            weights: s.ends.weights.clone(),
            dhidden: d_norm.clone(),
            dweight: Some(self.gradient_memory()?.head.clone()),
            packed: self.packed_head()?.forward.clone(),
            packed_turned: self.packed_head()?.backward.clone(),
        })?;
        self.scatter(Placed::new(d_norm))?;
        self.final_norm_backward(&s)
    }

    pub(crate) fn write_weights(&self, s: &Slot, weights: &[f64]) -> Result<(), Error> {
        if weights.len() != s.rows() {
            return Err(Error::Call {
                what: "weights",
                found: format!("{} long", weights.len()),
                expected: format!("{} long, one for each row of the slot", s.rows()),
            });
        }
        Ok(self.device.write_floats(&s.ends.weights, weights)?)
    }

    /// From the gradient of the final norm's output to that of its input.
    pub(crate) fn final_norm_backward(&self, s: &Slot) -> Result<View, Error> {
        let gradients = self.gradient_memory()?;
        let dx = self.activations.scratch(s.rows())?.d_hidden;
        self.device.execute(RmsNormBackward {
            x: s.hidden[self.config.layers].clone(),
            weight: self.weights.final_norm.clone(),
            rstd: s.ends.final_rstd.clone(),
            dy: self.activations.scratch(s.rows())?.d_norm,
            dx: dx.clone(),
            dweight: Some(gradients.final_norm.clone()),
            accumulate: false,
        })?;
        Ok(dx)
    }

    /// The backward of `forward_layers`: from the gradient of the hidden state after the range to
    /// that before it (in scratch memory, until the next backward); a range that begins at 0 ends
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
        let (s, scratch) = self.backward_start(slot, &range, gradient)?;
        let shared = Kept {
            out: scratch.d_hidden.clone(),
            act: scratch.act.clone(),
            middle: scratch.d_hidden.clone(),
            qkv: scratch.d_qkv.clone(),
        };
        for layer in range.clone().rev() {
            if self.capacity.recompute == Recompute::Block {
                self.forward_again(&s, layer)?;
            }
            self.feed_forward_input(&s, layer, &shared)?;
            self.feed_forward_weight(&s, layer, &shared)?;
            self.feed_forward_norm(&s, layer)?;
            self.attention_input(&s, layer, &shared)?;
            self.attention_weight(&s, layer, &shared)?;
            self.attention_norm(&s, layer)?;
            self.fresh[layer].store(false, Ordering::Release);
            self.release(layer);
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
        let (s, scratch) = self.backward_start(slot, &range, gradient)?;
        for layer in range.clone().rev() {
            let kept = kept(&s.layers[layer])?;
            let d_hidden = || scratch.d_hidden.clone();
            self.device.execute(Copy { x: d_hidden(), out: kept.out.clone() })?;
            self.feed_forward_input(&s, layer, kept)?;
            self.feed_forward_norm(&s, layer)?;
            self.device.execute(Copy { x: d_hidden(), out: kept.middle.clone() })?;
            self.attention_input(&s, layer, kept)?;
            self.attention_norm(&s, layer)?;
            self.release(layer);
        }
        self.backward_end(&s, &range)
    }

    /// The second half: the gradients of the matrices and biases of the range, in the same order of
    /// additions.
    ///
    /// # Errors
    /// As [`Model::backward_input`].
    pub fn backward_weight(&mut self, slot: usize, range: Range<usize>) -> Result<(), Error> {
        self.check_layers(&range)?;
        let s = self.loaded(slot)?;
        for layer in range.rev() {
            let kept = kept(&s.layers[layer])?;
            self.feed_forward_weight(&s, layer, kept)?;
            self.attention_weight(&s, layer, kept)?;
            self.fresh[layer].store(false, Ordering::Release);
        }
        Ok(())
    }

    fn backward_start(
        &self,
        slot: usize,
        range: &Range<usize>,
        gradient: &View,
    ) -> Result<(Slot, Scratch), Error> {
        self.check_layers(range)?;
        self.gradient_memory()?;
        let s = self.loaded(slot)?;
        let scratch = self.activations.scratch(s.rows())?;
        if !gradient.same(&scratch.d_hidden) {
            self.device.execute(Copy { x: gradient.clone(), out: scratch.d_hidden.clone() })?;
        }
        Ok((s, scratch))
    }

    fn backward_end(&self, s: &Slot, range: &Range<usize>) -> Result<View, Error> {
        let d_hidden = self.activations.scratch(s.rows())?.d_hidden;
        if range.start == 0 {
            let dout = self.gather(Placed::new(d_hidden.clone()))?.into_view();
            self.device.execute(EmbedBackward {
                ids: s.ends.tokens.clone(),
                dout,
                vocab_start: 0,
                vocab: self.config.vocab_size,
                dtable: self.gradient_memory()?.embedding.clone(),
            })?;
        }
        Ok(d_hidden)
    }

    /// From the gradient of the layer's output to that of the feed-forward's normed input.
    fn feed_forward_input(&self, s: &Slot, layer: usize, kept: &Kept) -> Result<(), Error> {
        let (w, p, l) = (self.acquire(layer), self.packed(layer)?, &s.layers[layer].saved);
        let scratch = self.activations.scratch(s.rows())?;
        let d_out = self.gather(Placed::<SeqShard>::new(scratch.d_hidden))?;
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
        self.product_backward(&l.gate_up, (w.gate_up.whole()?, &p.gate_up), &scratch.d_norm)?;
        self.scatter(Placed::<TpPartial>::new(scratch.d_norm)).map(|_| ())
    }

    fn feed_forward_weight(&self, s: &Slot, layer: usize, kept: &Kept) -> Result<(), Error> {
        let (g, l) = (self.layer_gradients(layer)?, &s.layers[layer].saved);
        let d_out = self.gather(Placed::<SeqShard>::new(kept.out.clone()))?;
        let weight = &self.acquire(layer).feed_forward_norm;
        let normed = self.gather(self.normed(&l.middle, weight, &l.norm2, &l.rstd2)?)?;
        let adds = !self.fresh[layer].load(Ordering::Acquire);
        self.weight_backward(d_out.view(), &kept.act, (&g.down, adds), g.down_bias.as_ref())?;
        let dbias = g.gate_up_bias.as_ref().map(Joined::whole).transpose()?;
        let dweight = (g.gate_up.whole()?, adds);
        self.weight_backward(&l.gate_up, normed.view(), dweight, dbias)
    }

    /// Adds the feed-forward's share to the gradient of the residual stream.
    fn feed_forward_norm(&self, s: &Slot, layer: usize) -> Result<(), Error> {
        let (w, g, l) = (self.acquire(layer), self.layer_gradients(layer)?, &s.layers[layer].saved);
        self.norm_backward(&l.middle, &w.feed_forward_norm, &l.rstd2, &g.feed_forward_norm)
    }

    /// From the gradient of the residual stream between the halves to that of attention's normed
    /// input.
    fn attention_input(&self, s: &Slot, layer: usize, kept: &Kept) -> Result<(), Error> {
        let (w, p, l) = (self.acquire(layer), self.packed(layer)?, &s.layers[layer].saved);
        let scratch = self.activations.scratch(s.rows())?;
        let d_middle = self.gather(Placed::<SeqShard>::new(scratch.d_hidden))?;
        self.product_backward(d_middle.view(), (&w.output, &p.output), &scratch.d_attended)?;
        self.attend_backward(s, l, &scratch.d_attended, &kept.qkv)?;
        self.rotate(&kept.qkv, &s.ends.positions, true)?;
        self.product_backward(&kept.qkv, (w.qkv.whole()?, &p.qkv), &scratch.d_norm)?;
        self.scatter(Placed::<TpPartial>::new(scratch.d_norm)).map(|_| ())
    }

    fn attend_backward(
        &self,
        s: &Slot,
        l: &Tensors,
        dout: &View,
        d_qkv: &View,
    ) -> Result<(), Error> {
        let (q, k, v) = self.heads(&l.qkv)?;
        let (dq, dk, dv) = self.heads(d_qkv)?;
        self.device.execute(AttentionBackward {
            q,
            k,
            v,
            starts: s.ends.starts.clone(),
            query_offset: 0,
            heads: self.config.heads,
            kv_heads: self.config.kv_heads,
            scale: self.attention_scale(),
            out: l.attended.clone(),
            lse: l.lse.clone(),
            dout: dout.clone(),
            dq,
            dk: dk.clone(),
            dv: dv.clone(),
            accumulate: false,
        })?;
        let context = self.mesh.group(Use::KeyValues);
        if !context.is_one() {
            context.reduce_scatter(&*self.device, &dk, &dk)?;
            context.reduce_scatter(&*self.device, &dv, &dv)?;
        }
        Ok(())
    }

    fn attention_weight(&self, s: &Slot, layer: usize, kept: &Kept) -> Result<(), Error> {
        let (g, l) = (self.layer_gradients(layer)?, &s.layers[layer].saved);
        let d_middle = self.gather(Placed::<SeqShard>::new(kept.middle.clone()))?;
        let weight = &self.acquire(layer).attention_norm;
        let normed = self.gather(self.normed(&s.hidden[layer], weight, &l.norm1, &l.rstd1)?)?;
        let adds = !self.fresh[layer].load(Ordering::Acquire);
        let (dweight, dbias) = ((&g.output, adds), g.output_bias.as_ref());
        self.weight_backward(d_middle.view(), &l.attended, dweight, dbias)?;
        let dbias = g.qkv_bias.as_ref().map(Joined::whole).transpose()?;
        let dweight = (g.qkv.whole()?, adds);
        self.weight_backward(&kept.qkv, normed.view(), dweight, dbias)
    }

    /// Adds attention's share to the gradient of the residual stream.
    fn attention_norm(&self, s: &Slot, layer: usize) -> Result<(), Error> {
        let (w, g, l) = (self.acquire(layer), self.layer_gradients(layer)?, &s.layers[layer].saved);
        self.norm_backward(&s.hidden[layer], &w.attention_norm, &l.rstd1, &g.attention_norm)
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
        x: &View,
        weight: &View,
        rstd: &View,
        dweight: &View,
    ) -> Result<(), Error> {
        let scratch = self.activations.scratch(x.rows())?;
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

    fn layer_gradients(&self, layer: usize) -> Result<&LayerViews, Error> {
        Ok(&self.gradient_memory()?.layers[layer])
    }
}

fn kept(layer: &LayerSlot) -> Result<&Kept, Error> {
    layer.kept.as_ref().ok_or_else(|| Error::Call {
        what: "backward_input or backward_weight",
        found: "a model made for the whole backward only".into(),
        expected: "Capacity { split_backward: true, .. }".into(),
    })
}
