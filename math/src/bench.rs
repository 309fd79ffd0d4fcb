//! How fast each op is on this machine: the shapes of one training step of the benchmark model, timed
//! against the processor's own peak. Not a test of correctness, and not a whole step.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

use crate::cpu::{Cpu, Kernel, Simd};
use crate::device::{Device, Queue};
use crate::dtype::DType::{self, F32};
use crate::error::Error;
use crate::op::*;
use crate::view::View;

/// The benchmark model: sizes of `torch_train_step.py`.
const TOKENS: usize = 2048;
const SEQUENCE: usize = 256;
const VOCAB: usize = 4096;
const DIM: usize = 384;
const FFN: usize = 1024;
const HEADS: usize = 6;
const KV_HEADS: usize = 2;
const LAYERS: usize = 6;
/// Rows of the query, key and value weights together.
const QKV: usize = DIM + 2 * KV_HEADS * (DIM / HEADS);

/// One op at one shape.
#[derive(Clone, Debug)]
pub struct Row {
    /// Op and shape.
    pub name: String,
    /// How often a training step of the benchmark model runs it.
    pub per_step: usize,
    /// Best time of one run, in seconds.
    pub seconds: f64,
    /// FLOPs per second ÷ 10⁹; attention counts the keys that are seen.
    pub gflops: f64,
    /// Bytes of operands per second ÷ 10⁹.
    pub gbytes: f64,
    /// `gflops` ÷ the peak measured around it.
    pub share: f64,
}

/// The table of ops on the best instruction set with `threads` threads, weights and activations in
/// `narrow` (F32 or BF16), about `budget` for each op, and the peak: GFLOP/s of multiply-adds in
/// registers on all threads, the higher of a measurement before and one after.
///
/// # Errors
/// [`Error::Allocate`] (it needs about 500 MB).
pub fn ops(threads: usize, narrow: DType, budget: Duration) -> Result<(f64, Vec<Row>), Error> {
    let cpu = Cpu::new(threads);
    let ceiling = if narrow == DType::BF16 { peak_of_pairs } else { peak };
    let before = ceiling(&cpu);
    let lab = Lab { d: &cpu, narrow };
    let mut rows = Vec::new();
    for (per_step, name, op) in lab.products()?.into_iter().chain(lab.others()?) {
        rows.push(time(&cpu, name, per_step, &op, budget)?);
    }
    let peak = before.max(ceiling(&cpu));
    rows.iter_mut().for_each(|row| row.share = row.gflops / peak);
    Ok((peak, rows))
}

/// Where operands are made.
struct Lab<'a> {
    d: &'a dyn Device,
    narrow: DType,
}

type Timed = (usize, String, Op);

fn time(cpu: &Cpu, name: String, per_step: usize, op: &Op, budget: Duration) -> Result<Row, Error> {
    let (start, mut best, mut runs) = (Instant::now(), f64::MAX, 0);
    while runs < 3 || start.elapsed() < budget {
        let begin = Instant::now();
        cpu.run(Queue::MAIN, op)?;
        best = best.min(begin.elapsed().as_secs_f64());
        runs += 1;
    }
    let cost = op.cost();
    // a cost counts one document; here every sequence is one
    let seen = if name.starts_with("attention") {
        (SEQUENCE + 1) as f64 / (TOKENS + 1) as f64
    } else {
        1.0
    };
    let gflops = cost.flops as f64 * seen / best / 1e9;
    let gbytes = (cost.read + cost.written) as f64 / best / 1e9;
    Ok(Row { name, per_step, seconds: best, gflops, gbytes, share: 0.0 })
}

