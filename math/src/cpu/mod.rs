//! The `cpu` device: kernels on this processor's vectors and on threads of its own. It computes in f32,
//! on memory in f32 or bf16; f64 only passes through [`Copy`](crate::op::Copy). An op is finished when
//! it returns.
//!
//! Same bits for any number of threads: sums have an order of their own, however work is cut.
#![allow(unsafe_code)]

mod adamw;
mod attention;
mod attention_backward;
mod element;
mod ends;
mod norm;
mod pack;
mod plain;
mod pool;
mod product;
mod rope;
mod rows;
mod scratch;
mod simd;
mod tile;
mod types;
mod working;

use half::bf16;

pub use simd::Instructions;
pub(crate) use simd::{Kernel, Simd};

use crate::buffer::Buffer;
use crate::cost::Cost;
use crate::device::{Device, Lent, Queue, Usage};
use crate::dtype::{DType, to_bf16};
use crate::error::Error;
use crate::host::{Host, Mat};
use crate::op::*;
use crate::view::View;
use attention::Shape;
use element::{Any, either};
use pool::Pool;
use product::{Packed, Product};
use scratch::{Blocks, Scratch};
pub(crate) use working::{Machine, working};

/// The processor.
#[derive(Debug)]
pub struct Cpu {
    host: Host,
    engine: Engine,
}

/// What kernels run on: an instruction set, threads, scratch memory.
#[derive(Debug)]
pub(crate) struct Engine {
    set: Instructions,
    pool: Pool,
    blocks: Blocks,
}

impl Cpu {
    /// A device whose ops use `threads` threads (at least one: the caller), on the best instruction
    /// set of this processor.
    pub fn new(threads: usize) -> Cpu {
        Cpu::with(threads, Instructions::best())
    }

    /// The same on a given instruction set; where the processor lacks it, on the portable one.
    pub fn with(threads: usize, set: Instructions) -> Cpu {
        let set = if set.available() { set } else { Instructions::Portable };
        let engine = Engine { set, pool: Pool::new(threads), blocks: Blocks::default() };
        Cpu { host: Host::new("cpu"), engine }
    }

    /// The instruction set in use.
    pub fn instructions(&self) -> Instructions {
        self.engine.set
    }

    /// The number of threads in use.
    pub fn threads(&self) -> usize {
        self.engine.threads()
    }

    /// Elements of a vector.
    pub(crate) fn lanes(&self) -> usize {
        self.engine.panel() / 2
    }

    /// Calls `f` as often as there are threads, on as many of them as are free.
    pub(crate) fn on_each_thread(&self, f: &(dyn Fn() + Sync)) {
        self.engine.parallel(self.threads(), &|_, _| f());
    }
}

impl Engine {
    fn threads(&self) -> usize {
        self.pool.threads()
    }

    fn machine(&self) -> Machine {
        Machine { set: self.set, threads: self.threads() }
    }

    /// Columns of a packed panel.
    fn panel(&self) -> usize {
        self.machine().panel()
    }

    /// Rows of a register tile.
    fn tile(&self) -> usize {
        self.machine().tile()
    }

    fn parallel(&self, tasks: usize, task: &(dyn Fn(usize, usize) + Sync)) {
        self.pool.run(tasks, task);
    }

    /// On all threads where the work is worth waking them, else on the caller.
    fn parallel_if(&self, worth: bool, tasks: usize, task: &(dyn Fn(usize, usize) + Sync)) {
        if worth { self.pool.run(tasks, task) } else { (0..tasks).for_each(|i| task(i, 0)) }
    }

    /// Memory for `floats` f32 numbers of any content.
    fn scratch(&self, floats: usize) -> Result<Scratch<'_>, Error> {
        Scratch::take(&self.blocks, floats)
    }
}

impl<T> Mat<T> {
    fn len(&self) -> usize {
        self.rows * self.cols
    }
}

impl Device for Cpu {
    fn name(&self) -> &str {
        self.host.name()
    }

    fn arithmetic(&self) -> String {
        format!("cpu/{}", self.engine.set.name())
    }

    fn allocate(&self, bytes: usize) -> Result<Buffer, Error> {
        self.host.allocate(bytes)
    }

    fn lend(&self, bytes: &Lent) -> Option<Buffer> {
        self.host.lend(bytes)
    }

    fn write(&self, _: Queue, view: &View, bytes: &[u8]) -> Result<(), Error> {
        self.host.write(view, bytes)
    }

