//! What an op costs, from its shapes alone: floating-point operations and bytes moved. Not time:
//! that is the planner's and the bench's business.

use std::ops::AddAssign;

use crate::check::AttentionShape;
use crate::op::*;
use crate::operand::Access;

/// Work of one op, or the sum of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Additions and multiplications (a fused multiply-add is two); an exponential, root or
    /// division counts one. What is computed twice counts twice.
    pub flops: u64,
    /// Bytes of operands read, each element once.
    pub read: u64,
    /// Bytes of operands written, each element once.
    pub written: u64,
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Cost) {
        self.flops += other.flops;
        self.read += other.read;
        self.written += other.written;
    }
}

impl Op {
    /// The cost of the op. Attention counts every key from row 0 to the query's own (one document):
    /// an upper bound where documents are packed.
    pub fn cost(&self) -> Cost {
        let mut cost = Cost { flops: self.flops(), ..Cost::default() };
        for o in self.operands() {
            let gathered = match self {
                Op::Embed(e) if o.name == "table" => e.out.bytes().min(e.table.bytes()),
                Op::EmbedBackward(e) if o.name == "dtable" => e.dout.bytes().min(e.dtable.bytes()),
                Op::Rope(r) if o.name == "table" => {
                    (r.x.rows() * r.table.cols() * r.table.dtype().size()).min(r.table.bytes())
                }
                _ => o.view.bytes(),
            } as u64;
            cost.read += if o.access == Access::Write { 0 } else { gathered };
            cost.written += if o.access.writes() { gathered } else { 0 };
        }
        cost
    }

    fn flops(&self) -> u64 {
        let of = |v: &crate::View| v.len() as u64;
        match self {
            Op::Fill(_) | Op::Copy(_) | Op::Pack(_) | Op::Embed(_) | Op::ArgMax(_) => 0,
            Op::Add(o) => of(&o.out),
            Op::Axpy(o) => 2 * of(&o.out),
            Op::Scale(o) => of(&o.out),
            Op::Normal(o) => 8 * of(&o.out),
            Op::Matmul(o) => {
                let k = if o.layout == Layout::TN { o.a.rows() } else { o.a.cols() };
                2 * of(&o.out) * k as u64
            }
            Op::AddBias(o) => of(&o.out),
            Op::BiasBackward(o) => of(&o.dy),
            Op::RmsNorm(o) => 4 * of(&o.x),
            Op::RmsNormBackward(o) => (if o.dweight.is_some() { 10 } else { 7 }) * of(&o.x),
            Op::Rope(o) => 3 * of(&o.x),
            Op::SwiGlu(o) => 5 * of(&o.out),
            Op::SwiGluBackward(o) => (if o.out.is_some() { 12 } else { 11 }) * of(&o.gate),
            Op::Attention(o) => 4 * pairs(&AttentionShape::of(o)),
            Op::AttentionBackward(o) => 10 * pairs(&AttentionShape::of_backward(o)),
            Op::EmbedBackward(o) => of(&o.dout),
            Op::LossHead(o) => products(&o.hidden, &o.weight, 1),
            Op::LossHeadBackward(o) => {
                products(&o.hidden, &o.weight, 2 + u64::from(o.dweight.is_some()))
            }
            Op::LossHeadFused(o) => {
                products(&o.hidden, &o.weight, 2 + u64::from(o.dweight.is_some()))
            }
            Op::LogSumExp(o) => 3 * of(&o.x),
            Op::SumSquares(o) => 2 * of(&o.x),
            Op::AdamW(o) => 14 * of(&o.master),
            Op::SumInRankOrder(o) => (o.parts.len() as u64 - 1) * of(&o.out),
        }
    }
}

/// (query, key) pairs that attention visits, times columns: half the FLOPs of one of its products.
fn pairs(a: &AttentionShape) -> u64 {
    let (queries, offset) = (a.queries as u64, a.query_offset as u64);
    (queries * offset + queries * (queries + 1) / 2) * a.query_cols as u64
}

/// FLOPs of `n` products of the loss head, each 2 · T · D · rows.
fn products(hidden: &crate::View, weight: &crate::View, n: u64) -> u64 {
    2 * n * hidden.len() as u64 * weight.rows() as u64
}
