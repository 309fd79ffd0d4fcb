//! The one table of parameters: name, shape, place, kind, split, initial values, decay group.
//!
//! Forward, backward, sharding, checkpoints, the optimizer and the planner all read this table;
//! none keeps a list of its own. Parameters lie in one flat range in table order, each layer
//! contiguous; q, k and v are neighbours, and so are gate and up, so that each group is one matrix
//! to a matmul. The table of a rank has what it holds ([`Shard`]): for each parameter its part, and
//! where that lies in the whole. It is not memory: offsets count elements, whatever their type.

use crate::config::Config;
use crate::shard::{Among, Keys, Shard};
use quipu_mesh::Use;
use std::ops::Range;

/// What a parameter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The token embedding [V, D]; with tied embeddings the output head too.
    Embedding,
    /// Weight of the RMSNorm before attention \[D\].
    AttentionNorm,
    /// Query projection [H·hd, D].
    Query,
    /// Key projection [KV·hd, D].
    Key,
    /// Value projection [KV·hd, D].
    Value,
    /// Bias of the query projection [H·hd].
    QueryBias,
    /// Bias of the key projection [KV·hd].
    KeyBias,
    /// Bias of the value projection [KV·hd].
    ValueBias,
    /// Attention's output projection [D, H·hd].
    Output,
    /// Its bias \[D\].
    OutputBias,
    /// Weight of the RMSNorm before the feed-forward \[D\].
    FeedForwardNorm,
    /// Gate projection [F, D].
    Gate,
    /// Up projection [F, D].
    Up,
    /// Bias of the gate projection \[F\].
    GateBias,
    /// Bias of the up projection \[F\].
    UpBias,
    /// Down projection [D, F].
    Down,
    /// Its bias \[D\].
    DownBias,
    /// Weight of the last RMSNorm \[D\].
    FinalNorm,
    /// The output head [V, D], where it is not the embedding.
    Head,
}

/// How a parameter is divided over tensor-parallel ranks (paper §3.3.2; Megatron's split).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Every rank holds all of it.
    Replicated,
    /// Rows (outputs) are divided.
    Rows,
    /// Columns (inputs) are divided.
    Cols,
}

/// What a parameter is before training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
    /// All ones.
    Ones,
    /// All zeros.
    Zeros,
}

/// One parameter.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name in a Hugging Face checkpoint; the logical name in our own.
    pub name: String,
    /// What it is for.
    pub kind: Kind,
    /// Its number in the table of the whole model.
    pub index: usize,
    /// Its layer, where it belongs to one.
    pub layer: Option<usize>,
    /// Rows and columns of the part that is here; a vector has one row.
    pub rows: usize,
    /// See `rows`.
    pub cols: usize,
    /// Row and column of the whole parameter at which the part begins.
    pub first: (usize, usize),
    /// The whole parameter's shape in a checkpoint: \[rows, cols\] or, for a vector, \[cols\].
    pub shape: Vec<usize>,
    /// How tensor parallelism divides it.
    pub split: Split,
    /// What the ranks that hold the same numbers talk through; none where there is no other.
    pub shared: Option<Use>,
    /// Whether each of them has only a summand of its gradient.
    pub partial: bool,
    /// Whether it is this one of them that counts it in norms and writes it to checkpoints.
    pub counted: bool,
    /// Its initial values.
    pub init: Init,
    /// Whether weight decay applies: to matrices, the embedding included; not to norms and biases.
    pub decays: bool,
    /// First element in the flat range.
    pub offset: usize,
}

impl Entry {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.rows * self.cols
    }

    /// Its elements in the flat range.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.elements()
    }

    /// Columns of the whole parameter.
    pub fn whole_cols(&self) -> usize {
        self.shape[self.shape.len() - 1]
    }

    /// Where element number `i` of the part lies in the whole parameter.
    pub fn place(&self, i: usize) -> usize {
        let (row, col) = (i / self.cols, i % self.cols);
        (self.first.0 + row) * self.whole_cols() + self.first.1 + col
    }

    /// Whether the whole parameter is here.
    pub fn is_whole(&self) -> bool {
        self.shape.iter().product::<usize>() == self.elements()
    }
}

