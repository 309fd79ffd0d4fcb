//! Prefill and decoding against an external cache of keys and values.
//!
//! One call extends any number of sequences by any number of tokens each: prefill is a long chunk,
//! decoding a chunk of one token. Products run over all rows together, attention over each
//! sequence's cache; each row has the bits of the packed forward, however it was batched.
//! Not a scheduler and not sampling: those are `infer`'s.

use crate::Error;
use crate::config::Config;
use crate::memory::{Capacity, Precision};
use crate::model::Model;
use crate::parameters::end;
use crate::slots::Carver;
use quipu_math::op::{Attention, Copy, Embed};
use quipu_math::{DType, Device, View};
use quipu_mesh::placement::{Placed, SeqShard};
use std::ops::Range;

/// Keys and values of one sequence, for every layer.
#[derive(Debug)]
pub struct KvCache {
    /// For each layer, capacity × KV·hd, rotated.
    keys: Vec<View>,
    values: Vec<View>,
    length: usize,
}

impl KvCache {
    /// Room for `capacity` tokens of a model with this configuration and element type.
    ///
    /// # Errors
    /// Too little memory.
    pub fn new(
        device: &dyn Device,
        config: &Config,
        dtype: DType,
        capacity: usize,
    ) -> Result<KvCache, Error> {
        let mut carver = Carver::new(device);
        (0..2 * config.layers).for_each(|_| carver.ask(dtype, capacity, config.kv_width()));
        let (_, mut views) = carver.carve()?;
        let mut take = || (0..config.layers).map(|_| views.next()).collect::<Result<Vec<_>, _>>();
        Ok(KvCache { keys: take()?, values: take()?, length: 0 })
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
        self.keys.first().map_or(0, View::rows)
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

/// Memory of one call of `extend`, planned with the model.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub bytes: usize,
    tokens: View,
    positions: View,
    /// Zeros: a cache holds one document, which begins at its first row.
    starts: View,
    rows: View,
    hidden: View,
    middle: View,
    norm: View,
    rstd: View,
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
        capacity: &Capacity,
    ) -> Result<Stream, Error> {
        let (t, d, f) = (capacity.generated, config.hidden_size, config.intermediate_size);
        let mut carver = Carver::new(device);
        (0..4).for_each(|_| carver.ask(DType::U32, t, 1));
        let Precision { activations: act, sums, .. } = capacity.precision;
        let (qkv, q) = (config.qkv_width(), config.query_width());
        [(sums, d), (sums, d), (act, d), (sums, 1), (act, qkv), (act, q), (sums, config.heads)]
            .into_iter()
            .chain([(act, 2 * f), (act, f)])
            .for_each(|(dtype, width)| carver.ask(dtype, t, width));
        let (bytes, mut v) = carver.carve()?;
        Ok(Stream {
            bytes,
            tokens: v.next()?,
            positions: v.next()?,
            starts: v.next()?,
            rows: v.next()?,
            hidden: v.next()?,
            middle: v.next()?,
            norm: v.next()?,
            rstd: v.next()?,
            qkv: v.next()?,
            attended: v.next()?,
            lse: v.next()?,
            gate_up: v.next()?,
            act: v.next()?,
        })
    }