impl Lab<'_> {
    /// The products of a layer: forward, gradient of the input, gradient of the weight.
    fn products(&self) -> Result<Vec<Timed>, Error> {
        let mut all = Vec::new();
        for (inputs, outputs) in [(DIM, QKV), (DIM, DIM), (DIM, 2 * FFN), (FFN, DIM)] {
            let (x, w) = (self.act(TOKENS, inputs)?, self.act(outputs, inputs)?);
            let dw = self.sums(outputs, inputs)?;
            // a residual branch ends in the residual stream, and its gradient begins there
            let stream = outputs == DIM;
            let (y, dy) = match stream {
                true => (self.sums(TOKENS, outputs)?, self.sums(TOKENS, outputs)?),
                false => (self.act(TOKENS, outputs)?, self.act(TOKENS, outputs)?),
            };
            let dx = self.act(TOKENS, inputs)?;
            for (layout, a, b, out) in [
                (Layout::NT, x.clone(), w.clone(), y.clone()),
                (Layout::NN, dy.clone(), w, dx),
                (Layout::TN, dy, x, dw),
            ] {
                let name = format!("Matmul {layout:?} {inputs} to {outputs}");
                let adds = layout == Layout::TN || (layout == Layout::NT && stream);
                let plus = adds.then(|| out.clone());
                let packed = self.packed(layout, &b)?;
                all.push((LAYERS, name, Matmul { layout, a, b, packed, plus, out }.into()));
            }
        }
        Ok(all)
    }

    fn others(&self) -> Result<Vec<Timed>, Error> {
        let mut all: Vec<Timed> = Vec::new();
        let mut push = |per_step, name: &str, op: Op| all.push((per_step, name.to_string(), op));
        let (x, weight, rstd) = (self.sums(TOKENS, DIM)?, self.act(1, DIM)?, self.sums(TOKENS, 1)?);
        let (dx, dweight) = (self.sums(TOKENS, DIM)?, Some(self.sums(1, DIM)?));
        let (norms, dy, out) = (2 * LAYERS + 1, self.act(TOKENS, DIM)?, self.act(TOKENS, DIM)?);
        let norm = RmsNorm {
            x: x.clone(),
            weight: weight.clone(),
            out,
            rstd: rstd.clone(),
            epsilon: 1e-5,
        };
        push(norms, "RmsNorm", norm.into());
        let accumulate = true;
        let back = RmsNormBackward { x, weight, rstd, dy, dx, dweight, accumulate };
        push(norms, "RmsNormBackward", back.into());
        let fused = self.act(TOKENS, 2 * FFN)?;
        let (gate, up) = (fused.slice_cols(0..FFN)?, fused.slice_cols(FFN..2 * FFN)?);
        let out = self.act(TOKENS, FFN)?;
        let swiglu = SwiGlu { gate: gate.clone(), up: up.clone(), out: out.clone() };
        push(LAYERS, "SwiGlu", swiglu.into());
        let (dgate, dup, dout) = (gate.clone(), up.clone(), self.act(TOKENS, FFN)?);
        let back = SwiGluBackward { gate, up, dout, dgate, dup, out: Some(out) };
        push(LAYERS, "SwiGluBackward", back.into());
        self.attention(&mut push)?;
        self.ends(&mut push)?;
        self.optimizer(&mut push)?;
        Ok(all)
    }

    fn ends(&self, push: &mut dyn FnMut(usize, &str, Op)) -> Result<(), Error> {
        let ids = self.integers(&|t| t * 7919 % VOCAB)?;
        let (vocab_start, vocab) = (0, VOCAB);
        let (table, out) = (self.act(VOCAB, DIM)?, self.sums(TOKENS, DIM)?);
        let embed = Embed { ids: ids.clone(), table, vocab_start, vocab, out: out.clone() };
        push(1, "Embed", embed.into());
        let dtable = self.sums(VOCAB, DIM)?;
        let back = EmbedBackward { ids: ids.clone(), dout: out, vocab_start, vocab, dtable };
        push(1, "EmbedBackward", back.into());
        let weight = self.act(VOCAB, DIM)?;
        let head = LossHeadFused {
            hidden: self.act(TOKENS, DIM)?,
            targets: ids,
            weights: self.sums(TOKENS, 1)?,
            target_logit: self.sums(TOKENS, 1)?,
            lse: self.sums(TOKENS, 1)?,
            dhidden: self.act(TOKENS, DIM)?,
            dweight: Some(self.sums(VOCAB, DIM)?),
            packed: self.packed(Layout::NT, &weight)?,
            packed_turned: self.packed(Layout::NN, &weight)?,
            weight,
        };
        push(1, "LossHeadFused", head.into());
        Ok(())
    }

    fn attention(&self, push: &mut dyn FnMut(usize, &str, Op)) -> Result<(), Error> {
        let (fused, dfused) = (self.act(TOKENS, QKV)?, self.act(TOKENS, QKV)?);
        let kv = DIM + (QKV - DIM) / 2;
        let [q, k, v] = [0..DIM, DIM..kv, kv..QKV].map(|cols| fused.slice_cols(cols));
        let [dq, dk, dv] = [0..DIM, DIM..kv, kv..QKV].map(|cols| dfused.slice_cols(cols));
        let (q, k, v, dq, dk, dv) = (q?, k?, v?, dq?, dk?, dv?);
        let starts = self.integers(&|t| t / SEQUENCE * SEQUENCE)?;
        let (out, lse) = (self.act(TOKENS, DIM)?, self.sums(TOKENS, HEADS)?);
        let dout = self.act(TOKENS, DIM)?;
        let (query_offset, heads, kv_heads, scale) = (0, HEADS, KV_HEADS, 0.125);
        let forward = Attention {
            q: q.clone(),
            k: k.clone(),
            v: v.clone(),
            starts: starts.clone(),
            query_offset,
            heads,
            kv_heads,
            scale,
            out: out.clone(),
            lse: lse.clone(),
        };
        push(LAYERS, "attention", forward.into());
        let back = AttentionBackward {
            q,
            k,
            v,
            starts,
            query_offset,
            heads,
            kv_heads,
            scale,
            out,
            lse,
            dout,
            dq,
            dk,
            dv,
            accumulate: false,
        };
        push(LAYERS, "attention, backward", back.into());
        let (x, positions) = (fused.slice_cols(0..kv)?, self.integers(&|t| t % SEQUENCE)?);
        let table = self.sums(SEQUENCE, DIM / HEADS)?;
        push(2 * LAYERS, "Rope", Rope { x, positions, table, inverse: false }.into());
        Ok(())
    }

    fn optimizer(&self, push: &mut dyn FnMut(usize, &str, Op)) -> Result<(), Error> {
        let layer = QKV * DIM + DIM * DIM + 3 * DIM * FFN + 2 * DIM;
        let parameters = 2 * VOCAB * DIM + LAYERS * layer + DIM;
        let flat = || self.d.matrix(F32, 1, parameters);
        let (gradient, second, first, master) =
            (self.sums(1, parameters)?, flat()?, flat()?, flat()?);
        let out = self.d.matrix(DType::F64, 1, 1)?;
        push(1, "SumSquares", SumSquares { x: gradient.clone(), out, accumulate: false }.into());
        let working = match self.narrow {
            F32 => None,
            narrow => Some(self.d.matrix(narrow, 1, parameters)?),
        };
        let step = AdamW {
            master,
            gradient: gradient.clone(),
            first,
            second,
            working,
            gradient_scale: None,
            rate: 1e-3,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            decay: 0.1,
            step: 10,
        };
        push(1, "AdamW", step.into());
        push(1, "Fill", Fill { out: gradient, value: 0.0 }.into());
        for layout in [Layout::NT, Layout::NN] {
            let x = self.act(2 * FFN, DIM)?;
            if let Some(out) = self.packed(layout, &x)? {
                push(LAYERS, &format!("Pack {layout:?}"), Pack { x, layout, out }.into());
            }
        }
        Ok(())
    }

    /// A weight or an activation.
    fn act(&self, rows: usize, cols: usize) -> Result<View, Error> {
        let x = self.sums(rows, cols)?;
        let out = self.d.matrix(self.narrow, rows, cols)?;
        self.d.execute(Copy { x, out: out.clone() })?;
        Ok(out)
    }

    /// What is summed in f32.
    fn sums(&self, rows: usize, cols: usize) -> Result<View, Error> {
        let out = self.d.matrix(F32, rows, cols)?;
        let (seed, stream, pitch) = (1, cols as u64, cols as u64);
        let normal =
            Normal { out: out.clone(), seed, stream, first: 0, pitch, mean: 0.0, deviation: 0.1 };
        self.d.execute(normal)?;
        Ok(out)
    }

    fn packed(&self, layout: Layout, weight: &View) -> Result<Option<View>, Error> {
        let (rows, cols) = (weight.rows(), weight.cols());
        let elements = self.d.packed(layout, weight.dtype(), rows, cols);
        if elements == 0 || layout == Layout::TN {
            return Ok(None);
        }
        let out = self.d.matrix(DType::U32, 1, elements)?;
        self.d.execute(Pack { x: weight.clone(), layout, out: out.clone() })?;
        Ok(Some(out))
    }

    fn integers(&self, f: &dyn Fn(usize) -> usize) -> Result<View, Error> {
        let out = self.d.matrix(DType::U32, TOKENS, 1)?;
        self.d.write_u32(&out, &(0..TOKENS).map(|t| f(t) as u32).collect::<Vec<_>>())?;
        Ok(out)
    }
}

