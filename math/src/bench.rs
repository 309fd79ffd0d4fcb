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

/// The table of ops on the best instruction set with `threads` threads, about `budget` for each op,
/// and the peak: GFLOP/s of multiply-adds in registers on all threads, the higher of a measurement
/// before and one after.
///
/// # Errors
/// [`Error::Allocate`] (it needs about 500 MB).
pub fn ops(threads: usize, budget: Duration) -> Result<(f64, Vec<Row>), Error> {
    let cpu = Cpu::new(threads);
    let before = peak(&cpu);
    let mut rows = Vec::new();
    for (per_step, name, op) in products(&cpu)?.into_iter().chain(others(&cpu)?) {
        rows.push(time(&cpu, name, per_step, &op, budget)?);
    }
    let peak = before.max(peak(&cpu));
    rows.iter_mut().for_each(|row| row.share = row.gflops / peak);
    Ok((peak, rows))
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

/// The products of a layer: forward, gradient of the input, gradient of the weight.
fn products(cpu: &Cpu) -> Result<Vec<Timed>, Error> {
    let d: &dyn Device = cpu;
    let mut all = Vec::new();
    for (inputs, outputs) in [(DIM, QKV), (DIM, DIM), (DIM, 2 * FFN), (FFN, DIM)] {
        let (x, w) = (noise(d, TOKENS, inputs)?, noise(d, outputs, inputs)?);
        let (y, dw) = (noise(d, TOKENS, outputs)?, noise(d, outputs, inputs)?);
        let dx = noise(d, TOKENS, inputs)?;
        for (layout, a, b, out) in [
            (Layout::NT, x.clone(), w.clone(), y.clone()),
            (Layout::NN, y.clone(), w, dx),
            (Layout::TN, y, x, dw),
        ] {
            let name = format!("Matmul {layout:?} {inputs} to {outputs}");
            let accumulate = layout == Layout::TN;
            all.push((LAYERS, name, Matmul { layout, a, b, out, accumulate }.into()));
        }
    }
    Ok(all)
}

fn others(cpu: &Cpu) -> Result<Vec<Timed>, Error> {
    let d: &dyn Device = cpu;
    let m = |rows, cols| noise(d, rows, cols);
    let u = |f: &dyn Fn(usize) -> usize| integers(d, f);
    let (x, weight, rstd) = (m(TOKENS, DIM)?, m(1, DIM)?, m(TOKENS, 1)?);
    let (dx, dweight) = (m(TOKENS, DIM)?, Some(m(1, DIM)?));
    let (norms, dy, out) = (2 * LAYERS + 1, m(TOKENS, DIM)?, m(TOKENS, DIM)?);
    let mut all: Vec<Timed> = Vec::new();
    let mut push = |per_step, name: &str, op: Op| all.push((per_step, name.to_string(), op));
    let norm = RmsNorm {
        x: x.clone(),
        weight: weight.clone(),
        out: out.clone(),
        rstd: rstd.clone(),
        epsilon: 1e-5,
    };
    push(norms, "RmsNorm", norm.into());
    let accumulate = true;
    let back = RmsNormBackward { x, weight, rstd, dy: dy.clone(), dx, dweight, accumulate };
    push(norms, "RmsNormBackward", back.into());
    push(2 * LAYERS, "Add", Add { a: dy, b: m(TOKENS, DIM)?, out }.into());
    let fused = m(TOKENS, 2 * FFN)?;
    let (gate, up) = (fused.slice_cols(0..FFN)?, fused.slice_cols(FFN..2 * FFN)?);
    let out = m(TOKENS, FFN)?;
    push(LAYERS, "SwiGlu", SwiGlu { gate: gate.clone(), up: up.clone(), out: out.clone() }.into());
    let (dgate, dup) = (gate.clone(), up.clone());
    let back = SwiGluBackward { gate, up, dout: out, dgate, dup, out: None };
    push(LAYERS, "SwiGluBackward", back.into());
    attention(d, &mut push)?;
    let ids = u(&|t| t * 7919 % VOCAB)?;
    let (vocab_start, vocab) = (0, VOCAB);
    let (table, out) = (m(VOCAB, DIM)?, m(TOKENS, DIM)?);
    let embed =
        Embed { ids: ids.clone(), table: table.clone(), vocab_start, vocab, out: out.clone() };
    push(1, "Embed", embed.into());
    let back = EmbedBackward { ids: ids.clone(), dout: out, vocab_start, vocab, dtable: table };
    push(1, "EmbedBackward", back.into());
    let head = LossHeadFused {
        hidden: m(TOKENS, DIM)?,
        weight: m(VOCAB, DIM)?,
        targets: ids,
        weights: m(TOKENS, 1)?,
        target_logit: m(TOKENS, 1)?,
        lse: m(TOKENS, 1)?,
        dhidden: m(TOKENS, DIM)?,
        dweight: Some(m(VOCAB, DIM)?),
    };
    push(1, "LossHeadFused", head.into());
    optimizer(d, &mut push)?;
    Ok(all)
}

fn attention(d: &dyn Device, push: &mut dyn FnMut(usize, &str, Op)) -> Result<(), Error> {
    let (fused, dfused) = (noise(d, TOKENS, QKV)?, noise(d, TOKENS, QKV)?);
    let kv = DIM + (QKV - DIM) / 2;
    let [q, k, v] = [0..DIM, DIM..kv, kv..QKV].map(|cols| fused.slice_cols(cols));
    let [dq, dk, dv] = [0..DIM, DIM..kv, kv..QKV].map(|cols| dfused.slice_cols(cols));
    let (q, k, v, dq, dk, dv) = (q?, k?, v?, dq?, dk?, dv?);
    let starts = integers(d, &|t| t / SEQUENCE * SEQUENCE)?;
    let (out, lse, dout) =
        (noise(d, TOKENS, DIM)?, noise(d, TOKENS, HEADS)?, noise(d, TOKENS, DIM)?);
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
    let x = fused.slice_cols(0..kv)?;
    let (positions, table) = (integers(d, &|t| t % SEQUENCE)?, noise(d, SEQUENCE, DIM / HEADS)?);
    push(2 * LAYERS, "Rope", Rope { x, positions, table, inverse: false }.into());
    Ok(())
}

fn optimizer(d: &dyn Device, push: &mut dyn FnMut(usize, &str, Op)) -> Result<(), Error> {
    let layer = QKV * DIM + DIM * DIM + 3 * DIM * FFN + 2 * DIM;
    let parameters = 2 * VOCAB * DIM + LAYERS * layer + DIM;
    let (gradient, second) = (noise(d, 1, parameters)?, d.matrix(F32, 1, parameters)?);
    let (first, master) = (d.matrix(F32, 1, parameters)?, d.matrix(F32, 1, parameters)?);
    let sum = d.matrix(DType::F64, 1, 1)?;
    let squares = SumSquares { x: gradient.clone(), out: sum, accumulate: false };
    push(1, "SumSquares", squares.into());
    let step = AdamW {
        master,
        gradient: gradient.clone(),
        first,
        second,
        working: Some(d.matrix(F32, 1, parameters)?),
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
    Ok(())
}

fn noise(d: &dyn Device, rows: usize, cols: usize) -> Result<View, Error> {
    let out = d.matrix(F32, rows, cols)?;
    let (seed, stream, pitch) = (1, cols as u64, cols as u64);
    let normal =
        Normal { out: out.clone(), seed, stream, first: 0, pitch, mean: 0.0, deviation: 0.1 };
    d.execute(normal)?;
    Ok(out)
}

fn integers(d: &dyn Device, f: &dyn Fn(usize) -> usize) -> Result<View, Error> {
    let out = d.matrix(DType::U32, TOKENS, 1)?;
    d.write_u32(&out, &(0..TOKENS).map(|t| f(t) as u32).collect::<Vec<_>>())?;
    Ok(out)
}

/// GFLOP/s of multiply-adds on registers alone, on all threads of the device: the best of several.
pub fn peak(cpu: &Cpu) -> f64 {
    const ROUNDS: usize = 100_000;
    let flops = (2 * CHAINS * cpu.lanes() * ROUNDS * cpu.threads()) as f64;
    let once = || {
        let begin = Instant::now();
        cpu.on_each_thread(&|| cpu.instructions().run(MultiplyAdds(ROUNDS)));
        begin.elapsed().as_secs_f64()
    };
    flops / (0..200).map(|_| once()).fold(f64::MAX, f64::min) / 1e9
}

/// Sums that run beside each other: more than the latency of two multiply-adds a cycle needs.
const CHAINS: usize = 12;

struct MultiplyAdds(usize);

impl Kernel for MultiplyAdds {
    #[inline(always)]
    fn run<S: Simd>(self) {
        // SAFETY: registers only.
        unsafe {
            let (x, y) = (S::splat(std::hint::black_box(0.999)), S::splat(1e-3));
            let mut sums = [S::splat(1.0); CHAINS];
            for _ in 0..self.0 {
                for sum in &mut sums {
                    *sum = S::fma(*sum, x, y);
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
        let (peak, rows) = ops(1, Duration::ZERO).unwrap();
        assert!(peak > 0.1 && rows.len() > 20);
        for row in rows {
            assert!(row.seconds > 0.0 && row.share < 1.0, "{row:?} of {peak}");
        }
    }
}
