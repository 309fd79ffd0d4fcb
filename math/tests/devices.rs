//! The `cpu` device against the reference on random odd shapes, with stated bounds; the same bits for
//! any number of threads and rows; the same results behind `opaque`; every op through `count`.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use quipu_math::op::*;
use quipu_math::{Count, Cpu, DType, Device, Instructions, Opaque, Random, Reference, View};

/// A device with the type of its floats, and operands drawn from one sequence.
struct Lab<'a> {
    d: &'a dyn Device,
    dtype: DType,
    drawn: u64,
    outputs: Vec<View>,
}

impl<'a> Lab<'a> {
    fn new(d: &'a dyn Device, dtype: DType) -> Lab<'a> {
        Lab { d, dtype, drawn: 0, outputs: Vec::new() }
    }

    /// Memory for a matrix; every other one is a part of a wider and longer one.
    fn place(&mut self, dtype: DType, rows: usize, cols: usize) -> View {
        self.drawn += 1;
        if self.drawn.is_multiple_of(2) {
            return self.d.matrix(dtype, rows, cols).unwrap();
        }
        let wide = self.d.matrix(dtype, rows + 2, cols + 7).unwrap();
        wide.slice_rows(1..rows + 1).unwrap().slice_cols(3..cols + 3).unwrap()
    }

    fn random(&mut self, rows: usize, cols: usize) -> View {
        let view = self.place(self.dtype, rows, cols);
        let r = Random::new(5, self.drawn);
        let draw = |i| r.normal(i as u64) as f32;
        self.d.write_floats(&view, &(0..rows * cols).map(draw).collect::<Vec<f32>>()).unwrap();
        view
    }

    fn integers(&mut self, values: &[u32]) -> View {
        let view = self.place(DType::U32, values.len(), 1);
        self.d.write_u32(&view, values).unwrap();
        view
    }

    fn below(&mut self, count: usize, limit: u64) -> View {
        let r = Random::new(6, self.drawn);
        self.integers(&(0..count).map(|i| r.below(i as u64, limit) as u32).collect::<Vec<_>>())
    }

    /// An output that must be written, or to which is added.
    fn out(&mut self, rows: usize, cols: usize) -> View {
        let view = self.random(rows, cols);
        self.outputs.push(view.clone());
        view
    }

    fn run(&self, op: impl Into<Op>) {
        self.d.execute(op).unwrap();
    }
}

/// What is computed, on operands of the lab, for a size.
type Case = (&'static str, f64, fn(&mut Lab, [usize; 3]));

fn matmul(lab: &mut Lab, layout: Layout, [m, n, k]: [usize; 3]) {
    for accumulate in [false, true] {
        let (a, b) = match layout {
            Layout::NT => (lab.random(m, k), lab.random(n, k)),
            Layout::NN => (lab.random(m, k), lab.random(k, n)),
            Layout::TN => (lab.random(k, m), lab.random(k, n)),
        };
        let out = lab.out(m, n);
        lab.run(Matmul { layout, a, b, out, accumulate });
    }
}

/// First key of each query: documents of uneven lengths.
fn starts(queries: usize, offset: usize) -> Vec<u32> {
    let mut start = 0;
    let step = |row: usize| {
        if row % 71 == 70 || row % 13 == 5 && row > 150 {
            start = row + offset;
        }
        start as u32
    };
    (0..queries).map(step).collect()
}

fn attention(lab: &mut Lab, [tokens, extra, heads]: [usize; 3]) {
    let (heads, kv_heads, hd) = (heads * 2, heads, 5 + extra % 60);
    let offset = extra % 3 * 40;
    let (tq, tk) = (tokens, tokens + offset + extra % 2);
    let (q, k, v) =
        (lab.random(tq, heads * hd), lab.random(tk, kv_heads * hd), lab.random(tk, kv_heads * hd));
    let starts = lab.integers(&starts(tq, offset));
    let (out, lse) = (lab.out(tq, heads * hd), lab.out(tq, heads));
    let scale = 1.0 / (hd as f64).sqrt();
    let (q2, k2, v2, s2) = (q.clone(), k.clone(), v.clone(), starts.clone());
    let (o, l) = (out.clone(), lse.clone());
    lab.run(Attention {
        q: q2,
        k: k2,
        v: v2,
        starts: s2,
        query_offset: offset,
        heads,
        kv_heads,
        scale,
        out: o,
        lse: l,
    });
    let dout = lab.random(tq, heads * hd);
    for accumulate in [false, true] {
        let dq = lab.out(tq, heads * hd);
        let (dk, dv) = (lab.out(tk, kv_heads * hd), lab.out(tk, kv_heads * hd));
        lab.run(AttentionBackward {
            q: q.clone(),
            k: k.clone(),
            v: v.clone(),
            starts: starts.clone(),
            query_offset: offset,
            heads,
            kv_heads,
            scale,
            out: out.clone(),
            lse: lse.clone(),
            dout: dout.clone(),
            dq,
            dk,
            dv,
            accumulate,
        });
    }
}

fn rms_norm(lab: &mut Lab, [t, d, _]: [usize; 3]) {
    let (x, weight, dy) = (lab.random(t, d), lab.random(1, d), lab.random(t, d));
    let (out, rstd) = (lab.out(t, d), lab.out(t, 1));
    let (xc, wc) = (x.clone(), weight.clone());
    lab.run(RmsNorm { x: xc, weight: wc, out, rstd: rstd.clone(), epsilon: 1e-5 });
    for accumulate in [false, true] {
        let (dx, dweight) = (lab.out(t, d), lab.out(1, d));
        let (x, weight, rstd, dy) = (x.clone(), weight.clone(), rstd.clone(), dy.clone());
        let dweight = Some(dweight);
        lab.run(RmsNormBackward { x, weight, rstd, dy, dx, dweight, accumulate });
    }
}

fn swiglu(lab: &mut Lab, [t, f, _]: [usize; 3]) {
    let (gate, up, dout) = (lab.random(t, f), lab.random(t, f), lab.random(t, f));
    let out = lab.out(t, f);
    lab.run(SwiGlu { gate: gate.clone(), up: up.clone(), out });
    let (dgate, dup, again) = (lab.out(t, f), lab.out(t, f), lab.out(t, f));
    let (g, u, d) = (gate.clone(), up.clone(), dout.clone());
    lab.run(SwiGluBackward { gate: g, up: u, dout: d, dgate, dup, out: Some(again) });
    // in place: gradients where the inputs were
    lab.outputs.extend([gate.clone(), up.clone()]);
    let (dgate, dup) = (gate.clone(), up.clone());
    lab.run(SwiGluBackward { gate, up, dout, dgate, dup, out: None });
}

fn rope(lab: &mut Lab, [t, heads, half]: [usize; 3]) {
    let table = lab.random(9, 2 * half);
    for inverse in [false, true] {
        let (x, positions, table) = (lab.out(t, heads * 2 * half), lab.below(t, 9), table.clone());
        lab.run(Rope { x, positions, table, inverse });
    }
}

fn embedding(lab: &mut Lab, [t, d, v]: [usize; 3]) {
    let (ids, table) = (lab.below(t, 2 * v as u64), lab.random(v, d));
    let (vocab_start, vocab) = (v / 2, 2 * v);
    let out = lab.out(t, d);
    lab.run(Embed { ids: ids.clone(), table, vocab_start, vocab, out });
    let (dout, dtable) = (lab.random(t, d), lab.out(v, d));
    lab.run(EmbedBackward { ids, dout, vocab_start, vocab, dtable });
}

fn loss_head(lab: &mut Lab, [t, d, v]: [usize; 3]) {
    let (hidden, weight, weights) = (lab.random(t, d), lab.random(v, d), lab.random(t, 1));
    lab.run(Scale { alpha: 0.1, out: weight.clone() });
    let (vocab_start, vocab) = (v / 2, 2 * v);
    let targets = lab.below(t, vocab as u64);
    let (target_logit, lse) = (lab.out(t, 1), lab.out(t, 1));
    lab.run(LossHead {
        hidden: hidden.clone(),
        weight: weight.clone(),
        targets: targets.clone(),
        vocab_start,
        vocab,
        target_logit,
        lse: lse.clone(),
    });
    let (dhidden, dweight) = (lab.out(t, d), lab.out(v, d));
    lab.run(LossHeadBackward {
        hidden: hidden.clone(),
        weight: weight.clone(),
        targets,
        vocab_start,
        vocab,
        lse,
        weights: weights.clone(),
        dhidden,
        dweight: Some(dweight),
    });
    let targets = lab.below(t, v as u64);
    let (target_logit, lse) = (lab.out(t, 1), lab.out(t, 1));
    let (dhidden, dweight) = (lab.out(t, d), lab.out(v, d));
    lab.run(LossHeadFused {
        hidden,
        weight,
        targets,
        weights,
        target_logit,
        lse,
        dhidden,
        dweight: Some(dweight),
    });
}

fn plain(lab: &mut Lab, [r, c, parts]: [usize; 3]) {
    let (a, b) = (lab.random(r, c), lab.random(r, c));
    let outs: Vec<View> = (0..7).map(|_| lab.out(r, c)).collect();
    lab.run(Fill { out: outs[0].clone(), value: 0.25 });
    lab.run(Copy { x: a.clone(), out: outs[1].clone() });
    lab.run(Add { a: a.clone(), b: b.clone(), out: outs[2].clone() });
    lab.run(Add { a: a.clone(), b: outs[2].clone(), out: outs[2].clone() });
    lab.run(Axpy { alpha: -0.7, x: a.clone(), out: outs[3].clone() });
    lab.run(Scale { alpha: 1.3, out: outs[4].clone() });
    let out = outs[5].clone();
    lab.run(Normal { out, seed: 3, stream: 9, first: 77, pitch: 999, mean: 0.5, deviation: 2.0 });
    let parts: Vec<View> = (0..parts.clamp(1, 5)).map(|_| lab.random(r, c)).collect();
    lab.run(SumInRankOrder { parts, out: outs[6].clone() });
    let (bias, out, dbias) = (lab.random(1, c), lab.out(r, c), lab.out(1, c));
    lab.run(AddBias { bias, out });
    lab.run(BiasBackward { dy: a.clone(), dbias });
    let (lse, sum, more) = (lab.out(r, 1), lab.out(1, 1), lab.out(1, 1));
    lab.run(LogSumExp { x: a.clone(), out: lse });
    lab.run(SumSquares { x: a.clone(), out: sum, accumulate: false });
    lab.run(SumSquares { x: b, out: more, accumulate: true });
    let best = lab.place(DType::U32, r, 1);
    lab.run(ArgMax { x: a, out: best.clone() });
    let mirror = lab.place(lab.dtype, r, 1);
    let best: Vec<f64> = lab.d.read_u32(&best).unwrap().into_iter().map(f64::from).collect();
    lab.d.write_floats(&mirror, &best).unwrap();
    lab.outputs.push(mirror);
}

fn adamw(lab: &mut Lab, [r, c, step]: [usize; 3]) {
    let (master, first, second) = (lab.out(r, c), lab.out(r, c), lab.out(r, c));
    lab.run(SwiGlu { gate: second.clone(), up: second.clone(), out: second.clone() });
    let (gradient, working, scale) = (lab.random(r, c), lab.out(r, c), lab.random(1, 1));
    lab.run(AdamW {
        master,
        gradient,
        first,
        second,
        working: Some(working),
        gradient_scale: Some(scale),
        rate: 1e-2,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        decay: 0.1,
        step: step as u64,
    });
}

/// Name, bound (largest difference from the reference ÷ largest magnitude of the tensor, or 0.1 where
/// all is smaller: operands are of the order of 1), work.
const CASES: [Case; 11] = [
    ("NT", 2e-6, |lab, s| matmul(lab, Layout::NT, s)),
    ("NN", 2e-6, |lab, s| matmul(lab, Layout::NN, s)),
    ("TN", 2e-6, |lab, s| matmul(lab, Layout::TN, s)),
    ("RMSNorm", 2e-6, rms_norm),
    ("SwiGLU", 1e-6, swiglu),
    ("RoPE", 5e-7, rope),
    ("attention", 4e-6, attention),
    ("embedding", 1e-6, embedding),
    ("loss head", 4e-6, loss_head),
    ("plain", 2e-6, plain),
    ("AdamW", 2e-6, adamw),
];

const SIZES: [[usize; 3]; 7] =
    [[1, 1, 1], [3, 5, 2], [17, 33, 9], [65, 96, 3], [70, 129, 2], [201, 47, 4], [130, 64, 3]];

fn outputs(d: &dyn Device, dtype: DType, case: &Case, size: [usize; 3]) -> Vec<Vec<f64>> {
    let mut lab = Lab::new(d, dtype);
    (case.2)(&mut lab, size);
    lab.outputs.iter().map(|v| d.read_f64(v).unwrap()).collect()
}

fn check(name: &str, bound: f64, found: &[Vec<f64>], expected: &[Vec<f64>]) {
    for (n, (found, expected)) in found.iter().zip(expected).enumerate() {
        let largest = expected.iter().fold(0.1f64, |m, x| m.max(x.abs()));
        for (i, (f, e)) in found.iter().zip(expected).enumerate() {
            let error = (f - e).abs() / largest;
            assert!(error <= bound, "{name}: output {n}, element {i}: {f} vs {e} ({error:.1e})");
        }
    }
}

/// Matrices long enough for several blocks of k, of keys, of rows.
const LONG: [(usize, [usize; 3]); 8] = [
    (0, [150, 70, 900]),
    (1, [150, 70, 900]),
    (2, [150, 70, 900]),
    (0, [40, 530, 385]),
    (6, [300, 59, 1]),
    (6, [200, 61, 2]),
    (8, [400, 24, 120]),
    (8, [30, 8, 17000]),
];

#[test]
fn every_instruction_set_agrees_with_the_reference() {
    let reference = Reference::new();
    let sizes = (0..CASES.len()).flat_map(|c| SIZES.map(|s| (c, s))).chain(LONG);
    for (case, size) in sizes {
        let case = &CASES[case];
        let expected = outputs(&reference, DType::F64, case, size);
        for set in Instructions::ALL.into_iter().filter(|set| set.available()) {
            let name = format!("{} {size:?} on {}", case.0, set.name());
            let found = outputs(&Cpu::with(2, set), DType::F32, case, size);
            check(&name, case.1, &found, &expected);
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let cpus = [1, 2, 3].map(Cpu::new);
    for (case, size) in (0..CASES.len()).map(|c| (c, [201, 160, 4])).chain(LONG) {
        let [one, two, three] =
            [0, 1, 2].map(|i| outputs(&cpus[i], DType::F32, &CASES[case], size));
        assert!(one == two && two == three, "{}", CASES[case].0);
    }
}

#[test]
fn behind_the_wall_results_are_the_same() {
    let (cpu, opaque) = (Cpu::new(2), Opaque::new(Arc::new(Cpu::new(2))));
    for case in &CASES {
        let size = [33, 47, 3];
        let (a, b) =
            (outputs(&cpu, DType::F32, case, size), outputs(&opaque, DType::F32, case, size));
        assert!(a == b, "{}", case.0);
    }
}

#[test]
fn counting_needs_no_memory() {
    let count = Count::new();
    for case in &CASES {
        outputs(&count, DType::F32, case, [33, 47, 3]);
    }
    let d: &dyn Device = &count;
    let before = d.usage();
    assert_eq!(before.live, 0);
    let (a, b) = (d.matrix(DType::F32, 1 << 20, 1 << 20), d.matrix(DType::F32, 8, 1 << 20));
    let (a, b) = (a.unwrap(), b.unwrap());
    let out = d.matrix(DType::F32, 1 << 20, 8).unwrap();
    d.execute(Matmul { layout: Layout::NT, a, b, out, accumulate: false }).unwrap();
    let after = d.usage();
    assert_eq!(after.cost.flops - before.cost.flops, 2 << 43);
    assert_eq!(after.peak, (4 << 40) + (64 << 20));
}
