//! The views of an op in one list: their names, and what the op does to them. From it come the
//! checks for aliasing, the locks of a device and the bytes an op moves.

use crate::op::*;
use crate::view::View;

/// What an op does to an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads it.
    Read,
    /// Replaces it.
    Write,
    /// Reads and writes it.
    Update,
}

impl Access {
    /// Whether the operand's memory changes.
    pub fn writes(self) -> bool {
        self != Access::Read
    }
}

/// One operand of an op.
#[derive(Clone, Copy, Debug)]
pub struct Operand<'a> {
    /// Name of the op's field.
    pub name: &'static str,
    /// The view.
    pub view: &'a View,
    /// What the op does to it.
    pub access: Access,
}

fn access(accumulate: bool) -> Access {
    if accumulate { Access::Update } else { Access::Write }
}

macro_rules! list {
    ($op:ident; $($name:ident $access:expr),*; $($option:ident $option_access:expr),*) => {{
        let mut all = vec![
            $(Operand { name: stringify!($name), view: &$op.$name, access: $access }),*
        ];
        $(if let Some(view) = &$op.$option {
            all.push(Operand { name: stringify!($option), view, access: $option_access });
        })*
        let _ = &mut all;
        all
    }};
}

impl Op {
    /// All operands, each with its field's name and access.
    pub fn operands(&self) -> Vec<Operand<'_>> {
        use Access::{Read, Update, Write};
        match self {
            Op::Fill(o) => list!(o; out Write;),
            Op::Copy(o) => list!(o; x Read, out Write;),
            Op::Add(o) => list!(o; a Read, b Read, out Write;),
            Op::Axpy(o) => list!(o; x Read, out Update;),
            Op::Scale(o) => list!(o; out Update;),
            Op::Normal(o) => list!(o; out Write;),
            Op::Matmul(o) => list!(o; a Read, b Read, out Write; packed Read, plus Read),
            Op::Pack(o) => list!(o; x Read, out Write;),
            Op::AddBias(o) => list!(o; bias Read, out Update;),
            Op::BiasBackward(o) => list!(o; dy Read, dbias Update;),
            Op::RmsNorm(o) => list!(o; x Read, weight Read, out Write, rstd Write;),
            Op::RmsNormBackward(o) => list!(o; x Read, weight Read, rstd Read, dy Read,
                dx access(o.accumulate); dweight Update),
            Op::Rope(o) => list!(o; x Update, positions Read, table Read;),
            Op::SwiGlu(o) => list!(o; gate Read, up Read, out Write;),
            Op::SwiGluBackward(o) => list!(o; gate Read, up Read, dout Read, dgate Write,
                dup Write; out Write),
            Op::Attention(o) => list!(o; q Read, k Read, v Read, starts Read, out Write,
                lse Write;),
            Op::AttentionBackward(o) => list!(o; q Read, k Read, v Read, starts Read, out Read,
                lse Read, dout Read, dq Write, dk access(o.accumulate), dv access(o.accumulate);),
            Op::Embed(o) => list!(o; ids Read, table Read, out Write;),
            Op::EmbedBackward(o) => list!(o; ids Read, dout Read, dtable Update;),
            Op::LossHead(o) => list!(o; hidden Read, weight Read, targets Read,
                target_logit Write, lse Write; packed Read),
            Op::LossHeadBackward(o) => list!(o; hidden Read, weight Read, targets Read, lse Read,
                weights Read, dhidden Write; dweight Update, packed Read, packed_turned Read),
            Op::LossHeadFused(o) => list!(o; hidden Read, weight Read, targets Read, weights Read,
                target_logit Write, lse Write, dhidden Write; dweight Update, packed Read,
                packed_turned Read),
            Op::LogSumExp(o) => list!(o; x Read, out Write;),
            Op::ArgMax(o) => list!(o; x Read, out Write;),
            Op::SumSquares(o) => list!(o; x Read, out access(o.accumulate);),
            Op::AdamW(o) => list!(o; master Update, gradient Read, first Update, second Update;
                working Write, gradient_scale Read),
            Op::SumInRankOrder(o) => {
                let read = |view| Operand { name: "parts", view, access: Read };
                let mut all: Vec<_> = o.parts.iter().map(read).collect();
                all.push(Operand { name: "out", view: &o.out, access: Write });
                all
            }
        }
    }

    /// Whether the written operand may be the very same view as the other one.
    pub(crate) fn may_be(&self, written: &str, other: &str) -> bool {
        match self {
            Op::Matmul(_) => (written, other) == ("out", "plus"),
            Op::Add(_) => written == "out" && (other == "a" || other == "b"),
            Op::RmsNorm(_) => (written, other) == ("out", "x"),
            Op::RmsNormBackward(o) => !o.accumulate && (written, other) == ("dx", "dy"),
            Op::SwiGlu(_) => written == "out" && (other == "gate" || other == "up"),
            Op::SwiGluBackward(_) => matches!(
                (written, other),
                ("dgate", "gate" | "dout") | ("dup", "up" | "dout") | ("out", "dout")
            ),
            Op::SumInRankOrder(_) => (written, other) == ("out", "parts"),
            _ => false,
        }
    }
}