    fn cut(&self, rows: usize) -> Result<Stream, Error> {
        let cut = |view: &View| view.slice_rows(0..rows);
        Ok(Stream {
            bytes: self.bytes,
            tokens: cut(&self.tokens)?,
            positions: cut(&self.positions)?,
            starts: cut(&self.starts)?,
            rows: self.rows.clone(),
            hidden: cut(&self.hidden)?,
            middle: cut(&self.middle)?,
            norm: cut(&self.norm)?,
            rstd: cut(&self.rstd)?,
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
        KvCache::new(&*self.device, &self.config, self.precision().activations, capacity)
    }

    /// Runs new tokens of several sequences, appends their keys and values to the caches and
    /// returns logits [rows wanted, V] on the device, in the order of the chunks.
    ///
    /// # Errors
    /// A model made without `generated`, or divided over ranks; more tokens than that, an empty chunk,
    /// an unknown token, a full cache, a context longer than the rotary table. The caches are then as
    /// before.
    pub fn extend(&mut self, chunks: &mut [Chunk<'_>], wanted: Wanted) -> Result<View, Error> {
        let spans = self.check_chunks(chunks)?;
        let total = spans.last().map_or(0, |span| span.end);
        let Some(stream) = &self.stream else {
            return Err(call(
                "extend",
                "a model made without it, or divided over ranks",
                "Capacity { generated, .. } above 0, and a mesh with tp=1 and pp=1",
            ));
        };
        let s = stream.cut(total)?;
        self.write_chunks(&s, chunks)?;
        let embed = Embed {
            ids: s.tokens.clone(),
            table: end("embedding", &self.weights.embedding)?.clone(),
            vocab_start: 0,
            vocab: self.config.vocab_size,
            out: s.hidden.clone(),
        };
        self.device.execute(embed)?;
        for layer in 0..self.config.layers {
            self.extend_attention(&s, layer, chunks, &spans)?;
            self.extend_feed_forward(&s, layer)?;
            self.release(layer);
        }
        let logits = self.extend_logits(&s, &spans, wanted)?;
        chunks.iter_mut().for_each(|chunk| chunk.cache.length += chunk.tokens.len());
        Ok(logits)
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
        let (w, p) = (self.acquire(layer), self.packed(layer)?);
        let x = Placed::<SeqShard>::new(s.hidden.clone());
        let normed = self.gather(self.norm(&x, &w.attention_norm, &s.norm, &s.rstd)?, &s.norm)?;
        let bias = w.qkv_bias.as_ref();
        let qkv = self.column_parallel(&normed, (&w.qkv, &p.qkv), bias, &s.qkv)?;
        self.rotate(qkv.view(), &s.positions, false)?;
        for (chunk, span) in chunks.iter().zip(spans) {
            self.attend_cached(s, layer, chunk, span.clone())?;
        }
        let (attended, bias) = (Placed::new(s.attended.clone()), w.output_bias.as_ref());
        self.row_parallel(&x, &attended, (&w.output, &p.output), bias, (&s.middle, &s.middle))
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
        self.device.execute(Attention {
            q,
            k: keys.slice_rows(0..end)?,
            v: values.slice_rows(0..end)?,
            starts: s.starts.slice_rows(span.clone())?,
            query_offset: length,
            heads: self.config.heads,
            kv_heads: self.config.kv_heads,
            scale: self.attention_scale(),
            out: s.attended.slice_rows(span.clone())?,
            lse: s.lse.slice_rows(span)?,
        })?;
        Ok(())
    }

    fn extend_feed_forward(&self, s: &Stream, layer: usize) -> Result<(), Error> {
        let (w, p) = (self.acquire(layer), self.packed(layer)?);
        let x = Placed::<SeqShard>::new(s.middle.clone());
        let normed =
            self.gather(self.norm(&x, &w.feed_forward_norm, &s.norm, &s.rstd)?, &s.norm)?;
        let (weight, bias) = ((&w.gate_up, &p.gate_up), w.gate_up_bias.as_ref());
        let gate_up = self.column_parallel(&normed, weight, bias, &s.gate_up)?;
        let act = self.swiglu(&gate_up, s.act.clone())?;
        let (weight, bias) = ((&w.down, &p.down), w.down_bias.as_ref());
        self.row_parallel(&x, &act, weight, bias, (&s.hidden, &s.hidden))
    }

    fn extend_logits(
        &self,
        s: &Stream,
        spans: &[Range<usize>],
        wanted: Wanted,
    ) -> Result<View, Error> {
        let total = s.hidden.rows();
        let hidden = match wanted {
            Wanted::All => s.hidden.clone(),
            Wanted::Last => {
                let last: Vec<u32> = spans.iter().map(|span| span.end as u32 - 1).collect();
                let ids = s.rows.slice_rows(0..last.len())?;
                self.device.write_u32(&ids, &last)?;
                let out = s.middle.slice_rows(0..last.len())?;
                let table = s.hidden.clone();
                self.device.execute(Embed {
                    ids,
                    table,
                    vocab_start: 0,
                    vocab: total,
                    out: out.clone(),
                })?;
                out
            }
        };
        let rows = 0..hidden.rows();
        let (out, rstd) = (s.norm.slice_rows(rows.clone())?, s.rstd.slice_rows(rows)?);
        let weight = end("final norm", &self.weights.final_norm)?;
        let normed = self.norm(&Placed::new(hidden), weight, &out, &rstd)?;
        self.project(self.gather(normed, &out)?.into_view())
    }
}

fn call(what: &'static str, found: &str, expected: &str) -> Error {
    Error::Call { what, found: found.into(), expected: expected.into() }
}
