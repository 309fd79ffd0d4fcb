//! What of its parameters a rank keeps for others too: the ranks that have the same parameters for
//! other tokens share out the optimizer's states, and with full sharding weights and gradients as well
//! (paper, section 3.3.2). The flat range is divided bucket by bucket, a bucket being the embedding, a
//! layer, the final norm or the head: so a layer's gradients can go to who keeps them while the layer
//! before it is still computed. It holds no memory and sends nothing.

use crate::table::{Entry, Table};
use std::ops::Range;

/// Buckets that are on their way at once, of gradients or of weights: what is on its way takes memory
/// of the host.
pub const BUCKETS_AT_ONCE: usize = 2;

/// A stretch of the flat range that is reduced, updated and gathered as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Its elements in the flat range: whole parameters, and what fills it up to equal parts.
    pub range: Range<usize>,
    /// This rank's part of them, in the flat range.
    pub own: Range<usize>,
    /// Where that part lies among the parts that the rank keeps.
    pub kept: Range<usize>,
    /// The layer that it is, by its number among those of this rank.
    pub layer: Option<usize>,
}

/// Who keeps what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Division {
    buckets: Vec<Bucket>,
}

impl Division {
    /// What rank number `index` of `size` keeps of a table. One alone keeps all, in one bucket.
    pub fn new(table: &Table, index: usize, size: usize) -> Division {
        let whole = (None, 0..table.elements());
        let stretches = if size == 1 { std::slice::from_ref(&whole) } else { table.buckets() };
        let mut at = 0;
        let bucket = |(layer, range): &(Option<usize>, Range<usize>)| {
            let part = range.len() / size;
            let own = range.start + index * part..range.start + (index + 1) * part;
            let kept = at..at + part;
            at = kept.end;
            Bucket { range: range.clone(), own, kept, layer: *layer }
        };
        Division { buckets: stretches.iter().map(bucket).collect() }
    }

    /// All of the flat range, in its order.
    pub fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    /// Elements that the rank keeps.
    pub fn elements(&self) -> usize {
        self.buckets.last().map_or(0, |bucket| bucket.kept.end)
    }

    /// Number of the bucket that an element of the flat range is in.
    pub fn find(&self, element: usize) -> Option<usize> {
        self.buckets.iter().position(|bucket| bucket.range.contains(&element))
    }

    /// What of a parameter this rank keeps: number of the bucket, elements in the flat range.
    pub fn own(&self, entry: &Entry) -> Option<(usize, Range<usize>)> {
        let bucket = self.find(entry.offset)?;
        let (own, whole) = (&self.buckets[bucket].own, entry.range());
        let (start, end) = (whole.start.max(own.start), whole.end.min(own.end));
        (start < end).then_some((bucket, start..end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sizes};
    use crate::shard::Shard;

    fn table(replicas: usize) -> Table {
        let sizes = Sizes {
            vocab_size: 13,
            hidden_size: 12,
            intermediate_size: 10,
            layers: 3,
            heads: 3,
            kv_heads: 1,
            max_positions: 8,
            tied: false,
        };
        let config = Config::new(sizes).unwrap();
        let mut shard = Shard::whole(&config);
        shard.replicas = replicas;
        Table::of(&config, &shard)
    }

    #[test]
    fn one_rank_keeps_all() {
        let table = table(1);
        let division = Division::new(&table, 0, 1);
        assert_eq!((division.buckets().len(), division.elements()), (1, table.elements()));
    }

    /// Buckets follow each other without a gap, the parts of all ranks make them up, and each
    /// parameter lies in one of them.
    #[test]
    fn parts_are_equal_and_whole() {
        for size in [2, 3, 6] {
            let table = table(6);
            let all: Vec<_> = (0..size).map(|i| Division::new(&table, i, size)).collect();
            let layers: Vec<_> = all[0].buckets().iter().map(|bucket| bucket.layer).collect();
            assert_eq!(layers, [None, Some(0), Some(1), Some(2), None, None]);
            let mut at = 0;
            for number in 0..layers.len() {
                for division in &all {
                    let Bucket { range, own, kept, .. } = &division.buckets()[number];
                    assert_eq!((own.start, own.len() * size), (at, range.len()));
                    assert_eq!(kept.len(), own.len());
                    at = own.end;
                }
            }
            assert_eq!(at, table.elements());
            for entry in table.entries() {
                let kept: usize =
                    all.iter().filter_map(|of| of.own(entry)).map(|(_, own)| own.len()).sum();
                assert_eq!(kept, entry.elements(), "{}", entry.name);
            }
        }
    }
}
