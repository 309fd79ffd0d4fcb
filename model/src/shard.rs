//! What of a model one rank holds: heads and columns (tensor parallelism), rows of a micro-batch
//! (context parallelism, sequence parallelism), layers (pipeline parallelism; paper, section 3.3.2).
//!
//! Everything that follows from a mesh about shapes is decided here, once; one rank holds all. Widths
//! and vocabulary are divided as evenly as possible, so that some ranks may have one more than others:
//! nothing is padded there. Rows are padded, at the end of a micro-batch, to a multiple of 2·CP·TP. It
//! holds no memory and sends nothing.

use crate::Error;
use crate::config::Config;
use quipu_mesh::schedule::Kind;
use quipu_mesh::{Axes, Axis, Mesh};
use std::ops::Range;

/// How layers are divided over a pipeline, and in which order its work is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pipeline {
    /// Chunks of layers on each rank: V; 0 counts as 1.
    pub chunks: usize,
    /// Layers of each stage, PP·V numbers; none: as even as possible, where embedding and head count
    /// as one layer each.
    pub layers: Option<Vec<usize>>,
    /// Micro-batches that go through a chunk one behind the other (`schedule::Shape::contiguous`).
    pub contiguous: Option<usize>,
    /// When gradients of weights are computed.
    pub kind: Kind,
}

impl Pipeline {
    /// V.
    pub fn chunks(&self) -> usize {
        self.chunks.max(1)
    }
}

/// Consecutive layers that a rank computes in one go: a stage of the pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Number of the stage.
    pub number: usize,
    /// Its layers, by their numbers in the whole model; may be none.
    pub layers: Range<usize>,
    /// Whether it begins with the embedding.
    pub first: bool,
    /// Whether it ends with the loss head.
    pub last: bool,
}

/// A rank's place among those that divide something, and their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Among {
    /// From 0.
    pub index: usize,
    /// At least 1.
    pub size: usize,
}

impl Among {
    fn along(mesh: &Mesh, axis: Axis) -> Among {
        Among { index: mesh.at(axis), size: mesh.axes().size(axis) }
    }

    /// This rank's part of `n` things, as even as possible.
    fn share(&self, n: usize) -> Range<usize> {
        n * self.index / self.size..n * (self.index + 1) / self.size
    }
}

/// Rows of a micro-batch, by who has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// As the micro-batch came.
    pub given: usize,
    /// With padding.
    pub whole: usize,
    /// Of this context-parallel rank.
    pub local: usize,
    /// Of them, those of the residual stream on this tensor-parallel rank.
    pub shard: usize,
}

/// Neighbouring key-value heads that the same tensor-parallel ranks hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// By their numbers in the whole model.
    pub heads: Range<usize>,
    /// The ranks, along the tensor-parallel axis.
    pub ranks: Range<usize>,
}

/// What a rank holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Tensor parallelism.
    pub tp: Among,
    /// Context parallelism.
    pub cp: Among,
    /// Ranks that have the same parameters for other tokens: CP · DP.
    pub replicas: usize,
    /// Query heads.
    pub heads: Range<usize>,
    /// Key-value heads: those that its query heads read.
    pub kv_heads: Range<usize>,
    /// The same, by the ranks that hold them: a head whose queries are on several ranks is on each.
    pub keys: Vec<Keys>,
    /// Query heads that read a key-value head.
    same_keys: usize,
    /// Columns of the feed-forward.
    pub ffn: Range<usize>,
    /// Ids of the vocabulary.
    pub vocab: Range<usize>,
    /// Its stages.
    pub chunks: Vec<Stage>,
    head_dim: usize,
}

impl Shard {
    /// All of a model.
    pub fn whole(config: &Config) -> Shard {
        let one = Among { index: 0, size: 1 };
        let all = Stage { number: 0, layers: 0..config.layers, first: true, last: true };
        Shard {
            tp: one,
            cp: one,
            replicas: 1,
            heads: 0..config.heads,
            kv_heads: 0..config.kv_heads,
            keys: vec![Keys { heads: 0..config.kv_heads, ranks: 0..1 }],
            same_keys: config.heads / config.kv_heads,
            ffn: 0..config.intermediate_size,
            vocab: 0..config.vocab_size,
            chunks: vec![all],
            head_dim: config.head_dim,
        }
    }

