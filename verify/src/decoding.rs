//! Greedy decoding with a cache: prefill, then token by token, to the length of the case's output. In
//! bf16 two tokens that are nearly as likely may change places, after which all is another text: there
//! the case's output is forced, and its token must be one of the two likeliest at every place.

use crate::case::Case;
use crate::measure::{Group, Row, Scale};
use crate::{Bench, Error};
use quipu_math::DType;
use quipu_math::op::ArgMax;
use quipu_model::{Chunk, Model, Wanted};
use std::path::Path;

pub(crate) fn rows(dir: &Path, case: &Case, bench: &Bench) -> Result<Vec<Row>, Error> {
    let scale = bench.scale();
    let pairs: Vec<(Vec<u32>, Vec<u32>)> = (0..)
        .take_while(|i| case.has(&format!("prompt.{i}")))
        .map(|i| Ok((case.tokens(&format!("prompt.{i}"))?, case.tokens(&format!("output.{i}"))?)))
        .collect::<Result<_, Error>>()?;
    let longest = pairs.iter().map(|(prompt, _)| prompt.len()).max().unwrap_or(1);
    let capacity = bench.generating(longest.max(1));
    let mut model = bench.open(dir, capacity)?;
    let mut group = Group::new(scale, "output");
    for (i, (prompt, output)) in pairs.iter().enumerate() {
        if prompt.is_empty() {
            return Err(case.wrong(format!("prompt.{i} without a token"), "at least one"));
        }
        let found = match scale {
            Scale::Bf16 => forced(&mut model, prompt.len(), output)?,
            Scale::F64 | Scale::F32 => greedy(&mut model, prompt, output.len())?,
        };
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

/// The case's output, where each token that follows the prompt is one of the two likeliest after those
/// before it; the likeliest in the place of one that is not.
fn forced(model: &mut Model, prompt: usize, output: &[u32]) -> Result<Vec<u32>, Error> {
    let mut cache = model.cache(output.len())?;
    let device = model.device().clone();
    let mut all = output[..prompt].to_vec();
    let mut new = output[..prompt].to_vec();
    for &expected in &output[prompt..] {
        let chunk = Chunk { tokens: &new, cache: &mut cache };
        let logits = device.read_f64(&model.extend(&mut [chunk], Wanted::Last)?)?;
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]));
        let close = order.iter().take(2).any(|token| *token == expected);
        all.push(if close { expected } else { order[0] });
        new = vec![expected];
    }
    Ok(all)
}
