//! The `cpu` device against the reference on random odd shapes, with stated bounds, in f32 and with
//! weights and activations in bf16; the same bits for any number of threads and rows; the same results
//! behind `opaque`; every op through `count`.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use quipu_math::op::*;
use quipu_math::{
    Count, Cpu, DType, Device, Error, Instructions, Lent, Opaque, Random, Reference, View,
};

/// The types of floats: of sums and the residual stream, of weights and activations, and whether all
/// that is drawn is rounded to bf16.
#[derive(Clone, Copy)]
struct Types {
    wide: DType,
    narrow: DType,
    rounded: bool,
}

const F32: Types = Types { wide: DType::F32, narrow: DType::F32, rounded: false };
const F64: Types = Types { wide: DType::F64, narrow: DType::F64, rounded: false };
const MIXED: Types = Types { wide: DType::F32, narrow: DType::BF16, rounded: true };
/// What the reference computes with the operands of [`MIXED`].
const MIXED_F64: Types = Types { rounded: true, ..F64 };

/// A device with its types, and operands drawn from one sequence.
struct Lab<'a> {
    d: &'a dyn Device,
    types: Types,
    drawn: u64,
    outputs: Vec<View>,
}

impl<'a> Lab<'a> {
    fn new(d: &'a dyn Device, types: Types) -> Lab<'a> {
        Lab { d, types, drawn: 0, outputs: Vec::new() }
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

    fn draw(&mut self, dtype: DType, rows: usize, cols: usize) -> View {
        let view = self.place(dtype, rows, cols);
        let (r, rounded) = (Random::new(5, self.drawn), self.types.rounded);
        let draw = |i| {
            let x = r.normal(i as u64) as f32;
            if rounded { half::bf16::from_f32(x).to_f32() } else { x }
        };
        self.d.write_floats(&view, &(0..rows * cols).map(draw).collect::<Vec<f32>>()).unwrap();
        view
    }

    fn random(&mut self, rows: usize, cols: usize) -> View {
        self.draw(self.types.wide, rows, cols)
    }

    /// A weight or an activation.
    fn narrow(&mut self, rows: usize, cols: usize) -> View {
        self.draw(self.types.narrow, rows, cols)
    }

    /// A weight in the device's own form for a layout.
    fn packed(&mut self, layout: Layout, weight: &View) -> Option<View> {
        let (rows, cols) = (weight.rows(), weight.cols());
        let elements = self.d.packed(layout, weight.dtype(), rows, cols);
        let out = (elements > 0).then(|| self.d.matrix(DType::U32, 1, elements).unwrap())?;
        self.run(Pack { x: weight.clone(), layout, out: out.clone() });
        Some(out)
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

    /// The same for an activation.
    fn narrow_out(&mut self, rows: usize, cols: usize) -> View {
        let view = self.narrow(rows, cols);
        self.outputs.push(view.clone());
        view
    }

    fn run(&self, op: impl Into<Op>) {
        self.d.execute(op).unwrap();
    }
}

/// Name, bounds in f32 and with bf16, what is computed, on operands of the lab, for a size.
type Case = (&'static str, [f64; 2], fn(&mut Lab, [usize; 3]));

fn matmul(lab: &mut Lab, layout: Layout, [m, n, k]: [usize; 3]) {
    for round in 0..4 {
        let (wide_left, wide_out, packed) = (round == 1, round < 2, round == 3);
        let (rows, cols) = if layout == Layout::TN { (k, m) } else { (m, k) };
        let a = if wide_left { lab.random(rows, cols) } else { lab.narrow(rows, cols) };
        let b = if layout == Layout::NT { lab.narrow(n, k) } else { lab.narrow(k, n) };
        let (wide, narrow) = (lab.random(m, n), lab.narrow(m, n));
        let out = if wide_out { wide.clone() } else { narrow };
        lab.outputs.push(out.clone());
        let packed = if packed && layout != Layout::TN { lab.packed(layout, &b) } else { None };
        // added to the output itself where it is wide, to something else where it is not
        let plus = (round % 2 == 0).then_some(wide);
        lab.run(Matmul { layout, a, b, packed, plus, out });
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
        (lab.narrow(tq, heads * hd), lab.narrow(tk, kv_heads * hd), lab.narrow(tk, kv_heads * hd));
    let starts = lab.integers(&starts(tq, offset));
    let (out, lse) = (lab.narrow_out(tq, heads * hd), lab.out(tq, heads));
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
    let dout = lab.narrow(tq, heads * hd);
    for accumulate in [false, true] {
        // what several calls add to is wide
        let out_of = if accumulate { Lab::out } else { Lab::narrow_out };
        let dq = lab.narrow_out(tq, heads * hd);
        let (dk, dv) = (out_of(lab, tk, kv_heads * hd), out_of(lab, tk, kv_heads * hd));
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
    let (x, weight, dy) = (lab.random(t, d), lab.narrow(1, d), lab.narrow(t, d));
    let (out, rstd) = (lab.narrow_out(t, d), lab.out(t, 1));
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
    let (gate, up, dout) = (lab.narrow(t, f), lab.narrow(t, f), lab.narrow(t, f));
    let out = lab.narrow_out(t, f);
    lab.run(SwiGlu { gate: gate.clone(), up: up.clone(), out });
    let (dgate, dup, again) = (lab.narrow_out(t, f), lab.narrow_out(t, f), lab.narrow_out(t, f));
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
        let (x, positions, table) =
            (lab.narrow_out(t, heads * 2 * half), lab.below(t, 9), table.clone());
        lab.run(Rope { x, positions, table, inverse });
    }
}

fn embedding(lab: &mut Lab, [t, d, v]: [usize; 3]) {
    let (ids, table) = (lab.below(t, 2 * v as u64), lab.narrow(v, d));
    let (vocab_start, vocab) = (v / 2, 2 * v);
    let out = lab.out(t, d);
    lab.run(Embed { ids: ids.clone(), table, vocab_start, vocab, out });
    for dout in [lab.random(t, d), lab.narrow(t, d)] {
        let (ids, dtable) = (ids.clone(), lab.out(v, d));
        lab.run(EmbedBackward { ids, dout, vocab_start, vocab, dtable });
    }
}

fn loss_head(lab: &mut Lab, [t, d, v]: [usize; 3]) {
    let (hidden, wide, weights) = (lab.narrow(t, d), lab.random(v, d), lab.random(t, 1));
    lab.run(Scale { alpha: 0.125, out: wide.clone() });
    let weight = lab.narrow(v, d);
    lab.run(Copy { x: wide, out: weight.clone() });
    let (packed, packed_turned) =
        (lab.packed(Layout::NT, &weight), lab.packed(Layout::NN, &weight));
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
        packed: None,
    });
    let (dhidden, dweight) = (lab.narrow_out(t, d), lab.out(v, d));
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
        packed: packed.clone(),
        packed_turned: packed_turned.clone(),
    });
    let targets = lab.below(t, v as u64);
    let (target_logit, lse) = (lab.out(t, 1), lab.out(t, 1));
    let (dhidden, dweight) = (lab.narrow_out(t, d), lab.out(v, d));
    lab.run(LossHeadFused {
        hidden,
        weight,
        targets,
        weights,
        target_logit,
        lse,
        dhidden,
        dweight: Some(dweight),
        packed: packed.clone(),
        packed_turned: packed_turned.clone(),
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
    let (bias, out, dbias) = (lab.narrow(1, c), lab.narrow_out(r, c), lab.out(1, c));
    lab.run(AddBias { bias, out });
    let dy = lab.narrow(r, c);
    lab.run(BiasBackward { dy, dbias });
    let (lse, sum, more) = (lab.out(r, 1), lab.out(1, 1), lab.out(1, 1));
    lab.run(LogSumExp { x: a.clone(), out: lse });
    lab.run(SumSquares { x: a.clone(), out: sum, accumulate: false });
    lab.run(SumSquares { x: b, out: more, accumulate: true });
    let best = lab.place(DType::U32, r, 1);
    lab.run(ArgMax { x: a, out: best.clone() });
    let mirror = lab.place(lab.types.wide, r, 1);
    let best: Vec<f64> = lab.d.read_u32(&best).unwrap().into_iter().map(f64::from).collect();
    lab.d.write_floats(&mirror, &best).unwrap();
    lab.outputs.push(mirror);
}

fn adamw(lab: &mut Lab, [r, c, step]: [usize; 3]) {
    let (master, first, second) = (lab.out(r, c), lab.out(r, c), lab.out(r, c));
    lab.run(SwiGlu { gate: second.clone(), up: second.clone(), out: second.clone() });
    let (gradient, working, scale) = (lab.random(r, c), lab.narrow_out(r, c), lab.random(1, 1));
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

/// Bounds: largest difference from the reference ÷ largest magnitude of the tensor, or 0.1 where all is
/// smaller (operands are of the order of 1). bf16 keeps 8 bits, so what is rounded once is off by
/// 2⁻⁸ = 3.9e-3 at most; attention's weights are rounded before they are summed, and the head's
/// gradients of logits.
const CASES: [Case; 11] = [
    ("NT", [2e-6, 4e-3], |lab, s| matmul(lab, Layout::NT, s)),
    ("NN", [2e-6, 4e-3], |lab, s| matmul(lab, Layout::NN, s)),
    ("TN", [2e-6, 4e-3], |lab, s| matmul(lab, Layout::TN, s)),
    ("RMSNorm", [2e-6, 4e-3], rms_norm),
    ("SwiGLU", [1e-6, 4e-3], swiglu),
    ("RoPE", [5e-7, 4e-3], rope),
    ("attention", [4e-6, 1e-2], attention),
    ("embedding", [1e-6, 1e-6], embedding),
    ("loss head", [4e-6, 8e-3], loss_head),
    ("plain", [2e-6, 4e-3], plain),
    ("AdamW", [2e-6, 4e-3], adamw),
];

const SIZES: [[usize; 3]; 7] =
    [[1, 1, 1], [3, 5, 2], [17, 33, 9], [65, 96, 3], [70, 129, 2], [201, 47, 4], [130, 64, 3]];

fn outputs(d: &dyn Device, types: Types, case: &Case, size: [usize; 3]) -> Vec<Vec<f64>> {
    let mut lab = Lab::new(d, types);
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
    (0, [150, 70, 2500]),
    (1, [150, 70, 2500]),
    (2, [150, 70, 2500]),
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
        for (bound, exact, types, with) in
            [(case.1[0], F64, F32, ""), (case.1[1], MIXED_F64, MIXED, " with bf16")]
        {
            let expected = outputs(&reference, exact, case, size);
            for set in Instructions::ALL.into_iter().filter(|set| set.available()) {
                let name = format!("{} {size:?} on {}{with}", case.0, set.name());
                let found = outputs(&Cpu::with(2, set), types, case, size);
                check(&name, bound, &found, &expected);
            }
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let cpus = [1, 2, 3].map(Cpu::new);
    for (case, size) in (0..CASES.len()).map(|c| (c, [201, 160, 4])).chain(LONG) {
        for types in [F32, MIXED] {
            let [one, two, three] = [0, 1, 2].map(|i| outputs(&cpus[i], types, &CASES[case], size));
            assert!(one == two && two == three, "{}", CASES[case].0);
        }
    }
}

#[test]
fn behind_the_wall_results_are_the_same() {
    let (cpu, opaque) = (Cpu::new(2), Opaque::new(Arc::new(Cpu::new(2))));
    for case in &CASES {
        for types in [F32, MIXED] {
            let [a, b] =
                [&cpu as &dyn Device, &opaque].map(|d| outputs(d, types, case, [33, 47, 3]));
            assert!(a == b, "{}", case.0);
        }
    }
}

#[test]
fn what_has_no_packed_form_is_read_as_it_is() {
    let cpu = Cpu::new(1);
    let d: &dyn Device = &cpu;
    let mut lab = Lab::new(d, F32);
    let (a, b, out) = (lab.random(3, 64), lab.random(64, 64), lab.random(3, 64));
    assert_eq!(d.packed(Layout::NT, DType::F32, 64, 64), 0);
    let none = d.matrix(DType::U32, 1, 0).unwrap();
    d.execute(Pack { x: b.clone(), layout: Layout::NT, out: none.clone() }).unwrap();
    let product = |packed| Matmul {
        layout: Layout::NT,
        a: a.clone(),
        b: b.clone(),
        packed,
        plus: None,
        out: out.clone(),
    };
    d.execute(product(Some(none))).unwrap();
    let found = d.read_f64(&out).unwrap();
    d.execute(product(None)).unwrap();
    assert_eq!(found, d.read_f64(&out).unwrap());
    let wrong = d.matrix(DType::U32, 1, 7).unwrap();
    let said = d.execute(product(Some(wrong))).unwrap_err().to_string();
    assert!(said.contains("packed") && said.contains("1 x 7"), "{said}");
}

#[test]
fn counting_needs_no_memory() {
    let count = Count::new();
    for case in &CASES {
        outputs(&count, F32, case, [33, 47, 3]);
        outputs(&count, MIXED, case, [33, 47, 3]);
    }
    let d: &dyn Device = &count;
    let before = d.usage();
    assert_eq!(before.live, 0);
    let (a, b) = (d.matrix(DType::F32, 1 << 20, 1 << 20), d.matrix(DType::F32, 8, 1 << 20));
    let (a, b) = (a.unwrap(), b.unwrap());
    let out = d.matrix(DType::F32, 1 << 20, 8).unwrap();
    d.execute(Matmul { layout: Layout::NT, a, b, packed: None, plus: None, out }).unwrap();
    let after = d.usage();
    assert_eq!(after.cost.flops - before.cost.flops, 2 << 43);
    assert_eq!(after.peak, (4 << 40) + (64 << 20));
}

/// Bytes that begin on a cache line.
#[repr(align(64))]
struct Line([u8; 64]);

impl AsRef<[u8]> for Line {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[test]
fn lent_bytes_are_read_where_they_lie_and_never_written() {
    let mut line = Line([0; 64]);
    line.0[..4].copy_from_slice(&1.5f32.to_le_bytes());
    let lent: Lent = Arc::new(line);
    let cpu: Arc<dyn Device> = Arc::new(Cpu::new(1));
    let timed: Arc<dyn Device> = Arc::new(quipu_math::Timed::new(cpu.clone()));
    for device in [cpu, timed] {
        let before = device.usage().live;
        let buffer = device.lend(&lent).unwrap();
        assert_eq!((buffer.bytes(), device.usage().live), (64, before));
        let view = View::dense(buffer, DType::F32, 0, 1, 16).unwrap();
        assert_eq!(device.read_f32(&view).unwrap()[..2], [1.5, 0.0]);
        let out = device.matrix(DType::F32, 1, 16).unwrap();
        device.execute(Copy { x: view.clone(), out: out.clone() }).unwrap();
        assert_eq!(device.read_f32(&out).unwrap()[0], 1.5);
        let version = view.buffer().version();
        let expected = |operand| Err(Error::ReadOnly { op: "Copy", operand });
        assert_eq!(device.execute(Copy { x: out.clone(), out: view.clone() }), expected("out"));
        let written = device.write_floats(&view, &[2.0f32; 16]);
        assert_eq!(written, Err(Error::ReadOnly { op: "write", operand: "view" }));
        assert_eq!(view.buffer().version(), version);
        assert_eq!(device.read_f32(&view).unwrap()[0], 1.5);
    }
    // another device's, those with memory of their own, bytes that begin somewhere
    let foreign = View::dense(Cpu::new(1).lend(&lent).unwrap(), DType::F32, 0, 1, 16).unwrap();
    let cpu: Arc<dyn Device> = Arc::new(Cpu::new(1));
    assert!(matches!(cpu.read_f32(&foreign), Err(Error::Foreign { .. })));
    assert!(Reference::new().lend(&lent).is_none());
    assert!(Opaque::new(cpu.clone()).lend(&lent).is_none());
    struct Odd(Line);
    impl AsRef<[u8]> for Odd {
        fn as_ref(&self) -> &[u8] {
            &self.0.0[1..]
        }
    }
    assert!(cpu.lend(&(Arc::new(Odd(Line([0; 64]))) as Lent)).is_none());
}