    fn read(&self, _: Queue, view: &View, bytes: &mut [u8]) -> Result<(), Error> {
        self.host.read(view, bytes)
    }

    fn run(&self, _: Queue, op: &Op) -> Result<(), Error> {
        op.check()?;
        let operands = op.operands();
        types::check(op, &operands)?;
        let _locks = self.host.lock(op.name(), &operands)?;
        self.host.counters().count_op();
        self.dispatch(op)
    }

    fn packed(&self, layout: Layout, dtype: DType, rows: usize, cols: usize) -> usize {
        packed_elements(self.engine.panel(), layout, dtype, rows, cols)
    }

    fn usage(&self) -> Usage {
        let working = self.engine.blocks.bytes();
        Usage { working, ..self.host.counters().usage(Cost::default()) }
    }
}

impl Cpu {
    fn f32(&self, view: &View) -> Mat<f32> {
        self.host.mat(view)
    }

    fn u32(&self, view: &View) -> Mat<u32> {
        self.host.mat(view)
    }

    /// A matrix of f32 or bf16.
    fn any(&self, view: &View) -> Any {
        match view.dtype() {
            DType::BF16 => Any::Bf16(self.host.mat(view)),
            _ => Any::F32(self.host.mat(view)),
        }
    }

    /// The panels of a weight for products of a layout.
    fn panels(
        &self,
        op: &'static str,
        packed: &Option<View>,
        layout: Layout,
        weight: &View,
    ) -> Result<Option<Packed>, Error> {
        let Some(view) = packed else { return Ok(None) };
        let (rows, cols) = (weight.rows(), weight.cols());
        let elements = self.packed(layout, weight.dtype(), rows, cols);
        // what there is no packed form of is read as it is
        if elements == 0 && view.is_empty() {
            return Ok(None);
        }
        if layout == Layout::TN || view.len() != elements || !view.is_dense() {
            let found = format!("{} x {} elements", view.rows(), view.cols());
            let expected = format!("the {elements} of a {rows} x {cols} weight in {layout:?}");
            return Err(Error::Shape { op, operand: "packed", found, expected });
        }
        let n = if layout == Layout::NT { rows } else { cols };
        let units = self.host.mat::<f32>(view).ptr;
        Ok(Some(Packed::whole(units, n, self.engine.panel())))
    }

    /// All integers of a T × 1 operand below a limit.
    fn below(
        &self,
        op: &'static str,
        operand: &'static str,
        view: &View,
        limit: impl Fn(usize) -> usize,
    ) -> Result<Mat<u32>, Error> {
        let mat = self.u32(view);
        for row in 0..mat.rows {
            // SAFETY: in range, under the op's locks.
            let (found, limit) = (unsafe { mat.get(row, 0) } as u64, limit(row) as u64);
            if found >= limit {
                return Err(Error::Index { op, operand, row, found, limit });
            }
        }
        Ok(mat)
    }

    fn dispatch(&self, op: &Op) -> Result<(), Error> {
        let (engine, f) = (&self.engine, |view: &View| self.f32(view));
        match op {
            Op::Fill(o) => self.fill(o),
            Op::Copy(o) => self.copy(o),
            Op::Add(o) => plain::sweep(engine, &plain::Add, [f(&o.a), f(&o.b)], [f(&o.out)]),
            Op::Axpy(o) => {
                let (x, out) = (f(&o.x), f(&o.out));
                plain::sweep(engine, &plain::Axpy(o.alpha as f32), [x, out], [out]);
            }
            Op::Scale(o) => {
                let out = f(&o.out);
                plain::sweep(engine, &plain::Scale(o.alpha as f32), [out], [out]);
            }
            Op::Normal(o) => plain::normal(engine, o, f(&o.out)),
            Op::Matmul(o) => {
                let (layout, a, b, out) = (o.layout, self.any(&o.a), self.any(&o.b), &o.out);
                let packed = self.panels("Matmul", &o.packed, layout, &o.b)?;
                let (plus, out) = (o.plus.as_ref().map(f), self.any(out));
                return Product { layout, a, b, packed, plus, out }.run(engine);
            }
            Op::Pack(o) => return self.pack(o),
            Op::AddBias(o) => either!(self.any(&o.bias), bias => {
                either!(self.any(&o.out), out => plain::add_bias(engine, bias, out))
            }),
            Op::BiasBackward(o) => {
                let dbias = f(&o.dbias);
                return either!(self.any(&o.dy), dy => norm::bias_backward(engine, dy, dbias));
            }
            Op::SumInRankOrder(o) => {
                let parts: Vec<Mat<f32>> = o.parts.iter().map(f).collect();
                plain::sum_in_order(engine, &parts, f(&o.out));
            }
            Op::LogSumExp(o) => rows::log_sum_exp(engine, f(&o.x), f(&o.out)),
            Op::ArgMax(o) => rows::arg_max(engine, f(&o.x), self.u32(&o.out)),
            Op::SumSquares(o) => {
                let sum = rows::sum_squares(engine, f(&o.x))?;
                let old = if o.accumulate { self.scalar(&o.out) } else { 0.0 };
                self.set_scalar(&o.out, old + sum);
            }
            Op::AdamW(o) => self.adamw(o),
            Op::LossHead(_) | Op::LossHeadBackward(_) | Op::LossHeadFused(_) => {
                return self.loss_head(op);
            }
            // in which element type activations are is decided once for the whole op
            _ if is_bf16(op) => return self.layer::<bf16>(op),
            _ => return self.layer::<f32>(op),
        }
        Ok(())
    }

