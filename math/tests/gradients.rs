//! Every backward against central differences, in f64 on the reference device: the derivative of
//! Σ c · forward(x) along each element of each input, for random c.

#![allow(clippy::unwrap_used)]

use quipu_math::DType::{F64, U32};
use quipu_math::op::*;
use quipu_math::{Device, Random, Reference, View};

type Forward<'a> = &'a dyn Fn(&dyn Device, &[View]) -> Vec<View>;
/// (device, inputs, outputs, gradients of outputs) → gradients of inputs
type Backward<'a> = &'a dyn Fn(&dyn Device, &[View], &[View], &[View]) -> Vec<View>;

fn fresh(d: &dyn Device, rows: usize, cols: usize) -> View {
    d.matrix(F64, rows, cols).unwrap()
}

fn random(d: &dyn Device, rows: usize, cols: usize, stream: u64) -> View {
    let view = fresh(d, rows, cols);
    let r = Random::new(11, stream);
    let values: Vec<f64> = (0..rows * cols).map(|i| r.normal(i as u64)).collect();
    d.write_floats(&view, &values).unwrap();
    view
}

fn integers(d: &dyn Device, values: &[u32]) -> View {
    let view = d.matrix(U32, values.len(), 1).unwrap();
    d.write_u32(&view, values).unwrap();
    view
}

fn check(name: &str, shapes: &[(usize, usize)], forward: Forward, backward: Backward) {
    let device = Reference::new();
    let d: &dyn Device = &device;
    let inputs: Vec<View> =
        shapes.iter().enumerate().map(|(i, &(r, c))| random(d, r, c, i as u64)).collect();
    let outputs = forward(d, &inputs);
    let weights: Vec<View> = outputs
        .iter()
        .enumerate()
        .map(|(i, o)| random(d, o.rows(), o.cols(), 100 + i as u64))
        .collect();
    let objective = || -> f64 {
        let dots = forward(d, &inputs).into_iter().zip(&weights).map(|(o, w)| {
            let (o, w) = (d.read_f64(&o).unwrap(), d.read_f64(w).unwrap());
            o.iter().zip(&w).map(|(o, w)| o * w).sum::<f64>()
        });
        dots.sum()
    };
    let gradients = backward(d, &inputs, &outputs, &weights);
    assert_eq!(gradients.len(), inputs.len(), "{name}");
    for (n, (input, gradient)) in inputs.iter().zip(&gradients).enumerate() {
        let (values, gradient) = (d.read_f64(input).unwrap(), d.read_f64(gradient).unwrap());
        let largest = gradient.iter().fold(1e-3f64, |m, g| m.max(g.abs()));
        for i in 0..values.len() {
            let at = |step: f64| {
                let mut moved = values.clone();
                moved[i] += step;
                d.write_floats(input, &moved).unwrap();
                objective()
            };
            let h = 1e-5;
            let slope = (at(h) - at(-h)) / (2.0 * h);
            let error = (slope - gradient[i]).abs() / largest;
            assert!(error < 1e-7, "{name}: input {n}, element {i}: {} vs {slope}", gradient[i]);
        }
        d.write_floats(input, &values).unwrap();
    }
}

#[test]
fn matmul_in_all_layouts() {
    let product = |d: &dyn Device, layout, a: &View, b: &View, m, n| {
        let out = fresh(d, m, n);
        let (a, b) = (a.clone(), b.clone());
        d.execute(Matmul { layout, a, b, packed: None, plus: None, out: out.clone() }).unwrap();
        out
    };
    check(
        "linear layer",
        &[(5, 3), (4, 3)],
        &|d, x| vec![product(d, Layout::NT, &x[0], &x[1], 5, 4)],
        &|d, x, _, dy| {
            vec![
                product(d, Layout::NN, &dy[0], &x[1], 5, 3),
                product(d, Layout::TN, &dy[0], &x[0], 4, 3),
            ]
        },
    );
}

#[test]
fn bias() {
    check(
        "bias",
        &[(5, 3), (1, 3)],
        &|d, x| {
            let out = fresh(d, 5, 3);
            d.execute(Copy { x: x[0].clone(), out: out.clone() }).unwrap();
            d.execute(AddBias { bias: x[1].clone(), out: out.clone() }).unwrap();
            vec![out]
        },
        &|d, _, _, dy| {
            let dbias = fresh(d, 1, 3);
            d.execute(BiasBackward { dy: dy[0].clone(), dbias: dbias.clone() }).unwrap();
            vec![dy[0].clone(), dbias]
        },
    );
}

