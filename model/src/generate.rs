//! Prefill and decoding against an external cache of keys and values.
//!
//! One call extends any number of sequences by any number of tokens each: prefill is a long chunk,
//! decoding a chunk of one token. Products run over all rows together, attention over each
//! sequence's cache; each row has the bits of the packed forward, however it was batched. On a mesh
//! all ranks make the same calls: each has its heads and layers of the cache, and gets all logits.
//! Not a scheduler and not sampling: those are `infer`'s.

use crate::Error;
use crate::config::Config;
use crate::memory::{Capacity, Precision};
use crate::model::Model;
use crate::parameters::end;
use crate::shard::{Shard, Stage};
use crate::slots::Carver;
use quipu_math::op::{Attention, Copy, Embed, Fill};
use quipu_math::{DType, Device, View};
use quipu_mesh::placement::{Placed, SeqShard};
use quipu_mesh::{Axis, Use};
use std::ops::Range;

/// Keys and values of one sequence, for every layer and head that a rank has.
#[derive(Debug)]
pub struct KvCache {
    /// For each layer, capacity × KV·hd, rotated.
    keys: Vec<View>,
    values: Vec<View>,
    capacity: usize,
    length: usize,
}

impl KvCache {
    fn new(
        device: &dyn Device,
        shard: &Shard,
        dtype: DType,
        capacity: usize,
    ) -> Result<KvCache, Error> {
        let mut carver = Carver::new(device);
        let layers = shard.layers().count();
        (0..2 * layers).for_each(|_| carver.ask(dtype, capacity, shard.kv_width()));
        let (_, mut views) = carver.carve()?;
        let mut take = || (0..layers).map(|_| views.next()).collect::<Result<Vec<_>, _>>();
        Ok(KvCache { keys: take()?, values: take()?, capacity, length: 0 })
    }

    /// Tokens in it.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether no token is in it.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Most tokens it can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets all tokens but the first `length`: a prefix used again, a reply taken back.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        self.keys.iter().chain(&self.values).map(View::bytes).sum()
    }
}

/// New tokens of one sequence.
#[derive(Debug)]
pub struct Chunk<'a> {
    /// The tokens that follow what the cache holds; at least one.
    pub tokens: &'a [u32],
    /// The sequence so far; holds the new tokens as well when the call returns.
    pub cache: &'a mut KvCache,
}

/// Which rows get logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The last token of each chunk: one row a chunk.
    Last,
    /// Every token.
    All,
}

/// Memory of one call of `extend`, planned with the model. The residual stream has the rows of this
/// tensor-parallel rank, what is between has all.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub bytes: usize,
    tp: usize,
    tokens: View,
    positions: View,
    /// Zeros: a cache holds one document, which begins at its first row.
    starts: View,
    rows: View,
    hidden: View,
    middle: View,
    norm: View,
    rstd: View,
    /// All rows of a norm, and this rank's summand of what becomes rows of the residual stream: of a
    /// row each where nothing is divided.
    gathered: View,
    summand: View,
    qkv: View,
    attended: View,
    lse: View,
    gate_up: View,
    act: View,
}

impl Stream {
    pub(crate) fn allocate(
        device: &dyn Device,
        config: &Config,
        shard: &Shard,
        capacity: &Capacity,
    ) -> Result<Stream, Error> {
        let (tp, d, f) = (shard.tp.size, config.hidden_size, shard.ffn.len());
        let t = capacity.generated.next_multiple_of(tp);
        let mut carver = Carver::new(device);
        (0..4).for_each(|_| carver.ask(DType::U32, t, 1));
        let Precision { activations: act, sums, .. } = capacity.precision;
        [(sums, d), (sums, d), (act, d), (sums, 1)]
            .into_iter()
            .for_each(|(dtype, width)| carver.ask(dtype, t / tp, width));
        (0..2).for_each(|_| carver.ask(act, if tp > 1 { t } else { 1 }, d));
        let (qkv, q) = (shard.qkv_width(), shard.query_width());
        [(act, qkv), (act, q), (sums, shard.heads.len()), (act, 2 * f), (act, f)]
            .into_iter()
            .for_each(|(dtype, width)| carver.ask(dtype, t, width));
        let (bytes, mut v) = carver.carve()?;
        Ok(Stream {
            bytes,
            tp,
            tokens: v.next()?,
            positions: v.next()?,
            starts: v.next()?,
            rows: v.next()?,
            hidden: v.next()?,
            middle: v.next()?,
            norm: v.next()?,
            rstd: v.next()?,
            gathered: v.next()?,
            summand: v.next()?,
            qkv: v.next()?,
            attended: v.next()?,
            lse: v.next()?,
            gate_up: v.next()?,
            act: v.next()?,
        })
    }

