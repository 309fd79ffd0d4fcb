//! How much memory the kernels of an op work in, from its shapes alone and before it runs: what the
//! planner sums. The numbers are those that the kernels themselves take, by the same functions.

use half::bf16;

use super::attention::{self, Shape};
use super::element::Any;
use super::ends::{Gradients, Head};
use super::pack::Native;
use super::product::{Packed, Product};
use super::{Instructions, attention_backward, is_bf16, norm, rows};
use crate::dtype::DType;
use crate::host::Mat;
use crate::op::{Attention, AttentionBackward, Matmul, Op};
use crate::view::View;

/// What sizes of working memory depend on besides shapes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    pub set: Instructions,
    pub threads: usize,
}

impl Machine {
    /// Columns of a packed panel.
    pub fn panel(self) -> usize {
        match self.set {
            Instructions::Avx512Bf16 | Instructions::Avx512 => 32,
            Instructions::Avx2 | Instructions::Portable => 16,
        }
    }

    /// Rows of a register tile.
    pub fn tile(self) -> usize {
        match self.set {
            Instructions::Avx512Bf16 | Instructions::Avx512 => 14,
            Instructions::Avx2 => 6,
            Instructions::Portable => 3,
        }
    }
}

/// f32 numbers that the kernels of `op` work in, by depth: the first number is taken by the op, the
/// second while it holds the first, and so on.
pub(crate) fn working(machine: Machine, op: &Op) -> Vec<usize> {
    match op {
        Op::Matmul(o) => vec![product(machine, o).working(machine)],
        Op::Attention(o) if is_bf16(op) => vec![attention::working::<bf16>(&forward(o), machine)],
        Op::Attention(o) => vec![attention::working::<f32>(&forward(o), machine)],
        Op::AttentionBackward(o) if is_bf16(op) => backward::<bf16>(machine, o),
        Op::AttentionBackward(o) => backward::<f32>(machine, o),
        Op::LossHead(o) => {
            let packed = [&o.packed, &None];
            head(machine, &o.hidden, &o.weight, packed).working(machine, None)
        }
        Op::LossHeadBackward(o) => {
            let packed = [&o.packed, &o.packed_turned];
            let gradients = gradients(&o.weights, &o.dhidden, &o.dweight);
            head(machine, &o.hidden, &o.weight, packed).working(machine, Some(gradients))
        }
        Op::LossHeadFused(o) => {
            let packed = [&o.packed, &o.packed_turned];
            let gradients = gradients(&o.weights, &o.dhidden, &o.dweight);
            let head = head(machine, &o.hidden, &o.weight, packed);
            // a large vocabulary takes both calls one after the other
            let mut most = head.working(machine, Some(gradients));
            let first = head.working(machine, None);
            most.iter_mut().zip(first).for_each(|(most, first)| *most = first.max(*most));
            most
        }
        Op::RmsNormBackward(o) => vec![norm::partial_sums(o.x.rows(), o.x.cols())],
        Op::BiasBackward(o) => vec![norm::partial_sums(o.dy.rows(), o.dy.cols())],
        Op::SumSquares(o) => vec![rows::chunk_sums(shape(&o.x))],
        _ => Vec::new(),
    }
}

/// The shape of a matrix; at its address lies nothing.
fn shape<T>(view: &View) -> Mat<T> {
    let ptr = std::ptr::dangling_mut();
    Mat { ptr, rows: view.rows(), cols: view.cols(), stride: view.stride() }
}

fn any(view: &View) -> Any {
    match view.dtype() {
        DType::BF16 => Any::Bf16(shape(view)),
        _ => Any::F32(shape(view)),
    }
}

fn packed(machine: Machine, view: &Option<View>, n: usize) -> Option<Packed> {
    let view = view.as_ref().filter(|view| !view.is_empty())?;
    Some(Packed::whole(shape::<f32>(view).ptr, n, machine.panel()))
}

fn product(machine: Machine, o: &Matmul) -> Product {
    let (layout, a, b, out) = (o.layout, any(&o.a), any(&o.b), any(&o.out));
    Product { layout, a, b, packed: packed(machine, &o.packed, out.cols()), plus: None, out }
}