    /// The ops of a layer, whose activations are of one type.
    fn layer<E: pack::Native>(&self, op: &Op) -> Result<(), Error> {
        let (engine, name, f) = (&self.engine, op.name(), |view: &View| self.f32(view));
        let e = |view: &View| self.host.mat::<E>(view);
        match op {
            Op::RmsNorm(o) => {
                let (x, weight, out, rstd) = (f(&o.x), e(&o.weight), e(&o.out), f(&o.rstd));
                norm::Forward { x, weight, out, rstd, epsilon: o.epsilon }.run(engine);
            }
            Op::RmsNormBackward(o) => {
                let (x, weight, rstd, dy) = (f(&o.x), e(&o.weight), f(&o.rstd), e(&o.dy));
                let (dx, dweight) = (f(&o.dx), o.dweight.as_ref().map(f));
                let accumulate = o.accumulate;
                norm::Backward { x, weight, rstd, dy, dx, dweight, accumulate }.run(engine)?;
            }
            Op::SwiGlu(o) => {
                plain::sweep(engine, &plain::SwiGlu, [e(&o.gate), e(&o.up)], [e(&o.out)]);
            }
            Op::SwiGluBackward(o) => {
                let inputs = [&o.gate, &o.up, &o.dout].map(e);
                let [dgate, dup] = [&o.dgate, &o.dup].map(e);
                let work = plain::SwiGluBackward;
                match &o.out {
                    Some(out) => plain::sweep(engine, &work, inputs, [dgate, dup, e(out)]),
                    None => plain::sweep(engine, &work, inputs, [dgate, dup]),
                }
            }
            Op::Rope(o) => {
                let positions = self.below(name, "positions", &o.positions, |_| o.table.rows())?;
                let (x, table, inverse) = (e(&o.x), f(&o.table), o.inverse);
                rope::Rope { x, positions, table, inverse }.run(engine);
            }
            Op::Attention(o) => attention::forward(engine, self.attention::<E>(o)?)?,
            Op::AttentionBackward(o) => self.attention_backward::<E>(o)?,
            Op::Embed(o) => {
                let ids = self.below(name, "ids", &o.ids, |_| o.vocab)?;
                either!(self.any(&o.out), out => {
                    ends::embed(engine, ids, e(&o.table), o.vocab_start, out);
                });
            }
            Op::EmbedBackward(o) => {
                let ids = self.below(name, "ids", &o.ids, |_| o.vocab)?;
                either!(self.any(&o.dout), dout => {
                    ends::embed_backward(engine, ids, dout, o.vocab_start, f(&o.dtable));
                });
            }
            _ => unreachable!("{name} is dispatched above"),
        }
        Ok(())
    }

