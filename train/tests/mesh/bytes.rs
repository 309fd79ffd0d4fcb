//! Bytes that a rank sends in a step, by the formulas of ARCHITECTURE.md.

use quipu_mesh::schedule::Kind;
use quipu_mesh::{Mesh, Use};
use quipu_model::{Config, Division, Entry, Keys, Recompute, Shard, Table};
use quipu_train::Recipe;
use quipu_train::objective::{most_shares, shares};
use std::collections::BTreeMap;
use std::ops::Range;

/// Element sizes of what is sent: messages on TP, CP and PP; sums and gradients; working weights.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub message: u64,
    pub sum: u64,
    pub weight: u64,
}

/// What the rank sends in its first step, by use.
pub fn expected(
    mesh: &Mesh,
    (config, shard): (&Config, &Shard),
    (recipe, kind): (&Recipe, Kind),
    sizes: Sizes,
) -> BTreeMap<Use, u64> {
    let Sizes { message, sum, .. } = sizes;
    let mut sent = BTreeMap::new();
    let mut add = |usage, bytes: u64| *sent.entry(usage).or_default() += bytes;
    let (tp, cp) = (shard.tp.size as u64, shard.cp.size as u64);
    let (d, kv) = (config.hidden_size as u64, shard.kv_width() as u64);
    // what is made again is gathered again; weights that wait gather gradients once more
    let again = u64::from(recipe.recompute == Recompute::Block);
    let a_layer = 10 + 3 * again + 2 * u64::from(kind == Kind::ZeroBubble);
    let rows =
        |samples: &Range<u64>| (samples.end - samples.start) as usize * recipe.sequence_length;
    let mut micro_batches: Vec<usize> = shares(recipe, mesh, 0).iter().map(rows).collect();
    if mesh.is_fully_sharded() {
        // who has fewer goes along with one token
        micro_batches.resize(most_shares(recipe, mesh, 0), 1);
    }
    for tokens in &micro_batches {
        let rows = shard.rows(*tokens);
        let (local, own) = (rows.local as u64, rows.shard as u64);
        for stage in &shard.chunks {
            let layers = stage.layers.len() as u64;
            let ends = 2 * u64::from(stage.first) + 3 * u64::from(stage.last);
            add(Use::Activations, (tp - 1) * (a_layer * layers + ends) * own * d * message);
            let gathered = (2 + again) * layers * local * 2 * kv * message;
            let scattered = layers * local * 2 * kv * sum;
            add(Use::KeyValues, (cp - 1) * (gathered + scattered));
            let borders = u64::from(!stage.first) + u64::from(!stage.last);
            add(Use::Stages, borders * own * d * message);
            if stage.last {
                let reduced = all_reduce(local, tp, shard.tp.index as u64) * sum;
                add(Use::Vocabulary, reduced + (tp - 1) * local * sum);
            }
        }
    }
    for (usage, bytes) in of_parameters(mesh, (config, shard), micro_batches.len() as u64, sizes) {
        add(usage, bytes);
    }
    sent.retain(|_, bytes| *bytes > 0);
    sent
}

/// Of gradients and weights, bucket by bucket.
fn of_parameters(
    mesh: &Mesh,
    (config, shard): (&Config, &Shard),
    micro_batches: u64,
    Sizes { sum, weight, .. }: Sizes,
) -> Vec<(Use, u64)> {
    let (table, tp) = (Table::of(config, shard), shard.tp);
    let (keepers, replicas) = (mesh.group(Use::Gradients), mesh.group(Use::Replicas));
    let (n, copies) = (keepers.size() as u64, replicas.size() as u64);
    let mut sent = Vec::new();
    for bucket in Division::new(&table, keepers.index(), keepers.size()).buckets() {
        let part = bucket.own.len() as u64;
        // with full sharding a layer's go with each micro-batch, and its weights twice
        let often = mesh.is_fully_sharded() && bucket.layer.is_some();
        let times = if often { micro_batches } else { 1 };
        sent.push((Use::Gradients, times * (n - 1) * part * sum));
        let passes = if often { 2 * times } else { 1 };
        sent.push((Use::Parameters, passes * (n - 1) * part * weight));
        sent.push((Use::Replicas, all_reduce(part, copies, replicas.index() as u64) * sum));
        let inside = |e: &&Entry| bucket.range.contains(&e.offset);
        let mut groups = vec![
            (Use::Replicated, tp.size, tp.index, None),
            (Use::Tied, 2, usize::from(shard.has_last()), None),
        ];
        // of key-value heads, by the ranks that hold them
        groups.extend(shard.keys.iter().map(|Keys { heads, ranks }| {
            let first = heads.start * config.head_dim;
            (Use::SharedHeads, ranks.len(), tp.index - ranks.start, Some(first))
        }));
        for (usage, ranks, index, first) in groups {
            let shared = |e: &&Entry| {
                let here = first.is_none_or(|first| e.first.0.max(e.first.1) == first);
                e.shared == Some(usage) && e.partial && here
            };
            let entries = table.entries().iter().filter(inside).filter(shared);
            let elements: usize = entries.map(Entry::elements).sum();
            // an end that is tied goes as what is kept of it
            let whole = usage == Use::Tied && n > 1 && elements > 0;
            let elements = if whole { part } else { elements as u64 };
            sent.push((usage, times * all_reduce(elements, ranks as u64, index as u64) * sum));
        }
    }
    sent
}

/// Elements that rank number `index` of `n` sends in an all-reduce: to each other rank the piece that
/// it sums, then its own sums to all.
fn all_reduce(elements: u64, n: u64, index: u64) -> u64 {
    let own = elements * (index + 1) / n - elements * index / n;
    elements - own + (n - 1) * own
}