#[test]
fn rms_norm() {
    check(
        "RMSNorm",
        &[(4, 6), (1, 6)],
        &|d, x| {
            let (out, rstd) = (fresh(d, 4, 6), fresh(d, 4, 1));
            let (x, weight) = (x[0].clone(), x[1].clone());
            d.execute(RmsNorm { x, weight, out: out.clone(), rstd, epsilon: 1e-2 }).unwrap();
            vec![out]
        },
        &|d, x, _, dy| {
            let (out, rstd, dweight) = (fresh(d, 4, 6), fresh(d, 4, 1), fresh(d, 1, 6));
            let (x, weight) = (x[0].clone(), x[1].clone());
            d.execute(RmsNorm {
                x: x.clone(),
                weight: weight.clone(),
                out: out.clone(),
                rstd: rstd.clone(),
                epsilon: 1e-2,
            })
            .unwrap();
            let (dy, dx, accumulate) = (dy[0].clone(), out.clone(), false);
            let some = Some(dweight.clone());
            d.execute(RmsNormBackward { x, weight, rstd, dy, dx, dweight: some, accumulate })
                .unwrap();
            vec![out, dweight]
        },
    );
}

#[test]
fn rope() {
    let turn = |d: &dyn Device, from: &View, inverse: bool| {
        let (x, table) = (fresh(d, 3, 8), fresh(d, 5, 4));
        let angles = |p: usize| [0.3 * p as f64, 1.1 * p as f64];
        let row =
            |p| [angles(p)[0].cos(), angles(p)[1].cos(), angles(p)[0].sin(), angles(p)[1].sin()];
        d.write_floats(&table, &(0..5).flat_map(row).collect::<Vec<f64>>()).unwrap();
        d.execute(Copy { x: from.clone(), out: x.clone() }).unwrap();
        let positions = integers(d, &[4, 0, 2]);
        d.execute(Rope { x: x.clone(), positions, table, inverse }).unwrap();
        x
    };
    check("RoPE", &[(3, 8)], &|d, x| vec![turn(d, &x[0], false)], &|d, _, _, dy| {
        vec![turn(d, &dy[0], true)]
    });
}

#[test]
fn swiglu() {
    check(
        "SwiGLU",
        &[(3, 4), (3, 4)],
        &|d, x| {
            let out = fresh(d, 3, 4);
            d.execute(SwiGlu { gate: x[0].clone(), up: x[1].clone(), out: out.clone() }).unwrap();
            vec![out]
        },
        &|d, x, y, dy| {
            let (dgate, dup, out) = (fresh(d, 3, 4), fresh(d, 3, 4), fresh(d, 3, 4));
            d.execute(SwiGluBackward {
                gate: x[0].clone(),
                up: x[1].clone(),
                dout: dy[0].clone(),
                dgate: dgate.clone(),
                dup: dup.clone(),
                out: Some(out.clone()),
            })
            .unwrap();
            assert_eq!(d.read_f64(&out).unwrap(), d.read_f64(&y[0]).unwrap());
            vec![dgate, dup]
        },
    );
}

#[test]
fn attention_with_documents_groups_and_an_offset() {
    // five queries over seven keys, two documents, four heads over two key-value heads
    let starts = [0u32, 0, 4, 4, 4];
    let (heads, kv_heads, query_offset, scale) = (4, 2, 2, 0.7);
    let forward = |d: &dyn Device, x: &[View]| {
        let (out, lse) = (fresh(d, 5, 12), fresh(d, 5, 4));
        let (q, k, v) = (x[0].clone(), x[1].clone(), x[2].clone());
        let starts = integers(d, &starts);
        let (o, l) = (out.clone(), lse.clone());
        d.execute(Attention {
            q,
            k,
            v,
            starts,
            query_offset,
            heads,
            kv_heads,
            scale,
            out: o,
            lse: l,
        })
        .unwrap();
        (out, lse)
    };
    check(
        "attention",
        &[(5, 12), (7, 6), (7, 6)],
        &|d, x| vec![forward(d, x).0],
        &|d, x, _, dy| {
            let (out, lse) = forward(d, x);
            let (dq, dk, dv) = (fresh(d, 5, 12), fresh(d, 7, 6), fresh(d, 7, 6));
            d.execute(AttentionBackward {
                q: x[0].clone(),
                k: x[1].clone(),
                v: x[2].clone(),
                starts: integers(d, &starts),
                query_offset,
                heads,
                kv_heads,
                scale,
                out,
                lse,
                dout: dy[0].clone(),
                dq: dq.clone(),
                dk: dk.clone(),
                dv: dv.clone(),
                accumulate: true,
            })
            .unwrap();
            vec![dq, dk, dv]
        },
    );
}

