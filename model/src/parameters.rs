//! The memory of weights and of gradients, and its views: a layer's matrices with q|k|v and gate|up
//! joined, as the matmuls want them. It is one flat range (with full sharding, stretches of it), or, of
//! weights that are only read, a place for each parameter, such as in a mapped file. Not an optimizer:
//! master weights and moments are the trainer's, over the same flat range.

use crate::Error;
use crate::table::{Entry, Kind, Table};
use quipu_math::{DType, Device, View};
use std::collections::BTreeMap;
use std::ops::Range;

/// A matrix (or a row of biases) whose outputs come in parts, one behind the other: a single part
/// where they lie together in memory.
#[derive(Clone, Debug)]
pub struct Joined(Vec<View>);

impl Joined {
    /// The parts, in the order of their outputs.
    pub fn parts(&self) -> &[View] {
        &self.0
    }

    /// All of it.
    ///
    /// # Errors
    /// Parts that lie apart.
    pub fn whole(&self) -> Result<&View, Error> {
        match &self.0[..] {
            [all] => Ok(all),
            parts => Err(Error::Call {
                what: "matrix",
                found: format!("{} parts that lie apart", parts.len()),
                expected: "weights in memory: Model::open, not Model::map".into(),
            }),
        }
    }
}

/// The matrices of one layer; biases only where the configuration has them.
#[derive(Clone, Debug)]
pub struct LayerViews {
    /// 1 × D.
    pub attention_norm: View,
    /// (H + 2·KV)·hd × D.
    pub qkv: Joined,
    /// 1 × (H + 2·KV)·hd.
    pub qkv_bias: Option<Joined>,
    /// D × H·hd.
    pub output: View,
    /// 1 × D.
    pub output_bias: Option<View>,
    /// 1 × D.
    pub feed_forward_norm: View,
    /// 2F × D.
    pub gate_up: Joined,
    /// 1 × 2F.
    pub gate_up_bias: Option<Joined>,
    /// D × F.
    pub down: View,
    /// 1 × D.
    pub down_bias: Option<View>,
}

impl LayerViews {
    /// What products read, where it lies together.
    pub(crate) fn matrices(&self) -> Result<[&View; 4], Error> {
        Ok([self.qkv.whole()?, &self.output, self.gate_up.whole()?, &self.down])
    }

    /// Norms and biases.
    pub(crate) fn vectors(&self) -> impl Iterator<Item = &View> {
        let joined = [&self.qkv_bias, &self.gate_up_bias].into_iter().flatten();
        let biases = [&self.output_bias, &self.down_bias].into_iter().flatten();
        let norms = [&self.attention_norm, &self.feed_forward_norm];
        norms.into_iter().chain(biases).chain(joined.flat_map(Joined::parts))
    }
}

/// Where the parameters lie.
#[derive(Clone, Debug)]
enum Memory {
    /// Stretches of the flat range, 1 × elements each. All of it is one; with full sharding they may
    /// lie in the same place, one at a time.
    Flat(Vec<(Range<usize>, View)>),
    /// Each for itself, by its offset in the flat range that they do not make.
    Apart(BTreeMap<usize, View>),
}

/// All parameters (weights, or gradients) and their views.
#[derive(Clone, Debug)]
pub struct Parameters {
    memory: Memory,
    /// V × D; on the first stage, as `final_norm` and `head` are on the last.
    pub embedding: Option<View>,
    /// One for each layer that is here.
    pub layers: Vec<LayerViews>,
    /// 1 × D.
    pub final_norm: Option<View>,
    /// V × D; the embedding itself where they are tied and it is here.
    pub head: Option<View>,
}

/// A parameter of an end of the model.
///
/// # Errors
/// A rank that does not have that end.
pub(crate) fn end<'a>(what: &'static str, view: &'a Option<View>) -> Result<&'a View, Error> {
    view.as_ref().ok_or_else(|| Error::Call {
        what,
        found: "another rank's".into(),
        expected: "a call on the rank that holds that stage".into(),
    })
}

impl Parameters {
    /// Zeroed memory for every parameter of `table`, as one flat range.
    ///
    /// # Errors
    /// What the device reports.
    pub fn allocate(device: &dyn Device, dtype: DType, table: &Table) -> Result<Parameters, Error> {
        let all = device.matrix(dtype, 1, table.elements())?;
        Parameters::stretches(table, vec![(0..table.elements(), all)])
    }

    /// Parameters that lie in stretches of the flat range.
    ///
    /// # Errors
    /// Stretches that do not hold all of the table.
    pub fn stretches(
        table: &Table,
        stretches: Vec<(Range<usize>, View)>,
    ) -> Result<Parameters, Error> {
        Parameters::of(Memory::Flat(stretches), table)
    }

    /// Parameters that lie wherever `place` says: rows × cols each.
    ///
    /// # Errors
    /// What `place` reports.
    pub fn apart(
        table: &Table,
        mut place: impl FnMut(&Entry) -> Result<View, Error>,
    ) -> Result<Parameters, Error> {
        let views = table.entries().iter().map(|entry| Ok((entry.offset, place(entry)?)));
        Parameters::of(Memory::Apart(views.collect::<Result<_, Error>>()?), table)
    }