/// GFLOP/s of f32 multiply-adds on registers alone, on all threads of the device: the best of several.
pub fn peak(cpu: &Cpu) -> f64 {
    peak_in(cpu, MultiplyAdds { rounds: ROUNDS, pairs: false })
}

/// The same of products of bf16 pairs, as the device makes them.
pub fn peak_of_pairs(cpu: &Cpu) -> f64 {
    peak_in(cpu, MultiplyAdds { rounds: ROUNDS, pairs: true })
}

const ROUNDS: usize = 100_000;

fn peak_in(cpu: &Cpu, work: MultiplyAdds) -> f64 {
    let each = if work.pairs { 4 } else { 2 };
    let flops = (each * CHAINS * cpu.lanes() * work.rounds * cpu.threads()) as f64;
    let once = || {
        let begin = Instant::now();
        cpu.on_each_thread(&|| cpu.instructions().run(work));
        begin.elapsed().as_secs_f64()
    };
    flops / (0..200).map(|_| once()).fold(f64::MAX, f64::min) / 1e9
}

/// Sums that run beside each other: more than the latency of two multiply-adds a cycle needs.
const CHAINS: usize = 24;

#[derive(Clone, Copy)]
struct MultiplyAdds {
    rounds: usize,
    pairs: bool,
}

impl Kernel for MultiplyAdds {
    #[inline(always)]
    fn run<S: Simd>(self) {
        // SAFETY: registers only.
        unsafe {
            let (x, y) = (S::splat(std::hint::black_box(0.999)), S::splat(1e-3));
            let mut sums = [S::splat(1.0); CHAINS];
            // two loops: a choice inside would be in the way of what is measured
            for _ in 0..if self.pairs { 0 } else { self.rounds } {
                for sum in &mut sums {
                    *sum = S::fma(*sum, x, y);
                }
            }
            for _ in 0..if self.pairs { self.rounds } else { 0 } {
                for sum in &mut sums {
                    *sum = S::dot(x, y, *sum);
                }
            }
            let mut total = S::splat(0.0);
            for sum in sums {
                total = S::add(total, sum);
            }
            std::hint::black_box(S::sum(total));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_op_of_a_step_and_no_share_above_one() {
        for narrow in [F32, DType::BF16] {
            let (peak, rows) = ops(1, narrow, Duration::ZERO).unwrap();
            assert!(peak > 0.1 && rows.len() > 20);
            for row in rows {
                assert!(row.seconds > 0.0 && row.share < 1.0, "{row:?} of {peak}");
            }
        }
    }
}