    /// For a call with so many rows, and what pads them.
    fn cut(&self, rows: usize) -> Result<Stream, Error> {
        let rows = rows.next_multiple_of(self.tp);
        let cut = |view: &View| view.slice_rows(0..rows.min(view.rows()));
        let own = |view: &View| view.slice_rows(0..rows / self.tp);
        Ok(Stream {
            bytes: self.bytes,
            tp: self.tp,
            tokens: cut(&self.tokens)?,
            positions: cut(&self.positions)?,
            starts: cut(&self.starts)?,
            rows: self.rows.clone(),
            hidden: own(&self.hidden)?,
            middle: own(&self.middle)?,
            norm: own(&self.norm)?,
            rstd: own(&self.rstd)?,
            gathered: cut(&self.gathered)?,
            summand: cut(&self.summand)?,
            qkv: cut(&self.qkv)?,
            attended: cut(&self.attended)?,
            lse: cut(&self.lse)?,
            gate_up: cut(&self.gate_up)?,
            act: cut(&self.act)?,
        })
    }
}

impl Model {
    /// A cache for one sequence of at most `capacity` tokens on this model's device.
    ///
    /// # Errors
    /// Too little memory.
    pub fn cache(&self, capacity: usize) -> Result<KvCache, Error> {
        KvCache::new(&*self.device, &self.shard, self.precision().activations, capacity)
    }

