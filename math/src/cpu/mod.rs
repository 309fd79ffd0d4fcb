//! The `cpu` device: f32 kernels on this processor's vectors and on threads of its own. It computes in
//! f32; other types only pass through [`Copy`](crate::op::Copy). An op is finished when it returns.
//!
//! Same bits for any number of threads: sums have an order of their own, however work is cut.
#![allow(unsafe_code)]

mod attention;
mod attention_backward;
mod ends;
mod norm;
mod plain;
mod pool;
mod product;
mod rope;
mod rows;
mod scratch;
mod simd;

use std::sync::Mutex;

use half::bf16;

pub use simd::Instructions;
pub(crate) use simd::{Kernel, Simd};

use crate::buffer::Buffer;
use crate::cost::Cost;
use crate::device::{Device, Queue, Usage};
use crate::dtype::DType;
use crate::error::Error;
use crate::host::{Host, Mat};
use crate::op::*;
use crate::operand::Operand;
use crate::view::View;
use attention::Shape;
use pool::Pool;
use product::Product;
use scratch::{Block, Scratch};

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
    free: Mutex<Vec<Block>>,
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
        let engine = Engine { set, pool: Pool::new(threads), free: Mutex::default() };
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

    /// Refuses what there is no kernel for.
    fn supports(&self, op: &Op, operands: &[Operand]) -> Result<(), Error> {
        let any = matches!(op, Op::Copy(_) | Op::Fill(_));
        for o in operands {
            let found = o.view.dtype();
            let expected = match (op, o.name) {
                _ if any => continue,
                (Op::SumSquares(_), "out") | (Op::AdamW(_), "gradient_scale") => "f32 and f64",
                (Op::AdamW(_), "working") => "f32 and bf16",
                _ => "f32",
            };
            let fits = match found {
                DType::F32 | DType::U32 => true,
                DType::F64 => expected.contains("f64"),
                DType::BF16 => expected.contains("bf16"),
            };
            if !fits {
                let (device, op) = ("cpu".to_string(), op.name());
                return Err(Error::Unsupported { device, op, operand: o.name, found, expected });
            }
        }
        Ok(())
    }
}

impl Engine {
    fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Columns of a packed panel.
    fn panel(&self) -> usize {
        match self.set {
            Instructions::Avx512 => 32,
            Instructions::Avx2 | Instructions::Portable => 16,
        }
    }

    /// Rows of a register tile.
    fn tile(&self) -> usize {
        match self.set {
            Instructions::Avx512 => 14,
            Instructions::Avx2 => 6,
            Instructions::Portable => 3,
        }
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
        Scratch::take(&self.free, floats)
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

    fn write(&self, _: Queue, view: &View, bytes: &[u8]) -> Result<(), Error> {
        self.host.write(view, bytes)
    }

    fn read(&self, _: Queue, view: &View, bytes: &mut [u8]) -> Result<(), Error> {
        self.host.read(view, bytes)
    }

    fn run(&self, _: Queue, op: &Op) -> Result<(), Error> {
        op.check()?;
        let operands = op.operands();
        self.supports(op, &operands)?;
        let _locks = self.host.lock(op.name(), &operands)?;
        self.host.counters().count_op();
        self.dispatch(op)
    }

    fn usage(&self) -> Usage {
        self.host.counters().usage(Cost::default())
    }
}

impl Cpu {
    fn f32(&self, view: &View) -> Mat<f32> {
        self.host.mat(view)
    }

