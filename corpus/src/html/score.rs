//! The block score: from features to "main text or not", by a small network whose weights are in
//! `model.txt`. Learned rather than written by hand, because the evidence for a block is a sum of
//! some two hundred weak general signs; `examples/train_extractor.rs` makes the weights and says
//! how well they do on pages they were not made from.

use std::sync::OnceLock;

use super::blocks::Page;
use super::features;

/// Hidden units that the model may have at most.
const WIDEST: usize = 96;

struct Model {
    hidden: usize,
    /// One row of `hidden` weights a feature.
    weights: Vec<f32>,
    biases: Vec<f32>,
    output: Vec<f32>,
    bias: f32,
}

fn model() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| {
        parse(include_str!("model.txt")).unwrap_or_else(|| {
            // cannot happen with the shipped file (a test reads it); keeps everything then
            Model { hidden: 0, weights: vec![], biases: vec![], output: vec![], bias: 1.0 }
        })
    })
}

fn parse(text: &str) -> Option<Model> {
    let mut numbers = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| line.split_ascii_whitespace())
        .map(|word| word.parse::<f32>());
    let mut take = |n: usize| -> Option<Vec<f32>> {
        let taken: Vec<f32> = numbers.by_ref().take(n).collect::<Result<_, _>>().ok()?;
        (taken.len() == n).then_some(taken)
    };
    let head = take(2)?;
    let (features, hidden) = (head[0] as usize, head[1] as usize);
    if features != features::COUNT || hidden > WIDEST {
        return None;
    }
    Some(Model {
        hidden,
        weights: take(features * hidden)?,
        biases: take(hidden)?,
        output: take(hidden)?,
        bias: take(1)?[0],
    })
}

/// The score of one row of features; main text above 0.
fn score(model: &Model, row: &[f32]) -> f32 {
    let mut sums = [0f32; WIDEST];
    let sums = &mut sums[..model.hidden];
    sums.copy_from_slice(&model.biases);
    for (value, weights) in row.iter().zip(model.weights.chunks_exact(model.hidden.max(1))) {
        // three quarters of the features are zero
        if *value != 0.0 {
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum += value * weight;
            }
        }
    }
    let units = sums.iter().zip(&model.output);
    model.bias + units.map(|(sum, weight)| sum.max(0.0) * weight).sum::<f32>()
}

/// Chooses the blocks to keep; `rows` are the features of the page.
pub fn choose(page: &Page, rows: &[f32]) -> Vec<bool> {
    let model = model();
    debug_assert_eq!(rows.len(), page.blocks.len() * features::COUNT);
    rows.chunks_exact(features::COUNT).map(|row| score(model, row) > 0.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_model_fits_the_features() {
        let model = parse(include_str!("model.txt")).expect("the shipped model is well formed");
        assert!(model.hidden > 0);
        assert!(model.weights.iter().all(|w| w.is_finite()));
    }

    #[test]
    fn broken_models_are_refused() {
        assert!(parse("").is_none());
        assert!(parse("3 2\n0 0").is_none());
        assert!(parse("x y").is_none());
    }
}
