//! Elementwise ops, products, norms, reductions and the optimizer, from their formulas.

use super::{Matrix, Memory};
use crate::error::Error;
use crate::op::*;
use crate::random::Random;
use crate::view::View;

pub(super) fn run(m: &Memory, op: &Op) {
    match op {
        Op::Fill(o) => each(m, &o.out, &[], |_| o.value),
        Op::Copy(o) => each(m, &o.out, &[&o.x], |x| x[0]),
        Op::Add(o) => each(m, &o.out, &[&o.a, &o.b], |x| x[0] + x[1]),
        Op::Axpy(o) => each(m, &o.out, &[&o.x, &o.out], |x| o.alpha * x[0] + x[1]),
        Op::Scale(o) => each(m, &o.out, &[&o.out], |x| o.alpha * x[0]),
        Op::Normal(o) => normal(m, o),
        Op::Matmul(o) => matmul(m, o),
        // the weight itself is read
        Op::Pack(_) => {}
        Op::AddBias(o) => {
            let (bias, mut out) = (m.get(&o.bias), m.get(&o.out));
            (0..out.rows).for_each(|r| axpy(out.row_mut(r), 1.0, bias.row(0)));
            m.put(&o.out, &out);
        }
        Op::BiasBackward(o) => {
            let (dy, mut dbias) = (m.get(&o.dy), m.get(&o.dbias));
            (0..dy.rows).for_each(|r| axpy(dbias.row_mut(0), 1.0, dy.row(r)));
            m.put(&o.dbias, &dbias);
        }
        Op::RmsNorm(o) => rms_norm(m, o),
        Op::RmsNormBackward(o) => rms_norm_backward(m, o),
        Op::SwiGlu(o) => each(m, &o.out, &[&o.gate, &o.up], |x| silu(x[0]) * x[1]),
        Op::SwiGluBackward(o) => swiglu_backward(m, o),
        Op::LogSumExp(o) => rows(m, &o.x, &o.out, log_sum_exp),
        Op::ArgMax(o) => rows(m, &o.x, &o.out, |x| arg_max(x) as f64),
        Op::SumSquares(o) => {
            let sum = m.get(&o.x).data.iter().map(|x| x * x).sum();
            m.add(&o.out, &Matrix { rows: 1, cols: 1, data: vec![sum] }, o.accumulate);
        }
        Op::AdamW(o) => adamw(m, o),
        Op::SumInRankOrder(o) => {
            let parts: Vec<&View> = o.parts.iter().collect();
            each(m, &o.out, &parts, |x| x.iter().sum());
        }
        _ => unreachable!("{} has a function of its own", op.name()),
    }
}

/// `out[i] = f(inputs[..][i])` for every element.
fn each(m: &Memory, out: &View, inputs: &[&View], f: impl Fn(&[f64]) -> f64) {
    let inputs: Vec<Matrix> = inputs.iter().map(|v| m.get(v)).collect();
    let mut result = Matrix::zero(out.rows(), out.cols());
    for (i, r) in result.data.iter_mut().enumerate() {
        let x: Vec<f64> = inputs.iter().map(|v| v.data[i]).collect();
        *r = f(&x);
    }
    m.put(out, &result);
}

/// `out[r] = f(x[r])` for every row.
fn rows(m: &Memory, x: &View, out: &View, f: impl Fn(&[f64]) -> f64) {
    let x = m.get(x);
    let data = (0..x.rows).map(|r| f(x.row(r))).collect();
    m.put(out, &Matrix { rows: x.rows, cols: 1, data });
}

