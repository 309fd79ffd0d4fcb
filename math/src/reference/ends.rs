//! The two ends of the model, embedding and loss head, from their formulas.

use super::plain::{axpy, dot, log_sum_exp};
use super::{Matrix, Memory};
use crate::error::Error;
use crate::op::*;

/// Row of a vocabulary part that holds `id`, if it does.
fn local(id: usize, start: usize, rows: usize) -> Option<usize> {
    id.checked_sub(start).filter(|&row| row < rows)
}

pub(super) fn embed(m: &Memory, o: &Embed) -> Result<(), Error> {
    let ids = m.indices("ids", &o.ids, |_| o.vocab)?;
    let table = m.get(&o.table);
    let mut out = Matrix::zero(ids.len(), table.cols);
    for (t, &id) in ids.iter().enumerate() {
        if let Some(row) = local(id, o.vocab_start, table.rows) {
            out.row_mut(t).copy_from_slice(table.row(row));
        }
    }
    m.put(&o.out, &out);
    Ok(())
}

pub(super) fn embed_backward(m: &Memory, o: &EmbedBackward) -> Result<(), Error> {
    let ids = m.indices("ids", &o.ids, |_| o.vocab)?;
    let (dout, mut dtable) = (m.get(&o.dout), m.get(&o.dtable));
    for (t, &id) in ids.iter().enumerate() {
        if let Some(row) = local(id, o.vocab_start, dtable.rows) {
            axpy(dtable.row_mut(row), 1.0, dout.row(t));
        }
    }
    m.put(&o.dtable, &dtable);
    Ok(())
}

fn logits(hidden: &[f64], weight: &Matrix) -> Vec<f64> {
    (0..weight.rows).map(|v| dot(hidden, weight.row(v))).collect()
}

pub(super) fn loss_head(m: &Memory, o: &LossHead) -> Result<(), Error> {
    let targets = m.indices("targets", &o.targets, |_| o.vocab)?;
    let (hidden, weight) = (m.get(&o.hidden), m.get(&o.weight));
    let (mut logit, mut lse) = (Matrix::zero(hidden.rows, 1), Matrix::zero(hidden.rows, 1));
    for (t, &target) in targets.iter().enumerate() {
        let z = logits(hidden.row(t), &weight);
        *lse.at_mut(t, 0) = log_sum_exp(&z);
        *logit.at_mut(t, 0) = local(target, o.vocab_start, z.len()).map_or(0.0, |v| z[v]);
    }
    m.put(&o.target_logit, &logit);
    m.put(&o.lse, &lse);
    Ok(())
}

pub(super) fn loss_head_backward(m: &Memory, o: &LossHeadBackward) -> Result<(), Error> {
    let targets = m.indices("targets", &o.targets, |_| o.vocab)?;
    let (hidden, weight) = (m.get(&o.hidden), m.get(&o.weight));
    let (lse, weights) = (m.get(&o.lse), m.get(&o.weights));
    let mut dhidden = Matrix::zero(hidden.rows, hidden.cols);
    let mut dweight = Matrix::zero(weight.rows, weight.cols);
    for (t, &target) in targets.iter().enumerate() {
        let w = weights.at(t, 0);
        if w == 0.0 {
            continue;
        }
        let own = local(target, o.vocab_start, weight.rows);
        for (v, z) in logits(hidden.row(t), &weight).into_iter().enumerate() {
            let hit = if own == Some(v) { 1.0 } else { 0.0 };
            let g = w * (hit - (z - lse.at(t, 0)).exp());
            axpy(dhidden.row_mut(t), g, weight.row(v));
            axpy(dweight.row_mut(v), g, hidden.row(t));
        }
    }
    m.put(&o.dhidden, &dhidden);
    if let Some(view) = &o.dweight {
        m.add(view, &dweight, true);
    }
    Ok(())
}

pub(super) fn loss_head_fused(m: &Memory, o: &LossHeadFused) -> Result<(), Error> {
    let (vocab_start, vocab) = (0, o.weight.rows());
    let forward = LossHead {
        hidden: o.hidden.clone(),
        weight: o.weight.clone(),
        targets: o.targets.clone(),
        vocab_start,
        vocab,
        target_logit: o.target_logit.clone(),
        lse: o.lse.clone(),
        packed: None,
    };
    loss_head(m, &forward)?;
    let backward = LossHeadBackward {
        hidden: o.hidden.clone(),
        weight: o.weight.clone(),
        targets: o.targets.clone(),
        vocab_start,
        vocab,
        lse: o.lse.clone(),
        weights: o.weights.clone(),
        dhidden: o.dhidden.clone(),
        dweight: o.dweight.clone(),
        packed: None,
        packed_turned: None,
    };
    loss_head_backward(m, &backward)
}
