//! Causal grouped-query attention inside documents, from its formula: one query row at a time.

use super::plain::{axpy, dot, log_sum_exp};
use super::{Matrix, Memory};
use crate::error::Error;
use crate::op::*;

pub(super) fn forward(m: &Memory, o: &Attention) -> Result<(), Error> {
    let starts = m.indices("starts", &o.starts, |row| o.query_offset + row + 1)?;
    let (q, k, v) = (m.get(&o.q), m.get(&o.k), m.get(&o.v));
    let hd = q.cols / o.heads;
    let (mut out, mut lse) = (Matrix::zero(q.rows, q.cols), Matrix::zero(q.rows, o.heads));
    for (i, &start) in starts.iter().enumerate() {
        for h in 0..o.heads {
            let kv = h * o.kv_heads / o.heads * hd;
            let query = &q.row(i)[h * hd..][..hd];
            let keys = start..o.query_offset + i + 1;
            let scores: Vec<f64> =
                keys.clone().map(|j| o.scale * dot(query, &k.row(j)[kv..][..hd])).collect();
            let total = log_sum_exp(&scores);
            *lse.at_mut(i, h) = total;
            for (j, score) in keys.zip(scores) {
                axpy(
                    &mut out.row_mut(i)[h * hd..][..hd],
                    (score - total).exp(),
                    &v.row(j)[kv..][..hd],
                );
            }
        }
    }
    m.put(&o.out, &out);
    m.put(&o.lse, &lse);
    Ok(())
}

pub(super) fn backward(m: &Memory, o: &AttentionBackward) -> Result<(), Error> {
    let starts = m.indices("starts", &o.starts, |row| o.query_offset + row + 1)?;
    let (q, k, v) = (m.get(&o.q), m.get(&o.k), m.get(&o.v));
    let (out, lse, dout) = (m.get(&o.out), m.get(&o.lse), m.get(&o.dout));
    let hd = q.cols / o.heads;
    let mut dq = Matrix::zero(q.rows, q.cols);
    let (mut dk, mut dv) = (Matrix::zero(k.rows, k.cols), Matrix::zero(k.rows, k.cols));
    for (i, &start) in starts.iter().enumerate() {
        for h in 0..o.heads {
            let (head, kv) = (h * hd..(h + 1) * hd, h * o.kv_heads / o.heads * hd);
            let kv = kv..kv + hd;
            let (query, d) = (&q.row(i)[head.clone()], &dout.row(i)[head.clone()]);
            let delta = dot(d, &out.row(i)[head.clone()]);
            for j in start..o.query_offset + i + 1 {
                let score = o.scale * dot(query, &k.row(j)[kv.clone()]);
                let p = (score - lse.at(i, h)).exp();
                let ds = o.scale * p * (dot(d, &v.row(j)[kv.clone()]) - delta);
                axpy(&mut dq.row_mut(i)[head.clone()], ds, &k.row(j)[kv.clone()]);
                axpy(&mut dk.row_mut(j)[kv.clone()], ds, query);
                axpy(&mut dv.row_mut(j)[kv.clone()], p, d);
            }
        }
    }
    m.put(&o.dq, &dq);
    m.add(&o.dk, &dk, o.accumulate);
    m.add(&o.dv, &dv, o.accumulate);
    Ok(())
}