pub(super) fn axpy(out: &mut [f64], alpha: f64, x: &[f64]) {
    out.iter_mut().zip(x).for_each(|(o, x)| *o += alpha * x);
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

pub(super) fn log_sum_exp(x: &[f64]) -> f64 {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if max == f64::INFINITY || (max == f64::NEG_INFINITY && !x.iter().any(|v| v.is_nan())) {
        return max;
    }
    max + x.iter().map(|v| (v - max).exp()).sum::<f64>().ln()
}

fn arg_max(x: &[f64]) -> usize {
    let mut best = 0;
    for (i, v) in x.iter().enumerate() {
        if v.is_nan() {
            return i;
        }
        best = if *v > x[best] { i } else { best };
    }
    best
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

fn silu(z: f64) -> f64 {
    z * sigmoid(z)
}

fn normal(m: &Memory, o: &Normal) {
    let random = Random::new(o.seed, o.stream);
    let mut out = Matrix::zero(o.out.rows(), o.out.cols());
    for r in 0..out.rows {
        for c in 0..out.cols {
            let index = o.first.wrapping_add((r as u64).wrapping_mul(o.pitch) + c as u64);
            *out.at_mut(r, c) = o.mean + o.deviation * random.normal(index);
        }
    }
    m.put(&o.out, &out);
}

fn matmul(m: &Memory, o: &Matmul) {
    let (a, b) = (m.get(&o.a), m.get(&o.b));
    let mut out = Matrix::zero(o.out.rows(), o.out.cols());
    for i in 0..out.rows {
        for j in 0..out.cols {
            *out.at_mut(i, j) = match o.layout {
                Layout::NT => dot(a.row(i), b.row(j)),
                Layout::NN => (0..a.cols).map(|k| a.at(i, k) * b.at(k, j)).sum(),
                Layout::TN => (0..a.rows).map(|k| a.at(k, i) * b.at(k, j)).sum(),
            };
        }
    }
    if let Some(plus) = &o.plus {
        axpy(&mut out.data, 1.0, &m.get(plus).data);
    }
    m.put(&o.out, &out);
}

fn rms_norm(m: &Memory, o: &RmsNorm) {
    let (x, weight) = (m.get(&o.x), m.get(&o.weight));
    let (mut out, mut rstd) = (x.clone(), Matrix::zero(x.rows, 1));
    for r in 0..x.rows {
        let mean = dot(x.row(r), x.row(r)) / x.cols as f64;
        let scale = 1.0 / (mean + o.epsilon).sqrt();
        *rstd.at_mut(r, 0) = scale;
        out.row_mut(r).iter_mut().zip(weight.row(0)).for_each(|(y, w)| *y *= scale * w);
    }
    m.put(&o.out, &out);
    m.put(&o.rstd, &rstd);
}

fn rms_norm_backward(m: &Memory, o: &RmsNormBackward) {
    let (x, weight, rstd, dy) = (m.get(&o.x), m.get(&o.weight), m.get(&o.rstd), m.get(&o.dy));
    let (mut dx, mut dweight) = (Matrix::zero(x.rows, x.cols), Matrix::zero(1, x.cols));
    for r in 0..x.rows {
        let scale = rstd.at(r, 0);
        let n: Vec<f64> = x.row(r).iter().map(|x| x * scale).collect();
        let g: Vec<f64> = dy.row(r).iter().zip(weight.row(0)).map(|(d, w)| d * w).collect();
        let mean = dot(&g, &n) / x.cols as f64;
        for c in 0..x.cols {
            *dx.at_mut(r, c) = scale * (g[c] - n[c] * mean);
            *dweight.at_mut(0, c) += dy.at(r, c) * n[c];
        }
    }
    m.add(&o.dx, &dx, o.accumulate);
    if let Some(view) = &o.dweight {
        m.add(view, &dweight, true);
    }
}

pub(super) fn rope(m: &Memory, o: &Rope) -> Result<(), Error> {
    let positions = m.indices("positions", &o.positions, |_| o.table.rows())?;
    let (mut x, table) = (m.get(&o.x), m.get(&o.table));
    let half = table.cols / 2;
    for (r, &position) in positions.iter().enumerate() {
        let (cos, sin) = table.row(position).split_at(half);
        let sign = if o.inverse { -1.0 } else { 1.0 };
        for head in x.row_mut(r).chunks_mut(2 * half) {
            for i in 0..half {
                let (u, v, s) = (head[i], head[i + half], sign * sin[i]);
                head[i] = u * cos[i] - v * s;
                head[i + half] = v * cos[i] + u * s;
            }
        }
    }
    m.put(&o.x, &x);
    Ok(())
}

fn swiglu_backward(m: &Memory, o: &SwiGluBackward) {
    let (gate, up, dout) = (m.get(&o.gate), m.get(&o.up), m.get(&o.dout));
    let (mut dgate, mut dup, mut out) = (gate.clone(), gate.clone(), gate.clone());
    for i in 0..gate.data.len() {
        let (g, u, d) = (gate.data[i], up.data[i], dout.data[i]);
        let s = sigmoid(g);
        dgate.data[i] = d * u * (s + g * s * (1.0 - s));
        dup.data[i] = d * g * s;
        out.data[i] = g * s * u;
    }
    m.put(&o.dgate, &dgate);
    m.put(&o.dup, &dup);
    if let Some(view) = &o.out {
        m.put(view, &out);
    }
}

fn adamw(m: &Memory, o: &AdamW) {
    let scale = o.gradient_scale.as_ref().map_or(1.0, |v| m.get(v).data[0]);
    let gradient = m.get(&o.gradient);
    let (mut master, mut first, mut second) = (m.get(&o.master), m.get(&o.first), m.get(&o.second));
    let correct1 = 1.0 - o.beta1.powf(o.step as f64);
    let correct2 = 1.0 - o.beta2.powf(o.step as f64);
    for i in 0..master.data.len() {
        let g = gradient.data[i] * scale;
        let (p, f, s) = (&mut master.data[i], &mut first.data[i], &mut second.data[i]);
        *f = o.beta1 * *f + (1.0 - o.beta1) * g;
        *s = o.beta2 * *s + (1.0 - o.beta2) * g * g;
        *p -= o.rate * o.decay * *p;
        *p -= o.rate / correct1 * *f / ((*s / correct2).sqrt() + o.epsilon);
    }
    m.put(&o.master, &master);
    m.put(&o.first, &first);
    m.put(&o.second, &second);
    if let Some(view) = &o.working {
        m.put(view, &master);
    }
}