/// All parameters of a model, in flat order.
#[derive(Clone, Debug)]
pub struct Table {
    entries: Vec<Entry>,
    /// Number in the whole model, and range of entries, of each layer that is here.
    layers: Vec<(usize, Range<usize>)>,
    /// The embedding, each layer (by its number among those that are here), the final norm, the head.
    buckets: Vec<(Option<usize>, Range<usize>)>,
    elements: usize,
}

/// The part of a parameter that a rank holds.
struct Part {
    rows: Range<usize>,
    cols: Range<usize>,
    split: Split,
    shared: Option<Use>,
    partial: bool,
    counted: bool,
}

/// Groups of parameters begin at multiples of this many elements (a cache line of f32).
pub const ALIGNMENT: usize = 16;

/// Standard deviation of initial weights.
const STD: f64 = 0.02;

/// The parts of a layer's parameters, by how they are divided.
struct Parts<'a> {
    shard: &'a Shard,
    head_dim: usize,
}

impl Parts<'_> {
    /// Heads `range` as columns or rows.
    fn heads(&self, range: &Range<usize>) -> Range<usize> {
        range.start * self.head_dim..range.end * self.head_dim
    }

    /// Divided, each part on one rank.
    fn rows(&self, rows: Range<usize>, cols: usize) -> Part {
        let (split, cols) = (Split::Rows, 0..cols);
        Part { rows, cols, split, shared: None, partial: false, counted: true }
    }

    fn cols(&self, rows: usize, cols: Range<usize>) -> Part {
        let (split, rows) = (Split::Cols, 0..rows);
        Part { rows, cols, split, shared: None, partial: false, counted: true }
    }

    /// Of key-value heads that some ranks hold, `part` of whose columns or rows these are.
    fn keys(&self, ranks: &Range<usize>, part: Part) -> Part {
        let shared = (ranks.len() > 1).then_some(Use::SharedHeads);
        let counted = self.shard.tp.index == ranks.start;
        Part { shared, partial: shared.is_some(), counted, ..part }
    }

    /// A vector on every tensor-parallel rank. A norm sees the rows of its own rank, a bias that is
    /// added to the residual stream gets its gradient from all rows.
    fn everywhere(&self, cols: usize, partial: bool) -> Part {
        let Among { index, size } = self.shard.tp;
        let shared = (size > 1).then_some(Use::Replicated);
        let (rows, cols, split) = (0..1, 0..cols, Split::Replicated);
        let partial = partial && shared.is_some();
        Part { rows, cols, split, shared, partial, counted: index == 0 }
    }

    /// Embedding or head; one that is both lives on the first and on the last stage.
    fn vocabulary(&self, d: usize, tied: bool, counted: bool) -> Part {
        let apart = tied && self.shard.has_first() != self.shard.has_last();
        let shared = apart.then_some(Use::Tied);
        let part = self.rows(self.shard.vocab.clone(), d);
        Part { shared, partial: apart, counted, ..part }
    }
}

impl Table {
    /// The table of the whole of `config`.
    pub fn new(config: &Config) -> Table {
        Table::of(config, &Shard::whole(config))
    }

    /// The table of what a rank holds.
    pub fn of(config: &Config, shard: &Shard) -> Table {
        let (entries, layers, buckets) = (Vec::new(), Vec::new(), Vec::new());
        let mut table = Table { entries, layers, buckets, elements: 0 };
        let (d, tied) = (config.hidden_size, config.tied);
        let parts = Parts { shard, head_dim: config.head_dim };
        let embedding = "model.embed_tokens.weight";
        if shard.has_first() {
            let part = parts.vocabulary(d, tied, true);
            table.matrix(embedding, Kind::Embedding, None, (config.vocab_size, d), part, STD);
            table.close(None, shard);
        }
        for layer in shard.layers() {
            let first = table.entries.len();
            table.add_layer(config, &parts, layer);
            table.close(Some(table.layers.len()), shard);
            table.layers.push((layer, first..table.entries.len()));
        }
        if shard.has_last() {
            table.norm("model.norm.weight", Kind::FinalNorm, None, parts.everywhere(d, true));
            table.close(None, shard);
            if !tied || !shard.has_first() {
                let name = if tied { embedding } else { "lm_head.weight" };
                let part = parts.vocabulary(d, tied, !tied);
                table.matrix(name, Kind::Head, None, (config.vocab_size, d), part, STD);
                table.close(None, shard);
            }
        }
        table.number(config);
        table
    }

