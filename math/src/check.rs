//! One place where an op is held against its rules before any device runs it: types, shapes,
//! scalars, aliasing. Not the numbers in memory (ids, positions, starts): a device finds those.

use crate::dtype::DType;
use crate::error::Error;
use crate::op::*;
use crate::operand::Operand;
use crate::view::View;

impl Op {
    /// Checks everything that can be known without reading memory.
    ///
    /// # Errors
    /// [`Error::Type`], [`Error::Shape`] or [`Error::Alias`], naming op, operand, what was found
    /// and what was expected.
    pub fn check(&self) -> Result<(), Error> {
        let operands = self.operands();
        let rules = Rules { op: self.name() };
        rules.types(self, &operands)?;
        self.shapes(&rules)?;
        rules.aliases(self, &operands)
    }

    fn shapes(&self, rules: &Rules) -> Result<(), Error> {
        match self {
            Op::Fill(_) | Op::Scale(_) | Op::Normal(_) => Ok(()),
            Op::Copy(o) => rules.like("out", &o.out, &o.x),
            Op::Add(o) => {
                rules.like("b", &o.b, &o.a)?;
                rules.like("out", &o.out, &o.a)
            }
            Op::Axpy(o) => rules.like("out", &o.out, &o.x),
            Op::Matmul(o) => {
                rules.matmul(o)?;
                rules.option("plus", &o.plus, o.out.rows(), o.out.cols())
            }
            Op::Pack(o) => rules.shape("out", &o.out, 1, o.out.cols()),
            Op::AddBias(o) => rules.shape("bias", &o.bias, 1, o.out.cols()),
            Op::BiasBackward(o) => rules.shape("dbias", &o.dbias, 1, o.dy.cols()),
            Op::RmsNorm(o) => {
                rules.shape("weight", &o.weight, 1, o.x.cols())?;
                rules.like("out", &o.out, &o.x)?;
                rules.scalars("rstd", &o.rstd, o.x.rows())?;
                rules.at_least("epsilon", o.epsilon, 0.0)
            }
            Op::RmsNormBackward(o) => {
                rules.shape("weight", &o.weight, 1, o.x.cols())?;
                rules.scalars("rstd", &o.rstd, o.x.rows())?;
                rules.like("dy", &o.dy, &o.x)?;
                rules.like("dx", &o.dx, &o.x)?;
                rules.option("dweight", &o.dweight, 1, o.x.cols())
            }
            Op::Rope(o) => rules.rope(o),
            Op::SwiGlu(o) => {
                rules.like("up", &o.up, &o.gate)?;
                rules.like("out", &o.out, &o.gate)
            }
            Op::SwiGluBackward(o) => {
                for (name, view) in
                    [("up", &o.up), ("dout", &o.dout), ("dgate", &o.dgate), ("dup", &o.dup)]
                {
                    rules.like(name, view, &o.gate)?;
                }
                rules.option("out", &o.out, o.gate.rows(), o.gate.cols())
            }
            Op::Attention(o) => {
                rules.attention(&AttentionShape::of(o), &o.k, &o.v, &o.starts)?;
                rules.like("out", &o.out, &o.q)?;
                rules.shape("lse", &o.lse, o.q.rows(), o.heads)
            }
            Op::AttentionBackward(o) => {
                rules.attention(&AttentionShape::of_backward(o), &o.k, &o.v, &o.starts)?;
                for (name, view, like) in [
                    ("out", &o.out, &o.q),
                    ("dout", &o.dout, &o.q),
                    ("dq", &o.dq, &o.q),
                    ("dk", &o.dk, &o.k),
                    ("dv", &o.dv, &o.k),
                ] {
                    rules.like(name, view, like)?;
                }
                rules.shape("lse", &o.lse, o.q.rows(), o.heads)
            }
            _ => self.shapes_of_ends(rules),
        }
    }