fn forward<E: Native>(o: &Attention) -> Shape<E> {
    let [q, k, v, out] = [&o.q, &o.k, &o.v, &o.out].map(shape);
    let (starts, lse, offset) = (shape(&o.starts), shape(&o.lse), o.query_offset);
    let (heads, kv_heads, scale) = (o.heads, o.kv_heads, o.scale as f32);
    Shape { q, k, v, starts, offset, heads, kv_heads, scale, out, lse }
}

fn backward<E: Native>(machine: Machine, o: &AttentionBackward) -> Vec<usize> {
    let [q, k, v, out] = [&o.q, &o.k, &o.v, &o.out].map(shape::<E>);
    let (starts, lse, offset) = (shape(&o.starts), shape(&o.lse), o.query_offset);
    let (heads, kv_heads, scale) = (o.heads, o.kv_heads, o.scale as f32);
    let of = Shape { q, k, v, starts, offset, heads, kv_heads, scale, out, lse };
    let own = attention_backward::working(&of, machine);
    match o.dk.dtype() {
        DType::F32 => vec![own],
        _ => vec![o.dk.len() + o.dv.len(), own],
    }
}

fn head(machine: Machine, hidden: &View, weight: &View, panels: [&Option<View>; 2]) -> Head {
    let [nt, nn] = panels;
    let packed = [packed(machine, nt, weight.rows()), packed(machine, nn, weight.cols())];
    let (targets, lse) = (column(hidden.rows()), column(hidden.rows()));
    Head { hidden: any(hidden), weight: any(weight), packed, targets, start: 0, lse }
}

/// One number a token.
fn column<T>(rows: usize) -> Mat<T> {
    Mat { ptr: std::ptr::dangling_mut(), rows, cols: 1, stride: 1 }
}

