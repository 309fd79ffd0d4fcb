//! The flat memory of weights and of gradients, and its views: a layer's matrices with q|k|v and
//! gate|up joined, as the matmuls want them. Not an optimizer: master weights and moments are the
//! trainer's, over the same flat range.

use crate::Error;
use crate::table::{Entry, Kind, Table};
use quipu_math::{DType, Device, View};

/// The matrices of one layer; biases only where the configuration has them.
#[derive(Clone, Debug)]
pub struct LayerViews {
    /// 1 × D.
    pub attention_norm: View,
    /// (H + 2·KV)·hd × D.
    pub qkv: View,
    /// 1 × (H + 2·KV)·hd.
    pub qkv_bias: Option<View>,
    /// D × H·hd.
    pub output: View,
    /// 1 × D.
    pub output_bias: Option<View>,
    /// 1 × D.
    pub feed_forward_norm: View,
    /// 2F × D.
    pub gate_up: View,
    /// 1 × 2F.
    pub gate_up_bias: Option<View>,
    /// D × F.
    pub down: View,
    /// 1 × D.
    pub down_bias: Option<View>,
}

impl LayerViews {
    /// What products read.
    pub(crate) fn matrices(&self) -> [&View; 4] {
        [&self.qkv, &self.output, &self.gate_up, &self.down]
    }

    /// Norms and biases.
    pub(crate) fn vectors(&self) -> impl Iterator<Item = &View> {
        let biases = [&self.qkv_bias, &self.output_bias, &self.gate_up_bias, &self.down_bias];
        let norms = [&self.attention_norm, &self.feed_forward_norm];
        norms.into_iter().chain(biases.into_iter().flatten())
    }
}

/// A flat range in table order (weights, or gradients) and its views.
#[derive(Clone, Debug)]
pub struct Flat {
    /// 1 × elements of the table.
    pub flat: View,
    /// V × D.
    pub embedding: View,
    /// One for each layer.
    pub layers: Vec<LayerViews>,
    /// 1 × D.
    pub final_norm: View,
    /// V × D; the embedding itself where they are tied.
    pub head: View,
}

impl Flat {
    /// Zeroed memory for every parameter of `table`.
    ///
    /// # Errors
    /// What the device reports.
    pub fn allocate(device: &dyn Device, dtype: DType, table: &Table) -> Result<Flat, Error> {
        let flat = device.matrix(dtype, 1, table.elements())?;
        let cut = Cut { flat: &flat, table };
        let embedding = cut.need(&[Kind::Embedding], None)?;
        Ok(Flat {
            layers: (0..table.layers()).map(|layer| cut.layer(layer)).collect::<Result<_, _>>()?,
            final_norm: cut.need(&[Kind::FinalNorm], None)?,
            head: cut.maybe(&[Kind::Head], None)?.unwrap_or_else(|| embedding.clone()),
            embedding,
            flat,
        })
    }

    /// One parameter as rows × cols.
    ///
    /// # Errors
    /// An entry of another table.
    pub fn parameter(&self, entry: &Entry) -> Result<View, Error> {
        let span = self.flat.slice_cols(entry.range())?;
        Ok(span.reshape(entry.rows, entry.cols)?)
    }
}

struct Cut<'a> {
    flat: &'a View,
    table: &'a Table,
}

impl Cut<'_> {
    /// The matrix that neighbouring entries make together.
    fn maybe(&self, kinds: &[Kind], layer: Option<usize>) -> Result<Option<View>, Error> {
        let found: Vec<&Entry> =
            kinds.iter().filter_map(|kind| self.table.find(*kind, layer)).collect();
        let (Some(first), Some(last)) = (found.first(), found.last()) else {
            return Ok(None);
        };
        let span = first.offset..last.range().end;
        let cols = if first.rows == 1 { span.len() } else { first.cols };
        Ok(Some(self.flat.slice_cols(span.clone())?.reshape(span.len() / cols, cols)?))
    }

    fn need(&self, kinds: &[Kind], layer: Option<usize>) -> Result<View, Error> {
        self.maybe(kinds, layer)?.ok_or_else(|| Error::Call {
            what: "parameter table",
            found: format!("without {kinds:?}"),
            expected: "every kind of a Llama".into(),
        })
    }

    fn layer(&self, layer: usize) -> Result<LayerViews, Error> {
        let at = Some(layer);
        Ok(LayerViews {
            attention_norm: self.need(&[Kind::AttentionNorm], at)?,
            qkv: self.need(&[Kind::Query, Kind::Key, Kind::Value], at)?,
            qkv_bias: self.maybe(&[Kind::QueryBias, Kind::KeyBias, Kind::ValueBias], at)?,
            output: self.need(&[Kind::Output], at)?,
            output_bias: self.maybe(&[Kind::OutputBias], at)?,
            feed_forward_norm: self.need(&[Kind::FeedForwardNorm], at)?,
            gate_up: self.need(&[Kind::Gate, Kind::Up], at)?,
            gate_up_bias: self.maybe(&[Kind::GateBias, Kind::UpBias], at)?,
            down: self.need(&[Kind::Down], at)?,
            down_bias: self.maybe(&[Kind::DownBias], at)?,
        })
    }
}