    fn loss_head(&self, op: &Op) -> Result<(), Error> {
        let (engine, name, f) = (&self.engine, op.name(), |view: &View| self.f32(view));
        let panels = |weight: &View, nt: &Option<View>, nn: &Option<View>| {
            let nt = self.panels(name, nt, Layout::NT, weight)?;
            Ok::<_, Error>([nt, self.panels(name, nn, Layout::NN, weight)?])
        };
        match op {
            Op::LossHead(o) => {
                let targets = self.below(name, "targets", &o.targets, |_| o.vocab)?;
                let packed = panels(&o.weight, &o.packed, &None)?;
                let (hidden, weight) = (self.any(&o.hidden), self.any(&o.weight));
                let (start, lse) = (o.vocab_start, f(&o.lse));
                let head = ends::Head { hidden, weight, packed, targets, start, lse };
                head.forward(engine, f(&o.target_logit))
            }
            Op::LossHeadBackward(o) => {
                let targets = self.below(name, "targets", &o.targets, |_| o.vocab)?;
                let packed = panels(&o.weight, &o.packed, &o.packed_turned)?;
                let (hidden, weight) = (self.any(&o.hidden), self.any(&o.weight));
                let (start, lse) = (o.vocab_start, f(&o.lse));
                let head = ends::Head { hidden, weight, packed, targets, start, lse };
                head.backward(engine, self.head_gradients(&o.weights, &o.dhidden, &o.dweight))
            }
            Op::LossHeadFused(o) => {
                let targets = self.below(name, "targets", &o.targets, |_| o.weight.rows())?;
                let packed = panels(&o.weight, &o.packed, &o.packed_turned)?;
                let (hidden, weight) = (self.any(&o.hidden), self.any(&o.weight));
                let (start, lse) = (0, f(&o.lse));
                let head = ends::Head { hidden, weight, packed, targets, start, lse };
                let gradients = self.head_gradients(&o.weights, &o.dhidden, &o.dweight);
                head.fused(engine, f(&o.target_logit), gradients)
            }
            _ => unreachable!("{name} is dispatched above"),
        }
    }

    fn pack(&self, o: &Pack) -> Result<(), Error> {
        if self.panels("Pack", &Some(o.out.clone()), o.layout, &o.x)?.is_none() {
            return Ok(());
        }
        let (b, to) = (self.any(&o.x), self.host.mat::<f32>(&o.out).ptr);
        let (n, k) = match o.layout {
            Layout::NT => (b.rows(), b.cols()),
            Layout::NN | Layout::TN => (b.cols(), b.rows()),
        };
        // of the product only the right operand and the shape of the output matter
        let none = Mat { ptr: std::ptr::dangling_mut::<f32>(), rows: 0, cols: n, stride: n };
        let a = match o.layout {
            Layout::TN => Mat { rows: k, ..none },
            Layout::NT | Layout::NN => Mat { cols: k, ..none },
        };
        let (a, out, pairs) = (Any::F32(a), Any::F32(none), matches!(b, Any::Bf16(_)));
        let product = Product { layout: o.layout, a, b, packed: None, plus: None, out };
        product.pack(&self.engine, pairs, to);
        Ok(())
    }

    fn fill(&self, o: &Fill) {
        let (engine, value) = (&self.engine, o.value);
        match o.out.dtype() {
            DType::F32 => plain::fill(engine, self.f32(&o.out), value as f32),
            DType::F64 => plain::set(engine, self.host.mat(&o.out), value),
            DType::U32 => plain::set(engine, self.u32(&o.out), value as u32),
            DType::BF16 => plain::set(engine, self.host.mat(&o.out), to_bf16(value)),
        }
    }

    fn copy(&self, o: &Copy) {
        macro_rules! convert {
            ($($from:ident $a:ty, $to:ident $b:ty, $f:expr;)*) => {
                match (o.x.dtype(), o.out.dtype()) {
                    (DType::F32, DType::BF16) => {
                        plain::copy(&self.engine, self.f32(&o.x), self.host.mat::<bf16>(&o.out))
                    }
                    (DType::BF16, DType::F32) => {
                        plain::copy(&self.engine, self.host.mat::<bf16>(&o.x), self.f32(&o.out))
                    }
                    $((DType::$from, DType::$to) => {
                        let (x, out) = (self.host.mat::<$a>(&o.x), self.host.mat::<$b>(&o.out));
                        plain::convert(&self.engine, x, out, $f)
                    })*
                    (from, to) => unreachable!("copy of {from} to {to} is refused by the check"),
                }
            };
        }
        convert! {
            F32 f32, F32 f32, |x| x;
            F32 f32, F64 f64, |x| x as f64;
            F64 f64, F64 f64, |x| x;
            F64 f64, F32 f32, |x| x as f32;
            F64 f64, BF16 bf16, to_bf16;
            BF16 bf16, BF16 bf16, |x| x;
            BF16 bf16, F64 f64, bf16::to_f64;
            U32 u32, U32 u32, |x| x;
        }
    }