    /// Refuses a mesh that a model does not fit on.
    ///
    /// # Errors
    /// [`Error::Mesh`].
    pub fn check(config: &Config, axes: Axes, pipeline: &Pipeline) -> Result<(), Error> {
        fits(config, axes, pipeline)
    }

    /// What a rank of `mesh` holds of a model.
    ///
    /// # Errors
    /// As [`Shard::check`].
    pub fn new(config: &Config, mesh: &Mesh, pipeline: &Pipeline) -> Result<Shard, Error> {
        fits(config, mesh.axes(), pipeline)?;
        let [tp, cp, pp] = [Axis::Tp, Axis::Cp, Axis::Pp].map(|axis| Among::along(mesh, axis));
        let (heads, same_keys) = (tp.share(config.heads), config.heads / config.kv_heads);
        let keys = keys(&heads, same_keys);
        let kv_heads = heads.start / same_keys..heads.end.div_ceil(same_keys);
        let stages = layers_of_stages(config.layers, pp.size, pipeline);
        let chunk = |chunk: usize| {
            let stage = chunk * pp.size + pp.index;
            let first = stages[..stage].iter().sum();
            let (last, layers) = (stage + 1 == stages.len(), first..first + stages[stage]);
            Stage { number: stage, layers, first: stage == 0, last }
        };
        Ok(Shard {
            tp,
            cp,
            replicas: cp.size * mesh.axes().size(Axis::Dp),
            heads,
            kv_heads,
            keys,
            same_keys,
            ffn: tp.share(config.intermediate_size),
            vocab: tp.share(config.vocab_size),
            chunks: (0..pipeline.chunks()).map(chunk).collect(),
            head_dim: config.head_dim,
        })
    }

    /// Query heads and the key-value heads that they read, counted from this rank's first: stretches
    /// in which each of the latter is read by as many. One, unless ranks begin within the queries of a
    /// head.
    pub fn readers(&self) -> Vec<(Range<usize>, Range<usize>)> {
        let (first, n) = (self.heads.start, self.same_keys);
        let queries =
            |kv: usize| (kv * n).max(first) - first..((kv + 1) * n).min(self.heads.end) - first;
        let mut all: Vec<(Range<usize>, Range<usize>)> = Vec::new();
        for (i, kv) in self.kv_heads.clone().enumerate() {
            let own = queries(kv);
            match all.last_mut() {
                Some((q, kv)) if q.len() == own.len() * kv.len() => {
                    (q.end, kv.end) = (own.end, i + 1);
                }
                _ => all.push((own, i..i + 1)),
            }
        }
        all
    }

    /// Columns of a head.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Columns of the queries.
    pub fn query_width(&self) -> usize {
        self.heads.len() * self.head_dim
    }

    /// Columns of the keys, or of the values.
    pub fn kv_width(&self) -> usize {
        self.kv_heads.len() * self.head_dim
    }

    /// Columns of queries, keys and values.
    pub fn qkv_width(&self) -> usize {
        self.query_width() + 2 * self.kv_width()
    }

    /// Most layers of a chunk.
    pub fn most_layers(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.layers.len()).max().unwrap_or(0)
    }

    /// All layers, ascending.
    pub fn layers(&self) -> impl Iterator<Item = usize> + '_ {
        self.chunks.iter().flat_map(|chunk| chunk.layers.clone())
    }

    /// Whether the embedding is here.
    pub fn has_first(&self) -> bool {
        self.chunks.iter().any(|chunk| chunk.first)
    }

    /// Whether the loss head is here.
    pub fn has_last(&self) -> bool {
        self.chunks.iter().any(|chunk| chunk.last)
    }

    /// Whether all parameters are here.
    pub fn is_whole(&self) -> bool {
        self.tp.size == 1 && self.has_first() && self.has_last()
    }

    /// The rows of a micro-batch of `given` tokens.
    pub fn rows(&self, given: usize) -> Rows {
        let whole = match (self.cp.size, self.tp.size) {
            (1, tp) => given.next_multiple_of(tp),
            (cp, tp) => given.next_multiple_of(2 * cp * tp),
        };
        let local = whole / self.cp.size;
        Rows { given, whole, local, shard: local / self.tp.size }
    }

    /// Where the rows of a context-parallel rank lie in the micro-batch: of 2·CP chunks those number i
    /// and 2·CP − 1 − i, so that each rank has as many keys to look at.
    pub fn spans_of(&self, rank: usize, whole: usize) -> Vec<Range<usize>> {
        let cp = self.cp.size;
        if cp == 1 {
            return vec![0..whole; 1];
        }
        let chunk = whole / (2 * cp);
        [rank, 2 * cp - 1 - rank].map(|i| i * chunk..(i + 1) * chunk).into()
    }

    /// This rank's.
    pub fn spans(&self, whole: usize) -> Vec<Range<usize>> {
        self.spans_of(self.cp.index, whole)
    }
}