#[test]
fn embedding() {
    let ids = [3u32, 1, 3, 0, 7];
    check(
        "embedding (entries 1..4 of 8)",
        &[(3, 2)],
        &|d, x| {
            let (ids, out) = (integers(d, &ids), fresh(d, 5, 2));
            let table = x[0].clone();
            d.execute(Embed { ids, table, vocab_start: 1, vocab: 8, out: out.clone() }).unwrap();
            vec![out]
        },
        &|d, _, _, dy| {
            let (ids, dtable) = (integers(d, &ids), fresh(d, 3, 2));
            let (dout, result) = (dy[0].clone(), dtable.clone());
            d.execute(EmbedBackward { ids, dout, vocab_start: 1, vocab: 8, dtable }).unwrap();
            vec![result]
        },
    );
}

/// Log-probabilities of a head in two vocabulary parts, as tensor parallelism computes them.
fn log_probability(d: &dyn Device, hidden: &View, weight: &View, targets: &[u32]) -> [View; 2] {
    let t = hidden.rows();
    let (parts, sum) = (fresh(d, t, 2), fresh(d, t, 1));
    for (i, rows) in [0..2, 2..weight.rows()].into_iter().enumerate() {
        let logit = fresh(d, t, 1);
        d.execute(LossHead {
            hidden: hidden.clone(),
            vocab_start: rows.start,
            weight: weight.slice_rows(rows).unwrap(),
            targets: integers(d, targets),
            vocab: weight.rows(),
            target_logit: logit.clone(),
            lse: parts.slice_cols(i..i + 1).unwrap(),
            packed: None,
        })
        .unwrap();
        d.execute(Axpy { alpha: 1.0, x: logit, out: sum.clone() }).unwrap();
    }
    let lse = fresh(d, t, 1);
    d.execute(LogSumExp { x: parts, out: lse.clone() }).unwrap();
    d.execute(Axpy { alpha: -1.0, x: lse.clone(), out: sum.clone() }).unwrap();
    [sum, lse]
}

#[test]
fn loss_head_in_two_vocabulary_parts() {
    let targets = [4u32, 0, 2];
    check(
        "loss head",
        &[(3, 4), (5, 4)],
        &|d, x| vec![log_probability(d, &x[0], &x[1], &targets)[0].clone()],
        &|d, x, _, weights| {
            let [_, lse] = log_probability(d, &x[0], &x[1], &targets);
            let (dhidden, dweight) = (fresh(d, 3, 4), fresh(d, 5, 4));
            for rows in [0..2, 2..5] {
                let part = fresh(d, 3, 4);
                d.execute(LossHeadBackward {
                    hidden: x[0].clone(),
                    vocab_start: rows.start,
                    weight: x[1].slice_rows(rows.clone()).unwrap(),
                    targets: integers(d, &targets),
                    vocab: 5,
                    lse: lse.clone(),
                    weights: weights[0].clone(),
                    dhidden: part.clone(),
                    dweight: Some(dweight.slice_rows(rows).unwrap()),
                    packed: None,
                    packed_turned: None,
                })
                .unwrap();
                d.execute(Axpy { alpha: 1.0, x: part, out: dhidden.clone() }).unwrap();
            }
            vec![dhidden, dweight]
        },
    );
}

#[test]
fn fused_loss_head() {
    let targets = [4u32, 0, 2];
    let run = |d: &dyn Device, x: &[View], weights: &View| {
        let views = [fresh(d, 3, 1), fresh(d, 3, 1), fresh(d, 3, 4), fresh(d, 5, 4)];
        let [target_logit, lse, dhidden, dweight] = views.clone();
        d.execute(LossHeadFused {
            hidden: x[0].clone(),
            weight: x[1].clone(),
            targets: integers(d, &targets),
            weights: weights.clone(),
            target_logit,
            lse,
            dhidden,
            dweight: Some(dweight),
            packed: None,
            packed_turned: None,
        })
        .unwrap();
        d.execute(Axpy { alpha: -1.0, x: views[1].clone(), out: views[0].clone() }).unwrap();
        views
    };
    check(
        "fused loss head",
        &[(3, 4), (5, 4)],
        &|d, x| vec![run(d, x, &fresh(d, 3, 1))[0].clone()],
        &|d, x, _, weights| run(d, x, &weights[0])[2..].to_vec(),
    );
}
