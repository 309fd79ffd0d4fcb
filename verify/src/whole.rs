//! Tensors of which each rank has a part, put together on all of them: places that another rank has
//! are zeros, and zeros are added. Slow and plain, for comparisons.

use crate::Error;
use quipu_math::View;
use quipu_mesh::{Axis, Mesh, Use};
use quipu_model::{Entry, MicroBatch, Model, Table};
use quipu_train::Learner;
use std::collections::BTreeMap;

/// Whole parameters, or gradients that were reduced, by name, from what the ranks keep of each bucket.
pub(crate) fn tensors(
    learner: &Learner,
    kept: &[View],
) -> Result<BTreeMap<String, Vec<f64>>, Error> {
    let (model, division) = (&learner.model, learner.optimizer.division());
    let mut all = BTreeMap::new();
    for entry in Table::new(model.config()).entries() {
        let mut whole = vec![0.0; entry.elements()];
        // of copies on several ranks one counts; a rank may have several parts of it
        let same = |own: &&Entry| own.index == entry.index && own.counted;
        let writes = learner.optimizer.writes();
        for own in model.table().entries().iter().filter(same).filter(|_| writes) {
            let Some((bucket, elements)) = division.own(own) else { continue };
            let start = division.buckets()[bucket].own.start;
            let part = kept[bucket].slice_cols(elements.start - start..elements.end - start)?;
            for (i, number) in elements.zip(model.device().read_f64(&part)?) {
                whole[own.place(i - own.offset)] = number;
            }
        }
        let whole = model.mesh().group(Use::World).sum_numbers(&whole)?;
        all.insert(entry.name.clone(), whole);
    }
    Ok(all)
}

/// The logits of a micro-batch, [T, V].
pub(crate) fn logits(model: &mut Model, batch: &MicroBatch<'_>) -> Result<Vec<f64>, Error> {
    let (rows, vocabulary) = (batch.tokens.len(), model.config().vocab_size);
    let mut whole = vec![0.0; rows * vocabulary];
    let own = first_replica(model.mesh(), batch);
    model.measure_with(&own, &mut |model, slot| {
        let numbers = model.device().clone().read_f64(&model.logits(slot)?)?;
        let (shard, columns) = (model.shard(), model.shard().vocab.clone());
        let places = shard.spans(shard.rows(rows).whole).into_iter().flatten();
        // rows that pad the micro-batch are none of it
        for (row, numbers) in places.zip(numbers.chunks(columns.len())).filter(|(r, _)| *r < rows) {
            let at = row * vocabulary + columns.start;
            whole[at..at + columns.len()].copy_from_slice(numbers);
        }
        Ok(())
    })?;
    Ok(model.mesh().group(Use::World).sum_numbers(&whole)?)
}

/// A micro-batch on the ranks that are first along the data axis; none on the others.
pub(crate) fn first_replica<'a>(mesh: &Mesh, batch: &MicroBatch<'a>) -> Vec<MicroBatch<'a>> {
    match mesh.at(Axis::Dp) {
        0 => vec![*batch],
        _ => Vec::new(),
    }
}