    /// Runs new tokens of several sequences, appends their keys and values to the caches and
    /// returns logits [rows wanted, V] on the device, in the order of the chunks. All ranks of a mesh
    /// call it with the same; each gets all logits.
    ///
    /// # Errors
    /// A model made without `generated`; more tokens than that, an empty chunk, an unknown token, a
    /// full cache, a context longer than the rotary table; what the other ranks report. The caches are
    /// then as before.
    pub fn extend(&mut self, chunks: &mut [Chunk<'_>], wanted: Wanted) -> Result<View, Error> {
        let spans = self.check_chunks(chunks)?;
        let total = spans.last().map_or(0, |span| span.end);
        let Some(stream) = &self.stream else {
            return Err(call(
                "extend",
                "a model made without it",
                "Capacity { generated, .. } above 0",
            ));
        };
        let s = stream.cut(total)?;
        self.write_chunks(&s, chunks)?;
        let mut first = 0;
        for stage in &self.shard.chunks {
            let layers = first..first + stage.layers.len();
            first = layers.end;
            self.begin_stage(&s, stage)?;
            self.begin_pass();
            for layer in layers.clone() {
                self.acquire(layer)?;
                if layer + 1 < layers.end {
                    self.ask_for(layer + 1)?;
                }
                self.extend_attention(&s, layer, chunks, &spans)?;
                self.extend_feed_forward(&s, layer)?;
            }
            self.end_stage(&s, stage)?;
        }
        let logits = self.extend_logits(&s, &spans, wanted)?;
        chunks.iter_mut().for_each(|chunk| chunk.cache.length += chunk.tokens.len());
        Ok(logits)
    }

    /// The hidden state before a stage: of the tokens, or from the rank of the stage before it. In the
    /// type of sums, so that it has the bits of one rank.
    fn begin_stage(&self, s: &Stream, stage: &Stage) -> Result<(), Error> {
        if !stage.first {
            let stages = self.mesh.group(Use::Stages);
            let from = (stage.number + stages.size() - 1) % stages.size();
            return Ok(stages.receive(&*self.device, &s.hidden, from, stage.number as u64)?);
        }
        self.acquire_end(true)?;
        let out = self.summand(&s.hidden, &s.summand);
        self.device.execute(Embed {
            ids: s.tokens.clone(),
            table: end("embedding", &self.weights.embedding)?.clone(),
            vocab_start: self.shard.vocab.start,
            vocab: self.config.vocab_size,
            out: out.clone(),
        })?;
        self.scatter(Placed::new(out), &s.hidden).map(|_| ())
    }

    fn end_stage(&self, s: &Stream, stage: &Stage) -> Result<(), Error> {
        if stage.last {
            return Ok(());
        }
        let (stages, next) = (self.mesh.group(Use::Stages), stage.number + 1);
        Ok(stages.send(&*self.device, &s.hidden, next % stages.size(), next as u64)?)
    }

    /// Rows of each chunk among the rows of the call.
    fn check_chunks(&self, chunks: &[Chunk<'_>]) -> Result<Vec<Range<usize>>, Error> {
        let mut spans = Vec::with_capacity(chunks.len());
        let mut at = 0;
        for chunk in chunks {
            let (n, length) = (chunk.tokens.len(), chunk.cache.length);
            if n == 0 {
                return Err(call("chunk", "empty", "at least one token"));
            }
            let room = chunk.cache.capacity().min(self.positions());
            if length + n > room {
                let found = format!("{length} tokens and {n} new ones");
                return Err(call("cache", &found, &format!("at most {room} in all")));
            }
            if let Some(token) =
                chunk.tokens.iter().find(|t| **t as usize >= self.config.vocab_size)
            {
                let expected = format!("less than {}", self.config.vocab_size);
                return Err(call("token", &token.to_string(), &expected));
            }
            spans.push(at..at + n);
            at += n;
        }
        if at == 0 || at > self.capacity.generated {
            let expected = format!("1 to {}, as the model was made for", self.capacity.generated);
            return Err(call("number of new tokens", &at.to_string(), &expected));
        }
        Ok(spans)
    }

    fn write_chunks(&self, s: &Stream, chunks: &[Chunk<'_>]) -> Result<(), Error> {
        let mut tokens = Vec::new();
        let mut positions = Vec::new();
        for chunk in chunks {
            tokens.extend_from_slice(chunk.tokens);
            let start = chunk.cache.length as u32;
            positions.extend(start..start + chunk.tokens.len() as u32);
        }
        tokens.resize(s.tokens.rows(), 0);
        positions.resize(s.positions.rows(), 0);
        self.device.write_u32(&s.tokens, &tokens)?;
        Ok(self.device.write_u32(&s.positions, &positions)?)
    }

    fn extend_attention(
        &self,
        s: &Stream,
        layer: usize,
        chunks: &[Chunk<'_>],
        spans: &[Range<usize>],
    ) -> Result<(), Error> {
        let (w, p) = (self.acquire(layer)?, self.packed(layer)?);
        let x = Placed::<SeqShard>::new(s.hidden.clone());
        let normed = self.norm(&x, &w.attention_norm, &s.norm, &s.rstd)?;
        let (input, bias) = ((normed, &s.gathered), w.qkv_bias.as_ref());
        self.column_parallel(input, (&w.qkv, &p.qkv), bias, &s.qkv)?;
        let (q, k, _) = self.heads(&s.qkv)?;
        self.rotate(&q, &s.positions, false)?;
        self.rotate(&k, &s.positions, false)?;
        for (chunk, span) in chunks.iter().zip(spans) {
            self.attend_cached(s, layer, chunk, span.clone())?;
        }
        let (attended, bias) = (Placed::new(s.attended.clone()), w.output_bias.as_ref());
        self.row_parallel(&x, &attended, (&w.output, &p.output), bias, (&s.summand, &s.middle))
    }

    /// Appends the chunk's keys and values to its cache and attends over all of it.
    fn attend_cached(
        &self,
        s: &Stream,
        layer: usize,
        chunk: &Chunk<'_>,
        span: Range<usize>,
    ) -> Result<(), Error> {
        let (q, k, v) = self.heads(&s.qkv.slice_rows(span.clone())?)?;
        let length = chunk.cache.length;
        let end = length + span.len();
        let (keys, values) = (&chunk.cache.keys[layer], &chunk.cache.values[layer]);
        self.device.execute(Copy { x: k, out: keys.slice_rows(length..end)? })?;
        self.device.execute(Copy { x: v, out: values.slice_rows(length..end)? })?;
        let (attended, lse) =
            (s.attended.slice_rows(span.clone())?, s.lse.slice_rows(span.clone())?);
        for (queries, heads) in self.shard.readers() {
            let seen = |x: &View| self.of_heads(x, &heads)?.slice_rows(0..end);
            self.device.execute(Attention {
                q: self.of_heads(&q, &queries)?,
                k: seen(keys)?,
                v: seen(values)?,
                starts: s.starts.slice_rows(span.clone())?,
                query_offset: length,
                heads: queries.len(),
                kv_heads: heads.len(),
                scale: self.attention_scale(),
                out: self.of_heads(&attended, &queries)?,
                lse: lse.slice_cols(queries)?,
            })?;
        }
        Ok(())
    }

    fn extend_feed_forward(&self, s: &Stream, layer: usize) -> Result<(), Error> {
        let (w, p) = (self.acquire(layer)?, self.packed(layer)?);
        let x = Placed::<SeqShard>::new(s.middle.clone());
        let normed = self.norm(&x, &w.feed_forward_norm, &s.norm, &s.rstd)?;
        let (weight, bias) = ((&w.gate_up, &p.gate_up), w.gate_up_bias.as_ref());
        let gate_up = self.column_parallel((normed, &s.gathered), weight, bias, &s.gate_up)?;
        let act = self.swiglu(&gate_up, s.act.clone())?;
        let (weight, bias) = ((&w.down, &p.down), w.down_bias.as_ref());
        self.row_parallel(&x, &act, weight, bias, (&s.summand, &s.hidden))
    }

    /// Logits of the wanted rows, on every rank: the last stage has the hidden states, each of its
    /// tensor-parallel ranks a part of the vocabulary.
    fn extend_logits(
        &self,
        s: &Stream,
        spans: &[Range<usize>],
        wanted: Wanted,
    ) -> Result<View, Error> {
        let rows: Vec<u32> = match wanted {
            Wanted::All => (0..spans.last().map_or(0, |span| span.end as u32)).collect(),
            Wanted::Last => spans.iter().map(|span| span.end as u32 - 1).collect(),
        };
        let (sums, vocabulary) = (self.precision().sums, self.config.vocab_size);
        let stages = self.mesh.group(Use::Stages);
        let own = match self.shard.has_last() {
            true => Some(self.project(self.last_rows(s, &rows, wanted)?)?),
            false => None,
        };
        if self.shard.tp.size == 1 && stages.is_one() {
            return own.ok_or_else(|| call("extend", "a rank without a head", "one stage"));
        }
        let device = &*self.device;
        let out = device.matrix(sums, rows.len(), vocabulary)?;
        if let Some(own) = own {
            device.execute(Fill { out: out.clone(), value: 0.0 })?;
            let columns = out.slice_cols(self.shard.vocab.clone())?;
            device.execute(Copy { x: own, out: columns })?;
            // of each logit all summands but one are zeros
            self.mesh.group(Use::Vocabulary).all_reduce(device, &out)?;
        }
        let pipeline = self.mesh.axes().size(Axis::Pp);
        stages.broadcast(device, &out, pipeline - 1)?;
        Ok(out)
    }

    /// The normed hidden states of these rows.
    fn last_rows(&self, s: &Stream, rows: &[u32], wanted: Wanted) -> Result<View, Error> {
        self.acquire_end(false)?;
        let weight = end("final norm", &self.weights.final_norm)?;
        let pick = |table: &View, out: View| -> Result<View, Error> {
            let ids = s.rows.slice_rows(0..rows.len())?;
            self.device.write_u32(&ids, rows)?;
            let (table, vocab) = (table.clone(), table.rows());
            self.device.execute(Embed { ids, table, vocab_start: 0, vocab, out: out.clone() })?;
            Ok(out)
        };
        let first = |view: &View| view.slice_rows(0..rows.len());
        if self.shard.tp.size > 1 {
            // the rows lie on several ranks
            let x = Placed::new(s.hidden.clone());
            let normed = self.norm(&x, weight, &s.norm, &s.rstd)?;
            let whole = self.gather(normed, &s.gathered)?.into_view();
            return pick(&whole, first(&s.summand)?);
        }
        let hidden = match wanted {
            Wanted::All => s.hidden.clone(),
            Wanted::Last => pick(&s.hidden, first(&s.middle)?)?,
        };
        let normed = self.norm(&Placed::new(hidden), weight, &first(&s.norm)?, &first(&s.rstd)?)?;
        Ok(self.gather(normed, &s.gathered)?.into_view())
    }
}

fn call(what: &'static str, found: &str, expected: &str) -> Error {
    Error::Call { what, found: found.into(), expected: expected.into() }
}