    /// Ends a bucket: it can be divided by the ranks that hold the same parameters.
    fn close(&mut self, layer: Option<usize>, shard: &Shard) {
        let start = self.buckets.last().map_or(0, |(_, range)| range.end);
        self.elements = self.elements.next_multiple_of(ALIGNMENT * shard.replicas);
        self.buckets.push((layer, start..self.elements));
    }

    fn add_layer(&mut self, config: &Config, parts: &Parts<'_>, layer: usize) {
        let (d, f) = (config.hidden_size, config.intermediate_size);
        let (q, kv) = (config.query_width(), config.kv_width());
        let heads = parts.heads(&parts.shard.heads);
        let keys = &parts.shard.keys;
        let ffn = parts.shard.ffn.clone();
        // outputs that are added to the residual stream start smaller, the deeper the model
        let residual = STD / (2.0 * config.layers as f64).sqrt();
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        let at = Some(layer);
        let norm = || parts.everywhere(d, true);
        let bias = || parts.everywhere(d, false);
        self.norm(&name("input_layernorm.weight"), Kind::AttentionNorm, at, norm());
        let query = parts.rows(heads.clone(), d);
        self.matrix(&name("self_attn.q_proj.weight"), Kind::Query, at, (q, d), query, STD);
        for (what, kind) in [("k_proj", Kind::Key), ("v_proj", Kind::Value)] {
            for Keys { heads, ranks } in keys {
                let part = parts.keys(ranks, parts.rows(parts.heads(heads), d));
                self.matrix(
                    &name(&format!("self_attn.{what}.weight")),
                    kind,
                    at,
                    (kv, d),
                    part,
                    STD,
                );
            }
        }
        if config.attention_bias {
            let query = parts.cols(1, heads.clone());
            self.bias(&name("self_attn.q_proj.bias"), Kind::QueryBias, at, q, query);
            for (what, kind) in [("k_proj", Kind::KeyBias), ("v_proj", Kind::ValueBias)] {
                for Keys { heads, ranks } in keys {
                    let part = parts.keys(ranks, parts.cols(1, parts.heads(heads)));
                    self.bias(&name(&format!("self_attn.{what}.bias")), kind, at, kv, part);
                }
            }
        }
        let output = parts.cols(d, heads);
        self.matrix(&name("self_attn.o_proj.weight"), Kind::Output, at, (d, q), output, residual);
        if config.attention_bias {
            self.bias(&name("self_attn.o_proj.bias"), Kind::OutputBias, at, d, bias());
        }
        self.norm(&name("post_attention_layernorm.weight"), Kind::FeedForwardNorm, at, norm());
        let columns = || parts.rows(ffn.clone(), d);
        self.matrix(&name("mlp.gate_proj.weight"), Kind::Gate, at, (f, d), columns(), STD);
        self.matrix(&name("mlp.up_proj.weight"), Kind::Up, at, (f, d), columns(), STD);
        if config.mlp_bias {
            let columns = || parts.cols(1, ffn.clone());
            self.bias(&name("mlp.gate_proj.bias"), Kind::GateBias, at, f, columns());
            self.bias(&name("mlp.up_proj.bias"), Kind::UpBias, at, f, columns());
        }
        let down = parts.cols(d, ffn.clone());
        self.matrix(&name("mlp.down_proj.weight"), Kind::Down, at, (d, f), down, residual);
        if config.mlp_bias {
            self.bias(&name("mlp.down_proj.bias"), Kind::DownBias, at, d, bias());
        }
    }

    /// Gives each entry its number in the table of the whole model.
    fn number(&mut self, config: &Config) {
        let each = 9 + 4 * usize::from(config.attention_bias) + 3 * usize::from(config.mlp_bias);
        for (layer, range) in self.layers.clone() {
            // keys and values may come in several parts
            let (mut i, mut before) = (0, None);
            for entry in &mut self.entries[range] {
                i += usize::from(before.is_some_and(|kind| kind != entry.kind));
                before = Some(entry.kind);
                entry.index = 1 + layer * each + i;
            }
        }
        let last = 1 + config.layers * each;
        for entry in self.entries.iter_mut().filter(|entry| entry.layer.is_none()) {
            entry.index = match entry.kind {
                Kind::FinalNorm => last,
                Kind::Head if !config.tied => last + 1,
                // the embedding, and what is one
                _ => 0,
            };
        }
    }