/// The key-value heads that these query heads read, `n` of which read the same one, by the ranks that
/// hold them: each rank has as many query heads.
fn keys(heads: &Range<usize>, n: usize) -> Vec<Keys> {
    let rank = |head: usize| head / heads.len();
    let mut all: Vec<Keys> = Vec::new();
    for kv in heads.start / n..heads.end.div_ceil(n) {
        let ranks = rank(kv * n)..rank((kv + 1) * n - 1) + 1;
        match all.last_mut() {
            Some(last) if last.ranks == ranks => last.heads.end = kv + 1,
            _ => all.push(Keys { heads: kv..kv + 1, ranks }),
        }
    }
    all
}

/// Layers of each stage.
fn layers_of_stages(layers: usize, ranks: usize, pipeline: &Pipeline) -> Vec<usize> {
    if let Some(given) = &pipeline.layers {
        return given.clone();
    }
    let stages = ranks * pipeline.chunks();
    if stages == 1 {
        return vec![layers];
    }
    let all = layers + 2;
    let ends = |stage| usize::from(stage == 0) + usize::from(stage + 1 == stages);
    let units = |stage: usize| all * (stage + 1) / stages - all * stage / stages;
    (0..stages).map(|stage| units(stage) - ends(stage)).collect()
}

/// Refuses a mesh that a model does not fit on.
fn fits(config: &Config, axes: Axes, pipeline: &Pipeline) -> Result<(), Error> {
    let refuse = |why: String| Err(Error::Mesh { axes: axes.to_string(), why });
    let (tp, pp) = (axes.size(Axis::Tp), axes.size(Axis::Pp));
    if !config.heads.is_multiple_of(tp) {
        return refuse(format!("tp must divide the model's {} heads", config.heads));
    }
    for (what, n) in [
        ("columns of the feed-forward", config.intermediate_size),
        ("ids of the vocabulary", config.vocab_size),
    ] {
        if n < tp {
            return refuse(format!("tp must not exceed the model's {n} {what}"));
        }
    }
    let (stages, layers) = (pp * pipeline.chunks(), config.layers);
    if let Some(given) = &pipeline.layers {
        if given.len() != stages || given.iter().sum::<usize>() != layers {
            return refuse(format!(
                "the layers of its stages are given as {given:?}; expected {stages} numbers that \
                 come to the model's {layers}"
            ));
        }
    } else if stages > layers + 2 {
        return refuse(format!(
            "its {stages} stages (pp × v) are more than the model's {layers} layers and two ends"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sizes;
    use quipu_mesh::{Threads, Use};
    use std::sync::Arc;

    fn config(layers: usize, heads: usize, kv_heads: usize) -> Config {
        Config::new(Sizes {
            vocab_size: 13,
            hidden_size: heads * 4,
            intermediate_size: 10,
            layers,
            heads,
            kv_heads,
            max_positions: 64,
            tied: false,
        })
        .unwrap()
    }

    fn shards(config: &Config, axes: &str, pipeline: &Pipeline) -> Vec<Shard> {
        let axes = Axes::parse(axes).unwrap();
        let world = Arc::new(Threads::new(axes.world()));
        let mesh = |rank| Mesh::new(axes, rank, world.clone()).unwrap();
        (0..axes.world()).map(|rank| Shard::new(config, &mesh(rank), pipeline).unwrap()).collect()
    }

    #[test]
    fn one_rank_holds_all() {
        let config = config(3, 4, 2);
        assert_eq!(shards(&config, "", &Pipeline::default()), [Shard::whole(&config)]);
    }

    #[test]
    fn widths_are_divided_and_keys_shared() {
        let config = config(1, 8, 2);
        let all = shards(&config, "tp=4", &Pipeline::default());
        let kv: Vec<_> = all.iter().map(|shard| shard.kv_heads.clone()).collect();
        assert_eq!(kv, [0..1, 0..1, 1..2, 1..2]);
        assert_eq!(all[2].heads, 4..6);
        assert_eq!(all.iter().map(|shard| shard.ffn.len()).collect::<Vec<_>>(), [2, 3, 2, 3]);
        assert_eq!(all.iter().map(|shard| shard.vocab.len()).sum::<usize>(), 13);
        let ranks: Vec<_> = all.iter().map(|shard| shard.keys[0].ranks.clone()).collect();
        assert_eq!(ranks, [0..2, 0..2, 2..4, 2..4]);
        assert_eq!((all[1].keys.len(), all[0].replicas), (1, 1));
    }

    /// Of six queries over three keys, two ranks both hold the middle key.
    #[test]
    fn a_key_is_where_its_queries_are() {
        let all = shards(&config(1, 6, 3), "tp=2", &Pipeline::default());
        let keys = |heads, ranks| Keys { heads, ranks };
        assert_eq!(all[0].keys, [keys(0..1, 0..1), keys(1..2, 0..2)]);
        assert_eq!(all[1].keys, [keys(1..2, 0..2), keys(2..3, 1..2)]);
        assert_eq!(all[0].readers(), [(0..2, 0..1), (2..3, 1..2)]);
        assert_eq!(all[1].readers(), [(0..1, 0..1), (1..3, 1..2)]);
        let all = shards(&config(1, 8, 4), "tp=2", &Pipeline::default());
        assert_eq!(all[1].readers(), [(0..4, 0..2)]);
        let all = shards(&config(1, 6, 2), "tp=6", &Pipeline::default());
        assert_eq!(all[4].readers(), [(0..1, 0..1)]);
        assert_eq!(all[4].keys, [keys(1..2, 3..6)]);
    }

    /// Layers of each stage, in order.
    fn layers(layers: usize, ranks: usize, chunks: usize) -> Vec<usize> {
        layers_of_stages(layers, ranks, &Pipeline { chunks, ..Pipeline::default() })
    }

    #[test]
    fn ends_count_as_layers() {
        assert_eq!(layers(14, 4, 1), [3, 4, 4, 3]);
        assert_eq!(layers(14, 4, 2), [1, 2, 2, 2, 2, 2, 2, 1]);
        let papers = layers(126, 16, 8);
        assert_eq!((papers[0], papers[127]), (0, 0));
        assert!(papers[1..127].iter().all(|n| *n == 1));
        for n in 0..9 {
            for stages in 1..=n + 2 {
                assert_eq!(layers(n, stages, 1).iter().sum::<usize>(), n);
            }
        }
        let v = Pipeline { chunks: 2, ..Pipeline::default() };
        let all = shards(&config(6, 4, 2), "pp=2", &v);
        let chunks: Vec<_> = all[1].chunks.iter().map(|c| (c.number, c.layers.clone())).collect();
        assert_eq!(chunks, [(1, 1..3), (3, 5..6)]);
        assert!(all[0].has_first() && !all[0].has_last() && all[1].has_last());
    }

    #[test]
    fn rows_are_shared_by_chunks_and_their_mirrors() {
        let config = config(1, 4, 2);
        for shard in shards(&config, "tp=2,cp=2,dp=3", &Pipeline::default()) {
            let rows = shard.rows(13);
            assert_eq!(rows, Rows { given: 13, whole: 16, local: 8, shard: 4 });
            let expected = if shard.cp.index == 0 { [0..4, 12..16] } else { [4..8, 8..12] };
            assert_eq!(shard.spans(16), expected);
            assert_eq!(shard.replicas, 6);
        }
    }

    fn refused(axes: &str, pipeline: Pipeline, why: &str) {
        let axes = Axes::parse(axes).unwrap();
        let mesh = Mesh::new(axes, 0, Arc::new(Threads::new(axes.world()))).unwrap();
        assert!(mesh.group(Use::World).size() > 1);
        let error = Shard::new(&config(4, 6, 3), &mesh, &pipeline).unwrap_err().to_string();
        assert!(error.contains(why) && error.contains(&axes.to_string()), "{error}");
    }

    #[test]
    fn meshes_that_do_not_fit() {
        refused("tp=4", Pipeline::default(), "6 heads");
        refused("pp=7", Pipeline::default(), "more than the model's 4 layers and two ends");
        let chunks = Pipeline { chunks: 4, ..Pipeline::default() };
        refused("pp=2", chunks, "8 stages");
        let layers = Pipeline { layers: Some(vec![1, 2]), ..Pipeline::default() };
        refused("pp=2", layers, "come to the model's 4");
    }
}
