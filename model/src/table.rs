//! The one table of parameters: name, shape, place, kind, split, initial values, decay group.
//!
//! Forward, backward, sharding, checkpoints, the optimizer and the planner all read this table;
//! none keeps a list of its own. Parameters lie in one flat range in table order, each layer
//! contiguous; q, k and v are neighbours, and so are gate and up, so that each group is one matrix
//! to a matmul. It is not memory: offsets count elements, whatever their type.

use crate::config::Config;
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
    /// Its layer, where it belongs to one.
    pub layer: Option<usize>,
    /// Rows and columns of the whole parameter; a vector has one row.
    pub rows: usize,
    /// See `rows`.
    pub cols: usize,
    /// The shape in a checkpoint: \[rows, cols\] or, for a vector, \[cols\].
    pub shape: Vec<usize>,
    /// How tensor parallelism divides it.
    pub split: Split,
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
}

/// All parameters of a model, in flat order.
#[derive(Clone, Debug)]
pub struct Table {
    entries: Vec<Entry>,
    /// Range of entries of each layer.
    layers: Vec<Range<usize>>,
    elements: usize,
}

/// Groups of parameters begin at multiples of this many elements (a cache line of f32).
pub const ALIGNMENT: usize = 16;

/// Standard deviation of initial weights.
const STD: f64 = 0.02;

impl Table {
    /// The table of `config`.
    pub fn new(config: &Config) -> Table {
        let mut table = Table { entries: Vec::new(), layers: Vec::new(), elements: 0 };
        let (vocab, d) = (config.vocab_size, config.hidden_size);
        table.matrix(
            "model.embed_tokens.weight",
            Kind::Embedding,
            None,
            (vocab, d),
            Split::Rows,
            STD,
        );
        for layer in 0..config.layers {
            let first = table.entries.len();
            table.add_layer(config, layer);
            table.layers.push(first..table.entries.len());
        }
        table.norm("model.norm.weight", Kind::FinalNorm, None, d);
        if !config.tied {
            table.matrix("lm_head.weight", Kind::Head, None, (vocab, d), Split::Rows, STD);
        }
        table.elements = table.elements.next_multiple_of(ALIGNMENT);
        table
    }

    fn add_layer(&mut self, config: &Config, layer: usize) {
        let (d, f) = (config.hidden_size, config.intermediate_size);
        let (q, kv) = (config.query_width(), config.kv_width());
        // outputs that are added to the residual stream start smaller, the deeper the model
        let residual = STD / (2.0 * config.layers as f64).sqrt();
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        let at = Some(layer);
        self.norm(&name("input_layernorm.weight"), Kind::AttentionNorm, at, d);
        self.matrix(&name("self_attn.q_proj.weight"), Kind::Query, at, (q, d), Split::Rows, STD);
        self.matrix(&name("self_attn.k_proj.weight"), Kind::Key, at, (kv, d), Split::Rows, STD);
        self.matrix(&name("self_attn.v_proj.weight"), Kind::Value, at, (kv, d), Split::Rows, STD);
        if config.attention_bias {
            self.bias(&name("self_attn.q_proj.bias"), Kind::QueryBias, at, q, Split::Cols);
            self.bias(&name("self_attn.k_proj.bias"), Kind::KeyBias, at, kv, Split::Cols);
            self.bias(&name("self_attn.v_proj.bias"), Kind::ValueBias, at, kv, Split::Cols);
        }
        let (cols, rep) = (Split::Cols, Split::Replicated);
        self.matrix(&name("self_attn.o_proj.weight"), Kind::Output, at, (d, q), cols, residual);
        if config.attention_bias {
            self.bias(&name("self_attn.o_proj.bias"), Kind::OutputBias, at, d, rep);
        }
        self.norm(&name("post_attention_layernorm.weight"), Kind::FeedForwardNorm, at, d);
        self.matrix(&name("mlp.gate_proj.weight"), Kind::Gate, at, (f, d), Split::Rows, STD);
        self.matrix(&name("mlp.up_proj.weight"), Kind::Up, at, (f, d), Split::Rows, STD);
        if config.mlp_bias {
            self.bias(&name("mlp.gate_proj.bias"), Kind::GateBias, at, f, Split::Cols);
            self.bias(&name("mlp.up_proj.bias"), Kind::UpBias, at, f, Split::Cols);
        }
        self.matrix(&name("mlp.down_proj.weight"), Kind::Down, at, (d, f), cols, residual);
        if config.mlp_bias {
            self.bias(&name("mlp.down_proj.bias"), Kind::DownBias, at, d, rep);
        }
    }

    fn matrix(
        &mut self,
        name: &str,
        kind: Kind,
        layer: Option<usize>,
        (rows, cols): (usize, usize),
        split: Split,
        std: f64,
    ) {
        let init = Init::Normal(std);
        self.push(Entry {
            name: name.into(),
            kind,
            layer,
            rows,
            cols,
            shape: vec![rows, cols],
            split,
            init,
            decays: true,
            offset: 0,
        });
    }

    fn norm(&mut self, name: &str, kind: Kind, layer: Option<usize>, cols: usize) {
        self.vector(name, kind, layer, cols, Split::Replicated, Init::Ones);
    }

    fn bias(&mut self, name: &str, kind: Kind, layer: Option<usize>, cols: usize, split: Split) {
        self.vector(name, kind, layer, cols, split, Init::Zeros);
    }

    fn vector(
        &mut self,
        name: &str,
        kind: Kind,
        layer: Option<usize>,
        cols: usize,
        split: Split,
        init: Init,
    ) {
        self.push(Entry {
            name: name.into(),
            kind,
            layer,
            rows: 1,
            cols,
            shape: vec![cols],
            split,
            init,
            decays: false,
            offset: 0,
        });
    }

    /// Places an entry; followers within a fused group are never aligned, they must touch.
    fn push(&mut self, mut entry: Entry) {
        let follows = matches!(
            entry.kind,
            Kind::Key | Kind::Value | Kind::KeyBias | Kind::ValueBias | Kind::Up | Kind::UpBias
        );
        if !follows {
            self.elements = self.elements.next_multiple_of(ALIGNMENT);
        }
        entry.offset = self.elements;
        self.elements += entry.elements();
        self.entries.push(entry);
    }

    /// Number of layers.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// All parameters in flat order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The parameters of one layer.
    pub fn layer(&self, layer: usize) -> &[Entry] {
        &self.entries[self.layers[layer].clone()]
    }

    /// The parameter of this kind (in this layer, where the kind belongs to layers).
    pub fn find(&self, kind: Kind, layer: Option<usize>) -> Option<&Entry> {
        let among = layer.map_or(&self.entries[..], |layer| self.layer(layer));
        among.iter().find(|entry| entry.kind == kind)
    }

    /// The parameter of this name.
    pub fn by_name(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
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
