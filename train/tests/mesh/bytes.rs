//! Bytes that a rank sends in a step, by the formulas of ARCHITECTURE.md.

use quipu_mesh::schedule::Kind;
use quipu_mesh::{Mesh, Use};
use quipu_model::{Config, Recompute, Shard, Table};
use quipu_train::Recipe;
use quipu_train::objective::shares;
use std::collections::BTreeMap;

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
    let Sizes { message, sum, weight } = sizes;
    let mut sent = BTreeMap::new();
    let mut add = |usage, bytes: u64| *sent.entry(usage).or_default() += bytes;
    let (tp, cp) = (shard.tp.size as u64, shard.cp.size as u64);
    let (d, kv) = (config.hidden_size as u64, shard.kv_width() as u64);
    // what is made again is gathered again; weights that wait gather gradients once more
    let again = u64::from(recipe.recompute == Recompute::Block);
    let a_layer = 10 + 3 * again + 2 * u64::from(kind == Kind::ZeroBubble);
    for samples in shares(recipe, mesh, 0) {
        let rows = shard.rows((samples.end - samples.start) as usize * recipe.sequence_length);
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
    let table = Table::of(config, shard);
    let (all, replicas) = (table.elements() as u64, shard.replicas as u64);
    add(Use::Gradients, (replicas - 1) * (all / replicas) * sum);
    add(Use::Parameters, (replicas - 1) * (all / replicas) * weight);
    for (usage, ranks, index) in [
        (Use::Replicated, tp, shard.tp.index),
        (Use::SharedHeads, shard.same_heads as u64, shard.tp.index % shard.same_heads),
        (Use::Tied, 2, usize::from(shard.has_last())),
    ] {
        let copies = table.entries().iter().filter(|e| e.shared == Some(usage) && e.partial);
        let elements: usize = copies.map(quipu_model::Entry::elements).sum();
        add(usage, all_reduce(elements as u64, ranks, index as u64) * sum);
    }
    sent.retain(|_, bytes| *bytes > 0);
    sent
}

/// Elements that rank number `index` of `n` sends in an all-reduce: to each other rank the piece that
/// it sums, then its own sums to all.
fn all_reduce(elements: u64, n: u64, index: u64) -> u64 {
    let own = elements * (index + 1) / n - elements * index / n;
    elements - own + (n - 1) * own
}