fn gradients(weights: &View, dhidden: &View, dweight: &Option<View>) -> Gradients {
    Gradients {
        weights: shape(weights),
        dhidden: any(dhidden),
        dweight: dweight.as_ref().map(shape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;
    use crate::device::{Device, Queue};
    use crate::op::*;

    /// Runs an op on a device that ran none before, and holds what it took against what was said.
    #[track_caller]
    fn check(set: Instructions, threads: usize, op: impl Fn(&dyn Device) -> Op) {
        let device = Cpu::with(threads, set);
        let machine = Machine { set: device.instructions(), threads };
        let op = op(&device);
        device.run(Queue::MAIN, &op).unwrap();
        let said: Vec<u64> = working(machine, &op).iter().map(|n| *n as u64 * 4).collect();
        let taken = device.engine.blocks.sizes();
        assert_eq!(taken, said, "{machine:?} {op:?}");
    }

    fn each(op: impl Fn(&dyn Device) -> Op) {
        for threads in [1, 3] {
            check(Instructions::best(), threads, &op);
            check(Instructions::Portable, threads, &op);
        }
    }

    const F32: DType = DType::F32;
    const BF16: DType = DType::BF16;

    fn packed(d: &dyn Device, layout: Layout, weight: &View) -> Option<View> {
        let (dtype, rows, cols) = (weight.dtype(), weight.rows(), weight.cols());
        let elements = d.packed(layout, dtype, rows, cols);
        (elements > 0).then(|| d.matrix(DType::U32, 1, elements).unwrap())
    }

    #[test]
    fn products_take_what_is_said() {
        for (m, n, k) in [(3, 40, 70), (65, 100, 33), (130, 2100, 2050), (70, 5000, 2100)] {
            for layout in [Layout::NT, Layout::NN, Layout::TN] {
                for (dtype, keep) in [(F32, false), (BF16, false), (BF16, true)] {
                    each(|d| {
                        let matrix = |dtype, rows, cols| d.matrix(dtype, rows, cols).unwrap();
                        let a = if layout == Layout::TN { (k, m) } else { (m, k) };
                        let b = if layout == Layout::NT { (n, k) } else { (k, n) };
                        let (a, b) = (matrix(dtype, a.0, a.1), matrix(dtype, b.0, b.1));
                        let keep = keep && layout != Layout::TN;
                        let packed = if keep { packed(d, layout, &b) } else { None };
                        let out = matrix(if layout == Layout::TN { F32 } else { dtype }, m, n);
                        Matmul { layout, a, b, packed, plus: None, out }.into()
                    });
                }
            }
        }
    }

    fn heads(dtype: DType, rows: usize, back: bool) -> impl Fn(&dyn Device) -> Op {
        move |d: &dyn Device| {
            let matrix = |dtype, cols| d.matrix(dtype, rows, cols).unwrap();
            let (heads, kv_heads, query_offset, scale) = (4, 2, 0, 0.5);
            let [q, out, dout, dq] = [(); 4].map(|()| matrix(dtype, 4 * 6));
            let [k, v, dk, dv] = [(); 4].map(|()| matrix(dtype, 2 * 6));
            let (starts, lse, accumulate) = (matrix(DType::U32, 1), matrix(F32, 4), false);
            // what is taken depends on shapes alone, not on where documents begin
            let first = |row: usize| (row / 100 * 100) as u32;
            let bytes: Vec<u8> = (0..rows).flat_map(|row| first(row).to_le_bytes()).collect();
            d.write(Queue::MAIN, &starts, &bytes).unwrap();
            match back {
                false => {
                    Attention { q, k, v, starts, query_offset, heads, kv_heads, scale, out, lse }
                        .into()
                }
                true => AttentionBackward {
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
                    accumulate,
                }
                .into(),
            }
        }
    }

    #[test]
    fn attention_takes_what_is_said() {
        for (dtype, rows) in [(F32, 5), (BF16, 5), (F32, 200), (BF16, 200)] {
            each(heads(dtype, rows, false));
            each(heads(dtype, rows, true));
        }
    }

    /// Of the loss head's three calls one, with `rows` tokens.
    fn head_op(
        d: &dyn Device,
        call: usize,
        dtype: DType,
        (rows, vocab, width): (usize, usize, usize),
    ) -> Op {
        let matrix = |dtype, rows, cols| d.matrix(dtype, rows, cols).unwrap();
        let (hidden, dhidden) = (matrix(dtype, rows, width), matrix(dtype, rows, width));
        let weight = matrix(dtype, vocab, width);
        let (nt, nn) = (packed(d, Layout::NT, &weight), packed(d, Layout::NN, &weight));
        let targets = matrix(DType::U32, rows, 1);
        let [target_logit, lse, weights] = [(); 3].map(|()| matrix(F32, rows, 1));
        let (dweight, vocab_start) = (Some(matrix(F32, vocab, width)), 0);
        let (packed, packed_turned) = (nt, nn);
        match call {
            0 => {
                LossHead { hidden, weight, targets, vocab_start, vocab, target_logit, lse, packed }
                    .into()
            }
            1 => LossHeadBackward {
                hidden,
                weight,
                targets,
                vocab_start,
                vocab,
                lse,
                weights,
                dhidden,
                dweight,
                packed,
                packed_turned,
            }
            .into(),
            _ => LossHeadFused {
                hidden,
                weight,
                targets,
                weights,
                target_logit,
                lse,
                dhidden,
                dweight,
                packed,
                packed_turned,
            }
            .into(),
        }
    }

    #[test]
    fn the_loss_head_takes_what_is_said() {
        let sizes = [(5, 70, 33), (300, 130, 20), (1100, 90, 12), (3, 17_000, 8), (257, 17_000, 4)];
        for size in sizes {
            for call in 0..3 {
                each(|d| head_op(d, call, F32, size));
                each(|d| head_op(d, call, BF16, size));
            }
        }
    }

    #[test]
    fn sums_take_what_is_said() {
        each(|d| {
            let (x, out) = (d.matrix(F32, 3, 40_000), d.matrix(F32, 1, 1));
            SumSquares { x: x.unwrap(), out: out.unwrap(), accumulate: false }.into()
        });
        each(|d| {
            let (dy, dbias) = (d.matrix(BF16, 100, 7).unwrap(), d.matrix(F32, 1, 7).unwrap());
            BiasBackward { dy, dbias }.into()
        });
        each(|d| {
            let matrix = |dtype, rows, cols| d.matrix(dtype, rows, cols).unwrap();
            let [x, dx] = [(); 2].map(|()| matrix(F32, 70, 9));
            let (weight, rstd, dy) = (matrix(BF16, 1, 9), matrix(F32, 70, 1), matrix(BF16, 70, 9));
            let (dweight, accumulate) = (Some(matrix(F32, 1, 9)), true);
            RmsNormBackward { x, weight, rstd, dy, dx, dweight, accumulate }.into()
        });
        each(|d| Fill { out: d.matrix(F32, 9, 9).unwrap(), value: 1.0 }.into());
    }
}