    fn matrix(
        &mut self,
        name: &str,
        kind: Kind,
        layer: Option<usize>,
        (rows, cols): (usize, usize),
        part: Part,
        std: f64,
    ) {
        self.push(name, kind, layer, vec![rows, cols], part, Init::Normal(std));
    }

    fn norm(&mut self, name: &str, kind: Kind, layer: Option<usize>, part: Part) {
        self.push(name, kind, layer, vec![part.cols.len()], part, Init::Ones);
    }

    fn bias(&mut self, name: &str, kind: Kind, layer: Option<usize>, cols: usize, part: Part) {
        self.push(name, kind, layer, vec![cols], part, Init::Zeros);
    }

    /// Places an entry; followers within a fused group are never aligned, they must touch.
    fn push(
        &mut self,
        name: &str,
        kind: Kind,
        layer: Option<usize>,
        shape: Vec<usize>,
        part: Part,
        init: Init,
    ) {
        let follows = matches!(
            kind,
            Kind::Key | Kind::Value | Kind::KeyBias | Kind::ValueBias | Kind::Up | Kind::UpBias
        );
        if !follows {
            self.elements = self.elements.next_multiple_of(ALIGNMENT);
        }
        let Part { rows, cols, split, shared, partial, counted } = part;
        let entry = Entry {
            name: name.into(),
            kind,
            index: 0,
            layer,
            rows: rows.len(),
            cols: cols.len(),
            first: (rows.start, cols.start),
            decays: shape.len() == 2,
            shape,
            split,
            shared,
            partial,
            counted,
            init,
            offset: self.elements,
        };
        self.elements += entry.elements();
        self.entries.push(entry);
    }