    fn u32(&self, view: &View) -> Mat<u32> {
        self.host.mat(view)
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
                let (a, b, out) = (f(&o.a), f(&o.b), f(&o.out));
                let product = Product { layout: o.layout, a, b, out, accumulate: o.accumulate };
                return product.run(engine);
            }
            Op::AddBias(o) => plain::add_bias(engine, f(&o.bias), f(&o.out)),
            Op::BiasBackward(o) => return norm::bias_backward(engine, f(&o.dy), f(&o.dbias)),
            Op::RmsNorm(o) => {
                let (x, weight, out, rstd) = (f(&o.x), f(&o.weight), f(&o.out), f(&o.rstd));
                norm::Forward { x, weight, out, rstd, epsilon: o.epsilon }.run(engine);
            }
            Op::RmsNormBackward(o) => return self.rms_norm_backward(o),
            Op::SwiGlu(o) => {
                plain::sweep(engine, &plain::SwiGlu, [f(&o.gate), f(&o.up)], [f(&o.out)]);
            }
            Op::SwiGluBackward(o) => self.swiglu_backward(o),
            Op::SumInRankOrder(o) => {
                let parts: Vec<Mat<f32>> = o.parts.iter().map(f).collect();
                plain::sum_in_order(engine, &parts, f(&o.out));
            }
            Op::LogSumExp(o) => rows::log_sum_exp(engine, f(&o.x), f(&o.out)),
            Op::ArgMax(o) => rows::arg_max(engine, f(&o.x), self.u32(&o.out)),
            _ => return self.dispatch_fallible(op),
        }
        Ok(())
    }

    /// Ops that read integers or scalars from memory, or need working memory.
    fn dispatch_fallible(&self, op: &Op) -> Result<(), Error> {
        let (engine, name, f) = (&self.engine, op.name(), |view: &View| self.f32(view));
        match op {
            Op::Rope(o) => {
                let positions = self.below(name, "positions", &o.positions, |_| o.table.rows())?;
                let (x, table, inverse) = (f(&o.x), f(&o.table), o.inverse);
                rope::Rope { x, positions, table, inverse }.run(engine);
            }
            Op::Attention(o) => self.attention(o)?,
            Op::AttentionBackward(o) => self.attention_backward(o)?,
            Op::Embed(o) => {
                let ids = self.below(name, "ids", &o.ids, |_| o.vocab)?;
                ends::embed(engine, ids, f(&o.table), o.vocab_start, f(&o.out));
            }
            Op::EmbedBackward(o) => {
                let ids = self.below(name, "ids", &o.ids, |_| o.vocab)?;
                ends::embed_backward(engine, ids, f(&o.dout), o.vocab_start, f(&o.dtable));
            }
            Op::LossHead(o) => {
                let targets = self.below(name, "targets", &o.targets, |_| o.vocab)?;
                let (hidden, weight, start) = (f(&o.hidden), f(&o.weight), o.vocab_start);
                let head = ends::Head { hidden, weight, targets, start, lse: f(&o.lse) };
                head.forward(engine, f(&o.target_logit))?;
            }
            Op::LossHeadBackward(o) => {
                let targets = self.below(name, "targets", &o.targets, |_| o.vocab)?;
                let (hidden, weight, start) = (f(&o.hidden), f(&o.weight), o.vocab_start);
                let head = ends::Head { hidden, weight, targets, start, lse: f(&o.lse) };
                head.backward(engine, self.head_gradients(&o.weights, &o.dhidden, &o.dweight))?;
            }
            Op::LossHeadFused(o) => {
                let targets = self.below(name, "targets", &o.targets, |_| o.weight.rows())?;
                let (hidden, weight) = (f(&o.hidden), f(&o.weight));
                let head = ends::Head { hidden, weight, targets, start: 0, lse: f(&o.lse) };
                let gradients = self.head_gradients(&o.weights, &o.dhidden, &o.dweight);
                head.fused(engine, f(&o.target_logit), gradients)?;
            }
            Op::SumSquares(o) => {
                let sum = rows::sum_squares(engine, f(&o.x))?;
                let old = if o.accumulate { self.scalar(&o.out) } else { 0.0 };
                self.set_scalar(&o.out, old + sum);
            }
            Op::AdamW(o) => self.adamw(o),
            _ => unreachable!("{name} is dispatched above"),
        }
        Ok(())
    }

    fn fill(&self, o: &Fill) {
        let (engine, value) = (&self.engine, o.value);
        match o.out.dtype() {
            DType::F32 => plain::fill(engine, self.f32(&o.out), value as f32),
            DType::F64 => plain::set(engine, self.host.mat(&o.out), value),
            DType::U32 => plain::set(engine, self.u32(&o.out), value as u32),
            DType::BF16 => plain::set(engine, self.host.mat(&o.out), bf16::from_f64(value)),
        }
    }

    fn copy(&self, o: &Copy) {
        macro_rules! convert {
            ($($from:ident $a:ty, $to:ident $b:ty, $f:expr;)*) => {
                match (o.x.dtype(), o.out.dtype()) {
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
            F32 f32, BF16 bf16, bf16::from_f32;
            F64 f64, F64 f64, |x| x;
            F64 f64, F32 f32, |x| x as f32;
            F64 f64, BF16 bf16, bf16::from_f64;
            BF16 bf16, BF16 bf16, |x| x;
            BF16 bf16, F32 f32, bf16::to_f32;
            BF16 bf16, F64 f64, bf16::to_f64;
            U32 u32, U32 u32, |x| x;
        }
    }

    fn rms_norm_backward(&self, o: &RmsNormBackward) -> Result<(), Error> {
        norm::Backward {
            x: self.f32(&o.x),
            weight: self.f32(&o.weight),
            rstd: self.f32(&o.rstd),
            dy: self.f32(&o.dy),
            dx: self.f32(&o.dx),
            dweight: o.dweight.as_ref().map(|v| self.f32(v)),
            accumulate: o.accumulate,
        }
        .run(&self.engine)
    }

    fn swiglu_backward(&self, o: &SwiGluBackward) {
        let inputs = [&o.gate, &o.up, &o.dout].map(|v| self.f32(v));
        let [dgate, dup] = [&o.dgate, &o.dup].map(|v| self.f32(v));
        let (engine, work) = (&self.engine, plain::SwiGluBackward);
        match &o.out {
            Some(out) => plain::sweep(engine, &work, inputs, [dgate, dup, self.f32(out)]),
            None => plain::sweep(engine, &work, inputs, [dgate, dup]),
        }
    }

    fn attention(&self, o: &Attention) -> Result<(), Error> {
        let last = |row| o.query_offset + row + 1;
        let starts = self.below("Attention", "starts", &o.starts, last)?;
        let [q, k, v, out, lse] = [&o.q, &o.k, &o.v, &o.out, &o.lse].map(|v| self.f32(v));
        let (offset, scale) = (o.query_offset, o.scale as f32);
        let (heads, kv_heads) = (o.heads, o.kv_heads);
        let shape = Shape { q, k, v, starts, offset, heads, kv_heads, scale, out, lse };
        attention::forward(&self.engine, shape)
    }

    fn attention_backward(&self, o: &AttentionBackward) -> Result<(), Error> {
        let last = |row| o.query_offset + row + 1;
        let starts = self.below("AttentionBackward", "starts", &o.starts, last)?;
        let [q, k, v, out, lse] = [&o.q, &o.k, &o.v, &o.out, &o.lse].map(|v| self.f32(v));
        let (offset, scale) = (o.query_offset, o.scale as f32);
        let (heads, kv_heads) = (o.heads, o.kv_heads);
        let shape = Shape { q, k, v, starts, offset, heads, kv_heads, scale, out, lse };
        let [dout, dq, dk, dv] = [&o.dout, &o.dq, &o.dk, &o.dv].map(|v| self.f32(v));
        let gradients =
            attention_backward::Gradients { dout, dq, dk, dv, accumulate: o.accumulate };
        attention_backward::backward(&self.engine, shape, gradients)
    }

    fn head_gradients(
        &self,
        weights: &View,
        dhidden: &View,
        dweight: &Option<View>,
    ) -> ends::Gradients {
        let (weights, dhidden) = (self.f32(weights), self.f32(dhidden));
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
        let step = plain::Step::of(o, o.gradient_scale.as_ref().map_or(1.0, |v| self.scalar(v)));
        let [p, g, first, second] =
            [&o.master, &o.gradient, &o.first, &o.second].map(|v| self.f32(v));
        let (engine, inputs) = (&self.engine, [p, g, first, second]);
        match &o.working {
            None => plain::sweep(engine, &step, inputs, [p, first, second]),
            Some(w) if w.dtype() == DType::F32 => {
                plain::sweep(engine, &step, inputs, [p, first, second, self.f32(w)]);
            }
            Some(w) => {
                plain::sweep(engine, &step, inputs, [p, first, second]);
                plain::convert(engine, p, self.host.mat::<bf16>(w), bf16::from_f32);
            }
        }
    }
}
