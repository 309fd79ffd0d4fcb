//! Greedy decoding with a cache: prefill, then token by token, to the length of the case's output.

use crate::Error;
use crate::case::Case;
use crate::measure::{Group, Row};
use quipu_math::op::ArgMax;
use quipu_math::{DType, Device};
use quipu_mesh::Mesh;
use quipu_model::{Capacity, Chunk, Model, Wanted};
use std::path::Path;
use std::sync::Arc;

pub(crate) fn rows(dir: &Path, case: &Case, device: &Arc<dyn Device>) -> Result<Vec<Row>, Error> {
    let pairs: Vec<(Vec<u32>, Vec<u32>)> = (0..)
        .take_while(|i| case.has(&format!("prompt.{i}")))
        .map(|i| Ok((case.tokens(&format!("prompt.{i}"))?, case.tokens(&format!("output.{i}"))?)))
        .collect::<Result<_, Error>>()?;
    let longest = pairs.iter().map(|(prompt, _)| prompt.len()).max().unwrap_or(1);
    let capacity = Capacity::generating(&**device, longest.max(1));
    let mut model = Model::open(dir, device.clone(), Mesh::one(), capacity)?;
    let mut group = Group::new("output");
    for (i, (prompt, output)) in pairs.iter().enumerate() {
        if prompt.is_empty() {
            return Err(case.wrong(format!("prompt.{i} without a token"), "at least one"));
        }
        let found = greedy(&mut model, prompt, output.len())?;
        let wide = |tokens: &[u32]| tokens.iter().map(|t| f64::from(*t)).collect::<Vec<_>>();
        group = group.compare(&format!("output.{i}"), &wide(&found), &wide(output));
    }
    Ok(vec![group.row()])
}

/// The prompt and what follows it, `length` tokens in all.
fn greedy(model: &mut Model, prompt: &[u32], length: usize) -> Result<Vec<u32>, Error> {
    let mut cache = model.cache(length.max(prompt.len()))?;
    let device = model.device().clone();
    let best = device.matrix(DType::U32, 1, 1)?;
    let mut all = prompt.to_vec();
    let mut new = prompt.to_vec();
    while all.len() < length {
        let chunk = Chunk { tokens: &new, cache: &mut cache };
        let logits = model.extend(&mut [chunk], Wanted::Last)?;
        device.execute(ArgMax { x: logits, out: best.clone() })?;
        new = device.read_u32(&best)?;
        all.extend(&new);
    }
    Ok(all)
}
