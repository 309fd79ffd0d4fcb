//! The backward pass, by hand: gradients of what `forward.rs` computes.
//!
//! A layer's backward is in two parts that may be called apart (zero-bubble pipelines): the
//! gradient of its input, and the gradients of its matrices. Called together they share scratch
//! memory; apart, what the second needs is kept in the slot. Same ops, same bits. What the recipe
//! says is not kept of the forward ([`Recompute`]) is made again first, by the forward's own calls.

use crate::Error;
use crate::forward::{KeysValues, PIECES};
use crate::memory::Recompute;
use crate::model::{At, Model};
use crate::packs::Both;
use crate::parameters::{Joined, LayerViews, end};
use crate::sharing::Through;
use crate::slots::{Kept, LayerSlot, Scratch, Slot, Tensors};
use quipu_math::Layout::{NN, TN};
use quipu_math::View;
use quipu_math::op::*;
use quipu_mesh::placement::{self, Gathering, Placed, Scattering, TpPartial, Whole};
use quipu_mesh::{Pending, Use};
use std::ops::Range;
use std::sync::atomic::Ordering;

/// The two halves of a layer, each behind a norm.
#[derive(Clone, Copy)]
enum Half {
    Attention,
    FeedForward,
}

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
        for (i, at) in places.iter().copied().enumerate().rev() {
            self.acquire(at.layer)?;
            i.checked_sub(1).map_or(Ok(()), |next| self.ask_for(places[next].layer))?;
            self.begin_layer_gradients(at.layer)?;
            if self.capacity.recompute == Recompute::Block {
                self.forward_again(&s, at)?;
            }
            // gradients of weights are made while others' numbers are on their way
            let all = self.start_keys_and_values(&s, &s.layers[at.place].saved, &scratch)?;
            let d_out = self.start_gather_gradient(&scratch.d_hidden, &scratch)?;
            let normed = self.start_gather_normed(&s, at, Half::FeedForward)?;
            let (d_out, d_normed) = self.feed_forward_input(&s, at, d_out, &shared)?;
            self.feed_forward_weight(at, &s, (&d_out, normed), &shared)?;
            self.norm_backward(&s, at, Half::FeedForward, d_normed)?;
            let d_middle = self.start_gather_gradient(&scratch.d_hidden, &scratch)?;
            let normed = self.start_gather_normed(&s, at, Half::Attention)?;
            let (d_middle, d_kv) = self.attention_scores(&s, at, (d_middle, all), &shared)?;
            self.output_weight(&s, at, &d_middle)?;
            let d_normed = self.attention_input(&s, at, d_kv, &shared)?;
            self.projection_weight(at, normed, &shared)?;
            self.norm_backward(&s, at, Half::Attention, d_normed)?;
            self.fresh[at.layer].store(false, Ordering::Release);
            self.end_layer_gradients(at.layer, self.last)?;
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
            let all = self.start_keys_and_values(&s, &s.layers[at.place].saved, &scratch)?;
            let d_out = self.start_gather_gradient(&scratch.d_hidden, &scratch)?;
            let (_, d_normed) = self.feed_forward_input(&s, at, d_out, kept)?;
            self.norm_backward(&s, at, Half::FeedForward, d_normed)?;
            self.device.execute(Copy { x: d_hidden(), out: kept.middle.clone() })?;
            let d_middle = self.start_gather_gradient(&scratch.d_hidden, &scratch)?;
            let (_, d_kv) = self.attention_scores(&s, at, (d_middle, all), kept)?;
            let d_normed = self.attention_input(&s, at, d_kv, kept)?;
            self.norm_backward(&s, at, Half::Attention, d_normed)?;
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
            let d_out = self.start_gather_gradient(&kept.out, &scratch)?;
            let normed = self.start_gather_normed(&s, at, Half::FeedForward)?;
            let d_out = d_out.wait(&*self.device)?;
            self.feed_forward_weight(at, &s, (&d_out, normed), kept)?;
            let d_middle = self.start_gather_gradient(&kept.middle, &scratch)?;
            let normed = self.start_gather_normed(&s, at, Half::Attention)?;
            self.output_weight(&s, at, &d_middle.wait(&*self.device)?)?;
            self.projection_weight(at, normed, kept)?;
            self.fresh[at.layer].store(false, Ordering::Release);
            self.end_layer_gradients(at.layer, self.last)?;
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
        self.begin_pass();
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
            let dout = self.start_gather_gradient(&scratch.d_hidden, &scratch)?;
            let dout = dout.wait(&*self.device)?.into_view();
            self.device.execute(EmbedBackward {
                ids: s.ends.tokens.clone(),
                dout,
                vocab_start: self.shard.vocab.start,
                vocab: self.config.vocab_size,
                dtable: end("embedding", &self.gradient_memory()?.embedding)?.clone(),
            })?;
            if self.last {
                self.complete(Through::Embedding)?;
            }
        }
        Ok(scratch.d_hidden)
    }

    /// The gradient of the residual stream with the rows of all tensor-parallel ranks, begun: as it is
    /// on one rank, in the type of messages over several.
    fn start_gather_gradient(&self, x: &View, scratch: &Scratch) -> Result<Gathering, Error> {
        if self.shard.tp.size == 1 || x.dtype() == scratch.gathered.dtype() {
            return self.start_gather(Placed::new(x.clone()), &scratch.gathered, PIECES);
        }
        let out = scratch.d_norm.clone();
        self.device.execute(Copy { x: x.clone(), out: out.clone() })?;
        self.start_gather(Placed::new(out), &scratch.gathered, PIECES)
    }

    /// A norm's output, made again where it was not kept, with the rows of all tensor-parallel ranks.
    fn start_gather_normed(&self, s: &Slot, at: At, half: Half) -> Result<Gathering, Error> {
        let (w, l) = (self.acquire(at.layer)?, &s.layers[at.place].saved);
        let (x, weight, out, rstd) = match half {
            Half::Attention => (&s.hidden[at.place], &w.attention_norm, &l.norm1, &l.rstd1),
            Half::FeedForward => (&l.middle, &w.feed_forward_norm, &l.norm2, &l.rstd2),
        };
        let normed = match self.capacity.recompute {
            Recompute::Elementwise => self.norm(&Placed::new(x.clone()), weight, out, rstd)?,
            Recompute::None | Recompute::Block => Placed::new(out.clone()),
        };
        self.start_gather(normed, &self.activations.scratch(&s.at.rows)?.again, 1)
    }

    /// From the gradient of the layer's output, with which it comes back whole, to that of the
    /// feed-forward's normed input, on its way.
    fn feed_forward_input(
        &self,
        s: &Slot,
        at: At,
        d_out: Gathering,
        kept: &Kept,
    ) -> Result<(Placed<Whole>, Scattering), Error> {
        let (w, p) = (self.acquire(at.layer)?, self.packed(at.layer)?);
        let l = &s.layers[at.place].saved;
        let scratch = self.activations.scratch(&s.at.rows)?;
        let d_out = self.rows_backward(d_out, (&w.down, &p.down), &scratch.act)?;
        // in place: gate and up become their gradients, the product is computed again for `down`
        let (gate, up) = self.halves(&l.gate_up)?;
        self.device.execute(SwiGluBackward {
            gate: gate.clone(),
            up: up.clone(),
            dout: scratch.act.clone(),
            dgate: gate,
            dup: up,
            out: Some(kept.act.clone()),
        })?;
        let weight = (w.gate_up.whole()?, &p.gate_up);
        Ok((d_out, self.scatter_backward(&l.gate_up, weight, &scratch)?))
    }

    fn feed_forward_weight(
        &self,
        at: At,
        s: &Slot,
        (d_out, normed): (&Placed<Whole>, Gathering),
        kept: &Kept,
    ) -> Result<(), Error> {
        let (g, l) = (self.layer_gradients(at)?, &s.layers[at.place].saved);
        let adds = !self.fresh[at.layer].load(Ordering::Acquire);
        self.weight_backward(d_out.view(), &kept.act, (&g.down, adds), g.down_bias.as_ref())?;
        let dbias = g.gate_up_bias.as_ref().map(Joined::whole).transpose()?;
        let (dweight, normed) = ((g.gate_up.whole()?, adds), normed.wait(&*self.device)?);
        self.weight_backward(&l.gate_up, normed.view(), dweight, dbias)
    }

    /// From the gradient of the residual stream between the halves, with which it comes back whole, to
    /// those of queries, keys and values; those of keys and values on their way, where others add to
    /// them.
    fn attention_scores(
        &self,
        s: &Slot,
        at: At,
        (d_middle, all): (Gathering, KeysValues),
        kept: &Kept,
    ) -> Result<(Placed<Whole>, Option<Pending>), Error> {
        let (w, p) = (self.acquire(at.layer)?, self.packed(at.layer)?);
        let l = &s.layers[at.place].saved;
        let scratch = self.activations.scratch(&s.at.rows)?;
        let d_middle = self.rows_backward(d_middle, (&w.output, &p.output), &scratch.d_attended)?;
        let d_kv = self.attend_backward(s, (l, all), &scratch, &kept.qkv)?;
        let (dq, ..) = self.heads(&kept.qkv)?;
        self.rotate(&dq, &s.ends.positions, true)?;
        Ok((d_middle, d_kv))
    }

    /// On to the gradient of attention's normed input, on its way.
    fn attention_input(
        &self,
        s: &Slot,
        at: At,
        d_kv: Option<Pending>,
        kept: &Kept,
    ) -> Result<Scattering, Error> {
        let (w, p) = (self.acquire(at.layer)?, self.packed(at.layer)?);
        d_kv.map_or(Ok(()), |pending| pending.wait(&*self.device))?;
        let (_, dk, _) = self.heads(&kept.qkv)?;
        self.rotate(&dk, &s.ends.positions, true)?;
        let scratch = self.activations.scratch(&s.at.rows)?;
        self.scatter_backward(&kept.qkv, (w.qkv.whole()?, &p.qkv), &scratch)
    }

    /// The gradients of keys and values are summed over the queries of all context-parallel ranks, in
    /// the type of sums.
    fn attend_backward(
        &self,
        s: &Slot,
        (l, all): (&Tensors, KeysValues),
        scratch: &Scratch,
        d_qkv: &View,
    ) -> Result<Option<Pending>, Error> {
        let context = self.mesh.group(Use::KeyValues);
        let (q, _, _) = self.heads(&l.qkv)?;
        let (dq, dk, dv) = self.heads(d_qkv)?;
        let (k, v) = self.keys_and_values(all)?;
        let width = k.cols();
        let (dk, dv) = match context.is_one() {
            true => (dk, dv),
            false => {
                let all = &scratch.d_kv;
                self.device.execute(Fill { out: all.clone(), value: 0.0 })?;
                (all.slice_cols(0..width)?, all.slice_cols(width..2 * width)?)
            }
        };
        for look in self.looks(s) {
            let (own, seen) = (|x| self.own_rows(x, &look), |x| self.seen_rows(x, &look));
            self.device.execute(AttentionBackward {
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
                dout: own(&scratch.d_attended)?,
                dq: own(&dq)?,
                dk: seen(&dk)?,
                dv: seen(&dv)?,
                accumulate: !context.is_one(),
            })?;
        }
        if context.is_one() {
            return Ok(None);
        }
        let (parts, device) = (self.by_rank(&scratch.d_kv, s.at.rows.whole)?, &*self.device);
        let own = d_qkv.slice_cols(q.cols()..q.cols() + 2 * width)?;
        let pending = context.start_reduce_scatter_parts(device, &parts, &own)?;
        Ok(Some(self.mesh.begun(device, pending)?))
    }

    fn output_weight(&self, s: &Slot, at: At, d_middle: &Placed<Whole>) -> Result<(), Error> {
        let (g, l) = (self.layer_gradients(at)?, &s.layers[at.place].saved);
        let adds = !self.fresh[at.layer].load(Ordering::Acquire);
        let (dweight, dbias) = ((&g.output, adds), g.output_bias.as_ref());
        self.weight_backward(d_middle.view(), &l.attended, dweight, dbias)
    }

    fn projection_weight(&self, at: At, normed: Gathering, kept: &Kept) -> Result<(), Error> {
        let g = self.layer_gradients(at)?;
        let adds = !self.fresh[at.layer].load(Ordering::Acquire);
        let dbias = g.qkv_bias.as_ref().map(Joined::whole).transpose()?;
        let (dweight, normed) = ((g.qkv.whole()?, adds), normed.wait(&*self.device)?);
        self.weight_backward(&kept.qkv, normed.view(), dweight, dbias)
    }

    /// Waits for the gradient of a norm's output and adds that of its input to the gradient of the
    /// residual stream.
    fn norm_backward(
        &self,
        s: &Slot,
        at: At,
        half: Half,
        d_normed: Scattering,
    ) -> Result<(), Error> {
        let (w, g) = (self.acquire(at.layer)?, self.layer_gradients(at)?);
        let l = &s.layers[at.place].saved;
        let (x, weight, dweight, rstd) = match half {
            Half::Attention => {
                (&s.hidden[at.place], &w.attention_norm, &g.attention_norm, &l.rstd1)
            }
            Half::FeedForward => (&l.middle, &w.feed_forward_norm, &g.feed_forward_norm, &l.rstd2),
        };
        Ok(self.device.execute(RmsNormBackward {
            x: x.clone(),
            weight: weight.clone(),
            rstd: rstd.clone(),
            dy: d_normed.wait(&*self.device)?.into_view(),
            dx: self.activations.scratch(&s.at.rows)?.d_hidden,
            dweight: Some(dweight.clone()),
            accumulate: true,
        })?)
    }

    /// `dx = dy · W`, for rows of `dy` as they come; `dy` whole.
    fn rows_backward(
        &self,
        dy: Gathering,
        weight: (&View, &Both),
        dx: &View,
    ) -> Result<Placed<Whole>, Error> {
        dy.each(&*self.device, |dy, rows| {
            let (dy, dx) = (dy.slice_rows(rows.clone())?, dx.slice_rows(rows)?);
            self.product_backward(&dy, weight, &dx)
        })
    }

    /// This rank's rows of `dy · W`, of which each tensor-parallel rank has a summand: on their way, as
    /// they are made.
    fn scatter_backward(
        &self,
        dy: &View,
        weight: (&View, &Both),
        scratch: &Scratch,
    ) -> Result<Scattering, Error> {
        let partial = self.summand(&scratch.d_norm, &scratch.summand);
        let memory = (Placed::<TpPartial>::new(partial.clone()), &scratch.d_norm);
        placement::start_scatter(&self.mesh, &*self.device, memory, PIECES, |rows| {
            let (dy, dx) = (dy.slice_rows(rows.clone())?, partial.slice_rows(rows)?);
            self.product_backward(&dy, weight, &dx)
        })
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