    /// Embedding, loss head, reductions, optimizer.
    fn shapes_of_ends(&self, rules: &Rules) -> Result<(), Error> {
        match self {
            Op::Embed(o) => {
                rules.vocabulary(&o.table, o.vocab_start, o.vocab)?;
                rules.shape("out", &o.out, o.ids.rows(), o.table.cols())?;
                rules.scalars("ids", &o.ids, o.out.rows())
            }
            Op::EmbedBackward(o) => {
                rules.vocabulary(&o.dtable, o.vocab_start, o.vocab)?;
                rules.shape("dout", &o.dout, o.ids.rows(), o.dtable.cols())?;
                rules.scalars("ids", &o.ids, o.dout.rows())
            }
            Op::LossHead(o) => {
                rules.vocabulary(&o.weight, o.vocab_start, o.vocab)?;
                rules.head(&o.hidden, &o.weight, &o.targets)?;
                rules.scalars("target_logit", &o.target_logit, o.hidden.rows())?;
                rules.scalars("lse", &o.lse, o.hidden.rows())
            }
            Op::LossHeadBackward(o) => {
                rules.vocabulary(&o.weight, o.vocab_start, o.vocab)?;
                rules.head(&o.hidden, &o.weight, &o.targets)?;
                rules.scalars("lse", &o.lse, o.hidden.rows())?;
                rules.scalars("weights", &o.weights, o.hidden.rows())?;
                rules.like("dhidden", &o.dhidden, &o.hidden)?;
                rules.option("dweight", &o.dweight, o.weight.rows(), o.weight.cols())
            }
            Op::LossHeadFused(o) => {
                rules.head(&o.hidden, &o.weight, &o.targets)?;
                rules.scalars("weights", &o.weights, o.hidden.rows())?;
                rules.scalars("target_logit", &o.target_logit, o.hidden.rows())?;
                rules.scalars("lse", &o.lse, o.hidden.rows())?;
                rules.like("dhidden", &o.dhidden, &o.hidden)?;
                rules.option("dweight", &o.dweight, o.weight.rows(), o.weight.cols())
            }
            Op::LogSumExp(o) => {
                rules.columns("x", &o.x)?;
                rules.scalars("out", &o.out, o.x.rows())
            }
            Op::ArgMax(o) => {
                rules.columns("x", &o.x)?;
                rules.scalars("out", &o.out, o.x.rows())
            }
            Op::SumSquares(o) => rules.shape("out", &o.out, 1, 1),
            Op::AdamW(o) => {
                for (name, view) in
                    [("gradient", &o.gradient), ("first", &o.first), ("second", &o.second)]
                {
                    rules.like(name, view, &o.master)?;
                }
                rules.option("working", &o.working, o.master.rows(), o.master.cols())?;
                rules.option("gradient_scale", &o.gradient_scale, 1, 1)?;
                rules.at_least("step", o.step as f64, 1.0)
            }
            Op::SumInRankOrder(o) => {
                if o.parts.is_empty() {
                    return rules.fail("parts", "empty".into(), "at least one view".into());
                }
                o.parts.iter().try_for_each(|part| rules.like("parts", part, &o.out))
            }
            _ => Ok(()),
        }
    }
}

/// The sizes that both directions of attention share.
pub(crate) struct AttentionShape {
    pub queries: usize,
    pub keys: usize,
    pub query_cols: usize,
    pub query_offset: usize,
    pub heads: usize,
    pub kv_heads: usize,
}

impl AttentionShape {
    pub(crate) fn of(o: &Attention) -> AttentionShape {
        AttentionShape {
            queries: o.q.rows(),
            keys: o.k.rows(),
            query_cols: o.q.cols(),
            query_offset: o.query_offset,
            heads: o.heads,
            kv_heads: o.kv_heads,
        }
    }

    pub(crate) fn of_backward(o: &AttentionBackward) -> AttentionShape {
        AttentionShape {
            queries: o.q.rows(),
            keys: o.k.rows(),
            query_cols: o.q.cols(),
            query_offset: o.query_offset,
            heads: o.heads,
            kv_heads: o.kv_heads,
        }
    }
}

struct Rules {
    op: &'static str,
}

impl Rules {
    fn fail(&self, operand: &'static str, found: String, expected: String) -> Result<(), Error> {
        Err(Error::Shape { op: self.op, operand, found, expected })
    }

    fn shape(
        &self,
        operand: &'static str,
        v: &View,
        rows: usize,
        cols: usize,
    ) -> Result<(), Error> {
        if (v.rows(), v.cols()) == (rows, cols) {
            return Ok(());
        }
        let found = format!("{} x {}", v.rows(), v.cols());
        self.fail(operand, found, format!("{rows} x {cols}"))
    }

    fn like(&self, operand: &'static str, v: &View, other: &View) -> Result<(), Error> {
        self.shape(operand, v, other.rows(), other.cols())
    }

    /// One number a row.
    fn scalars(&self, operand: &'static str, v: &View, rows: usize) -> Result<(), Error> {
        self.shape(operand, v, rows, 1)
    }

    fn option(
        &self,
        operand: &'static str,
        v: &Option<View>,
        rows: usize,
        cols: usize,
    ) -> Result<(), Error> {
        v.as_ref().map_or(Ok(()), |v| self.shape(operand, v, rows, cols))
    }

    fn columns(&self, operand: &'static str, v: &View) -> Result<(), Error> {
        if v.cols() > 0 || v.rows() == 0 {
            return Ok(());
        }
        self.fail(operand, "without columns".into(), "at least one column".into())
    }