    fn of(memory: Memory, table: &Table) -> Result<Parameters, Error> {
        let cut = Cut { memory: &memory, table };
        let embedding = cut.maybe(Kind::Embedding, None)?;
        let final_norm = cut.maybe(Kind::FinalNorm, None)?;
        let tied = || embedding.clone().filter(|_| final_norm.is_some());
        Ok(Parameters {
            layers: table
                .layer_numbers()
                .map(|layer| cut.layer(layer))
                .collect::<Result<_, _>>()?,
            head: cut.maybe(Kind::Head, None)?.or_else(tied),
            final_norm,
            embedding,
            memory,
        })
    }

    /// 1 × elements of the table.
    ///
    /// # Errors
    /// Parameters that lie apart.
    pub fn flat(&self) -> Result<&View, Error> {
        match &self.memory {
            Memory::Flat(stretches) => match &stretches[..] {
                [(_, all)] => Ok(all),
                _ => Err(Error::Call {
                    what: "flat range of weights",
                    found: "a model whose ranks share them out".into(),
                    expected: "one that holds all of them, or Model::own_weights".into(),
                }),
            },
            Memory::Apart(_) => Err(Error::Call {
                what: "flat range of weights",
                found: "a model that only reads them, each where it lies".into(),
                expected: "weights in memory: Model::open, not Model::map".into(),
            }),
        }
    }

    /// One of the stretches, or a part of one, 1 × its elements.
    ///
    /// # Errors
    /// Elements of several.
    pub fn stretch(&self, elements: Range<usize>) -> Result<View, Error> {
        self.memory.cut(elements)
    }

    /// One parameter as rows × cols.
    ///
    /// # Errors
    /// An entry of another table.
    pub fn parameter(&self, entry: &Entry) -> Result<View, Error> {
        self.memory.parameter(entry)
    }
}

impl Memory {
    fn parameter(&self, entry: &Entry) -> Result<View, Error> {
        match self {
            Memory::Flat(_) => Ok(self.cut(entry.range())?.reshape(entry.rows, entry.cols)?),
            Memory::Apart(views) => match views.get(&entry.offset) {
                Some(view) => Ok(view.reshape(entry.rows, entry.cols)?),
                None => {
                    let (name, shape) = (entry.name.clone(), entry.shape.clone());
                    Err(Error::Missing { name, shape })
                }
            },
        }
    }

    /// Elements of the flat range, 1 × their number.
    fn cut(&self, elements: Range<usize>) -> Result<View, Error> {
        let stretches = if let Memory::Flat(stretches) = self { &stretches[..] } else { &[] };
        let found = stretches
            .iter()
            .find(|(range, _)| range.start <= elements.start && elements.end <= range.end);
        let Some((range, view)) = found else {
            let (what, found) = ("elements of the flat range", format!("{elements:?}"));
            return Err(Error::Call { what, found, expected: "inside a stretch of it".into() });
        };
        Ok(view.slice_cols(elements.start - range.start..elements.end - range.start)?)
    }
}

struct Cut<'a> {
    memory: &'a Memory,
    table: &'a Table,
}

impl Cut<'_> {
    /// The matrix that neighbouring entries make together.
    fn join(&self, kinds: &[Kind], layer: Option<usize>) -> Result<Option<Joined>, Error> {
        let found: Vec<&Entry> =
            kinds.iter().flat_map(|kind| self.table.parts(*kind, layer)).collect();
        let (Some(first), Some(last)) = (found.first(), found.last()) else {
            return Ok(None);
        };
        let Memory::Flat(_) = self.memory else {
            let parts = found.iter().map(|entry| self.memory.parameter(entry));
            return Ok(Some(Joined(parts.collect::<Result<_, _>>()?)));
        };
        let span = first.offset..last.range().end;
        let cols = if first.rows == 1 { span.len() } else { first.cols };
        let whole = self.memory.cut(span.clone())?.reshape(span.len() / cols, cols)?;
        Ok(Some(Joined(vec![whole])))
    }

    fn maybe(&self, kind: Kind, layer: Option<usize>) -> Result<Option<View>, Error> {
        self.table.find(kind, layer).map(|entry| self.memory.parameter(entry)).transpose()
    }

    fn need(&self, kind: Kind, layer: Option<usize>) -> Result<View, Error> {
        self.maybe(kind, layer)?.ok_or_else(|| lacks(&[kind]))
    }

    fn layer(&self, layer: usize) -> Result<LayerViews, Error> {
        let at = Some(layer);
        let join = |kinds: &[Kind]| self.join(kinds, at)?.ok_or_else(|| lacks(kinds));
        Ok(LayerViews {
            attention_norm: self.need(Kind::AttentionNorm, at)?,
            qkv: join(&[Kind::Query, Kind::Key, Kind::Value])?,
            qkv_bias: self.join(&[Kind::QueryBias, Kind::KeyBias, Kind::ValueBias], at)?,
            output: self.need(Kind::Output, at)?,
            output_bias: self.maybe(Kind::OutputBias, at)?,
            feed_forward_norm: self.need(Kind::FeedForwardNorm, at)?,
            gate_up: join(&[Kind::Gate, Kind::Up])?,
            gate_up_bias: self.join(&[Kind::GateBias, Kind::UpBias], at)?,
            down: self.need(Kind::Down, at)?,
            down_bias: self.maybe(Kind::DownBias, at)?,
        })
    }
}

fn lacks(kinds: &[Kind]) -> Error {
    Error::Call {
        what: "parameter table",
        found: format!("without {kinds:?}"),
        expected: "every kind of a Llama".into(),
    }
}
