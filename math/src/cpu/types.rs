//! Which element types the kernels of this device exist for. Not the rules that hold on every device
//! ([`crate::check`]).

use crate::dtype::DType;
use crate::error::Error;
use crate::op::Op;
use crate::operand::Operand;

/// What an operand may be.
#[derive(Clone, Copy, PartialEq)]
enum Allowed {
    /// f32 alone.
    F32,
    /// f32, or f64 for a number that stands by itself.
    Scalar,
    /// f32 or bf16.
    Either,
    /// f32 or bf16, the same for all such operands of the op.
    Alike,
    /// Whatever the rules of all devices allow.
    All,
}

impl Allowed {
    fn of(op: &Op, operand: &str) -> Allowed {
        use Allowed::{Alike, All, Either, F32, Scalar};
        match (op, operand) {
            (Op::Copy(_) | Op::Fill(_), _) => All,
            (Op::SumSquares(_), "out") | (Op::AdamW(_), "gradient_scale") => Scalar,
            (Op::Matmul(_), "a" | "b" | "out") | (Op::Pack(_), "x") => Either,
            (Op::AddBias(_), _) | (Op::BiasBackward(_), "dy") => Either,
            (Op::Embed(_), "table" | "out") | (Op::AdamW(_), "working") => Either,
            // over tensor-parallel ranks it comes as a message
            (Op::EmbedBackward(_), "dout") => Either,
            (Op::LossHead(_), "hidden" | "weight") => Either,
            (Op::LossHeadBackward(_) | Op::LossHeadFused(_), "hidden" | "weight" | "dhidden") => {
                Either
            }
            (Op::RmsNorm(_), "weight" | "out") => Alike,
            (Op::RmsNormBackward(_), "weight" | "dy") => Alike,
            (Op::Rope(_), "x") => Either,
            (Op::SwiGlu(_) | Op::SwiGluBackward(_), _) => Alike,
            (Op::Attention(_) | Op::AttentionBackward(_), "lse" | "starts") => F32,
            // sums over several calls are f32
            (Op::AttentionBackward(o), "dk" | "dv") if o.accumulate => F32,
            (Op::AttentionBackward(_), "dq") => Either,
            (Op::Attention(_) | Op::AttentionBackward(_), _) => Alike,
            _ => F32,
        }
    }
}

/// Refuses what there is no kernel for.
pub(super) fn check(op: &Op, operands: &[Operand]) -> Result<(), Error> {
    let mut alike = None;
    for o in operands {
        let (allowed, found) = (Allowed::of(op, o.name), o.view.dtype());
        let expected = match allowed {
            Allowed::All => continue,
            _ if found == DType::U32 => continue,
            Allowed::F32 if found == DType::F32 => continue,
            Allowed::F32 => "f32",
            Allowed::Scalar if matches!(found, DType::F32 | DType::F64) => continue,
            Allowed::Scalar => "f32 or f64",
            Allowed::Either | Allowed::Alike if found == DType::F64 => "f32 or bf16",
            Allowed::Either => continue,
            Allowed::Alike if *alike.get_or_insert(found) == found => continue,
            Allowed::Alike => "the type of the operands before it",
        };
        let device = "cpu".to_string();
        let (op, operand) = (op.name(), o.name);
        return Err(Error::Unsupported { device, op, operand, found, expected });
    }
    Ok(())
}