    /// Number of layers that are here.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// All parameters in flat order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Numbers of the layers that are here, ascending.
    pub fn layer_numbers(&self) -> impl Iterator<Item = usize> + '_ {
        self.layers.iter().map(|(layer, _)| *layer)
    }

    /// The parameters of one layer, by its number in the whole model; none where it is not here.
    pub fn layer(&self, layer: usize) -> &[Entry] {
        let found = self.layers.iter().find(|(number, _)| *number == layer);
        found.map_or(&[], |(_, range)| &self.entries[range.clone()])
    }

    /// The parts of the parameter of this kind in this layer: those of keys and values may be several.
    pub fn parts(&self, kind: Kind, layer: Option<usize>) -> impl Iterator<Item = &Entry> {
        let among = layer.map_or(&self.entries[..], |layer| self.layer(layer));
        among.iter().filter(move |entry| entry.kind == kind)
    }

    /// The parameter of this kind (in this layer, where the kind belongs to layers).
    pub fn find(&self, kind: Kind, layer: Option<usize>) -> Option<&Entry> {
        self.parts(kind, layer).next()
    }

    /// The parameter of this name.
    pub fn by_name(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// The flat range in stretches of whole parameters, each to be divided by the ranks that hold the
    /// same: the embedding, each layer (by its number among those that are here), the final norm, the
    /// head.
    pub fn buckets(&self) -> &[(Option<usize>, Range<usize>)] {
        &self.buckets
    }

    /// Length of the flat range in elements: parameters and the few elements between groups, which
    /// stay zero in weights and gradients alike.
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// Number of parameters proper.
    pub fn parameters(&self) -> usize {
        self.entries.iter().map(Entry::elements).sum()
    }

    /// The flat range cut into stretches of equal decay: what an optimizer needs one call for.
    pub fn decay_ranges(&self) -> Vec<(Range<usize>, bool)> {
        let mut ranges: Vec<(Range<usize>, bool)> = Vec::new();
        for entry in &self.entries {
            match ranges.last_mut() {
                Some((range, decays)) if *decays == entry.decays => range.end = entry.range().end,
                Some((range, _)) => {
                    range.end = entry.offset;
                    ranges.push((entry.range(), entry.decays));
                }
                None => ranges.push((entry.range(), entry.decays)),
            }
        }
        if let Some((range, _)) = ranges.last_mut() {
            range.end = self.elements;
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sizes;

    fn llama(layers: usize, d: usize, f: usize, heads: usize) -> Config {
        Config::new(Sizes {
            vocab_size: 128_256,
            hidden_size: d,
            intermediate_size: f,
            layers,
            heads,
            kv_heads: 8,
            max_positions: 8192,
            tied: false,
        })
        .unwrap()
    }

    #[test]
    fn parameter_counts_of_the_paper() {
        // O-1
        assert_eq!(Table::new(&llama(32, 4096, 14_336, 32)).parameters(), 8_030_261_248);
        assert_eq!(Table::new(&llama(80, 8192, 28_672, 64)).parameters(), 70_553_706_496);
        assert_eq!(Table::new(&llama(126, 16_384, 53_248, 128)).parameters(), 405_853_388_800);
    }

    #[test]
    fn fused_groups_touch_and_nothing_overlaps() {
        let mut config = llama(2, 32, 10, 8);
        config.head_dim = 6;
        config.attention_bias = true;
        config.mlp_bias = true;
        let table = Table::new(&config);
        for pair in table.entries().windows(2) {
            assert!(pair[0].range().end <= pair[1].offset);
            assert!(pair[1].offset - pair[0].range().end < ALIGNMENT);
        }
        for layer in 0..2 {
            let at = |kind| table.find(kind, Some(layer)).unwrap().range();
            for (a, b) in [
                (Kind::Query, Kind::Key),
                (Kind::Key, Kind::Value),
                (Kind::Gate, Kind::Up),
                (Kind::QueryBias, Kind::KeyBias),
                (Kind::KeyBias, Kind::ValueBias),
                (Kind::GateBias, Kind::UpBias),
            ] {
                assert_eq!(at(a).end, at(b).start, "{a:?} {b:?}");
            }
        }
    }

    /// The parts of all ranks make each parameter once, and each has its number.
    fn check_parts(axes: &str, tied: bool) {
        let mut config = llama(5, 32, 10, 8);
        (config.kv_heads, config.vocab_size, config.head_dim) = (2, 17, 6);
        (config.attention_bias, config.mlp_bias, config.tied) = (true, true, tied);
        let axes = quipu_mesh::Axes::parse(axes).unwrap();
        let whole = Table::new(&config);
        let mut covered: Vec<Vec<u32>> =
            whole.entries().iter().map(|entry| vec![0; entry.elements()]).collect();
        for rank in 0..axes.world() {
            let world = std::sync::Arc::new(quipu_mesh::Threads::new(axes.world()));
            let mesh = quipu_mesh::Mesh::new(axes, rank, world).unwrap();
            let shard = Shard::new(&config, &mesh, &Default::default()).unwrap();
            let table = Table::of(&config, &shard);
            assert!(table.elements().is_multiple_of(shard.replicas));
            for entry in table.entries() {
                let of = &whole.entries()[entry.index];
                assert_eq!((&entry.name, &entry.shape), (&of.name, &of.shape));
                assert!(entry.counted || entry.shared.is_some(), "{entry:?}");
                let cells = (0..entry.rows).flat_map(|r| (0..entry.cols).map(move |c| (r, c)));
                for (r, c) in cells.filter(|_| entry.counted) {
                    let (r, c) = (entry.first.0 + r, entry.first.1 + c);
                    covered[entry.index][r * of.cols + c] += 1;
                }
            }
        }
        let copies = (axes.size(quipu_mesh::Axis::Cp) * axes.size(quipu_mesh::Axis::Dp)) as u32;
        for (entry, counts) in whole.entries().iter().zip(&covered) {
            assert!(counts.iter().all(|n| *n == copies), "{} on {axes}, tied {tied}", entry.name);
        }
    }

    #[test]
    fn ranks_hold_each_parameter_once() {
        for axes in ["", "tp=2", "tp=4", "pp=3", "tp=8,pp=2", "tp=4,cp=2,pp=2,dp=3"] {
            check_parts(axes, false);
            check_parts(axes, true);
        }
    }

    #[test]
    fn decay_ranges_cover_everything_once() {
        let table = Table::new(&llama(3, 32, 10, 8));
        let ranges = table.decay_ranges();
        assert_eq!(ranges[0].0.start, 0);
        assert_eq!(ranges.last().unwrap().0.end, table.elements());
        for pair in ranges.windows(2) {
            assert_eq!(pair[0].0.end, pair[1].0.start);
            assert_ne!(pair[0].1, pair[1].1);
        }
        for entry in table.entries() {
            let (_, decays) = ranges.iter().find(|(r, _)| r.contains(&entry.offset)).unwrap();
            assert_eq!(*decays, entry.decays, "{}", entry.name);
            assert_eq!(entry.decays, entry.shape.len() == 2);
        }
    }
}