    fn at_least(&self, operand: &'static str, found: f64, least: f64) -> Result<(), Error> {
        if found >= least {
            return Ok(());
        }
        self.fail(operand, found.to_string(), format!("at least {least}"))
    }

    fn matmul(&self, o: &Matmul) -> Result<(), Error> {
        let (m, n) = (o.out.rows(), o.out.cols());
        match o.layout {
            Layout::NT => {
                self.shape("a", &o.a, m, o.a.cols())?;
                self.shape("b", &o.b, n, o.a.cols())
            }
            Layout::NN => {
                self.shape("a", &o.a, m, o.a.cols())?;
                self.shape("b", &o.b, o.a.cols(), n)
            }
            Layout::TN => {
                self.shape("a", &o.a, o.a.rows(), m)?;
                self.shape("b", &o.b, o.a.rows(), n)
            }
        }
    }

    fn rope(&self, o: &Rope) -> Result<(), Error> {
        let hd = o.table.cols();
        if hd == 0 || !hd.is_multiple_of(2) {
            return self.fail("table", format!("{hd} columns"), "an even head dimension".into());
        }
        if !o.x.cols().is_multiple_of(hd) {
            let expected = format!("a multiple of the head dimension {hd}");
            return self.fail("x", format!("{} columns", o.x.cols()), expected);
        }
        self.scalars("positions", &o.positions, o.x.rows())
    }

    fn attention(
        &self,
        a: &AttentionShape,
        k: &View,
        v: &View,
        starts: &View,
    ) -> Result<(), Error> {
        if a.heads == 0 || a.query_cols == 0 || !a.query_cols.is_multiple_of(a.heads) {
            let expected = format!("a positive multiple of {} heads", a.heads);
            return self.fail("q", format!("{} columns", a.query_cols), expected);
        }
        if a.kv_heads == 0 || !a.heads.is_multiple_of(a.kv_heads) {
            let expected = format!("a divisor of {} heads", a.heads);
            return self.fail("kv_heads", a.kv_heads.to_string(), expected);
        }
        self.shape("k", k, a.keys, a.query_cols / a.heads * a.kv_heads)?;
        self.like("v", v, k)?;
        self.scalars("starts", starts, a.queries)?;
        match a.query_offset.checked_add(a.queries) {
            Some(end) if end <= a.keys => Ok(()),
            _ => {
                let found = format!("{} with {} queries", a.query_offset, a.queries);
                self.fail("query_offset", found, format!("an end inside {} keys", a.keys))
            }
        }
    }

    fn vocabulary(&self, table: &View, start: usize, vocab: usize) -> Result<(), Error> {
        match start.checked_add(table.rows()) {
            Some(end) if end <= vocab && vocab <= u32::MAX as usize => Ok(()),
            _ => {
                let found = format!("{start} with {} rows", table.rows());
                self.fail("vocab_start", found, format!("an end inside a vocabulary of {vocab}"))
            }
        }
    }

    fn head(&self, hidden: &View, weight: &View, targets: &View) -> Result<(), Error> {
        self.shape("weight", weight, weight.rows().max(1), hidden.cols())?;
        self.scalars("targets", targets, hidden.rows())
    }

    fn types(&self, op: &Op, operands: &[Operand]) -> Result<(), Error> {
        let (mut floats, mut integers) = (true, false);
        match op {
            Op::Fill(_) => integers = true,
            Op::Copy(o) if o.x.dtype() == DType::U32 => (floats, integers) = (false, true),
            _ => {}
        }
        for o in operands {
            let named = matches!(o.name, "ids" | "targets" | "positions" | "starts")
                || matches!(o.name, "packed" | "packed_turned")
                || (matches!(op, Op::ArgMax(_) | Op::Pack(_)) && o.name == "out");
            let (floats, integers) = if named { (false, true) } else { (floats, integers) };
            let found = o.view.dtype();
            if !(if found.is_float() { floats } else { integers }) {
                let expected = if floats { "f32, f64 or bf16" } else { "u32" };
                return Err(Error::Type { op: self.op, operand: o.name, found, expected });
            }
        }
        Ok(())
    }

    fn aliases(&self, op: &Op, operands: &[Operand]) -> Result<(), Error> {
        for (i, w) in operands.iter().enumerate().filter(|(_, w)| w.access.writes()) {
            for (j, other) in operands.iter().enumerate() {
                if i == j || !w.view.overlaps(other.view) {
                    continue;
                }
                // either side of a pair of written operands may be the one that is allowed
                let allowed = op.may_be(w.name, other.name)
                    || (other.access.writes() && op.may_be(other.name, w.name));
                if !(allowed && w.view.same(other.view)) {
                    let (op, written) = (self.op, w.name);
                    return Err(Error::Alias { op, written, other: other.name });
                }
            }
        }
        Ok(())
    }
}