    fn attention<E: pack::Native>(&self, o: &Attention) -> Result<Shape<E>, Error> {
        let last = |row| o.query_offset + row + 1;
        let starts = self.below("Attention", "starts", &o.starts, last)?;
        let [q, k, v, out] = [&o.q, &o.k, &o.v, &o.out].map(|v| self.host.mat(v));
        let (offset, scale, lse) = (o.query_offset, o.scale as f32, self.f32(&o.lse));
        let (heads, kv_heads) = (o.heads, o.kv_heads);
        Ok(Shape { q, k, v, starts, offset, heads, kv_heads, scale, out, lse })
    }

    fn attention_backward<E: pack::Native>(&self, o: &AttentionBackward) -> Result<(), Error> {
        let last = |row| o.query_offset + row + 1;
        let starts = self.below("AttentionBackward", "starts", &o.starts, last)?;
        let [q, k, v, out] = [&o.q, &o.k, &o.v, &o.out].map(|v| self.host.mat::<E>(v));
        let (offset, scale, lse) = (o.query_offset, o.scale as f32, self.f32(&o.lse));
        let (heads, kv_heads) = (o.heads, o.kv_heads);
        let shape = Shape { q, k, v, starts, offset, heads, kv_heads, scale, out, lse };
        let (dq, dout) = (self.any(&o.dq), self.host.mat(&o.dout));
        if o.dk.dtype() != DType::F32 {
            let rounded = [&o.dk, &o.dv].map(|v| self.host.mat::<E>(v));
            return attention_backward::backward_rounded(&self.engine, shape, dout, dq, rounded);
        }
        let [dk, dv] = [&o.dk, &o.dv].map(|v| self.f32(v));
        let accumulate = o.accumulate;
        let gradients = attention_backward::Gradients { dout, dq, dk, dv, accumulate };
        attention_backward::backward(&self.engine, shape, gradients)
    }

    fn head_gradients(
        &self,
        weights: &View,
        dhidden: &View,
        dweight: &Option<View>,
    ) -> ends::Gradients {
        let (weights, dhidden) = (self.f32(weights), self.any(dhidden));
        ends::Gradients { weights, dhidden, dweight: dweight.as_ref().map(|v| self.f32(v)) }
    }

    fn scalar(&self, view: &View) -> f64 {
        // SAFETY: a 1 × 1 operand of f64 or f32 (checked), under the op's locks.
        unsafe {
            match view.dtype() {
                DType::F64 => self.host.mat::<f64>(view).get(0, 0),
                _ => self.f32(view).get(0, 0) as f64,
            }
        }
    }

    fn set_scalar(&self, view: &View, value: f64) {
        // SAFETY: as above.
        unsafe {
            match view.dtype() {
                DType::F64 => self.host.mat::<f64>(view).set(0, 0, value),
                _ => self.f32(view).set(0, 0, value as f32),
            }
        }
    }

    fn adamw(&self, o: &AdamW) {
        let step = adamw::Step::of(o, o.gradient_scale.as_ref().map_or(1.0, |v| self.scalar(v)));
        let [master, gradient, first, second] =
            [&o.master, &o.gradient, &o.first, &o.second].map(|v| self.f32(v));
        match o.working.as_ref().map(|view| self.any(view)) {
            Some(Any::Bf16(working)) => {
                let working = Some(working);
                adamw::States { master, gradient, first, second, working }.run(&self.engine, step);
            }
            working => {
                let working =
                    working.and_then(|w| if let Any::F32(w) = w { Some(w) } else { None });
                adamw::States { master, gradient, first, second, working }.run(&self.engine, step);
            }
        }
    }
}

/// What [`Device::packed`] says where panels have `width` columns.
pub(crate) fn packed_elements(
    width: usize,
    layout: Layout,
    dtype: DType,
    rows: usize,
    cols: usize,
) -> usize {
    let (n, k) = if layout == Layout::NT { (rows, cols) } else { (cols, rows) };
    // f32 weights are twice as large, and packing them costs a hundredth of a step
    match dtype {
        DType::BF16 => product::packed_units(layout, n, k.div_ceil(2), width),
        _ => 0,
    }
}

/// Whether the activations of an op of a layer are bf16.
fn is_bf16(op: &Op) -> bool {
    let of = match op {
        Op::RmsNorm(o) => &o.out,
        Op::RmsNormBackward(o) => &o.dy,
        Op::SwiGlu(o) => &o.out,
        Op::SwiGluBackward(o) => &o.dout,
        Op::Rope(o) => &o.x,
        Op::Attention(o) => &o.q,
        Op::AttentionBackward(o) => &o.q,
        Op::Embed(o) => &o.table,
        _ => return false,
    };
    of.dtype() == DType::BF16
}
